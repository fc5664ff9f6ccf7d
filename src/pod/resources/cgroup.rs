//! The values of cgroup2 files: a container's, a pod's, and those of the tree above them.

use std::collections::BTreeMap;

use super::{Grant, Node, Qos, cpu_request, effective, huge, qos};
use crate::pod::spec::{Container, Pod};

/// The kernel's default period of cpu.max, in microseconds; the kubelet's too.
pub const PERIOD: u64 = 100_000;

/// Whether and how cpu limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cfs {
    /// cpuCFSQuota.
    pub enforce: bool,
    /// cpuCFSQuotaPeriod, in microseconds.
    pub period: u64,
}

impl Default for Cfs {
    fn default() -> Self {
        Cfs { enforce: true, period: PERIOD }
    }
}

/// What a cgroup is given; None: the file is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the unit of cgroup v1, of which the weight is computed.
    pub shares: Option<u64>,
    /// cpu.weight, 1 to 10000.
    pub weight: Option<u64>,
    /// cpu.max: microseconds in each `period`; -1: as many as there are.
    pub quota: Option<i64>,
    pub period: Option<u64>,
    /// memory.max, in bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// cpu.max.
    pub fn cpu_max(&self) -> Option<String> {
        let period = self.period.unwrap_or(PERIOD);
        self.quota.map(|quota| match quota {
            ..0 => format!("max {period}"),
            0.. => format!("{quota} {period}"),
        })
    }
}

/// Thousandths of a core to shares: 1024 a core, from 2 to 262144.
pub fn shares(cpu_milli: u64) -> u64 {
    (cpu_milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Thousandths of a core to microseconds of a period, at least 1000; 0: no quota.
pub fn quota(cpu_milli: u64, period: u64) -> u64 {
    match cpu_milli {
        0 => 0,
        _ => (cpu_milli.saturating_mul(period) / 1000).max(1000),
    }
}

/// cpu.weight of a pod's or QoS class's cgroup: the kubelet's linear formula.
pub fn pod_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// cpu.weight of a container's cgroup: runc's formula (opencontainers/cgroups v0.0.6), by which 1024 is 100.
pub fn container_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// The pod's cgroup.
pub fn pod_limits(pod: &Pod, cfs: Cfs) -> Limits {
    limits(&Grant::pod(pod), pod_weight, cfs)
}

/// A container's cgroup.
pub fn container_limits(container: &Container, cfs: Cfs) -> Limits {
    limits(&Grant::container(container), container_weight, cfs)
}

fn limits(grant: &Grant, weight: fn(u64) -> u64, cfs: Cfs) -> Limits {
    let shares = shares(grant.cpu_request);
    Limits {
        shares: Some(shares),
        weight: Some(weight(shares)),
        quota: grant.cpu_limit.map(|cpu| cfs.quota(cpu)),
        period: grant.cpu_limit.map(|_| cfs.period),
        memory: grant.memory_limit,
    }
}

/// The files of a cgroup that is resized, in the order in which they are written: a limit that is no more is taken
/// away. `pod`: it is a pod's, not a container's.
pub fn resized(grant: &Grant, pod: bool, cfs: Cfs) -> [(&'static str, String); 3] {
    let limits = limits(grant, if pod { pod_weight } else { container_weight }, cfs);
    let memory = limits.memory.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
    let cpu = limits.cpu_max().unwrap_or_else(|| format!("max {PERIOD}"));
    let weight = limits.weight.unwrap_or(1).to_string();
    [("memory.max", memory), ("cpu.max", cpu), ("cpu.weight", weight)]
}

impl Cfs {
    fn quota(self, cpu_milli: u64) -> i64 {
        match self.enforce {
            true => i64::try_from(quota(cpu_milli, self.period)).unwrap_or(-1),
            false => -1,
        }
    }
}

/// hugetlb.<size>.max of every page size that the machine has (`sizes`, in bytes): what is not asked for is 0.
pub fn huge_page_files<'a>(
    asked: impl Fn(u64) -> u64 + 'a,
    sizes: impl Iterator<Item = u64> + 'a,
) -> impl Iterator<Item = (String, String)> + 'a {
    sizes.map(move |size| (format!("hugetlb.{}.max", page_name(size)), asked(size).to_string()))
}

/// The kernel's name of a page size (mm/hugetlb_cgroup.c, mem_fmt).
fn page_name(size: u64) -> String {
    match size {
        0x4000_0000.. => format!("{}GB", size >> 30),
        0x10_0000.. => format!("{}MB", size >> 20),
        _ => format!("{}KB", size >> 10),
    }
}

/// The files of a pod's cgroup. `pids`: podPidsLimit.
pub fn pod_files(pod: &Pod, node: &Node, cfs: Cfs, pids: Option<u64>) -> BTreeMap<String, String> {
    let limits = pod_limits(pod, cfs);
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let files = [
        ("cpu.weight", number(limits.weight)),
        ("cpu.max", limits.cpu_max()),
        ("memory.max", number(limits.memory)),
        ("pids.max", number(pids)),
    ];
    let files = files.into_iter().filter_map(|(file, value)| Some((file.to_owned(), value?)));
    files.chain(huge_page_files(|size| huge(pod, size), node.pages())).collect()
}

/// The files of the tree above the pods, each with its folder below `kubepods`. `burstable`: what the burstable pods that
/// are there request of the processors together, in thousandths of a core.
pub fn tree(node: &Node, burstable: u64) -> BTreeMap<String, String> {
    let file = |name: &str, value: u64| (name.to_owned(), value.to_string());
    let most = node.enforced();
    let root = [
        (most.cpu_milli != u64::MAX).then(|| file("cpu.weight", pod_weight(shares(most.cpu_milli)))),
        (most.memory != u64::MAX).then(|| file("memory.max", most.memory)),
        node.pids.map(|pids| file("pids.max", pids)),
    ];
    let huge = huge_page_files(|size| most.huge_pages.get(&size).copied().unwrap_or(0), node.pages());
    let classes = [
        file("burstable/cpu.weight", pod_weight(shares(burstable))),
        file("besteffort/cpu.weight", pod_weight(2)),
    ];
    root.into_iter().flatten().chain(huge).chain(classes).collect()
}

/// What a pod adds to what the burstable ones request of the processors, in thousandths of a core.
pub fn burstable(pod: &Pod) -> u64 {
    if qos(pod) == Qos::Burstable { effective(pod, cpu_request) } else { 0 }
}
