//! PURE: which images go when the disk fills, or when they were unused for too long; what is in use; what a time is worth.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::batch::decide::EARLIEST;
use super::facts::{self, World};
use super::spec::{Desired, Pod, VolumeSource};

/// A moment of the wall clock: the time since the Unix epoch.
pub type Moment = Duration;

/// How often the disk is looked at (kubelet: ImageGCPeriod).
pub const PERIOD: Duration = Duration::from_secs(300);
/// A file that no name leads to stays for so long: the next try of a pull that failed goes on with its layers.
pub const ORPHAN: Duration = Duration::from_secs(86_400);
/// A use is noted anew once the last note is so old: a note is a write to the flash.
const NOTED: Duration = Duration::from_secs(3600);

/// When images go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// In percent of the disk; 100: not for the disk's sake.
    pub high: u8,
    pub low: u8,
    pub min_age: Duration,
    /// 0: never for that.
    pub max_age: Duration,
}

/// The file system that the images lie on, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub capacity: u64,
    pub available: u64,
    /// What no image takes.
    pub reserve: u64,
}

/// What all names of one configuration stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: String,
    pub names: Vec<String>,
    /// The files that it is made of, and their bytes on the disk; others may have the same.
    pub parts: BTreeMap<String, u64>,
    pub used: Moment,
    pub detected: Moment,
    pub pinned: bool,
    pub in_use: bool,
}

/// What is to be had by a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aim {
    /// No more used than the low threshold, where the high one is reached.
    Thresholds,
    /// Room for a pull: so many bytes beside the reserve. Nothing goes where `least` cannot be had.
    Room { least: u64, wanted: u64 },
    /// Nothing that is not in use.
    All,
}

/// What a decision is made from.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub disk: Disk,
    pub images: Vec<Image>,
    pub now: Moment,
    /// The wall clock has not jumped for long enough to believe in ages of days.
    pub steady: bool,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Ids, in this order.
    pub remove: Vec<String>,
    /// Bytes that were to be freed for the disk's sake, and that are.
    pub wanted: u64,
    pub freed: u64,
}

impl Verdict {
    /// The kubelet's words for too little.
    pub fn short(&self) -> Option<String> {
        let Verdict { wanted, freed, .. } = self;
        (freed < wanted).then(|| {
            format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
                 {freed} bytes eligible to free."
            )
        })
    }
}

/// Whether the disk is as full as the high threshold says.
pub fn over(policy: &Policy, disk: &Disk) -> bool {
    let (capacity, available) = (u128::from(disk.capacity.max(1)), u128::from(disk.available));
    policy.high < 100 && 100 - (available * 100 / capacity).min(100) >= u128::from(policy.high)
}

/// What goes, least recently used first, those that were detected first before others of the same time.
pub fn decide(facts: &Facts, policy: &Policy, aim: Aim) -> Verdict {
    let mut shares = Shares::of(&facts.images);
    let key = |image: &Image| {
        let worth = |moment| known(moment, facts.now).unwrap_or(facts.now);
        (worth(image.used), worth(image.detected), image.used, image.id.clone())
    };
    let mut free: Vec<&Image> = facts.images.iter().filter(|image| !image.in_use && !image.pinned).collect();
    free.sort_by_cached_key(|image| key(image));
    let old = |image: &&Image| {
        let unused = known(image.used, facts.now).map(|used| facts.now - used);
        let believed = facts.steady && is_set(facts.now) && !policy.max_age.is_zero();
        believed && unused.is_some_and(|unused| unused > policy.max_age)
    };
    let (old, free): (Vec<_>, Vec<_>) = free.into_iter().partition(old);
    let aged: u64 = old.iter().map(|image| shares.remove(image)).sum();
    let mut verdict = Verdict { remove: ids(&old), ..Verdict::default() };

    let disk = Disk { available: facts.disk.available.saturating_add(aged), ..facts.disk };
    let available = disk.available.min(disk.capacity);
    let (least, wanted) = match aim {
        Aim::Thresholds if !over(policy, &disk) => return verdict,
        Aim::Thresholds => {
            let aim = u128::from(disk.capacity) * u128::from(100 - policy.low.min(100)) / 100;
            (0, u64::try_from(aim).unwrap_or(u64::MAX).saturating_sub(available))
        }
        Aim::Room { least, wanted } => {
            let missing = |bytes: u64| bytes.saturating_add(disk.reserve).saturating_sub(available);
            (missing(least), missing(wanted.max(least)))
        }
        Aim::All => (0, u64::MAX),
    };
    let free: Vec<_> = free.into_iter().filter(|image| !young(image, facts.now, policy.min_age)).collect();
    // What only shares with images that stay gives nothing back.
    let mut staying = shares.clone();
    free.iter().for_each(|image| {
        staying.remove(image);
    });
    let pays = |image: &&&Image| image.parts.keys().any(|part| !staying.has(part));
    let (mut freed, mut gone) = (0u64, Vec::new());
    for image in free.iter().filter(|image| aim == Aim::All || pays(image)) {
        if freed >= wanted {
            break;
        }
        freed = freed.saturating_add(shares.remove(image));
        gone.push(*image);
    }
    if freed < least {
        gone.clear();
    }
    // Nor does what still shares all that it has with one whose turn did not come.
    gone.retain(|image| aim == Aim::All || image.parts.keys().any(|part| !shares.has(part)));
    verdict.remove.extend(ids(&gone));
    (verdict.wanted, verdict.freed) = (if aim == Aim::All { 0 } else { wanted }, freed);
    verdict
}

fn ids(images: &[&Image]) -> Vec<String> {
    images.iter().map(|image| image.id.clone()).collect()
}

/// How many of the images that stay have each part.
#[derive(Clone)]
struct Shares(BTreeMap<String, u32>);

impl Shares {
    fn of(images: &[Image]) -> Self {
        let mut shares = BTreeMap::new();
        let parts = images.iter().flat_map(|image| image.parts.keys());
        parts.for_each(|part| *shares.entry(part.clone()).or_default() += 1);
        Shares(shares)
    }

    fn has(&self, part: &str) -> bool {
        self.0.get(part).is_some_and(|count| *count > 0)
    }

    /// Takes an image away; the bytes that no other has.
    fn remove(&mut self, image: &Image) -> u64 {
        let mut freed = 0u64;
        for (part, bytes) in &image.parts {
            let count = self.0.entry(part.clone()).or_default();
            *count = count.saturating_sub(1);
            freed = freed.saturating_add(if *count == 0 { *bytes } else { 0 });
        }
        freed
    }
}

/// Whether a clock that shows this was ever set.
pub fn is_set(now: Moment) -> bool {
    now.as_secs() >= u64::try_from(EARLIEST).unwrap_or_default()
}

/// A time that a file bears, if it can be one: by a clock that is set neither one from before that nor one still to come.
/// By a clock that is not, what is still to come is from another boot, or from before it was lost.
pub fn known(moment: Moment, now: Moment) -> Option<Moment> {
    (moment <= now && is_set(moment) == is_set(now)).then_some(moment)
}

/// What is to be written instead of a time that cannot be one: its age counts from now on.
pub fn corrected(moment: Moment, now: Moment) -> Option<Moment> {
    (is_set(now) && known(moment, now).is_none()).then_some(now)
}

/// When an image that is in use was used last, where that is to be written down. `last`: the latest time that any image
/// bears which is not in use. Without a clock that is set, times only tell an order.
pub fn noted(used: Moment, now: Moment, last: Moment) -> Option<Moment> {
    if is_set(now) {
        let fresh = known(used, now).is_some_and(|used| now - used < NOTED);
        return (!fresh).then_some(now);
    }
    (used <= last).then(|| now.max(last + Duration::from_secs(1)))
}

/// Whether a file that no name leads to is one of a pull that may still go on.
pub fn pending(written: Moment, now: Moment) -> bool {
    known(written, now).is_none_or(|written| now - written < ORPHAN)
}

fn young(image: &Image, now: Moment, least: Duration) -> bool {
    match known(image.detected, now) {
        Some(detected) => now - detected < least,
        None => is_set(now) && !least.is_zero(),
    }
}

/// What is in use: names as the manifests write them, and ids of configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub names: BTreeSet<String>,
    pub ids: BTreeSet<String>,
}

impl Used {
    pub fn join(&mut self, other: &Used) {
        self.names.extend(other.names.iter().cloned());
        self.ids.extend(other.ids.iter().cloned());
    }

    /// Whether all that `other` names is named here too.
    pub fn covers(&self, other: &Used) -> bool {
        self.names.is_superset(&other.names) && self.ids.is_superset(&other.ids)
    }

    /// What the pod names: its containers' images and those of its volumes.
    pub fn pod(&mut self, pod: &Pod) {
        self.names.extend(pod.all().map(|container| container.image.clone()));
        self.names.extend(pod.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Image { reference, .. } => Some(reference.clone()),
            VolumeSource::EmptyDir { .. }
            | VolumeSource::HostPath { .. }
            | VolumeSource::Projected { .. } => None,
        }));
    }
}

/// What is wanted may need it at any time, for months, without a registry: what the manifests name, also for pods that
/// are only to come.
pub fn wanted(desired: &Desired) -> Used {
    let mut used = Used::default();
    let jobs = desired.jobs.iter().chain(desired.crons.iter().map(|cron| &cron.job));
    desired.pods.iter().chain(jobs.map(|job| &job.pod)).for_each(|pod| used.pod(pod));
    used
}

/// What pods that are there name and run from, those that are over or wait included.
pub fn present(world: &World) -> Used {
    let mut used = Used::default();
    world.batch.jobs.values().for_each(|job| used.pod(&job.job.pod));
    world.rejected.values().for_each(|rejected| used.pod(&rejected.pod));
    for pod in world.pods.values() {
        used.pod(&pod.spec);
        used.ids.extend(pod.containers.values().filter_map(|container| match &container.image {
            facts::Image::Found { id } => Some(id.clone()),
            facts::Image::Unknown | facts::Image::Missing { .. } | facts::Image::Pulling { .. } => None,
        }));
    }
    used
}

/// What the helper that collects is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The store's directory.
    pub store: PathBuf,
    pub policy: Policy,
    /// None: nothing but notes and files that no name leads to.
    pub aim: Option<Aim>,
    /// What stays.
    pub used: Used,
    /// What was in use at some time since the last note.
    pub since: Used,
    pub steady: bool,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Another adds to the store: only the notes were made.
    pub busy: bool,
    /// The names that are gone, and files that no name led to.
    pub images: Vec<String>,
    pub files: u64,
    /// What both gave back.
    pub bytes: u64,
    /// The reason of an event, and its message.
    pub trouble: Option<(String, String)>,
}
