//! The checks of a container's ports, and of the port that a probe or hook names.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{choose, judge, names};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::spelling::nearest;

pub fn check(report: &mut Report<'_>, container: &k8s::Container, host_network: bool, path: &Path) {
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

/// A number, or the name of one of the container's ports; 0 where it was refused. Better than the kubelet, which
/// finds out about a wrong name when it probes.
pub fn number(report: &mut Report<'_>, port: &IntOrString, container: &k8s::Container, path: &Path) -> u16 {
    let ports = container.ports.as_deref().unwrap_or_default();
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            match ports.iter().find(|port| port.name.as_deref() == Some(name) && !name.is_empty()) {
                Some(port) => port.container_port,
                None => {
                    let known: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
                    let cure = match nearest(name, &known) {
                        _ if name.parse::<u16>().is_ok_and(|number| number > 0) => "remove the quotes".into(),
                        Some(near) => format!("did you mean {near}?"),
                        None => "use a number, or name it in the container's ports".into(),
                    };
                    report.refuse(path, format!("no port of the container is named {}: {cure}", quote(name)));
                    return 0;
                }
            }
        }
    };
    match u16::try_from(number) {
        Ok(number @ 1..) => number,
        Ok(0) | Err(_) => {
            report.refuse(path, format!("{number} is not a port: use 1 to 65535"));
            0
        }
    }
}
