//! The only waitpid(2) of the loop: every zombie is met, whoever its parent was, and told apart here.
//!
//! A zombie is looked at, its end is learned, and only then is it reaped: a PID 1 that dies in between meets it again
//! in its next life, and no pid that a signal may be sent to can be another process' by then. By the bare calls: nix
//! reaps a process that a real-time signal ended, and then has no name for the signal and tells nothing.

#![allow(unsafe_code)]

use nix::errno::Errno;

use super::checks::hooks;
use super::{Hands, paths};
use crate::container::handover::{self, Outcome};
use crate::pod::facts::{PodFacts, Run, StartError};
use crate::pod::{Container, Fact, World};

/// How many ended strangers are remembered while a start is under way.
const ORPHANS: usize = 4096;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// 0..255; 128 + signal where a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
}

/// What is known of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Lives,
    /// A zombie, still to be met.
    Ended,
    /// Reaped, or never ours.
    Unknown,
}

/// An end that nobody saw: its parent died between reaping it and noting it down. What the kubelet says then, too.
const UNSEEN: Ended = Ended { code: 137, signal: None };

impl Hands {
    /// A child that has ended, if there is one. It stays a zombie until it is buried.
    pub fn met(&self) -> Option<(i32, Ended)> {
        look(libc::P_ALL, 0).ok().flatten()
    }

    /// Reaps a child whose end was learned. False: it could not be, and meeting it again would never end.
    pub fn bury(&self, pid: i32) -> bool {
        // SAFETY: a plain call; no status is asked for.
        let reaped = || unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        loop {
            match Errno::result(reaped()) {
                Err(Errno::EINTR) => {}
                // 0: not a zombie.
                found => return found.is_ok_and(|found| found == pid),
            }
        }
    }

    /// For a new life: the children of the world that are none of ours any more, because the former life reaped them
    /// and died before it noted that down. Start helpers are met first.
    pub fn missed(&self, world: &World) -> Vec<(i32, Ended)> {
        let ours = world.helpers.values().copied();
        let live = || runs(world).filter(|(_, _, run)| run.live());
        let helpers = live().filter_map(|(_, _, run)| run.helper);
        let firsts = live().filter_map(|(_, _, run)| run.started.map(|(_, pid)| pid));
        let hooks = world
            .pods
            .values()
            .flat_map(hooks)
            .filter_map(|hooked| hooked.run.hooks.get(&hooked.kind)?.helper);
        let hooks = hooks.filter(|helper| *helper > 0);
        let gone = ours.chain(helpers).chain(firsts).chain(hooks).filter(|pid| !is_child(*pid));
        gone.map(|pid| (pid, UNSEEN)).collect()
    }

    /// What the end of this child means. Called once for each that was reaped, after the world learned of the former.
    pub fn ended(&mut self, pid: i32, ended: Ended, world: &World) -> Vec<Fact> {
        if let Some((name, _)) = world.helpers.iter().find(|(_, known)| **known == pid) {
            return vec![Fact::Helper { name: name.clone(), pid: None }];
        }
        if let Some(facts) = self.pulled(pid, ended, world) {
            return facts;
        }
        if self.imported(pid, ended) {
            return self.look_again(world);
        }
        if let Some(facts) = self.checked(pid, ended, world) {
            return facts;
        }
        let pods = self.roll.of_pid(pid).filter_map(|uid| world.pods.get(uid));
        let known: Vec<_> =
            pods.flat_map(|pod| pod.runs().map(move |(name, run)| (pod, name, run))).collect();
        for (pod, name, run) in known {
            let Some(container) = pod.spec.container(name) else { continue };
            if run.helper == Some(pid) {
                return self.reported(pod, container, run, ended);
            }
            if run.exited.is_none() && run.started.is_some_and(|(_, first)| first == pid) {
                return vec![self.exited(pod, container, run.number, ended)];
            }
        }
        if self.roll.starting() {
            // Perhaps a container that was quicker than its helper's report.
            while self.orphans.len() >= ORPHANS {
                self.orphans.pop_first();
            }
            self.orphans.insert(pid, ended);
        } else {
            self.orphans.clear();
        }
        Vec::new()
    }

    /// A start helper has ended: its report tells what became of the container; without one, nothing may be left.
    fn reported(&mut self, pod: &PodFacts, container: &Container, run: &Run, ended: Ended) -> Vec<Fact> {
        let paths = paths::run(&self.config, &pod.spec, &container.name, run.number);
        let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
        let why = match handover::outcome(&paths.bundle) {
            Outcome::Started { pid: first } => {
                // Its helper was all that lived in it.
                self.drop_cgroup(paths::cgroup(&self.config, &paths.helper_cgroup));
                let started = Fact::Started { uid, container: name, run: run.number, pid: first };
                // An orphan of this number may have been another process, long ago: the kernel is asked.
                let orphan = self.orphans.remove(&first);
                let gone = (!is_child(first)).then(|| orphan.unwrap_or(UNSEEN));
                let exited = gone.map(|ended| self.exited(pod, container, run.number, ended));
                return [started].into_iter().chain(exited).collect();
            }
            Outcome::Failed(why) => why,
            Outcome::Silent => StartError {
                reason: "RunContainerError".into(),
                message: match ended.signal {
                    Some(signal) => format!("the start helper was killed by signal {signal}"),
                    None => format!("the start helper ended with {} and no report", ended.code),
                },
                ours: true,
            },
        };
        self.scrub(&paths);
        vec![Fact::StartFailed { uid, container: name, run: run.number, why }]
    }

    fn exited(&self, pod: &PodFacts, container: &Container, number: u32, ended: Ended) -> Fact {
        let exit = self.exit(&pod.spec, container, number, ended.code, ended.signal);
        Fact::Exited { uid: pod.spec.uid.clone(), container: container.name.clone(), run: number, exit }
    }
}

/// Whether it is a child of ours, running or ended, and not reaped yet.
pub(super) fn is_child(pid: i32) -> bool {
    child(pid) != Child::Unknown
}

/// What the kernel knows of this child.
fn child(pid: i32) -> Child {
    match look(libc::P_PID, pid) {
        Ok(None) => Child::Lives,
        Ok(Some(_)) => Child::Ended,
        Err(_) => Child::Unknown,
    }
}

/// The zombie of this kind, if there is one; Err where there is no such child. Never blocks, and leaves it a zombie.
fn look(kind: libc::idtype_t, pid: i32) -> Result<Option<(i32, Ended)>, Errno> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: the structure is plain data, zero is a value of it, and the kernel writes no more than it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        match Errno::result(unsafe { libc::waitid(kind, pid.unsigned_abs(), &raw mut info, flags) }) {
            Err(Errno::EINTR) => continue,
            Err(why) => return Err(why),
            Ok(_) => {}
        }
        // SAFETY: waitid filled in what belongs to a SIGCHLD, or nothing: then the pid is 0.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended { code: status, signal: None },
            _ => Ended { code: 128 + status, signal: Some(status) },
        };
        return Ok(Some((pid, ended)));
    }
}

/// Every newest run in the world.
fn runs(world: &World) -> impl Iterator<Item = (&PodFacts, &str, &Run)> {
    world.pods.values().flat_map(|pod| pod.runs().map(move |(name, run)| (pod, name, run)))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    /// Runs a shell line as a child of ours and waits until it is a zombie.
    #[allow(clippy::zombie_processes)]
    fn zombie(line: &str) -> i32 {
        let child = Command::new("/bin/sh").args(["-c", line]).spawn().expect("a shell");
        let pid = child.id() as i32;
        // SAFETY: zero is a value of the structure, and the kernel writes no more than it.
        let done = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid.unsigned_abs(), &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(done, 0);
        pid
    }

    #[test]
    fn every_end_is_told_and_a_zombie_stays_until_it_is_buried() {
        let hands = Hands::idle(&Config::default());
        let table = [
            ("exit 0", Ended { code: 0, signal: None }),
            ("exit 255", Ended { code: 255, signal: None }),
            ("kill -9 $$", Ended { code: 137, signal: Some(9) }),
            // Lost before: nix has no name for a real-time signal.
            ("kill -40 $$", Ended { code: 168, signal: Some(40) }),
        ];
        for (line, expected) in table {
            let pid = zombie(line);
            assert_eq!(look(libc::P_PID, pid), Ok(Some((pid, expected))), "{line}");
            assert_eq!(child(pid), Child::Ended, "{line}: looking reaped it");
            assert!(hands.bury(pid), "{line}");
            assert_eq!(child(pid), Child::Unknown, "{line}");
            assert!(!hands.bury(pid), "{line}: twice");
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read x"]).stdin(std::process::Stdio::piped());
        let mut living = command.spawn().expect("a shell");
        let pid = living.id() as i32;
        assert_eq!((child(pid), hands.bury(pid)), (Child::Lives, false));
        drop(living.stdin.take());
        living.wait().expect("its end");
    }

    /// A world in which container `c` of pod `u1` is in this state, and its bundle.
    fn world(helper: i32, started: Option<i32>) -> World {
        let mut world = World::default();
        let (uid, container) = (|| "u1".to_owned(), || "c".to_owned());
        let pod: Arc<_> = sample::pod(RestartPolicy::Always, &[], &["c"]);
        world.learn(Fact::Admitted { pod }, Tick::seconds(1));
        let fact =
            Fact::Starting { uid: uid(), container: container(), run: 0, helper, stdout: 6, stderr: 7 };
        world.learn(fact, Tick::seconds(2));
        if let Some(pid) = started {
            world.learn(Fact::Started { uid: uid(), container: container(), run: 0, pid }, Tick::seconds(3));
        }
        world
    }

    #[test]
    fn a_new_life_learns_of_children_that_the_former_one_reaped() {
        let hands = Hands::idle(&Config::default());
        let reaped = zombie("exit 3");
        assert!(hands.bury(reaped));
        let zombie = zombie("exit 4");
        assert_eq!(hands.missed(&world(reaped, None)), [(reaped, UNSEEN)]);
        assert_eq!(hands.missed(&world(1, Some(reaped))), [(reaped, UNSEEN)]);
        assert_eq!(hands.missed(&world(zombie, None)), []);
        assert_eq!(hands.missed(&world(1, Some(zombie))), []);
        assert!(hands.bury(zombie));
    }

    /// A folder of this test's own, and a machine whose files all lie in it.
    fn machine(test: &str) -> (PathBuf, Config) {
        let folder = std::env::temp_dir().join(format!("podinit-reaper-{test}-{}", std::process::id()));
        let [run, root, cgroup] = ["run", "root", "cgroup"].map(|name| folder.join(name));
        (folder, Config { run, root, cgroup, ..Config::default() })
    }

    #[test]
    fn a_started_container_has_no_use_for_its_helpers_cgroup() {
        let (folder, config) = machine("cgroup");
        let mut hands = Hands::idle(&config);
        let (helper, first) = (1_000_000_001, zombie("exit 0"));
        let world = world(helper, None);
        let paths = paths::run(&config, &world.pods["u1"].spec, "c", 0);
        let group = paths::cgroup(&config, &paths.helper_cgroup);
        std::fs::create_dir_all(&paths.bundle).expect("a bundle");
        handover::report(&paths.bundle, &Ok(first)).expect("a report");
        hands.look_at_all(&world);
        let mut told = || hands.ended(helper, Ended { code: 0, signal: None }, &world);
        std::fs::create_dir_all(&group).expect("a cgroup");
        assert!(matches!(&told()[..], [Fact::Started { .. }]));
        assert!(!group.exists() && group.parent().is_some_and(Path::exists), "its own, and no other");
        // As busy as one with a process in it.
        let busy = group.join("busy");
        std::fs::create_dir_all(&group).and_then(|()| std::fs::write(&busy, "")).expect("a file");
        assert!(matches!(&told()[..], [Fact::Started { .. }]));
        hands.drop_dying();
        assert!(group.exists());
        std::fs::remove_file(&busy).expect("a file");
        hands.drop_dying();
        assert!(!group.exists() && hands.dying.is_empty());
        assert!(hands.bury(first));
        std::fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn a_started_container_is_over_only_if_the_kernel_says_so() {
        let (folder, config) = machine("over");
        let mut hands = Hands::idle(&config);
        let (helper, gone, alive) = (1_000_000_001, zombie("exit 5"), zombie("exit 0"));
        assert!(hands.bury(gone));
        let world = world(helper, None);
        let paths = paths::run(&config, &world.pods["u1"].spec, "c", 0);
        std::fs::create_dir_all(&paths.bundle).expect("a bundle");
        let mut told = |orphan: Option<i32>, first: i32| {
            hands.orphans.clear();
            hands.orphans.extend(orphan.map(|code| (first, Ended { code, signal: None })));
            handover::report(&paths.bundle, &Ok(first)).expect("a report");
            hands.look_at_all(&world);
            let facts = hands.ended(helper, Ended { code: 0, signal: None }, &world);
            assert!(matches!(&facts[0], Fact::Started { pid, .. } if *pid == first), "{facts:?}");
            facts.get(1).map(|fact| match fact {
                Fact::Exited { exit, .. } => exit.code,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(told(Some(5), gone), Some(5), "quicker than its helper's report");
        assert_eq!(told(None, gone), Some(137), "reaped in a former life");
        assert_eq!(told(None, alive), None, "a zombie is met in its turn");
        assert_eq!(told(Some(7), alive), None, "the orphan was another process of that number");
        assert!(hands.bury(alive));
        std::fs::remove_dir_all(&folder).expect("clean");
    }
}
