//! Further rows of the scenarios (see scenarios.rs): init containers, sidecars, hooks, probes, PID 1's death, shutdown.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};

use crate::jobs;
use crate::pods::{controlled, ctl, inside, named, phase, pods, status, when};
use crate::qemu::Board;

/// As long as it may, and ends at once when asked to.
const WAIT: &str = "trap exit TERM; while :; do sleep 1000 & wait $!; done";

/// A container of a list: name, script, and more lines of its own. The pod's directory is at /v.
fn container(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "  - name: {name}\n    image: podinit.dev/demo:1\n    command: [sh, -c, '{script}']\n    \
         volumeMounts: [{{name: v, mountPath: /v}}]\n{more}"
    )
}

/// A pod of these init containers and containers, whose directory is the machine's /var/NAME.
fn pod(name: &str, policy: &str, init: &[String], containers: &[String]) -> String {
    let init = if init.is_empty() { String::new() } else { format!("  initContainers:\n{}", init.concat()) };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
         terminationGracePeriodSeconds: 20\n  volumes: [{{name: v, hostPath: {{path: /var/{name}, type: DirectoryOrCreate}}}}]\n\
         {init}  containers:\n{}---\n",
        containers.concat()
    )
}

fn sidecar(name: &str, script: &str, more: &str) -> String {
    container(name, script, &format!("    restartPolicy: Always\n{more}"))
}

/// What the pod's containers wrote down, as lines, as soon as there are so many.
fn order(board: &mut Board, pod: &str, lines: usize) -> Vec<String> {
    let file = format!("/host/var/{pod}/order");
    let script =
        format!("until [ $(busybox wc -l <{file}) -ge {lines} ]; do sleep 1; done 2>/dev/null; cat {file}");
    ctl(board, &script).lines().map(str::to_owned).collect()
}

/// Whether the container has never run.
fn fresh(pods: &[Pod], pod: &str, container: &str) -> bool {
    let status = status(pods, pod, container);
    status.container_id.is_none() && status.restart_count == 0 && ended(status.state.as_ref()).is_none()
}

fn ended(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|state| state.terminated.as_ref())
}

fn running(pods: &[Pod], pod: &str, container: &str) -> bool {
    status(pods, pod, container).state.as_ref().is_some_and(|state| state.running.is_some())
}

fn remove(board: &mut Board, file: &str) -> usize {
    let mark = board.mark();
    assert_eq!(ctl(board, &format!("rm /host/etc/kubernetes/manifests/{file}")), "");
    mark
}

#[test]
fn containers_begin_and_end_in_order() {
    let say = |text: &str| format!("echo {text} >>/v/order");
    let slow =
        |name: &str| container(name, &format!("echo {name} >>/v/order; sleep 1; echo end >>/v/order"), "");
    let serial = pod("serial", "Never", &[slow("one"), slow("two")], &[container("main", &say("main"), "")]);
    let failing = |name: &str, policy: &str| {
        pod(name, policy, &[container("init", "exit 3", "")], &[container("main", WAIT, "")])
    };
    let startup = "    startupProbe: {exec: {command: [ls, /v/ready]}, timeoutSeconds: 20, periodSeconds: 1, failureThreshold: 60}\n";
    let side = format!("echo side >>/v/order; sleep 3; echo up >>/v/order; touch /v/ready; {WAIT}");
    let sidecars = pod(
        "sidecars",
        "Always",
        &[
            container("first", &say("first"), ""),
            sidecar("side", &side, startup),
            container("second", &say("second"), ""),
        ],
        &[container("main", &format!("echo main >>/v/order; {WAIT}"), "")],
    );
    let ending: String = ["Always", "OnFailure", "Never"]
        .map(|policy| {
            let side = sidecar("side", "test -e /v/again && exec sleep 1000; until test -e /v/main; do sleep 1; done; touch /v/again", "");
            pod(&format!("again{}", policy.to_lowercase()), policy, &[side], &[container("main", &format!("touch /v/main; {WAIT}"), "")])
        })
        .concat();
    let polite = |name: &str| {
        let script = format!(
            "trap 'echo term-{name} >>/v/order; exit 0' TERM; while :; do sleep 1000 & wait $!; done"
        );
        let hook = "    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo pre >>/v/order; sleep 4']}}}\n";
        (script, hook)
    };
    let [a, b, main] = ["a", "b", "main"].map(polite);
    let leaving = pod(
        "leaving",
        "Always",
        &[sidecar("a", &a.0, a.1), sidecar("b", &b.0, b.1)],
        &[container("main", &main.0, main.1)],
    );
    let bad = "trap 'exit 3' TERM; touch /v/up; while :; do sleep 1000 & wait $!; done";
    let nonzero = pod(
        "nonzero",
        "Never",
        &[sidecar("side", bad, "")],
        &[container("main", "until test -e /v/up; do sleep 1; done", "")],
    );
    let liveness = "    livenessProbe: {exec: {command: [ls, /v/none]}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 3}\n";
    let deaf = pod(
        "overdue",
        "Never",
        &[sidecar("side", WAIT, "")],
        &[container("main", "trap : TERM; while :; do sleep 1000 & wait $!; done", liveness)],
    );
    let text = "echo \"CONFIG_1='value1'\" >/e/config.env; echo \"CONFIG_2='value2'\" >>/e/config.env";
    let key = |number: u8| {
        format!(
            "    - {{name: CONFIG_{number}, valueFrom: {{fileKeyRef: {{volumeName: e, path: config.env, key: CONFIG_{number}}}}}}}\n"
        )
    };
    let files = pod(
        "files",
        "Never",
        &[container("init", text, "").replace("[{name: v, mountPath: /v}]", "[{name: e, mountPath: /e}]")],
        &[container("main", "env", &format!("    env:\n{}{}", key(1), key(2)))],
    )
    .replace("volumes: [", "volumes: [{name: e, emptyDir: {}}, ");
    let rules = "    restartPolicy: Never\n    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]\n";
    let ruled =
        "test -e /v/mark && exec sleep 1000; touch /v/mark; until test -e /v/up; do sleep 1; done; exit 42";
    let everything = pod(
        "everything",
        "Never",
        &[container("init", &say("init"), "")],
        &[container("ruled", ruled, rules), container("other", &format!("touch /v/up; {WAIT}"), "")],
    );
    let rest = [
        serial,
        failing("patient", "Always"),
        failing("halted", "Never"),
        sidecars,
        ending,
        nonzero,
        files,
        everything,
    ];
    let mut board = controlled()
        .manifest("rest.yaml", &rest.concat())
        .manifest("leaving.yaml", &leaving)
        .manifest(".overdue", &deaf)
        .boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    row_19_init_containers_run_one_after_the_other(board);
    row_20_a_failing_init_container_is_tried_again(board);
    row_21_a_failing_init_container_fails_the_pod(board);
    row_22_a_sidecar_is_up_before_what_follows(board);
    row_23_a_sidecar_that_ends_runs_again(board);
    row_4_variables_come_from_a_file(board);
    row_5_a_rule_restarts_all_containers(board);
    row_25_a_sidecars_exit_code_does_not_count(board);
    row_26_a_main_container_past_its_grace_fails_the_pod(board);
    row_24_mains_end_first_and_sidecars_in_reverse(board);
}

fn row_19_init_containers_run_one_after_the_other(board: &mut Board) {
    pods(board, |pods| phase(pods, "serial") == "Succeeded");
    assert_eq!(order(board, "serial", 5), ["one", "end", "two", "end", "main"]);
}

fn row_20_a_failing_init_container_is_tried_again(board: &mut Board) {
    let all = pods(board, |pods| status(pods, "patient", "init").restart_count >= 2);
    assert_eq!(phase(&all, "patient"), "Pending");
    assert!(fresh(&all, "patient", "main"));
}

fn row_21_a_failing_init_container_fails_the_pod(board: &mut Board) {
    let all = pods(board, |pods| phase(pods, "halted") == "Failed");
    assert_eq!(status(&all, "halted", "init").restart_count, 0);
    assert!(fresh(&all, "halted", "main"));
}

fn row_22_a_sidecar_is_up_before_what_follows(board: &mut Board) {
    pods(board, |pods| running(pods, "sidecars", "side") && running(pods, "sidecars", "main"));
    assert_eq!(order(board, "sidecars", 5), ["first", "side", "up", "second", "main"]);
}

fn row_23_a_sidecar_that_ends_runs_again(board: &mut Board) {
    for name in ["againalways", "againonfailure", "againnever"] {
        let all =
            pods(board, |pods| status(pods, name, "side").restart_count == 1 && running(pods, name, "side"));
        assert!(running(&all, name, "main") && status(&all, name, "main").restart_count == 0, "{name}");
        let last = ended(status(&all, name, "side").last_state.as_ref()).expect("it ended");
        assert_eq!(last.exit_code, 0, "{name}");
    }
}

fn row_4_variables_come_from_a_file(board: &mut Board) {
    pods(board, |pods| phase(pods, "files") == "Succeeded");
    let said = board.ask("logs files");
    for line in ["CONFIG_1=value1", "CONFIG_2=value2"] {
        assert!(said.lines().any(|known| known == line), "{said}");
    }
}

fn row_5_a_rule_restarts_all_containers(board: &mut Board) {
    let all = pods(board, |pods| {
        ["ruled", "other"].iter().all(|container| {
            status(pods, "everything", container).restart_count == 1 && running(pods, "everything", container)
        })
    });
    assert_eq!(phase(&all, "everything"), "Running");
    let last = ended(status(&all, "everything", "ruled").last_state.as_ref()).expect("it ended");
    assert_eq!(last.exit_code, 42);
    assert_eq!(order(board, "everything", 2), ["init", "init"]);
}

fn row_25_a_sidecars_exit_code_does_not_count(board: &mut Board) {
    let all = pods(board, |pods| phase(pods, "nonzero") == "Succeeded");
    let side = ended(status(&all, "nonzero", "side").state.as_ref()).expect("it ended");
    assert_eq!(side.exit_code, 3);
}

/// Stopped by its liveness probe: a pod that is removed leaves the list with its last container.
fn row_26_a_main_container_past_its_grace_fails_the_pod(board: &mut Board) {
    let mark = board.mark();
    ctl(board, "cd /host/etc/kubernetes/manifests; cp .overdue .t; mv .t overdue.yaml");
    let (mark, asked) = when(board, mark, "overdue-podinit/main: sent stop signal");
    let (_, killed) = when(board, mark, "overdue-podinit/main: killed");
    // The grace begins a moment before the console tells of the signal.
    assert!(killed - asked >= 2.5, "killed after {} s", killed - asked);
    let all = pods(board, |pods| phase(pods, "overdue") == "Failed");
    let main = ended(status(&all, "overdue", "main").state.as_ref()).expect("it ended");
    assert_eq!(main.exit_code, 137);
    assert!(ended(status(&all, "overdue", "side").state.as_ref()).is_some());
}

fn row_24_mains_end_first_and_sidecars_in_reverse(board: &mut Board) {
    pods(board, |pods| running(pods, "leaving", "main"));
    let mark = remove(board, "leaving.yaml");
    let (end, _) = board.wait_from(mark, "leaving-podinit: gone");
    assert_eq!(order(board, "leaving", 6), ["pre", "pre", "pre", "term-main", "term-b", "term-a"]);
    let told = &board.console()[mark..end];
    for name in ["a", "b", "main"] {
        assert!(told.contains(&format!("leaving-podinit/{name}: exited with code 0")), "{told}");
    }
}

/// A re-execution of PID 1.
fn fault(board: &mut Board) {
    let mark = board.say("fault panic");
    let (mark, _) = board.wait_from(mark, "re-executed after death 1");
    board.wait_from(mark, "logger: started");
}

fn uid(board: &mut Board, name: &str) -> String {
    named(&pods(board, |_| true), name).metadata.uid.clone().expect("a uid")
}

#[test]
fn pods_outlive_pid_1_and_reboots() {
    let env = "    env: [{name: WHOM, value: board}, {name: GREETING, value: hello $(WHOM)}]\n";
    let kept = pod(
        "kept",
        "Always",
        &[
            container("init", "echo init >>/v/order", ""),
            sidecar("side", &format!("echo side >>/v/order; {WAIT}"), ""),
        ],
        &[container("main", &format!("echo $GREETING >>/v/order; {WAIT}"), env)],
    )
    .replace("/var/kept", "/data/kept");
    let mut board = controlled()
        .data()
        .append("podinit.faults=1")
        .manifest("kept.yaml", &kept)
        .manifest("jobs.yaml", jobs::JOBS)
        .boot();
    row_6_and_16_a_finished_init_container_is_not_run_again(&mut board);
    row_17_a_sidecar_that_died_with_pid_1_runs_again(&mut board);
    jobs::run(&mut board);
    let mut board = row_27_a_reboot_begins_anew_in_order(board);
    jobs::go_on(&mut board);
}

fn kept_order(board: &mut Board, lines: usize) -> Vec<String> {
    let order = order(board, "../data/kept", lines);
    assert_eq!(ctl(board, "busybox sync"), "");
    order
}

/// What is left of it in the runtime goes, too.
fn row_6_and_16_a_finished_init_container_is_not_run_again(board: &mut Board) {
    board.wait_for("ctl-podinit/ctl: started");
    pods(board, |pods| running(pods, "kept", "main"));
    let uid = uid(board, "kept");
    assert_eq!(ctl(board, &format!("busybox rm -r /host/run/podinit/pods/{uid}/c/init 2>/dev/null")), "");
    fault(board);
    let all = pods(board, |pods| status(pods, "kept", "main").ready);
    let init = status(&all, "kept", "init");
    let end = ended(init.state.as_ref()).expect("it ended");
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    assert!(init.restart_count == 0 && status(&all, "kept", "main").restart_count == 0);
    assert_eq!(kept_order(board, 3), ["init", "side", "hello board"]);
}

/// Killed at about the time when PID 1 dies: nothing else can wait for it then.
fn row_17_a_sidecar_that_died_with_pid_1_runs_again(board: &mut Board) {
    let uid = uid(board, "kept");
    let before = status(&pods(board, |_| true), "kept", "side").container_id.clone().expect("an id");
    let id = before.rsplit('/').next().expect("an id");
    let file = format!("/host/sys/fs/cgroup/kubepods/besteffort/pod{uid}/{id}/cgroup.kill");
    assert_eq!(ctl(board, &format!("(sleep 1; echo 1 >{file}) >/dev/null 2>&1 & true")), "");
    fault(board);
    let all = pods(board, |pods| {
        let side = status(pods, "kept", "side");
        side.restart_count == 1 && running(pods, "kept", "side")
    });
    assert_ne!(status(&all, "kept", "side").container_id.as_ref(), Some(&before));
    assert_eq!(status(&all, "kept", "main").restart_count, 0);
    assert_eq!(kept_order(board, 4), ["init", "side", "hello board", "side"]);
}

fn row_27_a_reboot_begins_anew_in_order(board: Board) -> Board {
    let mut board = board.boot_again();
    board.wait_for("ctl-podinit/ctl: started");
    pods(&mut board, |pods| running(pods, "kept", "main"));
    assert_eq!(kept_order(&mut board, 7)[4..], ["init", "side", "hello board"]);
    board
}

#[test]
fn critical_pods_end_after_the_others() {
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  shutdownGracePeriod: 20s\nshutdownGracePeriodCriticalPods: 10s\n";
    let deaf = "trap : TERM; while :; do sleep 1000 & wait $!; done";
    let with = |name: &str, grace: u32, more: &str| {
        pod(name, "Always", &[], &[container("main", deaf, "")])
            .replace("PeriodSeconds: 20", &format!("PeriodSeconds: {grace}{more}"))
    };
    let critical = "\n  priorityClassName: system-node-critical";
    let all = [
        with("long", 120, ""),
        with("short", 5, ""),
        with("criticallong", 120, critical),
        with("criticalshort", 5, critical),
    ];
    let mut board = controlled().config(config).manifest("all.yaml", &all.concat()).boot();
    row_33_critical_pods_have_the_end_of_the_grace(&mut board);
}

fn row_33_critical_pods_have_the_end_of_the_grace(board: &mut Board) {
    let names = ["long", "short", "criticallong", "criticalshort"];
    for name in names {
        board.wait_for(&format!("{name}-podinit/main: started"));
    }
    let mark = board.say("poweroff");
    let [long, short, critical, quick] = names.map(|name| {
        let (_, asked) = when(board, mark, &format!("/{name}-podinit/main: sent stop signal"));
        let (_, killed) = when(board, mark, &format!("/{name}-podinit/main: killed"));
        (asked, killed)
    });
    for (name, (asked, killed), grace) in [
        ("long", long, 10.0),
        ("short", short, 5.0),
        ("criticallong", critical, 10.0),
        ("criticalshort", quick, 5.0),
    ] {
        let waited = killed - asked;
        assert!(waited > grace - 1.0, "{name}: {waited} s instead of {grace}");
    }
    // The long ones had asked for two minutes; who asked for less than its share had no more. By far and in order, as a
    // busy machine is late.
    for (long, short) in [(long, short), (critical, quick)] {
        assert!(long.1 - long.0 < 60.0 && short.1 < long.1 + 1.0, "{long:?} {short:?}");
    }
    // They are asked in the same moment in which the last of the others is killed.
    assert!(critical.0 >= long.0 + 9.0 && quick.0 >= long.0 + 9.0, "{long:?} {critical:?} {quick:?}");
    assert!(critical.0 >= short.1, "{short:?} {critical:?}");
    assert_eq!(board.ended().code(), Some(0));
}

#[test]
fn probes_hooks_and_names() {
    let mark = |text: &str| format!("exec: {{command: [sh, -c, 'echo {text} >>/v/order']}}");
    let probe =
        |kind: &str, what: &str| format!("    {kind}: {{{what}, periodSeconds: 1, failureThreshold: 2}}\n");
    let alone =
        |name: &str, script: &str, more: &str| pod(name, "Always", &[], &[container("main", script, more)]);
    let pre = format!("    lifecycle: {{preStop: {{{}}}}}\n", mark("pre"));
    let none = "exec: {command: [ls, /v/none]}";
    let live = alone("live", WAIT, &(probe("livenessProbe", none) + &pre));
    let startup = alone("startup", WAIT, &(probe("startupProbe", none) + &pre));
    let web =
        "echo ok >/v/healthz; (sleep 10; busybox rm /v/healthz; touch /v/gone) & exec httpd -f -h /v -p 8000";
    let get = "httpGet: {port: 8000, path: /healthz}";
    let health = alone("health", web, &probe("livenessProbe", get));
    let unready = alone("unready", web, &probe("readinessProbe", get));
    let own = "    volumeMounts: [{name: own, mountPath: /etc/hosts, subPath: hosts}]\n";
    let hosts = pod(
        "hosts",
        "Always",
        &[],
        &[
            container("managed", WAIT, ""),
            container("own", WAIT, "").replace("    volumeMounts: [{name: v, mountPath: /v}]\n", own),
        ],
    )
    .replace("volumes: [", "volumes: [{name: own, configMap: {name: own}}, ");
    let hosts = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: own}}\ndata: {{hosts: mine}}\n---\n{hosts}"
    );
    let hooks =
        |post: &str, pre: &str| format!("    lifecycle: {{postStart: {{{post}}}, preStop: {{{pre}}}}}\n");
    let ask = |path: &str| format!("httpGet: {{port: 8000, path: {path}}}");
    let bad = "    livenessProbe: {exec: {command: [sh, -c, '! test -e /v/bad']}, timeoutSeconds: 20, periodSeconds: 1, failureThreshold: 1}\n";
    let hooked = pod(
        "hooked",
        "Always",
        &[sidecar(
            "server",
            "exec httpd -f -vv -h /www -p 8000",
            "    startupProbe: {tcpSocket: {port: 8000}, periodSeconds: 1, failureThreshold: 60}\n",
        )],
        &[
            container("exec", WAIT, &(hooks(&mark("post"), &mark("pre")) + bad)),
            container("http", WAIT, &(hooks(&ask("/post"), &ask("/pre")) + bad)),
        ],
    );
    let nap = alone("nap", WAIT, &hooks("sleep: {seconds: 2}", "sleep: {seconds: 4}"));
    let all = [live, startup, health, unready, hosts, hooked];
    let mut board = controlled().manifest("all.yaml", &all.concat()).manifest("nap.yaml", &nap).boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    row_38_a_failed_probe_runs_the_hook_and_restarts(board);
    row_40_liveness_restarts_and_readiness_does_not(board);
    row_41_hosts_files_are_managed_unless_mounted(board);
    row_42_hooks_are_run_and_a_sleep_delays_the_end(board);
}

fn row_38_a_failed_probe_runs_the_hook_and_restarts(board: &mut Board) {
    for name in ["live", "startup"] {
        pods(board, |pods| status(pods, name, "main").restart_count >= 1);
        assert_eq!(order(board, name, 1)[0], "pre", "{name}");
    }
}

/// A page that is gone fails the probe as a 500 does.
fn row_40_liveness_restarts_and_readiness_does_not(board: &mut Board) {
    pods(board, |pods| status(pods, "health", "main").restart_count >= 1);
    ctl(board, "until test -e /host/var/unready/gone; do sleep 1; done; sleep 4");
    let all = pods(board, |pods| !status(pods, "unready", "main").ready);
    assert!(running(&all, "unready", "main") && status(&all, "unready", "main").restart_count == 0);
}

fn row_41_hosts_files_are_managed_unless_mounted(board: &mut Board) {
    pods(board, |pods| running(pods, "hosts", "own"));
    let managed = inside(board, "hosts -c managed", "cat /etc/hosts");
    assert!(managed.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost"), "{managed}");
    assert_eq!(inside(board, "hosts -c own", "cat /etc/hosts"), "mine");
    // Of the machine's network: the machine's names.
    let host = ctl(board, "cat /etc/hosts");
    assert!(!host.contains("ctl-podinit"), "{host}");
}

fn row_42_hooks_are_run_and_a_sleep_delays_the_end(board: &mut Board) {
    pods(board, |pods| ["exec", "http"].iter().all(|name| status(pods, "hooked", name).ready));
    assert_eq!(order(board, "hooked", 1), ["post"]);
    board.ask_until("logs hooked -c server", |said| said.contains("url:/post"));
    ctl(board, "touch /host/var/hooked/bad");
    pods(board, |pods| ["exec", "http"].iter().all(|name| status(pods, "hooked", name).restart_count >= 1));
    assert_eq!(order(board, "hooked", 2)[..2], ["post", "pre"]);
    board.ask_until("logs hooked -c server", |said| said.contains("url:/pre"));

    pods(board, |pods| status(pods, "nap", "main").ready);
    let mark = remove(board, "nap.yaml");
    let (mark, begun) = when(board, mark, "nap-podinit: stopping");
    let (_, asked) = when(board, mark, "nap-podinit/main: sent stop signal");
    assert!(asked - begun >= 3.5, "{}", asked - begun);
}
