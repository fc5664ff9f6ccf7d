//! An image store beside every history: what pods name comes in, other things lie about, disks fill, clocks jump, and a
//! collection that was decided a while ago ends now. Whatever happens, nothing that is wanted goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use podinit::pod::collect::{Aim, Disk, Facts, Image, Policy, Used, decide, known, present, wanted};
use podinit::pod::spec::{Desired, VolumeSource};
use podinit::pod::{Pod, World};

/// 2027, and one of a board without a clock.
const CLOCKS: [u64; 2] = [1_800_000_000, 40];
const LAYERS: u32 = 6;

pub struct Shelf {
    /// Its own, so that histories stay what they are.
    rng: Rng,
    images: BTreeMap<String, Image>,
    /// Bytes of each layer.
    layers: BTreeMap<String, u64>,
    now: Duration,
    /// What was in use when a collection was begun, and what it was to do.
    flight: Option<(Used, Policy, Aim)>,
    count: u32,
}

impl Shelf {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5e1f);
        let layers = (0..LAYERS).map(|n| (format!("layer{n}"), rng.u64(1..400))).collect();
        let now = Duration::from_secs(CLOCKS[rng.usize(0..2)]);
        Shelf { rng, images: BTreeMap::new(), layers, now, flight: None, count: 0 }
    }

    /// At the end of each turn.
    pub fn turn(&mut self, desired: &Desired, world: &World) -> Result<Option<&'static str>, String> {
        self.now += Duration::from_secs(self.rng.u64(0..400));
        if self.rng.u8(0..30) == 0 {
            self.now = Duration::from_secs(CLOCKS[self.rng.usize(0..2)] + self.rng.u64(0..10_000_000));
        }
        let mut used = wanted(desired);
        used.join(&present(world));
        used.names.iter().for_each(|name| self.come(name));
        if self.rng.u8(0..3) == 0 {
            let name = format!("other:{}", self.count % 40);
            self.count += 1;
            self.come(&name);
        }
        // As the hands do: a collection that does not know of something in use is ended before it is looked for.
        if self.flight.as_ref().is_some_and(|(then, ..)| !then.covers(&used)) {
            self.flight = None;
            return Ok(Some("collection cut short"));
        }
        match self.flight.take() {
            None if self.rng.u8(0..3) > 0 => {
                let policy = self.policy();
                let aim = match self.rng.u8(0..4) {
                    0 => Aim::All,
                    1 => {
                        let least = self.rng.u64(0..500);
                        Aim::Room { least, wanted: self.rng.u64(0..2000) }
                    }
                    _ => Aim::Thresholds,
                };
                self.flight = Some((used, policy, aim));
                Ok(None)
            }
            None => Ok(None),
            Some(flight) if self.rng.bool() => {
                self.flight = Some(flight);
                Ok(None)
            }
            Some((then, policy, aim)) => self.collect(&then, policy, aim, desired, world),
        }
    }

    fn policy(&mut self) -> Policy {
        let high = self.rng.u8(1..=100);
        let low = self.rng.u8(0..high);
        let min_age = Duration::from_secs([0, 120, 100_000][self.rng.usize(0..3)]);
        let max_age = Duration::from_secs([0, 0, 3000, 1_000_000][self.rng.usize(0..4)]);
        Policy { high, low, min_age, max_age }
    }

    /// It is pulled or imported, if it is not there.
    fn come(&mut self, name: &str) {
        if self.images.values().any(|image| image.names.iter().any(|other| other == name)) {
            return;
        }
        let mut parts: BTreeMap<String, u64> = (0..self.rng.u32(0..4))
            .map(|_| format!("layer{}", self.rng.u32(0..LAYERS)))
            .map(|layer| (layer.clone(), self.layers[&layer]))
            .collect();
        let id = format!("id of {name}");
        parts.insert(id.clone(), 1);
        let (used, detected, pinned) = (self.now, self.now, self.rng.u8(0..12) == 0);
        let image =
            Image { id: id.clone(), names: vec![name.into()], parts, used, detected, pinned, in_use: false };
        self.images.insert(id, image);
    }

    fn bytes(&self) -> u64 {
        let parts: BTreeMap<&String, u64> =
            self.images.values().flat_map(|image| &image.parts).map(|(part, bytes)| (part, *bytes)).collect();
        parts.values().sum()
    }

    fn collect(
        &mut self,
        used: &Used,
        policy: Policy,
        aim: Aim,
        desired: &Desired,
        world: &World,
    ) -> Result<Option<&'static str>, String> {
        for image in self.images.values_mut() {
            image.in_use =
                used.ids.contains(&image.id) || image.names.iter().any(|name| used.names.contains(name));
        }
        let (before, others) = (self.bytes(), self.rng.u64(0..800));
        let capacity = before + others + self.rng.u64(0..300);
        let disk = Disk { capacity, available: capacity - before - others, reserve: self.rng.u64(0..50) };
        let images: Vec<Image> = self.images.values().cloned().collect();
        let facts = Facts { disk, images, now: self.now, steady: self.rng.bool() };
        let verdict = decide(&facts, &policy, aim);
        let gone: BTreeMap<String, Image> =
            verdict.remove.iter().filter_map(|id| self.images.remove_entry(id)).collect();
        let freed = before - self.bytes();
        let told = format!("{policy:?} {aim:?} {disk:?}: {verdict:?}");
        if gone.len() != verdict.remove.len() {
            return Err(format!("what_goes_was_there: {told}"));
        }
        let names: BTreeSet<&str> =
            gone.values().flat_map(|image| &image.names).map(String::as_str).collect();
        if let Some(name) = named(desired, world).find(|name| names.contains(name.as_str())) {
            return Err(format!("no_wanted_pods_image_goes: {name}: {told}"));
        }
        let old = |image: &Image| {
            let used = known(image.used, self.now);
            !policy.max_age.is_zero() && used.is_some_and(|used| self.now - used > policy.max_age)
        };
        let old_ones = gone.values().filter(|image| old(image)).count();
        let young = |image: &&Image| {
            let age = known(image.detected, self.now).map(|detected| self.now - detected);
            age.is_some_and(|age| age < policy.min_age) && !old(image)
        };
        if let Some(image) = gone.values().find(|image| image.pinned || young(image)) {
            return Err(format!("no_pinned_or_young_one_goes: {}: {told}", image.id));
        }
        if freed < verdict.freed && verdict.remove.len() > old_ones {
            return Err(format!("what_is_told_as_freed_is_free: {freed}: {told}"));
        }
        let percent = |available: u64| 100 - available * 100 / capacity.max(1);
        let below = policy.high == 100 || percent(disk.available) < u64::from(policy.high);
        if aim == Aim::Thresholds && below && gone.len() > old_ones {
            return Err(format!("below_the_threshold_nothing_goes: {told}"));
        }
        if let Aim::Room { least, .. } = aim
            && gone.len() > old_ones
            && disk.available + freed < least
        {
            return Err(format!("nothing_goes_in_vain: {told}"));
        }
        Ok((!gone.is_empty()).then_some("images collected"))
    }
}

/// What anything that is wanted or there names, looked through plainly.
fn named<'a>(desired: &'a Desired, world: &'a World) -> impl Iterator<Item = &'a String> {
    let jobs = desired.jobs.iter().chain(desired.crons.iter().map(|cron| &cron.job)).map(|job| &job.pod);
    let there = world.pods.values().map(|pod| &pod.spec).chain(world.rejected.values().map(|told| &told.pod));
    let pods = desired.pods.iter().chain(jobs).chain(there);
    pods.flat_map(|pod: &'a Arc<Pod>| {
        let volumes = pod.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Image { reference, .. } => Some(reference),
            _ => None,
        });
        pod.init.iter().chain(&pod.containers).map(|container| &container.image).chain(volumes)
    })
}
