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
mod http;
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
use std::collections::HashMap;
use std::sync::Arc;

pub use dir::Dir;
pub use http::Http;

use crate::pod::batch::spec::{Cron, Job};
use crate::pod::spec::{Config, Pod, Problem};
use document::{Content, Document, Named, Source, Subject, Taken};
use uid::From;

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
    let read = read(text, file, From::File(path), node);
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

fn read(text: &[u8], file: &str, from: From<'_>, node: &str) -> Read {
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
                let source = Source { file, origin: &origin, from, node, room: &room };
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
fn unique_configs(all: Vec<Named<Config>>, problems: &mut Vec<Problem>) -> Vec<Arc<Config>> {
    unique_named(all, |config| (document::key(config), config.origin.clone()), problems)
}

/// The same of Jobs.
fn unique_jobs(all: Vec<Named<Job>>, problems: &mut Vec<Problem>) -> Vec<Arc<Job>> {
    unique_named(all, |job| (format!("Job {}", job.full_name()), job.origin.clone()), problems)
}

/// And of CronJobs.
fn unique_crons(all: Vec<Named<Cron>>, problems: &mut Vec<Problem>) -> Vec<Arc<Cron>> {
    unique_named(all, |cron| (format!("CronJob {}", cron.full_name()), cron.job.origin.clone()), problems)
}

/// Of those with one name the last wins, as of pods. `of`: kind and name, and the manifest it came from.
fn unique_named<T>(
    all: Vec<Named<T>>,
    of: impl Fn(&T) -> (String, String),
    problems: &mut Vec<Problem>,
) -> Vec<Arc<T>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Arc<T>> = Vec::new();
    for named in all {
        let (name, origin) = of(&named.is);
        let Some(earlier) = places.get(&name).and_then(|at| kept.get_mut(*at)) else {
            places.insert(name, kept.len());
            kept.push(named.is);
            continue;
        };
        let message = format!("{name} is also in {}: this later one, of {origin}, counts", of(earlier).1);
        let (file, line, field) = (named.file, named.line, "metadata.name".into());
        problems.push(Problem { file, line, field, message, refused: false });
        *earlier = named.is;
    }
    kept
}

#[cfg(test)]
mod tests;
