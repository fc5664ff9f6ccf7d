//! Images that go when the disk fills: when to look, a helper that collects, pulls that wait for room, and what is told.

mod state;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use log::{info, warn};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use super::{Ended, Hands, talk};
use crate::clock::{Tick, Wall};
use crate::config::Config;
use crate::image::mount;
use crate::pod::collect::{Aim, Disk, PERIOD, Report, Request, Used, over, present};
use crate::pod::pulls::Pull;
use crate::pod::{Container, Fact, Pod, World, facts};
use crate::spawn::spawn;
pub use state::Collection;

/// A helper that is not done by then is killed: as long as it works nobody adds to the store.
const LATE: Duration = Duration::from_secs(600);
/// What is in use is noted again after so long.
const DAY: Duration = Duration::from_secs(86_400);
/// How often room is made for one pull before its failure is told.
const ROOMS: u32 = 6;
/// The longest report that is read.
const LONGEST: u64 = 4 << 20;

/// A helper at work.
pub struct Flight {
    helper: i32,
    late: Tick,
    killed: bool,
    request: Request,
    answer: File,
}

impl Hands {
    /// What the manifests name. `certain`: all that they want is known. To be called at each listing.
    pub fn want_images(&mut self, wanted: Used, certain: bool) {
        let collection = &mut self.collection;
        let blind =
            |flight: &&mut Flight| flight.request.aim.is_some() && !flight.request.used.covers(&wanted);
        collection.flight.as_mut().filter(blind).into_iter().for_each(Flight::kill);
        collection.wanted = certain.then_some(wanted);
    }

    /// What is in use: by the manifests and by what is there. False: not all of it is known, by a manifest that cannot
    /// be read, or because another podinit has the same root directory.
    pub fn used_images(&mut self, world: &World) -> (Used, bool) {
        let mut used = present(world);
        let wanted = self.collection.wanted.as_ref();
        wanted.into_iter().for_each(|wanted| used.join(wanted));
        let known = wanted.is_some();
        (used, known && self.collection.alone(&self.config))
    }

    /// Whether this container must wait with its images: they may be on their way out. The helper ends first, and
    /// leaves what is still there.
    pub(super) fn held_back(&mut self, pod: &Pod, container: &Container) -> bool {
        let Some(flight) = self.collection.flight.as_mut().filter(|flight| flight.request.aim.is_some())
        else {
            return false;
        };
        let mut used = Used::default();
        used.pod(pod);
        if flight.request.used.covers(&used) {
            return false;
        }
        flight.kill();
        self.collection.waiting.insert((pod.uid.clone(), container.name.clone()));
        true
    }

    /// A pull failed for want of room. True: it is made again once images were removed.
    pub(super) fn make_room(&mut self, pull: &Pull, missing: u64, why: &str) -> bool {
        let collection = &mut self.collection;
        let tries = collection.rooms.entry(pull.clone()).or_default();
        *tries += 1;
        if collection.over || *tries > ROOMS || collection.policy.high >= 100 {
            collection.rooms.remove(pull);
            return false;
        }
        // Only compressed sizes are known. What there was did not do, so more is needed in any case.
        let guess = missing.saturating_mul(3 << (*tries - 1));
        let there = disk(&self.config).map_or(0, |disk| disk.available.saturating_add(missing));
        let aim = Aim::Room { least: missing, wanted: guess.max(there) };
        collection.full.insert(pull.clone(), (aim, why.to_owned()));
        true
    }

    /// A pull ended well: the next one of this image begins to count anew.
    pub(super) fn had_room(&mut self, pull: &Pull) {
        self.collection.rooms.remove(pull);
        self.collection.look_soon();
    }

    /// Looks at the disk when it is time, and has a helper do what is to be done once nobody pulls. Returns what was
    /// learned, and when to look again. Not for the next look: any turn after it is due will do.
    pub(super) fn tend_collection(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        if let Some(flight) = &mut self.collection.flight {
            return (Vec::new(), flight.look(now));
        }
        if self.collection.over {
            return (self.give_up(world, now), None);
        }
        if now >= self.collection.due && !self.starting() {
            self.collection.due = now + PERIOD;
            self.look_at_disk(world, now);
        }
        let room = self.collection.full.values().next().map(|(aim, _)| *aim);
        let Some(aim) = room.map(Some).or(self.collection.next) else { return (Vec::new(), None) };
        if self.pulling() || self.importing() {
            // Its end is a turn.
            return (Vec::new(), None);
        }
        let (used, known) = self.used_images(world);
        if aim.is_some() && !known {
            self.collection.next = None;
            if self.collection.tells("unknown", now) {
                warn!("images: none is removed, as not all that is wanted is known");
            }
            return (self.give_up(world, now), None);
        }
        match self.send(aim, used, now) {
            Ok(late) => (Vec::new(), Some(late)),
            Err(why) => {
                warn!("images: cannot collect: {why}");
                self.collection.next = None;
                (self.give_up(world, now), None)
            }
        }
    }

    fn look_at_disk(&mut self, world: &World, now: Tick) {
        self.unmount_gone();
        let steady = self.collection.steady(&Wall::now(), now);
        let mut used = present(world);
        self.collection.wanted.iter().for_each(|wanted| used.join(wanted));
        let collection = &mut self.collection;
        collection.since.join(&used);
        let fresh =
            |(noted, at): &(Used, Tick)| *noted == used && noted.covers(&collection.since) && now < *at + DAY;
        let note = !collection.noted.as_ref().is_some_and(fresh);
        let full = disk(&self.config).is_some_and(|disk| over(&collection.policy, &disk));
        let aged = steady && !collection.policy.max_age.is_zero();
        let aim = (collection.enabled() && (full || aged)).then_some(Aim::Thresholds);
        collection.next = (aim.is_some() || note).then_some(aim);
        if !full {
            // What was told is over.
            collection.failed = false;
            collection.told.clear();
        }
    }

    fn send(&mut self, aim: Option<Aim>, used: Used, now: Tick) -> io::Result<Tick> {
        let steady = self.collection.steady(&Wall::now(), now);
        let (policy, since) = (self.collection.policy, self.collection.since.clone());
        let store = std::path::absolute(self.config.root.join("images"))?;
        let request = Request { store, policy, aim, used, since, steady };
        let (asked, answer) = talk::ask(&request)?;
        let helper = spawn(&["__collect"], &[(asked.as_raw_fd(), 3), (answer.as_raw_fd(), 4)], None)?;
        let late = now + LATE;
        self.collection.next = None;
        self.collection.flight = Some(Flight { helper, late, killed: false, request, answer });
        Ok(late)
    }

    /// What became of a collection, if this child was its helper.
    pub(super) fn collected(&mut self, pid: i32, ended: Ended, world: &World) -> Option<Vec<Fact>> {
        let flight = self.collection.flight.take_if(|flight| flight.helper == pid)?;
        let now = Tick::now();
        let (killed, request) = (flight.killed, flight.request.clone());
        let report = flight.report(ended);
        if report.trouble.is_none() && !killed {
            self.collection.noted = Some((request.used.clone(), now));
            self.collection.since = request.used;
        }
        let mut facts = self.tell_collected(&report, request.aim, killed, now);
        self.unmount_gone();
        if report.images.is_empty() && report.files == 0 {
            facts.extend(self.give_up(world, now));
        } else {
            for image in std::mem::take(&mut self.collection.full).into_keys() {
                self.pull_again(&image);
            }
        }
        for (uid, name) in std::mem::take(&mut self.collection.waiting) {
            let pod = world.pods.get(&uid).filter(|pod| pod.stopping().is_none());
            let Some((pod, container)) = pod.and_then(|pod| Some((pod, pod.spec.container(&name)?))) else {
                continue;
            };
            let image = pod.containers.get(&name).map(|facts| &facts.image);
            if image.is_some_and(|image| matches!(image, facts::Image::Pulling { .. })) {
                facts.extend(self.find(pod, container));
            }
        }
        Some(facts)
    }

    fn tell_collected(&mut self, report: &Report, aim: Option<Aim>, killed: bool, now: Tick) -> Vec<Fact> {
        let collection = &mut self.collection;
        if report.busy || killed {
            // At the next turn after a while: nobody is to be woken for it.
            collection.due = now + if aim.is_some() { self.config.file_check } else { PERIOD };
        }
        let mut facts = Vec::new();
        if !report.images.is_empty() || report.files > 0 {
            let (images, files, bytes) = (report.images.clone(), report.files, report.bytes);
            facts.push(Fact::Collected { images, files, bytes });
        }
        let Some((reason, message)) = report.trouble.clone() else {
            collection.failed &= report.busy || killed || aim.is_none();
            return facts;
        };
        // The kubelet tells of a failure as such from the second one in a row on.
        let repeated = std::mem::replace(&mut collection.failed, true).then_some(FAILED);
        for reason in [(reason != FAILED).then_some(reason.as_str()), repeated].into_iter().flatten() {
            if collection.tells(reason, now) {
                facts.push(Fact::CollectFailed { reason: reason.to_owned(), message: message.clone() });
            }
        }
        facts
    }

    /// There is no room for those that wait for it: why they failed is told.
    fn give_up(&mut self, world: &World, now: Tick) -> Vec<Fact> {
        let full = std::mem::take(&mut self.collection.full);
        full.into_iter().flat_map(|(image, (_, why))| self.landed(&image, Err(why), now, world)).collect()
    }

    /// A layer's mount holds its bytes on the disk also when its file is gone. Views that containers still have of it
    /// stay as they are.
    fn unmount_gone(&self) {
        let layers = fs::read_dir(self.config.run.join("layers")).into_iter().flatten().flatten();
        for (path, name) in layers.map(|entry| (entry.path(), entry.file_name())) {
            let file = self.store.layer(&mount::diff_id(&name));
            // What was put aside may still be run from.
            if [self.store.aside(&file), file].iter().any(|file| file.exists()) {
                continue;
            }
            if let Err(why) = mount::unmount(&path).and_then(|()| fs::remove_dir(&path)) {
                warn!("{}: its layer is gone, and it cannot be unmounted: {why}", path.display());
            }
        }
    }

    /// Nothing is wanted any more.
    pub fn collect_no_more(&mut self) {
        self.collection.over = true;
        self.collection.flight.iter_mut().for_each(Flight::kill);
    }
}

/// The reason of a collection that failed as a whole.
const FAILED: &str = "ImageGCFailed";

/// The file system that images come to; None: there is none yet.
fn disk(config: &Config) -> Option<Disk> {
    let images: PathBuf = config.root.join("images");
    let found = statvfs(if images.exists() { &images } else { &config.root }).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Disk { capacity: bytes(found.blocks()), available: bytes(found.blocks_available()), reserve: 0 })
}

impl Flight {
    fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            let _ = kill(Pid::from_raw(self.helper), Signal::SIGKILL);
        }
    }

    fn look(&mut self, now: Tick) -> Option<Tick> {
        if now >= self.late && !self.killed {
            info!("images: a collection was not done after {} s, and is ended", LATE.as_secs());
            self.kill();
        }
        (!self.killed).then_some(self.late)
    }

    fn report(self, ended: Ended) -> Report {
        let said = talk::heard(&self.answer, LONGEST).ok().filter(|_| ended.code == 0);
        let report = said.and_then(|said| serde_json::from_slice(&said).ok());
        report.unwrap_or_else(|| {
            let why = format!("its helper ended with exit code {}", ended.code);
            let trouble = (!self.killed).then(|| (FAILED.to_owned(), why));
            Report { trouble, ..Report::default() }
        })
    }
}
