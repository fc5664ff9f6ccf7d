//! Small machines: what fits is taken up, and what is taken up fits.

use std::collections::BTreeMap;

use fastrand::Rng;
use podinit::pod::plan::Action;
use podinit::pod::resources::{Amounts, Node};
use podinit::pod::spec::Resources;
use podinit::pod::{Pod, World};

use crate::model::RealPod;
use crate::pods::pick;
use crate::properties::{Verdict, View, check, holds};

/// A machine with room for everything, or for a few pods.
pub fn node(rng: &mut Rng) -> Node {
    let allocatable = Amounts {
        cpu_milli: pick(rng, &[u64::MAX, 0, 3, 6]),
        memory: pick(rng, &[u64::MAX, u64::MAX, 5]),
        storage: pick(rng, &[u64::MAX, u64::MAX, 2]),
        huge_pages: BTreeMap::new(),
    };
    Node { allocatable, pods: pick(rng, &[u64::MAX, u64::MAX, 2, 1]), ..Node::default() }
}

/// What a container asks for.
pub fn resources(rng: &mut Rng) -> Resources {
    let some = |rng: &mut Rng| pick(rng, &[None, None, Some(0), Some(1), Some(2), Some(4)]);
    Resources {
        cpu_request: some(rng),
        memory_request: some(rng),
        storage_request: pick(rng, &[None, None, None, Some(1)]),
        ..Resources::default()
    }
}

type Part = fn(&Resources) -> Option<u64>;

const PARTS: [(Part, fn(&Amounts) -> u64); 3] = [
    (|given| given.cpu_request, |most| most.cpu_milli),
    (|given| given.memory_request, |most| most.memory),
    (|given| given.storage_request, |most| most.storage),
];

/// The most that runs at one time: at each step of the start, and in the end.
fn asks(pod: &Pod, part: Part) -> u64 {
    let of = |given: &Resources| part(given).unwrap_or(0);
    let sidecars = |before: usize| -> u64 {
        pod.init[..before].iter().filter(|init| init.sidecar).map(|init| of(&init.resources)).sum()
    };
    let steps = pod.init.iter().enumerate().map(|(index, init)| sidecars(index) + of(&init.resources));
    let end = sidecars(pod.init.len()) + pod.containers.iter().map(|main| of(&main.resources)).sum::<u64>();
    steps.max().unwrap_or(0).max(end)
}

/// Whether there is room for it beside all that is there.
pub fn fits(view: &View, pod: &Pod) -> bool {
    let there: Vec<&RealPod> = view.reality.pods.values().filter(|other| holds(other)).collect();
    let node = &view.desired.node;
    (there.len() as u64) < node.pods
        && PARTS.iter().all(|(part, most)| {
            let used: u64 = there.iter().map(|other| asks(&other.spec, *part)).sum();
            let asked = asks(pod, *part);
            asked == 0 || used.saturating_add(asked) <= most(&node.allocatable)
        })
}

pub fn what_is_admitted_fits(view: &View, action: &Action) -> Verdict {
    let Action::Admit(pod) = action else { return Ok(()) };
    check(fits(view, pod), || "there is no room".into())
}

/// A rejection is told of a wanted pod that is not there, and only while that is so.
pub fn only_what_waits_is_rejected(view: &View, world: &World) -> Verdict {
    for uid in world.rejected.keys() {
        let wanted = !view.desired.ending && view.desired.pods.iter().any(|pod| pod.uid == *uid);
        check(wanted && !view.reality.pods.contains_key(uid), || format!("{uid} is told to wait"))?;
    }
    if view.desired.ending {
        return Ok(());
    }
    for pod in &view.desired.pods {
        let there = view.reality.pods.values();
        let mut namesakes = there.filter(|other| other.spec.full_name() == pod.full_name());
        let told = world.rejected.get(&pod.uid);
        let waits = !view.reality.pods.contains_key(&pod.uid) && namesakes.next().is_none();
        check(waits == told.is_some(), || format!("{} waits: {waits}, told: {told:?}", pod.uid))?;
        let out = told.is_some_and(|told| told.reason.starts_with("OutOf"));
        check(out == (waits && !fits(view, pod)), || format!("{} has the reason {told:?}", pod.uid))?;
    }
    Ok(())
}
