//! PID 1 is harmed, and nothing else is.

use crate::pods::{controlled, ctl, inside, named, one, pods};
use crate::qemu::board;

/// More deaths than `fatal::SUSPECT`, one after the other: asked for, so the ledger stays trusted.
#[test]
fn containers_net_and_prompt_outlive_many_deaths() {
    let mut board = board("qemu-x86_64").append("podinit.faults=1").boot();
    board.http("/");
    for fault in ["panic", "segv", "abort", "panic", "segv", "abort"] {
        let mark = board.say(&format!("fault {fault}"));
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
    let mark = board.say("fault killStarts");
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

/// A pod that leaves orphans behind all the time, which become PID 1's.
const ORPHANS: &str = "while :; do (busybox setsid sh -c 'busybox setsid true & exit 0' &); sleep 0.05; done";

#[test]
fn the_machine_is_set_up_and_zombies_are_reaped() {
    let mut board = controlled()
        .append("podinit.hostname=edge7")
        .manifest("orphans.yaml", &one("orphans", "Always", ORPHANS))
        .boot();
    let board = &mut board;
    board.wait_for("orphans-edge7/main: started");
    board.wait_for("ctl-edge7/ctl: started");
    let mounts = inside(board, "ctl-edge7", "busybox awk '{print $2, $3}' /host/proc/1/mounts");
    for wanted in [
        "/proc proc",
        "/sys sysfs",
        "/dev devtmpfs",
        "/dev/pts devpts",
        "/run tmpfs",
        "/tmp tmpfs",
        "/sys/fs/cgroup cgroup2",
        "/sys/kernel/security securityfs",
    ] {
        assert!(mounts.lines().any(|line| line == wanted), "{wanted}: {mounts}");
    }
    let facts = "cat /host/proc/sys/kernel/hostname; cat /host/sys/fs/cgroup/cgroup.subtree_control; cat /host/sys/class/net/lo/operstate; \
                 cat /host/proc/modules | busybox grep -c virtio_net; ls -l /host/dev/null /host/dev/ptmx";
    let facts = inside(board, "ctl-edge7", facts);
    let lines: Vec<_> = facts.lines().collect();
    assert_eq!(lines[0], "edge7");
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        assert!(lines[1].split(' ').any(|known| known == controller), "{controller}: {facts}");
    }
    assert!(
        lines[2] == "unknown" && lines[3] != "0",
        "lo is up and the network card has its driver: {facts}"
    );
    assert_eq!(facts.matches("crw").count(), 2, "{facts}");
    // Many came and went by now; one that stays is met each time.
    let zombies = "n=0; for i in 1 2 3 4 5; do for s in /host/proc/[0-9]*/stat; do busybox awk '$3 == \"Z\" && $4 == 1 {print $1}' $s 2>/dev/null; done; \
                   sleep 1; done | busybox sort | busybox uniq -c | busybox awk '$1 > 4' | busybox wc -l";
    assert_eq!(inside(board, "ctl-edge7", zombies), "0", "a zombie stays");
}
