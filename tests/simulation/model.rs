//! What really happens: a model of hands, kernel and containers, kept apart from what the world believes.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The runs whose output is not all in its log.
    pub streams: BTreeSet<String>,
    /// The logger's pid while it lives.
    pub logger: Option<i32>,
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

    pub fn ports(&self) -> Vec<Port> {
        ports(&self.spec)
    }
}

/// A port of the host.
#[derive(PartialEq)]
pub struct Port {
    udp: bool,
    number: i32,
    /// None: at all of them.
    address: Option<String>,
}

pub fn ports(pod: &Pod) -> Vec<Port> {
    if !pod.host_network {
        return Vec::new();
    }
    let containers = pod.object.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .map(|port| Port {
            udp: port.protocol.as_deref() == Some("UDP"),
            number: port.host_port.unwrap(),
            address: port.host_ip.clone().filter(|at| !["", "0.0.0.0", "::"].contains(&at.as_str())),
        })
        .collect()
}

pub fn clash(one: &[Port], other: &[Port]) -> bool {
    let meet = |one: &Port, other: &Port| {
        let everywhere = one.address.is_none() || other.address.is_none();
        one.udp == other.udp && one.number == other.number && (everywhere || one.address == other.address)
    };
    one.iter().any(|one| other.iter().any(|other| meet(one, other)))
}

impl RealContainer {
    pub fn live(&self) -> Option<&RealRun> {
        self.runs.last().filter(|run| run.end.is_none())
    }

    pub fn end(&self) -> Option<End> {
        self.runs.last()?.end.map(|(_, end)| end)
    }
}

/// The name of a run's output.
pub fn stream(uid: &str, container: &str, run: u32) -> String {
    format!("{uid}/{container}/{run}")
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
        Action::Admit(pod) => (&pod.uid, ""),
        Action::Dismiss { uid, .. } | Action::SetUp { uid } | Action::TearDown { uid } => (uid, ""),
        Action::Find { uid, container }
        | Action::Start { uid, container, .. }
        | Action::Signal { uid, container, .. }
        | Action::Clean { uid, container, .. } => (uid, container),
    }
}
