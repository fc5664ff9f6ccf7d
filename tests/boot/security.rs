//! What only a whole machine shows of security contexts: devices of the machine's stay closed under all of cgroup v2's
//! controllers, commands are filtered as their container is, pids are shared where the pod says so.

use crate::pods::{controlled, inside, named, pods};

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
";

#[test]
fn containers_are_confined_as_their_pods_say() {
    let mut board = controlled().manifest("confined.yaml", PODS).boot();
    // A key that is typed before PID 1 listens to its line would be lost.
    board.wait_for("machine: ready");
    board.wait_for("free-podinit/one: started");
    pods(&mut board, |pods| {
        ["apart", "shared", "free"].iter().all(|name| {
            pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(&format!("{name}-podinit")))
                && named(pods, name).status.as_ref().is_some_and(|status| {
                    let all = status.container_statuses.as_deref().unwrap_or_default();
                    !all.is_empty() && all.iter().all(|each| each.ready)
                })
        })
    });

    // cases J1, row 37. Each container is a shell, in whose words the sleep is told too, and a sleep.
    let first = "cat /proc/1/comm; ps | busybox grep -c '[s]leep [12]000'";
    assert_eq!(inside(&mut board, "apart -c two", first), "sh\n2");
    let seen = inside(&mut board, "shared -c two", first);
    assert!(seen.ends_with("\n4") && !seen.starts_with("sh\n"), "{seen}");
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
}
