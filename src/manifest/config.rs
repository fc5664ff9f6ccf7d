//! A ConfigMap or Secret to its decoded content.
//!
//! Read by hand, not by `shape`, because no message may show a Secret's value: they go to the log.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::check;
use super::report::Report;
use super::tree::{Entry, Node, Path, Value, quote};
use crate::pod::spec::Config;
use crate::spelling::nearest;

/// The types of Secrets that hold logins of registries, and the key of each.
const LOGINS: &[(&str, &str)] =
    &[("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];
/// The most that the values of one may take together: Kubernetes' MaxSecretSize.
const LARGEST: usize = 1 << 20;

const MAP: &[&str] = &["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"];
const SECRET: &[&str] = &["apiVersion", "kind", "metadata", "data", "stringData", "immutable", "type"];

/// None: it was refused, and the report says why.
pub fn read(report: &mut Report<'_>, secret: bool, origin: &str) -> Option<Config> {
    let root = report.root();
    let (namespace, name) = check::named(report, if secret { "a Secret" } else { "a ConfigMap" });
    let fields = if secret { SECRET } else { MAP };
    for entry in entries(Some(root)).iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
        let cure = match nearest(&entry.key, fields) {
            Some(field) => format!("did you mean {field}?"),
            None => "it has no effect".into(),
        };
        let message = format!("Kubernetes knows no field {} here: {cure}", quote(&entry.key));
        report.warn(&Path::default().entry(&entry.key), message);
    }
    if root.get("immutable").is_some_and(|node| !matches!(node.value, Value::Bool(_))) {
        report.refuse(&Path::of("immutable"), "is not true or false: change it");
    }
    if secret && root.get("type").is_some_and(|node| node.text().is_none()) {
        report.refuse(&Path::of("type"), "is not text: quote it");
    }
    let (mut data, mut binary) = (BTreeMap::new(), BTreeSet::new());
    let lists = if secret {
        [("data", true), ("stringData", false)]
    } else {
        [("binaryData", true), ("data", false)]
    };
    for (list, encoded) in lists {
        values(report, list, encoded, secret, &mut data);
        if list == "binaryData" {
            binary = data.keys().cloned().collect();
        }
    }
    let size = data.values().map(Vec::len).fold(0usize, usize::saturating_add);
    if size > LARGEST {
        report.refuse(&Path::of("data"), format!("holds {size} bytes: at most {LARGEST} are allowed"));
    }
    let kind =
        report.root().get("type").filter(|_| secret).and_then(Node::text).unwrap_or_default().to_owned();
    login(report, &kind, &data);
    (!report.refused()).then(|| Config { secret, kind, namespace, name, origin: origin.into(), data, binary })
}

/// Kubernetes' ValidateSecret for the types that hold logins of registries.
fn login(report: &mut Report<'_>, kind: &str, data: &BTreeMap<String, Vec<u8>>) {
    let Some((_, key)) = LOGINS.iter().find(|(of, _)| *of == kind) else { return };
    match data.get(*key).map(|bytes| serde_json::from_slice::<serde_json::Map<_, _>>(bytes)) {
        Some(Ok(_)) => {}
        Some(Err(why)) => {
            let (line, column) = (why.line(), why.column());
            let path = Path::of("data").entry(key);
            report.refuse(&path, format!("is no JSON object: see its line {line}, column {column}"));
        }
        None => {
            report.refuse(&Path::of("type"), format!("{} needs the key {}: add it", quote(kind), quote(key)))
        }
    }
}

/// Adds a list's values, decoded. A Secret's stringData, read last, wins over its data.
fn values(
    report: &mut Report<'_>,
    list: &str,
    encoded: bool,
    secret: bool,
    data: &mut BTreeMap<String, Vec<u8>>,
) {
    let node = report.root().get(list);
    let path = Path::of(list);
    if let Some(node) = node
        && !matches!(node.value, Value::Map(_))
    {
        report.refuse(&path, "is not a map: write it as \"name: value\" lines");
    }
    for entry in entries(node) {
        let path = path.entry(&entry.key);
        if let Err(why) = check::config_key(&entry.key) {
            report.refuse(&path, why);
        }
        let text = match &entry.node.value {
            Value::Text(text) => text.as_str(),
            Value::Null => "",
            Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                report.refuse(&path, "is not text: quote it");
                continue;
            }
        };
        let value = match (encoded, decode(text)) {
            (false, _) => text.as_bytes().to_vec(),
            (true, Some(bytes)) => bytes,
            (true, None) => {
                let plain = if secret { "stringData" } else { "data" };
                report.refuse(&path, format!("is not base64: write it as text in {plain}, or encode it"));
                continue;
            }
        };
        let before = data.insert(entry.key.clone(), value);
        if before.is_some() && !secret {
            report.refuse(&path, "is in binaryData too: remove one");
        }
    }
}

fn entries(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}

/// RFC 4648, section 4, with padding; line breaks, as YAML's blocks have them, are passed over.
fn decode(text: &str) -> Option<Vec<u8>> {
    let bare: String = text.chars().filter(|letter| !matches!(letter, '\n' | '\r')).collect();
    let read: Result<ByteString, serde::de::value::Error> =
        ByteString::deserialize(bare.as_str().into_deserializer());
    read.ok().map(|bytes| bytes.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    fn read(text: &str) -> (Option<Config>, Vec<String>) {
        let root = yaml::read(text, 1).unwrap().unwrap();
        let mut report = Report::new("f", &root, 0);
        let secret = text.contains("kind: Secret");
        let config = super::read(&mut report, secret, "f");
        (config, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_config_is_its_decoded_values() {
        let (config, problems) = read(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app.conf, namespace: edge}\nimmutable: true\n\
             data: {a.toml: \"x = 1\\n\", empty:, -: '1'}\nbinaryData: {logo.png: iVBORw==}\n",
        );
        assert_eq!(problems, [] as [&str; 0]);
        let config = config.unwrap();
        assert_eq!((config.namespace.as_str(), config.name.as_str()), ("edge", "app.conf"));
        let data: Vec<(&str, &[u8])> =
            config.data.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        assert_eq!(
            data,
            [("-", &b"1"[..]), ("a.toml", b"x = 1\n"), ("empty", b""), ("logo.png", b"\x89PNG")]
        );
        assert_eq!(config.texts().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["-", "a.toml", "empty"]);

        let (config, problems) = read(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: Opaque\n\
             data:\n  a: YQ==\n  b: |\n    aGVs\n    bG8=\nstringData: {a: plain}\n",
        );
        assert_eq!(problems, [] as [&str; 0]);
        let config = config.unwrap();
        assert_eq!((config.secret, config.namespace.as_str()), (true, "default"));
        assert_eq!(config.data["a"], b"plain");
        assert_eq!((config.data["b"].as_slice(), config.kind.as_str()), (&b"hello"[..], "Opaque"));
        for (kind, key) in LOGINS {
            let text =
                format!("kind: Secret\nmetadata: {{name: s}}\ntype: {kind}\nstringData: {{{key}: '{{}}'}}\n");
            let (config, problems) = read(&text);
            assert_eq!((config.map(|config| config.kind), problems), (Some((*kind).to_owned()), vec![]));
        }
    }

    #[test]
    fn a_bad_config_is_refused_and_no_secret_is_told() {
        let table = [
            ("kind: ConfigMap\nmetadata: {}", "metadata.name: a ConfigMap needs a name"),
            ("kind: Secret\nmetadata: {name: S}", "\"S\" is not a DNS subdomain"),
            (
                "kind: Secret\nmetadata: {name: s}\ndata: {a: hunter2}",
                "data.a: is not base64: write it as text in stringData",
            ),
            ("kind: Secret\nmetadata: {name: s}\ndata: {a: YQ}", "data.a: is not base64"),
            (
                "kind: Secret\nmetadata: {name: s}\nstringData: {a: 12345}",
                "stringData.a: is not text: quote it",
            ),
            ("kind: ConfigMap\nmetadata: {name: s}\ndata: {a: {b: c}}", "data.a: is not text"),
            ("kind: ConfigMap\nmetadata: {name: s}\ndata: [a]", "data: is not a map"),
            (
                "kind: ConfigMap\nmetadata: {name: s}\ndata: {..a: x}",
                "\"..a\" is not a key of a ConfigMap or Secret",
            ),
            ("kind: ConfigMap\nmetadata: {name: s}\ndata: {a/b: x}", "\"a/b\" is not a key"),
            ("kind: ConfigMap\nmetadata: {name: s}\nimmutable: x", "immutable: is not true or false"),
            (
                "kind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/dockerconfigjson\nstringData: {a: x}",
                "type: \"kubernetes.io/dockerconfigjson\" needs the key \".dockerconfigjson\": add it",
            ),
            (
                "kind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/dockercfg\nstringData: {.dockercfg: '[hunter2]'}",
                "data['.dockercfg']: is no JSON object: see its line 1, column",
            ),
            (
                "kind: ConfigMap\nmetadata: {name: s}\ndata: {a: x}\nbinaryData: {a: YQ==}",
                "data.a: is in binaryData too: remove one",
            ),
        ];
        for (text, expected) in table {
            let (config, problems) = read(text);
            assert_eq!(config, None, "{text}");
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
            assert!(!problems.iter().any(|problem| problem.contains("hunter2") || problem.contains("12345")));
        }
        let (config, problems) = read("kind: ConfigMap\nmetadata: {name: s}\ndatta: {}\ntype: x");
        assert!(config.is_some());
        assert_eq!(
            problems,
            [
                "f:3: datta: Kubernetes knows no field \"datta\" here: did you mean data?",
                "f:4: type: Kubernetes knows no field \"type\" here: it has no effect",
            ]
        );
        let big = format!("kind: ConfigMap\nmetadata: {{name: s}}\ndata: {{a: {}}}", "x".repeat(LARGEST + 1));
        assert!(read(&big).1[0].contains("holds 1048577 bytes: at most 1048576 are allowed"));
    }
}
