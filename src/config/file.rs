//! The configuration file: documents of KubeletConfiguration (for pods) and MachineConfiguration (for the machine).

use std::net::IpAddr;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{Config, Fixed, Network, flags, node, value};
use crate::spelling::nearest;

const KUBELET: (&str, &str) = ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration");
const MACHINE: (&str, &str) = ("podinit.dev/v1alpha1", "MachineConfiguration");

/// Applies each document of `text` to `config`; `file` is only what complaints are named by. A bad value leaves its
/// field as it was, and nothing but its line is lost.
pub fn apply(config: &mut Config, text: &str, file: &str, warnings: &mut Vec<String>) {
    let (documents, broken) = documents(text);
    for fields in &documents {
        document(config, fields, file, warnings);
    }
    if let Some((line, why)) = broken {
        warnings.push(format!("{file}:{line}: not YAML: {why}; what follows is left out"));
    }
}

/// One scalar of a document: its path like `crashLoopBackOff.maxContainerRestartPeriod` or `modules[0]`.
#[derive(Debug, PartialEq)]
struct Field {
    path: String,
    line: usize,
    text: String,
}

fn document(config: &mut Config, fields: &[Field], file: &str, warnings: &mut Vec<String>) {
    let text =
        |path: &str| fields.iter().find(|field| field.path == path).map_or("", |field| field.text.as_str());
    let kind = (text("apiVersion"), text("kind"));
    let set: fn(&mut Config, &str, &str) -> Option<Result<(), String>> = match kind {
        KUBELET => kubelet,
        MACHINE => machine,
        _ => {
            let Some(first) = fields.first() else { return };
            let (version, kind) = kind;
            warnings.push(format!(
                "{file}:{}: apiVersion {version:?}, kind {kind:?}: unknown, the document is left out; use {} {} or {} {}",
                first.line, KUBELET.0, KUBELET.1, MACHINE.0, MACHINE.1
            ));
            return;
        }
    };
    for field in fields.iter().filter(|field| !matches!(field.path.as_str(), "apiVersion" | "kind")) {
        let said = match set(config, &field.path, &field.text) {
            None => match idle(kind, &field.path) {
                Some(why) => format!("has no effect: {why}"),
                None => match meant(kind, &field.path) {
                    Some(name) => format!("unknown field, left out: did you mean {name}?"),
                    None => "unknown field, left out".into(),
                },
            },
            Some(Err(why)) => format!("{why}; the default stays"),
            Some(Ok(())) => continue,
        };
        warnings.push(format!("{file}:{}: {}: {said}", field.line, field.path));
    }
}

/// The fields that have an effect, each as `kubelet` or `machine` knows it; `[` begins a list's index, `.` a map's key.
const SET: [&[&str]; 2] = [
    &[
        "staticPodPath",
        "podLogsDir",
        "fileCheckFrequency",
        "containerLogMaxSize",
        "containerLogMaxFiles",
        "podPidsLimit",
        "crashLoopBackOff.maxContainerRestartPeriod",
        "shutdownGracePeriod",
        "shutdownGracePeriodCriticalPods",
        "clusterDomain",
        "clusterDNS[",
        "resolvConf",
        "systemReserved.",
        "kubeReserved.",
        "evictionHard.memory.available",
        "evictionHard.nodefs.available",
        "maxPods",
        "podsPerCore",
        "userNamespaces.idsPerPod",
        "singleProcessOOMKill",
        "cpuCFSQuota",
        "cpuCFSQuotaPeriod",
        "enforceNodeAllocatable[",
        "allowedUnsafeSysctls[",
    ],
    &[
        "hostname",
        "data",
        "network",
        "prompt",
        "network.address",
        "network.gateway",
        "network.dns[",
        "modules[",
    ],
];

/// The known field that an unknown one was probably meant to be.
fn meant(kind: (&str, &str), path: &str) -> Option<String> {
    let list = SET.get(usize::from(kind == MACHINE))?;
    let idle = IDLE.iter().filter(|_| kind == KUBELET).map(|(name, _)| *name);
    let known: Vec<&str> = list.iter().map(|name| name.trim_end_matches(['.', '['])).chain(idle).collect();
    let top = |path: &str| path.find(['.', '[']).map_or(path.len(), |end| end);
    let tops: Vec<&str> = known.iter().filter_map(|name| name.get(..top(name))).collect();
    let first = path.get(..top(path))?;
    match tops.contains(&first) {
        // Its own name is known, what is below it is not.
        true => nearest(path, &known).filter(|name| *name != first).map(str::to_owned),
        false => nearest(first, &tops).map(str::to_owned),
    }
}

/// Fields of KubeletConfiguration that are the kubelet's and ask for nothing here, with what does it instead; a name
/// stands for all below it too.
const IDLE: &[(&str, &str)] = &[
    ("syncFrequency", "what is wanted is compared with what is at every news"),
    ("enableServer", "the API over the network is not built yet"),
    ("address", "the API over the network is not built yet"),
    ("port", "the API over the network is not built yet"),
    ("readOnlyPort", "the API over the network is not built yet"),
    ("healthzPort", "the API over the network is not built yet"),
    ("healthzBindAddress", "the API over the network is not built yet"),
    ("authentication", "the API over the network is not built yet"),
    ("authorization", "the API over the network is not built yet"),
    ("tlsCertFile", "the API over the network is not built yet"),
    ("tlsPrivateKeyFile", "the API over the network is not built yet"),
    ("streamingConnectionIdleTimeout", "the API over the network is not built yet"),
    ("enableDebuggingHandlers", "the API over the network is not built yet"),
    ("staticPodURL", "pods are read from files only yet"),
    ("staticPodURLHeader", "pods are read from files only yet"),
    ("httpCheckFrequency", "pods are read from files only yet"),
    ("registryPullQPS", "images are not pulled yet"),
    ("registryBurst", "images are not pulled yet"),
    ("serializeImagePulls", "images are not pulled yet"),
    ("maxParallelImagePulls", "images are not pulled yet"),
    ("imageMinimumGCAge", "images are removed by the operator only yet"),
    ("imageMaximumGCAge", "images are removed by the operator only yet"),
    ("imageGCHighThresholdPercent", "images are removed by the operator only yet"),
    ("imageGCLowThresholdPercent", "images are removed by the operator only yet"),
    ("eventRecordQPS", "events are kept in memory, the newest"),
    ("eventBurst", "events are kept in memory, the newest"),
    ("oomScoreAdj", "the kernel never kills PID 1 for want of memory"),
    ("cgroupDriver", "the cgroup tree is podinit's own, as cgroupfs makes it"),
    ("cgroupsPerQOS", "there is always a cgroup for each class"),
    ("cgroupRoot", "on a board all cgroups are podinit's; off it --cgroup-root says where"),
    ("kubeletCgroups", "podinit has its own cgroup"),
    ("systemCgroups", "there are no other services"),
    ("failSwapOn", "pods get no swap in any case"),
    ("memorySwap", "pods get no swap in any case"),
    ("seccompDefault", "it is always on"),
    ("protectKernelDefaults", "podinit sets the kernel's defaults itself at boot"),
    ("evictionHard", "of it podinit keeps memory.available and nodefs.available free of pods' requests"),
    ("evictionSoft", "static pods are never evicted"),
    ("evictionSoftGracePeriod", "static pods are never evicted"),
    ("evictionMaxPodGracePeriod", "static pods are never evicted"),
    ("evictionMinimumReclaim", "static pods are never evicted"),
    ("evictionPressureTransitionPeriod", "static pods are never evicted"),
    ("containerLogMaxWorkers", "the logger looks at each write"),
    ("containerLogMonitorInterval", "the logger looks at each write"),
    ("containerRuntimeEndpoint", "podinit starts containers itself"),
    ("imageServiceEndpoint", "podinit keeps images itself"),
    ("runtimeRequestTimeout", "podinit starts containers itself"),
    ("featureGates", "podinit has no gates: what is on by default in Kubernetes is on"),
    ("logging", "--v or podinit.log= sets how much is logged"),
    ("shutdownGracePeriodByPodPriority", "there are two groups: critical pods, and the others before them"),
    ("makeIPTablesUtilChains", "podinit makes no rules of its own"),
    ("hairpinMode", "podinit makes no bridge"),
    ("nodeStatusUpdateFrequency", "there is no API server"),
    ("nodeStatusReportFrequency", "there is no API server"),
    ("nodeLeaseDurationSeconds", "there is no API server"),
    ("registerNode", "there is no API server"),
    ("rotateCertificates", "there is no API server"),
    ("qosReserved", "no class keeps memory from another"),
    ("memoryThrottlingFactor", "memory is bounded by limits only"),
    ("memoryReservationPolicy", "memory is bounded by limits only"),
    ("cpuManagerPolicy", "processors are not assigned one by one"),
    ("memoryManagerPolicy", "memory is not assigned by node"),
    ("topologyManagerPolicy", "processors are not assigned one by one"),
    ("volumeStatsAggPeriod", "volumes are not measured yet"),
    ("localStorageCapacityIsolation", "local storage is not measured yet"),
];

fn idle(kind: (&str, &str), path: &str) -> Option<&'static str> {
    let below = |name: &str| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    IDLE.iter().filter(|_| kind == KUBELET).find(|(name, _)| below(name)).map(|(_, why)| *why)
}

/// Sets a field of KubeletConfiguration; None: there is no such field, or podinit has no use for it.
fn kubelet(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
    Some(match path {
        "staticPodPath" => absolute(text).map(|path| config.manifests = path.into()),
        "podLogsDir" => absolute(text).map(|path| config.pod_logs = path.into()),
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
        _ if path.starts_with("clusterDNS[") => text
            .parse::<IpAddr>()
            .map(|server| config.cluster_dns.push(server.to_string()))
            .map_err(|_| format!("{text:?} is no IP address")),
        _ => return node::kubelet(config, path, text),
    })
}

/// Sets a field of MachineConfiguration; None: there is no such field.
fn machine(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
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

fn absolute(text: &str) -> Result<&str, String> {
    if text.starts_with('/') { Ok(text) } else { Err(format!("{text:?} is no absolute path")) }
}

fn positive(text: &str) -> Result<std::time::Duration, String> {
    let span = value::duration(text)?;
    if span.is_zero() { Err("must be longer than 0".into()) } else { Ok(span) }
}

pub(super) fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no number from {least} to {most}");
    text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
}

/// Where the parser stands: in a mapping (with the key whose value comes next) or in a sequence (with its next index).
enum Place {
    Mapping(Option<String>),
    Sequence(usize),
}

/// Every scalar of every document, and where the text stops being YAML. A document that breaks off counts for nothing.
fn documents(text: &str) -> (Vec<Vec<Field>>, Option<(usize, String)>) {
    let mut documents = Vec::new();
    let mut fields = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => return (documents, Some((error.marker().line(), error.info().to_owned()))),
        };
        match event {
            Event::DocumentStart(_) => (fields, places) = (Vec::new(), Vec::new()),
            Event::DocumentEnd => documents.push(std::mem::take(&mut fields)),
            Event::MappingStart(..) => places.push(Place::Mapping(None)),
            Event::SequenceStart(..) => places.push(Place::Sequence(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                places.pop();
                advance(&mut places);
            }
            Event::Scalar(text, style, ..) => match places.last_mut() {
                Some(Place::Mapping(key @ None)) => *key = Some(text.into_owned()),
                _ => {
                    // Null, which is as good as not written.
                    if !(style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null")) {
                        fields.push(Field {
                            path: path(&places),
                            line: span.start.line(),
                            text: text.into_owned(),
                        });
                    }
                    advance(&mut places);
                }
            },
            Event::Alias(_) => {
                fields.push(Field { path: path(&places), line: span.start.line(), text: String::new() });
                advance(&mut places);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }
    (documents, None)
}

/// A value has ended: the mapping waits for a key again, the sequence counts on.
fn advance(places: &mut [Place]) {
    match places.last_mut() {
        Some(Place::Mapping(key)) => *key = None,
        Some(Place::Sequence(index)) => *index += 1,
        None => {}
    }
}

fn path(places: &[Place]) -> String {
    let mut path = String::new();
    for place in places {
        match place {
            Place::Mapping(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key.as_deref().unwrap_or_default());
            }
            Place::Sequence(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(text: &str) -> (Config, Vec<String>) {
        let (mut config, mut warnings) = (Config::default(), Vec::new());
        apply(&mut config, text, "config.yaml", &mut warnings);
        (config, warnings)
    }

    #[test]
    fn both_kinds_are_read() {
        let (config, warnings) = read(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /m\n\
             fileCheckFrequency: 1m30s\ncontainerLogMaxSize: 5Mi\ncontainerLogMaxFiles: 3\npodPidsLimit: 100\n\
             crashLoopBackOff:\n  maxContainerRestartPeriod: 60s\nshutdownGracePeriod: 10s\n---\n\
             apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nhostname: Porch\ndata: store\n\
             modules:\n- i2c-dev\n- w1-gpio\nnetwork:\n  address: 192.168.1.5/24\n  gateway: 192.168.1.1\n  dns: [1.1.1.1]\n",
        );
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.manifests, std::path::Path::new("/m"));
        assert_eq!(config.file_check, Duration::from_secs(90));
        assert_eq!(
            (config.log_max_size, config.log_max_files, config.pod_pids_limit),
            (5 << 20, 3, Some(100))
        );
        assert_eq!(
            (config.restart_cap, config.ending_grace),
            (Duration::from_secs(60), Duration::from_secs(10))
        );
        assert_eq!(config.hostname.as_deref(), Some("porch"));
        assert_eq!(config.modules, ["i2c-dev", "w1-gpio"]);
        assert_eq!(config.network.to_string(), "192.168.1.5/24,192.168.1.1,1.1.1.1");
    }

    #[test]
    fn a_bad_value_is_told_and_keeps_the_default() {
        let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let table = [
            ("fileCheckFrequency: fast", "config.yaml:3: fileCheckFrequency: \"fast\" is no duration"),
            (
                "containerLogMaxFiles: 1",
                "config.yaml:3: containerLogMaxFiles: \"1\" is no number from 2 to 1000",
            ),
            ("containerLogMaxSize: 10MB", "config.yaml:3: containerLogMaxSize: \"10MB\" is no size"),
            ("staticPodPath: m", "config.yaml:3: staticPodPath: \"m\" is no absolute path"),
            ("crashLoopBackOff: {maxContainerRestartPeriod: 2h}", "use 1s to 300s; the default stays"),
            (
                "staticPodPth: /m",
                "config.yaml:3: staticPodPth: unknown field, left out: did you mean staticPodPath?",
            ),
            ("evictionHard: {memory.availabel: 1Gi}", "evictionHard.memory.availabel: has no effect"),
            ("usernamespaces: {idsPerPod: 65536}", "left out: did you mean userNamespaces?"),
            ("userNamespaces: {idsPerpod: 65536}", "left out: did you mean userNamespaces.idsPerPod?"),
            ("clusterDns: [10.0.0.10]", "clusterDns[0]: unknown field, left out: did you mean clusterDNS?"),
            ("registryPullQps: 5", "left out: did you mean registryPullQPS?"),
            ("a: {b: [1, {c: 2}]}", "config.yaml:3: a.b[0]: unknown field"),
        ];
        for (line, part) in table {
            let (config, warnings) = read(&format!("{kubelet}{line}\n"));
            assert!(warnings[0].contains(part), "{warnings:?}");
            assert_eq!(config, Config::default(), "{line}");
        }
    }

    #[test]
    fn what_is_suggested_is_known() {
        for (set, names) in [kubelet as fn(&mut Config, &str, &str) -> _, machine].into_iter().zip(SET) {
            for name in names {
                let path = match name.chars().last() {
                    Some('[') => format!("{name}0]"),
                    Some('.') => format!("{name}cpu"),
                    Some(_) | None => (*name).to_owned(),
                };
                assert!(set(&mut Config::default(), &path, "1").is_some(), "{path}");
            }
        }
        let machine = |line: &str| {
            let head = "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\n";
            read(&format!("{head}{line}\n")).1
        };
        assert_eq!(
            machine("hostnam: x"),
            ["config.yaml:3: hostnam: unknown field, left out: did you mean hostname?"]
        );
        assert_eq!(
            machine("network: {adress: 10.0.0.1/8}"),
            ["config.yaml:3: network.adress: unknown field, left out: did you mean network.address?"]
        );
        assert_eq!(machine("staticPodPath: /m"), ["config.yaml:3: staticPodPath: unknown field, left out"]);
    }

    #[test]
    fn what_is_not_a_configuration_is_told() {
        let (config, warnings) = read("kind: Pod\napiVersion: v1\n");
        assert!(
            warnings[0].starts_with("config.yaml:1: apiVersion \"v1\", kind \"Pod\": unknown"),
            "{warnings:?}"
        );
        assert_eq!(config, Config::default());
        let (_, warnings) = read("a: [1,\nb: }\n");
        assert!(warnings[0].contains("not YAML"), "{warnings:?}");
        assert_eq!(read("").1, Vec::<String>::new());
        assert_eq!(read("# nothing\n---\n").1.len(), 0);
    }

    #[test]
    fn what_is_the_kubelets_own_is_told_and_what_is_nobodys_too() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        for (line, told) in [
            ("clusterDNS: [10.0.0.10, 'fd00::a']", None),
            ("clusterDomain: cluster.local", None),
            ("resolvConf: ''", None),
            ("resolvConf: /run/resolv.conf", None),
            ("allowedUnsafeSysctls: ['net.core.*', kernel.sem]", None),
            ("shutdownGracePeriodCriticalPods: 10s", None),
            ("clusterDNS: [ten]", Some("clusterDNS[0]: \"ten\" is no IP address; the default stays")),
            ("resolvConf: run", Some("resolvConf: \"run\" is no absolute path; the default stays")),
            ("syncFrequency: 1m", Some("syncFrequency: has no effect: what is wanted")),
            (
                "authentication: {webhook: {enabled: false}}",
                Some("authentication.webhook.enabled: has no effect: the API"),
            ),
            ("featureGates: {A: true}", Some("featureGates.A: has no effect: podinit has no gates")),
            ("qosReserved: {memory: 100%}", Some("qosReserved.memory: has no effect: no class keeps")),
            ("memoryThrottlingFactor: 0.9", Some("memoryThrottlingFactor: has no effect: memory is")),
            ("memoryReservationPolicy: TieredReservation", Some("memoryReservationPolicy: has no effect")),
            ("staticPodUrl: x", Some("staticPodUrl: unknown field, left out: did you mean staticPodURL?")),
            ("evictionHard: {imagefs.available: 15%}", Some("evictionHard.imagefs.available: has no effect")),
        ] {
            let (_, warnings) = read(&format!("{head}{line}\n"));
            match told {
                None => assert_eq!(warnings, [""; 0], "{line}"),
                Some(told) => {
                    assert!(warnings.len() == 1 && warnings[0].contains(told), "{line}: {warnings:?}")
                }
            }
        }
        let (config, _) =
            read(&format!("{head}clusterDNS: [10.0.0.10]\nclusterDomain: .a.b.\nresolvConf: ''\n"));
        assert_eq!(
            (config.cluster_dns, config.cluster_domain, config.resolv_conf),
            (vec!["10.0.0.10".to_owned()], "a.b".to_owned(), None)
        );
    }
}
