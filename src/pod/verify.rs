//! PURE: when the images in use are read in full and compared with their digests, and which of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Run, World};
use super::spec::{Container, Pod, VolumeSource};
use crate::clock::{Tick, sooner};

/// How long a machine is left alone before all images are read for the first time.
pub const FIRST: Duration = Duration::from_secs(60);
/// The first and the longest wait between two readings of an image for the sake of ends that damage would explain: a
/// container that crashes for ever for reasons of its own has its image read ever more seldom.
const AGAIN: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(86_400));

/// When images were last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// All that were in use: when that began.
    pub all: Option<Tick>,
    /// Single ones, by the name that their containers have for them.
    pub images: BTreeMap<String, Look>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub begun: Tick,
    /// How often in a row it was whole.
    pub whole: u32,
}

impl Verified {
    pub(super) fn learn(&mut self, begun: Tick, images: &[String], all: bool, damaged: &[String]) {
        if all {
            self.all = self.all.max(Some(begun));
        }
        for image in images {
            let look = self.images.entry(image.clone()).or_default();
            if look.begun < begun {
                let whole = if damaged.contains(image) { 0 } else { look.whole.saturating_add(1) };
                *look = Look { begun, whole };
            }
        }
    }
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// All images in use.
    All,
    /// These.
    Images(BTreeSet<String>),
}

/// What is to be read now, or when something is. `suspects`: containers whose newest run ended as damage would explain;
/// `wishes`: images that are damaged as far as a look tells; `every`: how often all are read, None: never; `born`: when
/// this life began.
pub fn due(
    world: &World,
    suspects: &BTreeSet<(String, String)>,
    wishes: &BTreeSet<String>,
    (every, born): (Option<Duration>, Tick),
    now: Tick,
) -> (Option<Due>, Option<Tick>) {
    let (mut images, mut wake_at) = (BTreeSet::new(), None);
    if let Some(every) = every {
        let at = world.verified.all.map_or(born + FIRST.min(every), |last| last + every);
        if at <= now {
            return (Some(Due::All), None);
        }
        wake_at = Some(at);
    }
    let mut ask = |image: &str, since: Tick| {
        let look = world.verified.images.get(image);
        let last = world.verified.all.max(look.map(|look| look.begun));
        // Read since then.
        if last.is_some_and(|last| last >= since) {
            return;
        }
        let wait = |look: &Look| super::restart::retry(AGAIN.0, AGAIN.1, look.whole.max(1));
        let at = look.map_or(since, |look| since.max(look.begun + wait(look)));
        if at <= now {
            images.insert(image.to_owned());
        } else {
            wake_at = sooner(wake_at, at);
        }
    };
    for (uid, name) in suspects {
        let Some(pod) = world.pods.get(uid).filter(|pod| pod.stopping().is_none()) else { continue };
        let Some(since) = pod.run(name).and_then(suspicious) else { continue };
        let Some(container) = pod.spec.container(name) else { continue };
        images_of(&pod.spec, container).for_each(|image| ask(image, since));
    }
    wishes.iter().for_each(|image| ask(image, now));
    if images.is_empty() { (None, wake_at) } else { (Some(Due::Images(images)), None) }
}

/// The images that a container uses: its own, and those of its volumes.
pub fn images_of<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = &'a str> {
    let mounted = |name: &str| container.mounts.iter().any(|mount| mount.volume == name);
    let volumes = pod.volumes.iter().filter(move |volume| mounted(&volume.name));
    let volumes = volumes.filter_map(|volume| match &volume.source {
        VolumeSource::Image { reference, .. } => Some(reference.as_str()),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } | VolumeSource::Projected { .. } => {
            None
        }
    });
    [container.image.as_str()].into_iter().chain(volumes)
}

/// When a run ended in a way that a damaged image would explain.
pub fn suspicious(run: &Run) -> Option<Tick> {
    if let Some((at, why)) = &run.failed {
        return ERRORS.iter().any(|error| why.message.contains(error)).then_some(*at);
    }
    let (at, exit) = run.exited.as_ref()?;
    (!exit.oom && CODES.contains(&exit.code)).then_some(*at)
}

/// What the kernel says when it cannot read a file, or reads nonsense, in the words of the several who pass it on; and our
/// own where a layer cannot be mounted.
const ERRORS: [&str; 13] = [
    "os error 5)",
    "os error 8)",
    "os error 74)",
    "os error 117)",
    "EIO",
    "ENOEXEC",
    "EBADMSG",
    "EUCLEAN",
    "Exec format error",
    "Input/output error",
    "I/O error",
    "mount layer",
    "damaged",
];
/// Cannot be executed, cannot be found (what a shell says), and SIGILL, SIGBUS, SIGSEGV.
const CODES: [i32; 5] = [126, 127, 132, 135, 139];
