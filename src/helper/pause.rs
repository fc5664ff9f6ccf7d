//! `podinit pause`: the first process of a pod with shareProcessNamespace. It reaps what nobody else waits for, and
//! has nothing: no files, no user, no capability, few system calls.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Gid, Uid, chdir, close, pause, pivot_root, setgroups, setresgid, setresuid, write};
use oci_spec::runtime::Capabilities;

use crate::container::child::clone3;
use crate::container::identity;
use crate::container::seccomp::{Filter, default};

/// Whom nobody else runs as: the number that a pause image has.
const NOBODY: u32 = 65535;

/// The pipe's end by which the number of a pause process is told.
const TELL: i32 = 3;

/// The exit code where it could not begin; else it ends by SIGKILL only. With a user namespace's path this process
/// enters it, bears in it the one that stays, tells the number of that one by the pipe, and ends.
pub fn run(args: &[String]) -> i32 {
    if let [users] = args {
        match enter(users) {
            // The pipe's end is the other's alone.
            Ok(0) => {
                let _ = close(TELL);
            }
            Ok(born) => {
                // SAFETY: PID 1 gave us this end of the pipe for it.
                let tell = unsafe { BorrowedFd::borrow_raw(TELL) };
                return i32::from(write(tell, born.to_string().as_bytes()).is_err());
            }
            Err(why) => {
                eprintln!("pause: {users}: {why}");
                return 1;
            }
        }
    }
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

/// The pid namespace of a pod with a user namespace must be owned by that: 0 in its first process.
fn enter(users: &str) -> io::Result<i32> {
    // Only the machine's root may lower it.
    let _ = fs::write(SCORE.0, SCORE.1);
    setns(fs::File::open(users)?, CloneFlags::CLONE_NEWUSER)?;
    identity::root()?;
    clone3((libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64, 0)
}

/// As the kubelet's sandboxes have it; lowering it needs a capability that podinit may lack off a board.
const SCORE: (&str, &str) = ("/proc/self/oom_score_adj", "-998");

/// Other processes of the pod see us in /proc: what is ours must be nothing worth having.
fn leave() -> Result<(), Errno> {
    let _ = fs::write(SCORE.0, SCORE.1);
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
