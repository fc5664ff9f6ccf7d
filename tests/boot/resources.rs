//! The cgroup tree with its values, and pods that wait until there is room for them.

use crate::pods::{controlled, ctl, named, one, phase, pods};
use crate::qemu::Board;

const CONFIG: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 5
systemReserved: {cpu: 100m, memory: 50Mi}
kubeReserved: {cpu: 100m, memory: 14Mi, pid: '1000'}
evictionHard: {memory.available: 5%}
cpuCFSQuotaPeriod: 50ms
podPidsLimit: 40
";

/// A pod with these resources.
fn with(name: &str, resources: &str) -> String {
    let text = one(name, "Always", "exec sleep 1000");
    text.replace("    command:", &format!("    resources: {resources}\n    command:"))
}

fn uid(board: &mut Board, name: &str) -> String {
    named(&pods(board, |_| true), name).metadata.uid.clone().expect("a uid")
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[test]
fn the_tree_has_its_values_and_a_pod_waits_for_cpu() {
    let mut board = controlled()
        .config(CONFIG)
        .manifest("a.yaml", &with("burst", "{requests: {cpu: 500m, memory: 16Mi}}"))
        .manifest("b.yaml", &with("sure", "{limits: {cpu: 200m, memory: 32Mi}}"))
        .manifest(".late", &with("late", "{requests: {cpu: 400m}}"))
        .manifest(".huge", &with("huge", "{requests: {memory: 1Ti}}"))
        .boot();
    let board = &mut board;
    for container in ["burst-podinit/main", "sure-podinit/main", "ctl-podinit/ctl"] {
        board.wait_for(&format!("{container}: started"));
    }
    let tree = "/host/sys/fs/cgroup/kubepods";
    // One core less 200m: 819 shares.
    let files = "cat cpu.weight burstable/cpu.weight besteffort/cpu.weight";
    assert_eq!(ctl(board, &format!("cd {tree}; {files}")), "32\n20\n1");
    let total = ctl(board, "while read k v u; do [ $k != MemTotal: ] || echo $v; done </proc/meminfo");
    let bound = number(&ctl(board, &format!("cat {tree}/memory.max")));
    assert_eq!(bound, number(&total) * 1024 - (64 << 20));
    let pids =
        ["pid_max", "threads-max"].map(|name| number(&ctl(board, &format!("cat /proc/sys/kernel/{name}"))));
    assert_eq!(number(&ctl(board, &format!("cat {tree}/pids.max"))), pids[0].min(pids[1]) - 1000);

    let (sure, burst) = (uid(board, "sure"), uid(board, "burst"));
    let files = "cat cpu.weight cpu.max memory.max pids.max hugetlb.2MB.max";
    let told = ctl(board, &format!("cd {tree}/pod{sure}; {files}"));
    assert_eq!(told, "8\n10000 50000\n33554432\n40\n0");
    let told = ctl(board, &format!("cd {tree}/burstable/pod{burst}; {files}"));
    assert_eq!(told, "20\nmax 100000\nmax\n40\n0");
    // Its container: what is not asked for is 0, swap too.
    let files = "cat hugetlb.2MB.max memory.swap.max memory.oom.group cpu.max";
    let group = format!("{tree}/pod{sure}/$(ls {tree}/pod{sure} | busybox grep -E ^[0-9a-f]{{64}}$)");
    assert_eq!(ctl(board, &format!("cd {group}; {files}")), "0\n0\n1\n10000 50000");

    // 700m of 800m are taken.
    let put = |board: &mut Board, script: &str| {
        let mark = board.mark();
        assert_eq!(ctl(board, &format!("cd /host/etc/kubernetes/manifests; {script}")), "");
        mark
    };
    let mark = put(board, "cp .huge huge.yaml; cp .late late.yaml");
    let words = "Node didn't have enough resource: cpu, requested: 400, used: 700, capacity: 800";
    board.wait_from(mark, &format!("late-podinit: rejected: OutOfcpu: {words}"));
    board.wait_from(mark, "huge-podinit: rejected: OutOfmemory");
    let waiting = pods(board, |pods| pods.len() == 5);
    let status = named(&waiting, "late").status.as_ref().expect("a status");
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Pending"), Some("OutOfcpu")));
    assert_eq!(status.message, Some(format!("Pod was rejected: {words}")));
    assert!(board.ask("get events").contains(words));

    // It comes in when another goes; what never fits holds nobody up; the class weighs what is there.
    let mark = put(board, "rm a.yaml");
    board.wait_from(mark, "burst-podinit: gone");
    board.wait_from(mark, "late-podinit/main: started");
    let now = pods(board, |_| true);
    assert_eq!((phase(&now, "late"), phase(&now, "huge")), ("Running", "Pending"));
    assert_eq!(ctl(board, &format!("cat {tree}/burstable/cpu.weight")), "16");

    // What is not wanted any more is not told of any more.
    put(board, "rm huge.yaml");
    pods(board, |pods| pods.len() == 3);
}
