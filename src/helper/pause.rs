//! `podinit pause`: the first process of a pod with shareProcessNamespace. It reaps what nobody else waits for, and
//! has nothing: no files, no user, no capability, few system calls.
#![allow(unsafe_code)]

use std::fs;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Gid, Uid, chdir, pause, pivot_root, setgroups, setresgid, setresuid};
use oci_spec::runtime::Capabilities;

use crate::container::seccomp::{Filter, default};

/// Whom nobody else runs as: the number that a pause image has.
const NOBODY: u32 = 65535;

/// The exit code where it could not begin; else it ends by SIGKILL only.
pub fn run() -> i32 {
    // What follows takes away the root of its mount namespace: never that of a caller who typed this.
    if std::process::id() != 1 {
        eprintln!("pause: not the first process of a pid namespace");
        return 2;
    }
    if leave().is_err() {
        return 1;
    }
    loop {
        pause();
    }
}

/// Other processes of the pod see us in /proc: what is ours must be nothing worth having.
fn leave() -> Result<(), Errno> {
    // As the kubelet's sandboxes have it; lowering it needs a capability that podinit may lack off a board.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // /proc is a directory on every machine that got so far.
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), "/proc", Some("tmpfs"), flags, Some("size=0"))?;
    chdir("/proc")?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    // Ignored, the kernel itself reaps every child. No other signal reaches the first process of a namespace.
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let profile = default::profile(&Capabilities::new()).map_err(|_| Errno::EINVAL)?;
    // The last step: start helpers see by it that we have let go of everything.
    Filter::compile(&profile).map_err(|_| Errno::EINVAL)?.install()
}
