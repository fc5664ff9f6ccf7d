//! The names of a configuration's fields: which there are, which of the kubelet's ask for nothing here, which are none.

use super::file::Kind;
use crate::spelling::nearest;

/// What a field of ours is in YAML. What has fields below it is not in the list itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Value,
    List,
    /// A mapping of lists, with keys that the operator chooses.
    Lists,
    /// A value, or a list, in each mapping of a list; the name is without the index.
    Each,
    EachList,
}

/// The fields that are heeded.
fn heeded(kind: Kind) -> &'static [(&'static str, Shape)] {
    use Shape::{Each, EachList, List, Lists, Value};
    match kind {
        Kind::Kubelet => &[
            ("staticPodPath", Value),
            ("podLogsDir", Value),
            ("fileCheckFrequency", Value),
            ("staticPodURL", Value),
            ("staticPodURLHeader", Lists),
            ("httpCheckFrequency", Value),
            ("containerLogMaxSize", Value),
            ("containerLogMaxFiles", Value),
            ("podPidsLimit", Value),
            ("serializeImagePulls", Value),
            ("maxParallelImagePulls", Value),
            ("crashLoopBackOff.maxContainerRestartPeriod", Value),
            ("shutdownGracePeriod", Value),
            ("shutdownGracePeriodCriticalPods", Value),
            ("clusterDomain", Value),
            ("clusterDNS", List),
            ("resolvConf", Value),
            ("systemReserved.cpu", Value),
            ("systemReserved.memory", Value),
            ("systemReserved.ephemeral-storage", Value),
            ("systemReserved.pid", Value),
            ("kubeReserved.cpu", Value),
            ("kubeReserved.memory", Value),
            ("kubeReserved.ephemeral-storage", Value),
            ("kubeReserved.pid", Value),
            ("evictionHard.memory.available", Value),
            ("evictionHard.nodefs.available", Value),
            ("maxPods", Value),
            ("podsPerCore", Value),
            ("userNamespaces.idsPerPod", Value),
            ("singleProcessOOMKill", Value),
            ("cpuCFSQuota", Value),
            ("cpuCFSQuotaPeriod", Value),
            ("enforceNodeAllocatable", List),
            ("allowedUnsafeSysctls", List),
        ],
        Kind::Machine => &[
            ("hostname", Value),
            ("data", Value),
            ("network", Value),
            ("network.address", Value),
            ("network.gateway", Value),
            ("network.dns", List),
            ("prompt", Value),
            ("modules", List),
            ("registries.host", Each),
            ("registries.mirrors", EachList),
            ("registries.insecure", Each),
            ("registries.ca", Each),
            ("additionalImageStores", List),
            ("imageArchives", List),
        ],
    }
}

/// Fields of KubeletConfiguration that are the kubelet's and ask for nothing here, with what does it instead; a name
/// stands for all below it too.
const IDLE: &[(&str, &str)] = &[
    ("syncFrequency", "what is wanted is compared with what is at every news"),
    ("enableServer", "the API over the network is not built yet"),
    ("address", "the API over the network is not built yet"),
    ("port", "the API over the network is not built yet"),
    ("readOnlyPort", "the API over the network is not built yet"),
    ("healthzPort", "the API over the network is not built yet"),
    ("healthzBindAddress", "the API over the network is not built yet"),
    ("authentication", "the API over the network is not built yet"),
    ("authorization", "the API over the network is not built yet"),
    ("tlsCertFile", "the API over the network is not built yet"),
    ("tlsPrivateKeyFile", "the API over the network is not built yet"),
    ("streamingConnectionIdleTimeout", "the API over the network is not built yet"),
    ("enableDebuggingHandlers", "the API over the network is not built yet"),
    ("enableDebugFlagsHandler", "the API over the network is not built yet"),
    ("enableProfilingHandler", "the API over the network is not built yet"),
    ("enableContentionProfiling", "the API over the network is not built yet"),
    ("enableSystemLogHandler", "the API over the network is not built yet"),
    ("enableSystemLogQuery", "the API over the network is not built yet"),
    ("showHiddenMetricsForVersion", "the API over the network is not built yet"),
    ("serverTLSBootstrap", "the API over the network is not built yet"),
    ("tlsCipherSuites", "the API over the network is not built yet"),
    ("tlsMinVersion", "the API over the network is not built yet"),
    ("registryPullQPS", "pulls wait for one another: maxParallelImagePulls bounds them"),
    ("registryBurst", "pulls wait for one another: maxParallelImagePulls bounds them"),
    ("imagePullCredentialsVerificationPolicy", "an image that is there is for all pods"),
    ("preloadedImagesVerificationAllowlist", "an image that is there is for all pods"),
    ("imageMinimumGCAge", "images are removed by the operator only yet"),
    ("imageMaximumGCAge", "images are removed by the operator only yet"),
    ("imageGCHighThresholdPercent", "images are removed by the operator only yet"),
    ("imageGCLowThresholdPercent", "images are removed by the operator only yet"),
    ("eventRecordQPS", "events are kept in memory, the newest"),
    ("eventBurst", "events are kept in memory, the newest"),
    ("oomScoreAdj", "the kernel never kills PID 1 for want of memory"),
    ("cgroupDriver", "the cgroup tree is podinit's own, as cgroupfs makes it"),
    ("cgroupsPerQOS", "there is always a cgroup for each class"),
    ("cgroupRoot", "on a board all cgroups are podinit's; off it --cgroup-root says where"),
    ("kubeletCgroups", "podinit has its own cgroup"),
    ("systemCgroups", "there are no other services"),
    ("kubeReservedCgroup", "there are no other services"),
    ("systemReservedCgroup", "there are no other services"),
    ("failSwapOn", "pods get no swap in any case"),
    ("memorySwap", "pods get no swap in any case"),
    ("seccompDefault", "it is always on"),
    ("protectKernelDefaults", "podinit sets the kernel's defaults itself at boot"),
    ("evictionSoft", "static pods are never evicted"),
    ("evictionSoftGracePeriod", "static pods are never evicted"),
    ("evictionMaxPodGracePeriod", "static pods are never evicted"),
    ("evictionMinimumReclaim", "static pods are never evicted"),
    ("evictionPressureTransitionPeriod", "static pods are never evicted"),
    (
        "evictionHard.nodefs.inodesFree",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.imagefs.available",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.imagefs.inodesFree",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.containerfs.available",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.containerfs.inodesFree",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.pid.available",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    (
        "evictionHard.allocatableMemory.available",
        "nobody is evicted: memory.available and nodefs.available are kept from pods, no more",
    ),
    ("mergeDefaultEvictionSettings", "evictionHard has no defaults"),
    ("kernelMemcgNotification", "static pods are never evicted"),
    ("containerLogMaxWorkers", "the logger looks at each write"),
    ("containerLogMonitorInterval", "the logger looks at each write"),
    ("containerRuntimeEndpoint", "podinit starts containers itself"),
    ("imageServiceEndpoint", "podinit keeps images itself"),
    ("runtimeRequestTimeout", "podinit starts containers itself"),
    ("featureGates", "podinit has no gates: what is on by default in Kubernetes is on"),
    ("logging", "--v or podinit.log= sets how much is logged"),
    ("shutdownGracePeriodByPodPriority", "there are two groups: critical pods, and the others before them"),
    ("makeIPTablesUtilChains", "podinit makes no rules of its own"),
    ("iptablesMasqueradeBit", "podinit makes no rules of its own"),
    ("iptablesDropBit", "podinit makes no rules of its own"),
    ("hairpinMode", "podinit makes no bridge"),
    ("nodeStatusUpdateFrequency", "there is no API server"),
    ("nodeStatusReportFrequency", "there is no API server"),
    ("nodeLeaseDurationSeconds", "there is no API server"),
    ("registerNode", "there is no API server"),
    ("registerWithTaints", "there is no API server"),
    ("nodeStatusMaxImages", "there is no API server"),
    ("contentType", "there is no API server"),
    ("kubeAPIQPS", "there is no API server"),
    ("kubeAPIBurst", "there is no API server"),
    ("providerID", "there is no API server"),
    ("podCIDR", "there is no API server"),
    ("enableControllerAttachDetach", "there is no API server"),
    ("rotateCertificates", "there is no API server"),
    ("qosReserved", "no class keeps memory from another"),
    ("memoryThrottlingFactor", "memory is bounded by limits only"),
    ("memoryReservationPolicy", "memory is bounded by limits only"),
    ("cpuManagerPolicy", "processors are not assigned one by one"),
    ("cpuManagerPolicyOptions", "processors are not assigned one by one"),
    ("cpuManagerReconcilePeriod", "processors are not assigned one by one"),
    ("reservedSystemCPUs", "processors are not assigned one by one"),
    ("memoryManagerPolicy", "memory is not assigned by node"),
    ("reservedMemory", "memory is not assigned by node"),
    ("topologyManagerPolicy", "processors are not assigned one by one"),
    ("topologyManagerPolicyOptions", "processors are not assigned one by one"),
    ("topologyManagerScope", "processors are not assigned one by one"),
    ("volumeStatsAggPeriod", "volumes are not measured yet"),
    ("localStorageCapacityIsolation", "local storage is not measured yet"),
    ("configMapAndSecretChangeDetectionStrategy", "a change of a ConfigMap or Secret is seen at once"),
    ("volumePluginDir", "there are no volume plugins"),
    ("maxOpenFiles", "podinit opens few files"),
    ("failCgroupV1", "cgroup v2 is needed in any case"),
    ("tracing", "nothing is traced"),
];

/// Why the field has no effect here; None: it is none of the kubelet's own.
pub fn idle(kind: Kind, path: &str) -> Option<&'static str> {
    match kind {
        Kind::Kubelet => IDLE.iter().find(|(name, _)| below(path, name)).map(|(_, why)| *why),
        Kind::Machine => None,
    }
}

/// Whether there is a field of this path, or one below it.
pub fn known(kind: Kind, path: &str) -> bool {
    let path = plain(path);
    let heeds = |(name, shape): &(&str, Shape)| match shape {
        Shape::Value | Shape::List | Shape::Each | Shape::EachList => *name == path || below(name, &path),
        Shape::Lists => below(&path, name),
    };
    heeded(kind).iter().any(heeds) || idle(kind, &path).is_some()
}

/// What is wrong with a field that is not known.
pub fn unknown(kind: Kind, parent: &str, name: &str) -> String {
    let parent = plain(parent);
    let ours = heeded(kind).iter().map(|(name, _)| *name);
    let idle = IDLE.iter().map(|(name, _)| *name).filter(|_| kind == Kind::Kubelet);
    let beside = |known: &'static str| match parent.is_empty() {
        true => known.split('.').next(),
        false => known.strip_prefix(parent.as_str())?.strip_prefix('.'),
    };
    let heeded: Vec<&str> = ours.filter_map(beside).collect();
    let all: Vec<&str> = heeded.iter().copied().chain(idle.filter_map(beside)).collect();
    let cure = match nearest(name, &all) {
        Some(near) if parent.is_empty() => format!(": did you mean {near}?"),
        Some(near) => format!(": did you mean {parent}.{near}?"),
        None if parent.is_empty() || heeded.is_empty() => String::new(),
        None => format!(": use {}", heeded.join(", ")),
    };
    format!("unknown field, left out{cure}")
}

/// What a known field wants to be that has another shape.
pub fn misshapen(kind: Kind, path: &str) -> String {
    let path = plain(path);
    let of = |(name, shape): &&(&str, Shape)| *name == path || *shape == Shape::Lists && below(&path, name);
    match heeded(kind).iter().find(of) {
        Some((_, Shape::Value)) => "must be one value, not a list".into(),
        Some((_, Shape::List)) => "must be a list: write [VALUE]".into(),
        Some((_, Shape::Each | Shape::EachList)) => {
            "must be a field of each entry of a list: write [{NAME: VALUE}]".into()
        }
        Some((_, Shape::Lists)) => "must be a mapping of lists: write {NAME: [VALUE]}".into(),
        None => "must have fields of its own below it".into(),
    }
}

/// Whether `path` is this one or below it.
fn below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path without its indices.
fn plain(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, fields};

    #[test]
    fn every_name_in_the_list_is_one_that_is_set() {
        for kind in [Kind::Kubelet, Kind::Machine] {
            let set = match kind {
                Kind::Kubelet => fields::kubelet,
                Kind::Machine => fields::machine,
            };
            for (name, shape) in heeded(kind) {
                let (right, wrong) = match shape {
                    Shape::Value => ((*name).to_owned(), format!("{name}[0]")),
                    Shape::List => (format!("{name}[0]"), (*name).to_owned()),
                    Shape::Lists => (format!("{name}.X[0]"), format!("{name}.X")),
                    Shape::Each => (name.replacen('.', "[0].", 1), (*name).to_owned()),
                    Shape::EachList => (name.replacen('.', "[0].", 1) + "[0]", (*name).to_owned()),
                };
                assert!(set(&mut Config::default(), &right, "?").is_some(), "{right}");
                assert!(set(&mut Config::default(), &wrong, "?").is_none_or(|done| done.is_err()), "{wrong}");
                assert_eq!(idle(kind, name), None, "{name}");
            }
        }
    }

    #[test]
    fn a_name_is_known_with_all_that_leads_to_it_and_suggested_when_it_is_near() {
        for path in
            ["staticPodPath", "systemReserved", "evictionHard", "clusterDNS[0]", "logging.flushFrequency"]
        {
            assert!(known(Kind::Kubelet, path), "{path}");
        }
        for path in [
            "staticPod",
            "static",
            "systemReserved.gpu",
            "clusterDNS[0].x",
            "hostname",
            "evictionHard.memory",
        ] {
            assert_eq!(known(Kind::Kubelet, path), path == "evictionHard.memory", "{path}");
        }
        let table = [
            (Kind::Kubelet, "", "staticPodPth", "unknown field, left out: did you mean staticPodPath?"),
            (Kind::Kubelet, "", "crashLoopBackoff", "did you mean crashLoopBackOff?"),
            (Kind::Kubelet, "", "authentification", "did you mean authentication?"),
            (Kind::Kubelet, "", "colour", "unknown field, left out"),
            (Kind::Kubelet, "kubeReserved", "memroy", "did you mean kubeReserved.memory?"),
            (Kind::Kubelet, "kubeReserved", "disk", "use cpu, memory, ephemeral-storage, pid"),
            (Kind::Kubelet, "evictionHard", "nodefs.availble", "did you mean evictionHard.nodefs.available?"),
            (Kind::Kubelet, "evictionHard", "pid.availble", "did you mean evictionHard.pid.available?"),
            (Kind::Machine, "", "hostName", "unknown field, left out: did you mean hostname?"),
            (Kind::Machine, "network", "adress", "did you mean network.address?"),
        ];
        for (kind, parent, name, part) in table {
            let told = unknown(kind, parent, name);
            assert!(told.contains(part), "{told}");
        }
    }
}
