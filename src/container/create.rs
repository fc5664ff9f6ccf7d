//! Create and start one container by libcontainer: the only file that names it. Runs in the start helper, whose end
//! takes away what libcontainer does to its caller (oom_score_adj, dumpable, leaked descriptors on failure).
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, Process, Spec, UserBuilder};

use super::device::{self, DeviceFilter};
use super::handover::Start;
use super::program::{self, Fault};
use super::{cgroup, child, handover, identity, rlimit, workdir};
use crate::pod::facts::StartError;

/// Where libcontainer insists on finding cgroup2.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Creates and starts the container of `<bundle>/config.json`; its first process' pid once that runs its program.
/// On an error nothing of it is left: no process, cgroup or state.
pub fn start(bundle: &Path, start: &Start) -> Result<i32, StartError> {
    if start.state.join(&start.id).exists() {
        return Err(failed("CreateContainerError", format!("container {} exists already", start.id)));
    }
    let made = run(bundle, start);
    if made.is_err() {
        clean(bundle, start);
    }
    made
}

fn run(bundle: &Path, start: &Start) -> Result<i32, StartError> {
    let config = |error: io::Error| failed("CreateContainerError", error.to_string());
    workdir::check(bundle).map_err(config)?;
    let own = Own::of(bundle).map_err(config)?;
    let (hear, tell) =
        pipe2(OFlag::O_CLOEXEC).map_err(|error| failed("CreateContainerError", error.to_string()))?;
    let hear = File::from(hear);
    let built = build(bundle, start, tell.as_raw_fd(), &own);
    // From here on only the container's first process holds the writing end, until it runs its program.
    drop(tell);
    let mut container = built.map_err(|error| {
        let said = said(&hear, false);
        failed("StartError", if said.is_empty() { chain(&error) } else { said })
    })?;
    // Its program does not run yet: from its first instruction on it is kept from devices.
    if let Some(filter) = &own.devices {
        filter
            .attach(&own.leaf)
            .map_err(|error| config(io::Error::other(format!("device filter: {error}"))))?;
    }
    let pid = container.pid().ok_or_else(|| failed("StartError", "libcontainer told no pid".into()))?;
    if own.delegates {
        delegate(&own.leaf, pid.as_raw())
            .map_err(|error| config(io::Error::other(format!("delegate the cgroup: {error}"))))?;
    }
    container.start().map_err(|error| failed("StartError", chain(&error)))?;
    match said(&hear, true) {
        said if said.is_empty() => Ok(pid.as_raw()),
        said => Err(failed("StartError", said)),
    }
}

fn build(
    bundle: &Path,
    start: &Start,
    tell: RawFd,
    own: &Own,
) -> Result<libcontainer::container::Container, LibcontainerError> {
    // SAFETY: PID 1 gave us these descriptors for the container alone; nothing else in this process uses them.
    let [stdin, stdout, stderr] =
        [start.stdin, start.stdout, start.stderr].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    ContainerBuilder::new(start.id.clone(), SyscallType::default())
        .with_root_path(&start.state)?
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .with_executor(Workload { tell, process: own.process.clone(), seccomp: own.seccomp.clone() })
        .validate_id()?
        .as_init(bundle.join(BARE))
        .with_systemd(false)
        .with_detach(true)
        .build()
}

/// The directory in the bundle with what libcontainer is given.
const BARE: &str = "bare";

/// What of the bundle's spec we do ourselves. libcontainer gets a spec without it, that of a root process with all
/// capabilities: it installs a seccomp filter in other places of its code for each value of noNewPrivileges, drops
/// the capability for that before we could, and takes a C library for it.
struct Own {
    process: Process,
    seccomp: Option<LinuxSeccomp>,
    devices: Option<DeviceFilter>,
    leaf: PathBuf,
    /// Whether the root of a user namespace is to manage its cgroup: it may write to it by its mounts.
    delegates: bool,
}

impl Own {
    /// Also writes the spec without it.
    fn of(bundle: &Path) -> io::Result<Own> {
        let mut spec = Spec::load(bundle.join("config.json")).map_err(io::Error::other)?;
        let process = spec.process().clone().ok_or_else(|| io::Error::other("the spec has no process"))?;
        let mut linux = spec.linux().clone().ok_or_else(|| io::Error::other("the spec is none for Linux"))?;
        let path = linux.cgroups_path().clone().unwrap_or_default();
        let rules = linux.resources().as_ref().and_then(|all| all.devices().clone()).unwrap_or_default();
        let devices = device::filter(&rules)
            .map_err(|error| io::Error::new(error.kind(), format!("device filter: {error}")))?;
        let seccomp = linux.seccomp().clone();

        let root = UserBuilder::default().uid(0_u32).gid(0_u32).additional_gids(vec![0]).build();
        let mut user = root.map_err(io::Error::other)?;
        user.set_umask(process.user().umask());
        let mut bare = process.clone();
        bare.set_user(user).set_capabilities(None).set_no_new_privileges(None);
        linux.set_seccomp(None);
        let users = linux.namespaces().iter().flatten().any(|ns| ns.typ() == LinuxNamespaceType::User);
        let writable = |mount: &oci_spec::runtime::Mount| {
            let read_only = mount.options().iter().flatten().any(|option| option == "ro");
            mount.destination() == Path::new(CGROUPS) && !read_only
        };
        let delegates = users && spec.mounts().iter().flatten().any(writable);
        if users {
            // Only the machine's root may raise them: libcontainer sets them again where it is so no more.
            for limit in process.rlimits().iter().flatten() {
                rlimit::set(limit)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", limit.typ())))?;
            }
        }
        spec.set_process(Some(bare)).set_linux(Some(linux));
        std::fs::create_dir_all(bundle.join(BARE))?;
        std::fs::write(bundle.join(BARE).join("config.json"), serde_json::to_vec(&spec)?)?;
        Ok(Own { process, seccomp, devices, leaf: leaf(&path), delegates })
    }
}

/// Gives what the kernel calls delegable of a cgroup to the root of the process' user namespace, as runc and crun do.
fn delegate(leaf: &Path, pid: i32) -> io::Result<()> {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
    let root: Option<u32> = map.split_whitespace().nth(1).and_then(|first| first.parse().ok());
    let root = root.ok_or_else(|| io::Error::other(format!("no uid in {map:?}")))?;
    chown(leaf, Some(root), Some(root))?;
    let files = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".into());
    for file in files.lines() {
        match chown(leaf.join(file), Some(root), Some(root)) {
            // Of a controller that is not at hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// What came down the pipe so far; `wait`: until the container's first process runs its program, or is gone.
fn said(mut hear: &File, wait: bool) -> String {
    // What there is to say was said before libcontainer heard of it; a hanging child must not hold us up.
    if !wait && fcntl(hear, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_err() {
        return String::new();
    }
    let mut text = Vec::new();
    let mut part = [0; 512];
    loop {
        match hear.read(&mut part) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Kills, reaps and removes what a failed start left.
fn clean(bundle: &Path, start: &Start) {
    let leaf = Spec::load(bundle.join("config.json"))
        .ok()
        .and_then(|spec| spec.linux().as_ref()?.cgroups_path().clone())
        .map(|path| leaf(&path));
    if let Some(leaf) = &leaf {
        let _ = cgroup::kill(leaf);
    }
    // All children: the intermediate process that libcontainer leaves as a zombie on failure, and the first process.
    while let Ok(_) | Err(Errno::EINTR) = waitpid(Pid::from_raw(-1), None) {}
    if let Some(leaf) = &leaf {
        let _ = cgroup::remove(leaf);
    }
    let _ = handover::forget(&start.state, &start.id);
}

fn leaf(path: &Path) -> PathBuf {
    Path::new(CGROUPS).join(path.strip_prefix("/").unwrap_or(path))
}

fn failed(reason: &str, message: String) -> StartError {
    StartError { reason: reason.into(), message, ours: false }
}

/// An error with its causes, each once: libcontainer wraps some in words that say the same.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// What runs in the container's first process, last of all.
#[derive(Clone)]
struct Workload {
    /// Written to when the program cannot be run; closed by exec.
    tell: RawFd,
    /// As the bundle has it.
    process: Process,
    seccomp: Option<LinuxSeccomp>,
}

impl Workload {
    fn say(&self, message: &str) {
        // SAFETY: a plain write of bytes that outlive it; the descriptor is open in every process that gets here.
        unsafe { libc::write(self.tell, message.as_ptr().cast(), message.len().min(4096)) };
    }
}

impl Executor for Workload {
    /// Nothing: only who is to run the program can say whether he may. libcontainer's own check refuses a program of
    /// root's with mode 0700, and its words are not a user's.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let fault = exec(&self.process, self.seccomp.as_ref());
        self.say(&fault.message);
        Err(ExecutorError::Other(fault.message))
    }

    /// The environment goes to exec as it is; this process needs none.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Only returns when it failed. Signals are made clean here: libcontainer passes on its caller's mask and Rust's
/// ignored SIGPIPE.
fn exec(process: &Process, seccomp: Option<&LinuxSeccomp>) -> Fault {
    let become_it = || {
        let args = process.args().as_deref().unwrap_or_default();
        let env = process.env().as_deref().unwrap_or_default();
        let word = args.first().map_or("", String::as_str);
        let seal = identity::assume(process, seccomp)?;
        let path = program::find(word, program::search_path(env))?;
        let nul = |_| Fault::new(&path, Errno::EINVAL);
        let words = |list: &[String]| {
            list.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()
        };
        let program = CString::new(path.as_str()).map_err(nul)?;
        let (args, env) = (words(args).map_err(nul)?, words(env).map_err(nul)?);
        child::clean_signals();
        seal.close()?;
        match nix::unistd::execve(&program, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => Err::<Never, Fault>(Fault::new(&path, errno)),
        }
    };
    match become_it() {
        Ok(never) => match never {},
        Err(fault) => fault,
    }
}

type Never = std::convert::Infallible;
