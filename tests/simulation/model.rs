//! What really happens: a model of hands, kernel and containers, kept apart from what the world believes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use podinit::clock::Tick;
use podinit::pod::facts::{HookKind, ProbeKind};
use podinit::pod::plan::Action;
use podinit::pod::resources::Grant;
use podinit::pod::spec::RestartPolicy;
use podinit::pod::{Container, Pod};

/// Everything real.
#[derive(Default)]
pub struct Reality {
    /// By uid.
    pub pods: BTreeMap<String, RealPod>,
    /// The runs whose output is not all in its log.
    pub streams: BTreeSet<String>,
    /// The logger's pid while it lives.
    pub logger: Option<i32>,
    /// How many runs of a container there are logs of, by uid and name: they outlive a pod that comes back.
    pub logs: BTreeMap<(String, String), u32>,
}

pub struct RealPod {
    pub spec: Arc<Pod>,
    pub admitted: Tick,
    pub dismissed: Option<Tick>,
    pub expired: Option<Tick>,
    pub set_up: bool,
    /// Failed tries, and the last one.
    pub set_up_failed: (u32, Tick),
    pub tear_down_failed: (u32, Tick),
    pub containers: BTreeMap<String, RealContainer>,
    /// What its cgroup has; None: none is made.
    pub grant: Option<Grant>,
    pub unfit: Option<Unfit>,
}

/// The failed tries to give a cgroup this, and the last one.
#[derive(Clone, Copy)]
pub struct Unfit {
    pub grant: Grant,
    pub tries: (u32, Tick),
}

#[derive(Default)]
pub struct RealContainer {
    /// When the image was last found; None: never, or it was missing since.
    pub found: Option<Tick>,
    pub missing: (u32, Tick),
    /// How many pulls failed in a row, and the last one; a success does not count.
    pub failed: (u32, Tick),
    /// It was told that it is not pulled again yet.
    pub told: bool,
    /// A pull of it is under way, or waits for its turn.
    pub pulling: bool,
    pub runs: Vec<RealRun>,
    /// client-go's entry: the back-off, and when it was last raised.
    pub entry: Option<(Duration, Tick)>,
    pub trouble: u32,
    pub restarts: u32,
    /// The number of its first run: there are logs of so many.
    pub first: u32,
    /// It was up since all containers were last restarted.
    pub was_up: bool,
    /// Its image was found damaged, and is not whole again; whether a file that containers run from is among it.
    pub damaged: Option<bool>,
}

pub struct RealRun {
    pub number: u32,
    pub starting: Tick,
    pub started: Option<Tick>,
    pub stopped: Option<Tick>,
    pub killed: Option<Tick>,
    pub end: Option<(Tick, End)>,
    pub cleaned: bool,
    /// It is from before a restart of all containers.
    pub past: bool,
    pub verdicts: BTreeMap<ProbeKind, (Tick, bool)>,
    /// When each hook was begun, and when it ended and whether well.
    pub hooks: BTreeMap<HookKind, (Tick, Option<(Tick, bool)>)>,
    /// What happens to it next.
    pub next: Option<(Tick, Next)>,
    /// What is told of it meanwhile.
    pub soon: Vec<(Tick, Soon)>,
    /// How long it takes to end on a stop signal; None: it ignores it.
    pub yields: Option<Duration>,
    /// What its cgroup has.
    pub grant: Grant,
    pub unfit: Option<Unfit>,
    /// When a resize was accepted for which it is restarted.
    pub outgrown: Option<Tick>,
    /// When its image was whole again of which it had a damaged file, or for which its crash may have been.
    pub worn: Option<Tick>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Starts,
    End(End),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Soon {
    Probed(ProbeKind, bool),
    Hooked(HookKind, bool),
}

/// What the end of a run leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    Stays,
    Again,
    All,
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
    pub fn new(spec: Arc<Pod>, admitted: Tick) -> Self {
        let never = (0, Tick(0));
        let containers =
            spec.all().map(|container| (container.name.clone(), RealContainer::default())).collect();
        RealPod {
            spec,
            admitted,
            dismissed: None,
            expired: None,
            set_up: false,
            set_up_failed: never,
            tear_down_failed: never,
            containers,
            grant: None,
            unfit: None,
        }
    }

    pub fn live(&self) -> bool {
        self.containers.values().any(|container| container.live().is_some())
    }

    pub fn plain(&self, name: &str) -> bool {
        self.spec.init.iter().any(|init| init.name == name && !init.sidecar)
    }

    pub fn sidecar(&self, name: &str) -> bool {
        self.spec.init.iter().any(|init| init.name == name && init.sidecar)
    }

    /// The newest run, unless it is from before a restart of all.
    pub fn present(&self, name: &str) -> Option<&RealRun> {
        self.containers[name].runs.last().filter(|run| !run.past)
    }

    pub fn succeeded(&self, init: &str) -> bool {
        self.present(init).and_then(|run| run.end).map(|(_, end)| end)
            == Some(End::Exit { code: 0, oom: false })
    }

    /// Since when every main, or an init container in vain, has ended for good.
    pub fn over(&self) -> Option<Tick> {
        let stays = |name: &str| {
            let run = self.present(name)?;
            let (at, _) = run.end?;
            (then(&self.spec, name, run) == Then::Stays).then_some(at)
        };
        for init in self.spec.init.iter().filter(|init| !init.sidecar && !self.succeeded(&init.name)) {
            if let Some(at) = stays(&init.name) {
                return Some(at);
            }
        }
        let ends: Option<Vec<Tick>> = self.spec.containers.iter().map(|main| stays(&main.name)).collect();
        ends?.into_iter().max()
    }

    /// Since when it only ends.
    pub fn stopping(&self) -> Option<Tick> {
        [self.dismissed, self.expired, self.over()].into_iter().flatten().min()
    }

    /// Why a live run is stopped although its pod goes on: since when, and with which grace.
    pub fn cause(&self, name: &str, run: &RealRun) -> Option<(Tick, Duration)> {
        let spec = self.spec.container(name).unwrap();
        let failed = |kind, own: &Option<podinit::pod::spec::Probe>| {
            let (at, ok) = run.verdicts.get(&kind)?;
            let grace = own.as_ref().and_then(|probe| probe.grace).unwrap_or(self.spec.grace);
            (!ok).then_some((*at, grace))
        };
        let hook = run.hooks.get(&HookKind::PostStart).and_then(|(_, ended)| *ended);
        let hook = hook.filter(|(_, well)| !well).map(|(at, _)| (at, self.spec.grace));
        let cause = failed(ProbeKind::Startup, &spec.startup)
            .or(failed(ProbeKind::Liveness, &spec.liveness))
            .or(hook)
            .or(run.outgrown.map(|since| (since, self.spec.grace)))
            .or(run.worn.filter(|_| self.lasts(name)).map(|since| (since, self.spec.grace)))?;
        self.stopping().is_none_or(|stopping| cause.0 <= stopping).then_some(cause)
    }

    /// Whether it is to run for ever.
    pub fn lasts(&self, name: &str) -> bool {
        let spec = self.spec.container(name).unwrap();
        let always = spec.restart.unwrap_or(self.spec.restart) == RestartPolicy::Always;
        spec.sidecar || always && !self.plain(name)
    }

    /// Whether a sidecar's signal waits for others.
    pub fn withheld(&self, name: &str) -> bool {
        let later = self.spec.init.iter().skip_while(|init| init.name != name).skip(1);
        let later =
            later.filter(|init| init.sidecar).any(|init| self.containers[&init.name].live().is_some());
        let others = self.spec.all().filter(|container| !container.sidecar);
        let others = others.into_iter().any(|container| self.containers[&container.name].live().is_some());
        self.sidecar(name) && (later || others)
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
    /// Its image is there, and whole.
    pub fn finds(&mut self, now: Tick) {
        (self.found, self.missing) = (Some(now), (0, now));
        let Some(layer) = self.damaged.take() else { return };
        self.entry = None;
        if let Some(run) = self.runs.last_mut().filter(|run| layer || run.end.is_some()) {
            run.worn.get_or_insert(now);
        }
    }

    /// Its image could not be had. A failure of more than ten minutes ago counts no more.
    pub fn no_pull(&mut self, now: Tick) {
        let (before, last) = self.failed;
        let before = if before > 0 && now - last <= Duration::from_secs(600) { before } else { 0 };
        self.failed = (before + 1, now);
        (self.found, self.missing, self.told) = (None, self.failed, false);
    }

    pub fn live(&self) -> Option<&RealRun> {
        self.runs.last().filter(|run| run.end.is_none())
    }
}

impl RealRun {
    pub fn hooked(&self, hook: HookKind) -> Option<bool> {
        self.hooks.get(&hook).and_then(|(_, ended)| *ended).map(|(_, well)| well)
    }

    pub fn up(&self, spec: &Container) -> bool {
        self.started.is_some()
            && self.end.is_none()
            && (spec.post_start.is_none() || self.hooked(HookKind::PostStart) == Some(true))
            && (spec.startup.is_none() || self.verdicts.get(&ProbeKind::Startup).is_some_and(|(_, ok)| *ok))
    }

    fn unhealthy(&self) -> bool {
        let failed = |kind| self.verdicts.get(kind).is_some_and(|(_, ok)| !ok);
        failed(&ProbeKind::Startup) || failed(&ProbeKind::Liveness)
    }
}

/// What the end of this run leads to, by rules and policies.
pub fn then(pod: &Pod, name: &str, run: &RealRun) -> Then {
    let spec = pod.container(name).unwrap();
    let plain = !spec.sidecar && pod.init.iter().any(|init| init.name == name);
    let (code, oom) = match run.end.map(|(_, end)| end) {
        None => return Then::Stays,
        Some(End::Ours | End::CreateError) => return Then::Again,
        Some(End::StartError) => (128, false),
        Some(End::Exit { code, oom }) => (code, oom),
    };
    let policy = if spec.sidecar { RestartPolicy::Always } else { spec.restart.unwrap_or(pod.restart) };
    let replaced = run.worn.is_some() && (run.stopped.is_some() || run.killed.is_some());
    if (run.unhealthy() || run.outgrown.is_some() || replaced) && !plain && policy != RestartPolicy::Never {
        return Then::Again;
    }
    let failed = code != 0 || plain && oom;
    let mut rules = spec.rules.iter();
    if let Some(rule) = rules.find(|rule| rule.codes.contains(&code) != rule.not_in) {
        if rule.all {
            return Then::All;
        }
        if failed || !plain {
            return Then::Again;
        }
    }
    let again = match policy {
        RestartPolicy::Always => failed || !plain,
        RestartPolicy::OnFailure => failed,
        RestartPolicy::Never => false,
    };
    if again { Then::Again } else { Then::Stays }
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
        Action::Admit(pod)
        | Action::Reject { pod, .. }
        | Action::Allocate(pod)
        | Action::Postpone { pod, .. } => (&pod.uid, ""),
        Action::Resize { uid, of, .. } => (uid, of.as_ref().map_or("", |(container, _)| container)),
        Action::Withdraw { uid } => (uid, ""),
        Action::Note(_) => ("", ""),
        Action::Dismiss { uid, .. }
        | Action::SetUp { uid }
        | Action::Project { uid }
        | Action::Expire { uid }
        | Action::TearDown { uid, .. } => (uid, ""),
        Action::Find { uid, container }
        | Action::BackOff { uid, container }
        | Action::Start { uid, container, .. }
        | Action::Hook { uid, container, .. }
        | Action::RestartAll { uid, container, .. }
        | Action::Signal { uid, container, .. }
        | Action::Clean { uid, container, .. } => (uid, container),
    }
}
