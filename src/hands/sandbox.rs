//! A pod's surroundings: cgroup, namespaces, volumes, name files, log directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::{Hands, node, paths, remove_tree};
use crate::container::sandbox::Sandbox;
use crate::container::{cgroup, pause, sandbox};
use crate::pod::facts::PodFacts;
use crate::pod::project::Contents;
use crate::pod::{Fact, Pod, resources, sysctl};
use crate::spawn::spawn_in;
use crate::volume;

/// How long the first process of a shared pid namespace may take to begin, in milliseconds: PID 1 waits for it.
const PAUSE_BEGINS: u16 = 5000;

impl Hands {
    /// What the volumes hold is told before the sandbox is ready, and of a failure after it.
    pub(super) fn set_up(&mut self, pod: &PodFacts) -> Vec<Fact> {
        let uid = pod.spec.uid.clone();
        let (digest, contents) = self.contents(&pod.spec);
        let (contents, trouble) = match contents {
            Ok(contents) => (contents, None),
            Err(why) => (Contents::new(), Some(why)),
        };
        let done = trouble.clone().map_or(Ok(()), Err).and_then(|()| self.try_set_up(&pod.spec, &contents));
        match done {
            Ok(ip) => vec![Fact::Projected { uid: uid.clone(), digest }, Fact::SetUp { uid, ip }],
            Err(why) => {
                // Half a sandbox is worse than none: the next attempt starts from nothing.
                let _ = self.remove_pod(&pod.spec);
                let for_want = trouble.map(|why| Fact::ProjectFailed { uid: uid.clone(), digest, why });
                [Fact::SetUpFailed { uid, why }].into_iter().chain(for_want).collect()
            }
        }
    }

    pub(super) fn tear_down(&mut self, pod: &PodFacts) -> Fact {
        let uid = pod.spec.uid.clone();
        match self.remove_pod(&pod.spec) {
            Ok(()) => Fact::TornDown { uid },
            Err(why) => Fact::TearDownFailed { uid, why },
        }
    }

    fn try_set_up(&mut self, pod: &Pod, contents: &Contents) -> Result<Option<String>, String> {
        let paths = paths::pod(&self.config, pod);
        let told = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |why: io::Error| format!("{what}: {why}")
        };
        for folder in [&paths.sandbox, &paths.data, &paths.logs, &self.config.container_logs] {
            fs::create_dir_all(folder).map_err(told("cannot make", folder))?;
        }
        let group = paths::cgroup(&self.config, &paths.cgroup);
        let values = resources::pod_files(pod, &self.node, self.cfs(), self.config.pod_pids_limit);
        cgroup::make_pod(&group, &values, &self.controllers).map_err(told("cannot make cgroup", &group))?;
        // Judged with the pod's admission already; here so that no other way leads to a sysctl of the machine's.
        sysctl::judge(pod, &self.node.allowed_sysctls, self.node.kernel).map_err(|(_, message)| message)?;
        let wanted = Sandbox {
            host_network: pod.host_network,
            host_ipc: pod.spaces.host_ipc,
            hostname: &pod.hostname,
            sysctls: &pod.security.sysctls,
        };
        sandbox::set_up(&paths.sandbox, &wanted)
            .map_err(told("cannot make namespaces in", &paths.sandbox))?;
        if pod.spaces.share_pid {
            self.pause(pod).map_err(told("cannot make the pid namespace in", &paths.sandbox))?;
        }
        volume::set_up(pod, &self.volumes(), contents, node::memory_total())?;
        let ip = if pod.host_network { self.addresses().into_iter().next() } else { None };
        name_files(pod, &paths.sandbox, ip.as_deref()).map_err(told("cannot write", &paths.sandbox))?;
        Ok(ip)
    }

    /// Sees to the first process of a pod whose containers share a pid namespace. Where it died, the kernel has killed
    /// all of them with it; the next start finds a new one.
    pub(super) fn pause(&self, pod: &Pod) -> io::Result<()> {
        let paths = paths::pod(&self.config, pod);
        if pause::lives(&paths.sandbox) {
            return Ok(());
        }
        // A leaf: the pod's own cgroup hands on controllers and so may hold no process.
        let group = paths::cgroup(&self.config, &paths.cgroup).join("pause");
        fs::create_dir_all(&group)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (ready, tell) = pipe2(OFlag::O_CLOEXEC)?;
        let fds =
            [0, 1, 2].map(|number| (null.as_raw_fd(), number)).into_iter().chain([(tell.as_raw_fd(), 3)]);
        let namespaces = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;
        let pid = spawn_in(&["__pause"], &fds.collect::<Vec<_>>(), Some(&group), namespaces)?;
        drop(tell);
        // No container may see it before it has let go of the machine's files. It closes its end then, or by its death.
        let mut polls = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
        let let_go = poll(&mut polls, PollTimeout::from(PAUSE_BEGINS)).is_ok_and(|count| count > 0);
        match let_go {
            true => pause::hold(&paths.sandbox, pid),
            false => Err(io::Error::other("the pause helper does not begin")),
        }
        .and_then(|()| match pause::lives(&paths.sandbox) {
            true => Ok(()),
            false => Err(io::Error::other("the pause helper has ended")),
        })
        .inspect_err(|_| {
            let _ = cgroup::kill(&group);
        })
    }

    /// Removes everything of a pod, also of a half-made one. Each step runs whatever became of the one before.
    fn remove_pod(&mut self, pod: &Pod) -> Result<(), String> {
        let paths = paths::pod(&self.config, pod);
        let group = paths::cgroup(&self.config, &paths.cgroup);
        let steps = [
            ("cgroup", cgroup::kill(&group).and_then(|()| cgroup::remove(&group))),
            ("volumes", volume::tear_down(&pod.uid, &self.volumes()).map(|huge| self.bin(huge))),
            ("namespaces", sandbox::tear_down(&paths.sandbox)),
            ("links", self.unlink_logs(&paths.logs)),
            ("logs", remove_tree(&paths.logs)),
            ("data", self.discard(&paths.data)),
            ("sandbox", remove_tree(&paths.sandbox)),
        ];
        let failed: Vec<_> =
            steps.into_iter().filter_map(|(what, done)| Some(format!("{what}: {}", done.err()?))).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// Drops the links in the container log directory that point into `logs`.
    pub(super) fn unlink_logs(&self, logs: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(&self.config.container_logs) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            if fs::read_link(&path).is_ok_and(|target| target.starts_with(logs)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` as the containers see them; a hosts file in the kubelet's words.
fn name_files(pod: &Pod, sandbox: &Path, ip: Option<&str>) -> io::Result<()> {
    let hosts = if pod.host_network {
        let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{own}")
    } else {
        let address = ip.map_or_else(String::new, |ip| format!("{ip}\t{}\n", pod.hostname));
        format!("{HOSTS}{address}")
    };
    fs::write(sandbox.join("hosts"), hosts)?;
    fs::write(sandbox.join("hostname"), format!("{}\n", pod.hostname))?;
    fs::write(sandbox.join("resolv.conf"), fs::read("/etc/resolv.conf").unwrap_or_default())
}

const HOSTS: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    #[test]
    fn a_pod_that_was_never_set_up_is_torn_down_where_no_log_directory_was_made() {
        let folder = std::env::temp_dir().join(format!("podinit-sandbox-{}", std::process::id()));
        let below = |name: &str| folder.join(name);
        let config = Config {
            run: below("run"),
            root: below("root"),
            pod_logs: below("pods"),
            container_logs: below("containers"),
            cgroup: below("cgroup"),
            ..Config::default()
        };
        let pod = PodFacts::new(sample::pod(RestartPolicy::Always, &[], &["c"]), Tick::seconds(1));
        assert_eq!(Hands::idle(&config).tear_down(&pod), Fact::TornDown { uid: "u1".into() });
    }
}
