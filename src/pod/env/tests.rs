//! Tables of variables, fields and commands, as the kubelet has them.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use super::command::PATH;
use super::*;
use crate::pod::resources::tests::{container, pod};
use crate::pod::spec::{ConfigRef, EnvFrom, EnvVar, Measure, ResourceField, Resources};

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

static NODE: Amounts =
    Amounts { cpu_milli: 4000, memory: 1 << 30, storage: 8 << 30, huge_pages: BTreeMap::new() };

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
        Arc::new(Config { secret, namespace: "default".into(), name: name.into(), data, ..Config::default() })
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
            Err("env B: \"bad.env\" of volume \"data\": line 1: no single quote after =: write KEY='value'"),
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
        (vec![literal("A", "test-test-test"), literal("B", "literal-$(A)")], "B", "literal-test-test-test"),
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
        ("metadata.notexisting['x']", Err("fieldPath \"metadata.notexisting\" does not support subscript")),
    ];
    for (path, expected) in table {
        let found = of(vec![from_field("X", path)]).map(|env| env[0].1.clone());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
    }
}

#[test]
fn a_variable_tells_a_limit() {
    let of = |container: &str| {
        let wanted = ResourceField {
            container: container.into(),
            limit: true,
            measure: Measure::Storage,
            divisor: 1 << 30,
        };
        of(vec![EnvVar { name: "X".into(), value: EnvValue::Resource(wanted) }])
    };
    assert_eq!(of("c"), Ok(vec![("X".to_owned(), "8".to_owned())]));
    assert_eq!(of("d"), Err("env X: container d not found".into()));
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
