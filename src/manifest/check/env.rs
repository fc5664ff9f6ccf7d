//! The checks of environment variables and what they refer to.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::container::Around;
use super::field::{self, Goal};
use super::{judge, names};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{ConfigRef, EnvFrom, EnvValue, EnvVar};

/// A container's variables.
pub fn all(
    report: &mut Report<'_>,
    container: &k8s::Container,
    around: &Around<'_>,
    path: &Path,
) -> Vec<EnvVar> {
    let mut seen = HashSet::new();
    let mut vars = Vec::new();
    for (index, var) in container.env.iter().flatten().enumerate() {
        let path = path.key("env").item(index);
        judge(report, &path.key("name"), names::variable(&var.name));
        if !seen.insert(var.name.as_str()) {
            report.warn(
                &path.key("name"),
                format!("{} is given before: this later one counts", quote(&var.name)),
            );
        }
        if let Some(value) = value(report, var, &container.name, around, &path) {
            vars.push(EnvVar { name: var.name.clone(), value });
        }
    }
    vars
}

/// A container's envFrom.
pub fn sources(report: &mut Report<'_>, container: &k8s::Container, path: &Path) -> Vec<EnvFrom> {
    let mut sources = Vec::new();
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        let path = path.key("envFrom").item(index);
        let prefix = from.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() {
            judge(report, &path.key("prefix"), names::variable(&prefix));
        }
        let config = match (&from.config_map_ref, &from.secret_ref) {
            (Some(_), Some(_)) => {
                report.refuse(&path, "names more than one source: keep one");
                continue;
            }
            (None, None) => {
                report.refuse(&path, "names no source: give configMapRef or secretRef");
                continue;
            }
            (Some(map), None) => {
                config(report, false, &map.name, map.optional, &path.key("configMapRef.name"))
            }
            (None, Some(secret)) => {
                config(report, true, &secret.name, secret.optional, &path.key("secretRef.name"))
            }
        };
        sources.push(EnvFrom { prefix, config });
    }
    sources
}

/// The name of a ConfigMap or Secret, which may come later: its absence is not the manifest's fault.
pub fn config(
    report: &mut Report<'_>,
    secret: bool,
    name: &str,
    optional: Option<bool>,
    path: &Path,
) -> ConfigRef {
    if name.is_empty() {
        let kind = if secret { "Secret" } else { "ConfigMap" };
        report.refuse(path, format!("is missing: name a {kind} of the manifest directory"));
    } else {
        judge(report, path, names::subdomain(name));
    }
    ConfigRef { secret, name: name.into(), optional: optional.unwrap_or_default() }
}

fn value(
    report: &mut Report<'_>,
    var: &k8s::EnvVar,
    own: &str,
    around: &Around<'_>,
    path: &Path,
) -> Option<EnvValue> {
    let Some(source) = &var.value_from else {
        return Some(EnvValue::Literal(var.value.clone().unwrap_or_default()));
    };
    let from = path.key("valueFrom");
    if var.value.as_ref().is_some_and(|value| !value.is_empty()) {
        report.refuse(&from, "value and valueFrom exclude each other: keep one");
    }
    let k8s::EnvVarSource {
        config_map_key_ref: map,
        secret_key_ref: secret,
        file_key_ref: file,
        field_ref: field,
        resource_field_ref: resource,
    } = source;
    let given = [map.is_some(), secret.is_some(), file.is_some(), field.is_some(), resource.is_some()];
    match given.iter().filter(|given| **given).count() {
        0 => report.refuse(
            &from,
            "names no source: give fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef or fileKeyRef",
        ),
        1 => {}
        _ => report.refuse(&from, "names more than one source: keep one"),
    }
    if let Some(field) = field {
        return Some(EnvValue::Field(field::field(report, field, Goal::Variable, &from.key("fieldRef"))));
    }
    if let Some(given) = resource {
        let path = from.key("resourceFieldRef");
        return field::resource(report, given, Some(own), &around.containers, &path).map(EnvValue::Resource);
    }
    if let Some(map) = map {
        let path = from.key("configMapKeyRef");
        let config = config(report, false, &map.name, map.optional, &path.key("name"));
        judge(report, &path.key("key"), names::config_key(&map.key));
        return Some(EnvValue::Config { config, key: map.key.clone() });
    }
    if let Some(secret) = secret {
        let path = from.key("secretKeyRef");
        let config = config(report, true, &secret.name, secret.optional, &path.key("name"));
        judge(report, &path.key("key"), names::config_key(&secret.key));
        return Some(EnvValue::Config { config, key: secret.key.clone() });
    }
    file.as_ref().map(|file| of_file(report, file, around, &from.key("fileKeyRef")))
}

/// A line of a file that another container leaves in an emptyDir.
fn of_file(
    report: &mut Report<'_>,
    file: &k8s::FileKeySelector,
    around: &Around<'_>,
    path: &Path,
) -> EnvValue {
    judge(report, &path.key("key"), names::variable(&file.key));
    match names::inner_path(&file.path) {
        Ok(_) => {}
        Err(why) => report.refuse(&path.key("path"), why),
    }
    match around.volumes.get(file.volume_name.as_str()) {
        Some(volume) if volume.empty_dir.is_some() => {}
        Some(_) => {
            let message = format!("{} is not an emptyDir: use one that is", quote(&file.volume_name));
            report.refuse(&path.key("volumeName"), message);
        }
        None => report.refuse(&path.key("volumeName"), around.no_volume(&file.volume_name)),
    }
    EnvValue::File {
        volume: file.volume_name.clone(),
        path: names::inner_path(&file.path).unwrap_or_default(),
        key: file.key.clone(),
        optional: file.optional.unwrap_or_default(),
    }
}
