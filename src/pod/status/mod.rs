//! What Kubernetes would say of a pod: a projection of facts. Pure; it cannot lag or contradict them.

mod condition;
mod container;
mod phase;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{PodFacts, Sandbox};
use super::resources::qos;
use crate::clock::{Tick, Wall};
use phase::State;

/// What a pod's status tells of the machine it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The machine's addresses, the first one first; empty while it has none.
    pub host_ips: Vec<String>,
    /// As `Desired::restart_cap`.
    pub restart_cap: Option<Duration>,
}

/// Our own annotation: the manifest that a pod came from, as `Pod::origin`.
pub const MANIFEST: &str = "podinit.dev/manifest";

/// The object as `kubectl get pod -o json` would show it: metadata, spec and status.
pub fn object(facts: &PodFacts, now: Tick, wall: &Wall, node: &Node) -> k8s::Pod {
    let mut object = facts.spec.object.clone();
    let admitted = wall.time(facts.admitted);
    object.metadata.creation_timestamp = Some(Time(admitted));
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.seen".to_owned(), admitted.to_string());
    annotations.insert(MANIFEST.to_owned(), facts.spec.origin.clone());
    if let Some((at, _)) = &facts.dismissed {
        // Kubernetes' deletion timestamp is the end of the grace period, not its beginning.
        object.metadata.deletion_timestamp = Some(Time(wall.time(*at + facts.spec.grace)));
        object.metadata.deletion_grace_period_seconds = i64::try_from(facts.spec.grace.as_secs()).ok();
    }
    object.status = Some(status(facts, now, wall, node));
    object
}

/// The pod's status at this moment.
pub fn status(facts: &PodFacts, now: Tick, wall: &Wall, node: &Node) -> k8s::PodStatus {
    let now = Now { tick: now, wall, restart_cap: node.restart_cap };
    let pod = &facts.spec;
    let told = |group: &[super::Container]| -> Vec<k8s::ContainerStatus> {
        group.iter().map(|one| container::container(facts, one, &now)).collect()
    };
    let (init, mains) = (told(&pod.init), told(&pod.containers));
    let states = |group: &[k8s::ContainerStatus]| -> Vec<State> { group.iter().map(State::of).collect() };
    let phase = phase::phase(pod.restart, &states(&init), &states(&mains));
    let ips = ips(facts, node);
    k8s::PodStatus {
        conditions: Some(condition::conditions(facts, phase, &init, &mains, &now)),
        container_statuses: Some(mains),
        host_ip: node.host_ips.first().cloned(),
        host_ips: listed(node.host_ips.iter().map(|ip| k8s::HostIP { ip: ip.clone() }).collect()),
        init_container_statuses: listed(init),
        message: facts
            .stuck
            .as_ref()
            .map(|(tries, _, why)| format!("torn down in vain {tries} times: {why}")),
        phase: Some(phase.to_owned()),
        pod_ip: ips.first().cloned(),
        pod_ips: listed(ips.into_iter().map(|ip| k8s::PodIP { ip }).collect()),
        qos_class: Some(qos(pod).word().to_owned()),
        start_time: Some(now.time(facts.admitted)),
        ..Default::default()
    }
}

/// The moment for which a status is told.
struct Now<'a> {
    tick: Tick,
    wall: &'a Wall,
    restart_cap: Option<Duration>,
}

impl Now<'_> {
    fn time(&self, tick: Tick) -> Time {
        Time(self.wall.time(tick))
    }
}

/// The pod's addresses: the machine's own where it shares them (the kubelet leaves these empty without an API server).
fn ips(facts: &PodFacts, node: &Node) -> Vec<String> {
    if facts.spec.host_network {
        return node.host_ips.clone();
    }
    match &facts.sandbox {
        Sandbox::Ready { ip, .. } => ip.iter().cloned().collect(),
        Sandbox::Absent | Sandbox::Failed { .. } => Vec::new(),
    }
}

/// Kubernetes leaves empty lists out.
fn listed<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
