//! Kubernetes' validation as rows: what it refuses is refused with the field, the value and what would do; what it
//! takes is taken. Rows on which podinit answers otherwise, on purpose, are `DIFFERENT`, with the reason.

use crate::manifest::parse;
use crate::pod::spec::*;

/// A pod of this spec; `$c` stands for a container's name and image.
fn parsed(spec: &str) -> (Vec<Pod>, Vec<Problem>) {
    let spec = spec.replace("$c", "name: c, image: i");
    let text =
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{a: b}}}}\nspec: {{{spec}}}\n");
    let parsed = parse(text.as_bytes(), "f", "/f", "n");
    (parsed.pods, parsed.problems)
}

fn one(spec: &str) -> Pod {
    let (mut pods, problems) = parsed(spec);
    assert_eq!(problems, [], "{spec}");
    pods.remove(0)
}

/// Each row alone gives this one refusal.
fn refused(table: &[(&str, &str)]) {
    for (spec, expected) in table {
        let (pods, problems) = parsed(spec);
        assert!(pods.is_empty(), "accepted: {spec}");
        let said: Vec<String> = problems
            .iter()
            .filter(|problem| problem.refused)
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect();
        assert_eq!(said, [*expected], "{spec}");
    }
}

fn accepted(table: &[&str]) {
    for spec in table {
        one(spec);
    }
}

#[test]
fn the_pods_own_fields() {
    refused(&[
        (
            "activeDeadlineSeconds: 0, containers: [{$c}]",
            "spec.activeDeadlineSeconds: 0 is not a deadline: use 1 to 2147483647 seconds",
        ),
        (
            "activeDeadlineSeconds: 2147483648, containers: [{$c}]",
            "spec.activeDeadlineSeconds: 2147483648 is not a deadline: use 1 to 2147483647 seconds",
        ),
        (
            "terminationGracePeriodSeconds: -1, containers: [{$c}]",
            "spec.terminationGracePeriodSeconds: -1 is negative: use 0 or more seconds",
        ),
        ("containers: []", "spec.containers: a pod needs at least one container"),
        (
            "containers: [{image: i, name: ''}]",
            "spec.containers[0].name: \"\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "containers: [{image: i, name: _INVALID_}]",
            "spec.containers[0].name: \"_INVALID_\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "initContainers: [{$c}], containers: [{$c}]",
            "spec.containers[0].name: \"c\" names spec.initContainers[0] too: use another name",
        ),
        (
            "shareProcessNamespace: true, hostPID: true, containers: [{$c}]",
            "spec.shareProcessNamespace: excludes hostPID: keep one",
        ),
        (
            "hostUsers: false, hostPID: true, containers: [{$c}]",
            "spec.hostPID: excludes hostUsers: false: keep one",
        ),
        (
            "hostUsers: false, hostIPC: true, containers: [{$c}]",
            "spec.hostIPC: excludes hostUsers: false: keep one",
        ),
        (
            "hostUsers: false, hostNetwork: true, containers: [{$c}]",
            "spec.hostNetwork: excludes hostUsers: false: keep one",
        ),
    ]);
    let pod = one("activeDeadlineSeconds: 60, priority: 7, hostPID: true, hostIPC: true, containers: [{$c}]");
    assert_eq!((pod.deadline.map(|deadline| deadline.as_secs()), pod.priority), (Some(60), 7));
    assert_eq!(pod.spaces, Spaces { host_pid: true, host_ipc: true, share_pid: false, own_users: false });
    let pod =
        one("shareProcessNamespace: true, priorityClassName: system-cluster-critical, containers: [{$c}]");
    assert_eq!(pod.spaces, Spaces { host_pid: false, host_ipc: false, share_pid: true, own_users: false });
    assert_eq!(pod.priority, 2_000_000_000);
    let (pods, problems) = parsed("priorityClassName: mine, containers: [{$c}]");
    assert_eq!(pods[0].priority, 0);
    assert_eq!(problems[0].message, "\"mine\" has no effect: give the number as spec.priority");
}

#[test]
fn d5_names_and_resolvers() {
    let long = format!("dnsConfig: {{searches: [{}]}}, containers: [{{$c}}]", vec!["a"; 33].join(", "));
    let wide =
        format!("dnsConfig: {{searches: [{}]}}, containers: [{{$c}}]", vec!["a".repeat(63); 32].join(".b, "));
    let over = format!("hostnameOverride: {}, containers: [{{$c}}]", "a".repeat(65));
    refused(&[
        (
            "dnsPolicy: none, containers: [{$c}]",
            "spec.dnsPolicy: \"none\" is none of ClusterFirst, ClusterFirstWithHostNet, Default, None",
        ),
        (
            "dnsPolicy: None, containers: [{$c}]",
            "spec.dnsPolicy: \"None\" needs a name server: give spec.dnsConfig.nameservers, or use another policy",
        ),
        (
            "dnsConfig: {nameservers: [a.b]}, containers: [{$c}]",
            "spec.dnsConfig.nameservers[0]: \"a.b\" is not an IP address: write one such as 192.0.2.1",
        ),
        (
            "dnsConfig: {nameservers: ['::1', '::2', '::3', '::4']}, containers: [{$c}]",
            "spec.dnsConfig.nameservers: are 4: at most 3 are asked",
        ),
        (
            "dnsConfig: {searches: ['a b']}, containers: [{$c}]",
            "spec.dnsConfig.searches[0]: \"a b\" is not a domain: write one such as lan.example",
        ),
        (
            "dnsConfig: {options: [{value: '1'}]}, containers: [{$c}]",
            "spec.dnsConfig.options[0].name: \"\" is not an option's name: use one of resolv.conf(5)",
        ),
        (&long, "spec.dnsConfig.searches: are 33 with 65 letters: at most 32 with 2048 are allowed"),
        (&wide, "spec.dnsConfig.searches: are 32 with 2109 letters: at most 32 with 2048 are allowed"),
        (
            "hostAliases: [{ip: a, hostnames: [b]}], containers: [{$c}]",
            "spec.hostAliases[0].ip: \"a\" is not an IP address: write one such as 192.0.2.1",
        ),
        (
            "hostAliases: [{ip: '::1', hostnames: [b, B]}], containers: [{$c}]",
            "spec.hostAliases[0].hostnames[1]: \"B\" is not a DNS subdomain: use at most 253 lower-case letters, digits, '-' and '.', a letter or digit first and last",
        ),
        (
            "dnsConfig: {nameservers: ['fe80::1%eth0']}, containers: [{$c}]",
            "spec.dnsConfig.nameservers[0]: \"fe80::1%eth0\" is not an IP address: write one such as 192.0.2.1",
        ),
        (
            "dnsConfig: {searches: [A.b]}, containers: [{$c}]",
            "spec.dnsConfig.searches[0]: \"A.b\" is not a domain: write one such as lan.example",
        ),
        (
            "hostAliases: [{ip: 456.78.90.123, hostnames: [b]}], containers: [{$c}]",
            "spec.hostAliases[0].ip: \"456.78.90.123\" is not an IP address: write one such as 192.0.2.1",
        ),
        (
            &format!("hostname: {}, containers: [{{$c}}]", "a".repeat(64)),
            &format!(
                "spec.hostname: \"{}\"... is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
                "a".repeat(60)
            ),
        ),
        (
            "subdomain: invalid_subdomain, containers: [{$c}]",
            "spec.subdomain: \"invalid_subdomain\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "hostname: a.b, containers: [{$c}]",
            "spec.hostname: \"a.b\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "subdomain: a.b, containers: [{$c}]",
            "spec.subdomain: \"a.b\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            &over,
            &format!("spec.hostnameOverride: \"{}\"... is too long: use at most 64 letters", "a".repeat(60)),
        ),
        (
            "hostnameOverride: a, setHostnameAsFQDN: true, containers: [{$c}]",
            "spec.hostnameOverride: excludes setHostnameAsFQDN: keep one",
        ),
        (
            "hostnameOverride: a, hostNetwork: true, containers: [{$c}]",
            "spec.hostnameOverride: excludes hostNetwork, where the node's name is seen: keep one",
        ),
    ]);
    // Just as much as is allowed; 2048 letters are 31 of 63, 31 blanks and one of 64.
    let searches = format!("{}, {}", vec!["a".repeat(63); 31].join(", "), "a".repeat(64));
    let just = [
        format!("dnsConfig: {{searches: [{searches}]}}, containers: [{{$c}}]"),
        "dnsConfig: {nameservers: ['::1', 192.0.2.1, '::2']}, containers: [{$c}]".into(),
        format!("hostname: {}, containers: [{{$c}}]", "a".repeat(63)),
        format!("hostnameOverride: {}.{}, containers: [{{$c}}]", "a".repeat(32), "b".repeat(31)),
        "dnsPolicy: ClusterFirstWithHostNet, dnsConfig: {}, containers: [{$c}]".into(),
        "hostAliases: [{ip: 192.0.2.1}, {ip: 192.0.2.1, hostnames: [a]}], containers: [{$c}]".into(),
        "hostnameOverride: '', setHostnameAsFQDN: true, containers: [{$c}]".into(),
    ];
    accepted(&just.each_ref().map(String::as_str));
    let pod = one(
        "dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.1], searches: [a.b., ., _x.c, svc_d.e], \
         options: [{name: ndots, value: '2'}, {name: edns0}]}, hostAliases: [{ip: '::1', hostnames: [a, b.c]}], \
         subdomain: s, setHostnameAsFQDN: true, containers: [{$c}]",
    );
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let expected = Names {
        dns: DnsPolicy::None,
        servers: text(&["192.0.2.1"]),
        searches: text(&["a.b.", ".", "_x.c", "svc_d.e"]),
        options: vec![("ndots".into(), Some("2".into())), ("edns0".into(), None)],
        aliases: vec![("::1".into(), text(&["a", "b.c"]))],
        subdomain: "s".into(),
        fqdn: true,
        hostname_override: None,
    };
    assert_eq!(pod.names, expected);
    assert_eq!(
        one("hostnameOverride: a.b, containers: [{$c}]").names.hostname_override.as_deref(),
        Some("a.b")
    );
}

/// H10: Kubernetes' TestIsValidPortName.
#[test]
fn h10_port_names() {
    let port = |name: &str| format!("containers: [{{$c, ports: [{{containerPort: 80, name: '{name}'}}]}}]");
    for name in ["telnet", "re-mail-ck", "pop3", "a", "a-1", "1-a", "a-1-b-2-c", "1-a-2-b-3", ""] {
        one(&port(name));
    }
    for name in [
        "longerthan15characters",
        "12345",
        "1-2-3-4",
        "1",
        "-begin",
        "end-",
        "two--hyphens",
        "whois++",
        "Abc",
        "a_b",
        "ä",
    ] {
        assert!(parsed(&port(name)).0.is_empty(), "accepted: {name}");
    }
}

#[test]
fn h10_ports() {
    refused(&[
        (
            "containers: [{$c, ports: [{containerPort: 0}]}]",
            "spec.containers[0].ports[0].containerPort: 0 is not a port: use 1 to 65535",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 65536}]}]",
            "spec.containers[0].ports[0].containerPort: 65536 is not a port: use 1 to 65535",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, hostPort: 65536}]}]",
            "spec.containers[0].ports[0].hostPort: 65536 is not a port: use 1 to 65535",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, name: a.b.c}]}]",
            "spec.containers[0].ports[0].name: \"a.b.c\" is not a port name: use at most 15 lower-case letters, digits and single '-' between them, one of them a letter",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, name: abc}, {containerPort: 81, name: abc}]}]",
            "spec.containers[0].ports[1].name: \"abc\" names an earlier port too: use another name",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, protocol: tcp}]}]",
            "spec.containers[0].ports[0].protocol: \"tcp\" is none of TCP, UDP, SCTP",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, protocol: ICMP}]}]",
            "spec.containers[0].ports[0].protocol: \"ICMP\" is none of TCP, UDP, SCTP",
        ),
        (
            "containers: [{$c, ports: [{containerPort: -1}]}]",
            "spec.containers[0].ports[0].containerPort: -1 is not a port: use 1 to 65535",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, hostPort: -1}]}]",
            "spec.containers[0].ports[0].hostPort: -1 is not a port: use 1 to 65535",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, name: abcdefghijklmnop}]}]",
            "spec.containers[0].ports[0].name: \"abcdefghijklmnop\" is not a port name: use at most 15 lower-case letters, digits and single '-' between them, one of them a letter",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, name: '80'}]}]",
            "spec.containers[0].ports[0].name: \"80\" is not a port name: use at most 15 lower-case letters, digits and single '-' between them, one of them a letter",
        ),
        (
            "hostNetwork: true, containers: [{$c, ports: [{containerPort: 80}]}, {name: d, image: i, ports: [{containerPort: 80}]}]",
            "spec.containers[1].ports[0].containerPort: port 80 of the host is taken by spec.containers[0].ports[0]: use another",
        ),
        (
            "containers: [{$c, ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}]}]",
            "spec.containers[0].ports[0].hostPort: 8080 is not supported yet without hostNetwork: use hostNetwork: true, or remove it",
        ),
        (
            "hostNetwork: true, containers: [{$c, ports: [{containerPort: 80, hostPort: 81}]}]",
            "spec.containers[0].ports[0].hostPort: 81 differs from containerPort 80 on the host's network: write the same",
        ),
    ]);
    accepted(&[
        "hostNetwork: true, containers: [{$c, ports: [{name: abc, containerPort: 80, hostPort: 80, protocol: TCP}, \
         {name: easy, containerPort: 82, protocol: TCP}, {name: as, containerPort: 83, protocol: UDP}, \
         {name: do-re-me, containerPort: 84, protocol: SCTP}, {containerPort: 85, protocol: TCP}]}]",
        "containers: [{$c, ports: [{containerPort: 1}, {containerPort: 65535, hostPort: 0, name: abcdefghijklmno}]}]",
        "containers: [{$c, ports: [{containerPort: 80}, {containerPort: 80}]}, {name: d, image: i, ports: [{containerPort: 80}]}]",
        // One name in two containers.
        "containers: [{$c, ports: [{containerPort: 80, name: a}]}, {name: d, image: i, ports: [{containerPort: 80, name: a}]}]",
        // Kubernetes' own defaults fill in the protocol before they judge it.
        "containers: [{$c, ports: [{containerPort: 80}]}]",
        // One port of the host by two protocols, and by an init container that is gone by then.
        "hostNetwork: true, initContainers: [{name: i, image: i, ports: [{containerPort: 53}]}], \
         containers: [{$c, ports: [{containerPort: 53}, {containerPort: 53, protocol: UDP}]}]",
    ]);
}

#[test]
fn h11_variables() {
    refused(&[
        (
            "containers: [{$c, env: [{name: '', value: a}]}]",
            "spec.containers[0].env[0].name: \"\" is not a variable's name: use printable ASCII without '='",
        ),
        (
            "containers: [{$c, env: [{name: a, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]",
            "spec.containers[0].env[0].valueFrom: value and valueFrom exclude each other: keep one",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}}}]}]",
            "spec.containers[0].env[0].valueFrom: names more than one source: keep one",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {}}]}]",
            "spec.containers[0].env[0].valueFrom: names no source: give fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef or fileKeyRef",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {configMapKeyRef: {name: m, key: ..k}}}]}]",
            "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: \"..k\" is not a key of a ConfigMap or Secret: use at most 253 letters, digits, '-', '_' and '.', not '..' first",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {secretKeyRef: {key: k}}}]}]",
            "spec.containers[0].env[0].valueFrom.secretKeyRef.name: is missing: name a Secret of the manifest directory",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: K}}}]}]",
            "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: no volume is named \"v\": add it to spec.volumes",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /v}}], containers: [{$c, env: [{name: a, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: K}}}]}]",
            "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: \"v\" is not an emptyDir: use one that is",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, env: [{name: a, valueFrom: {fileKeyRef: {volumeName: v, path: ../p, key: K}}}]}]",
            "spec.containers[0].env[0].valueFrom.fileKeyRef.path: \"../p\" holds \"..\": stay within the volume",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]}]",
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: \"limits.gpu\" is not supported: limits or requests of cpu, memory, ephemeral-storage and hugepages-<size> are",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 100m}}}]}]",
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: \"100m\" does not divide limits.cpu: use 1, 1m",
        ),
        (
            "containers: [{$c, env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.hugepages-big}}}]}]",
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: \"hugepages-big\" names no page size: write it as hugepages-2Mi",
        ),
        (
            "containers: [{$c, envFrom: [{}]}]",
            "spec.containers[0].envFrom[0]: names no source: give configMapRef or secretRef",
        ),
        (
            "containers: [{$c, envFrom: [{configMapRef: {name: m}, secretRef: {name: s}}]}]",
            "spec.containers[0].envFrom[0]: names more than one source: keep one",
        ),
        (
            "containers: [{$c, envFrom: [{configMapRef: {}}]}]",
            "spec.containers[0].envFrom[0].configMapRef.name: is missing: name a ConfigMap of the manifest directory",
        ),
        (
            "containers: [{$c, envFrom: [{prefix: a=, configMapRef: {name: m}}]}]",
            "spec.containers[0].envFrom[0].prefix: \"a=\" is not a variable's name: use printable ASCII without '='",
        ),
    ]);
    let pod = one(
        "volumes: [{name: v}], containers: [{$c, envFrom: [{prefix: '1_', configMapRef: {name: m}}, \
         {secretRef: {name: s, optional: true}}], env: [{name: a, valueFrom: {fileKeyRef: {volumeName: v, path: \
         x//p, key: K}}}, {name: b, valueFrom: {resourceFieldRef: {resource: requests.hugepages-2Mi, divisor: \
         1Mi}}}, {name: c, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]",
    );
    let config = |secret, name: &str, optional| ConfigRef { secret, name: name.into(), optional };
    let container = &pod.containers[0];
    let expected = [
        EnvFrom { prefix: "1_".into(), config: config(false, "m", false) },
        EnvFrom { prefix: String::new(), config: config(true, "s", true) },
    ];
    assert_eq!(container.env_from, expected);
    let values: Vec<&EnvValue> = container.env.iter().map(|var| &var.value).collect();
    let file = EnvValue::File { volume: "v".into(), path: "x/p".into(), key: "K".into(), optional: false };
    let pages = EnvValue::Resource(ResourceField {
        container: "c".into(),
        limit: false,
        measure: Measure::HugePages(2 << 20),
        divisor: 1 << 20,
    });
    let secret = EnvValue::Config { config: config(true, "s", false), key: "k".into() };
    assert_eq!(values, [&file, &pages, &secret]);
}

#[test]
fn g3_mounts() {
    refused(&[
        (
            "containers: [{$c, volumeMounts: [{name: v, mountPath: /v}]}]",
            "spec.containers[0].volumeMounts[0].name: no volume is named \"v\": add it to spec.volumes",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: ''}]}]",
            "spec.containers[0].volumeMounts[0].mountPath: a mount needs a path in the container",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v/}]}]",
            "spec.containers[0].volumeMounts[1].mountPath: \"/v\" is where volumeMounts[0] is too: use another path",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, subPath: /must/not/be/absolute}]}]",
            "spec.containers[0].volumeMounts[0].subPath: \"/must/not/be/absolute\" is an absolute path: a subPath begins within the volume",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, subPath: no/backsteps/../allowed}]}]",
            "spec.containers[0].volumeMounts[0].subPath: \"no/backsteps/../allowed\" holds \"..\": a subPath stays within the volume",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, subPathExpr: /foo/$(A)}]}]",
            "spec.containers[0].volumeMounts[0].subPathExpr: \"/foo/$(A)\" is an absolute path: a subPathExpr begins within the volume",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, subPath: a, subPathExpr: b}]}]",
            "spec.containers[0].volumeMounts[0].subPathExpr: excludes subPath: keep one",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Both}]}]",
            "spec.containers[0].volumeMounts[0].mountPropagation: \"Both\" is none of None, HostToContainer, Bidirectional",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}]",
            "spec.containers[0].volumeMounts[0].mountPropagation: \"Bidirectional\" needs securityContext.privileged: true: add it, or use HostToContainer",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: IfPossible}]}]",
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: \"IfPossible\" needs readOnly: true: add it, or use Disabled",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled}]}]",
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: \"Enabled\" needs readOnly: true: add it, or use Disabled",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled, mountPropagation: HostToContainer}]}]",
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: \"Enabled\" excludes mountPropagation: leave that out, or use Disabled",
        ),
        (
            "volumes: [{name: v}], containers: [{$c, volumeMounts: [{name: v, mountPath: /v, bindMountOptions: [noexec]}]}]",
            "spec.containers[0].volumeMounts[0].bindMountOptions: is not supported yet: remove it",
        ),
    ]);
    // What a path may hold: colons, backslashes, dots that are no step back; and one without a slash begins at the root.
    let at = |path: &str| {
        one(&format!("volumes: [{{name: v}}], containers: [{{$c, volumeMounts: [{{name: v, {path}}}]}}]"))
            .containers
            .remove(0)
            .mounts
            .remove(0)
    };
    for (path, expected) in [("/a:b", "/a:b"), ("a/b", "/a/b"), ("/a//b/.", "/a/b"), ("/a\\b", "/a\\b")] {
        assert_eq!(at(&format!("mountPath: '{path}'")).path, expected);
    }
    for sub in ["a/..b", "..a", "a\\..\\b", "a:b", "a b", "./a"] {
        assert_eq!(at(&format!("mountPath: /v, subPath: '{sub}'")).sub_path.as_deref(), Some(sub));
    }
    let mount = |fields: &str| {
        let spec = format!(
            "volumes: [{{name: v}}], containers: [{{$c, securityContext: {{privileged: true}}, \
             volumeMounts: [{{name: v, mountPath: /v, {fields}}}]}}]"
        );
        one(&spec).containers.remove(0).mounts.remove(0)
    };
    for (fields, read_only, recursive, propagation) in [
        ("", false, Recursive::Disabled, Propagation::None),
        ("mountPropagation: None", false, Recursive::Disabled, Propagation::None),
        ("mountPropagation: HostToContainer", false, Recursive::Disabled, Propagation::HostToContainer),
        ("mountPropagation: Bidirectional", false, Recursive::Disabled, Propagation::Bidirectional),
        ("readOnly: true", true, Recursive::Disabled, Propagation::None),
        ("readOnly: true, recursiveReadOnly: Disabled", true, Recursive::Disabled, Propagation::None),
        ("readOnly: true, recursiveReadOnly: IfPossible", true, Recursive::IfPossible, Propagation::None),
        (
            "readOnly: true, recursiveReadOnly: Enabled, mountPropagation: None",
            true,
            Recursive::Enabled,
            Propagation::None,
        ),
    ] {
        let found = mount(fields);
        let said = (found.read_only, found.recursive_read_only, found.propagation);
        assert_eq!(said, (read_only, recursive, propagation), "{fields}");
    }
    assert_eq!(mount("subPathExpr: foo/$(POD_NAME)").sub_path_expr.as_deref(), Some("foo/$(POD_NAME)"));
    assert_eq!(mount("subPathExpr: ''").sub_path_expr, None);
}

/// What a probe must not say, as field and message.
#[test]
fn f2_probes_and_hooks() {
    let probe = |probe: &str| format!("containers: [{{$c, {probe}}}]");
    let rows = [
        (
            "livenessProbe: {}",
            "livenessProbe: says nothing to do: give one of exec, httpGet, tcpSocket or grpc",
        ),
        (
            "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}",
            "livenessProbe: says more than one thing to do: keep one",
        ),
        (
            "livenessProbe: {exec: {command: []}}",
            "livenessProbe.exec.command: is empty: give a program and its arguments",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 0}}",
            "livenessProbe.tcpSocket.port: 0 is not a port: use 1 to 65535",
        ),
        // F2.
        (
            "livenessProbe: {tcpSocket: {port: -1}}",
            "livenessProbe.tcpSocket.port: -1 is not a port: use 1 to 65535",
        ),
        (
            "livenessProbe: {tcpSocket: {port: ''}}",
            "livenessProbe.tcpSocket.port: no port of the container is named \"\": use a number, or name it in the container's ports",
        ),
        (
            "livenessProbe: {httpGet: {port: '-1'}}",
            "livenessProbe.httpGet.port: no port of the container is named \"-1\": use a number, or name it in the container's ports",
        ),
        (
            "livenessProbe: {httpGet: {port: not-found}}",
            "livenessProbe.httpGet.port: no port of the container is named \"not-found\": use a number, or name it in the container's ports",
        ),
        (
            "livenessProbe: {tcpSocket: {port: '80'}}",
            "livenessProbe.tcpSocket.port: no port of the container is named \"80\": remove the quotes",
        ),
        (
            "livenessProbe: {tcpSocket: {port: '0'}}",
            "livenessProbe.tcpSocket.port: no port of the container is named \"0\": use a number, or name it in the container's ports",
        ),
        (
            "ports: [{name: web, containerPort: 80}], livenessProbe: {tcpSocket: {port: wbe}}",
            "livenessProbe.tcpSocket.port: no port of the container is named \"wbe\": did you mean web?",
        ),
        (
            "livenessProbe: {grpc: {port: 65536}}",
            "livenessProbe.grpc.port: 65536 is not a port: use 1 to 65535",
        ),
        (
            "livenessProbe: {grpc: {port: 1, mode: TLS}}",
            "livenessProbe.grpc.mode: \"TLS\" is not supported yet: Plaintext is",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, scheme: http}}",
            "livenessProbe.httpGet.scheme: \"http\" is none of HTTP, HTTPS",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, path: 'a b'}}",
            "livenessProbe.httpGet.path: \"a b\" holds a blank or control character: write it as %20",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: c}]}}",
            "livenessProbe.httpGet.httpHeaders[0].name: \"a b\" is not a header's name: use letters, digits and '-'",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: \"b\\nc\"}]}}",
            "livenessProbe.httpGet.httpHeaders[0].value: \"b\\nc\" holds a control character: remove it",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, periodSeconds: -1}",
            "livenessProbe.periodSeconds: -1 is negative: use 0 or more",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, initialDelaySeconds: -1}",
            "livenessProbe.initialDelaySeconds: -1 is negative: use 0 or more",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, timeoutSeconds: -1}",
            "livenessProbe.timeoutSeconds: -1 is negative: use 0 or more",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, failureThreshold: -1}",
            "livenessProbe.failureThreshold: -1 is negative: use 0 or more",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, successThreshold: 2}",
            "livenessProbe.successThreshold: 2 is not 1, which only a readinessProbe may raise: leave it out",
        ),
        (
            "startupProbe: {httpGet: {port: 1}, successThreshold: 2}",
            "startupProbe.successThreshold: 2 is not 1, which only a readinessProbe may raise: leave it out",
        ),
        (
            "readinessProbe: {httpGet: {port: 1}, terminationGracePeriodSeconds: 5}",
            "readinessProbe.terminationGracePeriodSeconds: 5 has no sense for a readinessProbe: remove it",
        ),
        (
            "livenessProbe: {httpGet: {port: 1}, terminationGracePeriodSeconds: 0}",
            "livenessProbe.terminationGracePeriodSeconds: 0 is not positive: use 1 or more seconds",
        ),
        (
            "lifecycle: {postStart: {}}",
            "lifecycle.postStart: says nothing to do: give one of exec, httpGet or sleep",
        ),
        (
            "lifecycle: {preStop: {exec: {command: [a]}, sleep: {seconds: 1}}}",
            "lifecycle.preStop: says more than one thing to do: keep one",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: 31}}}",
            "lifecycle.preStop.sleep.seconds: 31 is not within the pod's grace period: use 0 to 30, or raise spec.terminationGracePeriodSeconds",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: -1}}}",
            "lifecycle.preStop.sleep.seconds: -1 is not within the pod's grace period: use 0 to 30, or raise spec.terminationGracePeriodSeconds",
        ),
        (
            "lifecycle: {stopSignal: SIGTREM}",
            "lifecycle.stopSignal: \"SIGTREM\" is not a signal: did you mean SIGTERM?",
        ),
        (
            "lifecycle: {stopSignal: '15'}",
            "lifecycle.stopSignal: \"15\" is not a signal: use a name such as SIGTERM or SIGQUIT",
        ),
    ];
    for (fields, expected) in rows {
        refused(&[(&probe(fields), &format!("spec.containers[0].{expected}"))]);
    }
    let pod = one(&probe(
        "ports: [{name: web, containerPort: 8080}], startupProbe: {exec: {command: [a, $(B)]}, failureThreshold: 30}, \
         livenessProbe: {httpGet: {port: web, path: live, host: h, scheme: HTTPS, httpHeaders: [{name: X, value: z}]}, \
         terminationGracePeriodSeconds: 3, timeoutSeconds: 0}, readinessProbe: {grpc: {port: 9, service: s}, \
         successThreshold: 2, periodSeconds: 1, initialDelaySeconds: 4, timeoutSeconds: 2}, \
         lifecycle: {postStart: {httpGet: {port: web}}, preStop: {sleep: {seconds: 30}}, stopSignal: SIGQUIT}",
    ));
    let container = &pod.containers[0];
    let seconds = std::time::Duration::from_secs;
    let common = Probe {
        handler: Handler::Exec(vec!["a".into(), "$(B)".into()]),
        initial_delay: seconds(0),
        period: seconds(10),
        timeout: seconds(1),
        success: 1,
        failure: 30,
        grace: None,
    };
    assert_eq!(container.startup, Some(common.clone()));
    let http = |path: &str, host: Option<&str>, https, headers| Handler::Http {
        host: host.map(str::to_owned),
        port: 8080,
        path: path.into(),
        https,
        headers,
    };
    let live = http("/live", Some("h"), true, vec![("X".into(), "z".into())]);
    assert_eq!(
        container.liveness,
        Some(Probe { handler: live, failure: 3, grace: Some(seconds(3)), ..common.clone() })
    );
    let ready = Probe {
        handler: Handler::Grpc { port: 9, service: "s".into() },
        initial_delay: seconds(4),
        period: seconds(1),
        timeout: seconds(2),
        success: 2,
        failure: 3,
        grace: None,
    };
    assert_eq!(container.readiness, Some(ready));
    assert_eq!(container.post_start, Some(http("/", None, false, vec![])));
    assert_eq!(container.pre_stop, Some(Handler::Sleep(seconds(30))));
    assert_eq!(container.stop_signal.as_deref(), Some("SIGQUIT"));
}

#[test]
fn restart_policies_and_rules() {
    let values = vec!["1"; 256].join(", ");
    let many = format!(
        "containers: [{{$c, restartPolicy: Never, restartPolicyRules: [{{action: Restart, exitCodes: {{operator: In, values: [{values}]}}}}]}}]"
    );
    let rule = "{action: Restart, exitCodes: {operator: In, values: [1]}}";
    let rules = format!(
        "containers: [{{$c, restartPolicy: Never, restartPolicyRules: [{}]}}]",
        vec![rule; 21].join(", ")
    );
    refused(&[
        (
            "restartPolicy: always, containers: [{$c}]",
            "spec.restartPolicy: \"always\" is none of Always, OnFailure, Never",
        ),
        (
            "containers: [{$c, restartPolicy: Sometimes}]",
            "spec.containers[0].restartPolicy: \"Sometimes\" is none of Always, OnFailure, Never",
        ),
        (
            "containers: [{$c, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]}]",
            "spec.containers[0].restartPolicyRules: need the container's own restartPolicy: add it for what no rule matches",
        ),
        (
            "containers: [{$c, restartPolicy: Never, restartPolicyRules: [{action: Stop, exitCodes: {operator: In, values: [1]}}]}]",
            "spec.containers[0].restartPolicyRules[0].action: \"Stop\" is none of Restart, RestartAllContainers",
        ),
        (
            "containers: [{$c, restartPolicy: Never, restartPolicyRules: [{action: Restart}]}]",
            "spec.containers[0].restartPolicyRules[0].exitCodes: is missing: say for which exit codes the rule holds",
        ),
        (
            "containers: [{$c, restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: Is, values: [1]}}]}]",
            "spec.containers[0].restartPolicyRules[0].exitCodes.operator: \"Is\" is none of In, NotIn",
        ),
        (
            "containers: [{$c, restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In}}]}]",
            "spec.containers[0].restartPolicyRules[0].exitCodes.values: is empty: list at least one exit code",
        ),
        (
            &many,
            "spec.containers[0].restartPolicyRules[0].exitCodes.values: are 256: at most 255 are allowed",
        ),
        (&rules, "spec.containers[0].restartPolicyRules: are 21: at most 20 are allowed"),
        (
            "initContainers: [{name: i, image: i, livenessProbe: {tcpSocket: {port: 1}}}], containers: [{$c}]",
            "spec.initContainers[0].livenessProbe: is not for an init container: remove it, or make it a sidecar with restartPolicy: Always",
        ),
        (
            "initContainers: [{name: i, image: i, restartPolicy: Never, lifecycle: {preStop: {sleep: {seconds: 1}}}}], containers: [{$c}]",
            "spec.initContainers[0].lifecycle: is not for an init container: remove it, or make it a sidecar with restartPolicy: Always",
        ),
    ]);
    let pod = one(
        "restartPolicy: Never, initContainers: [{name: i, image: i, restartPolicy: OnFailure}, {name: s, image: i, \
         restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}, lifecycle: {preStop: {sleep: {seconds: 1}}}, \
         restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: NotIn, values: [0, 9]}}]}], \
         containers: [{$c, restartPolicy: Always}]",
    );
    let said: Vec<_> = pod.all().map(|c| (c.sidecar, c.restart, c.rules.len())).collect();
    let expected = [
        (false, Some(RestartPolicy::OnFailure), 0),
        (true, None, 1),
        (false, Some(RestartPolicy::Always), 0),
    ];
    assert_eq!(said, expected);
    assert_eq!(pod.init[1].rules, [RestartRule { not_in: true, codes: vec![0, 9], all: true }]);
    assert!(pod.init[1].startup.is_some() && pod.init[1].pre_stop.is_some());
}

#[test]
fn resources() {
    refused(&[
        (
            "containers: [{$c, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]",
            "spec.containers[0].resources.requests.cpu: 2 is more than the limit, 1: raise the limit or lower this",
        ),
        (
            "containers: [{$c, resources: {requests: {ephemeral-storage: 2Gi}, limits: {ephemeral-storage: 1Gi}}}]",
            "spec.containers[0].resources.requests.ephemeral-storage: 2Gi is more than the limit, 1Gi: raise the limit or lower this",
        ),
        (
            "containers: [{$c, resources: {limits: {nvidia.com/gpu: 1}}}]",
            "spec.containers[0].resources.limits['nvidia.com/gpu']: \"nvidia.com/gpu\" is not a resource that is supported: cpu, memory, ephemeral-storage and hugepages-<size> are",
        ),
        (
            "containers: [{$c, resources: {limits: {hugepages-2Mi: 4Mi}}}]",
            "spec.containers[0].resources.limits.hugepages-2Mi: needs cpu or memory beside it: add one",
        ),
        (
            "containers: [{$c, resources: {requests: {memory: 1Mi, hugepages-2Mi: 4Mi}}}]",
            "spec.containers[0].resources.requests.hugepages-2Mi: has no limit, which huge pages need: give the same as limit",
        ),
        (
            "containers: [{$c, resources: {limits: {memory: 1Mi, hugepages-2Mi: 4Mi}, requests: {hugepages-2Mi: 2Mi}}}]",
            "spec.containers[0].resources.requests.hugepages-2Mi: differs from the limit: huge pages are not shared, so write the same",
        ),
        (
            "containers: [{$c, resources: {limits: {memory: 1Mi, hugepages-2Mi: 3Mi}}}]",
            "spec.containers[0].resources.limits.hugepages-2Mi: 3Mi is not a multiple of the page size: round it up",
        ),
        (
            "containers: [{$c, resources: {limits: {memory: 1Mi, hugepages-big: 3Mi}}}]",
            "spec.containers[0].resources.limits.hugepages-big: \"hugepages-big\" names no page size: write it as hugepages-2Mi",
        ),
        (
            "containers: [{$c, resources: {claims: [{name: a}]}}]",
            "spec.containers[0].resources.claims: refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): remove it",
        ),
        (
            "containers: [{$c, resizePolicy: [{resourceName: disk, restartPolicy: NotRequired}]}]",
            "spec.containers[0].resizePolicy[0].resourceName: \"disk\" is none of cpu, memory",
        ),
        (
            "containers: [{$c, resizePolicy: [{resourceName: cpu, restartPolicy: Always}]}]",
            "spec.containers[0].resizePolicy[0].restartPolicy: \"Always\" is none of NotRequired, RestartContainer",
        ),
        (
            "containers: [{$c, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: cpu, restartPolicy: NotRequired}]}]",
            "spec.containers[0].resizePolicy[1].resourceName: \"cpu\" is given before: keep one",
        ),
        (
            "restartPolicy: Never, containers: [{$c, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]",
            "spec.containers[0].resizePolicy[0].restartPolicy: RestartContainer excludes the pod's restartPolicy Never: use NotRequired",
        ),
        (
            "resources: {limits: {ephemeral-storage: 1Gi}}, containers: [{$c}]",
            "spec.resources.limits.ephemeral-storage: \"ephemeral-storage\" is not a resource that is supported: cpu, memory and hugepages-<size> are",
        ),
        (
            "resources: {requests: {cpu: 1}}, containers: [{$c, resources: {requests: {cpu: 600m}}}, {name: d, image: i, resources: {requests: {cpu: 600m}}}]",
            "spec.resources.requests.cpu: 1 is less than its containers request together, 1200m: raise it",
        ),
        (
            "resources: {limits: {memory: 1Mi}}, containers: [{$c, resources: {requests: {memory: 1Mi}, limits: {memory: 2Mi}}}]",
            "spec.resources.limits.memory: 1Mi is less than the limit of container c: raise it",
        ),
        (
            "resourceClaims: [{name: a}], containers: [{$c}]",
            "spec.resourceClaims: refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): remove it",
        ),
    ]);
    let pod = one("resources: {limits: {cpu: 2, memory: 1Gi, hugepages-2Mi: 8Mi}}, \
         initContainers: [{name: s, image: i, restartPolicy: Always, resources: {requests: {cpu: 50m}}}, \
         {name: i, image: i, resources: {requests: {cpu: 1}}}], \
         containers: [{$c, resources: {requests: {cpu: 100m}, limits: {memory: 64Mi, ephemeral-storage: 1Gi, \
         hugepages-2Mi: 4Mi}}, resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]}, \
         {name: d, image: i}]");
    let expected = Resources {
        cpu_request: Some(100),
        cpu_limit: None,
        memory_request: Some(64 << 20),
        memory_limit: Some(64 << 20),
        storage_request: Some(1 << 30),
        storage_limit: Some(1 << 30),
        cpu_restarts: false,
        memory_restarts: true,
    };
    assert_eq!(pod.containers[0].resources, expected);
    assert_eq!(pod.containers[0].huge_pages, [(2 << 20, 4 << 20)].into());
    assert_eq!(pod.containers[1].resources, Resources::default());
    // The init container beside the sidecar before it takes more than what follows.
    let expected = Resources {
        cpu_request: Some(1050),
        cpu_limit: Some(2000),
        memory_request: Some(64 << 20),
        memory_limit: Some(1 << 30),
        ..Resources::default()
    };
    assert_eq!(pod.resources, Some(expected));
    assert_eq!(pod.huge_pages, [(2 << 20, 8 << 20)].into());
    assert_eq!(one("resources: {}, containers: [{$c}]").resources, None);
}

/// A container's amounts as they are taken: thousandths of a core and bytes, rounded up.
#[test]
fn amounts_are_read_as_kubernetes_reads_them() {
    for (cpu, memory, milli, bytes) in [
        ("0.1m", "1", 1, 1),
        ("1e3", "1e3", 1_000_000, 1000),
        ("100m", "100Ki", 100, 102_400),
        ("1.5", "1.5Gi", 1500, 3 << 29),
        ("0", "0", 0, 0),
        ("2000u", "1M", 2, 1_000_000),
        ("1.0001", "0.5Ki", 1001, 512),
        ("+1", "1E3", 1000, 1000),
        ("'1'", "'64Mi'", 1000, 64 << 20),
    ] {
        let pod =
            one(&format!("containers: [{{$c, resources: {{limits: {{cpu: {cpu}, memory: {memory}}}}}}}]"));
        let found = &pod.containers[0].resources;
        assert_eq!((found.cpu_limit, found.memory_limit), (Some(milli), Some(bytes)), "{cpu} {memory}");
        assert_eq!((found.cpu_request, found.memory_request), (Some(milli), Some(bytes)), "the defaults");
    }
    for memory in ["-1", "1K", "1gi", "64 Mi", "1MB", "'0x10'", "''"] {
        let spec = format!("containers: [{{$c, resources: {{limits: {{memory: {memory}}}}}}}]");
        assert!(parsed(&spec).0.is_empty(), "accepted: {memory}");
    }
    // A size of huge pages in two spellings.
    let pod = one(
        "containers: [{$c, resources: {limits: {memory: 1Mi, hugepages-2Mi: 4Mi, hugepages-2048Ki: 2Mi}}}]",
    );
    assert_eq!(pod.containers[0].huge_pages, [(2 << 20, 6 << 20)].into());
}

/// C7: TestHugePageLimits, in whole pages; one of its names, without the prefix, is no resource here.
#[test]
fn c7_huge_pages_of_one_size_are_added() {
    let table: [(&str, &[(u64, u64)]); 4] = [
        ("", &[]),
        (", hugepages-2Mi: 128Mi", &[(2 << 20, 128 << 20)]),
        (
            ", hugepages-2Mi: 128Mi, hugepages-2097152: 256Mi, hugepages-4Mi: 512Mi",
            &[(2 << 20, 384 << 20), (4 << 20, 512 << 20)],
        ),
        (", hugepages-1Gi: 1Gi, hugepages-2Mi: 0", &[(1 << 30, 1 << 30)]),
    ];
    for (pages, expected) in table {
        let pod = one(&format!("containers: [{{$c, resources: {{limits: {{memory: 1Mi{pages}}}}}}}]"));
        assert_eq!(pod.containers[0].huge_pages, expected.iter().copied().collect(), "{pages}");
    }
    for pages in ["2Mi: 128", "4Mi: 1024", "hugepages-2Mi: 128", "hugepages-2Mi: -2Mi", "hugepages-: 2Mi"] {
        let spec = format!("containers: [{{$c, resources: {{limits: {{memory: 1Mi, {pages}}}}}}}]");
        assert!(parsed(&spec).0.is_empty(), "accepted: {pages}");
    }
}

/// Seccomp selection: a container's own, else the pod's, else none is asked for.
#[test]
fn h3_a_containers_seccomp_profile_wins() {
    let local = |name: &str| Profile::Localhost(name.into());
    let words = [
        ("", Profile::Unset),
        ("Unconfined", Profile::Unconfined),
        ("RuntimeDefault", Profile::RuntimeDefault),
        ("Localhost, localhostProfile: a/b.json", local("a/b.json")),
        ("Localhost, localhostProfile: c", local("c")),
    ];
    let context = |word: &str| match word {
        "" => "securityContext: {}".to_owned(),
        word => format!("securityContext: {{seccompProfile: {{type: {word}}}}}"),
    };
    for (pods, of_pod) in &words {
        for (own, of_own) in &words {
            let pod = one(&format!("{}, containers: [{{$c, {}}}]", context(pods), context(own)));
            let expected = if own.is_empty() { of_pod } else { of_own };
            assert_eq!(pod.containers[0].security.seccomp, *expected, "{pods} / {own}");
        }
    }
}

#[test]
fn security() {
    refused(&[
        (
            "securityContext: {runAsUser: -1}, containers: [{$c}]",
            "spec.securityContext.runAsUser: -1 is not a user or group: use 0 to 2147483647",
        ),
        (
            "securityContext: {fsGroup: 2147483648}, containers: [{$c}]",
            "spec.securityContext.fsGroup: 2147483648 is not a user or group: use 0 to 2147483647",
        ),
        (
            "securityContext: {supplementalGroups: [1, -2]}, containers: [{$c}]",
            "spec.securityContext.supplementalGroups[1]: -2 is not a user or group: use 0 to 2147483647",
        ),
        (
            "securityContext: {supplementalGroupsPolicy: strict}, containers: [{$c}]",
            "spec.securityContext.supplementalGroupsPolicy: \"strict\" is none of Merge, Strict",
        ),
        (
            "securityContext: {fsGroupChangePolicy: Never}, containers: [{$c}]",
            "spec.securityContext.fsGroupChangePolicy: \"Never\" is none of Always, OnRootMismatch",
        ),
        (
            "securityContext: {seLinuxOptions: {level: s0}}, containers: [{$c}]",
            "spec.securityContext.seLinuxOptions: is not supported yet, and running without it would be less safe or differ: remove it only if that is acceptable",
        ),
        (
            "containers: [{$c, securityContext: {runAsGroup: 4294967296}}]",
            "spec.containers[0].securityContext.runAsGroup: 4294967296 is not a user or group: use 0 to 2147483647",
        ),
        (
            "containers: [{$c, securityContext: {allowPrivilegeEscalation: false, privileged: true}}]",
            "spec.containers[0].securityContext.allowPrivilegeEscalation: false excludes privileged: true: keep one",
        ),
        (
            "containers: [{$c, securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}}]",
            "spec.containers[0].securityContext.allowPrivilegeEscalation: false excludes the capability CAP_SYS_ADMIN: keep one",
        ),
        (
            "containers: [{$c, securityContext: {capabilities: {add: [NET_ADMN]}}}]",
            "spec.containers[0].securityContext.capabilities.add[0]: \"NET_ADMN\" is not a capability: did you mean NET_ADMIN?",
        ),
        (
            "containers: [{$c, securityContext: {procMount: Unmasked}}]",
            "spec.containers[0].securityContext.procMount: \"Unmasked\" needs spec.hostUsers: false: add it, or use Default",
        ),
        (
            "containers: [{$c, securityContext: {seccompProfile: {type: foo}}}]",
            "spec.containers[0].securityContext.seccompProfile.type: \"foo\" is none of RuntimeDefault, Unconfined, Localhost",
        ),
        (
            "containers: [{$c, securityContext: {seccompProfile: {type: Localhost}}}]",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: is missing: name the profile, or use another type",
        ),
        (
            "containers: [{$c, securityContext: {seccompProfile: {type: RuntimeDefault, localhostProfile: p}}}]",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: \"p\" is for type Localhost only: remove it",
        ),
        (
            "containers: [{$c, securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../p}}}]",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: \"../p\" leaves the folder of profiles: use a path below it",
        ),
        (
            "containers: [{$c, securityContext: {seccompProfile: {type: Localhost, localhostProfile: /p}}}]",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: \"/p\" leaves the folder of profiles: use a path below it",
        ),
        (
            "containers: [{$c, securityContext: {appArmorProfile: {type: Localhost}}}]",
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: is missing: name the profile, or use another type",
        ),
        (
            "containers: [{$c, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: ' p'}}}]",
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: \" p\" is not a profile's name: remove blanks around it",
        ),
        (
            "containers: [{$c, securityContext: {appArmorProfile: {type: foo}}}]",
            "spec.containers[0].securityContext.appArmorProfile.type: \"foo\" is none of RuntimeDefault, Unconfined, Localhost",
        ),
        (
            "securityContext: {sysctls: [{name: '', value: b}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[0].name: \"\" is not a sysctl: use a name such as net.core.somaxconn",
        ),
        (
            "securityContext: {sysctls: [{name: A, value: b}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[0].name: \"A\" is not a sysctl: use a name such as net.core.somaxconn",
        ),
        (
            "securityContext: {sysctls: [{name: a.b, value: b}, {name: a/b, value: c}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[1].name: \"a.b\" is given before: keep one",
        ),
        (
            "hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: b}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[0].name: \"net.ipv4.ip_local_port_range\" would be the host's with hostNetwork: set it there",
        ),
        (
            "hostIPC: true, securityContext: {sysctls: [{name: kernel/sem, value: b}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[0].name: \"kernel.sem\" would be the host's with hostIPC: set it there",
        ),
        (
            "hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: b}]}, containers: [{$c}]",
            "spec.securityContext.sysctls[0].name: \"kernel.shm_rmid_forced\" would be the host's with hostIPC: set it there",
        ),
    ]);
    let pod = one("securityContext: {runAsUser: 5, runAsGroup: 6, runAsNonRoot: true, fsGroup: 7, \
         fsGroupChangePolicy: OnRootMismatch, supplementalGroups: [8, 9], supplementalGroupsPolicy: Strict, \
         seccompProfile: {type: Localhost, localhostProfile: p}, appArmorProfile: {type: Unconfined}, \
         sysctls: [{name: kernel/shm_rmid_forced, value: '1'}]}, containers: [{$c}, {name: d, image: i, \
         securityContext: {runAsUser: 0, runAsNonRoot: false, privileged: false, allowPrivilegeEscalation: false, \
         readOnlyRootFilesystem: true, capabilities: {add: [CAP_NET_ADMIN, sys_time], drop: [all]}, procMount: \
         Default, seccompProfile: {type: Localhost, localhostProfile: c}, appArmorProfile: {type: Localhost, \
         localhostProfile: test}}}]");
    let expected = PodSecurity {
        fs_group: Some(7),
        fs_group_on_mismatch: true,
        groups: vec![8, 9],
        strict_groups: true,
        sysctls: vec![("kernel.shm_rmid_forced".into(), "1".into())],
    };
    assert_eq!(pod.security, expected);
    let taken_over = Security {
        user: Some(5),
        group: Some(6),
        non_root: true,
        seccomp: Profile::Localhost("p".into()),
        apparmor: Profile::Unconfined,
        ..Security::default()
    };
    assert_eq!(pod.containers[0].security, taken_over);
    let own = Security {
        user: Some(0),
        group: Some(6),
        non_root: false,
        privileged: false,
        no_escalation: true,
        read_only_root: true,
        add: vec!["NET_ADMIN".into(), "SYS_TIME".into()],
        drop: vec!["ALL".into()],
        seccomp: Profile::Localhost("c".into()),
        apparmor: Profile::Localhost("test".into()),
        unmasked: false,
    };
    assert_eq!(pod.containers[1].security, own);
    // runAsNonRoot with user 0 is found out at the start, as with the kubelet; and SYS_ADMIN without CAP_ passes.
    accepted(&[
        "containers: [{$c, securityContext: {runAsNonRoot: true, runAsUser: 0}}]",
        "securityContext: {fsGroup: 2147483647, fsGroupChangePolicy: Always, runAsUser: 2147483647}, containers: [{$c}]",
        "securityContext: {sysctls: [{name: net/ipv4/conf/eno2.100/rp_filter, value: b}, {name: a.b, value: ''}]}, containers: [{$c}]",
        "containers: [{$c, securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN]}}}]",
    ]);
}

/// Kubernetes' pkg/security/apparmor: a container's field, its annotation, the pod's field, in this order.
#[test]
fn h4_apparmor_by_annotation() {
    let with = |annotation: &str, spec: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotation}}}}}\nspec: {{{spec}}}\n"
        );
        let parsed = parse(text.as_bytes(), "f", "/f", "n");
        let said =
            parsed.problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ");
        (parsed.pods.first().map(|pod| pod.containers[0].security.apparmor.clone()), said)
    };
    let key = "container.apparmor.security.beta.kubernetes.io/c";
    let bare = "containers: [{name: c, image: i}]";
    let pods = "securityContext: {appArmorProfile: {type: Unconfined}}, containers: [{name: c, image: i}]";
    let own = "containers: [{name: c, image: i, securityContext: {appArmorProfile: {type: RuntimeDefault}}}]";
    let local = Profile::Localhost("test".into());
    for (value, spec, expected, said) in [
        ("runtime/default", bare, Some(Profile::RuntimeDefault), ""),
        ("unconfined", bare, Some(Profile::Unconfined), ""),
        ("localhost/test", pods, Some(local), ""),
        ("runtime/default", own, Some(Profile::RuntimeDefault), ""),
        ("''", pods, Some(Profile::Unconfined), ""),
        ("foo", bare, None, "\"foo\" is none of runtime/default, unconfined, localhost/<profile>"),
        (
            "localhost/",
            bare,
            None,
            "\"localhost/\" is none of runtime/default, unconfined, localhost/<profile>",
        ),
        (
            "unconfined",
            own,
            None,
            "differs from the annotation container.apparmor.security.beta.kubernetes.io/c: remove the annotation",
        ),
    ] {
        assert_eq!(with(&format!("{key}: {value}"), spec), (expected, said.to_owned()), "{value}, {spec}");
    }
    assert_eq!(with(&format!("{key}x: unconfined"), bare), (None, "no container is named \"cx\"".into()));
    assert_eq!(
        with("seccomp.security.alpha.kubernetes.io/pod: runtime/default", bare),
        (Some(Profile::Unset), "has no effect any more: use securityContext.seccompProfile".into())
    );
}

#[test]
fn g5_volumes() {
    let long = format!(
        "volumes: [{{name: v, configMap: {{name: m, items: [{{key: k, path: {}}}]}}}}], containers: [{{$c}}]",
        "a/".repeat(2100)
    );
    let (_, problems) = parsed(&long);
    assert!(problems[0].message.ends_with("is too long: use at most 4096 bytes, and 255 for each name"));
    let place = |path: &str| {
        format!(
            "volumes: [{{name: v, secret: {{secretName: s, items: [{{key: k, path: '{path}'}}]}}}}], containers: [{{$c}}]"
        )
    };
    for (path, why) in [
        ("/dev/null", "\"/dev/null\" is an absolute path: begin within the volume"),
        (
            "..sneaky.txt",
            "\"..sneaky.txt\" begins with \"..\", as only the volume's own files do: use another name",
        ),
        ("hello/../etc/somethingbad", "\"hello/../etc/somethingbad\" holds \"..\": stay within the volume"),
        ("", "is missing: give a file's place within the volume, such as conf/app.toml"),
        (".", "\".\" names no file: give its place within the volume"),
    ] {
        refused(&[(&place(path), &format!("spec.volumes[0].secret.items[0].path: {why}"))]);
    }
    refused(&[
        (
            "volumes: [{name: v}, {name: v}], containers: [{$c}]",
            "spec.volumes[1].name: \"v\" names spec.volumes[0] too: use another name",
        ),
        (
            "volumes: [{name: v, emptyDir: {}, secret: {secretName: s}}], containers: [{$c}]",
            "spec.volumes[0]: is of several kinds, emptyDir and secret: keep one",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b}}], containers: [{$c}]",
            "spec.volumes[0].hostPath.path: \"/a/../b\" holds \"..\": write the path itself",
        ),
        (
            "volumes: [{name: v, hostPath: {path: a/b}}], containers: [{$c}]",
            "spec.volumes[0].hostPath.path: \"a/b\" is not an absolute path: begin it with /",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a, type: directory}}], containers: [{$c}]",
            "spec.volumes[0].hostPath.type: \"directory\" is none of DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice",
        ),
        (
            "volumes: [{name: .., emptyDir: {}}], containers: [{$c}]",
            "spec.volumes[0].name: \"..\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "volumes: [{name: a/../../b, emptyDir: {}}], containers: [{$c}]",
            "spec.volumes[0].name: \"a/../../b\" is not a DNS label: use at most 63 lower-case letters, digits and '-', a letter or digit first and last",
        ),
        (
            "volumes: [{name: v, hostPath: {path: ''}}], containers: [{$c}]",
            "spec.volumes[0].hostPath.path: a hostPath needs a path",
        ),
        (
            "volumes: [{name: v, emptyDir: {sizeLimit: -1}}], containers: [{$c}]",
            "spec.volumes[0].emptyDir.sizeLimit: -1 is negative: use 0 or more",
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: HugePages-x}}], containers: [{$c}]",
            "spec.volumes[0].emptyDir.medium: \"HugePages-x\" is not a medium: use Memory, HugePages or HugePages-2Mi, or leave it out",
        ),
        (
            "volumes: [{name: v, image: {reference: ''}}], containers: [{$c}]",
            "spec.volumes[0].image.reference: an image volume needs an image",
        ),
        (
            "volumes: [{name: v, image: {reference: i, pullPolicy: always}}], containers: [{$c}]",
            "spec.volumes[0].image.pullPolicy: \"always\" is none of Always, IfNotPresent, Never",
        ),
        (
            "volumes: [{name: v, configMap: {}}], containers: [{$c}]",
            "spec.volumes[0].configMap.name: is missing: name a ConfigMap of the manifest directory",
        ),
        (
            "volumes: [{name: v, configMap: {name: m, defaultMode: 512}}], containers: [{$c}]",
            "spec.volumes[0].configMap.defaultMode: 512 is no file mode: use 0 to 0777 (511 in decimal)",
        ),
        (
            "volumes: [{name: v, secret: {secretName: s, items: [{key: k, path: p, mode: -1}]}}], containers: [{$c}]",
            "spec.volumes[0].secret.items[0].mode: -1 is no file mode: use 0 to 0777 (511 in decimal)",
        ),
        (
            "volumes: [{name: v, secret: {secretName: s, defaultUser: 5}}], containers: [{$c}]",
            "spec.volumes[0].secret.defaultUser: 5 is not supported yet: remove it",
        ),
        (
            "volumes: [{name: v, downwardAPI: {items: [{path: p}]}}], containers: [{$c}]",
            "spec.volumes[0].downwardAPI.items[0]: names no source: give fieldRef or resourceFieldRef",
        ),
        (
            "volumes: [{name: v, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: status.podIP}}]}}], containers: [{$c}]",
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: \"status.podIP\" is not supported for a file: metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, metadata.labels['key'] and metadata.annotations['key'] are",
        ),
        (
            "volumes: [{name: v, downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}}], containers: [{$c}]",
            "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: is missing: name a container of the pod",
        ),
        (
            "volumes: [{name: v, projected: {sources: [{}]}}], containers: [{$c}]",
            "spec.volumes[0].projected.sources[0]: names no source: give configMap, secret or downwardAPI",
        ),
        (
            "volumes: [{name: v, projected: {sources: [{secret: {name: s, items: [{key: k, path: a/b}]}}, {configMap: {name: m, items: [{key: k, path: a//b}]}}]}}], containers: [{$c}]",
            "spec.volumes[0].projected.sources[1].configMap.items[0].path: \"a/b\" is a file of this volume already: use another",
        ),
    ]);
    let pod = one(
        "volumes: [{name: a, emptyDir: {medium: HugePages}}, {name: b, emptyDir: {medium: HugePages-1Gi}}, \
         {name: c, image: {reference: 'i:1', pullPolicy: Never}}, {name: d, image: {reference: i}}, \
         {name: e, secret: {secretName: s, optional: true, items: [{key: k, path: i/am//well/behaved.txt, mode: \
         0400}]}}, {name: f, downwardAPI: {defaultMode: 0400, items: [{path: cpu, resourceFieldRef: {containerName: \
         c, resource: limits.cpu, divisor: 1m}}, {path: labels, fieldRef: {fieldPath: metadata.labels}}]}}, \
         {name: g, projected: {sources: [{configMap: {name: m}}]}}], containers: [{$c}]",
    );
    let config = |secret, name: &str, optional| ConfigRef { secret, name: name.into(), optional };
    let item = Item { key: "k".into(), path: "i/am/well/behaved.txt".into(), mode: Some(0o400) };
    let cpu = DownwardItem {
        path: "cpu".into(),
        mode: None,
        value: DownwardValue::Resource(ResourceField {
            container: "c".into(),
            limit: true,
            measure: Measure::Cpu,
            divisor: 1,
        }),
    };
    let labels = DownwardItem {
        path: "labels".into(),
        mode: None,
        value: DownwardValue::Field("metadata.labels".into()),
    };
    let expected = [
        VolumeSource::EmptyDir { medium: Medium::HugePages(None), limit: None },
        VolumeSource::EmptyDir { medium: Medium::HugePages(Some(1 << 30)), limit: None },
        VolumeSource::Image { reference: "i:1".into(), pull: PullPolicy::Never },
        VolumeSource::Image { reference: "i".into(), pull: PullPolicy::Always },
        VolumeSource::Projected {
            plugin: Plugin::Secret,
            sources: vec![Projection::Config { config: config(true, "s", true), items: vec![item] }],
            mode: 0o644,
        },
        VolumeSource::Projected {
            plugin: Plugin::DownwardApi,
            sources: vec![Projection::Downward(vec![cpu, labels])],
            mode: 0o400,
        },
        VolumeSource::Projected {
            plugin: Plugin::Projected,
            sources: vec![Projection::Config { config: config(false, "m", false), items: vec![] }],
            mode: 0o644,
        },
    ];
    let found: Vec<&VolumeSource> = pod.volumes.iter().map(|volume| &volume.source).collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}

/// Kubernetes' pkg/api/pod, TestHasAPIReferences: what refers to an object of an API server.
#[test]
fn g1_references() {
    let volume = |source: &str| format!("volumes: [{{name: v, {source}}}], containers: [{{$c}}]");
    let refused_ones = [
        "serviceAccountName: default, containers: [{$c}]".to_owned(),
        volume("glusterfs: {endpoints: e, path: p}"),
        volume("persistentVolumeClaim: {claimName: c}"),
        volume("csi: {driver: d}"),
        volume("azureFile: {secretName: s, shareName: a}"),
        "serviceAccount: default, containers: [{$c}]".into(),
        "containers: [{$c, resources: {claims: [{name: a}]}}]".into(),
        volume("ephemeral: {volumeClaimTemplate: {spec: {}}}"),
        volume("projected: {sources: [{clusterTrustBundle: {path: p}}]}"),
        volume("projected: {sources: [{podCertificate: {keyType: ED25519, signerName: a/b}}]}"),
        volume("projected: {sources: [{serviceAccountToken: {path: p}}]}"),
    ];
    for spec in refused_ones {
        let (pods, problems) = parsed(&spec);
        assert!(pods.is_empty(), "accepted: {spec}");
        assert!(
            problems.iter().any(|problem| problem.message.contains("PreventStaticPodAPIReferences")),
            "{spec}"
        );
    }
    accepted(&[&volume("projected: {sources: [{downwardAPI: {items: []}}]}"), "containers: [{$c}]"]);
    accepted(&[&volume("hostPath: {path: /v}"), &volume("emptyDir: {}"), &volume("downwardAPI: {}")]);
    accepted(&[&volume("image: {reference: i}"), "containers: [{$c}]"]);
    // Row 16: those of other machines, too.
    for source in [
        "nfs: {server: s, path: /p}",
        "iscsi: {targetPortal: t, iqn: q, lun: 0}",
        "fc: {targetWWNs: [w], lun: 0}",
        "rbd: {monitors: [m], image: i}",
        "cephfs: {monitors: [m]}",
        "gitRepo: {repository: r}",
        "flexVolume: {driver: d}",
        "cinder: {volumeID: v}",
    ] {
        let (pods, problems) = parsed(&volume(source));
        let kind = source.split(':').next().unwrap();
        assert!(pods.is_empty(), "accepted: {source}");
        assert!(problems.iter().any(|problem| problem.field.ends_with(kind)), "{source}: {problems:?}");
    }
    for (spec, _) in DIFFERENT.iter().filter(|(spec, _)| !spec.contains("nfs")) {
        one(spec);
    }
    for (spec, _) in DIFFERENT.iter().filter(|(spec, _)| spec.contains("nfs")) {
        assert!(parsed(spec).0.is_empty(), "accepted: {spec}");
    }
}

/// Refused where the kubelet takes it, one by one with the reason in docs/differences.md.
#[test]
fn what_a_kubelet_takes_and_podinit_refuses() {
    let mount = |path: &str| {
        format!(
            "volumes: [{{name: v}}], containers: [{{$c, volumeMounts: [{{name: v, mountPath: {path}}}]}}]"
        )
    };
    refused(&[
        (
            &mount("/"),
            "spec.containers[0].volumeMounts[0].mountPath: would hide the whole image: mount below /",
        ),
        (
            "volumes: [{name: v, hostPath: }], containers: [{$c}]",
            "spec.volumes[0].hostPath: is empty: fill it in, or write emptyDir: {} for a temporary volume",
        ),
        ("overhead: {cpu: 1}, containers: [{$c}]", "spec.overhead: is not supported yet: remove it"),
        (
            "ephemeralContainers: [{name: e, image: i}], containers: [{$c}]",
            "spec.ephemeralContainers: cannot be given when a pod is created: remove it",
        ),
        (
            "containers: [{$c, resources: {limits: {2Mi: 128}}}]",
            "spec.containers[0].resources.limits.2Mi: \"2Mi\" is not a resource that is supported: cpu, memory, ephemeral-storage and hugepages-<size> are",
        ),
    ]);
}

/// What the kubelet answers the other way round, and why podinit does not.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "volumes: [{name: v, secret: {secretName: s}}], containers: [{$c}]",
        "Secrets are documents of the directory",
    ),
    (
        "volumes: [{name: v, configMap: {name: m}}], containers: [{$c}]",
        "ConfigMaps are documents of the directory",
    ),
    ("volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}], containers: [{$c}]", "likewise"),
    ("volumes: [{name: v, projected: {sources: [{configMap: {name: m}}]}}], containers: [{$c}]", "likewise"),
    ("containers: [{$c, envFrom: [{configMapRef: {name: m}}]}]", "likewise"),
    ("containers: [{$c, envFrom: [{secretRef: {name: m}}]}]", "likewise"),
    ("containers: [{$c, env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}]", "likewise"),
    ("containers: [{$c, env: [{name: A, valueFrom: {secretKeyRef: {name: m, key: k}}}]}]", "likewise"),
    (
        "containers: [{$c, lifecycle: {stopSignal: SIGUSR1}}]",
        "nothing is gained by spec.os.name: there is one system",
    ),
    (
        "volumes: [{name: v, nfs: {server: s, path: /p}}], containers: [{$c}]",
        "network file systems are not mounted yet",
    ),
];
