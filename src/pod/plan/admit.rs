//! Which wanted pods are taken up, and which admitted ones are no longer wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::room::Room;
use super::{Action, Turn};
use crate::pod::facts::{Dismissal, PodFacts, World};
use crate::pod::resources::Node;
use crate::pod::spec::{Desired, Pod};

/// What is wanted, as a lookup.
pub(super) struct Wanted<'a> {
    ending: bool,
    /// By uid.
    pods: BTreeMap<&'a str, &'a Pod>,
    /// (namespace, name).
    names: BTreeSet<(&'a str, &'a str)>,
}

pub(super) fn wanted(desired: &Desired) -> Wanted<'_> {
    Wanted {
        ending: desired.ending,
        pods: desired.pods.iter().map(|pod| (pod.uid.as_str(), pod.as_ref())).collect(),
        names: desired.pods.iter().map(|pod| name(pod)).collect(),
    }
}

impl Wanted<'_> {
    /// Why this admitted pod is not wanted, if it is not.
    pub(super) fn unwanted(&self, uid: &str, pod: &PodFacts) -> Option<Dismissal> {
        let named = || self.names.contains(&name(&pod.spec));
        unwanted(self.ending, self.pods.get(uid).copied(), named, pod)
    }
}

/// Why an admitted pod is not wanted, if it is not. `wanted`: the wanted pod of its uid; `named`: whether one of its
/// name is wanted.
pub(super) fn unwanted(
    ending: bool,
    wanted: Option<&Pod>,
    named: impl FnOnce() -> bool,
    pod: &PodFacts,
) -> Option<Dismissal> {
    match wanted {
        _ if ending => Some(Dismissal::Ending),
        // A manifest that gives its uid keeps it when it is edited: only its content tells.
        Some(wanted) => (!same(wanted, &pod.spec)).then_some(Dismissal::Replaced),
        None if named() => Some(Dismissal::Replaced),
        None => Some(Dismissal::Removed),
    }
}

/// Takes up every wanted pod whose name is free and for which there is room, in the order of the manifests; one that
/// waits does not hold up those behind it. A pod that waits needs no wake-up: another's end is news.
pub(super) fn admit(turn: &mut Turn, world: &World) {
    let wanted = if turn.desired.ending { &[][..] } else { &turn.desired.pods };
    let names: BTreeSet<_> = world.pods.values().map(|pod| name(&pod.spec)).collect();
    let mut room = Room::default();
    for pod in world.pods.values().filter(|pod| !pod.done()) {
        room.take(&pod.spec);
    }
    let absent = wanted.iter().filter(|pod| !world.pods.contains_key(&pod.uid));
    let free = absent.filter(|pod| !names.contains(&name(pod)));
    turn.plan.actions.extend(decide(free, &mut room, &turn.desired.node, world));
}

/// What becomes of the pods that are not there though their names are free. Who is taken up is in the room afterwards.
pub(super) fn decide<'a>(
    free: impl Iterator<Item = &'a Arc<Pod>>,
    room: &mut Room,
    node: &Node,
    world: &World,
) -> Vec<Action> {
    let (mut actions, mut names) = (Vec::new(), BTreeSet::new());
    let (mut waiting, mut judged) = (Vec::new(), BTreeSet::new());
    for pod in free {
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
    for pod in &waiting {
        let Err((reason, message)) = room.judge(node, pod) else { continue };
        let known = world.rejected.get(&pod.uid);
        let same = known
            .is_some_and(|known| known.reason == reason && known.message == message && same(&known.pod, pod));
        if !same {
            actions.push(Action::Reject { pod: (*pod).clone(), reason, message });
        }
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
