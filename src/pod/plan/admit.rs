//! Which wanted pods are taken up, and which admitted ones are no longer wanted.

use std::collections::{BTreeMap, BTreeSet};

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

/// Takes up every wanted pod whose name and host ports are free. A pod that waits for another one needs no wake-up:
/// the other's end is news.
pub(super) fn admit(turn: &mut Turn, world: &World) {
    if turn.desired.ending {
        return;
    }
    let mut names: BTreeSet<_> = world.pods.values().map(|pod| name(&pod.spec)).collect();
    let mut ports = Ports::default();
    for pod in world.pods.values().filter(|pod| !pod.done()) {
        ports.take(&pod.spec);
    }
    for pod in &turn.desired.pods {
        if world.pods.contains_key(&pod.uid) || names.contains(&name(pod)) || !ports.free(pod) {
            continue;
        }
        names.insert(name(pod));
        ports.take(pod);
        turn.plan.actions.push(Action::Admit(pod.clone()));
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

/// The host's ports in use: by protocol and number, the addresses (empty: all of them).
#[derive(Default)]
struct Ports<'a>(BTreeMap<(&'a str, i32), Vec<&'a str>>);

impl<'a> Ports<'a> {
    fn free(&self, pod: &Pod) -> bool {
        host_ports(pod).all(|(port, address)| {
            let used = self.0.get(&port).map_or(&[][..], Vec::as_slice);
            !used.iter().any(|other| other.is_empty() || address.is_empty() || *other == address)
        })
    }

    fn take(&mut self, pod: &'a Pod) {
        for (port, address) in host_ports(pod) {
            self.0.entry(port).or_default().push(address);
        }
    }
}

/// What the containers of a pod on the host's network listen on: ((protocol, port), address).
fn host_ports(pod: &Pod) -> impl Iterator<Item = ((&str, i32), &str)> {
    let spec = pod.object.spec.as_ref().filter(|_| pod.host_network);
    let containers = spec.map_or(&[][..], |spec| &spec.containers);
    containers.iter().flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = match port.host_ip.as_deref() {
            None | Some("0.0.0.0" | "::") => "",
            Some(address) => address,
        };
        Some(((port.protocol.as_deref().unwrap_or("TCP"), number), address))
    })
}
