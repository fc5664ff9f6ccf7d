//! Which sysctls a pod may set (behaviour 7): those of its own namespaces, if they are safe or the operator allows them.

use super::Pod;

/// Why a pod is not taken up: Kubernetes' reason and message.
pub type Refusal = (&'static str, String);

/// A kernel's: 6.12.
pub type Version = (u32, u32);

/// What the kernel keeps for each namespace of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Net,
    Ipc,
}

/// Safe for every pod, from this kernel on (the kubelet's list).
const SAFE: &[(&str, (u32, u32))] = &[
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// containerd's for a pod with its own network: a process that is not root may listen on port 80 and ping.
pub const DEFAULTS: &[(&str, &str)] = &[("net.ipv4.ip_unprivileged_port_start", "0"), (PING, "0 2147483647")];

/// Of `DEFAULTS`, the one that names groups: not for a pod with a user namespace of its own, which has not so many.
pub const PING: &str = "net.ipv4.ping_group_range";

/// Whether the pod may set what it asks for. `allowed`: the operator's allowedUnsafeSysctls, names or prefixes with a
/// `*`; one that is none (see `pattern`) allows nothing. `kernel`: its version, None where it is not known.
pub fn judge(pod: &Pod, allowed: &[String], kernel: Option<Version>) -> Result<(), Refusal> {
    for (name, _) in &pod.security.sysctls {
        let name = normal(name);
        let refused = |why: String| Err(("SysctlForbidden", format!("forbidden sysctl: {name:?} {why}")));
        let safe = SAFE.iter().any(|(known, since)| *known == name && *since <= kernel.unwrap_or((0, 0)));
        let matches = |text: &String| {
            pattern(text).is_ok_and(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
        };
        match space(&name) {
            Some(space) if safe || allowed.iter().any(matches) => match space {
                Space::Net if pod.host_network => return refused("not allowed with host net enabled".into()),
                Space::Ipc if pod.spaces.host_ipc => {
                    return refused("not allowed with host ipc enabled".into());
                }
                Space::Net | Space::Ipc => {}
            },
            Some(_) | None => return refused("not allowlisted".into()),
        }
    }
    Ok(())
}

/// An entry of allowedUnsafeSysctls in normal form; Err: why it is none.
pub fn pattern(text: &str) -> Result<String, String> {
    let body = text.strip_suffix('*').unwrap_or(text);
    let open = body.len() < text.len();
    let mut segments = body.split(['.', '/']).peekable();
    let mut sound = !body.is_empty() && text.len() <= 253;
    while let Some(segment) = segments.next() {
        // The last one before a `*` may be cut short: `kernel.shm*`, `net.*`.
        let last_open = open && segments.peek().is_none();
        sound &= plain(segment) || last_open && (segment.is_empty() || plain(&format!("{segment}0")));
    }
    if !sound {
        return Err(format!(
            "sysctl {text:?}: use a name like kernel.msgmax, or the start of some like net.*"
        ));
    }
    let name = normal(text);
    match space(name.strip_suffix('*').unwrap_or(&name)) {
        Some(_) => Ok(name),
        None => Err(format!(
            "the sysctls {text:?} are not known to be namespaced: use kernel.sem, kernel.shm*, kernel.msg*, fs.mqueue.* or net.*"
        )),
    }
}

/// The form with dots, where a name is written with slashes: whichever separator comes first is the separator
/// (`net/ipv4/conf/eno2.100/rp_filter` is `net.ipv4.conf.eno2/100.rp_filter`).
pub fn normal(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name[at..].starts_with('/')) {
        Some(true) => name
            .chars()
            .map(|letter| match letter {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        Some(false) | None => name.to_owned(),
    }
}

/// The file below /proc/sys of a name in normal form.
pub fn path(name: &str) -> String {
    let swapped = name.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    format!("/proc/sys/{}", swapped.collect::<String>())
}

fn space(name: &str) -> Option<Space> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    match name {
        "kernel.sem" => Some(Space::Ipc),
        _ if ipc.iter().any(|prefix| name.starts_with(prefix)) => Some(Space::Ipc),
        _ if name.starts_with("net.") => Some(Space::Net),
        _ => None,
    }
}

fn plain(segment: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    segment.chars().all(letter) && edge(segment.chars().next()) && edge(segment.chars().last())
}

fn letter(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::{PodSecurity, Spaces};

    const NEW: Option<(u32, u32)> = Some((6, 12));

    fn pod(name: &str, host_network: bool, host_ipc: bool) -> Pod {
        let sysctls = vec![(name.to_owned(), "1".to_owned())];
        Pod {
            host_network,
            spaces: Spaces { host_ipc, ..Spaces::default() },
            security: PodSecurity { sysctls, ..PodSecurity::default() },
            ..Pod::default()
        }
    }

    fn told(name: &str, host_network: bool, host_ipc: bool) -> String {
        let allowed = ["kernel.msg*", "kernel.sem", "net.b.*"].map(str::to_owned);
        match judge(&pod(name, host_network, host_ipc), &allowed, NEW) {
            Ok(()) => "ok".into(),
            Err((reason, message)) => {
                assert_eq!(reason, "SysctlForbidden");
                message
            }
        }
    }

    /// Sysctl allow-list, with allowedUnsafeSysctls kernel.msg*, kernel.sem and net.b.*.
    #[test]
    fn h5_a_pod_may_set_what_is_its_own_and_allowed() {
        let refused = |name: &str, why: &str| format!("forbidden sysctl: {name:?} {why}");
        let (ipc, net) = ("not allowed with host ipc enabled", "not allowed with host net enabled");
        let shm = "kernel.shm_rmid_forced";
        let ports = "net.ipv4.ip_local_port_range";
        let table = [
            (shm, false, false, "ok".to_owned()),
            ("kernel/shm_rmid_forced", false, false, "ok".to_owned()),
            (ports, false, false, "ok".to_owned()),
            ("kernel.msgmax", false, false, "ok".to_owned()),
            ("kernel.sem", false, false, "ok".to_owned()),
            ("kernel/sem", false, false, "ok".to_owned()),
            ("net.b.c", false, false, "ok".to_owned()),
            (shm, false, true, refused(shm, ipc)),
            (shm, true, false, "ok".to_owned()),
            (ports, true, false, refused(ports, net)),
            (ports, false, true, "ok".to_owned()),
            ("foo", false, false, refused("foo", "not allowlisted")),
            ("net.a.b", false, false, refused("net.a.b", "not allowlisted")),
            ("vm.swappiness", false, false, refused("vm.swappiness", "not allowlisted")),
            ("kernel.msgmax", false, true, refused("kernel.msgmax", ipc)),
            ("kernel.sem", false, true, refused("kernel.sem", ipc)),
            ("net.b.c", true, false, refused("net.b.c", net)),
        ];
        for (name, host_network, host_ipc, wanted) in table {
            assert_eq!(told(name, host_network, host_ipc), wanted, "{name}");
        }
        assert_eq!(judge(&Pod::default(), &[], None), Ok(()));
    }

    /// Sysctl allow-list, by the kernel.
    #[test]
    fn h5_what_is_safe_depends_on_the_kernel() {
        let safe = |kernel| {
            SAFE.iter().filter(|(name, _)| judge(&pod(name, false, false), &[], kernel).is_ok()).count()
        };
        assert_eq!(safe(None), 5);
        assert_eq!(safe(Some((3, 15))), 5);
        assert_eq!(safe(Some((3, 16))), 6);
        assert_eq!(safe(Some((4, 5))), 9);
        assert_eq!(safe(Some((4, 6))), 10);
        assert_eq!(safe(Some((4, 15))), 12);
        assert_eq!(safe(Some((5, 15))), 12);
    }

    /// Sysctl allow-list: patterns, and names with slashes.
    #[test]
    fn h5_patterns_are_names_or_starts_of_namespaced_ones() {
        for text in [
            "kernel.msg*",
            "kernel.sem",
            "net.b.*",
            "net.*",
            "kernel/shm*",
            "fs.mqueue.*",
            "net.core.x_*",
            "net.core.x-*",
        ] {
            assert_eq!(pattern(text), Ok(text.replace('/', ".")), "{text}");
        }
        let bad = [
            " kernel.msg*",
            "kernel.msg* ",
            "net.-",
            "net.*.foo",
            "net.*/foo",
            "foo",
            "foo*",
            "",
            "*",
            "net..x",
            "kernel.*",
            "Net.x",
            "net.-*",
            "net._x*",
            "net/",
            ".net.*",
            &format!("net.{}", "a".repeat(250)),
        ];
        for text in bad {
            assert!(pattern(text).is_err(), "{text:?}");
            assert!(judge(&pod("kernel.domainname", false, false), &[text.to_owned()], NEW).is_err());
        }
        let table = [
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("foo", "foo"),
        ];
        for (name, wanted) in table {
            assert_eq!(normal(name), wanted);
        }
        assert_eq!(path("net.ipv4.conf.eno2/100.rp_filter"), "/proc/sys/net/ipv4/conf/eno2.100/rp_filter");
    }
}
