//! Whether there is room for one pod more: the kubelet's checks of an admission, with its reasons and words.

use std::collections::BTreeMap;

use crate::pod::resources::{Amounts, Node, requests};
use crate::pod::spec::Pod;
use crate::pod::{security, sysctl};

/// What the machine has, and what the pods so far take of it.
pub(super) struct Room<'a> {
    node: &'a Node,
    used: Amounts,
    pods: u64,
    ports: Ports<'a>,
}

impl<'a> Room<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Room { node, used: Amounts::default(), pods: 0, ports: Ports::default() }
    }

    /// One pod more is there.
    pub(super) fn take(&mut self, pod: &'a Pod) {
        let asked = requests(pod);
        for (used, asked) in [
            (&mut self.used.cpu_milli, asked.cpu_milli),
            (&mut self.used.memory, asked.memory),
            (&mut self.used.storage, asked.storage),
        ] {
            *used = used.saturating_add(asked);
        }
        for (page, bytes) in asked.huge_pages {
            let used = self.used.huge_pages.entry(page).or_default();
            *used = used.saturating_add(bytes);
        }
        self.pods += 1;
        self.ports.take(pod);
    }

    /// A pod that is there gets what another spec of it says.
    pub(super) fn resize(&mut self, is: &Pod, to: &Pod) {
        let had = requests(is);
        self.used.cpu_milli = self.used.cpu_milli.saturating_sub(had.cpu_milli);
        self.used.memory = self.used.memory.saturating_sub(had.memory);
        let asked = requests(to);
        self.used.cpu_milli = self.used.cpu_milli.saturating_add(asked.cpu_milli);
        self.used.memory = self.used.memory.saturating_add(asked.memory);
    }

    /// Whether a pod that is there may have what another spec of it says: else Kubernetes' reason of the condition
    /// PodResizePending, and the kubelet's message. What does not grow is not asked about.
    pub(super) fn grows(&self, is: &Pod, to: &Pod) -> Result<(), (String, String)> {
        let (had, asked, most) = (requests(is), requests(to), &self.node.allocatable);
        let cpu = ("cpu", had.cpu_milli, asked.cpu_milli, self.used.cpu_milli, most.cpu_milli);
        let memory = ("memory", had.memory, asked.memory, self.used.memory, most.memory);
        let grows = |(_, had, asked, _, _): &(&str, u64, u64, u64, u64)| asked > had;
        let never = [memory, cpu].into_iter().filter(grows).find(|(_, _, asked, _, most)| asked > most);
        if let Some((resource, _, asked, _, most)) = never {
            let what = format!("{resource}, requested: {asked}, capacity: {most}");
            return Err(("Infeasible".to_owned(), format!("Node didn't have enough capacity: {what}")));
        }
        for (resource, had, asked, used, most) in [cpu, memory].into_iter().filter(grows) {
            let used = used.saturating_sub(had);
            if asked > most.saturating_sub(used) {
                return Err(("Deferred".to_owned(), lacks(resource, asked, used, most)));
            }
        }
        Ok(())
    }

    /// The first check that fails: Kubernetes' reason and message.
    pub(super) fn judge(&self, pod: &Pod) -> Result<(), (String, String)> {
        let told = |(reason, message): sysctl::Refusal| (reason.to_owned(), message);
        sysctl::judge(pod, &self.node.allowed_sysctls, self.node.kernel).map_err(told)?;
        security::apparmor(pod, self.node.apparmor.as_deref()).map_err(told)?;
        if let Some((resource, [requested, used, capacity])) = self.lacking(pod) {
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
    fn lacking(&self, pod: &Pod) -> Option<(String, [u64; 3])> {
        let (asked, most, used) = (requests(pod), &self.node.allocatable, &self.used);
        let huge = asked.huge_pages.iter().map(|(page, bytes)| {
            let of = |amounts: &Amounts| amounts.huge_pages.get(page).copied().unwrap_or(0);
            (format!("hugepages-{}", binary(*page)), [*bytes, of(used), of(most)])
        });
        let plain = [
            ("pods", [1, self.pods, self.node.pods]),
            ("cpu", [asked.cpu_milli, used.cpu_milli, most.cpu_milli]),
            ("memory", [asked.memory, used.memory, most.memory]),
            ("ephemeral-storage", [asked.storage, used.storage, most.storage]),
        ];
        let plain = plain.into_iter().map(|(name, amounts)| (name.to_owned(), amounts));
        plain.chain(huge).find(|(_, [asked, used, most])| *asked > 0 && *asked > most.saturating_sub(*used))
    }
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
