//! Further rows of the list (see cases.rs): PID 1's death, the machine's reboot, and its end.

use k8s_openapi::api::core::v1::Pod;

use crate::jobs;
use crate::lifecycle::{DEAF, WAIT, container, ended, order, pod, running, sidecar};
use crate::pods::{Row, condition, controlled, ctl, listed, named, phase, pods, rows, status, when};
use crate::qemu::Board;

/// A re-execution of PID 1. In between the script is run, with the pod's files of the runtime at hand.
fn fault(board: &mut Board, script: &str) -> usize {
    let script = format!(
        "R=/host/run/podinit; (until test -e $R/absent; do sleep 1; done; {script}; busybox rm $R/absent) >/dev/null 2>&1 & true"
    );
    assert_eq!(ctl(board, &script), "");
    let mark = board.say("fault absent");
    let (again, _) = board.wait_from(mark, "re-executed after death 1");
    board.wait_from(again, "logger: started");
    mark
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
            container("next", "echo next >>/v/order", ""),
            sidecar("side", &format!("echo side >>/v/order; {WAIT}"), ""),
        ],
        &[container("main", &format!("echo $GREETING >>/v/order; {WAIT}"), env)],
    )
    .replace("/var/kept", "/data/kept");
    let lost = pod(
        "lost",
        "Always",
        &[
            container("forgotten", "echo forgotten >>/v/order", ""),
            container("known", "echo known >>/v/order", ""),
        ],
        &[container("main", &format!("echo main >>/v/order; {WAIT}"), "")],
    );
    let mut board = controlled()
        .data()
        .append("podinit.faults=1")
        .manifest("kept.yaml", &kept)
        .manifest("lost.yaml", &lost)
        .manifest("jobs.yaml", jobs::JOBS)
        .boot();
    board.wait_for("ctl-podinit/ctl: started");
    rows!(&mut board;
        j1_16_an_init_container_that_is_forgotten_has_finished,
        j1_6_a_finished_init_container_stays_finished,
        j1_17_a_sidecar_that_was_removed_while_pid_1_was_gone_runs_again,
    );
    jobs::run(&mut board);
    let row = Row("j1_27_what_has_finished_is_not_run_again_and_a_reboot_begins_anew");
    let mut board = j1_27_what_has_finished_is_not_run_again_and_a_reboot_begins_anew(board);
    drop(row);
    jobs::go_on(&mut board);
}

fn kept_order(board: &mut Board, lines: usize) -> Vec<String> {
    let order = order(board, "../data/kept", lines);
    assert_eq!(ctl(board, "busybox sync"), "");
    order
}

/// What the first life of the pod wrote.
const FIRST: [&str; 4] = ["init", "next", "side", "hello board"];

/// Finished for good: exit code, reason, message.
fn finished(pods: &[Pod], pod: &str, init: &str) -> (i32, String, String) {
    let status = status(pods, pod, init);
    let end = ended(status.state.as_ref()).expect("it ended");
    (end.exit_code, end.reason.clone().unwrap_or_default(), end.message.clone().unwrap_or_default())
}

/// Its record is removed: the facts that tell of it, which no snapshot holds before the first death.
fn j1_16_an_init_container_that_is_forgotten_has_finished(board: &mut Board) {
    pods(board, |pods| running(pods, "lost", "main"));
    let forget = "busybox grep -v '\"container\":\"forgotten\"' $R/facts.jsonl >$R/left; cat $R/left >$R/facts.jsonl; busybox rm $R/left";
    let mark = fault(board, forget);
    let all = pods(board, |pods| status(pods, "lost", "main").ready);
    let words = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";
    assert_eq!(status(&all, "lost", "forgotten").restart_count, 0);
    assert_eq!(finished(&all, "lost", "forgotten"), (0, "Completed".to_owned(), words.to_owned()));
    assert_eq!(finished(&all, "lost", "known"), (0, "Completed".to_owned(), String::new()));
    assert_eq!((phase(&all, "lost"), status(&all, "lost", "main").restart_count), ("Running", 0));
    assert_eq!(order(board, "lost", 3), ["forgotten", "known", "main"]);
    assert!(!board.console()[mark..].contains("starting over"), "the ledger was not trusted");
}

/// What is left of it in the runtime goes meanwhile.
fn j1_6_a_finished_init_container_stays_finished(board: &mut Board) {
    pods(board, |pods| running(pods, "kept", "main"));
    let uid = uid(board, "kept");
    let mark = fault(board, &format!("busybox rm -r $R/pods/{uid}/c/init"));
    let all = pods(board, |pods| status(pods, "kept", "main").ready);
    assert_eq!(finished(&all, "kept", "init"), (0, "Completed".to_owned(), String::new()));
    assert_eq!(status(&all, "kept", "init").restart_count, 0);
    assert_eq!((phase(&all, "kept"), status(&all, "kept", "main").restart_count), ("Running", 0));
    assert_eq!(kept_order(board, 4), FIRST);
    assert!(!board.console()[mark..].contains("starting over"), "the ledger was not trusted");
}

/// Its processes, its cgroup and its state.
fn j1_17_a_sidecar_that_was_removed_while_pid_1_was_gone_runs_again(board: &mut Board) {
    let uid = uid(board, "kept");
    let before = status(&pods(board, |_| true), "kept", "side").container_id.clone().expect("an id");
    let id = before.rsplit('/').next().expect("an id");
    let group = format!("/host/sys/fs/cgroup/kubepods/besteffort/pod{uid}/{id}");
    let script = format!(
        "echo 1 >{group}/cgroup.kill; until busybox grep -q 'populated 0' {group}/cgroup.events; do sleep 1; done; \
         busybox rmdir {group}; busybox rm -r $R/state/{id}; test -e {group} -o -e $R/state/{id} || touch /host/tmp/removed"
    );
    let mark = fault(board, &script);
    let all = pods(board, |pods| {
        let side = status(pods, "kept", "side");
        side.restart_count == 1 && running(pods, "kept", "side")
    });
    assert_eq!(ctl(board, "ls /host/tmp/removed"), "/host/tmp/removed");
    assert_ne!(status(&all, "kept", "side").container_id.as_ref(), Some(&before));
    assert_eq!(status(&all, "kept", "main").restart_count, 0);
    assert_eq!(kept_order(board, 5), ["init", "next", "side", "hello board", "side"]);
    // Nobody knew of it before the next life did.
    let (again, _) = board.wait_from(mark, "re-executed after death 1");
    let (ended, _) = board.wait_from(mark, "kept-podinit/side: ended by signal 9");
    assert!(ended > again);
}

fn j1_27_what_has_finished_is_not_run_again_and_a_reboot_begins_anew(mut board: Board) -> Board {
    fault(&mut board, "true");
    pods(&mut board, |pods| status(pods, "kept", "main").ready);
    assert_eq!(kept_order(&mut board, 5).len(), 5);
    let mut board = board.boot_again();
    board.wait_for("ctl-podinit/ctl: started");
    let all = pods(&mut board, |pods| running(pods, "kept", "main") && running(pods, "kept", "side"));
    assert_eq!(finished(&all, "kept", "init"), (0, "Completed".to_owned(), String::new()));
    // A board counts on over its boots.
    assert_eq!(status(&all, "kept", "init").restart_count, 1);
    assert_eq!(kept_order(&mut board, 9)[5..], FIRST);
    board
}

#[test]
fn critical_pods_end_after_the_others() {
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  shutdownGracePeriod: 20s\nshutdownGracePeriodCriticalPods: 10s\n";
    let with = |name: &str, grace: u32, more: &str| {
        pod(name, "Always", &[], &[container("main", DEAF, "")])
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
    rows!(&mut board;
        j1_33_a_wish_that_is_refused_leaves_all_running,
        j1_33_critical_pods_have_the_end_of_the_grace,
    );
}

const NAMES: [&str; 4] = ["long", "short", "criticallong", "criticalshort"];

/// A kubelet hears of a shutdown that somebody cancelled; here there is none before it is certain.
fn j1_33_a_wish_that_is_refused_leaves_all_running(board: &mut Board) {
    let up = |pods: &[Pod]| NAMES.iter().all(|name| status(pods, name, "main").ready);
    for name in NAMES {
        board.wait_for(&format!("{name}-podinit/main: started"));
    }
    let mark = board.mark();
    for wish in ["poweroff later", "reboot --no", "halt now"] {
        let told = board.ask(wish);
        assert!(told.contains("error"), "{told}");
    }
    let all = pods(board, up);
    for name in NAMES {
        assert_eq!((phase(&all, name), status(&all, name, "main").restart_count), ("Running", 0));
    }
    assert!(!board.console()[mark..].contains("ending"));
}

/// As the kubelet tells it of a pod that the machine's end ends.
fn terminated(pods: &[Pod], name: &str) -> bool {
    let status = named(pods, name).status.as_ref();
    let told = status.map(|status| (status.reason.as_deref(), status.message.as_deref()));
    let words = (Some("Terminated"), Some("Pod was terminated in response to imminent node shutdown."));
    phase(pods, name) == "Failed"
        && told == Some(words)
        && ["Ready", "ContainersReady"].iter().all(|kind| condition(pods, name, kind).status == "False")
        && condition(pods, name, "DisruptionTarget").reason.as_deref() == Some("TerminationByKubelet")
}

fn j1_33_critical_pods_have_the_end_of_the_grace(board: &mut Board) {
    let mark = board.say("poweroff");
    // Those of five seconds may be gone already when a slow prompt answers.
    let over = |pods: &[Pod], name: &str| !listed(pods, name) || terminated(pods, name);
    let all = pods(board, |pods| listed(pods, "long") && terminated(pods, "long"));
    assert!(over(&all, "short"));
    for name in ["criticallong", "criticalshort"] {
        assert!(phase(&all, name) == "Running" && status(&all, name, "main").ready, "{name}");
    }
    let all = pods(board, |pods| listed(pods, "criticallong") && terminated(pods, "criticallong"));
    assert!(over(&all, "criticalshort") && over(&all, "long") && over(&all, "short"));
    let [long, short, critical, quick] = NAMES.map(|name| {
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
