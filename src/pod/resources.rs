//! Requests and limits to QoS class, cgroup values and oom_score_adj. Formulas of Kubernetes v1.36
//! (pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/policy.go) and of opencontainers/cgroups v0.0.6.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::spec::{Container, Pod, Resources};

/// The period of a CPU quota, in microseconds.
const PERIOD: u64 = 100_000;

/// The kernel's smallest quota, in microseconds.
const QUOTA_MIN: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// Kubernetes' word (PodStatus.qosClass).
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// A container's limits; None: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// 2..262144.
    pub shares: Option<u64>,
    /// Microseconds in each `period`.
    pub quota: Option<u64>,
    pub period: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// Guaranteed: every container has cpu and memory limits above 0 and equal requests. BestEffort: nothing anywhere.
pub fn qos(pod: &Pod) -> Qos {
    let set = |value: Option<u64>| value.is_some_and(|value| value > 0);
    let equal = |request: Option<u64>, limit| set(limit) && request.is_none_or(|request| Some(request) == limit);
    let mut all = pod.all().map(|container| &container.resources);
    let any = pod.all().any(|container| {
        let r = &container.resources;
        set(r.cpu_request) || set(r.cpu_limit) || set(r.memory_request) || set(r.memory_limit)
    });
    match any {
        false => Qos::BestEffort,
        true if all.all(|r| equal(r.cpu_request, r.cpu_limit) && equal(r.memory_request, r.memory_limit)) => {
            Qos::Guaranteed
        }
        true => Qos::Burstable,
    }
}

/// The pod's cgroup below the root: `/kubepods/burstable/pod<uid>`.
pub fn cgroup_path(pod: &Pod) -> String {
    let class = match qos(pod) {
        Qos::Guaranteed => "",
        Qos::Burstable => "/burstable",
        Qos::BestEffort => "/besteffort",
    };
    format!("/kubepods{class}/pod{}", pod.uid)
}

/// The id of a container's run: 64 hex digits, the same in every life of PID 1.
pub fn container_id(uid: &str, name: &str, run: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{run}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Thousandths of a core to CPU shares.
pub fn shares(milli: u64) -> u64 {
    if milli == 0 { 2 } else { (milli.saturating_mul(1024) / 1000).clamp(2, 262_144) }
}

/// Thousandths of a core to a quota of `period` microseconds; 0: none.
pub fn quota(milli: u64, period: u64) -> u64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(period) / 1000).max(QUOTA_MIN) }
}

/// Shares to cpu.weight, as the kubelet writes it for pods: linear.
pub fn pod_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Shares to cpu.weight, as runc writes it for containers: quadratic in their logarithm.
pub fn container_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// The sum that the pod needs of one resource: the regular containers together, or the greediest init container.
fn effective(pod: &Pod, of: impl Fn(&Resources) -> u64) -> u64 {
    let mains: u64 = pod.containers.iter().map(|container| of(&container.resources)).sum();
    let init = pod.init.iter().map(|container| of(&container.resources)).max().unwrap_or(0);
    mains.max(init)
}

/// What the kubelet fills in before it looks: a request that is missing is its limit.
fn cpu_request(r: &Resources) -> u64 {
    r.cpu_request.or(r.cpu_limit).unwrap_or(0)
}

/// The pod's own limits (kubelet: ResourceConfigForPod).
pub fn pod_limits(pod: &Pod) -> Values {
    let requested = shares(effective(pod, cpu_request));
    let cpu = effective(pod, |r| r.cpu_limit.unwrap_or(0));
    let memory = effective(pod, |r| r.memory_limit.unwrap_or(0));
    // A limit of the whole pod means something only where no container is without one.
    let all = |of: fn(&Resources) -> Option<u64>| pod.all().all(|c| of(&c.resources).is_some_and(|value| value > 0));
    let (cpu_bound, memory_bound) = (all(|r| r.cpu_limit), all(|r| r.memory_limit));
    match qos(pod) {
        Qos::BestEffort => Values { shares: Some(2), ..Values::default() },
        Qos::Guaranteed | Qos::Burstable => Values {
            shares: Some(requested),
            quota: cpu_bound.then(|| quota(cpu, PERIOD)),
            period: cpu_bound.then_some(PERIOD),
            memory: memory_bound.then_some(memory),
        },
    }
}

/// The cgroup2 files of the pod's group and their values.
pub fn pod_values(pod: &Pod, pids: Option<u64>) -> BTreeMap<String, String> {
    let limits = pod_limits(pod);
    let mut files = BTreeMap::new();
    let mut put = |file: &str, value: Option<String>| {
        files.extend(value.map(|value| (file.to_owned(), value)));
    };
    put("cpu.weight", limits.shares.map(|shares| pod_weight(shares).to_string()));
    put("cpu.max", limits.quota.map(|quota| format!("{quota} {PERIOD}")));
    put("memory.max", limits.memory.map(|memory| memory.to_string()));
    put("pids.max", pids.map(|pids| pids.to_string()));
    files
}

/// One container's limits.
pub fn container_limits(container: &Container) -> Values {
    let r = &container.resources;
    Values {
        shares: Some(shares(cpu_request(r))),
        quota: r.cpu_limit.filter(|limit| *limit > 0).map(|limit| quota(limit, PERIOD)),
        period: r.cpu_limit.filter(|limit| *limit > 0).map(|_| PERIOD),
        memory: r.memory_limit.filter(|limit| *limit > 0),
    }
}

/// The kernel's preference when memory runs out, -997 (spare) to 1000 (first). `capacity`: the machine's memory.
/// Every static pod is critical to the kubelet, yet only priority class system-node-critical spares its processes.
pub fn oom_score_adj(pod: &Pod, container: &Container, capacity: u64) -> i32 {
    let class = pod.object.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    if class == Some("system-node-critical") {
        return -997;
    }
    let request = container.resources.memory_request.unwrap_or(0);
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = (1000 * u128::from(request)).checked_div(u128::from(capacity)).unwrap_or(0);
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::RestartPolicy;
    use crate::pod::status::tests as made;

    type Row = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);
    const MI: u64 = 1 << 20;
    const NONE: Row = (None, None, None, None);

    /// Requests of cpu and memory, limits of cpu and memory, one row a container.
    fn with(mains: &[Row], init: &[Row]) -> Pod {
        let fill = |rows: &[Row]| -> Vec<Container> {
            let set = |&(cpu_request, memory_request, cpu_limit, memory_limit): &Row| Container {
                resources: Resources { cpu_request, cpu_limit, memory_request, memory_limit },
                ..made::plain("a")
            };
            rows.iter().map(set).collect()
        };
        let mut pod = (*made::pod(RestartPolicy::Always, &[], &["a"]).spec).clone();
        (pod.containers, pod.init) = (fill(mains), fill(init));
        pod
    }

    fn all(cpu: u64, memory: u64) -> Row {
        (Some(cpu), Some(memory * MI), Some(cpu), Some(memory * MI))
    }

    fn both(cpu: u64, memory: u64, cpu_limit: u64, memory_limit: u64) -> Row {
        (Some(cpu), Some(memory * MI), Some(cpu_limit), Some(memory_limit * MI))
    }

    #[test]
    fn shares_quota_and_weights_are_the_peers() {
        let milli_shares =
            [(0, 2), (1, 2), (2, 2), (4, 4), (32, 32), (64, 65), (100, 102), (250, 256), (1000, 1024), (1500, 1536)];
        milli_shares.iter().for_each(|&(milli, expected)| assert_eq!(shares(milli), expected, "{milli}"));
        for (milli, period, expected) in
            [(0, 0, 0), (5, 100_000, 1000), (9, 100_000, 1000), (10, 100_000, 1000), (1000, 100_000, 100_000)]
        {
            assert_eq!(quota(milli, period), expected, "{milli}");
        }
        for (shares, pod, container) in [
            (2, 1, 1),
            (3, 1, 2),
            (10, 1, 4),
            (20, 1, 6),
            (102, 4, 17),
            (512, 20, 59),
            (1000, 39, 99),
            (1024, 39, 100),
            (1536, 59, 138),
            (4096, 157, 303),
            (8192, 313, 532),
            (10240, 391, 639),
            (16384, 625, 942),
            (131_072, 5000, 5478),
            (262_144, 10_000, 10_000),
        ] {
            assert_eq!((pod_weight(shares), container_weight(shares)), (pod, container), "{shares}");
        }
    }

    #[test]
    fn classes_are_the_peers() {
        use Qos::{BestEffort, Burstable, Guaranteed};
        for (mains, init, expected) in [
            (vec![all(100, 100)], vec![], Guaranteed),
            (vec![all(100, 100), all(100, 100)], vec![], Guaranteed),
            (vec![NONE, NONE], vec![], BestEffort),
            (vec![NONE, (Some(1), None, Some(2), None)], vec![], Burstable),
            (vec![NONE, all(10, 100)], vec![], Burstable),
            (vec![(None, Some(100 * MI), None, Some(100 * MI))], vec![], Burstable),
            (vec![(Some(100), Some(100 * MI), None, None)], vec![], Burstable),
            (vec![both(1, 100, 2, 100), all(100, 100)], vec![], Burstable),
            (vec![both(100, 100, 200, 200), (Some(100), Some(100 * MI), None, None)], vec![], Burstable),
            (vec![both(10, 100, 100, 200)], vec![], Burstable),
            (vec![both(0, 0, 100, 200)], vec![], Burstable),
            (vec![both(0, 0, 0, 0)], vec![], BestEffort),
            (vec![NONE], vec![both(10, 100, 100, 200)], Burstable),
        ] {
            assert_eq!(qos(&with(&mains, &init)), expected, "{mains:?} {init:?}");
        }
    }

    #[test]
    fn a_pods_limits_are_the_peers() {
        let values = |shares, quota: Option<u64>, memory| Values {
            shares: Some(shares),
            quota,
            period: quota.map(|_| PERIOD),
            memory,
        };
        let request = (Some(100), Some(100 * MI), None, None);
        let limited = both(100, 100, 200, 200);
        for (mains, init, expected) in [
            (vec![NONE], vec![], values(2, None, None)),
            (vec![request], vec![], values(102, None, None)),
            (vec![limited], vec![], values(102, Some(20_000), Some(200 * MI))),
            (vec![all(100, 100)], vec![], values(102, Some(10_000), Some(100 * MI))),
            (vec![limited, request], vec![], values(204, None, None)),
            (vec![limited, request], vec![limited, request], values(204, None, None)),
            (vec![limited], vec![all(500, 50)], values(512, Some(50_000), Some(200 * MI))),
        ] {
            assert_eq!(pod_limits(&with(&mains, &init)), expected, "{mains:?} {init:?}");
        }
        let files = pod_values(&with(&[limited], &[]), Some(1024));
        let files: Vec<_> = files.iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(files, ["cpu.max=20000 100000", "cpu.weight=4", "memory.max=209715200", "pids.max=1024"]);
    }

    #[test]
    fn oom_scores_are_the_peers() {
        let giga = 1_000_000_000;
        for (row, capacity, expected) in [
            ((None, None, Some(10), None), 4 * giga, 999),
            ((Some(0), None, None, Some(10 * giga)), 8 * giga, 999),
            ((None, None, None, Some(0)), 7_230_457_451, 1000),
            (NONE, 4 * giga, 1000),
            ((Some(5), Some(10 * giga), Some(5), Some(10 * giga)), 123_456_789, -997),
            ((Some(5), Some(4 * giga), None, Some(10 * giga)), 8 * giga, 500),
            ((Some(5), Some(8 * giga - 1), None, None), 8 * giga, 3),
            ((None, Some(giga), None, None), 8 * giga, 875),
        ] {
            let pod = with(&[row], &[]);
            assert_eq!(oom_score_adj(&pod, &pod.containers[0], capacity), expected, "{row:?}");
        }
        let mut pod = with(&[NONE], &[]);
        for (class, expected) in [("system-cluster-critical", 1000), ("system-node-critical", -997)] {
            pod.object.spec.get_or_insert_default().priority_class_name = Some(class.into());
            assert_eq!(oom_score_adj(&pod, &pod.containers[0], giga), expected, "{class}");
        }
    }
}
