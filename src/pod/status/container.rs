//! What Kubernetes would say of one container: its state and reason, the state before, its restart count.
//! Source: Kubernetes' API reference, ContainerStatus; the reasons are the kubelet's.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Now, begun};
use crate::clock::{Tick, spelt};
use crate::pod::facts::{ContainerFacts, Exit, HookKind, Image, PodFacts, Run, Sandbox};
use crate::pod::missing;
use crate::pod::resources::{Grant, container_id};
use crate::pod::restart::again;
use crate::pod::spec::{Container, Role};

type Amounts = BTreeMap<String, Quantity>;

/// A failed postStart hook is told for so long, then the back-off.
const FRESH: Duration = Duration::from_secs(10);

/// The reason of everything that a restart of all containers ends.
const RESTARTING_ALL: &str = "RestartingAllContainers";
const REMOVED: &str = "The container is removed because RestartAllContainers in place";

/// What the kubelet says of an init container that its runtime has forgotten.
const PASSED: &str = "Unable to get init container status from container runtime and pod has been initialized, \
                      treat it as exited normally";

/// Kubernetes' exit code of a container whose first process could not be started.
const NOT_STARTED: i32 = 128;

/// The status of one container of the pod; one that was never touched waits.
pub fn container(pod: &PodFacts, container: &Container, now: &Now) -> k8s::ContainerStatus {
    let untouched = ContainerFacts::default();
    let facts = pod.containers.get(&container.name).unwrap_or(&untouched);
    let view = View { pod, container, facts, now };
    let (state, last) = view.states();
    let completed = state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
    let holds =
        |test: fn(&Run, &Container) -> bool| facts.run.as_ref().is_some_and(|run| test(run, container));
    let shown = facts.run.as_ref().filter(|run| began(run)).or(facts.last.as_ref());
    let given = resources(pod, container);
    k8s::ContainerStatus {
        allocated_resources: given.as_ref().and_then(|given| given.requests.clone()),
        resources: given.map(|given| in_force(given, container, facts)),
        container_id: shown.map(|run| view.id(run)),
        image: container.image.clone(),
        image_id: match &facts.image {
            Image::Found { id } => id.clone(),
            Image::Unknown | Image::Missing { .. } | Image::Pulling { .. } => String::new(),
        },
        last_state: last.map(|ended| k8s::ContainerState { terminated: Some(ended), ..Default::default() }),
        name: container.name.clone(),
        ready: match pod.spec.role(container) {
            Role::Init => completed,
            Role::Sidecar | Role::Main => holds(Run::ready),
        },
        restart_count: i32::try_from(view.restarts()).unwrap_or(i32::MAX),
        started: Some(holds(Run::up)),
        state: Some(state),
        ..Default::default()
    }
}

/// What the spec says of the container's resources, where it says something.
fn resources(pod: &PodFacts, container: &Container) -> Option<k8s::ResourceRequirements> {
    let spec = pod.spec.object.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|one| one.name == container.name)?.resources.clone()
}

/// The same with what its cgroup has, where that is not yet what it should have. A memory request is in no cgroup.
fn in_force(
    mut given: k8s::ResourceRequirements,
    container: &Container,
    facts: &ContainerFacts,
) -> k8s::ResourceRequirements {
    let Some(run) = facts.run.as_ref().filter(|run| run.running()) else { return given };
    let has = run.grant(container);
    if has == Grant::container(container) {
        return given;
    }
    let milli = |cpu: u64| format!("{cpu}m");
    let mut put = |list: fn(&mut k8s::ResourceRequirements) -> &mut Option<Amounts>, name: &str, text| {
        let list = list(&mut given);
        match text {
            Some(text) => drop(list.get_or_insert_default().insert(name.to_owned(), Quantity(text))),
            None => drop(list.as_mut().map(|list| list.remove(name))),
        }
    };
    put(|given| &mut given.requests, "cpu", (has.cpu_request > 0).then(|| milli(has.cpu_request)));
    put(|given| &mut given.limits, "cpu", has.cpu_limit.map(milli));
    put(|given| &mut given.limits, "memory", has.memory_limit.map(|bytes| bytes.to_string()));
    given
}

/// Whether the run got as far as to have a process, or an end that counts as one.
fn began(run: &Run) -> bool {
    run.started.is_some() || run.code().is_some()
}

/// One container with all that its state depends on.
struct View<'a> {
    pod: &'a PodFacts,
    container: &'a Container,
    facts: &'a ContainerFacts,
    now: &'a Now<'a>,
}

impl View<'_> {
    /// The present state, and the end of the run before it.
    fn states(&self) -> (k8s::ContainerState, Option<k8s::ContainerStateTerminated>) {
        let before = || self.facts.last.as_ref().and_then(|run| self.ended(run));
        let Some(run) = &self.facts.run else {
            let passed = self.pod.spec.role(self.container) == Role::Init && begun(self.pod);
            return (if passed { self.passed() } else { self.idle() }, before());
        };
        if let Some(ended) = self.ended(run) {
            let fresh = end(run).is_some_and(|at| self.now.tick - at < FRESH);
            return match (self.due(), hook_failed(run).filter(|_| fresh)) {
                (Some(_), _) if self.facts.is_past(run) => {
                    (waiting(RESTARTING_ALL, String::new()), Some(ended))
                }
                (Some(_), Some(why)) => (waiting("PostStartHookError", why.to_owned()), Some(ended)),
                (Some(due), None) if due > self.now.tick => {
                    (waiting("CrashLoopBackOff", self.back_off(run, due)), Some(ended))
                }
                // It would run again by now, were its image there.
                (Some(_), None) if matches!(self.facts.image, Image::Missing { .. }) => {
                    (self.idle(), Some(ended))
                }
                (Some(_) | None, _) => {
                    (k8s::ContainerState { terminated: Some(ended), ..Default::default() }, before())
                }
            };
        }
        if let Some((at, _)) = &run.started {
            let running = k8s::ContainerStateRunning { started_at: Some(self.now.time(*at)) };
            return (k8s::ContainerState { running: Some(running), ..Default::default() }, before());
        }
        let state = match &run.failed {
            Some((_, why)) if why.ours => waiting(self.creating(), why.message.clone()),
            Some((_, why)) => waiting(&why.reason, why.message.clone()),
            None => waiting(self.creating(), String::new()),
        };
        (state, before())
    }

    /// An init container of which nothing is known, where a regular one was started already: it must have succeeded.
    fn passed(&self) -> k8s::ContainerState {
        let ended = k8s::ContainerStateTerminated {
            message: Some(PASSED.to_owned()),
            reason: Some("Completed".to_owned()),
            ..Default::default()
        };
        k8s::ContainerState { terminated: Some(ended), ..Default::default() }
    }

    /// Why a container without a run has none yet.
    fn idle(&self) -> k8s::ContainerState {
        let image = &self.container.image;
        let why = match &self.pod.sandbox {
            Sandbox::Failed { why, .. } => why.clone(),
            Sandbox::Absent | Sandbox::Ready { .. } => String::new(),
        };
        match &self.facts.image {
            Image::Unknown | Image::Found { .. } => waiting(self.creating(), why),
            Image::Pulling { tries: 0, .. } => waiting(self.creating(), format!("Pulling image \"{image}\"")),
            // As the kubelet: what failed before is told until this one has ended.
            Image::Pulling { why, .. } => {
                let (reason, message) = missing::told(image, why);
                waiting(reason, message)
            }
            Image::Missing { at, why, .. } => match missing::told(image, why) {
                // From the kubelet's next look on.
                (reason @ missing::PULL, why) if self.now.tick - *at >= missing::SYNC => waiting(
                    "ImagePullBackOff",
                    format!("Back-off pulling image \"{image}\": {reason}: {why}"),
                ),
                (reason, message) => waiting(reason, message),
            },
        }
    }

    /// The word for "not yet": what a container waits for depends on whether its pod has init containers.
    fn creating(&self) -> &'static str {
        if self.pod.spec.init.is_empty() { "ContainerCreating" } else { "PodInitializing" }
    }

    /// How the run ended, if it did.
    fn ended(&self, run: &Run) -> Option<k8s::ContainerStateTerminated> {
        let (finished, exit_code, signal, reason, message) = match (&run.exited, &run.failed) {
            (Some((at, exit)), _) => (*at, exit.code, exit.signal, self.reason(run, exit), &exit.message),
            (None, Some((at, why))) if why.counts() => (*at, NOT_STARTED, None, "StartError", &why.message),
            (None, _) => return None,
        };
        Some(k8s::ContainerStateTerminated {
            container_id: Some(self.id(run)),
            exit_code,
            finished_at: Some(self.now.time(finished)),
            message: match message.as_str() {
                "" => (reason == RESTARTING_ALL).then(|| REMOVED.to_owned()),
                message => Some(message.to_owned()),
            },
            reason: Some(reason.to_owned()),
            signal,
            started_at: Some(self.now.time(run.started.map_or(run.starting, |(at, _)| at))),
        })
    }

    /// When the ended container runs again, if it does.
    fn due(&self) -> Option<Tick> {
        if self.pod.stopping().is_some() {
            return None;
        }
        again(self.pod, self.container, self.now.restart_cap)
    }

    /// restartCount. A run from before a restart of all containers counts as restarted once it has ended, as its
    /// state says.
    fn restarts(&self) -> u32 {
        let gone = |run: &&Run| self.facts.is_past(run) && run.code().is_some();
        let gone = self.facts.run.as_ref().filter(gone).is_some_and(|_| self.due().is_some());
        self.facts.restarts.saturating_add(u32::from(gone))
    }

    fn reason(&self, run: &Run, exit: &Exit) -> &'static str {
        match exit.code {
            0 => "Completed",
            _ if self.facts.is_past(run) && run.killed.is_some() => RESTARTING_ALL,
            _ if exit.oom => "OOMKilled",
            _ => "Error",
        }
    }

    /// The kubelet's message for a container that runs again, but not yet.
    fn back_off(&self, run: &Run, due: Tick) -> String {
        let pod = &self.pod.spec;
        let span = end(run).map_or(Duration::ZERO, |finished| due - finished);
        // To the second.
        let span = spelt(Duration::from_secs(span.as_secs()));
        let (name, pod, namespace, uid) = (&self.container.name, &pod.name, &pod.namespace, &pod.uid);
        format!("back-off {span} restarting failed container={name} pod={pod}_{namespace}({uid})")
    }

    fn id(&self, run: &Run) -> String {
        format!("podinit://{}", container_id(&self.pod.spec.uid, &self.container.name, run.number))
    }
}

/// When the run ended, whichever way.
pub fn end(run: &Run) -> Option<Tick> {
    match (&run.exited, &run.failed) {
        (Some((at, _)), _) => Some(*at),
        (None, Some((at, why))) if why.counts() => Some(*at),
        (None, _) => None,
    }
}

/// The trouble of its postStart hook, where that failed.
fn hook_failed(run: &Run) -> Option<&str> {
    run.hooks.get(&HookKind::PostStart)?.ended.as_ref()?.1.as_deref()
}

fn waiting(reason: &str, message: String) -> k8s::ContainerState {
    let waiting = k8s::ContainerStateWaiting {
        message: (!message.is_empty()).then_some(message),
        reason: Some(reason.to_owned()),
    };
    k8s::ContainerState { waiting: Some(waiting), ..Default::default() }
}
