//! Images that are found damaged.

use super::*;

fn damaged(case: &mut Case, second: u64, name: &str, layer: bool) {
    let (uid, container, what) = (UID.to_owned(), name.to_owned(), "layers/1.erofs: damaged".to_owned());
    case.learn(second, Fact::ImageDamaged { uid, container, what, layer });
}

fn found(case: &mut Case, second: u64, name: &str) {
    let (uid, container) = (UID.to_owned(), name.to_owned());
    case.learn(second, Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
}

fn find(name: &str) -> Action {
    Action::Find { uid: UID.into(), container: name.into() }
}

fn stop(name: &str, run: u32) -> Action {
    Action::Signal { uid: UID.into(), container: name.into(), run, kill: false }
}

fn due(case: &Case, second: u64) -> (Vec<Action>, Option<Tick>) {
    let plan = plan(&case.desired, &case.world, Tick::seconds(second));
    (plan.actions, plan.wake_at)
}

#[test]
fn what_runs_from_a_damaged_file_runs_on_until_there_is_a_whole_one() {
    let mut case = Case::new(sample::pod(Always, &[], &["c"]));
    case.run(1, "c", 0, None);
    damaged(&mut case, 100, "c", true);
    assert_eq!(due(&case, 100), (vec![find("c")], None));
    let (uid, container) = (|| UID.to_owned(), || "c".to_owned());
    case.learn(100, Fact::ImagePulling { uid: uid(), container: container(), lacking: Vec::new() });
    assert_eq!(due(&case, 101), (vec![], None));
    // Its registry is gone: tried again with back-off, and nobody is stopped.
    let mut at = 130;
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        case.learn(at, Fact::ImageMissing { uid: uid(), container: container(), why: "gone".into() });
        assert_eq!(due(&case, at), (vec![], Some(Tick::seconds(at + wait))));
        at += wait;
        assert_eq!(due(&case, at), (vec![find("c")], None));
    }
    found(&mut case, at, "c");
    assert_eq!(due(&case, at), (vec![stop("c", 0)], None));
    case.signal(at, "c", 0, false);
    // Its grace is the pod's.
    assert_eq!(due(&case, at), (vec![], Some(Tick::seconds(at + 30))));
    case.exit(at + 1, "c", 0, 143);
    let start = |run| Action::Start { uid: UID.into(), container: "c".into(), run };
    assert_eq!(due(&case, at + 1), (vec![start(1)], None));
    case.run(at + 1, "c", 1, None);
    assert_eq!(due(&case, at + 2), (vec![], None), "once");
    assert_eq!(case.world.pods[UID].containers["c"].restarts, 1);
    let events: Vec<_> = case.world.events.iter().map(|event| event.reason.as_str()).collect();
    assert!(events.contains(&"ImageDamaged") && events.contains(&"Killing"), "{events:?}");
    // Its own first crash waits for nothing, as if it had never run before.
    case.exit(at + 3, "c", 1, 1);
    assert_eq!(due(&case, at + 3), (vec![start(2)], None));
}

#[test]
fn only_what_is_to_run_for_ever_and_from_that_file_is_restarted() {
    for (policy, layer, restarted) in [
        (Always, true, true),
        (OnFailure, true, false),
        (Never, true, false),
        // A configuration or a tag: what runs does not run from it.
        (Always, false, false),
    ] {
        let mut case = Case::new(sample::pod(policy, &[], &["c", "other"]));
        case.run(1, "c", 0, None);
        case.run(1, "other", 0, None);
        damaged(&mut case, 5, "c", layer);
        assert_eq!(due(&case, 5).0, [find("c")], "{policy:?} {layer}");
        found(&mut case, 6, "c");
        let expected = if restarted { vec![stop("c", 0)] } else { vec![] };
        assert_eq!(due(&case, 6).0, expected, "{policy:?} {layer}");
    }
    // An init container that is at work goes on.
    let mut case = Case::new(sample::pod(Always, &["i"], &["c"]));
    case.run(1, "i", 0, None);
    damaged(&mut case, 5, "i", true);
    found(&mut case, 6, "i");
    assert_eq!(due(&case, 6).0, []);
}

#[test]
fn crashes_before_the_damage_was_found_are_forgiven() {
    let mut case = Case::new(sample::pod(Always, &[], &["c"]));
    for (run, second) in [(0, 1), (1, 2), (2, 13), (3, 34)] {
        case.run(second, "c", run, Some((135, false)));
    }
    assert_eq!(due(&case, 40), (vec![], Some(Tick::seconds(74))));
    damaged(&mut case, 41, "c", false);
    assert_eq!(due(&case, 41), (vec![find("c")], None), "at once");
    found(&mut case, 42, "c");
    let start = Action::Start { uid: UID.into(), container: "c".into(), run: 4 };
    assert_eq!(due(&case, 42), (vec![start], None));
    case.run(42, "c", 4, Some((1, false)));
    let again = Action::Start { uid: UID.into(), container: "c".into(), run: 5 };
    assert_eq!(due(&case, 43), (vec![again], None));
    case.run(43, "c", 5, Some((1, false)));
    assert_eq!(due(&case, 44), (vec![], Some(Tick::seconds(53))), "its own crashes count again");
}
