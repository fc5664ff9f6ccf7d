//! Whether, and not before when, an ended container runs again.
//!
//! Kubernetes v1.36: `ShouldContainerBeRestarted`, `doBackOff`, and client-go's `flowcontrol.Backoff`.

use std::time::Duration;

use super::facts::{ContainerFacts, PodFacts, Run};
use super::spec::{Container, Pod, RestartPolicy, RestartRule, Role};
use crate::clock::Tick;

/// The first wait of a crash loop, where the cap is not smaller.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait, unless configured.
const CAP: Duration = Duration::from_secs(300);
/// A run that ended this long after the last raise forgives all crashes before. Not scaled by a smaller cap.
const FORGIVEN: Duration = Duration::from_secs(600);

/// What the end of a run leads to, while its pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays ended.
    Stays,
    /// It runs again.
    Again,
    /// All containers of its pod run again.
    All,
}

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

/// When the container whose newest run has ended may be started again; None: never, or its run still lives, or all
/// containers are to be restarted first. Whether its pod goes on at all is not asked.
pub fn again(pod: &PodFacts, container: &Container, cap: Option<Duration>) -> Option<Tick> {
    let facts = pod.containers.get(&container.name)?;
    let run = facts.run.as_ref()?;
    let ended = run.ended()?;
    if let Some((at, why)) = &run.failed
        && why.ours
    {
        return Some(*at + retry(Duration::from_millis(100), Duration::from_secs(5), facts.trouble));
    }
    let again = facts.is_past(run) || after(&pod.spec, container, run) == After::Again;
    again.then(|| ended + wait(current(facts, ended), cap))
}

/// The step at which a container that ended now stands: 0 where it ran long enough for its crashes to be forgiven.
pub fn current(facts: &ContainerFacts, ended: Tick) -> u32 {
    match facts.stepped {
        Some(stepped) if ended - stepped <= FORGIVEN => facts.step,
        Some(_) | None => 0,
    }
}

/// What the end of this run leads to: by the first of the container's rules that matches, by its own policy, by the
/// pod's. Success is final for an init container, and a sidecar always runs again.
pub fn after(pod: &Pod, container: &Container, run: &Run) -> After {
    let Some(code) = run.code() else {
        // It never came to a container, so no policy speaks of it.
        return After::Again;
    };
    let (role, policy) = (pod.role(container), policy(pod, container));
    if (run.unhealthy() || run.outgrown.is_some()) && role != Role::Init && policy != RestartPolicy::Never {
        // It was stopped in order to be restarted: its exit code, which may be 0, is not asked.
        return After::Again;
    }
    let failed = match role {
        Role::Init => run.init_failed(),
        Role::Sidecar | Role::Main => code != 0,
    };
    match container.rules.iter().find(|rule| matches(rule, code)) {
        Some(rule) if rule.all => return After::All,
        Some(_) if failed || role != Role::Init => return After::Again,
        Some(_) | None => {}
    }
    let again = match policy {
        RestartPolicy::Always => failed || role != Role::Init,
        RestartPolicy::OnFailure => failed,
        RestartPolicy::Never => false,
    };
    if again { After::Again } else { After::Stays }
}

/// The policy that holds for this container.
pub fn policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart {
        _ if container.sidecar => RestartPolicy::Always,
        Some(own) => own,
        None => pod.restart,
    }
}

fn matches(rule: &RestartRule, code: i32) -> bool {
    rule.codes.contains(&code) != rule.not_in
}
