//! Which wanted pods and resizes are taken up, and which admitted pods are no longer wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::room::Room;
use super::{Action, Turn, resize};
use crate::pod::facts::{Dismissal, PodFacts, Rejection, World};
use crate::pod::resources::Node;
use crate::pod::spec::{Desired, Pod};

/// What is wanted, as a lookup.
pub(super) struct Wanted<'a> {
    ending: bool,
    returns: bool,
    /// By uid.
    pods: BTreeMap<&'a str, &'a Pod>,
    /// (namespace, name).
    names: BTreeSet<(&'a str, &'a str)>,
}

/// `pods`: those of the manifests, and those that their Jobs want now.
pub(super) fn wanted<'a>(desired: &Desired, pods: &[&'a Arc<Pod>]) -> Wanted<'a> {
    Wanted {
        ending: desired.ending,
        returns: desired.returns,
        pods: pods.iter().copied().map(|pod| (pod.uid.as_str(), pod.as_ref())).collect(),
        names: pods.iter().copied().map(|pod| name(pod)).collect(),
    }
}

/// How what is wanted differs from an admitted pod.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Edit {
    None,
    /// In cpu and memory only, under the same uid.
    Resize,
    /// So that it is not this pod.
    Unwanted(Dismissal),
}

impl Wanted<'_> {
    pub(super) fn edit(&self, uid: &str, pod: &PodFacts) -> Edit {
        let named = || self.names.contains(&name(&pod.spec));
        edit(self.ending, self.pods.get(uid).copied(), named, pod)
    }

    /// Whether a pod of this uid is to be there after this one, also after the end of a machine that returns.
    pub(super) fn again(&self, uid: &str) -> bool {
        (!self.ending || self.returns) && self.pods.contains_key(uid)
    }
}

/// `wanted`: the wanted pod of its uid; `named`: whether one of its name is wanted.
pub(super) fn edit(ending: bool, wanted: Option<&Pod>, named: impl FnOnce() -> bool, pod: &PodFacts) -> Edit {
    match wanted {
        _ if ending => Edit::Unwanted(Dismissal::Ending),
        // A manifest that gives its uid keeps it when it is edited: only its content tells.
        Some(wanted) if same(wanted, &pod.spec) => Edit::None,
        // One that is over has nothing to resize: whoever gives it more wants it to run again.
        Some(wanted) if resize::only(&pod.spec, wanted) && pod.stopping().is_none() => Edit::Resize,
        None if !named() => Edit::Unwanted(Dismissal::Removed),
        Some(_) | None => Edit::Unwanted(Dismissal::Replaced),
    }
}

/// Takes up every wanted pod whose name is free and for which there is room, and every resize (`resizes`: of these
/// pods), in the order of the manifests; one that waits does not hold up those behind it. What waits needs no wake-up:
/// another's end is news.
pub(super) fn admit(turn: &mut Turn, world: &World, wanted: &[&Arc<Pod>], resizes: &BTreeSet<&str>) {
    let wanted = if turn.desired.ending { &[][..] } else { wanted };
    let names: BTreeSet<_> = world.pods.values().map(|pod| name(&pod.spec)).collect();
    let mut room = Room::default();
    for pod in world.pods.values().filter(|pod| !pod.done()) {
        room.take(&pod.spec);
    }
    let asks = wanted.iter().copied().filter(|pod| match world.pods.contains_key(&pod.uid) {
        true => resizes.contains(pod.uid.as_str()),
        false => !names.contains(&name(pod)),
    });
    turn.plan.actions.extend(decide(asks, &mut room, &turn.desired.node, world));
}

/// What becomes of the pods that are not there though their names are free, and of those that ask to be resized. What is
/// taken up is in the room afterwards.
pub(super) fn decide<'a>(
    asks: impl Iterator<Item = &'a Arc<Pod>>,
    room: &mut Room,
    node: &Node,
    world: &World,
) -> Vec<Action> {
    let (mut actions, mut names) = (Vec::new(), BTreeSet::new());
    let (mut waiting, mut judged) = (Vec::new(), BTreeSet::new());
    for pod in asks {
        if let Some(is) = world.pods.get(&pod.uid) {
            if room.grows(node, &is.spec, pod).is_ok() {
                room.resize(&is.spec, pod);
                actions.push(Action::Allocate(pod.clone()));
            } else {
                waiting.push(pod);
            }
            continue;
        }
        if names.contains(&name(pod)) {
            continue;
        }
        judged.insert(pod.uid.as_str());
        if room.judge(node, pod).is_ok() {
            names.insert(name(pod));
            room.take(pod);
            actions.push(Action::Admit(pod.clone()));
        } else {
            waiting.push(pod);
        }
    }
    // Judged again when all that come are in, so that what is told is told once.
    for pod in waiting {
        let is = world.pods.get(&pod.uid);
        let judged = is.map_or_else(|| room.judge(node, pod), |is| room.grows(node, &is.spec, pod));
        let Err((reason, message)) = judged else { continue };
        let known = is.map_or_else(|| world.rejected.get(&pod.uid), |is| is.pending.as_ref());
        let told = |known: &Rejection| (&known.reason, &known.message) == (&reason, &message);
        if known.is_some_and(|known| told(known) && same(&known.pod, pod)) {
            continue;
        }
        let pod = pod.clone();
        actions.push(match is {
            None => Action::Reject { pod, reason, message },
            Some(_) => Action::Postpone { pod, reason, message },
        });
    }
    let gone = world.rejected.keys().filter(|uid| !judged.contains(uid.as_str()));
    actions.extend(gone.cloned().map(|uid| Action::Withdraw { uid }));
    actions
}

/// Whether they say the same. The file that says it may have another name by now.
fn same(one: &Pod, other: &Pod) -> bool {
    // A listing that changes nothing keeps its allocations, so this is nearly always all there is to do.
    std::ptr::eq(one, other) || *one == Pod { origin: one.origin.clone(), ..other.clone() }
}

pub(super) fn name(pod: &Pod) -> (&str, &str) {
    (&pod.namespace, &pod.name)
}
