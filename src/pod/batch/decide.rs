//! What is wanted of Jobs and CronJobs now: pods, what is to be noted, and when to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{End, JobFact, JobFacts};
use super::spec::{Cron, Job};
use super::{cron, job};
use crate::clock::{Tick, sooner};
use crate::pod::World;
use crate::pod::facts::PodFacts;
use crate::pod::spec::{Desired, Pod};

/// 2025-01-01: a clock before it was never set.
pub const EARLIEST: i64 = 1_735_689_600;
/// A clock that moves by so much was set; by less it was put right.
pub const JUMP: i64 = 3600;
/// How much the clock moves before that is noted.
const DRIFT: i64 = 60;
/// A manifest may be away for a moment while an editor writes it: until then nothing of its Job is forgotten.
const GONE: std::time::Duration = std::time::Duration::from_secs(10);

/// What is wanted now.
#[derive(Default)]
pub struct Wants {
    /// All pods of Jobs that are to be there, those that are over among them.
    pub pods: Vec<Arc<Pod>>,
    pub notes: Vec<JobFact>,
    pub wake_at: Option<Tick>,
}

impl Wants {
    pub(super) fn note(&mut self, fact: JobFact) {
        self.notes.push(fact);
    }

    /// Whether this moment has come; else something to wake up for.
    pub(super) fn due(&mut self, at: Tick, now: Tick) -> bool {
        if at > now {
            self.wake_at = sooner(self.wake_at, at);
        }
        at <= now
    }
}

/// What the decision looks at.
pub(super) struct Turn<'a> {
    pub desired: &'a Desired,
    pub world: &'a World,
    pub now: Tick,
    /// The wall time, in seconds since the Unix epoch.
    pub time: i64,
    /// Not dismissed, by their Job's uid.
    pub pods: BTreeMap<&'a str, Vec<&'a PodFacts>>,
    /// Jobs that still have a pod, dismissed ones too.
    pub occupied: BTreeSet<&'a str>,
}

/// Costs one pass over the admitted pods where there are Jobs at all.
pub fn decide(desired: &Desired, world: &World, now: Tick) -> Wants {
    let mut wants = Wants::default();
    let idle = desired.jobs.is_empty() && desired.crons.is_empty();
    let batch = &world.batch;
    if desired.ending
        || idle && batch.is_empty() && batch.memory.jobs.is_empty() && batch.memory.crons.is_empty()
    {
        return wants;
    }
    let mut pods: BTreeMap<&str, Vec<&PodFacts>> = BTreeMap::new();
    let mut occupied = BTreeSet::new();
    for pod in world.pods.values() {
        let Some(owner) = &pod.spec.owner else { continue };
        occupied.insert(owner.job.as_str());
        if pod.dismissed.is_none() {
            pods.entry(&owner.job).or_default().push(pod);
        }
    }
    for pods in pods.values_mut() {
        pods.sort_by_key(|pod| pod.spec.owner.as_ref().map(|owner| owner.number));
    }
    let time = desired.wall.time(now).as_second();
    let turn = Turn { desired, world, now, time, pods, occupied };
    clock(&turn, &mut wants);
    jobs(&turn, &mut wants);
    crons(&turn, &mut wants);
    wants
}

fn clock(turn: &Turn, wants: &mut Wants) {
    let batch = &turn.world.batch;
    if turn.desired.crons.is_empty() && batch.crons.is_empty() {
        return;
    }
    let wall = turn.desired.wall;
    let offset = wall.time(Tick(0)).as_second();
    let due = match batch.clock {
        Some((noted, _)) if (noted - offset).abs() < DRIFT => {
            // One that nobody sets comes by itself to where it is believed.
            let doubted = batch.clock.is_some_and(|(_, believed)| !believed);
            let floor = wall.tick(batch.floor()).unwrap_or(turn.now);
            doubted && wants.due(floor, turn.now)
        }
        Some(_) | None => true,
    };
    if due {
        wants.note(JobFact::Clock { offset, time: turn.time });
    }
}

fn jobs(turn: &Turn, wants: &mut Wants) {
    let batch = &turn.world.batch;
    let by_uid: BTreeMap<&str, &Arc<Job>> =
        turn.desired.jobs.iter().map(|job| (job.uid.as_str(), job)).collect();
    let names: BTreeSet<String> = turn.desired.jobs.iter().map(|job| job.full_name()).collect();
    for job in &turn.desired.jobs {
        if !batch.jobs.contains_key(&job.uid) {
            wants.note(JobFact::Begun { job: job.clone() });
        }
    }
    for (uid, facts) in &batch.jobs {
        let cron = facts.job.of.as_ref().map(|(cron, _)| cron);
        let wanted = match (by_uid.get(uid.as_str()), cron) {
            (Some(job), _) => Some(*job),
            (None, Some(cron)) => wanted_cron(turn, cron).map(|_| &facts.job),
            (None, None) if turn.desired.certain || names.contains(&facts.job.full_name()) => None,
            (None, None) => Some(&facts.job),
        };
        let replaced = names.contains(&facts.job.full_name());
        match wanted {
            Some(job) => {
                if facts.missed.is_some() {
                    wants.note(JobFact::Missed { job: uid.clone(), on: false });
                }
                job::decide(turn, wants, job, facts);
                let over = facts.expired && cron.is_some();
                forget(turn, wants, uid, over);
            }
            None if replaced => forget(turn, wants, uid, true),
            None => match facts.missed {
                None => wants.note(JobFact::Missed { job: uid.clone(), on: true }),
                Some(missed) => {
                    let due = wants.due(missed + GONE, turn.now);
                    forget(turn, wants, uid, due);
                }
            },
        }
    }
    // What a former boot left of Jobs that nobody wants any more; those of CronJobs are theirs.
    for (uid, past) in &batch.memory.jobs {
        if turn.desired.certain && past.of.is_none() && !by_uid.contains_key(uid.as_str()) {
            wants.note(JobFact::Forgotten { job: uid.clone() });
        }
    }
}

/// Not before its last pod is gone.
fn forget(turn: &Turn, wants: &mut Wants, uid: &str, due: bool) {
    if due && !turn.occupied.contains(uid) {
        wants.note(JobFact::Forgotten { job: uid.to_owned() });
    }
}

/// The CronJob of this name, if it is wanted: as it is listed, or, where not all is known, as it was.
fn wanted_cron<'a>(turn: &Turn<'a>, name: &str) -> Option<&'a Arc<Cron>> {
    let listed = turn.desired.crons.iter().find(|cron| cron.full_name() == *name);
    let known = || turn.world.batch.crons.get(name).map(|facts| &facts.cron);
    listed.or_else(|| known().filter(|_| !turn.desired.certain))
}

fn crons(turn: &Turn, wants: &mut Wants) {
    let batch = &turn.world.batch;
    let believed = batch.clock.is_some_and(|(_, believed)| believed);
    for cron in &turn.desired.crons {
        let name = cron.full_name();
        let known = batch.crons.get(&name);
        let same = known.is_some_and(|facts| Arc::ptr_eq(&facts.cron, cron) || facts.cron == *cron);
        if batch.clock.is_some() && !same {
            wants.note(JobFact::Followed { cron: cron.clone(), at: turn.time });
        }
    }
    for (name, facts) in &batch.crons {
        match wanted_cron(turn, name) {
            Some(cron) => {
                if facts.missed.is_some() {
                    wants.note(JobFact::CronMissed { cron: name.clone(), on: false });
                }
                cron::decide(turn, wants, cron, facts, believed);
            }
            None => match facts.missed {
                None => wants.note(JobFact::CronMissed { cron: name.clone(), on: true }),
                Some(missed) => {
                    if wants.due(missed + GONE, turn.now) {
                        wants.note(JobFact::CronForgotten { cron: name.clone() });
                    }
                }
            },
        }
    }
    for name in batch.memory.crons.keys() {
        if turn.desired.certain && !turn.desired.crons.iter().any(|cron| cron.full_name() == *name) {
            wants.note(JobFact::CronForgotten { cron: name.clone() });
        }
    }
}

impl JobFacts {
    pub fn succeeded(&self) -> Option<bool> {
        self.finished.as_ref().map(|(_, end, _)| *end == End::Complete)
    }
}
