//! How containers are stopped: probes, preStop, grace, the order, the deadline of a pod, the end of the machine.

use super::*;
use crate::pod::spec::Handler;

fn pod(grace: u64, init: &[&str], mains: &[&str]) -> Pod {
    Pod { grace: Duration::from_secs(grace), ..(*sample::pod(Always, init, mains)).clone() }
}

fn hook() -> Option<Handler> {
    Some(Handler::Exec(vec!["/bin/true".into()]))
}

/// E15: Kubernetes' TestKillContainerGracePeriod, seconds from the stop to the kill.
#[test]
fn e15_a_probe_may_have_a_grace_of_its_own() {
    let (live, startup) = (ProbeKind::Liveness, ProbeKind::Startup);
    let table = [
        (0, None, None, live, 2),
        (60, None, None, live, 60),
        (10, Some(60), None, live, 60),
        (60, None, Some(10), startup, 10),
        (60, Some(30), Some(10), live, 30),
        (60, Some(10), None, startup, 60),
        (60, None, Some(10), live, 60),
        (60, Some(1), None, live, 2),
        (1, None, Some(30), startup, 30),
    ];
    for (grace, liveness, start, failed, kill) in table {
        let spec = sample::with(&pod(grace, &[], &["c"]), "c", |container| {
            container.liveness = sample::probe(liveness);
            container.startup = sample::probe(start);
        });
        let mut case = Case::new(spec);
        case.run(1, "c", 0, RUNS);
        case.probed(10, "c", failed, false);
        assert_eq!(case.due(10).0, ["stop c"]);
        case.signal(10, "c", 0, false);
        let row = format!("{grace} {liveness:?} {start:?} {failed:?}");
        assert_eq!(case.due(10), (vec![], Some(Tick::seconds(10 + kill))), "{row}");
    }
    // Rows 7 and 8: for another reason it is the pod's.
    let spec = sample::with(&pod(60, &[], &["c"]), "c", |c| {
        (c.liveness, c.startup) = (sample::probe(Some(10)), sample::probe(Some(10)));
    });
    let mut case = Case::new(spec);
    case.run(1, "c", 0, RUNS);
    case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
    case.signal(10, "c", 0, false);
    assert_eq!(case.due(10).1, Some(Tick::seconds(70)));
}

#[test]
fn a_container_that_fails_its_probe_is_restarted_as_its_policy_says() {
    let table = [
        (Always, 0, "will be restarted", vec!["start c"]),
        // It was stopped to be restarted, so that its exit code is not asked.
        (OnFailure, 0, "will be restarted", vec!["start c"]),
        (Never, 143, "liveness probe", vec![]),
    ];
    for (policy, code, message, due) in table {
        let spec = sample::pod(policy, &[], &["c", "d"]);
        let mut case = Case::new(sample::with(&spec, "c", |c| c.liveness = sample::probe(None)));
        case.run(1, "c", 0, RUNS);
        case.run(1, "d", 0, RUNS);
        case.probed(10, "c", ProbeKind::Liveness, false);
        case.signal(10, "c", 0, false);
        let told = &case.world.events.back().unwrap().message;
        assert!(told.starts_with("Container c failed liveness probe") && told.ends_with(message), "{told}");
        case.exit(11, "c", 0, code);
        assert_eq!(case.due(11).0, due, "{policy:?}");
    }
}

#[test]
fn a_pre_stop_hook_goes_before_the_signal_and_takes_from_the_grace() {
    let spec = sample::with(&pod(30, &[], &["c", "d"]), "c", |c| c.pre_stop = hook());
    let mut case = Case::new(spec.clone());
    case.run(1, "c", 0, RUNS);
    case.run(1, "d", 0, RUNS);
    case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
    assert_eq!(case.due(10).0, ["PreStop c", "stop d"]);
    case.hooking(10, "c", HookKind::PreStop);
    case.exit(10, "d", 0, 0);
    assert_eq!(case.due(11), (vec![], Some(Tick::seconds(40))));
    let mut endless = Case { desired: case.desired.clone(), world: case.world.clone() };
    // A hook that fails is told, and no more.
    case.hooked(25, "c", HookKind::PreStop, true);
    assert_eq!(case.due(25).0, ["stop c"]);
    case.signal(25, "c", 0, false);
    assert_eq!(case.due(25), (vec![], Some(Tick::seconds(40))));
    assert_eq!(endless.due(40).0, ["stop c"], "cut by the deadline");
    endless.signal(40, "c", 0, false);
    assert_eq!(endless.due(40), (vec![], Some(Tick::seconds(42))), "2 s at least");

    // A failed probe has it called too.
    let mut case = Case::new(sample::with(&spec, "c", |c| c.startup = sample::probe(None)));
    case.run(1, "c", 0, RUNS);
    case.run(1, "d", 0, RUNS);
    case.probed(10, "c", ProbeKind::Startup, false);
    assert_eq!(case.due(10).0, ["PreStop c"]);
    case.hooking(10, "c", HookKind::PreStop);
    case.hooked(12, "c", HookKind::PreStop, false);
    assert_eq!(case.due(12).0, ["stop c"]);

    // None for a container without grace, nor for one that has ended.
    let mut case = Case::new(sample::with(&spec, "c", |c| c.liveness = sample::probe(Some(0))));
    case.run(1, "c", 0, RUNS);
    case.run(1, "d", 0, RUNS);
    case.probed(10, "c", ProbeKind::Liveness, false);
    assert_eq!(case.due(10).0, ["stop c"]);
    case.exit(11, "c", 0, 0);
    case.exit(11, "d", 0, 0);
    case.learn(11, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
    assert_eq!(case.due(11).0, ["tear down u1"]);
}

/// E17, Kubernetes' termination order tests: the seconds that each container's signal waits.
#[test]
fn e17_sidecars_are_stopped_after_all_others_in_reverse() {
    let table: [(&[&str], u64, u64, &[(&str, u64)]); 3] = [
        (&["s1"], 1000, 30, &[("c", 0), ("s1", 1)]),
        (&["s1", "s2", "s3"], 1250, 30, &[("c", 0), ("s3", 1), ("s2", 2), ("s1", 3)]),
        (&["s1", "s2", "s3"], 1000, 2, &[("c", 0), ("s3", 1), ("s2", 2), ("s1", 2)]),
    ];
    for (sidecars, takes, grace, waits) in table {
        let mut spec = Arc::new(pod(grace, sidecars, &["c"]));
        for name in sidecars {
            spec = sample::with(&spec, name, |container| container.sidecar = true);
        }
        let mut case = Case::new(spec.clone());
        for container in spec.all() {
            case.run(1, &container.name, 0, RUNS);
        }
        let begin = Tick::seconds(10);
        case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
        let (mut now, mut told, mut ends) = (begin, Vec::new(), Vec::new());
        loop {
            let planned = plan(&case.desired, &case.world, now);
            for action in &planned.actions {
                if let Action::Signal { uid, container, run, kill } = action {
                    assert!(!kill, "{container} is killed");
                    told.push((container.clone(), (now - begin).as_secs()));
                    ends.push((now + Duration::from_millis(takes), container.clone()));
                    let (uid, container, run, kill) = (uid.clone(), container.clone(), *run, *kill);
                    case.world.learn(Fact::Signalled { uid, container, run, kill }, now);
                }
            }
            let end = ends.iter().map(|(at, _)| *at).min();
            let Some(next) = [planned.wake_at, end].into_iter().flatten().min() else { break };
            now = next;
            for (_, container) in ends.extract_if(.., |(at, _)| *at <= now) {
                let (uid, exit) = (UID.to_owned(), Exit::default());
                case.world.learn(Fact::Exited { uid, container, run: 0, exit }, now);
            }
            if told.len() == waits.len() && ends.is_empty() {
                break;
            }
        }
        let told: Vec<_> = told.iter().map(|(name, at)| (name.as_str(), *at)).collect();
        assert_eq!(told, waits);
    }
}

#[test]
fn pre_stop_hooks_of_sidecars_run_with_all_others() {
    let spec = sample::with(&pod(30, &["s"], &["c"]), "s", |container| {
        container.sidecar = true;
        container.pre_stop = hook();
    });
    let mut case = Case::new(spec);
    case.run(1, "s", 0, RUNS);
    case.run(1, "c", 0, RUNS);
    case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
    assert_eq!(case.due(10).0, ["stop c", "PreStop s"]);
    case.signal(10, "c", 0, false);
    case.hooking(10, "s", HookKind::PreStop);
    case.hooked(11, "s", HookKind::PreStop, false);
    assert_eq!(case.due(11), (vec![], Some(Tick::seconds(40))), "its signal is withheld");
    // A probe that fails now changes no order.
    case.probed(12, "s", ProbeKind::Liveness, false);
    assert_eq!(case.due(12).0, [""; 0]);
    case.exit(13, "c", 0, 0);
    assert_eq!(case.due(13).0, ["stop s"]);
}

/// E20: Kubernetes' active_deadline_test, a minute after the admission.
#[test]
fn e20_an_active_deadline_ends_a_pod_for_good() {
    for (limit, due) in [(Some(30), vec!["expire u1"]), (Some(120), vec![]), (None, vec![])] {
        let limit = limit.map(Duration::from_secs);
        let mut case = Case::new(Arc::new(Pod { deadline: limit, ..pod(10, &[], &["c"]) }));
        case.run(1, "c", 0, RUNS);
        assert_eq!(case.due(60).0, due, "{limit:?}");
        if due.is_empty() {
            assert_eq!(case.due(60).1, limit.map(|limit| Tick::seconds(0) + limit));
            continue;
        }
        assert_eq!(case.due(29), (vec![], Some(Tick::seconds(30))));
        case.learn(30, Fact::Expired { uid: UID.into() });
        assert_eq!(case.due(30).0, ["stop c"]);
        case.signal(30, "c", 0, false);
        assert_eq!(case.due(30).1, Some(Tick::seconds(40)));
        case.exit(31, "c", 0, 143);
        assert_eq!(case.due(1000), (vec![], None), "nothing runs again");
    }
    let mut case = Case::new(Arc::new(Pod {
        deadline: Some(Duration::from_secs(30)),
        restart: Never,
        ..pod(10, &[], &["c"])
    }));
    case.run(1, "c", 0, GOOD);
    assert_eq!(case.due(60), (vec![], None), "it was over before");
}

/// I13, Kubernetes' node shutdown tests: the groups, in seconds, and who waits for whom.
#[test]
fn i13_an_ending_machine_stops_critical_pods_last() {
    // Total, critical: what others get, what critical ones get after them; None: all at once.
    let table = [
        (300, Some(120), Some((180, 120))),
        (20, Some(10), Some((10, 10))),
        (30, Some(10), Some((20, 10))),
        (30, Some(25), Some((5, 25))),
        (30, None, None),
        (30, Some(0), None),
        // Nor is this one with a kubelet.
        (0, Some(0), None),
        (0, None, None),
        // A kubelet takes this for no graceful shutdown at all; here every end is graceful.
        (1, Some(100), None),
    ];
    for (total, critical, groups) in table {
        let plain = Pod { uid: "u1".into(), ..pod(600, &[], &["c"]) };
        let vital = Pod { uid: "u2".into(), name: "vital".into(), priority: 2_000_000_000, ..plain.clone() };
        let mut case = Case::new(Arc::new(plain));
        let vital = Arc::new(vital);
        let (uid, container) = (|| "u2".to_owned(), || "c".to_owned());
        case.desired.pods.push(vital.clone());
        case.run(1, "c", 0, RUNS);
        case.learn(1, Fact::Admitted { pod: vital });
        case.learn(1, Fact::SetUp { uid: uid(), ip: None });
        let (helper, stdout, stderr) = (5, 6, 7);
        case.learn(1, Fact::Starting { uid: uid(), container: container(), run: 0, helper, stdout, stderr });
        case.learn(1, Fact::Started { uid: uid(), container: container(), run: 0, pid: 10 });
        case.desired.ending = true;
        case.desired.ending_grace = Some(Duration::from_secs(total));
        case.desired.ending_grace_critical = critical.map(Duration::from_secs);
        let Some((others, last)) = groups else {
            assert_eq!(case.due(10).0, ["dismiss u1", "dismiss u2"], "{total} {critical:?}");
            continue;
        };
        assert_eq!(case.due(10).0, ["dismiss u1"]);
        case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Ending });
        case.signal(10, "c", 0, false);
        assert_eq!(case.due(10), (vec![], Some(Tick::seconds(10 + others))));
        let mut late = Case { desired: case.desired.clone(), world: case.world.clone() };
        assert_eq!(late.due(10 + others).0, ["kill c", "dismiss u2"], "their time is over");
        case.exit(12, "c", 0, 0);
        assert_eq!(case.due(12).0, ["tear down u1", "dismiss u2"], "they have ended");
        late.learn(12, Fact::Dismissed { uid: uid(), why: Dismissal::Ending });
        late.learn(12, Fact::Signalled { uid: uid(), container: container(), run: 0, kill: false });
        late.exit(12, "c", 0, 0);
        late.learn(12, Fact::TornDown { uid: UID.into() });
        assert_eq!(late.due(12), (vec![], Some(Tick::seconds(12 + last))));
    }
}
