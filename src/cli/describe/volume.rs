//! The volumes' part of `describe pod`, in kubectl's words.

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
        } else if let Some(config) = &volume.config_map {
            page.pair(2, "Type", "ConfigMap (a volume populated by a ConfigMap)");
            config_of(page, "Name", &config.name, config.optional);
        } else if let Some(secret) = &volume.secret {
            page.pair(2, "Type", "Secret (a volume populated by a Secret)");
            config_of(page, "SecretName", secret.secret_name.as_deref().unwrap_or_default(), secret.optional);
        } else if let Some(fields) = &volume.downward_api {
            page.pair(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
            page.line(2, "Items:");
            for item in fields.items.iter().flatten() {
                let field = item.field_ref.as_ref().map(|field| &field.field_path);
                let from = field.or(item.resource_field_ref.as_ref().map(|resource| &resource.resource));
                page.line(3, format_args!("{} -> {}", from.map_or("", String::as_str), item.path));
            }
        } else if let Some(projected) = &volume.projected {
            page.pair(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
            for source in projected.sources.iter().flatten() {
                if let Some(secret) = &source.secret {
                    config_of(page, "SecretName", &secret.name, secret.optional);
                } else if source.downward_api.is_some() {
                    page.pair(2, "DownwardAPI", "true");
                } else if let Some(config) = &source.config_map {
                    config_of(page, "ConfigMapName", &config.name, config.optional);
                }
            }
        } else if let Some(image) = &volume.image {
            page.pair(2, "Type", "Image (a container image or OCI artifact)");
            page.pair(2, "Reference", image.reference.as_deref().unwrap_or_default());
            page.pair(2, "PullPolicy", image.pull_policy.as_deref().unwrap_or_default());
        } else {
            page.pair(2, "Type", "<unknown>");
        }
    }
}

fn config_of(page: &mut Page, title: &str, name: &str, optional: Option<bool>) {
    page.pair(2, title, name);
    page.pair(2, "Optional", optional.unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_where_it_comes_from() {
        let volumes = r#"[
            {"name": "a", "configMap": {"name": "app", "optional": true}},
            {"name": "b", "secret": {"secretName": "key"}},
            {"name": "c", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}},
            {"name": "d", "projected": {"sources": [
                {"secret": {"name": "key"}}, {"downwardAPI": {}}, {"configMap": {"name": "app"}}]}},
            {"name": "e", "image": {"reference": "box:1", "pullPolicy": "Never"}},
            {"name": "f", "emptyDir": {"medium": "Memory"}},
            {"name": "g", "hostPath": {"path": "/g", "type": ""}},
            {"name": "h"}
        ]"#;
        let mut page = Page(String::new());
        section(&mut page, &serde_json::from_str::<Vec<k8s::Volume>>(volumes).unwrap());
        let lines: Vec<_> = page.0.lines().map(str::trim).collect();
        let expected = [
            "Volumes:",
            "a:",
            "Type:\tConfigMap (a volume populated by a ConfigMap)",
            "Name:\tapp",
            "Optional:\ttrue",
            "b:",
            "Type:\tSecret (a volume populated by a Secret)",
            "SecretName:\tkey",
            "Optional:\tfalse",
            "c:",
            "Type:\tDownwardAPI (a volume populated by information about the pod)",
            "Items:",
            "metadata.labels -> labels",
            "limits.cpu -> cpu",
            "d:",
            "Type:\tProjected (a volume that contains injected data from multiple sources)",
            "SecretName:\tkey",
            "Optional:\tfalse",
            "DownwardAPI:\ttrue",
            "ConfigMapName:\tapp",
            "Optional:\tfalse",
            "e:",
            "Type:\tImage (a container image or OCI artifact)",
            "Reference:\tbox:1",
            "PullPolicy:\tNever",
            "f:",
            "Type:\tEmptyDir (a temporary directory that shares a pod's lifetime)",
            "Medium:\tMemory",
            "SizeLimit:\t<unset>",
            "g:",
            "Type:\tHostPath (bare host directory volume)",
            "Path:\t/g",
            "HostPathType:",
            "h:",
            "Type:\t<unknown>",
        ];
        assert_eq!(lines, expected);
    }
}
