//! The child's part of an exec: from a fork of the helper to the program inside the container.
//!
//! The helper has one thread, so its fork may allocate.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, execve, setsid};

use super::super::apparmor;
use super::super::child::{clean_signals, close_on_exec};
use super::super::identity::{self, Seal, prctl};
use super::super::program::{self, Fault, words};
use super::super::rlimit;
use super::{Request, terminal};

/// Becomes the requested process; only returns when it cannot. `tell`: the pipe whose reading end is the helper's.
pub fn run(request: &Request, pidfd: &OwnedFd, tell: RawFd) -> Fault {
    match prepare(request, pidfd, tell) {
        Ok(((path, args, env), seal)) => match seal.close().map(|()| execve(&path, &args, &env)) {
            Ok(Ok(never)) => match never {},
            Ok(Err(errno)) => Fault::new(&path.to_string_lossy(), errno),
            Err(fault) => fault,
        },
        Err(fault) => fault,
    }
}

/// Tells the helper, and ends without a word to anyone else.
pub fn end(fault: &Fault, tell: RawFd) -> ! {
    let mut bytes = vec![fault.code as u8];
    bytes.extend_from_slice(fault.message.as_bytes());
    // SAFETY: a plain write; _exit runs nothing of the helper's that this fork has copied.
    unsafe {
        libc::write(tell, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(fault.code)
    }
}

type Image = (CString, Vec<CString>, Vec<CString>);

fn prepare(request: &Request, pidfd: &OwnedFd, tell: RawFd) -> Result<(Image, Seal), Fault> {
    let process = &request.process;
    // With the machine's files still in sight.
    if let Some(score) = process.oom_score_adj() {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| trouble("oom_score_adj", &error))?;
    }
    if let Some(profile) = process.apparmor_profile() {
        apparmor::at_exec(profile).map_err(|error| trouble("apparmor", &error))?;
    }
    for limit in process.rlimits().iter().flatten() {
        rlimit::set(limit).map_err(|error| trouble(&format!("{}", limit.typ()), &error))?;
    }
    setsid().map_err(|errno| failed("setsid", errno))?;
    let users = owns_users(request.pid).map_err(|error| trouble("user namespace", &error))?;
    namespaces(pidfd, users).map_err(|errno| failed("enter namespaces", errno))?;
    if request.tty {
        terminal::open(process.user().uid()).map_err(|error| trouble("terminal", &error))?;
    }
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
    // Before and after the change of user: either may be the one who may enter it.
    let early = chdir(process.cwd());
    let seal = identity::assume(process, request.seccomp.as_ref())?;
    if early.is_err() {
        let cwd = process.cwd().display();
        chdir(process.cwd()).map_err(|errno| failed(&format!("chdir to {cwd}"), errno))?;
    }
    // A working directory reached through a descriptor of ours has no name inside.
    std::env::current_dir().ok().filter(|path| path.is_absolute()).ok_or_else(|| {
        let cwd = process.cwd().display();
        Fault { code: 126, message: format!("exec: chdir to {cwd}: outside of the container") }
    })?;
    leash(tell)?;

    let env = process.env().as_deref().unwrap_or_default();
    let program = request.args.first().map_or("", String::as_str);
    let path = program::find(program, program::search_path(env))?;
    let words =
        |list: &[String]| list.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>();
    let nul = |_| Fault::new(program, Errno::EINVAL);
    let image = (
        CString::new(path.as_str()).map_err(nul)?,
        words(&request.args).map_err(nul)?,
        words(env).map_err(nul)?,
    );
    if !(close_on_exec(3, u32::MAX) && clean_signals()) {
        return Err(failed("clean up", Errno::last()));
    }
    Ok((image, seal))
}

/// Whether the container has a user namespace of its own: the kernel refuses to enter the one that we are in.
fn owns_users(pid: i32) -> io::Result<bool> {
    let about = |who: &str| std::fs::metadata(format!("/proc/{who}/ns/user")).map(|about| about.ino());
    match about("self") {
        // A kernel without them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        ours => Ok(ours? != about(&pid.to_string())?),
    }
}

/// Everything of the container's. In a user namespace of its own we become its root: the machine's root is nobody there,
/// and what nobody opens (a terminal) could be given to no user.
fn namespaces(pidfd: &OwnedFd, users: bool) -> Result<(), Errno> {
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if !users {
        return setns(pidfd.as_fd(), rest);
    }
    setns(pidfd.as_fd(), rest | CloneFlags::CLONE_NEWUSER)?;
    identity::root()
}

/// Dies with the helper. Set after the change of user, which clears it; the helper's end before that is seen by the
/// pipe, of which only it has the reading end.
fn leash(tell: RawFd) -> Result<(), Fault> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).map_err(|errno| failed("set death signal", errno))?;
    let mut poll = libc::pollfd { fd: tell, events: 0, revents: 0 };
    // SAFETY: one pollfd, as told; no wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    match poll.revents & libc::POLLERR {
        0 => Ok(()),
        _ => Err(Fault { code: 126, message: "exec: the helper is gone".into() }),
    }
}

fn failed(what: &str, errno: Errno) -> Fault {
    Fault { code: 126, message: format!("exec: {what}: {}", words(errno)) }
}

fn trouble(what: &str, error: &io::Error) -> Fault {
    Fault { code: 126, message: format!("exec: {what}: {error}") }
}
