//! A dismissed pod: stop signals, kills at the deadline, clean-up, tear-down.

use std::time::Duration;

use super::{Action, Turn};
use crate::clock::Tick;
use crate::pod::facts::{PodFacts, Run};
use crate::pod::restart;

/// The shortest grace of a pod.
const GRACE: Duration = Duration::from_secs(1);
/// The shortest time between a container's stop signal and its kill.
const STOP: Duration = Duration::from_secs(2);
/// A killed container that has not exited by then is killed again.
const KILL: Duration = Duration::from_secs(5);
/// A start helper that has told nothing by then is killed.
const START: Duration = Duration::from_secs(120);
/// The first and the longest wait between tries to tear down.
const TEAR_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

pub(super) fn pod(turn: &mut Turn, pod: &PodFacts, dismissed: Tick) {
    let uid = &pod.spec.uid;
    let deadline = dismissed + grace(turn, pod);
    let mut empty = true;
    for (container, run) in pod.runs() {
        if run.live() {
            watch(turn, uid, container, run, Some(deadline));
        } else if !run.cleaned {
            turn.act(Action::Clean { uid: uid.clone(), container: container.to_owned(), run: run.number });
        }
        empty &= run.cleaned;
    }
    if !empty {
        return;
    }
    let tear_down = || Action::TearDown { uid: uid.clone() };
    match pod.stuck {
        None => turn.act(tear_down()),
        Some((tries, at, _)) => turn.at(at + restart::retry(TEAR_DOWN.0, TEAR_DOWN.1, tries), tear_down),
    }
}

/// From the dismissal on. An ending machine shortens it, also of a pod that was dismissed before.
fn grace(turn: &Turn, pod: &PodFacts) -> Duration {
    let ending = turn.desired.ending.then_some(turn.desired.ending_grace).flatten();
    pod.spec.grace.min(ending.unwrap_or(Duration::MAX)).max(GRACE)
}

/// Signals that a live run is due for: a start helper that hangs, and with a deadline the end of the run.
pub(super) fn watch(turn: &mut Turn, uid: &str, container: &str, run: &Run, deadline: Option<Tick>) {
    let signal = |kill| {
        move || Action::Signal { uid: uid.to_owned(), container: container.to_owned(), run: run.number, kill }
    };
    if let Some(killed) = run.killed {
        turn.at(killed + KILL, signal(true));
        return;
    }
    match (run.started, run.stopped, deadline) {
        (None, _, deadline) => {
            let hung = run.starting + START;
            turn.at(deadline.map_or(hung, |deadline| hung.min(deadline)), signal(true));
        }
        (Some(_), _, None) => {}
        (Some(_), None, Some(_)) => turn.act(signal(false)()),
        (Some(_), Some(stopped), Some(deadline)) => turn.at(deadline.max(stopped + STOP), signal(true)),
    }
}
