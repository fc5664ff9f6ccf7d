//! The cgroup tree with its values, and pods that wait until there is room for them.

use podinit::pod::resources::container_id;

use crate::pods::{controlled, ctl, named, one, phase, pods, status};
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
        .manifest(".size", SIZE)
        .append("podinit.faults=1")
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
    a_pod_is_resized_while_it_runs(board);
}

/// `live` holds 16 MiB and is resized as it runs; `again` is restarted for another memory limit.
const SIZE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: size, uid: size-1}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: live
    image: podinit.dev/demo:1
    command: [sh, -c]
    args: ['x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do x=$x$x; done; echo full; while :; do sleep 1000; done']
    resources: {requests: {cpu: 50m, memory: 20Mi}, limits: {cpu: 100m, memory: 80Mi}}
  - name: again
    image: podinit.dev/demo:1
    command: [sh, -c, 'exec sleep 1000']
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 50m, memory: 8Mi}, limits: {cpu: 100m, memory: 20Mi}}
";

fn a_pod_is_resized_while_it_runs(board: &mut Board) {
    let pod = "/host/sys/fs/cgroup/kubepods/burstable/podsize-1";
    let group = |container: &str, run: u32| format!("{pod}/{}", container_id("size-1", container, run));
    let values = |board: &mut Board, group: &str| {
        ctl(board, &format!("cd {group}; cat cpu.weight cpu.max memory.max"))
    };
    let edit = |board: &mut Board, script: &str| {
        let mark = board.mark();
        let files = "cd /host/etc/kubernetes/manifests";
        assert_eq!(
            ctl(board, &format!("{files}; busybox sed -i {script} .size; cp .size .t; mv .t size.yaml")),
            ""
        );
        mark
    };
    let mark = edit(board, "''");
    for container in ["live", "again"] {
        board.wait_from(mark, &format!("size-podinit/{container}: started"));
    }
    board.ask_until("logs size -c live", |said| said.lines().any(|line| line == "full"));
    assert_eq!(values(board, pod), "4\n10000 50000\n104857600");
    assert_eq!(values(board, &group("live", 0)), "11\n5000 50000\n83886080");

    // More, and less cpu for nobody: first the pod's, then the container's.
    let mark = edit(
        board,
        "'s/cpu: 50m, memory: 20Mi/cpu: 100m, memory: 20Mi/; s/cpu: 100m, memory: 80Mi/cpu: 200m, memory: 96Mi/'",
    );
    let (first, _) =
        board.wait_from(mark, "size-podinit: resized: cpu 150m, limit 300m; memory limit 121634816");
    board.wait_from(first, "size-podinit/live: resized: cpu 100m, limit 200m; memory limit 100663296");
    assert_eq!(values(board, pod), "6\n15000 50000\n121634816");
    assert_eq!(values(board, &group("live", 0)), "17\n10000 50000\n100663296");

    // Less than it uses: refused, and all stays as it was; so it is in the next life of PID 1.
    let mark = edit(
        board,
        "'s/memory: 20Mi}, limits: {cpu: 200m, memory: 96Mi/memory: 4Mi}, limits: {cpu: 200m, memory: 4Mi/'",
    );
    let why = "size-podinit/live: cannot resize yet: cannot decrease memory limits: \
               attempting to set container \"live\" memory limit (4194304) below current usage (";
    board.wait_from(mark, why);
    let told = |pods: &[k8s_openapi::api::core::v1::Pod]| {
        let status = named(pods, "size").status.clone().expect("a status");
        let all = status.conditions.into_iter().flatten();
        let told = all.filter(|condition| condition.type_.starts_with("PodResize"));
        told.map(|told| (told.type_, told.reason.unwrap_or_default())).collect::<Vec<_>>()
    };
    let error = ("PodResizeInProgress".to_owned(), "Error".to_owned());
    let all = pods(board, |pods| told(pods).contains(&error));
    let limits =
        status(&all, "size", "live").resources.clone().and_then(|given| given.limits).expect("limits");
    assert_eq!((limits["memory"].0.as_str(), limits["cpu"].0.as_str()), ("100663296", "200m"));
    board.say("fault panic");
    let (mark, _) = board.wait_from(mark, "re-executed after death 1");
    board.wait_from(mark, "logger: started");
    assert_eq!(values(board, pod), "6\n15000 50000\n121634816");
    assert_eq!(told(&pods(board, |_| true)), [error]);
    let mark = edit(
        board,
        "'s/memory: 4Mi}, limits: {cpu: 200m, memory: 4Mi/memory: 20Mi}, limits: {cpu: 200m, memory: 64Mi/'",
    );
    board.wait_from(mark, "size-podinit/live: resized: cpu 100m, limit 200m; memory limit 67108864");
    board.wait_from(mark, "size-podinit: resized: cpu 150m, limit 300m; memory limit 88080384");
    assert_eq!(told(&pods(board, |_| true)), []);

    // More than there is.
    let mark = edit(
        board,
        "'s/requests: {cpu: 100m/requests: {cpu: 900m/; s/limits: {cpu: 200m/limits: {cpu: 900m/'",
    );
    let words = "Infeasible: Node didn't have enough capacity: cpu, requested: 950, capacity: 800";
    board.wait_from(mark, &format!("size-podinit: resize waits: {words}"));
    let mark = edit(
        board,
        "'s/requests: {cpu: 900m/requests: {cpu: 100m/; s/limits: {cpu: 900m/limits: {cpu: 200m/'",
    );
    assert_eq!(told(&pods(board, |pods| told(pods).is_empty())), []);

    // By its policy; the other one runs on.
    edit(
        board,
        "'s/memory: 8Mi}, limits: {cpu: 100m, memory: 20Mi/memory: 8Mi}, limits: {cpu: 100m, memory: 12Mi/'",
    );
    let (mark, _) =
        board.wait_from(mark, "size-podinit/again: sent stop signal: it is given other resources");
    board.wait_from(mark, "size-podinit/again: started");
    assert_eq!(values(board, &group("again", 1)), "11\n5000 50000\n12582912");
    let restarts = |pods: &[k8s_openapi::api::core::v1::Pod]| {
        ["live", "again"].map(|container| status(pods, "size", container).restart_count)
    };
    assert_eq!(restarts(&pods(board, |_| true)), [0, 1]);

    // What takes more than it was left is killed and comes again.
    let mark = edit(
        board,
        "'s/memory: 20Mi}, limits: {cpu: 200m, memory: 64Mi/memory: 20Mi}, limits: {cpu: 200m, memory: 40Mi/'",
    );
    board.wait_from(mark, "size-podinit/live: resized: cpu 100m, limit 200m; memory limit 41943040");
    board.say("exec size -c live -- busybox tail /dev/zero");
    let (mark, _) = board.wait_from(mark, "size-podinit/live: ended by signal 9: out of memory");
    board.wait_from(mark, "size-podinit/live: started");
    let all = pods(board, |pods| restarts(pods) == [1, 1]);
    let last =
        status(&all, "size", "live").last_state.clone().and_then(|last| last.terminated).expect("it ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("OOMKilled")));
    assert_eq!(values(board, &group("live", 1)), "17\n10000 50000\n41943040");
}
