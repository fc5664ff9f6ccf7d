//! The probes of all running containers: commands are tried from here, all others by the probe helper, which is told
//! what to watch. What is known only here (counters, due times) may be lost: verdicts are the world's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use log::warn;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::checks::{Check, Key, Purpose};
use super::{Hands, paths};
use crate::clock::Tick;
use crate::config::Config;
use crate::pod::agenda::Agenda;
use crate::pod::facts::{PodFacts, Run, Sandbox};
use crate::pod::probe::{Begin, KINDS, Order, Report, Told, Try, Watch, Worker, share, wanted};
use crate::pod::spec::{EnvValue, Handler, Probe};
use crate::pod::{Container, Fact, World, env};
use crate::spawn::spawn;

/// A helper that does not keep its own time limit is killed this long after it.
const LATE: Duration = Duration::from_secs(5);
/// When an order is tried again for which the socket had no room.
const FULL: Duration = Duration::from_millis(50);

pub struct Probes {
    /// Our end of the probe helper's socket.
    socket: Option<OwnedFd>,
    watched: BTreeMap<Key, Watched>,
    /// By the numbers that the helper knows them by.
    names: BTreeMap<u64, Key>,
    /// The pods of which what is watched may have to change, by uid.
    pub(super) changed: BTreeSet<String>,
    /// When each of those that are watched is to be seen to.
    agenda: Agenda<Key>,
    /// The last number that was given. None is given twice.
    last: u64,
    /// Runs from before this moment have been probed before: their first try of many is not made at once.
    since: Tick,
    /// There was a helper before.
    again: bool,
}

/// Who tries it.
enum Watched {
    Helper { id: u64, told: bool },
    Here { worker: Worker, flight: Option<Flight> },
}

/// A try that is being made.
struct Flight {
    helper: i32,
    late: Tick,
}

impl Probes {
    pub fn new() -> Self {
        Probes {
            socket: None,
            watched: BTreeMap::new(),
            names: BTreeMap::new(),
            changed: BTreeSet::new(),
            agenda: Agenda::default(),
            last: 0,
            since: Tick::now(),
            again: false,
        }
    }

    pub fn socket(&self) -> Option<RawFd> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Whether there must be a probe helper.
    pub fn needed(&self) -> bool {
        !self.names.is_empty()
    }

    /// The socket goes, and with it all that its other end knew.
    fn lost(&mut self) {
        self.socket = None;
        for watched in self.watched.values_mut() {
            if let Watched::Helper { told, .. } = watched {
                *told = false;
            }
        }
    }

    /// Starts the helper; what it is to watch is told by the next upkeep.
    pub fn start(&mut self, now: Tick) -> io::Result<i32> {
        if std::mem::replace(&mut self.again, true) {
            self.since = now;
        }
        self.lost();
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let pid = spawn(&["__probe"], &[(theirs.as_raw_fd(), 3)], None)?;
        self.socket = Some(ours);
        self.names.values().for_each(|key| self.agenda.set(key, Some(now)));
        Ok(pid)
    }

    /// False: there is no room now.
    fn tell(&mut self, order: &Order) -> bool {
        let Some(socket) = &self.socket else { return false };
        let bytes = match serde_json::to_vec(order) {
            Ok(bytes) => bytes,
            Err(why) => {
                warn!("probe: {why}");
                return true;
            }
        };
        match send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => false,
            Err(Errno::EMSGSIZE) => {
                warn!("probe: one of {} bytes is too long and not tried", bytes.len());
                true
            }
            // It is gone; its end will be reaped, and the next one told everything.
            Err(_) => {
                self.lost();
                false
            }
        }
    }
}

impl Hands {
    /// What is watched becomes what the world wants tried. Of pods that did not change it is what it was.
    pub(super) fn watch_probes(&mut self, world: &World, now: Tick) {
        for uid in std::mem::take(&mut self.probes.changed) {
            let wanted: Vec<_> = world.pods.get(&uid).into_iter().flat_map(all).collect();
            for key in self.probes.of_pod(&uid) {
                if !wanted.iter().any(|(wanted, ..)| *wanted == key) {
                    self.unwatch(&key);
                }
            }
            for (key, _, probe, run) in wanted {
                if !self.probes.watched.contains_key(&key) {
                    let watched = self.probes.begin(&key, probe, run, now);
                    self.probes.agenda.set(&key, Some(now));
                    self.probes.watched.insert(key, watched);
                }
            }
        }
    }

    fn unwatch(&mut self, key: &Key) {
        self.probes.agenda.set(key, None);
        match self.probes.watched.remove(key) {
            Some(Watched::Helper { id, told }) => {
                self.probes.names.remove(&id);
                // One that does not read is of no use: the next one is told everything but this.
                if told && !self.probes.tell(&Order::Forget { id }) {
                    self.probes.lost();
                }
            }
            Some(Watched::Here { flight: Some(flight), .. }) => {
                if let Some(check) = self.checks.get(&flight.helper) {
                    check.session.kill();
                }
            }
            Some(Watched::Here { flight: None, .. }) | None => {}
        }
    }

    /// Tells the helper what it does not know yet, and begins the tries that are due here. Returns what was learned,
    /// and when to look again.
    pub(super) fn try_probes(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        let mut facts = Vec::new();
        for key in self.probes.agenda.due(now) {
            let Some(pod) = world.pods.get(&key.uid) else { continue };
            let Some((_, container, probe, run)) = all(pod).find(|(wanted, ..)| *wanted == key) else {
                continue;
            };
            let again = match self.probes.watched.get_mut(&key) {
                Some(Watched::Helper { id, told: false }) => {
                    let id = *id;
                    if self.probes.socket.is_none() {
                        // Whoever starts the next helper sees to it.
                        continue;
                    }
                    let (address, space) = address(&self.config, pod);
                    let begin = self.probes.from(&key, run);
                    let watch = Watch { id, kind: key.kind, probe: probe.clone(), begin, address, space };
                    let done = self.probes.tell(&Order::Watch(Box::new(watch)));
                    match self.probes.watched.get_mut(&key) {
                        Some(Watched::Helper { told, .. }) if done => {
                            *told = true;
                            None
                        }
                        _ => Some(now + FULL),
                    }
                }
                Some(Watched::Here { flight: Some(flight), .. }) => {
                    if flight.late <= now {
                        if let Some(check) = self.checks.get(&flight.helper) {
                            check.session.kill();
                        }
                        flight.late = now + LATE;
                    }
                    Some(flight.late)
                }
                Some(Watched::Here { worker, flight }) => match worker.due() {
                    Some(due) if due <= now => {
                        let words = command(container, words(probe));
                        let purpose = Purpose::Probe(key.clone());
                        let limit = Some(probe.timeout);
                        match Check::command(&self.config, pod, (&key.container, run), &words, limit, purpose)
                        {
                            Ok(check) => {
                                let (helper, late) = (check.session.helper, now + probe.timeout + LATE);
                                *flight = Some(Flight { helper, late });
                                self.checks.insert(helper, check);
                                Some(late)
                            }
                            Err(why) => {
                                let error = Try::Error(format!("exec: {why}"));
                                facts.extend(tell(&key, worker.tried(error, now)));
                                worker.due()
                            }
                        }
                    }
                    due => due,
                },
                Some(Watched::Helper { told: true, .. }) | None => None,
            };
            self.probes.agenda.set(&key, again);
        }
        (facts, self.probes.agenda.first())
    }

    /// A try that was made here has ended.
    pub(super) fn probed(&mut self, key: &Key, helper: i32, result: Try) -> Vec<Fact> {
        match self.probes.watched.get_mut(key) {
            Some(Watched::Here { worker, flight }) if flight.as_ref().is_some_and(|f| f.helper == helper) => {
                *flight = None;
                let told = worker.tried(result, Tick::now());
                self.probes.agenda.set(key, worker.due());
                tell(key, told)
            }
            // Nobody wants to know any more.
            Some(_) | None => Vec::new(),
        }
    }

    /// What the probe helper tells, if its socket is among those that rang.
    pub(super) fn hear_probes(&mut self, ready: &[RawFd]) -> Vec<Fact> {
        let mut facts = Vec::new();
        let Some(socket) = self.probes.socket().filter(|socket| ready.contains(socket)) else { return facts };
        let mut buffer = [0; 16 << 10];
        loop {
            match recv(socket, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return facts,
                Ok(0) | Err(_) => {
                    self.probes.lost();
                    return facts;
                }
                Ok(length) => match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
                    Ok(Report { id, told }) => {
                        if let Some(key) = self.probes.names.get(&id) {
                            facts.extend(tell(key, vec![told]));
                        }
                    }
                    Err(why) => warn!("probe: a report: {why}"),
                },
            }
        }
    }
}

impl Probes {
    /// What is watched of a pod.
    fn of_pod(&self, uid: &str) -> Vec<Key> {
        let (container, run, kind) = (String::new(), 0, KINDS[0]);
        let least = Key { uid: uid.to_owned(), container, run, kind };
        let of = self.watched.range(least..).map(|(key, _)| key);
        of.take_while(|key| key.uid == uid).cloned().collect()
    }

    fn begin(&mut self, key: &Key, probe: &Probe, run: &Run, now: Tick) -> Watched {
        match &probe.handler {
            Handler::Exec(_) => {
                let worker = Worker::new(key.kind, probe, self.from(key, run), now);
                Watched::Here { worker, flight: None }
            }
            Handler::Http { .. } | Handler::Tcp { .. } | Handler::Grpc { .. } | Handler::Sleep(_) => {
                self.last += 1;
                self.names.insert(self.last, key.clone());
                Watched::Helper { id: self.last, told: false }
            }
        }
    }

    fn from(&self, key: &Key, run: &Run) -> Begin {
        let started = run.started.map_or(run.starting, |(at, _)| at);
        let late = started < self.since;
        let spread = late.then(|| share(&format!("{}/{}/{:?}", key.uid, key.container, key.kind)));
        Begin { started, verdict: run.verdict(key.kind), spread }
    }
}

/// All probes of a pod that are to be tried.
fn all(pod: &PodFacts) -> impl Iterator<Item = (Key, &Container, &Probe, &Run)> {
    pod.spec.all().flat_map(move |container| {
        KINDS.into_iter().filter_map(move |kind| {
            let (probe, run) = wanted(pod, container, kind)?;
            let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
            Some((Key { uid, container: name, run: run.number, kind }, container, probe, run))
        })
    })
}

fn tell(key: &Key, told: Vec<Told>) -> Vec<Fact> {
    let fact = |told| {
        let (uid, container, run, probe) = (key.uid.clone(), key.container.clone(), key.run, key.kind);
        match told {
            Told::Failed { error, why } => Fact::ProbeFailed { uid, container, run, probe, error, why },
            Told::Verdict { ok, why } => Fact::Probed { uid, container, run, probe, ok, why },
        }
    };
    told.into_iter().map(fact).collect()
}

fn words(probe: &Probe) -> &[String] {
    match &probe.handler {
        Handler::Exec(words) => words,
        Handler::Http { .. } | Handler::Tcp { .. } | Handler::Grpc { .. } | Handler::Sleep(_) => &[],
    }
}

/// A command with `$(VAR)` filled in, by the values that the manifest spells out and no others, as the kubelet's.
pub fn command(container: &Container, words: &[String]) -> Vec<String> {
    let value = |name: &str| {
        let var = container.env.iter().rev().find(|var| var.name == name)?;
        match &var.value {
            EnvValue::Literal(text) => Some(text.clone()),
            EnvValue::Field(_) | EnvValue::Resource(_) | EnvValue::Config { .. } | EnvValue::File { .. } => {
                None
            }
        }
    };
    words.iter().map(|word| env::expand(word, value)).collect()
}

/// Whom a handler without a host asks, and in which network: on the host's, the machine itself.
pub fn address(config: &Config, pod: &PodFacts) -> (String, Option<PathBuf>) {
    if pod.spec.host_network {
        return ("127.0.0.1".into(), None);
    }
    let ip = match &pod.sandbox {
        Sandbox::Ready { ip, .. } => ip.clone(),
        Sandbox::Absent | Sandbox::Failed { .. } => None,
    };
    let space = paths::pod(config, &pod.spec).sandbox.join("ns/net");
    (ip.unwrap_or_else(|| "127.0.0.1".into()), Some(space))
}
