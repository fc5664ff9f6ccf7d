//! A command in a running container, for the operator.

use std::fs;
use std::io;

use oci_spec::runtime::Spec;

use super::Hands;
use super::paths::{self, RunPaths};
use crate::config::Config;
use crate::container::enter::Request;
use crate::pod::World;
use crate::spawn::spawn;

impl Hands {
    /// Runs a command in a running container; returns the exec helper's pid. `target`: the pod's uid and the
    /// container's name. `fds`: stdin, stdout and stderr, or with `tty` the socket over which the terminal's master is
    /// to come back.
    pub fn exec(
        &mut self,
        world: &World,
        target: (&str, &str),
        command: &[String],
        tty: bool,
        fds: &[i32],
    ) -> Result<i32, String> {
        let (uid, name) = target;
        let pod = world.pods.get(uid).ok_or("the pod is gone")?;
        let run = pod.run(name).ok_or("the container is gone")?;
        let (_, pid) = run.started.ok_or("the container has not started")?;
        let paths = paths::run(&self.config, &pod.spec, name, run.number);
        enter(&self.config, &paths, pid, command, tty, fds).map_err(|why| format!("exec: {why}"))
    }
}

/// Asks the exec helper by a file in the bundle, so that it is removed with the run whatever becomes of the helper.
fn enter(
    config: &Config,
    paths: &RunPaths,
    pid: i32,
    command: &[String],
    tty: bool,
    fds: &[i32],
) -> io::Result<i32> {
    let spec = Spec::load(paths.bundle.join("config.json")).map_err(io::Error::other)?;
    let process =
        spec.process().clone().ok_or_else(|| io::Error::other("the container's spec has no process"))?;
    let cgroup = paths::cgroup(config, &paths.cgroup);
    let request = Request { pid, cgroup, process, args: command.to_vec(), tty };
    let file = paths.bundle.join("exec.json");
    let first = if tty { 3 } else { 0 };
    let fds: Vec<_> = fds.iter().zip(first..).map(|(ours, theirs)| (*ours, theirs)).collect();
    fs::write(&file, serde_json::to_vec(&request)?)?;
    spawn(&["__exec", &file.display().to_string()], &fds, None)
}
