//! resourceFieldRef: what a container may use or asks for.
//!
//! Source: Kubernetes v1.36, pkg/api/v1/resource (ExtractContainerResourceValue) and the kubelet's defaults for it.

use crate::pod::resources::Amounts;
use crate::pod::spec::{Container, Measure, Pod, ResourceField};

/// Divided and rounded up. A limit of cpu, memory or ephemeral-storage that is not set (or 0) is the pod's own, where
/// it gives one of the first two, else all that the node has for pods; any other not set is 0.
pub(in crate::pod) fn resource(pod: &Pod, wanted: &ResourceField, node: &Amounts) -> Result<String, String> {
    let name = &wanted.container;
    let container = pod.container(name).ok_or_else(|| format!("container {name} not found"))?;
    let value = if wanted.limit {
        limit(pod, container, wanted.measure, node)
    } else {
        request(container, wanted.measure)
    };
    Ok(value.div_ceil(wanted.divisor.max(1)).to_string())
}

fn limit(pod: &Pod, container: &Container, measure: Measure, node: &Amounts) -> u64 {
    let (given, own) = (&container.resources, pod.resources.as_ref());
    let first = |values: [Option<u64>; 2], last| {
        values.into_iter().flatten().find(|value| *value > 0).unwrap_or(last)
    };
    match measure {
        Measure::Cpu => first([given.cpu_limit, own.and_then(|own| own.cpu_limit)], node.cpu_milli),
        Measure::Memory => first([given.memory_limit, own.and_then(|own| own.memory_limit)], node.memory),
        Measure::Storage => first([given.storage_limit, None], node.storage),
        Measure::HugePages(size) => huge_pages(container, size),
    }
}

fn request(container: &Container, measure: Measure) -> u64 {
    let given = &container.resources;
    match measure {
        Measure::Cpu => given.cpu_request.unwrap_or(0),
        Measure::Memory => given.memory_request.unwrap_or(0),
        Measure::Storage => given.storage_request.unwrap_or(0),
        Measure::HugePages(size) => huge_pages(container, size),
    }
}

/// They are not shared: what is requested is the limit.
fn huge_pages(container: &Container, size: u64) -> u64 {
    container.huge_pages.get(&size).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::tests::{container, pod};
    use crate::pod::spec::Resources;

    const MIB: u64 = 1 << 20;

    /// TestExtractResourceValue, and the defaults of the downward API.
    #[test]
    fn resource_values() {
        use Measure::{Cpu, HugePages, Memory, Storage};
        let cpu = |request, limit| Resources { cpu_request: request, cpu_limit: limit, ..Default::default() };
        let memory =
            |request, limit| Resources { memory_request: request, memory_limit: limit, ..Default::default() };
        let storage = |request, limit| Resources {
            storage_request: request,
            storage_limit: limit,
            ..Default::default()
        };
        let (none, own) = (
            Resources::default(),
            Resources { cpu_limit: Some(2500), memory_limit: Some(64 * MIB), ..Default::default() },
        );
        let table = [
            (true, Cpu, 1000, cpu(None, Some(9000)), None, "9"),
            (true, Cpu, 1000, cpu(None, Some(8001)), None, "9"),
            (false, Cpu, 1000, none, None, "0"),
            (false, Cpu, 100, cpu(Some(1200), None), None, "12"),
            (false, Cpu, 1, cpu(Some(1200), None), None, "1200"),
            (true, Cpu, 1000, none, None, "4"),
            (true, Cpu, 1000, cpu(None, Some(0)), None, "4"),
            (true, Cpu, 1, none, Some(own), "2500"),
            (true, Cpu, 1, cpu(None, Some(0)), Some(own), "2500"),
            (true, Cpu, 1, cpu(None, Some(300)), Some(own), "300"),
            (true, Cpu, 1, none, Some(none), "4000"),
            // Requests have no such default.
            (false, Cpu, 1, none, Some(own), "0"),
            (false, Memory, MIB, memory(Some(100 * MIB), None), None, "100"),
            (false, Memory, 100 * MIB, memory(Some(101 * MIB), None), None, "2"),
            (true, Memory, 1, memory(None, Some(100 * MIB)), None, "104857600"),
            (true, Memory, 1024, none, None, "1048576"),
            (true, Memory, MIB, none, Some(own), "64"),
            (true, Storage, MIB, storage(None, Some(10 * MIB)), None, "10"),
            (true, Storage, 1 << 30, none, Some(own), "8"),
            (false, Storage, 1, storage(Some(7), None), None, "7"),
            (false, Storage, 1, none, None, "0"),
            (true, HugePages(2 * MIB), MIB, none, None, "6"),
            (false, HugePages(2 * MIB), 4 * MIB, none, None, "2"),
            (true, HugePages(1 << 30), 1, none, None, "0"),
            (true, Memory, 1 << 60, none, None, "1"),
        ];
        let node = Amounts {
            cpu_milli: 4000,
            memory: 1 << 30,
            storage: 8 << 30,
            huge_pages: [(1 << 30, 1 << 30)].into(),
        };
        for (limit, measure, divisor, given, own, expected) in table {
            let mut one = container("c", given);
            one.huge_pages = [(2 * MIB, 6 * MIB)].into();
            for as_init in [false, true] {
                let other = container("d", Resources::default());
                let mut pod = if as_init {
                    pod(vec![other], vec![one.clone()])
                } else {
                    pod(vec![other, one.clone()], vec![])
                };
                pod.resources = own;
                let wanted = ResourceField { container: "c".into(), limit, measure, divisor };
                assert_eq!(resource(&pod, &wanted, &node).as_deref(), Ok(expected), "{wanted:?} {given:?}");
            }
        }
        let gone = ResourceField { container: "x".into(), limit: true, measure: Cpu, divisor: 1 };
        assert_eq!(resource(&pod(vec![], vec![]), &gone, &node), Err("container x not found".into()));
    }
}
