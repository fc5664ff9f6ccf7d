//! Pods on a real kernel: what containers share, how they restart and end, their limits, and that nothing stays behind.

use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::qemu::{Board, Setup, board};

/// A pod that sees the whole machine below /host: the hands of these tests.
const CTL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ctl}
spec:
  hostNetwork: true
  containers:
  - name: ctl
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    volumeMounts: [{name: host, mountPath: /host}]
  volumes: [{name: host, hostPath: {path: /}}]
";

/// A PC with the pod `ctl` in the demo's place. Manifests whose names begin with a dot wait to be moved.
pub fn controlled() -> Setup {
    board("qemu-x86_64").line().pods(CTL)
}

/// Runs a line of shell in a pod (`ctl`, or `web -c main`); what it printed.
pub fn inside(board: &mut Board, pod: &str, script: &str) -> String {
    let script = script.replace('\'', "'\\''");
    let answer = board.ask(&format!("exec {pod} -- sh -c 'echo BEGIN; {script}; echo; echo END'"));
    let lines = answer.lines().map(str::trim_end);
    let lines: Vec<_> = lines.skip_while(|line| *line != "BEGIN").skip(1).collect();
    let end = lines.iter().rposition(|line| *line == "END");
    let end = end.unwrap_or_else(|| panic!("{script:?} did not end:\n{answer}"));
    lines[..end].join("\n").trim().to_owned()
}

pub fn ctl(board: &mut Board, script: &str) -> String {
    inside(board, "ctl", script)
}

/// Runs the steps of a test, each named after its row, on their board. A step that fails is told by its name.
macro_rules! rows {
    ($board:expr; $($row:ident),+ $(,)?) => {{
        let board: &mut crate::qemu::Board = $board;
        $(
            let row = crate::pods::Row(stringify!($row));
            $row(board);
            drop(row);
        )+
    }};
}
pub(crate) use rows;

/// A step that is being taken: a row of our list of Kubernetes' own end-to-end cases.
pub struct Row(pub &'static str);

impl Drop for Row {
    fn drop(&mut self) {
        let Row(name) = self;
        eprintln!("{name}: {}", if std::thread::panicking() { "FAILED" } else { "ok" });
    }
}

/// The seconds since boot of the first console line after `mark` that holds `text`.
pub fn when(board: &Board, mark: usize, text: &str) -> (usize, f64) {
    let (mark, line) = board.wait_from(mark, text);
    let start = line.find('[').expect("a time");
    let time = line[start + 1..].split(']').next().and_then(|time| time.trim().parse().ok());
    (mark, time.expect("a time"))
}

/// All pods, as soon as they are as `wanted`.
pub fn pods(board: &mut Board, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
    let parse = |text: &str| serde_json::from_str::<List<Pod>>(text).map(|list| list.items);
    let good = |text: &str| parse(text).is_ok_and(|pods| wanted(&pods));
    parse(&board.ask_until("get pods -A -o json", good)).expect("parsed before")
}

/// Whether the pod is listed at all.
pub fn listed(pods: &[Pod], name: &str) -> bool {
    let name = format!("{name}-podinit");
    pods.iter().any(|pod| pod.metadata.name.as_ref() == Some(&name))
}

pub fn named<'a>(pods: &'a [Pod], name: &str) -> &'a Pod {
    let name = format!("{name}-podinit");
    pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name)).expect("the pod is listed")
}

pub fn phase<'a>(pods: &'a [Pod], name: &str) -> &'a str {
    named(pods, name).status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// A condition of a pod.
pub fn condition<'a>(pods: &'a [Pod], pod: &str, kind: &str) -> &'a PodCondition {
    let mut all = named(pods, pod).status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.find(|one| one.type_ == kind).unwrap_or_else(|| panic!("{pod} has no condition {kind}"))
}

/// The status of a container of a pod, init containers too.
pub fn status<'a>(
    pods: &'a [Pod],
    pod: &str,
    container: &str,
) -> &'a k8s_openapi::api::core::v1::ContainerStatus {
    let status = named(pods, pod).status.as_ref().expect("a status");
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.into_iter().find(|status| status.name == container).expect("the container is listed")
}

/// A pod of one container `main` that runs a line of shell.
pub fn one(name: &str, policy: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: main\n    image: podinit.dev/demo:1\n    command: [sh, -c]\n    args: ['{}']\n---\n",
        script.replace('\'', "''")
    )
}

const SHARE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: share}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: one
    image: podinit.dev/demo:1
    command: [sh, -c, 'sleep 1; echo one >>/data/order']
    volumeMounts: [{name: data, mountPath: /data}]
  - name: two
    image: podinit.dev/demo:1
    command: [sh, -c, 'echo two >>/data/order']
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: a
    image: podinit.dev/demo:1
    command: [sh, -c]
    args: ['echo $(GREETING) >/data/a; pwd >>/data/a; echo main >>/data/order; exec httpd -f -h /data -p 127.0.0.1:9000']
    workingDir: /work/deep
    env: [{name: WHOM, value: board}, {name: GREETING, value: hello $(WHOM)}, {name: RAW, value: $$(WHOM)}]
    volumeMounts: [{name: data, mountPath: /data}, {name: memory, mountPath: /memory}]
  - name: b
    image: podinit.dev/demo:1
    args: [-h, /www, -p, '9001']
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /ro, readOnly: true}
    - {name: host, mountPath: /rw}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: /var/shared, type: DirectoryOrCreate}}
";

#[test]
fn containers_of_a_pod_share_what_they_should_and_leave_nothing() {
    let mut board = controlled().manifest("share.yaml", SHARE).boot();
    let board = &mut board;
    board.wait_for("share-podinit/b: started");
    board.wait_for("share-podinit/a: started");
    board.wait_for("ctl-podinit/ctl: started");
    let wget = "until wget -qO- http://127.0.0.1:9000/a; do sleep 1; done";
    assert_eq!(inside(board, "share -c b", wget), "hello board\n/work/deep");
    assert_eq!(inside(board, "share -c b", "cat /data/order"), "one\ntwo\nmain");
    let wget = "until wget -qO- http://localhost:9001/; do sleep 1; done";
    assert!(inside(board, "share -c a", wget).contains("It runs."));

    let links = inside(board, "share -c a", "ip -o link");
    assert!(links.lines().count() == 1 && links.contains("lo: <LOOPBACK,UP,LOWER_UP>"), "{links}");
    let spaces = "for n in net ipc uts pid mnt; do busybox readlink /proc/self/ns/$n; done";
    let [ours, theirs] = ["share -c a", "share -c b"].map(|pod| inside(board, pod, spaces));
    let host = ctl(board, spaces);
    let [ours, theirs, host] = [&ours, &theirs, &host].map(|text| text.lines().collect::<Vec<_>>());
    assert_eq!(ours[..3], theirs[..3]);
    assert!(ours[3] != theirs[3] && ours[4] != theirs[4], "{ours:?} {theirs:?}");
    assert!((0..5).all(|index| host[index] != ours[index]), "{ours:?} {host:?}");
    for container in ["a", "b"] {
        let names = inside(board, &format!("share -c {container}"), "busybox hostname; cat /etc/hostname");
        assert_eq!(names, "share-podinit\nshare-podinit");
    }
    let processes = inside(board, "share -c b", "ps");
    assert!(processes.contains("/bin/httpd -f -vv -h /www -p 9001"), "{processes}");
    assert!(!processes.contains("127.0.0.1:9000"), "{processes}");
    let env = inside(board, "share -c a", "env");
    let has = |line: &str| env.lines().any(|known| known == line);
    assert!(
        has("PATH=/bin")
            && has("GREETING=hello board")
            && has("RAW=$(WHOM)")
            && has("HOSTNAME=share-podinit"),
        "{env}"
    );
    inside(board, "share -c a", "echo seen >/memory/x; echo seen >/dev/shm/x");
    assert_eq!(inside(board, "share -c b", "cat /memory/x /dev/shm/x"), "seen\nseen");
    let full = inside(board, "share -c a", "busybox dd if=/dev/zero of=/memory/y bs=1M count=2 2>&1");
    assert!(full.contains("No space left"), "{full}");
    let written = inside(board, "share -c b", "echo no >/ro/x || echo refused; echo yes >/rw/x; cat /ro/x");
    assert!(written.contains("Read-only file system\nrefused\nyes"), "{written}");
    assert_eq!(ctl(board, "cat /host/var/shared/x"), "yes");

    let uid = pods(board, |_| true);
    let uid = named(&uid, "share").metadata.uid.clone().expect("a uid");
    let traces = format!(
        "cd /host; busybox grep {uid} proc/1/mounts; busybox find sys/fs/cgroup run/podinit var/lib/podinit/pods var/log \
         -name '*{uid}*'; busybox find var/log/containers -name 'share*'; ls sys/fs/cgroup/podinit | busybox grep -v '[.]'"
    );
    let before = ctl(board, &traces);
    let [mounts, cgroup, logs] =
        [" /run/podinit/pods/", "kubepods/besteffort/pod", "var/log/pods/default_share"]
            .map(|text| before.contains(text));
    assert!(mounts && cgroup && logs, "the traces are looked for where they are:\n{before}");
    let mark = board.mark();
    ctl(board, "rm /host/etc/kubernetes/manifests/share.yaml");
    board.wait_from(mark, "share-podinit: gone");
    assert_eq!(ctl(board, &traces), "");
    assert_eq!(ctl(board, "cat /host/var/shared/x"), "yes");
    let runs =
        "cd /host/run/podinit; ls pods | busybox wc -l; ls state | busybox wc -l; ls logs | busybox wc -l";
    assert_eq!(ctl(board, runs), "1\n1\n1", "only ctl is left");
}

#[test]
fn restarts_follow_the_policy() {
    let all = [
        one("always", "Always", "exit 3"),
        one("failing", "OnFailure", "exit 1"),
        one("succeeding", "OnFailure", "exit 0"),
        one("done", "Never", "exit 0"),
        one("broken", "Never", "exit 7"),
        one("eating", "Never", "busybox tail /dev/zero").replace(
            "    command:",
            "    resources: {limits: {memory: 16Mi, cpu: 500m}, requests: {memory: 8Mi}}\n    command:",
        ),
    ];
    let with_init = |name: &str, policy: &str, script: &str| {
        one(name, policy, "exec sleep 1000").replace(
            "  containers:",
            &format!(
                "  volumes: [{{name: d, emptyDir: {{}}}}]\n  initContainers:\n  - name: init\n    image: podinit.dev/demo:1\n    \
                 command: [sh, -c, '{script}']\n    volumeMounts: [{{name: d, mountPath: /d}}]\n  containers:"
            ),
        )
    };
    let text = all.concat()
        + &with_init("halted", "Never", "exit 5")
        + &with_init("patient", "Always", "test -e /d/x && exit 0; >/d/x; exit 1");
    let mut board = controlled().manifest("many.yaml", &text).boot();
    let board = &mut board;
    for name in ["always", "failing"] {
        // The first restart follows at once, the second after 10 s.
        let full = format!("{name}-podinit/main: ");
        let (mark, _) = when(board, 0, &format!("{full}started"));
        let (mark, _) = when(board, mark, &format!("{full}exited"));
        let (mark, _) = when(board, mark, &format!("{full}started"));
        let (mark, ended) = when(board, mark, &format!("{full}exited"));
        let (_, again) = when(board, mark, &format!("{full}started"));
        // The time on the console is that of telling: a little later than that of what is told.
        assert!(again - ended >= 9.0, "{name} was started after {} s", again - ended);
    }
    let table = [
        ("always", "Running"),
        ("failing", "Running"),
        ("succeeding", "Succeeded"),
        ("done", "Succeeded"),
        ("broken", "Failed"),
        ("eating", "Failed"),
        ("halted", "Failed"),
        ("patient", "Running"),
    ];
    let settled = |pods: &[Pod]| {
        let reason = |name: &str| {
            let status = status(pods, name, "main");
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default()
        };
        ["always", "failing"].iter().all(|name| reason(name) == "CrashLoopBackOff")
            && table.iter().all(|(name, expected)| phase(pods, name) == *expected)
    };
    let pods = pods(board, settled);
    for (name, code) in [("always", 3), ("failing", 1)] {
        let status = status(&pods, name, "main");
        assert!(status.restart_count >= 2, "{status:?}");
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!(last.map(|ended| ended.exit_code), Some(code), "{status:?}");
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref()).expect("it waits");
        let message = waiting.message.clone().unwrap_or_default();
        assert!(
            message.contains(&format!("restarting failed container=main pod={name}-podinit_default(")),
            "{message}"
        );
    }
    for (name, reason, code) in [
        ("succeeding", "Completed", 0),
        ("done", "Completed", 0),
        ("broken", "Error", 7),
        ("eating", "OOMKilled", 137),
    ] {
        let status = status(&pods, name, "main");
        assert_eq!(status.restart_count, 0, "{name}");
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = ended.unwrap_or_else(|| panic!("{name} has not ended: {status:?}"));
        assert_eq!((ended.reason.as_deref(), ended.exit_code), (Some(reason), code), "{name}");
    }
    let init = status(&pods, "halted", "init");
    assert_eq!(
        init.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code),
        Some(5)
    );
    assert_eq!(status(&pods, "patient", "init").restart_count, 1);
    let shown = board.console();
    assert!(!shown.contains("halted-podinit/main: started"), "started behind a failed init container");
    let table = board.ask("get pods");
    for (name, words) in
        [("halted", "Init:Error"), ("eating", "OOMKilled"), ("done", "Completed"), ("broken", "Error")]
    {
        let line =
            table.lines().find(|line| line.starts_with(&format!("{name}-podinit "))).unwrap_or_default();
        assert!(line.contains(words), "{name}: {table}");
    }
}

const LIMITED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: gentle
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap \"echo heard >/var/shared/gentle; exit 0\" TERM; while :; do sleep 1000 & wait; done']
    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 250m, memory: 32Mi}}
    volumeMounts: [{name: host, mountPath: /var/shared}]
  - name: stubborn
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap : TERM; (trap \"\" TERM; exec busybox setsid sleep 4242) & while :; do sleep 1000 & wait $!; done']
    resources: {limits: {cpu: 250m, memory: 32Mi}}
  volumes: [{name: host, hostPath: {path: /var/shared, type: DirectoryOrCreate}}]
";

#[test]
fn limits_hold_and_the_grace_ends() {
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\npodPidsLimit: 50\n";
    let mut board = controlled().config(config).manifest("limited.yaml", LIMITED).boot();
    let board = &mut board;
    for container in ["limited-podinit/gentle", "limited-podinit/stubborn", "ctl-podinit/ctl"] {
        board.wait_for(&format!("{container}: started"));
    }
    let all = pods(board, |_| true);
    let uid = named(&all, "limited").metadata.uid.clone().expect("a uid");
    assert_eq!(
        named(&all, "limited").status.as_ref().and_then(|status| status.qos_class.as_deref()),
        Some("Burstable")
    );
    let group = format!("/host/sys/fs/cgroup/kubepods/burstable/pod{uid}");
    let files = "cat cpu.max cpu.weight memory.max pids.max";
    assert_eq!(ctl(board, &format!("cd {group}; {files}")), "75000 100000\n20\n100663296\n50");
    let id = status(&all, "limited", "gentle").container_id.clone().expect("an id");
    let id = id.rsplit('/').next().expect("an id");
    let files = "cat cpu.max cpu.weight memory.max memory.swap.max memory.oom.group pids.max";
    assert_eq!(ctl(board, &format!("cd {group}/{id}; {files}")), "50000 100000\n35\n67108864\n0\n1\nmax");
    let forks = inside(board, "limited -c gentle", "(for i in $(busybox seq 60); do sleep 5 & done) 2>&1");
    assert!(forks.contains("fork"), "{forks}");

    let count = "for p in /host/proc/[0-9]*; do busybox tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null | busybox grep -c '^sleep 4242'";
    assert_eq!(ctl(board, &format!("until [ $({count}) -ge 1 ]; do sleep 1; done; {count}")), "1");
    let mark = board.mark();
    ctl(board, "rm /host/etc/kubernetes/manifests/limited.yaml");
    let (_, asked) = when(board, mark, "limited-podinit/stubborn: sent stop signal");
    let (_, killed) = when(board, mark, "limited-podinit/stubborn: killed: its grace period is over");
    // The grace begins a moment before the console tells of the signal.
    assert!(killed - asked >= 1.5, "{}", killed - asked);
    board.wait_from(mark, "limited-podinit/gentle: exited with code 0");
    board.wait_from(mark, "limited-podinit: gone");
    assert_eq!(ctl(board, count), "0");
    assert_eq!(ctl(board, "cat /host/var/shared/gentle"), "heard");
}
