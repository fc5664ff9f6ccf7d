//! Environment and command: `$(VAR)` expansion, fieldRef and resourceFieldRef, the image's part.

mod resource;

use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use super::envfile;
use super::resources::Allocatable;
use super::spec::{Config, ConfigRef, Container, EnvValue, Pod};
pub(super) use resource::resource_value;

/// What a process without a PATH of its own gets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container's first process is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, never empty.
    pub args: Vec<String>,
    /// No name twice: the image's in its order, then the pod's in theirs, then what was missing.
    pub env: Vec<(String, String)>,
    /// Absolute.
    pub cwd: String,
}

/// The addresses that `status.hostIP`, `.hostIPs`, `.podIP` and `.podIPs` tell; the first is the primary one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
}

/// What a pod's variables are read from.
pub struct Sources<'a> {
    pub addresses: &'a Addresses,
    pub allocatable: &'a Allocatable,
    /// Of all namespaces.
    pub configs: &'a [Arc<Config>],
    /// The content of a file in one of the pod's volumes, by the volume's name and the path in it; None: not there.
    pub file: &'a dyn Fn(&str, &str) -> Result<Option<Vec<u8>>, String>,
}

/// Names and values in their order, no name twice.
pub type Environment = Vec<(String, String)>;

/// The container's command, environment and working directory, as the kubelet and containerd make them of
/// PodSpec (command, args, workingDir), `own` (what `environment` made of env and envFrom) and OCI image configuration
/// (Entrypoint, Cmd, Env, WorkingDir). HOME is not set here: it depends on the image's /etc/passwd.
pub fn command(
    pod: &Pod,
    container: &Container,
    image: &ImageConfiguration,
    own: Environment,
) -> Result<Command, String> {
    // As in the kubelet, references see the pod's variables only, never the image's.
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| expand(word, |name| find(&own, name))).collect()
    };
    let config = image.config().as_ref();
    let of_image = |words: Option<&Option<Vec<String>>>| words.cloned().flatten().unwrap_or_default();

    let mut args = expanded(&container.command);
    let mut rest = expanded(&container.args);
    if args.is_empty() {
        if rest.is_empty() {
            rest = of_image(config.map(|config| config.cmd()));
        }
        args = of_image(config.map(|config| config.entrypoint()));
        // Docker's way to reset an inherited entrypoint.
        if args.len() == 1 && args.first().is_some_and(String::is_empty) {
            args.clear();
        }
    }
    args.append(&mut rest);
    if args.is_empty() {
        return Err("no command specified".into());
    }

    let mut env = Vec::new();
    for line in of_image(config.map(|config| config.env())) {
        let (name, value) = line.split_once('=').unwrap_or((line.as_str(), ""));
        set(&mut env, name, value.to_owned());
    }
    for (name, value) in own {
        set(&mut env, &name, value);
    }
    let mut default = |name: &str, value: &str| {
        if find(&env, name).is_none() {
            env.push((name.to_owned(), value.to_owned()));
        }
    };
    default("PATH", PATH);
    default("HOSTNAME", &pod.hostname);
    if container.tty {
        default("TERM", "xterm");
    }

    let of_image = config.and_then(|config| config.working_dir().as_deref()).unwrap_or_default();
    let cwd = container.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(of_image);
    let cwd = if cwd.starts_with('/') { cwd.to_owned() } else { format!("/{cwd}") };
    Ok(Command { args, env, cwd })
}

/// Replaces each `$(NAME)` that `lookup` knows; `$$` stands for `$`; everything else stays as it is
/// (Kubernetes API, Container.args). Values are not expanded again.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The pod's own variables: envFrom's, then env's in order of declaration; of a name given twice the last value counts.
/// An error is the message of a CreateContainerConfigError.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Environment, String> {
    let &Sources { addresses, allocatable, .. } = sources;
    let mut env = Vec::new();
    for from in &container.env_from {
        for (key, value) in config(pod, &from.config, sources)?.iter().flat_map(|config| &config.data) {
            let name = format!("{}{key}", from.prefix);
            // The kubelet skips them too (its event InvalidEnvironmentVariableNames): a key may be a file's name only.
            if variable(&name) {
                set(&mut env, &name, text(value));
            }
        }
    }
    for var in &container.env {
        let value = match &var.value {
            EnvValue::Literal(text) => expand(text, |name| find(&env, name)),
            EnvValue::Config { config: wanted, key } => {
                match config(pod, wanted, sources)?.map(|config| config.data.get(key)) {
                    Some(Some(value)) => text(value),
                    None => continue,
                    Some(None) if wanted.optional => continue,
                    Some(None) => {
                        let kind = if wanted.secret { "Secret" } else { "ConfigMap" };
                        let (namespace, name) = (&pod.namespace, &wanted.name);
                        return Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"));
                    }
                }
            }
            EnvValue::File { volume, path, key, optional } => {
                match of_file(sources, (volume, path), key)
                    .map_err(|why| format!("env {}: {why}", var.name))?
                {
                    Some(value) => value,
                    None if *optional => continue,
                    None => {
                        let why = format!("key {key:?} not found in {path:?} of volume {volume:?}");
                        return Err(format!("env {}: {why}", var.name));
                    }
                }
            }
            EnvValue::Field(path) => field(pod, path, addresses)?,
            EnvValue::Resource { container: name, resource, divisor } => {
                let of = if name.is_empty() { Some(container) } else { pod.container(name) };
                let of = of.ok_or_else(|| format!("env {}: container {name:?} not found", var.name))?;
                resource_value(pod, of, resource, divisor, allocatable)
                    .map_err(|why| format!("env {}: {why}", var.name))?
            }
        };
        set(&mut env, &var.name, value);
    }
    Ok(env)
}

/// The ConfigMap or Secret of the pod's namespace; None: it is not there, and need not be.
fn config<'a>(pod: &Pod, wanted: &ConfigRef, sources: &Sources<'a>) -> Result<Option<&'a Config>, String> {
    let found = sources.configs.iter().find(|config| {
        config.secret == wanted.secret && config.namespace == pod.namespace && config.name == wanted.name
    });
    match found {
        Some(config) => Ok(Some(config)),
        None if wanted.optional => Ok(None),
        None => {
            Err(format!("{} {:?} not found", if wanted.secret { "secret" } else { "configmap" }, wanted.name))
        }
    }
}

/// The value of a fileKeyRef; None: there is no such file, or no such key in it.
fn of_file(sources: &Sources, (volume, path): (&str, &str), key: &str) -> Result<Option<String>, String> {
    let Some(content) = (sources.file)(volume, path)? else { return Ok(None) };
    let content =
        String::from_utf8(content).map_err(|_| format!("{path:?} of volume {volume:?} is not UTF-8"))?;
    envfile::value(&content, key).map_err(|why| format!("{path:?} of volume {volume:?}: {why}"))
}

/// Whether it can be a variable's name (Kubernetes' relaxed rule).
fn variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// A value of a ConfigMap or Secret as a variable: what is not UTF-8 cannot be told, and NUL would end it.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace('\0', "")
}

/// The value of a fieldRef.fieldPath; a label or annotation that is not there is empty.
pub(super) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let meta = &pod.object.metadata;
    let spec = pod.object.spec.as_ref();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {map:?} does not support subscript")),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_else(|| pod.name.clone()),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_else(|| pod.namespace.clone()),
        "metadata.uid" => meta.uid.clone().unwrap_or_else(|| pod.uid.clone()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" => first(&addresses.host_ips),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => first(&addresses.pod_ips),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn find(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::tests::{container, pod};
    use crate::pod::spec::{EnvFrom, EnvVar, Resources};

    #[test]
    fn expansion() {
        let vars =
            [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];
        let table = [
            ("", ""),
            ("no variables", "no variables"),
            ("$(VAR_A)", "A"),
            ("$(VAR_A)-1", "A-1"),
            ("___$(VAR_B)___", "___B___"),
            ("___$(VAR_C)", "___C"),
            ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
            ("f000-$$VAR_A", "f000-$VAR_A"),
            ("foo\\$(VAR_C)bar", "foo\\Cbar"),
            ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
            ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
            ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
            ("f00__(VAR_A)__", "f00__(VAR_A)__"),
            ("$?_boo_$!", "$?_boo_$!"),
            ("$VAR_A", "$VAR_A"),
            ("$(VAR_DNE)", "$(VAR_DNE)"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
            ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
            ("$$$$$$$(VAR_A)", "$$$A"),
            ("$VAR_A)", "$VAR_A)"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_B)_______$(A", "B_______$(A"),
            ("$(VAR_C)_______$(", "C_______$("),
            ("$(VAR_A)foobarzab$", "Afoobarzab$"),
            ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
            ("--$($($($($--", "--$($($($($--"),
            ("$()", "$()"),
            ("$(foo$$var)", "$(foo$$var)"),
            ("\n", "\n"),
            ("$£FOO", "$£FOO"),
            ("prefix-$€-suffix", "prefix-$€-suffix"),
            ("$中文", "$中文"),
        ];
        for (text, expected) in table {
            let lookup =
                |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, v)| v.to_string());
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    fn literal(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: EnvValue::Literal(value.into()) }
    }

    fn from_field(name: &str, path: &str) -> EnvVar {
        EnvVar { name: name.into(), value: EnvValue::Field(path.into()) }
    }

    fn image(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        ImageConfiguration::from_reader(text.as_bytes()).unwrap()
    }

    fn addresses() -> Addresses {
        Addresses {
            host_ips: vec!["10.0.0.1".into(), "fd00::1".into()],
            pod_ips: vec!["1.2.3.4".into(), "fd00::6".into()],
        }
    }

    const NODE: Allocatable = Allocatable { cpu_milli: 4000, memory: 1 << 30, storage: 8 << 30 };

    fn sources<'a>(addresses: &'a Addresses, configs: &'a [Arc<Config>]) -> Sources<'a> {
        Sources { addresses, allocatable: &NODE, configs, file: &in_volume }
    }

    fn in_volume(volume: &str, path: &str) -> Result<Option<Vec<u8>>, String> {
        match (volume, path) {
            ("data", "config.env") => Ok(Some(b"CONFIG_1='value1'\nCONFIG_2='$(A)'\n".to_vec())),
            ("data", "bad.env") => Ok(Some(b"CONFIG_1=value1\n".to_vec())),
            ("data", _) => Ok(None),
            _ => Err(format!("volume {volume:?} is no emptyDir of the pod")),
        }
    }

    fn configs() -> Vec<Arc<Config>> {
        let config = |secret: bool, name: &str, data: &[(&str, &str)]| {
            let data = data.iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect();
            Arc::new(Config {
                secret,
                namespace: "default".into(),
                name: name.into(),
                data,
                ..Config::default()
            })
        };
        vec![
            config(
                false,
                "map",
                &[("REPLACE_ME", "FROM_CONFIG_MAP"), ("DUPE_TEST", "CONFIG_MAP"), ("a=b", "no")],
            ),
            config(true, "map", &[("REPLACE_ME", "FROM_SECRET"), ("REF", "$(REPLACE_ME)")]),
        ]
    }

    fn of_image(pod: &Pod, one: &Container, image: &ImageConfiguration) -> Result<Command, String> {
        command(pod, one, image, environment(pod, one, &sources(&addresses(), &configs()))?)
    }

    fn from(prefix: &str, secret: bool, name: &str, optional: bool) -> EnvFrom {
        EnvFrom { prefix: prefix.into(), config: ConfigRef { secret, name: name.into(), optional } }
    }

    fn from_key(name: &str, secret: bool, map: &str, key: &str, optional: bool) -> EnvVar {
        let config = ConfigRef { secret, name: map.into(), optional };
        EnvVar { name: name.into(), value: EnvValue::Config { config, key: key.into() } }
    }

    fn from_file(name: &str, volume: &str, path: &str, key: &str, optional: bool) -> EnvVar {
        let (volume, path, key) = (volume.into(), path.into(), key.into());
        EnvVar { name: name.into(), value: EnvValue::File { volume, path, key, optional } }
    }

    /// TestMakeEnvironmentVariables, the rows of envFrom; keys and files in the same way.
    #[test]
    fn variables_come_from_config_maps_secrets_and_files() {
        let dupe = literal("DUPE_TEST", "ENV_VAR");
        let expansion = literal("EXPANSION_TEST", "$(REPLACE_ME)");
        let maps = |secret| vec![from("p_", secret, "map", false), from("", secret, "map", false)];
        let table: Vec<(Vec<EnvFrom>, Vec<EnvVar>, Result<&[(&str, &str)], &str>)> = vec![
            (
                maps(false),
                vec![dupe, expansion.clone()],
                Ok(&[
                    ("p_DUPE_TEST", "CONFIG_MAP"),
                    ("p_REPLACE_ME", "FROM_CONFIG_MAP"),
                    ("DUPE_TEST", "ENV_VAR"),
                    ("REPLACE_ME", "FROM_CONFIG_MAP"),
                    ("EXPANSION_TEST", "FROM_CONFIG_MAP"),
                ]),
            ),
            (
                maps(true),
                vec![expansion],
                Ok(&[
                    ("p_REF", "$(REPLACE_ME)"),
                    ("p_REPLACE_ME", "FROM_SECRET"),
                    ("REF", "$(REPLACE_ME)"),
                    ("REPLACE_ME", "FROM_SECRET"),
                    ("EXPANSION_TEST", "FROM_SECRET"),
                ]),
            ),
            (
                vec![from("1_", true, "map", false)],
                vec![],
                Ok(&[("1_REF", "$(REPLACE_ME)"), ("1_REPLACE_ME", "FROM_SECRET")]),
            ),
            (vec![from("", false, "none", false)], vec![], Err("configmap \"none\" not found")),
            (vec![from("", true, "none", false)], vec![], Err("secret \"none\" not found")),
            (vec![from("", true, "none", true)], vec![], Ok(&[])),
            (vec![], vec![from_key("A", true, "map", "REF", false)], Ok(&[("A", "$(REPLACE_ME)")])),
            (vec![], vec![from_key("A", false, "map", "no", true)], Ok(&[])),
            (vec![], vec![from_key("A", false, "none", "no", true)], Ok(&[])),
            (
                vec![],
                vec![from_key("A", false, "map", "no", false)],
                Err("couldn't find key no in ConfigMap default/map"),
            ),
            (
                vec![],
                vec![from_key("A", true, "map", "no", false)],
                Err("couldn't find key no in Secret default/map"),
            ),
            (vec![], vec![from_key("A", true, "none", "no", false)], Err("secret \"none\" not found")),
            (
                vec![],
                vec![
                    literal("A", "1"),
                    from_file("B", "data", "config.env", "CONFIG_2", false),
                    literal("C", "$(B)"),
                ],
                Ok(&[("A", "1"), ("B", "$(A)"), ("C", "$(A)")]),
            ),
            (vec![], vec![from_file("B", "data", "config.env", "CONFIG_3", true)], Ok(&[])),
            (vec![], vec![from_file("B", "data", "none", "CONFIG_1", true)], Ok(&[])),
            (
                vec![],
                vec![from_file("B", "data", "none", "CONFIG_1", false)],
                Err("env B: key \"CONFIG_1\" not found in \"none\" of volume \"data\""),
            ),
            (
                vec![],
                vec![from_file("B", "data", "bad.env", "CONFIG_1", true)],
                Err(
                    "env B: \"bad.env\" of volume \"data\": line 1: no single quote after =: write KEY='value'",
                ),
            ),
            (
                vec![],
                vec![from_file("B", "host", "x", "CONFIG_1", true)],
                Err("env B: volume \"host\" is no emptyDir of the pod"),
            ),
        ];
        for (env_from, env, expected) in table {
            let mut one = container("c", Resources::default());
            (one.env_from, one.env) = (env_from, env);
            let pod = pod(vec![one.clone()], vec![]);
            let found = environment(&pod, &one, &sources(&addresses(), &configs()));
            let expected = expected
                .map(|vars| {
                    vars.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>()
                })
                .map_err(str::to_owned);
            assert_eq!(found, expected, "{:?} {:?}", one.env_from, one.env);
        }
    }

    fn of(env: Vec<EnvVar>) -> Result<Vec<(String, String)>, String> {
        let mut one = container("c", Resources::default());
        one.env = env;
        let mut pod = pod(vec![one.clone()], vec![]);
        let labels = [("something".to_string(), "label value".to_string())];
        pod.object.metadata.labels = Some(labels.into());
        pod.object.metadata.annotations = Some([("Www.k8s.io/test".to_string(), "1".to_string())].into());
        environment(&pod, &one, &sources(&addresses(), &configs()))
    }

    #[test]
    fn variables_see_those_before_them() {
        let table = [
            (
                vec![literal("A", "test-test-test"), literal("B", "literal-$(A)")],
                "B",
                "literal-test-test-test",
            ),
            (
                vec![from_field("N", "metadata.name"), literal("T", "test2-$(N)"), literal("U", "$(T)-3")],
                "U",
                "test2-web-board1-3",
            ),
            (vec![literal("T", "$(LATE)"), literal("LATE", "FOO")], "T", "$(LATE)"),
            (vec![literal("T", "$(UNDEFINED)")], "T", "$(UNDEFINED)"),
            (vec![literal("T", "$$(A) $(T)")], "T", "$(A) $(T)"),
            (vec![literal("T", "1"), literal("T", "$(T)2")], "T", "12"),
        ];
        for (env, name, expected) in table {
            assert_eq!(find(&of(env.clone()).unwrap(), name).as_deref(), Some(expected), "{env:?}");
        }
    }

    #[test]
    fn field_paths() {
        let table = [
            ("metadata.name", Ok("web-board1")),
            ("metadata.namespace", Ok("default")),
            ("metadata.uid", Ok("uid1")),
            ("metadata.labels['something']", Ok("label value")),
            ("metadata.labels['missing']", Ok("")),
            ("metadata.annotations['Www.k8s.io/test']", Ok("1")),
            ("spec.nodeName", Ok("")),
            ("status.hostIP", Ok("10.0.0.1")),
            ("status.hostIPs", Ok("10.0.0.1,fd00::1")),
            ("status.podIP", Ok("1.2.3.4")),
            ("status.podIPs", Ok("1.2.3.4,fd00::6")),
            ("metadata.whoops", Err("unsupported fieldPath: metadata.whoops")),
            ("metadata.labels['key']foo", Err("unsupported fieldPath: metadata.labels['key']foo")),
            (
                "metadata.notexisting['x']",
                Err("fieldPath \"metadata.notexisting\" does not support subscript"),
            ),
        ];
        for (path, expected) in table {
            let found = of(vec![from_field("X", path)]).map(|env| env[0].1.clone());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
        }
    }

    #[test]
    fn command_and_image() {
        let both = r#"{"Entrypoint":["entry"],"Cmd":["cmd"]}"#;
        let reset = r#"{"Entrypoint":[""],"Cmd":["cmd"]}"#;
        // The image's config, command, args, what is run.
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Result<&'a [&'a str], &'a str>);
        let table: [Row; 8] = [
            (both, &[], &[], Ok(&["entry", "cmd"])),
            (both, &["mine"], &[], Ok(&["mine"])),
            (both, &[], &["mine"], Ok(&["entry", "mine"])),
            (both, &["a", "$(V)"], &["$(V)$(W)", "$(PATH)"], Ok(&["a", "zoo", "zoo$(W)", "$(PATH)"])),
            (reset, &[], &[], Ok(&["cmd"])),
            ("{}", &[], &["only"], Ok(&["only"])),
            ("{}", &[], &[], Err("no command specified")),
            (r#"{"Cmd":["cmd"],"Env":["PATH=/x"]}"#, &[], &[], Ok(&["cmd"])),
        ];
        for (config, command_words, args, expected) in table {
            let mut one = container("c", Resources::default());
            one.command = command_words.iter().map(|s| s.to_string()).collect();
            one.args = args.iter().map(|s| s.to_string()).collect();
            one.env = vec![literal("V", "zoo")];
            let pod = pod(vec![one.clone()], vec![]);
            let found = of_image(&pod, &one, &image(config)).map(|command| command.args);
            let expected = expected.map(|words| words.iter().map(|s| s.to_string()).collect::<Vec<_>>());
            assert_eq!(found, expected.map_err(str::to_owned), "{config} {command_words:?} {args:?}");
        }
    }

    #[test]
    fn image_environment_is_the_base() {
        let config = r#"{"Cmd":["c"],"Env":["A=1","B=2=3","EMPTY"],"WorkingDir":"/srv"}"#;
        let mut one = container("c", Resources::default());
        one.env = vec![literal("C", "$(A)"), literal("A", "mine")];
        one.tty = true;
        let pod = pod(vec![one.clone()], vec![]);
        let found = of_image(&pod, &one, &image(config)).unwrap();
        let expected = [
            ("A", "mine"),
            ("B", "2=3"),
            ("EMPTY", ""),
            ("C", "$(A)"),
            ("PATH", PATH),
            ("HOSTNAME", "web-board1"),
            ("TERM", "xterm"),
        ];
        assert_eq!(found.env, expected.map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(found.cwd, "/srv");
        for (dir, expected) in [(Some("/own"), "/own"), (Some("rel"), "/rel"), (Some(""), "/srv")] {
            one.working_dir = dir.map(str::to_owned);
            assert_eq!(of_image(&pod, &one, &image(config)).unwrap().cwd, expected);
        }
        one.working_dir = None;
        assert_eq!(of_image(&pod, &one, &image(r#"{"Cmd":["c"]}"#)).unwrap().cwd, "/");
    }
}
