//! Scenarios of Kubernetes' own node tests (test/e2e_node, test/e2e/common/node, v1.36), as a user would see them on a
//! board. A step's name begins with the number of its row in our list of them (J1), and a failure tells it; a step shares its
//! board with others.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::pods::{condition, controlled, ctl, listed, named, one, phase, pods, rows, status, when};
use crate::qemu::{Board, PATIENCE};

/// In the manifest directory.
fn there(board: &mut Board, script: &str) -> usize {
    let mark = board.mark();
    assert_eq!(ctl(board, &format!("cd /host/etc/kubernetes/manifests; {script}")), "");
    mark
}

/// Whether the pod is listed with this container, ready.
fn ready(pods: &[Pod], pod: &str, container: &str) -> bool {
    let name = format!("{pod}-podinit");
    let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name));
    let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    statuses.is_some_and(|all| all.iter().any(|status| status.name == container && status.ready))
}

/// A pod on the host's network that listens on a port of its own.
fn listening(namespace: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: port, namespace: {namespace}}}\nspec:\n  hostNetwork: true\n  \
         terminationGracePeriodSeconds: 2\n  containers:\n  - name: {container}\n    image: podinit.dev/demo:1\n    \
         args: [-h, /www, -p, '4534']\n    ports: [{{containerPort: 4534}}]\n"
    )
}

/// Deaf to SIGTERM for as long as it may be.
fn deaf(text: &str) -> String {
    one("deaf", "Always", &format!("trap : TERM; echo {text}; while :; do sleep 1000 & wait; done"))
        .replace("GracePeriodSeconds: 1", "GracePeriodSeconds: 20")
}

/// Gives the demo's image a second name.
fn second_image(board: &mut Board) {
    let script = "cd /host/var/lib/podinit/images/tags; busybox sed s/demo:1/demo:2/ *demo%3A1.json >podinit.dev%2Fdemo%3A2.json";
    assert_eq!(ctl(board, script), "");
}

#[test]
fn pods_come_change_and_end() {
    // Deaf, too, and long enough for its file to come back meanwhile.
    let run = one("run", "Always", "echo hello; exec sleep 1000")
        .replace("GracePeriodSeconds: 1", "GracePeriodSeconds: 30");
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  containerLogMaxSize: 40Ki\ncontainerLogMaxFiles: 3\npodPidsLimit: 1024\nsystemReserved: {memory: 300Mi}\n";
    let hungry = |name: &str, script: &str| {
        one(name, "Never", script)
            .replace("    command:", "    resources: {limits: {memory: 16Mi}}\n    command:")
    };
    let policies: String = ["Always", "OnFailure", "Never"]
        .iter()
        .flat_map(|policy| {
            [0, 1].map(|code| {
                one(&format!("x{}{code}", policy.to_lowercase()), policy, &format!("exit {code}"))
            })
        })
        .collect();
    let init = hungry("hungryinit", "exec sleep 1000").replace(
        "  containers:",
        "  initContainers:\n  - name: init\n    image: podinit.dev/demo:1\n    \
        resources: {limits: {memory: 16Mi}}\n    command: [sh, -c, 'busybox tail /dev/zero']\n  containers:",
    );
    let all = [
        one("killed", "Never", "exec sleep 1000"),
        hungry("single", "exec busybox tail /dev/zero"),
        hungry("many", "busybox tail /dev/zero & busybox tail /dev/zero & wait; sleep 1000"),
        one("whole", "Never", "exec busybox tail /dev/zero"),
        init,
        one("echo", "Always", "echo to be found; exec sleep 1000"),
        one(
            "chatty",
            "Always",
            "while :; do i=0; while [ $i -lt 120 ]; do echo 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; i=$((i + 1)); done; sleep 1; done",
        ),
        policies,
    ];
    let mut board = controlled()
        .config(config)
        .manifest("all.yaml", &all.concat())
        .manifest("run.yaml", &run)
        .manifest("port.yaml", &listening("one", "first"))
        .manifest("deaf.yaml", &deaf("v0"))
        .manifest(".run", &run)
        .manifest(".renamed", &listening("one", "second"))
        .manifest(".moved", &listening("two", "second"))
        .manifest(".deaf1", &deaf("v1").replace("demo:1", "demo:2"))
        .manifest("crash.yaml", &one("crash", "Always", "exit 1"))
        .manifest(".deaf2", &deaf("v2"))
        .manifest(".deaf3", &deaf("v3"))
        .boot();
    let board = &mut board;
    for container in ["ctl-podinit/ctl", "run-podinit/main", "port-podinit/first", "deaf-podinit/main"] {
        board.wait_for(&format!("{container}: started"));
    }
    second_image(board);
    rows!(board;
        j1_31_what_is_echoed_is_in_the_log_files,
        j1_35_the_pods_group_has_its_limit_of_processes,
        j1_30_a_container_over_its_memory_is_killed,
        j1_29_a_killed_container_ended_with_137,
        j1_39_exit_codes_and_policies,
        j1_1_a_static_pod_runs_and_is_ready,
        j1_2_a_renamed_container_takes_over_the_port,
        j1_3_a_pod_of_another_namespace_waits_for_the_port,
        j1_10_a_file_that_comes_back_runs_again,
        j1_7_a_pod_without_its_file_is_not_listed,
        j1_14_a_replaced_pod_has_its_grace,
        j1_15_only_the_last_of_many_versions_runs,
        j1_13_a_removed_pod_has_its_grace,
        j1_32_logs_are_rotated_and_never_too_many,
        j1_18_a_crash_loop_waits_longer_each_time,
    );
}

fn j1_1_a_static_pod_runs_and_is_ready(board: &mut Board) {
    let all = pods(board, |pods| ready(pods, "run", "main"));
    assert_eq!((phase(&all, "run"), condition(&all, "run", "Ready").status.as_str()), ("Running", "True"));
}

fn j1_2_a_renamed_container_takes_over_the_port(board: &mut Board) {
    let mark = there(board, "cp .renamed .t; mv .t port.yaml");
    board.wait_from(mark, "one/port-podinit/second: started");
    let all = pods(board, |pods| ready(pods, "port", "second"));
    assert_eq!(phase(&all, "port"), "Running");
    let page = ctl(board, "until wget -qO- http://127.0.0.1:4534/; do sleep 1; done");
    assert!(page.contains("It runs."), "{page}");
}

/// The kubelet rejects it for ever.
fn j1_3_a_pod_of_another_namespace_waits_for_the_port(board: &mut Board) {
    let mark = there(board, "cp .moved .t; mv .t port.yaml");
    let (gone, _) = board.wait_from(mark, "one/port-podinit: gone");
    let (_, line) = board.wait_from(mark, "two/port-podinit/second: started");
    assert!(board.console()[gone - 40..].contains(&line), "it did not wait");
    pods(board, |pods| ready(pods, "port", "second"));
}

fn j1_10_a_file_that_comes_back_runs_again(board: &mut Board) {
    let uid = |board: &mut Board| {
        let all = pods(board, |pods| listed(pods, "run"));
        named(&all, "run").metadata.uid.clone()
    };
    let before = uid(board);
    // The container is deaf to its stop signal, so that the file is back before the pod is gone.
    let mark = there(board, "rm run.yaml");
    board.wait_from(mark, "run-podinit: stopping");
    there(board, "cp .run .t; mv .t run.yaml");
    let (mark, _) = board.wait_from(mark, "run-podinit: gone");
    let (mark, _) = board.wait_from(mark, "run-podinit/main: started");
    assert_eq!(uid(board), before);
    for wait in ["sleep 30", "true"] {
        let all = pods(board, |pods| ready(pods, "run", "main"));
        assert_eq!((phase(&all, "run"), status(&all, "run", "main").restart_count), ("Running", 1));
        assert_eq!(ctl(board, wait), "");
    }
    assert!(!board.console()[mark..].contains("run-podinit: stopping"));
}

fn j1_7_a_pod_without_its_file_is_not_listed(board: &mut Board) {
    let mark = there(board, "rm run.yaml");
    board.wait_from(mark, "run-podinit: gone");
    let all = pods(board, |_| true);
    assert!(!listed(&all, "run"));
}

fn j1_14_a_replaced_pod_has_its_grace(board: &mut Board) {
    let mark = there(board, "cp .deaf1 .t; mv .t deaf.yaml");
    let (mark, stopped) = when(board, mark, "deaf-podinit/main: sent stop signal");
    let (mark, killed) = when(board, mark, "deaf-podinit/main: killed");
    assert!(killed - stopped >= 19.0, "killed after {} s", killed - stopped);
    board.wait_from(mark, "deaf-podinit/main: started");
    board.ask_until("logs deaf", |said| said.lines().any(|line| line == "v1"));
    let all = pods(board, |pods| ready(pods, "deaf", "main"));
    assert_eq!(status(&all, "deaf", "main").image, "podinit.dev/demo:2");
}

fn j1_15_only_the_last_of_many_versions_runs(board: &mut Board) {
    let script = "for v in 2 3 2 3 2 3; do cp .deaf$v .t; mv .t deaf.yaml; busybox usleep 100000; done";
    let mark = there(board, script);
    let (mark, _) = board.wait_from(mark, "deaf-podinit: gone");
    board.wait_from(mark, "deaf-podinit/main: started");
    board.ask_until("logs deaf", |said| said.lines().any(|line| line == "v3"));
    assert_eq!(board.console()[mark..].matches("deaf-podinit: admitted").count(), 1);
}

fn j1_13_a_removed_pod_has_its_grace(board: &mut Board) {
    let uid = named(&pods(board, |_| true), "deaf").metadata.uid.clone();
    let mark = there(board, "rm deaf.yaml");
    let (mark, stopped) = when(board, mark, "deaf-podinit/main: sent stop signal");
    let still = |pods: &[Pod]| {
        listed(pods, "deaf")
            && named(pods, "deaf").metadata.uid == uid
            && phase(pods, "deaf") == "Running"
            && status(pods, "deaf", "main").state.as_ref().is_some_and(|state| state.running.is_some())
    };
    assert!(still(&pods(board, |_| true)));
    pods(board, |pods| !still(pods));
    let (mark, killed) = when(board, mark, "deaf-podinit/main: killed");
    assert!(killed - stopped >= 19.0, "killed after {} s", killed - stopped);
    board.wait_from(mark, "deaf-podinit: gone");
}

fn j1_31_what_is_echoed_is_in_the_log_files(board: &mut Board) {
    board.wait_for("echo-podinit/main: started");
    board.ask_until("logs echo", |said| said.lines().any(|line| line == "to be found"));
    let text = ctl(board, "cat /host/var/log/pods/default_echo-podinit_*/main/0.log");
    assert!(text.contains(" stdout F to be found"), "{text}");
    let link = ctl(board, "busybox readlink /host/var/log/containers/echo-podinit_default_main-*.log");
    assert!(
        link.starts_with("/var/log/pods/default_echo-podinit_") && link.ends_with("/main/0.log"),
        "{link}"
    );
    let text = ctl(board, &format!("cat /host{link}"));
    assert!(text.contains(" stdout F to be found"), "{text}");
}

fn j1_35_the_pods_group_has_its_limit_of_processes(board: &mut Board) {
    let all = pods(board, |_| true);
    let uid = named(&all, "echo").metadata.uid.clone().expect("a uid");
    assert_eq!(ctl(board, &format!("cat /host/sys/fs/cgroup/kubepods/besteffort/pod{uid}/pids.max")), "1024");
}

fn j1_30_a_container_over_its_memory_is_killed(board: &mut Board) {
    // The last one has no limit but what is left of the node.
    for (pod, container) in [("single", "main"), ("many", "main"), ("hungryinit", "init"), ("whole", "main")]
    {
        let all = pods(board, |pods| phase(pods, pod) == "Failed");
        let state = status(&all, pod, container).state.clone();
        let ended = state.and_then(|state| state.terminated).expect("it ended");
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("OOMKilled")), "{pod}");
    }
}

fn j1_29_a_killed_container_ended_with_137(board: &mut Board) {
    let all = pods(board, |pods| phase(pods, "killed") == "Running");
    let uid = named(&all, "killed").metadata.uid.clone().expect("a uid");
    let group = format!("/host/sys/fs/cgroup/kubepods/besteffort/pod{uid}");
    assert_eq!(ctl(board, &format!("for kill in {group}/*/cgroup.kill; do echo 1 >$kill; done")), "");
    let all = pods(board, |pods| phase(pods, "killed") == "Failed");
    let ended =
        status(&all, "killed", "main").state.clone().and_then(|state| state.terminated).expect("it ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("Error")));
}

fn j1_39_exit_codes_and_policies(board: &mut Board) {
    for (pod, wanted, code, again) in [
        ("xalways0", "Running", 0, true),
        ("xalways1", "Running", 1, true),
        ("xonfailure0", "Succeeded", 0, false),
        ("xonfailure1", "Running", 1, true),
        ("xnever0", "Succeeded", 0, false),
        ("xnever1", "Failed", 1, false),
    ] {
        let all = pods(board, |pods| {
            let main = status(pods, pod, "main");
            // Not in the very moment of a run.
            phase(pods, pod) == wanted && (main.restart_count > 0) == again && !main.ready
        });
        let status = status(&all, pod, "main");
        let state = if again { status.last_state.as_ref() } else { status.state.as_ref() };
        let ended = state.and_then(|state| state.terminated.as_ref()).expect("it ended");
        let reason = if code == 0 { "Completed" } else { "Error" };
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (code, Some(reason)), "{pod}");
    }
}

fn j1_18_a_crash_loop_waits_longer_each_time(board: &mut Board) {
    let mut mark = 0;
    for wait in [0.0, 10.0, 20.0, 40.0, 80.0, 160.0] {
        let (after, ended) = when(board, mark, "crash-podinit/main: exited");
        let (next, again) = when(board, after, "crash-podinit/main: started");
        let waited = again - ended;
        // A busy machine tells late and starts late, and is still far from the next step but one.
        assert!(waited >= wait - 1.0 && waited < wait + 30.0, "{waited} s instead of {wait}");
        mark = next;
    }
}

fn j1_32_logs_are_rotated_and_never_too_many(board: &mut Board) {
    let list = "cd /host/var/log/pods/default_chatty-podinit_*/main; ls -1";
    // As many rotations as it takes until files must have been removed, and one more.
    let mut rotated = BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    loop {
        let files = ctl(board, list);
        let files: Vec<&str> = files.lines().collect();
        assert!(files.len() <= 3, "{files:?}");
        // Compressed a moment later, under the same time.
        rotated.extend(files.iter().filter_map(|name| name.split('.').nth(2)).map(str::to_owned));
        if rotated.len() >= 4 && files.len() == 3 {
            return;
        }
        assert!(Instant::now() < until, "{files:?} after {rotated:?}");
        thread::sleep(Duration::from_secs(1));
    }
}
