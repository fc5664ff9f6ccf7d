//! The manifest directory: reads what changed, and keeps the last good pods of a file that turned bad.
//!
//! A file is read as documents. A document that is refused leaves its last good pod running, the others are taken new.
//! Which pod was its, its name tells; where the name cannot be read, or is a new one, every pod of the file that no
//! good document names runs on: rather one too many than one lost.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Content, Named, Subject, Taken, key};
use super::uid::{Fnv, From};
use super::{Read, read, unique, unique_configs, unique_crons, unique_jobs};
use crate::pod::batch::spec::{Cron, Job};
use crate::pod::spec::{Config, Listing, Pod, Problem};
use files::{Look, Stamp, fetch, look, scan};

/// The directory, and what was last good in it.
pub struct Dir {
    path: PathBuf,
    node: String,
    files: BTreeMap<OsString, Entry>,
    /// Pods that ran before PID 1 re-executed, until the directory was listed once.
    remembered: Vec<Arc<Pod>>,
    /// The same of ConfigMaps and Secrets.
    remembered_configs: Vec<Arc<Config>>,
}

/// What one file gave.
#[derive(Default)]
struct Entry {
    stamp: Option<Stamp>,
    /// Of the text that `taken` and `problems` come from.
    hash: Option<Fnv>,
    taken: Vec<Taken>,
    configs: Vec<Named<Config>>,
    /// A refused one is not listed; then the listing is not certain, and what is known of it goes on.
    jobs: Vec<Named<Job>>,
    crons: Vec<Named<Cron>>,
    problems: Vec<Problem>,
    /// What its refused documents are about, as far as known.
    refused: Vec<Subject>,
}

impl Dir {
    pub fn new(path: PathBuf, node: String) -> Self {
        Dir { path, node, files: BTreeMap::new(), remembered: Vec::new(), remembered_configs: Vec::new() }
    }

    /// Tells it which pods were running before PID 1 re-executed, so that a file that is bad now keeps its last good
    /// ones (matched by `Pod::origin`'s file name).
    pub fn remember(&mut self, pods: impl Iterator<Item = Arc<Pod>>) {
        self.remembered = pods.collect();
    }

    /// The same of the ConfigMaps and Secrets that there were.
    pub fn remember_configs(&mut self, configs: impl Iterator<Item = Arc<Config>>) {
        self.remembered_configs = configs.collect();
    }

    /// Reads what changed since the last time (by size, mtime, ctime, inode), lists all. Never fails: trouble is a
    /// Problem.
    pub fn list(&mut self) -> Listing {
        let mut problems = Vec::new();
        let (mut all, mut configs) = (Vec::new(), Vec::new());
        let (mut jobs, mut crons) = (Vec::new(), Vec::new());
        match scan(&self.path) {
            Ok(found) => self.refresh(found, &mut problems),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.files.clear();
                self.remembered.clear();
                self.remembered_configs.clear();
                problems.push(problem(&self.path, "does not exist: no pods are wanted", false));
            }
            Err(error) => {
                let message = format!("cannot be listed: {error}: the pods known so far run on");
                problems.push(problem(&self.path, &message, true));
                all.extend(self.remembered.iter().map(|pod| taken(pod, &file_of(&pod.origin))));
                configs.extend(
                    self.remembered_configs.iter().map(|config| kept(config, &file_of(&config.origin))),
                );
            }
        }
        for entry in self.files.values() {
            all.extend(entry.taken.iter().cloned());
            configs.extend(entry.configs.iter().cloned());
            jobs.extend(entry.jobs.iter().cloned());
            crons.extend(entry.crons.iter().cloned());
            problems.extend(entry.problems.iter().cloned());
        }
        let pods = unique(all, &mut problems);
        let configs = unique_configs(configs, &mut problems);
        let jobs = unique_jobs(jobs, &mut problems);
        let crons = unique_crons(crons, &mut problems);
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Listing { pods, configs, jobs, crons, problems }
    }

    fn refresh(&mut self, found: Vec<(OsString, PathBuf)>, problems: &mut Vec<Problem>) {
        let mut seen = Vec::new();
        for (name, path) in found {
            match look(&name, &path) {
                Look::File(stamp) => seen.push((name, path, Ok(stamp))),
                Look::Unreadable(error) => seen.push((name, path, Err(error))),
                Look::Gone => {}
                Look::Skipped(why) => problems.push(problem(Path::new(&name), why, false)),
            }
        }
        let newest =
            seen.iter().filter_map(|(_, _, look)| look.as_ref().ok()).map(|stamp| stamp.changed).max();
        let mut before = std::mem::take(&mut self.files);
        for (name, path, look) in seen {
            let label = name.to_string_lossy();
            let mut entry = before.remove(&name).unwrap_or_else(|| self.recall(&label));
            match look {
                Ok(mut stamp) => {
                    stamp.settled = Some(stamp.changed) < newest;
                    // A file of the newest tick is read again: it may be written twice within one.
                    if entry.stamp.is_none_or(|old| !stamp.proves_same(old)) {
                        entry.renew(&label, &path, stamp, &self.node);
                    }
                }
                Err(error) => entry.unreadable(&label, &error),
            }
            self.files.insert(name, entry);
        }
        self.remembered.clear();
        self.remembered_configs.clear();
    }

    /// What ran of a file before PID 1 re-executed.
    fn recall(&self, label: &str) -> Entry {
        let of = |origin: &str| origin == label || file_of(origin) == label;
        let pods = self.remembered.iter().filter(|pod| of(&pod.origin));
        let configs = self.remembered_configs.iter().filter(|config| of(&config.origin));
        Entry {
            taken: pods.map(|pod| taken(pod, label)).collect(),
            configs: configs.map(|config| kept(config, label)).collect(),
            ..Entry::default()
        }
    }
}

impl Entry {
    fn renew(&mut self, label: &str, path: &Path, stamp: Stamp, node: &str) {
        let bytes = match fetch(path) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(label, &error),
        };
        self.stamp = Some(stamp);
        let mut hash = Fnv::new();
        hash.eat(&bytes);
        if self.hash.replace(hash) == Some(hash) {
            return;
        }
        if bytes.is_empty() {
            // Editors and shells truncate before they write.
            self.problems.clear();
            let works = !self.jobs.is_empty() || !self.crons.is_empty();
            if works || !self.taken.is_empty() || !self.configs.is_empty() {
                let message = "is empty, as if being written: its pods run on; remove the file to stop them";
                self.problems.push(problem(Path::new(label), message, false));
            }
            return;
        }
        let read = read(&bytes, label, From::File(&path.to_string_lossy()), node);
        self.take(label, read);
    }

    /// Takes what is good, keeps what was good of what is not.
    fn take(&mut self, label: &str, read: Read) {
        let pods = std::mem::take(&mut self.taken);
        let configs = std::mem::take(&mut self.configs);
        let (jobs, crons) = (std::mem::take(&mut self.jobs), std::mem::take(&mut self.crons));
        let before: HashMap<String, &Taken> = pods.iter().map(|old| (old.pod.full_name(), old)).collect();
        let known_configs: HashMap<String, &Named<Config>> =
            configs.iter().map(|old| (key(&old.is), old)).collect();
        self.problems = read.problems;
        let refused = std::mem::take(&mut self.refused);
        // A refused document that bears no known name may be any of the former ones.
        let (mut any_pod, mut any_config) = (!read.legible, !read.legible);
        let mut replaced = HashSet::new();
        for document in read.documents {
            match (document.content, document.subject) {
                (Content::Pods(new), _) => {
                    for new in new {
                        let name = new.pod.full_name();
                        // The same pod stays the same allocation, so that comparing is cheap.
                        let same = before.get(&name).filter(|old| old.pod == new.pod);
                        let pod = same.map_or(new.pod, |old| old.pod.clone());
                        self.taken.push(Taken { pod, ..new });
                        replaced.insert(name);
                    }
                }
                (Content::Config(new), _) => {
                    let name = key(&new.is);
                    let same = known_configs.get(&name).filter(|old| old.is == new.is);
                    let is = same.map_or(new.is, |old| old.is.clone());
                    self.configs.push(Named { is, ..new });
                    replaced.insert(name);
                }
                (Content::Job(new), _) => self.jobs.push(same(&jobs, new)),
                (Content::Cron(new), _) => self.crons.push(same(&crons, new)),
                (Content::Refused, subject) => {
                    let known = refused.contains(&subject)
                        || before.keys().any(|name| subject.covers(name))
                        || known_configs.keys().any(|name| subject.holds(name));
                    match &subject {
                        Subject::Foreign(_) => {}
                        Subject::Unknown => (any_pod, any_config) = (true, true),
                        Subject::Pod(_) | Subject::Numbered { .. } => any_pod |= !known,
                        Subject::Config(_) => any_config |= !known,
                        Subject::Hint { .. } if known => {}
                        Subject::Hint { .. } => (any_pod, any_config) = (true, true),
                    }
                    self.refused.push(subject);
                }
            }
        }
        let mut say = |message: &str| self.problems.push(problem(Path::new(label), message, false));
        for old in pods {
            let name = old.pod.full_name();
            if replaced.contains(&name) {
                continue;
            }
            if any_pod || self.refused.iter().any(|subject| subject.covers(&name)) {
                say(&format!("pod {name} runs on as its last good manifest says"));
                self.taken.push(old);
            }
        }
        for old in configs {
            let name = key(&old.is);
            if replaced.contains(&name) {
                continue;
            }
            if any_config || self.refused.iter().any(|subject| subject.holds(&name)) {
                say(&format!("{name} stays as its last good manifest says"));
                self.configs.push(old);
            }
        }
    }

    /// Its pods run on, and it is tried again at the next listing.
    fn unreadable(&mut self, label: &str, error: &io::Error) {
        let kept = if self.taken.is_empty() { "" } else { ": its pods run on" };
        (self.stamp, self.hash) = (None, None);
        self.problems = vec![problem(Path::new(label), &format!("cannot be read: {error}{kept}"), true)];
    }
}

pub(super) fn taken(pod: &Arc<Pod>, file: &str) -> Taken {
    Taken { pod: pod.clone(), file: file.into(), line: 0 }
}

pub(super) fn kept(config: &Arc<Config>, file: &str) -> Named<Config> {
    Named { is: config.clone(), file: file.into(), line: 0 }
}

/// What was there before stays the same allocation, so that comparing is cheap.
pub(super) fn same<T: PartialEq>(before: &[Named<T>], mut new: Named<T>) -> Named<T> {
    if let Some(same) = before.iter().find(|old| old.is == new.is) {
        new.is = same.is.clone();
    }
    new
}

/// The file's name in an origin: `web.yaml#2` is of `web.yaml`.
pub(super) fn file_of(origin: &str) -> String {
    match origin.rsplit_once('#') {
        Some((file, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            file.into()
        }
        _ => origin.into(),
    }
}

fn problem(file: &Path, message: &str, refused: bool) -> Problem {
    let file = file.to_string_lossy().into_owned();
    Problem { file, line: 0, field: String::new(), message: message.into(), refused }
}

#[cfg(test)]
mod tests;
