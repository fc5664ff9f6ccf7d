//! The checks of a volume.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use super::{choose, container, projected};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, Value, quote};
use crate::pod::quantity::Quantity;
use crate::pod::spec::{HostPathType, Medium, PullPolicy, Volume, VolumeSource};

/// One volume, defaulted before. None: it is of a kind that was refused. `containers`: the pod's.
pub fn check(
    report: &mut Report<'_>,
    volume: &k8s::Volume,
    containers: &HashSet<&str>,
    path: &Path,
) -> Option<Volume> {
    empty_source(report, path);
    let kinds = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("secret", volume.secret.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("projected", volume.projected.is_some()),
        ("image", volume.image.is_some()),
    ];
    let given: Vec<&str> = kinds.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind).collect();
    if given.len() > 1 {
        report.refuse(path, format!("is of several kinds, {}: keep one", given.join(" and ")));
        return None;
    }
    let source = if let Some(empty) = &volume.empty_dir {
        empty_dir(report, empty, &path.key("emptyDir"))
    } else if let Some(host) = &volume.host_path {
        host_path(report, host, &path.key("hostPath"))
    } else if let Some(map) = &volume.config_map {
        projected::config_map(report, map, &path.key("configMap"))
    } else if let Some(secret) = &volume.secret {
        projected::secret(report, secret, &path.key("secret"))
    } else if let Some(downward) = &volume.downward_api {
        projected::downward(report, downward, containers, &path.key("downwardAPI"))
    } else if let Some(given) = &volume.projected {
        projected::projected(report, given, containers, &path.key("projected"))
    } else {
        image(report, volume.image.as_ref()?, &path.key("image"))
    };
    Some(Volume { name: volume.name.clone(), source })
}

/// Kubernetes takes `hostPath:` without anything below it for an emptyDir, and what is written there is lost.
fn empty_source(report: &mut Report<'_>, path: &Path) {
    let Some(node) = report.root().find(path) else { return };
    let Value::Map(entries) = &node.value else { return };
    let given = |key: &str| node.get(key).is_some();
    let empty = entries.iter().find(|entry| {
        entry.node.value == Value::Null
            && !matches!(entry.key.as_str(), "name" | "emptyDir")
            && !given("emptyDir")
    });
    if let Some(entry) = empty {
        report.refuse(
            &path.entry(&entry.key),
            "is empty: fill it in, or write emptyDir: {} for a temporary volume",
        );
    }
}

fn empty_dir(report: &mut Report<'_>, empty: &k8s::EmptyDirVolumeSource, path: &Path) -> VolumeSource {
    let word = empty.medium.as_deref().unwrap_or_default();
    let medium = match word.strip_prefix("HugePages") {
        None if word.is_empty() => Some(Medium::Disk),
        None if word == "Memory" => Some(Medium::Memory),
        Some("") => Some(Medium::HugePages(None)),
        Some(size) => size
            .strip_prefix('-')
            .and_then(|size| Quantity::parse(size).ok())
            .map(Quantity::whole)
            .filter(|size| *size > 0)
            .map(|size| Medium::HugePages(Some(size))),
        None => None,
    };
    if medium.is_none() {
        let message = format!(
            "{} is not a medium: use Memory, HugePages or HugePages-2Mi, or leave it out",
            quote(word)
        );
        report.refuse(&path.key("medium"), message);
    }
    let limit =
        empty.size_limit.as_ref().and_then(|limit| super::amount(report, &limit.0, &path.key("sizeLimit")));
    // A limit of 0 means none, as it does for Kubernetes.
    let limit = limit.map(|limit| limit.whole()).filter(|bytes| *bytes > 0);
    VolumeSource::EmptyDir { medium: medium.unwrap_or_default(), limit }
}

fn image(report: &mut Report<'_>, image: &k8s::ImageVolumeSource, path: &Path) -> VolumeSource {
    let reference = image.reference.clone().unwrap_or_default();
    container::image(report, &reference, "an image volume", &path.key("reference"));
    let pull = choose(report, &image.pull_policy, container::PULL, &path.key("pullPolicy"));
    VolumeSource::Image { reference, pull: pull.unwrap_or(PullPolicy::IfNotPresent) }
}

fn host_path(report: &mut Report<'_>, host: &k8s::HostPathVolumeSource, path: &Path) -> VolumeSource {
    let field = path.key("path");
    if host.path.is_empty() {
        report.refuse(&field, "a hostPath needs a path");
    } else if !host.path.starts_with('/') {
        report.refuse(&field, format!("{} is not an absolute path: begin it with /", quote(&host.path)));
    } else if host.path.split('/').any(|part| part == "..") {
        report.refuse(&field, format!("{} holds \"..\": write the path itself", quote(&host.path)));
    }
    let kinds = [
        ("", HostPathType::Unset),
        ("DirectoryOrCreate", HostPathType::DirectoryOrCreate),
        ("Directory", HostPathType::Directory),
        ("FileOrCreate", HostPathType::FileOrCreate),
        ("File", HostPathType::File),
        ("Socket", HostPathType::Socket),
        ("CharDevice", HostPathType::CharDevice),
        ("BlockDevice", HostPathType::BlockDevice),
    ];
    let kind = choose(report, &host.type_, &kinds, &path.key("type")).unwrap_or(HostPathType::Unset);
    VolumeSource::HostPath { path: host.path.clone(), kind }
}
