//! What is known for collections: what is in use, when to look, who waits, and how far the clock is to be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::Duration;

use super::Flight;
use crate::clock::{Tick, Wall};
use crate::config::Config;
use crate::pod::Pod;
use crate::pod::batch::decide::JUMP;
use crate::pod::collect::{Aim, Policy, Used};
use crate::pod::pulls::{Pull, Who};

/// The first look of a life is this long after its beginning: a boot has better things to do.
const FIRST: Duration = Duration::from_secs(10);
/// Ages of images are believed once the wall clock has not jumped for so long.
const STEADY: Duration = Duration::from_secs(3600);
/// An event of the same reason is told again after so long.
const AGAIN: Duration = Duration::from_secs(3600);

pub struct Collection {
    pub(super) policy: Policy,
    /// What the manifests name; None: some are not known.
    pub(super) wanted: Option<Used>,
    /// What was in use at some time since the last note, and what that was of.
    pub(super) since: Used,
    pub(super) noted: Option<(Used, Tick)>,
    pub(super) due: Tick,
    /// What the next helper is to do; within it, what of images.
    pub(super) next: Option<Option<Aim>>,
    pub(super) flight: Option<Flight>,
    /// Pulls that wait for room: what they need of it, and why they failed.
    pub(super) full: BTreeMap<Pull, (Aim, String)>,
    /// How often room was made for one in a row.
    pub(super) rooms: BTreeMap<Pull, u32>,
    /// Containers whose images may be on their way out.
    pub(super) waiting: BTreeSet<Who>,
    /// The wall clock's second at the first tick, and since when it is about that.
    pub(super) clock: Option<(i64, Tick)>,
    /// Held shared by all who use the root directory.
    pub(super) root: Option<File>,
    pub(super) failed: bool,
    /// When trouble was told last, by its reason; empty where there is none any more.
    pub(super) told: BTreeMap<String, Tick>,
    pub(super) over: bool,
}

impl Collection {
    pub fn new(config: &Config) -> Self {
        let gc = config.image_gc;
        let (high, low) = (gc.high, gc.low);
        let now = Tick::now();
        Collection {
            policy: Policy { high, low, min_age: gc.min_age, max_age: gc.max_age },
            wanted: None,
            since: Used::default(),
            noted: None,
            due: now + FIRST,
            next: None,
            flight: None,
            full: BTreeMap::new(),
            rooms: BTreeMap::new(),
            waiting: BTreeSet::new(),
            clock: None,
            root: File::open(&config.root).ok().filter(|root| root.try_lock_shared().is_ok()),
            failed: false,
            told: BTreeMap::new(),
            over: false,
        }
    }

    /// A pod was taken up: what it names is in use from now on.
    pub fn admitted(&mut self, pod: &Pod) {
        self.since.pod(pod);
    }

    /// The next look is at the end of this turn.
    pub fn look_soon(&mut self) {
        self.due = Tick(0);
    }

    /// Whether pulls wait for room: others are not begun meanwhile.
    pub fn makes_room(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether trouble of this reason is to be told, which it then is.
    pub(super) fn tells(&mut self, reason: &str, now: Tick) -> bool {
        let told = self.told.get(reason).is_some_and(|at| now < *at + AGAIN);
        if !told {
            self.told.insert(reason.to_owned(), now);
        }
        !told
    }

    /// Whether images are ever removed here.
    pub(super) fn enabled(&self) -> bool {
        self.policy.high < 100 || !self.policy.max_age.is_zero()
    }

    pub(super) fn steady(&mut self, wall: &Wall, now: Tick) -> bool {
        let epoch = wall.time(Tick(0)).as_second();
        match self.clock {
            Some((known, since)) if known.abs_diff(epoch) < JUMP.unsigned_abs() => now >= since + STEADY,
            Some(_) | None => {
                self.clock = Some((epoch, now));
                false
            }
        }
    }

    /// Whether nobody else uses the root directory. Another's lock may be lost for a moment, as flock(2) tells: it is
    /// there again before another podinit could have made a pod.
    pub(super) fn alone(&mut self, config: &Config) -> bool {
        let root = self.root.take().map_or_else(|| File::open(&config.root), Ok);
        let Ok(root) = root else { return false };
        let alone = root.try_lock().is_ok();
        self.root = root.try_lock_shared().is_ok().then_some(root);
        alone && self.root.is_some()
    }
}
