//! The checks of volumes whose files are small texts: configMap, secret, downwardAPI and projected.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::env::config;
use super::field::{self, Goal};
use super::names;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{DownwardItem, DownwardValue, Item, Plugin, Projection, VolumeSource};

pub fn config_map(report: &mut Report<'_>, map: &k8s::ConfigMapVolumeSource, path: &Path) -> VolumeSource {
    let config = config(report, false, &map.name, map.optional, &path.key("name"));
    let mut places = HashSet::new();
    let items = items(report, &map.items, &mut places, &path.key("items"));
    let sources = vec![Projection::Config { config, items }];
    VolumeSource::Projected {
        plugin: Plugin::ConfigMap,
        sources,
        mode: default_mode(report, map.default_mode, path),
    }
}

pub fn secret(report: &mut Report<'_>, secret: &k8s::SecretVolumeSource, path: &Path) -> VolumeSource {
    let name = secret.secret_name.as_deref().unwrap_or_default();
    let config = config(report, true, name, secret.optional, &path.key("secretName"));
    let mut places = HashSet::new();
    let items = items(report, &secret.items, &mut places, &path.key("items"));
    let sources = vec![Projection::Config { config, items }];
    VolumeSource::Projected {
        plugin: Plugin::Secret,
        sources,
        mode: default_mode(report, secret.default_mode, path),
    }
}

pub fn downward(
    report: &mut Report<'_>,
    downward: &k8s::DownwardAPIVolumeSource,
    containers: &HashSet<&str>,
    path: &Path,
) -> VolumeSource {
    let mut places = HashSet::new();
    let files = files(report, &downward.items, containers, &mut places, &path.key("items"));
    VolumeSource::Projected {
        plugin: Plugin::DownwardApi,
        sources: vec![Projection::Downward(files)],
        mode: default_mode(report, downward.default_mode, path),
    }
}

pub fn projected(
    report: &mut Report<'_>,
    projected: &k8s::ProjectedVolumeSource,
    containers: &HashSet<&str>,
    path: &Path,
) -> VolumeSource {
    // Two sources may not write one file.
    let mut places = HashSet::new();
    let mut sources = Vec::new();
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let path = path.key("sources").item(index);
        let k8s::VolumeProjection {
            cluster_trust_bundle: bundle,
            config_map: map,
            downward_api: downward,
            pod_certificate: certificate,
            secret,
            service_account_token: token,
        } = source;
        let given = [
            bundle.is_some(),
            map.is_some(),
            downward.is_some(),
            certificate.is_some(),
            secret.is_some(),
            token.is_some(),
        ];
        match given.iter().filter(|given| **given).count() {
            0 => report.refuse(&path, "names no source: give configMap, secret or downwardAPI"),
            1 => {}
            _ => report.refuse(&path, "names more than one source: write each as an item of its own"),
        }
        if let Some(map) = map {
            let path = path.key("configMap");
            let config = config(report, false, &map.name, map.optional, &path.key("name"));
            let items = items(report, &map.items, &mut places, &path.key("items"));
            sources.push(Projection::Config { config, items });
        }
        if let Some(secret) = secret {
            let path = path.key("secret");
            let config = config(report, true, &secret.name, secret.optional, &path.key("name"));
            let items = items(report, &secret.items, &mut places, &path.key("items"));
            sources.push(Projection::Config { config, items });
        }
        if let Some(downward) = downward {
            let path = path.key("downwardAPI.items");
            let files = files(report, &downward.items, containers, &mut places, &path);
            sources.push(Projection::Downward(files));
        }
    }
    VolumeSource::Projected {
        plugin: Plugin::Projected,
        sources,
        mode: default_mode(report, projected.default_mode, path),
    }
}

fn items(
    report: &mut Report<'_>,
    given: &Option<Vec<k8s::KeyToPath>>,
    places: &mut HashSet<String>,
    path: &Path,
) -> Vec<Item> {
    let mut items = Vec::new();
    for (index, item) in given.iter().flatten().enumerate() {
        let path = path.item(index);
        super::judge(report, &path.key("key"), names::config_key(&item.key));
        let place = place(report, &item.path, places, &path);
        let mode = item.mode.and_then(|mode| permissions(report, mode, &path.key("mode")));
        items.push(Item { key: item.key.clone(), path: place, mode });
    }
    items
}

fn files(
    report: &mut Report<'_>,
    given: &Option<Vec<k8s::DownwardAPIVolumeFile>>,
    containers: &HashSet<&str>,
    places: &mut HashSet<String>,
    path: &Path,
) -> Vec<DownwardItem> {
    let mut files = Vec::new();
    for (index, file) in given.iter().flatten().enumerate() {
        let path = path.item(index);
        let place = place(report, &file.path, places, &path);
        let mode = file.mode.and_then(|mode| permissions(report, mode, &path.key("mode")));
        let value = match (&file.field_ref, &file.resource_field_ref) {
            (Some(_), Some(_)) => {
                report.refuse(&path, "fieldRef and resourceFieldRef exclude each other: keep one");
                continue;
            }
            (None, None) => {
                report.refuse(&path, "names no source: give fieldRef or resourceFieldRef");
                continue;
            }
            (Some(field), None) => {
                DownwardValue::Field(field::field(report, field, Goal::File, &path.key("fieldRef")))
            }
            (None, Some(given)) => {
                let path = path.key("resourceFieldRef");
                match field::resource(report, given, None, containers, &path) {
                    Some(wanted) => DownwardValue::Resource(wanted),
                    None => continue,
                }
            }
        };
        files.push(DownwardItem { path: place, mode, value });
    }
    files
}

/// Where in the volume the file goes, once.
fn place(report: &mut Report<'_>, given: &str, places: &mut HashSet<String>, path: &Path) -> String {
    let field = path.key("path");
    match names::inner_path(given) {
        Ok(place) => {
            if !places.insert(place.clone()) {
                report.refuse(
                    &field,
                    format!("{} is a file of this volume already: use another", quote(&place)),
                );
            }
            place
        }
        Err(why) => {
            report.refuse(&field, why);
            String::new()
        }
    }
}

fn default_mode(report: &mut Report<'_>, given: Option<i32>, path: &Path) -> u32 {
    permissions(report, given.unwrap_or(0o644), &path.key("defaultMode")).unwrap_or(0o644)
}

/// Of a file. YAML's 0644 is octal, JSON has decimal numbers only.
fn permissions(report: &mut Report<'_>, given: i32, path: &Path) -> Option<u32> {
    match u32::try_from(given) {
        Ok(mode) if mode <= 0o777 => Some(mode),
        Ok(_) | Err(_) => {
            report.refuse(path, format!("{given} is no file mode: use 0 to 0777 (511 in decimal)"));
            None
        }
    }
}
