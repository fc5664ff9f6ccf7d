//! Which wanted pods are taken up, and which admitted ones are no longer wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::room::Room;
use super::{Action, Turn};
use crate::pod::facts::{Dismissal, PodFacts, World};
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
        if self.ending {
            return Some(Dismissal::Ending);
        }
        if let Some(wanted) = self.pods.get(uid) {
            // A manifest that gives its uid keeps it when it is edited: only its content tells.
            return (!same(wanted, &pod.spec)).then_some(Dismissal::Replaced);
        }
        if self.names.contains(&name(&pod.spec)) {
            Some(Dismissal::Replaced)
        } else {
            Some(Dismissal::Removed)
        }
    }
}

/// Takes up every wanted pod whose name is free and for which there is room, in the order of the manifests; one that
/// waits does not hold up those behind it. A pod that waits needs no wake-up: another's end is news.
pub(super) fn admit(turn: &mut Turn, world: &World) {
    let wanted = if turn.desired.ending { &[][..] } else { &turn.desired.pods };
    let mut names: BTreeSet<_> = world.pods.values().map(|pod| name(&pod.spec)).collect();
    let mut room = Room::new(&turn.desired.node);
    for pod in world.pods.values().filter(|pod| !pod.done()) {
        room.take(&pod.spec);
    }
    let (mut waiting, mut judged) = (Vec::new(), BTreeSet::new());
    for pod in wanted {
        if world.pods.contains_key(&pod.uid) || names.contains(&name(pod)) {
            continue;
        }
        judged.insert(pod.uid.as_str());
        if room.judge(pod).is_ok() {
            names.insert(name(pod));
            room.take(pod);
            turn.act(Action::Admit(pod.clone()));
        } else {
            waiting.push(pod);
        }
    }
    // Judged again when all that come are in, so that what is told is told once.
    for pod in &waiting {
        let Err((reason, message)) = room.judge(pod) else { continue };
        let known = world.rejected.get(&pod.uid);
        let same = known
            .is_some_and(|known| known.reason == reason && known.message == message && same(&known.pod, pod));
        if !same {
            turn.act(Action::Reject { pod: (*pod).clone(), reason, message });
        }
    }
    let gone = world.rejected.keys().filter(|uid| !judged.contains(uid.as_str()));
    for uid in gone.cloned() {
        turn.act(Action::Withdraw { uid });
    }
}

/// Whether they say the same. The file that says it may have another name by now.
fn same(one: &Pod, other: &Pod) -> bool {
    // A listing that changes nothing keeps its allocations, so this is nearly always all there is to do.
    std::ptr::eq(one, other) || *one == Pod { origin: one.origin.clone(), ..other.clone() }
}

fn name(pod: &Pod) -> (&str, &str) {
    (&pod.namespace, &pod.name)
}
