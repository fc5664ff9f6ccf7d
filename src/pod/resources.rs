//! Requests and limits to QoS class, cgroup values and oom_score_adj.

mod cgroup;
mod grant;
mod node;
mod oom;
#[cfg(test)]
pub(in crate::pod) mod tests;

use sha2::{Digest, Sha256};

use super::spec::{Container, Pod, Resources};

pub use cgroup::{
    Cfs, Limits, PERIOD, burstable, container_limits, container_weight, huge_page_files, pod_files,
    pod_limits, pod_weight, quota, resized, shares, tree,
};
pub use grant::Grant;
pub use node::{Amounts, Machine, Node, Reserve, Threshold, requests};
pub use oom::oom_score_adj;

/// Kubernetes' quality of service class; only cpu and memory count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// The word of status.qosClass.
    pub fn word(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// The pod's class (Kubernetes: Pod Quality of Service Classes). Init containers count as all others, and not at all
/// where the pod gives resources of its own.
pub fn qos(pod: &Pod) -> Qos {
    let given = |value: Option<u64>| value.is_some_and(|value| value > 0);
    let nothing = |r: &Resources| {
        !(given(r.cpu_request) || given(r.cpu_limit) || given(r.memory_request) || given(r.memory_limit))
    };
    let equal =
        |request: Option<u64>, limit| given(limit) && request.is_none_or(|value| Some(value) == limit);
    let full = |r: &Resources| equal(r.cpu_request, r.cpu_limit) && equal(r.memory_request, r.memory_limit);
    let all = |what: &dyn Fn(&Resources) -> bool| match &pod.resources {
        Some(own) => what(own),
        None => pod.all().all(|container| what(&container.resources)),
    };
    if all(&nothing) {
        Qos::BestEffort
    } else if all(&full) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What the containers take at one time: the regular ones and the sidecars together, or an init container with the
/// sidecars before it where that is more.
pub fn together(pod: &Pod, of: impl Fn(&Container) -> u64) -> u64 {
    let (mut sidecars, mut most) = (0u64, 0u64);
    for init in &pod.init {
        let with = sidecars.saturating_add(of(init));
        most = most.max(with);
        if init.sidecar {
            sidecars = with;
        }
    }
    pod.containers.iter().map(of).fold(sidecars, u64::saturating_add).max(most)
}

/// What the pod may use at one time: what it says itself, else its containers together. What is not given counts as 0.
pub fn effective(pod: &Pod, of: impl Fn(&Resources) -> Option<u64>) -> u64 {
    let own = pod.resources.as_ref().and_then(&of);
    own.unwrap_or_else(|| together(pod, |container| of(&container.resources).unwrap_or(0)))
}

/// The same for huge pages: bytes of pages of this size.
pub fn huge(pod: &Pod, page: u64) -> u64 {
    let own = pod.huge_pages.get(&page).copied();
    own.unwrap_or_else(|| together(pod, |container| container.huge_pages.get(&page).copied().unwrap_or(0)))
}

/// The pod's cgroup below the cgroup root: `/kubepods/burstable/pod<uid>`.
pub fn cgroup(pod: &Pod) -> String {
    let class = match qos(pod) {
        Qos::Guaranteed => "",
        Qos::Burstable => "/burstable",
        Qos::BestEffort => "/besteffort",
    };
    format!("/kubepods{class}/pod{}", pod.uid)
}

/// The id of one run of a container: 64 hexadecimal digits, the same for the same run.
pub fn container_id(uid: &str, name: &str, run: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{run}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Kubernetes defaults it: the limit stands for a request not given.
fn cpu_request(given: &Resources) -> Option<u64> {
    given.cpu_request.or(given.cpu_limit)
}
