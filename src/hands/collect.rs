//! Images that go when the disk fills: when to look, a helper that collects, pulls that wait for room, and what is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use log::{info, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use super::{Ended, Hands};
use crate::clock::{Tick, Wall};
use crate::config::Config;
use crate::image::mount;
use crate::pod::batch::decide::JUMP;
use crate::pod::collect::{Aim, Disk, PERIOD, Policy, Report, Request, Used, over, present};
use crate::pod::pulls::Who;
use crate::pod::{Container, Fact, Pod, World, facts};
use crate::spawn::spawn;

/// The first look of a life is this long after its beginning: a boot has better things to do.
const FIRST: Duration = Duration::from_secs(10);
/// A helper that is not done by then is killed: as long as it works nobody adds to the store.
const LATE: Duration = Duration::from_secs(600);
/// Ages of images are believed once the wall clock has not jumped for so long.
const STEADY: Duration = Duration::from_secs(3600);
/// What is in use is noted again after so long.
const DAY: Duration = Duration::from_secs(86_400);
/// How often room is made for one pull before its failure is told.
const ROOMS: u32 = 6;
/// An event of the same reason is told again after so long.
const AGAIN: Duration = Duration::from_secs(3600);
/// The longest report that is read.
const LONGEST: u64 = 4 << 20;

pub struct Collection {
    policy: Policy,
    /// What the manifests name; None: some are not known.
    wanted: Option<Used>,
    /// What was in use at some time since the last note, and what that was of.
    since: Used,
    noted: Option<(Used, Tick)>,
    due: Tick,
    /// What the next helper is to do; within it, what of images.
    next: Option<Option<Aim>>,
    flight: Option<Flight>,
    /// Pulls that wait for room, by image: what they need of it, and why they failed.
    full: BTreeMap<String, (Aim, String)>,
    /// How often room was made for an image in a row.
    rooms: BTreeMap<String, u32>,
    /// Containers whose images may be on their way out.
    waiting: BTreeSet<Who>,
    /// The wall clock's second at the first tick, and since when it is about that.
    clock: Option<(i64, Tick)>,
    /// Held shared by all who use the root directory.
    root: Option<File>,
    failed: bool,
    /// When trouble was told last, by its reason; empty where there is none any more.
    told: BTreeMap<String, Tick>,
    over: bool,
}

/// A helper at work.
struct Flight {
    helper: i32,
    late: Tick,
    killed: bool,
    request: Request,
    answer: File,
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
    fn tells(&mut self, reason: &str, now: Tick) -> bool {
        let told = self.told.get(reason).is_some_and(|at| now < *at + AGAIN);
        if !told {
            self.told.insert(reason.to_owned(), now);
        }
        !told
    }

    /// Whether images are ever removed here.
    fn enabled(&self) -> bool {
        self.policy.high < 100 || !self.policy.max_age.is_zero()
    }

    fn steady(&mut self, wall: &Wall, now: Tick) -> bool {
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
    fn alone(&mut self, config: &Config) -> bool {
        let root = self.root.take().map_or_else(|| File::open(&config.root), Ok);
        let Ok(root) = root else { return false };
        let alone = root.try_lock().is_ok();
        self.root = root.try_lock_shared().is_ok().then_some(root);
        alone && self.root.is_some()
    }
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
    pub(super) fn make_room(&mut self, image: &str, missing: u64, why: &str) -> bool {
        let collection = &mut self.collection;
        let tries = collection.rooms.entry(image.to_owned()).or_default();
        *tries += 1;
        if collection.over || *tries > ROOMS || collection.policy.high >= 100 {
            collection.rooms.remove(image);
            return false;
        }
        // Only compressed sizes are known. What there was did not do, so more is needed in any case.
        let guess = missing.saturating_mul(2 << *tries);
        let there = disk(&self.config).map_or(0, |disk| disk.available.saturating_add(missing));
        let aim = Aim::Room { least: missing, wanted: guess.max(there) };
        collection.full.insert(image.to_owned(), (aim, why.to_owned()));
        true
    }

    /// A pull ended well: the next one of this image begins to count anew.
    pub(super) fn had_room(&mut self, image: &str) {
        self.collection.rooms.remove(image);
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
        let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
        let (mut asked, answer) = (memory(c"request")?, memory(c"answer")?);
        asked.write_all(&serde_json::to_vec(&request)?)?;
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
            if self.store.layer(&format!("sha256:{}", name.to_string_lossy())).exists() {
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

    fn report(mut self, ended: Ended) -> Report {
        let mut bytes = Vec::new();
        let read = self.answer.rewind().and_then(|()| self.answer.take(LONGEST).read_to_end(&mut bytes));
        let report = serde_json::from_slice(&bytes).ok().filter(|_| read.is_ok() && ended.code == 0);
        report.unwrap_or_else(|| {
            let why = format!("its helper ended with exit code {}", ended.code);
            let trouble = (!self.killed).then(|| (FAILED.to_owned(), why));
            Report { trouble, ..Report::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::{Event, PodFacts};
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    fn flight(aim: Option<Aim>, used: &[&str]) -> Flight {
        let names = used.iter().map(|name| (*name).to_owned()).collect();
        let used = Used { names, ids: BTreeSet::new() };
        let (policy, since) = (Policy::default(), Used::default());
        let request = Request { store: PathBuf::new(), policy, aim, used, since, steady: false };
        let answer = File::from(memfd_create(c"answer", MFdFlags::MFD_CLOEXEC).unwrap());
        // A number that no process has.
        Flight { helper: i32::MAX, late: Tick::seconds(600), killed: false, request, answer }
    }

    #[test]
    fn i3_trouble_is_one_event_for_each_reason_and_a_failure_from_the_second_on() {
        let mut hands = Hands::idle(&Config::default());
        let mut world = World::default();
        let report = |trouble: Option<(&str, &str)>| Report {
            trouble: trouble.map(|(reason, message)| (reason.to_owned(), message.to_owned())),
            ..Report::default()
        };
        let short = |bytes: &str| report(Some(("FreeDiskSpaceFailed", bytes)));
        let mut told = |seconds: u64, report: &Report| {
            let now = Tick::seconds(seconds);
            let facts = hands.tell_collected(report, Some(Aim::Thresholds), false, now);
            facts.into_iter().for_each(|fact| world.learn(fact, now));
            let event = |event: &Event| (event.reason.clone(), event.message.clone(), event.count);
            world.events.iter().map(event).collect::<Vec<_>>()
        };
        let event = |reason: &str, message: &str, count| (reason.to_owned(), message.to_owned(), count);
        let (free, failed) = ("FreeDiskSpaceFailed", "ImageGCFailed");
        assert_eq!(told(10, &short("1")), [event(free, "1", 1)]);
        assert_eq!(told(310, &short("2")), [event(free, "1", 1), event(failed, "2", 1)]);
        assert_eq!(told(610, &short("3")), [event(free, "1", 1), event(failed, "2", 1)], "not each time");
        let later = [event(free, "4", 2), event(failed, "4", 2)];
        assert_eq!(told(4000, &short("4")), later, "the message is the newest");
        told(4300, &report(None));
        assert_eq!(told(8000, &report(Some((failed, "no store")))), later, "once is nothing");
        assert_eq!(
            told(8300, &report(Some((failed, "no store")))),
            [later[0].clone(), event(failed, "no store", 3)]
        );
        let busy = Report { busy: true, ..Report::default() };
        assert_eq!(told(8600, &busy).len(), 2);
        assert_eq!(hands.collection.due, Tick::seconds(8600) + hands.config.file_check);
    }

    #[test]
    fn i3_a_pod_that_came_meanwhile_waits_for_the_end_of_a_collection_and_cuts_it_short() {
        let pod = sample::pod(RestartPolicy::Always, &[], &["a"]);
        // The aim, what is known to be in use: whether the container waits.
        for (aim, used, waits) in [
            (Some(Aim::Thresholds), &["b:1"][..], true),
            (Some(Aim::Thresholds), &["a:1", "b:1"], false),
            (None, &[], false),
        ] {
            let mut hands = Hands::idle(&Config::default());
            assert!(!hands.held_back(&pod, &pod.containers[0]), "nobody collects");
            hands.collection.flight = Some(flight(aim, used));
            assert_eq!(hands.held_back(&pod, &pod.containers[0]), waits, "{aim:?} {used:?}");
            assert_eq!(hands.collection.flight.as_ref().unwrap().killed, waits);
            // A listing tells of what is only to come.
            hands.collection.flight = Some(flight(aim, used));
            let mut wanted = Used::default();
            wanted.pod(&pod);
            hands.want_images(wanted, true);
            assert_eq!(hands.collection.flight.as_ref().unwrap().killed, waits);
        }
        let mut hands = Hands::idle(&Config::default());
        hands.collection.flight = Some(flight(Some(Aim::All), &[]));
        let mut world = World::default();
        let now = Tick::seconds(1);
        world.pods.insert(pod.uid.clone(), PodFacts::new(pod.clone(), now));
        let found = hands.find(&world.pods["u1"], &pod.containers[0]);
        assert!(matches!(&found[..], [Fact::ImagePulling { .. }]), "{found:?}");
        found.into_iter().for_each(|fact| world.learn(fact, now));
        let ended = Ended { code: 137, signal: Some(9) };
        assert_eq!(hands.collected(1, ended, &world), None, "another child");
        // Its image is not in this store, so it is pulled.
        let facts = hands.collected(i32::MAX, ended, &world).unwrap();
        assert!(matches!(&facts[..], [Fact::ImagePulling { .. }]), "{facts:?}");
        assert!(hands.collection.flight.is_none() && hands.collection.waiting.is_empty());
    }

    #[test]
    fn i3_room_is_made_some_times_for_one_pull_and_more_each_time() {
        let mut hands = Hands::idle(&Config { root: std::env::temp_dir(), ..Config::default() });
        let mut last = 0;
        for _ in 0..ROOMS {
            assert!(hands.make_room("x:1", 1 << 50, "full") && hands.collection.makes_room());
            let (aim, _) = hands.collection.full.remove("x:1").unwrap();
            let Aim::Room { least, wanted } = aim else { panic!("{aim:?}") };
            assert!(least == 1 << 50 && wanted > last && wanted >= 4 * least, "{aim:?}");
            last = wanted;
        }
        assert!(!hands.make_room("x:1", 1 << 50, "full"), "its failure is told now");
        assert!(hands.make_room("x:1", 1 << 50, "full"), "and the next try begins anew");
        hands.collection.policy.high = 100;
        assert!(!hands.make_room("y:1", 1, "full"), "100 disables");
        hands.collection.policy.high = 85;
        hands.collect_no_more();
        assert!(!hands.make_room("y:1", 1, "full"), "nothing is wanted any more");
    }

    #[test]
    fn i3_a_clock_that_jumps_is_believed_again_after_an_hour() {
        let mut collection = Collection::new(&Config::default());
        let at = |hours: i64| Wall::at_boot(1_800_000_000 + hours * 3600);
        // Hours of the wall clock at boot, of this life; whether ages are believed.
        for (clock, hours, steady) in [
            (0, 0, false),
            (0, 1, true),
            (0, 2, true),
            (9000, 2, false),
            (9000, 3, true),
            (0, 3, false),
            (0, 4, true),
        ] {
            let now = Tick::seconds(hours * 3600);
            assert_eq!(collection.steady(&at(clock), now), steady, "{clock} {hours}");
        }
        let little = Wall::at_boot(1_800_000_000 + 3599);
        assert!(collection.steady(&little, Tick::seconds(4 * 3600)), "put right by less than an hour");
    }
}
