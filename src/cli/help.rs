//! Help texts.

use crate::config::Config;

/// The help of one verb, or of all together.
pub fn text(verb: Option<&str>) -> String {
    let topic = match verb {
        Some("run") => return Config::run_help(),
        Some("log") => "logs",
        Some("shutdown") => "poweroff",
        Some(verb) => verb,
        None => return ALL.to_owned(),
    };
    match TOPICS.iter().find(|(name, _)| *name == topic) {
        Some((_, text)) => (*text).to_owned(),
        None => ALL.to_owned(),
    }
}

const ALL: &str = "\
podinit runs Kubernetes static pods as a machine's PID 1.

Usage: podinit COMMAND [FLAGS]

Look:
  get pods [NAME]         list pods (-o wide|json|yaml|name)
  get jobs, get cronjobs  list Jobs and CronJobs, or one by name (-o as for pods)
  get events              what happened lately
  get problems            manifests that were refused, or say what has no effect
  describe pod NAME       all about one pod, its events included
  logs POD                what a container printed (-f, -p, --tail, --since)
  version                 of this command and of PID 1

Act:
  exec POD -- COMMAND     run a command in a container (-i, -t)
  image ...               look at and change the image store
  poweroff, reboot, halt  stop all pods in order, then the machine

Serve:
  run                     be the pods' parent on an ordinary Linux, without the machine's duties

Everywhere: -n NAMESPACE (default: default), -A for all namespaces. A pod is named as listed, or as in its
manifest. --socket PATH (or PODINIT_SOCKET) names another socket than /run/podinit/podinit.sock.
'podinit COMMAND --help' tells more.
";

const TOPICS: &[(&str, &str)] = &[
    (
        "get",
        "\
Usage: podinit get pods [NAME...] [-n NAMESPACE | -A] [-o wide|json|yaml|name] [--no-headers]
       podinit get jobs|cronjobs [NAME...] [-n NAMESPACE | -A] [-o wide|json|yaml|name] [--no-headers]
       podinit get events [-n NAMESPACE | -A] [-o wide|json|yaml] [--no-headers]
       podinit get problems [-o wide|json|yaml] [--no-headers]

  -n, --namespace NAMESPACE  default: default
  -A, --all-namespaces
  -o, --output FORMAT        wide, json, yaml; pods, jobs and cronjobs also: name
      --no-headers           leave the head line out

Refused manifests are told on stderr after the pods.
",
    ),
    (
        "describe",
        "\
Usage: podinit describe pod [NAME...] [-n NAMESPACE | -A]

  -n, --namespace NAMESPACE  default: default
  -A, --all-namespaces
",
    ),
    (
        "logs",
        "\
Usage: podinit logs POD [-c CONTAINER] [FLAGS]

  -c, --container NAME       default: the first
  -f, --follow               go on until the container ends
  -p, --previous             of the run before the present one
      --tail LINES           the last so many lines
      --limit-bytes BYTES    at most so many bytes
      --since SPAN           not older than 5s, 2m, 3h30m
      --since-time TIME      not older than 2026-01-31T12:00:00Z
      --timestamps           the time before each line
  -n, --namespace NAMESPACE  default: default
",
    ),
    (
        "exec",
        "\
Usage: podinit exec POD [-c CONTAINER] [-i] [-t] [-n NAMESPACE] -- COMMAND [ARGS...]

  -c, --container NAME       default: the first
  -i, --stdin                hand over stdin
  -t, --tty                  give the command a terminal
  -n, --namespace NAMESPACE  default: default

Ends with the command's exit code.
",
    ),
    ("version", "Usage: podinit version\n"),
    ("poweroff", "Usage: podinit poweroff\n\nStops all pods in order, then switches the machine off.\n"),
    ("reboot", "Usage: podinit reboot\n\nStops all pods in order, then starts the machine anew.\n"),
    (
        "halt",
        "Usage: podinit halt\n\nStops all pods in order, then the machine, and leaves it switched on.\n",
    ),
    (
        "fault",
        "\
Usage: podinit fault panic|segv|abort|killLogger|killStarts|absent

Harms PID 1, for tests; refused unless the machine was booted with podinit.faults=1, or --faults given to 'podinit run'.
",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_helped() {
        for verb in [
            "get", "describe", "logs", "exec", "version", "poweroff", "reboot", "halt", "fault", "log", "run",
        ] {
            assert!(text(Some(verb)).starts_with("Usage: podinit"), "{verb}");
        }
        assert!(ALL.lines().all(|line| line.len() <= 110));
    }
}
