//! What a document is: only v1 Pods are read, and each other kind is refused by name with what would do.

use super::report::Report;
use super::shape::nearest;
use super::tree::{Path, Value, quote};

/// Whether the document says that it is a Pod.
pub fn check(report: &mut Report<'_>) -> bool {
    let root = report.root();
    if !matches!(root.value, Value::Map(_)) {
        let message =
            format!("{} is not a manifest: apiVersion, kind, metadata and spec are wanted", root.brief());
        report.refuse(&Path::default(), message);
        return false;
    }
    let word = |report: &mut Report<'_>, field: &str, wanted: &str| match root.get(field) {
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
    let version = word(report, "apiVersion", "v1");
    let kind = word(report, "kind", "Pod");
    if let Some(kind) = kind
        && kind != "Pod"
    {
        report.refuse(&Path::of("kind"), format!("{} is not supported: {}", quote(kind), cure(kind)));
    } else if let Some(version) = version
        && version != "v1"
    {
        report.refuse(&Path::of("apiVersion"), format!("{} has no Pod: write v1", quote(version)));
    }
    !report.refused()
}

fn cure(kind: &str) -> &'static str {
    match kind {
        "List" | "PodList" => "write each pod as a document of its own, with a line of three dashes between",
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" => {
            "write its spec.template as a document of apiVersion v1, kind Pod"
        }
        "Job" | "CronJob" => {
            "write its template as a document of apiVersion v1, kind Pod, restartPolicy OnFailure"
        }
        "ConfigMap" | "Secret" => "write its values into the pod's env, or mount a file by hostPath",
        "Service" | "Ingress" => "use hostNetwork: true in the pod to be reached from outside",
        "PersistentVolume" | "PersistentVolumeClaim" => "use a hostPath volume in the pod",
        _ if nearest(kind, &["Pod"]).is_some() => "did you mean Pod?",
        _ => "only Pods are read here",
    }
}
