//! A Job or a CronJob document: its own fields, and the Pod of its template.
//!
//! Source: Kubernetes' pkg/apis/batch/validation, for what one node can do.

mod cron;
mod failure;
mod job;

use std::sync::Arc;
use std::time::Duration;

use super::kind::Kind;
use super::report::Report;
use super::tree::{Node, Path, Value};
use super::uid::Fnv;
use super::workload;
use crate::pod::batch::spec::{Cron, Job};
use crate::pod::spec::Pod;

/// The most pods at once, and the most indexes: beyond any board, and quick to go through.
const MOST: u64 = 1000;

/// What a document comes to while its pod is not read yet.
pub struct Draft {
    /// A Pod by the object's name and namespace, with the template's labels, annotations and spec.
    pub pod: Node,
    job: Job,
    cron: Option<Cron>,
}

/// A whole one.
pub enum Whole {
    Job(Arc<Job>),
    Cron(Arc<Cron>),
}

/// Where the pod's template stands in a document of this kind.
pub fn template(kind: Kind) -> &'static str {
    match kind == Kind::CronJob {
        true => "spec.jobTemplate.spec.template",
        false => "spec.template",
    }
}

/// None: it was refused. What is wrong within the template is the Pod's to find.
pub fn read(report: &mut Report<'_>, kind: Kind) -> Option<Draft> {
    workload::object(report);
    let root = report.root();
    let word = kind.word();
    let top = Path::of("spec");
    let Some(spec) = map(root, "spec") else {
        report.refuse(&top, format!("is missing: a {word} needs a template"));
        return None;
    };
    let (cron, path, inner) = match kind == Kind::CronJob {
        false => (None, top, spec),
        true => {
            let cron = cron::read(report, spec);
            let Some(template) = map(spec, "jobTemplate") else {
                report.refuse(&top.key("jobTemplate"), format!("is missing: a {word} needs one"));
                return None;
            };
            workload::strangers(report, template, &["metadata", "spec"], &top.key("jobTemplate"));
            let path = top.key("jobTemplate.spec");
            let Some(inner) = map(template, "spec") else {
                report.refuse(&path, format!("is missing: a {word} needs a Job with a template"));
                return None;
            };
            (Some(cron), path, inner)
        }
    };
    let Some(template) = map(inner, "template") else {
        report.refuse(&path.key("template"), format!("is missing: a {word} needs one"));
        return None;
    };
    workload::strangers(report, template, &["metadata", "spec"], &path.key("template"));
    let mut job = job::read(report, inner, template, &path);
    job.uid = uid(root, word, inner);
    name(report, kind);
    (!report.refused()).then(|| Draft { pod: workload::pod(report, root, template, &path), job, cron })
}

impl Draft {
    /// With the pod of its template.
    pub fn whole(self, root: &Node, pod: Pod) -> Whole {
        let name = root.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
        let name = name.unwrap_or_default().to_owned();
        let (namespace, origin) = (pod.namespace.clone(), pod.origin.clone());
        let job =
            Job { name: name.clone(), namespace: namespace.clone(), origin, pod: Arc::new(pod), ..self.job };
        match self.cron {
            None => Whole::Job(Arc::new(job)),
            Some(cron) => Whole::Cron(Arc::new(Cron { name, namespace, job: Arc::new(job), ..cron })),
        }
    }
}

/// The names of its pods are made of it: a Job's is a label of Kubernetes, a CronJob's leaves room for the minutes.
fn name(report: &mut Report<'_>, kind: Kind) {
    let most = if kind == Kind::CronJob { 52 } else { 63 };
    let path = Path::of("metadata.name");
    let long = report.root().find(&path).and_then(Node::text).is_some_and(|name| name.len() > most);
    if long {
        report.refuse(&path, format!("is too long: a {} may have {most} characters", kind.word()));
    }
}

/// From what is written, without what may be changed while it runs.
fn uid(root: &Node, kind: &str, spec: &Node) -> String {
    let metadata =
        |key: &str| root.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Node::text);
    let mut hash = Fnv::new();
    hash.eat(
        format!("{kind} {:?} {:?}", metadata("namespace").unwrap_or("default"), metadata("name")).as_bytes(),
    );
    eat(&mut hash, spec, &["parallelism", "suspend", "ttlSecondsAfterFinished"]);
    hash.hex()
}

/// The order of keys and the way in which a value is written change nothing. Recursion is bounded by the readers' depth.
fn eat(hash: &mut Fnv, node: &Node, without: &[&str]) {
    match &node.value {
        Value::Null => hash.eat(b"~"),
        Value::Bool(flag) => hash.eat(format!("{flag};").as_bytes()),
        Value::Number(number) => hash.eat(format!("{number};").as_bytes()),
        Value::Text(text) => hash.eat(format!("{text:?}").as_bytes()),
        Value::List(items) => {
            hash.eat(b"[");
            items.iter().for_each(|item| eat(hash, item, &[]));
            hash.eat(b"]");
        }
        Value::Map(entries) => {
            let said = |key: &str| !without.contains(&key);
            let mut entries: Vec<_> = entries.iter().filter(|entry| said(&entry.key)).collect();
            entries.retain(|entry| entry.node.value != Value::Null);
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            hash.eat(b"{");
            for entry in entries {
                hash.eat(format!("{:?}:", entry.key).as_bytes());
                eat(hash, &entry.node, &[]);
            }
            hash.eat(b"}");
        }
    }
}

fn map<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.get(key).filter(|node| matches!(node.value, Value::Map(_)))
}

/// A whole number from 0 to `most`.
fn whole(report: &mut Report<'_>, spec: &Node, path: &Path, key: &str, most: u64) -> Option<u64> {
    let node = spec.get(key)?;
    let found = match &node.value {
        Value::Number(number) => number.as_u64().filter(|number| *number <= most),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if found.is_none() {
        report.refuse(&path.key(key), format!("{} is not a number from 0 to {most}", node.brief()));
    }
    found
}

/// The same, no larger than Kubernetes' own numbers.
fn number(report: &mut Report<'_>, spec: &Node, path: &Path, key: &str) -> Option<u32> {
    whole(report, spec, path, key, i32::MAX as u64).and_then(|number| u32::try_from(number).ok())
}

fn seconds(report: &mut Report<'_>, spec: &Node, path: &Path, key: &str) -> Option<Duration> {
    whole(report, spec, path, key, i32::MAX as u64).map(Duration::from_secs)
}

fn flag(report: &mut Report<'_>, spec: &Node, path: &Path, key: &str) -> bool {
    let Some(node) = spec.get(key) else { return false };
    match &node.value {
        Value::Bool(flag) => *flag,
        Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            report.refuse(&path.key(key), format!("{} is neither true nor false", node.brief()));
            false
        }
    }
}

/// One of these words; the first where there is none.
fn choose<T: Copy>(
    report: &mut Report<'_>,
    spec: &Node,
    path: &Path,
    key: &str,
    words: &[(&str, T)],
) -> Option<T> {
    match spec.get(key) {
        Some(node) => report.one_of(&path.key(key), node.text(), &node.brief(), words),
        None => words.first().map(|(_, value)| *value),
    }
}

#[cfg(test)]
mod tests;
