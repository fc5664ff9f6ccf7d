//! A DaemonSet, Deployment, ReplicaSet or StatefulSet to the pod of its template, and how many of it are wanted.

use super::kind::Kind;
use super::report::Report;
use super::tree::{Entry, Node, Path, Value, quote};
use crate::spelling::nearest;

/// The most pods that one document may want: beyond any board, and short of keeping PID 1 busy for seconds.
const MOST: u64 = 1000;

/// What its template comes to.
pub struct Template {
    /// A Pod by the object's name and namespace, with the template's labels, annotations and spec.
    pub pod: Node,
    /// None: one pod, by the object's own name; else so many, each with its number.
    pub replicas: Option<u64>,
}

/// What is done about a field of the object's spec.
enum Use {
    Read,
    Warn(&'static str),
    Refuse(&'static str),
}

use Use::{Read, Refuse, Warn};

const AT_ONCE: &str = "has no effect: an edit replaces all its pods at once";
const ALWAYS: &str = "has no effect: pods are looked after one by one";

/// Fields, their use, and a value that means no more than leaving the field out.
const FIELDS: &[(&str, Use, &str)] = &[
    ("replicas", Read, ""),
    ("selector", Read, ""),
    ("template", Read, ""),
    ("strategy", Warn(AT_ONCE), "{}"),
    ("updateStrategy", Warn(AT_ONCE), "{}"),
    ("minReadySeconds", Warn(ALWAYS), "0"),
    ("progressDeadlineSeconds", Warn(ALWAYS), ""),
    ("revisionHistoryLimit", Warn("has no effect: no history is kept"), ""),
    ("podManagementPolicy", Warn("has no effect: its pods start at once, as by Parallel"), "Parallel"),
    ("serviceName", Warn("has no effect: there is no cluster DNS"), ""),
    ("paused", Refuse("holds back a change, which is not supported: remove it"), "false"),
    ("ordinals", Refuse("is not supported: pods are numbered from 0"), "{}"),
    ("volumeClaimTemplates", Refuse("is not supported: use hostPath volumes in the template"), "[]"),
    ("persistentVolumeClaimRetentionPolicy", Warn("has no effect without volumeClaimTemplates"), "{}"),
];

const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const NAMES: &[&str] = &["name", "namespace", "labels", "annotations"];
const SERVERS: &[&str] = &[
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "generateName",
];

/// What stands around the object's spec.
pub fn object(report: &mut Report<'_>) {
    let root = report.root();
    strangers(report, root, OBJECT, &Path::default());
    let metadata = root.get("metadata");
    for entry in metadata.into_iter().flat_map(|metadata| unknown(metadata, NAMES)) {
        if SERVERS.contains(&entry.key.as_str()) {
            if !blank(&entry.node) {
                let message = "is set by an API server and has no effect in a manifest";
                report.warn(&Path::of("metadata").entry(&entry.key), message);
            }
        } else {
            stranger(report, entry, NAMES, &Path::of("metadata"));
        }
    }
    if root.get("status").is_some_and(|status| !blank(status)) {
        report.warn(&Path::of("status"), "is what an API server tells and has no effect in a manifest");
    }
}

/// The object's template as a Pod. None: it was refused. What is wrong within the template is the Pod's to find.
pub fn template(report: &mut Report<'_>, kind: Kind) -> Option<Template> {
    object(report);
    let root = report.root();
    let path = Path::of("spec");
    let Some(spec) = root.get("spec").filter(|spec| matches!(spec.value, Value::Map(_))) else {
        report.refuse(&path, format!("is missing: a {} needs a template", kind.word()));
        return None;
    };
    fields(report, kind, spec);
    let Some(template) = spec.get("template").filter(|one| matches!(one.value, Value::Map(_))) else {
        report.refuse(&path.key("template"), format!("is missing: a {} needs one", kind.word()));
        return None;
    };
    strangers(report, template, &["metadata", "spec"], &path.key("template"));
    always(report, kind, template);
    selector(report, spec, template);
    let replicas = replicas(report, kind, spec);
    (!report.refused()).then(|| Template { pod: pod(report, root, template, &path), replicas })
}

fn fields(report: &mut Report<'_>, kind: Kind, spec: &Node) {
    let known: Vec<&str> =
        FIELDS.iter().map(|(field, _, _)| *field).filter(|field| takes(kind, field)).collect();
    let path = Path::of("spec");
    strangers(report, spec, &known, &path);
    for (field, what, idle) in FIELDS.iter().filter(|(field, _, _)| takes(kind, field)) {
        let Some(node) = spec.get(field) else { continue };
        let said = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Map(entries) if entries.is_empty() => "{}".into(),
            Value::List(items) if items.is_empty() => "[]".into(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => node.brief(),
        };
        match what {
            Read => {}
            Warn(_) | Refuse(_) if said == *idle => {}
            Warn(why) => report.warn(&path.key(field), *why),
            Refuse(why) => report.refuse(&path.key(field), *why),
        }
    }
}

/// Whether Kubernetes knows the field for this kind.
fn takes(kind: Kind, field: &str) -> bool {
    let stateful = ["podManagementPolicy", "serviceName", "ordinals", "volumeClaimTemplates"];
    match field {
        "replicas" => kind != Kind::DaemonSet,
        "strategy" | "progressDeadlineSeconds" | "paused" => kind == Kind::Deployment,
        "updateStrategy" => matches!(kind, Kind::DaemonSet | Kind::StatefulSet),
        "revisionHistoryLimit" => kind != Kind::ReplicaSet,
        "persistentVolumeClaimRetentionPolicy" => kind == Kind::StatefulSet,
        other if stateful.contains(&other) => kind == Kind::StatefulSet,
        _ => true,
    }
}

/// Kubernetes' rule for all of them.
fn always(report: &mut Report<'_>, kind: Kind, template: &Node) {
    let path = Path::of("spec.template.spec");
    let Some(spec) = template.get("spec") else { return };
    if let Some(policy) = spec.get("restartPolicy").filter(|node| !matches!(node.text(), Some("Always" | "")))
    {
        let message = format!("{} is not Always, which a {}'s pods are", policy.brief(), kind.word());
        report.refuse(&path.key("restartPolicy"), format!("{message}: write a Pod instead"));
    }
    if spec.get("activeDeadlineSeconds").is_some() {
        let message = format!("is not for a {}'s pods, which run always: write a Pod instead", kind.word());
        report.refuse(&path.key("activeDeadlineSeconds"), message);
    }
}

/// It selects nothing here, but one that misses its own template is a mistake for Kubernetes too.
fn selector(report: &mut Report<'_>, spec: &Node, template: &Node) {
    let labels = template.get("metadata").and_then(|metadata| metadata.get("labels"));
    let wanted = spec.get("selector").and_then(|selector| selector.get("matchLabels"));
    for entry in wanted.map(entries).unwrap_or_default() {
        let found = labels.and_then(|labels| labels.get(&entry.key));
        if found.map(|node| &node.value) != Some(&entry.node.value) {
            let path = Path::of("spec.selector.matchLabels").entry(&entry.key);
            let message =
                format!("{} is not among the template's labels: write the same", entry.node.brief());
            report.refuse(&path, message);
        }
    }
}

fn replicas(report: &mut Report<'_>, kind: Kind, spec: &Node) -> Option<u64> {
    if kind == Kind::DaemonSet {
        return None;
    }
    let Some(node) = spec.get("replicas") else { return Some(1) };
    let path = Path::of("spec.replicas");
    match &node.value {
        Value::Number(number) if number.as_u64().is_some_and(|count| count <= MOST) => number.as_u64(),
        Value::Number(_) => {
            report.refuse(&path, format!("{} is not supported: use 0 to {MOST}", node.brief()));
            None
        }
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            report.refuse(&path, format!("{} is not a whole number: change it", node.brief()));
            None
        }
    }
}

/// A Pod as a manifest would have it. Each part keeps the line that it came from. `spec`: where the template is.
pub fn pod(report: &mut Report<'_>, root: &Node, template: &Node, spec: &Path) -> Node {
    let text = |word: &str| Node { line: root.line, value: Value::Text(word.into()), raw: None };
    let entry = |key: &str, node: Node| Entry { key: key.into(), line: root.line, node };
    let object = root.entry("metadata");
    let inner = template.get("metadata");
    let mut metadata: Vec<Entry> = Vec::new();
    let outer = object.map(|object| entries(&object.node)).unwrap_or_default();
    metadata.extend(outer.iter().filter(|entry| matches!(entry.key.as_str(), "name" | "namespace")).cloned());
    for entry in inner.map(entries).unwrap_or_default() {
        match entry.key.as_str() {
            "name" | "namespace" | "uid" | "creationTimestamp" => {
                if !blank(&entry.node) {
                    let path = spec.key("template.metadata").entry(&entry.key);
                    report.warn(&path, "has no effect in a template");
                }
            }
            _ => metadata.push(entry.clone()),
        }
    }
    let line = object.map_or(root.line, |object| object.line);
    let metadata = Node { line, value: Value::Map(metadata), raw: None };
    let mut parts = vec![
        entry("apiVersion", text("v1")),
        entry("kind", text("Pod")),
        Entry { key: "metadata".into(), line, node: metadata },
    ];
    parts.extend(template.entry("spec").cloned());
    Node { line: template.line, value: Value::Map(parts), raw: None }
}

/// The pod by another name.
pub fn renamed(pod: &Node, name: &str) -> Node {
    let mut pod = pod.clone();
    if let Value::Map(parts) = &mut pod.value
        && let Some(metadata) = parts.iter_mut().find(|entry| entry.key == "metadata")
        && let Value::Map(fields) = &mut metadata.node.value
        && let Some(field) = fields.iter_mut().find(|entry| entry.key == "name")
    {
        field.node.value = Value::Text(name.into());
    }
    pod
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn unknown<'n>(node: &'n Node, known: &[&str]) -> impl Iterator<Item = &'n Entry> {
    entries(node).iter().filter(move |entry| !known.contains(&entry.key.as_str()))
}

/// Warns of keys that are none of these.
pub fn strangers(report: &mut Report<'_>, node: &Node, known: &[&str], path: &Path) {
    for entry in unknown(node, known) {
        stranger(report, entry, known, path);
    }
}

fn stranger(report: &mut Report<'_>, entry: &Entry, known: &[&str], path: &Path) {
    let cure = match nearest(&entry.key, known) {
        Some(field) => format!("did you mean {field}?"),
        None => "it has no effect".into(),
    };
    let message = format!("Kubernetes knows no field {} here: {cure}", quote(&entry.key));
    report.warn(&path.entry(&entry.key), message);
}

/// Whether it says nothing.
fn blank(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
