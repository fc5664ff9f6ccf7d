//! What a resourceFieldRef stands for.

use crate::pod::quantity::Quantity;
use crate::pod::resources::Allocatable;
use crate::pod::spec::{Container, Pod};

/// The value of a resourceFieldRef, divided and rounded up. A request that is not set is 0; so is a limit of huge pages,
/// which are never more than were asked for. Any other limit that is not set, or 0, is that of the pod as a whole, else
/// what the node has for pods.
///
/// Source: Kubernetes' ExtractContainerResourceValue, MergeContainerResourceLimits and the kubelet's
/// defaultPodLimitsForDownwardAPI.
pub(in crate::pod) fn resource_value(
    pod: &Pod,
    container: &Container,
    resource: &str,
    divisor: &str,
    node: &Allocatable,
) -> Result<String, String> {
    let (own, whole) = (&container.resources, pod.resources.as_ref());
    let limit = |own: Option<u64>, whole: Option<u64>, node: u64| {
        u128::from(own.into_iter().chain(whole).find(|limit| *limit > 0).unwrap_or(node))
    };
    let request = |own: Option<u64>| u128::from(own.unwrap_or(0));
    // In thousandths, as is the divisor.
    let value = match resource {
        "limits.cpu" => limit(own.cpu_limit, whole.and_then(|whole| whole.cpu_limit), node.cpu_milli),
        "requests.cpu" => request(own.cpu_request),
        "limits.memory" => {
            limit(own.memory_limit, whole.and_then(|whole| whole.memory_limit), node.memory) * 1000
        }
        "requests.memory" => request(own.memory_request) * 1000,
        "limits.ephemeral-storage" => limit(own.storage_limit, None, node.storage) * 1000,
        "requests.ephemeral-storage" => request(own.storage_request) * 1000,
        _ => {
            huge(container, resource).ok_or_else(|| format!("unsupported container resource: {resource}"))?
                * 1000
        }
    };
    let divisor = match divisor {
        "" => 0,
        given => Quantity::parse(given).map_err(|why| format!("divisor {why}"))?.milli(),
    };
    // Zero is how Kubernetes writes "not given".
    Ok(value.div_ceil(if divisor == 0 { 1000 } else { divisor.into() }).to_string())
}

/// Huge pages are requested as they are limited.
fn huge(container: &Container, resource: &str) -> Option<u128> {
    let name = resource.strip_prefix("limits.").or_else(|| resource.strip_prefix("requests."))?;
    let page = Quantity::parse(name.strip_prefix("hugepages-")?).ok()?.whole();
    Some(u128::from(container.huge_pages.get(&page).copied().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::tests::{container, pod};
    use crate::pod::spec::Resources;

    const NODE: Allocatable = Allocatable { cpu_milli: 4000, memory: 1 << 30, storage: 8 << 30 };
    const MIB: u64 = 1 << 20;

    fn cpu(request: Option<u64>, limit: Option<u64>) -> Resources {
        Resources { cpu_request: request, cpu_limit: limit, ..Default::default() }
    }

    fn memory(request: Option<u64>, limit: Option<u64>) -> Resources {
        Resources { memory_request: request, memory_limit: limit, ..Default::default() }
    }

    fn storage(request: Option<u64>, limit: Option<u64>) -> Resources {
        Resources { storage_request: request, storage_limit: limit, ..Default::default() }
    }

    #[test]
    fn resource_values() {
        let table = [
            ("limits.cpu", "", cpu(None, Some(9000)), "9"),
            ("limits.cpu", "1", cpu(None, Some(8001)), "9"),
            ("requests.cpu", "", cpu(None, None), "0"),
            ("requests.cpu", "100m", cpu(Some(1200), None), "12"),
            ("requests.cpu", "1m", cpu(Some(1200), None), "1200"),
            ("limits.cpu", "0", cpu(None, None), "4"),
            ("limits.cpu", "", cpu(None, Some(0)), "4"),
            ("requests.cpu", "", cpu(Some(1), None), "1"),
            ("requests.memory", "1Mi", memory(Some(100 * MIB), None), "100"),
            ("requests.memory", "100Mi", memory(Some(101 * MIB), None), "2"),
            ("limits.memory", "", memory(None, Some(100 * MIB)), "104857600"),
            ("limits.memory", "1Ki", memory(None, None), "1048576"),
            ("limits.memory", "1Gi", memory(None, Some(0)), "1"),
            ("requests.memory", "1E", memory(Some(1), None), "1"),
            ("limits.ephemeral-storage", "1Mi", storage(None, Some(1025 * 1024)), "2"),
            ("limits.ephemeral-storage", "1Gi", storage(None, None), "8"),
            ("limits.ephemeral-storage", "1Gi", storage(None, Some(0)), "8"),
            ("requests.ephemeral-storage", "1k", storage(Some(1500), None), "2"),
            ("requests.ephemeral-storage", "", storage(None, None), "0"),
            ("limits.hugepages-2Mi", "1Mi", Resources::default(), "64"),
            ("requests.hugepages-2Mi", "", Resources::default(), "67108864"),
            ("limits.hugepages-2048Ki", "1Gi", Resources::default(), "1"),
            ("limits.hugepages-1Gi", "", Resources::default(), "0"),
        ];
        for (resource, divisor, given, expected) in table {
            let mut of = container("c", given);
            of.huge_pages.insert(2 * MIB, 64 * MIB);
            let pod = pod(vec![of.clone()], vec![]);
            let found = resource_value(&pod, &of, resource, divisor, &NODE);
            assert_eq!(found.as_deref(), Ok(expected), "{resource} {divisor}");
        }
        let one = container("c", Resources::default());
        let pod = pod(vec![one.clone()], vec![]);
        for (resource, divisor) in
            [("limits.gpu", ""), ("limits.cpu", "x"), ("limits.hugepages-", ""), ("hugepages-2Mi", "")]
        {
            assert!(resource_value(&pod, &one, resource, divisor, &NODE).is_err(), "{resource} {divisor}");
        }
    }

    #[test]
    fn a_limit_that_a_container_lacks_is_its_pods() {
        let whole = Resources { memory_limit: Some(200 * MIB), ..cpu(None, Some(1500)) };
        let table = [
            ("limits.cpu", cpu(None, None), "1500"),
            ("limits.cpu", cpu(None, Some(700)), "700"),
            ("requests.cpu", cpu(None, None), "0"),
            ("limits.memory", memory(None, None), "209715200000"),
            ("limits.memory", memory(None, Some(MIB)), "1048576000"),
            ("limits.ephemeral-storage", storage(None, None), "8589934592000"),
        ];
        for (resource, given, expected) in table {
            let of = container("c", given);
            let mut pod = pod(vec![of.clone()], vec![]);
            pod.resources = Some(whole);
            let found = resource_value(&pod, &of, resource, "1m", &NODE);
            assert_eq!(found.as_deref(), Ok(expected), "{resource}");
        }
        let of = container("c", Resources::default());
        let mut pod = pod(vec![of.clone()], vec![]);
        pod.resources = Some(cpu(None, Some(1500)));
        assert_eq!(
            resource_value(&pod, &of, "limits.memory", "1Gi", &NODE).as_deref(),
            Ok("1"),
            "the node's"
        );
    }
}
