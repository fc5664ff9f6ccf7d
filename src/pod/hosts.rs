//! What a pod's containers call themselves, and the hosts file that they see.
//!
//! Source: Kubernetes v1.36, pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain, managedHostsFileContent).

use super::spec::Pod;

/// The longest host name that the kernel takes.
const KERNEL: usize = 64;

const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// The domain of a pod with a subdomain; empty without one, or where the whole name is overridden.
pub fn domain(pod: &Pod, cluster_domain: &str) -> String {
    let names = &pod.names;
    if names.subdomain.is_empty() || names.hostname_override.is_some() {
        return String::new();
    }
    format!("{}.{}.svc.{cluster_domain}", names.subdomain, pod.namespace)
}

/// The host name that the kernel tells the containers. An error is the message of a FailedCreatePodSandBox event.
pub fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let domain = domain(pod, cluster_domain);
    if !pod.names.fqdn || domain.is_empty() {
        return Ok(pod.hostname.clone());
    }
    let full = format!("{}.{domain}", pod.hostname);
    if full.len() > KERNEL {
        return Err(format!(
            "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long \
             ({KERNEL} characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The hosts file of a pod with a network of its own. `ips`: its addresses.
pub fn managed(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let mut text = HEAD.to_owned();
    let (name, domain) = (&pod.hostname, domain(pod, cluster_domain));
    for ip in ips {
        match domain.is_empty() {
            true => text.push_str(&format!("{ip}\t{name}\n")),
            false => text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n")),
        }
    }
    text + &aliases(pod)
}

/// The hosts file of a pod on the host's network: the node's own, and the pod's aliases.
pub fn of_node(pod: &Pod, own: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{own}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let aliases = &pod.names.aliases;
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|(ip, names)| format!("{ip}\t{}\n", names.join("\t")));
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pod::sample;
    use crate::pod::spec::{Names, RestartPolicy};

    fn pod(hostname: &str, names: Names) -> Pod {
        Pod {
            hostname: hostname.into(),
            names,
            ..Arc::unwrap_or_clone(sample::pod(RestartPolicy::Always, &[], &["c"]))
        }
    }

    fn with(aliases: &[(&str, &[&str])]) -> Names {
        let aliases = aliases
            .iter()
            .map(|(ip, names)| (ip.to_string(), names.iter().map(|name| name.to_string()).collect()));
        Names { aliases: aliases.collect(), ..Names::default() }
    }

    /// /etc/hosts: Kubernetes' TestManagedHostsFileContent and TestNodeHostsFileContent.
    #[test]
    fn d4_hosts_files() {
        let (one, two): (&[&str], &[&str]) = (&["foo", "bar", "baz"], &["park", "doo", "boo"]);
        let ips = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let alias = "\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\tbaz\n";
        let both = format!("{alias}456.78.90.123\tpark\tdoo\tboo\n");
        let one_alias = with(&[("123.45.67.89", one)]);
        let two_aliases = with(&[("123.45.67.89", one), ("456.78.90.123", two)]);
        let in_domain = |names: &Names| Names { subdomain: "sub".into(), ..names.clone() };
        let table = [
            (Names::default(), "123.45.67.89", "123.45.67.89\tpodFoo\n".to_owned()),
            (
                in_domain(&Names::default()),
                "203.0.113.1",
                "203.0.113.1\tpodFoo.sub.default.svc.local\tpodFoo\n".to_owned(),
            ),
            (
                in_domain(&one_alias),
                "203.0.113.1",
                format!("203.0.113.1\tpodFoo.sub.default.svc.local\tpodFoo\n{alias}"),
            ),
            (two_aliases.clone(), "203.0.113.1", format!("203.0.113.1\tpodFoo\n{both}")),
            (Names::default(), "203.0.113.1 fd00::6", "203.0.113.1\tpodFoo\nfd00::6\tpodFoo\n".to_owned()),
            (Names::default(), "", String::new()),
            (one_alias.clone(), "", alias.to_owned()),
            (
                in_domain(&Names::default()),
                "203.0.113.1 fd00::6",
                "203.0.113.1\tpodFoo.sub.default.svc.local\tpodFoo\nfd00::6\tpodFoo.sub.default.svc.local\tpodFoo\n"
                    .to_owned(),
            ),
            (
                with(&[("192.0.2.1", &[])]),
                "203.0.113.1",
                "203.0.113.1\tpodFoo\n\n# Entries added by HostAliases.\n192.0.2.1\t\n".to_owned(),
            ),
        ];
        for (names, addresses, expected) in table {
            let found = managed(&pod("podFoo", names.clone()), &ips(addresses), "local");
            assert_eq!(found, format!("{HEAD}{expected}"), "{names:?}");
        }
        let own = "# hosts file for testing.\n127.0.0.1\tlocalhost\n";
        let head = format!("# Kubernetes-managed hosts file (host network).\n{own}");
        for (names, expected) in [(Names::default(), ""), (one_alias, alias), (two_aliases, both.as_str())] {
            assert_eq!(of_node(&pod("podFoo", names), own), format!("{head}{expected}"));
        }
    }

    /// Host name: Kubernetes' TestGeneratePodHostNameAndDomain, as far as the manifest's checks leave it to us.
    #[test]
    fn d5_names_and_domains() {
        let sub = || Names { subdomain: "my-subdomain".into(), ..Names::default() };
        let domain_of = "my-subdomain.default.svc.cluster.local";
        let table = [
            ("test-pod", Names::default(), "", Ok("test-pod")),
            ("test-pod", sub(), domain_of, Ok("test-pod")),
            (
                "test-pod",
                Names { fqdn: true, ..sub() },
                domain_of,
                Ok("test-pod.my-subdomain.default.svc.cluster.local"),
            ),
            ("test-pod", Names { fqdn: true, ..Names::default() }, "", Ok("test-pod")),
            (
                "override",
                Names { fqdn: false, hostname_override: Some("override".into()), ..sub() },
                "",
                Ok("override"),
            ),
            (
                "a-name-that-is-far-too-long-with-all-that",
                Names { fqdn: true, ..sub() },
                domain_of,
                Err(
                    "FQDN a-name-that-is-far-too-long-with-all-that.my-subdomain.default.svc.cluster.local is too long (64 characters is the max, 80 characters requested)",
                ),
            ),
        ];
        for (hostname, names, domain_expected, kernel) in table {
            let pod = pod(hostname, names);
            assert_eq!(domain(&pod, "cluster.local"), domain_expected);
            let found = kernel_name(&pod, "cluster.local");
            match kernel {
                Ok(kernel) => assert_eq!(found, Ok(kernel.to_owned())),
                Err(why) => assert!(found.is_err_and(|found| found.ends_with(why)), "{hostname}"),
            }
        }
        assert_eq!(domain(&pod("p", sub()), ""), "my-subdomain.default.svc.");
        // 64 letters are the most: the domain has 38, and a dot before it.
        let full = |length: usize| {
            kernel_name(&pod(&"a".repeat(length), Names { fqdn: true, ..sub() }), "cluster.local")
        };
        assert_eq!(full(25).map(|name| name.len()), Ok(64));
        assert!(full(26).is_err_and(|why| why.contains("65 characters requested")));
    }
}
