//! A command in a running container, for the operator.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::Hands;
use super::paths::{self, RunPaths};
use crate::clock::Tick;
use crate::config::Config;
use crate::container::cgroup;
use crate::container::enter::{self, Request};
use crate::pod::World;
use crate::spawn::spawn;

impl Hands {
    /// Runs a command in a running container; returns the exec helper. `target`: the pod's uid and the
    /// container's name. `fds`: stdin, stdout and stderr, or with `tty` the socket over which the terminal's master is
    /// to come back.
    pub fn exec(
        &mut self,
        world: &World,
        target: (&str, &str),
        command: &[String],
        tty: bool,
        fds: &[i32],
    ) -> Result<Session, String> {
        let (uid, name) = target;
        let pod = world.pods.get(uid).ok_or("the pod is gone")?;
        let run = pod.run(name).ok_or("the container is gone")?;
        if run.exited.is_some() {
            return Err("the container has ended".into());
        }
        let (_, pid) = run.started.ok_or("the container has not started")?;
        let paths = paths::run(&self.config, &pod.spec, name, run.number);
        let first = if tty { 3 } else { 0 };
        let fds: Vec<_> = fds.iter().zip(first..).map(|(ours, theirs)| (*ours, theirs)).collect();
        enter(&self.config, &paths, pid, &["__exec"], command, tty, &fds)
            .map_err(|why| format!("exec: {why}"))
    }
}

/// A command in a container, as long as its helper lives.
pub struct Session {
    pub helper: i32,
    /// Where its processes are; None: the helper does all by itself.
    cgroup: Option<PathBuf>,
}

impl Session {
    /// Of a helper that enters no container.
    pub(super) fn alone(helper: i32) -> Self {
        Session { helper, cgroup: None }
    }

    /// Nobody wants it any more: the helper goes, and what it began.
    pub fn kill(&self) {
        // The helper first, so that it begins nothing new; gone already is what is wanted.
        let _ = kill(Pid::from_raw(self.helper), Signal::SIGKILL);
        let _ = self.cgroup.as_deref().map(cgroup::kill);
    }

    /// After the kill, when the helper has ended: its cgroup is removed. A process that still dies there keeps it until
    /// the run is cleaned.
    pub fn close(&self) {
        if let Some(group) = &self.cgroup {
            let _ = cgroup::kill(group);
            let _ = cgroup::remove(group);
        }
    }
}

/// Asks a helper that enters containers (its words, then the request's file follows) by a file in the bundle, so that it is removed with the run whatever becomes of the helper.
pub(super) fn enter(
    config: &Config,
    paths: &RunPaths,
    pid: i32,
    helper: &[&str],
    command: &[String],
    tty: bool,
    fds: &[(i32, i32)],
) -> io::Result<Session> {
    let spec = Spec::load(paths.bundle.join("config.json")).map_err(io::Error::other)?;
    let process =
        spec.process().clone().ok_or_else(|| io::Error::other("the container's spec has no process"))?;
    let group = paths::cgroup(config, &paths.cgroup);
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let request = Request { pid, cgroup: group.clone(), process, seccomp, args: command.to_vec(), tty };
    // A name of its own: two commands at once must not run each other's. The helper removes it when it has read it.
    let file = paths.bundle.join(format!("exec-{}.json", Tick::now().0));
    fs::write(&file, serde_json::to_vec(&request)?)?;
    let name = file.display().to_string();
    let spawned = spawn(&[helper, &[name.as_str()]].concat(), fds, None);
    if spawned.is_err() {
        let _ = fs::remove_file(&file);
    }
    spawned.map(|helper| {
        let cgroup = enter::cgroup(&group, helper.unsigned_abs());
        Session { helper, cgroup: Some(cgroup) }
    })
}
