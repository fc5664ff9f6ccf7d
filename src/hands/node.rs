//! What the machine has for pods, and the cgroups above them.

use std::collections::BTreeMap;
use std::fs;

use log::warn;
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};

use super::{Hands, paths};
use crate::config::{Config, Floor};
use crate::container::apparmor;
use crate::pod::resources::{Cfs, Machine, Node, Reserve, Threshold, tree};
use crate::pod::sysctl;

/// The sizes of huge pages that this kernel has, a folder each: `hugepages-2048kB`.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

impl Hands {
    /// Looks anew at what the machine has.
    pub fn look_at_node(&mut self) -> Node {
        let storage = statvfs(&self.config.root);
        let machine = Machine {
            cpus: cpus(),
            memory: memory_total(),
            storage: storage.map_or(0, |found| found.blocks().saturating_mul(found.fragment_size())),
            huge_pages: huge_pages(),
            pids: ["pid_max", "threads-max"].iter().filter_map(|name| kernel_number(name)).min(),
            kernel: kernel(),
            apparmor: apparmor::loaded(),
        };
        self.node = Node::of(&machine, &reserve(&self.config));
        self.node.clone()
    }

    /// How cpu limits are enforced.
    pub(super) fn cfs(&self) -> Cfs {
        let period = u64::try_from(self.config.cfs_period.as_micros()).unwrap_or(u64::MAX);
        Cfs { enforce: self.config.cfs_quota, period }
    }

    /// Writes what has changed of the cgroups above the pods: the burstable ones weigh what they request together. A
    /// file that cannot be written is told once, and tried again when its value changes.
    pub(super) fn tend_tree(&mut self) {
        let wanted = tree(&self.node, self.roll.burstable());
        if wanted == self.tree {
            return;
        }
        let folder = paths::cgroup(&self.config, &format!("{}/kubepods", self.config.cgroup_parent));
        for (file, value) in wanted.iter().filter(|(file, value)| self.tree.get(*file) != Some(value)) {
            let name = file.rsplit_once('/').map_or(file.as_str(), |(_, name)| name);
            let controller = name.split('.').next().unwrap_or_default();
            if self.controllers.contains(controller)
                && let Err(why) = fs::write(folder.join(file), value)
            {
                warn!("cgroup: cannot write {value} to kubepods/{file}: {why}");
            }
        }
        self.tree = wanted;
    }
}

fn reserve(config: &Config) -> Reserve {
    let threshold = |floor: Floor| match floor {
        Floor::Bytes(bytes) => Threshold::Bytes(bytes),
        Floor::Share(share) => Threshold::Share(share),
    };
    let of = |amounts: fn(&crate::config::Reserved) -> u64| {
        amounts(&config.system_reserved).saturating_add(amounts(&config.kube_reserved))
    };
    Reserve {
        cpu_milli: of(|reserved| reserved.cpu_milli),
        memory: of(|reserved| reserved.memory),
        storage: of(|reserved| reserved.storage),
        pids: of(|reserved| reserved.pids),
        memory_available: threshold(config.eviction_memory),
        storage_available: threshold(config.eviction_storage),
        enforce: config.enforce_allocatable,
        max_pods: config.max_pods,
        pods_per_core: config.pods_per_core,
        allowed_sysctls: config.allowed_sysctls.clone(),
    }
}

/// All pages of each size, in bytes.
fn huge_pages() -> BTreeMap<u64, u64> {
    let entries = fs::read_dir(HUGE_PAGES).into_iter().flatten().filter_map(Result::ok);
    let pages = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let size = kib.checked_mul(1024)?;
        Some((size, size.saturating_mul(count.trim().parse().ok()?)))
    });
    pages.collect()
}

fn kernel_number(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

/// The kernel's version; None where it does not read.
fn kernel() -> Option<sysctl::Version> {
    let about = uname().ok()?;
    let mut numbers = about.release().to_str()?.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The machine's memory in bytes; 0 where it cannot be read.
pub(super) fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.parse().ok());
    kib.unwrap_or(0u64) * 1024
}

/// How many processors the machine has; at least 1. Not the standard library's count: that one reads our cgroup's quota
/// and the whole table of mounts, which grows with every pod.
pub(super) fn cpus() -> u64 {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|number| u64::try_from(number).ok()).unwrap_or(1).max(1)
}
