//! What only a whole machine shows of security contexts: devices of the machine's stay closed under all of cgroup v2's
//! controllers, commands are filtered as their container is, pids are shared where the pod says so.

use crate::enforced;
use crate::pods::{inside, listed, named, pods, rows};
use crate::qemu::Board;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: apart}
spec:
  containers:
  - {name: one, image: 'podinit.dev/demo:1', command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']}
  - {name: two, image: 'podinit.dev/demo:1', command: [sh, -c, 'trap exit TERM; while :; do sleep 2000 & wait; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  shareProcessNamespace: true
  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '0'}]}
  containers:
  - {name: one, image: 'podinit.dev/demo:1', command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']}
  - {name: two, image: 'podinit.dev/demo:1', command: [sh, -c, 'trap exit TERM; while :; do sleep 2000 & wait; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: free}
spec:
  containers:
  - name: one
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    securityContext: {privileged: true}
---
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  hostUsers: false
  shareProcessNamespace: true
  securityContext: {fsGroup: 2000, sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}
  containers:
  - name: one
    image: podinit.dev/demo:1
    command: [sh, -c, 'echo again >/dev/stdout; trap exit TERM; while :; do sleep 1000 & wait; done']
    resources: {limits: {memory: 64Mi}}
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: box, mountPath: /box}]
  - name: two
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    securityContext: {privileged: true, runAsUser: 0}
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}, {name: box, image: {reference: 'podinit.dev/demo:1', pullPolicy: Never}}]
---
apiVersion: v1
kind: Pod
metadata: {name: closed}
spec:
  hostUsers: false
  containers:
  - name: one
    image: podinit.dev/demo:1
    command: [sh, -c, 'sleep 1000']
    volumeMounts: [{name: run, mountPath: /host}]
  volumes: [{name: run, hostPath: {path: /run/shown, type: DirectoryOrCreate}}]
";

#[test]
fn containers_are_confined_as_their_pods_say() {
    let mut board = enforced::board().manifest("confined.yaml", PODS).boot();
    // A key that is typed before PID 1 listens to its line would be lost.
    board.wait_for("machine: ready");
    board.wait_for("free-podinit/one: started");
    pods(&mut board, |pods| {
        ["apart", "shared", "free", "own"].iter().all(|name| {
            listed(pods, name)
                && named(pods, name).status.as_ref().is_some_and(|status| {
                    let all = status.container_statuses.as_deref().unwrap_or_default();
                    !all.is_empty() && all.iter().all(|each| each.ready)
                })
        })
    });

    rows!(&mut board; j1_37_pids_are_a_containers_own_unless_shared);
    // Pause has no files, and who may not trace it may not even look.
    let root = inside(&mut board, "shared -c two", "ls /proc/1/root/ 2>&1");
    assert!(root.contains("ermission denied"), "{root}");
    assert_eq!(inside(&mut board, "shared -c one", "cat /proc/sys/net/ipv4/tcp_syncookies"), "0");

    // Whether there is such a disk or not: the filter comes first.
    let disk = "cd /tmp; busybox mknod disk b 254 0 && busybox mknod mem c 1 1 && busybox head -c 1 disk; busybox head -c 1 mem; busybox rm disk mem";
    let told = inside(&mut board, "apart -c one", &format!("{{ {disk}; }} 2>&1"));
    assert_eq!(told.matches("Operation not permitted").count(), 2, "{told}");
    let told = inside(&mut board, "free", &format!("{{ {disk}; }} 2>&1"));
    assert!(!told.contains("not permitted"), "{told}");

    // Exec'd, as all of these.
    let status = "busybox grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status; busybox unshare -U busybox true 2>&1";
    let told = inside(&mut board, "apart -c one", status);
    assert!(told.contains("Seccomp:\t2") && told.contains("CapEff:\t00000000a80425fb"), "{told}");
    assert!(told.contains("not permitted"), "{told}");
    let told = inside(&mut board, "free", status);
    assert!(told.contains("Seccomp:\t0") && told.contains("CapEff:\t000001ffffffffff"), "{told}");

    users(&mut board);
    enforced::all(&mut board);
}

/// Each container is a shell, in whose words the sleep is told too, and a sleep.
fn j1_37_pids_are_a_containers_own_unless_shared(board: &mut Board) {
    let first = |count: u8| {
        let sleeps = "ps | busybox grep -c '[s]leep [12]000'";
        // A shell that has just started has no sleep yet.
        format!("cat /proc/1/comm; until [ $({sleeps}) -ge {count} ]; do sleep 1; done; {sleeps}")
    };
    for name in ["one", "two"] {
        assert_eq!(inside(board, &format!("apart -c {name}"), &first(2)), "sh\n2");
        let seen = inside(board, &format!("shared -c {name}"), &first(4));
        assert!(seen.ends_with("\n4") && !seen.starts_with("sh\n"), "{seen}");
    }
}

/// hostUsers: false, on a kernel that maps EROFS (Linux 5.19) but no tmpfs (6.3), with all that is not an image on tmpfs.
fn users(board: &mut Board) {
    let map = inside(board, "own -c one", "cat /proc/self/uid_map; cat /proc/self/gid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[2]), ("0", "65536", "65536"), "{map}");
    assert_eq!(words[..3], words[3..], "{map}");
    let owners = "busybox stat -c '%u:%g %n' / /bin /bin/busybox /disk /memory /box/bin /etc/hosts /dev/shm /dev/termination-log";
    let seen = inside(board, "own -c one", owners);
    for line in seen.lines() {
        let volume = ["/disk", "/memory"].iter().any(|name| line.ends_with(name));
        assert!(line.starts_with(if volume { "0:2000 " } else { "0:0 " }), "{line} in\n{seen}");
    }
    let files = "for d in disk memory tmp; do echo x >/$d/f && busybox chown 7:8 /$d/f; done; busybox stat -c %u:%g /disk/f /memory/f /tmp/f; cat /proc/sys/kernel/shm_rmid_forced /sys/fs/cgroup/memory.max /proc/self/oom_score_adj";
    let adjusted = inside(board, "own -c one", files);
    assert!(adjusted.starts_with("7:8\n7:8\n7:8\n1\n67108864\n"), "{adjusted}");
    // Pids are shared in a namespace that the pod's root owns, and its first process is nobody.
    let first = inside(
        board,
        "own -c two",
        "until [ $(ps | busybox grep -c '[s]leep 1000') -ge 4 ]; do sleep 1; done; ps | busybox grep -c '[s]leep 1000'; busybox grep Uid: /proc/1/status",
    );
    assert_eq!(first, "4\nUid:\t65535\t65535\t65535\t65535");
    // Privileged there is all but the machine's: its own cgroup, no device, no sysctl of the kernel's.
    let told = inside(
        board,
        "own -c two",
        "mkdir /sys/fs/cgroup/mine && echo made; busybox mount -t tmpfs none /tmp && echo mounted; { echo 1 >/proc/sys/vm/drop_caches; } 2>&1; { busybox mknod /tmp/mem c 1 1; } 2>&1; busybox grep CapEff: /proc/self/status",
    );
    assert!(told.starts_with("made\nmounted\n") && told.ends_with("CapEff:\t000001ffffffffff"), "{told}");
    assert!(told.contains("ermission denied") && told.contains("not permitted"), "{told}");
    let closed = board.ask_until("describe pod closed", |text| text.contains("MOUNT_ATTR_IDMAP"));
    assert!(closed.contains("cannot show /run/shown with the pod's own ids (hostUsers: false)"), "{closed}");
}
