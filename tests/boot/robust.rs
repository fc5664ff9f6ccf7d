//! PID 1 is harmed, and nothing else is.

use crate::pods::{controlled, ctl, named, pods};
use crate::qemu::board;

/// More deaths than `fatal::SUSPECT`, one after the other: asked for, so the ledger stays trusted.
#[test]
fn containers_net_and_prompt_outlive_many_deaths() {
    let mut board = board("qemu-x86_64").append("podinit.faults=1").boot();
    board.http("/");
    for fault in ["panic", "segv", "abort", "panic", "segv", "abort"] {
        let (mark, _) = board.say(&format!("fault {fault}"));
        let (mark, _) = board.wait_from(mark, "re-executed after death 1");
        board.wait_from(mark, "logger: started");
    }
    assert!(board.http("/").contains("It runs."));
    let pods = board.ask("get pods");
    let line = pods.lines().find(|line| line.starts_with("hello-")).unwrap_or_default().to_owned();
    let restarts = line.split_whitespace().nth(3);
    assert!(line.contains("1/1") && restarts == Some("0"), "{pods}");
    let console = board.console();
    for helper in ["net", "prompt"] {
        assert_eq!(console.matches(&format!("{helper}: started")).count(), 1, "{helper} was replaced");
    }
    board.say("poweroff");
    assert_eq!(board.ended().code(), Some(0));
    assert!(!board.console().contains("/run is still in use"), "a tmpfs was warned about");
}

/// Many containers that end and start again, so that there is always a start to kill.
const BUSY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
";

#[test]
fn killed_starts_leave_no_half_container() {
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  crashLoopBackOff: {maxContainerRestartPeriod: 1s}\n";
    let container = |number: usize| {
        format!(
            "  - {{name: c{number}, image: podinit.dev/demo:1, command: [busybox, sleep, '0.{number}'], volumeMounts: [{{name: d, mountPath: /d}}]}}\n"
        )
    };
    let busy = BUSY.to_owned()
        + &(1..=8).map(container).collect::<String>()
        + "  volumes: [{name: d, emptyDir: {}}]\n";
    let mut board =
        controlled().config(config).append("podinit.faults=1").manifest("busy.yaml", &busy).boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    board.wait_for("busy-podinit/c8: started");
    let (mark, _) = board.say("fault killStarts");
    let (mark, _) = board.wait_from(mark, "killed 100 start helpers");
    assert!(
        board.console().contains("the start helper was killed by signal 9"),
        "none was killed in the middle"
    );
    // All of them run again.
    for number in 1..=8 {
        board.wait_from(mark, &format!("busy-podinit/c{number}: started"));
    }
    let all = pods(board, |_| true);
    let uid = named(&all, "busy").metadata.uid.clone().expect("a uid");
    let mark = board.mark();
    ctl(board, "rm /host/etc/kubernetes/manifests/busy.yaml");
    board.wait_from(mark, "busy-podinit: gone");
    let traces = format!(
        "cd /host; busybox grep {uid} proc/1/mounts; busybox find sys/fs/cgroup run/podinit var/lib/podinit/pods var/log \
         -name '*{uid}*'"
    );
    assert_eq!(ctl(board, &traces), "");
    let runs =
        "cd /host/run/podinit; ls pods | busybox wc -l; ls state | busybox wc -l; ls logs | busybox wc -l";
    assert_eq!(ctl(board, runs), "1\n1\n1", "only ctl is left");
    let sleeping = "for p in /host/proc/[0-9]*; do busybox tr '\\0' ' ' <$p/cmdline; echo; done | \
                    busybox grep -c '^busybox slee[p]\\|__star[t]'";
    assert_eq!(ctl(board, sleeping), "0", "a process is left");
    let groups = "busybox find /host/sys/fs/cgroup/podinit -mindepth 1 -type d | busybox wc -l";
    assert_eq!(ctl(board, groups), "0", "a start helper's cgroup is left");
}
