//! PID 1's life: boot, the loop, the end. The same loop serves `podinit run` without the machine's duties.

mod agent;
mod end;
mod orders;

use std::fs;
use std::io;
use std::path::Path;

use log::{error, info, warn};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::config::Config;
use crate::operator::request::Power;
use crate::{console, fatal, machine};
use agent::Agent;

/// The long-lived helpers of a board, and of `podinit run`.
const BOARD: &[&str] = &["logger", "net", "prompt"];
const RUN: &[&str] = &["logger"];

/// PID 1 of a machine. Never returns: an end that the kernel refuses is tried again.
pub fn board() -> ! {
    fatal::arm();
    let (config, machine) = machine::boot();
    match Agent::new(config, Some(machine), BOARD) {
        Ok(mut agent) => end::machine(agent.live()),
        Err(why) => {
            // Without its loop there is nothing that PID 1 could do but say so and start over.
            error!("podinit: cannot begin: {why}");
            end::machine(Power::Reboot)
        }
    }
}

/// `podinit run`: the same on a developer's Linux, as a child subreaper, until a signal ends it. Returns the exit code.
pub fn run(args: &[String]) -> i32 {
    let config = match Config::run(args) {
        Ok((config, warnings)) => {
            console::terminal(config.log);
            warnings.iter().for_each(|warning| warn!("config: {warning}"));
            config
        }
        Err(why) => {
            eprintln!("podinit run: {why}");
            return 2;
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("podinit run: must be root: it makes namespaces, mounts and cgroups");
        return 1;
    }
    fatal::arm();
    let begun = begin(&config).and_then(|()| Agent::new(config, None, RUN));
    match begun {
        Ok(mut agent) => {
            agent.live();
            0
        }
        Err(why) => {
            error!("podinit: cannot begin: {why}");
            1
        }
    }
}

/// What stands in for the machine's duties off a board: orphans come to us, and our mounts stay ours.
fn begin(config: &Config) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    if fatal::resumed().is_none() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        // Slave: what the host mounts later is seen here, what we mount is not seen there.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
        own_cgroups(&config.cgroup)?;
    }
    for folder in [&config.root, &config.run, &config.pod_logs, &config.container_logs] {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

/// libcontainer wants cgroup2 at exactly this path. Where the host has it elsewhere, it is mounted there for us alone.
fn own_cgroups(path: &Path) -> io::Result<()> {
    if path.join("cgroup.controllers").exists() {
        return Ok(());
    }
    let none: Option<&str> = None;
    mount(
        Some("cgroup2"),
        path,
        Some("cgroup2"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        none,
    )?;
    info!("cgroup: the host's cgroup2 is mounted at {} for podinit alone", path.display());
    Ok(())
}
