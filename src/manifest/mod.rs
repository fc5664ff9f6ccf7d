//! Manifests to pods: text in, checked and defaulted pods out, and everything that their author should know.
//!
//! A document is taken whole or refused whole, with every reason at once; the other documents of its file stand.
//! Where a refused document is one that ran before, `Dir` lets its last good pod run on.

mod batch;
mod check;
mod config;
mod defaults;
mod dir;
mod document;
mod fields;
mod identity;
mod json;
mod kind;
mod report;
mod scalar;
mod shape;
mod text;
mod tree;
mod uid;
mod workload;
mod yaml;

use std::cell::Cell;
use std::collections::{HashMap, hash_map};
use std::sync::Arc;

pub use dir::Dir;

use crate::pod::batch::spec::{Cron, Job};
use crate::pod::spec::{Config, Pod, Problem};
use batch::Work;
use document::{Content, Document, Kept, Source, Subject, Taken};

/// What one file's text says.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub pods: Vec<Pod>,
    /// ConfigMaps and Secrets.
    pub configs: Vec<Config>,
    pub jobs: Vec<Job>,
    pub crons: Vec<Cron>,
    pub problems: Vec<Problem>,
}

/// Parses one file's text (YAML 1.1 scalars or JSON, several documents). `file` is its name in the directory, `path`
/// the full path (hashed into the uid), `node` the node's name.
pub fn parse(text: &[u8], file: &str, path: &str, node: &str) -> Parsed {
    let read = read(text, file, path, node);
    let mut problems = read.problems;
    let (mut pods, mut configs, mut jobs, mut crons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for document in read.documents {
        match document.content {
            Content::Pods(taken) => pods.extend(taken),
            Content::Config(kept) => configs.push(kept),
            Content::Job(work) => jobs.push(work),
            Content::Cron(work) => crons.push(work),
            Content::Refused => {}
        }
    }
    let pods = unique(pods, &mut problems).into_iter().map(Arc::unwrap_or_clone).collect();
    let configs = unique_configs(configs, &mut problems).into_iter().map(Arc::unwrap_or_clone).collect();
    let jobs = unique_jobs(jobs, &mut problems).into_iter().map(Arc::unwrap_or_clone).collect();
    let crons = unique_crons(crons, &mut problems).into_iter().map(Arc::unwrap_or_clone).collect();
    Parsed { pods, configs, jobs, crons, problems }
}

/// What a file says, before names are compared.
struct Read {
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// False: the file as a whole is no text, and nothing is known of its documents.
    legible: bool,
}

fn read(text: &[u8], file: &str, path: &str, node: &str) -> Read {
    let trouble = |fault: yaml::Fault| Problem {
        file: file.into(),
        line: fault.line,
        field: String::new(),
        message: fault.message,
        refused: true,
    };
    let pieces = match text::documents(text) {
        Ok(pieces) => pieces,
        Err(fault) => return Read { documents: Vec::new(), problems: vec![trouble(fault)], legible: false },
    };
    let mut read = Read { documents: Vec::new(), problems: Vec::new(), legible: true };
    let room = Cell::new(document::ROOM);
    for (index, piece) in pieces.into_iter().enumerate() {
        let origin = if index == 0 { file.into() } else { format!("{file}#{}", index + 1) };
        match piece.read {
            Ok(root) => {
                let source = Source { file, origin: &origin, path, node, room: &room };
                read.documents.extend(document::read(&root, &source, &mut read.problems));
            }
            Err(fault) => {
                read.problems.push(trouble(fault));
                let subject = piece.hint.map_or(Subject::Unknown, |name| Subject::Hint {
                    pod: format!("default/{}", check::full_name(&name, node)),
                    config: format!("default/{name}"),
                });
                read.documents.push(Document { subject, content: Content::Refused });
            }
        }
    }
    read
}

/// Of pods with one name the last wins, as with the kubelet; of pods with one uid the first.
fn unique(all: Vec<Taken>, problems: &mut Vec<Problem>) -> Vec<Arc<Pod>> {
    let mut say = |taken: &Taken, field: &str, message: String, refused: bool| {
        problems.push(Problem {
            file: taken.file.clone(),
            line: taken.line,
            field: field.into(),
            message,
            refused,
        });
    };
    let mut names = HashMap::new();
    let mut kept: Vec<Option<Taken>> = Vec::new();
    for taken in all {
        if let Some(earlier) = names.insert(taken.pod.full_name(), kept.len())
            && let Some(earlier) = kept.get_mut(earlier).and_then(Option::take)
        {
            let (name, origin) = (taken.pod.full_name(), &earlier.pod.origin);
            let message =
                format!("pod {name} is also in {origin}: this later one, of {}, counts", taken.pod.origin);
            say(&taken, "metadata.name", message, false);
        }
        kept.push(Some(taken));
    }
    let mut uids: HashMap<String, String> = HashMap::new();
    let mut pods = Vec::new();
    for taken in kept.into_iter().flatten() {
        if let Some(origin) = uids.get(&taken.pod.uid) {
            let message =
                format!("{} is also the uid of {origin}: write another, or leave it out", taken.pod.uid);
            say(&taken, "metadata.uid", message, true);
            continue;
        }
        uids.insert(taken.pod.uid.clone(), taken.pod.origin.clone());
        pods.push(taken.pod);
    }
    pods
}

/// Of ConfigMaps or Secrets with one name the last wins.
fn unique_configs(all: Vec<Kept>, problems: &mut Vec<Problem>) -> Vec<Arc<Config>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Arc<Config>> = Vec::new();
    for one in all {
        let key = document::key(&one.config);
        match places.entry(key) {
            hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(one.config);
            }
            hash_map::Entry::Occupied(place) => {
                let Some(earlier) = kept.get_mut(*place.get()) else { continue };
                let (key, origin) = (place.key(), &earlier.origin);
                problems.push(Problem {
                    file: one.file,
                    line: one.line,
                    field: "metadata.name".into(),
                    message: format!(
                        "{key} is also in {origin}: this later one, of {}, counts",
                        one.config.origin
                    ),
                    refused: false,
                });
                *earlier = one.config;
            }
        }
    }
    kept
}

/// The same of Jobs.
fn unique_jobs(all: Vec<Work<Job>>, problems: &mut Vec<Problem>) -> Vec<Arc<Job>> {
    batch::unique(all, |job| (format!("Job {}", job.full_name()), job.origin.clone()), problems)
}

/// And of CronJobs.
fn unique_crons(all: Vec<Work<Cron>>, problems: &mut Vec<Problem>) -> Vec<Arc<Cron>> {
    batch::unique(all, |cron| (format!("CronJob {}", cron.full_name()), cron.job.origin.clone()), problems)
}

#[cfg(test)]
mod tests;
