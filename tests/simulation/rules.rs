//! What must hold of Jobs and CronJobs, stated over what really happened.

use std::collections::BTreeSet;

use podinit::clock::Tick;
use podinit::pod::Pod;
use podinit::pod::batch::facts::JobFact;
use podinit::pod::batch::schedule::Schedule;
use podinit::pod::batch::spec::{Concurrency, Job, Owner};
use podinit::pod::plan::Action;

use crate::jobs::{Outcome, RealPod, Story};

fn check(holds: bool, why: &str) -> Outcome {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// Of the moment before it is carried out.
pub fn of_an_action(story: &Story, action: &Action) -> Outcome {
    match action {
        Action::Admit(pod) => {
            let twin = story.pods.values().any(|other| other.spec.full_name() == pod.full_name());
            check(!twin, "one_pod_for_a_full_name")?;
            check(!story.desired.ending, "nothing_comes_at_the_end")?;
            pod.owner.as_ref().map_or(Ok(()), |owner| admitted(story, pod, owner))
        }
        Action::Dismiss { uid, .. } => {
            let pod = &story.pods[uid];
            pod.owner().map_or(Ok(()), |owner| dismissed(story, pod, owner))
        }
        Action::Note(JobFact::Begun { job }) => begun(story, job),
        Action::Note(JobFact::Finished { job, .. }) => check(!story.finished.contains(job), "finished_once"),
        Action::Note(JobFact::Expired { job }) => expired(story, job),
        Action::Note(JobFact::Forgotten { job }) => {
            let listed = story.desired.jobs.iter().any(|wanted| wanted.uid == *job);
            check(!listed, "a_wanted_job_is_not_forgotten")?;
            check(story.of(job).next().is_none(), "no_job_is_forgotten_before_its_pods_are_gone")
        }
        _ => Ok(()),
    }
}

fn admitted(story: &Story, pod: &Pod, owner: &Owner) -> Outcome {
    let job = story.wanted(&owner.job).ok_or("only_a_wanted_job_has_pods")?;
    check(!job.suspend, "a_suspended_job_starts_nothing")?;
    let ended = story.finished.contains(&owner.job) || story.told.contains(&owner.job);
    check(!ended, "a_finished_job_never_runs_again")?;
    check(!story.used.contains(&pod.uid), "no_number_comes_twice")?;
    let active: Vec<&RealPod> = story.of(&owner.job).filter(|pod| pod.active()).collect();
    check(active.len() < job.parallelism as usize, "no_more_active_than_parallelism")?;
    let tally = story.real.tallies.get(&owner.job).cloned().unwrap_or_default();
    check(tally.failed <= job.backoff_limit, "nothing_after_the_back_off_limit")?;
    check(!tally.doomed, "nothing_after_a_rule_failed_the_job")?;
    let key = owner.index.filter(|_| job.limit_per_index.is_some());
    let failed = tally.failing.get(&key);
    let waited = failed.is_none_or(|at| story.now >= *at + std::time::Duration::from_secs(10));
    check(waited, "a_failure_is_waited_for")?;
    match (job.completions, owner.index) {
        (None, _) => check(tally.succeeded == 0, "a_work_queue_begins_nothing_after_a_success"),
        (Some(count), None) => {
            let more = tally.succeeded as usize + active.len() < count as usize;
            check(!job.indexed && more, "no_more_than_its_completions")
        }
        (Some(count), Some(index)) => {
            let settled = tally.done.contains(&index) || tally.given_up.contains(&index);
            let taken = active.iter().any(|pod| pod.owner().and_then(|owner| owner.index) == Some(index));
            check(job.indexed && index < count, "an_index_is_one_of_its_job")?;
            check(!settled && !taken, "an_index_runs_once_at_a_time_and_not_after_its_end")
        }
    }
}

/// Nobody is taken away what he works at without a cause.
fn dismissed(story: &Story, pod: &RealPod, owner: &Owner) -> Outcome {
    let Some(job) = story.wanted(&owner.job).filter(|_| !story.desired.ending) else { return Ok(()) };
    let over = story.finished.contains(&owner.job) || job.suspend;
    let active = story.of(&owner.job).filter(|pod| pod.active()).count();
    let tally = story.real.tallies.get(&owner.job).cloned().unwrap_or_default();
    let room = job.completions.map_or(u32::MAX, |count| count.saturating_sub(tally.succeeded));
    let surplus = active > job.parallelism.min(room) as usize;
    let expired = story.expired.contains(&owner.job);
    check(pod.over() || over || surplus || expired, "no_active_pod_is_dismissed_without_a_cause")
}

fn begun(story: &Story, job: &Job) -> Outcome {
    check(!story.jobs.contains_key(&job.uid), "a_job_is_begun_once")?;
    let Some((name, time)) = &job.of else {
        return check(
            story.desired.jobs.iter().any(|wanted| wanted.uid == job.uid),
            "only_a_wanted_job_begins",
        );
    };
    if story.world.batch.memory.jobs.contains_key(&job.uid) {
        // It began in a former boot.
        return Ok(());
    }
    let cron = story.desired.crons.iter().find(|cron| cron.full_name() == *name);
    let known = || story.world.batch.crons.get(name).map(|facts| &facts.cron);
    let cron = cron.or_else(|| known().filter(|_| !story.desired.certain));
    let cron = cron.ok_or("only_a_wanted_cron_job_begins")?;
    check(!cron.suspend, "a_suspended_cron_job_begins_nothing")?;
    check(!story.real.begun.contains(&(name.clone(), *time)), "no_time_has_two_jobs")?;
    check(*time <= story.time(), "no_job_before_its_time")?;
    check(cron.late.is_none_or(|late| *time >= story.time() - late), "no_job_later_than_it_may")?;
    if let Schedule::Fields(_) = cron.schedule {
        check(
            cron.schedule.next(*time - 1, &cron.zone) == Some(*time),
            "a_job_is_of_a_time_of_its_schedule",
        )?;
    }
    let of = |job: &&Job| job.of.as_ref().is_some_and(|(owner, _)| owner == name);
    let mut others = story.jobs.values().map(AsRef::as_ref).filter(of);
    let goes = |job: &Job| story.expired.contains(&job.uid) || story.wanted(&job.uid).is_none();
    let runs = |job: &Job| !story.finished.contains(&job.uid) && !goes(job);
    match cron.concurrency {
        Concurrency::Allow => Ok(()),
        Concurrency::Forbid => check(!others.any(runs), "forbid_never_overlaps"),
        Concurrency::Replace => check(!others.any(runs), "replace_never_leaves_two"),
    }
}

/// Its pods go, and with a former Job's they may be the only trace of it.
fn expired(story: &Story, uid: &str) -> Outcome {
    let of = story.jobs.get(uid).and_then(|job| job.of.as_ref());
    // The policy goes by the name, and its CronJob may be away for a while.
    let replaced = of.is_some_and(|(name, _)| name.ends_with("/replace"));
    let kept = story.world.batch.jobs.get(uid).is_some_and(|facts| facts.kept);
    check(kept || replaced, "nothing_expires_before_its_end_is_kept")
}

/// What holds whenever nothing is due.
pub fn after_a_turn(story: &Story) -> Outcome {
    let mut owners: BTreeSet<&str> = BTreeSet::new();
    let mut blocks: Vec<(u32, u32)> = Vec::new();
    for pod in story.pods.values() {
        owners.extend(pod.owner().map(|owner| owner.job.as_str()));
        if let Some(ids) = pod.ids {
            let free = blocks.iter().all(|(first, end)| ids.first >= *end || ids.first + ids.count <= *first);
            check(free, "no_two_pods_share_host_ids")?;
            blocks.push((ids.first, ids.first + ids.count));
        }
        check(pod.ids.is_none() || pod.spec.spaces.own_users, "only_who_asks_has_ids")?;
    }
    for uid in owners {
        let active = story.of(uid).filter(|pod| pod.active()).count();
        let Some(job) = story.wanted(uid) else {
            check(active == 0, "an_unwanted_job_has_no_pods")?;
            continue;
        };
        check(active <= job.parallelism as usize, "no_more_active_than_parallelism")?;
        check(active == 0 || !job.suspend, "a_suspended_job_has_no_pods")?;
        let ended = story.finished.contains(uid) || story.told.contains(uid);
        check(active == 0 || !ended, "a_finished_job_never_runs_again")?;
        let tally = story.real.tallies.get(uid).cloned().unwrap_or_default();
        let fits = job.completions.is_none_or(|count| tally.succeeded as usize + active <= count as usize);
        check(active == 0 || fits, "no_more_than_its_completions")?;
    }
    for cron in story.desired.crons.iter().filter(|cron| cron.concurrency != Concurrency::Allow) {
        let name = cron.full_name();
        let of = |job: &&std::sync::Arc<Job>| job.of.as_ref().is_some_and(|(owner, _)| *owner == name);
        let running = story.jobs.values().filter(of).filter(|job| story.of(&job.uid).any(RealPod::active));
        check(running.count() <= 1, "neither_forbid_nor_replace_leaves_two")?;
    }
    Ok(())
}

/// When nothing fails any more.
pub fn all_jobs_came_to_their_ends(story: &Story) -> Outcome {
    for (uid, job) in &story.jobs {
        let Some(wanted) = story.wanted(uid) else { continue };
        let rests = wanted.suspend || wanted.parallelism == 0;
        let replaced = story.expired.contains(uid);
        let ended = story.finished.contains(uid) || story.told.contains(uid);
        if !(rests || ended || replaced || known(story, uid)) {
            return Err(format!("all_jobs_came_to_their_ends: {} did not", job.full_name()));
        }
    }
    for job in &story.desired.jobs {
        check(story.jobs.contains_key(&job.uid), "every_job_begins")?;
    }
    check(story.world.batch.unkept().is_empty(), "every_end_comes_to_the_disk")?;
    check(story.now > Tick(0), "time goes by")
}

/// Whether a former boot knew its end, of which this one was never told.
fn known(story: &Story, uid: &str) -> bool {
    story.disk.memory.jobs.get(uid).is_some_and(|past| past.finished.is_some())
}
