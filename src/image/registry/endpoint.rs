//! Where an image is asked for: its registry's mirrors, then the registry; the paths there; and through which proxy.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::{Proxies, Registries};
use crate::image::Reference;

/// A server that is asked for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub https: bool,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    /// Whose login it is: the host as image names and config.json have it.
    pub name: String,
    /// A mirror's own path, before `/v2`.
    prefix: String,
    repository: String,
    /// For a mirror: whose image it is.
    namespace: Option<String>,
    /// Its certificate is not checked, and it may speak no TLS at all.
    pub insecure: bool,
    pub ca: Option<PathBuf>,
}

/// All that are to be asked for an image, in turn.
pub fn endpoints(image: &Reference, registries: &Registries) -> Vec<Endpoint> {
    let own = registries.of(&image.registry);
    let mirrors = own.map(|own| own.mirrors.as_slice()).unwrap_or_default();
    let mirrors = mirrors.iter().map(|mirror| endpoint(image, mirror, Some(&image.registry), registries));
    mirrors.chain([endpoint(image, &image.registry, None, registries)]).collect()
}

fn endpoint(image: &Reference, text: &str, mirrors: Option<&str>, registries: &Registries) -> Endpoint {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (name, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let https = scheme != Some("http");
    let (host, port) = split(name, if https { 443 } else { 80 });
    let own = registries.of(name);
    // Docker Hub's name is not that of its server.
    let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
    Endpoint {
        https,
        host: host.to_owned(),
        port,
        name: name.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        repository: image.repository.clone(),
        namespace: mirrors.map(str::to_owned),
        insecure: own.is_some_and(|own| own.insecure) || loopback(host),
        ca: own.and_then(|own| own.ca.clone()),
    }
}

impl Endpoint {
    /// Server and repository, as an image's name has them.
    pub fn image(&self) -> String {
        format!("{}{}/{}", self.name, self.prefix, self.repository)
    }

    /// The path of a manifest; `what`: a tag or a digest.
    pub fn manifest(&self, what: &str) -> String {
        self.path("manifests", what)
    }

    pub fn blob(&self, digest: &str) -> String {
        self.path("blobs", digest)
    }

    /// The right that a token must give.
    pub fn scope(&self) -> String {
        format!("repository:{}:pull", self.repository)
    }

    fn path(&self, kind: &str, what: &str) -> String {
        // As containerd: a mirror of several registries is told which one is meant.
        let namespace = self.namespace.iter().map(|name| format!("?ns={name}")).collect::<String>();
        format!("{}/v2/{}/{kind}/{what}{namespace}", self.prefix, self.repository)
    }
}

/// The proxy for a server, `http://[USER:PASSWORD@]HOST[:PORT]`; None: none. As Go's httpproxy: NO_PROXY is a list of
/// names (with all below them), addresses, networks, each with a port where one is meant, or `*`; never for this machine.
pub fn proxy<'a>(proxies: &'a Proxies, https: bool, host: &str, port: u16) -> Option<&'a str> {
    let proxy = if https { &proxies.https } else { &proxies.http };
    let past = loopback(host) || proxies.none.split(',').any(|rule| ruled(rule.trim(), host, port));
    Some(proxy.as_str()).filter(|proxy| !proxy.is_empty() && !past)
}

fn ruled(rule: &str, host: &str, port: u16) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = rule.split_once('/')
        && let (Ok(network), Ok(bits), Some(address)) =
            (network.parse::<IpAddr>(), bits.parse::<u32>(), address)
    {
        return within(address, network, bits);
    }
    let (name, of) = split(rule, 0);
    if of != 0 && of != port {
        return false;
    }
    if let Ok(one) = name.parse::<IpAddr>() {
        return address == Some(one);
    }
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.").or(name.strip_prefix('.')) {
        // Only what is below it.
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shifted = |number: u128, width: u32| number.checked_shr(width.saturating_sub(bits)).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            shifted(u32::from(one).into(), 32) == shifted(u32::from(other).into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => shifted(one.into(), 128) == shifted(other.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Host, without brackets, and port.
fn split(place: &str, default: u16) -> (&str, u16) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(default));
    }
    match place.rsplit_once(':') {
        // More than one colon without brackets is an address.
        Some((host, port)) if !host.contains(':') => (host, port.parse().unwrap_or(default)),
        Some(_) | None => (place, default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Registry;

    fn registries() -> Registries {
        let entry = |host: &str, mirrors: &[&str], insecure, ca: Option<&str>| Registry {
            host: host.into(),
            mirrors: mirrors.iter().map(|mirror| (*mirror).to_owned()).collect(),
            insecure,
            ca: ca.map(PathBuf::from),
        };
        Registries(vec![
            entry("docker.io", &["m.lan:5000", "http://plain.lan/hub/", "https://docker.io"], false, None),
            entry("m.lan:5000", &[], true, None),
            entry("ca.lan", &[], false, Some("/ca.pem")),
        ])
    }

    #[test]
    fn mirrors_come_first_and_each_is_what_its_own_entry_says() {
        let shown = |name: &str| -> Vec<String> {
            let image = Reference::parse(name).unwrap();
            let found = endpoints(&image, &registries());
            let shown = found.iter().map(|at| {
                let scheme = if at.https { "https" } else { "http" };
                let how = if at.insecure { " insecure" } else { "" };
                let ca = at.ca.as_ref().map(|ca| format!(" {}", ca.display())).unwrap_or_default();
                format!("{scheme}://{} {} {}{how}{ca}", at.host, at.port, at.manifest("t"))
            });
            shown.collect()
        };
        let table: &[(&str, &[&str])] = &[
            (
                "nginx",
                &[
                    "https://m.lan 5000 /v2/library/nginx/manifests/t?ns=docker.io insecure",
                    "http://plain.lan 80 /hub/v2/library/nginx/manifests/t?ns=docker.io",
                    "https://registry-1.docker.io 443 /v2/library/nginx/manifests/t?ns=docker.io",
                    "https://registry-1.docker.io 443 /v2/library/nginx/manifests/t",
                ],
            ),
            ("ca.lan/a/b", &["https://ca.lan 443 /v2/a/b/manifests/t /ca.pem"]),
            ("ca.lan:444/a/b", &["https://ca.lan 444 /v2/a/b/manifests/t"]),
            ("localhost:5000/a", &["https://localhost 5000 /v2/a/manifests/t insecure"]),
            ("[::1]:5000/a", &["https://::1 5000 /v2/a/manifests/t insecure"]),
            ("127.0.0.1/a", &["https://127.0.0.1 443 /v2/a/manifests/t insecure"]),
        ];
        for (name, expected) in table {
            assert_eq!(shown(name), *expected, "{name}");
        }
        let image = Reference::parse("ca.lan/a/b").unwrap();
        let at = endpoints(&image, &registries()).remove(0);
        assert_eq!(
            (at.blob("sha256:x"), at.scope()),
            ("/v2/a/b/blobs/sha256:x".into(), "repository:a/b:pull".into())
        );
    }

    #[test]
    fn proxies_are_passed_by_as_no_proxy_says() {
        let proxies =
            |none: &str| Proxies { https: "http://p:3128".into(), http: String::new(), none: none.into() };
        // NO_PROXY, host, port, whether the proxy is used.
        let table = [
            ("", "quay.io", 443, true),
            ("", "localhost", 443, false),
            ("", "127.0.0.2", 443, false),
            ("", "::1", 443, false),
            ("*", "quay.io", 443, false),
            ("a.io, quay.io", "quay.io", 443, false),
            ("quay.io", "cdn.Quay.io", 443, false),
            ("quay.io", "xquay.io", 443, true),
            (".quay.io", "cdn.quay.io", 443, false),
            (".quay.io", "quay.io", 443, true),
            ("*.quay.io", "cdn.quay.io", 443, false),
            ("quay.io:443", "quay.io", 443, false),
            ("quay.io:444", "quay.io", 443, true),
            ("10.0.0.0/8", "10.9.8.7", 443, false),
            ("10.0.0.0/8", "11.9.8.7", 443, true),
            ("10.0.0.0/8", "quay.io", 443, true),
            ("0.0.0.0/0", "11.9.8.7", 443, false),
            ("fd00::/8", "fd12::1", 443, false),
            ("10.0.0.1", "10.0.0.1", 5000, false),
            ("10.0.0.1:5001", "10.0.0.1", 5000, true),
            ("[fd00::1]:5000", "fd00::1", 5000, false),
        ];
        for (none, host, port, used) in table {
            let proxies = proxies(none);
            assert_eq!(proxy(&proxies, true, host, port).is_some(), used, "{none:?} {host}:{port}");
            assert_eq!(proxy(&proxies, false, host, port), None);
        }
    }
}
