//! A process inside a running container, by our own path: namespaces by pidfd, born in the container's cgroup, with
//! the container's user, groups, capabilities, seccomp filter and limits. Runs in the exec helper.
#![allow(unsafe_code)]

mod inside;
mod terminal;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{LinuxSeccomp, Process};
use serde::{Deserialize, Serialize};

use super::child::{CLEAR_SIGHAND, INTO_CGROUP, clone3};
use super::program::{Fault, words};

/// What the exec helper is asked: JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The container's first process.
    pub pid: i32,
    /// The container's cgroup on the host: `/sys/fs/cgroup/kubepods/...`.
    pub cgroup: PathBuf,
    /// `process` of the container's config.json: user, env, cwd, capabilities, rlimits.
    pub process: Process,
    /// `linux.seccomp` of the same.
    #[serde(default)]
    pub seccomp: Option<LinuxSeccomp>,
    /// What to run instead of `process.args`.
    pub args: Vec<String>,
    /// A terminal of the container's own, its master sent over descriptor 3, a unix socket (SCM_RIGHTS).
    pub tty: bool,
}

/// The unix socket over which a terminal's master goes.
const SOCKET: i32 = 3;

/// Runs the request's command with our 0, 1 and 2 and waits for it. Its exit code: 0..255, 128 + signal; 126 or 127
/// with a line in runc's words on our stderr where it could not be run.
///
/// The process gets a cgroup of its own below the container's (see `cgroup`): its parent-death signal dies with any
/// change of credentials, a set-user-id program for instance, and never reaches its children. So whoever kills the
/// helper kills that cgroup as well; the container's end takes it in any case. What the command leaves running in the
/// background stays there, as it does with any other runtime.
pub fn run(request: &Request) -> i32 {
    match attempt(request, std::process::id()) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("{}", fault.message);
            fault.code
        }
    }
}

/// The same for a helper of this pid; who calls tells of the trouble, and apart from what the process says.
pub fn attempt(request: &Request, helper: u32) -> Result<i32, Fault> {
    let own = cgroup(&request.cgroup, helper);
    let result = enter(request, &own);
    // Held by a process left in the background: removed with the container.
    let _ = fs::remove_dir(&own);
    result
}

/// Where the processes of an exec helper of this pid live: killed by who killed the helper.
pub fn cgroup(container: &Path, helper: u32) -> PathBuf {
    container.join(format!("exec-{helper}"))
}

fn enter(request: &Request, own: &Path) -> Result<i32, Fault> {
    let trouble =
        |what: &str, error: io::Error| Fault { code: 126, message: format!("exec: {what}: {error}") };
    // Neither our memory nor our descriptors are for a process in the container to look at.
    nix::sys::prctl::set_dumpable(false).map_err(|error| trouble("hide", error.into()))?;
    let pidfd = target(request).map_err(|error| trouble("find the container", error))?;
    let folder = File::from(place(request, own).map_err(|error| trouble("cgroup", error))?);
    let (hear, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|error| trouble("pipe", error.into()))?;
    // For children only; this process itself stays outside, where the container's mounts cannot fool it.
    setns(&pidfd, CloneFlags::CLONE_NEWPID).map_err(|error| trouble("enter pid namespace", error.into()))?;

    match clone3(INTO_CGROUP | CLEAR_SIGHAND, folder.as_raw_fd() as u64) {
        Ok(0) => {
            // The cgroup's folder above all: a working directory of /proc/self/fd/N would lead out by it.
            drop((hear, folder));
            let fault = inside::run(request, &pidfd, tell.as_raw_fd());
            inside::end(&fault, tell.as_raw_fd())
        }
        Ok(pid) => {
            drop((tell, folder, pidfd));
            if request.tty {
                // SAFETY: the socket was given to us for this; the child has its own copy. Not open: nothing happens.
                unsafe { libc::close(SOCKET) };
            }
            let fault = heard(File::from(hear));
            let code = wait(pid);
            match fault {
                Some(fault) => Err(fault),
                None => Ok(code),
            }
        }
        Err(error) => Err(trouble("clone", error)),
    }
}

/// The first process, held by a descriptor and seen in the container's cgroup: a pid may have been used again.
fn target(request: &Request) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call that returns a new descriptor or -1.
    let pidfd = match unsafe { libc::syscall(libc::SYS_pidfd_open, request.pid, 0) } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: it is new and nobody else's.
        fd => unsafe { OwnedFd::from_raw_fd(fd as i32) },
    };
    let text = fs::read_to_string(format!("/proc/{}/cgroup", request.pid))?;
    let inside = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // Below it where the container moved its first process to a cgroup of its own making.
    let paths = Path::new(inside).ancestors().filter_map(|up| up.strip_prefix("/").ok());
    match paths.filter(|up| up.parent().is_some()).any(|up| request.cgroup.ends_with(up)) {
        true => Ok(pidfd),
        false => Err(io::Error::other(format!("process {} is in {inside}", request.pid))),
    }
}

/// The cgroup that the process is born in: its own, or where none can be made the container's.
fn place(request: &Request, own: &Path) -> io::Result<OwnedFd> {
    let path = match fs::create_dir(own) {
        Ok(()) => own,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => own,
        Err(_) => &request.cgroup,
    };
    let error = |error: io::Error| io::Error::new(error.kind(), format!("open {}: {error}", path.display()));
    Ok(File::open(path).map_err(error)?.into())
}

/// What the child could not do; None once it runs its program. One byte of code, then the message.
fn heard(mut hear: File) -> Option<Fault> {
    let mut bytes = Vec::new();
    let _ = hear.read_to_end(&mut bytes);
    let (code, message) = bytes.split_first()?;
    Some(Fault { code: i32::from(*code), message: String::from_utf8_lossy(message).into_owned() })
}

fn wait(pid: i32) -> i32 {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                eprintln!("exec: wait: {}", words(error));
                return 126;
            }
        }
    }
}
