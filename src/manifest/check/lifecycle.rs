//! The checks of a container's life: its own restart policy and rules, hooks, stop signal.

use k8s_openapi::api::core::v1 as k8s;

use super::choose;
use super::container::Around;
use super::probe::{self, Given};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{Container, Handler, RestartPolicy, RestartRule};
use crate::spelling::nearest;

const RULES: usize = 20;
const CODES: usize = 255;

/// Fills in what the container says of its life.
pub fn check(
    report: &mut Report<'_>,
    given: &k8s::Container,
    init: bool,
    around: &Around<'_>,
    path: &Path,
    container: &mut Container,
) {
    let own = own_policy(report, given, &path.key("restartPolicy"));
    container.sidecar = init && own == Some(RestartPolicy::Always);
    container.restart = own.filter(|_| !container.sidecar);
    container.rules = rules(report, given, own, path);
    if init && !container.sidecar {
        plain_init(report, given, path);
        return;
    }
    let probes = [
        (&given.startup_probe, false, "startupProbe"),
        (&given.liveness_probe, false, "livenessProbe"),
        (&given.readiness_probe, true, "readinessProbe"),
    ];
    let [startup, liveness, readiness] = probes.map(|(probe, readiness, field)| {
        probe::check(report, probe.as_ref(), given, readiness, &path.key(field))
    });
    (container.startup, container.liveness, container.readiness) = (startup, liveness, readiness);
    let Some(lifecycle) = &given.lifecycle else { return };
    let path = path.key("lifecycle");
    container.post_start = hook(report, &lifecycle.post_start, given, around, &path.key("postStart"));
    container.pre_stop = hook(report, &lifecycle.pre_stop, given, around, &path.key("preStop"));
    container.stop_signal = lifecycle.stop_signal.clone().filter(|signal| !signal.is_empty());
    if let Some(signal) = &container.stop_signal
        && !SIGNALS.contains(&signal.as_str())
    {
        let cure = match nearest(signal, SIGNALS) {
            Some(near) => format!("did you mean {near}?"),
            None => "use a name such as SIGTERM or SIGQUIT".into(),
        };
        let what = if signal.starts_with("SIGRT") { "a signal that is supported yet" } else { "a signal" };
        report.refuse(&path.key("stopSignal"), format!("{} is not {what}: {cure}", quote(signal)));
    }
}

fn own_policy(report: &mut Report<'_>, given: &k8s::Container, path: &Path) -> Option<RestartPolicy> {
    let policies = [
        ("", None),
        ("Always", Some(RestartPolicy::Always)),
        ("OnFailure", Some(RestartPolicy::OnFailure)),
        ("Never", Some(RestartPolicy::Never)),
    ];
    choose(report, &given.restart_policy, &policies, path).flatten()
}

fn rules(
    report: &mut Report<'_>,
    given: &k8s::Container,
    own: Option<RestartPolicy>,
    path: &Path,
) -> Vec<RestartRule> {
    let field = path.key("restartPolicyRules");
    let given = given.restart_policy_rules.as_deref().unwrap_or_default();
    if !given.is_empty() && own.is_none() {
        report.refuse(&field, "need the container's own restartPolicy: add it for what no rule matches");
    }
    if given.len() > RULES {
        report.refuse(&field, format!("are {}: at most {RULES} are allowed", given.len()));
    }
    let mut rules = Vec::new();
    for (index, rule) in given.iter().enumerate() {
        let path = field.item(index);
        let actions = [("Restart", false), ("RestartAllContainers", true)];
        let all = choose(report, &Some(rule.action.clone()), &actions, &path.key("action"));
        let Some(exit) = &rule.exit_codes else {
            report.refuse(&path.key("exitCodes"), "is missing: say for which exit codes the rule holds");
            continue;
        };
        let path = path.key("exitCodes");
        let operators = [("In", false), ("NotIn", true)];
        let not_in = choose(report, &Some(exit.operator.clone()), &operators, &path.key("operator"));
        let codes = exit.values.clone().unwrap_or_default();
        if codes.is_empty() {
            report.refuse(&path.key("values"), "is empty: list at least one exit code");
        }
        if codes.len() > CODES {
            report.refuse(&path.key("values"), format!("are {}: at most {CODES} are allowed", codes.len()));
        }
        for (index, code) in codes.iter().enumerate().filter(|(_, code)| !(0..=255).contains(*code)) {
            report.warn(&path.key("values").item(index), format!("{code} is no exit code: 0 to 255 are"));
        }
        if let (Some(all), Some(not_in)) = (all, not_in) {
            rules.push(RestartRule { not_in, codes, all });
        }
    }
    rules
}

/// It runs to its end before others start, so nothing may probe it or wait for it.
fn plain_init(report: &mut Report<'_>, given: &k8s::Container, path: &Path) {
    let hooks = given.lifecycle.as_ref().is_some_and(|given| *given != k8s::Lifecycle::default());
    let fields = [
        (hooks, "lifecycle"),
        (given.startup_probe.is_some(), "startupProbe"),
        (given.liveness_probe.is_some(), "livenessProbe"),
        (given.readiness_probe.is_some(), "readinessProbe"),
        (given.resize_policy.as_ref().is_some_and(|given| !given.is_empty()), "resizePolicy"),
    ];
    for (_, field) in fields.into_iter().filter(|(given, _)| *given) {
        report.refuse(
            &path.key(field),
            "is not for an init container: remove it, or make it a sidecar with restartPolicy: Always",
        );
    }
}

fn hook(
    report: &mut Report<'_>,
    hook: &Option<k8s::LifecycleHandler>,
    container: &k8s::Container,
    around: &Around<'_>,
    path: &Path,
) -> Option<Handler> {
    let hook = hook.as_ref()?;
    let given = Given {
        exec: hook.exec.as_ref(),
        http: hook.http_get.as_ref(),
        tcp: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    };
    if hook.tcp_socket.is_some() {
        report.warn(&path.key("tcpSocket"), "does nothing as a hook: use exec, httpGet or sleep");
    }
    probe::handler(report, &given, container, around.grace, "exec, httpGet or sleep", path)
}

/// Linux' signals; podinit cannot send real-time ones yet.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
