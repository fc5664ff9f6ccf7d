//! PURE: when the images in use are read in full and compared with their digests, and which of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{ContainerFacts, Run, World};
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

/// What is to be read now, or when something is. `suspects`: containers of which a run ended as damage would explain;
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
        let Some(since) = pod.containers.get(name).and_then(suspicious) else { continue };
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

/// When a run of the container last ended in a way that a damaged image would explain, of the newest two: the first crash
/// is followed by a start at once.
pub fn suspicious(facts: &ContainerFacts) -> Option<Tick> {
    [&facts.run, &facts.last].into_iter().flatten().filter_map(explained).max()
}

fn explained(run: &Run) -> Option<Tick> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::{Exit, Fact, StartError};
    use crate::pod::roll::Roll;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    const MINUTE: u64 = 60;
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    /// A world with one container of the image `c:1`.
    fn world() -> World {
        let mut world = World::default();
        world
            .learn(Fact::Admitted { pod: sample::pod(RestartPolicy::Always, &[], &["c"]) }, Tick::seconds(1));
        world
    }

    fn run(world: &mut World, run: u32, second: u64, exit: Exit) {
        let (uid, container) = (|| "u1".to_owned(), || "c".to_owned());
        let (helper, stdout, stderr) = (5, 6, 7);
        let starting = Fact::Starting { uid: uid(), container: container(), run, helper, stdout, stderr };
        world.learn(starting, Tick::seconds(second));
        world.learn(Fact::Started { uid: uid(), container: container(), run, pid: 9 }, Tick::seconds(second));
        world
            .learn(Fact::Exited { uid: uid(), container: container(), run, exit }, Tick::seconds(second + 1));
    }

    fn exit(code: i32) -> Exit {
        Exit { code, ..Exit::default() }
    }

    fn asked(world: &World, every: Option<Duration>, second: u64) -> (Option<Due>, Option<u64>) {
        let roll = Roll::of(world);
        let born = Tick::seconds(0);
        let (what, wake) =
            due(world, roll.suspects(), &BTreeSet::new(), (every, born), Tick::seconds(second));
        (what, wake.map(|wake| wake.0 / 1_000_000_000))
    }

    fn image() -> Option<Due> {
        Some(Due::Images(["c:1".to_owned()].into()))
    }

    #[test]
    fn all_are_read_once_when_the_machine_is_up_and_then_from_time_to_time() {
        let mut world = world();
        assert_eq!(asked(&world, Some(WEEK), 0), (None, Some(60)));
        assert_eq!(asked(&world, Some(WEEK), 60), (Some(Due::All), None));
        let read = Fact::Verified { begun: Tick::seconds(70), images: vec![], all: true, damaged: vec![] };
        world.learn(read, Tick::seconds(90));
        let next = 70 + WEEK.as_secs();
        assert_eq!(asked(&world, Some(WEEK), 91), (None, Some(next)));
        assert_eq!(asked(&world, Some(WEEK), next), (Some(Due::All), None));
        assert_eq!(asked(&world, Some(Duration::from_secs(5)), 91).0, Some(Due::All));
        assert_eq!(asked(&world, None, next), (None, None), "never");
    }

    #[test]
    fn an_end_that_damage_explains_asks_for_its_image() {
        let table = [
            (exit(0), false),
            (exit(1), false),
            (exit(137), false),
            (exit(143), false),
            (exit(126), true),
            (exit(127), true),
            (Exit { code: 135, signal: Some(7), ..Exit::default() }, true),
            (exit(132), true),
            (exit(139), true),
            (Exit { code: 139, oom: true, ..Exit::default() }, false),
        ];
        for (exit, asks) in table {
            let mut world = world();
            run(&mut world, 0, 10, exit.clone());
            assert_eq!(asked(&world, None, 11).0, image().filter(|_| asks), "{exit:?}");
            // Also where the next run has begun already.
            let (uid, container) = ("u1".to_owned(), "c".to_owned());
            let next = Fact::Starting { uid, container, run: 1, helper: 5, stdout: 6, stderr: 7 };
            world.learn(next, Tick::seconds(12));
            assert_eq!(asked(&world, None, 12).0, image().filter(|_| asks), "{exit:?}");
        }
        for (message, asks) in [
            ("mount layer sha256:1: wrong fs", true),
            ("exec /bin/sh: Input/output error (os error 5)", true),
            ("exec: EIO: I/O error", true),
            ("exec format error: Exec format error (os error 8)", true),
            ("layers/1.erofs: damaged: no file system of 5 bytes", true),
            ("read: Structure needs cleaning (os error 117)", true),
            ("executable 'frob' not found in $PATH", false),
            ("permission denied (os error 13)", false),
            ("too many files (os error 24)", false),
        ] {
            let mut world = world();
            let why = StartError { reason: "StartError".into(), message: message.into(), ours: false };
            let failed = Fact::StartFailed { uid: "u1".into(), container: "c".into(), run: 0, why };
            world.learn(failed, Tick::seconds(9));
            assert_eq!(asked(&world, None, 9).0, image().filter(|_| asks), "{message}");
        }
    }

    /// For a day of crashes once a minute: the image is read at the first, and then ever more seldom; where it was damaged,
    /// after the shortest wait again.
    #[test]
    fn an_image_that_is_whole_is_read_ever_more_seldom_for_the_same_crash() {
        let reads = |world: &mut World, damaged: bool| {
            let mut reads = Vec::new();
            for minute in 1..1500 {
                run(world, minute as u32, minute * MINUTE, exit(139));
                let (due, wake) = asked(world, None, minute * MINUTE + 2);
                if due == image() {
                    reads.push(minute);
                    let images = vec!["c:1".to_owned()];
                    let damaged = if damaged { images.clone() } else { vec![] };
                    let begun = Tick::seconds(minute * MINUTE + 2);
                    world.learn(Fact::Verified { begun, images, all: false, damaged }, begun);
                } else {
                    assert!(wake.is_some_and(|wake| wake > minute * MINUTE + 2), "{minute}");
                }
            }
            reads
        };
        assert_eq!(reads(&mut world(), false), [1, 11, 31, 71, 151, 311, 631, 1271]);
        assert_eq!(reads(&mut world(), true).len(), 150);
    }

    #[test]
    fn a_wish_is_heeded_and_what_was_read_since_an_end_is_not_read_again() {
        let mut world = world();
        let wishes = BTreeSet::from(["c:1".to_owned()]);
        let nobody = BTreeSet::new();
        let wished = |world: &World, second: u64| {
            due(world, &nobody, &wishes, (None, Tick(0)), Tick::seconds(second)).0
        };
        assert_eq!(wished(&world, 5), image());
        run(&mut world, 0, 10, exit(127));
        let all = Fact::Verified { begun: Tick::seconds(20), images: vec![], all: true, damaged: vec![] };
        world.learn(all, Tick::seconds(30));
        assert_eq!(asked(&world, None, 31).0, None);
        run(&mut world, 1, 40, exit(127));
        assert_eq!(asked(&world, None, 41).0, image());
        // Nobody is left who would care.
        let why = crate::pod::facts::Dismissal::Removed;
        world.learn(Fact::Dismissed { uid: "u1".into(), why }, Tick::seconds(42));
        assert_eq!(asked(&world, None, 43).0, None);
    }
}
