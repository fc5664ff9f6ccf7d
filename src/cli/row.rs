//! One line of `get pods`: READY, STATUS and RESTARTS as kubectl computes them (its printer's printPod).

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as k8s;

use super::table::age;

/// NAME READY STATUS RESTARTS AGE, and if `wide` IP, NODE, NOMINATED NODE, READINESS GATES.
pub fn row(pod: &k8s::Pod, wide: bool, now: Timestamp) -> Vec<String> {
    let empty = k8s::PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let total = pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) + sidecars(pod).count();
    let tally = tally(pod, status);
    let restarts = match tally.restarted {
        Some(at) if tally.restarts > 0 => format!("{} ({} ago)", tally.restarts, age(Some(at), now)),
        Some(_) | None => tally.restarts.to_string(),
    };
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut row = vec![
        pod.metadata.name.clone().unwrap_or_default(),
        format!("{}/{total}", tally.ready),
        tally.status,
        restarts,
        age(created, now),
    ];
    if wide {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
        let ip = status.pod_ips.as_ref().and_then(|ips| ips.first()).map(|ip| ip.ip.clone());
        row.push(or_none(ip));
        row.push(or_none(pod.spec.as_ref().and_then(|spec| spec.node_name.clone())));
        row.push(or_none(status.nominated_node_name.clone()));
        row.push(gates(pod, status));
    }
    row
}

struct Tally {
    status: String,
    ready: usize,
    restarts: i32,
    restarted: Option<Timestamp>,
}

fn tally(pod: &k8s::Pod, status: &k8s::PodStatus) -> Tally {
    let phase = status.phase.clone().unwrap_or_default();
    let mut tally = Tally {
        status: status.reason.clone().unwrap_or_else(|| phase.clone()),
        ready: 0,
        restarts: 0,
        restarted: None,
    };
    let initializing = init(pod, status, &mut tally);
    if !initializing || holds(status, "Initialized") {
        mains(pod, status, &mut tally);
    }
    let over = phase == "Succeeded" || phase == "Failed";
    if pod.metadata.deletion_timestamp.is_some() && !over {
        tally.status = "Terminating".to_owned();
    }
    tally
}

/// The names of init containers that run beside the regular ones.
fn sidecars(pod: &k8s::Pod) -> impl Iterator<Item = &str> {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.filter(|one| one.restart_policy.as_deref() == Some("Always")).map(|one| one.name.as_str())
}

/// Counts in the init containers; whether they are not yet through.
fn init(pod: &k8s::Pod, status: &k8s::PodStatus, tally: &mut Tally) -> bool {
    let total = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len);
    for (at, container) in status.init_container_statuses.iter().flatten().enumerate() {
        count(container, tally);
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref()).and_then(|why| why.reason.as_deref());
        let sidecar = sidecars(pod).any(|name| name == container.name);
        tally.status = match (state.and_then(|state| state.terminated.as_ref()), waiting) {
            (Some(ended), _) if ended.exit_code == 0 => continue,
            (_, _) if sidecar && container.started == Some(true) => {
                tally.ready += usize::from(container.ready);
                continue;
            }
            (Some(ended), _) => format!("Init:{}", why_ended(ended)),
            (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => {
                format!("Init:{reason}")
            }
            (None, _) => format!("Init:{at}/{total}"),
        };
        return true;
    }
    false
}

/// Counts in the regular containers, whose restarts then are the pod's, with those of the sidecars.
fn mains(pod: &k8s::Pod, status: &k8s::PodStatus, tally: &mut Tally) {
    tally.restarts = 0;
    tally.restarted = None;
    for container in status.init_container_statuses.iter().flatten() {
        if sidecars(pod).any(|name| name == container.name) {
            count(container, tally);
        }
    }
    let mut running = false;
    // The first one's word is the last one said.
    for container in status.container_statuses.iter().flatten().rev() {
        count(container, tally);
        let Some(state) = &container.state else { continue };
        let waiting = state.waiting.as_ref().and_then(|why| why.reason.clone());
        if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
            tally.status = reason;
        } else if let Some(ended) = &state.terminated {
            tally.status = why_ended(ended);
        } else if container.ready && state.running.is_some() {
            running = true;
            tally.ready += 1;
        }
    }
    if tally.status == "Completed" && running {
        tally.status = if holds(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

fn count(container: &k8s::ContainerStatus, tally: &mut Tally) {
    tally.restarts += container.restart_count;
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let at = ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0);
    tally.restarted = tally.restarted.max(at);
}

fn why_ended(ended: &k8s::ContainerStateTerminated) -> String {
    match (&ended.reason, ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.clone(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        (_, _) => format!("ExitCode:{}", ended.exit_code),
    }
}

fn holds(status: &k8s::PodStatus, condition: &str) -> bool {
    status.conditions.iter().flatten().any(|one| one.type_ == condition && one.status == "True")
}

/// `0/1`: how many of the pod's readiness gates are met.
fn gates(pod: &k8s::Pod, status: &k8s::PodStatus) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    match gates.filter(|gates| !gates.is_empty()) {
        None => "<none>".to_owned(),
        Some(gates) => {
            let met = gates.iter().filter(|gate| holds(status, &gate.condition_type)).count();
            format!("{met}/{}", gates.len())
        }
    }
}
