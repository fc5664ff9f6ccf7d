//! How containers are stopped: preStop, the stop signal, the kill at the deadline, and who waits for whom.

use std::time::Duration;

use super::{Action, Turn};
use crate::clock::Tick;
use crate::pod::cause::{Why, cause};
use crate::pod::facts::{HookKind, PodFacts, Run};
use crate::pod::spec::{Container, Desired};

/// The shortest grace of a pod.
const GRACE: Duration = Duration::from_secs(1);
/// The shortest time between a container's stop signal and its kill.
const STOP: Duration = Duration::from_secs(2);
/// A killed container that has not exited by then is killed again.
const KILL: Duration = Duration::from_secs(5);
/// A start helper that has told nothing by then is killed.
const START: Duration = Duration::from_secs(120);

/// When a pod that only ends is out of time; None where it goes on. An ending machine shortens the grace also of a pod
/// that was dismissed before.
pub(super) fn deadline(turn: &Turn, pod: &PodFacts) -> Option<Tick> {
    let own = pod.spec.grace.max(GRACE);
    let ending = turn.desired.ending.then(|| period(turn.desired, pod.spec.critical())).flatten();
    let short = own.min(ending.unwrap_or(Duration::MAX)).max(GRACE);
    let dismissed = pod.dismissed.map(|(at, _)| at + short);
    let others = [pod.expired, pod.over()].into_iter().flatten().map(|at| at + own);
    dismissed.into_iter().chain(others).min()
}

/// The longest grace that an ending machine gives a pod: critical pods have their share of it, the others the rest.
pub(super) fn period(desired: &Desired, critical: bool) -> Option<Duration> {
    let total = desired.ending_grace?;
    Some(match share(desired) {
        Some(share) if critical => share,
        Some(share) => total.saturating_sub(share),
        None => total,
    })
}

/// The share of critical pods in the ending machine's grace; None: they have no turn of their own.
pub(super) fn share(desired: &Desired) -> Option<Duration> {
    let total = desired.ending_grace?;
    desired.ending_grace_critical.filter(|share| !share.is_zero() && *share <= total)
}

/// Stops all of the pod: everything at once, but sidecars last, the one that was started last first. Whether nothing
/// is left of any run.
pub(super) fn pod(turn: &mut Turn, pod: &PodFacts, deadline: Tick) -> bool {
    let (mut withheld, mut empty) = (false, true);
    let others = pod.spec.all().filter(|container| !container.sidecar);
    let sidecars = pod.spec.init.iter().rev().filter(|container| container.sidecar);
    let mut live = false;
    for container in others.chain(sidecars) {
        withheld |= container.sidecar && live;
        let Some(run) = pod.run(&container.name) else { continue };
        if run.live() {
            one(turn, pod, container, run, deadline, withheld);
        } else if !run.cleaned {
            clean(turn, pod, container, run);
        }
        live |= run.live();
        empty &= run.cleaned;
    }
    empty
}

/// One live run of a pod that ends. `withheld`: its signal waits for others, at most until the deadline.
fn one(turn: &mut Turn, pod: &PodFacts, container: &Container, run: &Run, deadline: Tick, withheld: bool) {
    match cause(pod, container, run) {
        Some(cause) if cause.why == Why::All => kill(turn, pod, container, run),
        // It was being stopped already.
        Some(cause) => end(turn, pod, container, run, deadline.min(cause.since + cause.grace), false),
        None => end(turn, pod, container, run, deadline, withheld),
    }
}

/// One live run of a pod that goes on: it is stopped where there is a cause, and its start is seen to.
pub(super) fn watch(turn: &mut Turn, pod: &PodFacts, container: &Container, run: &Run) {
    match cause(pod, container, run) {
        Some(cause) if cause.why == Why::All => kill(turn, pod, container, run),
        Some(cause) => end(turn, pod, container, run, cause.since + cause.grace, false),
        None if run.killed.is_some() => kill(turn, pod, container, run),
        None if run.started.is_none() => {
            turn.at(run.starting + START, || signal(pod, container, run, true));
        }
        None if container.post_start.is_some() && !run.hooks.contains_key(&HookKind::PostStart) => {
            turn.act(hook(pod, container, run, HookKind::PostStart));
        }
        None => {}
    }
}

/// Removes what the ended run left.
pub(super) fn clean(turn: &mut Turn, pod: &PodFacts, container: &Container, run: &Run) {
    let (uid, container) = (pod.spec.uid.clone(), container.name.clone());
    turn.act(Action::Clean { uid, container, run: run.number });
}

/// preStop first, then the stop signal, then the kill; what the hook takes is taken from the grace.
fn end(turn: &mut Turn, pod: &PodFacts, container: &Container, run: &Run, deadline: Tick, withheld: bool) {
    let (stop, killed) = (|| signal(pod, container, run, false), || signal(pod, container, run, true));
    if run.killed.is_some() {
        return kill(turn, pod, container, run);
    }
    if run.started.is_none() {
        return turn.at(deadline.min(run.starting + START), killed);
    }
    if let Some(stopped) = run.stopped {
        return turn.at(deadline.max(stopped + STOP), killed);
    }
    let hooked = match (&container.pre_stop, run.hooks.get(&HookKind::PreStop)) {
        (None, _) => true,
        (Some(_), None) if turn.now < deadline => {
            return turn.act(hook(pod, container, run, HookKind::PreStop));
        }
        (Some(_), None) => true,
        (Some(_), Some(hook)) => hook.ended.is_some(),
    };
    if hooked && !withheld { turn.act(stop()) } else { turn.at(deadline, stop) }
}

/// At once, and again where that does not help.
fn kill(turn: &mut Turn, pod: &PodFacts, container: &Container, run: &Run) {
    turn.at(run.killed.map_or(turn.now, |killed| killed + KILL), || signal(pod, container, run, true));
}

fn signal(pod: &PodFacts, container: &Container, run: &Run, kill: bool) -> Action {
    let (uid, container) = (pod.spec.uid.clone(), container.name.clone());
    Action::Signal { uid, container, run: run.number, kill }
}

fn hook(pod: &PodFacts, container: &Container, run: &Run, hook: HookKind) -> Action {
    let (uid, container) = (pod.spec.uid.clone(), container.name.clone());
    Action::Hook { uid, container, run: run.number, hook }
}
