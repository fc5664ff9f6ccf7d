//! What happened: facts, and the world they add up to. Nothing here says what was meant.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spec::{Pod, Problem};
use crate::clock::Tick;

/// One thing that happened, told once, when it was observed. `World::learn` files it under its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// The manifests were read: these are their present problems (the whole set, replacing the former one).
    Listed { problems: Vec<Problem> },
    /// A wanted pod was taken up: from now on its spec is this one until it is torn down.
    Admitted { pod: Arc<Pod> },
    /// An admitted pod was seen to be no longer wanted. Its grace period runs from here.
    Dismissed { uid: String, why: Dismissal },
    /// Cgroup, namespaces, volumes and log directories stand. `ip`: the pod's address, where it has one.
    SetUp { uid: String, ip: Option<String> },
    /// They could not be made; nothing half-made is left.
    SetUpFailed { uid: String, why: String },
    /// The container's image is in the store. `id` is the digest of its config: `sha256:...`.
    ImageFound { uid: String, container: String, id: String },
    /// It is not, or it could not be had.
    ImageMissing { uid: String, container: String, why: String },
    /// The start helper runs. `stdout` and `stderr` are PID 1's read ends of the container's output.
    Starting { uid: String, container: String, run: u32, helper: i32, stdout: i32, stderr: i32 },
    /// The container's first process runs.
    Started { uid: String, container: String, run: u32, pid: i32 },
    /// It could not be started, and nothing half-made is left.
    StartFailed { uid: String, container: String, run: u32, why: StartError },
    /// A signal was sent: `kill` to everything in the container's cgroup, else the stop signal to its first process.
    Signalled { uid: String, container: String, run: u32, kill: bool },
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
    /// The pids of long-lived helpers, by name.
    pub helpers: BTreeMap<String, i32>,
    /// The newest last, at most `EVENTS`.
    pub events: VecDeque<Event>,
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
    /// `namespace/name` of the pod; empty for the machine's own.
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
    pub sandbox: Sandbox,
    /// By container name; a container without an entry was never touched.
    pub containers: BTreeMap<String, ContainerFacts>,
    /// Failed attempts to tear down: how many, the last one, and why.
    pub stuck: Option<(u32, Tick, String)>,
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
    /// The newest run that ended, before `run`.
    pub last: Option<Run>,
    /// Consecutive starts that failed for our own reasons, not the container's.
    pub trouble: u32,
    /// The back-off step that the last restart waited for: 0 before the first restart. See `restart`.
    pub step: u32,
    /// When `step` was last raised.
    pub stepped: Option<Tick>,
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
    },
}

/// One run of a container, from the start helper to the clean-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Counts from 0 and never repeats for this container: the restart count, and the name of its log file.
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
    /// When everything in it was killed.
    pub killed: Option<Tick>,
    pub exited: Option<(Tick, Exit)>,
    pub cleaned: bool,
}
