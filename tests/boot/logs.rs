//! Container logs on a real kernel: the kubelet's files, the operator's view of them, and a logger that is killed.

use crate::pods::{controlled, ctl, inside, one, pods, status};

/// A pod that says on its second run what its first one did not.
const AGAIN: &str = "
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
  - name: main
    image: podinit.dev/demo:1
    command: [sh, -c]
    args: ['n=0; [ -e /d/n ] && n=$(cat /d/n); echo run $n; echo $((n + 1)) >/d/n; echo trouble >&2; busybox printf whole\\\\nhalf; [ $n = 0 ] && exit 1; sleep 1000']
    volumeMounts: [{name: d, mountPath: /d}]
  volumes: [{name: d, emptyDir: {}}]
";

/// Writes numbered lines, some of them in two pieces, until it is told to stop.
const WRITER: &str = "trap exit TERM; n=0; while [ ! -e /tmp/stop ]; do for i in 0 1 2 3 4 5 6 7 8 9; do echo line $n; n=$((n + 1)); done; \
    echo -n \"line \"; echo $n; n=$((n + 1)); done; echo end $n; while :; do sleep 1; done";

#[test]
fn logs_are_the_kubelets_and_a_killed_logger_loses_nothing() {
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                  containerLogMaxSize: 64Ki\ncontainerLogMaxFiles: 1000\n";
    let mut board = controlled()
        .config(config)
        .append("podinit.faults=1")
        .manifest("again.yaml", AGAIN)
        .manifest(
            "tick.yaml",
            &one("tick", "Always", "n=0; while :; do echo tick $n; n=$((n + 1)); sleep 1; done"),
        )
        .manifest(".writer", &one("writer", "Always", WRITER))
        .boot();
    let board = &mut board;
    board.wait_for("again-podinit/main: exited with code 1");
    board.wait_for(", run 1");
    board.wait_for("ctl-podinit/ctl: started");
    board.wait_for("tick-podinit/main: started");

    // The kubelet's files and their records.
    let all = pods(board, |pods| status(pods, "again", "main").restart_count == 1);
    let uid = crate::pods::named(&all, "again").metadata.uid.clone().expect("a uid");
    let id = status(&all, "again", "main").container_id.clone().expect("an id");
    let id = id.rsplit('/').next().expect("an id").to_owned();
    let folder = format!("/var/log/pods/default_again-podinit_{uid}/main");
    assert_eq!(ctl(board, &format!("ls -1 /host{folder}")), "0.log\n1.log");
    let link =
        ctl(board, &format!("busybox readlink /host/var/log/containers/again-podinit_default_main-{id}.log"));
    assert_eq!(link, format!("{folder}/1.log"));
    let records =
        format!("cd /host{folder}; until [ $(busybox wc -l <0.log) -ge 4 ]; do sleep 1; done; cat 0.log");
    let records = ctl(board, &records);
    let mut tags: Vec<_> =
        records.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["stderr F trouble", "stdout F run 0", "stdout F whole", "stdout P half"], "{records}");
    assert_eq!(ctl(board, &format!("busybox stat -c %a /host{folder}/0.log")), "640");

    // The operator's view.
    let has = |text: &str, line: &str| text.lines().any(|known| known.trim_end() == line);
    let previous = board.ask("logs -p again");
    assert!(has(&previous, "run 0") && !has(&previous, "run 1"), "{previous}");
    let later = |said: &str| has(said, "whole") || has(said, "trouble");
    board.ask_until("logs again", |said| has(said, "run 1") && later(said) && !has(said, "run 0"));
    let tail = board.ask("logs again --tail=1");
    assert!(!has(&tail, "run 1"), "{tail}");
    board.ask_until("logs tick", |said| has(said, "tick 3"));
    let since = board.ask("logs tick --since=1s");
    assert!(!has(&since, "tick 0") && has(&board.ask("logs tick --since=1h"), "tick 0"), "{since}");
    let prompt = board.prompt();
    let follow = prompt.say("logs -f tick --tail=0");
    prompt.wait_from(follow, "tick 5");
    let interrupted = prompt.mark();
    prompt.keys("\x03");
    prompt.wait_from(interrupted, "podinit> ");
    assert!(board.ask("logs nobody").contains("not found"));

    // A logger that dies at many moments, under a container that writes all the time.
    let mark = board.mark();
    ctl(board, "cd /host/etc/kubernetes/manifests; mv .writer writer.yaml");
    board.wait_from(mark, "writer-podinit/main: started");
    for _ in 0..7 {
        let mark = board.mark();
        board.ask("fault killLogger");
        board.wait_from(mark, "logger: started");
    }
    inside(board, "writer", ">/tmp/stop");
    board.ask_until("logs writer --tail=1", |said| said.lines().any(|line| line.starts_with("end ")));
    let check = "busybox awk '{ if ($1 == \"end\") { end++; if ($2 != n) bad++ } else { if ($1 != \"line\" || $2 != n || NF != 2) bad++; n++ } } \
                 END { print (n > 1000), end + 0, bad + 0 }'";
    let seen = ctl(board, &format!("busybox chroot /host /init logs writer | {check}"));
    assert_eq!(seen, "1 1 0", "enough lines, the end once, and none lost or doubled");
    let files = "cd /host/var/log/pods/default_writer*/main";
    // In the order of their writing, compressed or not: of those of one second the first has no count.
    let stamps = "busybox ls | busybox sed -n 's/^0\\.log\\.\\([^.]*\\).*/\\1/p' | busybox sort -uV";
    let read = format!(
        "for s in $({stamps}); do if [ -e 0.log.$s ]; then cat 0.log.$s; else busybox zcat 0.log.$s.gz; fi; done; cat 0.log"
    );
    let strip = "busybox sed -nE 's/^[0-9]{4}-[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+) stdout [FP] //p'";
    let whole = ctl(
        board,
        &format!(
            "{files}; ({read}) | {strip} | busybox tr -d '\\n' | busybox sed 's/line /\\nline /g; s/end /\\nend /' | busybox sed 1d | {check}"
        ),
    );
    assert_eq!(whole, "1 1 0", "the files hold the same");
    // Found over its size a log is rotated, so it may hold a batch more: 64 KiB of lines that records make larger.
    let large = "ls | busybox wc -l; busybox find . -size +500k";
    let rotated = ctl(board, &format!("{files}; {large}"));
    assert!(rotated.parse::<usize>().is_ok_and(|files| files > 1), "rotated, and none too large: {rotated}");
}
