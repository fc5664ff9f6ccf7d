//! The HTTP source: pods that a URL answers with, and the last good answer where it does not.
//!
//! As with the kubelet an answer counts as a whole: one bad document, and the last good answer stays. An empty answer
//! wants nothing. A pod that a manifest file names too is the file's.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::dir::{self, same};
use super::document::{Content, Document, Named, Taken, key};
use super::uid::{Fnv, From};
use super::{read, text};
use crate::pod::batch::spec::{Cron, Job};
use crate::pod::fetch::Answer;
use crate::pod::spec::{Config, Listing, Pod, Problem};

/// How many different troubles of one failing spell are told.
const TROUBLES: usize = 8;

/// A URL, and what was last good of it.
pub struct Http {
    url: String,
    node: String,
    /// It has answered in this life: what it wants is known.
    answered: bool,
    /// Of the answer that was last looked at.
    hash: Option<Fnv>,
    taken: Vec<Taken>,
    configs: Vec<Named<Config>>,
    jobs: Vec<Named<Job>>,
    crons: Vec<Named<Cron>>,
    /// Of that answer.
    problems: Vec<Problem>,
    /// Why there is no answer, since there was one the last time.
    trouble: Option<String>,
    /// All such reasons: one that comes back is no news.
    troubles: BTreeSet<String>,
}

impl Http {
    pub fn new(url: String, node: String) -> Self {
        Http {
            url,
            node,
            answered: false,
            hash: None,
            taken: Vec::new(),
            configs: Vec::new(),
            jobs: Vec::new(),
            crons: Vec::new(),
            problems: Vec::new(),
            trouble: None,
            troubles: BTreeSet::new(),
        }
    }

    /// Tells it what there was before PID 1 re-executed: it stays until there is an answer.
    pub fn remember(
        &mut self,
        pods: impl Iterator<Item = Arc<Pod>>,
        configs: impl Iterator<Item = Arc<Config>>,
    ) {
        let ours = |origin: &str| origin == self.url || dir::file_of(origin) == self.url;
        self.taken = pods.filter(|pod| ours(&pod.origin)).map(|pod| dir::taken(&pod, &self.url)).collect();
        let configs = configs.filter(|config| ours(&config.origin));
        self.configs = configs.map(|config| dir::kept(&config, &self.url)).collect();
    }

    /// Whether it is known what it wants.
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Takes an answer in. Whether the listing is another one now.
    pub fn hear(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Trouble(why) => self.failed(why),
            // As if it were never asked again: the same answer as before it is news.
            Answer::Body(bytes) if bytes.is_empty() => {
                let first = !std::mem::replace(&mut self.answered, true);
                let wanted = !self.problems.is_empty() || !self.wants_nothing();
                self.hash = None;
                self.forget();
                self.problems.clear();
                let told = self
                    .failed("answered with nothing: no pods are wanted; answer with an empty PodList".into());
                told || first || wanted
            }
            Answer::Body(bytes) => {
                let recovered = self.trouble.take().is_some();
                self.troubles.clear();
                let first = !std::mem::replace(&mut self.answered, true);
                let mut hash = Fnv::new();
                hash.eat(&bytes);
                if self.hash.replace(hash) == Some(hash) {
                    return recovered || first;
                }
                self.renew(&bytes);
                true
            }
        }
    }

    fn wants_nothing(&self) -> bool {
        self.taken.is_empty() && self.configs.is_empty() && self.jobs.is_empty() && self.crons.is_empty()
    }

    fn forget(&mut self) {
        self.taken.clear();
        self.configs.clear();
        self.jobs.clear();
        self.crons.clear();
    }

    fn failed(&mut self, why: String) -> bool {
        let news = self.troubles.len() < TROUBLES && self.troubles.insert(why.clone());
        if news {
            self.trouble = Some(why);
        }
        news
    }

    fn renew(&mut self, bytes: &[u8]) {
        let read = read(bytes, &self.url, From::Url(&self.url), &self.node);
        self.problems = read.problems;
        // An empty list wants nothing; a text without any document is no answer.
        if read.documents.is_empty() && text::documents(bytes).is_ok_and(|pieces| pieces.is_empty()) {
            self.problems.push(self.problem("holds no document: answer with a Pod or a PodList".into()));
        }
        let refused = |one: &Document| matches!(one.content, Content::Refused);
        if self.problems.iter().any(|problem| problem.refused) || read.documents.iter().any(refused) {
            let kept = if self.wants_nothing() { "" } else { ", and its last good answer stays" };
            self.problems.push(self.problem(format!("its answer is refused as a whole{kept}")));
            return;
        }
        let (pods, configs) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.configs));
        let (jobs, crons) = (std::mem::take(&mut self.jobs), std::mem::take(&mut self.crons));
        self.forget();
        for document in read.documents {
            match document.content {
                Content::Refused => {}
                // The same pod stays the same allocation, so that comparing is cheap.
                Content::Pods(new) => self.taken.extend(new.into_iter().map(|new| {
                    let same = pods.iter().find(|old| old.pod == new.pod);
                    Taken { pod: same.map_or(new.pod, |old| old.pod.clone()), ..new }
                })),
                Content::Job(new) => self.jobs.push(same(&jobs, new)),
                Content::Cron(new) => self.crons.push(same(&crons, new)),
                Content::Config(new) => self.configs.push(same(&configs, new)),
            }
        }
    }

    /// Adds what it wants to what the manifest files say.
    pub fn join(&self, listing: &mut Listing) {
        let mut problems = self.problems.clone();
        if let Some(why) = &self.trouble {
            let kept = if self.wants_nothing() { "" } else { ": its last good answer stays" };
            problems.push(self.problem(format!("{why}{kept}")));
        }
        let mut names: HashSet<String> = listing.pods.iter().map(|pod| pod.full_name()).collect();
        let mut uids: HashSet<String> = listing.pods.iter().map(|pod| pod.uid.clone()).collect();
        let twice = |line, field: &str, what: String| Problem {
            file: self.url.clone(),
            line,
            field: field.into(),
            message: format!("{what} is taken already: this one is left out, name it otherwise"),
            refused: true,
        };
        for Taken { pod, line, .. } in &self.taken {
            if names.contains(&pod.full_name()) {
                problems.push(twice(*line, "metadata.name", format!("pod {}", pod.full_name())));
            } else if uids.contains(&pod.uid) {
                problems.push(twice(*line, "metadata.uid", pod.uid.clone()));
            } else {
                names.insert(pod.full_name());
                uids.insert(pod.uid.clone());
                listing.pods.push(pod.clone());
            }
        }
        let mut say = |line, what| problems.push(twice(line, "metadata.name", what));
        add(&mut listing.configs, &self.configs, key, &mut say);
        add(&mut listing.jobs, &self.jobs, |job| format!("Job {}", job.full_name()), &mut say);
        add(&mut listing.crons, &self.crons, |cron| format!("CronJob {}", cron.full_name()), &mut say);
        listing.problems.extend(problems);
    }

    fn problem(&self, message: String) -> Problem {
        Problem { file: self.url.clone(), line: 0, field: String::new(), message, refused: true }
    }
}

/// Adds what has no namesake yet.
fn add<T>(
    list: &mut Vec<Arc<T>>,
    new: &[Named<T>],
    name: impl Fn(&T) -> String,
    taken: &mut impl FnMut(u32, String),
) {
    let mut names: HashSet<String> = list.iter().map(|one| name(one)).collect();
    for Named { is, line, .. } in new {
        match names.insert(name(is)) {
            true => list.push(is.clone()),
            false => taken(*line, name(is)),
        }
    }
}

#[cfg(test)]
mod tests;
