//! Where images are pulled from: registries with mirrors, authorities of their own, or none; proxies on the way.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The registries that are not as any other: `registries` of MachineConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registries(pub Vec<Registry>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// As image names have it: `docker.io`, `registry.lan:5000`.
    pub host: String,
    /// Asked before it, in this order: `HOST[:PORT]`, or with `https://` or `http://` before it and a path behind it.
    pub mirrors: Vec<String>,
    /// Its certificate is not checked, and where it speaks no TLS it is asked in plain text.
    pub insecure: bool,
    /// A PEM file of the authorities that vouch for it, beside the system's.
    pub ca: Option<PathBuf>,
}

/// The environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in either case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    pub https: String,
    pub http: String,
    pub none: String,
}

impl Registries {
    pub fn of(&self, host: &str) -> Option<&Registry> {
        self.0.iter().find(|registry| registry.host.eq_ignore_ascii_case(host))
    }

    /// Sets a field of an entry, `registries[0].host`; None: there is no such field.
    pub(super) fn set(&mut self, path: &str, text: &str) -> Option<Result<(), String>> {
        let (index, field) = path.strip_prefix("registries[")?.split_once("].")?;
        let index: usize = index.parse().ok()?;
        let place = |registries: &mut Vec<Registry>| {
            registries.resize(registries.len().max(index + 1), Registry::default());
        };
        let list = field.strip_prefix("mirrors[").is_some_and(|rest| rest.ends_with(']'));
        let value = match field {
            "host" => host(text).map(|host| Set::Host(host.to_owned())),
            _ if list => mirror(text).map(|mirror| Set::Mirror(mirror.to_owned())),
            "insecure" => super::value::switch(text).map(Set::Insecure),
            "ca" if text.starts_with('/') => Ok(Set::Ca(text.into())),
            "ca" => Err(format!("{text:?} is no absolute path")),
            _ => return None,
        };
        Some(value.map(|value| {
            place(&mut self.0);
            if let Some(registry) = self.0.get_mut(index) {
                match value {
                    Set::Host(host) => registry.host = host,
                    Set::Mirror(mirror) => registry.mirrors.push(mirror),
                    Set::Insecure(insecure) => registry.insecure = insecure,
                    Set::Ca(path) => registry.ca = Some(path),
                }
            }
        }))
    }
}

enum Set {
    Host(String),
    Mirror(String),
    Insecure(bool),
    Ca(PathBuf),
}

impl Proxies {
    pub fn environment() -> Self {
        let read = |name: &str| {
            let names = [name.to_owned(), name.to_lowercase()];
            let set = names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
            set.unwrap_or_default()
        };
        Proxies { https: read("HTTPS_PROXY"), http: read("HTTP_PROXY"), none: read("NO_PROXY") }
    }
}

fn host(text: &str) -> Result<&str, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-:[]".contains(letter);
    if !text.is_empty() && text.chars().all(plain) && !text.ends_with(':') {
        return Ok(text);
    }
    Err(format!("{text:?} is no registry: write HOST or HOST:PORT, as in an image's name"))
}

fn mirror(text: &str) -> Result<&str, String> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if host(place).is_ok() && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
    {
        return Ok(text);
    }
    Err(format!("{text:?} is no mirror: write HOST[:PORT] or https://HOST[:PORT]/PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_set_by_place_and_bad_values_refused() {
        let mut registries = Registries::default();
        let good = [
            ("registries[0].host", "docker.io"),
            ("registries[0].mirrors[0]", "https://mirror.lan:5000/hub"),
            ("registries[0].mirrors[1]", "second.lan"),
            ("registries[1].insecure", "true"),
            ("registries[1].host", "registry.lan:5000"),
            ("registries[1].ca", "/etc/ca.pem"),
        ];
        for (path, text) in good {
            assert_eq!(registries.set(path, text), Some(Ok(())), "{path}");
        }
        let hub = registries.of("Docker.io").unwrap();
        assert_eq!(hub.mirrors, ["https://mirror.lan:5000/hub", "second.lan"]);
        let lan = registries.of("registry.lan:5000").unwrap();
        assert!(lan.insecure && lan.ca.as_deref() == Some(std::path::Path::new("/etc/ca.pem")));
        assert_eq!(registries.of("registry.lan"), None);
        let before = registries.clone();
        let bad = [
            ("registries[2].host", "https://h"),
            ("registries[2].host", ""),
            ("registries[2].mirrors[0]", "ftp://h"),
            ("registries[2].mirrors[0]", "h/a b"),
            ("registries[2].insecure", "yes please"),
            ("registries[2].ca", "ca.pem"),
        ];
        for (path, text) in bad {
            assert!(registries.set(path, text).is_some_and(|done| done.is_err()), "{path} {text}");
        }
        for path in
            ["registries", "registries.host", "registries[0]", "registries[0].hosts", "registries[x].host"]
        {
            assert_eq!(registries.set(path, "x"), None, "{path}");
        }
        assert_eq!(registries, before);
    }
}
