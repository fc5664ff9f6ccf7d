//! The fields of a Job's spec.

use super::{MOST, choose, failure, flag, number, seconds, whole};
use crate::manifest::report::Report;
use crate::manifest::tree::{Node, Path, Value};
use crate::manifest::workload;
use crate::pod::batch::spec::Job;

const FIELDS: &[&str] = &[
    "parallelism",
    "completions",
    "completionMode",
    "backoffLimit",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "podFailurePolicy",
    "suspend",
    "template",
    "selector",
    "manualSelector",
    "podReplacementPolicy",
    "managedBy",
    "successPolicy",
];

/// The Job without its name and its pod.
pub(super) fn read(report: &mut Report<'_>, spec: &Node, template: &Node, path: &Path) -> Job {
    workload::strangers(report, spec, FIELDS, path);
    others(report, spec, path);
    let never = restart(report, template, path);
    let parallelism =
        whole(report, spec, path, "parallelism", MOST).and_then(|count| u32::try_from(count).ok());
    let indexed = choose(report, spec, path, "completionMode", &[("NonIndexed", false), ("Indexed", true)])
        == Some(true);
    let given = match indexed {
        true => whole(report, spec, path, "completions", MOST).and_then(|count| u32::try_from(count).ok()),
        false => number(report, spec, path, "completions"),
    };
    // Without either number one pod is to succeed; with a parallelism alone the pods share a queue of work.
    let completions = given.or((spec.get("parallelism").is_none()).then_some(1));
    if indexed && given.is_none() {
        report.refuse(&path.key("completions"), "is missing: completionMode Indexed needs it");
    }
    let limit_per_index = number(report, spec, path, "backoffLimitPerIndex");
    let max_failed_indexes = number(report, spec, path, "maxFailedIndexes");
    if limit_per_index.is_some() && !indexed {
        report.refuse(
            &path.key("backoffLimitPerIndex"),
            "is for completionMode Indexed only: set it, or remove this",
        );
    }
    if limit_per_index.is_some() && !never {
        let message = "needs pods that are not restarted: set restartPolicy: Never in the template";
        report.refuse(&path.key("backoffLimitPerIndex"), message);
    }
    if max_failed_indexes.is_some() && limit_per_index.is_none() {
        report.refuse(&path.key("maxFailedIndexes"), "needs backoffLimitPerIndex: set it, or remove this");
    }
    if given.is_some() && max_failed_indexes > given {
        report.refuse(&path.key("maxFailedIndexes"), "is more than completions: use fewer");
    }
    let backoff_limit = number(report, spec, path, "backoffLimit");
    let without = if limit_per_index.is_some() { i32::MAX as u32 } else { 6 };
    let deadline = seconds(report, spec, path, "activeDeadlineSeconds");
    if deadline.is_some_and(|deadline| deadline.is_zero()) {
        report.refuse(
            &path.key("activeDeadlineSeconds"),
            "0 is no deadline: use 1 or more seconds, or remove it",
        );
    }
    Job {
        parallelism: parallelism.unwrap_or(1),
        completions,
        backoff_limit: backoff_limit.unwrap_or(without),
        deadline,
        ttl: seconds(report, spec, path, "ttlSecondsAfterFinished"),
        suspend: flag(report, spec, path, "suspend"),
        indexed,
        limit_per_index,
        max_failed_indexes,
        rules: failure::rules(report, spec, template, path, limit_per_index.is_some()),
        ..Job::default()
    }
}

/// Whether its pods are never restarted.
fn restart(report: &mut Report<'_>, template: &Node, path: &Path) -> bool {
    let policy = template.get("spec").and_then(|spec| spec.get("restartPolicy"));
    let told = policy.and_then(Node::text);
    if !matches!(told, Some("Never" | "OnFailure")) {
        let path = path.key("template.spec.restartPolicy");
        let why = match policy {
            None => "is missing".to_owned(),
            Some(other) => format!("{} is not for a Job", other.brief()),
        };
        report.refuse(&path, format!("{why}: write OnFailure or Never"));
    }
    told == Some("Never")
}

/// What has no effect here, and what would be missed.
fn others(report: &mut Report<'_>, spec: &Node, path: &Path) {
    if spec.get("selector").is_some() || flag(report, spec, path, "manualSelector") {
        let field = if spec.get("selector").is_some() { "selector" } else { "manualSelector" };
        report.warn(&path.key(field), "has no effect: a Job knows its own pods");
    }
    if let Some(node) = spec.get("podReplacementPolicy").filter(|node| node.text() != Some("Failed")) {
        let message =
            format!("{} has no effect: a pod is replaced when it has ended, as by Failed", node.brief());
        report.warn(&path.key("podReplacementPolicy"), message);
    }
    let ours = |node: &&Node| node.text() != Some("kubernetes.io/job-controller");
    if let Some(node) = spec.get("managedBy").filter(ours) {
        let message = format!("{} is not here: remove it, and podinit runs the Job", node.brief());
        report.refuse(&path.key("managedBy"), message);
    }
    if spec.get("successPolicy").is_some_and(|node| !matches!(&node.value, Value::Map(map) if map.is_empty()))
    {
        report.refuse(
            &path.key("successPolicy"),
            "is not supported: a Job is complete when its completions are",
        );
    }
}
