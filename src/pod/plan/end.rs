//! A dismissed pod: it is stopped, cleaned and torn down; and when critical pods are dismissed by an ending machine.

use std::time::Duration;

use super::{Action, Turn, stop};
use crate::clock::Tick;
use crate::pod::facts::{PodFacts, World};
use crate::pod::restart;

/// The first and the longest wait between tries to tear down.
const TEAR_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// `again`: a pod of its uid is to come after it, which counts its runs on from the logs.
pub(super) fn pod(turn: &mut Turn, pod: &PodFacts, again: bool) {
    let Some(deadline) = stop::deadline(turn, pod) else { return };
    if !stop::pod(turn, pod, deadline) {
        return;
    }
    let tear_down = || Action::TearDown { uid: pod.spec.uid.clone(), keep_logs: again };
    match pod.stuck {
        None => turn.act(tear_down()),
        Some((tries, at, _)) => turn.at(at + restart::retry(TEAR_DOWN.0, TEAR_DOWN.1, tries), tear_down),
    }
}

/// When an ending machine dismisses its critical pods: once nothing of the others runs, or their time is over. What is
/// not yet dismissed is dismissed now.
pub(super) fn critical(turn: &Turn, world: &World) -> Tick {
    if stop::share(turn.desired).is_none() {
        return turn.now;
    }
    let period = stop::period(turn.desired, false).unwrap_or_default();
    let others = world.pods.values().filter(|pod| !pod.spec.critical());
    let live = others.filter(|pod| pod.runs().any(|(_, run)| run.live()));
    live.map(|pod| pod.dismissed.map_or(turn.now, |(at, _)| at) + period).fold(turn.now, Tick::max)
}
