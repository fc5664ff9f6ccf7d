//! One Job: its ended pods counted, its end, and the pods that it wants.
//!
//! Source: Kubernetes' Job controller (syncJob, manageJob) and the words of its conditions.

use std::sync::Arc;
use std::time::Duration;

use super::decide::{Turn, Wants};
use super::facts::{End, JobFact, JobFacts, Verdict};
use super::instance::instance;
use super::learn::streak;
use super::spec::{Consequence, Job, Rule};
use crate::clock::Tick;
use crate::pod::facts::PodFacts;
use crate::pod::restart;
use crate::pod::spec::RestartPolicy;

/// The first and the longest wait between a failed pod and the next.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(360));
/// How many ended pods of a Job stay to be looked at. Kubernetes keeps all, which a small machine cannot.
const KEEP: usize = 20;

/// `job`: as it is wanted now, which may differ in what can be changed.
pub(super) fn decide(turn: &Turn, wants: &mut Wants, job: &Arc<Job>, facts: &JobFacts) {
    let none = Vec::new();
    let pods = turn.pods.get(job.uid.as_str()).unwrap_or(&none);
    if facts.expired {
        return;
    }
    let (ended, active): (Vec<&PodFacts>, Vec<&PodFacts>) = pods.iter().partition(|pod| pod.done());
    let surplus = ended.len().saturating_sub(KEEP);
    // Those that are not counted yet stay in any case.
    let kept = ended.iter().enumerate().filter(|(at, pod)| *at >= surplus || !pod.counted);
    wants.pods.extend(kept.map(|(_, pod)| pod.spec.clone()));
    if let Some((at, _, _)) = &facts.finished {
        if let Some(ttl) = job.ttl
            && facts.kept
            && wants.due(*at + ttl, turn.now)
        {
            wants.note(JobFact::Expired { job: job.uid.clone() });
        }
        return;
    }
    let mut waits = false;
    for pod in ended.iter().filter(|pod| !pod.counted) {
        let index = pod.spec.owner.as_ref().and_then(|owner| owner.index);
        let verdict = verdict(job, pod);
        wants.note(JobFact::Counted { job: job.uid.clone(), pod: pod.spec.uid.clone(), index, verdict });
        waits = true;
    }
    if job.suspend != facts.suspended {
        wants.note(JobFact::Suspended { job: job.uid.clone(), on: job.suspend });
        waits = true;
    }
    if waits {
        // What follows from it is decided when it is known.
        wants.pods.extend(active.iter().map(|pod| pod.spec.clone()));
        return;
    }
    if job.suspend {
        return;
    }
    if let Some(end) = end(turn, wants, job, facts, &active) {
        wants.note(JobFact::Finished { job: job.uid.clone(), end, at: turn.time });
        wants.pods.extend(active.iter().map(|pod| pod.spec.clone()));
        return;
    }
    pods_of(turn, wants, job, facts, &active);
}

/// How it ends, if it ends now.
fn end(turn: &Turn, wants: &mut Wants, job: &Job, facts: &JobFacts, active: &[&PodFacts]) -> Option<End> {
    let progress = &facts.progress;
    let failed = |reason: &str, message: &str| Some(End::Failed(reason.into(), message.into()));
    if let Some(why) = &facts.doomed {
        return failed("PodFailurePolicy", why);
    }
    let restarts: u32 = match job.pod.restart {
        RestartPolicy::OnFailure => {
            active.iter().flat_map(|pod| pod.containers.values()).map(|facts| facts.restarts).sum()
        }
        RestartPolicy::Always | RestartPolicy::Never => 0,
    };
    if progress.failed > job.backoff_limit || restarts > 0 && restarts >= job.backoff_limit {
        return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if let Some(deadline) = job.deadline
        && wants.due(expiry(turn, facts, deadline), turn.now)
    {
        return failed("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    let given_up = u32::try_from(progress.given_up.len()).unwrap_or(u32::MAX);
    if job.max_failed_indexes.is_some_and(|most| given_up > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failed("MaxFailedIndexesExceeded", message);
    }
    let complete = match job.completions {
        None => progress.succeeded > 0 && active.is_empty(),
        Some(count) if job.indexed => {
            let settled =
                (0..count).all(|index| progress.done.contains(&index) || progress.given_up.contains(&index));
            if settled && given_up > 0 {
                return failed("FailedIndexes", "Job has failed indexes");
            }
            settled
        }
        Some(count) => progress.succeeded >= count,
    };
    complete.then_some(End::Complete)
}

/// When its activeDeadlineSeconds are over. Where a former boot began it they go on by the wall clock, once that stands
/// where it can be believed: until then the time before this boot is not counted.
fn expiry(turn: &Turn, facts: &JobFacts, deadline: Duration) -> Tick {
    let here = facts.started + deadline;
    let seconds = i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX);
    match facts.since {
        Some(since) if turn.time >= turn.world.batch.floor().max(since) => {
            // Before this boot: now.
            turn.desired.wall.tick(since.saturating_add(seconds)).unwrap_or(turn.now).min(here)
        }
        Some(_) | None => here,
    }
}

/// The active ones as far as they are wanted, and new ones in the place of those that are missing.
fn pods_of(turn: &Turn, wants: &mut Wants, job: &Arc<Job>, facts: &JobFacts, active: &[&PodFacts]) {
    let progress = &facts.progress;
    let most = job.parallelism as usize;
    let wanted = match job.completions {
        // A work queue: after the first success nothing new is begun.
        None if progress.succeeded > 0 => active.len().min(most),
        None => most,
        Some(count) => most.min(count.saturating_sub(progress.succeeded) as usize),
    };
    // The oldest stay.
    wants.pods.extend(active.iter().take(wanted).map(|pod| pod.spec.clone()));
    let missing = wanted.saturating_sub(active.len());
    if missing == 0 {
        return;
    }
    let taken = |index: u32| {
        let same = |pod: &&PodFacts| pod.spec.owner.as_ref().is_some_and(|owner| owner.index == Some(index));
        progress.done.contains(&index) || progress.given_up.contains(&index) || active.iter().any(same)
    };
    let indexes: Vec<Option<u32>> = match job.completions {
        Some(count) if job.indexed => (0..count).filter(|index| !taken(*index)).map(Some).collect(),
        Some(_) | None => vec![None; missing],
    };
    let mut number = progress.next;
    let mut ready = 0;
    for index in indexes {
        let due = facts
            .streaks
            .get(&streak(job, index))
            .map_or(turn.now, |(failures, last)| *last + restart::retry(BACK_OFF.0, BACK_OFF.1, *failures));
        if ready < missing && wants.due(due, turn.now) {
            let failures = index.filter(|_| job.limit_per_index.is_some());
            let failures = failures.map(|index| progress.failures.get(&index).copied().unwrap_or_default());
            wants.pods.push(instance(job, index, number, failures));
            number = number.saturating_add(1);
            ready += 1;
        }
    }
}

/// What an ended pod is to its Job.
fn verdict(job: &Job, pod: &PodFacts) -> Verdict {
    if pod.succeeded() {
        return Verdict::Succeeded;
    }
    let exits: Vec<(&str, i32)> = (pod.spec.containers.iter().chain(&pod.spec.init))
        .filter_map(|container| {
            let code = pod.present(&container.name)?.code().filter(|code| *code != 0)?;
            Some((container.name.as_str(), code))
        })
        .collect();
    let rules = job.rules.iter().enumerate();
    let found = rules.into_iter().find_map(|(at, rule)| {
        let (name, code) = exits.iter().find(|(name, code)| matches(rule, name, *code))?;
        Some((at, rule.what, *name, *code))
    });
    match found {
        None | Some((_, Consequence::Count, _, _)) => Verdict::Failed,
        Some((_, Consequence::Ignore, _, _)) => Verdict::Ignored,
        Some((_, Consequence::FailIndex, _, _)) => Verdict::FailedIndex,
        Some((at, Consequence::FailJob, name, code)) => Verdict::FailedJob(format!(
            "Container {name} for pod {} failed with exit code {code} matching FailJob rule at index {at}",
            pod.spec.full_name()
        )),
    }
}

fn matches(rule: &Rule, name: &str, code: i32) -> bool {
    rule.container.as_deref().is_none_or(|wanted| wanted == name) && rule.codes.contains(&code) != rule.not_in
}
