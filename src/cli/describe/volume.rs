//! The volumes' part of `describe pod`.

use k8s_openapi::api::core::v1 as k8s;

use super::Page;

/// `Volumes:`, and where each comes from.
pub fn section(page: &mut Page, volumes: &[k8s::Volume]) {
    if volumes.is_empty() {
        return page.pair(0, "Volumes", "<none>");
    }
    page.line(0, "Volumes:");
    for volume in volumes {
        page.line(1, format_args!("{}:", volume.name));
        if let Some(path) = &volume.host_path {
            page.pair(2, "Type", "HostPath (bare host directory volume)");
            page.pair(2, "Path", &path.path);
            page.pair(2, "HostPathType", path.type_.as_deref().unwrap_or("<none>"));
        } else if let Some(empty) = &volume.empty_dir {
            page.pair(2, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
            page.pair(2, "Medium", empty.medium.as_deref().unwrap_or_default());
            let limit = empty.size_limit.as_ref().map(|limit| limit.0.as_str());
            page.pair(2, "SizeLimit", limit.unwrap_or("<unset>"));
        } else {
            page.pair(2, "Type", "<unknown>");
        }
    }
}
