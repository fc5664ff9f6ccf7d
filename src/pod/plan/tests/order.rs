//! Who starts when: sidecars, policies and rules of containers, postStart, a restart of all.
//!
//! Of the kubelet's tables these cannot arise here: a sandbox that is lost (it is mounts, not a process), a container
//! that was created and never started (its start has failed, and is tried again), one in an unknown state, and one
//! whose image changed (that is another pod, whose back-off begins anew).

use super::*;
use crate::pod::restart::{After, after};
use crate::pod::spec::{Handler, RestartRule};

/// Sidecars `a`, `b`, `c` (the last two with a startup probe), then `0`, `1`, `2`.
fn sidecars(policy: crate::pod::spec::RestartPolicy) -> Arc<Pod> {
    let mut pod = sample::pod(policy, &["a", "b", "c"], &["0", "1", "2"]);
    for name in ["a", "b", "c"] {
        pod = sample::with(&pod, name, |container| {
            container.sidecar = true;
            container.startup = if name == "a" { None } else { sample::probe(None) };
            container.liveness = sample::probe(None);
        });
    }
    pod
}

/// E6: Kubernetes' TestComputePodActionsWithRestartableInitContainers, its rows. `+`: its startup probe succeeded.
///
/// Answered otherwise, on purpose: row 9 (a kubelet waits for the kill within its turn and starts in the same one), row
/// 11 (an edit of an image is another pod), row 18 (no container is in an unknown state: PID 1 is its parent).
#[test]
fn e6_sidecars_start_in_order_and_start_again() {
    let mains = ["start 0", "start 1", "start 2"];
    let up = [("a", RUNS), ("b+", RUNS), ("c+", RUNS)];
    let (killed, done) = (bad(137), GOOD);
    let table = [
        (1, Always, up.to_vec(), mains.to_vec()),
        (2, Always, vec![], vec!["start a"]),
        (3, Always, vec![up[0], up[1]], vec!["start c"]),
        (4, Always, vec![up[0]], vec!["start b"]),
        (6, Always, vec![up[0], ("b", RUNS)], vec![]),
        // A startup probe that could not be tried (row 7) tells nothing; one that failed ends the run.
        (7, OnFailure, vec![up[0], ("b", RUNS)], vec![]),
        (101, Always, vec![up[0], ("b!", RUNS)], vec!["stop b"]),
        (102, Never, vec![up[0], ("b!", RUNS)], vec!["stop b"]),
        (103, Never, vec![up[0], up[1], ("c+-", RUNS)], vec!["stop c", "start 0", "start 1", "start 2"]),
        (104, Always, vec![("a-", RUNS)], vec!["stop a", "start b"]),
        (105, OnFailure, vec![("a", done)], vec!["start a"]),
        (106, Never, vec![("a", done)], vec!["start a"]),
        (107, Never, vec![("a", killed), up[1]], vec!["start a", "start c"]),
        // Once a regular container has run, the pod was initialised: all sidecars come back side by side.
        (108, Always, vec![("0", RUNS)], vec!["start a", "start b", "start c", "start 1", "start 2"]),
        (109, OnFailure, vec![up[0], up[1], up[2], ("0", done), ("1", RUNS), ("2", bad(1))], vec!["start 2"]),
        (8, Always, vec![up[0], up[1]], vec!["start c"]),
        (9, Always, vec![up[0], up[1], ("c+-", RUNS)], vec!["stop c", "start 0", "start 1", "start 2"]),
        (12, Always, vec![("a", done), up[1], ("c", done)], vec!["start a", "start c"]),
        (13, Always, vec![("a", done), up[1], up[2]], vec!["start a", "start 0", "start 1", "start 2"]),
        (17, Never, vec![up[0], up[1], ("c", killed)], vec!["start c"]),
        (
            19,
            Never,
            vec![up[0], up[1], ("c", killed), ("0", RUNS), ("1", RUNS), ("2", RUNS)],
            vec!["start c"],
        ),
        (21, Always, vec![up[2]], vec!["start a", "start b", "start 0", "start 1", "start 2"]),
    ];
    for (row, policy, runs, due) in table {
        let mut case = Case::new(sidecars(policy));
        for (name, exit) in &runs {
            let bare = name.trim_end_matches(['+', '-', '!']);
            case.run(1, bare, 0, *exit);
            if name.contains('+') {
                case.probed(1, bare, ProbeKind::Startup, true);
            }
            if name.contains('!') {
                case.probed(1, bare, ProbeKind::Startup, false);
            }
            if name.contains('-') {
                case.probed(1, bare, ProbeKind::Liveness, false);
            }
        }
        assert_eq!(case.due(1).0, due, "row {row}");
    }
}

#[test]
fn sidecars_keep_no_pod_alive() {
    let mut case = Case::new(sidecars(OnFailure));
    for name in ["a", "b", "c"] {
        case.run(1, name, 0, RUNS);
        case.probed(1, name, ProbeKind::Startup, true);
    }
    case.run(1, "0", 0, GOOD);
    case.run(1, "1", 0, GOOD);
    case.run(1, "2", 0, RUNS);
    // One that ends by itself comes back, as long as a regular container runs.
    case.exit(2, "b", 0, 0);
    assert_eq!(case.due(2), (vec!["start b".to_owned()], None));
    case.run(2, "b", 1, RUNS);
    case.exit(3, "2", 0, 0);
    assert_eq!(case.due(3), (vec!["stop c".to_owned()], Some(Tick::seconds(33))), "the last one first");
    case.signal(3, "c", 0, false);
    case.exit(4, "c", 0, 143);
    assert_eq!(case.due(4).0, ["stop b"]);
    case.signal(4, "b", 1, false);
    assert_eq!(case.due(5), (vec![], Some(Tick::seconds(33))));
    assert_eq!(case.due(33).0, ["kill b", "stop a"], "out of time: nobody waits any more");
    case.signal(33, "a", 0, false);
    case.exit(33, "b", 1, 137);
    assert_eq!(case.due(33), (vec![], Some(Tick::seconds(35))), "at least 2 s");
    case.exit(34, "a", 0, 143);
    assert_eq!(case.due(34), (vec![], None), "it stays as it is");
}

/// Kubernetes' TestComputePodActionsWithInitContainers, row 7: the pod is killed.
#[test]
fn an_init_container_that_fails_for_good_ends_the_sidecars_before_it() {
    let pod = sample::pod(Never, &["s", "i"], &["c"]);
    let mut case = Case::new(sample::with(&pod, "s", |container| container.sidecar = true));
    case.run(1, "s", 0, RUNS);
    case.run(1, "i", 0, RUNS);
    case.exit(5, "i", 0, 137);
    assert_eq!(case.due(5).0, ["stop s"]);
    case.signal(5, "s", 0, false);
    assert_eq!(case.due(5), (vec![], Some(Tick::seconds(35))));
    case.exit(6, "s", 0, 143);
    assert_eq!(case.due(6), (vec![], None));
}

/// E7: Kubernetes' TestComputePodActionsWithContainerRestartRules (its row 5 is of a dead sandbox, which cannot be here).
#[test]
fn e7_a_containers_own_policy_goes_before_the_pods() {
    let table = [
        (Never, Always, vec!["start 0", "start 1"]),
        (Never, OnFailure, vec!["start 1"]),
        (Never, Never, vec![]),
        (OnFailure, Always, vec!["start 0", "start 1"]),
        (OnFailure, Never, vec![]),
        (Always, Never, vec![]),
        (Always, OnFailure, vec!["start 1"]),
    ];
    for (pod, own, due) in table {
        let mut spec = sample::pod(pod, &[], &["0", "1", "2"]);
        for name in ["0", "1"] {
            spec = sample::with(&spec, name, |container| container.restart = Some(own));
        }
        let mut case = Case::new(spec);
        case.run(1, "0", 0, GOOD);
        case.run(1, "1", 0, bad(111));
        case.run(1, "2", 0, RUNS);
        assert_eq!(case.due(1).0, due, "{pod:?} {own:?}");
    }
}

#[test]
fn e7_the_first_rule_that_matches_goes_before_any_policy() {
    let rule = |not_in, codes: &[i32], all| RestartRule { not_in, codes: codes.to_vec(), all };
    let rules = [rule(false, &[42], true), rule(false, &[42, 7, 0], false), rule(true, &[1, 2, 3, 0], true)];
    let table = [
        ("c", 42, After::All),
        ("c", 7, After::Again),
        ("c", 0, After::Again),
        ("c", 2, After::Stays),
        ("c", 9, After::All),
        // Success is final for an init container, unless all are to be restarted.
        ("i", 0, After::Stays),
        ("i", 7, After::Again),
        ("i", 2, After::Stays),
        ("i", 42, After::All),
        ("s", 2, After::Again),
        ("s", 42, After::All),
    ];
    let mut pod = sample::pod(Never, &["i", "s"], &["c"]);
    for name in ["i", "s", "c"] {
        pod = sample::with(&pod, name, |container| {
            container.rules = rules.to_vec();
            container.sidecar = name == "s";
        });
    }
    for (name, code, expected) in table {
        let mut case = Case::new(pod.clone());
        case.run(1, name, 0, bad(code));
        let run = case.world.pods[UID].run(name).unwrap();
        assert_eq!(after(&pod, pod.container(name).unwrap(), run), expected, "{name} {code}");
    }
}

#[test]
fn a_rule_restarts_all_containers_from_the_first_one_on() {
    let pod = sample::pod(Never, &["i", "s"], &["c", "d"]);
    let pod = sample::with(&pod, "s", |container| container.sidecar = true);
    let pod = sample::with(&pod, "c", |container| {
        container.rules = vec![RestartRule { not_in: false, codes: vec![42], all: true }];
    });
    let mut case = Case::new(pod);
    case.run(1, "i", 0, GOOD);
    for name in ["s", "c", "d"] {
        case.run(1, name, 0, RUNS);
    }
    let exit = Exit { code: 42, ..Exit::default() };
    case.learn(2, Fact::Exited { uid: UID.into(), container: "c".into(), run: 0, exit });
    assert_eq!(case.due(2).0, ["restart all for c"]);
    let restart = Fact::RestartAll { uid: UID.into(), container: "c".into(), run: 0 };
    case.learn(2, restart.clone());
    assert_eq!(case.due(2).0, ["kill s", "clean c", "kill d"], "without any grace");
    case.signal(2, "s", 0, true);
    case.signal(2, "d", 0, true);
    case.learn(2, Fact::Cleaned { uid: UID.into(), container: "c".into(), run: 0 });
    assert_eq!(case.due(3), (vec![], Some(Tick::seconds(7))), "nothing starts before all is gone");
    case.exit(3, "s", 0, 137);
    case.exit(3, "d", 0, 137);
    assert_eq!(case.due(3).0, ["start i"]);
    case.run(3, "i", 1, GOOD);
    assert_eq!(case.due(3).0, ["start s"]);
    case.run(3, "s", 1, RUNS);
    assert_eq!(case.due(3).0, ["start c", "start d"]);
    // A ledger that is replayed tells it again.
    case.learn(3, restart);
    assert_eq!(case.due(3).0, ["start c", "start d"]);
    case.run(4, "c", 1, bad(42));
    let restarts =
        |case: &Case| ["i", "s", "c", "d"].map(|name| case.world.pods[UID].containers[name].restarts);
    assert_eq!(restarts(&case), [1, 1, 1, 0]);
    case.learn(4, Fact::RestartAll { uid: UID.into(), container: "c".into(), run: 1 });
    case.signal(4, "s", 1, true);
    case.exit(4, "s", 1, 137);
    assert_eq!(case.due(4), (vec![], Some(Tick::seconds(13))), "a pod that restarts all the time backs off");
}

/// Kubernetes' container_lifecycle_test: the second container is not started before the first one's postStart ended.
#[test]
fn a_post_start_hook_holds_back_the_later_containers() {
    let pod = sample::pod(Always, &[], &["a", "b", "c"]);
    let pod =
        sample::with(&pod, "b", |container| container.post_start = Some(Handler::Exec(vec!["/x".into()])));
    let mut case = Case::new(pod);
    assert_eq!(case.due(1).0, ["start a", "start b"]);
    case.run(1, "a", 0, RUNS);
    case.run(1, "b", 0, RUNS);
    assert_eq!(case.due(1).0, ["PostStart b"]);
    case.hooking(1, "b", HookKind::PostStart);
    assert_eq!(case.due(1), (vec![], None));
    let mut failed = Case { desired: case.desired.clone(), world: case.world.clone() };
    case.hooked(5, "b", HookKind::PostStart, false);
    assert_eq!(case.due(5), (vec!["start c".to_owned()], None));
    failed.hooked(5, "b", HookKind::PostStart, true);
    assert_eq!(failed.due(5).0, ["stop b", "start c"]);
    failed.signal(5, "b", 0, false);
    assert_eq!(failed.due(5).1, Some(Tick::seconds(35)));
    let told = failed.world.events.iter().map(|event| (event.reason.as_str(), event.message.as_str()));
    let told: Vec<_> = told.skip_while(|(reason, _)| *reason != "FailedPostStartHook").collect();
    let expected = [("FailedPostStartHook", "PostStartHook failed"), ("Killing", "FailedPostStartHook")];
    assert_eq!(told, expected);
}

#[test]
fn a_sidecar_is_up_when_its_post_start_hook_ended() {
    let pod = sample::pod(Always, &["s"], &["c"]);
    let pod = sample::with(&pod, "s", |container| {
        container.sidecar = true;
        container.post_start = Some(Handler::Sleep(Duration::from_secs(3)));
    });
    let mut case = Case::new(pod);
    case.run(1, "s", 0, RUNS);
    assert_eq!(case.due(1).0, ["PostStart s"]);
    case.hooking(1, "s", HookKind::PostStart);
    assert_eq!(case.due(1), (vec![], None));
    case.hooked(4, "s", HookKind::PostStart, false);
    assert_eq!(case.due(4).0, ["start c"]);
}
