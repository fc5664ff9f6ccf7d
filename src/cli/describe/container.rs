//! The containers' part of `describe pod`.

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Page, date};
use crate::cli::progress;
use crate::pod::pulls::OnTheWay;

/// `Containers:` or `Init Containers:`, and all of each.
pub fn section(
    page: &mut Page,
    title: &str,
    containers: &[k8s::Container],
    statuses: &Option<Vec<k8s::ContainerStatus>>,
    pod: &k8s::Pod,
    pulls: &[OnTheWay],
) {
    page.line(0, format_args!("{title}:{}", if containers.is_empty() { " <none>" } else { "" }));
    for container in containers {
        let status = statuses.iter().flatten().find(|status| status.name == container.name);
        let waits = |pull: &&OnTheWay| progress::waits(pull, pod, Some(&container.name));
        one(page, container, status, &pod.metadata, &pulls.iter().filter(waits).collect::<Vec<_>>());
    }
}

fn one(
    page: &mut Page,
    container: &k8s::Container,
    status: Option<&k8s::ContainerStatus>,
    meta: &ObjectMeta,
    pulls: &[&OnTheWay],
) {
    page.line(1, format_args!("{}:", container.name));
    if let Some(status) = status {
        page.pair(2, "Container ID", status.container_id.as_deref().unwrap_or_default());
    }
    page.pair(2, "Image", container.image.as_deref().unwrap_or_default());
    if let Some(status) = status {
        page.pair(2, "Image ID", &status.image_id);
    }
    let ports = |number: fn(&k8s::ContainerPort) -> i32| {
        let ports = container.ports.iter().flatten();
        let ports: Vec<String> = ports
            .map(|port| format!("{}/{}", number(port), port.protocol.as_deref().unwrap_or("TCP")))
            .collect();
        if ports.is_empty() { "<none>".to_owned() } else { ports.join(", ") }
    };
    let plural = if container.ports.as_ref().is_some_and(|ports| ports.len() > 1) { "s" } else { "" };
    page.pair(2, format_args!("Port{plural}"), ports(|port| port.container_port));
    page.pair(2, format_args!("Host Port{plural}"), ports(|port| port.host_port.unwrap_or(0)));
    for (title, words) in [("Command", &container.command), ("Args", &container.args)] {
        if let Some(words) = words.as_ref().filter(|words| !words.is_empty()) {
            page.line(2, format_args!("{title}:"));
            words
                .iter()
                .flat_map(|word| word.split('\n'))
                .for_each(|line| page.line(3, line.replace('\t', " ")));
        }
    }
    if let Some(status) = status {
        state(page, "State", status.state.as_ref());
        for pull in pulls {
            page.pair(2, "Pulling", &pull.image);
            page.pair(2, "  Progress", progress::told(pull));
        }
        if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
            state(page, "Last State", status.last_state.as_ref());
        }
        page.pair(2, "Ready", if status.ready { "True" } else { "False" });
        page.pair(2, "Restart Count", status.restart_count);
    }
    let resources = container.resources.as_ref();
    for (title, given) in [
        ("Limits", resources.and_then(|given| given.limits.as_ref())),
        ("Requests", resources.and_then(|given| given.requests.as_ref())),
    ] {
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            page.line(2, format_args!("{title}:"));
            given.iter().for_each(|(name, quantity)| page.pair(3, name, &quantity.0));
        }
    }
    environment(page, container.env.as_deref().unwrap_or_default(), meta);
    mounts(page, container.volume_mounts.as_deref().unwrap_or_default());
}

fn state(page: &mut Page, title: &str, state: Option<&k8s::ContainerState>) {
    let mut part = |title: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let clean = value.trim_end().replace(['\t', '\n'], " ");
            page.pair(2, title, clean);
        }
    };
    let Some(state) = state else { return part(title, Some("Waiting".to_owned())) };
    if let Some(running) = &state.running {
        part(title, Some("Running".to_owned()));
        part("  Started", running.started_at.as_ref().map(date));
    } else if let Some(ended) = &state.terminated {
        part(title, Some("Terminated".to_owned()));
        part("  Reason", ended.reason.clone());
        part("  Message", ended.message.clone());
        part("  Exit Code", Some(ended.exit_code.to_string()));
        part("  Signal", ended.signal.filter(|signal| *signal > 0).map(|signal| signal.to_string()));
        part("  Started", ended.started_at.as_ref().map(date));
        part("  Finished", ended.finished_at.as_ref().map(date));
    } else {
        part(title, Some("Waiting".to_owned()));
        let waiting = state.waiting.as_ref();
        part("  Reason", waiting.and_then(|why| why.reason.clone()));
        // kubectl leaves it out, though it says what to do.
        part("  Message", waiting.and_then(|why| why.message.clone()));
    }
}

fn environment(page: &mut Page, variables: &[k8s::EnvVar], meta: &ObjectMeta) {
    if variables.is_empty() {
        return page.pair(2, "Environment", "<none>");
    }
    page.line(2, "Environment:");
    for variable in variables {
        let source = variable.value_from.as_ref();
        if let Some(field) = source.and_then(|source| source.field_ref.as_ref()) {
            let version = field.api_version.as_deref().unwrap_or("v1");
            // Like kubectl, only what the metadata tell.
            let value = match field.field_path.as_str() {
                "metadata.name" => meta.name.as_deref(),
                "metadata.namespace" => meta.namespace.as_deref(),
                "metadata.uid" => meta.uid.as_deref(),
                _ => None,
            };
            let value = value.unwrap_or_default();
            page.pair(3, &variable.name, format_args!("{value} ({version}:{})", field.field_path));
        } else if let Some(field) = source.and_then(|source| source.resource_field_ref.as_ref()) {
            page.pair(3, &variable.name, format_args!("({})", field.resource));
        } else {
            let value = variable.value.clone().unwrap_or_default().replace('\t', " ");
            let mut lines = value.split('\n');
            page.pair(3, &variable.name, lines.next().unwrap_or_default());
            lines.for_each(|line| page.line(3, format_args!("\t{line}")));
        }
    }
}

fn mounts(page: &mut Page, mounts: &[k8s::VolumeMount]) {
    if mounts.is_empty() {
        return page.pair(2, "Mounts", "<none>");
    }
    page.line(2, "Mounts:");
    let mut mounts: Vec<&k8s::VolumeMount> = mounts.iter().collect();
    mounts.sort_by_key(|mount| &mount.mount_path);
    for mount in mounts {
        let mode = if mount.read_only == Some(true) { "ro" } else { "rw" };
        let part = mount.sub_path.as_ref().filter(|path| !path.is_empty());
        let part = part.map_or(String::new(), |path| format!(",path=\"{path}\""));
        page.line(3, format_args!("{} from {} ({mode}{part})", mount.mount_path, mount.name));
    }
}
