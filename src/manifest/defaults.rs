//! What Kubernetes fills in where a manifest is silent, before the uid is computed.
//!
//! Source: Kubernetes' pkg/apis/core/v1/defaults.go, for the fields that podinit reads or shows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerResizePolicy, EmptyDirVolumeSource, EnvVar, HTTPGetAction, ObjectFieldSelector, Pod,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::pod::quantity::Quantity;

/// Fills in the defaults. Twice is the same as once.
pub fn apply(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let host_network = spec.host_network.unwrap_or_default();
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    spec.enable_service_links.get_or_insert(true);
    volumes(spec);
    for container in spec.init_containers.iter_mut().flatten() {
        let plain = container.restart_policy.as_deref() != Some("Always");
        of_container(container, host_network, !plain);
    }
    for container in &mut spec.containers {
        of_container(container, host_network, true);
    }
    pod_resources(spec);
}

fn volumes(spec: &mut PodSpec) {
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(host) = &mut volume.host_path {
            host.type_.get_or_insert_default();
        }
        if let Some(map) = &mut volume.config_map {
            map.default_mode.get_or_insert(0o644);
        }
        if let Some(secret) = &mut volume.secret {
            secret.default_mode.get_or_insert(0o644);
        }
        if let Some(downward) = &mut volume.downward_api {
            downward.default_mode.get_or_insert(0o644);
            for file in downward.items.iter_mut().flatten() {
                field(file.field_ref.as_mut());
            }
        }
        if let Some(projected) = &mut volume.projected {
            projected.default_mode.get_or_insert(0o644);
            let downward = projected.sources.iter_mut().flatten().filter_map(|one| one.downward_api.as_mut());
            for file in downward.flat_map(|downward| downward.items.iter_mut().flatten()) {
                field(file.field_ref.as_mut());
            }
        }
        if let Some(image) = &mut volume.image {
            set(&mut image.pull_policy, pull(image.reference.as_deref().unwrap_or_default()));
        }
        let bare = Volume { name: volume.name.clone(), ..Volume::default() };
        if *volume == bare {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
        }
    }
}

/// `resizable`: it runs on, so that its resources may change.
fn of_container(container: &mut Container, host_network: bool, resizable: bool) {
    let policy = pull(container.image.as_deref().unwrap_or_default());
    set(&mut container.image_pull_policy, policy);
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.is_none_or(|port| port == 0) {
            port.host_port = Some(port.container_port);
        }
    }
    for EnvVar { value_from, .. } in container.env.iter_mut().flatten() {
        if let Some(source) = value_from {
            field(source.field_ref.as_mut());
            if let Some(file) = &mut source.file_key_ref {
                file.optional.get_or_insert(false);
            }
        }
    }
    resources(container, resizable);
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        for hook in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            http_get(hook.http_get.as_mut());
        }
    }
}

fn field(field: Option<&mut ObjectFieldSelector>) {
    if let Some(field) = field {
        set(&mut field.api_version, "v1");
    }
}

/// A missing request is the limit; resizing in place needs no restart.
fn resources(container: &mut Container, resizable: bool) {
    let Some(resources) = &mut container.resources else { return };
    for (name, limit) in resources.limits.iter().flatten() {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
    let given: Vec<String> = ["cpu", "memory"]
        .into_iter()
        .filter(|name| resources.requests.as_ref().is_some_and(|requests| requests.contains_key(*name)))
        .map(str::to_owned)
        .collect();
    if !given.is_empty() && resizable {
        let policies = container.resize_policy.get_or_insert_default();
        for resource_name in given {
            if policies.iter().all(|policy| policy.resource_name != resource_name) {
                policies.push(ContainerResizePolicy { resource_name, restart_policy: "NotRequired".into() });
            }
        }
    }
}

type Amounts = BTreeMap<String, resource::Quantity>;

/// Where the pod gives some resources itself, its missing requests are its containers' together, else its limits;
/// huge pages have no request without the limit.
fn pod_resources(spec: &mut PodSpec) {
    let bare = |given: &ResourceRequirements| {
        given.limits.as_ref().is_none_or(Amounts::is_empty)
            && given.requests.as_ref().is_none_or(Amounts::is_empty)
    };
    let Some(mut given) = spec.resources.take_if(|given| !bare(given)) else { return };
    for name in ["cpu", "memory"] {
        let missing = given.requests.as_ref().is_none_or(|requests| !requests.contains_key(name));
        if let Some(sum) = together(spec, name).filter(|_| missing) {
            given.requests.get_or_insert_default().insert(name.into(), sum);
        }
    }
    for (name, limit) in given.limits.iter().flatten() {
        given.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
    spec.resources = Some(given);
}

/// What the containers request at one time: regular ones and sidecars together, or an init container with the
/// sidecars before it where that is more. None: none of them requests it, or one not in a readable way.
fn together(spec: &PodSpec, name: &str) -> Option<resource::Quantity> {
    let mut found = false;
    let mut of = |container: &Container| -> Option<u64> {
        let given = container.resources.as_ref().and_then(|given| given.requests.as_ref()?.get(name));
        let Some(given) = given else { return Some(0) };
        found = true;
        let amount = Quantity::parse(&given.0).ok()?;
        Some(if name == "cpu" { amount.milli() } else { amount.whole() })
    };
    let (mut sidecars, mut most) = (0u64, 0u64);
    for init in spec.init_containers.iter().flatten() {
        let with = sidecars.saturating_add(of(init)?);
        most = most.max(with);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars = with;
        }
    }
    let mut sum = sidecars;
    for container in &spec.containers {
        sum = sum.saturating_add(of(container)?);
    }
    let sum = sum.max(most);
    found.then(|| {
        resource::Quantity(match name {
            "cpu" if sum % 1000 == 0 => (sum / 1000).to_string(),
            "cpu" => format!("{sum}m"),
            _ => sum.to_string(),
        })
    })
}

fn probe(probe: &mut Probe) {
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.is_none_or(|given| given == 0) {
            *field = Some(default);
        }
    }
    http_get(probe.http_get.as_mut());
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(get: Option<&mut HTTPGetAction>) {
    if let Some(get) = get {
        set(&mut get.path, "/");
        set(&mut get.scheme, "HTTP");
    }
}

fn pull(image: &str) -> &'static str {
    if floating(image) { "Always" } else { "IfNotPresent" }
}

/// An empty text counts as absent, as in Kubernetes' own defaulting.
fn set(field: &mut Option<String>, default: &str) {
    if field.as_ref().is_none_or(String::is_empty) {
        *field = Some(default.into());
    }
}

/// Whether the image's name may stand for another image tomorrow: tag `latest`, or neither tag nor digest.
fn floating(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_floats_without_a_tag_or_with_latest() {
        for (image, expected) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("reg.example:5000/nginx", true),
            ("reg.example:5000/a/nginx:latest", true),
            ("nginx:1.27", false),
            ("reg.example:5000/nginx:1", false),
            ("nginx@sha256:00", false),
            ("nginx:latest@sha256:00", false),
        ] {
            assert_eq!(floating(image), expected, "{image}");
        }
    }

    #[test]
    fn what_is_missing_is_filled_in_once() {
        let text = serde_json::json!({"spec": {"hostNetwork": true,
            "volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/b"}}],
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]}});
        let mut pod: Pod = serde_json::from_value(text).unwrap();
        apply(&mut pod);
        let expected = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {
            "hostNetwork": true, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "securityContext": {},
            "enableServiceLinks": true,
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/b", "type": ""}}],
            "containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                    {"resourceName": "memory", "restartPolicy": "NotRequired"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"},
                    "requests": {"cpu": "100m", "memory": "1Gi"}}}]}});
        assert_eq!(serde_json::to_value(&pod).unwrap(), expected);
        let once = pod.clone();
        apply(&mut pod);
        assert_eq!(pod, once);
    }
}
