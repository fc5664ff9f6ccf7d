//! PID 1's life: boot, the loop, the end. The same loop serves `podinit run` without the machine's duties.

mod agent;
mod doom;
mod end;
mod orders;

use std::fs::{self, File, TryLockError};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::time::Duration;

use log::{error, info, warn};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::clock::Tick;
use crate::config::Config;
use crate::operator::request::Power;
use crate::{console, fatal, machine, net};
use agent::Agent;

/// The long-lived helpers of a board, and of `podinit run`.
const BOARD: &[&str] = &["logger", "net", "probe", "prompt"];
const RUN: &[&str] = &["logger", "probe"];

/// PID 1 of a machine. Never returns: an end that the kernel refuses is tried again.
pub fn board() -> ! {
    fatal::arm();
    let (config, machine) = machine::boot();
    // Here and not in the net helper: pods may speak to each other over it also where no network is wanted.
    if let Err(why) = net::link::loopback_up() {
        error!("machine: the loopback interface stays down: {why}");
    }
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
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", Config::run_help());
        return 0;
    }
    let config = match Config::run(args) {
        Ok((config, warnings)) => {
            console::terminal(config.log);
            warnings.iter().for_each(|warning| warn!("config: {warning}"));
            config
        }
        Err(why) => {
            eprintln!("podinit run: {why}\nSee 'podinit run --help' for usage.");
            return 2;
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("podinit run: must be root: it makes namespaces, mounts and cgroups");
        return 1;
    }
    if let Err(why) = begin(&config) {
        eprintln!("podinit run: {why}");
        return 1;
    }
    let socket = config.run.join("podinit.sock");
    info!(
        "podinit: {} ({}) runs the pods of {} on node {}, PODINIT_SOCKET={}",
        env!("CARGO_PKG_VERSION"),
        env!("PODINIT_REVISION"),
        config.manifests.display(),
        config.node_name,
        socket.display()
    );
    fatal::arm();
    match Agent::new(config, None, RUN) {
        Ok(mut agent) => {
            agent.live();
            let all = agent.leave();
            info!("podinit: ended");
            i32::from(!all)
        }
        Err(why) => {
            error!("podinit: cannot begin: {why}");
            1
        }
    }
}

/// What stands in for the machine's duties off a board: orphans come to us, and our mounts stay ours.
fn begin(config: &Config) -> Result<(), String> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|why| format!("cannot become a subreaper: {why}"))?;
    // What we make on the way to a pod's files, the root of its user namespace must be able to pass.
    umask(Mode::from_bits_truncate(0o022));
    // A later life has its predecessor's namespace and lock, and never gives up.
    let again = fatal::resumed().is_some();
    let elsewhere = config.static_pod_url.is_some();
    if !again && !elsewhere && !config.manifests.is_dir() && !config.manifests.is_file() {
        let shown = config.manifests.display();
        return Err(format!(
            "{shown} is no directory and no file: --pod-manifest-path names manifests, or one"
        ));
    }
    for folder in [&config.root, &config.run, &config.pod_logs, &config.container_logs] {
        fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
    }
    if !again {
        lock(&config.run)?;
        own_mounts()?;
        own_cgroups(&config.cgroup)?;
    }
    Ok(())
}

/// How long what a killed podinit was about to start may hold its lock.
const DEATH: Duration = Duration::from_secs(2);

/// One podinit a run directory. The lock goes with this process, whatever ends it, and passes a re-execution.
fn lock(run: &Path) -> Result<(), String> {
    let shown = run.display();
    let folder = File::open(run).map_err(|why| format!("cannot open {shown}: {why}"))?;
    let until = Tick::now() + DEATH;
    loop {
        match folder.try_lock() {
            Ok(()) => break,
            // A podinit that was just killed: a helper that it was about to start holds the lock until its exec.
            Err(TryLockError::WouldBlock) if Tick::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another podinit runs in {shown}: give this one another --run-dir"));
            }
            Err(TryLockError::Error(why)) => return Err(format!("cannot lock {shown}: {why}")),
        }
    }
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(|why| format!("cannot keep {shown}: {why}"))?;
    let _ = folder.into_raw_fd();
    Ok(())
}

/// A mount namespace of our own.
fn own_mounts() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|why| format!("cannot have a mount namespace: {why}"))?;
    let none: Option<&str> = None;
    // Slave: what the host mounts later is seen here, what we mount is not seen there.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|why| format!("cannot keep our mounts from the host's: {why}"))
}

/// libcontainer wants cgroup2 at exactly this path. Where the host has it elsewhere, it is mounted there for us alone.
fn own_cgroups(path: &Path) -> Result<(), String> {
    if path.join("cgroup.controllers").exists() {
        return Ok(());
    }
    let none: Option<&str> = None;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), path, Some("cgroup2"), flags, none).map_err(|why| {
        format!("cannot mount cgroup2 at {}, and podinit does not do without: {why}", path.display())
    })?;
    info!("cgroup: the host's cgroup2 is mounted at {} for podinit alone", path.display());
    Ok(())
}
