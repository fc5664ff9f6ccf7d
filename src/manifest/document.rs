//! One document to what it holds: pods, a ConfigMap, a Secret; a list or a workload becomes its parts.

use std::cell::Cell;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as k8s;

use super::batch::{self, Whole};
use super::kind::{self, Kind};
use super::report::{Place, Report};
use super::tree::{Node, Path, Value};
use super::uid::From;
use super::{check, config, defaults, fields, identity, shape, workload};
use crate::pod::batch::spec::{Cron, Job};
use crate::pod::spec::{Config, Pod, Problem};

pub use crate::pod::kept::key;

/// The most items that one list may have.
const ITEMS: usize = 1000;

/// Where a document comes from.
pub struct Source<'s> {
    /// The file's name in the directory, or the URL.
    pub file: &'s str,
    /// With the document's number: `web.yaml#2`.
    pub origin: &'s str,
    pub from: From<'s>,
    pub node: &'s str,
    /// How much (`Node::weight`) the pods of the file's workloads may still be together.
    pub room: &'s Cell<usize>,
}

/// What `Source::room` is at first: a thousand pods of a large template, short of keeping PID 1 busy for seconds.
pub const ROOM: usize = 200_000;

/// A pod and where its name stands.
#[derive(Clone, Debug)]
pub struct Taken {
    pub pod: Arc<Pod>,
    pub file: String,
    pub line: u32,
}

/// A ConfigMap, Secret, Job or CronJob, and where its name stands.
#[derive(Clone, Debug)]
pub struct Named<T> {
    pub is: Arc<T>,
    pub file: String,
    pub line: u32,
}

/// A document or an item of one, taken or refused.
pub struct Document {
    /// What it is about, as far as it could be read.
    pub subject: Subject,
    pub content: Content,
}

pub enum Content {
    Refused,
    /// None: zero replicas are wanted.
    Pods(Vec<Taken>),
    Config(Named<Config>),
    Job(Named<Job>),
    Cron(Named<Cron>),
}

/// What a document is about, so that what it said before can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Unknown,
    /// It says that it is of a kind that is not read, or a Job or CronJob, which the plan keeps as long as any manifest is
    /// bad; what a pod of its name would be called, if it has one.
    Foreign(String),
    /// `namespace/name` with the node's suffix.
    Pod(String),
    /// Its pods bear numbers between these.
    Numbered {
        stem: String,
        node: String,
    },
    /// `ConfigMap namespace/name`, empty where there is no name.
    Config(String),
    /// It cannot be read, but its text betrays what is probably its name: `namespace/name` of a pod with the node's
    /// suffix, and of a ConfigMap or Secret without.
    Hint {
        pod: String,
        config: String,
    },
}

impl Subject {
    /// Whether the pod of this full name is one of its.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Subject::Pod(own) | Subject::Foreign(own) | Subject::Hint { pod: own, .. } => own == name,
            Subject::Numbered { stem, node } => {
                let number =
                    name.strip_prefix(stem.as_str()).and_then(|rest| rest.strip_suffix(node.as_str()));
                number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            }
            Subject::Unknown | Subject::Config(_) => false,
        }
    }

    /// Whether the ConfigMap or Secret of this key is it.
    pub fn holds(&self, key: &str) -> bool {
        match self {
            Subject::Config(own) => own == key,
            Subject::Hint { config, .. } => key.split_once(' ').is_some_and(|(_, name)| name == config),
            Subject::Unknown | Subject::Foreign(_) | Subject::Pod(_) | Subject::Numbered { .. } => false,
        }
    }
}

/// What the document says, each part with all its findings.
pub fn read(root: &Node, source: &Source<'_>, problems: &mut Vec<Problem>) -> Vec<Document> {
    part(root, source, &Place::default(), None, problems)
}

/// `within`: what it is where it does not say.
fn part(
    root: &Node,
    source: &Source<'_>,
    place: &Place,
    within: Option<Kind>,
    problems: &mut Vec<Problem>,
) -> Vec<Document> {
    let mut report = Report::new(source.file, root, problems.len()).at(place.clone());
    let kind = kind::check(&mut report, within);
    let refused = || vec![Document { subject: subject(root, source.node), content: Content::Refused }];
    let mut inner = Vec::new();
    let documents = match kind {
        None => refused(),
        Some(Kind::Pod) => {
            let pod = pod(&mut report, source);
            vec![Document { subject: subject(root, source.node), content: taken(pod, root, source) }]
        }
        Some(kind @ (Kind::ConfigMap | Kind::Secret)) => {
            let config = config::read(&mut report, kind == Kind::Secret, source.origin);
            let content = config.map_or(Content::Refused, |config| {
                Content::Config(Named {
                    is: Arc::new(config),
                    file: source.file.into(),
                    line: root.line_of(&Path::of("metadata.name")),
                })
            });
            vec![Document { subject: subject(root, source.node), content }]
        }
        Some(kind @ (Kind::List | Kind::PodList)) => match items(&mut report) {
            None => refused(),
            Some(items) => {
                let within = (kind == Kind::PodList).then_some(Kind::Pod);
                let mut documents = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let place = place.item(index);
                    let mut found = Vec::new();
                    documents.extend(part(item, source, &place, within, &mut found));
                    inner.extend(found);
                }
                documents
            }
        },
        Some(kind @ (Kind::DaemonSet | Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet)) => {
            match workload::template(&mut report, kind) {
                None => refused(),
                Some(template) if !fits(&mut report, &template, source) => refused(),
                Some(template) => {
                    let place = place.template("spec.template");
                    let content = pods(&template, source, &place, &mut inner);
                    vec![Document { subject: subject(root, source.node), content }]
                }
            }
        }
        Some(kind @ (Kind::Job | Kind::CronJob)) => match batch::read(&mut report, kind) {
            None => refused(),
            Some(draft) => {
                let place = place.template(batch::template(kind));
                let content = work(draft, root, source, place, &mut inner);
                vec![Document { subject: subject(root, source.node), content }]
            }
        },
    };
    problems.extend(report.into_problems());
    problems.extend(inner);
    documents
}

/// A Job or CronJob with the pod of its template.
fn work(
    draft: batch::Draft,
    root: &Node,
    source: &Source<'_>,
    place: Place,
    problems: &mut Vec<Problem>,
) -> Content {
    let template = draft.pod.clone();
    let mut report = Report::new(source.file, &template, problems.len()).at(place);
    let pod = pod(&mut report, source);
    problems.extend(report.into_problems());
    let (file, line) = (source.file.into(), root.line_of(&Path::of("metadata.name")));
    match pod.map(|pod| draft.whole(root, pod)) {
        None => Content::Refused,
        Some(Whole::Job(is)) => Content::Job(Named { is, file, line }),
        Some(Whole::Cron(is)) => Content::Cron(Named { is, file, line }),
    }
}

/// A list's items, which may be none.
fn items<'n>(report: &mut Report<'n>) -> Option<&'n [Node]> {
    let path = Path::of("items");
    match report.root().get("items").map(|node| &node.value) {
        None => Some(&[]),
        Some(Value::List(items)) if items.len() <= ITEMS => Some(items),
        Some(Value::List(items)) => {
            report
                .refuse(&path, format!("are {}: at most {ITEMS} are read: write several files", items.len()));
            None
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_)) => {
            report.refuse(&path, "is not a list: begin each of its entries with a dash");
            None
        }
    }
}

/// A small file may want more pods than can be read in time.
fn fits(report: &mut Report<'_>, template: &workload::Template, source: &Source<'_>) -> bool {
    let replicas = template.replicas.and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
    let left = source.room.get().checked_sub(replicas.saturating_mul(template.pod.weight()));
    match left {
        Some(left) => source.room.set(left),
        None => report.refuse(
            &Path::of("spec.replicas"),
            format!("{replicas} pods of this template are too many for one file: write several files"),
        ),
    }
    left.is_some()
}

/// The pods of a template: all of them, or none.
fn pods(
    template: &workload::Template,
    source: &Source<'_>,
    place: &Place,
    problems: &mut Vec<Problem>,
) -> Content {
    let Some(replicas) = template.replicas else {
        let mut report = Report::new(source.file, &template.pod, problems.len()).at(place.clone());
        let pod = pod(&mut report, source);
        problems.extend(report.into_problems());
        return taken(pod, &template.pod, source);
    };
    let name = template.pod.find(&Path::of("metadata.name")).and_then(Node::text).unwrap_or_default();
    let mut all = Vec::new();
    // The last first, which has the longest name: what is wrong with one is wrong with all, and told once. With no
    // replica wanted the template is still checked.
    for number in (0..replicas.max(1)).rev() {
        let name = if name.is_empty() { String::new() } else { format!("{name}-{number}") };
        let root = workload::renamed(&template.pod, &name);
        let mut report = Report::new(source.file, &root, problems.len()).at(place.clone());
        let pod = pod(&mut report, source);
        let told = report.into_problems();
        if number + 1 >= replicas {
            problems.extend(told);
        }
        match taken(pod, &root, source) {
            Content::Pods(pods) => all.extend(pods),
            other @ (Content::Refused | Content::Config(_) | Content::Job(_) | Content::Cron(_)) => {
                return other;
            }
        }
    }
    all.reverse();
    all.truncate(usize::try_from(replicas).unwrap_or(usize::MAX));
    Content::Pods(all)
}

fn taken(pod: Option<Pod>, root: &Node, source: &Source<'_>) -> Content {
    let line = root.line_of(&Path::of("metadata.name"));
    pod.map_or(Content::Refused, |pod| {
        Content::Pods(vec![Taken { pod: Arc::new(pod), file: source.file.into(), line }])
    })
}

/// The report's root as a pod. None: it was refused, and the report says why.
fn pod(report: &mut Report<'_>, source: &Source<'_>) -> Option<Pod> {
    let (object, unknown) = shape::shape::<k8s::Pod>(report);
    fields::check(report, &unknown);
    nul(report);
    let mut object = object?;
    object.status = None;
    defaults::apply(&mut object);
    let mut pod = check::check(report, &object, source.node);
    if report.refused() {
        return None;
    }
    match identity::give(&mut pod, object, source.from, source.node) {
        Ok(()) => {
            pod.origin = source.origin.into();
            Some(pod)
        }
        Err(why) => {
            report.refuse(&Path::default(), format!("cannot be written as JSON: {why}"));
            None
        }
    }
}

/// What a document that may be bad elsewhere is about.
fn subject(root: &Node, node: &str) -> Subject {
    let said = root.get("kind").and_then(Node::text);
    let kind = said.and_then(Kind::named);
    let metadata = root.get("metadata");
    let name = metadata.and_then(|metadata| metadata.get("name")).and_then(Node::text);
    let namespace = metadata.and_then(|metadata| metadata.get("namespace")).and_then(Node::text);
    let namespace = namespace.filter(|name| !name.is_empty()).unwrap_or("default");
    let pod = || name.map(|name| format!("{namespace}/{}", check::full_name(name, node)));
    match kind {
        None if said.is_some() => Subject::Foreign(pod().unwrap_or_default()),
        None | Some(Kind::Pod | Kind::DaemonSet) => pod().map_or(Subject::Unknown, Subject::Pod),
        Some(Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet) => {
            name.map_or(Subject::Unknown, |name| Subject::Numbered {
                stem: format!("{namespace}/{name}-"),
                node: check::full_name("", node),
            })
        }
        Some(Kind::Job | Kind::CronJob) => Subject::Foreign(pod().unwrap_or_default()),
        Some(kind @ (Kind::ConfigMap | Kind::Secret)) => Subject::Config(
            name.map(|name| format!("{} {namespace}/{name}", kind.word())).unwrap_or_default(),
        ),
        Some(Kind::List | Kind::PodList) => Subject::Unknown,
    }
}

/// The kernel ends a text at NUL, so that what runs would not be what is written.
fn nul(report: &mut Report<'_>) {
    fn find(node: &Node, path: &Path) -> Option<Path> {
        match &node.value {
            Value::Text(text) => text.contains('\0').then(|| path.clone()),
            Value::List(items) => items.iter().enumerate().find_map(|(i, item)| find(item, &path.item(i))),
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let path = path.entry(&entry.key);
                if entry.key.contains('\0') { Some(path) } else { find(&entry.node, &path) }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
    if let Some(path) = find(report.root(), &Path::default()) {
        report.refuse(&path, "holds a NUL character: remove it");
    }
}
