//! One CronJob: a Job for the latest of its times that has none, and how long its ended Jobs stay.
//!
//! Source: Kubernetes' CronJob controller (syncCronJob, nextScheduleTime, cleanupFinishedJobs).

use std::sync::Arc;

use super::decide::{Turn, Wants};
use super::facts::{CronFacts, JobFact, JobFacts, Skip};
use super::schedule::MANY;
use super::spec::{Concurrency, Cron};

/// `cron`: as it is wanted now.
pub(super) fn decide(turn: &Turn, wants: &mut Wants, cron: &Arc<Cron>, facts: &CronFacts, believed: bool) {
    let name = cron.full_name();
    let batch = &turn.world.batch;
    let of =
        |of: &Option<(String, i64)>| of.as_ref().filter(|(owner, _)| *owner == name).map(|(_, time)| *time);
    let mut jobs: Vec<(i64, &JobFacts)> =
        batch.jobs.values().filter_map(|job| Some((of(&job.job.of)?, job))).collect();
    jobs.sort_by_key(|(time, _)| *time);
    history(wants, cron, &jobs);
    // What a former boot left unfinished goes on, unless the template is another one by now.
    let mut waits = false;
    for (uid, past) in &batch.memory.jobs {
        let Some(time) = of(&past.of) else { continue };
        waits = true;
        let job = cron.job(time);
        wants.note(match job.uid == *uid {
            true => JobFact::Begun { job },
            false => JobFact::Forgotten { job: uid.clone() },
        });
    }
    // What follows from those is decided when they are there.
    if cron.suspend || !believed || waits {
        return;
    }
    let latest = |since: i64| cron.schedule.latest(since, turn.time, &cron.zone);
    // Also the next one is after the latest, from which `@every` counts on.
    let found = latest(facts.since).map(|(time, _)| time);
    let next = cron.schedule.next(found.unwrap_or(facts.since), &cron.zone);
    if let Some(next) = next.and_then(|next| turn.desired.wall.tick(next)) {
        wants.due(next, turn.now);
    }
    let Some(time) = found else { return };
    let earliest = cron.late.map_or(facts.since, |late| facts.since.max(turn.time.saturating_sub(late)));
    let skip = |wants: &mut Wants, at: i64, why: Skip| {
        let fresh = facts.skipped != Some((at, why));
        if fresh {
            wants.note(JobFact::Skipped { cron: name.clone(), at, why });
        }
        fresh
    };
    if time <= earliest {
        skip(wants, time, Skip::Late);
        return;
    }
    let missed = latest(earliest).map_or(0, |(_, missed)| missed);
    let unexpired = || jobs.iter().map(|(_, job)| *job).filter(|job| !job.expired);
    let active: Vec<&JobFacts> = unexpired().filter(|job| job.finished.is_none()).collect();
    match cron.concurrency {
        // Also one whose end might be forgotten: after a power cut it would go on beside the next.
        Concurrency::Forbid if unexpired().any(|job| !job.kept) => {
            skip(wants, time, Skip::Active);
            // Then it is too late for it.
            if let Some(end) = cron.late.and_then(|late| turn.desired.wall.tick(time.saturating_add(late))) {
                wants.due(end, turn.now);
            }
            return;
        }
        Concurrency::Replace if !active.is_empty() => {
            for job in active {
                wants.note(JobFact::Expired { job: job.job.uid.clone() });
            }
            return;
        }
        Concurrency::Allow | Concurrency::Forbid | Concurrency::Replace => {}
    }
    if missed > MANY && skip(wants, time, Skip::TooMany) {
        return;
    }
    wants.note(JobFact::Begun { job: cron.job(time) });
}

/// The oldest go.
fn history(wants: &mut Wants, cron: &Cron, jobs: &[(i64, &JobFacts)]) {
    for (succeeded, keep) in [(true, cron.keep_succeeded), (false, cron.keep_failed)] {
        let ended: Vec<_> = jobs
            .iter()
            .filter(|(_, job)| job.kept && !job.expired && job.succeeded() == Some(succeeded))
            .collect();
        for (_, job) in ended.iter().take(ended.len().saturating_sub(keep)) {
            wants.note(JobFact::Expired { job: job.job.uid.clone() });
        }
    }
}
