//! In-place resize: which edits of an admitted pod are one, and in what order its cgroups get what it is given.
//!
//! The pod's cgroup is raised before its containers' and lowered after them, so that they always fit into it; what
//! shrinks goes before what grows. A resize is accepted by `admit`, as there must be room for it.

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;

use super::{Action, Turn};
use crate::pod::cause::cause;
use crate::pod::facts::{HookKind, PodFacts, Run, Sandbox, Size};
use crate::pod::resources::{Grant, qos};
use crate::pod::restart;
use crate::pod::spec::{Container, Pod, Resources};

/// The first and the longest wait between tries to give a cgroup the same.
const RESIZE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Whether the two differ in cpu and memory only, and are of one QoS class: the cgroup of another class is elsewhere.
pub(super) fn only(is: &Pod, wanted: &Pod) -> bool {
    qos(is) == qos(wanted) && bare(is) == bare(wanted)
}

/// Gives the pod's cgroups what its spec says, where a resize was accepted. Whether the pod's own is written now.
pub(super) fn pod(turn: &mut Turn, pod: &PodFacts) -> bool {
    if pod.resized.is_none() || !matches!(pod.sandbox, Sandbox::Ready { .. }) || ends(turn, pod) {
        return false;
    }
    let should = Grant::pod(&pod.spec);
    let has = pod.grant();
    let most = has.most(&should);
    if has != most {
        return resize(turn, pod, &pod.size, None, most);
    }
    let other = |container: &&Container| {
        let run = pod.run(&container.name).filter(|run| run.live());
        run.is_some_and(|run| run.grant(container) != Grant::container(container))
    };
    let shrinks = |container: &&Container, run: &Run| {
        let has = run.grant(container);
        has.most(&Grant::container(container)) == has
    };
    for first in [true, false] {
        for container in pod.spec.all().filter(other) {
            let Some(run) = pod.present(&container.name) else { continue };
            if shrinks(&container, run) == first && steady(pod, container, run) {
                let of = Some((container.name.clone(), run.number));
                resize(turn, pod, &run.size, of, Grant::container(container));
            }
        }
    }
    has != should
        && !pod.spec.all().any(|container| other(&container))
        && resize(turn, pod, &pod.size, None, should)
}

/// Whether it only ends, from now on at the latest.
fn ends(turn: &Turn, pod: &PodFacts) -> bool {
    pod.stopping().is_some() || pod.spec.deadline.is_some_and(|limit| pod.admitted + limit <= turn.now)
}

/// Whether the run has a cgroup, and nothing else is to be done about it.
fn steady(pod: &PodFacts, container: &Container, run: &Run) -> bool {
    let hooked = container.post_start.is_none() || run.hooks.contains_key(&HookKind::PostStart);
    let stops = run.stopped.is_some() || run.killed.is_some() || cause(pod, container, run).is_some();
    run.running() && hooked && !stops
}

/// Now, or some time after the last failure to do the same. Whether now.
fn resize(turn: &mut Turn, pod: &PodFacts, size: &Size, of: Option<(String, u32)>, grant: Grant) -> bool {
    let failed = size.failed.as_ref().filter(|failed| failed.grant == grant);
    let due = failed.map_or(turn.now, |failed| failed.at + restart::retry(RESIZE.0, RESIZE.1, failed.tries));
    turn.at(due, || Action::Resize { uid: pod.spec.uid.clone(), of, grant });
    due <= turn.now
}

/// The pod without what a resize may change, and without the name of its file.
fn bare(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.origin.clear();
    let rest = |given: &Resources| Resources {
        storage_request: given.storage_request,
        storage_limit: given.storage_limit,
        ..Resources::default()
    };
    for container in pod.init.iter_mut().chain(&mut pod.containers) {
        container.resources = rest(&container.resources);
    }
    pod.resources = pod.resources.as_ref().map(rest);
    if let Some(spec) = &mut pod.object.spec {
        strip(&mut spec.resources);
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            strip(&mut container.resources);
            container.resize_policy = None;
        }
    }
    pod
}

fn strip(resources: &mut Option<k8s::ResourceRequirements>) {
    let Some(given) = resources else { return };
    for amounts in [&mut given.limits, &mut given.requests] {
        if let Some(all) = amounts {
            all.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        }
        amounts.take_if(|all| all.is_empty());
    }
    if *given == k8s::ResourceRequirements::default() {
        *resources = None;
    }
}
