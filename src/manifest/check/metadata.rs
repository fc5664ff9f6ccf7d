//! The checks of names, labels and annotations, and the name that a pod's containers see.

use k8s_openapi::api::core::v1 as k8s;

use super::{judge, names};
use crate::manifest::report::Report;
use crate::manifest::tree::Path;

/// The most that all annotations of a pod may take together, keys and values.
const ANNOTATIONS: usize = 256 << 10;

/// The namespace, and the name with the node's suffix.
pub fn check(report: &mut Report<'_>, object: &k8s::Pod, node: &str) -> (String, String) {
    let metadata = &object.metadata;
    let path = Path::of("metadata");
    let given = metadata.name.as_deref().unwrap_or_default();
    let name = full_name(given, node);
    if given.is_empty() {
        report.refuse(&path.key("name"), "a pod needs a name");
    } else {
        judge(report, &path.key("name"), names::subdomain(given).and_then(|()| names::subdomain(&name)));
    }
    let namespace = metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    judge(report, &path.key("namespace"), names::label(namespace));
    if let Some(uid) = metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
        judge(report, &path.key("uid"), names::uid(uid));
    }
    for (key, value) in metadata.labels.iter().flatten() {
        let path = path.key("labels").entry(key);
        judge(report, &path, names::key(key).and_then(|()| names::value(value)));
    }
    let mut bytes = 0usize;
    for (key, value) in metadata.annotations.iter().flatten() {
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        judge(report, &path.key("annotations").entry(key), names::key(&key.to_lowercase()));
    }
    if bytes > ANNOTATIONS {
        report.refuse(
            &path.key("annotations"),
            format!("hold {bytes} bytes: at most {ANNOTATIONS} are allowed"),
        );
    }
    (namespace.into(), name)
}

/// Namespace and name of an object that is no pod; `what` it is.
pub fn named(report: &mut Report<'_>, what: &str) -> (String, String) {
    let path = Path::of("metadata");
    let metadata = report.root().get("metadata");
    let mut text = |field: &str| match metadata.and_then(|metadata| metadata.get(field)) {
        None => String::new(),
        Some(node) => node.text().map(str::to_owned).unwrap_or_else(|| {
            report.refuse(&path.key(field), format!("{} is not text: quote it", node.brief()));
            String::new()
        }),
    };
    let (name, namespace) = (text("name"), text("namespace"));
    if name.is_empty() {
        report.refuse(&path.key("name"), format!("{what} needs a name"));
    } else {
        judge(report, &path.key("name"), names::subdomain(&name));
    }
    let namespace = if namespace.is_empty() { "default".into() } else { namespace };
    judge(report, &path.key("namespace"), names::label(&namespace));
    (namespace, name)
}

/// A static pod's name: with the node's, in lower case.
pub fn full_name(name: &str, node: &str) -> String {
    format!("{name}-{}", node.to_lowercase())
}

/// The name that the containers see: at most 63 letters, as the kernel and DNS want it.
pub fn hostname(report: &mut Report<'_>, spec: &k8s::PodSpec, name: &str, node: &str) -> String {
    let path = Path::of("spec.hostname");
    let given = spec.hostname.as_deref().filter(|given| !given.is_empty());
    if let Some(given) = given {
        judge(report, &path, names::label(given));
    }
    if spec.host_network.unwrap_or_default() {
        if given.is_some() {
            report.warn(&path, "has no effect on the host's network: the containers see the node's name");
        }
        return node.into();
    }
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return name.into();
    }
    let name: String = given.unwrap_or(name).chars().take(63).collect();
    name.trim_end_matches(['-', '.']).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    /// Host name.
    #[test]
    fn d5_a_hostname_is_cut_as_the_kubelet_cuts_it() {
        let node = yaml::read("a: 1", 1).unwrap().unwrap();
        let mut report = Report::new("f", &node, 0);
        let eight = "1234567.";
        let table = [
            ("test.pod.hostname".to_owned(), "test.pod.hostname".to_owned()),
            (eight.repeat(9), format!("{}1234567", eight.repeat(7))),
            (format!("{}123456.1234567.", eight.repeat(7)), format!("{}123456", eight.repeat(7))),
            (format!("{}123456-1234567.", eight.repeat(7)), format!("{}123456", eight.repeat(7))),
            ("a".repeat(63), "a".repeat(63)),
            ("a".repeat(64), "a".repeat(63)),
            (format!("{}-.-.bcd", "a".repeat(59)), "a".repeat(59)),
        ];
        for (name, expected) in table {
            assert_eq!(hostname(&mut report, &k8s::PodSpec::default(), &name, "n"), expected, "{name}");
        }
        let spec = k8s::PodSpec { hostname: Some("custom".into()), ..Default::default() };
        assert_eq!(hostname(&mut report, &spec, "pod", "n"), "custom");
        let given = Some("valid.hostname".to_owned());
        let spec = k8s::PodSpec { hostname_override: given, ..spec };
        assert_eq!(hostname(&mut report, &spec, "pod", "n"), "valid.hostname");
        let spec = k8s::PodSpec { host_network: Some(true), ..Default::default() };
        assert_eq!(hostname(&mut report, &spec, "pod", "Node"), "Node");
    }
}
