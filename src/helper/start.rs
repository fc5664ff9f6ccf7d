//! `podinit start <bundle> [<sandbox>]`: creates and starts one container, leaves a report in the bundle, and exits so that the
//! container becomes PID 1's own child.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::container::{create, handover, pause};
use crate::pod::facts::StartError;
use crate::volume::group;

/// How long the first process of a shared pid namespace may take to begin.
const PAUSE_BEGINS: Duration = Duration::from_secs(5);

/// This process: a panic in libcontainer's children, which are forks of it, must not write the report.
static SELF: AtomicU32 = AtomicU32::new(0);

/// The exit code: 0 the container runs, 1 it does not (see `handover::outcome`), 2 no report could be left.
pub fn run(args: &[String]) -> i32 {
    // What libcontainer logs in the container's first process would land in the container's own output.
    log::set_max_level(log::LevelFilter::Off);
    let (bundle, sandbox) = match args {
        [bundle] => (PathBuf::from(bundle), None),
        [bundle, sandbox] => (PathBuf::from(bundle), Some(Path::new(sandbox))),
        _ => {
            eprintln!("usage: podinit start BUNDLE [SANDBOX]");
            return 2;
        }
    };
    tell_panics(bundle.clone());
    let outcome = started(&bundle, sandbox);
    match handover::report(&bundle, &outcome) {
        Err(error) => {
            // 2 is in this process still the one that PID 1 gave; the container has its own.
            eprintln!("start {}: report: {error}", bundle.display());
            2
        }
        Ok(()) => i32::from(outcome.is_err()),
    }
}

/// `sandbox`: that of the pod, where its containers share the pid namespace of a pause process.
fn started(bundle: &Path, sandbox: Option<&Path>) -> Result<i32, StartError> {
    let start = handover::staged(bundle).map_err(|error| StartError {
        reason: "CreateContainerError".into(),
        message: error.to_string(),
        ours: false,
    })?;
    group::carry_out(bundle).map_err(|message| StartError {
        reason: "CreateContainerError".into(),
        message,
        ours: false,
    })?;
    if let Some(sandbox) = sandbox {
        pause::begun(sandbox, PAUSE_BEGINS).map_err(|error| StartError {
            reason: "CreateContainerError".into(),
            message: format!("cannot join the pid namespace: {error}"),
            ours: false,
        })?;
    }
    create::start(bundle, &start)
}

/// A panic is a report too, and never a line in the container's output. Then the process aborts, also in a build that
/// would unwind: a child that libcontainer made is a copy of this very stack.
fn tell_panics(bundle: PathBuf) {
    SELF.store(std::process::id(), Ordering::Relaxed);
    std::panic::set_hook(Box::new(move |panic| {
        if SELF.load(Ordering::Relaxed) == std::process::id() {
            let message = format!("start helper: {panic}");
            let error = StartError { reason: "CreateContainerError".into(), message, ours: true };
            let _ = handover::report(&bundle, &Err(error));
        }
        std::process::abort();
    }));
}
