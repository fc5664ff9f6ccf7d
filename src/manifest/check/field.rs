//! The checks of what a variable or a file takes from the pod itself: fieldRef and resourceFieldRef.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::names;
use super::resources::page_size;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::quantity::Quantity;
use crate::pod::spec::{Measure, ResourceField};

/// Where the value goes: not every field is for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Variable,
    File,
}

const VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const FILES: &[&str] =
    &["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"];

/// A fieldRef's path.
pub fn field(report: &mut Report<'_>, given: &k8s::ObjectFieldSelector, goal: Goal, path: &Path) -> String {
    if let Some(version) = given.api_version.as_deref().filter(|version| *version != "v1") {
        let message = format!("{} is not v1: write v1, or leave it out", quote(version));
        report.refuse(&path.key("apiVersion"), message);
    }
    super::judge(report, &path.key("fieldPath"), field_path(&given.field_path, goal));
    given.field_path.clone()
}

/// One of the goal's fields, or one label or annotation.
fn field_path(text: &str, goal: Goal) -> Result<(), String> {
    let (fields, what) = match goal {
        Goal::Variable => (VARIABLES, "a variable"),
        Goal::File => (FILES, "a file"),
    };
    if text.is_empty() {
        return Err("names no field: give one such as metadata.name".into());
    }
    if fields.contains(&text) {
        return Ok(());
    }
    let cure =
        || format!("{}, metadata.labels['key'] and metadata.annotations['key'] are", fields.join(", "));
    match subscript(text) {
        Some(("metadata.labels", key)) => names::key(key),
        Some(("metadata.annotations", key)) => names::key(&key.to_lowercase()),
        Some((field, _)) => Err(format!("{} takes no key in brackets: {}", quote(field), cure())),
        None => Err(format!("{} is not supported for {what}: {}", quote(text), cure())),
    }
}

/// `path['key']` as its parts; the key may hold brackets and quotes itself.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (path, key) = text.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty() && !key.is_empty()).then_some((path, key))
}

const CORES: &[&str] = &["1", "1m"];

const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A resourceFieldRef; None: it was refused. `own`: the container meant where none is named.
pub fn resource(
    report: &mut Report<'_>,
    field: &k8s::ResourceFieldSelector,
    own: Option<&str>,
    containers: &HashSet<&str>,
    path: &Path,
) -> Option<ResourceField> {
    let named = field.container_name.as_deref().filter(|name| !name.is_empty()).or(own);
    match named {
        None => report.refuse(&path.key("containerName"), "is missing: name a container of the pod"),
        Some(name) if !containers.contains(name) => {
            report.refuse(&path.key("containerName"), format!("no container is named {}", quote(name)));
        }
        Some(_) => {}
    }
    let kind = kind(&field.resource).map_err(|why| report.refuse(&path.key("resource"), why)).ok();
    let divisor = field.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let given = Quantity::parse(divisor).map_err(|why| report.refuse(&path.key("divisor"), why)).ok()?;
    let (limit, measure) = kind?;
    let units = if measure == Measure::Cpu { CORES } else { SIZES };
    let one = |text: &str| Quantity::parse(text).ok();
    // Zero is how Kubernetes writes "not given".
    let given = if Some(given) == one("0") { one("1")? } else { given };
    if !units.iter().any(|unit| one(unit) == Some(given)) {
        let message =
            format!("{} does not divide {}: use {}", quote(divisor), field.resource, units.join(", "));
        report.refuse(&path.key("divisor"), message);
        return None;
    }
    let divisor = if measure == Measure::Cpu { given.milli() } else { given.whole() };
    Some(ResourceField { container: named?.into(), limit, measure, divisor })
}

/// Whether it is a limit, and of what.
fn kind(text: &str) -> Result<(bool, Measure), String> {
    if text.is_empty() {
        return Err("names no resource: give one such as limits.memory".into());
    }
    let (limit, name) = match (text.strip_prefix("limits."), text.strip_prefix("requests.")) {
        (Some(name), _) => (true, name),
        (None, Some(name)) => (false, name),
        (None, None) => (false, ""),
    };
    let measure = match name {
        "cpu" => Measure::Cpu,
        "memory" => Measure::Memory,
        "ephemeral-storage" => Measure::Storage,
        _ if name.starts_with("hugepages-") => Measure::HugePages(page_size(name)?),
        _ => {
            let cure = "limits or requests of cpu, memory, ephemeral-storage and hugepages-<size> are";
            return Err(format!("{} is not supported: {cure}", quote(text)));
        }
    };
    Ok((limit, measure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_limit_or_a_request_of_what_there_is() {
        for (text, expected) in [
            ("limits.cpu", Some((true, Measure::Cpu))),
            ("requests.memory", Some((false, Measure::Memory))),
            ("limits.ephemeral-storage", Some((true, Measure::Storage))),
            ("requests.hugepages-2Mi", Some((false, Measure::HugePages(2 << 20)))),
            ("limits.hugepages-2048Ki", Some((true, Measure::HugePages(2 << 20)))),
            ("limits.hugepages-1Gi", Some((true, Measure::HugePages(1 << 30)))),
            ("", None),
            ("limits.gpu", None),
            ("limits.hugepages-", None),
            ("hugepages-2Mi", None),
            ("cpu", None),
        ] {
            assert_eq!(kind(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_field_path_is_judged_as_kubernetes_judges() {
        let subscripts = [
            "metadata.labels['something']",
            "metadata.annotations['Www.k8s.io/test']",
            "metadata.labels['x.io/y']",
        ];
        for text in VARIABLES.iter().chain(&subscripts) {
            assert_eq!(field_path(text, Goal::Variable), Ok(()), "{text}");
        }
        for text in FILES.iter().chain(&subscripts) {
            assert_eq!(field_path(text, Goal::File), Ok(()), "{text}");
        }
        for (text, goal, message) in [
            ("", Goal::Variable, "names no field"),
            ("metadata.whoops", Goal::Variable, "is not supported for a variable"),
            ("metadata.labels", Goal::Variable, "is not supported for a variable"),
            ("metadata.labels['key']foo", Goal::Variable, "is not supported for a variable"),
            ("metadata.labels['']", Goal::Variable, "is not supported for a variable"),
            ("metadata.annotations['invalid~key']", Goal::Variable, "is not a valid key"),
            ("metadata.labels['Www.k8s.io/test']", Goal::Variable, "is not a valid key"),
            ("metadata.notexisting['something']", Goal::Variable, "takes no key in brackets"),
            ("metadata.name['x']", Goal::Variable, "takes no key in brackets"),
            ("status.podIP", Goal::File, "is not supported for a file"),
            ("spec.nodeName", Goal::File, "is not supported for a file"),
        ] {
            let why = field_path(text, goal).expect_err(text);
            assert!(why.contains(message), "{text}: {why}");
        }
        assert_eq!(subscript("metadata.annotations['a[b']c']"), Some(("metadata.annotations", "a[b']c")));
        assert_eq!(subscript("metadata.labels['key']']"), Some(("metadata.labels", "key']")));
    }
}
