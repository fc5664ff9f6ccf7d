//! F6: the kubelet's `worker_test.go` as tables. Where the kubelet stores a result for a container that does not run, we
//! store none: status and plan look at the run first. It also stores a success for a deleted pod's liveness and
//! startup; here both are just not tried any more.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::pod::facts::{Dismissal, Exit, Fact, HookKind, World};
use crate::pod::sample;
use crate::pod::spec::{Handler, Pod, RestartPolicy};

fn probe(success: u32, failure: u32) -> Probe {
    Probe {
        handler: Handler::Tcp { host: None, port: 80 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success,
        failure,
        grace: None,
    }
}

fn begin(started: u64) -> Begin {
    Begin { started: Tick::seconds(started), verdict: None, spread: None }
}

/// Tries at every due time: `+` success, `-` failure, `!` error. Returns the verdict told after each, `.` for none.
fn verdicts(worker: &mut Worker, results: &str) -> String {
    results
        .chars()
        .map(|result| {
            let due = worker.due().expect("a due time");
            let healthy = worker.healthy();
            let told = worker.tried(
                match result {
                    '+' => Try::Success("fine".into()),
                    '-' => Try::Failure("bad".into()),
                    _ => Try::Error("broken".into()),
                },
                due,
            );
            let failed = told.contains(&Told::Failed { error: false, why: "bad".into() });
            let errors = told.contains(&Told::Failed { error: true, why: "broken".into() });
            assert_eq!((failed, errors), (result == '-', result == '!'), "{told:?}");
            assert!(!healthy || result != '+' || told.is_empty(), "{told:?}");
            match told.last() {
                Some(Told::Verdict { ok: true, .. }) => '+',
                Some(Told::Verdict { ok: false, .. }) => '-',
                Some(Told::Failed { .. }) | None => '.',
            }
        })
        .collect()
}

#[test]
fn f6_thresholds_turn_a_row_of_results_into_verdicts() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let table = [
        // Worker.go: TestFailureThreshold and TestSuccessThreshold.
        (Readiness, 1, 3, "+++--+---+", "+.......-+"),
        (Readiness, 3, 1, "++-+++-", ".....+-"),
        (Readiness, 1, 1, "-+", ".+"),
        (Readiness, 1, 3, "+--!-", "+...-"),
        (Readiness, 2, 1, "+!+", "..+"),
        (Liveness, 1, 3, "+--+---", "......-"),
        (Liveness, 1, 1, "-", "-"),
        (Startup, 1, 3, "--+", "..+"),
        (Startup, 1, 3, "---", "..-"),
        (Startup, 1, 1, "!!+", "..+"),
    ];
    for (kind, success, failure, results, expected) in table {
        let mut worker = Worker::new(kind, &probe(success, failure), begin(0), Tick::seconds(0));
        let seen = verdicts(&mut worker, results);
        assert_eq!(seen, expected, "{kind:?} {success}/{failure} {results}");
    }
}

#[test]
fn a_decided_startup_and_a_failed_liveness_are_on_hold() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let table = [
        (Liveness, "-", false),
        (Liveness, "+", true),
        (Startup, "-", false),
        (Startup, "+", false),
        (Readiness, "-", true),
        (Readiness, "+", true),
    ];
    for (kind, result, goes_on) in table {
        let mut worker = Worker::new(kind, &probe(1, 1), begin(0), Tick::seconds(0));
        verdicts(&mut worker, result);
        assert_eq!(worker.due().is_some(), goes_on, "{kind:?} {result}");
    }
}

#[test]
fn a_try_is_due_at_once_after_the_initial_delay_and_every_period() {
    let delayed = Probe { initial_delay: Duration::from_secs(10), ..probe(1, 1) };
    let due = |probe: &Probe, begin: Begin, now: u64| {
        Worker::new(ProbeKind::Readiness, probe, begin, Tick::seconds(now)).due()
    };
    assert_eq!(due(&probe(1, 1), begin(5), 5), Some(Tick::seconds(5)));
    assert_eq!(due(&delayed, begin(5), 5), Some(Tick::seconds(15)));
    assert_eq!(due(&delayed, begin(5), 105), Some(Tick::seconds(105)));
    let spread = Begin { spread: Some(500), ..begin(5) };
    assert_eq!(due(&probe(1, 1), spread, 105), Some(Tick::seconds(110)));
    assert_eq!(due(&delayed, Begin { spread: Some(0), ..spread }, 6), Some(Tick::seconds(15)));

    let mut worker = Worker::new(ProbeKind::Readiness, &probe(1, 1), begin(5), Tick::seconds(5));
    worker.tried(Try::Success(String::new()), Tick::seconds(6));
    assert_eq!(worker.due(), Some(Tick::seconds(15)), "from when it was due, not from when it was done");
    worker.tried(Try::Success(String::new()), Tick::seconds(40));
    assert_eq!(worker.due(), Some(Tick::seconds(40)), "what was missed is not made up for");
}

#[test]
fn another_worker_of_the_same_run_goes_on_from_the_verdict() {
    let resumed = Begin { verdict: Some(true), ..begin(0) };
    let mut worker = Worker::new(ProbeKind::Readiness, &probe(1, 3), resumed, Tick::seconds(100));
    assert_eq!(verdicts(&mut worker, "++--+---"), ".......-", "ready stays ready");
    let mut worker = Worker::new(ProbeKind::Startup, &probe(1, 3), resumed, Tick::seconds(100));
    assert_eq!(worker.due(), None);
    assert_eq!(worker.tried(Try::Success(String::new()), Tick::seconds(100)), [], "told twice");
}

#[test]
fn what_is_told_is_short_and_whole_letters() {
    let mut worker = Worker::new(ProbeKind::Readiness, &probe(1, 1), begin(0), Tick::seconds(0));
    let told = worker.tried(Try::Failure("é".repeat(5000) + "\n"), Tick::seconds(0));
    assert_eq!(told, [Told::Failed { error: false, why: "é".repeat(512) }]);
    let told = worker.tried(Try::Failure("down\n".into()), Tick::seconds(0));
    assert_eq!(told, [Told::Failed { error: false, why: "down".into() }]);
}

/// The kubelet's TestProbe: what one try leads to, where one is enough. Its unknown result that is no error cannot be
/// here: a try is a success, a failure or an error, and an error changes nothing.
#[test]
fn f3_a_try_succeeds_fails_or_tells_nothing() {
    for (kind, results) in KINDS.into_iter().zip([["+", "-", "."], [".", "-", "."], ["+", ".", "."]]) {
        for (result, expected) in ["+", "-", "!"].into_iter().zip(results) {
            let mut worker = Worker::new(kind, &probe(1, 1), begin(0), Tick::seconds(0));
            assert_eq!(verdicts(&mut worker, result), expected, "{kind:?} {result}");
        }
    }
}

/// Container `c` with all three probes, and a hook where wanted.
struct Case {
    world: World,
    pod: Arc<Pod>,
}

impl Case {
    fn new(hook: bool, startup: bool) -> Self {
        let mut pod = Pod::clone(&sample::pod(RestartPolicy::Never, &[], &["c"]));
        for container in &mut pod.containers {
            container.startup = startup.then(|| probe(1, 1));
            container.liveness = Some(probe(1, 1));
            container.readiness = Some(probe(1, 1));
            container.post_start = hook.then_some(Handler::Sleep(Duration::ZERO));
        }
        let pod = Arc::new(pod);
        let mut case = Case { world: World::default(), pod: pod.clone() };
        case.learn(Fact::Admitted { pod });
        case
    }

    fn learn(&mut self, fact: Fact) {
        self.world.learn(fact, Tick::seconds(1));
    }

    fn starting(mut self) -> Self {
        let (uid, container) = ("u1".to_owned(), "c".to_owned());
        self.learn(Fact::Starting { uid, container, run: 0, helper: 5, stdout: 6, stderr: 7 });
        self
    }

    fn started(self) -> Self {
        let mut case = self.starting();
        case.learn(Fact::Started { uid: "u1".into(), container: "c".into(), run: 0, pid: 9 });
        case
    }

    fn verdict(mut self, probe: ProbeKind, ok: bool) -> Self {
        let (uid, container, why) = ("u1".to_owned(), "c".to_owned(), String::new());
        self.learn(Fact::Probed { uid, container, run: 0, probe, ok, why });
        self
    }

    fn hook(mut self, ended: Option<Option<String>>) -> Self {
        let (uid, container, hook) = (|| "u1".to_owned(), || "c".to_owned(), HookKind::PostStart);
        self.learn(Fact::Hooking { uid: uid(), container: container(), run: 0, hook, helper: 0 });
        if let Some(failed) = ended {
            self.learn(Fact::Hooked { uid: uid(), container: container(), run: 0, hook, failed });
        }
        self
    }

    fn dismissed(mut self) -> Self {
        self.learn(Fact::Dismissed { uid: "u1".into(), why: Dismissal::Removed });
        self
    }

    fn exited(mut self) -> Self {
        let (uid, container) = ("u1".to_owned(), "c".to_owned());
        self.learn(Fact::Exited { uid, container, run: 0, exit: Exit::default() });
        self
    }

    /// Another container of the same name.
    fn again(mut self) -> Self {
        let (uid, container) = (|| "u1".to_owned(), || "c".to_owned());
        let (helper, stdout, stderr) = (5, 6, 7);
        self.learn(Fact::Starting { uid: uid(), container: container(), run: 1, helper, stdout, stderr });
        self.learn(Fact::Started { uid: uid(), container: container(), run: 1, pid: 10 });
        self
    }

    /// Of `SLR`, which are wanted.
    fn wanted(&self) -> String {
        let pod = PodFacts::new(self.pod.clone(), Tick::seconds(0));
        let pod = self.world.pods.get("u1").unwrap_or(&pod);
        let letters = KINDS.into_iter().zip("SLR".chars());
        let container = &self.pod.containers[0];
        letters
            .filter(|(kind, _)| wanted(pod, container, *kind).is_some())
            .map(|(_, letter)| letter)
            .collect()
    }
}

#[test]
fn f6_a_probe_is_tried_only_while_it_means_something() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let all = || Case::new(false, true);
    let two = || Case::new(false, false);
    let hooked = || Case::new(true, false);
    let table = [
        ("no container yet", all(), ""),
        ("it is being started", all().starting(), ""),
        ("it runs, not started", all().started(), "S"),
        ("startup succeeded", all().started().verdict(Startup, true), "LR"),
        ("startup failed", all().started().verdict(Startup, false), ""),
        ("no startup probe", two().started(), "LR"),
        ("liveness succeeded", two().started().verdict(Liveness, true), "LR"),
        ("liveness failed", two().started().verdict(Liveness, false), "R"),
        ("readiness failed", two().started().verdict(Readiness, false), "LR"),
        ("deletion requested", two().started().dismissed(), "R"),
        ("deletion requested before it started", all().started().dismissed(), ""),
        ("it ended", two().started().exited(), ""),
        (
            "row 13: liveness failed, then another container",
            two().started().verdict(Liveness, false).exited().again(),
            "LR",
        ),
        ("row 17: it ended and came again", all().started().verdict(Startup, true).exited().again(), "S"),
        (
            "startup failed, then another container",
            all().started().verdict(Startup, false).exited().again(),
            "S",
        ),
        ("it ended while deletion was requested", two().started().dismissed().exited(), ""),
        ("postStart not begun", hooked().started(), ""),
        ("postStart under way", hooked().started().hook(None), ""),
        ("postStart done", hooked().started().hook(Some(None)), "LR"),
        ("postStart failed", hooked().started().hook(Some(Some("no".into()))), ""),
    ];
    for (situation, case, expected) in table {
        assert_eq!(case.wanted(), expected, "{situation}");
    }
}
