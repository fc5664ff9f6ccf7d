//! One random history: a world that is planned for, and the reality that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use podinit::clock::Tick;
use podinit::pod::facts::{Dismissal, Exit, Fact, HookKind, ProbeKind, StartError};
use podinit::pod::plan::{Action, plan};
use podinit::pod::pulls::{Pull, Pulls, Who};
use podinit::pod::resources::Grant;
use podinit::pod::roll::Roll;
use podinit::pod::{Desired, Plan, Planner, Pod, Step, World};

use crate::due;
use crate::model::{End, Next, RealPod, RealRun, Reality, Soon, Then, Unfit, raise, stream, then};
use crate::pods::{self, pick};
use crate::properties::{self, View};
use crate::room;
use crate::shelf::Shelf;

type Outcome = Result<(), String>;

/// What fails each time, whatever is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curse {
    Sandboxes,
    Images,
    Helpers,
    Containers,
}

pub struct Story {
    rng: Rng,
    pub desired: Desired,
    pub world: World,
    pub now: Tick,
    pub reality: Reality,
    wake: Option<Tick>,
    /// What PID 1 asks instead of planning anew, and looks up instead of looking through all.
    planner: Planner,
    roll: Roll,
    log: Vec<(Tick, Fact)>,
    /// Where the ledger was folded last.
    folded: usize,
    /// Failures happen, and manifests change.
    chaos: bool,
    curse: Option<Curse>,
    missing: BTreeSet<String>,
    /// Who waits for which image, the pulls under way with their ends, and how many there may be.
    pulls: Pulls,
    flying: BTreeMap<Pull, Tick>,
    most: u32,
    /// Every pod that was ever wanted.
    past: Vec<Arc<Pod>>,
    corners: BTreeSet<&'static str>,
    shelf: Shelf,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let cap = pick(&mut rng, &[None, None, Some(2), Some(11), Some(60)]).map(Duration::from_secs);
        let desired = Desired {
            returns: rng.bool(),
            restart_cap: cap,
            node: room::node(&mut rng),
            ..Desired::default()
        };
        let planner = Planner::new(desired.clone(), &World::default());
        let most = pick(&mut rng, &[1, 1, 2, u32::MAX]);
        let mut story = Story {
            rng,
            desired,
            planner,
            roll: Roll::default(),
            world: World::default(),
            now: Tick::seconds(5),
            reality: Reality::default(),
            wake: None,
            log: Vec::new(),
            folded: 0,
            chaos: true,
            curse: None,
            missing: BTreeSet::new(),
            pulls: Pulls::default(),
            flying: BTreeMap::new(),
            most,
            past: Vec::new(),
            corners: BTreeSet::new(),
            shelf: Shelf::new(seed),
        };
        for name in ["a", "b"] {
            story.add(name);
        }
        story
    }

    /// The whole of it: chaos, then peace, then the end.
    pub fn tell(&mut self) -> Outcome {
        self.settle()?;
        for _ in 0..self.rng.u32(8..40) {
            self.step()?;
        }
        self.calm();
        if !self.desired.ending {
            self.rest("never rests")?;
            properties::rests_at_what_is_wanted(&self.view())
                .map_err(|why| format!("rests_at_what_is_wanted: {why}"))?;
            if self.rng.bool() {
                self.edit();
                self.settle()?;
            }
            self.end(&[None, Some(20)]);
            self.settle()?;
        }
        self.rest("never ends")?;
        if self.world.pods.is_empty() && self.reality.pods.is_empty() {
            Ok(())
        } else {
            Err("ends_with_an_empty_world: something is left".into())
        }
    }

    /// One failure over and over, then none any more: how often it came at most.
    pub fn endure(&mut self, curse: Curse) -> Result<u32, String> {
        self.chaos = false;
        self.curse = Some(curse);
        if curse == Curse::Images {
            self.missing.extend(["a:1".to_owned(), "b:1".to_owned()]);
        }
        self.settle()?;
        for _ in 0..150 {
            self.step()?;
        }
        let most = self.reality.pods.values().flat_map(|pod| {
            let containers = pod.containers.values();
            containers.map(|c| pod.set_up_failed.0.max(c.missing.0).max(c.trouble).max(c.restarts))
        });
        let most = most.max().unwrap_or(0);
        self.missing.clear();
        self.curse = None;
        self.rest("never rests")?;
        properties::rests_at_what_is_wanted(&self.view())
            .map_err(|why| format!("rests_at_what_is_wanted: {why}"))?;
        Ok(most)
    }

    pub fn corners(&self) -> impl Iterator<Item = &'static str> {
        self.corners.iter().copied()
    }

    pub fn trace(&self) -> String {
        let from = self.log.len().saturating_sub(40);
        let lines = self.log[from..].iter().map(|(at, fact)| format!("{:>12.3} {fact:?}", at.0 as f64 / 1e9));
        let lines = lines.map(|line| line.chars().take(200).collect::<String>());
        format!("{}\nnow {:?}", lines.collect::<Vec<_>>().join("\n"), self.now)
    }

    /// On to the next moment at which anything happens, and through it.
    pub fn step(&mut self) -> Outcome {
        let wait = pick(&mut self.rng, &[500, 3_000, 20_000, 90_000, 400_000]);
        let outside = self.now + Duration::from_millis(self.rng.u64(1..wait));
        let outside = self.chaos.then_some(outside);
        let real = self.next_real();
        let Some(next) = [self.wake, real, outside].into_iter().flatten().min() else { return Ok(()) };
        self.nothing_due_before(next)?;
        self.now = next;
        if self.wake == Some(next)
            && real != Some(next)
            && plan(&self.desired, &self.world, next).actions.is_empty()
        {
            return Err("something_due_at_wake_at: nothing is".into());
        }
        while let Some(at) = self.next_real().filter(|at| *at <= next) {
            self.happen(at);
        }
        if outside == Some(next) {
            self.outside()?;
        }
        self.settle()
    }

    /// Failures stop, and processes that would stay for ever although they should end, do end.
    fn calm(&mut self) {
        self.chaos = false;
        self.missing.clear();
        for pod in self.reality.pods.values_mut() {
            for (name, container) in &mut pod.containers {
                let spec = pod.spec.container(name).unwrap();
                for run in container.runs.iter_mut().filter(|run| run.started.is_some() && run.end.is_none())
                {
                    let soon = self.now + Duration::from_secs(1);
                    // What was told to fail may yet; what was never to be told is.
                    if spec.startup.is_some() && !run.verdicts.contains_key(&ProbeKind::Startup) {
                        run.soon.push((soon, Soon::Probed(ProbeKind::Startup, true)));
                    }
                    if run.hooks.get(&HookKind::PostStart).is_some_and(|(_, ended)| ended.is_none()) {
                        run.soon.push((soon, Soon::Hooked(HookKind::PostStart, true)));
                    }
                }
            }
        }
        let lingering = self.runs().filter(|(_, _, run)| run.started.is_some() && run.next.is_none());
        let lingering: Vec<_> = lingering.map(|(uid, name, _)| (uid.clone(), name.clone())).collect();
        for (uid, name) in lingering {
            let life = self.life(&uid, &name);
            let pod = self.reality.pods.get_mut(&uid).unwrap();
            pod.containers.get_mut(&name).unwrap().runs.last_mut().unwrap().next = life;
        }
    }

    fn rest(&mut self, failure: &str) -> Outcome {
        for _ in 0..600 {
            if self.wake.is_none() && self.next_real().is_none() {
                return Ok(());
            }
            self.step()?;
        }
        Err(format!("comes_to_rest: {failure}"))
    }

    /// Plans and acts until there is nothing to do.
    pub fn settle(&mut self) -> Outcome {
        for _ in 0..300 {
            let plan = plan(&self.desired, &self.world, self.now);
            self.planner.want(self.desired.clone());
            comes_to(&plan, &self.planner.next(&self.world, self.now))?;
            if self.roll != Roll::of(&self.world) {
                return Err(format!("the_roll_is_what_the_world_says: {:?}", self.roll));
            }
            if plan.wake_at.is_some_and(|wake| wake <= self.now) {
                return Err("wake_at_is_ahead: it is not".into());
            }
            if plan.actions.is_empty() {
                self.pull()?;
                let view = self.view();
                due::wakes_exactly_when_something_is_due(&view, &plan)
                    .map_err(|why| format!("wakes_exactly_when_something_is_due: {why}"))?;
                properties::nothing_waits_without_a_reason(&view)
                    .map_err(|why| format!("nothing_waits_without_a_reason: {why}"))?;
                room::only_a_resize_without_room_waits(&view, &self.world)
                    .map_err(|why| format!("only_a_resize_without_room_waits: {why}"))?;
                room::only_what_waits_is_rejected(&view, &self.world)
                    .map_err(|why| format!("only_what_waits_is_rejected: {why}"))?;
                self.wake = plan.wake_at;
                self.note_waiting();
                self.corners.extend(self.shelf.turn(&self.desired, &self.world)?);
                self.the_loggers_work_is_known()?;
                return self.restarts_are_counted();
            }
            let share = if self.rng.bool() { plan.actions.len() } else { 1 };
            for action in &plan.actions[..share] {
                for (name, property) in properties::OF_ACTIONS {
                    property(&self.view(), action).map_err(|why| format!("{name}: {action:?}: {why}"))?;
                }
                self.carry_out(action);
            }
            // A death in the middle of a turn leaves what no turn leaves.
            if self.chaos && self.rng.u8(0..200) == 0 {
                self.reexecute()?;
            }
        }
        Err("settles_in_one_turn: it does not".into())
    }

    fn nothing_due_before(&mut self, next: Tick) -> Outcome {
        if self.rng.u8(0..3) > 0 || next.0 <= self.now.0 + 1 {
            return Ok(());
        }
        for tick in [self.rng.u64(self.now.0..next.0), next.0 - 1] {
            let early = plan(&self.desired, &self.world, Tick(tick));
            if !early.actions.is_empty() || early.wake_at != self.wake {
                return Err(format!("nothing_due_before_wake_at: at {tick}, not {:?}: {early:?}", self.wake));
            }
            comes_to(&early, &self.planner.clone().next(&self.world, Tick(tick)))?;
        }
        Ok(())
    }

    fn restarts_are_counted(&self) -> Outcome {
        for (uid, pod) in &self.reality.pods {
            for (name, real) in &pod.containers {
                let known = self.world.pods.get(uid).and_then(|pod| pod.containers.get(name));
                let (count, last) = known.map_or((0, None), |facts| (facts.restarts, facts.last.as_ref()));
                let former = real.runs.iter().rev().skip(1);
                let former = former
                    .filter(|run| matches!(run.end, Some((_, End::Exit { .. } | End::StartError))))
                    .map(|run| run.number);
                if count != real.restarts || last.map(|run| run.number) != former.clone().next() {
                    return Err(format!(
                        "restarts_are_counted: {uid}/{name}: {count}, not {}",
                        real.restarts
                    ));
                }
            }
        }
        Ok(())
    }

    fn the_loggers_work_is_known(&self) -> Outcome {
        let (streams, logger) = (&self.world.streams, self.world.helpers.get("logger"));
        if streams.keys().eq(&self.reality.streams) && logger == self.reality.logger.as_ref() {
            Ok(())
        } else {
            let real = (&self.reality.streams, self.reality.logger);
            Err(format!("the_loggers_work_is_known: {streams:?}, {logger:?}, not {real:?}"))
        }
    }

    fn view(&self) -> View<'_> {
        View { reality: &self.reality, desired: &self.desired, now: self.now }
    }

    fn learn(&mut self, fact: Fact) {
        if self.rng.u8(0..8) == 0 {
            let _ = fact.line(&self.world);
        }
        self.log.push((self.now, fact.clone()));
        self.world.learn(fact.clone(), self.now);
        self.planner.learned(&fact, &self.world);
        self.roll.learned(&fact, &self.world);
    }

    // --- Hands ---

    fn fails(&mut self, percent: u8) -> bool {
        self.chaos && self.rng.u8(0..100) < percent
    }

    fn millis(&mut self, below: u64) -> Tick {
        self.now + Duration::from_millis(self.rng.u64(0..below))
    }

    fn carry_out(&mut self, action: &Action) {
        let now = self.now;
        let why = || "no luck".to_owned();
        match action {
            Action::Admit(pod) => {
                if self.world.rejected.get(&pod.uid).is_some_and(|told| told.reason.starts_with("OutOf")) {
                    self.corners.insert("room came");
                }
                self.reality.pods.insert(pod.uid.clone(), RealPod::new(pod.clone(), now));
                self.learn(Fact::Admitted { pod: pod.clone() });
            }
            Action::Dismiss { uid, why } => {
                let pod = self.reality.pods.get_mut(uid).unwrap();
                pod.dismissed = Some(now);
                if pod.containers.values().any(|c| c.live().is_some_and(|run| run.started.is_none())) {
                    self.corners.insert("dismissed while starting");
                }
                if *why == Dismissal::Removed && pod.over().is_some() {
                    self.corners.insert("pod over");
                }
                self.learn(Fact::Dismissed { uid: uid.clone(), why: *why });
            }
            Action::SetUp { uid } => {
                let fails = self.fails(20) || self.curse == Some(Curse::Sandboxes);
                let pod = self.reality.pods.get_mut(uid).unwrap();
                if fails {
                    pod.set_up_failed = (pod.set_up_failed.0 + 1, now);
                    self.corners.insert("set-up failed");
                    self.learn(Fact::SetUpFailed { uid: uid.clone(), why: why() });
                } else {
                    pod.set_up = true;
                    pod.grant = Some(Grant::pod(&pod.spec));
                    let mut logged = Vec::new();
                    for (name, real) in &mut pod.containers {
                        real.first =
                            self.reality.logs.get(&(uid.clone(), name.clone())).copied().unwrap_or(0);
                        if real.first > 0 {
                            self.corners.insert("runs counted on from logs");
                            let (uid, container) = (uid.clone(), name.clone());
                            logged.push(Fact::Logged { uid, container, runs: real.first });
                        }
                    }
                    logged.into_iter().for_each(|fact| self.learn(fact));
                    self.learn(Fact::SetUp { uid: uid.clone(), ip: None });
                }
            }
            Action::Find { uid, container } => {
                let pod = self.reality.pods.get_mut(uid).unwrap();
                let image = &pod.spec.container(container).unwrap().image;
                let image = image.clone();
                let real = pod.containers.get_mut(container).unwrap();
                let (uid, container) = (uid.clone(), container.clone());
                assert!(!real.pulling, "looked for while it is pulled");
                if self.rng.bool() {
                    real.pulling = true;
                    self.learn(Fact::ImagePulling {
                        uid: uid.clone(),
                        container: container.clone(),
                        lacking: vec![],
                    });
                    let pull = as_whom(&uid, image);
                    self.pulls.want((uid, container), [pull]);
                } else if self.missing.contains(&image) {
                    real.no_pull(now);
                    self.learn(Fact::ImageMissing { uid, container, why: why() });
                } else {
                    if real.missing.0 > 0 {
                        self.corners.insert("image came late");
                    }
                    self.corners.extend(real.damaged.map(|_| "damaged image whole again"));
                    real.finds(now);
                    self.learn(Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
                }
            }
            Action::BackOff { uid, container } => {
                self.corners.insert("a pull backed off");
                let (uid, container) = (uid.clone(), container.clone());
                self.reality.pods.get_mut(&uid).unwrap().containers.get_mut(&container).unwrap().told = true;
                self.learn(Fact::ImageBackOff { uid, container });
            }
            Action::Project { uid } => self.learn(Fact::Projected { uid: uid.clone(), digest: 0 }),
            Action::Reject { pod, reason, message } => {
                let (reason, message) = (reason.clone(), message.clone());
                self.learn(Fact::Rejected { pod: pod.clone(), reason, message });
            }
            Action::Allocate(pod) => {
                self.allocate(pod);
                self.learn(Fact::Allocated { pod: pod.clone() });
            }
            Action::Postpone { pod, reason, message } => {
                self.corners.insert("resize waited for room");
                let (reason, message) = (reason.clone(), message.clone());
                self.learn(Fact::ResizePending { pod: pod.clone(), reason, message });
            }
            Action::Resize { uid, of, grant } => self.resize(uid, of.as_ref(), *grant),
            Action::Withdraw { uid } => self.learn(Fact::Withdrawn { uid: uid.clone() }),
            Action::Note(fact) => self.learn(Fact::Job(fact.clone())),
            Action::Hook { uid, container, run, hook } => self.hook(uid, container, *run, *hook),
            Action::RestartAll { uid, container, run } => {
                self.corners.insert("all restarted");
                let pod = self.reality.pods.get_mut(uid).unwrap();
                for real in pod.containers.values_mut() {
                    real.was_up = false;
                    for run in &mut real.runs {
                        run.past = true;
                    }
                }
                let (uid, container) = (uid.clone(), container.clone());
                self.learn(Fact::RestartAll { uid, container, run: *run });
            }
            Action::Expire { uid } => {
                self.corners.insert("expired");
                self.reality.pods.get_mut(uid).unwrap().expired = Some(now);
                self.learn(Fact::Expired { uid: uid.clone() });
            }
            Action::Start { uid, container, run } => self.start(uid, container, *run),
            Action::Signal { uid, container, kill, .. } => self.signal(uid, container, *kill),
            Action::Clean { uid, container, run } => {
                let pod = self.reality.pods.get_mut(uid).unwrap();
                pod.containers.get_mut(container).unwrap().runs.last_mut().unwrap().cleaned = true;
                self.learn(Fact::Cleaned { uid: uid.clone(), container: container.clone(), run: *run });
            }
            Action::TearDown { uid, keep_logs } => {
                if self.fails(20) || self.curse == Some(Curse::Sandboxes) {
                    let pod = self.reality.pods.get_mut(uid).unwrap();
                    pod.tear_down_failed = (pod.tear_down_failed.0 + 1, now);
                    self.corners.insert("tear-down failed");
                    self.learn(Fact::TearDownFailed { uid: uid.clone(), why: why() });
                } else {
                    self.reality.pods.remove(uid);
                    self.reality.logs.retain(|(of, _), _| *keep_logs || of != uid);
                    self.learn(Fact::TornDown { uid: uid.clone() });
                }
            }
        }
    }

    /// From now on its spec is this one. Other resources are another container to the back-off.
    fn allocate(&mut self, spec: &Arc<Pod>) {
        let now = self.now;
        let pod = self.reality.pods.get_mut(&spec.uid).unwrap();
        let former = std::mem::replace(&mut pod.spec, spec.clone());
        // What failed before is no reason to wait with another resize.
        pod.unfit = None;
        for (was, is) in former.all().zip(spec.all()) {
            let plain = pod.plain(&is.name);
            let (had, has) = (&was.resources, &is.resources);
            let cpu = had.cpu_request != has.cpu_request || had.cpu_limit != has.cpu_limit;
            let memory = had.memory_request != has.memory_request || had.memory_limit != has.memory_limit;
            let real = pod.containers.get_mut(&is.name).unwrap();
            if !cpu && !memory {
                continue;
            }
            real.entry = None;
            let Some(run) = real.runs.last_mut().filter(|run| run.end.is_none() && !run.past) else {
                continue;
            };
            self.corners.insert("resized while it ran");
            run.unfit = None;
            if !plain && (cpu && has.cpu_restarts || memory && has.memory_restarts) {
                self.corners.insert("restarted by a resize");
                run.outgrown.get_or_insert(now);
            }
        }
    }

    fn resize(&mut self, uid: &str, of: Option<&(String, u32)>, grant: Grant) {
        let (now, fails) = (self.now, self.fails(20));
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let run = of.map(|(name, _)| pod.containers.get_mut(name).unwrap().runs.last_mut().unwrap());
        let former = run.as_ref().map_or(pod.unfit, |run| run.unfit).filter(|unfit| unfit.grant == grant);
        let tries = former.map_or(1, |unfit| unfit.tries.0 + 1);
        let unfit = fails.then_some(Unfit { grant, tries: (tries, now) });
        match run {
            None => {
                pod.unfit = unfit;
                pod.grant = if fails { pod.grant } else { Some(grant) };
            }
            Some(run) => {
                run.unfit = unfit;
                run.grant = if fails { run.grant } else { grant };
            }
        }
        let (uid, of) = (uid.to_owned(), of.cloned());
        if fails {
            self.corners.insert("resize failed");
            self.learn(Fact::ResizeFailed { uid, of, grant, why: "no luck".into() });
        } else {
            self.learn(Fact::Resized { uid, of, grant });
        }
    }

    fn hook(&mut self, uid: &str, container: &str, run: u32, hook: HookKind) {
        let well = !self.fails(25);
        let ends = [Some(0), Some(1_000), Some(20_000), Some(200_000), None];
        let ends = if self.chaos { pick(&mut self.rng, &ends) } else { Some(500) };
        let now = self.now;
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let real = pod.containers.get_mut(container).unwrap().runs.last_mut().unwrap();
        real.hooks.insert(hook, (now, None));
        real.soon.extend(ends.map(|ends| (now + Duration::from_millis(ends), Soon::Hooked(hook, well))));
        let (uid, container) = (uid.to_owned(), container.to_owned());
        self.learn(Fact::Hooking { uid, container, run, hook, helper: 4 });
    }

    fn start(&mut self, uid: &str, container: &str, run: u32) {
        let now = self.now;
        let cap = self.desired.restart_cap.unwrap_or(Duration::from_secs(300));
        let roll = match self.curse {
            Some(Curse::Helpers) => 70,
            _ if self.chaos => self.rng.u8(0..100),
            _ => 0,
        };
        let next = match roll {
            0..60 => Some((self.millis(50), Next::Starts)),
            60..68 => Some((self.millis(20_000), Next::Starts)),
            68..70 => Some((self.millis(150_000), Next::Starts)),
            70..78 => Some((self.millis(3_000), Next::End(End::Ours))),
            78..84 => Some((self.millis(100), Next::End(End::StartError))),
            84..88 => Some((self.millis(100), Next::End(End::CreateError))),
            88..92 => Some((now, Next::End(End::CreateError))),
            92..94 => Some((now, Next::End(End::Ours))),
            _ => None,
        };
        let pod = self.reality.pods.get_mut(uid).unwrap();
        if pod.sidecar(container) && pod.present(container).is_some() {
            self.corners.insert("sidecar restarted");
        }
        let grant = Grant::container(pod.spec.container(container).unwrap());
        let real = pod.containers.get_mut(container).unwrap();
        if real.runs.is_empty() {
            real.restarts = real.first;
        }
        let worn = real.runs.last().is_some_and(|run| run.worn.is_some());
        if worn {
            self.corners.insert("started again after damage");
        }
        if let Some((finish, end)) = real.runs.last().and_then(|run| run.end) {
            match end {
                End::Ours => {}
                End::CreateError if worn => {}
                End::Exit { .. } | End::StartError if worn => real.restarts += 1,
                End::CreateError => raise(real, finish, now, cap),
                End::Exit { .. } | End::StartError => {
                    if real.entry.is_some_and(|(_, raised)| finish - raised > Duration::from_secs(600)) {
                        self.corners.insert("back-off forgiven");
                    }
                    real.restarts += 1;
                    raise(real, finish, now, cap);
                }
            }
            if real.entry.is_some_and(|(wait, _)| wait == cap) {
                self.corners.insert("crash loop at its cap");
            }
        }
        let run = RealRun {
            number: run,
            starting: now,
            started: None,
            stopped: None,
            killed: None,
            end: None,
            cleaned: false,
            past: false,
            verdicts: BTreeMap::new(),
            hooks: BTreeMap::new(),
            next,
            soon: Vec::new(),
            yields: None,
            grant,
            unfit: None,
            outgrown: None,
            worn: None,
        };
        let (number, at_once) = (run.number, roll >= 88 && next.is_some_and(|(at, _)| at == now));
        real.runs.push(run);
        let (uid, container) = (uid.to_owned(), container.to_owned());
        if at_once {
            // Refused before there was a helper.
            self.happen_to(&uid, &container);
        } else {
            let id = stream(&uid, &container, number);
            self.reality.streams.insert(id.clone());
            self.reality.logs.insert((uid.clone(), container.clone()), number + 1);
            self.learn(Fact::Piped { id, log: format!("{number}.log"), fds: vec![6, 7] });
            self.learn(Fact::Starting { uid, container, run: number, helper: 5, stdout: 6, stderr: 7 });
        }
    }

    fn signal(&mut self, uid: &str, container: &str, kill: bool) {
        let now = self.now;
        let (soon, ineffective, races) = (self.millis(800), self.fails(15), self.fails(20));
        let (late, others) = {
            let (view, pod) = (self.view(), &self.reality.pods[uid]);
            let run = pod.containers[container].runs.last().unwrap();
            let deadline = view.run_deadline(pod, container, run);
            (deadline.is_some_and(|deadline| deadline <= now), pod.withheld(container))
        };
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let (ends, sidecar) = (pod.stopping().is_some(), pod.sidecar(container));
        let real = pod.containers.get_mut(container).unwrap();
        let run = real.runs.last_mut().unwrap();
        let number = run.number;
        if kill {
            let again = run.killed.replace(now).is_some();
            self.corners.insert(match (again, run.started) {
                (true, _) => "second kill",
                (false, None) if run.past => "helper killed by a restart of all",
                (false, None) if !ends => "hung helper",
                (false, _) => "kill at the deadline",
            });
            let effect = match run.started {
                None if races => Next::Starts,
                None => Next::End(End::Ours),
                Some(_) => Next::End(End::Exit { code: 137, oom: false }),
            };
            if !ineffective {
                run.next = Some((soon, effect));
            }
        } else {
            run.stopped = Some(now);
            if sidecar && ends {
                self.corners.insert(if others {
                    "sidecar cut by the deadline"
                } else {
                    "sidecar stopped last"
                });
            }
            if let Some((_, ended)) = run.hooks.get(&HookKind::PreStop) {
                let cut = ended.is_none() && late;
                self.corners.insert(if cut {
                    "preStop cut by the deadline"
                } else {
                    "preStop before the signal"
                });
            }
            if let Some(yields) = run.yields {
                let end = (now + yields, Next::End(End::Exit { code: 143, oom: false }));
                run.next =
                    Some(run.next.map_or(end, |(at, next)| if at <= end.0 { (at, next) } else { end }));
            }
        }
        self.learn(Fact::Signalled { uid: uid.into(), container: container.into(), run: number, kill });
    }

    // --- What happens by itself ---

    fn next_real(&self) -> Option<Tick> {
        let runs = self.runs().filter_map(|(_, _, run)| run_next(run)).min();
        [runs, self.flying.values().min().copied()].into_iter().flatten().min()
    }

    fn runs(&self) -> impl Iterator<Item = (&String, &String, &RealRun)> {
        self.reality.pods.iter().flat_map(|(uid, pod)| {
            pod.containers.iter().filter_map(move |(name, container)| Some((uid, name, container.live()?)))
        })
    }

    /// What hands do once the plan rests: pulls are ended that nobody wants, and begun as far as they may.
    fn pull(&mut self) -> Outcome {
        let reality = &self.reality;
        let waits = |(uid, name): &Who| {
            let pod = reality.pods.get(uid).filter(|pod| pod.stopping().is_none());
            pod.is_some_and(|pod| pod.containers[name].pulling)
        };
        for image in self.pulls.keep(waits) {
            self.corners.insert("pull that nobody wants");
            self.flying.remove(&image);
            self.pulls.ended(&image, false);
        }
        while let Some(image) = self.pulls.next(self.most) {
            let ends = self.millis(30_000);
            if self.flying.insert(image.clone(), ends).is_some() {
                return Err(format!("one_pull_for_each_image_and_login: {image:?}"));
            }
        }
        if self.flying.len() as u64 > u64::from(self.most) {
            return Err(format!("never_more_pulls_than_the_most: {:?}", self.flying));
        }
        for (uid, pod) in self.reality.pods.iter().filter(|(_, pod)| pod.stopping().is_none()) {
            let mut lost = pod.containers.iter().filter(|(_, real)| real.pulling);
            if let Some((name, _)) =
                lost.find(|(name, _)| !self.pulls.wanted_by(&(uid.clone(), (*name).clone())))
            {
                return Err(format!("who_waits_for_a_pull_is_served: {uid}/{name}"));
            }
        }
        Ok(())
    }

    /// A pull ends.
    fn pulled(&mut self, image: &Pull) {
        let now = self.now;
        let done = !self.missing.contains(&image.image) && !self.fails(10);
        self.flying.remove(image);
        let served = self.pulls.ended(image, done);
        if served.len() > 1 {
            self.corners.insert("one pull for several");
        }
        for (uid, container) in served {
            let pod = self.reality.pods.get_mut(&uid).filter(|pod| pod.stopping().is_none());
            let Some(real) = pod.and_then(|pod| pod.containers.get_mut(&container)) else { continue };
            real.pulling = false;
            if done {
                self.corners.extend(real.damaged.map(|_| "damaged image pulled again"));
                real.finds(now);
                self.learn(Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
            } else {
                real.no_pull(now);
                self.learn(Fact::ImageMissing { uid, container, why: "no luck".into() });
            }
        }
    }

    fn happen(&mut self, at: Tick) {
        if let Some(image) = self.flying.iter().find(|(_, ends)| **ends <= at).map(|(image, _)| image.clone())
        {
            return self.pulled(&image);
        }
        let due = self.runs().find(|(_, _, run)| run_next(run).is_some_and(|next| next <= at));
        let Some((uid, container, run)) = due else { return };
        let (uid, container, told) =
            (uid.clone(), container.clone(), run.soon.iter().any(|(next, _)| *next <= at));
        if told {
            self.tell_of(&uid, &container, at);
        } else {
            self.happen_to(&uid, &container);
        }
    }

    /// A hook ends, or a probe has a verdict.
    fn tell_of(&mut self, uid: &str, container: &str, at: Tick) {
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let run = pod.containers.get_mut(container).unwrap().runs.last_mut().unwrap();
        let index = run.soon.iter().position(|(next, _)| *next <= at).unwrap();
        match run.soon.remove(index).1 {
            Soon::Probed(probe, ok) => self.probe(uid, container, probe, ok),
            Soon::Hooked(hook, well) => self.hooked(uid, container, hook, well),
        }
    }

    fn hooked(&mut self, uid: &str, container: &str, hook: HookKind, well: bool) {
        let now = self.now;
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let run = pod.containers.get_mut(container).unwrap().runs.last_mut().unwrap();
        let number = run.number;
        if let Some((_, ended)) = run.hooks.get_mut(&hook) {
            ended.get_or_insert((now, well));
        }
        if hook == HookKind::PostStart && !well {
            self.corners.insert("postStart failed");
        }
        self.note_up(uid, container);
        let failed = (!well).then(|| "no luck".to_owned());
        self.learn(Fact::Hooked { uid: uid.into(), container: container.into(), run: number, hook, failed });
    }

    fn probe(&mut self, uid: &str, container: &str, probe: ProbeKind, ok: bool) {
        let now = self.now;
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let run = pod.containers.get_mut(container).unwrap().runs.last_mut().unwrap();
        let number = run.number;
        let last = run.verdicts.get(&probe).map(|(_, ok)| *ok);
        // A startup probe speaks once, and a liveness probe that failed is heard no more.
        let heard = match probe {
            ProbeKind::Startup => last.is_none(),
            ProbeKind::Liveness => last != Some(false) && last != Some(ok),
            ProbeKind::Readiness => last != Some(ok),
        };
        if heard {
            run.verdicts.insert(probe, (now, ok));
            match (probe, ok) {
                (ProbeKind::Liveness, false) => self.corners.insert("liveness failed"),
                (ProbeKind::Startup, false) => self.corners.insert("startup failed"),
                (ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness, _) => false,
            };
        }
        self.note_up(uid, container);
        let (uid, container) = (uid.to_owned(), container.to_owned());
        self.learn(Fact::Probed { uid, container, run: number, probe, ok, why: "no luck".into() });
    }

    fn note_up(&mut self, uid: &str, container: &str) {
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let up = pod.present(container).is_some_and(|run| run.up(pod.spec.container(container).unwrap()));
        pod.containers.get_mut(container).unwrap().was_up |= up;
    }

    fn happen_to(&mut self, uid: &str, container: &str) {
        let now = self.now;
        let life = self.life(uid, container);
        let yields = [None, Some(0), Some(700), Some(1_800), Some(40_000)];
        let yields = pick(&mut self.rng, &yields).map(Duration::from_millis);
        let soon = self.verdicts(uid, container);
        let late_hook = self.rng.bool();
        let pod = self.reality.pods.get_mut(uid).unwrap();
        let spec = pod.spec.clone();
        let init = pod.plain(container);
        let real = pod.containers.get_mut(container).unwrap();
        let run = real.runs.last_mut().unwrap();
        let (number, Some((_, next))) = (run.number, run.next.take()) else { return };
        let (uid, container) = (uid.to_owned(), container.to_owned());
        match next {
            Next::Starts => {
                run.started = Some(now);
                run.yields = yields;
                run.next = life;
                run.soon = soon;
                real.trouble = 0;
                if run.killed.is_some() {
                    self.corners.insert("started while killed");
                }
                self.note_up(&uid, &container);
                self.learn(Fact::Started { uid, container, run: number, pid: 9 });
            }
            Next::End(end) => {
                run.end = Some((now, end));
                let hooks = run.hooks.iter().filter(|(_, (_, ended))| ended.is_none());
                let hooks: Vec<HookKind> = hooks.map(|(hook, _)| *hook).filter(|_| late_hook).collect();
                let stays = then(&spec, &container, run) == Then::Stays;
                real.trouble = if end == End::Ours { real.trouble + 1 } else { 0 };
                let failed = |reason: &str, ours| StartError {
                    reason: reason.into(),
                    message: "no luck".into(),
                    ours,
                };
                let why = match end {
                    End::Exit { code, oom } => {
                        if init && code != 0 {
                            self.corners.insert(if stays {
                                "failed init for good"
                            } else {
                                "init restarted"
                            });
                        }
                        let exit = Exit { code, oom, ..Exit::default() };
                        self.learn(Fact::Exited {
                            uid: uid.clone(),
                            container: container.clone(),
                            run: number,
                            exit,
                        });
                        for hook in hooks {
                            let failed = Some("its container ended".to_owned());
                            let (uid, container) = (uid.clone(), container.clone());
                            self.learn(Fact::Hooked { uid, container, run: number, hook, failed });
                        }
                        let pod = &self.reality.pods[&uid];
                        if pod.over().is_some() && pod.live() {
                            self.corners.insert("over with a sidecar");
                        }
                        return;
                    }
                    End::Ours => failed("StartError", true),
                    End::StartError => {
                        failed(pick(&mut self.rng, &["StartError", "RunContainerError"]), false)
                    }
                    End::CreateError => failed(
                        pick(&mut self.rng, &["CreateContainerError", "CreateContainerConfigError"]),
                        false,
                    ),
                };
                self.corners.insert(match end {
                    End::Ours => "our own trouble",
                    End::CreateError => "create error",
                    End::StartError | End::Exit { .. } => "start error",
                });
                self.learn(Fact::StartFailed { uid, container, run: number, why });
            }
        }
    }

    /// How a started process will end by itself.
    fn life(&mut self, uid: &str, container: &str) -> Option<(Tick, Next)> {
        let well = Next::End(End::Exit { code: 0, oom: false });
        if self.curse == Some(Curse::Containers) {
            return Some((self.now, Next::End(End::Exit { code: 1, oom: false })));
        }
        if !self.chaos {
            let pod = &self.reality.pods[uid];
            let number = pod.containers[container].runs.last().map_or(0, |run| run.number);
            let ended = ended_well(number, self.now);
            // What would be restarted for ever does not end.
            let stays = then(&pod.spec, container, &ended) != Then::Stays;
            return if stays { None } else { Some((self.millis(3_000), well)) };
        }
        let span = pick(&mut self.rng, &[1, 100, 3_000, 3_000, 100_000, 2_000_000]);
        let code = pick(&mut self.rng, &[0, 0, 1, 137]);
        let oom = self.rng.u8(0..10) == 0;
        let end = Next::End(End::Exit { code, oom });
        // To the tick as long after its start as forgives no crash yet.
        let forgiven = self.reality.pods[uid].containers[container].runs.last().unwrap().starting
            + Duration::from_secs(600);
        match self.rng.u8(0..20) {
            0..4 => None,
            4 => Some((forgiven.max(self.now), end)),
            _ => Some((self.millis(span), end)),
        }
    }

    /// What the probes of a run that starts will tell.
    fn verdicts(&mut self, uid: &str, container: &str) -> Vec<(Tick, Soon)> {
        let spec = self.reality.pods[uid].spec.container(container).unwrap().clone();
        let mut soon = Vec::new();
        if spec.startup.is_some() && !self.fails(10) {
            let ok = !self.fails(20);
            soon.push((self.millis(9_000), Soon::Probed(ProbeKind::Startup, ok)));
        }
        if spec.liveness.is_some() && self.fails(30) {
            soon.push((self.millis(100_000), Soon::Probed(ProbeKind::Liveness, false)));
        }
        if spec.readiness.is_some() {
            soon.push((self.millis(9_000), Soon::Probed(ProbeKind::Readiness, true)));
        }
        soon
    }

    // --- What is done to it from outside ---

    fn outside(&mut self) -> Outcome {
        match self.rng.u8(0..40) {
            0..4 => {
                let name = pick(&mut self.rng, &["a", "b", "c"]);
                self.add(name);
            }
            4..6 => self.edit(),
            6..9 => self.edit_in_place(),
            9..12 => self.rename(),
            12..16 => {
                if !self.desired.pods.is_empty() {
                    let index = self.rng.usize(0..self.desired.pods.len());
                    self.desired.pods.remove(index);
                }
            }
            16..20 => self.bring_back(),
            20..24 => {
                let image = pick(&mut self.rng, &["a:1", "b:1"]).to_owned();
                if !self.missing.remove(&image) {
                    self.missing.insert(image);
                }
            }
            24..28 => self.strike(),
            28..30 => self.damage(),
            30..32 => self.log_on(),
            32..34 => return self.reexecute(),
            34..36 => return self.strange(),
            36..38 => self.probe_something(),
            38 => self.folded = self.log.len(),
            _ => {
                if self.rng.bool() {
                    self.end(&[None, Some(3), Some(30)]);
                }
            }
        }
        Ok(())
    }

    /// A probe changes its mind.
    fn probe_something(&mut self) {
        let live = self.runs().filter(|(_, _, run)| run.started.is_some());
        let live: Vec<_> = live.map(|(uid, name, _)| (uid.clone(), name.clone())).collect();
        if live.is_empty() {
            return;
        }
        let (uid, name) = live[self.rng.usize(0..live.len())].clone();
        let probe = pick(&mut self.rng, &[ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness]);
        let ok = self.rng.bool();
        self.probe(&uid, &name, probe, ok);
    }

    fn end(&mut self, graces: &[Option<u64>]) {
        let mut dismissed = self.reality.pods.values().filter(|pod| pod.dismissed.is_some());
        let leaving = dismissed.any(RealPod::live);
        self.desired.ending = true;
        self.desired.ending_grace = pick(&mut self.rng, graces).map(Duration::from_secs);
        self.desired.ending_grace_critical =
            pick(&mut self.rng, &[None, Some(0), Some(2), Some(10), Some(20)]).map(Duration::from_secs);
        if leaving && self.desired.ending_grace.is_some() {
            self.corners.insert("shortened by the end");
        }
    }

    fn add(&mut self, name: &str) {
        let uid = format!("u{}", self.past.len());
        let pod = pods::random(&mut self.rng, name, &uid);
        self.want(pod);
    }

    fn edit(&mut self) {
        if let Some(old) = self.any_desired() {
            self.desired.pods.retain(|pod| pod.uid != old.uid);
            let uid = format!("u{}", self.past.len());
            let name = old.name.clone();
            let new = if self.rng.bool() {
                pods::changed(&old, &name, &uid)
            } else {
                pods::random(&mut self.rng, &name, &uid)
            };
            self.want(new);
        }
    }

    /// Where the manifest gives a uid, an edit keeps it; so does a rename of the file.
    fn edit_in_place(&mut self) {
        if let Some(old) = self.any_desired() {
            let moved = self.rng.u8(0..3) == 0;
            let generation = self.log.len();
            if self.reality.pods.get(&old.uid).is_some_and(RealPod::live) {
                self.corners.insert(if moved {
                    "its file renamed while it ran"
                } else {
                    "edited under its uid while it ran"
                });
            }
            let new = if moved {
                pods::moved(&old, generation)
            } else {
                pods::edited(&mut self.rng, &old, generation)
            };
            self.want(new);
        }
    }

    fn rename(&mut self) {
        if let Some(old) = self.any_desired() {
            self.desired.pods.retain(|pod| pod.uid != old.uid);
            let uid = format!("u{}", self.past.len());
            let name = pick(&mut self.rng, &["a", "b", "c", "d"]);
            self.want(pods::changed(&old, name, &uid));
        }
    }

    fn bring_back(&mut self) {
        let old = self.past[self.rng.usize(0..self.past.len())].clone();
        self.corners.insert("returned");
        self.want(old);
    }

    /// It takes the place of the wanted pod of this name.
    fn want(&mut self, pod: Arc<Pod>) {
        self.desired.pods.retain(|other| other.full_name() != pod.full_name() && other.uid != pod.uid);
        if self.past.iter().all(|other| other.uid != pod.uid) {
            self.past.push(pod.clone());
        }
        self.desired.pods.push(pod);
    }

    fn any_desired(&mut self) -> Option<Arc<Pod>> {
        if self.desired.pods.is_empty() {
            return None;
        }
        Some(self.desired.pods[self.rng.usize(0..self.desired.pods.len())].clone())
    }

    fn note_waiting(&mut self) {
        for pod in self.reality.pods.values() {
            let mut mains = pod.spec.containers.iter();
            if mains.any(|main| due::held(pod, &main.name) && pod.containers[&main.name].live().is_none()) {
                self.corners.insert("postStart held another start");
            }
        }
        if self.desired.ending {
            if self.reality.pods.values().any(|pod| pod.dismissed.is_none()) {
                self.corners.insert("critical pod waited");
            }
            return;
        }
        for pod in self.desired.pods.iter().filter(|pod| !self.reality.pods.contains_key(&pod.uid)) {
            let twin = self.reality.pods.values().any(|other| other.spec.full_name() == pod.full_name());
            let room = room::fits(&self.view(), pod);
            self.corners.insert(match (twin, room) {
                (true, _) => "waited for a name",
                (false, true) => "waited for a port",
                (false, false) => "waited for room",
            });
        }
    }

    /// A file of an image is found to be damaged: all who use it are told.
    fn damage(&mut self) {
        let image = pick(&mut self.rng, &["a:1", "b:1"]);
        let layer = self.rng.u8(0..4) > 0;
        let mut told = Vec::new();
        for (uid, pod) in self.reality.pods.iter_mut().filter(|(_, pod)| pod.stopping().is_none()) {
            for (name, real) in &mut pod.containers {
                if pod.spec.container(name).unwrap().image != image {
                    continue;
                }
                if real.pulling {
                    self.corners.insert("damaged while it was pulled");
                } else if real.live().is_some() && layer {
                    self.corners.insert("damaged while it ran");
                }
                real.found = None;
                if !real.pulling {
                    real.missing = (0, self.now);
                }
                real.damaged = Some(layer || real.damaged == Some(true));
                told.push((uid.clone(), name.clone()));
            }
        }
        for (uid, container) in told {
            let what = "layers/1.erofs: damaged".to_owned();
            self.learn(Fact::ImageDamaged { uid, container, what, layer });
        }
    }

    /// A process or a helper dies out of the blue.
    fn strike(&mut self) {
        let live: Vec<_> =
            self.runs().map(|(uid, name, run)| (uid.clone(), name.clone(), run.started)).collect();
        if live.is_empty() {
            return;
        }
        let (uid, name, started) = live[self.rng.usize(0..live.len())].clone();
        let end = if started.is_some() { End::Exit { code: 137, oom: self.rng.bool() } } else { End::Ours };
        let pod = self.reality.pods.get_mut(&uid).unwrap();
        let run = pod.containers.get_mut(&name).unwrap().runs.last_mut().unwrap();
        run.next = Some((self.now, Next::End(end)));
        self.happen_to(&uid, &name);
    }

    /// The logger writes an ended run's last line, or it dies and is started again.
    fn log_on(&mut self) {
        let live: BTreeSet<_> = self.runs().map(|(uid, name, run)| stream(uid, name, run.number)).collect();
        if let Some(id) = self.reality.streams.difference(&live).next().cloned() {
            self.reality.streams.remove(&id);
            self.learn(Fact::Drained { id });
        } else {
            let pid = self.reality.logger.is_none().then_some(8);
            self.reality.logger = pid;
            self.learn(Fact::Helper { name: "logger".into(), pid });
        }
    }

    /// The world survives its way through the ledger, also where facts are replayed that it holds already.
    fn reexecute(&mut self) -> Outcome {
        self.corners.insert("re-executed");
        let text = serde_json::to_vec(&self.world).map_err(|why| why.to_string())?;
        let loaded: World = serde_json::from_slice(&text).map_err(|why| why.to_string())?;
        if loaded != self.world {
            return Err("a_reexecution_changes_nothing: the world differs".into());
        }
        let mut replayed = loaded;
        for (at, fact) in &self.log[self.folded..] {
            replayed.learn(fact.clone(), *at);
        }
        if replayed != self.world {
            return Err(format!(
                "a_replay_changes_nothing: the world differs\n{replayed:?}\n{:?}",
                self.world
            ));
        }
        self.world = replayed;
        self.planner = Planner::new(self.desired.clone(), &self.world);
        self.roll = Roll::of(&self.world);
        // The pulls died with the former life; those who wait are in the world.
        (self.pulls, self.flying) = (Pulls::default(), BTreeMap::new());
        for (uid, pod) in &self.reality.pods {
            for (name, _) in pod.containers.iter().filter(|(_, real)| real.pulling) {
                let image = pod.spec.container(name).unwrap().image.clone();
                self.pulls.want((uid.clone(), name.clone()), [as_whom(uid, image)]);
                self.corners.insert("pulls lost by a re-execution");
            }
        }
        Ok(())
    }

    /// News of what is not there, or over, changes nothing.
    fn strange(&mut self) -> Outcome {
        let past = self.past[self.rng.usize(0..self.past.len())].uid.clone();
        let uid = if self.reality.pods.contains_key(&past) { "nobody".to_owned() } else { past };
        let container = "c0".to_owned();
        let fact = match self.rng.u8(0..5) {
            0 => Fact::Exited { uid, container, run: 0, exit: Exit::default() },
            1 => Fact::Started { uid, container, run: 3, pid: 4 },
            2 => Fact::TornDown { uid },
            3 => Fact::Cleaned { uid, container, run: 0 },
            _ => Fact::SetUp { uid, ip: None },
        };
        let before = self.world.clone();
        self.world.learn(fact.clone(), self.now);
        if self.world == before { Ok(()) } else { Err(format!("strange_news_change_nothing: {fact:?}")) }
    }
}

/// When something happens to this live run.
fn run_next(run: &RealRun) -> Option<Tick> {
    run.soon.iter().map(|(at, _)| *at).chain(run.next.map(|(at, _)| at)).min()
}

/// A run that ended with success.
fn ended_well(number: u32, now: Tick) -> RealRun {
    RealRun {
        number,
        starting: now,
        started: Some(now),
        stopped: None,
        killed: None,
        end: Some((now, End::Exit { code: 0, oom: false })),
        cleaned: false,
        past: false,
        verdicts: BTreeMap::new(),
        hooks: BTreeMap::new(),
        next: None,
        soon: Vec::new(),
        yields: None,
        grant: Grant::default(),
        unfit: None,
        outgrown: None,
        worn: None,
    }
}

/// What PID 1 asks comes to what the plan comes to.
fn comes_to(plan: &Plan, next: &Step) -> Outcome {
    let wanted = match plan.actions.first() {
        Some(action) => Step::Act(action.clone()),
        None => Step::Rest(plan.wake_at),
    };
    if *next == wanted { Ok(()) } else { Err(format!("the_planner_plans: {next:?}, not {wanted:?}")) }
}

/// Every other pod has a login of its own.
fn as_whom(uid: &str, image: String) -> Pull {
    let secrets =
        if uid.bytes().map(u32::from).sum::<u32>() % 2 == 0 { vec!["n/s".to_owned()] } else { vec![] };
    Pull { image, secrets }
}
