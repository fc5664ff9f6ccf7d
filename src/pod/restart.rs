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
    if let Some(worn) = run.worn {
        return again.then(|| ended.max(worn));
    }
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
    let replaced = run.worn.is_some() && (run.stopped.is_some() || run.killed.is_some());
    if (run.unhealthy() || run.outgrown.is_some() || replaced)
        && role != Role::Init
        && policy != RestartPolicy::Never
    {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::{Exit, Fact, World};
    use crate::pod::sample;

    /// E9 and E11: client-go's backoff_test (base 1 s, at most 10 s) and the kubelet's own first and longest
    /// waits, to the second.
    #[test]
    fn e9_a_wait_doubles_up_to_its_cap() {
        let seconds = Duration::from_secs;
        let base: Vec<u64> = (0..8).map(|tries| retry(seconds(1), seconds(10), tries).as_secs()).collect();
        assert_eq!(base, [0, 1, 2, 4, 8, 10, 10, 10]);
        let table: [(Option<u64>, [u64; 8]); 6] = [
            (None, [0, 10, 20, 40, 80, 160, 300, 300]),
            (Some(300), [0, 10, 20, 40, 80, 160, 300, 300]),
            (Some(1), [0, 1, 1, 1, 1, 1, 1, 1]),
            (Some(2), [0, 2, 2, 2, 2, 2, 2, 2]),
            (Some(10), [0, 10, 10, 10, 10, 10, 10, 10]),
            (Some(11), [0, 10, 11, 11, 11, 11, 11, 11]),
        ];
        for (cap, waits) in table {
            for (step, expected) in (0..).zip(waits) {
                assert_eq!(wait(step, cap.map(seconds)), seconds(expected), "cap {cap:?}, step {step}");
            }
        }
        for step in [31, 32, 33, 64, u32::MAX] {
            assert_eq!(wait(step, None), CAP, "step {step} does not overflow");
        }
    }

    /// E10, row 4, as exact counts: the kubelet's container_restart_test asserts at least 3 restarts in 5 minutes,
    /// and at most 7 by default.
    #[test]
    fn e10_a_crash_loop_restarts_so_often_in_five_minutes() {
        for (cap, restarts) in [(None, 5), (Some(60), 7), (Some(10), 31), (Some(1), 301)] {
            let (mut now, mut count, cap) = (0, 0, cap.map(Duration::from_secs));
            loop {
                now += wait(count, cap).as_secs();
                if now > 300 {
                    break;
                }
                count += 1;
            }
            assert_eq!(count, restarts, "{cap:?}");
        }
    }

    /// E12 and E13, TestDoBackOff and TestGetBackoffKey: each container of a pod has a back-off of its own.
    #[test]
    fn e12_each_container_waits_for_itself() {
        let pod = sample::pod(RestartPolicy::Always, &[], &["a", "b"]);
        let mut world = World::default();
        let mut learn = |second, fact| world.learn(fact, Tick::seconds(second));
        learn(0, Fact::Admitted { pod: pod.clone() });
        let (uid, container) = (|| pod.uid.clone(), |name: &str| name.to_owned());
        let mut crash = |second, name: &str, run, ends: Option<u64>| {
            let (helper, stdout, stderr) = (5, 6, 7);
            let starting =
                Fact::Starting { uid: uid(), container: container(name), run, helper, stdout, stderr };
            learn(second, starting);
            learn(second, Fact::Started { uid: uid(), container: container(name), run, pid: 9 });
            if let Some(ends) = ends {
                let exit = Exit { code: 1, ..Exit::default() };
                learn(ends, Fact::Exited { uid: uid(), container: container(name), run, exit });
            }
        };
        crash(1, "a", 0, Some(2));
        crash(2, "a", 1, Some(3));
        crash(13, "a", 2, Some(14));
        crash(1, "b", 0, Some(14));
        let due = |world: &World, name: &str, cap: Option<u64>| {
            let facts = &world.pods[&pod.uid];
            again(facts, pod.container(name).unwrap(), cap.map(Duration::from_secs))
        };
        assert_eq!(due(&world, "a", None), Some(Tick::seconds(34)), "20 s from its end");
        assert_eq!(due(&world, "a", Some(15)), Some(Tick::seconds(29)), "the cap that holds now");
        assert_eq!(due(&world, "b", None), Some(Tick::seconds(14)), "its first crash");
        let mut running = world.clone();
        let (uid, container) = (pod.uid.clone(), "b".to_owned());
        let starting = Fact::Starting { uid, container, run: 1, helper: 5, stdout: 6, stderr: 7 };
        running.learn(starting, Tick::seconds(14));
        assert_eq!(due(&running, "b", None), None, "it runs");
        // Another pod, as any edit of a manifest makes, begins anew.
        world.learn(Fact::TornDown { uid: pod.uid.clone() }, Tick::seconds(15));
        world.learn(Fact::Admitted { pod: pod.clone() }, Tick::seconds(15));
        assert!(world.pods[&pod.uid].containers.is_empty());
    }

    /// E3 and E7: all policies of pod and container, and the rules before them: In and NotIn, the first that
    /// matches.
    #[test]
    fn e3_what_the_end_of_a_run_leads_to() {
        use After::{Again, All, Stays};
        use RestartPolicy::{Always, Never, OnFailure};
        let rule = |not_in, codes: &[i32], all| RestartRule { not_in, codes: codes.to_vec(), all };
        let table: [(RestartPolicy, Option<RestartPolicy>, Vec<RestartRule>, [After; 3]); 20] = [
            // By the exit codes 0, 1, 42.
            (Always, None, vec![], [Again, Again, Again]),
            (OnFailure, None, vec![], [Stays, Again, Again]),
            (Never, None, vec![], [Stays, Stays, Stays]),
            (Always, Some(Never), vec![], [Stays, Stays, Stays]),
            (Always, Some(OnFailure), vec![], [Stays, Again, Again]),
            (OnFailure, Some(Always), vec![], [Again, Again, Again]),
            (OnFailure, Some(Never), vec![], [Stays, Stays, Stays]),
            (Never, Some(Always), vec![], [Again, Again, Again]),
            (Never, Some(OnFailure), vec![], [Stays, Again, Again]),
            (Always, Some(Never), vec![rule(false, &[42], false)], [Stays, Stays, Again]),
            (Always, Some(Never), vec![rule(true, &[42], false)], [Again, Again, Stays]),
            (Always, Some(Never), vec![rule(false, &[0, 1], false)], [Again, Again, Stays]),
            (Never, Some(OnFailure), vec![rule(false, &[0], false)], [Again, Again, Again]),
            (Never, Some(Never), vec![rule(false, &[42], true)], [Stays, Stays, All]),
            (Never, Some(Never), vec![rule(true, &[0], true)], [Stays, All, All]),
            (Never, Some(Always), vec![rule(false, &[1], true)], [Again, All, Again]),
            // The first that matches, in both orders.
            (
                Never,
                Some(Never),
                vec![rule(false, &[42], false), rule(true, &[0], true)],
                [Stays, All, Again],
            ),
            (Never, Some(Never), vec![rule(true, &[0], true), rule(false, &[42], false)], [Stays, All, All]),
            (Never, Some(Never), vec![rule(true, &[], false)], [Again, Again, Again]),
            (Never, Some(Never), vec![rule(false, &[], true)], [Stays, Stays, Stays]),
        ];
        for (policy, own, rules, expected) in table {
            let pod = sample::with(&sample::pod(policy, &[], &["c"]), "c", |container| {
                (container.restart, container.rules) = (own, rules.clone());
            });
            let led = [0, 1, 42].map(|code| {
                let run = crate::pod::status::tests::ran(0, 1, Some((2, code)));
                after(&pod, &pod.containers[0], &run)
            });
            assert_eq!(led, expected, "{policy:?} {own:?} {rules:?}");
        }
    }
}
