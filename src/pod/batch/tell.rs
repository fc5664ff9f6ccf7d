//! Facts of Jobs and CronJobs as console lines, and as events in the controllers' words.

use jiff::Timestamp;

use super::facts::{End, JobFact, JobFacts, Skip, Verdict};
use super::learn::believable;
use crate::pod::World;

/// One event.
pub struct Told {
    /// Job or CronJob.
    pub kind: &'static str,
    /// Its `namespace/name`.
    pub about: String,
    pub uid: String,
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

impl JobFact {
    /// What the console says of it, given the world **before** it is learned.
    pub fn line(&self, world: &World) -> Option<String> {
        let batch = &world.batch;
        let job = |uid: &str| batch.jobs.get(uid);
        let name = |facts: &JobFacts| facts.job.full_name();
        match self {
            JobFact::Recalled { memory } => {
                let (jobs, crons) = (memory.jobs.len(), memory.crons.len());
                Some(format!("podinit: remembers {jobs} Jobs and {crons} CronJobs of a former boot"))
            }
            JobFact::Clock { offset, time } => {
                let before = batch.clock.map(|(_, believed)| believed);
                let now = believable(batch, *offset, *time);
                match (before, now) {
                    (None | Some(true), false) => {
                        Some("clock: was not set since the machine came up: CronJobs wait for it".into())
                    }
                    (Some(false), true) => Some("clock: is set: CronJobs go by it".into()),
                    (None | Some(true), true) | (Some(false), false) => None,
                }
            }
            JobFact::Begun { job, .. } if batch.jobs.contains_key(&job.uid) => None,
            JobFact::Begun { job, .. } => match batch.memory.jobs.get(&job.uid).map(|past| &past.finished) {
                Some(Some((end, _))) => Some(format!(
                    "{}: job is {} since a former boot",
                    job.full_name(),
                    end.word().to_lowercase()
                )),
                Some(None) => Some(format!("{}: job goes on where a former boot left it", job.full_name())),
                None => Some(format!("{}: job begun from {}", job.full_name(), job.origin)),
            },
            JobFact::Counted { job: uid, pod, verdict, .. } => {
                let pod = world.pods.get(pod).filter(|pod| !pod.counted)?;
                let what = match verdict {
                    Verdict::Succeeded => "succeeded",
                    Verdict::Failed => "failed",
                    Verdict::Ignored => "failed, which podFailurePolicy ignores",
                    Verdict::FailedIndex => "failed its index by podFailurePolicy",
                    Verdict::FailedJob(_) => "failed the job by podFailurePolicy",
                };
                job(uid).map(|facts| format!("{}: pod {} {what}", name(facts), pod.spec.name))
            }
            JobFact::Suspended { job: uid, on } => {
                let facts = job(uid).filter(|facts| facts.suspended != *on)?;
                Some(format!("{}: job {}", name(facts), if *on { "suspended" } else { "resumed" }))
            }
            JobFact::Finished { .. } => None,
            JobFact::Kept { job: uid } => {
                let facts = job(uid).filter(|facts| !facts.kept)?;
                let (_, end, _) = facts.finished.as_ref()?;
                Some(match end {
                    End::Complete => format!("{}: job complete", name(facts)),
                    End::Failed(reason, message) => {
                        format!("{}: job failed: {reason}: {message}", name(facts))
                    }
                })
            }
            JobFact::Expired { job: uid } => {
                let facts = job(uid).filter(|facts| !facts.expired)?;
                Some(format!("{}: job and its pods go", name(facts)))
            }
            JobFact::Missed { .. } | JobFact::CronMissed { .. } => None,
            JobFact::Forgotten { job: uid } => Some(format!("{}: job forgotten", name(job(uid)?))),
            JobFact::Followed { cron, .. } => match batch.crons.get(&cron.full_name()) {
                Some(known) if known.cron == *cron => None,
                Some(_) => Some(format!("{}: cron job edited", cron.full_name())),
                None => Some(format!("{}: cron job followed", cron.full_name())),
            },
            JobFact::Skipped { cron, at, why } => {
                let facts = batch.crons.get(cron).filter(|facts| facts.skipped != Some((*at, *why)))?;
                let what = match why {
                    Skip::Active => "waits: concurrencyPolicy is Forbid and the job before is active",
                    Skip::Late => "passed: it is later than startingDeadlineSeconds allow",
                    Skip::TooMany => {
                        "is the latest of too many missed ones, and the only one that is made up for"
                    }
                };
                Some(format!("{}: its time {} {what}", facts.cron.full_name(), moment(*at)))
            }
            JobFact::CronForgotten { cron } => {
                batch.crons.get(cron).map(|_| format!("{cron}: cron job forgotten"))
            }
        }
    }
}

/// The event of a fact that the world has just learned.
pub fn event(world: &World, fact: &JobFact) -> Option<Told> {
    let batch = &world.batch;
    let of_job = |uid: &str, warning: bool, reason: &str, message: String| {
        let facts = batch.jobs.get(uid)?;
        let (about, reason) = (facts.job.full_name(), reason.into());
        Some(Told { kind: "Job", about, uid: uid.into(), warning, reason, message })
    };
    let of_cron = |cron: &str, warning: bool, reason: &str, message: String| {
        let uid = batch.crons.get(cron)?.cron.job.uid.clone();
        Some(Told { kind: "CronJob", about: cron.into(), uid, warning, reason: reason.into(), message })
    };
    match fact {
        JobFact::Begun { job, .. } => job.of.as_ref().and_then(|(cron, _)| {
            of_cron(cron, false, "SuccessfulCreate", format!("Created job {}", job.name))
        }),
        JobFact::Suspended { job, on: true } => of_job(job, false, "Suspended", "Job suspended".into()),
        JobFact::Suspended { job, on: false } => of_job(job, false, "Resumed", "Job resumed".into()),
        JobFact::Kept { job } => match &batch.jobs.get(job)?.finished.as_ref()?.1 {
            End::Complete => of_job(job, false, "Completed", "Job completed".into()),
            End::Failed(reason, message) => of_job(job, true, reason, message.clone()),
        },
        JobFact::Skipped { cron, at, why } => match why {
            Skip::Active => of_cron(
                cron,
                false,
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is Forbid".into(),
            ),
            Skip::Late => {
                let message = format!("Missed scheduled time to start a job: {}", moment(*at));
                of_cron(cron, true, "MissSchedule", message)
            }
            Skip::TooMany => of_cron(
                cron,
                true,
                "TooManyMissedTimes",
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew".into(),
            ),
        },
        JobFact::Recalled { .. }
        | JobFact::Clock { .. }
        | JobFact::Counted { .. }
        | JobFact::Finished { .. }
        | JobFact::Expired { .. }
        | JobFact::Missed { .. }
        | JobFact::Forgotten { .. }
        | JobFact::Followed { .. }
        | JobFact::CronMissed { .. }
        | JobFact::CronForgotten { .. } => None,
    }
}

fn moment(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}
