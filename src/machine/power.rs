//! The machine's end, as steps for PID 1's loop: TERM to all, KILL to all, sync, unmount, and the last call.
//!
//! The pods have ended by then. What is left are helpers and strays: `ask`, wait for the reaper until `alone` or `GRACE`
//! has gone by, then `force`, wait likewise, then `finish`. Nothing here sleeps.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, sync};

use super::partition;
use crate::octal::unescaped;

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
        for target in targets(&table(), |_| true).iter().rev() {
            freed |= !KEPT.iter().any(|kept| target == Path::new(kept))
                && umount2(target, MntFlags::empty()).is_ok();
        }
        free_loops();
        if !freed {
            break;
        }
    }
    let on_disk = |kind: &[u8]| !IN_MEMORY.iter().any(|known| kind == known.as_bytes());
    for target in targets(&table(), on_disk).iter().rev() {
        let below_kept = ["/proc", "/sys", "/dev"].iter().any(|kept| target.starts_with(kept));
        if target == Path::new("/") || below_kept {
            continue;
        }
        let shown = target.display();
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        match mount(None::<&str>, target, None::<&str>, flags, None::<&str>) {
            Ok(()) => warn!("machine: {shown} is still in use, now read-only"),
            Err(error) => warn!("machine: {shown} is still in use, and stays writable: {error}"),
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

fn table() -> Vec<u8> {
    fs::read("/proc/self/mounts").unwrap_or_default()
}

/// The mount points of /proc/self/mounts, in order, of the kinds that are wanted.
fn targets(mounts: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<PathBuf> {
    let lines = mounts.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' '));
    let found = lines.filter_map(|mut words| Some((words.nth(1)?, words.next()?)));
    found.filter(|(_, kind)| wanted(kind)).map(|(target, _)| unescaped(target)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn mount_points_are_read_in_order_whatever_their_names() {
        let text =
            b"proc /proc proc rw 0 0\n/dev/vda /data ext4 rw 0 0\nnone /mnt/a\\040b tmpfs rw 0 0\n/dev/vdb /\xff ext4 rw\nbroken\n";
        let odd = Path::new(OsStr::from_bytes(b"/\xff"));
        let all = targets(text, |_| true);
        assert_eq!(all, [Path::new("/proc"), Path::new("/data"), Path::new("/mnt/a b"), odd]);
        assert_eq!(targets(text, |kind| kind == b"ext4"), [Path::new("/data"), odd]);
    }

    #[test]
    fn only_pid_1_ends_the_machine() {
        assert_eq!(finish(Ending::Poweroff), Errno::EPERM);
    }
}
