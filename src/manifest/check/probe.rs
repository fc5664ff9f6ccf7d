//! The checks of probes, and of what probes and hooks do.

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;

use super::ports;
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{Handler, Probe};

/// What a probe or hook may do, as given.
#[derive(Default)]
pub struct Given<'k> {
    pub exec: Option<&'k k8s::ExecAction>,
    pub http: Option<&'k k8s::HTTPGetAction>,
    pub tcp: Option<&'k k8s::TCPSocketAction>,
    pub grpc: Option<&'k k8s::GRPCAction>,
    pub sleep: Option<&'k k8s::SleepAction>,
}

/// A probe, defaulted before. `readiness`: it only tells whether the container is ready.
pub fn check(
    report: &mut Report<'_>,
    probe: Option<&k8s::Probe>,
    container: &k8s::Container,
    readiness: bool,
    path: &Path,
) -> Option<Probe> {
    let probe = probe?;
    let given = Given {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let handler =
        handler(report, &given, container, Duration::ZERO, "exec, httpGet, tcpSocket or grpc", path);
    let mut count = |given: Option<i32>, field: &str| {
        let given = given.unwrap_or_default();
        u32::try_from(given).unwrap_or_else(|_| {
            report.refuse(&path.key(field), format!("{given} is negative: use 0 or more"));
            0
        })
    };
    let initial_delay = count(probe.initial_delay_seconds, "initialDelaySeconds");
    let timeout = count(probe.timeout_seconds, "timeoutSeconds");
    let period = count(probe.period_seconds, "periodSeconds");
    let success = count(probe.success_threshold, "successThreshold");
    let failure = count(probe.failure_threshold, "failureThreshold");
    if !readiness && success > 1 {
        let message = format!("{success} is not 1, which only a readinessProbe may raise: leave it out");
        report.refuse(&path.key("successThreshold"), message);
    }
    let field = path.key("terminationGracePeriodSeconds");
    let grace = probe.termination_grace_period_seconds.and_then(|seconds| match u64::try_from(seconds) {
        Ok(_) if readiness => {
            report.refuse(&field, format!("{seconds} has no sense for a readinessProbe: remove it"));
            None
        }
        Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
        Ok(0) | Err(_) => {
            report.refuse(&field, format!("{seconds} is not positive: use 1 or more seconds"));
            None
        }
    });
    let seconds = |count: u32| Duration::from_secs(count.into());
    Some(Probe {
        handler: handler?,
        initial_delay: seconds(initial_delay),
        period: seconds(period),
        timeout: seconds(timeout),
        success,
        failure,
        grace,
    })
}

/// The one thing that it does. None: it was refused. `kinds`: what may be given, for the message.
pub fn handler(
    report: &mut Report<'_>,
    given: &Given<'_>,
    container: &k8s::Container,
    grace: Duration,
    kinds: &str,
    path: &Path,
) -> Option<Handler> {
    let all = [
        given.exec.is_some(),
        given.http.is_some(),
        given.tcp.is_some(),
        given.grpc.is_some(),
        given.sleep.is_some(),
    ];
    match all.iter().filter(|given| **given).count() {
        0 => report.refuse(path, format!("says nothing to do: give one of {kinds}")),
        1 => {}
        _ => report.refuse(path, "says more than one thing to do: keep one"),
    }
    if let Some(exec) = given.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            report.refuse(&path.key("exec.command"), "is empty: give a program and its arguments");
        }
        return Some(Handler::Exec(command));
    }
    if let Some(get) = given.http {
        return Some(http(report, get, container, &path.key("httpGet")));
    }
    if let Some(tcp) = given.tcp {
        let port = ports::number(report, &tcp.port, container, &path.key("tcpSocket.port"));
        return Some(Handler::Tcp { host: some(&tcp.host), port });
    }
    if let Some(grpc) = given.grpc {
        let port = u16::try_from(grpc.port).unwrap_or_default();
        if port == 0 {
            report.refuse(&path.key("grpc.port"), format!("{} is not a port: use 1 to 65535", grpc.port));
        }
        return Some(Handler::Grpc { port, service: grpc.service.clone().unwrap_or_default() });
    }
    let seconds = given.sleep?.seconds;
    let longest = grace.as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) if seconds <= longest => Some(Handler::Sleep(Duration::from_secs(seconds))),
        Ok(_) | Err(_) => {
            let message = format!(
                "{seconds} is not within the pod's grace period: use 0 to {longest}, or raise \
                 spec.terminationGracePeriodSeconds"
            );
            report.refuse(&path.key("sleep.seconds"), message);
            None
        }
    }
}

fn http(
    report: &mut Report<'_>,
    get: &k8s::HTTPGetAction,
    container: &k8s::Container,
    path: &Path,
) -> Handler {
    let https = match get.scheme.as_deref().unwrap_or("HTTP") {
        "HTTP" => false,
        "HTTPS" => true,
        other => {
            report.refuse(&path.key("scheme"), format!("{} is none of HTTP, HTTPS", quote(other)));
            false
        }
    };
    let mut headers = Vec::new();
    for (index, header) in get.http_headers.iter().flatten().enumerate() {
        let path = path.key("httpHeaders").item(index);
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let cure = "use letters, digits and '-'";
            report
                .refuse(&path.key("name"), format!("{} is not a header's name: {cure}", quote(&header.name)));
        }
        if header.value.chars().any(|letter| letter.is_control() && letter != '\t') {
            report.refuse(
                &path.key("value"),
                format!("{} holds a control character: remove it", quote(&header.value)),
            );
        }
        headers.push((header.name.clone(), header.value.clone()));
    }
    let given = get.path.as_deref().unwrap_or_default();
    if given.chars().any(|letter| letter.is_control() || letter == ' ') {
        let message = format!("{} holds a blank or control character: write it as %20", quote(given));
        report.refuse(&path.key("path"), message);
    }
    // As the kubelet's URL has it.
    let place = if given.starts_with('/') { given.into() } else { format!("/{given}") };
    let port = ports::number(report, &get.port, container, &path.key("port"));
    Handler::Http { host: some(&get.host), port, path: place, https, headers }
}

fn some(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// RFC 9110, 5.6.2.
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
