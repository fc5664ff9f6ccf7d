//! A defaulted pod to podinit's own: everything that Kubernetes' validation refuses is refused here, all of it at once.
//!
//! Source: Kubernetes' pkg/apis/core/validation, for the fields that podinit supports.

mod container;
mod dns;
mod env;
mod field;
mod lifecycle;
mod metadata;
mod mounts;
mod names;
mod ports;
mod probe;
mod projected;
mod resources;
mod security;
mod sysctl;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;

use super::report::Report;
use super::tree::{Path, quote};
use crate::pod::quantity::Quantity;
use crate::pod::spec::{Pod, RestartPolicy, Volume};
pub use metadata::{full_name, named};
pub use names::config_key;

/// Checks the object, which is defaulted and not yet renamed. The pod is whole only if the report holds no refusal;
/// its uid, origin and object are the caller's to set.
pub fn check(report: &mut Report<'_>, object: &k8s::Pod, node: &str) -> Pod {
    let none = k8s::PodSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&none);
    let (namespace, name) = metadata::check(report, object, node);
    let policies = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    let restart = choose(report, &spec.restart_policy, &policies, &Path::of("spec.restartPolicy"));
    let host_network = spec.host_network.unwrap_or_default();
    if let Some(other) = spec.node_name.as_deref().filter(|name| !name.is_empty() && *name != node) {
        let message = format!("{} has no effect: the pod runs on this node, {node}", quote(other));
        report.warn(&Path::of("spec.nodeName"), message);
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let (no_annotations, no_security) = (BTreeMap::new(), k8s::PodSecurityContext::default());
    let around = container::Around {
        containers: containers.map(|container| container.name.as_str()).collect(),
        volumes: spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect(),
        annotations: object.metadata.annotations.as_ref().unwrap_or(&no_annotations),
        security: spec.security_context.as_ref().unwrap_or(&no_security),
        restart: restart.unwrap_or_default(),
        grace: grace(report, spec),
        host_network,
        own_users: spec.host_users == Some(false),
    };
    let volumes = volumes(report, spec, &around);
    security::annotations(report, &around);
    container_names(report, spec);
    host_ports(report, spec);
    let mut each = |list: &[k8s::Container], init: bool, path: Path| {
        let check = |(index, one)| container::check(report, one, init, &around, &path.item(index));
        list.iter().enumerate().map(check).collect()
    };
    let init =
        each(spec.init_containers.as_deref().unwrap_or_default(), true, Path::of("spec.initContainers"));
    let containers = each(&spec.containers, false, Path::of("spec.containers"));
    let mut pod = Pod {
        namespace,
        hostname: metadata::hostname(report, spec, &name, node),
        name,
        restart: around.restart,
        grace: around.grace,
        host_network,
        deadline: deadline(report, spec),
        priority: priority(report, spec),
        spaces: security::spaces(report, spec),
        security: security::pod(report, spec),
        names: dns::check(report, spec),
        init,
        containers,
        volumes,
        ..Pod::default()
    };
    resources::pod(report, spec.resources.as_ref(), &mut pod);
    pod
}

fn grace(report: &mut Report<'_>, spec: &k8s::PodSpec) -> Duration {
    let seconds = spec.termination_grace_period_seconds.unwrap_or(30);
    let seconds = u64::try_from(seconds).unwrap_or_else(|_| {
        let message = format!("{seconds} is negative: use 0 or more seconds");
        report.refuse(&Path::of("spec.terminationGracePeriodSeconds"), message);
        0
    });
    Duration::from_secs(seconds)
}

fn deadline(report: &mut Report<'_>, spec: &k8s::PodSpec) -> Option<Duration> {
    let seconds = spec.active_deadline_seconds?;
    match u64::try_from(seconds) {
        Ok(seconds) if (1..=i32::MAX as u64).contains(&seconds) => Some(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => {
            let message = format!("{seconds} is not a deadline: use 1 to {} seconds", i32::MAX);
            report.refuse(&Path::of("spec.activeDeadlineSeconds"), message);
            None
        }
    }
}

/// The API server would look the class up; only Kubernetes' own two have a known number.
fn priority(report: &mut Report<'_>, spec: &k8s::PodSpec) -> i32 {
    let class = spec.priority_class_name.as_deref().unwrap_or_default();
    match (spec.priority, class) {
        (Some(priority), _) => priority,
        (None, "") => 0,
        (None, "system-node-critical") => 2_000_001_000,
        (None, "system-cluster-critical") => 2_000_000_000,
        (None, other) => {
            let message = format!("{} has no effect: give the number as spec.priority", quote(other));
            report.warn(&Path::of("spec.priorityClassName"), message);
            0
        }
    }
}

fn volumes(report: &mut Report<'_>, spec: &k8s::PodSpec, around: &container::Around<'_>) -> Vec<Volume> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut volumes = Vec::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = Path::of("spec.volumes").item(index);
        judge(report, &path.key("name"), names::label(&volume.name));
        if let Some(first) = seen.insert(&volume.name, index) {
            let message =
                format!("{} names spec.volumes[{first}] too: use another name", quote(&volume.name));
            report.refuse(&path.key("name"), message);
        }
        volumes.extend(volume::check(report, volume, &around.containers, &path));
    }
    volumes
}

fn container_names(report: &mut Report<'_>, spec: &k8s::PodSpec) {
    if spec.containers.is_empty() {
        report.refuse(&Path::of("spec.containers"), "a pod needs at least one container");
    }
    let init =
        spec.init_containers.iter().flatten().enumerate().map(|(index, c)| ("spec.initContainers", index, c));
    let regular = spec.containers.iter().enumerate().map(|(index, c)| ("spec.containers", index, c));
    let mut seen: HashMap<&str, Path> = HashMap::new();
    for (list, index, container) in init.chain(regular) {
        let path = Path::of(list).item(index);
        judge(report, &path.key("name"), names::label(&container.name));
        if let Some(first) = seen.get(container.name.as_str()) {
            let message = format!("{} names {first} too: use another name", quote(&container.name));
            report.refuse(&path.key("name"), message);
        } else {
            seen.insert(&container.name, path);
        }
    }
}

/// No two regular containers may ask for one port of the host.
fn host_ports(report: &mut Report<'_>, spec: &k8s::PodSpec) {
    let mut seen = HashMap::new();
    for (index, container) in spec.containers.iter().enumerate() {
        for (item, port) in container.ports.iter().flatten().enumerate() {
            let path = Path::of("spec.containers").item(index).key("ports").item(item);
            let Some(number) = port.host_port.filter(|number| (1..=65535).contains(number)) else { continue };
            let key = (port.protocol.clone(), port.host_ip.clone().unwrap_or_default(), number);
            if let Some(first) = seen.insert(key, path.clone()) {
                let field = if report.root().find(&path.key("hostPort")).is_some() {
                    "hostPort"
                } else {
                    "containerPort"
                };
                report.refuse(
                    &path.key(field),
                    format!("port {number} of the host is taken by {first}: use another"),
                );
            }
        }
    }
}

fn judge(report: &mut Report<'_>, path: &Path, verdict: Result<(), String>) {
    if let Err(why) = verdict {
        report.refuse(path, why);
    }
}

/// One of an enumeration's words, which Kubernetes takes in their exact case only.
fn choose<T: Copy>(
    report: &mut Report<'_>,
    given: &Option<String>,
    words: &[(&str, T)],
    path: &Path,
) -> Option<T> {
    let given = given.as_deref().unwrap_or_default();
    report.one_of(path, Some(given), &quote(given), words)
}

/// A quantity that may not be negative.
fn amount(report: &mut Report<'_>, text: &str, path: &Path) -> Option<Quantity> {
    match Quantity::parse(text) {
        Ok(amount) if amount.negative() => {
            report.refuse(path, format!("{text} is negative: use 0 or more"));
            None
        }
        Ok(amount) => Some(amount),
        Err(why) => {
            report.refuse(path, why);
            None
        }
    }
}

#[cfg(test)]
mod tests;
