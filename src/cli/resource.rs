//! What can be got, by kubectl's names for it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Pods,
    Jobs,
    CronJobs,
    Events,
    Problems,
}

/// Each by its names, the one that messages use first.
const NAMES: &[(Resource, &[&str])] = &[
    (Resource::Pods, &["pod", "pods", "po"]),
    (Resource::Jobs, &["job", "jobs", "job.batch", "jobs.batch"]),
    (Resource::CronJobs, &["cronjob", "cronjobs", "cj", "cronjob.batch", "cronjobs.batch"]),
    (Resource::Events, &["event", "events", "ev"]),
    (Resource::Problems, &["problem", "problems"]),
];

/// All of them, for a message.
pub const ALL: &str = "pods, jobs, cronjobs, events or problems";

impl Resource {
    pub fn of(word: &str) -> Option<Resource> {
        NAMES.iter().find(|(_, names)| names.contains(&word)).map(|(resource, _)| *resource)
    }

    /// Whether it is listed by name too.
    pub fn named(self) -> bool {
        match self {
            Resource::Pods | Resource::Jobs | Resource::CronJobs => true,
            Resource::Events | Resource::Problems => false,
        }
    }

    /// A name, of `NAME`, `pod/NAME` or `pods/NAME`.
    pub fn name(self, word: &str) -> Result<String, String> {
        match word.split_once('/') {
            None => Ok(word.to_owned()),
            Some((kind, name)) if Resource::of(kind) == Some(self) && !name.is_empty() => Ok(name.to_owned()),
            Some(_) => {
                let names = NAMES.iter().find(|(resource, _)| *resource == self);
                let own = names.and_then(|(_, names)| names.first()).copied().unwrap_or_default();
                Err(format!("\"{word}\" names no {own}: NAME or {own}/NAME would do"))
            }
        }
    }
}
