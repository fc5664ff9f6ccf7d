//! The machine's end, as steps for PID 1's loop: TERM to all, KILL to all, sync, unmount, and the last call.
//!
//! The pods have ended by then. What is left are helpers and strays: `ask`, wait for the reaper until `alone` or `GRACE`
//! has gone by, then `force`, wait likewise, then `finish`. Nothing here sleeps.

use std::fs::{self, OpenOptions};
use std::time::Duration;

use log::{info, warn};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, sync};

use super::partition;

/// How long TERM and KILL each have.
pub const GRACE: Duration = Duration::from_secs(3);

/// What comes after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Poweroff,
    Reboot,
    Halt,
}

/// Makes Ctrl-Alt-Del a SIGINT to PID 1 instead of the kernel's instant reboot.
pub fn take_ctrl_alt_del() -> Result<(), Errno> {
    set_cad_enabled(false)
}

/// Sends TERM to every process but PID 1.
pub fn ask() {
    signal(Signal::SIGTERM);
}

/// Sends KILL to every process but PID 1.
pub fn force() {
    signal(Signal::SIGKILL);
}

/// Whether no process is left but PID 1 and the kernel's threads: each has an ancestor that is PID 1's child, and zombies
/// count until they are reaped. (kill(-1, 0) finds the kernel's threads, and so always somebody.)
pub fn alone() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::All, flags), Err(Errno::ECHILD))
}

/// Syncs, unmounts everything, and ends the machine. Returns only where the kernel refuses: then PID 1 must go on, since
/// its exit would be a panic. As a process that is not PID 1 it does nothing.
pub fn finish(ending: Ending) -> Errno {
    if getpid() != Pid::from_raw(1) {
        return Errno::EPERM;
    }
    sync();
    unmount();
    info!(
        "machine: {}",
        match ending {
            Ending::Poweroff => "power off",
            Ending::Reboot => "reboot",
            Ending::Halt => "halt",
        }
    );
    sync();
    let first = match ending {
        Ending::Poweroff => reboot(RebootMode::RB_POWER_OFF),
        Ending::Reboot => reboot(RebootMode::RB_AUTOBOOT),
        Ending::Halt => reboot(RebootMode::RB_HALT_SYSTEM),
    };
    let error = match first {
        Ok(never) => match never {},
        Err(error) => error,
    };
    warn!("machine: the kernel refuses: {error}");
    error
}

fn signal(signal: Signal) {
    // -1 is everyone but ourselves; ESRCH: there is nobody.
    if let Err(error) = kill(Pid::from_raw(-1), signal)
        && error != Errno::ESRCH
    {
        warn!("machine: cannot send {signal} to all: {error}");
    }
}

/// What stays mounted: the machine needs it to the last line, and it holds nothing that lasts.
const KEPT: &[&str] = &["/", "/proc", "/sys", "/dev"];

/// File systems that hold nothing on a disk: a remount would change nothing.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs", "devtmpfs", "proc", "sysfs", "nsfs", "cgroup2"];

/// Unmounts in reverse order of mounting, again and again while it frees more (a loop device holds its file's mount);
/// what is still held is remounted read-only, so that its journal is clean.
fn unmount() {
    let _ = nix::unistd::chdir("/");
    for _ in 0..8 {
        let mut freed = false;
        for target in targets(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()).iter().rev() {
            freed |= !KEPT.contains(&target.as_str()) && umount2(target.as_str(), MntFlags::empty()).is_ok();
        }
        free_loops();
        if !freed {
            break;
        }
    }
    for target in targets(&on_disk(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())).iter().rev()
    {
        let below_kept = ["/proc/", "/sys/", "/dev/"].iter().any(|kept| target.starts_with(kept));
        if KEPT.contains(&target.as_str()) || below_kept {
            continue;
        }
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        match mount(None::<&str>, target.as_str(), None::<&str>, flags, None::<&str>) {
            Ok(()) => warn!("machine: {target} is still in use, now read-only"),
            Err(error) => warn!("machine: {target} is still in use, and stays writable: {error}"),
        }
    }
}

/// Detaches every loop device, so that the file systems below can be unmounted.
fn free_loops() {
    for entry in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("loop") || !entry.path().join("loop/backing_file").exists() {
            continue;
        }
        if let Ok(device) = OpenOptions::new().read(true).open(format!("/dev/{name}")) {
            // A device that is still mounted keeps its file; the next round tries again.
            let _ = partition::free_loop(&device);
        }
    }
}

/// The lines of /proc/self/mounts that must be remounted where they cannot be unmounted.
fn on_disk(mounts: &str) -> String {
    let kept =
        mounts.lines().filter(|line| !line.split(' ').nth(2).is_some_and(|kind| IN_MEMORY.contains(&kind)));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The mount points of /proc/self/mounts, in order, their octal escapes resolved.
fn targets(mounts: &str) -> Vec<String> {
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape).collect()
}

fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, c) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_in_order() {
        let text =
            "proc /proc proc rw 0 0\n/dev/vda /data ext4 rw 0 0\nnone /mnt/a\\040b tmpfs rw 0 0\nbroken\n";
        assert_eq!(targets(text), ["/proc", "/data", "/mnt/a b"]);
    }

    #[test]
    fn a_busy_tmpfs_is_not_warned_about() {
        let text = "tmpfs /run tmpfs rw 0 0\n/dev/vda /data ext4 rw 0 0\nnsfs /run/x nsfs rw 0 0\n";
        assert_eq!(targets(&on_disk(text)), ["/data"]);
    }

    #[test]
    fn only_pid_1_ends_the_machine() {
        assert_eq!(finish(Ending::Poweroff), Errno::EPERM);
    }
}
