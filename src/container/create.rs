//! Create and start one container by libcontainer: the only file that names it. Runs in the start helper, whose end
//! takes away what libcontainer does to its caller (oom_score_adj, dumpable, leaked descriptors on failure).
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{Process, Spec};

use super::handover::Start;
use super::program::{self, Fault};
use super::{cgroup, child, handover, workdir};
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
    workdir::check(bundle).map_err(|error| failed("CreateContainerError", error.to_string()))?;
    let (hear, tell) =
        pipe2(OFlag::O_CLOEXEC).map_err(|error| failed("CreateContainerError", error.to_string()))?;
    let hear = File::from(hear);
    let built = build(bundle, start, tell.as_raw_fd());
    // From here on only the container's first process holds the writing end, until it runs its program.
    drop(tell);
    let mut container = built.map_err(|error| {
        let said = said(&hear, false);
        failed("StartError", if said.is_empty() { chain(&error) } else { said })
    })?;
    let pid = container.pid().ok_or_else(|| failed("StartError", "libcontainer told no pid".into()))?;
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
) -> Result<libcontainer::container::Container, LibcontainerError> {
    // SAFETY: PID 1 gave us these descriptors for the container alone; nothing else in this process uses them.
    let [stdin, stdout, stderr] =
        [start.stdin, start.stdout, start.stderr].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    ContainerBuilder::new(start.id.clone(), SyscallType::default())
        .with_root_path(&start.state)?
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .with_executor(Workload { tell })
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
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
    loop {
        match waitpid(Pid::from_raw(-1), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
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
}

impl Workload {
    fn say(&self, message: &str) {
        // SAFETY: a plain write of bytes that outlive it; the descriptor is open in every process that gets here.
        unsafe { libc::write(self.tell, message.as_ptr().cast(), message.len().min(4096)) };
    }
}

impl Executor for Workload {
    /// libcontainer's own check refuses a program of root's with mode 0700, and its words are not a user's.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let (process, program) = first_word(spec).ok_or_else(|| self.invalid("no command specified"))?;
        let env = process.env().as_deref().unwrap_or_default();
        match program::find(program, program::search_path(env)) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.invalid(&fault.message)),
        }
    }

    /// Signals are made clean here: libcontainer passes on its caller's mask and Rust's ignored SIGPIPE.
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (process, word) = first_word(spec).ok_or(ExecutorError::InvalidArg)?;
        let env = process.env().as_deref().unwrap_or_default();
        let fault = match program::find(word, program::search_path(env)) {
            Ok(path) => exec(&path, process.args().as_deref().unwrap_or_default(), env),
            Err(fault) => fault,
        };
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

impl Workload {
    fn invalid(&self, message: &str) -> ExecutorValidationError {
        self.say(message);
        ExecutorValidationError::ArgValidationError(message.to_owned())
    }
}

fn first_word(spec: &Spec) -> Option<(&Process, &str)> {
    let process = spec.process().as_ref()?;
    Some((process, process.args().as_ref()?.first()?.as_str()))
}

/// Only returns when it failed.
fn exec(path: &str, args: &[String], env: &[String]) -> Fault {
    let Ok(program) = CString::new(path) else { return Fault::new(path, Errno::EINVAL) };
    let words =
        |list: &[String]| list.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>();
    let (Ok(args), Ok(env)) = (words(args), words(env)) else { return Fault::new(path, Errno::EINVAL) };
    child::clean_signals();
    match nix::unistd::execve(&program, &args, &env) {
        Ok(never) => match never {},
        Err(errno) => Fault::new(path, errno),
    }
}
