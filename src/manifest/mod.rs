//! Manifests to pods: text in, checked and defaulted pods out, and everything that their author should know.
//!
//! A document is taken whole or refused whole, with every reason at once; the other documents of its file stand.
//! Where a refused document is one that ran before, `Dir` lets its last good pod run on.

mod check;
mod defaults;
mod dir;
mod fields;
mod json;
mod kind;
mod quantity;
mod report;
mod scalar;
mod shape;
mod text;
mod tree;
mod uid;
mod yaml;

use std::sync::Arc;

use k8s_openapi::api::core::v1 as k8s;

pub use dir::Dir;
pub use quantity::Quantity;

use crate::pod::spec::{Pod, Problem};
use report::Report;
use tree::{Node, Path, Value};

/// Parses one file's text (YAML 1.1 scalars or JSON, several documents). `file` is its name in the directory, `path`
/// the full path (hashed into the uid), `node` the node's name.
pub fn parse(text: &[u8], file: &str, path: &str, node: &str) -> (Vec<Pod>, Vec<Problem>) {
    let read = read(text, file, path, node);
    let mut problems = read.problems;
    let pods = read.documents.into_iter().filter_map(|document| document.taken).collect();
    let pods = unique(pods, &mut problems);
    (pods.into_iter().map(Arc::unwrap_or_clone).collect(), problems)
}

/// A pod and where its name stands.
#[derive(Clone, Debug)]
struct Taken {
    pod: Arc<Pod>,
    file: String,
    line: u32,
}

/// One document, taken or refused.
struct Document {
    /// `namespace/name` with the node's suffix, as far as it could be read.
    name: Option<String>,
    taken: Option<Taken>,
    /// It says that it is no Pod.
    foreign: bool,
}

/// What a file says.
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
    for (index, piece) in pieces.into_iter().enumerate() {
        let origin = if index == 0 { file.into() } else { format!("{file}#{}", index + 1) };
        let document = match piece.read {
            Ok(root) => {
                let mut report = Report::new(file, &root, read.problems.len());
                let pod = document(&mut report, &origin, path, node);
                let line = root.line_of(&Path::of("metadata.name"));
                let taken = pod.map(|pod| Taken { pod: Arc::new(pod), file: file.into(), line });
                read.problems.extend(report.into_problems());
                let kind = root.get("kind").and_then(Node::text);
                Document { name: name(&root, node), taken, foreign: kind.is_some_and(|kind| kind != "Pod") }
            }
            Err(fault) => {
                read.problems.push(trouble(fault));
                let name = piece.hint.map(|name| format!("default/{}", check::full_name(&name, node)));
                Document { name, taken: None, foreign: false }
            }
        };
        read.documents.push(document);
    }
    read
}

/// One document to a pod. None: it was refused, and the report says why.
fn document(report: &mut Report<'_>, origin: &str, path: &str, node: &str) -> Option<Pod> {
    if !kind::check(report) {
        return None;
    }
    let (object, unknown) = shape::shape::<k8s::Pod>(report);
    fields::check(report, &unknown);
    nul(report);
    let mut object = object?;
    object.status = None;
    defaults::apply(&mut object);
    let mut pod = check::check(report, &object, node);
    if report.refused() {
        return None;
    }
    match identity(&mut pod, object, path, node) {
        Ok(()) => {
            pod.origin = origin.into();
            Some(pod)
        }
        Err(why) => {
            report.refuse(&Path::default(), format!("cannot be written as JSON: {why}"));
            None
        }
    }
}

/// What the kubelet adds to a static pod, in its order: the uid first, so that nothing added here changes it.
fn identity(pod: &mut Pod, mut object: k8s::Pod, path: &str, node: &str) -> Result<(), String> {
    let given = object.metadata.uid.take().filter(|uid| !uid.is_empty());
    pod.uid = match given {
        Some(uid) => uid,
        None => uid::uid(&object, node, path)?,
    };
    let metadata = &mut object.metadata;
    metadata.uid = Some(pod.uid.clone());
    metadata.name = Some(pod.name.clone());
    metadata.namespace = Some(pod.namespace.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.hash".into(), pod.uid.clone());
    annotations.insert("kubernetes.io/config.source".into(), "file".into());
    let spec = object.spec.get_or_insert_default();
    spec.node_name = Some(node.into());
    spec.tolerations.get_or_insert_default().push(k8s::Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    });
    pod.object = object;
    Ok(())
}

/// `namespace/name` of a document that may be bad elsewhere.
fn name(root: &Node, node: &str) -> Option<String> {
    let metadata = root.get("metadata")?;
    let name = metadata.get("name")?.text()?;
    let namespace = metadata.get("namespace").and_then(Node::text).filter(|name| !name.is_empty());
    Some(format!("{}/{}", namespace.unwrap_or("default"), check::full_name(name, node)))
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
    let mut names = std::collections::HashMap::new();
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
    let mut uids: std::collections::HashMap<String, String> = std::collections::HashMap::new();
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

#[cfg(test)]
mod tests;
