//! The checks of what a variable or a file takes from the pod itself: fieldRef and resourceFieldRef.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::names;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::quantity::Quantity;

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

const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A resourceFieldRef as container, resource and divisor. `own`: the container meant where none is named.
pub fn resource(
    report: &mut Report<'_>,
    field: &k8s::ResourceFieldSelector,
    own: Option<&str>,
    containers: &HashSet<&str>,
    path: &Path,
) -> (String, String, String) {
    let named = field.container_name.as_deref().filter(|name| !name.is_empty()).or(own);
    match named {
        None => report.refuse(&path.key("containerName"), "is missing: name a container of the pod"),
        Some(name) if !containers.contains(name) => {
            report.refuse(&path.key("containerName"), format!("no container is named {}", quote(name)));
        }
        Some(_) => {}
    }
    let kind = field.resource.strip_prefix("limits.").or_else(|| field.resource.strip_prefix("requests."));
    let units: &[&str] = match kind {
        Some("cpu") => &["1", "1m"],
        Some("memory" | "ephemeral-storage") => SIZES,
        Some(huge) if huge.starts_with("hugepages-") => SIZES,
        _ if field.resource.is_empty() => {
            report.refuse(&path.key("resource"), "names no resource: give one such as limits.memory");
            &[]
        }
        Some(_) | None => {
            let cure = "limits or requests of cpu, memory, ephemeral-storage and hugepages-<size> are";
            let message = format!("{} is not supported: {cure}", quote(&field.resource));
            report.refuse(&path.key("resource"), message);
            &[]
        }
    };
    let divisor = field.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let one = |text: &str| Quantity::parse(text).ok();
    let divisor = match Quantity::parse(divisor) {
        // Zero is how Kubernetes writes "not given".
        Ok(given) if Some(given) == one("0") => "1".into(),
        Ok(given) => {
            if !units.is_empty() && !units.iter().any(|unit| one(unit) == Some(given)) {
                let message = format!(
                    "{} does not divide {}: use {}",
                    quote(divisor),
                    field.resource,
                    units.join(", ")
                );
                report.refuse(&path.key("divisor"), message);
            }
            divisor.to_owned()
        }
        Err(why) => {
            report.refuse(&path.key("divisor"), why);
            "1".into()
        }
    };
    (named.unwrap_or_default().into(), field.resource.clone(), divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

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
