//! The machine's name, and the files of /etc that tell it and the resolver.

use std::fs;
use std::path::Path;

use log::{info, warn};
use nix::unistd::sethostname;

const DEFAULT: &str = "podinit";

/// Sets the machine's name: the configured one, else that of /etc/hostname, else `podinit`. Writes /etc/hosts and
/// /etc/resolv.conf where they are missing. The answer is the node's name: lower case, the suffix of static pods' names.
pub fn set(configured: Option<&str>) -> String {
    let file = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = choose(configured, &file);
    match sethostname(&name) {
        Ok(()) => info!("machine: hostname {name}"),
        Err(error) => warn!("machine: cannot set the hostname {name}: {error}"),
    }
    let hosts =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n");
    provide("/etc/hosts", &hosts);
    // `podinit net` fills what the link points to, in memory: a lease need not wear out a card. An image's own file stays.
    if fs::symlink_metadata("/etc/resolv.conf").is_err()
        && let Err(error) = std::os::unix::fs::symlink("/run/podinit/resolv.conf", "/etc/resolv.conf")
    {
        warn!("machine: cannot link /etc/resolv.conf: {error}");
    }
    provide("/run/podinit/resolv.conf", "");
    name
}

/// The first usable name, in lower case.
fn choose(configured: Option<&str>, file: &str) -> String {
    let usable = |text: &str| {
        let fits = !text.is_empty()
            && text.len() <= 64
            && !text.starts_with(['-', '.'])
            && !text.ends_with(['-', '.']);
        let clean = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        (fits && clean).then(|| text.to_ascii_lowercase())
    };
    let line = file.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    configured.and_then(usable).or_else(|| line.and_then(usable)).unwrap_or_else(|| DEFAULT.into())
}

fn provide(path: &str, text: &str) {
    if Path::new(path).exists() {
        return;
    }
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    if let Err(error) = fs::create_dir_all(parent).and_then(|()| fs::write(path, text)) {
        warn!("machine: cannot write {path}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_name_counts() {
        let table = [
            (Some("Porch"), "attic\n", "porch"),
            (None, "# the name\n\n Attic \n", "attic"),
            (None, "", "podinit"),
            (None, "a_b", "podinit"),
            (Some("-x"), "attic", "attic"),
        ];
        for (configured, file, name) in table {
            assert_eq!(choose(configured, file), name);
        }
    }
}
