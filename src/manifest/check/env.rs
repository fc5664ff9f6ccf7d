//! The checks of environment variables and what they refer to.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::names;
use crate::manifest::quantity::Quantity;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{EnvValue, EnvVar};

/// A container's variables. `containers`: the names that a resourceFieldRef may name.
pub fn all(
    report: &mut Report<'_>,
    container: &k8s::Container,
    containers: &HashSet<&str>,
    path: &Path,
) -> Vec<EnvVar> {
    let mut seen = HashSet::new();
    let mut vars = Vec::new();
    for (index, var) in container.env.iter().flatten().enumerate() {
        let path = path.key("env").item(index);
        super::judge(report, &path.key("name"), names::variable(&var.name));
        if !seen.insert(var.name.as_str()) {
            report.warn(
                &path.key("name"),
                format!("{} is given before: this later one counts", quote(&var.name)),
            );
        }
        if let Some(value) = value(report, var, &container.name, containers, &path) {
            vars.push(EnvVar { name: var.name.clone(), value });
        }
    }
    vars
}

fn value(
    report: &mut Report<'_>,
    var: &k8s::EnvVar,
    own: &str,
    containers: &HashSet<&str>,
    path: &Path,
) -> Option<EnvValue> {
    let Some(source) = &var.value_from else {
        return Some(EnvValue::Literal(var.value.clone().unwrap_or_default()));
    };
    let from = path.key("valueFrom");
    if var.value.as_ref().is_some_and(|value| !value.is_empty()) {
        report.refuse(&from, "value and valueFrom exclude each other: keep one");
    }
    let others = [
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
    ];
    match others.iter().filter(|given| **given).count() {
        0 => report.refuse(&from, "names no source: give fieldRef or resourceFieldRef"),
        1 => {}
        _ => report.refuse(&from, "names more than one source: keep one"),
    }
    match (&source.field_ref, &source.resource_field_ref) {
        (Some(field), _) => {
            let path = from.key("fieldRef");
            if field.api_version.as_deref().is_some_and(|version| version != "v1") {
                report.refuse(&path.key("apiVersion"), "is not v1: write v1, or leave it out");
            }
            super::judge(report, &path.key("fieldPath"), field_path(&field.field_path));
            Some(EnvValue::Field(field.field_path.clone()))
        }
        (None, Some(resource)) => {
            Some(resource_field(report, resource, own, containers, &from.key("resourceFieldRef")))
        }
        (None, None) => None,
    }
}

const FIELDS: [&str; 9] = [
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

/// A fieldRef of a variable: one of `FIELDS`, or one label or annotation.
fn field_path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("names no field: give one such as metadata.name".into());
    }
    if FIELDS.contains(&text) {
        return Ok(());
    }
    let cure =
        || format!("{}, metadata.labels['key'] and metadata.annotations['key'] are", FIELDS.join(", "));
    match subscript(text) {
        Some(("metadata.labels", key)) => names::key(key),
        Some(("metadata.annotations", key)) => names::key(&key.to_lowercase()),
        Some((field, _)) => Err(format!("{} takes no key in brackets: {}", quote(field), cure())),
        None => Err(format!("{} is not supported for a variable: {}", quote(text), cure())),
    }
}

/// `path['key']` as its parts; the key may hold brackets and quotes itself.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (path, key) = text.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty() && !key.is_empty()).then_some((path, key))
}

fn resource_field(
    report: &mut Report<'_>,
    field: &k8s::ResourceFieldSelector,
    own: &str,
    containers: &HashSet<&str>,
    path: &Path,
) -> EnvValue {
    let container = field.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
    if !containers.contains(container) {
        report.refuse(&path.key("containerName"), format!("no container is named {}", quote(container)));
    }
    let units: &[&str] = match field.resource.as_str() {
        "limits.cpu" | "requests.cpu" => &["1", "1m"],
        "limits.memory" | "requests.memory" => {
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
        }
        "" => {
            report.refuse(&path.key("resource"), "names no resource: give one such as limits.memory");
            &[]
        }
        other => {
            let cure = "limits.cpu, requests.cpu, limits.memory and requests.memory are";
            report.refuse(&path.key("resource"), format!("{} is not supported: {cure}", quote(other)));
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
    EnvValue::Resource { container: container.into(), resource: field.resource.clone(), divisor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_path_is_judged_as_kubernetes_judges() {
        for text in FIELDS.into_iter().chain([
            "metadata.labels['something']",
            "metadata.annotations['Www.k8s.io/test']",
            "metadata.labels['x.io/y']",
        ]) {
            assert_eq!(field_path(text), Ok(()), "{text}");
        }
        for (text, message) in [
            ("", "names no field"),
            ("metadata.whoops", "is not supported for a variable"),
            ("metadata.labels", "is not supported for a variable"),
            ("metadata.labels['key']foo", "is not supported for a variable"),
            ("metadata.labels['']", "is not supported for a variable"),
            ("metadata.annotations['invalid~key']", "is not a valid key"),
            ("metadata.labels['Www.k8s.io/test']", "is not a valid key"),
            ("metadata.notexisting['something']", "takes no key in brackets"),
            ("metadata.name['x']", "takes no key in brackets"),
        ] {
            let why = field_path(text).expect_err(text);
            assert!(why.contains(message), "{text}: {why}");
        }
        assert_eq!(subscript("metadata.annotations['a[b']c']"), Some(("metadata.annotations", "a[b']c")));
        assert_eq!(subscript("metadata.labels['key']']"), Some(("metadata.labels", "key']")));
    }
}
