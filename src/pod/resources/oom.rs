//! Who is killed first when memory runs out.

use super::{Qos, qos, together};
use crate::pod::spec::{Container, Pod, Role};

/// oom_score_adj of the container's processes; `capacity` is the machine's memory in bytes.
///
/// Only the class system-node-critical is spared like Guaranteed. A kubelet calls every static pod critical, but asks
/// for that class's name too (IsNodeCriticalPod), and here it would be worse: with all pods at -997 the kernel could not
/// tell them apart.
pub fn oom_score_adj(pod: &Pod, container: &Container, capacity: u64) -> i32 {
    let class = pod.object.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    if class == Some("system-node-critical") {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let rest = unassigned(pod);
            let score = |request: u64| {
                let request = u128::from(request.saturating_add(rest));
                1000 - (request * 1000 / u128::from(capacity.max(1))).min(1000) as i32
            };
            let own = score(memory(container));
            // A sidecar is to outlive what it serves.
            let least = pod.containers.iter().map(memory).min().unwrap_or(0);
            let own = match pod.role(container) {
                Role::Sidecar => own.min(score(least)),
                Role::Init | Role::Main => own,
            };
            own.clamp(3, 999)
        }
    }
}

/// What the pod requests beyond its containers' requests, for each of them.
fn unassigned(pod: &Pod) -> u64 {
    let Some(own) = pod.resources.as_ref().and_then(|own| own.memory_request) else { return 0 };
    let count = (pod.init.len() + pod.containers.len()).max(1) as u64;
    own.saturating_sub(together(pod, memory)) / count
}

fn memory(container: &Container) -> u64 {
    container.resources.memory_request.unwrap_or(0)
}
