//! What the pod's projected volumes should hold: ConfigMaps, Secrets and fields of the pod as files. Pure.
//!
//! Source: Kubernetes v1.36, pkg/volume/{configmap,secret,downwardapi,projected} and pkg/fieldpath.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::env::{self, Addresses};
use super::resources::Amounts;
use super::spec::{Config, ConfigRef, DownwardItem, DownwardValue, Item, Map, Pod, Projection, VolumeSource};

/// One file of a projected volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// Relative to the volume.
    pub path: String,
    pub data: Vec<u8>,
    /// Permission bits, before fsGroup adds its own.
    pub mode: u32,
}

/// The files of each projected volume, by the volume's name.
pub type Contents = BTreeMap<String, Vec<File>>;

/// Why a volume cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trouble {
    pub volume: String,
    /// In the kubelet's words: `configmap "x" not found`.
    pub why: String,
}

/// For each pod with projected volumes, by uid: what stands for their present contents. It differs where the contents
/// differ, also from trouble to trouble, so that a mended ConfigMap is news.
pub fn digests(pods: &[Arc<Pod>], configs: &[Arc<Config>]) -> BTreeMap<String, u64> {
    let with = pods.iter().filter(|pod| pod.volumes.iter().any(|volume| sources(&volume.source).is_some()));
    with.map(|pod| (pod.uid.clone(), digest(pod, configs))).collect()
}

/// The same of one pod. What the node has is left out: it does not change.
pub fn digest(pod: &Pod, configs: &[Arc<Config>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents(pod, configs, &Amounts::default()).hash(&mut hasher);
    hasher.finish()
}

/// All projected volumes of the pod. The first one that cannot be filled stands for all.
pub fn contents(pod: &Pod, configs: &[Arc<Config>], node: &Amounts) -> Result<Contents, Trouble> {
    let mut contents = Contents::new();
    for volume in &pod.volumes {
        let Some((sources, mode)) = sources(&volume.source) else { continue };
        let found = Ground { pod, configs, node }.files(sources, mode);
        let files = found.map_err(|why| Trouble { volume: volume.name.clone(), why })?;
        contents.insert(volume.name.clone(), files);
    }
    Ok(contents)
}

fn sources(source: &VolumeSource) -> Option<(&[Projection], u32)> {
    match source {
        VolumeSource::Projected { sources, mode, .. } => Some((sources, *mode)),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } | VolumeSource::Image { .. } => None,
    }
}

/// What the sources are read from.
struct Ground<'a> {
    pod: &'a Pod,
    configs: &'a [Arc<Config>],
    node: &'a Amounts,
}

impl Ground<'_> {
    /// Where two sources give the same path, the later one counts.
    fn files(&self, sources: &[Projection], mode: u32) -> Result<Vec<File>, String> {
        let mut files: BTreeMap<&str, File> = BTreeMap::new();
        let mut troubles = Vec::new();
        for source in sources {
            match self.of(source, mode) {
                Ok(found) => files.extend(found),
                Err(why) => troubles.push(why),
            }
        }
        match troubles.as_slice() {
            [] => Ok(files.into_values().collect()),
            [one] => Err(one.clone()),
            // As Kubernetes prints several errors, each once.
            all => Err(format!(
                "[{}]",
                all.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect::<Vec<_>>().join(", ")
            )),
        }
    }

    fn of<'s>(&'s self, source: &'s Projection, mode: u32) -> Result<Vec<(&'s str, File)>, String> {
        match source {
            Projection::Config { config, items } => self.config(config, items, mode),
            Projection::Downward(items) => items
                .iter()
                .map(|item| {
                    let data = self.value(item)?.into_bytes();
                    Ok(file(&item.path, data, item.mode.unwrap_or(mode)))
                })
                .collect(),
        }
    }

    fn config<'s>(
        &'s self,
        wanted: &ConfigRef,
        items: &'s [Item],
        mode: u32,
    ) -> Result<Vec<(&'s str, File)>, String> {
        let Some(config) = wanted.find(&self.pod.namespace, self.configs)? else { return Ok(Vec::new()) };
        if items.is_empty() {
            return Ok(config.data.iter().map(|(key, data)| file(key, data.clone(), mode)).collect());
        }
        let mut files = Vec::new();
        for item in items {
            match config.data.get(&item.key) {
                Some(data) => files.push(file(&item.path, data.clone(), item.mode.unwrap_or(mode))),
                None if wanted.optional => {}
                None => {
                    let kind = if wanted.secret { "secret" } else { "config" };
                    return Err(format!("references non-existent {kind} key: {}", item.key));
                }
            }
        }
        Ok(files)
    }

    fn value(&self, item: &DownwardItem) -> Result<String, String> {
        let meta = &self.pod.object.metadata;
        match &item.value {
            DownwardValue::Field(path) => match path.as_str() {
                "metadata.labels" => Ok(map_text(meta.labels.as_ref())),
                "metadata.annotations" => Ok(map_text(meta.annotations.as_ref())),
                _ => env::field(self.pod, path, &Addresses::default()),
            },
            DownwardValue::Resource(wanted) => env::resource(self.pod, wanted, self.node),
        }
    }
}

fn file(path: &str, data: Vec<u8>, mode: u32) -> (&str, File) {
    (path, File { path: path.to_owned(), data, mode })
}

/// `key="escaped"`, sorted by key, a line each, without a newline at the end.
fn map_text(map: Option<&Map>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// As Go's %q.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push('\''),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            // What Rust prints as it is, Go does too.
            _ if letter.escape_debug().count() == 1 => out.push(letter),
            _ => match u32::from(letter) {
                code @ ..0x80 => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x80..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
                code @ 0x1_0000.. => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::tests::{container, pod as pod_of};
    use crate::pod::spec::{Measure, Plugin, ResourceField, Resources, Volume};

    const NODE: Amounts =
        Amounts { cpu_milli: 4000, memory: 1 << 30, storage: 8 << 30, huge_pages: BTreeMap::new() };

    fn config(secret: bool, name: &str, data: &[(&str, &str)]) -> Arc<Config> {
        let data = data.iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect();
        Arc::new(Config { secret, namespace: "default".into(), name: name.into(), data, ..Config::default() })
    }

    fn from(secret: bool, name: &str, optional: bool, items: &[(&str, &str, Option<u32>)]) -> Projection {
        let item = |(key, path, mode): &(&str, &str, Option<u32>)| Item {
            key: key.to_string(),
            path: path.to_string(),
            mode: *mode,
        };
        Projection::Config {
            config: ConfigRef { secret, name: name.into(), optional },
            items: items.iter().map(item).collect(),
        }
    }

    fn downward(path: &str, value: DownwardValue) -> Projection {
        Projection::Downward(vec![DownwardItem { path: path.into(), mode: None, value }])
    }

    fn field(path: &str) -> DownwardValue {
        DownwardValue::Field(path.into())
    }

    fn with(sources: Vec<Projection>) -> Pod {
        let given =
            Resources { cpu_limit: Some(1500), memory_request: Some(101 << 20), ..Default::default() };
        let mut pod = pod_of(vec![container("c", given)], vec![]);
        let map = |entries: &[(&str, &str)]| {
            Some(entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
        };
        pod.object.metadata.labels = map(&[("b", "two"), ("a", "o\"ne\n")]);
        pod.object.metadata.annotations =
            map(&[("builder", "john-doe"), ("x", "tab\t\\ ü \u{a0} \u{7} \u{1}")]);
        let source = VolumeSource::Projected { plugin: Plugin::Projected, sources, mode: 0o644 };
        pod.volumes = vec![Volume { name: "v".into(), source }];
        pod
    }

    /// `path:mode=data` of each file, or the trouble.
    fn told(pod: &Pod, configs: &[Arc<Config>]) -> Result<Vec<String>, String> {
        let contents = contents(pod, configs, &NODE).map_err(|trouble| {
            assert_eq!(trouble.volume, "v");
            trouble.why
        })?;
        let show =
            |file: &File| format!("{}:{:o}={}", file.path, file.mode, String::from_utf8_lossy(&file.data));
        Ok(contents["v"].iter().map(show).collect())
    }

    #[test]
    fn config_maps_and_secrets() {
        let configs = [
            config(false, "app", &[("a.conf", "one"), ("b", "two")]),
            config(true, "key", &[("tls.key", "secret")]),
            Arc::new(Config { namespace: "other".into(), ..(*config(false, "far", &[("x", "y")])).clone() }),
        ];
        let table: Vec<(Vec<Projection>, Result<&[&str], &str>)> = vec![
            (vec![from(false, "app", false, &[])], Ok(&["a.conf:644=one", "b:644=two"])),
            (vec![from(false, "app", false, &[("b", "deep/b", Some(0o400))])], Ok(&["deep/b:400=two"])),
            (vec![from(true, "key", false, &[])], Ok(&["tls.key:644=secret"])),
            (vec![from(false, "gone", false, &[])], Err("configmap \"gone\" not found")),
            (vec![from(true, "app", false, &[])], Err("secret \"app\" not found")),
            (vec![from(false, "far", false, &[])], Err("configmap \"far\" not found")),
            (vec![from(false, "gone", true, &[])], Ok(&[])),
            (
                vec![from(false, "app", false, &[("k", "k", None)])],
                Err("references non-existent config key: k"),
            ),
            (
                vec![from(true, "key", false, &[("k", "k", None)])],
                Err("references non-existent secret key: k"),
            ),
            (vec![from(false, "app", true, &[("k", "k", None), ("b", "b", None)])], Ok(&["b:644=two"])),
            (
                vec![
                    from(false, "app", false, &[("b", "same", None)]),
                    from(true, "key", false, &[("tls.key", "same", None)]),
                ],
                Ok(&["same:644=secret"]),
            ),
            (
                vec![from(false, "gone", false, &[]), from(true, "lost", false, &[])],
                Err("[configmap \"gone\" not found, secret \"lost\" not found]"),
            ),
        ];
        for (sources, expected) in table {
            let pod = with(sources);
            let expected =
                expected.map(|files| files.iter().map(|file| file.to_string()).collect::<Vec<_>>());
            assert_eq!(told(&pod, &configs), expected.map_err(str::to_owned), "{:?}", pod.volumes);
        }
    }

    /// What files take of the pod: fieldRef paths and resourceFieldRef.
    #[test]
    fn downward_values() {
        let resource = |limit: bool, measure: Measure, divisor: u64| {
            DownwardValue::Resource(ResourceField { container: "c".into(), limit, measure, divisor })
        };
        let table = [
            (field("metadata.labels"), Ok("a=\"o\\\"ne\\n\"\nb=\"two\"")),
            (field("metadata.annotations"), Ok("builder=\"john-doe\"\nx=\"tab\\t\\\\ ü \\u00a0 \\a \\x01\"")),
            (field("metadata.labels['b']"), Ok("two")),
            (field("metadata.labels['none']"), Ok("")),
            (field("metadata.name"), Ok("web-board1")),
            (field("metadata.namespace"), Ok("default")),
            (field("metadata.uid"), Ok("uid1")),
            (field("metadata.whoops"), Err("unsupported fieldPath: metadata.whoops")),
            (resource(true, Measure::Cpu, 1000), Ok("2")),
            (resource(true, Measure::Cpu, 1), Ok("1500")),
            (resource(false, Measure::Memory, 100 << 20), Ok("2")),
            (resource(true, Measure::Memory, 1 << 20), Ok("1024")),
            (resource(true, Measure::Storage, 1 << 30), Ok("8")),
            (resource(false, Measure::HugePages(2 << 20), 1 << 20), Ok("0")),
        ];
        for (value, expected) in table {
            let found = told(&with(vec![downward("f", value.clone())]), &[]);
            let expected = expected.map(|text| vec![format!("f:644={text}")]).map_err(str::to_owned);
            assert_eq!(found, expected, "{value:?}");
        }
        let gone = ResourceField { container: "x".into(), limit: true, measure: Measure::Cpu, divisor: 1 };
        let gone = DownwardValue::Resource(gone);
        assert_eq!(told(&with(vec![downward("f", gone)]), &[]), Err("container x not found".into()));
    }

    #[test]
    fn the_digest_tells_contents_apart() {
        let pod = Arc::new(with(vec![from(false, "app", false, &[("a", "a", None)])]));
        let plain = Arc::new(pod_of(vec![], vec![]));
        let of = |configs: &[Arc<Config>]| digests(&[pod.clone(), plain.clone()], configs);
        let one = of(&[config(false, "app", &[("a", "1")])]);
        assert_eq!(one.keys().collect::<Vec<_>>(), ["uid1"]);
        assert_eq!(
            one,
            of(&[config(true, "app", &[("a", "3")]), config(false, "app", &[("a", "1"), ("b", "2")])])
        );
        let all = [
            one,
            of(&[config(false, "app", &[("a", "2")])]),
            of(&[config(false, "app", &[("b", "1")])]),
            of(&[]),
        ];
        let different: BTreeSet<_> = all.iter().map(|digests| digests["uid1"]).collect();
        assert_eq!(different.len(), all.len());
    }
}
