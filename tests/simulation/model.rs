//! What really happens: a model of hands, kernel and containers, kept apart from what the world believes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use podinit::clock::Tick;
use podinit::pod::Pod;
use podinit::pod::plan::Action;

/// Everything real.
#[derive(Default)]
pub struct Reality {
    /// By uid.
    pub pods: BTreeMap<String, RealPod>,
}

pub struct RealPod {
    pub spec: Arc<Pod>,
    pub dismissed: Option<Tick>,
    pub set_up: bool,
    /// Failed tries, and the last one.
    pub set_up_failed: (u32, Tick),
    pub tear_down_failed: (u32, Tick),
    pub containers: BTreeMap<String, RealContainer>,
}

#[derive(Default)]
pub struct RealContainer {
    /// When the image was last found; None: never, or it was missing since.
    pub found: Option<Tick>,
    pub missing: (u32, Tick),
    pub runs: Vec<RealRun>,
    /// client-go's entry: the back-off, and when it was last raised.
    pub entry: Option<(Duration, Tick)>,
    pub trouble: u32,
    pub restarts: u32,
}

pub struct RealRun {
    pub number: u32,
    pub starting: Tick,
    pub started: Option<Tick>,
    pub stopped: Option<Tick>,
    pub killed: Option<Tick>,
    pub end: Option<(Tick, End)>,
    pub cleaned: bool,
    /// What happens to it next.
    pub next: Option<(Tick, Next)>,
    /// How long it takes to end on a stop signal; None: it ignores it.
    pub yields: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Starts,
    End(End),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Exit {
        code: i32,
        oom: bool,
    },
    /// A helper of ours was killed.
    Ours,
    /// The container was made, its process could not be started.
    StartError,
    /// The container could not be made.
    CreateError,
}

impl RealPod {
    pub fn new(spec: Arc<Pod>) -> Self {
        let never = (0, Tick(0));
        let containers =
            spec.all().map(|container| (container.name.clone(), RealContainer::default())).collect();
        RealPod {
            spec,
            dismissed: None,
            set_up: false,
            set_up_failed: never,
            tear_down_failed: never,
            containers,
        }
    }

    pub fn live(&self) -> bool {
        self.containers.values().any(|container| container.live().is_some())
    }

    pub fn succeeded(&self, init: &str) -> bool {
        self.containers[init].end() == Some(End::Exit { code: 0, oom: false })
    }

    /// (port, address) on the host.
    pub fn ports(&self) -> Vec<(i32, String)> {
        ports(&self.spec)
    }
}

pub fn ports(pod: &Pod) -> Vec<(i32, String)> {
    if !pod.host_network {
        return Vec::new();
    }
    let containers = pod.object.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.map(|port| (port.host_port.unwrap(), port.host_ip.clone().unwrap_or_default())).collect()
}

pub fn clash(one: &[(i32, String)], other: &[(i32, String)]) -> bool {
    one.iter()
        .any(|(port, at)| other.iter().any(|(p, a)| p == port && (a == at || a.is_empty() || at.is_empty())))
}

impl RealContainer {
    pub fn live(&self) -> Option<&RealRun> {
        self.runs.last().filter(|run| run.end.is_none())
    }

    pub fn end(&self) -> Option<End> {
        self.runs.last()?.end.map(|(_, end)| end)
    }
}

/// client-go's Backoff.Next after a run that ended at `finish`.
pub fn raise(container: &mut RealContainer, finish: Tick, now: Tick, cap: Duration) {
    let first = Duration::from_secs(10).min(cap);
    container.entry = match container.entry {
        Some((wait, raised)) if finish - raised <= Duration::from_secs(600) => {
            Some(((wait * 2).min(cap), now))
        }
        _ => Some((first, now)),
    };
}

/// Whom an action concerns: uid and container.
pub fn subject(action: &Action) -> (&str, &str) {
    match action {
        Action::Admit(pod) | Action::Reject { pod, .. } => (&pod.uid, ""),
        Action::Dismiss { uid, .. }
        | Action::SetUp { uid }
        | Action::Project { uid }
        | Action::Expire { uid }
        | Action::TearDown { uid } => (uid, ""),
        Action::Find { uid, container }
        | Action::Start { uid, container, .. }
        | Action::Hook { uid, container, .. }
        | Action::RestartAll { uid, container, .. }
        | Action::Signal { uid, container, .. }
        | Action::Clean { uid, container, .. } => (uid, container),
    }
}
