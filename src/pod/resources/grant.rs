//! What a cgroup is given of cpu and memory, whatever the files it is written to: what a resize changes.

use serde::{Deserialize, Serialize};

use super::{Qos, cpu_request, effective, qos};
use crate::pod::spec::{Container, Pod, Resources};

/// What is in force in one cgroup, or should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Thousandths of a core: its share where there is not enough for all.
    pub cpu_request: u64,
    /// Thousandths of a core; None: as many as there are.
    pub cpu_limit: Option<u64>,
    /// Bytes; None: as many as there are.
    pub memory_limit: Option<u64>,
}

impl Grant {
    /// A container's: without a cpu request its share is that of its limit; an explicit request of 0 is the least.
    pub fn container(container: &Container) -> Self {
        let given = &container.resources;
        Grant {
            cpu_request: cpu_request(given).unwrap_or(0),
            cpu_limit: given.cpu_limit.filter(|&limit| limit > 0),
            memory_limit: given.memory_limit.filter(|&limit| limit > 0),
        }
    }

    /// A pod's: limits only where the pod gives them, or every container does.
    pub fn pod(pod: &Pod) -> Self {
        if qos(pod) == Qos::BestEffort {
            return Grant::default();
        }
        let declared = |of: fn(&Resources) -> Option<u64>| {
            let given = |resources: &Resources| of(resources).is_some_and(|limit| limit > 0);
            let all = || pod.all().all(|container| given(&container.resources));
            let declared = pod.resources.as_ref().is_some_and(given) || all();
            declared.then(|| effective(pod, of))
        };
        Grant {
            cpu_request: effective(pod, cpu_request),
            cpu_limit: declared(|given| given.cpu_limit),
            memory_limit: declared(|given| given.memory_limit),
        }
    }

    /// The more of both: what there is room for while the one becomes the other.
    pub fn most(&self, other: &Grant) -> Grant {
        let most = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
        Grant {
            cpu_request: self.cpu_request.max(other.cpu_request),
            cpu_limit: most(self.cpu_limit, other.cpu_limit),
            memory_limit: most(self.memory_limit, other.memory_limit),
        }
    }
}
