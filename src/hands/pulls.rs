//! Images on their way: a helper for each pull, in a cgroup of its own, which PID 1 does not wait for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use log::warn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, Hands, paths};
use crate::clock::Tick;
use crate::config::Proxies;
use crate::container::cgroup;
use crate::image::pull::{DONE, FAILED, Files, Report, Request, sum};
use crate::image::{Reference, platform::Platform};
use crate::pod::facts::{Image, PodFacts, Pulled, World};
use crate::pod::pulls::{Pulls, Who};
use crate::pod::spec::PullPolicy;
use crate::pod::{Container, Fact};
use crate::spawn::spawn;
use crate::volume;

/// What a pull may have: several times what it needs, but for layers by zstd with very large windows.
const MEMORY: u64 = 192 << 20;
/// A pull that does not move for so long is ended (containerd's image_pull_progress_timeout).
const STUCK: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Flights {
    pulls: Pulls,
    /// By image.
    flying: BTreeMap<String, Flight>,
    /// When each began to wait.
    since: BTreeMap<Who, Tick>,
    /// A former life's pulls were looked for.
    resumed: bool,
    /// Nothing is wanted any more.
    over: bool,
    count: u32,
}

struct Flight {
    helper: i32,
    group: PathBuf,
    files: Files,
    begun: Tick,
    /// How far it was, and when it last moved.
    seen: (u64, Tick),
    killed: bool,
}

impl Hands {
    /// Sees to a container's image and those of its volumes: what is not there, or always to be asked for, is pulled.
    pub(super) fn find(&mut self, pod: &PodFacts, container: &Container) -> Vec<Fact> {
        let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
        let own = || vec![container.image.clone()];
        match self.needs(pod, container) {
            // What is missing may come from an archive yet.
            Err(why) if self.importing() && !why.starts_with("InvalidImageName") => {
                self.wait(uid, name, own())
            }
            Err(why) => vec![Fact::ImageMissing { uid, container: name, why }],
            Ok((Some(id), needs)) if needs.is_empty() => {
                vec![Fact::ImageFound { uid, container: name, id, pulled: None }]
            }
            Ok((_, needs)) => self.wait(uid, name, needs),
        }
    }

    fn wait(&mut self, uid: String, container: String, needs: Vec<String>) -> Vec<Fact> {
        self.flights.since.insert((uid.clone(), container.clone()), Tick::now());
        self.flights.pulls.want((uid.clone(), container.clone()), needs);
        vec![Fact::ImagePulling { uid, container }]
    }

    /// The import has ended: who waits is seen to anew, and what is still missing is pulled.
    pub(super) fn look_again(&mut self, world: &World) -> Vec<Fact> {
        let mut facts = Vec::new();
        for who in self.flights.pulls.waiting() {
            let (uid, container) = who.clone();
            let spec = world.pods.get(&uid).and_then(|pod| Some((pod, pod.spec.container(&container)?)));
            let Some((pod, spec)) = spec else { continue };
            match self.needs(pod, spec) {
                Err(why) => facts.push(Fact::ImageMissing { uid, container, why }),
                Ok((Some(id), needs)) if needs.is_empty() => {
                    facts.push(Fact::ImageFound { uid, container, id, pulled: None });
                }
                Ok((_, needs)) => {
                    self.flights.pulls.want(who, needs);
                    continue;
                }
            }
            self.flights.pulls.keep(|other| *other != who);
            self.flights.since.remove(&who);
        }
        facts
    }

    /// The id of the container's image where it is there, and what is to be pulled, in full form.
    fn needs(&self, pod: &PodFacts, container: &Container) -> Result<(Option<String>, Vec<String>), String> {
        // Images of its volumes are pulled with its own (kubelet: getImageVolumes), and their trouble is its.
        let own = [(container.image.as_str(), container.pull)];
        let (mut id, mut needs) = (None, Vec::new());
        for (at, (image, pull)) in own.into_iter().chain(volume::images(&pod.spec, container)).enumerate() {
            let full = Reference::parse(image).map_err(|why| format!("InvalidImageName: {why}"))?.to_string();
            let found = self.store.find(image).map(|found| found.map(|found| found.id));
            match (found, pull) {
                (Ok(Some(found)), PullPolicy::IfNotPresent | PullPolicy::Never) => {
                    id = if at == 0 { Some(found) } else { id };
                }
                (Ok(None), PullPolicy::Never) => {
                    return Err(format!(
                        "ErrImageNeverPull: Container image \"{image}\" is not present with pull policy of Never"
                    ));
                }
                (Err(why), PullPolicy::Never) => return Err(format!("ImageInspectError: {why}")),
                (Err(why), PullPolicy::IfNotPresent | PullPolicy::Always) => {
                    // What is damaged is had anew.
                    warn!("image store: {why}: {image} is pulled again");
                    needs.push(full);
                }
                (Ok(_), PullPolicy::Always) | (Ok(None), PullPolicy::IfNotPresent) => needs.push(full),
            }
        }
        Ok((id, needs))
    }

    /// The id of the container's image, where it and those of its volumes are in the store.
    fn there(&self, pod: &PodFacts, container: &Container) -> Result<String, String> {
        let find = |image: &str| self.store.find(image)?.ok_or_else(|| "it is gone again".to_owned());
        for (image, _) in volume::images(&pod.spec, container) {
            find(image)?;
        }
        find(&container.image).map(|found| found.id)
    }

    /// Begins the pulls whose turn it is, and ends those that nobody wants or that stand still. Returns what was learned,
    /// and when to look again.
    pub(super) fn tend_pulls(&mut self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        if !self.flights.resumed {
            self.flights.resumed = true;
            self.resume_pulls(world);
        }
        let mut facts = if self.tend_imports() { self.look_again(world) } else { Vec::new() };
        if self.flights.pulls.is_empty() && self.flights.flying.is_empty() {
            return (facts, None);
        }
        let over = self.flights.over;
        let waits = |(uid, name): &Who| {
            let facts = world.pods.get(uid).filter(|pod| !over && pod.stopping().is_none());
            let facts = facts.and_then(|pod| pod.containers.get(name));
            facts.is_some_and(|facts| matches!(facts.image, Image::Pulling { .. }))
        };
        for image in self.flights.pulls.keep(waits) {
            self.flights.flying.get_mut(&image).into_iter().for_each(Flight::kill);
        }
        self.flights.since.retain(|who, _| waits(who));
        let most = if self.importing() { 0 } else { self.config.parallel_pulls() };
        while let Some(image) = self.flights.pulls.next(most) {
            match self.take_off(&image, now) {
                Ok(flight) => drop(self.flights.flying.insert(image, flight)),
                Err(why) => {
                    facts.extend(self.landed(&image, Err(format!("cannot start: {why}")), now, world))
                }
            }
        }
        let wake_at = self.flights.flying.values_mut().filter_map(|flight| flight.look(now)).min();
        (facts, wake_at)
    }

    /// A former life's helpers told it alone: they are ended, and the same containers wait again.
    fn resume_pulls(&mut self, world: &World) {
        for (uid, pod) in &world.pods {
            let pulling =
                pod.containers.iter().filter(|(_, facts)| matches!(facts.image, Image::Pulling { .. }));
            for (name, _) in pulling {
                let who = (uid.clone(), name.clone());
                if let Some(spec) = pod.spec.container(name).filter(|_| !self.flights.pulls.wanted_by(&who)) {
                    // All who wait are looked at anew, before the first pull begins.
                    self.flights.pulls.want(who, [spec.image.clone()]);
                }
            }
        }
    }

    fn take_off(&mut self, image: &str, now: Tick) -> io::Result<Flight> {
        let request = Request {
            image: image.to_owned(),
            platform: Platform::host(),
            store: std::path::absolute(self.config.root.join("images"))?,
            behind: self.config.image_stores.clone(),
            registries: self.config.registries.clone(),
            proxies: Proxies::environment(),
            keyrings: ["config.json", ".docker/config.json"]
                .iter()
                .zip([self.config.root.clone(), PathBuf::from("/")])
                .map(|(file, folder)| folder.join(file))
                .collect(),
            login: None,
        };
        let files = Files::of(&request)?;
        let group = self.pull_group()?;
        let spawned = spawn(&["__pull"], &files.fds(), Some(&group));
        if spawned.is_err() {
            let _ = fs::remove_dir(&group);
        }
        let helper = spawned?;
        Ok(Flight { helper, group, files, begun: now, seen: (0, now), killed: false })
    }

    /// A new cgroup for what unpacks images, with its limit of memory.
    pub(super) fn pull_group(&mut self) -> io::Result<PathBuf> {
        self.flights.count = self.flights.count.wrapping_add(1);
        let name = format!("{}/{PREFIX}{}", self.config.cgroup_parent, self.flights.count);
        let group = paths::cgroup(&self.config, &name);
        fs::create_dir_all(&group)?;
        if self.controllers.contains("memory")
            && let Err(why) = fs::write(group.join("memory.max"), MEMORY.to_string())
        {
            warn!("pull: its memory is not limited: {why}");
        }
        Ok(group)
    }

    /// What became of a pull, if this child was its helper.
    pub(super) fn pulled(&mut self, pid: i32, ended: Ended, world: &World) -> Option<Vec<Fact>> {
        let image = self.flights.flying.iter().find(|(_, flight)| flight.helper == pid)?.0.clone();
        let flight = self.flights.flying.remove(&image)?;
        let oom = cgroup::oom_kills(&flight.group) > 0;
        self.drop_cgroup(flight.group.clone());
        let now = Tick::now();
        let begun = flight.begun;
        let outcome = flight.outcome(ended, oom).map(|report| (report, begun));
        Some(self.landed(&image, outcome, now, world))
    }

    fn landed(
        &mut self,
        image: &str,
        outcome: Result<(Report, Tick), String>,
        now: Tick,
        world: &World,
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        for who in self.flights.pulls.ended(image, outcome.is_ok()) {
            let since = self.flights.since.remove(&who);
            let (uid, container) = who;
            let spec = world.pods.get(&uid).and_then(|pod| Some((pod, pod.spec.container(&container)?)));
            let all = spec.map_or(Err("it is gone again".to_owned()), |(pod, spec)| self.there(pod, spec));
            let millis = |from: Tick| u64::try_from((now - from).as_millis()).unwrap_or(u64::MAX);
            let pulled = outcome.as_ref().ok().map(|(report, begun)| Pulled {
                millis: millis(*begun),
                waited: millis(since.unwrap_or(*begun).min(*begun)),
                size: report.size,
            });
            match (all, &outcome) {
                (Ok(id), Ok(_)) => facts.push(Fact::ImageFound { uid, container, id, pulled }),
                (Err(why), Ok(_)) => facts.push(Fact::ImageMissing { uid, container, why }),
                (all, Err(why)) => {
                    // A registry that is gone costs nobody what is there already; the pull's end is told all the same.
                    let (name, why) = (container.clone(), why.clone());
                    facts.push(Fact::ImageMissing { uid: uid.clone(), container: name, why });
                    facts.extend(all.ok().map(|id| Fact::ImageFound { uid, container, id, pulled: None }));
                }
            }
        }
        facts
    }

    /// Nothing is wanted any more, so nothing is pulled.
    pub fn pull_no_more(&mut self) {
        self.flights.over = true;
        self.import_no_more();
        self.flights.flying.values_mut().for_each(Flight::kill);
    }
}

/// How the cgroups of pulls are named, below our own.
const PREFIX: &str = "pull-";

/// The cgroups of a former life's pulls, whose helpers are killed.
pub(super) fn strays(parent: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let groups: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    for group in &groups {
        let _ = cgroup::kill(group);
    }
    groups
}

impl Flight {
    fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            let _ = kill(Pid::from_raw(self.helper), Signal::SIGKILL);
        }
    }

    /// Whether it moves. Returns when to look again.
    fn look(&mut self, now: Tick) -> Option<Tick> {
        if self.killed {
            return None;
        }
        if now >= self.seen.1 + STUCK {
            let done = sum(&self.files.progress()).done;
            if done == self.seen.0 {
                self.kill();
                return None;
            }
            self.seen = (done, now);
        }
        Some(self.seen.1 + STUCK)
    }

    fn outcome(mut self, ended: Ended, oom: bool) -> Result<Report, String> {
        match ended.code {
            code @ (DONE | FAILED) => self.files.outcome(code == DONE),
            _ if oom => Err(format!("its helper needed more than {} MiB of memory", MEMORY >> 20)),
            _ if self.killed => Err(format!("it did not move for {} s", STUCK.as_secs())),
            code => Err(format!("its helper ended with exit code {code}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    /// The kubelet's image_manager_test, as far as it goes before a pull: what a look into the store leads to.
    #[test]
    fn i2_a_look_into_the_store_tells_what_is_to_be_pulled() {
        let folder = std::env::temp_dir().join(format!("podinit-find-{}", std::process::id()));
        let config = Config { root: folder.clone(), ..Config::default() };
        fs::create_dir_all(folder.join("images/tags")).unwrap();
        fs::write(folder.join("images/tags/docker.io%2Flibrary%2Fbad%3Alatest.json"), "no tag").unwrap();
        let hex = "0123456789abcdef".repeat(4);
        let pulled = |image: &str| Ok(format!("docker.io/library/{image}:latest"));
        let never = "ErrImageNeverPull: Container image \"gone\" is not present with pull policy of Never";
        for (image, pull, expected) in [
            ("gone", PullPolicy::IfNotPresent, pulled("gone")),
            ("gone", PullPolicy::Always, pulled("gone")),
            ("gone", PullPolicy::Never, Err(never)),
            ("FAILED_IMAGE", PullPolicy::IfNotPresent, Err("InvalidImageName: ")),
            ("http://url", PullPolicy::Always, Err("InvalidImageName: ")),
            (&hex, PullPolicy::Never, Err("InvalidImageName: ")),
            // What is damaged is had anew.
            ("bad", PullPolicy::IfNotPresent, pulled("bad")),
            ("bad", PullPolicy::Never, Err("ImageInspectError: ")),
        ] {
            let mut pod = (*sample::pod(RestartPolicy::Always, &[], &["c"])).clone();
            (pod.containers[0].image, pod.containers[0].pull) = (image.to_owned(), pull);
            let pod = PodFacts::new(pod.into(), Tick::seconds(1));
            let found = Hands::idle(&config).needs(&pod, &pod.spec.containers[0]);
            match expected {
                Ok(name) => assert_eq!(found, Ok((None, vec![name])), "{image} {pull:?}"),
                Err(why) => {
                    let said = found.unwrap_err();
                    assert!(said.starts_with(why), "{image} {pull:?}: {said}");
                }
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
