//! A test's wish that start helpers die at random moments. Nobody is doomed unless the configuration allows faults.

use log::info;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

use crate::clock::Tick;
use crate::pod::{Fact, World};

/// How many start helpers one wish kills.
const MANY: u32 = 100;

#[derive(Default)]
pub struct Doom {
    /// How many are still to be killed, and how long each may live at most.
    left: u32,
    longest: Duration,
    killed: u32,
    chosen: Vec<(i32, Tick)>,
}

impl Doom {
    /// The next helpers shall die, each within `longest` of its start.
    pub fn wish(&mut self, longest: Duration) {
        (self.left, self.longest, self.killed) = (MANY, longest, 0);
    }

    /// Draws the hour of a helper that was just started.
    pub fn choose(&mut self, fact: &Fact) {
        let Fact::Starting { helper, .. } = fact else { return };
        if self.left == 0 {
            return;
        }
        let now = Tick::now();
        // The clock's low digits, well mixed, are random enough.
        let random = (now.0 ^ (now.0 >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let share = self.longest.as_nanos() as u64 / 1024 * (random % 1024);
        self.chosen.push((*helper, now + Duration::from_nanos(share)));
    }

    /// Kills whose hour has come, if they still run.
    pub fn strike(&mut self, world: &World, now: Tick) {
        let runs = |pid: i32| {
            let mut runs = world.pods.values().flat_map(|pod| pod.containers.values());
            runs.any(|facts| facts.run.as_ref().is_some_and(|run| run.helper == Some(pid)))
        };
        let due: Vec<_> = self.chosen.extract_if(.., |(_, at)| *at <= now).collect();
        for (pid, _) in due {
            if self.left > 0 && runs(pid) && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                self.left -= 1;
                self.killed += 1;
                if self.left == 0 {
                    info!("podinit: killed {} start helpers, as asked for", self.killed);
                }
            }
        }
    }

    /// When to strike next.
    pub fn next(&self) -> Option<Tick> {
        self.chosen.iter().map(|(_, at)| *at).min()
    }
}
