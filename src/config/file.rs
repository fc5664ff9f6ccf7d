//! The configuration file: documents of KubeletConfiguration (for pods) and MachineConfiguration (for the machine).

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{Config, fields, known};

/// What a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kubelet,
    Machine,
}

const KUBELET: (&str, &str) = ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration");
const MACHINE: (&str, &str) = ("podinit.dev/v1alpha1", "MachineConfiguration");

/// Applies each document of `text` to `config`; `file` is only what complaints are named by. A bad value leaves its
/// field as it was, and nothing but its line is lost.
pub fn apply(config: &mut Config, text: &str, file: &str, warnings: &mut Vec<String>) {
    let (documents, broken) = documents(text);
    for one in &documents {
        document(config, one, file, warnings);
    }
    if let Some((line, why)) = broken {
        warnings.push(format!("{file}:{line}: not YAML: {why}; what follows is left out"));
    }
}

#[derive(Debug, Default)]
struct Document {
    /// Of all mappings, those without a value too.
    keys: Vec<Key>,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Key {
    /// The path of its mapping.
    parent: String,
    name: String,
    line: usize,
}

/// One scalar of a document: its path like `crashLoopBackOff.maxContainerRestartPeriod` or `modules[0]`.
#[derive(Debug)]
struct Field {
    path: String,
    line: usize,
    text: String,
}

fn document(config: &mut Config, document: &Document, file: &str, warnings: &mut Vec<String>) {
    let fields = &document.fields;
    let text =
        |path: &str| fields.iter().find(|field| field.path == path).map_or("", |field| field.text.as_str());
    let (kind, set): (_, fn(&mut Config, &str, &str) -> _) = match (text("apiVersion"), text("kind")) {
        KUBELET => (Kind::Kubelet, fields::kubelet),
        MACHINE => (Kind::Machine, fields::machine),
        (version, kind) => {
            let Some(first) = fields.first() else { return };
            warnings.push(format!(
                "{file}:{}: apiVersion {version:?}, kind {kind:?}: unknown, the document is left out; use {} {} or {} {}",
                first.line, KUBELET.0, KUBELET.1, MACHINE.0, MACHINE.1
            ));
            return;
        }
    };
    let former = config.image_gc;
    let about = |path: &str| matches!(path, "apiVersion" | "kind");
    let mut unknown: Vec<String> = Vec::new();
    let within = |unknown: &[String], path: &str| {
        let below = |other: &String| path.strip_prefix(other.as_str());
        unknown.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for key in &document.keys {
        let path = join(&key.parent, &key.name);
        if !about(&path) && !known::known(kind, &path) && !within(&unknown, &path) {
            let said = known::unknown(kind, &key.parent, &key.name);
            warnings.push(format!("{file}:{}: {path}: {said}", key.line));
            unknown.push(path);
        }
    }
    for field in fields.iter().filter(|field| !about(&field.path) && !within(&unknown, &field.path)) {
        let said = match set(config, &field.path, &field.text) {
            None => match known::idle(kind, &field.path) {
                Some(why) => format!("has no effect: {why}"),
                None => format!("{}; the default stays", known::misshapen(kind, &field.path)),
            },
            Some(Err(why)) => format!("{why}; the default stays"),
            Some(Ok(())) => continue,
        };
        warnings.push(format!("{file}:{}: {}: {said}", field.line, field.path));
    }
    if let Err((path, why)) = config.image_gc.check() {
        // Of two that do not go together the later one is named.
        let of = |field: &&Field| path.contains(&field.path.as_str());
        let line = fields.iter().filter(of).map(|field| field.line).max().unwrap_or_default();
        warnings.push(format!("{file}:{line}: {}: {why}; the defaults of both stay", path.join(", ")));
        config.image_gc.forget(path, former);
    }
    // A kubelet does not start then.
    let parallel = fields.iter().find(|field| field.path == "maxParallelImagePulls");
    if let Some(field) = parallel.filter(|_| config.serialize_pulls == Some(true))
        && config.max_parallel_pulls > Some(1)
    {
        let said =
            "cannot be larger than 1 unless serializeImagePulls is false: one image at a time is pulled";
        warnings.push(format!("{file}:{}: {}: {said}", field.line, field.path));
    }
}

/// Where the parser stands: in a mapping (with the key whose value comes next) or in a sequence (with its next index).
enum Place {
    Mapping(Option<String>),
    Sequence(usize),
}

/// Every key and scalar of every document, and where the text stops being YAML. A document that breaks off counts for nothing.
fn documents(text: &str) -> (Vec<Document>, Option<(usize, String)>) {
    let mut documents = Vec::new();
    let mut document = Document::default();
    let mut places: Vec<Place> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => return (documents, Some((error.marker().line(), error.info().to_owned()))),
        };
        match event {
            Event::DocumentStart(_) => (document, places) = (Document::default(), Vec::new()),
            Event::DocumentEnd => documents.push(std::mem::take(&mut document)),
            Event::MappingStart(..) => places.push(Place::Mapping(None)),
            Event::SequenceStart(..) => places.push(Place::Sequence(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                places.pop();
                advance(&mut places);
            }
            Event::Scalar(text, style, ..) => match places.split_last_mut() {
                Some((Place::Mapping(key @ None), above)) => {
                    let line = span.start.line();
                    document.keys.push(Key { parent: path(above), name: text.clone().into_owned(), line });
                    *key = Some(text.into_owned());
                }
                _ => {
                    // Null, which is as good as not written.
                    if !(style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null")) {
                        document.fields.push(Field {
                            path: path(&places),
                            line: span.start.line(),
                            text: text.into_owned(),
                        });
                    }
                    advance(&mut places);
                }
            },
            Event::Alias(_) => {
                document.fields.push(Field {
                    path: path(&places),
                    line: span.start.line(),
                    text: String::new(),
                });
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
    places.iter().fold(String::new(), |path, place| match place {
        Place::Mapping(key) => join(&path, key.as_deref().unwrap_or_default()),
        Place::Sequence(index) => format!("{path}[{index}]"),
    })
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
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
            ("maxPod:", "config.yaml:3: maxPod: unknown field, left out: did you mean maxPods?"),
            ("a:\n  b: [1, {c: 2}]", "config.yaml:3: a: unknown field, left out"),
            ("usernamespaces: {idsPerPod: 65536}", "left out: did you mean userNamespaces?"),
            ("userNamespaces: {idsPerpod: 65536}", "left out: did you mean userNamespaces.idsPerPod?"),
            ("clusterDns: [10.0.0.10]", "clusterDns: unknown field, left out: did you mean clusterDNS?"),
            ("registryPullQps: 5", "left out: did you mean registryPullQPS?"),
            (
                "evictionHard:\n  memory.avail: 1Mi",
                "config.yaml:4: evictionHard.memory.avail: unknown field, left out: did you mean evictionHard.memory.available?",
            ),
            (
                "clusterDNS: 10.0.0.10",
                "config.yaml:3: clusterDNS: must be a list: write [VALUE]; the default stays",
            ),
            ("maxPods: [1]", "config.yaml:3: maxPods[0]: must be one value, not a list; the default stays"),
            (
                "systemReserved: 1Gi",
                "config.yaml:3: systemReserved: use cpu, memory, ephemeral-storage or pid; the",
            ),
            ("maxPods: {a: 1}", "config.yaml:3: maxPods.a: unknown field, left out"),
        ];
        for (line, part) in table {
            let (config, warnings) = read(&format!("{kubelet}{line}\n"));
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
            assert_eq!(config, Config::default(), "{line}");
        }
    }

    #[test]
    fn how_images_are_pulled_is_checked_as_the_kubelet_checks_it() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let both = "maxParallelImagePulls: cannot be larger than 1 unless serializeImagePulls is false";
        // Parallel pulls, pulls a second and at once; what is told.
        let table = [
            ("", (1, 5, 10), None),
            ("registryPullQPS: 0", (1, 0, 10), None),
            ("registryPullQPS: 2\nregistryBurst: 0", (1, 2, 0), None),
            ("registryPullQPS: -1", (1, 5, 10), Some("registryPullQPS: \"-1\" is no number from 0")),
            ("registryBurst: -1", (1, 5, 10), Some("registryBurst: \"-1\" is no number from 0")),
            (
                "maxParallelImagePulls: 0",
                (1, 5, 10),
                Some("maxParallelImagePulls: \"0\" is no number from 1"),
            ),
            ("maxParallelImagePulls: 1", (1, 5, 10), None),
            ("maxParallelImagePulls: 3", (3, 5, 10), None),
            ("serializeImagePulls: true\nmaxParallelImagePulls: 1", (1, 5, 10), None),
            ("maxParallelImagePulls: 2\nserializeImagePulls: true", (1, 5, 10), Some(both)),
            ("serializeImagePulls: false\nmaxParallelImagePulls: 2", (2, 5, 10), None),
            ("serializeImagePulls: false", (u32::MAX, 5, 10), None),
        ];
        for (lines, expected, told) in table {
            let (config, warnings) = read(&format!("{head}{lines}\n"));
            assert_eq!((config.parallel_pulls(), config.pull_qps, config.pull_burst), expected, "{lines}");
            assert_eq!(warnings.len(), usize::from(told.is_some()), "{lines}: {warnings:?}");
            assert!(told.is_none_or(|told| warnings[0].contains(told)), "{lines}: {warnings:?}");
        }
    }

    #[test]
    fn a_machines_field_is_suggested_too() {
        let machine = |line: &str| {
            let head = "apiVersion: podinit.dev/v1alpha1
kind: MachineConfiguration
";
            read(&format!(
                "{head}{line}
"
            ))
            .1
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
            (
                "staticPodURL: 'https://h/pods'\nhttpCheckFrequency: 1m\nstaticPodURLHeader: {X.y: [a, b], Z: [c]}",
                None,
            ),
            ("staticPodURL: h", Some("staticPodURL: \"h\" is no HTTP URL")),
            (
                "staticPodURLHeader: {X: hunter2}",
                Some("staticPodURLHeader.X: must be a mapping of lists: write {NAME: [VALUE]}; the default"),
            ),
            (
                "staticPodURLHeader: {a b: [hunter2]}",
                Some("staticPodURLHeader.a b[0]: \"a b\" is no header's name"),
            ),
            (
                "staticPodURLHeader: {a: [\"hunter2\\n\"]}",
                Some("staticPodURLHeader.a[0]: the value of a holds a control"),
            ),
            ("httpCheckFrequency: 0", Some("httpCheckFrequency: must be longer than 0")),
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
            (
                "evictionHard: {imagefs.available: 1Gi}",
                Some("evictionHard.imagefs.available: has no effect: nobody"),
            ),
            ("featureGates: {A: true}", Some("featureGates.A: has no effect: podinit has no gates")),
            ("qosReserved: {memory: 100%}", Some("qosReserved.memory: has no effect: no class keeps")),
            ("memoryThrottlingFactor: 0.9", Some("memoryThrottlingFactor: has no effect: memory is")),
            ("memoryReservationPolicy: TieredReservation", Some("memoryReservationPolicy: has no effect")),
            ("staticPodUrl: x", Some("staticPodUrl: unknown field, left out: did you mean staticPodURL?")),
        ] {
            let (_, warnings) = read(&format!("{head}{line}\n"));
            match told {
                None => assert_eq!(warnings, [""; 0], "{line}"),
                Some(told) => {
                    assert!(warnings.len() == 1 && warnings[0].contains(told), "{line}: {warnings:?}");
                    assert!(!warnings[0].contains("hunter2"), "{line}: {warnings:?}");
                }
            }
        }
        let (config, _) =
            read(&format!("{head}staticPodURL: http://h/\nstaticPodURLHeader: {{X.y: [a, b], Z: [c]}}\n"));
        let headers = [("X.y", "a"), ("X.y", "b"), ("Z", "c")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            (config.static_pod_url.as_deref(), config.static_pod_url_headers.0),
            (Some("http://h/"), headers.to_vec())
        );
        let (config, _) =
            read(&format!("{head}clusterDNS: [10.0.0.10]\nclusterDomain: .a.b.\nresolvConf: ''\n"));
        assert_eq!(
            (config.cluster_dns, config.cluster_domain, config.resolv_conf),
            (vec!["10.0.0.10".to_owned()], "a.b".to_owned(), None)
        );
    }
}
