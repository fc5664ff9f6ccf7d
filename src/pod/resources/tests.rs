//! Tables of QoS class, cgroup values, oom_score_adj and effective requests, as the kubelet has them.

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

/// milliCPU to shares and quota; limits at both ends.
#[test]
fn c2_conversions() {
    let table = [(0, 2), (1, 2), (2, 2), (3, 3), (4, 4), (32, 32), (64, 65), (100, 102), (250, 256)];
    let more = [(500, 512), (1000, 1024), (1500, 1536), (2000, 2048), (u64::MAX, 262_144)];
    for (milli, expected) in table.into_iter().chain(more) {
        assert_eq!(shares(milli), expected, "{milli}");
    }
    let table = [(0, 0, 0), (0, PERIOD, 0), (5, PERIOD, 1000), (9, PERIOD, 1000), (10, PERIOD, 1000)];
    let more = [(200, PERIOD, 20000), (500, PERIOD, 50000), (1000, PERIOD, 100_000), (1500, PERIOD, 150_000)];
    for (milli, period, expected) in table.into_iter().chain(more) {
        assert_eq!(quota(milli, period), expected, "{milli} {period}");
    }
    let table =
        [(1, PERIOD, 1000), (11, PERIOD, 1100), (200, 5000, 1000), (1, 1_000_000, 1000), (15, 1000, 1000)];
    for (milli, period, expected) in table {
        assert_eq!(quota(milli, period), expected, "{milli} {period}");
    }
    // Rounded down, and back up to the same: no two amounts from 2 on share their shares.
    for milli in 2..=2000u64 {
        assert_eq!((shares(milli) * 1000).div_ceil(1024), milli);
    }
    for (milli, expected) in [(255_999, 262_142), (256_000, 262_144), (256_001, 262_144)] {
        assert_eq!(shares(milli), expected, "{milli}");
    }
}

/// Shares to cpu.weight: the pod's linear formula, the container's of runc.
#[test]
fn c6_weights() {
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
        (131_072, 5000, 5478),
        (28, 1, 7),
        (29, 2, 7),
        (262_143, 9999, 10_000),
        (262_144, 10_000, 10_000),
        (u64::MAX, 10_000, 10_000),
    ];
    for (shares, pod, container) in table {
        assert_eq!((pod_weight(shares), container_weight(shares)), (pod, container), "{shares}");
    }
}

/// QoS class.
#[test]
fn c11_classes() {
    let none = Resources::default();
    let full = give(100, 100 * MIB, 100, 100 * MIB);
    let both = give(100, 100 * MIB, 200, 200 * MIB);
    let table: [(&[Resources], &[Resources], Qos); 25] = [
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
        (&[none, give(10, 100 * MIB, 10, 100 * MIB)], &[], Qos::Burstable),
        (&[give(1000, 100 * MIB, 2000, 100 * MIB), full], &[], Qos::Burstable),
        (&[give(10, 100 * MIB, 100, 200 * MIB)], &[], Qos::Burstable),
        (&[give(0, 0, 100, 200 * MIB)], &[], Qos::Burstable),
        (&[give(0, 0, 0, 0)], &[], Qos::BestEffort),
        (&[none], &[give(10, 100 * MIB, 100, 200 * MIB)], Qos::Burstable),
        (&[both, give(100, 100 * MIB, NONE, NONE)], &[], Qos::Burstable),
        (&[full], &[none], Qos::Burstable),
        (&[full], &[give(0, 0, 0, 0)], Qos::Burstable),
        (&[full], &[both], Qos::Burstable),
        (&[give(NONE, NONE, 0, 0)], &[none], Qos::BestEffort),
        (&[give(100, 0, 100, 0)], &[], Qos::Burstable),
        (&[give(0, 100, 100, 100)], &[], Qos::Burstable),
        (&[give(NONE, NONE, NONE, 1)], &[], Qos::Burstable),
        (&[give(NONE, NONE, 100, NONE), give(NONE, NONE, NONE, 100)], &[], Qos::Burstable),
    ];
    for (main, init, expected) in table {
        assert_eq!(qos(&of(main, init)), expected, "{main:?} {init:?}");
    }
}

/// Pod cgroup values.
#[test]
fn c1_pod_values() {
    let none = Resources::default();
    let asks = give(100, 100 * MIB, NONE, NONE);
    let both = give(100, 100 * MIB, 200, 200 * MIB);
    let same = give(100, 100 * MIB, 100, 100 * MIB);
    let big = give(500, MIB, 500, 900 * MIB);
    type Row<'a> = (&'a [Resources], &'a [Resources], u64, Option<i64>, Option<u64>);
    let table: [Row; 13] = [
        (&[give(0, 0, 0, 0)], &[], 2, None, None),
        (&[give(NONE, NONE, 0, 0), both], &[], 102, None, None),
        (&[both, both], &[none], 204, None, None),
        (&[give(1, MIB, 1, NONE)], &[], 2, Some(1000), None),
        (&[give(NONE, MIB, NONE, MIB)], &[], 2, None, Some(MIB)),
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
        let expected = Limits { shares: Some(shares), weight, quota, period: quota.map(|_| PERIOD), memory };
        assert_eq!(pod_limits(&of(main, init), Cfs::default()), expected, "{main:?} {init:?}");
    }
}

/// Container Linux resources.
#[test]
fn c9_container_values() {
    let table = [
        (give(1000, NONE, 2000, 128 * MIB), 1024, Some(200_000), Some(128 * MIB)),
        (give(NONE, NONE, 2000, 128 * MIB), 2048, Some(200_000), Some(128 * MIB)),
        (give(0, NONE, 2000, NONE), 2, Some(200_000), None),
        (give(NONE, NONE, NONE, NONE), 2, None, None),
        (give(NONE, NONE, 5, 0), 5, Some(1000), None),
    ];
    for (given, shares, quota, memory) in table {
        let weight = Some(container_weight(shares));
        let expected = Limits { shares: Some(shares), weight, quota, period: quota.map(|_| PERIOD), memory };
        assert_eq!(container_limits(&container("c", given), Cfs::default()), expected, "{given:?}");
    }
}

/// oom_score_adj.
#[test]
fn c12_oom_scores() {
    let table = [
        (give(NONE, NONE, 10_000, NONE), 4_000_000_000, 999),
        (give(0, NONE, NONE, 10_000_000_000), 8_000_000_000, 999),
        (give(NONE, NONE, NONE, 0), 7_230_457_451, 1000),
        (give(NONE, NONE, NONE, NONE), 4_000_000_000, 1000),
        (give(5, 10_000_000_000, 5, 10_000_000_000), 123_456_789, -997),
        (give(5, 4_000_000_000, NONE, 10_000_000_000), 8_000_000_000, 500),
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

/// Effective pod request.
#[test]
fn c13_requests_of_a_pod() {
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

/// Cgroup names (driver cgroupfs), container ids.
#[test]
fn c8_names() {
    let none = Resources::default();
    assert_eq!(cgroup(&of(&[none], &[])), "/kubepods/besteffort/poduid1");
    assert_eq!(cgroup(&of(&[give(5, NONE, NONE, NONE)], &[])), "/kubepods/burstable/poduid1");
    assert_eq!(cgroup(&of(&[give(5, 5, 5, 5)], &[])), "/kubepods/poduid1");
    let id = container_id("uid", "web", 0);
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()));
    assert_ne!(id, container_id("uid", "web", 1));
    assert_eq!(id, container_id("uid", "web", 0));
}

/// The pod with resources of its own.
fn owning(pod: Pod, own: Resources) -> Pod {
    Pod { resources: Some(own), ..pod }
}

/// Pod cgroup values, where the pod has resources of its own.
#[test]
fn c1_pod_values_by_its_own_resources() {
    let none = Resources::default();
    let asks = give(100, 100 * MIB, NONE, NONE);
    let both = give(100, 100 * MIB, 200, 200 * MIB);
    let same = give(100, 100 * MIB, 100, 100 * MIB);
    let table = [
        (asks, none, 102, None, None),
        (asks, give(10, 50 * MIB, NONE, NONE), 102, None, None),
        (both, none, 102, Some(20_000), Some(200 * MIB)),
        (both, give(10, 50 * MIB, 50, 100 * MIB), 102, Some(20_000), Some(200 * MIB)),
        (
            give(200, 300 * MIB, NONE, NONE),
            give(200, 200 * MIB, 200, 200 * MIB),
            204,
            Some(20_000),
            Some(200 * MIB),
        ),
        (same, none, 102, Some(10_000), Some(100 * MIB)),
    ];
    for (own, main, shares, quota, memory) in table {
        let limits = pod_limits(&owning(of(&[main], &[]), own), Cfs::default());
        assert_eq!(
            (limits.shares, limits.quota, limits.period, limits.memory),
            (Some(shares), quota, quota.map(|_| PERIOD), memory),
            "{own:?} {main:?}"
        );
    }
}

/// Pod cgroup values, by period and enforcement.
#[test]
fn c1_quotas_by_period_and_enforcement() {
    let both = give(100, 100 * MIB, 200, 200 * MIB);
    let same = give(100, 100 * MIB, 100, 100 * MIB);
    let table = [
        (both, true, 5000, 1000, "1000 5000"),
        (both, false, 5000, -1, "max 5000"),
        (same, true, PERIOD, 10_000, "10000 100000"),
        (same, false, PERIOD, -1, "max 100000"),
    ];
    for (given, enforce, period, quota, text) in table {
        let (pod, cfs) = (of(&[given], &[]), Cfs { enforce, period });
        let limits = pod_limits(&pod, cfs);
        assert_eq!((limits.quota, limits.period, limits.shares), (Some(quota), Some(period), Some(102)));
        assert_eq!(limits.cpu_max().as_deref(), Some(text));
        assert_eq!(limits.memory, given.memory_limit);
        assert_eq!(container_limits(&pod.containers[0], cfs).quota, Some(quota));
    }
    assert_eq!(pod_limits(&of(&[Resources::default()], &[]), Cfs::default()).cpu_max(), None);
}

/// QoS class, where the pod has resources of its own; huge pages do not count.
#[test]
fn c11_classes_by_the_pods_own_resources() {
    let none = Resources::default();
    let same = give(10, MIB, 10, MIB);
    let table = [
        (give(10, 10 * MIB, 20, 50 * MIB), none, Qos::Burstable),
        (give(10, 10 * MIB, NONE, NONE), give(10, MIB, NONE, NONE), Qos::Burstable),
        (same, none, Qos::Guaranteed),
        (give(NONE, NONE, 10, MIB), give(1, NONE, NONE, NONE), Qos::Guaranteed),
        (give(20, 2 * MIB, NONE, NONE), same, Qos::Burstable),
    ];
    for (own, main, expected) in table {
        assert_eq!(qos(&owning(of(&[main], &[]), own)), expected, "{own:?} {main:?}");
    }
    let mut pages = of(&[give(0, 0, 0, 0)], &[]);
    pages.containers[0].huge_pages = [(2 * MIB, 1024 * MIB)].into();
    assert_eq!(qos(&pages), Qos::BestEffort);
}

/// oom_score_adj of sidecars, and of pods with requests of their own.
#[test]
fn c12_oom_scores_of_sidecars_and_of_pods_with_their_own_requests() {
    const CAPACITY: u64 = 4_000_000_000;
    let asks = |memory| give(NONE, memory, NONE, NONE);
    let (eighth, half) = (asks(CAPACITY / 8), asks(CAPACITY / 2));
    let none = Resources::default();
    let table: [(Option<Resources>, &[Resources], &[Resources], &[i32]); 10] = [
        (None, &[eighth], &[eighth], &[875, 875]),
        (None, &[half], &[eighth], &[500, 875]),
        (None, &[none], &[half], &[500, 500]),
        (Some(give(5, CAPACITY, 5, CAPACITY)), &[], &[none, none], &[-997, -997]),
        (Some(asks(2_000_000_000)), &[], &[none, none], &[750, 750]),
        (Some(asks(2_000_000_000)), &[], &[asks(1_000_000_000), asks(1_000_000_000)], &[750, 750]),
        (Some(asks(2_000_000_000)), &[], &[asks(1_000_000_000), none], &[625, 875]),
        (Some(asks(2_000_000_000)), &[none], &[none], &[750, 750]),
        (Some(asks(2_000_000_000)), &[asks(1_000_000_000)], &[asks(1_000_000_000)], &[750, 750]),
        (
            Some(asks(2_000_000_000)),
            &[asks(200_000_000)],
            &[asks(1_000_000_000), asks(500_000_000)],
            &[850, 725, 850],
        ),
    ];
    for (own, sidecars, mains, expected) in table {
        let mut pod = Pod { resources: own, ..of(mains, sidecars) };
        for (index, container) in pod.init.iter_mut().enumerate() {
            (container.sidecar, container.name) = (true, format!("s{index}"));
        }
        let scores: Vec<_> = pod.all().map(|container| oom_score_adj(&pod, container, CAPACITY)).collect();
        assert_eq!(scores, expected, "{own:?} {sidecars:?} {mains:?}");
    }
}

/// Effective pod request, with sidecars: s is a sidecar, i an init container.
#[test]
fn c13_requests_with_sidecars_and_by_the_pods_own() {
    let table: [(&[(char, u64)], &[u64], u64); 5] = [
        (&[('s', 1)], &[2], 3),
        (&[('s', 1), ('i', 5)], &[2], 6),
        (&[('i', 5), ('s', 1)], &[2], 5),
        (&[('s', 1), ('i', 1), ('s', 3)], &[2, 2], 8),
        (&[('s', 4), ('i', 2), ('s', 1), ('i', 9)], &[2], 14),
    ];
    for (init, mains, expected) in table {
        let cpu = |milli| give(milli, NONE, NONE, NONE);
        let inits: Vec<_> = init.iter().map(|(_, milli)| cpu(*milli)).collect();
        let mut pod = of(&mains.iter().map(|milli| cpu(*milli)).collect::<Vec<_>>(), &inits);
        for (container, (kind, _)) in pod.init.iter_mut().zip(init) {
            container.sidecar = *kind == 's';
        }
        assert_eq!(requests(&pod).cpu_milli, expected, "{init:?} {mains:?}");
        let own = owning(pod, cpu(10_000));
        assert_eq!(requests(&own).cpu_milli, 10_000);
    }
    let asks = |memory| give(NONE, memory, NONE, NONE);
    let own = owning(of(&[asks(80 * MIB)], &[]), asks(100 * MIB));
    assert_eq!(requests(&own).memory, 104_857_600);
    assert_eq!(requests(&of(&[asks(90 * MIB)], &[])).memory, 94_371_840);
    // What the pod gives counts for that resource alone.
    let own = owning(of(&[give(8000, 80 * MIB, NONE, NONE)], &[]), give(10_000, NONE, NONE, NONE));
    assert_eq!((requests(&own).cpu_milli, requests(&own).memory), (10_000, 80 * MIB));
    assert_eq!((requests(&of(&[], &[])).cpu_milli, requests(&of(&[], &[])).memory), (0, 0));
}

/// The sizes that a pod does not ask for are 0.
#[test]
fn c7_huge_pages_of_every_size() {
    let node = Node::of(
        &Machine {
            huge_pages: [(2 << 20, 8 << 20), (1 << 30, 0), (64 << 10, 0)].into(),
            ..Machine::default()
        },
        &reserve(),
    );
    let mut pod = of(&[Resources::default(), Resources::default()], &[Resources::default()]);
    pod.containers[0].huge_pages = [(2 << 20, 4 << 20)].into();
    pod.containers[1].huge_pages = [(2 << 20, 2 << 20)].into();
    pod.init[0].huge_pages = [(64 << 10, 128 << 10)].into();
    let files = pod_files(&pod, &node, Cfs::default(), Some(7));
    let value = |file: &str| files.get(file).map(String::as_str);
    let sizes = ["hugetlb.2MB.max", "hugetlb.1GB.max", "hugetlb.64KB.max", "pids.max", "memory.max"];
    let told = sizes.map(value);
    assert_eq!(told, [Some("6291456"), Some("0"), Some("131072"), Some("7"), None]);
    let root = tree(&node, 0);
    assert_eq!(root["hugetlb.2MB.max"], "8388608");
}

fn reserve() -> Reserve {
    Reserve {
        cpu_milli: 0,
        memory: 0,
        storage: 0,
        pids: 0,
        memory_available: Threshold::Bytes(0),
        storage_available: Threshold::Bytes(0),
        enforce: true,
        max_pods: 110,
        pods_per_core: 0,
        allowed_sysctls: Vec::new(),
    }
}

/// Without what is reserved, but with what evictionHard keeps.
#[test]
fn the_tree_is_bound_by_what_is_not_reserved() {
    let machine = Machine { cpus: 2, memory: 1000, pids: Some(500), ..Machine::default() };
    let some = Reserve {
        cpu_milli: 500,
        memory: 300,
        pids: 100,
        memory_available: Threshold::Bytes(50),
        ..reserve()
    };
    let table = [
        (reserve(), "79", "1000", "500"),
        (some.clone(), "59", "700", "400"),
        (Reserve { enforce: false, ..some }, "79", "1000", "500"),
    ];
    for (reserve, weight, memory, pids) in table {
        let files = tree(&Node::of(&machine, &reserve), 0);
        let told = ["cpu.weight", "memory.max", "pids.max"].map(|file| files[file].as_str());
        assert_eq!(told, [weight, memory, pids], "{reserve:?}");
        assert_eq!(
            (files["burstable/cpu.weight"].as_str(), files["besteffort/cpu.weight"].as_str()),
            ("1", "1")
        );
    }
    // What could not be read binds nothing.
    let files = tree(&Node::of(&Machine { cpus: 1, ..Machine::default() }, &reserve()), 0);
    assert!(!files.contains_key("memory.max") && !files.contains_key("pids.max"));
}

#[test]
fn the_burstable_class_weighs_what_its_pods_request() {
    let burst = of(&[give(1000, NONE, NONE, NONE)], &[]);
    let (best, guaranteed) = (of(&[Resources::default()], &[]), of(&[give(500, MIB, 500, MIB)], &[]));
    let weight = |pods: &[&Pod]| {
        let all = pods.iter().map(|pod| burstable(pod)).sum();
        tree(&Node::default(), all)["burstable/cpu.weight"].parse::<u64>().unwrap()
    };
    assert_eq!(weight(&[]), 1);
    assert_eq!(weight(&[&best, &guaranteed]), 1);
    assert_eq!(weight(&[&burst, &best]), pod_weight(1024));
    assert_eq!(weight(&[&burst, &burst, &guaranteed]), pod_weight(2048));
}

/// Capacity, less what is reserved, less the hard eviction thresholds.
#[test]
fn allocatable_is_what_is_left() {
    let machine = Machine { cpus: 4, memory: 1000, storage: 2000, ..Machine::default() };
    let all = (4000, 1000, 2000, 110);
    let table = [
        (reserve(), all),
        (Reserve { cpu_milli: 500, memory: 100, storage: 5, ..reserve() }, (3500, 900, 1995, 110)),
        (Reserve { cpu_milli: 5000, memory: 5000, ..reserve() }, (0, 0, 2000, 110)),
        (
            Reserve { memory: 100, memory_available: Threshold::Bytes(50), ..reserve() },
            (4000, 850, 2000, 110),
        ),
        (
            Reserve {
                memory_available: Threshold::Share(7500),
                storage_available: Threshold::Share(10_000),
                ..reserve()
            },
            (4000, 925, 1800, 110),
        ),
        (Reserve { pods_per_core: 10, ..reserve() }, (4000, 1000, 2000, 40)),
        (Reserve { pods_per_core: 50, ..reserve() }, all),
    ];
    for (reserve, expected) in table {
        let node = Node::of(&machine, &reserve);
        let most = &node.allocatable;
        assert_eq!((most.cpu_milli, most.memory, most.storage, node.pods), expected, "{reserve:?}");
    }
    let unknown = Node::of(&Machine::default(), &Reserve { memory: 5, cpu_milli: 5, ..reserve() });
    assert_eq!((unknown.allocatable.memory, unknown.allocatable.cpu_milli), (u64::MAX, u64::MAX));
    let pages = Machine { huge_pages: [(2 << 20, 100)].into(), ..machine };
    assert_eq!(Node::of(&pages, &reserve()).allocatable.memory, 900);
}
