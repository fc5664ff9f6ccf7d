//! Whether there is room for one pod more: the kubelet's checks of an admission, with its reasons and words.

use std::collections::BTreeMap;

use crate::pod::resources::{Node, requests};
use crate::pod::spec::Pod;
use crate::pod::{security, sysctl};

/// What the pods so far take of the machine. Sums are wide, so that what was taken can be given back exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pods: u64,
    cpu_milli: u128,
    memory: u128,
    storage: u128,
    /// By page size.
    huge_pages: BTreeMap<u64, u128>,
    ports: Ports,
}

impl Room {
    /// One pod more is there.
    pub(super) fn take(&mut self, pod: &Pod) {
        let asked = requests(pod);
        self.pods += 1;
        self.cpu_milli += u128::from(asked.cpu_milli);
        self.memory += u128::from(asked.memory);
        self.storage += u128::from(asked.storage);
        for (page, bytes) in asked.huge_pages {
            *self.huge_pages.entry(page).or_default() += u128::from(bytes);
        }
        self.ports.take(pod);
    }

    /// One that was taken is there no more.
    pub(super) fn give(&mut self, pod: &Pod) {
        let asked = requests(pod);
        self.pods -= 1;
        self.cpu_milli -= u128::from(asked.cpu_milli);
        self.memory -= u128::from(asked.memory);
        self.storage -= u128::from(asked.storage);
        for (page, bytes) in asked.huge_pages {
            let Some(used) = self.huge_pages.get_mut(&page) else { continue };
            *used -= u128::from(bytes);
            if *used == 0 {
                self.huge_pages.remove(&page);
            }
        }
        self.ports.give(pod);
    }

    /// A pod that is there gets what another spec of it says. Nothing else of the two differs.
    pub(super) fn resize(&mut self, is: &Pod, to: &Pod) {
        let (had, asked) = (requests(is), requests(to));
        self.cpu_milli = self.cpu_milli - u128::from(had.cpu_milli) + u128::from(asked.cpu_milli);
        self.memory = self.memory - u128::from(had.memory) + u128::from(asked.memory);
    }

    /// Whether a pod that is there may have what another spec of it says: else Kubernetes' reason of the condition
    /// PodResizePending, and the kubelet's message. What does not grow is not asked about.
    pub(super) fn grows(&self, node: &Node, is: &Pod, to: &Pod) -> Result<(), (String, String)> {
        let (had, asked, most) = (requests(is), requests(to), &node.allocatable);
        let cpu = ("cpu", had.cpu_milli, asked.cpu_milli, self.cpu_milli, most.cpu_milli);
        let memory = ("memory", had.memory, asked.memory, self.memory, most.memory);
        let grows = |(_, had, asked, _, _): &(&str, u64, u64, u128, u64)| asked > had;
        let never = [memory, cpu].into_iter().filter(grows).find(|(_, _, asked, _, most)| asked > most);
        if let Some((resource, _, asked, _, most)) = never {
            let what = format!("{resource}, requested: {asked}, capacity: {most}");
            return Err(("Infeasible".to_owned(), format!("Node didn't have enough capacity: {what}")));
        }
        for (resource, had, asked, used, most) in [cpu, memory].into_iter().filter(grows) {
            let used = sum(used.saturating_sub(u128::from(had)));
            if asked > most.saturating_sub(used) {
                return Err(("Deferred".to_owned(), lacks(resource, asked, used, most)));
            }
        }
        Ok(())
    }

    /// The first check that fails: Kubernetes' reason and message.
    pub(super) fn judge(&self, node: &Node, pod: &Pod) -> Result<(), (String, String)> {
        let told = |(reason, message): sysctl::Refusal| (reason.to_owned(), message);
        sysctl::judge(pod, &node.allowed_sysctls, node.kernel).map_err(told)?;
        security::apparmor(pod, node.apparmor.as_deref()).map_err(told)?;
        if let Some((resource, [requested, used, capacity])) = self.lacking(node, pod) {
            let message = lacks(&resource, requested, used, capacity);
            return Err((format!("OutOf{resource}"), message));
        }
        if !self.ports.free(pod) {
            let why = "node(s) didn't have free ports for the requested pod ports";
            return Err(("NodePorts".to_owned(), format!("Predicate NodePorts failed: {why}")));
        }
        Ok(())
    }

    /// The first resource of which there is too little, in the kubelet's order, with what is requested, used and there.
    /// What is not asked for is not lacking, even where more than all of it is taken.
    fn lacking(&self, node: &Node, pod: &Pod) -> Option<(String, [u64; 3])> {
        let (asked, most) = (requests(pod), &node.allocatable);
        let huge = asked.huge_pages.iter().map(|(page, bytes)| {
            let used = self.huge_pages.get(page).copied().map_or(0, sum);
            let most = most.huge_pages.get(page).copied().unwrap_or(0);
            (format!("hugepages-{}", binary(*page)), [*bytes, used, most])
        });
        let plain = [
            ("pods", [1, self.pods, node.pods]),
            ("cpu", [asked.cpu_milli, sum(self.cpu_milli), most.cpu_milli]),
            ("memory", [asked.memory, sum(self.memory), most.memory]),
            ("ephemeral-storage", [asked.storage, sum(self.storage), most.storage]),
        ];
        let plain = plain.into_iter().map(|(name, amounts)| (name.to_owned(), amounts));
        plain.chain(huge).find(|(_, [asked, used, most])| *asked > 0 && *asked > most.saturating_sub(*used))
    }
}

/// A sum as it is told.
fn sum(used: u128) -> u64 {
    u64::try_from(used).unwrap_or(u64::MAX)
}

fn lacks(resource: &str, asked: u64, used: u64, most: u64) -> String {
    format!(
        "Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {most}"
    )
}

/// A page size as Kubernetes names it: `2Mi`.
fn binary(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift && bytes > 0);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The host's ports in use: by protocol and number, the addresses (empty: all of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(BTreeMap<(String, i32), Vec<String>>);

impl Ports {
    fn free(&self, pod: &Pod) -> bool {
        host_ports(pod).all(|((protocol, number), address)| {
            let used = self.0.get(&(protocol.to_owned(), number)).map_or(&[][..], Vec::as_slice);
            !used.iter().any(|other| other.is_empty() || address.is_empty() || other == address)
        })
    }

    fn take(&mut self, pod: &Pod) {
        for ((protocol, number), address) in host_ports(pod) {
            self.0.entry((protocol.to_owned(), number)).or_default().push(address.to_owned());
        }
    }

    fn give(&mut self, pod: &Pod) {
        for ((protocol, number), address) in host_ports(pod) {
            let key = (protocol.to_owned(), number);
            let Some(used) = self.0.get_mut(&key) else { continue };
            if let Some(place) = used.iter().position(|other| other == address) {
                used.swap_remove(place);
            }
            if used.is_empty() {
                self.0.remove(&key);
            }
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
