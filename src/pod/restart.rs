//! Whether, and not before when, an ended container runs again.

use std::time::Duration;

use super::facts::ContainerFacts;
use super::spec::{Container, Pod, RestartPolicy};
use crate::clock::Tick;

/// STUB of this branch: the real one comes from branch `plan`.
pub fn restarts_at(
    pod: &Pod,
    container: &Container,
    facts: &ContainerFacts,
    cap: Option<Duration>,
) -> Option<Tick> {
    let run = facts.run.as_ref()?;
    let (at, code) = match (&run.exited, &run.failed) {
        (Some((at, exit)), _) => (*at, exit.code),
        (None, Some((at, _))) => (*at, 128),
        (None, None) => return None,
    };
    let init = pod.init.iter().any(|other| other.name == container.name);
    let again = match pod.restart {
        RestartPolicy::Always => !init || code != 0,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    if !again {
        return None;
    }
    let step = if run.number == 0 { 0 } else { facts.step + 1 };
    Some(at + delay(step, cap))
}

/// STUB of this branch.
pub fn delay(step: u32, cap: Option<Duration>) -> Duration {
    let cap = cap.unwrap_or(Duration::from_secs(300));
    match step {
        0 => Duration::ZERO,
        step => Duration::from_secs(10).saturating_mul(1 << (step - 1).min(16)).min(cap),
    }
}
