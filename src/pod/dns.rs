//! Whom a pod's containers ask for names: the resolv.conf of the node, the cluster's, and the pod's own, as one.
//!
//! Source: Kubernetes v1.36, pkg/kubelet/network/dns; resolv.conf(5).

use std::collections::{HashMap, HashSet};

use super::spec::{DnsPolicy, Pod};

/// The most that the resolver and Kubernetes take.
const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_LENGTH: usize = 253;
const SEARCH_LINE: usize = 2048;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    /// `ndots:5`, `edns0`, ...: of a name given twice the later one.
    pub options: Vec<String>,
}

/// What the node gives its pods (kubelet: clusterDNS, clusterDomain, resolvConf).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// The node's own resolv.conf; None where none is to be used (resolvConf: "").
    pub own: Option<Dns>,
}

impl Dns {
    /// Reads a resolv.conf. A nameserver line without an address is an error; what else is odd is passed over.
    pub fn parse(text: &str) -> Result<Dns, String> {
        let mut dns = Dns::default();
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => match words.next() {
                    Some(server) => dns.servers.push(server.to_owned()),
                    None => return Err(format!("line {}: nameserver without an address", index + 1)),
                },
                Some("search") => {
                    let names = words.filter(|name| *name != ".");
                    dns.searches =
                        names.map(|name| name.strip_suffix('.').unwrap_or(name).to_owned()).collect();
                }
                Some("options") => dns.options.extend(words.map(str::to_owned)),
                Some(_) | None => {}
            }
        }
        dns.options = merged(dns.options);
        Ok(dns)
    }

    /// The file as containers read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |word: &str, values: &[String]| {
            if !values.is_empty() {
                text.push_str(&format!("{word} {}\n", values.join(" ")));
            }
        };
        line("search", &self.searches);
        self.servers.iter().for_each(|server| line("nameserver", std::slice::from_ref(server)));
        line("options", &self.options);
        text
    }
}

/// The pod's, within the limits, and what had to be left out, in the words of the kubelet's DNSConfigForming events.
pub fn effective(pod: &Pod, node: &Node) -> (Dns, Vec<String>) {
    let names = &pod.names;
    let cluster = match (names.dns, pod.host_network) {
        (DnsPolicy::ClusterFirst, false) | (DnsPolicy::ClusterFirstWithHostNet, _) => {
            !node.cluster_dns.is_empty()
        }
        (DnsPolicy::ClusterFirst, true) | (DnsPolicy::Default | DnsPolicy::None, _) => false,
    };
    let own = node.own.clone().unwrap_or_default();
    let mut dns = match (names.dns, cluster) {
        (DnsPolicy::None, _) => Dns::default(),
        (_, true) => {
            let mut searches = Vec::new();
            if !node.cluster_domain.is_empty() {
                let domain = &node.cluster_domain;
                searches =
                    vec![format!("{}.svc.{domain}", pod.namespace), format!("svc.{domain}"), domain.clone()];
            }
            searches.extend(own.searches);
            if !node.cluster_domain.is_empty() {
                searches = unique(searches);
            }
            Dns { servers: node.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
        }
        // Without a node's file: nobody but the pod itself, rather than a server that the C library makes up.
        (_, false) if node.own.is_none() => {
            Dns { servers: vec!["127.0.0.1".into()], searches: vec![".".into()], options: Vec::new() }
        }
        (_, false) => own,
    };
    // What the node says twice stays so, for its pods too, unless a pod adds something.
    if !(names.servers.is_empty() && names.searches.is_empty() && names.options.is_empty()) {
        dns.servers.extend(names.servers.iter().cloned());
        dns.servers = unique(dns.servers);
        dns.searches.extend(names.searches.iter().cloned());
        dns.searches = unique(dns.searches);
        dns.options.extend(names.options.iter().map(|(name, value)| match value.as_deref() {
            None | Some("") => name.clone(),
            Some(value) => format!("{name}:{value}"),
        }));
        dns.options = merged(dns.options);
    }
    limited(dns)
}

fn limited(mut dns: Dns) -> (Dns, Vec<String>) {
    let mut left_out = Vec::new();
    if dns.servers.len() > SERVERS {
        dns.servers.truncate(SERVERS);
        left_out.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let before = dns.searches.len();
    dns.searches.truncate(SEARCHES);
    dns.searches.retain(|name| name.len() <= SEARCH_LENGTH);
    while dns.searches.join(" ").len() > SEARCH_LINE {
        dns.searches.pop();
    }
    if dns.searches.len() < before {
        left_out.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
    (dns, left_out)
}

/// Of options with one name the last, in the place of the first.
fn merged(all: Vec<String>) -> Vec<String> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<String> = Vec::new();
    for option in all {
        let name = option.split(':').next().unwrap_or_default();
        match places.get(name).and_then(|place| kept.get_mut(*place)) {
            Some(earlier) => *earlier = option,
            None => {
                places.insert(name.to_owned(), kept.len());
                kept.push(option);
            }
        }
    }
    kept
}

/// Each once, where it came first.
fn unique(mut all: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert(one.clone()));
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pod::sample;
    use crate::pod::spec::{Names, RestartPolicy};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Host resolv.conf (Kubernetes' TestParseResolvConf).
    #[test]
    fn d1_a_nodes_resolv_conf_is_read() {
        let table = [
            (" ", "", "", ""),
            ("\n", "", "", ""),
            ("#comment\n", "", "", ""),
            (" #comment\n", "", "", ""),
            ("#comment\nnameserver 1.2.3.4\nsearch", "1.2.3.4", "", ""),
            ("nameserver 1.2.3.4", "1.2.3.4", "", ""),
            (" nameserver 1.2.3.4", "1.2.3.4", "", ""),
            ("nameserver \t 1.2.3.4", "1.2.3.4", "", ""),
            ("nameserver 1.2.3.4\nnameserver 5.6.7.8", "1.2.3.4 5.6.7.8", "", ""),
            ("nameserver 1.2.3.4 #comment", "1.2.3.4", "", ""),
            ("search ", "", "", ""),
            ("search . foo", "", "foo", ""),
            ("search foo .", "", "foo", ""),
            ("search foo .  bar", "", "foo bar", ""),
            ("search foo. bar", "", "foo bar", ""),
            ("search foo bar bat\n", "", "foo bar bat", ""),
            ("nameserver 1.2.3.4\nsearch foo bar", "1.2.3.4", "foo bar", ""),
            ("nameserver 1.2.3.4\nsearch foo\nnameserver 5.6.7.8\nsearch bar", "1.2.3.4 5.6.7.8", "bar", ""),
            ("#comment\nnameserver 1.2.3.4\n#comment\nsearch foo\ncomment", "1.2.3.4", "foo", ""),
            ("options ", "", "", ""),
            ("options ndots:5 attempts:2", "", "", "ndots:5 attempts:2"),
            ("options ndots:1 ndots:5 attempts:2", "", "", "ndots:5 attempts:2"),
            (
                "options ndots:1 edns0 attempts:2 single-request-reopen",
                "",
                "",
                "ndots:1 edns0 attempts:2 single-request-reopen",
            ),
            (
                "options ndots:1 timeout:3 timeout:1 attempts:3\noptions ndots:5",
                "",
                "",
                "ndots:5 timeout:1 attempts:3",
            ),
            ("options ndots:1 attempts:3\noptions ndots:1 attempts:3 ndots:5", "", "", "ndots:5 attempts:3"),
            ("", "", "", ""),
            ("search foo", "", "foo", ""),
            ("search foo bar", "", "foo bar", ""),
            ("nameserver\t1.2.3.4\r\nsearch\tfoo\tbar\r\n", "1.2.3.4", "foo bar", ""),
            ("nameserver 1.2.3.4 5.6.7.8", "1.2.3.4", "", ""),
            ("nameserver fe80::1%eth0\nnameserver ::1", "fe80::1%eth0 ::1", "", ""),
            ("nameserver 1.2.3.4\nnameserver 1.2.3.4", "1.2.3.4 1.2.3.4", "", ""),
            ("Nameserver 1.2.3.4\nnameservers 1.2.3.4\n;nameserver 1.2.3.4", "", "", ""),
            ("domain a.b\nsortlist 1.2.3.0\nlookup file bind", "", "", ""),
            ("domain a.b\nsearch foo", "", "foo", ""),
            ("search foo.. .", "", "foo.", ""),
            ("search foo\nsearch", "", "", ""),
            ("search foo foo.", "", "foo foo", ""),
            ("options edns0 trust-ad\noptions edns0", "", "", "edns0 trust-ad"),
            ("options ndots: rotate:x", "", "", "ndots: rotate:x"),
            ("options ndots:5 ndots", "", "", "ndots"),
            ("\tnameserver\t1.2.3.4\t", "1.2.3.4", "", ""),
            ("nameserver \t1.2.3.4", "1.2.3.4", "", ""),
            ("nameserver 1.2.3.4\n\n\n#nameserver 5.6.7.8\n", "1.2.3.4", "", ""),
            ("search .", "", "", ""),
            ("search . . foo . bar .", "", "foo bar", ""),
            ("options ndots:1\noptions ndots:1 attempts:3\noptions", "", "", "ndots:1 attempts:3"),
        ];
        for (text, servers, searches, options) in table {
            let expected =
                Dns { servers: words(servers), searches: words(searches), options: words(options) };
            assert_eq!(Dns::parse(text), Ok(expected), "{text:?}");
        }
        for text in
            ["#comment\nnameserver", "#comment\nnameserver\nsearch", "search a\nnameserver \t\nsearch b"]
        {
            assert_eq!(Dns::parse(text), Err("line 2: nameserver without an address".into()), "{text:?}");
        }
    }

    /// DNS limits.
    #[test]
    fn d2_what_is_too_much_is_left_out_and_told() {
        let long = |count: usize, length: usize| {
            (0..count).map(|index| format!("{index:0length$}")).collect::<Vec<_>>()
        };
        let searches = |searches: Vec<String>| Dns { searches, ..Dns::default() };
        let servers = |count: usize| Dns {
            servers: (0..count).map(|n| format!("1.2.3.{n}")).collect(),
            ..Dns::default()
        };
        // 16 of 127 and 15 blanks are 2047; one more letter makes 2048.
        let mut full = long(16, 127);
        full[0].push('x');
        let mut more = full.clone();
        more.push("y".into());
        let mut odd = long(6, 3);
        odd[2] = "a".repeat(256);
        let (mut widest, mut over) = (long(2, 3), long(2, 3));
        widest[1] = "a".repeat(253);
        over[1] = "a".repeat(254);
        let table = [
            (searches(long(3, 3)), None),
            (searches(long(5, 3)), None),
            (searches(long(7, 3)), None),
            (searches(full), None),
            (searches(long(32, 3)), None),
            (searches(odd), Some(5)),
            (searches(widest), None),
            (searches(over), Some(1)),
            // Cut whole, from the end: 9 of 240 and 8 blanks are 2168.
            (searches(long(9, 240)), Some(8)),
            (searches(long(0, 0)), None),
            (servers(7), Some(3)),
            (searches(more), Some(16)),
            (searches(long(33, 3)), Some(32)),
            (servers(1), None),
            (servers(3), None),
            (servers(4), Some(3)),
        ];
        for (dns, kept) in table {
            let (found, left_out) = limited(dns.clone());
            match kept {
                None => assert_eq!((&found, left_out.len()), (&dns, 0)),
                Some(kept) => {
                    assert_eq!(found.searches.len() + found.servers.len(), kept, "{dns:?}");
                    assert_eq!(left_out.len(), 1);
                    assert!(left_out[0].contains("limits were exceeded"), "{left_out:?}");
                }
            }
        }
    }

    #[test]
    fn d2_options_are_merged_by_name() {
        let table = [
            ("", "", ""),
            ("", "edns0", "edns0"),
            ("ndots:5", "ndots", "ndots"),
            ("ndots:5 debug", "", "ndots:5 debug"),
            ("ndots:5 debug", "single-request attempts:3", "ndots:5 debug single-request attempts:3"),
            (
                "ndots:5 debug",
                "ndots:3 debug single-request attempts:3",
                "ndots:3 debug single-request attempts:3",
            ),
        ];
        for (first, more, expected) in table {
            assert_eq!(merged([words(first), words(more)].concat()), words(expected));
        }
    }

    /// Effective DNS per policy (Kubernetes' TestGetPodDNSType, TestGetPodDNS and TestGetPodDNSCustom).
    #[test]
    fn d3_each_policy_has_its_servers() {
        let host = Dns { servers: words("8.8.8.8"), searches: words("host.domain"), options: vec![] };
        let cluster = Node {
            cluster_dns: words("10.0.0.10"),
            cluster_domain: "kubernetes.io".into(),
            own: Some(host.clone()),
        };
        let nameless = Node { cluster_domain: String::new(), ..cluster.clone() };
        let alone = Node { own: Some(host), ..Node::default() };
        let twice =
            Dns { servers: words("8.8.8.8 8.8.8.8"), searches: words("a a"), options: words("edns0") };
        let twice = Node { own: Some(twice), ..Node::default() };
        let bare = Node { own: None, ..cluster.clone() };
        let none = Names::default();
        let debug = Names { options: vec![("debug".into(), Some(String::new()))], ..Names::default() };
        let more = Names {
            servers: words("10.0.0.11"),
            searches: words("my.domain"),
            options: vec![("ndots".into(), Some("3".into())), ("debug".into(), None)],
            ..Names::default()
        };
        let only = Names {
            servers: words("203.0.113.1"),
            searches: words("my.domain second.domain"),
            ..more.clone()
        };
        let of_cluster = "testNS.svc.kubernetes.io svc.kubernetes.io kubernetes.io host.domain";
        let with_more = format!("{of_cluster} my.domain");
        use DnsPolicy::{ClusterFirst, ClusterFirstWithHostNet, Default};
        let table = [
            (&cluster, ClusterFirst, false, &none, "10.0.0.10", of_cluster, "ndots:5"),
            (&cluster, ClusterFirst, true, &none, "8.8.8.8", "host.domain", ""),
            (&cluster, ClusterFirstWithHostNet, false, &none, "10.0.0.10", of_cluster, "ndots:5"),
            (&cluster, ClusterFirstWithHostNet, true, &none, "10.0.0.10", of_cluster, "ndots:5"),
            (&cluster, Default, false, &none, "8.8.8.8", "host.domain", ""),
            (&cluster, Default, true, &none, "8.8.8.8", "host.domain", ""),
            (
                &cluster,
                DnsPolicy::None,
                false,
                &only,
                "203.0.113.1",
                "my.domain second.domain",
                "ndots:3 debug",
            ),
            (&cluster, DnsPolicy::None, false, &none, "", "", ""),
            (&cluster, DnsPolicy::None, true, &none, "", "", ""),
            (&cluster, ClusterFirst, false, &more, "10.0.0.10 10.0.0.11", &with_more, "ndots:3 debug"),
            (&cluster, Default, false, &more, "8.8.8.8 10.0.0.11", "host.domain my.domain", "ndots:3 debug"),
            (&alone, ClusterFirst, false, &none, "8.8.8.8", "host.domain", ""),
            (
                &alone,
                ClusterFirst,
                false,
                &more,
                "8.8.8.8 10.0.0.11",
                "host.domain my.domain",
                "ndots:3 debug",
            ),
            (&alone, ClusterFirstWithHostNet, true, &none, "8.8.8.8", "host.domain", ""),
            (&twice, Default, false, &none, "8.8.8.8 8.8.8.8", "a a", "edns0"),
            (&twice, Default, false, &debug, "8.8.8.8", "a", "edns0 debug"),
            (&nameless, ClusterFirst, false, &none, "10.0.0.10", "host.domain", "ndots:5"),
            (&bare, Default, false, &more, "127.0.0.1 10.0.0.11", ". my.domain", "ndots:3 debug"),
            (&bare, ClusterFirst, true, &none, "127.0.0.1", ".", ""),
            (&bare, Default, false, &none, "127.0.0.1", ".", ""),
            (
                &bare,
                ClusterFirst,
                false,
                &none,
                "10.0.0.10",
                "testNS.svc.kubernetes.io svc.kubernetes.io kubernetes.io",
                "ndots:5",
            ),
        ];
        for (index, (node, policy, host_network, names, servers, searches, options)) in
            table.into_iter().enumerate()
        {
            let mut pod = Arc::unwrap_or_clone(sample::pod(RestartPolicy::Always, &[], &["c"]));
            pod.namespace = "testNS".into();
            (pod.host_network, pod.names) = (host_network, Names { dns: policy, ..names.clone() });
            let expected =
                Dns { servers: words(servers), searches: words(searches), options: words(options) };
            assert_eq!(effective(&pod, node), (expected, vec![]), "row {index}");
        }
    }

    #[test]
    fn the_file_has_its_lines_in_order() {
        let dns =
            Dns { servers: words("1.2.3.4 ::1"), searches: words("a b"), options: words("ndots:5 edns0") };
        assert_eq!(dns.text(), "search a b\nnameserver 1.2.3.4\nnameserver ::1\noptions ndots:5 edns0\n");
        assert_eq!(Dns::parse(&dns.text()), Ok(dns));
        assert_eq!(Dns::default().text(), "");
    }
}
