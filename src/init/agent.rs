//! The loop: wait, look, learn, plan, act; one action, then look again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use log::{error, info, warn};
use nix::poll::PollFlags;

use crate::clock::{Tick, Wall};
use crate::config::Config;
use crate::fatal;
use crate::hands::{Ended, Hands, Session};
use crate::ledger::{Ledger, MemoryFile};
use crate::machine::Machine;
use crate::manifest::{Dir, Http};
use crate::operator::request::Power;
use crate::operator::socket::{ConnectionId, Listener};
use crate::pages;
use crate::pod::batch::facts::{Batch, JobFact, Memory};
use crate::pod::{Desired, Fact, Planner, Step, World, collect, kept, project};
use crate::senses::{News, Senses};

use super::doom::Doom;

/// A turn that does more than this many things is not getting anywhere: it is said, and looked at again a second later.
const BUSY: usize = 20_000;

/// What an ending machine allows beyond the pods' grace before it goes down regardless.
const LAST_CALL: Duration = Duration::from_secs(15);

/// After so long without a fact the present work is over.
const QUIET: Duration = Duration::from_secs(10);

pub struct Agent {
    pub(super) config: Config,
    pub(super) world: World,
    pub(super) hands: Hands,
    pub(super) machine: Option<Machine>,
    /// None where the socket could not be made: pods run all the same.
    pub(super) operator: Option<Listener>,
    /// By their helpers' pids: the commands in containers, and who waits for their ends; None: who waited has left.
    pub(super) sessions: BTreeMap<i32, (Session, Option<ConnectionId>)>,
    /// How the machine is to end, and since when.
    pub(super) ending: Option<(Power, Tick)>,
    /// Start helpers that a test wants killed.
    pub(super) doom: Doom,
    planner: Planner,
    ledger: Option<Ledger>,
    pub(super) memory: MemoryFile,
    /// Something happened to a Job since it was last written.
    pub(super) unwritten: bool,
    dir: Dir,
    http: Option<Http>,
    senses: Senses,
    listed: Option<Tick>,
    /// When the last fact was learned, and whether what it took has been given back.
    learned: Tick,
    lean: bool,
}

impl Agent {
    /// A first life begins with what it finds removed; a later one goes on from the ledger.
    pub fn new(
        config: Config,
        machine: Option<Machine>,
        duties: &'static [&'static str],
    ) -> io::Result<Self> {
        let mut dir = Dir::new(config.manifests.clone(), config.node_name.clone());
        let mut hands = Hands::new(&config, duties)?;
        let (ledger, world) = remembered(&config, &mut hands, &mut dir);
        dir.remember(
            world
                .pods
                .values()
                .filter(|pod| pod.dismissed.is_none() && pod.spec.owner.is_none())
                .map(|pod| pod.spec.clone()),
        );
        dir.remember_configs(world.configs.values().cloned());
        let mut http = config.static_pod_url.clone().map(|url| Http::new(url, config.node_name.clone()));
        if let Some(http) = &mut http {
            let pods = world.pods.values().filter(|pod| pod.dismissed.is_none());
            http.remember(pods.map(|pod| pod.spec.clone()), world.configs.values().cloned());
        }
        let senses = Senses::open(&config.manifests)?;
        let socket = config.run.join("podinit.sock");
        let operator = Listener::bind(&socket).map_err(|why| error!("operator: no socket: {why}")).ok();
        let desired = Desired {
            returns: machine.is_some(),
            restart_cap: Some(config.restart_cap),
            ending_grace: Some(config.ending_grace),
            ending_grace_critical: config.ending_grace_critical,
            ..Desired::default()
        };
        // Off a board nothing outlives `podinit run`, unless it is killed.
        let (memory, remembered) =
            MemoryFile::open(if machine.is_some() { &config.root } else { &config.run }, &config.run);
        let remembered = remembered.unwrap_or_else(|why| {
            error!("jobs: {why}: Jobs that have run are not known, and run again");
            Memory::default()
        });
        hands.look_at_all(&world);
        let planner = Planner::new(desired, &world);
        // A former life may have died before it wrote down what it knew.
        let unwritten = world.batch != Batch::default();
        let mut agent = Agent {
            config,
            world,
            hands,
            machine,
            operator,
            sessions: BTreeMap::new(),
            ending: None,
            doom: Doom::default(),
            planner,
            ledger,
            memory,
            unwritten,
            dir,
            http,
            senses,
            listed: None,
            learned: Tick::now(),
            lean: false,
        };
        // What a former life of this boot knew is on the ledger.
        if agent.world.batch == Batch::default() && remembered != Memory::default() {
            agent.learn(Fact::Job(JobFact::Recalled { memory: remembered }));
        }
        Ok(agent)
    }

    /// Lives until an end is wanted and everything of the pods is gone. Tells which end.
    pub fn live(&mut self) -> Power {
        // What ended between two lives rings no more.
        for (pid, ended) in self.hands.missed(&self.world) {
            self.child(pid, ended);
        }
        self.reap();
        loop {
            let wake_at = self.turn();
            if let Some((power, since)) = self.ending {
                let late = Tick::now() >= since + self.config.ending_grace + LAST_CALL;
                if self.world.pods.is_empty() && !self.memory.busy() || late {
                    if late {
                        warn!("podinit: {} pods did not end in time", self.world.pods.len());
                    }
                    return power;
                }
            }
            self.rest();
            let polled = self.polled();
            let news = self.senses.wait(wake_at, &polled);
            fatal::grow_old();
            self.look(news);
        }
    }

    /// Nothing is due. Unless a start is under way, what could wait is done; and after a while without a fact, what only
    /// work needs is given back: done at each rest it made a start 8 % longer, so not between two of them.
    fn rest(&mut self) {
        if self.hands.starting() {
            return;
        }
        if let Some(machine) = &mut self.machine {
            machine.settle();
        }
        // No timer of its own: the next listing is early enough.
        if !self.lean && Tick::now() >= self.learned + QUIET {
            self.lean = true;
            pages::give_back();
        }
    }

    /// Observes what the news point to, and learns it.
    fn look(&mut self, news: News) {
        if news.children {
            self.reap();
        }
        if self.machine.is_none() {
            if news.terminate || news.interrupt {
                self.signalled();
            }
        } else if news.terminate {
            self.end(Power::Poweroff);
        } else if news.interrupt {
            // Ctrl-Alt-Del.
            self.end(Power::Reboot);
        }
        if news.manifests || news.hangup {
            self.listed = None;
        }
        for fact in self.hands.heard(&news.ready, &self.world) {
            self.learn(fact);
        }
        // An answer takes as much as a fact.
        self.lean &= news.ready.is_empty();
        self.serve();
        self.heed_machine(&news.ready);
    }

    /// Does everything that is due. Returns when to look again.
    fn turn(&mut self) -> Option<Tick> {
        let listing = self.list();
        self.doom.strike(&self.world, Tick::now());
        let (mut wake_at, mut upkeep) = (None, None);
        for step in 0.. {
            let now = Tick::now();
            self.planner.at(Wall::now());
            let next = self.planner.next(&self.world, now);
            if step >= BUSY {
                error!("podinit: {BUSY} steps in one turn, next: {next:?}");
                wake_at = Some(now + Duration::from_secs(1));
                break;
            }
            let action = match next {
                Step::Act(action) => action,
                Step::Rest(until) => {
                    wake_at = until;
                    let (mut facts, next) = self.hands.upkeep(&self.world, now);
                    upkeep = next;
                    facts.extend(self.remember(now));
                    if facts.is_empty() {
                        break;
                    }
                    // They may change what is due.
                    facts.into_iter().for_each(|fact| self.learn(fact));
                    continue;
                }
            };
            for fact in self.hands.carry_out(&action, &self.world) {
                self.doom.choose(&fact);
                self.learn(fact);
            }
        }
        let deadline = self.ending.map(|(_, since)| since + self.config.ending_grace + LAST_CALL);
        [wake_at, upkeep, listing, deadline, self.doom.next()].into_iter().flatten().min()
    }

    /// Lists the manifests when it is time, or when they changed. Returns when it is time again.
    fn list(&mut self) -> Option<Tick> {
        if self.ending.is_some() {
            return None;
        }
        let now = Tick::now();
        let due = self.listed.map(|last| last + self.config.file_check);
        if due.is_some_and(|due| now < due) {
            return due;
        }
        self.hands.follow_names(&self.world);
        self.senses.watch();
        let mut listing = self.dir.list();
        if let Some(http) = &self.http {
            http.join(&mut listing);
        }
        // What a refused manifest wants is not known, nor what a URL wants that has not answered yet.
        let certain = self.http.as_ref().is_none_or(Http::answered)
            && !listing.problems.iter().any(|problem| problem.refused);
        if certain {
            self.hands.forget(&self.world, &listing.pods);
        }
        self.hands.configs.clone_from(&listing.configs);
        for fact in kept::news(&self.world, &listing.configs) {
            self.learn(fact);
        }
        let node = self.hands.look_at_node();
        // The pods of Jobs are of no listing.
        let owned = self.world.pods.values().filter(|pod| pod.spec.owner.is_some()).map(|pod| &pod.spec);
        let all: Vec<_> = listing.pods.iter().chain(owned).cloned().collect();
        let projections = project::digests(&all, &listing.configs);
        let (pods, jobs, crons) = (listing.pods, listing.jobs, listing.crons);
        let former = self.planner.desired().clone();
        self.planner.want(Desired { pods, jobs, crons, certain, projections, node, ..former });
        self.hands.want_images(collect::wanted(self.planner.desired()), certain);
        if listing.problems != self.world.problems {
            self.learn(Fact::Listed { problems: listing.problems });
        }
        self.listed = Some(now);
        Some(now + self.config.file_check)
    }

    /// Files a fact: told, learned, and written down before anything is done about it.
    pub(super) fn learn(&mut self, fact: Fact) {
        let now = Tick::now();
        if let Some(line) = fact.line(&self.world)
            && !self.hands.hushed(&fact, now)
        {
            info!("{line}");
        }
        let of_job = matches!(&fact, Fact::Admitted { pod } if pod.owner.is_some());
        self.unwritten |= of_job || matches!(&fact, Fact::Job(_));
        self.world.learn(fact.clone(), now);
        self.planner.learned(&fact, &self.world);
        self.hands.learned(&fact, &self.world);
        (self.learned, self.lean) = (now, false);
        if let Some(Err(why)) = self.ledger.as_mut().map(|ledger| ledger.note(&fact, now, &self.world)) {
            error!("ledger: {why}: until there is room a re-execution would start from nothing");
        }
    }

    /// Learns of every child that has ended, each before it is reaped.
    pub(super) fn reap(&mut self) {
        while let Some((pid, ended)) = self.hands.met() {
            self.child(pid, ended);
            if !self.hands.bury(pid) {
                error!("podinit: child {pid} ended and cannot be reaped");
                break;
            }
        }
        self.hands.drop_dying();
    }

    fn child(&mut self, pid: i32, ended: Ended) {
        if let Some((session, connection)) = self.sessions.remove(&pid) {
            return match connection {
                Some(connection) => self.answer_session(connection, ended.code),
                None => session.close(),
            };
        }
        if let Some(answer) = self.hands.fetched(pid, ended) {
            if self.http.as_mut().is_some_and(|http| http.hear(answer)) {
                self.listed = None;
            }
            return;
        }
        let facts = self.remembered(pid, ended.code);
        for fact in facts.unwrap_or_else(|| self.hands.ended(pid, ended, &self.world)) {
            self.learn(fact);
        }
    }

    /// From now on nothing is wanted. A second wish may turn a reboot into a power off, never undo it.
    pub(super) fn end(&mut self, power: Power) {
        if self.ending.is_none() {
            match self.machine {
                Some(_) => info!("podinit: ending: {}", format!("{power:?}").to_lowercase()),
                None => {
                    info!("podinit: ending: pods get their grace, a second signal (Ctrl-C) cuts it short")
                }
            }
        }
        self.hands.fetch_no_more();
        self.hands.pull_no_more();
        self.hands.collect_no_more();
        self.hands.verify_no_more();
        let since = self.ending.map_or_else(Tick::now, |(_, since)| since);
        self.ending = Some((power, since));
        self.planner.want(Desired { ending: true, ..self.planner.desired().clone() });
    }

    /// SIGTERM or SIGINT off a board: the first ends in order, a second one hurries.
    fn signalled(&mut self) {
        let desired = self.planner.desired();
        if self.ending.is_some() && desired.ending_grace != Some(Duration::ZERO) {
            info!("podinit: ending at once: what still runs is killed");
            self.planner.want(Desired { ending_grace: Some(Duration::ZERO), ..desired.clone() });
        }
        self.end(Power::Poweroff);
    }

    /// The end of `podinit run`: nothing of it stays. Whether all pods had ended.
    pub fn leave(&mut self) -> bool {
        for (session, _) in std::mem::take(&mut self.sessions).into_values() {
            session.kill();
        }
        self.operator = None;
        self.hands.leave(&self.world);
        self.world.pods.is_empty()
    }

    fn polled(&self) -> Vec<(RawFd, PollFlags)> {
        let mut polled = self.hands.polls();
        polled.extend(self.operator.iter().flat_map(Listener::polls));
        if let Some(machine) = &self.machine {
            polled.extend(
                machine.uevents.iter().map(|uevents| (uevents.as_fd().as_raw_fd(), PollFlags::POLLIN)),
            );
            polled.extend(machine.buttons.fds().map(|fd| (fd.as_raw_fd(), PollFlags::POLLIN)));
        }
        polled
    }

    fn heed_machine(&mut self, ready: &[RawFd]) {
        let Some(machine) = &mut self.machine else { return };
        if machine.uevents.as_ref().is_some_and(|uevents| ready.contains(&uevents.as_fd().as_raw_fd())) {
            machine.device_news();
        }
        let rung = machine.buttons.fds().any(|fd| ready.contains(&fd.as_raw_fd()));
        if rung && machine.buttons.pressed() {
            info!("machine: power button pressed");
            self.end(Power::Poweroff);
        }
    }
}

/// The ledger and the world of a former life, or new ones. Without a ledger pods run all the same.
fn remembered(config: &Config, hands: &mut Hands, dir: &mut Dir) -> (Option<Ledger>, World) {
    if let Some(deaths) = fatal::resumed() {
        warn!("podinit: re-executed after death {deaths}");
        if deaths < fatal::SUSPECT {
            match Ledger::resume(&config.run) {
                Ok((ledger, world)) => return (Some(ledger), hands.resume(world)),
                Err(why) => error!("ledger: cannot be read, starting over: {why}"),
            }
        } else {
            error!("podinit: {deaths} deaths in a row: the ledger is not trusted, starting over");
        }
    }
    let listing = dir.list();
    // What a refused manifest wants is not known, nor what a URL does.
    let certain = config.static_pod_url.is_none() && !listing.problems.iter().any(|problem| problem.refused);
    let wanted: BTreeSet<_> = listing.pods.iter().map(|pod| pod.uid.clone()).collect();
    hands.sweep(certain.then_some(&wanted));
    let ledger = Ledger::create(&config.run).map_err(|why| error!("ledger: {why}")).ok();
    (ledger, World::default())
}
