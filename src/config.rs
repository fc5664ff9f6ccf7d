//! What the operator set: kernel command line, flags, configuration file. Read once.

use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Static pod manifests: a directory.
    pub manifests: PathBuf,
    /// What outlives a boot: images, disk-backed volumes, writable layers.
    pub root: PathBuf,
    /// What does not: the socket, facts, bundles, namespaces.
    pub run: PathBuf,
    /// Container logs as the kubelet lays them out.
    pub pod_logs: PathBuf,
    /// Links to them by container.
    pub container_logs: PathBuf,
    /// Where cgroup2 is mounted, for us and all our children.
    pub cgroup: PathBuf,
    /// Lower case; the suffix of every static pod's name.
    pub node_name: String,
    /// How often the manifest directory is listed, beside inotify.
    pub file_check: Duration,
    /// A log file is rotated once it holds this many bytes.
    pub log_max_size: u64,
    /// How many log files a container keeps, the present one included; at least 2.
    pub log_max_files: u32,
    /// pids.max of each pod; None: no limit of its own.
    pub pod_pids_limit: Option<u64>,
    /// The cap of the crash-loop back-off.
    pub restart_cap: Duration,
    /// The longest grace that an ending machine gives.
    pub ending_grace: Duration,
    /// Allows `podinit fault`, by which tests make PID 1 panic or crash.
    pub faults: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            manifests: "/etc/kubernetes/manifests".into(),
            root: "/var/lib/podinit".into(),
            run: "/run/podinit".into(),
            pod_logs: "/var/log/pods".into(),
            container_logs: "/var/log/containers".into(),
            cgroup: "/sys/fs/cgroup".into(),
            node_name: "podinit".into(),
            file_check: Duration::from_secs(20),
            log_max_size: 10 << 20,
            log_max_files: 5,
            pod_pids_limit: None,
            restart_cap: Duration::from_secs(300),
            ending_grace: Duration::from_secs(30),
            faults: false,
        }
    }
}
