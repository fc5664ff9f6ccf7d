//! One run of a container: its image, its start, signals, and the clean-up.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use oci_spec::image::ImageConfiguration;

use super::paths::{self, RunPaths};
use super::{Hands, remove_tree, sandbox};
use crate::container::bundle::{self, Bind};
use crate::container::{cgroup, user};
use crate::image::{mount, reference::Reference};
use crate::pod::facts::{Exit, PodFacts, Run, StartError};
use crate::pod::spec::PullPolicy;
use crate::pod::{Container, Fact, Pod, env, resources};
use crate::{logs, net, spawn, volume};

impl Hands {
    /// Looks into the store. Pulling is not built yet, so an image that is not there stays missing until imported.
    pub(super) fn find(&mut self, pod: &PodFacts, container: &Container) -> Vec<Fact> {
        let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
        let image = &container.image;
        let missing = |why: String| Fact::ImageMissing { uid: uid.clone(), container: name.clone(), why };
        let fact = match Reference::parse(image).map(|_| self.store.find(image)) {
            Err(why) => missing(format!("InvalidImageName: {why}")),
            Ok(Err(why)) => missing(format!("ImageInspectError: {why}")),
            Ok(Ok(Some(found))) => Fact::ImageFound { uid: uid.clone(), container: name.clone(), id: found.id },
            Ok(Ok(None)) if container.pull == PullPolicy::Never => missing(format!(
                "ErrImageNeverPull: Container image \"{image}\" is not present with pull policy of Never"
            )),
            Ok(Ok(None)) => missing(format!(
                "ErrImagePull: image \"{image}\" is not in the store and pulling is not built yet: \
                 import it with podinit image import"
            )),
        };
        vec![fact]
    }

    pub(super) fn start(&mut self, pod: &PodFacts, container: &Container, number: u32) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, number);
        // An earlier life may have died between an action and its fact: nothing of it may stand in the way.
        self.scrub(&paths);
        match self.try_start(&pod.spec, container, number, &paths) {
            Ok(fact) => vec![fact],
            Err(why) => {
                self.scrub(&paths);
                vec![Fact::StartFailed {
                    uid: pod.spec.uid.clone(),
                    container: container.name.clone(),
                    run: number,
                    why,
                }]
            }
        }
    }

    /// The stop signal goes to the first process; a kill to everything in the cgroup, and to a start that hangs.
    pub(super) fn signal(
        &mut self,
        pod: &PodFacts,
        container: &Container,
        run: Option<&Run>,
        number: u32,
        kill: bool,
    ) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, number);
        if kill {
            for below in [&paths.cgroup, &paths.helper_cgroup] {
                // What is not there any more needs no kill.
                let _ = cgroup::kill(&paths::cgroup(&self.config, below));
            }
        }
        let target = run.and_then(|run| match run.helper {
            Some(helper) if kill => Some((helper, Signal::SIGKILL)),
            _ => run.started.map(|(_, pid)| (pid, if kill { Signal::SIGKILL } else { self.stop_signal(container) })),
        });
        if let Some((pid, signal)) = target {
            // Gone already: its exit is on the way.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
        vec![Fact::Signalled { uid: pod.spec.uid.clone(), container: container.name.clone(), run: number, kill }]
    }

    pub(super) fn clean(&mut self, pod: &PodFacts, container: &Container, number: u32) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, number);
        self.scrub(&paths);
        vec![Fact::Cleaned { uid: pod.spec.uid.clone(), container: container.name.clone(), run: number }]
    }

    /// How the run ended, read before anything of it is removed.
    pub(super) fn exit(&self, pod: &Pod, container: &Container, number: u32, code: i32, signal: Option<i32>) -> Exit {
        let paths = paths::run(&self.config, pod, &container.name, number);
        let oom = cgroup::oom_kills(&paths::cgroup(&self.config, &paths.cgroup)) > 0;
        let mut message = tail(&paths.message, 4096);
        if message.is_empty() && container.fallback_to_logs && code != 0 {
            let log = logs::paths::log(&self.config.pod_logs, &pod.namespace, &pod.name, &pod.uid, &container.name, number);
            message = logs::read::last(&log, 80, 2048);
        }
        Exit { code, signal, oom, message }
    }

    /// Removes every trace of a run; idempotent, and right for a half-made one too.
    pub(super) fn scrub(&mut self, paths: &RunPaths) {
        for below in [&paths.helper_cgroup, &paths.cgroup] {
            let group = paths::cgroup(&self.config, below);
            if group.exists() {
                let done = cgroup::kill(&group).and_then(|()| cgroup::remove(&group));
                if let Err(why) = done {
                    log::warn!("cgroup {}: cannot remove: {why}", group.display());
                }
            }
        }
        if !paths.bundle.exists() && !paths.scratch.exists() {
            return;
        }
        let state = self.config.run.join("state").join(&paths.id);
        let steps = [
            mount::unmount_rootfs(&paths.rootfs, &paths.scratch),
            remove_tree(&state),
            remove_tree(&paths.bundle),
            remove_tree(&paths.scratch),
        ];
        for why in steps.into_iter().filter_map(Result::err) {
            log::warn!("{}: cannot clean: {why}", paths.bundle.display());
        }
    }

    fn try_start(&mut self, pod: &Pod, container: &Container, number: u32, paths: &RunPaths) -> Result<Fact, StartError> {
        let image = self
            .store
            .find(&container.image)
            .map_err(config_error)?
            .ok_or_else(|| config_error(format!("image \"{}\" is no longer in the store", container.image)))?;
        fs::create_dir_all(&paths.rootfs).map_err(create_error)?;
        fs::create_dir_all(&paths.scratch).map_err(create_error)?;
        let layers = mount::mount_layers(&self.store, &image, &self.config.run).map_err(create_error)?;
        mount::mount_rootfs(&layers, &paths.scratch, &paths.rootfs).map_err(create_error)?;
        let spec = self.bundle(pod, container, &image.config, paths)?;
        let output = logs::pipes::open(container_uid(&spec)).map_err(create_error)?;
        let log = logs::paths::log(&self.config.pod_logs, &pod.namespace, &pod.name, &pod.uid, &container.name, number);
        self.link_log(pod, container, paths, &log).map_err(create_error)?;
        let helper = self.spawn_start(paths, &output)?;
        let fds = output.keep();
        self.helpers.follow(&self.config, &paths.id, &log, &fds);
        Ok(Fact::Starting {
            uid: pod.uid.clone(),
            container: container.name.clone(),
            run: number,
            helper,
            id: paths.id.clone(),
            log: log.display().to_string(),
            fds,
        })
    }

    /// Writes config.json and start.json.
    fn bundle(
        &self,
        pod: &Pod,
        container: &Container,
        image: &ImageConfiguration,
        paths: &RunPaths,
    ) -> Result<oci_spec::runtime::Spec, StartError> {
        let sandbox = paths::pod(&self.config, pod).sandbox;
        let node = env::Allocatable { cpu_milli: cpus() * 1000, memory: sandbox::memory_total() };
        let addresses: Vec<String> = net::host_ip().into_iter().collect();
        let own = if pod.host_network { addresses.clone() } else { Vec::new() };
        let addresses = env::Addresses { host_ips: addresses, pod_ips: own };
        let command = env::command(pod, container, image, &addresses, &node).map_err(create_error)?;
        let user = user::resolve(&paths.rootfs, image_user(image))?;
        fs::write(&paths.message, "").map_err(create_error)?;
        fs::set_permissions(&paths.message, fs::Permissions::from_mode(0o666)).map_err(create_error)?;
        let mut mounts = Vec::new();
        for mount in &container.mounts {
            let source = volume::source(pod, container, mount, &self.config.root, &self.config.run)
                .map_err(config_error)?;
            mounts.push(Bind { source, target: mount.path.clone().into(), read_only: mount.read_only });
        }
        let files = ["hostname", "hosts", "resolv.conf"].map(|name| {
            let own = container.mounts.iter().any(|mount| mount.path == format!("/etc/{name}"));
            (!own).then(|| sandbox.join(name))
        });
        let [hostname, hosts, resolv] = &files;
        bundle::spec(&bundle::Input {
            pod,
            container,
            image,
            command,
            user,
            rootfs: &paths.rootfs,
            cgroup: &paths.cgroup,
            namespaces: &sandbox.join("ns"),
            shm: &sandbox.join("shm"),
            files: Files {
                hostname: hostname.as_deref(),
                hosts: hosts.as_deref(),
                resolv: resolv.as_deref(),
                termination: Some(&paths.message),
            },
            mounts,
            limits: limits(pod, container, node.memory),
            rlimits: rlimit::possible(),
            controllers: &self.controllers,
            exists: &|path: &Path| path.exists(),
        })
    }
}
