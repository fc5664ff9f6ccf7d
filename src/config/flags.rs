//! The kernel's command line (`podinit.<key>=<value>`) and the flags of `podinit run`, named as the kubelet's.

use std::ffi::OsString;
use std::path::PathBuf;

use log::LevelFilter;

use super::{Config, Data, file, value};

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

/// Reads `podinit run`'s flags.
pub fn run(args: &[String]) -> Result<(Config, Vec<String>), String> {
    let mut flags = Vec::new();
    let mut config = Config::default();
    let mut warnings = Vec::new();
    let mut parser = lexopt::Parser::from_args(args.iter().map(OsString::from));
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let lexopt::Arg::Long(name) = arg else { return Err(arg.unexpected().to_string()) };
        let name = name.to_owned();
        let text = parser.value().map_err(|error| error.to_string())?;
        let text = text.into_string().map_err(|text| format!("--{name}: {text:?} is not UTF-8"))?;
        flags.push((name, text));
    }
    // The file first, wherever its flag stands: flags are over it.
    for (_, path) in flags.iter().filter(|(name, _)| name == "config") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("--config: {path}: {error}"))?;
        file::apply(&mut config, &text, path, &mut warnings);
    }
    for (name, text) in &flags {
        flag(&mut config, name, text).map_err(|why| format!("--{name}: {why}"))?;
    }
    Ok((config, warnings))
}

fn word_of(config: &mut Config, key: &str, text: &str) -> Result<(), String> {
    match key {
        "hostname" => config.hostname = Some(value::name(text)?),
        "modules" => {
            config.modules.extend(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned))
        }
        "data" => config.data = data(text)?,
        "ip" => config.network = text.parse()?,
        "log" => config.log = level(text)?,
        "faults" => config.faults = matches!(text, "" | "1" | "true" | "on"),
        _ => return Err("unknown; known are hostname, modules, data, ip, log".into()),
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
        "cgroup-root" => config.cgroup = path(text)?,
        "file-check-frequency" => config.file_check = value::duration(text)?,
        "v" => config.log = verbosity(text)?,
        "faults" => config.faults = text == "true",
        _ => {
            return Err(
                "unknown; known are pod-manifest-path, config, hostname-override, root-dir, run-dir, \
                        pod-logs-dir, container-logs-dir, cgroup-root, file-check-frequency, v"
                    .into(),
            );
        }
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
        let table = [
            (vec!["--v=x"], "--v: \"x\" is no number"),
            (vec!["--hostname-override=a_b"], "--hostname-override: \"a_b\" is no host name"),
            (vec!["--nope=1"], "--nope: unknown; known are pod-manifest-path"),
            (vec!["--root-dir"], "missing argument"),
            (vec!["--config=/no/such/file"], "--config: /no/such/file: No such file"),
            (vec!["web"], "unexpected argument \"web\""),
        ];
        for (args, part) in table {
            let error = flags(&args).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
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
