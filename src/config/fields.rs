//! A field of a configuration document to `Config`: what each takes, and why a value is none.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Config, Fixed, Network, flags, node, url, value};

/// Sets a field of KubeletConfiguration; None: there is no such field, or podinit has no use for it.
pub(super) fn kubelet(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
    Some(match path {
        "staticPodPath" => absolute(text).map(|path| config.manifests = path.into()),
        "podLogsDir" => absolute(text).map(|path| config.pod_logs = path.into()),
        "staticPodURL" if text.is_empty() => {
            config.static_pod_url = None;
            Ok(())
        }
        "staticPodURL" => url::url(text).map(|url| config.static_pod_url = Some(url)),
        "httpCheckFrequency" => positive(text).map(|span| config.http_check = span),
        "fileCheckFrequency" => positive(text).map(|span| config.file_check = span),
        "containerLogMaxSize" => value::bytes(text)
            .and_then(|size| if size == 0 { Err("must not be 0".into()) } else { Ok(size) })
            .map(|size| config.log_max_size = size),
        "containerLogMaxFiles" => number(text, 2, 1000).map(|files| config.log_max_files = files as u32),
        "podPidsLimit" => number(text, -1, 1 << 22)
            .map(|limit| config.pod_pids_limit = u64::try_from(limit).ok().filter(|n| *n > 0)),
        "crashLoopBackOff.maxContainerRestartPeriod" => value::duration(text)
            .and_then(|span| {
                if (1..=300).contains(&span.as_secs()) { Ok(span) } else { Err("use 1s to 300s".into()) }
            })
            .map(|span| config.restart_cap = span),
        // 0 means "off" to the kubelet; podinit always ends in order, within its default.
        "shutdownGracePeriod" => value::duration(text).map(|span| {
            if !span.is_zero() {
                config.ending_grace = span;
            }
        }),
        "shutdownGracePeriodCriticalPods" => value::duration(text)
            .map(|span| config.ending_grace_critical = Some(span).filter(|span| !span.is_zero())),
        "clusterDomain" => {
            config.cluster_domain = text.trim_matches('.').to_owned();
            Ok(())
        }
        "resolvConf" if text.is_empty() => {
            config.resolv_conf = None;
            Ok(())
        }
        "resolvConf" => absolute(text).map(|path| config.resolv_conf = Some(path.into())),
        "serializeImagePulls" => value::switch(text).map(|on| config.serialize_pulls = Some(on)),
        "maxParallelImagePulls" => {
            number(text, 1, 1000).map(|most| config.max_parallel_pulls = Some(most as u32))
        }
        _ if path.starts_with("clusterDNS[") => text
            .parse::<IpAddr>()
            .map(|server| config.cluster_dns.push(server.to_string()))
            .map_err(|_| format!("{text:?} is no IP address")),
        _ if path.starts_with("staticPodURLHeader.") && path.ends_with(']') => {
            let list = path.trim_start_matches("staticPodURLHeader.");
            let name = list.rsplit_once('[').map_or(list, |(name, _)| name);
            config.static_pod_url_headers.add(name, text)
        }
        _ => return node::kubelet(config, path, text),
    })
}

/// Sets a field of MachineConfiguration; None: there is no such field.
pub(super) fn machine(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
    Some(match path {
        "hostname" => value::name(text).map(|name| config.hostname = Some(name)),
        "data" => flags::data(text).map(|data| config.data = data),
        "network" => text.parse().map(|network| config.network = network),
        "prompt" => text.parse().map(|prompt| config.prompt = prompt),
        "network.address" => {
            value::prefixed(text).map(|found| fixed(config, |fixed| (fixed.address, fixed.prefix) = found))
        }
        "network.gateway" => {
            value::ipv4(text).map(|gateway| fixed(config, |fixed| fixed.gateway = Some(gateway)))
        }
        _ if path.starts_with("network.dns[") => {
            value::ipv4(text).map(|dns| fixed(config, |fixed| fixed.dns.push(dns)))
        }
        _ if path.starts_with("registries[") => return config.registries.set(path, text),
        _ if path.starts_with("additionalImageStores[") => folder(&mut config.image_stores, path, text),
        _ if path.starts_with("imageArchives[") => folder(&mut config.image_archives, path, text),
        _ if path.starts_with("modules[") => {
            config.modules.push(text.into());
            Ok(())
        }
        _ => return None,
    })
}

/// Sets a part of the fixed network; an address that no line gives stays 0.0.0.0, which is refused when it is used.
fn fixed(config: &mut Config, set: impl FnOnce(&mut Fixed)) {
    match &mut config.network {
        Network::Fixed(fixed) => set(fixed),
        Network::Dhcp | Network::None => {
            let mut fixed = Fixed { address: [0, 0, 0, 0].into(), prefix: 0, gateway: None, dns: Vec::new() };
            set(&mut fixed);
            config.network = Network::Fixed(fixed);
        }
    }
}

/// One more of a list of directories; the first stands in for the defaults.
fn folder(folders: &mut Vec<PathBuf>, path: &str, text: &str) -> Result<(), String> {
    let folder = absolute(text)?;
    if path.ends_with("[0]") {
        folders.clear();
    }
    folders.push(folder.into());
    Ok(())
}

fn absolute(text: &str) -> Result<&str, String> {
    if text.starts_with('/') { Ok(text) } else { Err(format!("{text:?} is no absolute path")) }
}

pub(super) fn positive(text: &str) -> Result<std::time::Duration, String> {
    let span = value::duration(text)?;
    if span.is_zero() { Err("must be longer than 0".into()) } else { Ok(span) }
}

pub(super) fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no number from {least} to {most}");
    text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
}
