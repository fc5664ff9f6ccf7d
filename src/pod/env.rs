//! Environment and command: `$(VAR)` expansion, fieldRef and resourceFieldRef, the image's part.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use super::spec::{Container, EnvValue, EnvVar, Pod};

/// The search path of an image that names none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The machine's addresses and the pod's, the first one first.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
}

/// What a limit that is not set stands for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocatable {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; not empty.
    pub args: Vec<String>,
    /// Sorted by name; the last of equal names.
    pub env: Vec<(String, String)>,
    /// Absolute.
    pub cwd: String,
}

/// The command of a container: `command` replaces ENTRYPOINT and drops CMD, `args` replace CMD
/// (Kubernetes API, Container.command and .args).
pub fn command(
    pod: &Pod,
    container: &Container,
    image: &ImageConfiguration,
    addresses: &Addresses,
    node: &Allocatable,
) -> Result<Command, String> {
    let config = image.config().as_ref();
    let env = environment(pod, container, config.and_then(|c| c.env().as_deref()), addresses, node)?;
    let lookup = |name: &str| env.get(name).cloned();
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, lookup)).collect::<Vec<_>>();
    let entrypoint = config.and_then(|c| c.entrypoint().clone()).unwrap_or_default();
    let cmd = config.and_then(|c| c.cmd().clone()).unwrap_or_default();
    let args = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => [expanded(&container.command), expanded(&container.args)].concat(),
        (true, false) => [entrypoint, expanded(&container.args)].concat(),
        (true, true) => [entrypoint, cmd].concat(),
    };
    if args.is_empty() {
        return Err("no command specified".into());
    }
    let cwd = container.working_dir.clone().or_else(|| config.and_then(|c| c.working_dir().clone()));
    let cwd = cwd.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into());
    Ok(Command { args, env: env.into_iter().collect(), cwd })
}

/// `$(NAME)` from `lookup`, `$$` to `$`; what is unknown or unclosed stays as it is
/// (Kubernetes, third_party/forked/golang/expansion).
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
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

fn environment(
    pod: &Pod,
    container: &Container,
    image: Option<&[String]>,
    addresses: &Addresses,
    node: &Allocatable,
) -> Result<BTreeMap<String, String>, String> {
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for EnvVar { name, value } in &container.env {
        let value = match value {
            EnvValue::Literal(text) => expand(text, |name| own.get(name).cloned()),
            EnvValue::Field(path) => field(pod, path, addresses).map_err(|why| format!("env {name}: {why}"))?,
            EnvValue::Resource { container, resource, divisor } => {
                measured(pod, container, resource, divisor, node).map_err(|why| format!("env {name}: {why}"))?
            }
        };
        own.insert(name.clone(), value);
    }
    let base = [PATH.to_owned(), format!("HOSTNAME={}", pod.hostname)];
    let base = base.iter().chain(image.unwrap_or_default());
    let mut env: BTreeMap<String, String> =
        base.filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    env.extend(own);
    Ok(env)
}

/// The value of a fieldPath; a missing label or annotation is empty.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let meta = &pod.object.metadata;
    let spec = pod.object.spec.as_ref();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {path} does not support a subscript")),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key).cloned()).unwrap_or_default());
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => first(&addresses.host_ips),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => first(&addresses.pod_ips),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// ceil(value / divisor): an unset limit is the machine's allocatable, an unset request 0.
fn measured(pod: &Pod, container: &str, resource: &str, divisor: &str, node: &Allocatable) -> Result<String, String> {
    let of = pod.container(container).ok_or_else(|| format!("no container {container}"))?.resources;
    // In billionths, so that every divisor of Kubernetes' list is a whole number.
    let milli = |value: u64| u128::from(value) * 1_000_000;
    let whole = |value: u64| u128::from(value) * 1_000_000_000;
    let value = match resource {
        "limits.cpu" => milli(of.cpu_limit.filter(|v| *v > 0).unwrap_or(node.cpu_milli)),
        "requests.cpu" => milli(of.cpu_request.unwrap_or(0)),
        "limits.memory" => whole(of.memory_limit.filter(|v| *v > 0).unwrap_or(node.memory)),
        "requests.memory" => whole(of.memory_request.unwrap_or(0)),
        _ => return Err(format!("unsupported resource: {resource}")),
    };
    let unit = unit(divisor).ok_or_else(|| format!("unsupported divisor: {divisor}"))?;
    Ok(value.div_ceil(unit).to_string())
}

/// A divisor in billionths: 1, 1m, 1k ... 1Ei with a leading number.
fn unit(divisor: &str) -> Option<u128> {
    let digits = divisor.find(|c: char| !c.is_ascii_digit()).unwrap_or(divisor.len());
    let (number, suffix) = divisor.split_at(digits);
    let number: u128 = if number.is_empty() { return (divisor.is_empty()).then_some(1_000_000_000) } else { number.parse().ok()? };
    if number == 0 {
        // "0" is how an unset divisor is written out.
        return Some(1_000_000_000);
    }
    let power = |base: u128, exponent: u32| base.pow(exponent) * 1_000_000_000;
    let scale = match suffix {
        "" => 1_000_000_000,
        "m" => 1_000_000,
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => return None,
    };
    number.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};

    use super::*;
    use crate::pod::spec::{Resources, RestartPolicy};
    use crate::pod::status::tests as made;

    #[test]
    fn variables_expand_as_the_peers() {
        let lookup = |name: &str| {
            let table =
                [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];
            table.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        for (input, output) in [
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
            ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
            ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
            ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
            ("$$$$$$$(VAR_A)", "$$$A"),
            ("$VAR_A)", "$VAR_A)"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_B)_______$(A", "B_______$(A"),
            ("$(VAR_A)foobarzab$", "Afoobarzab$"),
            ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
            ("--$($($($($--", "--$($($($($--"),
            ("$($($($($--foo$(", "$($($($($--foo$("),
            ("foo0--$($($($(", "foo0--$($($($("),
            ("$(foo$$var)", "$(foo$$var)"),
            ("", ""),
            ("\n", "\n"),
            ("$£FOO", "$£FOO"),
            ("prefix-$€-suffix", "prefix-$€-suffix"),
            ("$中文", "$中文"),
        ] {
            assert_eq!(expand(input, lookup), output, "{input}");
        }
    }

    fn literal(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: EnvValue::Literal(value.into()) }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfiguration {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let config = ConfigBuilder::default()
            .entrypoint(words(entrypoint))
            .cmd(words(cmd))
            .env(words(&["PATH=/img", "FROM_IMAGE=1", "A=image"]))
            .working_dir("/work".to_owned())
            .build()
            .unwrap();
        ImageConfigurationBuilder::default()
            .config(config)
            .architecture("amd64")
            .os("linux")
            .rootfs(oci_spec::image::RootFsBuilder::default().typ("layers").diff_ids(Vec::new()).build().unwrap())
            .build()
            .unwrap()
    }

    fn resolved(container: &Container, image: &ImageConfiguration) -> Result<Command, String> {
        let pod = made::pod(RestartPolicy::Always, &[], &["a"]).spec;
        let addresses =
            Addresses { host_ips: vec!["10.0.0.1".into(), "fd::1".into()], pod_ips: vec!["1.2.3.4".into()] };
        command(&pod, container, image, &addresses, &Allocatable { cpu_milli: 4000, memory: 8 << 30 })
    }

    #[test]
    fn command_and_args_replace_what_kubernetes_says() {
        let full = image(&["/entry"], &["serve"]);
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (command, args, expected) in [
            (vec![], vec![], vec!["/entry", "serve"]),
            (vec![], vec!["x"], vec!["/entry", "x"]),
            (vec!["c"], vec![], vec!["c"]),
            (vec!["c", "$(A)"], vec!["$(A)--$(B)", "$(NO)"], vec!["c", "zoo", "zoo--boo", "$(NO)"]),
        ] {
            let env = vec![literal("A", "zoo"), literal("B", "boo")];
            let container = Container { command: words(&command), args: words(&args), env, ..made::plain("a") };
            assert_eq!(resolved(&container, &full).unwrap().args, words(&expected));
        }
        assert_eq!(resolved(&made::plain("a"), &image(&[], &[])), Err("no command specified".into()));
        assert_eq!(resolved(&made::plain("a"), &full).unwrap().cwd, "/work");
    }

    #[test]
    fn the_environment_is_the_images_under_the_pods() {
        let env = vec![
            literal("OUT_OF_ORDER", "$(LATER)"),
            literal("LATER", "FOO"),
            literal("REF", "ref-$(LATER)"),
            literal("IMG", "$(FROM_IMAGE)"),
            literal("A", "pod"),
            literal("TWICE", "1"),
            literal("TWICE", "2"),
            EnvVar { name: "NAME".into(), value: EnvValue::Field("metadata.name".into()) },
            EnvVar { name: "NO".into(), value: EnvValue::Field("metadata.labels['no']".into()) },
            EnvVar { name: "IPS".into(), value: EnvValue::Field("status.hostIPs".into()) },
            EnvVar { name: "IP".into(), value: EnvValue::Field("status.podIP".into()) },
        ];
        let found = resolved(&Container { env, ..made::plain("a") }, &image(&["x"], &[])).unwrap();
        let found: BTreeMap<_, _> = found.env.into_iter().collect();
        for (name, value) in [
            ("OUT_OF_ORDER", "$(LATER)"),
            ("REF", "ref-FOO"),
            // Only the pod's own variables expand; the image's are not known to the kubelet.
            ("IMG", "$(FROM_IMAGE)"),
            ("A", "pod"),
            ("TWICE", "2"),
            ("PATH", "/img"),
            ("HOSTNAME", "web-board1"),
            ("NAME", "web-board1"),
            ("NO", ""),
            ("IPS", "10.0.0.1,fd::1"),
            ("IP", "1.2.3.4"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let mut pod = (*made::pod(RestartPolicy::Always, &[], &["a"]).spec).clone();
        let node = Allocatable { cpu_milli: 4000, memory: 8 << 30 };
        for (resources, resource, divisor, expected) in [
            (Resources { cpu_limit: Some(9000), ..Default::default() }, "limits.cpu", "", "9"),
            (Resources::default(), "requests.cpu", "", "0"),
            (Resources { cpu_request: Some(1200), ..Default::default() }, "requests.cpu", "100m", "12"),
            (Resources { cpu_request: Some(1200), ..Default::default() }, "requests.cpu", "1", "2"),
            (Resources { memory_request: Some(100 << 20), ..Default::default() }, "requests.memory", "1Mi", "100"),
            (Resources { memory_limit: Some(100 << 20), ..Default::default() }, "limits.memory", "0", "104857600"),
            (Resources::default(), "limits.cpu", "1m", "4000"),
            (Resources::default(), "limits.memory", "1Gi", "8"),
        ] {
            pod.containers[0].resources = resources;
            assert_eq!(measured(&pod, "a", resource, divisor, &node).as_deref(), Ok(expected), "{resource} {divisor}");
        }
        assert!(measured(&pod, "b", "limits.cpu", "", &node).is_err());
        assert!(measured(&pod, "a", "limits.gpu", "", &node).is_err());
        assert!(measured(&pod, "a", "limits.cpu", "1Zi", &node).is_err());
    }
}
