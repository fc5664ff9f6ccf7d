//! Lives of Jobs and CronJobs: facts in, what is wanted out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::facts::{End, JobFact, Memory};
use super::schedule::{Schedule, Zone};
use super::spec::{Concurrency, Consequence, Cron, Job, Rule};
use crate::clock::{Tick, Wall};
use crate::pod::facts::{Exit, Fact, StartError, World};
use crate::pod::spec::{Desired, RestartPolicy};
use crate::pod::{Action, Planner, Step, plan, sample};

/// 2026-11-25T10:00:00Z at `Tick(0)`.
const MORNING: i64 = 1_795_600_800;

/// A machine whose containers do as the test says.
struct Scene {
    desired: Desired,
    world: World,
    /// Which must come to the same as `plan`.
    planner: Planner,
    now: u64,
    /// The disk takes its time: no end is on it yet.
    slow: bool,
}

impl Scene {
    fn new() -> Scene {
        let wall = Wall::at_boot(MORNING);
        let desired = Desired { certain: true, wall, ..Desired::default() };
        let world = World::default();
        let planner = Planner::new(Desired::default(), &world);
        Scene { desired, world, planner, now: 0, slow: false }
    }

    fn of(job: Job) -> Scene {
        let mut scene = Scene::new();
        scene.want(job);
        scene
    }

    fn want(&mut self, job: Job) {
        self.desired.jobs = vec![Arc::new(job)];
    }

    fn learn(&mut self, fact: Fact) {
        // Twice, as a ledger that is replayed over a snapshot tells it.
        self.world.learn(fact.clone(), Tick::seconds(self.now));
        let once = self.world.clone();
        self.planner.learned(&fact, &self.world);
        self.world.learn(fact, Tick::seconds(self.now));
        assert_eq!(self.world, once);
    }

    /// Does what is due, up to the start of containers, all of which start. Returns when something is due next.
    fn go(&mut self) -> Option<u64> {
        let known = self.planner.desired();
        let wanted = |of: &Desired| (of.jobs.clone(), of.crons.clone(), of.certain);
        if wanted(known) != wanted(&self.desired) {
            self.planner.want(self.desired.clone());
        }
        self.planner.at(self.desired.wall);
        for _ in 0..10_000 {
            let plan = plan(&self.desired, &self.world, Tick::seconds(self.now));
            let told = match plan.actions.first() {
                Some(action) => Step::Act(action.clone()),
                None => Step::Rest(plan.wake_at),
            };
            let now = Tick::seconds(self.now);
            assert_eq!(self.planner.next(&self.world, now), told);
            let Some(action) = plan.actions.first().cloned() else {
                if self.keep() {
                    continue;
                }
                return plan.wake_at.map(|at| at.0.div_ceil(1_000_000_000));
            };
            self.act(action);
        }
        panic!("it does not come to rest");
    }

    /// Whether an end came to the disk.
    fn keep(&mut self) -> bool {
        let ends = if self.slow { Vec::new() } else { self.world.batch.unkept() };
        let some = !ends.is_empty();
        ends.into_iter().for_each(|job| self.learn(Fact::Job(JobFact::Kept { job })));
        some
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Admit(pod) => self.learn(Fact::Admitted { pod }),
            Action::Dismiss { uid, why } => self.learn(Fact::Dismissed { uid, why }),
            Action::Expire { uid } => self.learn(Fact::Expired { uid }),
            Action::SetUp { uid } => self.learn(Fact::SetUp { uid, ip: None }),
            Action::BackOff { .. } => unreachable!("every image is there"),
            Action::Find { uid, container } => {
                self.learn(Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
            }
            Action::Start { uid, container, run } => {
                let (helper, stdout, stderr) = (9, 4, 4);
                let (of, on) = (uid.clone(), container.clone());
                self.learn(Fact::Starting { uid: of, container: on, run, helper, stdout, stderr });
                self.learn(Fact::Started { uid, container, run, pid: 10 });
            }
            Action::Signal { uid, container, run, kill } => {
                self.learn(Fact::Signalled { uid: uid.clone(), container: container.clone(), run, kill });
                let exit = Exit { code: 143, signal: Some(15), ..Exit::default() };
                self.learn(Fact::Exited { uid, container, run, exit });
            }
            Action::Clean { uid, container, run } => self.learn(Fact::Cleaned { uid, container, run }),
            Action::TearDown { uid, .. } => self.learn(Fact::TornDown { uid }),
            Action::Note(fact) => self.learn(Fact::Job(fact)),
            other => panic!("not of this play: {other:?}"),
        }
    }

    /// The names of pods that run, and the Job's number of each.
    fn running(&self) -> Vec<(String, String)> {
        let live = self.world.pods.values().filter(|pod| pod.runs().any(|(_, run)| run.live()));
        live.map(|pod| (pod.spec.uid.clone(), pod.spec.name.clone())).collect()
    }

    /// The first pod that runs ends so.
    fn exit(&mut self, code: i32) -> Option<u64> {
        let uid = self.running().first().expect("a pod that runs").0.clone();
        self.exit_of(&uid, code)
    }

    fn exit_of(&mut self, uid: &str, code: i32) -> Option<u64> {
        let run = self.world.pods[uid].run("c").unwrap().number;
        let exit = Exit { code, ..Exit::default() };
        self.learn(Fact::Exited { uid: uid.into(), container: "c".into(), run, exit });
        self.go()
    }

    fn at(&mut self, second: u64) -> Option<u64> {
        assert!(second >= self.now);
        self.now = second;
        self.go()
    }

    fn facts(&self, uid: &str) -> &super::facts::JobFacts {
        &self.world.batch.jobs[uid]
    }

    /// Succeeded, failed, running, and how it ended.
    fn told(&self) -> (u32, u32, usize, String) {
        let facts = self.facts("j");
        let end = match &facts.finished {
            None => String::new(),
            Some((_, End::Complete, _)) => "Complete".into(),
            Some((_, End::Failed(reason, _), _)) => reason.clone(),
        };
        (facts.progress.succeeded, facts.progress.failed, self.running().len(), end)
    }

    fn index_of(&self, uid: &str) -> u32 {
        self.world.pods[uid].spec.owner.as_ref().unwrap().index.unwrap()
    }

    fn of_index(&self, index: u32) -> String {
        let all = self.running();
        all.into_iter().map(|(uid, _)| uid).find(|uid| self.index_of(uid) == index).expect("its pod")
    }
}

fn job() -> Job {
    job_of(RestartPolicy::Never)
}

fn job_of(restart: RestartPolicy) -> Job {
    Job {
        uid: "j".into(),
        namespace: "default".into(),
        name: "sum".into(),
        origin: "sum.yaml".into(),
        parallelism: 1,
        completions: Some(1),
        backoff_limit: 6,
        pod: sample::pod(restart, &[], &["c"]),
        ..Job::default()
    }
}

fn told(succeeded: u32, failed: u32, running: usize, end: &str) -> (u32, u32, usize, String) {
    (succeeded, failed, running, end.into())
}

#[test]
fn a_job_runs_once_and_its_pod_stays_to_be_read() {
    let mut scene = Scene::of(job());
    scene.go();
    assert_eq!(scene.told(), told(0, 0, 1, ""));
    let (uid, name) = scene.running()[0].clone();
    assert_eq!(uid, "j-0");
    let suffix = name.strip_prefix("sum-").unwrap();
    assert!(
        suffix.len() == 5 && suffix.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b)),
        "{name}"
    );
    assert_eq!(scene.exit(0), None);
    assert_eq!(scene.told(), told(1, 0, 0, "Complete"));
    assert!(scene.world.pods.contains_key("j-0"), "it is there for its logs");
    scene.at(100_000);
    assert_eq!(scene.world.pods.len(), 1);
}

#[test]
fn completions_and_parallelism_are_met_and_not_exceeded() {
    for (completions, parallelism, runs) in [
        (Some(1), 1, vec![1]),
        (Some(5), 2, vec![2, 2, 2, 2, 1]),
        (Some(3), 10, vec![3, 2, 1]),
        (Some(0), 1, vec![]),
        // A queue of work: after the first success nothing new comes.
        (None, 3, vec![3, 2, 1]),
    ] {
        let mut scene = Scene::of(Job { completions, parallelism, ..job() });
        scene.go();
        for (done, expected) in runs.iter().enumerate() {
            assert_eq!(scene.running().len(), *expected, "{completions:?} {parallelism}: after {done}");
            assert_eq!(scene.told().3, "");
            scene.exit(0);
        }
        let expected = told(u32::try_from(runs.len()).unwrap(), 0, 0, "Complete");
        assert_eq!(scene.told(), expected, "{completions:?} {parallelism}");
    }
}

#[test]
fn parallelism_0_waits_and_an_edit_of_it_changes_what_runs() {
    let parallel = |parallelism| Job { parallelism, completions: Some(9), ..job() };
    let mut scene = Scene::of(parallel(0));
    scene.go();
    assert_eq!(scene.told(), told(0, 0, 0, ""));
    for parallelism in [3, 5, 2, 0] {
        scene.want(parallel(parallelism));
        scene.go();
        assert_eq!(scene.told(), told(0, 0, parallelism as usize, ""));
    }
}

#[test]
fn failures_are_retried_after_10_s_doubling_up_to_6_min() {
    let mut scene = Scene::of(Job { backoff_limit: 8, ..job() });
    scene.go();
    for (failed, wait) in [10, 20, 40, 80, 160, 320, 360, 360].into_iter().enumerate() {
        let failed = u32::try_from(failed).unwrap() + 1;
        assert_eq!(scene.exit(1), Some(scene.now + wait), "after {failed}");
        assert_eq!(scene.told(), told(0, failed, 0, ""));
        scene.at(scene.now + wait - 1);
        assert_eq!(scene.running().len(), 0, "too early after {failed}");
        scene.at(scene.now + 1);
        assert_eq!(scene.told(), told(0, failed, 1, ""));
    }
    assert_eq!(scene.exit(1), None);
    assert_eq!(scene.told(), told(0, 9, 0, "BackoffLimitExceeded"));
}

#[test]
fn a_success_ends_the_back_off_of_others() {
    let mut scene = Scene::of(Job { completions: Some(3), ..job() });
    scene.go();
    scene.exit(1);
    scene.at(10);
    scene.exit(0);
    assert_eq!(scene.told(), told(1, 1, 1, ""), "at once");
    assert_eq!(scene.exit(1), Some(20), "from the first wait on");
}

#[test]
fn the_limit_ends_it_and_what_still_runs() {
    for (limit, failures) in [(0, 1), (2, 3)] {
        let mut scene =
            Scene::of(Job { backoff_limit: limit, parallelism: 2, completions: Some(4), ..job() });
        scene.go();
        for _ in 0..failures {
            assert_eq!(scene.told().3, "");
            scene.exit(1);
            scene.at(scene.now + 360);
        }
        assert_eq!(scene.told(), told(0, failures, 0, "BackoffLimitExceeded"), "{limit}");
    }
}

#[test]
fn restarts_in_place_count_against_the_limit() {
    for (limit, failures) in [(0, 2), (3, 4)] {
        let mut scene = Scene::of(Job { backoff_limit: limit, ..job_of(RestartPolicy::OnFailure) });
        scene.go();
        let mut seen = 0;
        while scene.told().3.is_empty() && seen < 20 {
            let next = scene.exit(1);
            seen += 1;
            if let Some(next) = next.filter(|next| *next > scene.now) {
                scene.at(next);
            }
        }
        assert_eq!((seen, scene.told().3.as_str()), (failures - 1, "BackoffLimitExceeded"), "limit {limit}");
    }
}

#[test]
fn a_deadline_ends_it_and_suspension_stops_that_clock() {
    let limited = |suspend| Job { deadline: Some(Duration::from_secs(60)), suspend, ..job() };
    let mut scene = Scene::of(limited(true));
    assert_eq!(scene.go(), None);
    assert_eq!(scene.told(), told(0, 0, 0, ""));
    scene.now = 1000;
    scene.want(limited(false));
    assert_eq!(scene.go(), Some(1060));
    assert_eq!(scene.told(), told(0, 0, 1, ""));
    scene.now = 1030;
    scene.want(limited(true));
    scene.go();
    assert_eq!(scene.told(), told(0, 0, 0, ""), "its pod is stopped and counts as nothing");
    scene.now = 2000;
    scene.want(limited(false));
    assert_eq!(scene.go(), Some(2060));
    scene.at(2060);
    assert_eq!(scene.told(), told(0, 0, 0, "DeadlineExceeded"));
}

#[test]
fn its_time_to_live_takes_its_pods_but_it_never_runs_again() {
    let mut scene = Scene::of(Job { ttl: Some(Duration::from_secs(30)), ..job() });
    scene.go();
    scene.now = 5;
    assert_eq!(scene.exit(0), Some(35));
    scene.at(34);
    assert_eq!(scene.world.pods.len(), 1);
    scene.at(35);
    assert_eq!(scene.world.pods.len(), 0);
    scene.at(90_000);
    assert_eq!(scene.world.pods.len(), 0, "its manifest is there, and it has run");
}

#[test]
fn indexes_run_once_each_and_are_told_their_number() {
    let mut scene = Scene::of(Job { indexed: true, completions: Some(4), parallelism: 2, ..job() });
    scene.go();
    let uid = scene.of_index(1);
    let spec = scene.world.pods[&uid].spec.clone();
    assert!(spec.name.starts_with("sum-1-"), "{}", spec.name);
    assert_eq!(spec.hostname, "sum-1");
    let annotations = spec.object.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["batch.kubernetes.io/job-completion-index"], "1");
    let variable = spec.containers[0].env.iter().find(|variable| variable.name == "JOB_COMPLETION_INDEX");
    assert_eq!(variable.map(|variable| format!("{:?}", variable.value)), Some("Literal(\"1\")".into()));
    // A failed index comes again, and the next free one takes no place of one that is done.
    scene.exit_of(&uid, 1);
    scene.at(10);
    let again = scene.of_index(1);
    assert_ne!(again, uid);
    scene.exit_of(&again, 0);
    let uid = scene.of_index(2);
    scene.exit_of(&uid, 0);
    let uid = scene.of_index(0);
    scene.exit_of(&uid, 0);
    let uid = scene.of_index(3);
    scene.exit_of(&uid, 0);
    assert_eq!(scene.told(), told(4, 1, 0, "Complete"));
}

#[test]
fn an_index_that_fails_too_often_fails_alone_at_first() {
    let by_index = |max_failed_indexes| Job {
        indexed: true,
        completions: Some(3),
        parallelism: 3,
        limit_per_index: Some(1),
        max_failed_indexes,
        backoff_limit: i32::MAX as u32,
        ..job()
    };
    let mut scene = Scene::of(by_index(None));
    scene.go();
    let uid = scene.of_index(0);
    scene.exit_of(&uid, 1);
    scene.at(10);
    let uid = scene.of_index(0);
    scene.exit_of(&uid, 1);
    assert_eq!(scene.told(), told(0, 2, 2, ""), "index 0 is given up, the others run");
    scene.exit(0);
    scene.exit(0);
    assert_eq!(scene.told(), told(2, 2, 0, "FailedIndexes"));

    let mut scene = Scene::of(by_index(Some(0)));
    scene.go();
    for _ in 0..2 {
        let uid = scene.of_index(2);
        scene.exit_of(&uid, 1);
        if scene.told().3.is_empty() {
            scene.at(scene.now + 10);
        }
    }
    assert_eq!(scene.told(), told(0, 2, 0, "MaxFailedIndexesExceeded"));
}

#[test]
fn rules_on_exit_codes_are_asked_in_their_order() {
    let rule = |what, container: Option<&str>, not_in, codes: &[i32]| Rule {
        what,
        container: container.map(str::to_owned),
        not_in,
        codes: codes.to_vec(),
    };
    let rules = vec![
        rule(Consequence::Ignore, None, false, &[42]),
        rule(Consequence::FailJob, Some("other"), false, &[43]),
        rule(Consequence::Count, Some("c"), false, &[44]),
        rule(Consequence::FailJob, Some("c"), true, &[1, 2, 43]),
    ];
    for (code, failed, end) in [
        (42, 0, ""),
        (43, 1, ""),
        (44, 1, ""),
        (1, 1, ""),
        (3, 1, "PodFailurePolicy"),
        (137, 1, "PodFailurePolicy"),
    ] {
        let mut scene = Scene::of(Job { rules: rules.clone(), ..job() });
        scene.go();
        scene.exit(code);
        let (_, was, _, told) = scene.told();
        assert_eq!((was, told.as_str()), (failed, end), "code {code}");
    }
    let mut scene = Scene::of(Job { rules, ..job() });
    scene.go();
    scene.exit(3);
    let Some((_, End::Failed(_, why), _)) = &scene.facts("j").finished else { panic!("it goes on") };
    assert!(why.contains("failed with exit code 3 matching FailJob rule at index 3"), "{why}");
}

#[test]
fn a_start_that_comes_to_no_container_is_a_failure_too() {
    let mut scene = Scene::of(job());
    scene.go();
    let why = StartError { reason: "StartError".into(), message: "no such file".into(), ours: false };
    // The world has it as started already: another pod whose start fails.
    scene.exit(1);
    scene.now = 10;
    loop {
        let plan = plan(&scene.desired, &scene.world, Tick::seconds(10));
        match plan.actions.first().cloned() {
            Some(Action::Start { uid, container, run }) => {
                let (of, on) = (uid.clone(), container.clone());
                scene.learn(Fact::Starting { uid: of, container: on, run, helper: 9, stdout: 4, stderr: 4 });
                scene.learn(Fact::StartFailed { uid, container, run, why: why.clone() });
                break;
            }
            Some(action) => scene.act(action),
            None => panic!("no start"),
        }
    }
    scene.go();
    assert_eq!(scene.told(), told(0, 2, 0, ""));
}

#[test]
fn an_edit_is_another_job_and_a_removal_is_believed_after_a_while() {
    let mut scene = Scene::of(job());
    scene.go();
    scene.want(Job { uid: "k".into(), ..job() });
    scene.go();
    assert_eq!(scene.world.batch.jobs.keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!(scene.running().iter().map(|(uid, _)| uid.as_str()).collect::<Vec<_>>(), ["k-0"]);

    scene.desired.jobs.clear();
    scene.go();
    assert_eq!(scene.running().len(), 0, "its pod goes at once");
    assert_eq!(scene.world.batch.jobs.len(), 1);
    scene.at(scene.now + 9);
    scene.want(Job { uid: "k".into(), ..job() });
    scene.go();
    assert_eq!(scene.running().iter().map(|(uid, _)| uid.as_str()).collect::<Vec<_>>(), ["k-1"]);
    // Away for good, but for a bad manifest that might be it.
    scene.desired.jobs.clear();
    scene.desired.certain = false;
    scene.at(scene.now + 1000);
    assert_eq!(scene.running().len(), 1);
    scene.desired.certain = true;
    scene.go();
    scene.at(scene.now + 10);
    assert_eq!(scene.world.batch.jobs.len(), 0);
    assert_eq!(scene.world.pods.len(), 0);
}

#[test]
fn a_new_boot_goes_on_and_runs_nothing_twice() {
    let mut scene = Scene::of(Job { completions: Some(3), ..job() });
    scene.go();
    scene.exit(0);
    let memory = Memory::of(&scene.world.batch, Tick::seconds(scene.now), &scene.desired.wall);
    let memory: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    let mut boot = Scene::of(Job { completions: Some(3), ..job() });
    boot.learn(Fact::Job(JobFact::Recalled { memory }));
    boot.go();
    assert_eq!(boot.told(), told(1, 0, 1, ""));
    assert_eq!(boot.running()[0].0, "j-2", "no number comes again");
    boot.exit(0);
    boot.exit(0);
    assert_eq!(boot.told(), told(3, 0, 0, "Complete"));
    let memory = Memory::of(&boot.world.batch, Tick::seconds(boot.now), &boot.desired.wall);
    let mut third = Scene::of(Job { completions: Some(3), ..job() });
    third.learn(Fact::Job(JobFact::Recalled { memory: memory.clone() }));
    third.go();
    assert_eq!(third.told(), told(3, 0, 0, "Complete"));
    // A boot without it forgets it.
    let mut without = Scene::new();
    without.learn(Fact::Job(JobFact::Recalled { memory }));
    without.go();
    assert!(without.world.batch.memory.jobs.is_empty());
}

#[test]
fn an_end_is_told_and_acted_upon_once_it_is_on_the_disk() {
    let mut scene = Scene::of(Job { ttl: Some(Duration::from_secs(5)), ..job() });
    scene.slow = true;
    scene.go();
    scene.exit(0);
    scene.at(100);
    let event = |scene: &Scene| scene.world.events.iter().any(|event| event.reason == "Completed");
    assert_eq!(scene.told(), told(1, 0, 0, "Complete"));
    assert!(scene.world.pods.contains_key("j-0") && !event(&scene), "its pod stays, whatever its ttl");
    scene.slow = false;
    scene.go();
    assert!(scene.world.pods.is_empty() && event(&scene));

    // Nor does the next one of a CronJob that forbids two begin, which would run beside it after a power cut.
    let mut scene = crons(Cron { concurrency: Concurrency::Forbid, ..cron("* * * * *") });
    scene.slow = true;
    scene.go();
    scene.at(60);
    scene.exit(0);
    scene.at(120);
    assert_eq!(scene.times(), [1]);
    scene.slow = false;
    scene.go();
    assert_eq!(scene.times(), [1, 2]);
}

#[test]
fn a_deadline_goes_on_over_a_reboot_once_the_clock_is_set() {
    let limited = || Job { deadline: Some(Duration::from_secs(1000)), ..job() };
    let mut scene = Scene::of(limited());
    scene.go();
    scene.at(300);
    let memory = Memory::of(&scene.world.batch, Tick::seconds(300), &scene.desired.wall);
    let recalled = |memory: &Memory| {
        let mut boot = Scene::of(limited());
        boot.learn(Fact::Job(JobFact::Recalled { memory: memory.clone() }));
        boot
    };
    // 400 s later the machine comes up.
    let mut boot = recalled(&memory);
    boot.clock(MORNING + 700);
    assert_eq!(boot.go(), Some(300));
    boot.at(299);
    assert_eq!(boot.told(), told(0, 0, 1, ""));
    boot.at(300);
    assert_eq!(boot.told(), told(0, 0, 0, "DeadlineExceeded"));
    // And again: since when it is active does not change.
    let mut boot = recalled(&memory);
    boot.clock(MORNING + 700);
    boot.go();
    let again = Memory::of(&boot.world.batch, Tick::seconds(20), &boot.desired.wall);
    assert_eq!(again.jobs["j"].started, MORNING);
    // It was over while the machine was off.
    let mut boot = recalled(&memory);
    boot.clock(MORNING + 2000);
    boot.go();
    assert_eq!(boot.told(), told(0, 0, 0, "DeadlineExceeded"));
    // A clock that was never set tells nothing: it counts anew, until it is set.
    let mut boot = recalled(&memory);
    boot.clock(0);
    assert_eq!(boot.go(), Some(1000));
    boot.clock(MORNING + 700);
    assert_eq!(boot.go(), Some(300));
    boot.at(300);
    assert_eq!(boot.told(), told(0, 0, 0, "DeadlineExceeded"));
    // What was noted by such a clock is no start either.
    let mut scene = Scene::of(limited());
    scene.clock(0);
    scene.go();
    let mut boot = recalled(&Memory::of(&scene.world.batch, Tick::seconds(300), &scene.desired.wall));
    boot.clock(MORNING);
    assert_eq!(boot.go(), Some(1000));
    // Resumed, it counts from there.
    let mut boot = recalled(&memory);
    boot.clock(MORNING + 700);
    boot.want(Job { suspend: true, ..limited() });
    boot.go();
    boot.want(limited());
    boot.at(50);
    assert_eq!(boot.go(), Some(1050));
}

#[test]
fn names_of_a_jobs_pods_differ() {
    let job = Arc::new(job());
    let names: BTreeSet<String> =
        (0..20_000).map(|number| super::instance::instance(&job, None, number, None).name.clone()).collect();
    assert_eq!(names.len(), 20_000);
    let long = Arc::new(Job { name: "x".repeat(63), ..(*job).clone() });
    assert_eq!(super::instance::instance(&long, None, 0, None).name.len(), 63);
    let name = &super::instance::instance(&long, Some(4711), 0, None).name;
    assert_eq!(name.len(), 63);
    assert!(name.contains("x-4711-"), "{name}");
}

fn cron(schedule: &str) -> Cron {
    Cron {
        namespace: "default".into(),
        name: "tick".into(),
        schedule: Schedule::parse(schedule).unwrap(),
        text: schedule.into(),
        zone: Zone::default(),
        concurrency: Concurrency::Allow,
        suspend: false,
        late: None,
        keep_succeeded: 3,
        keep_failed: 1,
        job: Arc::new(Job { uid: "c".into(), name: "tick".into(), ..job() }),
    }
}

fn crons(cron: Cron) -> Scene {
    let mut scene = Scene::new();
    scene.desired.crons = vec![Arc::new(cron)];
    scene
}

impl Scene {
    /// The times of its Jobs, in minutes after `MORNING`.
    fn times(&self) -> Vec<i64> {
        let times = self.world.batch.jobs.values().filter(|job| !job.expired);
        let mut times: Vec<i64> =
            times.filter_map(|job| job.job.of.as_ref().map(|(_, time)| (time - MORNING) / 60)).collect();
        times.sort_unstable();
        times
    }

    fn clock(&mut self, morning: i64) {
        self.desired.wall = Wall::at_boot(morning);
    }
}

#[test]
fn a_cron_job_makes_a_job_at_each_of_its_times() {
    let mut scene = crons(cron("*/5 * * * *"));
    assert_eq!(scene.go(), Some(300));
    assert_eq!(scene.times(), [0i64; 0]);
    scene.at(299);
    assert_eq!(scene.times(), [0i64; 0]);
    assert_eq!(scene.at(300), Some(600));
    assert_eq!(scene.times(), [5]);
    let (_, name) = scene.running()[0].clone();
    let expected = format!("tick-{}-", (MORNING + 300) / 60);
    assert!(name.starts_with(&expected) && name.len() == expected.len() + 5, "{name}");
    scene.exit(0);
    scene.at(600);
    assert_eq!(scene.times(), [5, 10]);
    // An edit of the schedule leaves its Jobs alone, and goes by the new one.
    scene.desired.crons = vec![Arc::new(cron("*/7 * * * *"))];
    assert_eq!(scene.go(), Some(840));
    assert_eq!(scene.times(), [5, 10]);
    // Suspended, nothing comes; resumed, the last missed time is made up for.
    scene.desired.crons = vec![Arc::new(Cron { suspend: true, ..cron("*/7 * * * *") })];
    scene.at(2000);
    assert_eq!(scene.times(), [5, 10]);
    scene.desired.crons = vec![Arc::new(cron("*/7 * * * *"))];
    scene.go();
    assert_eq!(scene.times(), [5, 10, 28]);
}

#[test]
fn concurrency_is_as_the_policy_says() {
    for (policy, times, running) in [
        (Concurrency::Allow, vec![1, 2], 2),
        (Concurrency::Forbid, vec![1], 1),
        (Concurrency::Replace, vec![2], 1),
    ] {
        let mut scene = crons(Cron { concurrency: policy, ..cron("* * * * *") });
        scene.go();
        scene.at(60);
        scene.at(120);
        assert_eq!((scene.times(), scene.running().len()), (times, running), "{policy:?}");
    }
    // Forbidden, the missed time is made up for when the one before ends; unless it is too late for that.
    for (late, times) in [(None, vec![1, 2]), (Some(30), vec![1]), (Some(100), vec![1, 2])] {
        let mut scene = crons(Cron { concurrency: Concurrency::Forbid, late, ..cron("* * * * *") });
        scene.go();
        scene.at(60);
        scene.at(120);
        scene.now = 160;
        scene.exit(0);
        assert_eq!(scene.times(), times, "{late:?}");
    }
}

#[test]
fn its_history_is_as_long_as_it_says() {
    let mut scene = crons(cron("* * * * *"));
    scene.go();
    for minute in 1..=8u64 {
        scene.at(minute * 60);
        scene.exit(0);
    }
    assert_eq!(scene.times(), [6, 7, 8]);
    assert_eq!((scene.world.pods.len(), scene.world.batch.jobs.len()), (3, 3));
    let mut scene = crons(Cron {
        keep_succeeded: 0,
        job: Arc::new(Job { backoff_limit: 0, ..job() }),
        ..cron("* * * * *")
    });
    scene.go();
    for (minute, code) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)] {
        scene.at(minute * 60);
        scene.exit(code);
    }
    assert_eq!(scene.times(), [4]);
}

#[test]
fn a_clock_that_was_never_set_starts_nothing_and_its_setting_nothing_at_once() {
    let mut scene = crons(cron("*/5 * * * *"));
    scene.clock(0);
    scene.at(1000);
    let told = |scene: &Scene| Memory::of(&scene.world.batch, Tick::seconds(scene.now), &scene.desired.wall);
    assert_eq!(scene.times(), [0i64; 0]);
    assert!(!told(&scene).crons.contains_key("default/tick"), "what such a clock says is not kept");
    // It is set: the first time is the next one.
    scene.clock(MORNING);
    assert_eq!(scene.go(), Some(1200));
    assert_eq!(scene.times(), [0i64; 0]);
    scene.at(1200);
    assert_eq!(scene.times(), [20]);
}

#[test]
fn a_clock_that_jumps_makes_up_for_nothing() {
    const YEAR: i64 = 365 * 86_400;
    for jump in [YEAR, 86_400, -86_400, -YEAR / 2, 7200, -7200] {
        let mut scene = crons(cron("*/5 * * * *"));
        scene.go();
        scene.at(300);
        scene.exit(0);
        scene.clock(MORNING + jump);
        assert_eq!(scene.go(), Some(600), "{jump}");
        assert_eq!(scene.times(), [5], "{jump}");
        scene.at(600);
        assert_eq!(scene.times().len(), 2, "{jump}");
    }
    // Put right by some minutes it is the same day: one missed time is made up for, none comes twice.
    let mut scene = crons(cron("*/5 * * * *"));
    scene.go();
    scene.at(300);
    scene.exit(0);
    scene.clock(MORNING + 900);
    scene.go();
    assert_eq!(scene.times(), [5, 20]);
    scene.clock(MORNING);
    scene.at(900);
    assert_eq!(scene.times(), [5, 20]);
}

#[test]
fn after_a_long_sleep_one_time_is_made_up_for() {
    let mut scene = crons(cron("* * * * *"));
    scene.go();
    scene.at(60);
    scene.exit(0);
    // The machine was suspended: both clocks went on.
    scene.at(86_400);
    assert_eq!(scene.times(), [1, 1440]);
    let event = scene.world.events.iter().find(|event| event.reason == "TooManyMissedTimes");
    assert!(event.is_some_and(|event| event.warning && event.pod == "default/tick"));
    // Too late for it, it is only told.
    let mut scene = crons(Cron { late: Some(10), ..cron("0 * * * *") });
    scene.go();
    scene.at(5000);
    assert_eq!(scene.times(), [0i64; 0]);
    assert!(scene.world.events.iter().any(|event| event.reason == "MissSchedule"));
}

#[test]
fn a_new_boot_makes_up_for_the_last_missed_time_once_its_clock_is_set() {
    let mut scene = crons(cron("0 * * * *"));
    scene.go();
    scene.at(3600);
    scene.exit(0);
    let memory = Memory::of(&scene.world.batch, Tick::seconds(3700), &scene.desired.wall);
    for at_boot in [0, MORNING - 86_400] {
        let mut boot = crons(cron("0 * * * *"));
        boot.learn(Fact::Job(JobFact::Recalled { memory: memory.clone() }));
        // Its clock stands before the last time that was known.
        boot.clock(at_boot);
        boot.at(60);
        assert_eq!(boot.times(), [0i64; 0]);
        boot.clock(MORNING + 3 * 3600 + 60);
        boot.at(120);
        assert_eq!(boot.times(), [180], "the last one of those missed");
        boot.at(130);
        assert_eq!(boot.times(), [180]);
    }
    // Within the hour nothing was missed.
    let mut boot = crons(cron("0 * * * *"));
    boot.learn(Fact::Job(JobFact::Recalled { memory }));
    boot.clock(MORNING + 4000);
    boot.go();
    assert_eq!(boot.times(), [0i64; 0]);
}

/// One whose former boot noted a time of the future, with a clock that was set wrong, never went by its clock again.
#[test]
fn a_clock_that_is_behind_what_was_known_is_believed_once_it_gets_there() {
    let latest = MORNING + 3700;
    let memory = Memory { latest, ..Memory::default() };
    let recalled = || Fact::Job(JobFact::Recalled { memory: memory.clone() });
    let mut boot = crons(cron("*/5 * * * *"));
    boot.learn(recalled());
    assert_eq!(boot.go(), Some(100), "an hour before it");
    boot.at(99);
    assert_eq!(boot.world.batch.clock.map(|(_, believed)| believed), Some(false));
    boot.at(100);
    assert_eq!(boot.go(), Some(300));
    boot.at(300);
    assert_eq!(boot.times(), [5]);
    // Or by a small step.
    let mut boot = crons(cron("*/5 * * * *"));
    boot.learn(recalled());
    boot.go();
    boot.clock(MORNING + 90);
    boot.at(10);
    assert_eq!(boot.world.batch.clock.map(|(_, believed)| believed), Some(true));
}

#[test]
fn a_removed_cron_job_takes_its_jobs_along() {
    let mut scene = crons(cron("* * * * *"));
    scene.go();
    scene.at(60);
    assert_eq!(scene.running().len(), 1);
    scene.desired.crons.clear();
    scene.at(61);
    assert_eq!(scene.running().len(), 0);
    scene.at(71);
    scene.at(90);
    assert!(scene.world.batch.is_empty());
}
