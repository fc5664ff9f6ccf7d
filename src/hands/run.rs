//! One run of a container: its image, signals, how it ended, and the clean-up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::paths::{self, RunPaths};
use super::start::ours;
use super::{Hands, remove_tree};
use crate::container::{cgroup, handover};
use crate::image::mount;
use crate::logs;
use crate::pod::facts::{Exit, PodFacts, Run, Stream};
use crate::pod::{Container, Fact, Pod};

impl Hands {
    pub(super) fn start(
        &mut self,
        pod: &PodFacts,
        container: &Container,
        number: u32,
        streams: &BTreeMap<String, Stream>,
    ) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, number);
        // An earlier life may have died between an action and its fact: nothing of it may stand in the way.
        self.scrub(&paths);
        // What could not be removed is used again.
        for below in [&paths.helper_cgroup, &paths.cgroup] {
            self.dying.remove(&paths::cgroup(&self.config, below));
        }
        let started = if streams.contains_key(&paths.id) {
            // A pod that came back under its uid, or a start that a death of ours cut off: two streams of one name
            // would close each other's pipes. The next run has another name.
            Err(ours(io::Error::other("the output of a former run of this number is not all in its log yet")))
        } else {
            self.try_start(pod, container, number, &paths)
        };
        match started {
            Ok(facts) => {
                self.forget_runs(pod, container, number, streams);
                facts
            }
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
            _ => run
                .started
                .map(|(_, pid)| (pid, if kill { Signal::SIGKILL } else { self.stop_signal(container) })),
        });
        if let Some((pid, signal)) = target {
            // Gone already: its exit is on the way.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
        vec![Fact::Signalled {
            uid: pod.spec.uid.clone(),
            container: container.name.clone(),
            run: number,
            kill,
        }]
    }

    pub(super) fn clean(&mut self, pod: &PodFacts, container: &Container, number: u32) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, number);
        self.scrub(&paths);
        vec![Fact::Cleaned { uid: pod.spec.uid.clone(), container: container.name.clone(), run: number }]
    }

    /// The image's stop signal, else SIGTERM.
    fn stop_signal(&self, container: &Container) -> Signal {
        let image = self.store.find(&container.image).ok().flatten();
        let named = image.and_then(|image| image.config.config().as_ref()?.stop_signal().clone());
        named.and_then(|name| signal_of(&name)).unwrap_or(Signal::SIGTERM)
    }

    /// How the run ended, read before anything of it is removed.
    pub(super) fn exit(
        &self,
        pod: &Pod,
        container: &Container,
        number: u32,
        code: i32,
        signal: Option<i32>,
    ) -> Exit {
        let paths = paths::run(&self.config, pod, &container.name, number);
        let group = paths::cgroup(&self.config, &paths.cgroup);
        let oom = cgroup::oom_kills(&group) > 0;
        if pod.spaces.share_pid || pod.spaces.host_pid {
            // No pid namespace of its own took the others with the first process. Gone already is fine.
            let _ = cgroup::kill(&group);
        }
        let mut message = tail(&paths.message, 4096);
        if message.is_empty() && container.fallback_to_logs && code != 0 {
            let log = logs::paths::log(&paths::pod(&self.config, pod).logs, &container.name, number);
            message = last_lines(&log);
        }
        Exit { code, signal, oom, message }
    }

    /// Removes every trace of a run; idempotent, and right for a half-made one too.
    pub(super) fn scrub(&mut self, paths: &RunPaths) {
        for below in [&paths.helper_cgroup, &paths.cgroup] {
            let group = paths::cgroup(&self.config, below);
            if group.exists() {
                if let Err(why) = cgroup::kill(&group) {
                    log::warn!("{why}");
                }
                self.drop_cgroup(group);
            }
        }
        if !paths.bundle.exists() && !paths.scratch.exists() {
            return;
        }
        let steps = [
            mount::unmount(&paths.rootfs),
            handover::forget(&self.config.run.join("state"), &paths.id),
            remove_tree(&paths.bundle),
            self.discard(&paths.scratch),
        ];
        for why in steps.into_iter().filter_map(Result::err) {
            log::warn!("{}: cannot clean: {why}", paths.bundle.display());
        }
    }

    /// Removes a cgroup, now or as soon as it is empty.
    pub(super) fn drop_cgroup(&mut self, group: PathBuf) {
        match cgroup::remove(&group) {
            Ok(()) => drop(self.dying.remove(&group)),
            Err(why) => {
                let busy = why.kind() == io::ErrorKind::ResourceBusy;
                if self.dying.insert(group) && !busy {
                    log::warn!("{why}");
                }
            }
        }
    }

    /// After children have ended. Whoever dies in a cgroup of ours is a child of ours by then, or ends before one.
    pub fn drop_dying(&mut self) {
        for group in self.dying.clone() {
            self.drop_cgroup(group);
        }
    }
}

/// What stands in for a missing termination message: the last 80 lines of the log, at most 2048 bytes.
fn last_lines(log: &Path) -> String {
    let text = tail(log, 64 << 10);
    let lines: Vec<_> = text.lines().filter_map(|line| logs::record::parse(line.as_bytes())).collect();
    let mut message = String::new();
    for record in lines.iter().skip(lines.len().saturating_sub(80)) {
        message.push_str(&String::from_utf8_lossy(record.content));
        if !record.partial {
            message.push('\n');
        }
    }
    let cut = message.len().saturating_sub(2048);
    let cut = (cut..=message.len()).find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.split_off(cut)
}

/// A signal by its name or number (OCI image configuration, StopSignal).
fn signal_of(text: &str) -> Option<Signal> {
    match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) if text.starts_with("SIG") => text.parse().ok(),
        Err(_) => format!("SIG{text}").parse().ok(),
    }
}

/// The last bytes of a file as text; empty where it cannot be read.
fn tail(path: &Path, most: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    #[test]
    fn a_uid_that_came_back_closed_the_pipes_of_its_former_run() {
        let folder = std::env::temp_dir().join(format!("podinit-run-{}", std::process::id()));
        let below = |name: &str| folder.join(name);
        let config =
            Config { run: below("run"), root: below("root"), cgroup: below("cgroup"), ..Config::default() };
        let pod = PodFacts::new(sample::pod(RestartPolicy::Always, &[], &["c"]), Tick::seconds(1));
        let id = paths::run(&config, &pod.spec, "c", 0).id;
        let streams = BTreeMap::from([(id, Stream { log: "0.log".into(), fds: vec![] })]);
        let told =
            |run| match Hands::idle(&config).start(&pod, &pod.spec.containers[0], run, &streams).remove(0) {
                Fact::StartFailed { why, .. } => (why.ours, why.message),
                other => panic!("{other:?}"),
            };
        let (ours, message) = told(0);
        assert!(ours && message.contains("former run"), "{message}");
        // The next one fails only for want of an image.
        let (ours, message) = told(1);
        assert!(!ours && message.contains("store"), "{message}");
    }
}
