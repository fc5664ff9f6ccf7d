//! The checks of what the pod's containers call themselves and whom they ask for names.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as k8s;

use super::{choose, judge, names};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{DnsPolicy, Names};

const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const LETTERS: usize = 2048;

pub fn check(report: &mut Report<'_>, spec: &k8s::PodSpec) -> Names {
    let path = Path::of("spec");
    let policies = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
        ("None", DnsPolicy::None),
    ];
    let dns = choose(report, &spec.dns_policy, &policies, &path.key("dnsPolicy")).unwrap_or_default();
    let none = k8s::PodDNSConfig::default();
    let config = spec.dns_config.as_ref().unwrap_or(&none);
    let mut found = Names {
        dns,
        aliases: aliases(report, spec),
        subdomain: spec.subdomain.clone().unwrap_or_default(),
        fqdn: spec.set_hostname_as_fqdn.unwrap_or_default(),
        hostname_override: spec.hostname_override.clone().filter(|name| !name.is_empty()),
        ..Names::default()
    };
    resolver(report, config, &mut found, &path.key("dnsConfig"));
    if dns == DnsPolicy::None && found.servers.is_empty() {
        report.refuse(
            &path.key("dnsPolicy"),
            "\"None\" needs a name server: give spec.dnsConfig.nameservers, or use another policy",
        );
    }
    if !found.subdomain.is_empty() {
        judge(report, &path.key("subdomain"), names::label(&found.subdomain));
    }
    let field = path.key("hostnameOverride");
    if let Some(name) = &found.hostname_override {
        if name.len() > 64 {
            report.refuse(&field, format!("{} is too long: use at most 64 letters", quote(name)));
        } else {
            judge(report, &field, names::subdomain(name));
        }
        if found.fqdn {
            report.refuse(&field, "excludes setHostnameAsFQDN: keep one");
        }
        if spec.host_network.unwrap_or_default() {
            report.refuse(&field, "excludes hostNetwork, where the node's name is seen: keep one");
        }
    }
    found
}

fn resolver(report: &mut Report<'_>, config: &k8s::PodDNSConfig, found: &mut Names, path: &Path) {
    found.servers = config.nameservers.clone().unwrap_or_default();
    let field = path.key("nameservers");
    if found.servers.len() > SERVERS {
        let message = format!("are {}: at most {SERVERS} are asked", found.servers.len());
        report.refuse(&field, message);
    }
    for (index, server) in found.servers.iter().enumerate() {
        judge(report, &field.item(index), address(server));
    }
    found.searches = config.searches.clone().unwrap_or_default();
    let field = path.key("searches");
    let letters = found.searches.join(" ").len();
    if found.searches.len() > SEARCHES || letters > LETTERS {
        let message = format!(
            "are {} with {letters} letters: at most {SEARCHES} with {LETTERS} are allowed",
            found.searches.len()
        );
        report.refuse(&field, message);
    }
    for (index, search) in found.searches.iter().enumerate() {
        // A dot alone stands for the root, and a last one for a full name; underscores are those of service names.
        let bare = search.strip_suffix('.').unwrap_or(search).split('.');
        let bare: Vec<String> =
            bare.map(|part| part.strip_prefix('_').unwrap_or(part).replace('_', "-")).collect();
        if search != "." && names::subdomain(&bare.join(".")).is_err() {
            let message = format!("{} is not a domain: write one such as lan.example", quote(search));
            report.refuse(&field.item(index), message);
        }
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        let name = option.name.clone().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            let message = format!("{} is not an option's name: use one of resolv.conf(5)", quote(&name));
            report.refuse(&path.key("options").item(index).key("name"), message);
        }
        found.options.push((name, option.value.clone()));
    }
}

fn aliases(report: &mut Report<'_>, spec: &k8s::PodSpec) -> Vec<(String, Vec<String>)> {
    let mut aliases = Vec::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = Path::of("spec.hostAliases").item(index);
        judge(report, &path.key("ip"), address(&alias.ip));
        let names = alias.hostnames.clone().unwrap_or_default();
        for (index, name) in names.iter().enumerate() {
            judge(report, &path.key("hostnames").item(index), names::subdomain(name));
        }
        aliases.push((alias.ip.clone(), names));
    }
    aliases
}

fn address(text: &str) -> Result<(), String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{} is not an IP address: write one such as 192.0.2.1", quote(text))),
    }
}
