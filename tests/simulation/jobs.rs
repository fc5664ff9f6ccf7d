//! One random history of Jobs and CronJobs, beside a few other pods: with crashes, power cuts, slow and full disks, and
//! clocks that are set. The reality is kept apart from what the world believes; `rules` are stated over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use podinit::clock::{Tick, Wall};
use podinit::pod::batch::facts::{JobFact, Memory};
use podinit::pod::batch::spec::{Consequence, Job, Owner, Rule};
use podinit::pod::facts::{Exit, Fact, StartError};
use podinit::pod::plan::{Action, plan};
use podinit::pod::spec::RestartPolicy;
use podinit::pod::users::{BLOCK, Ids, Range};
use podinit::pod::{Desired, Planner, Pod, Step, World};

use crate::pods::pick;
use crate::rules;
use crate::shelf::Shelf;
use crate::wishes;

pub type Outcome = Result<(), String>;

/// 2026-11-25T10:00:00Z.
const MORNING: i64 = 1_795_600_800;

/// What the failure to start a process is told as.
const UNSTARTED: i32 = 128;

/// A pod that is really there.
pub struct RealPod {
    pub spec: Arc<Pod>,
    pub dismissed: bool,
    pub ids: Option<Ids>,
    /// The number of its only container's last run, and its exit code once it has ended.
    pub run: Option<(u32, Option<i32>)>,
    started: bool,
    /// When it ends so.
    next: Option<(Tick, i32)>,
}

impl RealPod {
    /// Whether nothing of it runs or will.
    pub fn over(&self) -> bool {
        let stays = |code| code == 0 || self.spec.restart == RestartPolicy::Never;
        self.run.is_some_and(|(_, code)| code.is_some_and(stays))
    }

    pub fn owner(&self) -> Option<&Owner> {
        self.spec.owner.as_ref()
    }

    /// Whether it counts as its Job's.
    pub fn active(&self) -> bool {
        !self.dismissed && !self.over()
    }
}

/// What a Job's pods really came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub succeeded: u32,
    pub failed: u32,
    pub done: BTreeSet<u32>,
    pub given_up: BTreeSet<u32>,
    failures: BTreeMap<u32, u32>,
    pub doomed: bool,
    /// The last failure of an index, or of any pod, since which none succeeded.
    pub failing: BTreeMap<Option<u32>, Tick>,
}

/// What a power cut leaves, or would.
#[derive(Clone, Default)]
pub struct Kept {
    pub memory: Memory,
    pub tallies: BTreeMap<String, Tally>,
    /// Each time of a CronJob that had its Job.
    pub begun: BTreeSet<(String, i64)>,
}

/// What a helper is bringing to the disk.
struct Writing {
    done: Tick,
    kept: Kept,
    ends: Vec<String>,
}

pub struct Story {
    pub rng: Rng,
    pub desired: Desired,
    pub world: World,
    pub now: Tick,
    pub pods: BTreeMap<String, RealPod>,
    /// By uid, as taken up.
    pub jobs: BTreeMap<String, Arc<Job>>,
    /// What is so, and what the disk has.
    pub real: Kept,
    pub disk: Kept,
    /// Jobs noted as finished in this boot, and all that were told so by a disk that has it.
    pub finished: BTreeSet<String>,
    /// Those whose pods are to go.
    pub expired: BTreeSet<String>,
    pub told: BTreeSet<String>,
    /// Uids of all pods of this boot.
    pub used: BTreeSet<String>,
    /// Where the true time is; the machine's clock may not be set to it.
    truth: Wall,
    planner: Planner,
    wake: Option<Tick>,
    writing: Option<Writing>,
    unwritten: bool,
    retry: Tick,
    log: Vec<(Tick, Fact)>,
    folded: usize,
    pub chaos: bool,
    pub generation: u32,
    pub corners: BTreeSet<&'static str>,
    shelf: Shelf,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let wall = Wall::at_boot(MORNING);
        let node = wishes::node(&mut rng);
        let desired = Desired { certain: true, wall, node, ..Desired::default() };
        let planner = Planner::new(desired.clone(), &World::default());
        let mut story = Story {
            rng,
            desired,
            world: World::default(),
            now: Tick::seconds(5),
            pods: BTreeMap::new(),
            jobs: BTreeMap::new(),
            real: Kept::default(),
            disk: Kept::default(),
            finished: BTreeSet::new(),
            expired: BTreeSet::new(),
            told: BTreeSet::new(),
            used: BTreeSet::new(),
            truth: wall,
            planner,
            wake: None,
            writing: None,
            unwritten: false,
            retry: Tick(0),
            log: Vec::new(),
            folded: 0,
            chaos: true,
            generation: 0,
            corners: BTreeSet::new(),
            shelf: Shelf::new(seed),
        };
        for _ in 0..3 {
            wishes::change(&mut story);
        }
        story
    }

    /// Chaos, then peace, in which all Jobs come to their ends; then the end.
    pub fn tell(&mut self) -> Outcome {
        self.settle()?;
        for _ in 0..self.rng.u32(10..60) {
            self.step()?;
        }
        self.chaos = false;
        self.desired.certain = true;
        self.desired.wall = self.truth;
        wishes::calm(&mut self.desired);
        self.settle()?;
        for _ in 0..400 {
            if self.next().is_none() {
                rules::all_jobs_came_to_their_ends(self)?;
                self.desired.ending = true;
                self.settle()?;
                while self.next().is_some() {
                    self.step()?;
                }
                return match self.pods.is_empty() && self.world.pods.is_empty() {
                    true => Ok(()),
                    false => Err("ends_with_an_empty_world: something is left".into()),
                };
            }
            self.step()?;
        }
        Err("comes_to_rest: it never does".into())
    }

    pub fn trace(&self) -> String {
        let from = self.log.len().saturating_sub(30);
        let lines = self.log[from..].iter().map(|(at, fact)| format!("{:>12.3} {fact:?}", at.0 as f64 / 1e9));
        lines.map(|line| line.chars().take(200).collect::<String>()).collect::<Vec<_>>().join("\n")
    }

    /// Seconds since the epoch, by the machine's clock.
    pub fn time(&self) -> i64 {
        self.desired.wall.time(self.now).as_second()
    }

    /// The Job of this uid as it is wanted now, if it is.
    pub fn wanted(&self, uid: &str) -> Option<&Arc<Job>> {
        if let Some(job) = self.desired.jobs.iter().find(|job| job.uid == uid) {
            return Some(job);
        }
        let job = self.jobs.get(uid)?;
        match &job.of {
            Some((cron, _)) => {
                let listed = self.desired.crons.iter().any(|wanted| wanted.full_name() == *cron);
                (listed || !self.desired.certain).then_some(job)
            }
            None => {
                let named = self.desired.jobs.iter().any(|wanted| wanted.name == job.name);
                (!self.desired.certain && !named).then_some(job)
            }
        }
    }

    pub fn of(&self, job: &str) -> impl Iterator<Item = &RealPod> {
        self.pods.values().filter(move |pod| pod.owner().is_some_and(|owner| owner.job == job))
    }

    fn next(&self) -> Option<Tick> {
        let ends = self.pods.values().filter_map(|pod| pod.next.map(|(at, _)| at)).min();
        let written = self.writing.as_ref().map(|writing| writing.done);
        let retry = (self.unwritten && self.retry > self.now).then_some(self.retry);
        [self.wake, ends, written, retry].into_iter().flatten().min()
    }

    fn step(&mut self) -> Outcome {
        let wait = pick(&mut self.rng, &[500, 5_000, 60_000, 60_000, 400_000, 4_000_000]);
        let outside = self.now + Duration::from_millis(self.rng.u64(1..wait));
        let outside = self.chaos.then_some(outside);
        let Some(next) = [self.next(), outside].into_iter().flatten().min() else { return Ok(()) };
        if next.0 > self.now.0 + 1 && self.rng.u8(0..3) == 0 {
            let early = Tick(self.rng.u64(self.now.0..next.0));
            let plan = plan(&self.desired, &self.world, early);
            if !plan.actions.is_empty() || plan.wake_at != self.wake {
                return Err(format!("nothing_due_before_wake_at: {early:?}: {:?}", plan.actions.first()));
            }
        }
        self.now = next;
        self.happen();
        if outside == Some(next) {
            self.outside()?;
        }
        self.settle()
    }

    /// Containers end, and what was being written is on the disk.
    fn happen(&mut self) {
        if self.writing.as_ref().is_some_and(|writing| writing.done <= self.now)
            && let Some(writing) = self.writing.take()
        {
            if self.chaos && self.rng.u8(0..20) == 0 {
                self.corners.insert("disk failed");
                self.unwritten = true;
                self.retry = self.now + Duration::from_secs(20);
            } else {
                self.disk = writing.kept;
                self.told.extend(writing.ends.iter().cloned());
            }
            writing.ends.into_iter().for_each(|job| self.learn(Fact::Job(JobFact::Kept { job })));
        }
        let due = |pod: &RealPod| pod.next.is_some_and(|(at, _)| at <= self.now);
        let ended: Vec<String> =
            self.pods.iter().filter(|(_, pod)| due(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in ended {
            let Some((_, code)) = self.pods.get_mut(&uid).and_then(|pod| pod.next.take()) else { continue };
            let (run, container) = (self.ended(&uid, code), "c".to_owned());
            let fact = match self.pods[&uid].started {
                true => Fact::Exited { uid, container, run, exit: Exit { code, ..Exit::default() } },
                false => {
                    let (reason, message) = ("StartError".into(), "no luck".into());
                    Fact::StartFailed {
                        uid,
                        container,
                        run,
                        why: StartError { reason, message, ours: false },
                    }
                }
            };
            self.learn(fact);
        }
    }

    /// Its container has ended: what that is to its Job.
    fn ended(&mut self, uid: &str, code: i32) -> u32 {
        let now = self.now;
        let pod = self.pods.get_mut(uid).unwrap();
        let number = pod.run.unwrap().0;
        pod.run = Some((number, Some(code)));
        let pod = &self.pods[uid];
        let Some(owner) = pod.owner().filter(|_| pod.over() && !pod.dismissed).cloned() else {
            return number;
        };
        let Some(job) = self.wanted(&owner.job).cloned() else { return number };
        let tally = self.real.tallies.entry(owner.job.clone()).or_default();
        let key = owner.index.filter(|_| job.limit_per_index.is_some());
        if code == 0 {
            tally.succeeded += 1;
            tally.done.extend(owner.index);
            tally.failing.remove(&key);
            return number;
        }
        let rule = job.rules.iter().find(|rule| rule.codes.contains(&code)).map(|rule| rule.what);
        if rule == Some(Consequence::Ignore) {
            self.corners.insert("ignored failure");
            return number;
        }
        tally.failed += 1;
        tally.failing.insert(key, now);
        tally.doomed |= rule == Some(Consequence::FailJob);
        if let Some(index) = owner.index {
            let failures = tally.failures.entry(index).or_default();
            *failures += 1;
            let most = job.limit_per_index.is_some_and(|limit| *failures > limit);
            if most || rule == Some(Consequence::FailIndex) {
                tally.given_up.insert(index);
            }
        }
        number
    }

    fn learn(&mut self, fact: Fact) {
        let of_job = matches!(&fact, Fact::Admitted { pod } if pod.owner.is_some());
        self.unwritten |= of_job || matches!(&fact, Fact::Job(_));
        let _ = fact.line(&self.world);
        self.log.push((self.now, fact.clone()));
        self.world.learn(fact.clone(), self.now);
        self.planner.learned(&fact, &self.world);
    }

    /// Plans and acts until there is nothing to do, as the agent does.
    fn settle(&mut self) -> Outcome {
        for _ in 0..2_000 {
            let plan = plan(&self.desired, &self.world, self.now);
            self.planner.want(self.desired.clone());
            self.planner.at(self.desired.wall);
            let told = match plan.actions.first() {
                Some(action) => Step::Act(action.clone()),
                None => Step::Rest(plan.wake_at),
            };
            let next = self.planner.next(&self.world, self.now);
            if next != told {
                return Err(format!("the_planner_plans: {next:?}, not {told:?}"));
            }
            if plan.wake_at.is_some_and(|wake| wake <= self.now) {
                return Err("wake_at_is_ahead: it is not".into());
            }
            if plan.actions.is_empty() {
                if self.write() {
                    continue;
                }
                self.wake = plan.wake_at;
                self.corners.extend(self.shelf.turn(&self.desired, &self.world)?);
                return rules::after_a_turn(self);
            }
            let share = if self.rng.bool() { plan.actions.len() } else { 1 };
            for action in &plan.actions[..share] {
                rules::of_an_action(self, action).map_err(|why| format!("{why}: {action:?}"))?;
                self.carry_out(action);
            }
            if self.chaos && self.rng.u8(0..200) == 0 {
                self.reexecute()?;
            }
        }
        Err("settles_in_one_turn: it does not".into())
    }

    /// As `Agent::remember`. Whether something was learned.
    fn write(&mut self) -> bool {
        if !self.unwritten || self.writing.is_some() || self.retry > self.now {
            return false;
        }
        self.unwritten = false;
        let memory = Memory::of(&self.world.batch, self.now, &self.desired.wall);
        let ends = self.world.batch.unkept();
        let latest = self.disk.memory.latest;
        if (Memory { latest, ..memory.clone() }) == self.disk.memory {
            self.told.extend(ends.iter().cloned());
            let some = !ends.is_empty();
            ends.into_iter().for_each(|job| self.learn(Fact::Job(JobFact::Kept { job })));
            return some;
        }
        let slow: u64 = if self.chaos { pick(&mut self.rng, &[1, 100, 100, 5_000, 90_000]) } else { 10 };
        let done = self.now + Duration::from_millis(slow);
        let kept = Kept { memory, ..self.real.clone() };
        self.writing = Some(Writing { done, kept, ends });
        false
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Admit(spec) => {
                self.used.insert(spec.uid.clone());
                let pod = RealPod {
                    spec: spec.clone(),
                    dismissed: false,
                    ids: None,
                    run: None,
                    started: false,
                    next: None,
                };
                self.pods.insert(spec.uid.clone(), pod);
                self.learn(Fact::Admitted { pod: spec.clone() });
            }
            Action::Reject { pod, reason, message } => {
                let (reason, message) = (reason.clone(), message.clone());
                self.learn(Fact::Rejected { pod: pod.clone(), reason, message });
            }
            Action::Withdraw { uid } => self.learn(Fact::Withdrawn { uid: uid.clone() }),
            Action::Dismiss { uid, why } => {
                self.pods.get_mut(uid).unwrap().dismissed = true;
                self.learn(Fact::Dismissed { uid: uid.clone(), why: *why });
            }
            Action::SetUp { uid } => self.set_up(uid),
            Action::Find { uid, container } => {
                let (uid, container) = (uid.clone(), container.clone());
                self.learn(Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
            }
            Action::Project { uid } => self.learn(Fact::Projected { uid: uid.clone(), digest: 0 }),
            Action::Start { uid, run, .. } => self.start(uid, *run),
            Action::Signal { uid, container, run, kill } => {
                let (uid, container) = (uid.clone(), container.clone());
                let (most, code) = if *kill { (50, 137) } else { (self.rng.u64(1..9_000), 143) };
                let at = self.now + Duration::from_millis(self.rng.u64(0..most));
                let pod = self.pods.get_mut(&uid).unwrap();
                pod.next = Some((at, if pod.started { code } else { UNSTARTED }));
                self.learn(Fact::Signalled { uid, container, run: *run, kill: *kill });
            }
            Action::Clean { uid, container, run } => {
                self.learn(Fact::Cleaned { uid: uid.clone(), container: container.clone(), run: *run });
            }
            Action::TearDown { uid, .. } => {
                if self.chaos && self.rng.u8(0..10) == 0 {
                    self.learn(Fact::TearDownFailed { uid: uid.clone(), why: "no luck".into() });
                } else {
                    self.pods.remove(uid);
                    self.learn(Fact::TornDown { uid: uid.clone() });
                }
            }
            Action::Note(fact) => {
                self.noted(fact);
                self.learn(Fact::Job(fact.clone()));
            }
            Action::Hook { .. }
            | Action::BackOff { .. }
            | Action::Expire { .. }
            | Action::RestartAll { .. }
            | Action::Allocate(_)
            | Action::Postpone { .. }
            | Action::Resize { .. } => panic!("not of these pods: {action:?}"),
        }
    }

    fn noted(&mut self, fact: &JobFact) {
        match fact {
            JobFact::Begun { job } => {
                self.jobs.insert(job.uid.clone(), job.clone());
                self.real.begun.extend(job.of.clone());
                self.corners.insert(match (&job.of, self.real.tallies.contains_key(&job.uid)) {
                    (_, true) => "went on after a power cut",
                    (Some(_), false) => "begun by a CronJob",
                    (None, false) => "begun",
                });
            }
            JobFact::Finished { job, end, .. } => {
                self.finished.insert(job.clone());
                self.corners.insert(match end {
                    podinit::pod::batch::facts::End::Complete => "complete",
                    podinit::pod::batch::facts::End::Failed(reason, _) => match reason.as_str() {
                        "BackoffLimitExceeded" => "back-off limit",
                        "DeadlineExceeded" => "deadline",
                        "PodFailurePolicy" => "failed by a rule",
                        _ => "failed by its indexes",
                    },
                });
            }
            JobFact::Expired { job } => {
                self.expired.insert(job.clone());
                self.corners.insert("expired");
            }
            JobFact::Suspended { on: true, .. } => drop(self.corners.insert("suspended")),
            JobFact::Skipped { .. } => drop(self.corners.insert("skipped")),
            JobFact::Forgotten { job } => {
                let of = self.jobs.remove(job).and_then(|job| job.of.clone());
                self.finished.remove(job);
                self.expired.remove(job);
                if of.is_none() {
                    self.told.remove(job);
                    self.real.tallies.remove(job);
                }
            }
            JobFact::Recalled { .. }
            | JobFact::Clock { .. }
            | JobFact::Counted { .. }
            | JobFact::Suspended { on: false, .. }
            | JobFact::Kept { .. }
            | JobFact::Missed { .. }
            | JobFact::Followed { .. }
            | JobFact::CronMissed { .. }
            | JobFact::CronForgotten { .. } => {}
        }
    }

    /// As the hands do: a pod with its own users gets its block first.
    fn set_up(&mut self, uid: &str) {
        let failed = self.chaos && self.rng.u8(0..10) == 0;
        let owns = self.pods[uid].spec.spaces.own_users;
        let ids = match self.pods[uid].ids {
            None if owns => {
                Some(Range { first: BLOCK, length: 64 * BLOCK }.allot(&self.world, BLOCK).unwrap())
            }
            ids => ids,
        };
        let uid = uid.to_owned();
        if failed {
            return self.learn(Fact::SetUpFailed { uid, why: "no luck".into() });
        }
        self.pods.get_mut(&uid).unwrap().ids = ids;
        if let Some(ids) = ids {
            self.corners.insert("ids of its own");
            self.learn(Fact::Allotted { uid: uid.clone(), ids });
        }
        self.learn(Fact::SetUp { uid, ip: None });
    }

    fn start(&mut self, uid: &str, run: u32) {
        let (of, container) = (uid.to_owned(), "c".to_owned());
        self.learn(Fact::Starting { uid: of.clone(), container, run, helper: 9, stdout: 4, stderr: 5 });
        let pod = self.pods.get_mut(uid).unwrap();
        pod.run = Some((run, None));
        let stays = pod.owner().is_none();
        pod.started = !self.chaos || self.rng.u8(0..20) > 0;
        if !pod.started {
            pod.next = Some((self.now + Duration::from_millis(20), UNSTARTED));
            return;
        }
        let span = pick(&mut self.rng, &[1, 2_000, 2_000, 60_000, 600_000]);
        let code = if self.chaos { pick(&mut self.rng, &[0, 0, 0, 1, 1, 42, 43, 44]) } else { 0 };
        let at = self.now + Duration::from_millis(self.rng.u64(0..span));
        self.pods.get_mut(uid).unwrap().next = (!stays).then_some((at, code));
        self.learn(Fact::Started { uid: of, container: "c".into(), run, pid: 10 });
    }

    fn outside(&mut self) -> Outcome {
        match self.rng.u8(0..20) {
            0..12 => wishes::change(self),
            12..14 => return self.reexecute(),
            14..17 => self.cut(),
            17 => {
                // It is set, also to what it was long since.
                let step = pick(&mut self.rng, &[0, 0, 30, 400, 5_000, 200_000, -20, -900]);
                self.truth = Wall::at_boot(self.truth.time(Tick(0)).as_second() + step);
                self.desired.wall = self.truth;
            }
            18 => self.desired.certain = !self.desired.certain,
            _ => self.folded = self.log.len(),
        }
        Ok(())
    }

    /// PID 1 dies, and goes on from its ledger. What its helper was doing is done, and nobody heard of it.
    fn reexecute(&mut self) -> Outcome {
        let text = serde_json::to_vec(&self.world).map_err(|why| why.to_string())?;
        let mut loaded: World = serde_json::from_slice(&text).map_err(|why| why.to_string())?;
        for (at, fact) in &self.log[self.folded..] {
            loaded.learn(fact.clone(), *at);
        }
        if loaded != self.world {
            return Err("a_reexecution_changes_nothing: the world differs".into());
        }
        self.world = loaded;
        self.planner = Planner::new(self.desired.clone(), &self.world);
        if let Some(writing) = self.writing.take() {
            self.disk = writing.kept;
        }
        (self.unwritten, self.retry) = (true, Tick(0));
        Ok(())
    }

    /// The plug is pulled. A helper at work may have come through with it, and nobody heard of it.
    fn cut(&mut self) {
        self.corners.insert("power cut");
        let late = self.writing.take().filter(|_| self.rng.bool());
        if let Some(writing) = late {
            self.disk = writing.kept;
        }
        let off = pick(&mut self.rng, &[5, 60, 60, 4_000, 100_000]);
        let truth = self.truth.time(self.now).as_second() + off;
        self.now = Tick::seconds(5);
        self.truth = Wall::at_boot(truth - 5);
        // A board without a battery for its clock.
        self.desired.wall = if self.rng.u8(0..4) == 0 { Wall::at_boot(0) } else { self.truth };
        (self.real, self.world) = (self.disk.clone(), World::default());
        for tally in self.real.tallies.values_mut() {
            tally.failing.clear();
        }
        self.pods.clear();
        self.jobs.clear();
        self.finished.clear();
        self.expired.clear();
        self.used.clear();
        (self.log, self.folded, self.wake) = (Vec::new(), 0, None);
        (self.unwritten, self.retry) = (false, Tick(0));
        self.planner = Planner::new(self.desired.clone(), &self.world);
        if self.disk.memory != Memory::default() {
            let memory = self.disk.memory.clone();
            self.learn(Fact::Job(JobFact::Recalled { memory }));
        }
    }
}

/// Rules of podFailurePolicy on the exit codes of these histories.
pub fn failure_policy(rng: &mut Rng, by_index: bool) -> Vec<Rule> {
    let rule = |what, code| Rule { what, container: None, not_in: false, codes: vec![code] };
    let mut rules = vec![rule(Consequence::Ignore, 42), rule(Consequence::FailJob, 43)];
    if by_index {
        rules.push(rule(Consequence::FailIndex, 44));
    }
    if rng.bool() { rules } else { Vec::new() }
}
