//! Whether, and not before when, an ended container runs again.
//! STUB of this branch: the real one comes from branch `plan`.

use std::time::Duration;

use super::facts::ContainerFacts;
use super::spec::RestartPolicy;
use crate::clock::Tick;

/// When the container whose newest run has ended may be started again; None: never, or its run still lives.
pub fn again(
    policy: RestartPolicy,
    init: bool,
    facts: &ContainerFacts,
    cap: Option<Duration>,
) -> Option<Tick> {
    let run = facts.run.as_ref()?;
    let (at, code) = match (&run.exited, &run.failed) {
        (Some((at, exit)), _) => (*at, exit.code),
        (None, Some((at, _))) => (*at, 128),
        (None, None) => return None,
    };
    let wanted = match policy {
        RestartPolicy::Always => !init || code != 0,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    wanted.then(|| at + wait(facts.step, cap))
}

fn wait(step: u32, cap: Option<Duration>) -> Duration {
    let cap = cap.unwrap_or(Duration::from_secs(300));
    match step {
        0 => Duration::ZERO,
        step => Duration::from_secs(10).saturating_mul(1 << (step - 1).min(16)).min(cap),
    }
}
