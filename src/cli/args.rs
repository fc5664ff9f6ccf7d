//! Arguments to a verb. As with kubectl, flags may stand anywhere before `--`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use lexopt::prelude::*;

use super::resource::{self, Resource};
use crate::clock::span;
use crate::operator::request::{Fault, Power};

/// A command that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Of one verb, or of all.
    Help(Option<String>),
    Get(Get),
    Describe(Describe),
    Logs(Logs),
    Exec(Exec),
    /// `podinit image ...`, whose arguments are its own.
    Image(Vec<String>),
    Power(Power),
    Fault(Fault),
    Version,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    pub resource: Resource,
    /// Empty: all.
    pub names: Vec<String>,
    /// None: all namespaces.
    pub namespace: Option<String>,
    pub output: Output,
    pub headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Describe {
    /// Empty: all.
    pub names: Vec<String>,
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    pub pod: String,
    pub container: Option<String>,
    pub namespace: String,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// The last so many lines; None: all.
    pub tail: Option<usize>,
    pub since: Option<Since>,
    /// At most so many bytes; None: all.
    pub limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    Ago(Duration),
    At(Timestamp),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    pub pod: String,
    pub container: Option<String>,
    pub namespace: String,
    pub stdin: bool,
    pub tty: bool,
    pub command: Vec<String>,
}

const VERBS: &str = "get, describe, logs, exec, image, run, poweroff, reboot, halt, version, help";

/// Arguments without the program's name; an error says what is wrong and what would do.
pub fn parse(args: &[String]) -> Result<Verb, String> {
    let Some((verb, rest)) = args.split_first() else {
        return Ok(Verb::Help(None));
    };
    if rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") && verb != "image"
    {
        return Ok(Verb::Help(Some(verb.clone())));
    }
    let parsed = match verb.as_str() {
        "get" => get(rest).map(Verb::Get),
        "describe" => describe(rest).map(Verb::Describe),
        "logs" | "log" => logs(rest).map(Verb::Logs),
        "exec" => exec(rest).map(Verb::Exec),
        "image" => Ok(Verb::Image(rest.to_vec())),
        "poweroff" | "shutdown" => nothing(rest, Verb::Power(Power::Poweroff)),
        "reboot" => nothing(rest, Verb::Power(Power::Reboot)),
        "halt" => nothing(rest, Verb::Power(Power::Halt)),
        "fault" => fault(rest).map(Verb::Fault),
        "version" | "--version" | "-V" => nothing(rest, Verb::Version),
        "help" | "--help" | "-h" => Ok(Verb::Help(rest.first().cloned())),
        _ => return Err(format!("unknown command \"{verb}\"; podinit knows {VERBS}")),
    };
    parsed.map_err(|why| format!("{why}\nSee 'podinit {verb} --help' for usage."))
}

/// Takes `--socket PATH` out, which may stand anywhere before `--`.
pub fn socket(args: &[String]) -> Result<(Option<PathBuf>, Vec<String>), String> {
    let ours = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (before, after) = args.split_at(ours);
    let (mut socket, mut rest) = (None, Vec::new());
    let mut words = before.iter();
    while let Some(word) = words.next() {
        let path = match word.strip_prefix("--socket") {
            Some("") => words.next().map(String::as_str).unwrap_or_default(),
            Some(value) if value.starts_with('=') => value.trim_start_matches('='),
            Some(_) | None => {
                rest.push(word.clone());
                continue;
            }
        };
        if path.is_empty() {
            return Err("flag needs an argument: --socket".to_owned());
        }
        socket = Some(PathBuf::from(path));
    }
    rest.extend_from_slice(after);
    Ok((socket, rest))
}

/// What the verbs' flags say, whichever of them a verb has.
#[derive(Default)]
struct Flags {
    words: Vec<String>,
    namespace: Option<String>,
    all_namespaces: bool,
    output: Option<String>,
    no_headers: bool,
    container: Option<String>,
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<String>,
    since: Option<String>,
    since_time: Option<String>,
    limit_bytes: Option<String>,
    stdin: bool,
    tty: bool,
}

impl Flags {
    /// Reads flags and words; `known` are the long names of the flags that this verb has.
    fn read(args: &[String], known: &[&str]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(|why| why.to_string())? {
            let (name, told) = match &arg {
                Value(word) => {
                    flags.words.push(word.to_string_lossy().into_owned());
                    continue;
                }
                Short(letter) => (long(*letter), format!("-{letter}")),
                Long(name) => (Some(*name), format!("--{name}")),
            };
            let name = name.filter(|name| known.contains(name)).map(str::to_owned);
            let Some(name) = name else {
                return Err(format!("unknown flag: {told}; this command has {}", list(known)));
            };
            flags.set(&name, &told, &mut parser)?;
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, told: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
        let mut switch = |on: &mut bool| -> Result<(), String> {
            // `-it` is two switches, not `-i=t`.
            let value = if told.starts_with("--") { parser.optional_value() } else { None };
            *on = match value.map(|value| value.to_string_lossy().into_owned()) {
                None => true,
                Some(value) => value.parse().map_err(|_| {
                    format!("invalid argument \"{value}\" for {told}: true or false would do")
                })?,
            };
            Ok(())
        };
        match name {
            "all-namespaces" => return switch(&mut self.all_namespaces),
            "no-headers" => return switch(&mut self.no_headers),
            "follow" => return switch(&mut self.follow),
            "previous" => return switch(&mut self.previous),
            "timestamps" => return switch(&mut self.timestamps),
            "stdin" => return switch(&mut self.stdin),
            "tty" => return switch(&mut self.tty),
            _ => {}
        }
        let value = parser.value().map_err(|_| format!("flag needs an argument: {told}"))?;
        let value = Some(value.to_string_lossy().into_owned());
        match name {
            "namespace" => self.namespace = value,
            "output" => self.output = value,
            "container" => self.container = value,
            "tail" => self.tail = value,
            "since" => self.since = value,
            "since-time" => self.since_time = value,
            "limit-bytes" => self.limit_bytes = value,
            _ => return Err(format!("unknown flag: {told}")),
        }
        Ok(())
    }

    fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| "default".to_owned())
    }

    /// None for all of them.
    fn namespaces(&self) -> Option<String> {
        if self.all_namespaces { None } else { Some(self.namespace()) }
    }
}

/// The long name of kubectl's short flags.
fn long(letter: char) -> Option<&'static str> {
    Some(match letter {
        'n' => "namespace",
        'A' => "all-namespaces",
        'o' => "output",
        'c' => "container",
        'f' => "follow",
        'p' => "previous",
        'i' => "stdin",
        't' => "tty",
        _ => return None,
    })
}

/// `--output (-o), --namespace (-n)`.
fn list(known: &[&str]) -> String {
    let named = |name: &&str| match "nAocfpit".chars().find(|letter| long(*letter) == Some(name)) {
        Some(letter) => format!("--{name} (-{letter})"),
        None => format!("--{name}"),
    };
    known.iter().map(named).collect::<Vec<_>>().join(", ")
}

fn get(args: &[String]) -> Result<Get, String> {
    let flags = Flags::read(args, &["namespace", "all-namespaces", "output", "no-headers"])?;
    let Some((first, rest)) = flags.words.split_first() else {
        return Err(format!("what to get is missing: {}", resource::ALL));
    };
    let (resource, names) = match first.split_once('/') {
        Some((resource, _)) => (resource, flags.words.as_slice()),
        None => (first.as_str(), rest),
    };
    let resource = Resource::of(resource)
        .ok_or_else(|| format!("podinit has no resource type \"{resource}\": {} would do", resource::ALL))?;
    let names: Vec<String> = names.iter().map(|name| resource.name(name)).collect::<Result<_, _>>()?;
    if !resource.named() && !names.is_empty() {
        return Err(format!(
            "\"{first}\" are listed all at once, not by name: leave out \"{}\"",
            names.join(" ")
        ));
    }
    let output = match flags.output.as_deref() {
        None => Output::Table,
        Some("wide") => Output::Wide,
        Some("json") => Output::Json,
        Some("yaml") => Output::Yaml,
        Some("name") if resource.named() => Output::Name,
        Some(other) => {
            return Err(format!(
                "unable to match a printer to \"{other}\": json, name, wide or yaml would do"
            ));
        }
    };
    Ok(Get { resource, names, namespace: flags.namespaces(), output, headers: !flags.no_headers })
}

fn describe(args: &[String]) -> Result<Describe, String> {
    let flags = Flags::read(args, &["namespace", "all-namespaces"])?;
    let names = match flags.words.split_first() {
        Some((first, _)) if first.contains('/') => &flags.words[..],
        Some((first, rest)) if Resource::of(first) == Some(Resource::Pods) => rest,
        Some((first, _)) => {
            return Err(format!("podinit cannot describe \"{first}\": pod NAME or pod/NAME would do"));
        }
        None => return Err("what to describe is missing: pod NAME or pod/NAME would do".to_owned()),
    };
    let names = names.iter().map(|name| Resource::Pods.name(name)).collect::<Result<_, _>>()?;
    Ok(Describe { names, namespace: flags.namespaces() })
}

fn logs(args: &[String]) -> Result<Logs, String> {
    let known = [
        "namespace",
        "container",
        "follow",
        "previous",
        "timestamps",
        "tail",
        "since",
        "since-time",
        "limit-bytes",
    ];
    let flags = Flags::read(args, &known)?;
    let (pod, container) = match flags.words.as_slice() {
        [pod] => (pod, None),
        [pod, container] => (pod, Some(container.clone())),
        _ => return Err("expected 'logs POD [-c CONTAINER]'".to_owned()),
    };
    let tail =
        match flags.tail.as_deref() {
            None | Some("-1") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                format!("invalid --tail \"{text}\": a number of lines, or -1 for all, would do")
            })?),
        };
    let limit_bytes = match flags.limit_bytes.as_deref() {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            format!("invalid --limit-bytes \"{text}\": a number of bytes, or 0 for all, would do")
        })?,
    };
    let since = match (&flags.since, &flags.since_time) {
        (Some(_), Some(_)) => return Err("at most one of --since and --since-time may be used".to_owned()),
        (Some(span), None) => Some(Since::Ago(duration(span)?)),
        (None, Some(time)) => Some(Since::At(time.parse().map_err(|_| {
            format!("invalid --since-time \"{time}\": a time as 2026-01-31T12:00:00Z would do")
        })?)),
        (None, None) => None,
    };
    Ok(Logs {
        pod: Resource::Pods.name(pod)?,
        container: flags.container.clone().or(container),
        namespace: flags.namespace(),
        follow: flags.follow,
        previous: flags.previous,
        timestamps: flags.timestamps,
        tail,
        since,
        limit_bytes: Some(limit_bytes).filter(|bytes| *bytes > 0),
    })
}

fn exec(args: &[String]) -> Result<Exec, String> {
    let split = args.iter().position(|arg| arg == "--");
    let (before, command) = args.split_at(split.unwrap_or(args.len()));
    let flags = Flags::read(before, &["namespace", "container", "stdin", "tty"])?;
    let command = command.get(1..).unwrap_or_default();
    let pod = match flags.words.as_slice() {
        [pod] => pod,
        [] => return Err("the pod is missing: exec POD [-c CONTAINER] -- COMMAND".to_owned()),
        _ => {
            return Err(
                "exec [POD] [COMMAND] is not supported. Use exec [POD] -- [COMMAND] instead".to_owned()
            );
        }
    };
    if command.is_empty() {
        return Err("you must specify at least one command for the container: exec POD -- COMMAND".to_owned());
    }
    Ok(Exec {
        pod: Resource::Pods.name(pod)?,
        container: flags.container.clone(),
        namespace: flags.namespace(),
        stdin: flags.stdin,
        tty: flags.tty,
        command: command.to_vec(),
    })
}

fn fault(args: &[String]) -> Result<Fault, String> {
    let flags = Flags::read(args, &[])?;
    match flags.words.as_slice() {
        [one] => serde_json::from_value(serde_json::Value::from(one.as_str())).ok(),
        _ => None,
    }
    .ok_or_else(|| "which fault: panic, segv, abort, killLogger, killStarts or absent".to_owned())
}

fn nothing(args: &[String], verb: Verb) -> Result<Verb, String> {
    match Flags::read(args, &[])?.words.first() {
        None => Ok(verb),
        Some(word) => Err(format!("unexpected \"{word}\": this command takes nothing")),
    }
}

/// A span as Go writes it, and longer than none.
fn duration(text: &str) -> Result<Duration, String> {
    let span = span(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| format!("invalid --since \"{text}\": a span as 5s, 2m or 3h30m would do"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_stand_anywhere() {
        let pods = Get {
            resource: Resource::Pods,
            names: vec!["web".into()],
            namespace: Some("a".into()),
            output: Output::Wide,
            headers: true,
        };
        for line in [
            "get pods web -n a -o wide",
            "get -n a -owide pods web",
            "get --namespace=a pod --output=wide web",
            "get -o=wide -na pod/web",
        ] {
            assert_eq!(parse(&words(line)), Ok(Verb::Get(pods.clone())), "{line}");
        }
        let all = Get { names: vec![], namespace: None, output: Output::Table, ..pods };
        assert_eq!(parse(&words("get po -A")), Ok(Verb::Get(all)));
        let exec = Exec {
            pod: "web".into(),
            container: Some("b".into()),
            namespace: "default".into(),
            stdin: true,
            tty: true,
            command: vec!["ls".into(), "-l".into(), "--".into()],
        };
        for line in ["exec -it web -c b -- ls -l --", "exec pod/web -ti --container b -- ls -l --"] {
            assert_eq!(parse(&words(line)), Ok(Verb::Exec(exec.clone())), "{line}");
        }
        let logs = Logs {
            pod: "web".into(),
            container: None,
            namespace: "default".into(),
            follow: true,
            previous: false,
            timestamps: true,
            tail: Some(5),
            since: Some(Since::Ago(Duration::from_secs(5400))),
            limit_bytes: Some(7),
        };
        for line in [
            "logs -f --tail 5 web --since=1h30m --timestamps --limit-bytes=7",
            "logs web --follow --tail=5 --since 1.5h --timestamps=true --limit-bytes 7 --previous=false",
        ] {
            assert_eq!(parse(&words(line)), Ok(Verb::Logs(logs.clone())), "{line}");
        }
        assert_eq!(parse(&words("fault killLogger")), Ok(Verb::Fault(Fault::KillLogger)));
        assert_eq!(parse(&words("exec --help")), Ok(Verb::Help(Some("exec".into()))));
    }

    #[test]
    fn the_socket_stands_anywhere_before_the_command() {
        for line in ["--socket /s get pods", "get --socket=/s pods", "get pods --socket /s"] {
            assert_eq!(socket(&words(line)), Ok((Some(PathBuf::from("/s")), words("get pods"))), "{line}");
        }
        let line = words("exec web -- ls --socket /s");
        assert_eq!(socket(&line), Ok((None, line.clone())));
        assert!(socket(&words("get pods --socket")).is_err() && socket(&words("--socket=")).is_err());
    }

    #[test]
    fn an_error_says_what_would_do() {
        for (line, part) in [
            ("gte pods", "unknown command \"gte\"; podinit knows get, describe"),
            ("get", "pods, jobs, cronjobs, events or problems"),
            ("get deployments", "no resource type \"deployments\""),
            ("get svc/web", "no resource type \"svc\""),
            ("get pods svc/web", "names no pod"),
            ("get job/a pod/b", "names no job: NAME or job/NAME would do"),
            ("get cj cronjob/", "names no cronjob"),
            ("get events -o name", "unable to match a printer"),
            ("get pods --watch", "unknown flag: --watch; this command has --namespace (-n)"),
            ("get pods -x", "unknown flag: -x"),
            ("get pods -o xml", "\"xml\": json, name, wide or yaml"),
            ("get pods -n", "flag needs an argument: -n"),
            ("get events web", "leave out \"web\""),
            ("describe web", "pod NAME"),
            ("logs", "expected 'logs POD"),
            ("logs web --tail x", "invalid --tail \"x\""),
            ("logs web --since 5", "invalid --since \"5\""),
            ("logs web --since 5x", "invalid --since \"5x\""),
            ("logs web --since -5m", "invalid --since \"-5m\""),
            ("logs web --limit-bytes -1", "invalid --limit-bytes \"-1\""),
            ("logs web --since-time yesterday", "invalid --since-time \"yesterday\""),
            ("logs web --since 5m --since-time 2026-01-31T12:00:00Z", "at most one of"),
            ("logs web --follow=maybe", "true or false"),
            ("exec web", "at least one command"),
            ("exec web --", "at least one command"),
            ("exec web ls", "Use exec [POD] -- [COMMAND] instead"),
            ("exec -- ls", "the pod is missing"),
            ("fault nova", "which fault: panic"),
            ("reboot now", "takes nothing"),
        ] {
            let why = parse(&words(line)).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}
