//! A Job and a CronJob as the decision sees them. Past `manifest/` an invalid one cannot be expressed.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, Zone};
use crate::pod::spec::Pod;

/// One Job: written as such, or made by a CronJob for one of its times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// From the content of its document, without what may be changed while it runs (parallelism, suspend,
    /// ttlSecondsAfterFinished), and without defaults, so that no new version of podinit runs it again.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The manifest it came from.
    pub origin: String,
    pub parallelism: u32,
    /// None: one success is enough, and no pod is begun after it.
    pub completions: Option<u32>,
    pub backoff_limit: u32,
    pub deadline: Option<Duration>,
    pub ttl: Option<Duration>,
    pub suspend: bool,
    /// completionMode Indexed; `completions` is then given.
    pub indexed: bool,
    /// backoffLimitPerIndex and maxFailedIndexes.
    pub limit_per_index: Option<u32>,
    pub max_failed_indexes: Option<u32>,
    /// podFailurePolicy: the first rule that matches a failed pod counts.
    pub rules: Vec<Rule>,
    /// Of a CronJob: its `namespace/name`, and the time for which it was made, in seconds since the Unix epoch.
    pub of: Option<(String, i64)>,
    /// The pod of its template, checked, by the Job's own name; `instance` makes the real ones.
    pub pod: Arc<Pod>,
}

impl Job {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A rule of podFailurePolicy on exit codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub what: Consequence,
    /// None: any.
    pub container: Option<String>,
    pub not_in: bool,
    pub codes: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consequence {
    FailJob,
    FailIndex,
    Ignore,
    Count,
}

/// Whose pod a pod is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The Job's uid.
    pub job: String,
    pub index: Option<u32>,
    /// Counts the Job's pods from 0.
    pub number: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cron {
    pub namespace: String,
    pub name: String,
    pub schedule: Schedule,
    /// As it is written.
    pub text: String,
    pub zone: Zone,
    pub concurrency: Concurrency,
    pub suspend: bool,
    /// startingDeadlineSeconds.
    pub late: Option<i64>,
    /// successfulJobsHistoryLimit and failedJobsHistoryLimit.
    pub keep_succeeded: usize,
    pub keep_failed: usize,
    /// jobTemplate by the CronJob's own name; `of` is not set.
    pub job: Arc<Job>,
}

impl Cron {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The Job for one of its times, named and identified by it as the controller names it: by its minutes.
    pub fn job(&self, time: i64) -> Arc<Job> {
        let job = Job {
            uid: format!("{}-{time}", self.job.uid),
            name: format!("{}-{}", self.name, time.div_euclid(60)),
            of: Some((self.full_name(), time)),
            ..(*self.job).clone()
        };
        Arc::new(job)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Concurrency {
    #[default]
    Allow,
    Forbid,
    Replace,
}
