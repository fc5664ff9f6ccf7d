//! What a later boot is to know of Jobs is brought to the disk, and only then acted upon.

use log::error;

use super::agent::Agent;
use crate::clock::{Tick, Wall};
use crate::hands::keep;
use crate::pod::Fact;
use crate::pod::batch::facts::{JobFact, Memory};

impl Agent {
    /// Has a helper write down what happened to Jobs, one helper at a time. What is on the disk already is told at once.
    pub(super) fn remember(&mut self, now: Tick) -> Vec<Fact> {
        if !self.unwritten || !self.memory.ready(now) {
            return Vec::new();
        }
        self.unwritten = false;
        let memory = Memory::of(&self.world.batch, now, &Wall::now());
        let ends = self.world.batch.unkept();
        if self.memory.holds(&memory) {
            return kept(ends);
        }
        match self.memory.stage(&memory).and_then(|[from, to]| keep(&from, &to)) {
            Ok(helper) => {
                self.memory.begun(helper, memory, ends);
                Vec::new()
            }
            Err(why) => {
                self.memory.failed(now);
                self.forgetful(&why.to_string());
                kept(ends)
            }
        }
    }

    /// The helper of this pid has ended, if it is one. Where it failed that is told, and the Jobs go on all the same: a
    /// full disk must not stop what has nothing to do with it.
    pub(super) fn remembered(&mut self, pid: i32, code: i32) -> Option<Vec<Fact>> {
        let ends = self.memory.ended(pid, code == 0, Tick::now())?;
        if code != 0 {
            self.forgetful(&format!("its helper ended with {code}"));
        }
        Some(kept(ends))
    }

    fn forgetful(&mut self, why: &str) {
        self.unwritten = true;
        error!("jobs: not written down: {why}: what happened to them is not known after a reboot");
    }
}

fn kept(ends: Vec<String>) -> Vec<Fact> {
    ends.into_iter().map(|job| Fact::Job(JobFact::Kept { job })).collect()
}
