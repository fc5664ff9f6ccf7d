//! The roll of the pods: what is asked of all of them at each turn, kept pod by pod, so that nobody looks through all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::facts::{Fact, PodFacts, World};
use super::{resources, verify};

/// Follows from the world: `look` at a pod after each fact of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    entries: BTreeMap<String, Entry>,
    /// (pid, uid) of all processes that the newest runs know of.
    pids: BTreeSet<(i32, String)>,
    starting: BTreeSet<String>,
    hooked: BTreeSet<String>,
    /// Containers of which a run ended as damage of their image would explain.
    suspects: BTreeSet<(String, String)>,
    /// Wide, so that what was added can be taken off exactly.
    burstable: u128,
}

/// What one pod adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    pids: BTreeSet<i32>,
    starting: bool,
    hooked: bool,
    suspects: BTreeSet<String>,
    burstable: u64,
}

impl Entry {
    fn of(pod: &PodFacts) -> Entry {
        let mut entry = Entry::default();
        for (_, run) in pod.runs() {
            let hooks = run.hooks.values().filter_map(|hook| hook.helper).filter(|helper| *helper > 0);
            let first = run.started.filter(|_| run.exited.is_none()).map(|(_, pid)| pid);
            entry.pids.extend(hooks.chain(run.helper).chain(first));
            entry.starting |= run.helper.is_some();
            entry.hooked |= run.hooks.values().any(|hook| hook.ended.is_none());
        }
        let suspects = pod.containers.iter().filter(|(_, facts)| verify::suspicious(facts).is_some());
        entry.suspects = suspects.map(|(name, _)| name.clone()).collect();
        if !pod.done() {
            entry.burstable = resources::burstable(&pod.spec);
        }
        entry
    }
}

impl Roll {
    /// Of all pods.
    pub fn of(world: &World) -> Roll {
        let mut roll = Roll::default();
        world.pods.iter().for_each(|(uid, pod)| roll.look(uid, Some(pod)));
        roll
    }

    /// The world has learned this fact.
    pub fn learned(&mut self, fact: &Fact, world: &World) {
        if let Some(uid) = fact.uid() {
            self.look(uid, world.pods.get(uid));
        }
    }

    /// Looks at one pod again; None: it is gone.
    fn look(&mut self, uid: &str, pod: Option<&PodFacts>) {
        let entry = pod.map(Entry::of);
        if self.entries.get(uid) == entry.as_ref() {
            return;
        }
        if let Some(former) = self.entries.remove(uid) {
            for pid in former.pids {
                self.pids.remove(&(pid, uid.to_owned()));
            }
            self.starting.remove(uid);
            self.hooked.remove(uid);
            for name in former.suspects {
                self.suspects.remove(&(uid.to_owned(), name));
            }
            self.burstable -= u128::from(former.burstable);
        }
        let Some(entry) = entry else { return };
        self.pids.extend(entry.pids.iter().map(|pid| (*pid, uid.to_owned())));
        self.starting.extend(entry.starting.then(|| uid.to_owned()));
        self.hooked.extend(entry.hooked.then(|| uid.to_owned()));
        self.suspects.extend(entry.suspects.iter().map(|name| (uid.to_owned(), name.clone())));
        self.burstable += u128::from(entry.burstable);
        self.entries.insert(uid.to_owned(), entry);
    }

    /// The pods of which a run or a hook knows this process.
    pub fn of_pid(&self, pid: i32) -> impl Iterator<Item = &str> {
        let all = (Bound::Included((pid, String::new())), Bound::Unbounded);
        self.pids.range(all).take_while(move |(known, _)| *known == pid).map(|(_, uid)| uid.as_str())
    }

    /// Whether a start helper is at work.
    pub fn starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// The pods of which a hook was begun and has not ended.
    pub fn hooked(&self) -> impl Iterator<Item = &str> {
        self.hooked.iter().map(String::as_str)
    }

    /// The containers of which a run ended as damage of their image would explain.
    pub fn suspects(&self) -> &BTreeSet<(String, String)> {
        &self.suspects
    }

    /// What burstable pods that are not done request of the processors together, in thousandths of a core.
    pub fn burstable(&self) -> u64 {
        u64::try_from(self.burstable).unwrap_or(u64::MAX)
    }
}
