//! The only waitpid(2): every zombie is reaped, whoever its parent was, and told apart here.

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

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

impl Hands {
    /// Every child that has ended since the last call.
    pub fn reap(&mut self) -> Vec<(i32, Ended)> {
        let mut ended = Vec::new();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), Ended { code, signal: None })),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let signal = signal as i32;
                    ended.push((pid.as_raw(), Ended { code: 128 + signal, signal: Some(signal) }));
                }
                Ok(WaitStatus::StillAlive) => return ended,
                Err(Errno::EINTR) => {}
                Err(_) => return ended,
                Ok(_) => {}
            }
        }
    }

    /// What the end of this child means. Called once for each that was reaped, after the world learned of the former.
    pub fn ended(&mut self, pid: i32, ended: Ended, world: &World) -> Vec<Fact> {
        if let Some((name, _)) = world.helpers.iter().find(|(_, known)| **known == pid) {
            return vec![Fact::Helper { name: name.clone(), pid: None }];
        }
        let mut starting = false;
        for (pod, name, run) in runs(world) {
            let Some(container) = pod.spec.container(name) else { continue };
            if run.helper == Some(pid) {
                return self.reported(pod, container, run, ended);
            }
            if run.exited.is_none() && run.started.is_some_and(|(_, first)| first == pid) {
                return vec![self.exited(pod, container, run.number, ended)];
            }
            starting |= run.helper.is_some();
        }
        if starting {
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
                let started = Fact::Started { uid, container: name, run: run.number, pid: first };
                let gone = self.orphans.remove(&first);
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

/// Every newest run in the world.
fn runs(world: &World) -> impl Iterator<Item = (&PodFacts, &str, &Run)> {
    world.pods.values().flat_map(|pod| {
        let runs = pod.containers.iter().filter_map(|(name, facts)| Some((name, facts.run.as_ref()?)));
        runs.map(move |(name, run)| (pod, name.as_str(), run))
    })
}
