//! A wanted pod: its sandbox, then its init containers one by one, then the regular ones all at once.

use std::time::Duration;

use super::{Action, Turn, project, stop};
use crate::clock::Tick;
use crate::pod::facts::{ContainerFacts, HookKind, Image, PodFacts, Run, Sandbox};
use crate::pod::missing;
use crate::pod::restart::{self, After, after};
use crate::pod::spec::{Container, PullPolicy};

/// The first and the longest wait between tries to set up.
const SET_UP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

pub(super) fn pod(turn: &mut Turn, pod: &PodFacts) {
    if let Some(deadline) = stop::deadline(turn, pod) {
        // Over or expired: what still runs of it is stopped, and it stays.
        stop::pod(turn, pod, deadline);
        return;
    }
    if let Some(limit) = pod.spec.deadline {
        let expires = pod.admitted + limit;
        turn.at(expires, || Action::Expire { uid: pod.spec.uid.clone() });
        if expires <= turn.now {
            return;
        }
    }
    let set_up = || Action::SetUp { uid: pod.spec.uid.clone() };
    match pod.sandbox {
        Sandbox::Absent => turn.act(set_up()),
        // What it failed for was mended: no back-off.
        Sandbox::Failed { .. } if project::mended(turn, pod) => turn.act(set_up()),
        Sandbox::Failed { tries, at, .. } => turn.at(at + restart::retry(SET_UP.0, SET_UP.1, tries), set_up),
        Sandbox::Ready { .. } if past(turn, pod) => {}
        Sandbox::Ready { .. } => match trigger(pod) {
            Some(restart_all) => turn.act(restart_all),
            None => containers(turn, pod),
        },
    }
}

/// Ends and removes what is left from before a restart of all containers; whether there is anything.
fn past(turn: &mut Turn, pod: &PodFacts) -> bool {
    let mut left = false;
    for container in pod.spec.all() {
        let Some(facts) = pod.containers.get(&container.name) else { continue };
        let Some(run) = facts.run.as_ref().filter(|run| facts.is_past(run) && !run.cleaned) else { continue };
        left = true;
        if run.live() {
            stop::watch(turn, pod, container, run);
        } else {
            stop::clean(turn, pod, container, run);
        }
    }
    left
}

/// The first container whose end asks for a restart of all.
fn trigger(pod: &PodFacts) -> Option<Action> {
    pod.spec.all().find_map(|container| {
        let run = pod.present(&container.name).filter(|run| !run.live())?;
        let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
        (after(&pod.spec, container, run) == After::All).then_some(Action::RestartAll {
            uid,
            container: name,
            run: run.number,
        })
    })
}

fn containers(turn: &mut Turn, pod: &PodFacts) {
    let touched = |container: &Container| pod.present(&container.name).is_some();
    // Where a later one has run, the earlier ones are done; with a regular one, all are.
    let reached = match pod.spec.containers.iter().any(touched) {
        true => pod.spec.init.len(),
        false => pod.spec.init.iter().rposition(touched).unwrap_or(0),
    };
    for (index, init) in pod.spec.init.iter().enumerate() {
        if init.sidecar || index >= reached {
            container(turn, pod, init, false);
        } else if let Some(run) = pod.present(&init.name).filter(|run| !run.live() && !run.cleaned) {
            stop::clean(turn, pod, init, run);
        }
        let done = |run: &Run| if init.sidecar { run.up(init) } else { succeeded(run) };
        if index >= reached && !pod.present(&init.name).is_some_and(done) {
            return;
        }
    }
    let mut held = false;
    for main in &pod.spec.containers {
        // Kubernetes starts one after the other. Here they start at once, but whoever counts on a postStart hook to
        // be over before the next container starts shall find it so.
        held |= container(turn, pod, main, held) && main.post_start.is_some();
    }
}

fn succeeded(run: &Run) -> bool {
    run.exited.is_some() && !run.init_failed()
}

/// Sees to one container. `held`: it may not be started now. Whether its start is under way.
fn container(turn: &mut Turn, pod: &PodFacts, spec: &Container, held: bool) -> bool {
    let untouched = ContainerFacts::default();
    let facts = pod.containers.get(&spec.name).unwrap_or(&untouched);
    match &facts.run {
        None => !held && start(turn, pod, spec, facts, (facts.first, turn.now)),
        Some(run) if run.live() => {
            let before = turn.plan.actions.len();
            stop::watch(turn, pod, spec, run);
            if facts.damaged.is_some() && turn.plan.actions.len() == before && !is_resized(turn, pod, spec) {
                mend(turn, pod, spec, facts);
            }
            let hooked = run.hooks.get(&HookKind::PostStart).is_some_and(|hook| hook.ended.is_some());
            run.started.is_none() || !hooked
        }
        Some(run) if !run.cleaned => {
            stop::clean(turn, pod, spec, run);
            false
        }
        Some(_) if held => false,
        Some(run) => match restart::again(pod, spec, turn.desired.restart_cap) {
            Some(due) => start(turn, pod, spec, facts, (run.number.saturating_add(1), due)),
            None => false,
        },
    }
}

/// The run of this number at its time, its image seen to before. Whether that time is now.
fn start(
    turn: &mut Turn,
    pod: &PodFacts,
    spec: &Container,
    facts: &ContainerFacts,
    (run, due): (u32, Tick),
) -> bool {
    let (uid, container) = (pod.spec.uid.clone(), spec.name.clone());
    // A damaged image is had anew also while its container waits for other reasons: they may turn out to have been that.
    let look = if facts.damaged.is_some() { turn.now } else { due };
    let (due, action) = match &facts.image {
        // Its end is a fact.
        Image::Pulling { .. } => return true,
        Image::Unknown => (look, Action::Find { uid, container }),
        Image::Missing { tries, at, why, told } => {
            let (again, sync) = (*at + missing::wait(why, *tries), *at + missing::SYNC);
            // The kubelet's next look, which finds that it has to wait.
            if !told && sync < again && turn.now < again {
                turn.at(sync, || Action::BackOff { uid: uid.clone(), container: container.clone() });
            }
            (look.max(again), Action::Find { uid, container })
        }
        Image::Found { .. } if spec.pull == PullPolicy::Always && !fresh(facts) => {
            (due, Action::Find { uid, container })
        }
        Image::Found { .. } => (due, Action::Start { uid, container, run }),
    };
    turn.at(due, || action);
    due <= turn.now
}

/// Whether its cgroup is to be given other values first.
fn is_resized(turn: &Turn, pod: &PodFacts, spec: &Container) -> bool {
    turn.plan.actions.iter().any(|action| match action {
        Action::Resize { uid, of: Some((name, _)), .. } => *uid == pod.spec.uid && *name == spec.name,
        _ => false,
    })
}

/// An image that was found damaged is had anew also while its container runs on.
fn mend(turn: &mut Turn, pod: &PodFacts, spec: &Container, facts: &ContainerFacts) {
    let find = || Action::Find { uid: pod.spec.uid.clone(), container: spec.name.clone() };
    match &facts.image {
        Image::Pulling { .. } => {}
        Image::Unknown | Image::Found { .. } => turn.act(find()),
        Image::Missing { tries, at, why, .. } => turn.at(*at + missing::wait(why, *tries), find),
    }
}

/// Whether the image was seen to since the last run ended.
fn fresh(facts: &ContainerFacts) -> bool {
    facts.seen >= facts.run.as_ref().and_then(Run::ended)
}
