//! A wanted pod: its sandbox, then its init containers one by one, then the regular ones all at once.

use std::time::Duration;

use super::{Action, Turn, end, project};
use crate::clock::Tick;
use crate::pod::facts::{ContainerFacts, Image, PodFacts, Run, Sandbox};
use crate::pod::restart;
use crate::pod::spec::{Container, PullPolicy};

/// The first and the longest wait between tries to set up.
const SET_UP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The first and the longest wait between looks for a missing image.
const FIND: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

pub(super) fn pod(turn: &mut Turn, pod: &PodFacts) {
    let set_up = || Action::SetUp { uid: pod.spec.uid.clone() };
    match pod.sandbox {
        Sandbox::Absent => turn.act(set_up()),
        // What it failed for was mended: no back-off.
        Sandbox::Failed { .. } if project::mended(turn, pod) => turn.act(set_up()),
        Sandbox::Failed { tries, at, .. } => turn.at(at + restart::retry(SET_UP.0, SET_UP.1, tries), set_up),
        Sandbox::Ready { .. } => containers(turn, pod),
    }
}

fn containers(turn: &mut Turn, pod: &PodFacts) {
    let touched = |container: &Container| pod.run(&container.name).is_some();
    if !pod.spec.containers.iter().any(touched) {
        // A later one has run: the earlier ones are done.
        let first = pod.spec.init.iter().rposition(touched).unwrap_or(0);
        for init in pod.spec.init.iter().skip(first) {
            container(turn, pod, init, true);
            if !pod.run(&init.name).is_some_and(succeeded) {
                return;
            }
        }
    }
    for regular in &pod.spec.containers {
        container(turn, pod, regular, false);
    }
}

fn succeeded(run: &Run) -> bool {
    run.exited.is_some() && !run.init_failed()
}

fn container(turn: &mut Turn, pod: &PodFacts, spec: &Container, init: bool) {
    let (uid, name) = (&pod.spec.uid, &spec.name);
    let untouched = ContainerFacts::default();
    let facts = pod.containers.get(name).unwrap_or(&untouched);
    match &facts.run {
        None => start(turn, pod, spec, facts, (0, turn.now)),
        Some(run) if run.live() => end::watch(turn, uid, name, run, None),
        Some(run) if !run.cleaned => {
            turn.act(Action::Clean { uid: uid.clone(), container: name.clone(), run: run.number });
        }
        Some(run) => {
            let cap = turn.desired.restart_cap;
            let Some(due) = restart::again(pod.spec.restart, init, facts, cap) else { return };
            start(turn, pod, spec, facts, (run.number.saturating_add(1), due));
        }
    }
}

/// The run of this number at its time, its image seen to before.
fn start(turn: &mut Turn, pod: &PodFacts, spec: &Container, facts: &ContainerFacts, (run, due): (u32, Tick)) {
    let (uid, container) = (pod.spec.uid.clone(), spec.name.clone());
    match &facts.image {
        Image::Unknown => turn.at(due, || Action::Find { uid, container }),
        Image::Missing { tries, at, .. } => {
            let look = *at + restart::retry(FIND.0, FIND.1, *tries);
            turn.at(due.max(look), || Action::Find { uid, container });
        }
        Image::Found { .. } if spec.pull == PullPolicy::Always && !fresh(facts) => {
            turn.at(due, || Action::Find { uid, container });
        }
        Image::Found { .. } => turn.at(due, || Action::Start { uid, container, run }),
    }
}

/// Whether the image was seen to since the last run ended.
fn fresh(facts: &ContainerFacts) -> bool {
    facts.seen >= facts.run.as_ref().and_then(Run::ended)
}
