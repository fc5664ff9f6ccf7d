//! Further rows of the list (see cases.rs): init containers, sidecars, and how a pod ends.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};

use crate::pods::{controlled, ctl, phase, pods, rows, status, when};
use crate::qemu::Board;

/// As long as it may, and ends at once when asked to.
pub const WAIT: &str = "trap exit TERM; while :; do sleep 1000 & wait $!; done";

/// Deaf to its stop signal.
pub const DEAF: &str = "trap : TERM; while :; do sleep 1000 & wait $!; done";

/// A container of a list: name, script, and more lines of its own. The pod's directory is at /v.
pub fn container(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "  - name: {name}\n    image: podinit.dev/demo:1\n    command: [sh, -c, '{script}']\n    \
         volumeMounts: [{{name: v, mountPath: /v}}]\n{more}"
    )
}

/// A pod of these init containers and containers, whose directory is the machine's /var/NAME.
pub fn pod(name: &str, policy: &str, init: &[String], containers: &[String]) -> String {
    let init = if init.is_empty() { String::new() } else { format!("  initContainers:\n{}", init.concat()) };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
         terminationGracePeriodSeconds: 20\n  volumes: [{{name: v, hostPath: {{path: /var/{name}, type: DirectoryOrCreate}}}}]\n\
         {init}  containers:\n{}---\n",
        containers.concat()
    )
}

pub fn sidecar(name: &str, script: &str, more: &str) -> String {
    container(name, script, &format!("    restartPolicy: Always\n{more}"))
}

/// What the pod's containers wrote down, as lines, as soon as there are so many.
pub fn order(board: &mut Board, pod: &str, lines: usize) -> Vec<String> {
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

pub fn ended(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|state| state.terminated.as_ref())
}

pub fn running(pods: &[Pod], pod: &str, container: &str) -> bool {
    status(pods, pod, container).state.as_ref().is_some_and(|state| state.running.is_some())
}

pub fn remove(board: &mut Board, file: &str) -> usize {
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
    let side = format!(
        "echo side >>/v/order; sleep 3; echo up >>/v/order; touch /v/ready; until test -e /v/ask; do sleep 1; done; touch /v/answer; {WAIT}"
    );
    let sidecars = pod(
        "sidecars",
        "Always",
        &[
            container("first", &say("first"), ""),
            sidecar("side", &side, startup),
            // Only a sidecar that still runs answers.
            container(
                "second",
                "touch /v/ask; until test -e /v/answer; do sleep 1; done; echo second >>/v/order",
                "",
            ),
        ],
        &[container("main", &format!("echo main >>/v/order; {WAIT}"), "")],
    );
    let ending: String = ["Always", "OnFailure", "Never"]
        .map(|policy| {
            let side = sidecar("side", "test -e /v/again && exec sleep 1000; until test -e /v/main; do sleep 1; done; touch /v/again", "");
            pod(&format!("again{}", policy.to_lowercase()), policy, &[side], &[container("main", &format!("touch /v/main; {WAIT}"), "")])
        })
        .concat();
    // Each hook waits for the two others, and each container takes its time to end.
    let polite = |name: &str| {
        let script = format!(
            "trap 'echo term-{name} >>/v/order; sleep 1; echo end-{name} >>/v/order; exit 0' TERM; while :; do sleep 1000 & wait $!; done"
        );
        let meet = format!(
            "echo pre >>/v/order; touch /v/pre-{name}; until test -e /v/pre-a -a -e /v/pre-b -a -e /v/pre-main; do sleep 1; done"
        );
        let hook = format!("    lifecycle: {{preStop: {{exec: {{command: [sh, -c, '{meet}']}}}}}}\n");
        (script, hook)
    };
    let [a, b, main] = ["a", "b", "main"].map(polite);
    let other =
        "trap 'sleep 1; echo end-other >>/v/order; exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    let leaving = pod(
        "leaving",
        "Always",
        &[sidecar("a", &a.0, &a.1), sidecar("b", &b.0, &b.1)],
        &[container("main", &main.0, &main.1), container("other", other, "")],
    )
    .replace("PeriodSeconds: 20", "PeriodSeconds: 120");
    // Nobody listens: the sidecars have no more than what is left of the pod's grace, and then their two seconds.
    let [c, d] = ["c", "d"].map(|name| sidecar(name, DEAF, ""));
    let stubborn = pod("stubborn", "Always", &[c, d], &[container("main", DEAF, "")])
        .replace("PeriodSeconds: 20", "PeriodSeconds: 5");
    let post = "    lifecycle: {postStart: {exec: {command: [sh, -c, 'echo hook >>/v/order; until test -e /v/go; do sleep 1; done; echo hooked >>/v/order']}}}\n";
    let blocked = pod(
        "blocked",
        "Always",
        &[],
        &[container("one", WAIT, post), container("two", &format!("echo two >>/v/order; {WAIT}"), "")],
    );
    let bad = "trap 'exit 3' TERM; touch /v/up; while :; do sleep 1000 & wait $!; done";
    let nonzero = pod(
        "nonzero",
        "Never",
        &[sidecar("side", bad, "")],
        &[container("main", "until test -e /v/up; do sleep 1; done", "")],
    );
    let liveness = "    livenessProbe: {exec: {command: [ls, /v/none]}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 3}\n";
    let deaf = pod("overdue", "Never", &[sidecar("side", WAIT, "")], &[container("main", DEAF, liveness)]);
    let removed = pod("removed", "Never", &[], &[container("main", DEAF, "")])
        .replace("PeriodSeconds: 20", "PeriodSeconds: 3");
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
        blocked,
        files,
        everything,
    ];
    let mut board = controlled()
        .manifest("rest.yaml", &rest.concat())
        .manifest("leaving.yaml", &leaving)
        .manifest("stubborn.yaml", &stubborn)
        .manifest("removed.yaml", &removed)
        .manifest(".overdue", &deaf)
        .boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    rows!(board;
        j1_19_init_containers_run_one_after_the_other,
        j1_20_a_failing_init_container_is_tried_again,
        j1_21_a_failing_init_container_fails_the_pod,
        j1_22_a_sidecar_is_up_before_what_follows,
        j1_23_a_sidecar_that_ends_runs_again,
        j1_4_variables_come_from_a_file,
        j1_5_a_rule_restarts_all_containers,
        j1_25_a_sidecars_exit_code_does_not_count,
        j1_28_a_hook_that_blocks_holds_back_the_next_container,
        j1_26_a_main_container_past_its_grace_fails_the_pod,
        j1_24_mains_end_first_and_sidecars_in_reverse,
    );
}

fn j1_19_init_containers_run_one_after_the_other(board: &mut Board) {
    pods(board, |pods| phase(pods, "serial") == "Succeeded");
    assert_eq!(order(board, "serial", 5), ["one", "end", "two", "end", "main"]);
}

fn j1_20_a_failing_init_container_is_tried_again(board: &mut Board) {
    let all = pods(board, |pods| status(pods, "patient", "init").restart_count >= 2);
    assert_eq!(phase(&all, "patient"), "Pending");
    assert!(fresh(&all, "patient", "main"));
}

fn j1_21_a_failing_init_container_fails_the_pod(board: &mut Board) {
    let all = pods(board, |pods| phase(pods, "halted") == "Failed");
    assert_eq!(status(&all, "halted", "init").restart_count, 0);
    assert!(fresh(&all, "halted", "main"));
}

fn j1_22_a_sidecar_is_up_before_what_follows(board: &mut Board) {
    pods(board, |pods| running(pods, "sidecars", "side") && running(pods, "sidecars", "main"));
    assert_eq!(order(board, "sidecars", 5), ["first", "side", "up", "second", "main"]);
}

fn j1_23_a_sidecar_that_ends_runs_again(board: &mut Board) {
    for name in ["againalways", "againonfailure", "againnever"] {
        let all =
            pods(board, |pods| status(pods, name, "side").restart_count == 1 && running(pods, name, "side"));
        assert!(running(&all, name, "main") && status(&all, name, "main").restart_count == 0, "{name}");
        let last = ended(status(&all, name, "side").last_state.as_ref()).expect("it ended");
        assert_eq!(last.exit_code, 0, "{name}");
    }
}

fn j1_4_variables_come_from_a_file(board: &mut Board) {
    pods(board, |pods| phase(pods, "files") == "Succeeded");
    let said = board.ask("logs files");
    for line in ["CONFIG_1=value1", "CONFIG_2=value2"] {
        assert!(said.lines().any(|known| known == line), "{said}");
    }
}

fn j1_5_a_rule_restarts_all_containers(board: &mut Board) {
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

fn j1_25_a_sidecars_exit_code_does_not_count(board: &mut Board) {
    let all = pods(board, |pods| phase(pods, "nonzero") == "Succeeded");
    let side = ended(status(&all, "nonzero", "side").state.as_ref()).expect("it ended");
    assert_eq!(side.exit_code, 3);
}

/// Stopped by its liveness probe: a pod that is removed leaves the list with its last container.
fn j1_26_a_main_container_past_its_grace_fails_the_pod(board: &mut Board) {
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

    // What is told of the other while it is listed and after.
    pods(board, |pods| running(pods, "removed", "main"));
    let mark = remove(board, "removed.yaml");
    let (mark, asked) = when(board, mark, "removed-podinit/main: sent stop signal");
    let (mark, killed) = when(board, mark, "removed-podinit/main: killed: its grace period is over");
    assert!(killed - asked >= 2.5, "killed after {} s", killed - asked);
    let (mark, _) = board.wait_from(mark, "removed-podinit/main: ended by signal 9");
    board.wait_from(mark, "removed-podinit: gone");
}

fn j1_24_mains_end_first_and_sidecars_in_reverse(board: &mut Board) {
    pods(board, |pods| ["a", "b", "main", "other"].iter().all(|name| running(pods, "leaving", name)));
    let mark = remove(board, "leaving.yaml");
    let (end, _) = board.wait_from(mark, "leaving-podinit: gone");
    let told = order(board, "leaving", 10);
    // No hook could end before all three had begun, and no signal comes before its container's hook.
    assert_eq!(told[..3], ["pre", "pre", "pre"]);
    let signals = ["term-main", "end-main", "term-b", "end-b", "term-a", "end-a"];
    let of_three: Vec<_> = told[3..].iter().filter(|line| *line != "end-other").collect();
    assert_eq!(of_three, signals.iter().collect::<Vec<_>>());
    let at = |line: &str| told.iter().position(|known| known == line).expect("it is told");
    assert!(at("end-other") < at("term-b"), "{told:?}");
    // Nobody was killed, so that all were within the grace.
    for name in ["a", "b", "main", "other"] {
        let line = format!("leaving-podinit/{name}: exited with code 0");
        assert!(board.console()[mark..end].contains(&line), "{name}");
    }

    pods(board, |pods| ["c", "d", "main"].iter().all(|name| running(pods, "stubborn", name)));
    let mark = remove(board, "stubborn.yaml");
    let (_, asked) = when(board, mark, "stubborn-podinit/main: sent stop signal");
    let [main, c, d] = ["main", "c", "d"].map(|name| {
        when(board, mark, &format!("stubborn-podinit/{name}: killed: its grace period is over")).1
    });
    assert!(main - asked >= 4.5, "{main} {asked}");
    for sidecar in [c, d] {
        // Asked when the grace was over, and a busy machine is late; one after the other would be a grace each.
        assert!(sidecar - main >= 1.0 && sidecar - main < 30.0, "{sidecar} {main}");
    }
    board.wait_from(mark, "stubborn-podinit: gone");
}

fn j1_28_a_hook_that_blocks_holds_back_the_next_container(board: &mut Board) {
    assert_eq!(order(board, "blocked", 1), ["hook"]);
    let all = pods(board, |_| true);
    assert!(fresh(&all, "blocked", "two") && phase(&all, "blocked") == "Pending");
    assert_eq!(ctl(board, "touch /host/var/blocked/go"), "");
    pods(board, |pods| ["one", "two"].iter().all(|name| running(pods, "blocked", name)));
    assert_eq!(order(board, "blocked", 3), ["hook", "hooked", "two"]);
}
