//! podFailurePolicy: what the exit codes of a failed pod mean to its Job.

use super::choose;
use crate::manifest::report::Report;
use crate::manifest::tree::{Node, Path, Value};
use crate::manifest::workload;
use crate::pod::batch::spec::{Consequence, Rule};

/// Kubernetes' limits.
const RULES: usize = 20;
const CODES: usize = 255;

const ACTIONS: &[(&str, Consequence)] = &[
    ("Count", Consequence::Count),
    ("FailJob", Consequence::FailJob),
    ("FailIndex", Consequence::FailIndex),
    ("Ignore", Consequence::Ignore),
];

/// `by_index`: backoffLimitPerIndex is set.
pub(super) fn rules(
    report: &mut Report<'_>,
    spec: &Node,
    template: &Node,
    path: &Path,
    by_index: bool,
) -> Vec<Rule> {
    let Some(policy) = spec.get("podFailurePolicy") else { return Vec::new() };
    let path = path.key("podFailurePolicy");
    let restart = template.find(&Path::of("spec.restartPolicy")).and_then(Node::text);
    if restart != Some("Never") {
        report.refuse(&path, "needs pods that are not restarted: set restartPolicy: Never in the template");
    }
    workload::strangers(report, policy, &["rules"], &path);
    let path = path.key("rules");
    let list = list(report, policy, &path, "rules", RULES);
    let mut rules = Vec::new();
    for (index, node) in list.iter().enumerate() {
        rules.extend(rule(report, node, template, &path.item(index), by_index));
    }
    rules
}

fn rule(report: &mut Report<'_>, node: &Node, template: &Node, path: &Path, by_index: bool) -> Option<Rule> {
    workload::strangers(report, node, &["action", "onExitCodes", "onPodConditions"], path);
    if node.get("action").is_none() {
        report.refuse(&path.key("action"), "is missing: write FailJob, FailIndex, Ignore or Count");
    }
    let what = choose(report, node, path, "action", ACTIONS)?;
    if what == Consequence::FailIndex && !by_index {
        report.refuse(&path.key("action"), "FailIndex needs backoffLimitPerIndex: set it, or use FailJob");
    }
    match (node.get("onExitCodes"), node.get("onPodConditions")) {
        (Some(_), Some(_)) | (None, None) => {
            report.refuse(path, "needs one of onExitCodes and onPodConditions");
            None
        }
        (None, Some(_)) => {
            let message = "matches nothing here: nobody gives a pod such a condition";
            report.warn(&path.key("onPodConditions"), message);
            // In its place, so that the others keep their numbers.
            Some(Rule { what, container: None, not_in: false, codes: Vec::new() })
        }
        (Some(on), None) => exit_codes(report, on, template, &path.key("onExitCodes"), what),
    }
}

fn exit_codes(
    report: &mut Report<'_>,
    on: &Node,
    template: &Node,
    path: &Path,
    what: Consequence,
) -> Option<Rule> {
    workload::strangers(report, on, &["containerName", "operator", "values"], path);
    if on.get("operator").is_none() {
        report.refuse(&path.key("operator"), "is missing: write In or NotIn");
    }
    let not_in = choose(report, on, path, "operator", &[("In", false), ("NotIn", true)])?;
    let container = on.get("containerName").and_then(Node::text).map(str::to_owned);
    if let Some(name) = &container
        && !names(template).any(|known| known == name)
    {
        report.refuse(&path.key("containerName"), format!("{name:?} is no container of the template"));
    }
    let path = path.key("values");
    let mut codes = Vec::new();
    let list = list(report, on, &path, "values", CODES);
    for (index, node) in list.iter().enumerate() {
        let code = match &node.value {
            Value::Number(number) => number.as_i64().and_then(|code| i32::try_from(code).ok()),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        match code {
            None => report.refuse(&path.item(index), format!("{} is no exit code", node.brief())),
            Some(0) if !not_in => report.refuse(&path.item(index), "0 is no failure: remove it"),
            Some(code) => codes.push(code),
        }
    }
    Some(Rule { what, container, not_in, codes })
}

fn names(template: &Node) -> impl Iterator<Item = &str> {
    let lists = ["spec.containers", "spec.initContainers"].map(|list| template.find(&Path::of(list)));
    let items = lists.into_iter().flatten().flat_map(|list| match &list.value {
        Value::List(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => &[],
    });
    items.filter_map(|container| container.get("name")?.text())
}

/// A list of one to `most` entries.
fn list<'n>(report: &mut Report<'_>, node: &'n Node, path: &Path, key: &str, most: usize) -> &'n [Node] {
    match node.get(key).map(|node| &node.value) {
        Some(Value::List(items)) if (1..=most).contains(&items.len()) => items,
        None
        | Some(
            Value::List(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_),
        ) => {
            report.refuse(path, format!("is no list of 1 to {most} entries"));
            &[]
        }
    }
}
