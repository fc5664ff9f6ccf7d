//! The phase of a pod, from the states of its containers.
//! Source: Kubernetes' "Pod Lifecycle", section "Pod phase", and what the kubelet makes of it.

use k8s_openapi::api::core::v1 as k8s;

use crate::pod::spec::RestartPolicy;

/// What the phase needs to know of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running. `last`: the exit code of the run before, where there was one.
    Waiting {
        last: Option<i32>,
    },
    Running,
    /// Its exit code.
    Ended(i32),
}

impl State {
    /// The state that a container's status tells.
    pub fn of(status: &k8s::ContainerStatus) -> State {
        let ended = |state: &Option<k8s::ContainerState>| {
            state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
        };
        if let Some(code) = ended(&status.state) {
            State::Ended(code)
        } else if status.state.as_ref().is_some_and(|state| state.running.is_some()) {
            State::Running
        } else {
            State::Waiting { last: ended(&status.last_state) }
        }
    }

    /// The exit code of a container that ran and does not run now.
    fn code(self) -> Option<i32> {
        match self {
            State::Waiting { last } => last,
            State::Running => None,
            State::Ended(code) => Some(code),
        }
    }
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub fn phase(policy: RestartPolicy, init: &[State], mains: &[State]) -> &'static str {
    const NEVER_RAN: State = State::Waiting { last: None };
    if policy == RestartPolicy::Never && init.iter().any(|state| state.code().is_some_and(|code| code != 0)) {
        return "Failed";
    }
    if init.iter().any(|state| *state == State::Running || *state == NEVER_RAN) || mains.contains(&NEVER_RAN)
    {
        return "Pending";
    }
    if mains.contains(&State::Running) {
        return "Running";
    }
    let again = |code: i32| match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    let codes: Vec<i32> = mains.iter().filter_map(|state| state.code()).collect();
    if codes.iter().any(|code| again(*code)) {
        "Running"
    } else if codes.iter().all(|code| *code == 0) {
        "Succeeded"
    } else {
        "Failed"
    }
}

#[cfg(test)]
mod tests {
    use super::RestartPolicy::{Always, Never, OnFailure};
    use super::State::{Ended, Running, Waiting};
    use super::*;

    const NONE: State = Waiting { last: None };
    const LAST0: State = Waiting { last: Some(0) };
    const LAST1: State = Waiting { last: Some(-1) };

    /// The kubelet's own table (TestPodPhase*), its numbers, without the rows on sidecars and on API pods.
    /// A container without a status is one that never ran: podinit shows it as waiting.
    #[test]
    fn phases_are_the_kubelets() {
        let table: &[(u32, RestartPolicy, &[State], &[State], &str)] = &[
            (1, Always, &[], &[NONE, NONE], "Pending"),
            (2, Always, &[], &[Running, Running], "Running"),
            (6, Always, &[], &[Running, Ended(0)], "Running"),
            (8, Always, &[], &[Running, NONE], "Pending"),
            (9, Always, &[], &[Running, LAST0], "Running"),
            (10, Always, &[NONE], &[NONE, NONE], "Pending"),
            (11, Always, &[Running], &[NONE, NONE], "Pending"),
            (12, Always, &[Ended(-1)], &[NONE, NONE], "Pending"),
            (13, Always, &[LAST0], &[NONE, NONE], "Pending"),
            (14, Always, &[LAST1], &[NONE, NONE], "Pending"),
            (15, Always, &[NONE], &[NONE, NONE], "Pending"),
            (16, Always, &[Ended(0)], &[Running, Running], "Running"),
            (36, Never, &[], &[NONE, NONE], "Pending"),
            (38, Never, &[], &[Ended(0), Ended(0)], "Succeeded"),
            (39, Never, &[], &[Ended(-1), Ended(-1)], "Failed"),
            (40, Never, &[], &[Running, Ended(0)], "Running"),
            (42, Never, &[], &[Running, NONE], "Pending"),
            (43, Never, &[NONE], &[NONE, NONE], "Pending"),
            (45, Never, &[Ended(-1)], &[NONE, NONE], "Failed"),
            (47, Never, &[LAST1], &[NONE, NONE], "Failed"),
            (48, Never, &[NONE], &[NONE, NONE], "Pending"),
            (63, OnFailure, &[], &[NONE, NONE], "Pending"),
            (67, OnFailure, &[], &[Running, Ended(0)], "Running"),
            (70, OnFailure, &[], &[Running, LAST0], "Running"),
            // Our own: what ended and starts again is Running; what stays ended is not.
            (101, Always, &[], &[Ended(0), Ended(0)], "Running"),
            (102, Always, &[], &[LAST1, LAST1], "Running"),
            (103, OnFailure, &[], &[Ended(0), LAST1], "Running"),
            (104, OnFailure, &[], &[Ended(0), Ended(0)], "Succeeded"),
            (105, Never, &[], &[Ended(0), Ended(1)], "Failed"),
            (106, OnFailure, &[Ended(1)], &[NONE], "Pending"),
        ];
        for (number, policy, init, mains, expected) in table {
            assert_eq!(phase(*policy, init, mains), *expected, "row {number}");
        }
    }
}
