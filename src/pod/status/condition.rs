//! The conditions of a pod.
//! Source: Kubernetes' "Pod Lifecycle", section "Pod conditions"; reasons and messages are the kubelet's.

use k8s_openapi::api::core::v1 as k8s;

use super::Now;
use super::container::end;
use crate::clock::Tick;
use crate::pod::facts::{PodFacts, Sandbox};

/// PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled, in this order, as kubectl shows them.
pub fn conditions(
    pod: &PodFacts,
    phase: &str,
    init: &[k8s::ContainerStatus],
    mains: &[k8s::ContainerStatus],
    now: &Now,
) -> Vec<k8s::PodCondition> {
    let sandbox = match &pod.sandbox {
        Sandbox::Ready { since, .. } => (Verdict::yes(), *since),
        Sandbox::Absent => (Verdict::no("", String::new()), pod.admitted),
        Sandbox::Failed { at, .. } => (Verdict::no("", String::new()), *at),
    };
    let initialized = (initialized(phase, init, mains), turned(pod, true));
    let containers = (containers_ready(phase, mains), turned(pod, false));
    let ready = (ready(&containers.0, pod), containers.1);
    let scheduled = (Verdict::yes(), pod.admitted);
    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", scheduled),
    ]
    .into_iter()
    .map(|(kind, (verdict, since))| k8s::PodCondition {
        last_transition_time: Some(now.time(since)),
        message: (!verdict.message.is_empty()).then_some(verdict.message),
        reason: (!verdict.reason.is_empty()).then(|| verdict.reason.to_owned()),
        status: if verdict.holds { "True" } else { "False" }.to_owned(),
        type_: kind.to_owned(),
        ..Default::default()
    })
    .collect()
}

/// Whether a condition holds, and why not.
#[derive(Clone)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Verdict { holds: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Verdict { holds: false, reason, message }
    }
}

fn initialized(phase: &str, init: &[k8s::ContainerStatus], mains: &[k8s::ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { holds: true, reason: "PodCompleted", message: String::new() };
    }
    let begun = |status: &k8s::ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    let incomplete = unready(init);
    if incomplete.is_empty() || mains.iter().any(begun) {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: {incomplete}"))
}

fn containers_ready(phase: &str, mains: &[k8s::ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let unready = unready(mains);
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", format!("containers with unready status: {unready}"))
}

/// No one sets the condition of a readiness gate on a machine without an API server, so that none is ever met.
fn ready(containers: &Verdict, pod: &PodFacts) -> Verdict {
    let gates = pod.spec.object.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    match gates.and_then(|gates| gates.first()) {
        Some(gate) if containers.holds => Verdict::no(
            "ReadinessGatesNotReady",
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            ),
        ),
        Some(_) | None => containers.clone(),
    }
}

/// `[a b]`: those not ready, or empty.
fn unready(statuses: &[k8s::ContainerStatus]) -> String {
    let names: Vec<&str> =
        statuses.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("[{}]", names.join(" ")) }
}

/// When the pod's init containers (or its regular ones) last changed between running and not.
fn turned(pod: &PodFacts, init: bool) -> Tick {
    let group = if init { &pod.spec.init } else { &pod.spec.containers };
    let runs = group.iter().filter_map(|container| pod.containers.get(&container.name));
    runs.flat_map(|facts| [&facts.last, &facts.run])
        .flatten()
        .flat_map(|run| [end(run), run.started.map(|(at, _)| at).filter(|_| !init)])
        .flatten()
        .fold(pod.admitted, Tick::max)
}
