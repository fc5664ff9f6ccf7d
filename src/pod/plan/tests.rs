//! Tables from the kubelet's own tests, and time lines.

mod admit;
mod damage;
mod images;
mod names;
mod order;
mod resize;
mod stops;

use std::sync::Arc;
use std::time::Duration;

use super::{Action, plan};
use crate::clock::Tick;
use crate::pod::facts::{Dismissal, Exit, Fact, HookKind, ProbeKind, StartError, World};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy::{Always, Never, OnFailure};
use crate::pod::spec::{Desired, Pod};

const UID: &str = "u1";

struct Case {
    desired: Desired,
    world: World,
}

impl Case {
    /// Admitted and set up at 0, all images there.
    fn new(pod: Arc<Pod>) -> Self {
        let desired = Desired { pods: vec![pod.clone()], ..Desired::default() };
        let mut case = Case { desired, world: World::default() };
        case.learn(0, Fact::Admitted { pod: pod.clone() });
        case.learn(0, Fact::SetUp { uid: UID.into(), ip: None });
        for container in pod.all() {
            let container = container.name.clone();
            case.learn(
                0,
                Fact::ImageFound { uid: UID.into(), container, id: "sha256:1".into(), pulled: None },
            );
        }
        case
    }

    fn learn(&mut self, second: u64, fact: Fact) {
        self.world.learn(fact, Tick::seconds(second));
    }

    /// A run that starts; `exit`: and ends, and is cleaned, at once.
    fn run(&mut self, second: u64, name: &str, run: u32, exit: Option<(i32, bool)>) {
        let (uid, container) = (|| UID.to_owned(), || name.to_owned());
        self.learn(
            second,
            Fact::Starting { uid: uid(), container: container(), run, helper: 5, stdout: 6, stderr: 7 },
        );
        self.learn(second, Fact::Started { uid: uid(), container: container(), run, pid: 9 });
        if let Some((code, oom)) = exit {
            let exit = Exit { code, oom, ..Exit::default() };
            self.learn(second, Fact::Exited { uid: uid(), container: container(), run, exit });
            self.learn(second, Fact::Cleaned { uid: uid(), container: container(), run });
        }
    }

    fn signal(&mut self, second: u64, name: &str, run: u32, kill: bool) {
        self.learn(second, Fact::Signalled { uid: UID.into(), container: name.into(), run, kill });
    }

    fn exit(&mut self, second: u64, name: &str, run: u32, code: i32) {
        let exit = Exit { code, ..Exit::default() };
        self.learn(second, Fact::Exited { uid: UID.into(), container: name.into(), run, exit });
        self.learn(second, Fact::Cleaned { uid: UID.into(), container: name.into(), run });
    }

    fn probed(&mut self, second: u64, name: &str, probe: ProbeKind, ok: bool) {
        let (uid, container) = (UID.to_owned(), name.to_owned());
        self.learn(second, Fact::Probed { uid, container, run: 0, probe, ok, why: String::new() });
    }

    fn hooking(&mut self, second: u64, name: &str, hook: HookKind) {
        let (uid, container) = (UID.to_owned(), name.to_owned());
        self.learn(second, Fact::Hooking { uid, container, run: 0, hook, helper: 0 });
    }

    fn hooked(&mut self, second: u64, name: &str, hook: HookKind, failed: bool) {
        let (uid, container) = (UID.to_owned(), name.to_owned());
        let failed = failed.then(|| "exit code 1".to_owned());
        self.learn(second, Fact::Hooked { uid, container, run: 0, hook, failed });
    }

    /// What is due: `start c`, `stop c`, `kill c`, ...
    fn due(&self, second: u64) -> (Vec<String>, Option<Tick>) {
        let plan = plan(&self.desired, &self.world, Tick::seconds(second));
        (plan.actions.iter().map(word).collect(), plan.wake_at)
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Admit(pod) => format!("admit {}", pod.uid),
        Action::Dismiss { uid, .. } => format!("dismiss {uid}"),
        Action::SetUp { uid } => format!("set up {uid}"),
        Action::TearDown { uid, .. } => format!("tear down {uid}"),
        Action::Allocate(pod) => format!("allocate {}", pod.uid),
        Action::Postpone { pod, reason, .. } => format!("postpone {}: {reason}", pod.uid),
        Action::Resize { uid, of, .. } => {
            format!("resize {}", of.as_ref().map_or(uid, |(container, _)| container))
        }
        Action::Find { container, .. } => format!("find {container}"),
        Action::BackOff { container, .. } => format!("back off {container}"),
        Action::Start { container, .. } => format!("start {container}"),
        Action::Signal { container, kill: false, .. } => format!("stop {container}"),
        Action::Signal { container, kill: true, .. } => format!("kill {container}"),
        Action::RestartAll { container, .. } => format!("restart all for {container}"),
        Action::Expire { uid } => format!("expire {uid}"),
        Action::Clean { container, .. } => format!("clean {container}"),
        Action::Hook { container, hook, .. } => format!("{hook:?} {container}"),
        Action::Project { uid } => format!("project {uid}"),
        Action::Withdraw { uid } => format!("withdraw {uid}"),
        Action::Note(fact) => format!("note {fact:?}"),
        Action::Reject { pod, reason, .. } => format!("reject {}: {reason}", pod.uid),
    }
}

const RUNS: Option<(i32, bool)> = None;
const GOOD: Option<(i32, bool)> = Some((0, false));

fn bad(code: i32) -> Option<(i32, bool)> {
    Some((code, false))
}

/// E3 and E4: Kubernetes' TestShouldContainerBeRestarted and TestComputePodActions.
#[test]
fn e4_regular_containers_start_as_the_policy_says() {
    let table = [
        (Always, vec![], vec!["start 0", "start 1", "start 2"]),
        (Always, vec![("0", RUNS), ("1", RUNS), ("2", RUNS)], vec![]),
        (Always, vec![("0", GOOD), ("1", bad(111)), ("2", RUNS)], vec!["start 0", "start 1"]),
        (OnFailure, vec![("0", GOOD), ("1", bad(111)), ("2", RUNS)], vec!["start 1"]),
        (Never, vec![("0", GOOD), ("1", bad(111)), ("2", RUNS)], vec![]),
        (Never, vec![("0", RUNS), ("2", RUNS)], vec!["start 1"]),
        (OnFailure, vec![("0", GOOD), ("1", GOOD), ("2", GOOD)], vec![]),
    ];
    for (policy, runs, due) in table {
        let mut case = Case::new(sample::pod(policy, &[], &["0", "1", "2"]));
        for (name, exit) in &runs {
            case.run(1, name, 0, *exit);
        }
        assert_eq!(
            case.due(1),
            (due.iter().map(|word| (*word).to_owned()).collect(), None),
            "{policy:?} {runs:?}"
        );
    }
}

/// E5 and E8: Kubernetes' TestComputePodActionsWithInitContainers and TestIsInitContainerFailed.
#[test]
fn e5_init_containers_start_one_by_one() {
    let oom = Some((0, true));
    let mains = ["start 0", "start 1", "start 2"];
    let done = [("a", GOOD), ("b", GOOD)];
    let table = [
        (Always, vec![done[0], done[1], ("c", GOOD)], &mains[..]),
        (Always, vec![], &["start a"]),
        (Always, vec![done[0], done[1], ("c", RUNS)], &[]),
        (Always, vec![done[0], done[1], ("c", bad(137))], &["start c"]),
        (OnFailure, vec![done[0], done[1], ("c", bad(137))], &["start c"]),
        (Never, vec![done[0], done[1], ("c", bad(137))], &[]),
        (OnFailure, vec![done[0], done[1], ("c", oom)], &["start c"]),
        (Never, vec![done[0], done[1], ("c", oom)], &[]),
        (Never, vec![done[0]], &["start b"]),
        // Only a later one is known: the earlier ones are not run again.
        (Always, vec![("c", RUNS)], &[]),
        (Always, vec![("1", RUNS)], &["start 0", "start 2"]),
    ];
    for (policy, runs, due) in table {
        let mut case = Case::new(sample::pod(policy, &["a", "b", "c"], &["0", "1", "2"]));
        for (name, exit) in &runs {
            case.run(1, name, 0, *exit);
        }
        assert_eq!(
            case.due(1),
            (due.iter().map(|word| (*word).to_owned()).collect(), None),
            "{policy:?} {runs:?}"
        );
    }
}

/// E10: Kubernetes' container_restart_test, the starts of a container that always fails at once.
#[test]
fn e10_a_crash_loop_starts_at_the_kubelets_times() {
    let table: [(Option<u64>, &[u64]); 5] = [
        (Some(1), &[0, 0, 1, 2, 3, 4, 5]),
        (None, &[0, 0, 10, 30, 70, 150, 310, 610, 910]),
        (Some(2), &[0, 0, 2, 4, 6, 8]),
        (Some(11), &[0, 0, 10, 21, 32]),
        // client-go's TestIsInBackOffSinceUpdate, times ten.
        (Some(100), &[0, 0, 10, 30, 70, 150, 250, 350]),
    ];
    for (cap, starts) in table {
        let mut case = Case::new(sample::pod(Always, &[], &["c"]));
        case.desired.restart_cap = cap.map(Duration::from_secs);
        for (run, window) in starts.windows(2).enumerate() {
            case.run(window[0], "c", run as u32, bad(1));
            let (now, wake) = case.due(window[0]);
            if window[1] == window[0] {
                assert_eq!(now, ["start c"], "cap {cap:?}, run {run}");
            } else {
                assert_eq!((now.len(), wake), (0, Some(Tick::seconds(window[1]))), "cap {cap:?}, run {run}");
                assert_eq!(case.due(window[1]).0, ["start c"]);
            }
        }
    }
}

/// E11, rows 12 and 13: a back-off is forgotten 10 minutes after its last raise, with a smaller cap too.
#[test]
fn e11_a_long_run_forgives_all_crashes() {
    let table = [(None, 700, Some(710)), (None, 701, None), (Some(5), 106, Some(111)), (Some(5), 701, None)];
    for (cap, ends, wake) in table {
        let wake = wake.map(Tick::seconds);
        let mut case = Case::new(sample::pod(Always, &[], &["c"]));
        case.desired.restart_cap = cap.map(Duration::from_secs);
        case.run(100, "c", 0, bad(1));
        // The restart at 100 raises the back-off; the run ends 600 or 601 s later.
        case.run(100, "c", 1, RUNS);
        let exit = Exit { code: 1, ..Exit::default() };
        case.learn(ends, Fact::Exited { uid: UID.into(), container: "c".into(), run: 1, exit });
        case.learn(ends, Fact::Cleaned { uid: UID.into(), container: "c".into(), run: 1 });
        assert_eq!(case.due(ends).1, wake);
    }
}

#[test]
fn our_own_trouble_is_retried_soon_and_counts_no_restart() {
    let mut case = Case::new(sample::pod(Never, &[], &["c"]));
    let mut at = 0;
    for (run, wait) in [100, 200, 400, 800, 1600, 3200, 5000, 5000].into_iter().enumerate() {
        let (uid, container, run) = (UID.to_owned(), "c".to_owned(), run as u32);
        let why = StartError { reason: "StartError".into(), message: "killed".into(), ours: true };
        case.world
            .learn(Fact::StartFailed { uid: uid.clone(), container: container.clone(), run, why }, Tick(at));
        case.world.learn(Fact::Cleaned { uid, container, run }, Tick(at));
        let next = at + wait * 1_000_000;
        assert_eq!(plan(&case.desired, &case.world, Tick(at)).wake_at, Some(Tick(next)));
        at = next;
    }
    assert_eq!(case.world.pods[UID].containers["c"].restarts, 0);
}

#[test]
fn a_dismissed_pod_is_stopped_killed_and_torn_down() {
    let mut case = Case::new(sample::pod(Always, &[], &["c", "d"]));
    case.run(1, "c", 0, RUNS);
    case.run(1, "d", 0, RUNS);
    case.desired.pods.clear();
    assert_eq!(case.due(10).0, ["dismiss u1"]);
    case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Removed });
    assert_eq!(case.due(10).0, ["stop c", "stop d"]);
    let signalled =
        |name: &str, kill| Fact::Signalled { uid: UID.into(), container: name.into(), run: 0, kill };
    case.learn(10, signalled("c", false));
    case.learn(10, signalled("d", false));
    assert_eq!(case.due(39), (vec![], Some(Tick::seconds(40))));
    let exited =
        |name: &str| Fact::Exited { uid: UID.into(), container: name.into(), run: 0, exit: Exit::default() };
    case.learn(39, exited("d"));
    assert_eq!(case.due(40).0, ["kill c", "clean d"]);
    case.learn(40, signalled("c", true));
    case.learn(40, Fact::Cleaned { uid: UID.into(), container: "d".into(), run: 0 });
    assert_eq!(case.due(40), (vec![], Some(Tick::seconds(45))));
    assert_eq!(case.due(45).0, ["kill c"]);
    case.learn(45, exited("c"));
    case.learn(45, Fact::Cleaned { uid: UID.into(), container: "c".into(), run: 0 });
    assert_eq!(case.due(45).0, ["tear down u1"]);
    case.learn(45, Fact::TearDownFailed { uid: UID.into(), why: "busy".into() });
    assert_eq!(case.due(45), (vec![], Some(Tick::seconds(46))));
}

/// E15 and E16: Kubernetes' TestKillContainerGracePeriod and Test_calculateEffectiveGracePeriod, and the ending machine's cap.
#[test]
fn e16_grace_has_a_least_and_an_end() {
    let table = [
        (0, None, 12),
        (1, None, 12),
        (30, None, 40),
        (30, Some(5), 15),
        (60, None, 70),
        (60, Some(5), 15),
        (60, Some(0), 12),
        (3, Some(30), 13),
    ];
    for (grace, ending, kill) in table {
        let pod = Pod { grace: Duration::from_secs(grace), ..(*sample::pod(Always, &[], &["c"])).clone() };
        let mut case = Case::new(Arc::new(pod));
        case.run(1, "c", 0, RUNS);
        case.desired.ending = ending.is_some();
        case.desired.ending_grace = ending.map(Duration::from_secs);
        case.learn(10, Fact::Dismissed { uid: UID.into(), why: Dismissal::Ending });
        case.learn(10, Fact::Signalled { uid: UID.into(), container: "c".into(), run: 0, kill: false });
        assert_eq!(case.due(10), (vec![], Some(Tick::seconds(kill))), "{grace} {ending:?}");
    }
}

#[test]
fn a_start_that_hangs_is_killed_after_two_minutes() {
    let mut case = Case::new(sample::pod(Always, &[], &["c"]));
    let (uid, container) = (UID.to_owned(), "c".to_owned());
    case.learn(1, Fact::Starting { uid, container, run: 0, helper: 5, stdout: 6, stderr: 7 });
    assert_eq!(case.due(1), (vec![], Some(Tick::seconds(121))));
    assert_eq!(case.due(121).0, ["kill c"]);
}

#[test]
fn an_edit_under_a_given_uid_had_no_effect() {
    let pod = sample::pod(Always, &[], &["c"]);
    let mut case = Case::new(pod.clone());
    case.run(1, "c", 0, None);
    // The file got another name, and its pod was read anew: it is the same.
    case.desired.pods = vec![Arc::new(Pod { origin: "new.yaml".into(), ..Pod::clone(&pod) })];
    assert_eq!(case.due(2), (vec![], None));
    let mut edited = Pod::clone(&pod);
    edited.containers[0].args = vec!["-v".into()];
    case.desired.pods = vec![Arc::new(edited)];
    let replaced = Action::Dismiss { uid: UID.into(), why: Dismissal::Replaced };
    assert_eq!(plan(&case.desired, &case.world, Tick::seconds(2)).actions, [replaced]);
    case.learn(2, Fact::Dismissed { uid: UID.into(), why: Dismissal::Replaced });
    assert_eq!(case.due(2).0, ["stop c"]);
    case.learn(2, Fact::TornDown { uid: UID.into() });
    assert_eq!(case.due(2).0, ["admit u1"]);
    case.learn(2, Fact::Admitted { pod: case.desired.pods[0].clone() });
    assert_eq!(case.due(2).0, ["set up u1"]);
}
