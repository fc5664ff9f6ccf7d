//! The checks of a pod's sysctls: their names, and that they are not the host's.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as k8s;

use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::sysctl::normal;

pub fn check(
    report: &mut Report<'_>,
    spec: &k8s::PodSpec,
    given: &k8s::PodSecurityContext,
    path: &Path,
) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let mut sysctls = Vec::new();
    for (index, sysctl) in given.sysctls.iter().flatten().enumerate() {
        let field = path.item(index).key("name");
        if !sysctl_name(&sysctl.name) {
            let cure = "use a name such as net.core.somaxconn";
            report.refuse(&field, format!("{} is not a sysctl: {cure}", quote(&sysctl.name)));
            continue;
        }
        let name = normal(&sysctl.name);
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        if spec.host_network.unwrap_or_default() && name.starts_with("net.") {
            let message = format!("{} would be the host's with hostNetwork: set it there", quote(&name));
            report.refuse(&field, message);
        } else if spec.host_ipc.unwrap_or_default() && ipc.iter().any(|group| name.starts_with(group)) {
            let message = format!("{} would be the host's with hostIPC: set it there", quote(&name));
            report.refuse(&field, message);
        } else if !seen.insert(name.clone()) {
            report.refuse(&field, format!("{} is given before: keep one", quote(&name)));
        }
        sysctls.push((name, sysctl.value.clone()));
    }
    sysctls
}

/// Lower-case words of letters, digits, `-` and `_`, a letter or digit first and last, with dots or slashes between.
fn sysctl_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kubernetes' pkg/apis/core/validation, TestIsValidSysctlName, and pkg/kubelet/sysctl, TestConvert.
    #[test]
    fn h6_a_sysctl_is_named_as_kubernetes_takes_it() {
        for name in ["a.b.c.d", "a", "a_b", "a-b", "abc", "abc.def", "a/b/c/d", "a/b.c"] {
            assert!(sysctl_name(name), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "", "*", "ä", "a_", "_", "__", "_a", "_a._b", "-", ".", "a.", ".a", "a.b.", "a*.b", "a*b", "*a",
            "a.*", "*", "Abc", "/", "/a", "a/abc*", &long,
        ] {
            assert!(!sysctl_name(name), "{name}");
        }
        for (name, expected) in [
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("a", "a"),
        ] {
            assert_eq!(normal(name), expected, "{name}");
        }
    }
}
