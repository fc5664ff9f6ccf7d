//! What a document is: each kind that is not read is refused by name, with what would do.

use super::report::Report;
use super::tree::{Path, Value, quote};
use crate::spelling::nearest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pod,
    ConfigMap,
    Secret,
    List,
    PodList,
    DaemonSet,
    Deployment,
    ReplicaSet,
    StatefulSet,
    Job,
    CronJob,
}

const KINDS: &[(&str, Kind, &str)] = &[
    ("Pod", Kind::Pod, "v1"),
    ("ConfigMap", Kind::ConfigMap, "v1"),
    ("Secret", Kind::Secret, "v1"),
    ("List", Kind::List, "v1"),
    ("PodList", Kind::PodList, "v1"),
    ("DaemonSet", Kind::DaemonSet, "apps/v1"),
    ("Deployment", Kind::Deployment, "apps/v1"),
    ("ReplicaSet", Kind::ReplicaSet, "apps/v1"),
    ("StatefulSet", Kind::StatefulSet, "apps/v1"),
    ("Job", Kind::Job, "batch/v1"),
    ("CronJob", Kind::CronJob, "batch/v1"),
];

impl Kind {
    pub fn named(word: &str) -> Option<Kind> {
        KINDS.iter().find(|(known, _, _)| *known == word).map(|(_, kind, _)| *kind)
    }

    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or("", |(word, _, _)| word)
    }
}

/// What the document says that it is. None: it was refused. `within`: what an item of a list is that does not say.
pub fn check(report: &mut Report<'_>, within: Option<Kind>) -> Option<Kind> {
    let root = report.root();
    if !matches!(root.value, Value::Map(_)) {
        let message =
            format!("{} is not a manifest: apiVersion, kind, metadata and spec are wanted", root.brief());
        report.refuse(&Path::default(), message);
        return None;
    }
    let word = |report: &mut Report<'_>, field: &str, wanted: &str| match root.get(field) {
        None if within.is_some() => None,
        None => {
            report.refuse(&Path::of(field), format!("is missing: write {field}: {wanted}"));
            None
        }
        Some(node) => match node.text() {
            None => {
                report.refuse(&Path::of(field), format!("{} is not text: write {wanted}", node.brief()));
                None
            }
            Some(text) => Some(text),
        },
    };
    let word_of_kind = word(report, "kind", "Pod");
    let known = match word_of_kind {
        Some(kind) => KINDS.iter().find(|(known, _, _)| *known == kind),
        None => KINDS.iter().find(|(_, kind, _)| Some(*kind) == within),
    };
    let version = word(report, "apiVersion", known.map_or("v1", |(_, _, version)| version));
    match (word_of_kind, known, version) {
        (Some(kind), None, _) => {
            report.refuse(&Path::of("kind"), format!("{} is not supported: {}", quote(kind), cure(kind)));
        }
        (_, Some((kind, _, wanted)), Some(version)) if version != *wanted => {
            let message = format!("{} has no {kind}: write {wanted}", quote(version));
            report.refuse(&Path::of("apiVersion"), message);
        }
        (None, None, _) | (_, Some(_), _) => {}
    }
    known.filter(|_| !report.refused()).map(|(_, kind, _)| *kind)
}

fn cure(kind: &str) -> &'static str {
    match kind {
        "ReplicationController" => "write it as a Deployment of apps/v1",
        "ConfigMapList" | "SecretList" | "DeploymentList" | "DaemonSetList" | "JobList" | "CronJobList" => {
            "write a List of v1"
        }
        "Service" | "Ingress" => "use hostNetwork: true in the pod to be reached from outside",
        "PersistentVolume" | "PersistentVolumeClaim" => "use a hostPath volume in the pod",
        _ => match nearest(
            kind,
            &["Pod", "ConfigMap", "Secret", "Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob"],
        ) {
            Some("Pod") => "did you mean Pod?",
            Some("ConfigMap") => "did you mean ConfigMap?",
            Some("Secret") => "did you mean Secret?",
            Some("Deployment") => "did you mean Deployment?",
            Some("DaemonSet") => "did you mean DaemonSet?",
            Some("StatefulSet") => "did you mean StatefulSet?",
            Some("Job") => "did you mean Job?",
            Some("CronJob") => "did you mean CronJob?",
            Some(_) | None => {
                "Pods, ConfigMaps, Secrets, Deployments, DaemonSets, StatefulSets, Jobs and CronJobs are read here"
            }
        },
    }
}
