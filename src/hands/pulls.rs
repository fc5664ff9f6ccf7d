//! Images on their way: a helper for each pull, in a cgroup of its own, which PID 1 does not wait for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, Hands};
use crate::clock::Tick;
use crate::config::Proxies;
use crate::container::cgroup;
use crate::image::pull::{DONE, FAILED, FULL, Files, Progress, Report, Request, sum};
use crate::image::registry::credentials::{self, Secret};
use crate::image::{Reference, platform::Platform};
use crate::pod::facts::{Image, PodFacts, Pulled, World};
use crate::pod::pulls::{Bucket, Layer, OnTheWay, Pull, Pulls, Rate, Who};
use crate::pod::spec::{self, PullPolicy};
use crate::pod::verify::images_of;
use crate::pod::{Container, Fact, Pod};
use crate::volume;

/// What a pull may have: several times what it needs, but for layers by zstd with very large windows.
const MEMORY: u64 = 192 << 20;
/// A pull that does not move for so long is ended (containerd's image_pull_progress_timeout).
const STUCK: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Flights {
    pulls: Pulls,
    flying: BTreeMap<Pull, Flight>,
    /// When each began to wait.
    since: BTreeMap<Who, Tick>,
    /// A former life's pulls were looked for.
    resumed: bool,
    /// Nothing is wanted any more.
    over: bool,
    bucket: Bucket,
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
        if self.held_back(&pod.spec, container) {
            return vec![Fact::ImagePulling { uid, container: name, lacking: Vec::new() }];
        }
        let needs = self.needs(pod, container);
        if !matches!(&needs, Ok((_, needs)) if needs.is_empty()) {
            images_of(&pod.spec, container).for_each(|image| self.look_for_damage(image));
        }
        let own = || vec![container.image.clone()];
        match needs {
            // What is missing may come from an archive yet.
            Err(why) if self.importing() && !why.starts_with("InvalidImageName") => {
                self.wait(pod, name, own())
            }
            Err(why) => vec![Fact::ImageMissing { uid, container: name, why }],
            Ok((Some(id), needs)) if needs.is_empty() => {
                vec![Fact::ImageFound { uid, container: name, id, pulled: None }]
            }
            Ok((_, needs)) => self.wait(pod, name, needs),
        }
    }

    /// What is damaged of an image, as far as a look tells, another store may have.
    fn look_for_damage(&mut self, image: &str) {
        let damaged = match (Reference::parse(image), self.store.find(image)) {
            (Ok(_), Err(_)) => true,
            // What its tag names is not all there.
            (Ok(_), Ok(None)) => self.store.names_of(image).is_ok(),
            (Ok(_), Ok(Some(_))) | (Err(_), _) => false,
        };
        if damaged {
            self.verify.wish(image);
        }
    }

    fn wait(&mut self, pod: &PodFacts, container: String, needs: Vec<String>) -> Vec<Fact> {
        let uid = pod.spec.uid.clone();
        self.flights.since.insert((uid.clone(), container.clone()), Tick::now());
        let (secrets, lacking) = self.secrets(&pod.spec);
        self.flights.pulls.want((uid.clone(), container.clone()), as_whom(needs, &secrets));
        vec![Fact::ImagePulling { uid, container, lacking }]
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
                    let (secrets, _) = self.secrets(&pod.spec);
                    self.flights.pulls.want(who, as_whom(needs, &secrets));
                    continue;
                }
            }
            self.flights.pulls.keep(|other| *other != who);
            self.flights.since.remove(&who);
        }
        facts
    }

    /// The pod's imagePullSecrets as a listing knows them, and those that are not there.
    fn secrets(&self, pod: &Pod) -> (Vec<String>, Vec<String>) {
        let key = |name: &str| format!("{}/{name}", pod.namespace);
        let (there, lacking): (Vec<&str>, Vec<&str>) =
            pod.pull_secrets().partition(|name| self.secret(&key(name)).is_some());
        (there.into_iter().map(key).collect(), lacking.into_iter().map(str::to_owned).collect())
    }

    fn secret(&self, key: &str) -> Option<&Arc<spec::Config>> {
        let named = |config: &&Arc<spec::Config>| {
            config.secret && key.split_once('/') == Some((config.namespace.as_str(), config.name.as_str()))
        };
        self.configs.iter().find(named)
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
        let most =
            if self.importing() || self.collection.makes_room() { 0 } else { self.config.parallel_pulls() };
        let rate = Rate { per_second: self.config.pull_qps, burst: self.config.pull_burst };
        while let Some(image) = self.flights.pulls.next(most) {
            let begun = match self.flights.bucket.take(rate, now) {
                true => self.take_off(&image, now).map_err(|why| format!("cannot start: {why}")),
                false => Err("pull QPS exceeded".to_owned()),
            };
            match begun {
                Ok(flight) => drop(self.flights.flying.insert(image, flight)),
                Err(why) => facts.extend(self.landed(&image, Err(why), now, world)),
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
                    let (secrets, _) = self.secrets(&pod.spec);
                    self.flights.pulls.want(who, as_whom(vec![spec.image.clone()], &secrets));
                }
            }
        }
    }

    fn take_off(&mut self, pull: &Pull, now: Tick) -> io::Result<Flight> {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let secret = |key: &String| {
            let config = self.secret(key)?;
            Secret::of(key, &config.kind, &config.data)
        };
        let request = Request {
            image: pull.image.clone(),
            platform: Platform::host(),
            store: std::path::absolute(self.config.root.join("images"))?,
            behind: self.config.image_stores.clone(),
            registries: self.config.registries.clone(),
            proxies: Proxies::environment(),
            secrets: pull.secrets.iter().filter_map(secret).collect(),
            keyrings: credentials::files(&self.config.root, home.as_deref()),
            login: None,
        };
        let files = Files::of(&request)?;
        let (helper, group) = self.spawn_bounded(&["__pull"], &files.fds(), BOUNDS)?;
        Ok(Flight { helper, group, files, begun: now, seen: (0, now), killed: false })
    }

    /// What became of a pull, if this child was its helper.
    pub(super) fn pulled(&mut self, pid: i32, ended: Ended, world: &World) -> Option<Vec<Fact>> {
        let image = self.flights.flying.iter().find(|(_, flight)| flight.helper == pid)?.0.clone();
        let flight = self.flights.flying.remove(&image)?;
        let oom = cgroup::oom_kills(&flight.group) > 0;
        self.drop_cgroup(flight.group.clone());
        let now = Tick::now();
        let (begun, missing) = (flight.begun, flight.missing());
        let outcome = flight.outcome(ended, oom).map(|report| (report, begun));
        match &outcome {
            Ok(_) => self.had_room(&image),
            Err(why) if ended.code == FULL && self.make_room(&image, missing, why) => return Some(Vec::new()),
            Err(_) => {}
        }
        Some(self.landed(&image, outcome, now, world))
    }

    pub(super) fn landed(
        &mut self,
        image: &Pull,
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
            let pulled = outcome.as_ref().ok().map(|(report, begun)| Pulled {
                millis: millis(*begun, now),
                waited: millis(since.unwrap_or(*begun).min(*begun), now),
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

    /// Whether a pull is under way.
    pub(super) fn pulling(&self) -> bool {
        !self.flights.flying.is_empty()
    }

    /// The pull, which failed and was not told as ended, is the next one.
    pub(super) fn pull_again(&mut self, pull: &Pull) {
        self.flights.pulls.again(pull);
    }

    /// What is on its way, and how far. It reads what the helpers tell, so only where somebody asks.
    pub fn on_the_way(&self, now: Tick) -> Vec<OnTheWay> {
        let layer = |layer: Progress| Layer { done: layer.done, total: layer.total, had: layer.had };
        let told = |(pull, whose): (&Pull, Vec<Who>)| {
            let flight = self.flights.flying.get(pull);
            let layers = flight.map(|flight| flight.files.progress()).unwrap_or_default();
            OnTheWay {
                image: pull.image.clone(),
                whose,
                millis: flight.map(|flight| millis(flight.begun, now)),
                layers: layers.into_iter().map(layer).collect(),
            }
        };
        self.flights.pulls.all().into_iter().map(told).collect()
    }

    /// Nothing is wanted any more, so nothing is pulled.
    pub fn pull_no_more(&mut self) {
        self.flights.over = true;
        self.import_no_more();
        self.flights.flying.values_mut().for_each(Flight::kill);
    }
}

fn as_whom(images: Vec<String>, secrets: &[String]) -> impl Iterator<Item = Pull> {
    images.into_iter().map(|image| Pull { image, secrets: secrets.to_vec() })
}

fn millis(from: Tick, to: Tick) -> u64 {
    u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX)
}

/// How the cgroups of pulls are named, below our own.
const PREFIX: &str = "pull-";
/// Of what unpacks images.
pub(super) const BOUNDS: (&str, u64) = (PREFIX, MEMORY);

/// The cgroups of a former life's pulls and verifications, whose helpers are killed.
pub(super) fn strays(parent: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let prefixes = [PREFIX, super::verify::PREFIX];
    let ours = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
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

    /// Bytes of the blobs whose layers are still to be had.
    fn missing(&self) -> u64 {
        let layers = self.files.progress();
        let open = layers.iter().filter(|layer| layer.done < layer.total);
        open.fold(0, |sum, layer| sum.saturating_add(layer.total))
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
            code @ (DONE | FAILED | FULL) => self.files.outcome(code == DONE),
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
