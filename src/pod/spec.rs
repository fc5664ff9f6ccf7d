//! What is wanted: pods as the plan sees them. Past `manifest/` an invalid pod cannot be expressed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use serde::{Deserialize, Serialize};

use super::batch::spec::{Cron, Job, Owner};
use super::resources::Node;
use crate::clock::Wall;

/// Everything that is wanted of this machine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// In the order of their files; no two share namespace and name. The pods of Jobs are the planner's to add.
    pub pods: Vec<Arc<Pod>>,
    /// Nothing is wanted any more: the machine (or `podinit run`) is ending. `pods` is then ignored.
    pub ending: bool,
    /// The longest grace that an ending machine gives any pod (kubelet: shutdownGracePeriod).
    pub ending_grace: Option<Duration>,
    /// What of it is kept for critical pods, which are stopped after all others (shutdownGracePeriodCriticalPods);
    /// None or nothing: all pods are stopped at once.
    pub ending_grace_critical: Option<Duration>,
    /// What ends comes again with the same pods: a machine does at its next boot, `podinit run` leaves nothing.
    pub returns: bool,
    /// The cap of the crash-loop back-off (kubelet: crashLoopBackOff.maxContainerRestartPeriod); None: 300 s.
    pub restart_cap: Option<Duration>,
    /// ConfigMaps and Secrets of the manifest directory.
    pub configs: Vec<Arc<Config>>,
    /// What the projected volumes of `pods` should hold, by uid: `project::digests` of both.
    pub projections: BTreeMap<String, u64>,
    /// What the machine has for them.
    pub node: Node,
    /// No two share namespace and name, nor do two of `crons`.
    pub jobs: Vec<Arc<Job>>,
    pub crons: Vec<Arc<Cron>>,
    /// Every manifest could be read: what is listed is all that is wanted.
    pub certain: bool,
    /// What the wall clock shows at this moment.
    pub wall: Wall,
}

/// One pod, checked and defaulted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// activeDeadlineSeconds: how long it may be active, from its admission on.
    pub deadline: Option<Duration>,
    /// spec.priority; a class name is not resolved (there is nobody who knows the classes).
    pub priority: i32,
    pub spaces: Spaces,
    pub security: PodSecurity,
    pub names: Names,
    /// Requests and limits of the whole pod, where it gives them (PodLevelResources).
    pub resources: Option<Resources>,
    /// The same for huge pages: bytes by page size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    pub init: Vec<Container>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// The Job that it is of.
    pub owner: Option<Owner>,
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

    /// What part this container has in the pod.
    pub fn role(&self, container: &Container) -> Role {
        match self.init.iter().any(|init| init.name == container.name) {
            true if container.sidecar => Role::Sidecar,
            true => Role::Init,
            false => Role::Main,
        }
    }

    /// Whether an ending machine stops it last: by its priority, or by the name of a class that every cluster has.
    pub fn critical(&self) -> bool {
        let class = self.object.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
        self.priority >= CRITICAL || matches!(class, Some("system-cluster-critical" | "system-node-critical"))
    }

    /// The names of its imagePullSecrets, without the empty ones, which Kubernetes allows and passes over.
    pub fn pull_secrets(&self) -> impl Iterator<Item = &str> {
        let all = self.object.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        all.map(|one| one.name.as_str()).filter(|name| !name.is_empty())
    }

    /// The container of this name, init or regular.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all().find(|container| container.name == name)
    }
}

/// Kubernetes' SystemCriticalPriority.
const CRITICAL: i32 = 2_000_000_000;

/// What part a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next ones start.
    Init,
    /// Started in its turn among the init containers, then kept running beside all others.
    Sidecar,
    /// A regular one.
    Main,
}

/// Which namespaces the pod's containers share with the host or each other, beside the network's (`host_network`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spaces {
    pub host_pid: bool,
    pub host_ipc: bool,
    /// shareProcessNamespace: one pid namespace for the pod, whose first process is `podinit pause`.
    pub share_pid: bool,
    /// hostUsers: false.
    pub own_users: bool,
}

/// What of the pod's securityContext concerns the pod as a whole; the rest is in each container's `security`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSecurity {
    pub fs_group: Option<u32>,
    /// fsGroupChangePolicy: OnRootMismatch.
    pub fs_group_on_mismatch: bool,
    /// supplementalGroups.
    pub groups: Vec<u32>,
    /// supplementalGroupsPolicy: Strict: the image's /etc/group is not asked.
    pub strict_groups: bool,
    /// Names with dots, in the order of declaration.
    pub sysctls: Vec<(String, String)>,
}

/// What the pod's containers call themselves and whom they ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    pub dns: DnsPolicy,
    /// dnsConfig.
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<(String, Option<String>)>,
    /// hostAliases: an address and its names.
    pub aliases: Vec<(String, Vec<String>)>,
    pub subdomain: String,
    /// setHostnameAsFQDN.
    pub fqdn: bool,
    /// hostnameOverride: replaces all.
    pub hostname_override: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsPolicy {
    #[default]
    ClusterFirst,
    ClusterFirstWithHostNet,
    Default,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    /// An init container with restartPolicy Always: started in its turn, then kept running beside all others.
    pub sidecar: bool,
    /// Its own restartPolicy, where it has one; a sidecar's is not told here.
    pub restart: Option<RestartPolicy>,
    /// restartPolicyRules: the first that matches counts, before any policy.
    pub rules: Vec<RestartRule>,
    pub startup: Option<Probe>,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
    pub post_start: Option<Handler>,
    pub pre_stop: Option<Handler>,
    /// lifecycle.stopSignal, before the image's.
    pub stop_signal: Option<String>,
    pub security: Security,
    /// envFrom, in the order of declaration; `env` overrides it.
    pub env_from: Vec<EnvFrom>,
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
    /// Bytes by page size in bytes; request and limit are the same.
    pub huge_pages: BTreeMap<u64, u64>,
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
    Resource(ResourceField),
    /// configMapKeyRef or secretKeyRef.
    Config {
        config: ConfigRef,
        key: String,
    },
    /// fileKeyRef: `path` within an emptyDir `volume`.
    File {
        volume: String,
        path: String,
        key: String,
        optional: bool,
    },
}

/// A resourceFieldRef: a limit or request of a container of the same pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceField {
    pub container: String,
    /// Else the request.
    pub limit: bool,
    pub measure: Measure,
    /// Not 0; in thousandths of a core, else in bytes.
    pub divisor: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    Cpu,
    Memory,
    /// ephemeral-storage.
    Storage,
    /// Pages of this size in bytes.
    HugePages(u64),
}

/// A ConfigMap or Secret of the pod's namespace, as a further document of the manifest directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRef {
    pub secret: bool,
    pub name: String,
    pub optional: bool,
}

impl ConfigRef {
    /// What it names in this namespace; None: it is not there, and need not be. An error is in the kubelet's words.
    pub fn find<'a>(
        &self,
        namespace: &str,
        configs: &'a [Arc<Config>],
    ) -> Result<Option<&'a Config>, String> {
        let is = |config: &&Arc<Config>| {
            config.secret == self.secret && config.namespace == namespace && config.name == self.name
        };
        match configs.iter().find(is) {
            Some(config) => Ok(Some(config)),
            None if self.optional => Ok(None),
            None => {
                let kind = if self.secret { "secret" } else { "configmap" };
                Err(format!("{kind} {:?} not found", self.name))
            }
        }
    }
}

/// One source of envFrom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFrom {
    pub prefix: String,
    pub config: ConfigRef,
}

/// The content of a ConfigMap (data and binaryData) or Secret (data and stringData), decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub secret: bool,
    /// A Secret's type; empty where it gives none.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The manifest it came from, for messages.
    pub origin: String,
    #[serde(with = "base64")]
    pub data: BTreeMap<String, Vec<u8>>,
    /// Those of binaryData: for files only.
    pub binary: BTreeSet<String>,
}

impl Config {
    /// What variables may be taken from.
    pub fn texts(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.data.iter().filter(|(key, _)| !self.binary.contains(*key))
    }
}

/// Bytes as Kubernetes writes them, not a number each.
mod base64 {
    use k8s_openapi::ByteString;
    use serde::{Deserialize, Deserializer, Serializer};

    type Data = std::collections::BTreeMap<String, Vec<u8>>;

    pub fn serialize<S: Serializer>(data: &Data, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(data.iter().map(|(key, bytes)| (key, ByteString(bytes.clone()))))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Data, D::Error> {
        let data = std::collections::BTreeMap::<String, ByteString>::deserialize(from)?;
        Ok(data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
    }
}

/// One of restartPolicyRules: the exit codes for which it holds, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRule {
    /// exitCodes.operator NotIn.
    pub not_in: bool,
    pub codes: Vec<i32>,
    /// action RestartAllContainers; else Restart.
    pub all: bool,
}

/// A probe with all its timing (Kubernetes API reference, Probe).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub handler: Handler,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success: u32,
    pub failure: u32,
    /// terminationGracePeriodSeconds of the probe, instead of the pod's.
    pub grace: Option<Duration>,
}

/// What a probe or a hook does. Ports are numbers: names were looked up in the container's ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handler {
    /// In the container; `$(VAR)` not yet expanded.
    Exec(Vec<String>),
    Http {
        /// The pod's address where there is none.
        host: Option<String>,
        port: u16,
        /// With the query: `/healthz?full=1`.
        path: String,
        https: bool,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: Option<String>,
        port: u16,
    },
    Grpc {
        port: u16,
        service: String,
    },
    /// Hooks only.
    Sleep(Duration),
}

/// A container's securityContext with what it takes over from the pod's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// runAsUser, runAsGroup; None: the image's.
    pub user: Option<u32>,
    pub group: Option<u32>,
    /// runAsNonRoot: true.
    pub non_root: bool,
    pub privileged: bool,
    /// allowPrivilegeEscalation: false.
    pub no_escalation: bool,
    pub read_only_root: bool,
    /// Capabilities in capitals without CAP_; `ALL` stands for all.
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub seccomp: Profile,
    pub apparmor: Profile,
    /// procMount: Unmasked.
    pub unmasked: bool,
}

/// A seccompProfile or appArmorProfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Not given: the runtime's default (podinit: RuntimeDefault).
    #[default]
    Unset,
    RuntimeDefault,
    Unconfined,
    /// A file or a loaded profile of this name.
    Localhost(String),
}

/// A volumeMount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    pub read_only: bool,
    pub recursive_read_only: Recursive,
    pub propagation: Propagation,
    pub sub_path: Option<String>,
    /// `$(VAR)` not yet expanded; never beside `sub_path`.
    pub sub_path_expr: Option<String>,
}

/// recursiveReadOnly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recursive {
    #[default]
    Disabled,
    IfPossible,
    Enabled,
}

/// mountPropagation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// `limit` in bytes.
    EmptyDir {
        medium: Medium,
        limit: Option<u64>,
    },
    HostPath {
        path: String,
        kind: HostPathType,
    },
    /// Files of small texts: configMap, secret, downwardAPI and projected, which differ in their folder's name only.
    Projected {
        plugin: Plugin,
        sources: Vec<Projection>,
        /// defaultMode.
        mode: u32,
    },
    /// An OCI image, read-only.
    Image {
        reference: String,
        pull: PullPolicy,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Medium {
    #[default]
    Disk,
    /// A tmpfs.
    Memory,
    /// Pages of this many bytes; None: of the only size that the pod's containers ask for.
    HugePages(Option<u64>),
}

/// `kubernetes.io~<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plugin {
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
}

/// One source of a projected volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Projection {
    /// All keys where `items` is empty.
    Config {
        config: ConfigRef,
        items: Vec<Item>,
    },
    Downward(Vec<DownwardItem>),
}

/// A key of a ConfigMap or Secret and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub key: String,
    /// Relative, checked.
    pub path: String,
    pub mode: Option<u32>,
}

/// A field of the pod and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownwardItem {
    /// Relative, checked.
    pub path: String,
    pub mode: Option<u32>,
    pub value: DownwardValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownwardValue {
    /// A checked fieldPath; also whole `metadata.labels` and `metadata.annotations`.
    Field(String),
    Resource(ResourceField),
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
#[serde(default)]
pub struct Resources {
    /// In thousandths of a core.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// In bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
    /// ephemeral-storage, in bytes.
    pub storage_request: Option<u64>,
    pub storage_limit: Option<u64>,
    /// resizePolicy RestartContainer: a change of the resource restarts the container.
    pub cpu_restarts: bool,
    pub memory_restarts: bool,
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
    pub configs: Vec<Arc<Config>>,
    pub jobs: Vec<Arc<Job>>,
    pub crons: Vec<Arc<Cron>>,
    pub problems: Vec<Problem>,
}

/// Labels or annotations.
pub type Map = BTreeMap<String, String>;
