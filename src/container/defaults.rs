//! What every container gets unless it asks otherwise, as tables: containerd's defaults.

use std::path::Path;

use oci_spec::runtime::Capability;

/// containerd's default set (behaviour 7). MKNOD makes nodes that the device filter keeps from being opened.
pub const CAPABILITIES: &[Capability] = &[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// One of a container's own mounts.
pub struct Mount {
    pub target: &'static str,
    pub kind: &'static str,
    pub source: &'static str,
    pub options: &'static [&'static str],
}

/// In the order in which they are mounted; /dev/shm is the pod's and is bound after them.
pub const MOUNTS: &[Mount] = &[
    Mount { target: "/proc", kind: "proc", source: "proc", options: &["nosuid", "noexec", "nodev"] },
    Mount {
        target: "/dev",
        kind: "tmpfs",
        source: "tmpfs",
        options: &["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    Mount {
        target: "/dev/pts",
        kind: "devpts",
        source: "devpts",
        options: &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    Mount {
        target: "/dev/mqueue",
        kind: "mqueue",
        source: "mqueue",
        options: &["nosuid", "noexec", "nodev"],
    },
    Mount { target: "/sys", kind: "sysfs", source: "sysfs", options: &["nosuid", "noexec", "nodev", "ro"] },
    Mount {
        target: "/sys/fs/cgroup",
        kind: "cgroup",
        source: "cgroup",
        options: &["nosuid", "noexec", "nodev", "relatime", "ro"],
    },
];

/// Device nodes in the container's own /dev: path, major, minor; all characters, mode 0666, owned by root.
pub const DEVICES: &[(&str, i64, i64)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Paths hidden from the container (behaviour 7).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that it may only read (behaviour 7).
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The most processors whose throttle counters are looked for.
const PROCESSORS: u32 = 4096;

/// The masked paths that exist on this machine: each one listed costs the start several system calls.
pub fn masked(exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let processors = (0..PROCESSORS)
        .map(|number| format!("/sys/devices/system/cpu/cpu{number}"))
        .take_while(|path| exists(Path::new(path)))
        .map(|path| path + "/thermal_throttle");
    let fixed = MASKED.iter().map(|path| (*path).to_owned());
    fixed.chain(processors).filter(|path| exists(Path::new(path))).collect()
}

/// The read-only paths that exist on this machine.
pub fn read_only(exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    READ_ONLY.iter().filter(|path| exists(Path::new(path))).map(|path| (*path).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_exist_are_listed() {
        let here = ["/proc/kcore", "/sys/devices/system/cpu/cpu0", "/sys/devices/system/cpu/cpu1"];
        let throttle = "/sys/devices/system/cpu/cpu1/thermal_throttle";
        let exists = |path: &Path| here.iter().chain([&throttle]).any(|name| Path::new(name) == path);
        assert_eq!(masked(&exists), ["/proc/kcore", throttle]);
        assert_eq!(read_only(&exists), Vec::<String>::new());
        assert_eq!(read_only(&|_| true).len(), READ_ONLY.len());
    }

    #[test]
    fn tables_are_sound() {
        assert!(!CAPABILITIES.contains(&Capability::SysAdmin));
        for mount in MOUNTS {
            assert!(mount.target.starts_with('/') && !mount.target.ends_with('/'), "{}", mount.target);
        }
        // A mount point is made by the mount above it: parents come first.
        let position = |target: &str| MOUNTS.iter().position(|mount| mount.target == target);
        assert!(position("/dev") < position("/dev/pts"));
        assert!(position("/sys") < position("/sys/fs/cgroup"));
    }
}
