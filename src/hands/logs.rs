//! The logs of ended runs: all but those of the last one go when the next one begins, or a crash loop fills the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::sweep::told;
use super::{Hands, paths};
use crate::logs::paths::{link, log, outlived};
use crate::pod::facts::{PodFacts, Run, Stream};
use crate::pod::{Container, Pod};

impl Hands {
    /// What is still being written stays until the next start.
    pub(super) fn forget_runs(
        &self,
        facts: &PodFacts,
        container: &Container,
        number: u32,
        streams: &BTreeMap<String, Stream>,
    ) {
        let pod = facts.spec.as_ref();
        let logs = paths::pod(&self.config, pod).logs;
        let folder = logs.join(&container.name);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for (run, name) in outlived(&names, number, previous(facts, container)) {
            let id = paths::run(&self.config, pod, &container.name, run).id;
            if streams.contains_key(&id) {
                continue;
            }
            let path = folder.join(name);
            if path == log(&logs, &container.name, run) {
                self.unlink(pod, container, &id, &path);
            }
            told(&path, fs::remove_file(&path));
        }
        // A start that came to no container left a link to a log that nobody wrote.
        let newest = facts.containers.get(&container.name).and_then(|known| known.run.as_ref());
        if let Some(run) = newest.filter(|run| run.number < number) {
            let id = paths::run(&self.config, pod, &container.name, run.number).id;
            let path = log(&logs, &container.name, run.number);
            if !streams.contains_key(&id) && !path.exists() {
                self.unlink(pod, container, &id, &path);
            }
        }
    }

    /// A name that had to be cut may be another run's too, so that the link is asked where it leads.
    fn unlink(&self, pod: &Pod, container: &Container, id: &str, log: &Path) {
        let link = link(&self.config.container_logs, &pod.name, &pod.namespace, &container.name, id);
        if fs::read_link(&link).is_ok_and(|target| target == log) {
            told(&link, fs::remove_file(&link));
        }
    }
}

/// The last run that came to a container: the one whose log is that of `previous`.
fn previous(facts: &PodFacts, container: &Container) -> Option<u32> {
    let known = facts.containers.get(&container.name)?;
    let begun = |run: &&Run| run.started.is_some() || run.exited.is_some();
    known.run.iter().chain(&known.last).find(begun).map(|run| run.number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::pod::facts::ContainerFacts;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;
    use crate::pod::status::tests::{ran, run, with};

    /// A crash loop left the logs of all its runs, and a link to each.
    #[test]
    fn a_crash_loop_left_a_log_of_every_run() {
        let home = std::env::temp_dir().join(format!("podinit-outlived-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        let config = Config {
            run: home.join("run"),
            pod_logs: home.join("pods"),
            container_logs: home.join("containers"),
            ..Config::default()
        };
        let mut pod = PodFacts::new(sample::pod(RestartPolicy::Always, &[], &["c", "d"]), Tick::seconds(1));
        pod.containers.insert("c".into(), with(ran(3, 15, Some((16, 1)))));
        let logs = paths::pod(&config, &pod.spec).logs;
        fs::create_dir_all(&config.container_logs).unwrap();
        for name in ["c", "d"] {
            fs::create_dir_all(logs.join(name)).unwrap();
            for number in 0..5 {
                let file = log(&logs, name, number);
                fs::write(&file, "a line").unwrap();
                let id = paths::run(&config, &pod.spec, name, number).id;
                let link = link(&config.container_logs, "web-board1", "default", name, &id);
                symlink(&file, link).unwrap();
            }
        }
        fs::write(logs.join("c/2.log.20260101-000000.gz"), "rotated").unwrap();
        // Something that escaped still holds the pipe of the second run.
        let busy = paths::run(&config, &pod.spec, "c", 1).id;
        let streams = BTreeMap::from([(busy, Stream { log: "1.log".into(), fds: vec![] })]);
        Hands::idle(&config).forget_runs(&pod, &pod.spec.containers[0], 4, &streams);

        let mut left: Vec<_> =
            fs::read_dir(logs.join("c")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1.log", "3.log", "4.log"]);
        assert_eq!(fs::read_dir(logs.join("d")).unwrap().count(), 5, "another container's");
        let links: Vec<_> = fs::read_dir(&config.container_logs)
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!((links.len(), links.iter().all(|target| target.exists())), (8, true), "{links:?}");

        // A start that came to no container leaves nothing, written or not.
        let own = |run| {
            let id = paths::run(&config, &pod.spec, "c", run).id;
            (log(&logs, "c", run), link(&config.container_logs, "web-board1", "default", "c", &id))
        };
        let (file, dangling) = own(5);
        symlink(&file, &dangling).unwrap();
        let failed = ContainerFacts { last: Some(ran(3, 15, Some((16, 1)))), ..with(run(5, 17)) };
        let facts = PodFacts { containers: [("c".into(), failed)].into(), ..pod.clone() };
        Hands::idle(&config).forget_runs(&facts, &pod.spec.containers[0], 6, &streams);
        assert!(fs::symlink_metadata(&dangling).is_err() && own(3).0.exists());
        assert!(!own(4).0.exists() && fs::symlink_metadata(own(4).1).is_err());
        fs::remove_dir_all(&home).unwrap();
    }
}
