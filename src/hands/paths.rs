//! Where things of a pod and of a run are. One place, so that a later life of PID 1 finds what an earlier one made.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::pod::Pod;
use crate::pod::resources;

/// What belongs to one pod.
pub struct PodPaths {
    /// `<run>/pods/<uid>`: namespaces, shm, name files, bundles. Gone with the boot.
    pub sandbox: PathBuf,
    /// `<root>/pods/<uid>`: volumes and scratch.
    pub data: PathBuf,
    /// `<pod logs>/<namespace>_<name>_<uid>`.
    pub logs: PathBuf,
    /// Below the cgroup2 root, with a leading slash.
    pub cgroup: String,
}

/// What belongs to one run of one container.
pub struct RunPaths {
    /// 64 hex digits.
    pub id: String,
    /// config.json, start.json, report.json, rootfs/.
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// The overlay's upper and work directories.
    pub scratch: PathBuf,
    /// Mounted at the container's terminationMessagePath.
    pub message: PathBuf,
    /// Below the cgroup2 root.
    pub cgroup: String,
    /// The start helper's own.
    pub helper_cgroup: String,
}

pub fn pod(config: &Config, pod: &Pod) -> PodPaths {
    PodPaths {
        sandbox: config.run.join("pods").join(&pod.uid),
        data: config.root.join("pods").join(&pod.uid),
        logs: config.pod_logs.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid)),
        cgroup: format!("{}{}", config.cgroup_parent, resources::cgroup(pod)),
    }
}

pub fn run(config: &Config, spec: &Pod, container: &str, number: u32) -> RunPaths {
    let paths = pod(config, spec);
    let id = resources::container_id(&spec.uid, container, number);
    let bundle = paths.sandbox.join("c").join(container).join(number.to_string());
    let scratch = paths.data.join("containers").join(container).join(number.to_string());
    RunPaths {
        rootfs: bundle.join("rootfs"),
        bundle,
        message: scratch.join("message"),
        scratch,
        cgroup: format!("{}/{id}", paths.cgroup),
        helper_cgroup: format!("{}/podinit/{id}", config.cgroup_parent),
        id,
    }
}

/// The directory of a cgroup.
pub fn cgroup(config: &Config, below: &str) -> PathBuf {
    config.cgroup.join(Path::new(below).strip_prefix("/").unwrap_or(Path::new(below)))
}
