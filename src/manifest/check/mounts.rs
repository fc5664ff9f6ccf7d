//! The checks of a container's volume mounts.

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as k8s;

use super::choose;
use super::container::Around;
use super::judge;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{Mount, Propagation, Recursive};

pub fn check(
    report: &mut Report<'_>,
    container: &k8s::Container,
    around: &Around<'_>,
    path: &Path,
) -> Vec<Mount> {
    let privileged =
        container.security_context.as_ref().and_then(|given| given.privileged).unwrap_or_default();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.key("volumeMounts").item(index);
        if !around.volumes.contains_key(mount.name.as_str()) {
            report.refuse(&path.key("name"), around.no_volume(&mount.name));
        }
        let place = absolute(&mount.mount_path);
        let field = path.key("mountPath");
        if mount.mount_path.is_empty() {
            report.refuse(&field, "a mount needs a path in the container");
        } else if place == "/" {
            report.refuse(&field, "would hide the whole image: mount below /");
        } else if let Some(first) = seen.insert(place.clone(), index) {
            report.refuse(
                &field,
                format!("{} is where volumeMounts[{first}] is too: use another path", quote(&place)),
            );
        }
        let sub_path = mount.sub_path.clone().filter(|sub| !sub.is_empty());
        let sub_path_expr = mount.sub_path_expr.clone().filter(|sub| !sub.is_empty());
        for (sub, field) in [(&sub_path, "subPath"), (&sub_path_expr, "subPathExpr")] {
            if let Some(sub) = sub {
                judge(report, &path.key(field), relative(sub, field));
            }
        }
        if sub_path.is_some() && sub_path_expr.is_some() {
            report.refuse(&path.key("subPathExpr"), "excludes subPath: keep one");
        }
        let read_only = mount.read_only.unwrap_or_default();
        let propagation = propagation(report, mount, privileged, &path.key("mountPropagation"));
        mounts.push(Mount {
            volume: mount.name.clone(),
            path: place,
            read_only,
            recursive_read_only: recursive(report, mount, propagation, &path.key("recursiveReadOnly")),
            propagation,
            sub_path,
            sub_path_expr,
        });
    }
    mounts
}

fn propagation(
    report: &mut Report<'_>,
    mount: &k8s::VolumeMount,
    privileged: bool,
    path: &Path,
) -> Propagation {
    let ways = [
        ("", Propagation::None),
        ("None", Propagation::None),
        ("HostToContainer", Propagation::HostToContainer),
        ("Bidirectional", Propagation::Bidirectional),
    ];
    let way = choose(report, &mount.mount_propagation, &ways, path).unwrap_or_default();
    if way == Propagation::Bidirectional && !privileged {
        report.refuse(
            path,
            "\"Bidirectional\" needs securityContext.privileged: true: add it, or use HostToContainer",
        );
    }
    way
}

fn recursive(
    report: &mut Report<'_>,
    mount: &k8s::VolumeMount,
    propagation: Propagation,
    path: &Path,
) -> Recursive {
    let modes = [
        ("", Recursive::Disabled),
        ("Disabled", Recursive::Disabled),
        ("IfPossible", Recursive::IfPossible),
        ("Enabled", Recursive::Enabled),
    ];
    let mode = choose(report, &mount.recursive_read_only, &modes, path).unwrap_or_default();
    let word = quote(mount.recursive_read_only.as_deref().unwrap_or_default());
    match mode {
        Recursive::Disabled => {}
        Recursive::IfPossible | Recursive::Enabled if mount.read_only != Some(true) => {
            report.refuse(path, format!("{word} needs readOnly: true: add it, or use Disabled"));
        }
        Recursive::IfPossible | Recursive::Enabled if propagation != Propagation::None => {
            report.refuse(path, format!("{word} excludes mountPropagation: leave that out, or use Disabled"));
        }
        Recursive::IfPossible | Recursive::Enabled => {}
    }
    mode
}

/// From the container's root, without doubled or trailing slashes, so that one place has one spelling.
fn absolute(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

fn relative(sub: &str, field: &str) -> Result<(), String> {
    if sub.starts_with('/') {
        return Err(format!("{} is an absolute path: a {field} begins within the volume", quote(sub)));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("{} holds \"..\": a {field} stays within the volume", quote(sub)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_spelling() {
        for (path, expected) in
            [("/a", "/a"), ("a/b", "/a/b"), ("/a//b/", "/a/b"), ("/./a", "/a"), ("/", "/"), ("", "/")]
        {
            assert_eq!(absolute(path), expected, "{path}");
        }
        assert!(relative("a/b..c", "subPath").is_ok());
        for sub in ["/must/not/be/absolute", "no/backsteps/../allowed", ".."] {
            assert!(relative(sub, "subPath").is_err(), "{sub}");
        }
    }
}
