//! Thousands of random histories, each against the same properties. A failure prints its seed and its last facts;
//! `PODINIT_SEEDS=FROM..TO` (or one number) runs others.

#[path = "simulation/due.rs"]
mod due;
#[path = "simulation/jobs.rs"]
mod jobs;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/pods.rs"]
mod pods;
#[path = "simulation/properties.rs"]
mod properties;
#[path = "simulation/room.rs"]
mod room;
#[path = "simulation/rules.rs"]
mod rules;
#[path = "simulation/shelf.rs"]
mod shelf;
#[path = "simulation/story.rs"]
mod story;
#[path = "simulation/wishes.rs"]
mod wishes;

use std::ops::Range;

use podinit::clock::Tick;
use podinit::pod::facts::Image;
use podinit::pod::plan::{Action, plan};

use crate::story::{Curse, Story};

/// What a test run does unless told otherwise.
const SEEDS: Range<u64> = 0..10_000;

#[test]
fn every_history_keeps_every_property() {
    let seeds = match std::env::var("PODINIT_SEEDS") {
        Ok(text) => seeds(&text),
        Err(_) => SEEDS,
    };
    let threads = 2;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.skip(thread as usize).step_by(threads as usize) {
                    let mut story = Story::new(seed);
                    if let Err(broken) = story.tell() {
                        panic!("seed {seed} (PODINIT_SEEDS={seed}): {broken}\n{}", story.trace());
                    }
                }
            });
        }
    });
}

/// The same for Jobs and CronJobs, with power cuts; and they reach the corners too.
#[test]
fn every_history_of_jobs_keeps_every_rule() {
    let given = std::env::var("PODINIT_SEEDS").map(|text| seeds(&text));
    let seeds = given.clone().unwrap_or(0..2_000);
    let corners = std::sync::Mutex::new(std::collections::BTreeMap::<&str, u32>::new());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (seeds, corners) = (seeds.clone(), &corners);
            scope.spawn(move || {
                for seed in seeds.skip(thread).step_by(2) {
                    let mut story = jobs::Story::new(seed);
                    if let Err(broken) = story.tell() {
                        panic!("seed {seed} (PODINIT_SEEDS={seed}): {broken}\n{}", story.trace());
                    }
                    let mut seen = corners.lock().unwrap();
                    story.corners.iter().for_each(|corner| *seen.entry(corner).or_default() += 1);
                }
            });
        }
    });
    let seen = corners.into_inner().unwrap();
    let wanted = [
        "begun",
        "begun by a CronJob",
        "went on after a power cut",
        "complete",
        "back-off limit",
        "deadline",
        "failed by a rule",
        "failed by its indexes",
        "ignored failure",
        "expired",
        "suspended",
        "skipped",
        "ids of its own",
        "power cut",
        "disk failed",
        "images collected",
        "collection cut short",
    ];
    let missing: Vec<_> = wanted.iter().filter(|corner| seen.get(**corner).is_none_or(|n| *n < 10)).collect();
    assert!(given.is_ok() || missing.is_empty(), "never or rarely seen: {missing:?} in {seen:?}");
}

/// The histories are worth nothing if they do not reach the corners.
#[test]
fn the_histories_reach_the_corners() {
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for seed in 0..900 {
        let mut story = Story::new(seed);
        story.tell().unwrap();
        for corner in story.corners() {
            *seen.entry(corner).or_default() += 1;
        }
    }
    let wanted = [
        "kill at the deadline",
        "second kill",
        "hung helper",
        "waited for a port",
        "waited for a name",
        "waited for room",
        "room came",
        "image came late",
        "one pull for several",
        "a pull backed off",
        "pull that nobody wants",
        "pulls lost by a re-execution",
        "crash loop at its cap",
        "back-off forgiven",
        "our own trouble",
        "start error",
        "create error",
        "failed init for good",
        "init restarted",
        "tear-down failed",
        "set-up failed",
        "pod over",
        "dismissed while starting",
        "shortened by the end",
        "returned",
        "re-executed",
        "started while killed",
        "edited under its uid while it ran",
        "sidecar restarted",
        "sidecar stopped last",
        "sidecar cut by the deadline",
        "all restarted",
        "helper killed by a restart of all",
        "postStart failed",
        "postStart held another start",
        "preStop before the signal",
        "preStop cut by the deadline",
        "liveness failed",
        "startup failed",
        "expired",
        "over with a sidecar",
        "critical pod waited",
        "its file renamed while it ran",
        "resized while it ran",
        "resize waited for room",
        "resize failed",
        "restarted by a resize",
        "runs counted on from logs",
        "images collected",
        "collection cut short",
        "damaged while it ran",
        "damaged while it was pulled",
        "damaged image pulled again",
        "damaged image whole again",
        "started again after damage",
    ];
    let missing: Vec<_> =
        wanted.iter().filter(|corner| seen.get(**corner).is_none_or(|count| *count < 3)).collect();
    assert!(missing.is_empty(), "never or rarely seen: {missing:?} in {seen:?}");
}

/// Each kind of failure, more often than a number has bits.
#[test]
fn a_failure_may_repeat_for_ever() {
    for curse in [Curse::Sandboxes, Curse::Images, Curse::Helpers, Curse::Containers] {
        let endured = (0..20).map(|seed| {
            let mut story = Story::new(seed);
            let most = story.endure(curse);
            most.unwrap_or_else(|broken| panic!("{curse:?}, seed {seed}: {broken}\n{}", story.trace()))
        });
        assert!(endured.max() > Some(32), "{curse:?} came too seldom");
    }
}

/// From many states, every single fact can be learned, and the plan stays sane.
#[test]
fn any_fact_may_come_next() {
    for seed in 0..30 {
        let mut story = Story::new(seed);
        story.settle().unwrap();
        for _ in 0..fastrand::Rng::with_seed(seed).u32(5..50) {
            story.step().unwrap();
        }
        for fact in pods::every_fact(&story.world) {
            for wait in [0, 1, 400] {
                let mut world = story.world.clone();
                let now = Tick(story.now.0 + wait * 1_000_000_000);
                world.learn(fact.clone(), now);
                let stale = properties::stale(&story.reality, &fact);
                assert!(!stale || world == story.world, "seed {seed}: it changed something: {fact:?}");
                let _ = fact.line(&story.world);
                let plan = plan(&story.desired, &world, now);
                sane(&plan.actions, &world).unwrap_or_else(|why| panic!("seed {seed}: {why} after {fact:?}"));
                assert!(
                    plan.wake_at.is_none_or(|wake| wake > now),
                    "seed {seed}: a wake-up in the past after {fact:?}"
                );
                let mut again = world.clone();
                again.learn(fact.clone(), now);
                assert_eq!(world, again, "seed {seed}: told twice: {fact:?}");
            }
        }
    }
}

/// No container is asked for two things, no pod is used that is not there.
fn sane(actions: &[Action], world: &podinit::pod::World) -> Result<(), String> {
    let mut touched = std::collections::BTreeSet::new();
    for action in actions {
        let (uid, container) = model::subject(action);
        // What is said of a pod is beside what is done about it.
        let said = matches!(action, Action::Allocate(_) | Action::Postpone { .. } | Action::Withdraw { .. });
        if !said && !touched.insert((uid, container)) {
            return Err(format!("two actions on {uid}/{container}: {actions:?}"));
        }
        let known = world.pods.get(uid);
        let either = matches!(action, Action::Withdraw { .. });
        if !either && known.is_some() == matches!(action, Action::Admit(_) | Action::Reject { .. }) {
            return Err(format!("{action:?} of a pod that is there, or not there"));
        }
        let run = known.and_then(|pod| pod.run(container));
        let fits = match action {
            Action::Start { run: number, .. } => {
                run.is_none_or(|run| !run.live() && run.cleaned && run.number + 1 == *number)
                    && known.is_some_and(|pod| pod.dismissed.is_none())
            }
            Action::Signal { .. } => run.is_some_and(|run| run.live()),
            Action::Clean { .. } => run.is_some_and(|run| !run.live() && !run.cleaned),
            Action::TearDown { .. } => known.is_some_and(|pod| pod.runs().all(|(_, run)| run.cleaned)),
            Action::Hook { run: number, .. } => {
                run.is_some_and(|run| run.live() && run.started.is_some() && run.number == *number)
            }
            Action::RestartAll { run: number, .. } => {
                run.is_some_and(|run| !run.live() && run.number == *number)
            }
            Action::BackOff { container, .. } => known
                .and_then(|pod| pod.containers.get(container))
                .is_some_and(|facts| matches!(facts.image, Image::Missing { tries: 2.., told: false, .. })),
            Action::Expire { .. } => known.is_some_and(|pod| pod.stopping().is_none()),
            Action::Allocate(_) | Action::Postpone { .. } => {
                known.is_some_and(|pod| pod.stopping().is_none())
            }
            Action::Resize { of: Some((_, number)), .. } => {
                run.is_some_and(|run| run.running() && run.number == *number)
            }
            Action::Resize { of: None, .. } => known.is_some_and(|pod| pod.stopping().is_none()),
            Action::Admit(_)
            | Action::Reject { .. }
            | Action::Withdraw { .. }
            | Action::Note(_)
            | Action::Project { .. }
            | Action::Dismiss { .. }
            | Action::SetUp { .. }
            | Action::Find { .. } => true,
        };
        if !fits {
            return Err(format!("{action:?} does not fit {run:?}"));
        }
    }
    Ok(())
}

fn seeds(text: &str) -> Range<u64> {
    let number = |text: &str| text.trim().parse().expect("PODINIT_SEEDS is FROM..TO or one number");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(text)..number(text) + 1,
    }
}
