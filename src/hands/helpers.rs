//! The long-lived helpers: each is started again when it ends, and the logger gets its streams anew.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use log::warn;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{Hands, paths};
use crate::clock::Tick;
use crate::config::Config;
use crate::logs;
use crate::pod::facts::Stream;
use crate::pod::{Fact, World};
use crate::spawn::spawn;

/// A helper that ended sooner than this after its start waits before its next one.
const STABLE: Duration = Duration::from_secs(10);

pub struct Helpers {
    /// The names of those that this machine needs.
    duties: &'static [&'static str],
    /// Our end of the logger's socket.
    pub logger: Option<OwnedFd>,
    /// By name: when it was last started, and how often in a row it did not last.
    tries: BTreeMap<&'static str, (Tick, u32)>,
}

impl Helpers {
    pub fn new(duties: &'static [&'static str]) -> Self {
        Helpers { duties, logger: None, tries: BTreeMap::new() }
    }

    /// When the helper may be started (again).
    fn due(&self, name: &str) -> Tick {
        match self.tries.get(name) {
            None => Tick(0),
            Some((_, 0)) => Tick(0),
            Some((last, tries)) => *last + Duration::from_millis(100 << (*tries).min(6)),
        }
    }

    fn tried(&mut self, name: &'static str, now: Tick) {
        let tries = match self.tries.get(name) {
            Some((last, tries)) if now - *last < STABLE => tries + 1,
            Some(_) | None => 0,
        };
        self.tries.insert(name, (now, tries));
    }
}
