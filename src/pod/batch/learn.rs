//! What a Job's fact changes. As everywhere: a fact that does not fit changes nothing, one told again counts once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::decide::{EARLIEST, JUMP};
use super::facts::{Batch, CronFacts, End, JobFact, JobFacts, Progress, Verdict};
use super::spec::{Cron, Job, Owner};
use crate::clock::Tick;
use crate::pod::World;

/// True where something changed.
pub fn learn(world: &mut World, fact: &JobFact, now: Tick) -> bool {
    // A replay over a snapshot: what came of it is in there, also where nothing is left of what it came of.
    let told = now < world.batch.learned;
    let fresh = match fact {
        JobFact::Counted { job, pod, index, verdict } => {
            let Some(pod) = world.pods.get_mut(pod).filter(|pod| !pod.counted) else { return false };
            pod.counted = true;
            let number = pod.spec.owner.as_ref().map(|owner| owner.number).unwrap_or_default();
            !told && about(&mut world.batch, job, |facts| counted(facts, number, *index, verdict, now))
        }
        other => !told && of_batch(&mut world.batch, other, now),
    };
    if fresh {
        world.batch.learned = now;
    }
    fresh
}

fn of_batch(batch: &mut Batch, fact: &JobFact, now: Tick) -> bool {
    match fact {
        JobFact::Recalled { memory } => {
            let fresh = batch.memory != *memory && batch.is_empty();
            if fresh {
                batch.memory = memory.clone();
            }
            fresh
        }
        JobFact::Clock { offset, time } => clock(batch, *offset, *time),
        JobFact::Begun { job } => begun(batch, job, now),
        JobFact::Counted { .. } => false,
        JobFact::Suspended { job, on } => about(batch, job, |facts| {
            let fresh = facts.suspended != *on;
            if fresh {
                facts.suspended = *on;
                (facts.started, facts.since) = (now, None);
            }
            fresh
        }),
        JobFact::Finished { job, end, at } => about(batch, job, |facts| {
            let fresh = facts.finished.is_none();
            facts.finished.get_or_insert((now, end.clone(), *at));
            fresh
        }),
        JobFact::Kept { job } => {
            about(batch, job, |facts| facts.finished.is_some() && !std::mem::replace(&mut facts.kept, true))
        }
        JobFact::Expired { job } => about(batch, job, |facts| !std::mem::replace(&mut facts.expired, true)),
        JobFact::Missed { job, on } => about(batch, job, |facts| missed(&mut facts.missed, *on, now)),
        JobFact::Forgotten { job } => {
            batch.memory.jobs.remove(job).is_some() | batch.jobs.remove(job).is_some()
        }
        JobFact::Followed { cron, at } => followed(batch, cron, *at, now),
        JobFact::Skipped { cron, at, why } => batch.crons.get_mut(cron).is_some_and(|facts| {
            let fresh = facts.skipped != Some((*at, *why));
            facts.skipped = Some((*at, *why));
            fresh
        }),
        JobFact::CronMissed { cron, on } => {
            batch.crons.get_mut(cron).is_some_and(|facts| missed(&mut facts.missed, *on, now))
        }
        JobFact::CronForgotten { cron } => {
            batch.memory.jobs.retain(|_, past| past.of.as_ref().is_none_or(|(owner, _)| owner != cron));
            batch.memory.crons.remove(cron).is_some() | batch.crons.remove(cron).is_some()
        }
    }
}

/// A pod of a Job was taken up: the next one gets another number.
pub fn admitted(world: &mut World, owner: &Owner) {
    if let Some(facts) = world.batch.jobs.get_mut(&owner.job) {
        facts.progress.next = facts.progress.next.max(owner.number.saturating_add(1));
    }
}

fn about(batch: &mut Batch, job: &str, change: impl FnOnce(&mut JobFacts) -> bool) -> bool {
    batch.jobs.get_mut(job).is_some_and(change)
}

fn missed(slot: &mut Option<Tick>, on: bool, now: Tick) -> bool {
    let fresh = slot.is_some() != on;
    if fresh {
        *slot = on.then_some(now);
    }
    fresh
}

fn begun(batch: &mut Batch, job: &Arc<Job>, now: Tick) -> bool {
    if batch.jobs.contains_key(&job.uid) {
        return false;
    }
    let past = batch.memory.jobs.remove(&job.uid);
    if let Some((cron, time)) = &job.of
        && let Some(facts) = batch.crons.get_mut(cron)
    {
        // A Job that a former boot left unfinished need not be the latest.
        if *time > facts.since || !facts.ran && past.is_none() {
            (facts.since, facts.ran, facts.recalled) = (*time, true, past.is_some());
        }
    }
    let known = |second: i64| Some(second).filter(|second| *second >= EARLIEST);
    let (created, since) =
        past.as_ref().map_or((None, None), |past| (known(past.created), known(past.started)));
    let (progress, finished) =
        past.map_or((Progress::default(), None), |past| (past.progress, past.finished));
    let facts = JobFacts {
        job: job.clone(),
        begun: now,
        started: now,
        created,
        since,
        suspended: job.suspend,
        progress,
        streaks: Default::default(),
        counted: Default::default(),
        doomed: None,
        kept: finished.is_some(),
        finished: finished.map(|(end, at)| (now, end, at)),
        expired: false,
        missed: None,
    };
    batch.jobs.insert(job.uid.clone(), facts);
    true
}

/// The key of a back-off: an index's own where its failures are limited, else the Job's.
pub(super) fn streak(job: &Job, index: Option<u32>) -> String {
    match (job.limit_per_index, index) {
        (Some(_), Some(index)) => index.to_string(),
        (_, _) => String::new(),
    }
}

fn counted(facts: &mut JobFacts, number: u32, index: Option<u32>, verdict: &Verdict, now: Tick) -> bool {
    if facts.counted.0 != now {
        facts.counted = (now, BTreeSet::new());
    }
    if !facts.counted.1.insert(number) {
        return false;
    }
    let key = streak(&facts.job, index);
    let progress = &mut facts.progress;
    let failed = |progress: &mut Progress| {
        progress.failed = progress.failed.saturating_add(1);
        index.map(|index| {
            let failures = progress.failures.entry(index).or_default();
            *failures = failures.saturating_add(1);
            *failures
        })
    };
    match verdict {
        Verdict::Succeeded => {
            progress.succeeded = progress.succeeded.saturating_add(1);
            progress.done.extend(index);
            facts.streaks.remove(&key);
            return true;
        }
        Verdict::Ignored => return true,
        Verdict::Failed => {
            let failures = failed(progress);
            if let (Some(limit), Some(failures), Some(index)) = (facts.job.limit_per_index, failures, index)
                && failures > limit
            {
                progress.given_up.insert(index);
            }
        }
        Verdict::FailedIndex => {
            failed(progress);
            progress.given_up.extend(index);
        }
        Verdict::FailedJob(why) => {
            failed(progress);
            facts.doomed = Some(why.clone());
        }
    }
    let streak = facts.streaks.entry(key).or_insert((0, now));
    *streak = (streak.0.saturating_add(1), now);
    true
}

/// Whether a clock that stands so is one to go by.
pub(super) fn believable(batch: &Batch, offset: i64, time: i64) -> bool {
    // Not before the latest time that it has known.
    let plausible = time >= batch.floor();
    match batch.clock {
        // Set while the machine runs, by someone who knows: believed unless it is absurd.
        Some((before, believed)) => {
            time >= EARLIEST && (believed || plausible || offset.saturating_sub(before).abs() >= JUMP)
        }
        None => plausible,
    }
}

/// A clock that was set, or is believed at last, makes void what was noted by the old one.
fn clock(batch: &mut Batch, offset: i64, time: i64) -> bool {
    let believed = believable(batch, offset, time);
    let fresh = batch.clock != Some((offset, believed));
    let before = batch.clock.replace((offset, believed));
    if before.is_some_and(|(before, was)| believed && !was || offset.saturating_sub(before).abs() >= JUMP) {
        for facts in batch.crons.values_mut() {
            // What a former boot knew is near, where the clock is one to go by.
            if !facts.recalled || facts.since > time.saturating_add(JUMP) {
                (facts.since, facts.ran, facts.skipped) = (time, false, None);
            }
        }
    }
    fresh
}

fn followed(batch: &mut Batch, cron: &Arc<Cron>, at: i64, now: Tick) -> bool {
    let name = cron.full_name();
    if let Some(facts) = batch.crons.get_mut(&name) {
        let fresh = facts.cron != *cron;
        facts.cron = cron.clone();
        return fresh;
    }
    let remembered = batch.memory.crons.remove(&name);
    let recalled = remembered.is_some();
    let (since, ran) = remembered.unwrap_or((at, false));
    let facts =
        CronFacts { cron: cron.clone(), begun: now, since, ran, recalled, skipped: None, missed: None };
    batch.crons.insert(name, facts);
    true
}

impl End {
    /// Kubernetes' condition type.
    pub fn word(&self) -> &'static str {
        match self {
            End::Complete => "Complete",
            End::Failed(..) => "Failed",
        }
    }
}
