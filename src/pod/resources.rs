//! Requests and limits to QoS class, cgroup values and oom_score_adj.

use sha2::{Digest, Sha256};

use super::spec::{Container, Pod, Resources};

/// The kernel's default period of cpu.max, in microseconds; the kubelet's too.
pub const PERIOD: u64 = 100_000;

/// What the node has for pods: thousandths of a core, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    pub cpu_milli: u64,
    pub memory: u64,
}

/// Kubernetes' quality of service class; only cpu and memory count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// The word of status.qosClass.
    pub fn word(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// What a cgroup is given; None: the file is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the unit of cgroup v1, of which the weight is computed.
    pub shares: Option<u64>,
    /// cpu.weight, 1 to 10000.
    pub weight: Option<u64>,
    /// cpu.max: microseconds in each `period`.
    pub quota: Option<u64>,
    pub period: Option<u64>,
    /// memory.max, in bytes.
    pub memory: Option<u64>,
}

/// Thousandths of a core to shares: 1024 a core, from 2 to 262144.
pub fn shares(cpu_milli: u64) -> u64 {
    (cpu_milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Thousandths of a core to microseconds of a period, at least 1000; 0: no quota.
pub fn quota(cpu_milli: u64, period: u64) -> u64 {
    match cpu_milli {
        0 => 0,
        _ => (cpu_milli.saturating_mul(period) / 1000).max(1000),
    }
}

/// cpu.weight of a pod's or QoS class's cgroup: the kubelet's linear formula.
pub fn pod_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// cpu.weight of a container's cgroup: runc's formula (opencontainers/cgroups v0.0.6), by which 1024 is 100.
pub fn container_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// The pod's class (Kubernetes: Pod Quality of Service Classes). Init containers count as all others.
pub fn qos(pod: &Pod) -> Qos {
    let given = |value: Option<u64>| value.is_some_and(|value| value > 0);
    let nothing = |r: &Resources| {
        !(given(r.cpu_request) || given(r.cpu_limit) || given(r.memory_request) || given(r.memory_limit))
    };
    let equal =
        |request: Option<u64>, limit| given(limit) && request.is_none_or(|value| Some(value) == limit);
    let full = |r: &Resources| equal(r.cpu_request, r.cpu_limit) && equal(r.memory_request, r.memory_limit);
    if pod.all().all(|container| nothing(&container.resources)) {
        Qos::BestEffort
    } else if pod.all().all(|container| full(&container.resources)) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What the pod may use at one time: the sum of the regular containers, or the greatest init container where that
/// is more. What a container does not give counts as 0.
pub fn effective(pod: &Pod, of: impl Fn(&Resources) -> Option<u64>) -> u64 {
    let value = |container: &Container| of(&container.resources).unwrap_or(0);
    let sum = pod.containers.iter().map(value).fold(0, u64::saturating_add);
    pod.init.iter().map(value).fold(sum, u64::max)
}

/// The pod's cgroup: limits only where every container declares one.
pub fn pod_limits(pod: &Pod) -> Limits {
    let class = qos(pod);
    let shares = match class {
        Qos::BestEffort => 2,
        Qos::Guaranteed | Qos::Burstable => shares(effective(pod, cpu_request)),
    };
    let declared = |of: fn(&Resources) -> Option<u64>| {
        let all = pod.all().all(|container| of(&container.resources).is_some_and(|limit| limit > 0));
        (class != Qos::BestEffort && all).then(|| effective(pod, of))
    };
    let cpu = declared(|given| given.cpu_limit);
    Limits {
        shares: Some(shares),
        weight: Some(pod_weight(shares)),
        quota: cpu.map(|cpu| quota(cpu, PERIOD)),
        period: cpu.map(|_| PERIOD),
        memory: declared(|given| given.memory_limit),
    }
}

/// A container's cgroup. Without a cpu request its share is that of its limit; an explicit request of 0 is the least.
pub fn container_limits(container: &Container) -> Limits {
    let given = &container.resources;
    let shares = shares(cpu_request(given).unwrap_or(0));
    let cpu = given.cpu_limit.filter(|&limit| limit > 0);
    Limits {
        shares: Some(shares),
        weight: Some(container_weight(shares)),
        quota: cpu.map(|cpu| quota(cpu, PERIOD)),
        period: cpu.map(|_| PERIOD),
        memory: given.memory_limit.filter(|&limit| limit > 0),
    }
}

/// oom_score_adj of the container's processes; `capacity` is the machine's memory in bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, capacity: u64) -> i32 {
    let class = pod.object.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    if class == Some("system-node-critical") {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = u128::from(container.resources.memory_request.unwrap_or(0));
            let share = (request * 1000 / u128::from(capacity.max(1))).min(1000) as i32;
            (1000 - share).clamp(3, 999)
        }
    }
}

/// The pod's cgroup below the cgroup root: `/kubepods/burstable/pod<uid>`.
pub fn cgroup(pod: &Pod) -> String {
    let class = match qos(pod) {
        Qos::Guaranteed => "",
        Qos::Burstable => "/burstable",
        Qos::BestEffort => "/besteffort",
    };
    format!("/kubepods{class}/pod{}", pod.uid)
}

/// The id of one run of a container: 64 hexadecimal digits, the same for the same run.
pub fn container_id(uid: &str, name: &str, run: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{run}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A quantity of Kubernetes' API (`100m`, `1.5`, `64Mi`) in thousandths, rounded up; None where it is none.
pub(super) fn quantity(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // In billionths: the API knows nothing finer.
    let scale: u128 = match suffix {
        "n" => 1,
        "u" => 1000,
        "m" => 1_000_000,
        "" => 10u128.pow(9),
        "k" => 10u128.pow(12),
        "M" => 10u128.pow(15),
        "G" => 10u128.pow(18),
        "T" => 10u128.pow(21),
        "Ki" => 10u128.pow(9) << 10,
        "Mi" => 10u128.pow(9) << 20,
        "Gi" => 10u128.pow(9) << 30,
        "Ti" => 10u128.pow(9) << 40,
        _ => return None,
    };
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let billionths = digits.checked_mul(scale)?.div_ceil(10u128.pow(u32::try_from(fraction.len()).ok()?));
    Some(billionths.div_ceil(1_000_000))
}

/// As Kubernetes defaults it: the limit stands for a request not given.
fn cpu_request(given: &Resources) -> Option<u64> {
    given.cpu_request.or(given.cpu_limit)
}

#[cfg(test)]
pub(in crate::pod) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pod::spec::{PullPolicy, RestartPolicy};

    const MIB: u64 = 1 << 20;

    pub fn container(name: &str, resources: Resources) -> Container {
        Container {
            name: name.into(),
            image: "busybox".into(),
            pull: PullPolicy::IfNotPresent,
            command: vec![],
            args: vec![],
            working_dir: None,
            env: vec![],
            mounts: vec![],
            resources,
            tty: false,
            termination_path: "/dev/termination-log".into(),
            fallback_to_logs: false,
            ..Container::default()
        }
    }

    pub fn pod(containers: Vec<Container>, init: Vec<Container>) -> Pod {
        Pod {
            uid: "uid1".into(),
            namespace: "default".into(),
            name: "web-board1".into(),
            origin: "web.yaml".into(),
            restart: RestartPolicy::Always,
            grace: Duration::from_secs(30),
            host_network: false,
            hostname: "web-board1".into(),
            init,
            containers,
            volumes: vec![],
            object: Default::default(),
            ..Pod::default()
        }
    }

    fn give(cpu_request: u64, memory_request: u64, cpu_limit: u64, memory_limit: u64) -> Resources {
        let some = |value: u64| (value != NONE).then_some(value);
        Resources {
            cpu_request: some(cpu_request),
            memory_request: some(memory_request),
            cpu_limit: some(cpu_limit),
            memory_limit: some(memory_limit),
            ..Resources::default()
        }
    }

    const NONE: u64 = u64::MAX;

    fn of(main: &[Resources], init: &[Resources]) -> Pod {
        let all = |given: &[Resources]| given.iter().map(|&given| container("c", given)).collect();
        pod(all(main), all(init))
    }

    #[test]
    fn conversions() {
        let table = [(0, 2), (1, 2), (2, 2), (3, 3), (4, 4), (32, 32), (64, 65), (100, 102), (250, 256)];
        let more = [(500, 512), (1000, 1024), (1500, 1536), (2000, 2048), (u64::MAX, 262_144)];
        for (milli, expected) in table.into_iter().chain(more) {
            assert_eq!(shares(milli), expected, "{milli}");
        }
        let table = [(0, 0, 0), (0, PERIOD, 0), (5, PERIOD, 1000), (9, PERIOD, 1000), (10, PERIOD, 1000)];
        let more =
            [(200, PERIOD, 20000), (500, PERIOD, 50000), (1000, PERIOD, 100_000), (1500, PERIOD, 150_000)];
        for (milli, period, expected) in table.into_iter().chain(more) {
            assert_eq!(quota(milli, period), expected, "{milli} {period}");
        }
    }

    #[test]
    fn weights() {
        let table = [
            (0, 1, 1),
            (2, 1, 1),
            (3, 1, 2),
            (10, 1, 4),
            (20, 1, 6),
            (102, 4, 17),
            (512, 20, 59),
            (1000, 39, 99),
            (1024, 39, 100),
            (1536, 59, 138),
            (2048, 79, 174),
            (4096, 157, 303),
            (8192, 313, 532),
            (10240, 391, 639),
            (16384, 625, 942),
            (262_144, 10_000, 10_000),
        ];
        for (shares, pod, container) in table {
            assert_eq!((pod_weight(shares), container_weight(shares)), (pod, container), "{shares}");
        }
    }

    #[test]
    fn classes() {
        let none = Resources::default();
        let full = give(100, 100 * MIB, 100, 100 * MIB);
        let table: [(&[Resources], &[Resources], Qos); 15] = [
            (&[full], &[], Qos::Guaranteed),
            (&[full, full], &[], Qos::Guaranteed),
            (&[full], &[full], Qos::Guaranteed),
            (&[give(NONE, NONE, 100, MIB)], &[], Qos::Guaranteed),
            (&[none], &[], Qos::BestEffort),
            (&[none, none], &[], Qos::BestEffort),
            (&[none, give(1000, NONE, 2000, NONE)], &[], Qos::Burstable),
            (&[none, full], &[], Qos::Burstable),
            (&[give(NONE, 100 * MIB, NONE, 100 * MIB)], &[], Qos::Burstable),
            (&[give(100, MIB, NONE, NONE)], &[], Qos::Burstable),
            (&[give(1000, 100, 2000, 100), full], &[], Qos::Burstable),
            (&[give(10, 100, 100, 200)], &[], Qos::Burstable),
            (&[give(0, 0, 100, 200)], &[], Qos::Burstable),
            (&[give(0, 0, 0, 0)], &[], Qos::BestEffort),
            (&[none], &[give(10, 100, 100, 200)], Qos::Burstable),
        ];
        for (main, init, expected) in table {
            assert_eq!(qos(&of(main, init)), expected, "{main:?} {init:?}");
        }
    }

    #[test]
    fn pod_values() {
        let none = Resources::default();
        let asks = give(100, 100 * MIB, NONE, NONE);
        let both = give(100, 100 * MIB, 200, 200 * MIB);
        let same = give(100, 100 * MIB, 100, 100 * MIB);
        let big = give(500, MIB, 500, 900 * MIB);
        type Row<'a> = (&'a [Resources], &'a [Resources], u64, Option<u64>, Option<u64>);
        let table: [Row; 8] = [
            (&[none], &[], 2, None, None),
            (&[asks], &[], 102, None, None),
            (&[give(100, MIB, 200, NONE)], &[], 102, Some(20000), None),
            (&[both], &[], 102, Some(20000), Some(200 * MIB)),
            (&[same], &[], 102, Some(10000), Some(100 * MIB)),
            (&[both, asks], &[both, asks], 204, None, None),
            (&[both, both], &[both], 204, Some(40000), Some(400 * MIB)),
            (&[both, both], &[big], 512, Some(50000), Some(900 * MIB)),
        ];
        for (main, init, shares, quota, memory) in table {
            let weight = Some(pod_weight(shares));
            let expected =
                Limits { shares: Some(shares), weight, quota, period: quota.map(|_| PERIOD), memory };
            assert_eq!(pod_limits(&of(main, init)), expected, "{main:?} {init:?}");
        }
    }

    #[test]
    fn container_values() {
        let table = [
            (give(1000, NONE, 2000, 128 * MIB), 1024, Some(200_000), Some(128 * MIB)),
            (give(NONE, NONE, 2000, 128 * MIB), 2048, Some(200_000), Some(128 * MIB)),
            (give(0, NONE, 2000, NONE), 2, Some(200_000), None),
            (give(NONE, NONE, NONE, NONE), 2, None, None),
            (give(NONE, NONE, 5, 0), 5, Some(1000), None),
        ];
        for (given, shares, quota, memory) in table {
            let weight = Some(container_weight(shares));
            let expected =
                Limits { shares: Some(shares), weight, quota, period: quota.map(|_| PERIOD), memory };
            assert_eq!(container_limits(&container("c", given)), expected, "{given:?}");
        }
    }

    #[test]
    fn oom_scores() {
        let table = [
            (give(NONE, NONE, 10_000, NONE), 4_000_000_000, 999),
            (give(0, NONE, NONE, 10 << 30), 8_000_000_000, 999),
            (give(NONE, NONE, NONE, 0), 7_230_457_451, 1000),
            (give(NONE, NONE, NONE, NONE), 4_000_000_000, 1000),
            (give(5, 10 << 30, 5, 10 << 30), 123_456_789, -997),
            (give(5, 4_000_000_000, NONE, 10 << 30), 8_000_000_000, 500),
            (give(5, 7_999_999_999, NONE, NONE), 8_000_000_000, 3),
            (give(5, 9_000_000_000, NONE, NONE), 8_000_000_000, 3),
            (give(NONE, 1_000_000_000, NONE, NONE), 8_000_000_000, 875),
        ];
        for (given, capacity, expected) in table {
            let pod = of(&[given], &[]);
            assert_eq!(oom_score_adj(&pod, &pod.containers[0], capacity), expected, "{given:?}");
        }
        for (class, expected) in [("system-node-critical", -997), ("system-cluster-critical", 1000)] {
            let mut pod = of(&[Resources::default()], &[]);
            pod.object.spec.get_or_insert_default().priority_class_name = Some(class.into());
            assert_eq!(oom_score_adj(&pod, &pod.containers[0], 1 << 30), expected, "{class}");
        }
    }

    #[test]
    fn requests_of_a_pod() {
        let table: [(&[u64], &[u64], u64); 5] = [
            (&[9000], &[], 9000),
            (&[1000, 2000], &[], 3000),
            (&[1000, 2000], &[2500], 3000),
            (&[1000, 2000], &[2500, 4000], 4000),
            (&[], &[], 0),
        ];
        for (main, init, expected) in table {
            let cpu = |values: &[u64]| -> Vec<_> {
                values.iter().map(|&milli| give(milli, NONE, NONE, NONE)).collect()
            };
            assert_eq!(effective(&of(&cpu(main), &cpu(init)), |given| given.cpu_request), expected);
        }
    }

    #[test]
    fn names() {
        let none = Resources::default();
        assert_eq!(cgroup(&of(&[none], &[])), "/kubepods/besteffort/poduid1");
        assert_eq!(cgroup(&of(&[give(5, NONE, NONE, NONE)], &[])), "/kubepods/burstable/poduid1");
        assert_eq!(cgroup(&of(&[give(5, 5, 5, 5)], &[])), "/kubepods/poduid1");
        let id = container_id("uid", "web", 0);
        assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(id, container_id("uid", "web", 1));
        assert_eq!(id, container_id("uid", "web", 0));
    }

    #[test]
    fn quantities() {
        let table = [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            ("0.5Mi", Some(524_288_000)),
            ("1Mi", Some(1_048_576_000)),
            ("1k", Some(1_000_000)),
            ("1n", Some(1)),
            ("0", Some(0)),
            ("", None),
            ("x", None),
            ("1.2.3", None),
            ("1Q", None),
        ];
        for (text, expected) in table {
            assert_eq!(quantity(text), expected, "{text}");
        }
    }
}
