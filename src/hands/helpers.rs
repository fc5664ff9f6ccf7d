//! The long-lived helpers: each is started again when it ends, and a new logger is handed every stream anew. The prompt is
//! only started when somebody is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use log::{LevelFilter, warn};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, close};

use super::line::{self, Line};
use super::reaper::is_child;
use super::{Hands, paths};
use crate::clock::{Tick, sooner};
use crate::logs::{self, Report};
use crate::pod::facts::Stream;
use crate::pod::{Fact, World};
use crate::spawn::spawn;

/// A helper that ended sooner than this after its start waits before its next one.
const STABLE: Duration = Duration::from_secs(10);
/// A helper that so often in a row did not last is started again without a word: all has been told by then.
const TOLD: u32 = 10;

/// Who is at the prompt's terminal. It is held open until the prompt has it: on its last close the kernel drops what was
/// typed.
#[derive(Default)]
enum Visitor {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// Nobody yet: PID 1 listens.
    Awaited(Line),
    /// Somebody, who has no prompt yet.
    Come(Line),
    /// Somebody, who has it.
    Served(#[expect(dead_code, reason = "held open")] Line),
}

pub struct Helpers {
    /// The names of those that this machine needs.
    duties: BTreeSet<&'static str>,
    /// Who is at the prompt's terminal.
    visitor: Visitor,
    /// Our end of the logger's socket.
    logger: Option<OwnedFd>,
    /// By name: when it was last started, and how often in a row it did not last.
    tries: BTreeMap<&'static str, (Tick, u32)>,
    /// How many were started in a cgroup of their own.
    bounded: u32,
}

impl Helpers {
    pub fn new(duties: &'static [&'static str]) -> Self {
        let duties = duties.iter().copied().collect();
        Helpers { duties, visitor: Visitor::Unknown, logger: None, tries: BTreeMap::new(), bounded: 0 }
    }

    /// When the helper may be started (again).
    fn due(&self, name: &str) -> Tick {
        match self.tries.get(name) {
            None | Some((_, 0)) => Tick(0),
            Some((last, tries)) => *last + Duration::from_millis(100 << (*tries).min(6)),
        }
    }

    fn tried(&mut self, name: &'static str, now: Tick) {
        let tries = match self.tries.get(name) {
            Some((last, tries)) if now - *last < STABLE => tries + 1,
            Some(_) | None => 0,
        };
        self.tries.insert(name, (now, tries));
        if tries == TOLD {
            warn!("{name}: has ended {TOLD} times soon after its start: tried again without a word");
        }
    }

    /// Whether nobody wants to read of this helper any more. An end after it has lasted is news again.
    fn hushed(&self, name: &str, now: Tick) -> bool {
        self.tries.get(name).is_some_and(|(last, tries)| *tries >= TOLD && now - *last < STABLE)
    }
}

impl Hands {
    /// What to poll for the helpers' sake.
    pub fn polls(&self) -> Vec<(RawFd, PollFlags)> {
        let sockets = [self.helpers.logger.as_ref().map(AsRawFd::as_raw_fd), self.probes.socket()];
        let line = match &self.helpers.visitor {
            Visitor::Awaited(line) => Some(line.fd()),
            Visitor::Unknown | Visitor::Come(_) | Visitor::Served(_) => None,
        };
        sockets.into_iter().flatten().chain(line).map(|fd| (fd, PollFlags::POLLIN)).collect()
    }

    /// What helpers tell, if their sockets are among those that rang; somebody at the prompt's terminal is remembered.
    pub fn heard(&mut self, ready: &[RawFd], world: &World) -> Vec<Fact> {
        self.helpers.visitor = match std::mem::take(&mut self.helpers.visitor) {
            Visitor::Awaited(line) if ready.contains(&line.fd()) => Visitor::Come(line),
            visitor => visitor,
        };
        let mut facts = self.hear_logger(ready, world);
        facts.extend(self.hear_probes(ready));
        facts
    }

    fn hear_logger(&mut self, ready: &[RawFd], world: &World) -> Vec<Fact> {
        let Some(socket) = &self.helpers.logger else { return Vec::new() };
        if !ready.contains(&socket.as_raw_fd()) {
            return Vec::new();
        }
        let mut done = Vec::new();
        loop {
            match logs::report(socket.as_fd()) {
                Ok(Some(Report::Done { id })) => done.push(id),
                Ok(None) => break,
                Err(why) => {
                    warn!("logger: {why}");
                    break;
                }
            }
        }
        if done.is_empty() {
            // It rang and said nothing: it is gone. Its exit will be reaped; until then there is nothing to hear.
            self.helpers.logger = None;
        }
        done.into_iter().filter_map(|id| self.drained(&id, world)).collect()
    }

    /// Does what is due beside the plan: helpers, probes, the ends of hooks. Returns what was learned, and when to look
    /// again.
    pub fn upkeep(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        self.tend_tree();
        self.watch_probes(world, now);
        let done = [
            self.start_helpers(world, now),
            self.try_probes(world, now),
            self.end_hooks(world, now),
            self.tend_pulls(world, now),
            self.tend_collection(world, now),
            self.tend_verify(world, now),
        ];
        let wake_at = done.iter().filter_map(|(_, wake_at)| *wake_at).chain(self.fetch.tend(now)).min();
        (done.into_iter().flat_map(|(facts, _)| facts).collect(), wake_at)
    }

    /// Starts a helper in a cgroup of its own, `<prefix><number>` below ours, which `memory` bounds. Its pid, and the cgroup.
    pub(super) fn spawn_bounded(
        &mut self,
        args: &[&str],
        fds: &[(RawFd, RawFd)],
        (prefix, memory): (&str, u64),
    ) -> io::Result<(i32, PathBuf)> {
        self.helpers.bounded = self.helpers.bounded.wrapping_add(1);
        let name = format!("{}/{prefix}{}", self.config.cgroup_parent, self.helpers.bounded);
        let group = paths::cgroup(&self.config, &name);
        fs::create_dir_all(&group)?;
        if self.controllers.contains("memory")
            && let Err(why) = fs::write(group.join("memory.max"), memory.to_string())
        {
            warn!("{}: its memory is not limited: {why}", args.join(" "));
        }
        match spawn(args, fds, Some(&group)) {
            Ok(helper) => Ok((helper, group)),
            Err(why) => {
                let _ = fs::remove_dir(&group);
                Err(why)
            }
        }
    }

    /// Starts every helper that should run and does not.
    fn start_helpers(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        let (mut facts, mut wake_at) = (Vec::new(), None);
        for name in self.helpers.duties.clone() {
            let waits = name == "prompt" && self.listens() || name == "probe" && !self.probes.needed();
            if world.helpers.contains_key(name) || waits {
                continue;
            }
            let due = self.helpers.due(name);
            if now < due {
                wake_at = sooner(wake_at, due);
                continue;
            }
            self.helpers.tried(name, now);
            match self.start_helper(name, world, now) {
                Ok(Some(pid)) => facts.push(Fact::Helper { name: name.to_owned(), pid: Some(pid) }),
                // To ask again would be a wake-up every few seconds.
                Ok(None) => drop(self.helpers.duties.remove(name)),
                Err(why) => {
                    warn!("{name}: cannot start: {why}");
                    wake_at = Some(now + Duration::from_secs(5));
                }
            }
        }
        (facts, wake_at)
    }

    /// Whether it is a fact that was told too often.
    pub fn hushed(&self, fact: &Fact, now: Tick) -> bool {
        matches!(fact, Fact::Helper { name, .. } if self.helpers.hushed(name, now))
    }

    /// A later life: the sockets of logger and probe helper died with the former one, so there must be new ones. The
    /// other helpers live on, as the containers do. Start helpers' cgroups that the former life could not remove are tried again.
    pub fn resume(&mut self, mut world: World) -> World {
        close_strays(&mut world);
        let groups = paths::cgroup(&self.config, &format!("{}/podinit", self.config.cgroup_parent));
        let groups = fs::read_dir(groups).into_iter().flatten().flatten();
        self.dying.extend(groups.map(|entry| entry.path()).filter(|path| path.is_dir()));
        self.dying.extend(super::pulls::strays(&paths::cgroup(&self.config, &self.config.cgroup_parent)));
        for pid in ["logger", "probe"].into_iter().filter_map(|name| world.helpers.remove(name)) {
            let pid = Pid::from_raw(pid);
            // Only a child of ours: one that was reaped already may have left its number to somebody else.
            if is_child(pid.as_raw()) && kill(pid, Signal::SIGKILL).is_ok() {
                let _ = waitpid(pid, None);
            }
        }
        world
    }

    /// Hands a run's output to the logger. Without one it waits in its pipes until there is.
    pub(super) fn follow(&mut self, id: &str, stream: &Stream) {
        let Some(socket) = &self.helpers.logger else { return };
        let order = logs::Add {
            id: id.to_owned(),
            path: PathBuf::from(&stream.log),
            max_size: self.config.log_max_size,
            max_files: self.config.log_max_files,
            state: self.state_of(id),
        };
        let fds: Vec<BorrowedFd> = stream.fds.iter().map(|fd| borrow(*fd)).collect();
        match fds.try_into() {
            Ok(fds) => {
                if let Err(why) = logs::add(socket.as_fd(), &order, fds) {
                    // A full socket or a dead logger: the next one is handed everything again.
                    warn!("logger: {why}: a new one will be started");
                    self.helpers.logger = None;
                }
            }
            Err(fds) => warn!("logger: {id} has {} descriptors instead of 6", fds.len()),
        }
    }

    /// Whether nobody is at the prompt's terminal. Where it cannot be listened to, the prompt does.
    fn listens(&mut self) -> bool {
        match self.helpers.visitor {
            Visitor::Come(_) => return false,
            Visitor::Awaited(_) => return true,
            // It hung up with the prompt that it had.
            Visitor::Served(_) | Visitor::Unknown => {}
        }
        let line = line::of(&self.config.prompt).and_then(|(path, speed)| Line::open(&path, speed).ok());
        let listens = line.is_some();
        self.helpers.visitor = line.map_or(Visitor::Unknown, Visitor::Awaited);
        listens
    }

    fn start_helper(&mut self, name: &'static str, world: &World, now: Tick) -> io::Result<Option<i32>> {
        let hushed = self.helpers.hushed(name, now);
        let level = if hushed { LevelFilter::Off } else { log::max_level() }.as_str();
        match name {
            "logger" => self.start_logger(world).map(Some),
            "net" => match self.config.net_args() {
                None => Ok(None),
                Some(args) => {
                    let mut words = vec!["__net", level];
                    words.extend(args.iter().map(String::as_str));
                    spawn(&words, &[], None).map(Some)
                }
            },
            "probe" => self.probes.start(Tick::now()).map(Some),
            "prompt" => match line::of(&self.config.prompt) {
                None => Ok(None),
                Some((path, _)) => {
                    let pid = spawn(&["__prompt", level, &path], &[], None)?;
                    self.helpers.visitor = match std::mem::take(&mut self.helpers.visitor) {
                        Visitor::Come(line) => Visitor::Served(line),
                        Visitor::Unknown | Visitor::Awaited(_) | Visitor::Served(_) => Visitor::Unknown,
                    };
                    Ok(Some(pid))
                }
            },
            _ => Ok(None),
        }
    }

    fn start_logger(&mut self, world: &World) -> io::Result<i32> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let pid = spawn(&["__logger"], &[(theirs.as_raw_fd(), 3)], None)?;
        self.helpers.logger = Some(ours);
        fs::create_dir_all(self.config.run.join("logs"))?;
        for (id, stream) in &world.streams {
            self.follow(id, stream);
        }
        Ok(pid)
    }

    /// All of a run's output is in its log: nobody needs its pipes any more.
    fn drained(&mut self, id: &str, world: &World) -> Option<Fact> {
        let stream = world.streams.get(id)?;
        for fd in &stream.fds {
            let _ = close(*fd);
        }
        if let Err(why) = logs::writer::forget(&self.state_of(id)) {
            warn!("logger: {id}: {why}");
        }
        Some(Fact::Drained { id: id.to_owned() })
    }

    fn state_of(&self, id: &str) -> PathBuf {
        self.config.run.join("logs").join(id)
    }
}

/// Closes the pipes that a re-execution kept open and that no stream of the world has.
fn close_strays(world: &mut World) {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    let kept = numbers.filter(|fd| *fd > 2 && is_kept_pipe(*fd)).collect();
    for fd in strays(world, &kept) {
        let _ = close(fd);
    }
}

/// Of the pipes that were kept open those of no stream: of a start whose fact was cut off. Its run is started anew, and
/// nobody would ever close them. A stream whose own are not open any more was drained, and is forgotten.
fn strays(world: &mut World, kept: &BTreeSet<RawFd>) -> Vec<RawFd> {
    world.streams.retain(|_, stream| stream.fds.iter().all(|fd| kept.contains(fd)));
    let known: BTreeSet<RawFd> = world.streams.values().flat_map(|stream| stream.fds.clone()).collect();
    kept.difference(&known).copied().collect()
}

/// Whether it is a pipe that is not close-on-exec: all that this life has opened is.
fn is_kept_pipe(fd: RawFd) -> bool {
    let fd = borrow(fd);
    let kept = fcntl(fd, FcntlArg::F_GETFD).is_ok_and(|flags| flags & FdFlag::FD_CLOEXEC.bits() == 0);
    let pipe = || {
        fstat(fd)
            .is_ok_and(|about| SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
    };
    kept && pipe()
}

#[allow(unsafe_code)]
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: a stream's descriptors stay open until it is drained, and nothing else closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_whose_fact_was_cut_off_left_its_pipes_open() {
        let stream = |fds: &[RawFd]| Stream { log: "0.log".into(), fds: fds.to_vec() };
        let table: [(&[RawFd], &[RawFd], &[&str]); 4] = [
            (&[4, 5, 6, 7, 8], &[8], &["a", "b"]),
            (&[4, 5, 6, 7], &[], &["a", "b"]),
            // The death came between the end of a stream and its fact.
            (&[4, 5, 9], &[9], &["a"]),
            (&[], &[], &[]),
        ];
        for (kept, closed, known) in table {
            let mut world = World::default();
            world.streams.extend([("a".to_owned(), stream(&[4, 5])), ("b".to_owned(), stream(&[6, 7]))]);
            assert_eq!(strays(&mut world, &kept.iter().copied().collect()), closed, "{kept:?}");
            assert!(world.streams.keys().eq(known), "{kept:?}");
        }
    }

    #[test]
    fn a_helper_that_never_lasts_is_tried_for_ever_and_told_for_a_while() {
        let mut helpers = Helpers::new(&["net"]);
        let mut now = Tick::seconds(5);
        let mut waits = Vec::new();
        for _ in 0..TOLD {
            helpers.tried("net", now);
            assert!(!helpers.hushed("net", now), "{waits:?}");
            // It ends at once.
            let due = helpers.due("net").max(now);
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits, [0, 200, 400, 800, 1600, 3200, 6400, 6400, 6400, 6400]);
        for _ in 0..100 {
            helpers.tried("net", now);
            assert!(helpers.hushed("net", now) && !helpers.hushed("logger", now));
            assert_eq!(helpers.due("net"), now + Duration::from_millis(6400));
            now = helpers.due("net");
        }
        // This time it lasts.
        let end = now + STABLE;
        assert!(!helpers.hushed("net", end));
        helpers.tried("net", end);
        assert!(!helpers.hushed("net", end) && helpers.due("net") <= end);
    }
}
