//! What the facts of a resize change. A resize that was accepted before the newest one is told by a replay, and changes
//! nothing.

use std::sync::Arc;

use crate::clock::Tick;
use crate::pod::facts::{PodFacts, Rejection, Size, Strain};
use crate::pod::resources::Grant;
use crate::pod::spec::{Container, Pod, Resources, Role};

/// From now on the pod is this one. A container that is given other resources is another to the back-off, as with the
/// kubelet; its run ends where its resizePolicy says so, unless it is a plain init container, which is not run twice.
pub(super) fn allocated(pod: &mut PodFacts, spec: &Arc<Pod>, now: Tick) -> bool {
    pod.pending = None;
    if pod.resized.is_some_and(|at| at >= now) {
        return false;
    }
    let former = std::mem::replace(&mut pod.spec, spec.clone());
    pod.resized = Some(now);
    pod.size.failed = None;
    for container in spec.all() {
        let was = former.container(&container.name);
        let change = was.map_or(Change::default(), |was| Change::of(&was.resources, &container.resources));
        let Some(facts) = pod.containers.get_mut(&container.name).filter(|_| change.cpu || change.memory)
        else {
            continue;
        };
        (facts.step, facts.stepped) = (0, None);
        let past = facts.past;
        let run = facts.run.as_mut().filter(|run| run.live() && past.is_none_or(|past| run.number > past));
        if let Some(run) = run {
            run.size.failed = None;
            if change.restarts(container) && spec.role(container) != Role::Init {
                run.outgrown.get_or_insert(now);
            }
        }
    }
    true
}

/// True where it is news, as with a rejection: the message counts what others use.
pub(super) fn pending(
    pod: &mut PodFacts,
    (wanted, reason, message): (&Arc<Pod>, &str, &str),
    now: Tick,
) -> bool {
    let known = pod.pending.as_ref();
    let fresh = known.is_none_or(|known| !known.told(reason, wanted));
    let since = known.filter(|known| known.reason == reason).map_or(now, |known| known.since);
    let (reason, message) = (reason.to_owned(), message.to_owned());
    pod.pending = Some(Rejection { pod: wanted.clone(), since, reason, message });
    fresh
}

pub(super) fn resized(size: &mut Size, grant: Grant) -> bool {
    size.failed = None;
    size.grant.replace(grant) != Some(grant)
}

/// True for the first failure of several to do the same.
pub(super) fn failed(size: &mut Size, grant: Grant, why: &str, now: Tick) -> bool {
    let tries = match &size.failed {
        Some(failed) if failed.at >= now => return false,
        Some(failed) if failed.grant == grant => failed.tries,
        Some(_) | None => 0,
    };
    size.failed = Some(Strain { grant, tries: tries.saturating_add(1), at: now, why: why.to_owned() });
    tries == 0
}

/// Which resources of a container have changed.
#[derive(Clone, Copy, Default)]
struct Change {
    cpu: bool,
    memory: bool,
}

impl Change {
    fn of(was: &Resources, is: &Resources) -> Self {
        Change {
            cpu: (was.cpu_request, was.cpu_limit) != (is.cpu_request, is.cpu_limit),
            memory: (was.memory_request, was.memory_limit) != (is.memory_request, is.memory_limit),
        }
    }

    fn restarts(self, container: &Container) -> bool {
        let given = &container.resources;
        self.cpu && given.cpu_restarts || self.memory && given.memory_restarts
    }
}
