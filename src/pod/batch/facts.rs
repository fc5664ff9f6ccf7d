//! What happened to Jobs and CronJobs, and what of it outlives the machine's power.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decide::{EARLIEST, JUMP};
use super::spec::{Cron, Job};
use crate::clock::{Tick, Wall};

/// One thing that happened to a Job or a CronJob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobFact {
    /// The machine came up: this is what is remembered from before.
    Recalled {
        memory: Memory,
    },
    /// The machine's clock was seen to stand so: seconds since the Unix epoch, at `Tick(0)` and now.
    Clock {
        offset: i64,
        time: i64,
    },
    /// The Job was taken up.
    Begun {
        job: Arc<Job>,
    },
    /// A pod of it is over and was counted.
    Counted {
        job: String,
        pod: String,
        index: Option<u32>,
        verdict: Verdict,
    },
    /// It was suspended, or goes on.
    Suspended {
        job: String,
        on: bool,
    },
    /// It is finished.
    Finished {
        job: String,
        end: End,
        at: i64,
    },
    /// That it is finished is on the disk, or could not be brought there, which was told: from here on it is acted upon.
    Kept {
        job: String,
    },
    /// Its time to live is over, or the history of its CronJob is full: its pods are not wanted any more.
    Expired {
        job: String,
    },
    /// It was missed among the manifests, or is there again.
    Missed {
        job: String,
        on: bool,
    },
    /// It is of no manifest any more.
    Forgotten {
        job: String,
    },
    /// The CronJob is followed, or edited; its times count from here on where they did not before.
    Followed {
        cron: Arc<Cron>,
        at: i64,
    },
    /// There is something to say of a time of it.
    Skipped {
        cron: String,
        at: i64,
        why: Skip,
    },
    /// The CronJob was missed among the manifests, or is there again; and at last forgotten.
    CronMissed {
        cron: String,
        on: bool,
    },
    CronForgotten {
        cron: String,
    },
}

/// What an ended pod is to its Job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Succeeded,
    Failed,
    /// podFailurePolicy says Ignore.
    Ignored,
    /// It says FailIndex.
    FailedIndex,
    /// It says FailJob: the message.
    FailedJob(String),
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Complete,
    /// Reason and message.
    Failed(String, String),
}

/// Why a CronJob's time passed without a Job, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// concurrencyPolicy Forbid: it is begun when the Job before has ended, if that is not too late.
    Active,
    /// startingDeadlineSeconds are over.
    Late,
    /// Not skipped: more times were missed than a clock that is right would explain, and this is the latest.
    TooMany,
}

/// How far a Job has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The number of the next pod.
    pub next: u32,
    pub succeeded: u32,
    pub failed: u32,
    /// Indexes that succeeded, and that failed for good.
    pub done: BTreeSet<u32>,
    pub given_up: BTreeSet<u32>,
    /// How often an index failed.
    pub failures: BTreeMap<u32, u32>,
}

/// A Job that was taken up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFacts {
    pub job: Arc<Job>,
    /// When it was taken up in this boot, and since when it is active: its activeDeadlineSeconds count from there.
    pub begun: Tick,
    pub started: Tick,
    /// Where a former boot took it up, or made it active: when, by the wall clock.
    pub created: Option<i64>,
    pub since: Option<i64>,
    pub suspended: bool,
    pub progress: Progress,
    /// Failures in a row, and the last of them; by index (or for all, under None, `""`).
    pub streaks: BTreeMap<String, (u32, Tick)>,
    /// The numbers of the pods that were counted last, at that moment: told again they do not count again.
    pub counted: (Tick, BTreeSet<u32>),
    /// What podFailurePolicy says of it.
    pub doomed: Option<String>,
    /// When it was finished: by both clocks.
    pub finished: Option<(Tick, End, i64)>,
    /// Whether a later boot knows of its end.
    pub kept: bool,
    pub expired: bool,
    pub missed: Option<Tick>,
}

/// A CronJob that is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CronFacts {
    pub cron: Arc<Cron>,
    /// Since when it is followed in this boot.
    pub begun: Tick,
    /// Its last time that has a Job; else since when it is followed.
    pub since: i64,
    /// Whether a Job was made at all.
    pub ran: bool,
    /// Whether `since` comes from before the machine came up, when its clock was another's. What this boot noted while its
    /// clock was not believed is void once it is.
    pub recalled: bool,
    pub skipped: Option<(i64, Skip)>,
    pub missed: Option<Tick>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    /// By uid.
    pub jobs: BTreeMap<String, JobFacts>,
    /// By `namespace/name`.
    pub crons: BTreeMap<String, CronFacts>,
    /// What is remembered of those that are not taken up yet.
    pub memory: Memory,
    /// Where the clock stood when it was last noted, and whether it is believed.
    pub clock: Option<(i64, bool)>,
    /// When something was last learned of any of them.
    pub learned: Tick,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.crons.is_empty()
    }

    /// The uids of Jobs whose end is not on the disk yet.
    pub fn unkept(&self) -> Vec<String> {
        let unkept = self.jobs.iter().filter(|(_, facts)| facts.finished.is_some() && !facts.kept);
        unkept.map(|(uid, _)| uid.clone()).collect()
    }

    /// From here on a clock that nobody was seen to set is believed.
    pub fn floor(&self) -> i64 {
        EARLIEST.max(self.memory.latest.saturating_sub(JUMP))
    }
}

impl JobFacts {
    /// When it was first taken up, and since when it is active, by the wall clock as it stands now.
    pub fn created(&self, wall: &Wall) -> i64 {
        self.created.unwrap_or_else(|| wall.time(self.begun).as_second())
    }

    pub fn start(&self, wall: &Wall) -> i64 {
        self.since.unwrap_or_else(|| wall.time(self.started).as_second())
    }
}

/// What outlives the machine's power: a small file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// By uid.
    pub jobs: BTreeMap<String, Past>,
    /// By `namespace/name`: the last time that has a Job (true), or since when it is followed.
    pub crons: BTreeMap<String, (i64, bool)>,
    /// The latest wall time that was written here.
    pub latest: i64,
}

/// A Job of a former boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    pub created: i64,
    /// Since when it was active; what is before 2025 is not known.
    #[serde(default)]
    pub started: i64,
    /// Of a CronJob, and for which of its times.
    pub of: Option<(String, i64)>,
    pub progress: Progress,
    pub finished: Option<(End, i64)>,
}

impl Memory {
    /// What is to be remembered now; None where there is nothing and never was.
    pub fn of(batch: &Batch, now: Tick, wall: &Wall) -> Memory {
        let mut memory = batch.memory.clone();
        for (uid, facts) in &batch.jobs {
            let past = Past {
                created: facts.created(wall),
                started: facts.start(wall),
                of: facts.job.of.clone(),
                progress: facts.progress.clone(),
                finished: facts.finished.as_ref().map(|(_, end, at)| (end.clone(), *at)),
            };
            // A CronJob's last time is enough to know of its finished ones, and of those that were replaced.
            if past.of.is_none() || past.finished.is_none() && !facts.expired {
                memory.jobs.insert(uid.clone(), past);
            }
        }
        let believed = batch.clock.is_some_and(|(_, believed)| believed);
        let crons = batch.crons.iter().filter(|(_, facts)| believed || facts.recalled);
        memory.crons.extend(crons.map(|(name, facts)| (name.clone(), (facts.since, facts.ran))));
        if believed {
            memory.latest = wall.time(now).as_second();
        }
        memory
    }
}
