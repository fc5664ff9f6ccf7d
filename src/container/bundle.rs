//! Pod spec and image config to an OCI runtime spec. Pure: what exists on the machine is asked through a closure.
//!
//! Shapes: the OCI runtime specification 1.2 (config.md, config-linux.md); values: behaviour 5, 6 and 7.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{
    self as oci, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceBuilder,
    LinuxDeviceType, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources,
    MountBuilder, PosixRlimitBuilder, Process, ProcessBuilder, RootBuilder, Spec, UserBuilder,
};

use super::confinement::Confinement;
use super::rlimit::Rlimit;
use super::user::User;
use super::{defaults, device};
use crate::pod::facts::StartError;
use crate::pod::spec::Propagation;
use crate::pod::{Container, Pod};

/// All that makes up one container.
pub struct Input<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub image: &'a ImageConfiguration,
    pub command: Command,
    pub user: User,
    /// Absolute, on the host; mounted.
    pub rootfs: &'a Path,
    /// Absolute, below the cgroup2 root: `/kubepods/burstable/pod<uid>/<container>-<run>`. Must not exist yet.
    pub cgroup: &'a str,
    /// The directory with the pod's `net`, `ipc`, `uts` and `pid`, as far as it has its own.
    pub namespaces: &'a Path,
    /// The pod's /dev/shm on the host; the host's own with hostIPC.
    pub shm: &'a Path,
    pub files: Files<'a>,
    /// Volumes.
    pub mounts: Vec<Bind>,
    pub limits: Limits,
    pub rlimits: Vec<Rlimit>,
    pub confinement: Confinement,
    /// The cgroup controllers at hand: what needs another one is left out.
    pub controllers: &'a BTreeSet<String>,
    /// Whether a path exists on the host: `&Path::exists`.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// What to run, resolved by `pod::env`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// `NAME=value`; PATH, HOME and HOSTNAME are added where they are missing.
    pub env: Vec<String>,
    /// Absolute; made where it is missing.
    pub cwd: String,
}

/// A file or directory of the host, shown in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    /// Absolute, in the container.
    pub target: PathBuf,
    pub read_only: bool,
    /// Read-only also where something is mounted below it (Linux 5.12).
    pub recursive_read_only: bool,
    /// Of what is mounted in it later. libcontainer 0.7 knows one for all of a container's mounts, the strongest: where
    /// one differs from that, its `source` is a mount that is as it should be.
    pub propagation: Propagation,
}

/// Files that we write for the container, on the host; None where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    pub hostname: Option<&'a Path>,
    pub hosts: Option<&'a Path>,
    pub resolv: Option<&'a Path>,
    /// What the container writes its termination message to, at `container.termination_path`.
    pub termination: Option<&'a Path>,
}

/// The container's limits in OCI's numbers; None: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares, 2..262144.
    pub shares: Option<u64>,
    /// Microseconds of processor time in each period.
    pub quota: Option<i64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// -1000..1000.
    pub oom_score_adj: Option<i32>,
    /// Further cgroup2 files and their values: `memory.swap.max`, `memory.oom.group`, `cpu.weight`, ...
    pub unified: BTreeMap<String, String>,
}

/// Kubernetes' default search path, for images without one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The runtime spec of one container. An error names what of the input cannot be expressed.
pub fn spec(input: &Input) -> Result<Spec, StartError> {
    if input.command.argv.first().is_none_or(String::is_empty) {
        return Err(refused("no command specified"));
    }
    if !input.command.cwd.starts_with('/') {
        return Err(refused(&format!("working directory {:?} is not absolute", input.command.cwd)));
    }
    if let Some(bind) = input.mounts.iter().find(|bind| !bind.target.is_absolute()) {
        return Err(refused(&format!("mount path {:?} is not absolute", bind.target)));
    }
    build(input).map_err(|error| refused(&format!("runtime spec: {error}")))
}

fn refused(message: &str) -> StartError {
    StartError { reason: "CreateContainerError".into(), message: message.into(), ours: false }
}

/// Each field is set, None included: this crate's own defaults are another program's (hostname "youki").
fn build(input: &Input) -> Result<Spec, OciSpecError> {
    let read_only = input.container.security.read_only_root;
    let mut spec = Spec::default();
    spec.set_version("1.0.2".into())
        .set_root(Some(RootBuilder::default().path(input.rootfs).readonly(read_only).build()?))
        .set_mounts(Some(mounts(input)?))
        .set_process(Some(process(input)?))
        .set_hostname(None)
        .set_domainname(None)
        .set_hooks(None)
        .set_annotations(None)
        .set_linux(Some(linux(input)?))
        .set_solaris(None)
        .set_windows(None)
        .set_vm(None)
        .set_uid_mappings(None)
        .set_gid_mappings(None);
    Ok(spec)
}

fn process(input: &Input) -> Result<Process, OciSpecError> {
    let mut groups = input.user.groups.clone();
    // Never empty: an empty list leaves the container with PID 1's own groups.
    if !groups.contains(&input.user.gid) {
        groups.insert(0, input.user.gid);
    }
    let user = UserBuilder::default()
        .uid(input.user.uid)
        .gid(input.user.gid)
        .umask(0o022_u32)
        .additional_gids(groups)
        .build()?;
    let set: oci::Capabilities = input.confinement.capabilities.iter().copied().collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(oci::Capabilities::new())
        .ambient(oci::Capabilities::new())
        .build()?;
    let rlimits = input
        .rlimits
        .iter()
        .map(|limit| PosixRlimitBuilder::default().typ(limit.kind).soft(limit.soft).hard(limit.hard).build());
    let mut process = ProcessBuilder::default()
        .terminal(input.container.tty)
        .user(user)
        .args(input.command.argv.clone())
        .env(env(input))
        .cwd(&input.command.cwd)
        .capabilities(capabilities)
        .rlimits(rlimits.collect::<Result<Vec<_>, _>>()?)
        .build()?;
    process.set_no_new_privileges(input.container.security.no_escalation.then_some(true));
    process.set_oom_score_adj(input.limits.oom_score_adj);
    process.set_apparmor_profile(input.confinement.apparmor.clone());
    process.set_selinux_label(None).set_console_size(None).set_command_line(None);
    process.set_io_priority(None).set_scheduler(None).set_exec_cpu_affinity(None);
    Ok(process)
}

/// The resolved environment with what every process may expect. HOME is set here, because else libcontainer asks
/// the container's own name service, from a static binary.
fn env(input: &Input) -> Vec<String> {
    let mut env = input.command.env.clone();
    let home = if input.user.home.is_empty() { "/" } else { &input.user.home };
    for (name, value) in [("PATH", PATH), ("HOSTNAME", &input.pod.hostname), ("HOME", home)] {
        if !env.iter().any(|entry| entry.split_once('=').is_some_and(|(known, _)| known == name)) {
            env.push(format!("{name}={value}"));
        }
    }
    if input.container.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    env
}

/// Our own mounts, then the files, then volumes, parents before children. What a volume covers exactly is left out.
fn mounts(input: &Input) -> Result<Vec<oci::Mount>, OciSpecError> {
    let mut volumes: Vec<&Bind> = input.mounts.iter().collect();
    volumes.sort_by_key(|bind| depth(&bind.target));
    let covered = |target: &str| volumes.iter().any(|bind| same(&bind.target, Path::new(target)));

    let mut list = Vec::new();
    let privileged = input.container.security.privileged;
    // A privileged container may write to /sys and to its cgroups.
    let option =
        |option: &&str| if privileged && *option == "ro" { "rw".into() } else { (*option).to_owned() };
    for mount in defaults::MOUNTS.iter().filter(|mount| !covered(mount.target)) {
        list.push(
            MountBuilder::default()
                .destination(mount.target)
                .typ(mount.kind)
                .source(mount.source)
                .options(mount.options.iter().map(option).collect::<Vec<_>>())
                .build()?,
        );
    }
    let files = [
        ("/dev/shm", Some(input.shm)),
        ("/etc/hostname", input.files.hostname),
        ("/etc/hosts", input.files.hosts),
        ("/etc/resolv.conf", input.files.resolv),
        (input.container.termination_path.as_str(), input.files.termination),
    ];
    for (target, source) in files {
        let Some(source) = source.filter(|_| !target.is_empty() && !covered(target)) else { continue };
        let options: &[&str] = match target {
            "/dev/shm" => &["rbind", "rprivate", "rw", "nosuid", "noexec", "nodev"],
            _ => &["rbind", "rprivate", "rw"],
        };
        list.push(bind(source, Path::new(target), options)?);
    }
    for volume in volumes {
        let access = match (volume.read_only, volume.recursive_read_only) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        };
        let mut options = vec!["rbind", propagation(volume.propagation), access];
        // Where nothing else keeps the container from a device that is in the volume.
        if !privileged && !input.confinement.device_filter {
            options.push("nodev");
        }
        list.push(bind(&volume.source, &volume.target, &options)?);
    }
    Ok(list)
}

fn bind(source: &Path, target: &Path, options: &[&str]) -> Result<oci::Mount, OciSpecError> {
    MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
}

fn propagation(of: Propagation) -> &'static str {
    match of {
        Propagation::None => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    }
}

fn depth(path: &Path) -> usize {
    path.components().filter(|part| matches!(part, Component::Normal(_))).count()
}

/// Equal but for doubled or trailing slashes.
fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

fn linux(input: &Input) -> Result<oci::Linux, OciSpecError> {
    let security = &input.container.security;
    let open = security.privileged || security.unmasked;
    let paths = |list: Vec<String>| if open { Vec::new() } else { list };
    let mut linux = LinuxBuilder::default()
        .cgroups_path(input.cgroup)
        .namespaces(namespaces(input)?)
        .devices(devices(input)?)
        .masked_paths(paths(defaults::masked(input.exists)))
        .readonly_paths(paths(defaults::read_only(input.exists)))
        .rootfs_propagation(root_propagation(&input.mounts))
        .build()?;
    linux.set_resources(Some(resources(input)?));
    linux.set_uid_mappings(None).set_gid_mappings(None).set_sysctl(None);
    linux.set_seccomp(input.confinement.seccomp.clone());
    linux.set_mount_label(None).set_intel_rdt(None).set_personality(None).set_time_offsets(None);
    linux.set_memory_policy(None).set_net_devices(None);
    Ok(linux)
}

/// The strongest of all mounts': libcontainer 0.7 heeds no other. private: no mount travels either way.
fn root_propagation(mounts: &[Bind]) -> &'static str {
    let any = |wanted| mounts.iter().any(|bind| bind.propagation == wanted);
    if any(Propagation::Bidirectional) {
        "shared"
    } else if any(Propagation::HostToContainer) {
        "slave"
    } else {
        "private"
    }
}

/// Its own mount, pid and cgroup namespaces, unless it shares the pod's or the machine's; the pod's net, ipc and uts, and
/// its user namespace, if it has one.
/// On the host's network also the host's name.
fn namespaces(input: &Input) -> Result<Vec<oci::LinuxNamespace>, OciSpecError> {
    let (pod, spaces) = (input.pod, &input.pod.spaces);
    let pid = match (spaces.host_pid, spaces.share_pid) {
        (true, _) => None,
        (false, shared) => Some((LinuxNamespaceType::Pid, shared.then_some("pid"))),
    };
    // Of the machine's cgroups the root of a user namespace could mount nothing.
    let cgroup = !input.container.security.privileged || spaces.own_users;
    let wanted = [
        pid,
        Some((LinuxNamespaceType::Mount, None)),
        cgroup.then_some((LinuxNamespaceType::Cgroup, None)),
        (!spaces.host_ipc).then_some((LinuxNamespaceType::Ipc, Some("ipc"))),
        (!pod.host_network).then_some((LinuxNamespaceType::Uts, Some("uts"))),
        (!pod.host_network).then_some((LinuxNamespaceType::Network, Some("net"))),
        spaces.own_users.then_some((LinuxNamespaceType::User, Some("user"))),
    ];
    let namespace = |(kind, name): (LinuxNamespaceType, Option<&str>)| {
        let namespace = LinuxNamespaceBuilder::default().typ(kind);
        match name {
            Some(name) => namespace.path(input.namespaces.join(name)).build(),
            None => namespace.build(),
        }
    };
    wanted.into_iter().flatten().map(namespace).collect()
}

/// What each container has, and the machine's own for a privileged one.
fn devices(input: &Input) -> Result<Vec<oci::LinuxDevice>, OciSpecError> {
    let device = |(path, major, minor): &(&str, i64, i64)| {
        LinuxDeviceBuilder::default()
            .path(*path)
            .typ(LinuxDeviceType::C)
            .major(*major)
            .minor(*minor)
            .file_mode(0o666_u32)
            .uid(0_u32)
            .gid(0_u32)
            .build()
    };
    let mut list = defaults::DEVICES.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    for device in &input.confinement.devices {
        if list.iter().all(|known| known.path() != device.path()) {
            list.push(device.clone());
        }
    }
    Ok(list)
}

/// What needs a controller that is not there is left out: one warning is the caller's, a container without that limit
/// is better than none.
fn resources(input: &Input) -> Result<LinuxResources, OciSpecError> {
    let limits = &input.limits;
    let has = |controller: &str| input.controllers.contains(controller);
    let mut resources = LinuxResources::default();
    resources.set_devices(None).set_pids(None).set_block_io(None).set_hugepage_limits(None);
    resources.set_network(None).set_rdma(None).set_cpu(None).set_memory(None).set_unified(None);
    if input.confinement.device_filter {
        resources.set_devices(Some(device::rules(input.container.security.privileged)?));
    }

    if has("cpu") && (limits.shares.is_some() || limits.quota.is_some()) {
        let mut cpu = LinuxCpuBuilder::default();
        if let Some(shares) = limits.shares {
            cpu = cpu.shares(shares);
        }
        if let Some(quota) = limits.quota {
            cpu = cpu.quota(quota).period(limits.period.unwrap_or(100_000));
        }
        resources.set_cpu(Some(cpu.build()?));
    }
    if let Some(limit) = limits.memory.filter(|_| has("memory")) {
        resources.set_memory(Some(LinuxMemoryBuilder::default().limit(limit).build()?));
    }
    let unified: HashMap<String, String> = limits
        .unified
        .iter()
        .filter(|(file, _)| file.split_once('.').is_some_and(|(controller, _)| has(controller)))
        .map(|(file, value)| (file.clone(), value.clone()))
        .collect();
    if !unified.is_empty() {
        resources.set_unified(Some(unified));
    }
    Ok(resources)
}

#[cfg(test)]
mod tests;
