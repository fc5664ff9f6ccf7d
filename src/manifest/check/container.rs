//! The checks of one container: image, commands, ports, mounts, resources.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::{choose, env, judge, names};
use crate::manifest::quantity::Quantity;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{Container, Mount, PullPolicy, Resources};

/// What a container's checks need to know of its pod.
pub struct Around<'p> {
    pub containers: HashSet<&'p str>,
    pub volumes: HashSet<&'p str>,
    pub host_network: bool,
}

/// One container, defaulted before.
pub fn check(
    report: &mut Report<'_>,
    container: &k8s::Container,
    around: &Around<'_>,
    path: &Path,
) -> Container {
    image(report, container.image.as_deref().unwrap_or_default(), &path.key("image"));
    let pull = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let pull = choose(report, &container.image_pull_policy, &pull, &path.key("imagePullPolicy"));
    let messages = [("File", false), ("FallbackToLogsOnError", true)];
    let fallback = choose(
        report,
        &container.termination_message_policy,
        &messages,
        &path.key("terminationMessagePolicy"),
    );
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    if let Some(dir) = &working_dir
        && !dir.starts_with('/')
    {
        report.refuse(
            &path.key("workingDir"),
            format!("{} is not an absolute path: begin it with /", quote(dir)),
        );
    }
    ports(report, container, around.host_network, path);
    Container {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        pull: pull.unwrap_or(PullPolicy::IfNotPresent),
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        working_dir,
        env: env::all(report, container, &around.containers, path),
        mounts: mounts(report, container, &around.volumes, path),
        resources: resources(report, container.resources.as_ref(), path),
        tty: container.tty.unwrap_or_default(),
        termination_path: container.termination_message_path.clone().unwrap_or_default(),
        fallback_to_logs: fallback.unwrap_or_default(),
        ..Container::default()
    }
}

fn image(report: &mut Report<'_>, image: &str, path: &Path) {
    if image.is_empty() {
        report.refuse(path, "a container needs an image");
    } else if image.contains(char::is_whitespace) {
        report.refuse(path, format!("{} holds a blank: remove it", quote(image)));
    }
}

fn ports(report: &mut Report<'_>, container: &k8s::Container, host_network: bool, path: &Path) {
    let mut seen = HashSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.key("ports").item(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            judge(report, &path.key("name"), names::port(name));
            if !seen.insert(name) {
                report.refuse(
                    &path.key("name"),
                    format!("{} names an earlier port too: use another name", quote(name)),
                );
            }
        }
        if !(1..=65535).contains(&port.container_port) {
            let message = format!("{} is not a port: use 1 to 65535", port.container_port);
            report.refuse(&path.key("containerPort"), message);
        }
        choose(report, &port.protocol, &[("TCP", ()), ("UDP", ()), ("SCTP", ())], &path.key("protocol"));
        host_port(report, port, host_network, &path);
    }
}

fn host_port(report: &mut Report<'_>, port: &k8s::ContainerPort, host_network: bool, path: &Path) {
    let field = path.key("hostPort");
    let number = port.host_port.unwrap_or_default();
    if !(0..=65535).contains(&number) {
        // One that was filled in from the containerPort has its refusal there.
        if number != port.container_port {
            report.refuse(&field, format!("{number} is not a port: use 1 to 65535"));
        }
    } else if host_network && number != port.container_port {
        let message = format!(
            "{number} differs from containerPort {} on the host's network: write the same",
            port.container_port
        );
        report.refuse(&field, message);
    } else if !host_network && number != 0 {
        report.refuse(
            &field,
            format!("{number} is not supported yet without hostNetwork: use hostNetwork: true, or remove it"),
        );
    }
    if host_network && port.host_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
        report.warn(
            &path.key("hostIP"),
            "has no effect on the host's network: the container chooses its address itself",
        );
    }
}

fn mounts(
    report: &mut Report<'_>,
    container: &k8s::Container,
    volumes: &HashSet<&str>,
    path: &Path,
) -> Vec<Mount> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.key("volumeMounts").item(index);
        if !volumes.contains(mount.name.as_str()) {
            let known: Vec<&str> = volumes.iter().copied().collect();
            let cure = match super::super::shape::nearest(&mount.name, &known) {
                Some(near) => format!("did you mean {near}?"),
                None => "add it to spec.volumes".into(),
            };
            report.refuse(&path.key("name"), format!("no volume is named {}: {cure}", quote(&mount.name)));
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
        if let Some(sub) = &sub_path {
            judge(report, &path.key("subPath"), relative(sub));
        }
        let read_only = mount.read_only.unwrap_or_default();
        let volume = mount.name.clone();
        mounts.push(Mount { volume, path: place, read_only, sub_path, ..Mount::default() });
    }
    mounts
}

/// From the container's root, without doubled or trailing slashes, so that one place has one spelling.
fn absolute(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

fn relative(sub: &str) -> Result<(), String> {
    if sub.starts_with('/') {
        return Err(format!("{} is an absolute path: a subPath begins within the volume", quote(sub)));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("{} holds \"..\": a subPath stays within the volume", quote(sub)));
    }
    Ok(())
}

fn resources(report: &mut Report<'_>, given: Option<&k8s::ResourceRequirements>, path: &Path) -> Resources {
    let path = path.key("resources");
    let none = BTreeMap::new();
    let limits = given.and_then(|given| given.limits.as_ref()).unwrap_or(&none);
    let requests = given.and_then(|given| given.requests.as_ref()).unwrap_or(&none);
    let mut pair = |name: &str| {
        let limit = amount(report, limits, name, &path.key("limits"));
        let request = amount(report, requests, name, &path.key("requests"));
        if let (Some(limit), Some(request)) = (limit, request)
            && request > limit
        {
            let texts = (requests.get(name), limits.get(name));
            let (Some(more), Some(less)) = texts else { return (request.into(), limit.into()) };
            let message =
                format!("{} is more than the limit, {}: raise the limit or lower this", more.0, less.0);
            report.refuse(&path.key("requests").entry(name), message);
        }
        (request, limit)
    };
    let (cpu_request, cpu_limit) = pair("cpu");
    let (memory_request, memory_limit) = pair("memory");
    Resources {
        cpu_request: cpu_request.map(Quantity::milli),
        cpu_limit: cpu_limit.map(Quantity::milli),
        memory_request: memory_request.map(Quantity::whole),
        memory_limit: memory_limit.map(Quantity::whole),
        ..Resources::default()
    }
}

fn amount(
    report: &mut Report<'_>,
    amounts: &BTreeMap<String, resource::Quantity>,
    name: &str,
    path: &Path,
) -> Option<Quantity> {
    let text = &amounts.get(name)?.0;
    let path = path.entry(name);
    let amount = super::amount(report, text, &path)?;
    if name == "memory" && amount.fraction() && amount.whole() < 1 << 20 {
        report.warn(
            &path,
            format!("{text} is a fraction of a byte: M is a million bytes, Mi 1048576, m a thousandth"),
        );
    }
    Some(amount)
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
        assert!(relative("a/b..c").is_ok());
        for sub in ["/must/not/be/absolute", "no/backsteps/../allowed", ".."] {
            assert!(relative(sub).is_err(), "{sub}");
        }
    }
}
