//! What the kernel is told once at boot: sysctls, our limits, cgroup controllers.

use std::fs;

use log::{info, warn};
use nix::sys::resource::{Resource, setrlimit};

/// The tunables that the kubelet writes at its start (kubelet's container manager, `setupKernelTunables`), and forwarding
/// for pods with a network of their own.
const SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    ("net/ipv4/ip_forward", "1"),
    // A kernel that talks over our lines at every device is of no use; errors still come through.
    ("kernel/printk", "4 4 1 7"),
];

/// Open files: PID 1 holds a few descriptors a container; a container's own limit is in its spec.
const FILES: (u64, u64) = (65_536, 1_048_576);

/// Does all of it.
pub fn tune() {
    for (name, value) in SYSCTLS {
        if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
            warn!("machine: cannot set {} to {value}: {error}", name.replace('/', "."));
        }
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, FILES.0, FILES.1) {
        warn!("machine: cannot raise the limit of open files: {error}");
    }
    delegate();
}

/// Enables every controller for the root's children, one by one: a kernel refuses all where it refuses one.
fn delegate() {
    const ROOT: &str = "/sys/fs/cgroup";
    let known = fs::read_to_string(format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
    let mut enabled = Vec::new();
    for name in known.split_ascii_whitespace() {
        match fs::write(format!("{ROOT}/cgroup.subtree_control"), format!("+{name}")) {
            Ok(()) => enabled.push(name),
            Err(error) => warn!("machine: cannot enable the cgroup controller {name}: {error}"),
        }
    }
    for name in ["cpu", "memory", "pids"].iter().filter(|name| !enabled.contains(name)) {
        warn!("machine: no cgroup controller {name}: its limits have no effect");
    }
    info!("machine: cgroup controllers {}", enabled.join(" "));
}
