//! One try of a network probe, and what it says of the container (Kubernetes v1.36: `pkg/probe/{http,tcp,grpc}`).

use std::time::{Duration, Instant};

use crate::helper::client::grpc::{self, Health};
use crate::helper::client::url::{Url, authority};
use crate::helper::client::{Trouble, connect, http};
use crate::pod::probe::Try;
use crate::pod::spec::{Handler, Probe};

/// How many requests a chain of redirects may take.
const REDIRECTS: usize = 10;

/// Whether it asks the pod itself, by the pod's own network; one that names a host asks from the machine's.
pub fn inside(handler: &Handler) -> bool {
    match handler {
        Handler::Http { host, .. } | Handler::Tcp { host, .. } => host.is_none(),
        Handler::Grpc { .. } => true,
        Handler::Exec(_) | Handler::Sleep(_) => false,
    }
}

/// Tries once. `address`: the pod's, for handlers without a host.
pub fn attempt(probe: &Probe, address: &str) -> Try {
    let until = Instant::now() + probe.timeout;
    match &probe.handler {
        Handler::Http { host, port, path, https, headers } => {
            let host = host.as_deref().unwrap_or(address);
            get(Url::new(*https, host, *port, path), headers, until)
        }
        Handler::Tcp { host, port } => match connect(host.as_deref().unwrap_or(address), *port, until) {
            Ok(_) => Try::Success(String::new()),
            Err(why) => Try::Failure(why.to_string()),
        },
        Handler::Grpc { port, service } => call(
            grpc::check(address, *port, service, probe.timeout, until),
            &authority(address, *port),
            probe.timeout,
        ),
        Handler::Exec(_) | Handler::Sleep(_) => Try::Error("not a network probe".into()),
    }
}

fn get(url: Url, headers: &[(String, String)], until: Instant) -> Try {
    match follow(url, headers, until) {
        Ok((200..=299, body)) => Try::Success(body),
        // Another host's health is not the container's.
        Ok((300..=399, body)) => Try::Success(format!("Probe terminated redirects, Response body: {body}")),
        Ok((status, _)) => Try::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Err((_, why)) => Try::Failure(why),
    }
}

/// Asks, and follows redirects as long as the host stays the same. Returns the last status and body, or why there is
/// none, also in the kubelet's words.
pub fn follow(
    first: Url,
    headers: &[(String, String)],
    until: Instant,
) -> Result<(u16, String), (Trouble, String)> {
    let headers = http::headers(headers);
    let mut url = first.clone();
    let failed = |url: &Url, trouble: Trouble, why: &str| (trouble, format!("Get \"{url}\": {why}"));
    for _ in 0..REDIRECTS {
        let reply = match http::get(&url, &headers, until) {
            Ok(reply) => reply,
            Err(Trouble::Late) => {
                let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                return Err(failed(&url, Trouble::Late, late));
            }
            Err(why) => return Err(failed(&url, why.clone(), &why.to_string())),
        };
        let location = reply.location.filter(|_| matches!(reply.status, 301 | 302 | 303 | 307 | 308));
        let end = (reply.status, String::from_utf8_lossy(&reply.body).into_owned());
        let Some(location) = location else { return Ok(end) };
        match url.join(&location) {
            Some(next) if next.host.eq_ignore_ascii_case(&first.host) => url = next,
            Some(_) => return Ok(end),
            None => {
                let why = format!("failed to parse Location header {location:?}");
                return Err(failed(&url, Trouble::Other(why.clone()), &why));
            }
        }
    }
    let why = format!("stopped after {REDIRECTS} redirects");
    Err(failed(&url, Trouble::Other(why.clone()), &why))
}

fn call(health: Health, address: &str, timeout: Duration) -> Try {
    let shown = shown(timeout);
    Try::Failure(match health {
        Health::Status(1) => return Try::Success("service healthy".into()),
        Health::Status(status) => format!("service unhealthy (responded with \"{}\")", grpc::word(status)),
        Health::Failed(12, why) => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {why}"
        ),
        Health::Failed(4, _) | Health::Broken(Trouble::Late) => {
            format!("timeout: health rpc did not complete within {shown}")
        }
        Health::Failed(code, why) => {
            let word = grpc::code(code);
            format!("error: health rpc probe failed: rpc error: code = {word} desc = {why}")
        }
        Health::Broken(why) => format!("error: health rpc probe failed: {why}"),
        Health::Unconnected(Trouble::Late) => {
            format!(
                "timeout: failed to connect service \"{address}\" within {shown}: context deadline exceeded"
            )
        }
        // gRPC would go on trying until the time is up, to no other end.
        Health::Unconnected(why) => {
            format!("timeout: failed to connect service \"{address}\" within {shown}: {why}")
        }
    })
}

/// As Go writes whole seconds: `1s`, `1m30s`, `1h0m0s`.
fn shown(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}
