//! What Kubernetes would say of a pod: a projection of facts. Pure; it cannot lag or contradict them.

mod condition;
mod container;
mod phase;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::events::EXPIRED;
use super::facts::{ContainerFacts, Dismissal, PodFacts, Rejection, Run, Sandbox};
use super::resources::qos;
use super::restart::{After, after};
use crate::clock::{Tick, Wall};
use phase::{One, State};

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
    let (phase, end) = (phase_of(facts, &init, &mains), Ending::of(facts));
    let phase = if end.is_some() { "Failed" } else { phase };
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
            .map(|(tries, _, why)| format!("torn down in vain {tries} times: {why}"))
            .or(end.map(|end| end.words().1.to_owned())),
        phase: Some(phase.to_owned()),
        pod_ip: ips.first().cloned(),
        pod_ips: listed(ips.into_iter().map(|ip| k8s::PodIP { ip }).collect()),
        reason: end.map(|end| end.words().0.to_owned()),
        qos_class: Some(qos(pod).word().to_owned()),
        start_time: Some(now.time(facts.admitted)),
        ..Default::default()
    }
}

/// The pod's phase as its containers make it.
fn phase_of(facts: &PodFacts, init: &[k8s::ContainerStatus], mains: &[k8s::ContainerStatus]) -> &'static str {
    let statuses = init.iter().chain(mains);
    let all: Vec<One> = facts
        .spec
        .all()
        .zip(statuses)
        .map(|(container, status)| {
            let known = facts.containers.get(&container.name);
            let ended = known.and_then(|known| {
                known
                    .run
                    .as_ref()
                    .filter(|run| run.code().is_some())
                    .or(known.last.as_ref())
                    .map(|run| (known, run))
            });
            let again = |known: &ContainerFacts, run: &Run| {
                known.is_past(run) || after(&facts.spec, container, run) != After::Stays
            };
            One {
                role: facts.spec.role(container),
                state: State::of(status),
                again: ended.is_some_and(|(known, run)| again(known, run)),
            }
        })
        .collect();
    phase::phase(&all, begun(facts))
}

/// Whether a regular container was started, and with it all of the initialisation is done.
fn begun(facts: &PodFacts) -> bool {
    facts.spec.containers.iter().any(|main| facts.present(&main.name).is_some())
}

/// An end that no container's exit tells of: the pod is Failed, whatever its containers say.
#[derive(Clone, Copy)]
enum Ending {
    Expired,
    Shutdown,
}

impl Ending {
    /// A pod that was over before is left as it is.
    fn of(facts: &PodFacts) -> Option<Ending> {
        let over = |at: Tick| facts.over().is_some_and(|over| over <= at);
        match (facts.expired, facts.dismissed) {
            (Some(_), _) => Some(Ending::Expired),
            (None, Some((at, Dismissal::Ending))) if !over(at) => Some(Ending::Shutdown),
            (None, Some(_) | None) => None,
        }
    }

    /// Reason and message, the kubelet's.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Ending::Expired => EXPIRED,
            Ending::Shutdown => ("Terminated", "Pod was terminated in response to imminent node shutdown."),
        }
    }
}

/// A wanted pod that is not taken up, as `kubectl get pod -o json` would show it.
///
/// A kubelet calls it Failed and never tries again; podinit does, so that it is Pending.
pub fn rejected(rejection: &Rejection, wall: &Wall) -> k8s::Pod {
    let mut object = rejection.pod.object.clone();
    let since = wall.time(rejection.since);
    object.metadata.creation_timestamp = Some(Time(since));
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.seen".to_owned(), since.to_string());
    annotations.insert(MANIFEST.to_owned(), rejection.pod.origin.clone());
    object.status = Some(k8s::PodStatus {
        message: Some(format!("Pod was rejected: {}", rejection.message)),
        phase: Some("Pending".to_owned()),
        qos_class: Some(qos(&rejection.pod).word().to_owned()),
        reason: Some(rejection.reason.clone()),
        ..Default::default()
    });
    object
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
