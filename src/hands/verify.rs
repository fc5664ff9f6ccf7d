//! Images read in full by a helper, behind everybody else: all in use when the pods are up and then from time to time,
//! and those of a container at once whose end damage would explain.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use log::warn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, Hands, talk};
use crate::clock::Tick;
use crate::image::repair::{Cure, Finding};
use crate::image::verify::{Answer, Request};
use crate::pod::facts::{PodFacts, World};
use crate::pod::spec::PullPolicy;
use crate::pod::verify::{Due, due, images_of};
use crate::pod::{Container, Fact};

/// What it may have: a copy's pages are the disk's to take back.
const MEMORY: u64 = 64 << 20;
/// While containers start or images come, a reading of all waits, but no longer than this.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long until it looks again whether they still do.
const BUSY: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const LONGEST: u64 = 4 << 20;
/// How its cgroup is named, below our own.
pub(super) const PREFIX: &str = "verify-";

pub struct Verify {
    born: Tick,
    reading: Option<Reading>,
    /// Images that are damaged as far as a look tells.
    wishes: BTreeSet<String>,
    /// Nothing is wanted any more.
    over: bool,
}

struct Reading {
    helper: i32,
    group: PathBuf,
    answer: File,
    begun: Tick,
    all: bool,
    images: Vec<String>,
}

impl Verify {
    pub fn new() -> Self {
        Verify { born: Tick::now(), reading: None, wishes: BTreeSet::new(), over: false }
    }

    /// A look into the store found this image damaged.
    pub fn wish(&mut self, image: &str) {
        self.wishes.insert(image.to_owned());
    }
}

impl Hands {
    /// Begins what is due. Returns what was learned, and when to look again.
    pub(super) fn tend_verify(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        if self.verify.over || self.verify.reading.is_some() {
            return (Vec::new(), None);
        }
        let rules = (self.config.image_verify, self.verify.born);
        let (what, wake_at) = due(world, self.roll.suspects(), &self.verify.wishes, rules, now);
        let (all, images) = match what {
            None => return (Vec::new(), wake_at),
            Some(Due::All) if self.is_busy() && now < self.verify.born + PATIENCE => {
                return (Vec::new(), Some(now + BUSY));
            }
            Some(Due::All) => {
                let all = users(world).flat_map(|(_, pod, container)| images_of(&pod.spec, container));
                (true, all.map(str::to_owned).collect::<BTreeSet<_>>())
            }
            Some(Due::Images(images)) => (false, images),
        };
        let images: Vec<String> = images.into_iter().collect();
        self.verify.wishes.clear();
        match self.read(all, images.clone(), now) {
            Ok(reading) => {
                self.verify.reading = Some(reading);
                (Vec::new(), None)
            }
            Err(why) => {
                warn!("images: cannot be verified: {why}");
                (vec![Fact::Verified { begun: now, images, all, damaged: Vec::new() }], None)
            }
        }
    }

    fn read(&mut self, all: bool, images: Vec<String>, now: Tick) -> io::Result<Reading> {
        let request = Request {
            store: std::path::absolute(self.config.root.join("images"))?,
            sources: self.config.image_stores.clone(),
            images: images.clone(),
            mounts: self.config.run.join("layers"),
        };
        let (asked, answer) = talk::ask(&request)?;
        let fds = [(asked.as_raw_fd(), 3), (answer.as_raw_fd(), 4)];
        let (helper, group) = self.spawn_bounded(&["__verify"], &fds, (PREFIX, MEMORY))?;
        // A controller that is not there bounds nobody.
        let _ = fs::write(group.join("cpu.idle"), "1");
        Ok(Reading { helper, group, answer, begun: now, all, images })
    }

    fn is_busy(&self) -> bool {
        self.roll.starting() || self.pulling()
    }

    /// What a reading found, if this child was its helper.
    pub(super) fn verified(&mut self, pid: i32, ended: Ended, world: &World) -> Option<Vec<Fact>> {
        let reading = self.verify.reading.take_if(|reading| reading.helper == pid)?;
        self.drop_cgroup(reading.group.clone());
        if self.verify.over {
            return Some(Vec::new());
        }
        let answer = reading.outcome(ended).unwrap_or_else(|why| {
            warn!("images: not verified: {why}");
            Answer::default()
        });
        answer.troubles.iter().for_each(|why| warn!("images: not verified: {why}"));
        let mut facts = Vec::new();
        for (uid, pod, container) in users(world) {
            let found = images_of(&pod.spec, container).filter_map(|image| answer.damaged.get(image));
            let found: Vec<&Finding> = found.flatten().collect();
            if !found.is_empty() {
                let (uid, name) = (uid.clone(), container.name.clone());
                let layer = found.iter().any(|finding| finding.layer);
                facts.push(Fact::ImageDamaged { uid, container: name, what: told(&found, container), layer });
            }
        }
        let Reading { begun, images, all, .. } = reading;
        let damaged = answer.damaged.into_keys().collect();
        facts.push(Fact::Verified { begun, images: if all { Vec::new() } else { images }, all, damaged });
        Some(facts)
    }

    /// Nothing is wanted any more, so nothing is read.
    pub fn verify_no_more(&mut self) {
        self.verify.over = true;
        if let Some(reading) = &self.verify.reading {
            let _ = kill(Pid::from_raw(reading.helper), Signal::SIGKILL);
        }
    }
}

/// The containers that may have use for an image.
fn users(world: &World) -> impl Iterator<Item = (&String, &PodFacts, &Container)> {
    let pods = world.pods.iter().filter(|(_, pod)| pod.stopping().is_none());
    pods.flat_map(|(uid, pod)| pod.spec.all().map(move |container| (uid, pod, container)))
}

/// What was found, and what is done about it.
fn told(found: &[&Finding], container: &Container) -> String {
    let what: Vec<String> = found.iter().map(ToString::to_string).collect();
    let lost = found.iter().any(|finding| finding.cure == Cure::Aside);
    let then = match (lost, container.pull) {
        (false, _) => "",
        (true, PullPolicy::Never) => ": import it again; what runs from it runs on until then",
        (true, PullPolicy::Always | PullPolicy::IfNotPresent) => {
            ": it is pulled again; what runs from it runs on until then"
        }
    };
    format!("{}{then}", what.join("; "))
}

impl Reading {
    fn outcome(&self, ended: Ended) -> Result<Answer, String> {
        let bytes = talk::heard(&self.answer, LONGEST).map_err(|why| why.to_string())?;
        match ended.code {
            0 => serde_json::from_slice(&bytes).map_err(|why| why.to_string()),
            1 => Err(String::from_utf8_lossy(&bytes).into_owned()),
            code => Err(format!("its helper ended with exit code {code}")),
        }
    }
}
