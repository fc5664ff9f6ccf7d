//! The phase of a pod, from the states of its containers.
//! Source: Kubernetes' "Pod Lifecycle", section "Pod phase", and what the kubelet makes of it.

use k8s_openapi::api::core::v1 as k8s;

use crate::pod::spec::Role;

/// What the phase needs to know of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct One {
    pub role: Role,
    pub state: State,
    /// Whether it runs again after its newest end.
    pub again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running. `last`: the exit code of the run before, where there was one.
    Waiting {
        last: Option<i32>,
    },
    Running {
        started: bool,
    },
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
            State::Running { started: status.started == Some(true) }
        } else {
            State::Waiting { last: ended(&status.last_state) }
        }
    }

    /// The exit code of a container that ran and does not run now.
    fn code(self) -> Option<i32> {
        match self {
            State::Waiting { last } => last,
            State::Running { .. } => None,
            State::Ended(code) => Some(code),
        }
    }
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. `initialized`: a regular container was started before.
pub fn phase(all: &[One], initialized: bool) -> &'static str {
    const NEVER_RAN: State = State::Waiting { last: None };
    let of = |role: Role| all.iter().filter(move |one| one.role == role);
    let failed = |one: &One| !one.again && one.state.code().is_some_and(|code| code != 0);
    let running = |one: &One| matches!(one.state, State::Running { .. });
    if of(Role::Init).any(failed) {
        return "Failed";
    }
    let pending = of(Role::Init).any(|one| running(one) || one.state == NEVER_RAN)
        || !initialized && of(Role::Sidecar).any(|one| one.state == State::Running { started: false })
        || of(Role::Main).chain(of(Role::Sidecar)).any(|one| one.state == NEVER_RAN);
    if pending {
        return "Pending";
    }
    if of(Role::Main).chain(of(Role::Sidecar)).any(running) {
        return "Running";
    }
    if of(Role::Main).any(|one| one.again) {
        "Running"
    } else if of(Role::Main).any(failed) {
        "Failed"
    } else {
        "Succeeded"
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Ended, Running, Waiting};
    use super::*;
    use crate::pod::spec::RestartPolicy::{self, Always, Never, OnFailure};

    const NONE: State = Waiting { last: None };
    const LAST0: State = Waiting { last: Some(0) };
    const LAST1: State = Waiting { last: Some(-1) };
    const RUNS: State = Running { started: false };
    const STARTED: State = Running { started: true };

    /// By the policy alone.
    fn one(role: Role, policy: RestartPolicy, state: State) -> One {
        let again = match (role, policy) {
            (Role::Sidecar, _) => true,
            (Role::Main, Always) => true,
            (Role::Init, Always) | (_, OnFailure) => state.code().is_some_and(|code| code != 0),
            (Role::Init | Role::Main, Never) => false,
        };
        One { role, state, again }
    }

    /// E1: the kubelet's own table (TestPodPhase*), its numbers.
    /// A container without a status is one that never ran: podinit shows it as waiting. Rows 4, 5 and 28 are of API
    /// pods that a kubelet marks as ended against their policy: there are none here.
    #[test]
    fn e1_phases_are_the_kubelets() {
        let table: &[(u32, RestartPolicy, &[State], &[State], &[State], bool, &str)] = &[
            (1, Always, &[], &[], &[NONE, NONE], false, "Pending"),
            (2, Always, &[], &[], &[STARTED, STARTED], false, "Running"),
            (6, Always, &[], &[], &[STARTED, Ended(0)], false, "Running"),
            (8, Always, &[], &[], &[STARTED, NONE], false, "Pending"),
            (9, Always, &[], &[], &[STARTED, LAST0], false, "Running"),
            (10, Always, &[NONE], &[], &[NONE, NONE], false, "Pending"),
            (11, Always, &[RUNS], &[], &[NONE, NONE], false, "Pending"),
            (12, Always, &[Ended(-1)], &[], &[NONE, NONE], false, "Pending"),
            (13, Always, &[LAST0], &[], &[NONE, NONE], false, "Pending"),
            (14, Always, &[LAST1], &[], &[NONE, NONE], false, "Pending"),
            (15, Always, &[NONE], &[], &[NONE, NONE], false, "Pending"),
            (16, Always, &[Ended(0)], &[], &[STARTED, STARTED], false, "Running"),
            (19, Always, &[], &[Ended(0)], &[NONE, NONE], false, "Pending"),
            (20, Always, &[], &[LAST0], &[NONE, NONE], false, "Pending"),
            (22, Always, &[], &[NONE], &[NONE, NONE], false, "Pending"),
            (23, Always, &[], &[STARTED], &[STARTED, NONE], true, "Pending"),
            (24, Always, &[], &[STARTED], &[STARTED, STARTED], true, "Running"),
            (26, Always, &[], &[Ended(0)], &[STARTED, STARTED], true, "Running"),
            (32, Always, &[RUNS], &[RUNS], &[Ended(0)], false, "Pending"),
            (33, Always, &[Ended(0)], &[RUNS], &[Ended(0)], false, "Pending"),
            (34, Always, &[Ended(0)], &[RUNS], &[Ended(0)], true, "Running"),
            (36, Never, &[], &[], &[NONE, NONE], false, "Pending"),
            (38, Never, &[], &[], &[Ended(0), Ended(0)], false, "Succeeded"),
            (39, Never, &[], &[], &[Ended(-1), Ended(-1)], false, "Failed"),
            (40, Never, &[], &[], &[STARTED, Ended(0)], false, "Running"),
            (42, Never, &[], &[], &[STARTED, NONE], false, "Pending"),
            (43, Never, &[NONE], &[], &[NONE, NONE], false, "Pending"),
            (45, Never, &[Ended(-1)], &[], &[NONE, NONE], false, "Failed"),
            (47, Never, &[LAST1], &[], &[NONE, NONE], false, "Failed"),
            (48, Never, &[NONE], &[], &[NONE, NONE], false, "Pending"),
            (50, Never, &[], &[NONE], &[NONE, NONE], false, "Pending"),
            (51, Never, &[], &[RUNS], &[NONE, NONE], false, "Pending"),
            (52, Never, &[], &[Ended(0)], &[NONE, NONE], false, "Pending"),
            (53, Never, &[], &[LAST0], &[NONE, NONE], false, "Pending"),
            (54, Never, &[], &[LAST1], &[NONE, NONE], false, "Pending"),
            (56, Never, &[], &[STARTED], &[STARTED, NONE], true, "Pending"),
            (58, Never, &[], &[RUNS], &[Ended(0), Ended(0)], true, "Running"),
            (59, Never, &[], &[Ended(0)], &[Ended(0), Ended(0)], true, "Succeeded"),
            (60, Never, &[], &[Ended(-1)], &[Ended(0), Ended(0)], true, "Succeeded"),
            (62, Never, &[], &[LAST1], &[Ended(0), Ended(0)], true, "Succeeded"),
            (63, OnFailure, &[], &[], &[NONE, NONE], false, "Pending"),
            (67, OnFailure, &[], &[], &[STARTED, Ended(0)], false, "Running"),
            (70, OnFailure, &[], &[], &[STARTED, LAST0], false, "Running"),
            // Our own: what ended and starts again is Running; what stays ended is not.
            (101, Always, &[], &[], &[Ended(0), Ended(0)], false, "Running"),
            (102, Always, &[], &[], &[LAST1, LAST1], false, "Running"),
            (103, OnFailure, &[], &[], &[Ended(0), LAST1], false, "Running"),
            (104, OnFailure, &[], &[], &[Ended(0), Ended(0)], false, "Succeeded"),
            (105, Never, &[], &[], &[Ended(0), Ended(1)], false, "Failed"),
            (106, OnFailure, &[Ended(1)], &[], &[NONE], false, "Pending"),
            (107, OnFailure, &[], &[], &[Ended(1), Ended(0)], false, "Running"),
            (108, OnFailure, &[], &[], &[STARTED, NONE], false, "Pending"),
            (109, Never, &[], &[], &[Ended(0), LAST1], false, "Failed"),
            (110, Never, &[], &[], &[STARTED, LAST1], false, "Running"),
            // Init containers before all else; one that waits to run again is no hindrance, one that never ran is.
            (111, Never, &[Ended(0), Ended(1)], &[], &[NONE], false, "Failed"),
            (112, Never, &[Ended(1)], &[STARTED], &[NONE], false, "Failed"),
            (113, Always, &[Ended(0), NONE], &[], &[STARTED], true, "Pending"),
            (114, OnFailure, &[LAST1, NONE], &[], &[NONE], false, "Pending"),
            (115, Never, &[Ended(0)], &[], &[Ended(0)], true, "Succeeded"),
            (116, Never, &[Ended(0)], &[], &[Ended(3)], true, "Failed"),
            (117, Always, &[Ended(0)], &[], &[Ended(3)], true, "Running"),
            // Sidecars: they hold a pod that has not begun, keep one Running while they run, and decide nothing more.
            (118, Always, &[], &[RUNS], &[STARTED], true, "Running"),
            (119, Always, &[], &[RUNS], &[NONE], false, "Pending"),
            (120, Always, &[], &[LAST1], &[STARTED], true, "Running"),
            (121, OnFailure, &[], &[STARTED], &[Ended(0)], true, "Running"),
            (122, OnFailure, &[], &[Ended(137)], &[Ended(0)], true, "Succeeded"),
            (123, OnFailure, &[], &[Ended(137)], &[Ended(1)], true, "Running"),
            (124, Never, &[], &[Ended(0)], &[Ended(1), Ended(0)], true, "Failed"),
            (125, Never, &[], &[STARTED], &[Ended(1)], true, "Running"),
            (126, Never, &[Ended(0)], &[NONE], &[NONE], false, "Pending"),
            // Rows 4, 5 and 28 of a static pod: what may run again has not ended.
            (127, Always, &[], &[], &[Ended(0), Ended(-1)], false, "Running"),
            (128, Always, &[], &[Ended(-1)], &[Ended(0), Ended(0)], true, "Running"),
            // The rows between.
            (141, Always, &[RUNS], &[RUNS], &[STARTED], true, "Pending"),
            (142, Always, &[Ended(0)], &[RUNS], &[STARTED], true, "Running"),
            (143, Always, &[Ended(0)], &[RUNS], &[LAST1], true, "Running"),
            (129, Always, &[], &[LAST1], &[NONE, NONE], false, "Pending"),
            (130, Always, &[], &[RUNS], &[NONE, NONE], false, "Pending"),
            (131, Always, &[], &[LAST1], &[STARTED, STARTED], true, "Running"),
            (132, Always, &[], &[STARTED], &[Ended(0), Ended(0)], true, "Running"),
            (133, Never, &[RUNS], &[], &[NONE, NONE], false, "Pending"),
            (134, Never, &[LAST0], &[], &[NONE, NONE], false, "Pending"),
            (135, Never, &[], &[LAST0], &[Ended(0), Ended(0)], true, "Succeeded"),
            (136, Never, &[], &[LAST1], &[Ended(0), Ended(-1)], true, "Failed"),
            (137, OnFailure, &[], &[], &[STARTED, STARTED], false, "Running"),
            (138, OnFailure, &[], &[], &[Ended(-1), Ended(-1)], false, "Running"),
            (139, OnFailure, &[LAST1], &[], &[NONE, NONE], false, "Pending"),
            (140, OnFailure, &[Ended(0)], &[LAST1], &[STARTED], true, "Running"),
        ];
        for (number, policy, init, sidecars, mains, initialized, expected) in table {
            let of = |role, states: &[State]| -> Vec<One> {
                states.iter().map(|state| one(role, *policy, *state)).collect()
            };
            let all = [of(Role::Init, init), of(Role::Sidecar, sidecars), of(Role::Main, mains)].concat();
            assert_eq!(phase(&all, *initialized), *expected, "row {number}");
        }
    }

    /// It was told as Running: a sidecar that never ran is waited for even where regular containers have run (getPhase).
    #[test]
    fn a_sidecar_that_never_ran_keeps_its_pod_pending() {
        for state in [STARTED, Ended(0), LAST1] {
            let all = [one(Role::Sidecar, Always, NONE), one(Role::Main, Always, state)];
            assert_eq!(phase(&all, true), "Pending", "{state:?}");
        }
    }
}
