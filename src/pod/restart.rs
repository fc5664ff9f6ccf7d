//! Whether, and not before when, an ended container runs again.
//!
//! Kubernetes v1.36: `ShouldContainerBeRestarted`, `doBackOff`, and client-go's `flowcontrol.Backoff`.

use std::time::Duration;

use super::facts::{ContainerFacts, Run};
use super::spec::RestartPolicy;
use crate::clock::Tick;

/// The first wait of a crash loop, where the cap is not smaller.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait, unless configured.
const CAP: Duration = Duration::from_secs(300);
/// A run that ended this long after the last raise forgives all crashes before. Not scaled by a smaller cap.
const FORGIVEN: Duration = Duration::from_secs(600);

/// The wait between the end of a run and the next start: 0, 10, 20, 40 ... 300 s for steps 0, 1, 2, 3 ...
/// `cap` None: 300 s; a cap under 10 s is the first wait too.
pub fn wait(step: u32, cap: Option<Duration>) -> Duration {
    let cap = cap.unwrap_or(CAP);
    retry(FIRST.min(cap), cap, step)
}

/// The wait after `tries` failures: none, `first`, twice that, four times that ... up to `cap`.
pub fn retry(first: Duration, cap: Duration, tries: u32) -> Duration {
    match tries.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(cap),
    }
}

/// When the container whose newest run has ended may be started again; None: never, or its run still lives.
/// `init`: success is final, whatever the pod's policy.
pub fn again(
    policy: RestartPolicy,
    init: bool,
    facts: &ContainerFacts,
    cap: Option<Duration>,
) -> Option<Tick> {
    let run = facts.run.as_ref()?;
    let ended = run.ended()?;
    if let Some((at, why)) = &run.failed
        && why.ours
    {
        return Some(*at + retry(Duration::from_millis(100), Duration::from_secs(5), facts.trouble));
    }
    wanted(policy, init, run).then(|| ended + wait(current(facts, ended), cap))
}

/// The step at which a container that ended now stands: 0 where it ran long enough for its crashes to be forgiven.
pub fn current(facts: &ContainerFacts, ended: Tick) -> u32 {
    match facts.stepped {
        Some(stepped) if ended - stepped <= FORGIVEN => facts.step,
        Some(_) | None => 0,
    }
}

fn wanted(policy: RestartPolicy, init: bool, run: &Run) -> bool {
    let Some(code) = run.code() else {
        // It never came to a container, so no policy speaks of it.
        return true;
    };
    let failed = if init { run.init_failed() } else { code != 0 };
    match policy {
        RestartPolicy::Always => failed || !init,
        RestartPolicy::OnFailure => failed,
        RestartPolicy::Never => false,
    }
}
