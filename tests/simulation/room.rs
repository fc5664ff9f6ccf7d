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
    let limit = |rng: &mut Rng| pick(rng, &[None, None, None, Some(4), Some(5)]);
    let (cpu_limit, memory_limit) = (limit(rng), limit(rng));
    Resources {
        // A limit alone would be a request for as much, and few pods would fit.
        cpu_request: some(rng).or(cpu_limit.map(|_| 0)),
        memory_request: some(rng).or(memory_limit.map(|_| 0)),
        storage_request: pick(rng, &[None, None, None, Some(1)]),
        cpu_limit,
        memory_limit,
        cpu_restarts: rng.bool(),
        memory_restarts: rng.u8(0..4) == 0,
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

/// Whether there is room for what the pod is to have beside all others: what does not grow is not asked about.
pub fn fits_in_place(view: &View, to: &Pod) -> bool {
    let Some(is) = view.reality.pods.get(&to.uid) else { return false };
    let others = || view.reality.pods.iter().filter(|(uid, pod)| **uid != to.uid && holds(pod));
    PARTS[..2].iter().all(|(part, most)| {
        let used: u64 = others().map(|(_, other)| asks(&other.spec, *part)).sum();
        let asked = asks(to, *part);
        asked <= asks(&is.spec, *part) || used.saturating_add(asked) <= most(&view.desired.node.allocatable)
    })
}

pub fn what_is_allocated_fits(view: &View, action: &Action) -> Verdict {
    let Action::Allocate(pod) = action else { return Ok(()) };
    check(fits_in_place(view, pod), || "there is no room".into())?;
    let is = &view.reality.pods[&pod.uid];
    check(is.stopping().is_none() && resizable(&is.spec, pod), || "it is another pod".into())
}

/// Whether they differ in cpu and memory only.
pub fn resizable(is: &Pod, to: &Pod) -> bool {
    let given: Vec<Resources> = is.all().map(|container| container.resources).collect();
    let mut to = Pod { origin: is.origin.clone(), ..to.clone() };
    let mut given = given.into_iter();
    let class = |pod: &Pod| podinit::pod::resources::qos(pod);
    let same = class(is) == class(&to);
    for container in to.init.iter_mut().chain(&mut to.containers) {
        let Some(given) = given.next() else { return false };
        let Resources { storage_request, .. } = container.resources;
        container.resources = Resources { storage_request, ..given };
    }
    same && to == *is
}

/// A resize is told to wait while there is no room for it, and no longer.
pub fn only_a_resize_without_room_waits(view: &View, world: &World) -> Verdict {
    for (uid, pod) in &view.reality.pods {
        let wanted = view.desired.pods.iter().find(|wanted| wanted.uid == *uid);
        let goes_on = !view.desired.ending && pod.stopping().is_none();
        let resize = wanted.filter(|to| goes_on && resizable(&pod.spec, to) && !same(&pod.spec, to));
        let waits = resize.is_some_and(|to| !fits_in_place(view, to));
        let told = world.pods.get(uid).and_then(|pod| pod.pending.as_ref());
        if goes_on {
            check(waits == told.is_some(), || format!("{uid} waits: {waits}, told: {told:?}"))?;
        }
        check(resize.is_none() || waits, || format!("{uid} waits for nothing"))?;
    }
    Ok(())
}

fn same(is: &Pod, to: &Pod) -> bool {
    *is == Pod { origin: is.origin.clone(), ..to.clone() }
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
