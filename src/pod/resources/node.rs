//! What the machine has for pods: capacity, less what the operator reserves.

use std::collections::BTreeMap;

use super::{cpu_request, effective, huge};
use crate::pod::spec::Pod;
use crate::pod::sysctl::Version;

/// Amounts of what is shared out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// ephemeral-storage, in bytes.
    pub storage: u64,
    /// Bytes by page size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
}

/// What the machine is found to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u64,
    /// Bytes; 0 where it could not be read.
    pub memory: u64,
    /// The file system of the root directory, in bytes; 0 where it could not be read.
    pub storage: u64,
    /// All pages of each size, in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// The kernel's most processes and threads (pid_max, threads-max).
    pub pids: Option<u64>,
    pub kernel: Option<Version>,
    /// The AppArmor profiles that are loaded; None: there is no AppArmor.
    pub apparmor: Option<Vec<String>>,
}

/// What of it is not for pods (KubeletConfiguration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// systemReserved and kubeReserved together.
    pub cpu_milli: u64,
    pub memory: u64,
    pub storage: u64,
    pub pids: u64,
    /// evictionHard memory.available and nodefs.available.
    pub memory_available: Threshold,
    pub storage_available: Threshold,
    /// enforceNodeAllocatable: pods.
    pub enforce: bool,
    pub max_pods: u64,
    /// 0: as many as there is room for.
    pub pods_per_core: u64,
    pub allowed_sysctls: Vec<String>,
}

/// A hard eviction threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Bytes(u64),
    /// Of the capacity, in thousandths of a percent.
    Share(u64),
}

/// What this machine has for pods, and what it can do for them. The default has no bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub capacity: Amounts,
    /// Less systemReserved and kubeReserved: the bounds of all pods' cgroup.
    pub reserved: Amounts,
    /// Less evictionHard too: what pods may request.
    pub allocatable: Amounts,
    pub enforce: bool,
    /// Processes of all pods; None: not known.
    pub pids: Option<u64>,
    pub pods: u64,
    pub allowed_sysctls: Vec<String>,
    pub kernel: Option<Version>,
    pub apparmor: Option<Vec<String>>,
}

impl Default for Node {
    fn default() -> Self {
        let all =
            Amounts { cpu_milli: u64::MAX, memory: u64::MAX, storage: u64::MAX, huge_pages: BTreeMap::new() };
        Node {
            capacity: all.clone(),
            reserved: all.clone(),
            allocatable: all,
            enforce: true,
            pids: None,
            pods: u64::MAX,
            allowed_sysctls: Vec::new(),
            kernel: None,
            apparmor: None,
        }
    }
}

impl Node {
    /// Nothing is refused for want of what could not be read.
    pub fn of(machine: &Machine, reserve: &Reserve) -> Self {
        let known = |amount: u64| if amount == 0 { u64::MAX } else { amount };
        let less = |amount: u64, taken: u64| match amount {
            u64::MAX => u64::MAX,
            amount => amount.saturating_sub(taken),
        };
        let capacity = Amounts {
            cpu_milli: known(machine.cpus.saturating_mul(1000)),
            memory: known(machine.memory),
            storage: known(machine.storage),
            huge_pages: machine.huge_pages.clone(),
        };
        // Pages that are set aside are not there for anything else (kubelet: they lessen allocatable memory).
        let pages = machine.huge_pages.values().copied().fold(0, u64::saturating_add);
        let reserved = Amounts {
            cpu_milli: less(capacity.cpu_milli, reserve.cpu_milli),
            memory: less(capacity.memory, reserve.memory),
            storage: less(capacity.storage, reserve.storage),
            huge_pages: capacity.huge_pages.clone(),
        };
        let allocatable = Amounts {
            memory: less(
                reserved.memory,
                reserve.memory_available.bytes(machine.memory).saturating_add(pages),
            ),
            storage: less(reserved.storage, reserve.storage_available.bytes(machine.storage)),
            ..reserved.clone()
        };
        let per_core = match reserve.pods_per_core {
            0 => u64::MAX,
            count => count.saturating_mul(machine.cpus.max(1)),
        };
        Node {
            capacity,
            reserved,
            allocatable,
            enforce: reserve.enforce,
            pids: machine.pids.map(|pids| match reserve.enforce {
                true => pids.saturating_sub(reserve.pids).max(1),
                false => pids,
            }),
            pods: reserve.max_pods.min(per_core),
            allowed_sysctls: reserve.allowed_sysctls.clone(),
            kernel: machine.kernel,
            apparmor: machine.apparmor.clone(),
        }
    }

    /// The bounds of all pods' cgroup.
    pub fn enforced(&self) -> &Amounts {
        if self.enforce { &self.reserved } else { &self.capacity }
    }

    /// The sizes of huge pages that the machine has.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        self.capacity.huge_pages.keys().copied()
    }
}

impl Threshold {
    fn bytes(self, capacity: u64) -> u64 {
        match self {
            Threshold::Bytes(bytes) => bytes,
            Threshold::Share(share) => (u128::from(capacity) * u128::from(share) / 100_000) as u64,
        }
    }
}

/// What the pod asks for.
pub fn requests(pod: &Pod) -> Amounts {
    let sizes = pod.all().flat_map(|container| container.huge_pages.keys()).chain(pod.huge_pages.keys());
    Amounts {
        cpu_milli: effective(pod, cpu_request),
        memory: effective(pod, |given| given.memory_request.or(given.memory_limit)),
        storage: effective(pod, |given| given.storage_request.or(given.storage_limit)),
        huge_pages: sizes.map(|&size| (size, huge(pod, size))).collect(),
    }
}
