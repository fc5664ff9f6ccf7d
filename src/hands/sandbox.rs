//! A pod's surroundings: cgroup, namespaces, volumes, name files, log directory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Hands, node, paths, remove_tree};
use crate::container::sandbox::Sandbox;
use crate::container::{apparmor, cgroup, sandbox};
use crate::logs::paths::next_run;
use crate::pod::facts::PodFacts;
use crate::pod::project::Contents;
use crate::pod::users::{Ids, Range};
use crate::pod::{Fact, Pod, World, hosts, resources, security, sysctl};
use crate::volume;

impl Hands {
    /// What the volumes hold is told before the sandbox is ready, and of a failure after it.
    pub(super) fn set_up(&mut self, pod: &PodFacts, world: &World) -> Vec<Fact> {
        let uid = pod.spec.uid.clone();
        let ids = match self.ids(pod, world) {
            Ok(ids) => ids,
            Err(why) => return vec![Fact::SetUpFailed { uid, why: format!("hostUsers: false: {why}") }],
        };
        let (digest, contents) = self.contents(&pod.spec);
        let (contents, trouble) = match contents {
            Ok(contents) => (contents, None),
            Err(why) => (Contents::new(), Some(why)),
        };
        let done =
            trouble.clone().map_or(Ok(()), Err).and_then(|()| self.try_set_up(&pod.spec, ids, &contents));
        match done {
            Ok(ip) => {
                let mut facts = self.logged(&pod.spec);
                facts.extend(ids.map(|ids| Fact::Allotted { uid: uid.clone(), ids }));
                facts.extend([Fact::Projected { uid: uid.clone(), digest }, Fact::SetUp { uid, ip }]);
                facts
            }
            Err(why) => {
                // Half a sandbox is worse than none: the next attempt starts from nothing.
                let _ = self.remove_pod(&pod.spec, true);
                let for_want = trouble.map(|why| Fact::ProjectFailed { uid: uid.clone(), digest, why });
                [Fact::SetUpFailed { uid, why }].into_iter().chain(for_want).collect()
            }
        }
    }

    /// Which of the machine's ids the pod has, or is to have; None: the machine's own users are its users.
    fn ids(&self, pod: &PodFacts, world: &World) -> Result<Option<Ids>, String> {
        if !pod.spec.spaces.own_users || pod.ids.is_some() {
            return Ok(pod.ids);
        }
        let [users, groups] =
            ["/etc/subuid", "/etc/subgid"].map(|file| fs::read_to_string(file).unwrap_or_default());
        let per_pod = self.config.ids_per_pod;
        let ids = Range::of(&users, &groups, per_pod, self.config.max_pods)?.allot(world, per_pod)?;
        match pod.spec.security.fs_group.filter(|gid| ids.machine(*gid).is_none()) {
            Some(gid) => Err(format!("fsGroup {gid} is not among the pod's {} groups", ids.count)),
            None => Ok(Some(ids)),
        }
    }

    /// Of which runs there are logs of a former life of the pod, or a former boot.
    fn logged(&self, pod: &Pod) -> Vec<Fact> {
        let logs = paths::pod(&self.config, pod).logs;
        let runs = |container: &str| {
            let entries = fs::read_dir(logs.join(container)).into_iter().flatten().flatten();
            let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
            let names: Vec<_> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            next_run(names.iter().map(String::as_str))
        };
        let all = pod.all().map(|container| (container.name.clone(), runs(&container.name)));
        let found = all.filter(|(_, runs)| *runs > 0);
        found.map(|(container, runs)| Fact::Logged { uid: pod.uid.clone(), container, runs }).collect()
    }

    pub(super) fn tear_down(&mut self, pod: &PodFacts, keep_logs: bool) -> Fact {
        let uid = pod.spec.uid.clone();
        match self.remove_pod(&pod.spec, keep_logs) {
            Ok(()) => Fact::TornDown { uid },
            Err(why) => Fact::TearDownFailed { uid, why },
        }
    }

    fn try_set_up(
        &mut self,
        pod: &Pod,
        ids: Option<Ids>,
        contents: &Contents,
    ) -> Result<Option<String>, String> {
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
        if ids.is_some() {
            open_to_others(&paths.sandbox)?;
        }
        // Judged with the pod's admission already; here so that no other way leads to a sysctl of the machine's, or to
        // a pod that runs unconfined and does not know it.
        sysctl::judge(pod, &self.node.allowed_sysctls, self.node.kernel)
            .and_then(|()| security::apparmor(pod, apparmor::loaded().as_deref()))
            .map_err(|(reason, message)| format!("{reason}: {message}"))?;
        let wanted = Sandbox {
            host_network: pod.host_network,
            host_ipc: pod.spaces.host_ipc,
            ids,
            hostname: &hosts::kernel_name(pod, &self.config.cluster_domain)?,
            sysctls: &pod.security.sysctls,
        };
        sandbox::set_up(&paths.sandbox, &wanted)
            .map_err(told("cannot make namespaces in", &paths.sandbox))?;
        if pod.spaces.share_pid {
            self.pause(pod).map_err(told("cannot make the pid namespace in", &paths.sandbox))?;
        }
        volume::set_up(pod, &self.volumes_for(pod, ids), contents, node::memory_total())?;
        let ip = if pod.host_network { self.addresses().into_iter().next() } else { None };
        self.name_files(pod, ids, ip.as_deref()).map_err(told("cannot write names in", &paths.sandbox))?;
        Ok(ip)
    }

    /// Removes everything of a pod, also of a half-made one. Each step runs whatever became of the one before.
    fn remove_pod(&mut self, pod: &Pod, keep_logs: bool) -> Result<(), String> {
        let paths = paths::pod(&self.config, pod);
        let group = paths::cgroup(&self.config, &paths.cgroup);
        // A death between a start and its fact left a run that the world never heard of.
        for (container, number) in runs(&paths.sandbox) {
            self.scrub(&paths::run(&self.config, pod, &container, number));
        }
        let steps = [
            ("cgroup", cgroup::kill(&group).and_then(|()| cgroup::remove(&group))),
            ("volumes", volume::tear_down(&pod.uid, &self.volumes()).map(|huge| self.bin(huge))),
            ("namespaces", sandbox::tear_down(&paths.sandbox)),
            ("links", if keep_logs { Ok(()) } else { self.unlink_logs(&paths.logs) }),
            ("logs", if keep_logs { Ok(()) } else { remove_tree(&paths.logs) }),
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

/// The root of a pod's user namespace is one of the machine's many: it can go only where all of them may.
fn open_to_others(dir: &Path) -> Result<(), String> {
    for above in dir.ancestors() {
        let mode =
            fs::metadata(above).map_err(|why| format!("{}: {why}", above.display()))?.permissions().mode();
        if mode & 1 == 0 {
            let (shown, mode) = (above.display(), mode & 0o7777);
            return Err(format!(
                "hostUsers: false: {shown} has mode {mode:04o}, so that no user of the pod could enter it: chmod o+x {shown}"
            ));
        }
    }
    Ok(())
}

/// The runs of which a pod's sandbox holds something: container and number.
fn runs(sandbox: &Path) -> Vec<(String, u32)> {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let all = sandbox.join("c");
    let of = |container: String| {
        let numbers = names(&all.join(&container)).into_iter().filter_map(|name| name.parse().ok());
        numbers.map(move |number| (container.clone(), number)).collect::<Vec<_>>()
    };
    names(&all).into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    /// A directory of the test's own, and a configuration that leaves everything else alone.
    fn beside(name: &str) -> (PathBuf, Config) {
        let folder = std::env::temp_dir().join(format!("podinit-{name}-{}", std::process::id()));
        let below = |name: &str| folder.join(name);
        let config = Config {
            run: below("run"),
            root: below("root"),
            pod_logs: below("pods"),
            container_logs: below("containers"),
            cgroup: below("cgroup"),
            ..Config::default()
        };
        (folder, config)
    }

    #[test]
    fn a_pod_that_was_never_set_up_is_torn_down_where_no_log_directory_was_made() {
        let (_, config) = beside("sandbox");
        let pod = PodFacts::new(sample::pod(RestartPolicy::Always, &[], &["c"]), Tick::seconds(1));
        assert_eq!(Hands::idle(&config).tear_down(&pod, false), Fact::TornDown { uid: "u1".into() });
    }

    #[test]
    fn a_run_that_the_world_never_heard_of_goes_with_its_pod() {
        let (folder, config) = beside("unheard");
        let pod = PodFacts::new(sample::pod(RestartPolicy::Always, &[], &["c"]), Tick::seconds(1));
        let run = paths::run(&config, &pod.spec, "c", 3);
        let state = config.run.join("state").join(&run.id);
        for made in [&run.bundle, &run.scratch, &state] {
            fs::create_dir_all(made).expect("a directory");
        }
        fs::write(state.join("state.json"), "{}").expect("a state");
        assert_eq!(runs(&paths::pod(&config, &pod.spec).sandbox), [("c".to_owned(), 3)]);
        let torn_down = Hands::idle(&config).tear_down(&pod, false);
        assert_eq!(torn_down, Fact::TornDown { uid: "u1".into() });
        assert!(!state.exists() && !run.bundle.exists() && !run.scratch.exists());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
