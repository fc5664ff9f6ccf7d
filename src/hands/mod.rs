//! The hands: each action is carried out here, on a room or by a helper, and answered with facts.

mod checks;
mod collect;
mod exec;
mod fetch;
mod helpers;
mod hooks;
mod imports;
mod line;
mod logs;
mod names;
mod node;
mod paths;
mod pause;
mod probes;
mod pulls;
mod reaper;
mod resize;
mod run;
mod sandbox;
mod start;
mod sweep;
mod talk;
mod verify;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;

use crate::config::Config;
use crate::container::cgroup;
use crate::image::store::Store;
use crate::pod::facts::{ContainerFacts, PodFacts, Run};
use crate::pod::resources::Node;
use crate::pod::roll::Roll;
use crate::pod::{Action, Container, Fact, World, spec, sysctl};
use crate::spawn::spawn;
use crate::volume;

pub use exec::Session;
pub use reaper::Ended;

/// What the hands hold beside the world: descriptors and caches, nothing that a decision needs.
pub struct Hands {
    config: Config,
    store: Store,
    /// The cgroup controllers that this machine gives us.
    controllers: BTreeSet<String>,
    helpers: helpers::Helpers,
    /// Ended children that were nobody's yet: a container may end before its start helper's report is read.
    orphans: BTreeMap<i32, Ended>,
    /// What the node's own hosts file and resolv.conf were when the pods' were written.
    names: [names::Stamp; 2],
    probes: probes::Probes,
    /// Tries of probes and hooks under way, by their helpers.
    checks: BTreeMap<i32, checks::Check>,
    fetch: fetch::Fetch,
    flights: pulls::Flights,
    collection: collect::Collection,
    verify: verify::Verify,
    imports: imports::Imports,
    /// ConfigMaps and Secrets, as last listed.
    pub configs: Vec<Arc<spec::Config>>,
    /// Who is where among the pods.
    roll: Roll,
    /// Cgroups that are to go as soon as the last process in them has: what is killed takes its time to die.
    dying: BTreeSet<PathBuf>,
    /// What the machine has for pods, as last looked at.
    node: Node,
    /// What the files of the cgroup tree above the pods were last given.
    tree: BTreeMap<String, String>,
}

impl Hands {
    /// Prepares the cgroup tree. A missing controller is one warning here, and no limit later.
    pub fn new(config: &Config, duties: &'static [&'static str]) -> io::Result<Self> {
        let controllers = cgroup::prepare(&config.cgroup, &config.cgroup_parent)?;
        if !controllers.missing.is_empty() {
            warn!(
                "cgroup: no {} controller here: such limits have no effect",
                controllers.missing.join(", ")
            );
        }
        for why in config.allowed_sysctls.iter().filter_map(|text| sysctl::pattern(text).err()) {
            warn!("allowedUnsafeSysctls: {why}; it allows nothing");
        }
        let mut hands = Hands {
            config: config.clone(),
            store: Store::open(config.root.join("images")).over(&config.image_stores),
            controllers: controllers.available,
            helpers: helpers::Helpers::new(duties),
            orphans: BTreeMap::new(),
            names: [None; 2],
            probes: probes::Probes::new(),
            checks: BTreeMap::new(),
            fetch: fetch::Fetch::new(config),
            flights: pulls::Flights::default(),
            collection: collect::Collection::new(config),
            verify: verify::Verify::new(),
            imports: imports::Imports::default(),
            configs: Vec::new(),
            roll: Roll::default(),
            dying: BTreeSet::new(),
            node: Node::default(),
            tree: BTreeMap::new(),
        };
        hands.look_at_node();
        Ok(hands)
    }

    /// Hands that have prepared nothing.
    #[cfg(test)]
    fn idle(config: &Config) -> Self {
        Hands {
            config: config.clone(),
            store: Store::open(config.root.join("images")).over(&config.image_stores),
            controllers: BTreeSet::new(),
            helpers: helpers::Helpers::new(&[]),
            orphans: BTreeMap::new(),
            names: [None; 2],
            probes: probes::Probes::new(),
            checks: BTreeMap::new(),
            fetch: fetch::Fetch::new(config),
            flights: pulls::Flights::default(),
            collection: collect::Collection::new(config),
            verify: verify::Verify::new(),
            imports: imports::Imports::default(),
            configs: Vec::new(),
            roll: Roll::default(),
            dying: BTreeSet::new(),
            node: Node::default(),
            tree: BTreeMap::new(),
        }
    }

    /// The world learned this fact: its pod is looked at again.
    pub fn learned(&mut self, fact: &Fact, world: &World) {
        self.roll.learned(fact, world);
        if let Fact::Admitted { pod } = fact {
            self.collection.admitted(pod);
        }
        self.probes.changed.extend(fact.uid().map(str::to_owned));
    }

    /// The world is another one.
    pub fn look_at_all(&mut self, world: &World) {
        self.roll = Roll::of(world);
        self.probes.changed.extend(world.pods.keys().cloned());
    }

    /// Whether a start helper is at work.
    pub fn starting(&self) -> bool {
        self.roll.starting()
    }

    /// Does one thing. Trouble is a fact too.
    pub fn carry_out(&mut self, action: &Action, world: &World) -> Vec<Fact> {
        match action {
            Action::Admit(pod) => vec![Fact::Admitted { pod: pod.clone() }],
            Action::Dismiss { uid, why } => vec![Fact::Dismissed { uid: uid.clone(), why: *why }],
            Action::Reject { pod, reason, message } => {
                let (reason, message) = (reason.clone(), message.clone());
                vec![Fact::Rejected { pod: pod.clone(), reason, message }]
            }
            Action::Note(fact) => vec![Fact::Job(fact.clone())],
            Action::Withdraw { uid } => vec![Fact::Withdrawn { uid: uid.clone() }],
            Action::RestartAll { uid, container, run } => {
                vec![Fact::RestartAll { uid: uid.clone(), container: container.clone(), run: *run }]
            }
            Action::Expire { uid } => vec![Fact::Expired { uid: uid.clone() }],
            Action::BackOff { uid, container } => {
                vec![Fact::ImageBackOff { uid: uid.clone(), container: container.clone() }]
            }
            Action::Project { uid } => self.with_pod(world, uid, |hands, pod| vec![hands.project(pod)]),
            Action::Hook { uid, container, run, hook } => {
                self.with_container(world, uid, container, |hands, pod, container, facts| {
                    hands.hook(pod, container, facts, *run, *hook)
                })
            }
            Action::SetUp { uid } => self.with_pod(world, uid, |hands, pod| hands.set_up(pod, world)),
            Action::Allocate(pod) => vec![Fact::Allocated { pod: pod.clone() }],
            Action::Postpone { pod, reason, message } => {
                let (reason, message) = (reason.clone(), message.clone());
                vec![Fact::ResizePending { pod: pod.clone(), reason, message }]
            }
            Action::Resize { uid, of, grant } => {
                self.with_pod(world, uid, |hands, pod| hands.resize(pod, of.as_ref(), *grant))
            }
            Action::TearDown { uid, keep_logs } => {
                self.with_pod(world, uid, |hands, pod| vec![hands.tear_down(pod, *keep_logs)])
            }
            Action::Find { uid, container } => {
                self.with_container(world, uid, container, |hands, pod, container, _| {
                    hands.find(pod, container)
                })
            }
            Action::Start { uid, container, run } => {
                self.with_container(world, uid, container, |hands, pod, container, _| {
                    hands.start(pod, container, *run, &world.streams)
                })
            }
            Action::Signal { uid, container, run, kill } => {
                self.with_container(world, uid, container, |hands, pod, container, facts| {
                    hands.signal(pod, container, of(facts, *run), *run, *kill)
                })
            }
            Action::Clean { uid, container, run } => {
                self.with_container(world, uid, container, |hands, pod, container, _| {
                    hands.clean(pod, container, *run)
                })
            }
        }
    }

    fn with_pod(
        &mut self,
        world: &World,
        uid: &str,
        act: impl FnOnce(&mut Self, &PodFacts) -> Vec<Fact>,
    ) -> Vec<Fact> {
        world.pods.get(uid).map(|pod| act(self, pod)).unwrap_or_default()
    }

    fn with_container(
        &mut self,
        world: &World,
        uid: &str,
        name: &str,
        act: impl FnOnce(&mut Self, &PodFacts, &Container, Option<&ContainerFacts>) -> Vec<Fact>,
    ) -> Vec<Fact> {
        let Some(pod) = world.pods.get(uid) else { return Vec::new() };
        match pod.spec.container(name) {
            Some(container) => act(self, pod, container, pod.containers.get(name)),
            None => Vec::new(),
        }
    }
}

/// The facts of one run, if it is still known.
fn of(facts: Option<&ContainerFacts>, number: u32) -> Option<&Run> {
    let facts = facts?;
    [facts.run.as_ref(), facts.last.as_ref()].into_iter().flatten().find(|run| run.number == number)
}

/// Has a helper bring a file from memory to the disk; returns its pid.
pub fn keep(from: &str, to: &str) -> io::Result<i32> {
    spawn(&["__keep", from, to], &[], None)
}

/// Removes a tree that holds no mount any more, however deep; not being there is fine.
fn remove_tree(path: &Path) -> io::Result<()> {
    volume::remove_tree(path)
}

impl Hands {
    /// The machine's addresses: IPv4 before IPv6, no loopback and no link-local ones.
    pub fn addresses(&self) -> Vec<String> {
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for address in interfaces.filter_map(|interface| interface.address) {
            if let Some(found) = address.as_sockaddr_in().map(|a| a.ip()).filter(|ip| !ip.is_loopback()) {
                four.push(found.to_string());
            }
            let global = |ip: &std::net::Ipv6Addr| !ip.is_loopback() && !ip.is_unicast_link_local();
            if let Some(found) = address.as_sockaddr_in6().map(|a| a.ip()).filter(global) {
                six.push(found.to_string());
            }
        }
        four.extend(six);
        four
    }
}
