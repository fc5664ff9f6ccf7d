//! The conditions of a pod.
//! Source: Kubernetes' "Pod Lifecycle", section "Pod conditions"; reasons and messages are the kubelet's.

use k8s_openapi::api::core::v1 as k8s;

use super::container::end;
use super::{Now, begun};
use crate::clock::Tick;
use crate::pod::facts::{Dismissal, HookKind, PodFacts, ProbeKind, Run, Sandbox};
use crate::pod::spec::{Container, Role};

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
    let initialized = (initialized(pod, phase, init), turned(pod, true));
    let containers = (containers_ready(pod, phase, init, mains), turned(pod, false));
    let ready = (ready(&containers.0, pod), containers.1);
    let scheduled = (Verdict::yes(), pod.admitted);
    let mut all = vec![
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", scheduled),
    ];
    if let Some((at, Dismissal::Ending)) = pod.dismissed {
        let message = "Pod was terminated in response to imminent node shutdown.".to_owned();
        all.push((
            "DisruptionTarget",
            (Verdict { holds: true, reason: "TerminationByKubelet", message }, at),
        ));
    }
    if let Some(since) = restarting_all(pod) {
        all.push(("AllContainersRestarting", (Verdict::yes(), since)));
    }
    all.extend(resize(pod));
    all.into_iter()
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

/// PodResizePending and PodResizeInProgress: a resize that waits, and one that is not in force everywhere.
fn resize(pod: &PodFacts) -> Vec<(&'static str, (Verdict, Tick))> {
    let mut told = Vec::new();
    if let Some(pending) = &pod.pending {
        let reason = if pending.reason == "Infeasible" { "Infeasible" } else { "Deferred" };
        let verdict = Verdict { holds: true, reason, message: pending.message.clone() };
        told.push(("PodResizePending", (verdict, pending.since)));
    }
    if let Some(since) = pod.resized.filter(|_| pod.resizing()) {
        let runs = pod.runs().filter(|(_, run)| run.live()).map(|(_, run)| &run.size);
        let failed = runs.chain([&pod.size]).find_map(|size| size.failed.as_ref());
        let verdict = match failed {
            Some(failed) => Verdict { holds: true, reason: "Error", message: failed.why.clone() },
            None => Verdict::yes(),
        };
        told.push(("PodResizeInProgress", (verdict, since)));
    }
    told
}

/// Since when runs from before a restart of all containers are being ended.
fn restarting_all(pod: &PodFacts) -> Option<Tick> {
    let past =
        pod.containers.values().filter_map(|facts| facts.run.as_ref().filter(|run| facts.is_past(run)));
    let ends = past.clone().filter_map(Run::ended);
    past.clone().any(|run| !run.cleaned).then(|| ends.min().unwrap_or(pod.admitted))
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

fn initialized(pod: &PodFacts, phase: &str, init: &[k8s::ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { holds: true, reason: "PodCompleted", message: String::new() };
    }
    let done = |(container, status): &(&Container, &k8s::ContainerStatus)| match container.sidecar {
        true => status.started == Some(true),
        false => status.ready,
    };
    let incomplete = names(pod.spec.init.iter().zip(init).filter(|one| !done(one)));
    if incomplete.is_empty() || begun(pod) {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: {incomplete}"))
}

/// Every sidecar and every regular container is ready.
fn containers_ready(
    pod: &PodFacts,
    phase: &str,
    init: &[k8s::ContainerStatus],
    mains: &[k8s::ContainerStatus],
) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = pod.spec.init.iter().zip(init).filter(|(container, _)| container.sidecar);
    let all = sidecars.chain(pod.spec.containers.iter().zip(mains));
    let unready = names(all.filter(|(_, status)| !status.ready));
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", format!("containers with unready status: {unready}"))
}

/// No one sets the condition of a readiness gate on a machine without an API server, so that none is ever met.
fn ready(containers: &Verdict, pod: &PodFacts) -> Verdict {
    let spec = pod.spec.object.spec.as_ref();
    let gates = spec.and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if !containers.holds || gates.is_empty() {
        return containers.clone();
    }
    let unmet = gates.iter().map(|gate| {
        format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.condition_type)
    });
    Verdict::no("ReadinessGatesNotReady", unmet.collect::<Vec<_>>().join(", "))
}

/// `[a b]`, or nothing where there are none.
fn names<'a>(of: impl Iterator<Item = (&'a Container, &'a k8s::ContainerStatus)>) -> String {
    let names: Vec<&str> = of.map(|(container, _)| container.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("[{}]", names.join(" ")) }
}

/// When the pod's init containers (or its regular ones) last changed between running and not, or ready and not.
fn turned(pod: &PodFacts, init: bool) -> Tick {
    let concerns = |container: &&Container| match pod.spec.role(container) {
        Role::Init => init,
        Role::Sidecar => true,
        Role::Main => !init,
    };
    let runs = pod.spec.all().filter(concerns).filter_map(|container| {
        let facts = pod.containers.get(&container.name)?;
        Some((pod.spec.role(container) == Role::Init, facts))
    });
    runs.flat_map(|(plain, facts)| [&facts.last, &facts.run].map(|run| (plain, run)))
        .filter_map(|(plain, run)| Some((plain, run.as_ref()?)))
        .flat_map(|(plain, run)| {
            let started = run.started.map(|(at, _)| at).filter(|_| !plain);
            let hooked = run.hooks.get(&HookKind::PostStart).and_then(|hook| Some(hook.ended.as_ref()?.0));
            let probed = [ProbeKind::Startup, ProbeKind::Readiness];
            let probed = probed.iter().filter_map(|kind| run.verdicts.get(kind)).map(|(at, _, _)| *at).max();
            [end(run), started, hooked, probed]
        })
        .flatten()
        .fold(pod.admitted, Tick::max)
}
