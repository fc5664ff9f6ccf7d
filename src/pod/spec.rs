//! What is wanted: pods as the plan sees them. Past `manifest/` an invalid pod cannot be expressed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use serde::{Deserialize, Serialize};

/// Everything that is wanted of this machine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// In the order of their files; no two share namespace and name.
    pub pods: Vec<Arc<Pod>>,
    /// Nothing is wanted any more: the machine (or `podinit run`) is ending. `pods` is then ignored.
    pub ending: bool,
    /// The longest grace that an ending machine gives any pod (kubelet: shutdownGracePeriod).
    pub ending_grace: Option<Duration>,
    /// The cap of the crash-loop back-off (kubelet: crashLoopBackOff.maxContainerRestartPeriod); None: 300 s.
    pub restart_cap: Option<Duration>,
}

/// One pod, checked and defaulted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Content-derived unless the manifest names one (behaviour: any edit without an explicit uid is a new pod).
    pub uid: String,
    pub namespace: String,
    /// With the node's suffix: `web-board1`.
    pub name: String,
    /// The manifest it came from, for messages: `web.yaml`, or `web.yaml#2` for the second document.
    pub origin: String,
    pub restart: RestartPolicy,
    /// terminationGracePeriodSeconds.
    pub grace: Duration,
    pub host_network: bool,
    /// The name that its containers see; the node's own when on the host's network.
    pub hostname: String,
    pub init: Vec<Container>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// The object as Kubernetes shows it: defaulted, with uid, node suffix and annotations, without a status.
    pub object: k8s::Pod,
}

impl Pod {
    /// `namespace/name`, the key by which only one pod may run.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Init containers first, then the regular ones.
    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.init.iter().chain(&self.containers)
    }

    /// The container of this name, init or regular.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all().find(|container| container.name == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// As written: `nginx:1.27`; `image::reference` normalises it.
    pub image: String,
    pub pull: PullPolicy,
    /// Replaces the image's ENTRYPOINT (and drops its CMD) when not empty. `$(VAR)` not yet expanded.
    pub command: Vec<String>,
    /// Replaces the image's CMD when not empty.
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// In the order of declaration, `$(VAR)` not yet expanded: `env::resolve` does it.
    pub env: Vec<EnvVar>,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    pub tty: bool,
    /// `/dev/termination-log` unless set.
    pub termination_path: String,
    pub fallback_to_logs: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EnvValue {
    Literal(String),
    /// A checked fieldPath: metadata.name, metadata.labels['k'], status.podIP, ...
    Field(String),
    /// A checked resourceFieldRef of a container of the same pod.
    Resource {
        container: String,
        resource: String,
        divisor: String,
    },
}

/// A volumeMount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    pub read_only: bool,
    pub sub_path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// `memory`: a tmpfs; `limit` in bytes.
    EmptyDir {
        memory: bool,
        limit: Option<u64>,
    },
    HostPath {
        path: String,
        kind: HostPathType,
    },
}

/// hostPath.type; the checks are in behaviour.md's section on volumes and in Kubernetes' API reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathType {
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Requests and limits; None is "not given", which differs from an explicit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// In thousandths of a core.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// In bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
}

/// Something a manifest's author should know: why a document was refused, or what in it has no effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The file's name in the manifest directory.
    pub file: String,
    /// From 1; 0 where the trouble has no line (the file cannot be read).
    pub line: u32,
    /// `spec.containers[0].image`, empty where the trouble is the document's.
    pub field: String,
    /// What is wrong, with the value, and what would do.
    pub message: String,
    /// True: the document was refused and the last good one (if any) runs on. False: a warning.
    pub refused: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.file)?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(out, ": {}", self.field)?;
        }
        write!(out, ": {}", self.message)
    }
}

/// What the manifests say at one moment.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// No two share namespace and name; where a file turned bad, its last good pods.
    pub pods: Vec<Arc<Pod>>,
    pub problems: Vec<Problem>,
}

/// Labels or annotations.
pub type Map = BTreeMap<String, String>;
