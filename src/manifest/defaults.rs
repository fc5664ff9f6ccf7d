//! What Kubernetes fills in where a manifest is silent, before the uid is computed.
//!
//! Source: Kubernetes' pkg/apis/core/v1/defaults.go, for the fields that podinit reads or shows.

use k8s_openapi::api::core::v1::{
    Container, ContainerResizePolicy, EmptyDirVolumeSource, EnvVar, Pod, PodSecurityContext, PodSpec, Probe,
    Volume,
};

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
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        of_container(container, host_network);
    }
}

fn volumes(spec: &mut PodSpec) {
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(host) = &mut volume.host_path {
            host.type_.get_or_insert_default();
        }
        let bare = Volume { name: volume.name.clone(), ..Volume::default() };
        if *volume == bare {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
        }
    }
}

fn of_container(container: &mut Container, host_network: bool) {
    let pull =
        if floating(container.image.as_deref().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    set(&mut container.image_pull_policy, pull);
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.is_none_or(|port| port == 0) {
            port.host_port = Some(port.container_port);
        }
    }
    for EnvVar { value_from, .. } in container.env.iter_mut().flatten() {
        if let Some(field) = value_from.as_mut().and_then(|source| source.field_ref.as_mut()) {
            set(&mut field.api_version, "v1");
        }
    }
    resources(container);
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
}

/// A missing request is the limit; resizing in place needs no restart.
fn resources(container: &mut Container) {
    let Some(resources) = &mut container.resources else { return };
    for (name, limit) in resources.limits.iter().flatten() {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
    let given: Vec<String> = ["cpu", "memory"]
        .into_iter()
        .filter(|name| resources.requests.as_ref().is_some_and(|requests| requests.contains_key(*name)))
        .map(str::to_owned)
        .collect();
    if !given.is_empty() {
        let policies = container.resize_policy.get_or_insert_default();
        for resource_name in given {
            if policies.iter().all(|policy| policy.resource_name != resource_name) {
                policies.push(ContainerResizePolicy { resource_name, restart_policy: "NotRequired".into() });
            }
        }
    }
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
    if let Some(get) = &mut probe.http_get {
        set(&mut get.path, "/");
        set(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
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
