//! The kernel's command line (`podinit.<key>=<value>`) and the flags of `podinit run`, named as the kubelet's.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use sha2::{Digest, Sha256};

use super::{Config, Data, Headers, fields, file, url, value};

/// Applies every `podinit.` word of the kernel's command line; other words are the kernel's.
pub fn cmdline(config: &mut Config, text: &str, warnings: &mut Vec<String>) {
    for word in text.split_ascii_whitespace() {
        let Some(word) = word.strip_prefix("podinit.") else { continue };
        let (key, text) = word.split_once('=').unwrap_or((word, ""));
        if let Err(why) = word_of(config, key, text) {
            warnings.push(format!("kernel command line: podinit.{key}: {why}"));
        }
    }
}

/// `podinit run`'s flags: name, what its value is (empty: a switch), what it does.
const FLAGS: &[(&str, &str, &str)] = &[
    ("pod-manifest-path", "PATH", "a directory of manifests, or one; default /etc/kubernetes/manifests"),
    ("config", "FILE", "KubeletConfiguration and MachineConfiguration documents; flags are over it"),
    ("hostname-override", "NAME", "the node's name, the suffix of the pods' names; default the host's"),
    ("root-dir", "DIR", "images and volumes; default /var/lib/podinit"),
    ("run-dir", "DIR", "socket, facts, bundles, of this podinit alone; default /run/podinit"),
    ("pod-logs-dir", "DIR", "the containers' logs; default /var/log/pods"),
    ("container-logs-dir", "DIR", "links to them by container; default /var/log/containers, and with"),
    ("", "", "--pod-logs-dir RUN-DIR/containers"),
    ("cgroup-root", "PATH", "the cgroup of all pods; default /podinit, and with --run-dir one of its own"),
    ("file-check-frequency", "SPAN", "how often manifests are listed beside inotify; default 20s"),
    ("manifest-url", "URL", "where pods are read from over HTTP beside the manifests; default nowhere"),
    ("manifest-url-header", "NAME:VALUE", "a header for it; may be repeated, or hold several with commas"),
    ("http-check-frequency", "SPAN", "how often the URL is asked; default 20s"),
    ("v", "LEVEL", "0 to 10: from 4 on debug, from 6 on trace"),
    ("faults", "", "allow 'podinit fault', by which tests harm podinit"),
];

/// The help text of `podinit run`.
pub fn help() -> String {
    let line = |(name, value, what): &(&str, &str, &str)| {
        let flag = match (*name, *value) {
            ("", _) => String::new(),
            (name, "") => format!("--{name}"),
            (name, value) => format!("--{name} {value}"),
        };
        format!("  {flag:<29}{what}\n")
    };
    let flags: String = FLAGS.iter().map(line).collect();
    format!("{HELP}{flags}{SIGNALS}")
}

const HELP: &str = "\
Usage: podinit run [--pod-manifest-path PATH] [FLAGS]

Runs the static pods of a directory on this Linux, as root, as their processes' parent, without a machine's duties.
Its mounts are in a mount namespace of its own, its cgroups below one of its own.

";

const SIGNALS: &str = "
Ctrl-C or SIGTERM ends all pods in order, then podinit; a second one cuts their grace short. SIGHUP lists the
manifests. The other commands ask it by PODINIT_SOCKET=RUN-DIR/podinit.sock or --socket; images come into its store
by 'podinit image --store ROOT-DIR/images import ARCHIVE'.
";

/// Reads `podinit run`'s flags.
pub fn run(args: &[String]) -> Result<(Config, Vec<String>), String> {
    let mut flags = Vec::new();
    let mut config = Config { node_name: host_name(), ..Config::default() };
    let mut warnings = Vec::new();
    let mut parser = lexopt::Parser::from_args(args.iter().map(OsString::from));
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let lexopt::Arg::Long(name) = arg else { return Err(arg.unexpected().to_string()) };
        let name = name.to_owned();
        let text = match FLAGS.iter().find(|(known, _, _)| *known == name) {
            None => {
                let known: Vec<_> =
                    FLAGS.iter().map(|(name, _, _)| *name).filter(|name| !name.is_empty()).collect();
                return Err(format!("--{name}: unknown; known are {}", known.join(", ")));
            }
            Some((_, "", _)) => parser.optional_value().unwrap_or_else(|| "true".into()),
            Some(_) => parser.value().map_err(|error| error.to_string())?,
        };
        let text = text.into_string().map_err(|_| format!("--{name}: not UTF-8"))?;
        flags.push((name, text));
    }
    // The file first, wherever its flag stands: flags are over it.
    for (_, path) in flags.iter().filter(|(name, _)| name == "config") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("--config: {path}: {error}"))?;
        file::apply(&mut config, &text, path, &mut warnings);
    }
    // As with the kubelet, a header's flag stands for all of the file's.
    if flags.iter().any(|(name, _)| name == "manifest-url-header") {
        config.static_pod_url_headers = Headers::default();
    }
    for (name, text) in &flags {
        flag(&mut config, name, text).map_err(|why| format!("--{name}: {why}"))?;
    }
    let given = |name: &str| flags.iter().any(|(known, _)| known == name);
    if !given("container-logs-dir") && config.pod_logs != Config::default().pod_logs {
        config.container_logs = config.run.join("containers");
    }
    if !given("cgroup-root") {
        config.cgroup_parent = own_cgroup(&config.run);
    }
    Ok((config, warnings))
}

/// The host's name as a node's; what no node may be called is `podinit`.
fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.and_then(|name| value::name(&name).ok()).unwrap_or_else(|| Config::default().node_name)
}

/// A cgroup that no podinit with another run directory has, and no kubelet.
fn own_cgroup(run: &Path) -> String {
    if run == Config::default().run {
        return "/podinit".into();
    }
    let digest = Sha256::digest(run.as_os_str().as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("/podinit-{hex}")
}

/// A cgroup below the root, where everybody's are.
fn cgroup(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(format!("{text:?} is no cgroup of our own, name one like /podinit"));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn word_of(config: &mut Config, key: &str, text: &str) -> Result<(), String> {
    match key {
        "hostname" => config.hostname = Some(value::name(text)?),
        "modules" => {
            config.modules.extend(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned))
        }
        "data" => config.data = data(text)?,
        "ip" => config.network = text.parse()?,
        "prompt" => config.prompt = text.parse()?,
        "log" => config.log = level(text)?,
        "faults" => config.faults = matches!(text, "" | "1" | "true" | "on"),
        _ => return Err("unknown; known are hostname, modules, data, ip, prompt, log".into()),
    }
    Ok(())
}

fn flag(config: &mut Config, name: &str, text: &str) -> Result<(), String> {
    match name {
        "pod-manifest-path" => config.manifests = path(text)?,
        "config" => {}
        "hostname-override" => {
            config.node_name = value::name(text)?;
            config.hostname = Some(config.node_name.clone());
        }
        "root-dir" => config.root = path(text)?,
        "run-dir" => config.run = path(text)?,
        "pod-logs-dir" => config.pod_logs = path(text)?,
        "container-logs-dir" => config.container_logs = path(text)?,
        "cgroup-root" => config.cgroup_parent = cgroup(text)?,
        "file-check-frequency" => config.file_check = value::duration(text)?,
        "manifest-url" => config.static_pod_url = Some(url::url(text)?),
        "manifest-url-header" => config.static_pod_url_headers.add_pairs(text)?,
        "http-check-frequency" => config.http_check = fields::positive(text)?,
        "v" => config.log = verbosity(text)?,
        "faults" => config.faults = text.parse().map_err(|_| format!("{text:?}: true or false would do"))?,
        _ => return Err("unknown".into()),
    }
    Ok(())
}

/// The label of an ext4 file system, or `none`.
pub fn data(text: &str) -> Result<Data, String> {
    match text {
        "none" => Ok(Data::None),
        "" => Err("is empty, name a file system's label or none".into()),
        label if label.len() > 16 => Err(format!("{label:?} is longer than an ext4 label of 16 bytes")),
        label => Ok(Data::Label(label.into())),
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| format!("{text:?} is no level, use error, warn, info, debug or trace"))
}

/// The kubelet's verbosity: to 3 info, to 5 debug, more trace.
fn verbosity(text: &str) -> Result<LevelFilter, String> {
    match text.parse::<u8>().map_err(|_| format!("{text:?} is no number from 0 to 10"))? {
        0..=3 => Ok(LevelFilter::Info),
        4..=5 => Ok(LevelFilter::Debug),
        _ => Ok(LevelFilter::Trace),
    }
}

/// Absolute, since PID 1 and its helpers have other working directories.
fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty, name a directory".into());
    }
    std::path::absolute(text).map_err(|error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn flags(args: &[&str]) -> Result<Config, String> {
        run(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).map(|(config, _)| config)
    }

    #[test]
    fn flags_are_the_kubelets() {
        let config =
            flags(&["--pod-manifest-path=/m", "--hostname-override", "Porch", "--root-dir=/r", "--v=4"])
                .unwrap();
        assert_eq!((config.manifests, config.root), ("/m".into(), "/r".into()));
        assert_eq!((config.node_name.as_str(), config.log), ("porch", LevelFilter::Debug));
        assert_eq!(flags(&["--file-check-frequency=5s"]).unwrap().file_check, Duration::from_secs(5));
        let config = flags(&[
            "--manifest-url=http://h/p",
            "--manifest-url-header=a:1",
            "--manifest-url-header",
            "b:2",
        ]);
        let config = config.unwrap();
        let headers = [("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            (config.static_pod_url.as_deref(), config.static_pod_url_headers.0),
            (Some("http://h/p"), headers.to_vec())
        );
        let table = [
            (vec!["--v=x"], "--v: \"x\" is no number"),
            (vec!["--hostname-override=a_b"], "--hostname-override: \"a_b\" is no host name"),
            (vec!["--nope=1"], "--nope: unknown; known are pod-manifest-path"),
            (vec!["--root-dir"], "missing argument"),
            (vec!["--config=/no/such/file"], "--config: /no/such/file: No such file"),
            (vec!["web"], "unexpected argument \"web\""),
            (vec!["--faults=perhaps"], "--faults: \"perhaps\": true or false"),
            (vec!["--cgroup-root=/"], "--cgroup-root: \"/\" is no cgroup of our own"),
            (vec!["--cgroup-root=/a/../b"], "is no cgroup of our own"),
            (vec!["--manifest-url=pods"], "--manifest-url: \"pods\" is no HTTP URL"),
            (vec!["--manifest-url-header=x"], "--manifest-url-header: malformed pair"),
            (vec!["--http-check-frequency=0"], "--http-check-frequency: must be longer than 0"),
        ];
        for (args, part) in table {
            let error = flags(&args).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_run_directory_has_its_own_cgroup() {
        let parent = |args: &[&str]| flags(args).unwrap().cgroup_parent;
        assert_eq!(parent(&[]), "/podinit");
        assert_eq!(parent(&["--cgroup-root=a/b/"]), "/a/b");
        let (one, other) = (parent(&["--run-dir=/tmp/a-b"]), parent(&["--run-dir=/tmp/a/b"]));
        assert!(one.starts_with("/podinit-") && one.len() == 21, "{one}");
        assert_ne!(one, other);
        assert_eq!(one, parent(&["--run-dir=/tmp/./a-b"]));
    }

    #[test]
    fn links_to_logs_stay_out_of_the_hosts_directory() {
        let config = flags(&["--pod-logs-dir=/x/logs", "--run-dir=/x/run"]).unwrap();
        assert_eq!(config.container_logs, PathBuf::from("/x/run/containers"));
        assert_eq!(flags(&[]).unwrap().container_logs, PathBuf::from("/var/log/containers"));
        let config = flags(&["--pod-logs-dir=/x/logs", "--container-logs-dir=/y"]).unwrap();
        assert_eq!(config.container_logs, PathBuf::from("/y"));
    }

    #[test]
    fn the_help_fits_and_a_switch_takes_no_word() {
        assert!(help().lines().all(|line| line.len() <= 120), "{}", help());
        assert!(FLAGS.iter().all(|(name, _, _)| help().contains(&format!("--{name}"))));
        assert!(flags(&["--faults"]).unwrap().faults && !flags(&["--faults=false"]).unwrap().faults);
        assert!(flags(&["--faults", "true"]).is_err());
    }

    #[test]
    fn the_command_line_keeps_what_it_can() {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        let text = "console=ttyS0 podinit.hostname=a_b podinit.data=none podinit.ip=10.0.0.2/24,10.0.0.1 podinit.x=1\n";
        cmdline(&mut config, text, &mut warnings);
        assert_eq!(config.hostname, None);
        assert_eq!(config.data, Data::None);
        assert_eq!(config.network.to_string(), "10.0.0.2/24,10.0.0.1");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("kernel command line: podinit.hostname: \"a_b\""), "{warnings:?}");
        assert!(warnings[1].contains("podinit.x: unknown"), "{warnings:?}");
    }
}
