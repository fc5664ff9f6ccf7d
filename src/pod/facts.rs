//! What happened: facts, and the world they add up to. Nothing here says what was meant.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::facts::{Batch, JobFact};
use super::resources::Grant;
use super::restart::{After, after};
use super::spec::{Config, Container, Pod, Problem};
use super::users::Ids;
use super::verify::Verified;
use crate::clock::Tick;

/// One thing that happened, told once, when it was observed. `World::learn` files it under its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// The manifests were read: these are their present problems (the whole set, replacing the former one).
    Listed { problems: Vec<Problem> },
    /// The manifests have this ConfigMap or Secret, as last good.
    Kept { config: Arc<Config> },
    /// They have it no more.
    Dropped { key: String },
    /// A wanted pod was taken up: from now on its spec is this one until it is torn down.
    Admitted { pod: Arc<Pod> },
    /// An admitted pod was seen to be no longer wanted. Its grace period runs from here.
    Dismissed { uid: String, why: Dismissal },
    /// A pod with a user namespace of its own (hostUsers: false) got these of the machine's ids, until it is torn down.
    Allotted { uid: String, ids: Ids },
    /// Cgroup, namespaces, volumes and log directories stand. `ip`: the pod's address, where it has one.
    SetUp { uid: String, ip: Option<String> },
    /// Logs of so many former runs of the container are there: its runs are counted on from them.
    Logged { uid: String, container: String, runs: u32 },
    /// They could not be made; nothing half-made is left.
    SetUpFailed { uid: String, why: String },
    /// The container's image is in the store. `id` is the digest of its config: `sha256:...`.
    /// `pulled`: how that went, where it was not there before.
    ImageFound {
        uid: String,
        container: String,
        id: String,
        #[serde(default)]
        pulled: Option<Pulled>,
    },
    /// It is on its way from its registry, or waits for its turn. `lacking`: the imagePullSecrets that are not there.
    ImagePulling {
        uid: String,
        container: String,
        #[serde(default)]
        lacking: Vec<String>,
    },
    /// It is not, or it could not be had.
    ImageMissing { uid: String, container: String, why: String },
    /// What the container's image has on the disk is not what it was, and was put aside; `what` tells which file. `layer`: it
    /// is one of those that a container runs from.
    ImageDamaged { uid: String, container: String, what: String, layer: bool },
    /// These images, or all that are in use, were read from `begun` on and compared with their digests; `damaged` are those
    /// that were not whole.
    Verified { begun: Tick, images: Vec<String>, all: bool, damaged: Vec<String> },
    /// Its pull failed a while ago, and is not tried again yet.
    ImageBackOff { uid: String, container: String },
    /// The start helper runs. `stdout` and `stderr` are PID 1's read ends of the container's output.
    Starting { uid: String, container: String, run: u32, helper: i32, stdout: i32, stderr: i32 },
    /// A container's output pipes were made: it is the logger's to follow. `fds`: PID 1's ends, in the logger's order;
    /// `id`: the run's; `log`: the file.
    Piped { id: String, log: String, fds: Vec<i32> },
    /// The logger wrote all of it: PID 1's ends are closed.
    Drained { id: String },
    /// The container's first process runs.
    Started { uid: String, container: String, run: u32, pid: i32 },
    /// It could not be started, and nothing half-made is left.
    StartFailed { uid: String, container: String, run: u32, why: StartError },
    /// The volumes of ConfigMaps, Secrets and downward fields hold what this digest stands for.
    Projected { uid: String, digest: u64 },
    /// They could not be made to hold it, and hold what they held.
    ProjectFailed { uid: String, digest: u64, why: String },
    /// A probe's verdict, its thresholds applied, differs from the one before. `why`: the output of the last try.
    Probed { uid: String, container: String, run: u32, probe: ProbeKind, ok: bool, why: String },
    /// One try of a probe failed (`error`: could not even be made). Told as an event; decides nothing.
    ProbeFailed { uid: String, container: String, run: u32, probe: ProbeKind, error: bool, why: String },
    /// A hook was begun; 0: without a helper.
    Hooking { uid: String, container: String, run: u32, hook: HookKind, helper: i32 },
    /// It ended, with this trouble where it failed.
    Hooked { uid: String, container: String, run: u32, hook: HookKind, failed: Option<String> },
    /// A wanted pod cannot be taken up now: Kubernetes' reason (OutOfcpu, NodePorts, SysctlForbidden, ...) and message.
    Rejected { pod: Arc<Pod>, reason: String, message: String },
    /// It is not wanted any more, or waits for a namesake's end; or an admitted pod's resize is not wanted any more.
    Withdrawn { uid: String },
    /// A resize of an admitted pod was accepted: its spec is this one, which differs in cpu and memory only.
    Allocated { pod: Arc<Pod> },
    /// It cannot be accepted now: Kubernetes' reason (Deferred, Infeasible) and message.
    ResizePending { pod: Arc<Pod>, reason: String, message: String },
    /// A container's cgroup has these values now; without a container, the pod's.
    Resized { uid: String, of: Option<(String, u32)>, grant: Grant },
    /// It could not be given them, and has what it had.
    ResizeFailed { uid: String, of: Option<(String, u32)>, grant: Grant, why: String },
    /// A signal was sent: `kill` to everything in the container's cgroup, else the stop signal to its first process.
    Signalled { uid: String, container: String, run: u32, kill: bool },
    /// The end of this run asks for a restart of all containers of its pod: their present runs are of the past.
    RestartAll { uid: String, container: String, run: u32 },
    /// The pod was still active at the end of its activeDeadlineSeconds.
    Expired { uid: String },
    /// The container's first process ended (and with it, by its pid namespace, all others).
    Exited { uid: String, container: String, run: u32, exit: Exit },
    /// What the ended run left (cgroup, writable layer, mounts) is gone.
    Cleaned { uid: String, container: String, run: u32 },
    /// Everything of the pod is gone: the world forgets it.
    TornDown { uid: String },
    /// Something of it could not be removed yet.
    TearDownFailed { uid: String, why: String },
    /// A long-lived helper (logger, net, prompt) was started, or ended and is gone.
    Helper { name: String, pid: Option<i32> },
    /// Images that nothing uses were removed, all their names, and files that no name led to: bytes on the disk.
    Collected { images: Vec<String>, files: u64, bytes: u64 },
    /// Too little was, or nothing could be: the kubelet's reason (FreeDiskSpaceFailed, ImageGCFailed) and message.
    CollectFailed { reason: String, message: String },
    /// Something happened to a Job or a CronJob.
    Job(JobFact),
}

impl Fact {
    /// The uid of the pod whose facts it may change.
    pub fn uid(&self) -> Option<&str> {
        match self {
            Fact::Admitted { pod }
            | Fact::Rejected { pod, .. }
            | Fact::Allocated { pod }
            | Fact::ResizePending { pod, .. } => Some(&pod.uid),
            Fact::Dismissed { uid, .. }
            | Fact::Allotted { uid, .. }
            | Fact::Logged { uid, .. }
            | Fact::Resized { uid, .. }
            | Fact::ResizeFailed { uid, .. }
            | Fact::SetUp { uid, .. }
            | Fact::SetUpFailed { uid, .. }
            | Fact::ImageFound { uid, .. }
            | Fact::ImageMissing { uid, .. }
            | Fact::ImageBackOff { uid, .. }
            | Fact::ImagePulling { uid, .. }
            | Fact::ImageDamaged { uid, .. }
            | Fact::Starting { uid, .. }
            | Fact::Started { uid, .. }
            | Fact::StartFailed { uid, .. }
            | Fact::Projected { uid, .. }
            | Fact::ProjectFailed { uid, .. }
            | Fact::Probed { uid, .. }
            | Fact::ProbeFailed { uid, .. }
            | Fact::Hooking { uid, .. }
            | Fact::Hooked { uid, .. }
            | Fact::Withdrawn { uid }
            | Fact::Signalled { uid, .. }
            | Fact::RestartAll { uid, .. }
            | Fact::Expired { uid }
            | Fact::Exited { uid, .. }
            | Fact::Cleaned { uid, .. }
            | Fact::TornDown { uid }
            | Fact::TearDownFailed { uid, .. } => Some(uid),
            Fact::Listed { .. }
            | Fact::Kept { .. }
            | Fact::Dropped { .. }
            | Fact::Piped { .. }
            | Fact::Drained { .. }
            | Fact::Collected { .. }
            | Fact::CollectFailed { .. }
            | Fact::Verified { .. }
            | Fact::Job(_)
            | Fact::Helper { .. } => None,
        }
    }
}

/// Why a pod is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dismissal {
    /// Its manifest is gone.
    Removed,
    /// Its manifest was changed; a pod of the same name waits.
    Replaced,
    /// The machine is ending.
    Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HookKind {
    PostStart,
    PreStop,
}

/// How a start went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartError {
    /// Kubernetes' word: CreateContainerConfigError, CreateContainerError, RunContainerError, StartError.
    pub reason: String,
    pub message: String,
    /// True: the fault is not the container's (a helper was killed): try again soon, and count no restart.
    pub ours: bool,
}

/// How a container's first process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0..255; 128 + signal where a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel killed something in the container's cgroup for want of memory (its `memory.events`).
    pub oom: bool,
    /// The termination message, at most 4096 bytes.
    pub message: String,
}

/// Everything known. Facts only; states are computed from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// By uid.
    pub pods: BTreeMap<String, PodFacts>,
    /// What the manifests' authors should know now.
    pub problems: Vec<Problem>,
    /// The ConfigMaps and Secrets of the manifests, as last good, by `kept::key`.
    #[serde(default)]
    pub configs: BTreeMap<String, Arc<Config>>,
    /// The pids of long-lived helpers, by name.
    pub helpers: BTreeMap<String, i32>,
    /// Wanted pods that cannot be taken up, by uid: since when, reason and message.
    #[serde(default)]
    pub rejected: BTreeMap<String, Rejection>,
    /// Output that is not all in its log yet, by the run's id.
    pub streams: BTreeMap<String, Stream>,
    /// When images were last read in full.
    #[serde(default)]
    pub verified: Verified,
    /// Jobs and CronJobs.
    #[serde(default)]
    pub batch: Batch,
    /// The newest last, at most `EVENTS`.
    pub events: VecDeque<Event>,
}

/// Why a wanted pod is not taken up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    pub pod: Arc<Pod>,
    pub since: Tick,
    pub reason: String,
    pub message: String,
}

impl Rejection {
    /// Whether it was told already that this pod is not taken up for this reason.
    pub fn told(&self, reason: &str, pod: &Arc<Pod>) -> bool {
        self.reason == reason && self.pod == *pod
    }
}

/// A run's output on its way to the log: what a new logger is handed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub log: String,
    pub fds: Vec<i32>,
}

/// How many events are remembered.
pub const EVENTS: usize = 256;

/// What `podinit get events` tells: derived from a fact when it is learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub first: Tick,
    pub last: Tick,
    pub count: u32,
    pub warning: bool,
    /// Kubernetes' word: Started, Killing, BackOff, Failed, ...
    pub reason: String,
    pub message: String,
    /// Pod, Job or CronJob; Node for the machine's own.
    pub kind: String,
    /// Its `namespace/name`; empty for the machine's own.
    pub pod: String,
    pub uid: String,
    /// The container concerned, empty where it is the whole pod.
    pub container: String,
}

/// One admitted pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodFacts {
    pub spec: Arc<Pod>,
    pub admitted: Tick,
    pub dismissed: Option<(Tick, Dismissal)>,
    /// When its activeDeadlineSeconds were over while it was active.
    #[serde(default)]
    pub expired: Option<Tick>,
    /// Of the machine's user and group ids, with hostUsers: false.
    #[serde(default)]
    pub ids: Option<Ids>,
    pub sandbox: Sandbox,
    /// By container name; a container without an entry was never touched.
    pub containers: BTreeMap<String, ContainerFacts>,
    /// Failed attempts to tear down: how many, the last one, and why.
    pub stuck: Option<(u32, Tick, String)>,
    /// What its projected volumes hold.
    #[serde(default)]
    pub projected: Option<u64>,
    /// The newest failure to change that; None once they hold what they should.
    #[serde(default)]
    pub stale: Option<Stale>,
    /// What its cgroup has.
    #[serde(default)]
    pub size: Size,
    /// The resize that is wanted and not accepted.
    #[serde(default)]
    pub pending: Option<Rejection>,
    /// When the newest resize was accepted.
    #[serde(default)]
    pub resized: Option<Tick>,
    /// Its Job has taken note of its end.
    #[serde(default)]
    pub counted: bool,
}

/// What is in force in a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// None: what the spec says, as nothing else was told.
    pub grant: Option<Grant>,
    /// The newest failure to change it; None once it is done.
    pub failed: Option<Strain>,
}

/// A cgroup that could not be given what it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strain {
    pub grant: Grant,
    pub tries: u32,
    pub at: Tick,
    pub why: String,
}

/// Projected volumes that do not hold what they should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// What they should hold.
    pub digest: u64,
    pub tries: u32,
    pub at: Tick,
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sandbox {
    #[default]
    Absent,
    Ready {
        since: Tick,
        ip: Option<String>,
    },
    Failed {
        tries: u32,
        at: Tick,
        why: String,
    },
}

/// One container: its image, its present run, and the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    pub image: Image,
    /// The newest run.
    pub run: Option<Run>,
    /// The newest run that ended, before `run`. A start that never came to a container is not one.
    pub last: Option<Run>,
    /// How often it was started again: Kubernetes' restartCount. Lags behind `run.number` by the starts that came to
    /// no container, because numbers never repeat.
    pub restarts: u32,
    /// Consecutive starts that failed for our own reasons, not the container's.
    pub trouble: u32,
    /// The back-off step of the next restart: 0 waits for nothing, 1 for 10 s, 2 for 20 s. See `restart::wait`.
    pub step: u32,
    /// When `step` was last raised.
    pub stepped: Option<Tick>,
    /// When its image was last found.
    pub seen: Option<Tick>,
    /// What its image was found to be since then.
    #[serde(default)]
    pub damaged: Option<Damaged>,
    /// When that was last told.
    #[serde(default)]
    pub harmed: Option<Tick>,
    /// How many pulls of its image failed in a row, and the last one; a success does not forgive them, as in the
    /// kubelet, but time does.
    #[serde(default)]
    pub failed_pulls: Option<(u32, Tick)>,
    /// The number of its newest run when all containers of the pod were last to be restarted. Runs up to this one are
    /// of the past: they are killed, and then it is as if the container had not run yet.
    #[serde(default)]
    pub past: Option<u32>,
    /// The number of its first run: that of the runs of former boots, by their logs.
    #[serde(default)]
    pub first: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Image {
    #[default]
    Unknown,
    Found {
        id: String,
    },
    Missing {
        tries: u32,
        at: Tick,
        why: String,
        /// It was told that it is not tried again yet.
        #[serde(default)]
        told: bool,
    },
    /// On its way. `tries`: how many failed before; `why`: the last one's failure.
    Pulling {
        since: Tick,
        tries: u32,
        why: String,
    },
}

/// An image that is to be had anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    pub since: Tick,
    /// What is wrong, and what became of it.
    pub what: String,
    /// A file that a container runs from is among it.
    pub layer: bool,
}

/// How a pull went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// The same with the wait for its turn.
    pub waited: u64,
    /// Bytes of its blobs.
    pub size: u64,
}

/// One run of a container, from the start helper to the clean-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Counts from 0 and never repeats while the pod is admitted: the name of its log file.
    pub number: u32,
    pub starting: Tick,
    /// The start helper's pid while it runs.
    pub helper: Option<i32>,
    /// PID 1's read ends of its output.
    pub stdout: i32,
    pub stderr: i32,
    pub started: Option<(Tick, i32)>,
    pub failed: Option<(Tick, StartError)>,
    /// When the stop signal was sent.
    pub stopped: Option<Tick>,
    /// When everything in it was killed, last.
    pub killed: Option<Tick>,
    /// The probes' verdicts since they were first told, with the moment and the last output.
    #[serde(default)]
    pub verdicts: BTreeMap<ProbeKind, (Tick, bool, String)>,
    /// When a hook was begun, its helper while it runs, and how it ended.
    #[serde(default)]
    pub hooks: BTreeMap<HookKind, Hook>,
    pub exited: Option<(Tick, Exit)>,
    pub cleaned: bool,
    /// What its cgroup has.
    #[serde(default)]
    pub size: Size,
    /// When a resize was accepted that a resizePolicy RestartContainer answers with its end.
    #[serde(default)]
    pub outgrown: Option<Tick>,
    /// When the image was whole again of which it has a damaged file.
    #[serde(default)]
    pub worn: Option<Tick>,
}

/// A hook of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub begun: Tick,
    /// The helper's pid while it runs; 0 without one.
    pub helper: Option<i32>,
    /// When it ended, and the trouble if it failed.
    pub ended: Option<(Tick, Option<String>)>,
}

impl ContainerFacts {
    /// Whether the run is one from before a restart of all containers.
    pub fn is_past(&self, run: &Run) -> bool {
        self.past.is_some_and(|past| run.number <= past)
    }

    /// The newest run, unless it is of the past.
    pub fn present(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !self.is_past(run))
    }
}

impl Run {
    /// What its cgroup has.
    pub fn grant(&self, container: &Container) -> Grant {
        self.size.grant.unwrap_or_else(|| Grant::container(container))
    }

    /// When it ended, by an exit or by a start that failed; None while it lives or is being started.
    pub fn ended(&self) -> Option<Tick> {
        self.exited.as_ref().map(|(at, _)| *at).or(self.failed.as_ref().map(|(at, _)| *at))
    }

    /// True from the start helper to the end.
    pub fn live(&self) -> bool {
        self.ended().is_none()
    }

    /// Whether its first process runs.
    pub fn running(&self) -> bool {
        self.started.is_some() && self.live()
    }

    /// Whether its start has come to an end: it runs, and its postStart hook, where it has one, has ended well.
    pub fn begun(&self, container: &Container) -> bool {
        let hooked = || self.hooks.get(&HookKind::PostStart).and_then(|hook| hook.ended.as_ref());
        self.running() && (container.post_start.is_none() || hooked().is_some_and(|(_, why)| why.is_none()))
    }

    /// Kubernetes' `started`: it has begun, and its startup probe, where it has one, has succeeded.
    pub fn up(&self, container: &Container) -> bool {
        self.begun(container)
            && (container.startup.is_none() || self.verdict(ProbeKind::Startup) == Some(true))
    }

    /// Kubernetes' `ready` of a container that is not to end: it is up, and its readiness probe, where it has one,
    /// succeeds.
    pub fn ready(&self, container: &Container) -> bool {
        self.up(container)
            && (container.readiness.is_none() || self.verdict(ProbeKind::Readiness) == Some(true))
    }

    /// Whether its liveness or startup probe failed.
    pub fn unhealthy(&self) -> bool {
        [ProbeKind::Startup, ProbeKind::Liveness].iter().any(|kind| self.verdict(*kind) == Some(false))
    }

    /// What a probe was last told to say of it.
    pub fn verdict(&self, kind: ProbeKind) -> Option<bool> {
        self.verdicts.get(&kind).map(|(_, ok, _)| *ok)
    }

    /// The exit code, 128 for a container that was made but could not be started; None while it lives, or where it
    /// never came to a container.
    pub fn code(&self) -> Option<i32> {
        match (&self.exited, &self.failed) {
            (Some((_, exit)), _) => Some(exit.code),
            (None, Some((_, why))) if why.counts() => Some(128),
            (None, Some(_) | None) => None,
        }
    }

    /// Whether it failed as an init container: a process that the kernel killed for want of memory fails it, whatever
    /// the first process made of that (kubelet: isInitContainerFailed).
    pub fn init_failed(&self) -> bool {
        self.code().is_some_and(|code| code != 0) || self.exited.as_ref().is_some_and(|(_, exit)| exit.oom)
    }
}

impl StartError {
    /// Whether it stands for a run: the container was made, and its process could not be started.
    pub fn counts(&self) -> bool {
        !self.ours && !matches!(self.reason.as_str(), "CreateContainerConfigError" | "CreateContainerError")
    }
}

impl PodFacts {
    /// Taken up, nothing done yet.
    pub fn new(spec: Arc<Pod>, admitted: Tick) -> Self {
        PodFacts {
            spec,
            admitted,
            dismissed: None,
            expired: None,
            ids: None,
            sandbox: Sandbox::Absent,
            containers: BTreeMap::new(),
            stuck: None,
            projected: None,
            stale: None,
            size: Size::default(),
            pending: None,
            resized: None,
            counted: false,
        }
    }

    /// What its cgroup has.
    pub fn grant(&self) -> Grant {
        self.size.grant.unwrap_or_else(|| Grant::pod(&self.spec))
    }

    /// Whether a resize was accepted that is not in force everywhere.
    pub fn resizing(&self) -> bool {
        let other = |container: &Container| {
            let run = self.run(&container.name).filter(|run| run.live());
            run.is_some_and(|run| run.grant(container) != Grant::container(container))
        };
        self.resized.is_some() && (self.grant() != Grant::pod(&self.spec) || self.spec.all().any(other))
    }

    /// The newest run of this container.
    pub fn run(&self, container: &str) -> Option<&Run> {
        self.containers.get(container)?.run.as_ref()
    }

    /// All newest runs, by container name.
    pub fn runs(&self) -> impl Iterator<Item = (&str, &Run)> {
        self.containers.iter().filter_map(|(name, facts)| Some((name.as_str(), facts.run.as_ref()?)))
    }

    /// The newest run of this container, unless it is of the past.
    pub fn present(&self, container: &str) -> Option<&Run> {
        self.containers.get(container)?.present()
    }

    /// Since when it is over: every regular container ended for good, or an init container failed for good.
    pub fn over(&self) -> Option<Tick> {
        let stays = |container: &Container| {
            let run = self.present(&container.name)?;
            let ended = run.ended()?;
            (after(&self.spec, container, run) == After::Stays).then_some((ended, run.init_failed()))
        };
        let inits = self.spec.init.iter().filter(|init| !init.sidecar);
        let failed = inits.filter_map(stays).find(|(_, failed)| *failed).map(|(ended, _)| ended);
        let mains = || self.spec.containers.iter().try_fold(Tick(0), |last, c| Some(last.max(stays(c)?.0)));
        failed.or_else(mains)
    }

    /// Whether it came to its end, and that end was a good one.
    pub fn succeeded(&self) -> bool {
        let well = |container: &Container| {
            self.present(&container.name).is_some_and(|run| run.exited.is_some() && run.code() == Some(0))
        };
        self.expired.is_none() && self.over().is_some() && self.spec.containers.iter().all(well)
    }

    /// Since when it only ends: dismissed, expired or over.
    pub fn stopping(&self) -> Option<Tick> {
        let dismissed = self.dismissed.map(|(at, _)| at);
        [dismissed, self.expired, self.over()].into_iter().flatten().min()
    }

    /// Whether nothing of it runs, nor ever will again.
    pub fn done(&self) -> bool {
        self.stopping().is_some() && !self.runs().any(|(_, run)| run.live())
    }
}
