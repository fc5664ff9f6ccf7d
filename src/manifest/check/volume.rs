//! The checks of a volume.

use k8s_openapi::api::core::v1 as k8s;

use super::choose;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, Value, quote};
use crate::pod::spec::{HostPathType, Medium, Volume, VolumeSource};

/// One volume, defaulted before. None: it is of a kind that was refused.
pub fn check(report: &mut Report<'_>, volume: &k8s::Volume, path: &Path) -> Option<Volume> {
    empty_source(report, path);
    let source = match (&volume.empty_dir, &volume.host_path) {
        (Some(_), Some(_)) => {
            report.refuse(path, "is both an emptyDir and a hostPath: keep one");
            return None;
        }
        (Some(empty), None) => empty_dir(report, empty, &path.key("emptyDir")),
        (None, Some(host)) => host_path(report, host, &path.key("hostPath")),
        (None, None) => return None,
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
    let medium = empty.medium.as_deref().unwrap_or_default();
    if medium.starts_with("HugePages") {
        report.refuse(
            &path.key("medium"),
            format!("{} is not supported yet: use Memory, or leave it out", quote(medium)),
        );
    } else if !matches!(medium, "" | "Memory") {
        report.refuse(
            &path.key("medium"),
            format!("{} is not a medium: use Memory, or leave it out", quote(medium)),
        );
    }
    let limit =
        empty.size_limit.as_ref().and_then(|limit| super::amount(report, &limit.0, &path.key("sizeLimit")));
    // A limit of 0 means none, as it does for Kubernetes.
    let limit = limit.map(|limit| limit.whole()).filter(|bytes| *bytes > 0);
    let medium = if medium == "Memory" { Medium::Memory } else { Medium::Disk };
    VolumeSource::EmptyDir { medium, limit }
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
