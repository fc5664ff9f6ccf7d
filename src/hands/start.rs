//! The start of one run: its layers and root, what runs in it with whose rights, its pipes, and the helper that starts it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;

use super::paths::{self, RunPaths};
use super::{Hands, node};
use crate::container::bundle::{self, Command, Files, Input, Limits};
use crate::container::handover::{self, Start};
use crate::container::{Confinement, User, mapped, rlimit, user};
use crate::image::mount;
use crate::pod::facts::{PodFacts, StartError, Stream};
use crate::pod::spec::Propagation;
use crate::pod::users::Ids;
use crate::pod::{Container, Fact, Pod, env, resources, security};
use crate::spawn::spawn;
use crate::{logs, volume};

impl Hands {
    pub(super) fn try_start(
        &mut self,
        facts: &PodFacts,
        container: &Container,
        number: u32,
        paths: &RunPaths,
    ) -> Result<Vec<Fact>, StartError> {
        let (pod, ids) = (facts.spec.as_ref(), facts.ids);
        let image = self.store.find(&container.image).map_err(config_error)?.ok_or_else(|| {
            config_error(format!("image \"{}\" is no longer in the store", container.image))
        })?;
        if pod.spaces.share_pid {
            self.pause(pod).map_err(create_error)?;
        }
        fs::create_dir_all(&paths.rootfs).map_err(create_error)?;
        fs::create_dir_all(&paths.scratch).map_err(create_error)?;
        let layers = mount::mount_layers(&self.store, &image, &self.config.run).map_err(create_error)?;
        let layers = self.layers_for(pod, ids, layers).map_err(create_error)?;
        mount::mount_rootfs(&layers, &paths.scratch, &paths.rootfs).map_err(create_error)?;
        let spec = self.bundle(pod, ids, container, &image.config, paths)?;
        let output = logs::pipes(owner(&spec, ids)).map_err(ours)?;
        let log = logs::paths::log(&paths::pod(&self.config, pod).logs, &container.name, number);
        self.link_log(pod, container, paths, &log).map_err(create_error)?;
        let start = Start {
            id: paths.id.clone(),
            state: self.config.run.join("state"),
            stdin: 3,
            stdout: 4,
            stderr: 5,
        };
        handover::stage(&paths.bundle, &spec, &start).map_err(create_error)?;
        volume::group::stage(&paths.bundle, &volume::group::orders(pod, &self.volumes_for(pod, ids)))
            .map_err(create_error)?;
        let group = paths::cgroup(&self.config, &paths.helper_cgroup);
        fs::create_dir_all(&group).map_err(create_error)?;
        let null = fs::File::open("/dev/null").map_err(create_error)?;
        let fds = [(null.as_raw_fd(), 3), (output.stdout.1.as_raw_fd(), 4), (output.stderr.1.as_raw_fd(), 5)];
        let bundle = paths.bundle.display().to_string();
        let sandbox = paths::pod(&self.config, pod).sandbox.display().to_string();
        let mut words = vec!["__start", &bundle];
        words.extend(pod.spaces.share_pid.then_some(sandbox.as_str()));
        let helper = spawn(&words, &fds, Some(&group)).map_err(ours)?;
        let log = log.display().to_string();
        let fds = keep(output);
        self.follow(&paths.id, &Stream { log: log.clone(), fds: fds.clone() });
        let stdout = fds.first().copied().unwrap_or(-1);
        Ok(vec![
            Fact::Piped { id: paths.id.clone(), log, fds },
            Fact::Starting {
                uid: pod.uid.clone(),
                container: container.name.clone(),
                run: number,
                helper,
                stdout,
                stderr: stdout,
            },
        ])
    }

    /// `/var/log/pods/<pod>/<container>/` and the link that names the container.
    fn link_log(&self, pod: &Pod, container: &Container, paths: &RunPaths, log: &Path) -> io::Result<()> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let link = logs::paths::link(
            &self.config.container_logs,
            &pod.name,
            &pod.namespace,
            &container.name,
            &paths.id,
        );
        match symlink(log, &link) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// What runs in the container, with whose rights, and what it sees.
    fn bundle(
        &self,
        pod: &Pod,
        ids: Option<Ids>,
        container: &Container,
        image: &ImageConfiguration,
        paths: &RunPaths,
    ) -> Result<oci_spec::runtime::Spec, StartError> {
        let sandbox = paths::pod(&self.config, pod).sandbox;
        let addresses = self.addresses();
        let own = if pod.host_network { addresses.clone() } else { Vec::new() };
        let addresses = env::Addresses { host_ips: addresses, pod_ips: own };
        let place = self.volumes();
        let sources = env::Sources {
            addresses: &addresses,
            allocatable: &self.node.allocatable,
            configs: &self.configs,
            file: &|volume, path| volume::read(pod, volume, path, &place),
        };
        let own = env::environment(pod, container, &sources).map_err(config_error)?;
        let command = env::command(pod, container, image, own).map_err(create_error)?;
        security::non_root(pod, container, image_user(image)).map_err(config_error)?;
        let user = user::resolve(&paths.rootfs, image_user(image), &container.security, &pod.security)?;
        ids.map_or(Ok(()), |ids| has(ids, &user)).map_err(create_error)?;
        let profiles = [self.config.root.join("seccomp"), "/var/lib/kubelet/seccomp".into()];
        let confinement = Confinement::of(container, &profiles)?;
        let shm = if pod.spaces.host_ipc { "/dev/shm".into() } else { sandbox.join("shm") };
        let message = self.message(pod, ids, container, paths).map_err(create_error)?;
        let mounts = self.binds(pod, ids, container, &command.env).map_err(config_error)?;
        let files = ["hostname", "hosts", "resolv.conf"].map(|name| {
            let own = container.mounts.iter().any(|mount| mount.path == format!("/etc/{name}"));
            (!own).then(|| sandbox.join(name))
        });
        let [hostname, hosts, resolv] = &files;
        bundle::spec(&Input {
            pod,
            container,
            image,
            command: Command {
                argv: command.args,
                env: command.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
                cwd: command.cwd,
            },
            user,
            rootfs: &paths.rootfs,
            cgroup: &paths.cgroup,
            namespaces: &sandbox.join("ns"),
            shm: &shm,
            files: Files {
                hostname: hostname.as_deref(),
                hosts: hosts.as_deref(),
                resolv: resolv.as_deref(),
                termination: Some(&message),
            },
            mounts,
            limits: self.limits(pod, container),
            rlimits: rlimit::possible(),
            confinement,
            controllers: &self.controllers,
            exists: &|path: &Path| path.exists(),
        })
    }

    /// The file of its termination message: made, and as the container's root may come to it.
    fn message(
        &self,
        pod: &Pod,
        ids: Option<Ids>,
        container: &Container,
        paths: &RunPaths,
    ) -> io::Result<PathBuf> {
        fs::write(&paths.message, "")?;
        fs::set_permissions(&paths.message, fs::Permissions::from_mode(0o666))?;
        let Some(ids) = ids else { return Ok(paths.message.clone()) };
        chown(&paths.message, Some(ids.first), Some(ids.first))?;
        let target = self.staged(pod, &container.name).join("message");
        mapped::bind(&paths.message, &target, None, Propagation::None).map(|()| target)
    }

    /// The limits of a container in OCI's numbers. Static pods get no swap (a kubelet calls them critical), and an OOM
    /// kill takes the whole container unless the operator wants it otherwise.
    fn limits(&self, pod: &Pod, container: &Container) -> Limits {
        let values = resources::container_limits(container, self.cfs());
        let asked = |size| container.huge_pages.get(&size).copied().unwrap_or(0);
        let mut unified: BTreeMap<_, _> = resources::huge_page_files(asked, self.node.pages()).collect();
        if !self.config.single_process_oom_kill {
            unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        // A kernel without swap has no such file, and a start that writes to it fails.
        let group = paths::cgroup(&self.config, &paths::pod(&self.config, pod).cgroup);
        if group.join("memory.swap.max").exists() {
            unified.insert("memory.swap.max".to_owned(), "0".to_owned());
        }
        Limits {
            shares: values.shares,
            quota: values.quota,
            period: values.period,
            memory: values.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            oom_score_adj: Some(resources::oom_score_adj(pod, container, node::memory_total())),
            unified,
        }
    }
}

/// PID 1's ends, in the logger's order; the container has the others.
fn keep(output: logs::Pipes) -> Vec<i32> {
    let logs::Pipes { stdout, stderr, stdout_stage, stderr_stage } = output;
    [stdout.0, stderr.0, stdout_stage.0, stdout_stage.1, stderr_stage.0, stderr_stage.1]
        .map(IntoRawFd::into_raw_fd)
        .to_vec()
}

/// Whom the output pipes belong to, so that a process that is not root may open its /dev/stdout again.
fn owner(spec: &oci_spec::runtime::Spec, ids: Option<Ids>) -> u32 {
    let uid = spec.process().as_ref().map_or(0, |process| process.user().uid());
    ids.and_then(|ids| ids.machine(uid)).unwrap_or(uid)
}

/// Whether all ids of this user are the pod's to have.
fn has(ids: Ids, user: &User) -> Result<(), String> {
    let known = |id: &u32| ids.machine(*id).is_some();
    let told = |what: &str, id: u32| {
        Err(format!(
            "{what} {id} is not among the pod's {} ids (hostUsers: false): use a lower one",
            ids.count
        ))
    };
    if !known(&user.uid) {
        return told("user", user.uid);
    }
    match [user.gid].iter().chain(&user.groups).find(|gid| !known(gid)) {
        Some(gid) => told("group", *gid),
        None => Ok(()),
    }
}

fn image_user(image: &ImageConfiguration) -> &str {
    image.config().as_ref().and_then(|config| config.user().as_deref()).unwrap_or("")
}

fn config_error(why: String) -> StartError {
    StartError { reason: "CreateContainerConfigError".into(), message: why, ours: false }
}

fn create_error(why: impl std::fmt::Display) -> StartError {
    StartError { reason: "CreateContainerError".into(), message: why.to_string(), ours: false }
}

/// No process, no pipe: the machine is short of something, and the container is not to blame.
pub(super) fn ours(why: io::Error) -> StartError {
    StartError { reason: "RunContainerError".into(), message: why.to_string(), ours: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::{Resources, RestartPolicy};

    /// Swap. One row (a Burstable container with LimitedSwap gets its share) and the others that are not NoSwap are
    /// answered differently on purpose: memorySwap has no effect here, because the kubelet itself gives a static pod
    /// none (it takes all of them for critical: getContainerSwapBehavior).
    #[test]
    fn no_container_gets_swap() {
        let folder = std::env::temp_dir().join(format!("podinit-swap-{}", std::process::id()));
        let config = Config { cgroup: folder.clone(), ..Config::default() };
        let of = |request: Option<u64>, limit: Option<u64>| {
            let mut pod = (*sample::pod(RestartPolicy::Always, &[], &["c"])).clone();
            let amounts = Resources { memory_request: request, memory_limit: limit, ..Resources::default() };
            pod.containers[0].resources = amounts;
            pod
        };
        // Best effort, Burstable of three kinds, and as good as Guaranteed.
        let table = [
            (None, None),
            (Some(0), None),
            (Some(1 << 30), Some(2 << 30)),
            (Some(1), None),
            (Some(1), Some(1)),
        ];
        for (request, limit) in table {
            let pod = of(request, limit);
            let group = paths::cgroup(&config, &paths::pod(&config, &pod).cgroup);
            let swap =
                || Hands::idle(&config).limits(&pod, &pod.containers[0]).unified.remove("memory.swap.max");
            let _ = fs::remove_dir_all(&folder);
            assert_eq!(swap(), None, "a kernel without swap has no such file");
            fs::create_dir_all(&group).expect("make");
            fs::write(group.join("memory.swap.max"), "max").expect("write");
            assert_eq!(swap().as_deref(), Some("0"), "{request:?} {limit:?}");
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
}
