//! Security contexts for real: what the kernel then lets a process do, the first one and those exec'd later.

use std::fs;
use std::os::fd::AsRawFd;

use podinit::container::sandbox::{self, Sandbox};
use podinit::container::user::User;
use podinit::container::{Outcome, cgroup, pause};
use podinit::pod::spec::{Profile, Security, Spaces};
use podinit::spawn::spawn_in;

use super::Test;
use super::exec::{exec, request};
use super::machine::{Run, dir, pod_cgroup, reap_all, run, wait};

pub const TESTS: &[Test] = &[
    ("a_default_pod_is_filtered_and_its_execs_too", filtered),
    ("a_profile_of_the_machine_is_in_force", localhost),
    ("devices_that_are_not_its_own_stay_closed", devices),
    ("a_privileged_container_may_do_everything", privileged),
    ("no_escalation_and_a_read_only_root", restricted),
    ("pids_are_shared_where_the_pod_says_so", shared),
    ("a_pause_that_died_is_made_anew", paused),
    ("sysctls_are_the_pods_own", sysctls),
];

fn web(one: &mut Run) {
    one.user = User { uid: 33, gid: 34, groups: vec![34, 70], home: "/srv".into() };
}

fn secured(id: &str, argv: &[&str], security: Security) -> Run {
    Run { security, ..run(id, argv) }
}

fn line<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("{name} in\n{status}")).trim()
}

/// What a process finds itself to be, as the container's first one and exec'd.
fn both(one: &Run, args: &[&str]) -> [super::machine::Ended; 2] {
    let first = Run { argv: args.iter().map(|word| (*word).to_owned()).collect(), ..one.clone() };
    let first = first.to_end();
    let waiting =
        Run { id: format!("{}-waits", one.id), argv: vec!["sleep".into(), "1000".into()], ..one.clone() };
    let (Outcome::Started { pid }, ..) = waiting.start() else { panic!("no start") };
    let later = exec(&request(&waiting, pid), args);
    cgroup::kill(&waiting.leaf()).expect("kill");
    assert_eq!(wait(pid), 137);
    reap_all();
    waiting.clean();
    [first, later]
}

fn filtered() {
    for (name, uid, no_escalation) in [("root", 0, false), ("web", 33, false), ("bound", 33, true)] {
        let mut one = secured(name, &[], Security { no_escalation, ..Security::default() });
        if uid != 0 {
            web(&mut one);
        }
        for ended in both(&one, &["cat", "/proc/self/status"]) {
            assert_eq!(line(&ended.stdout, "Seccomp"), "2", "{name}");
            assert_eq!(line(&ended.stdout, "NoNewPrivs"), if no_escalation { "1" } else { "0" }, "{name}");
            let capable = if uid == 0 { "00000000a80425fb" } else { "0000000000000000" };
            // CAP_SYS_ADMIN, which installs the filter, has not outlived exec.
            for set in ["CapEff", "CapPrm"] {
                assert_eq!(line(&ended.stdout, set), capable, "{name} {set}");
            }
            assert_eq!(line(&ended.stdout, "CapBnd"), "00000000a80425fb", "{name}");
        }
        // A user namespace needs no capability: only the filter refuses it.
        for ended in both(&one, &["unshare", "-U", "true"]) {
            assert_ne!(ended.code, 0, "{name}");
            assert!(ended.stderr.contains("Operation not permitted"), "{name}: {}", ended.stderr);
        }
    }
    let open = Security { seccomp: Profile::Unconfined, ..Security::default() };
    for ended in both(&secured("open", &[], open), &["cat", "/proc/self/status"]) {
        assert_eq!(line(&ended.stdout, "Seccomp"), "0");
    }
}

fn localhost() {
    fs::create_dir_all(dir().join("seccomp")).expect("make");
    // EXDEV (18), which mkdir never says of itself.
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat", "capset", "setresuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]}"#;
    fs::write(dir().join("seccomp/nodirs.json"), text).expect("write");
    let security = Security { seccomp: Profile::Localhost("nodirs.json".into()), ..Security::default() };
    let mut one = secured("nodirs", &[], security);
    web(&mut one);
    // The profile forbids what a start itself has to do, which is done before it is in force.
    for ended in both(&one, &["mkdir", "/tmp/new"]) {
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert!(ended.stderr.contains("Invalid cross-device link"), "{}", ended.stderr);
    }
}

fn devices() {
    assert!(podinit::container::device::possible(), "this kernel has no CONFIG_CGROUP_BPF");
    // $$: each process makes its own.
    let script = "cd /tmp; mknod block$$ b 1 0 && mknod mem$$ c 1 1 && echo made; head -c 1 block$$; head -c 1 mem$$; \
        head -c 3 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null && echo done";
    for ended in both(&run("devices", &[]), &["sh", "-c", script]) {
        assert_eq!(ended.stdout, "made\ndone\n", "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("Operation not permitted").count(), 2, "{}", ended.stderr);
    }
    let ended = run("tty", &["sh", "-c", ": </dev/ptmx && echo open"]).to_end();
    assert_eq!(ended.stdout, "open\n", "{}", ended.stderr);
}

fn privileged() {
    let one = secured("privileged", &[], Security { privileged: true, ..Security::default() });
    let own = fs::read_to_string("/proc/self/status").expect("status");
    for ended in both(&one, &["cat", "/proc/self/status"]) {
        assert_eq!(line(&ended.stdout, "Seccomp"), "0");
        // All that this machine gives us.
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(line(&ended.stdout, set), line(&own, "CapEff"), "{set}");
        }
    }
    let script = "readlink /proc/self/ns/cgroup; touch /proc/sys/kernel/hostname /sys/fs/cgroup && echo writable; \
        head -c 0 /dev/mem; ls /dev";
    let ended = secured("whole", &["sh", "-c", script], one.security.clone()).to_end();
    let group = fs::read_link("/proc/self/ns/cgroup").expect("link").display().to_string();
    assert!(ended.stdout.starts_with(&format!("{group}\nwritable\n")), "{ended:?}");
    for node in podinit::container::device::host() {
        let path = node.path().strip_prefix("/dev").expect("below /dev");
        let name = path.components().next().expect("a name").as_os_str().to_string_lossy();
        assert!(ended.stdout.lines().any(|line| line == name), "{name} in {}", ended.stdout);
    }
}

fn restricted() {
    let security = Security {
        read_only_root: true,
        no_escalation: true,
        drop: vec!["ALL".into()],
        ..Security::default()
    };
    let one = secured("strict", &[], security);
    for ended in both(
        &one,
        &["sh", "-c", "cat /proc/self/status; touch /new /tmp/new; touch /dev/shm/new && echo volume"],
    ) {
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            assert_eq!(line(&ended.stdout, set), "0000000000000000", "{set}");
        }
        assert_eq!(line(&ended.stdout, "NoNewPrivs"), "1");
        assert_eq!(ended.stderr.matches("Read-only file system").count(), 2, "{}", ended.stderr);
        assert!(ended.stdout.ends_with("volume\n"), "{}", ended.stdout);
    }
    let masked = ["cat", "/proc/sys/kernel/ostype", "/proc/keys"];
    assert_eq!(run("masked", &masked).to_end().stdout, "Linux\n");
    let open = secured("unmasked", &masked, Security { unmasked: true, ..Security::default() });
    assert_ne!(open.to_end().stdout, "Linux\n");
}

/// The pod's first process, as `hands` start it.
fn pauses() -> i32 {
    let group = pod_cgroup().join("pause");
    fs::create_dir_all(&group).expect("make");
    let null = fs::File::options().read(true).write(true).open("/dev/null").expect("open");
    let namespaces = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;
    let fds = [0, 1, 2].map(|number| (null.as_raw_fd(), number));
    let pid = spawn_in(&["__pause"], &fds, Some(&group), namespaces).expect("spawn");
    pause::hold(&dir(), pid).expect("hold");
    pause::begun(&dir(), std::time::Duration::from_secs(60)).expect("it begins");
    pid
}

fn sharing(id: &str, argv: &[&str]) -> Run {
    Run { spaces: Spaces { share_pid: true, ..Spaces::default() }, ..run(id, argv) }
}

/// J1, row 37.
fn shared() {
    let alone = both(&run("alone", &[]), &["sh", "-c", "cat /proc/1/comm; echo $PPID"]);
    assert_eq!((alone[0].stdout.as_str(), alone[1].stdout.as_str()), ("sh\n0\n", "sleep\n0\n"));

    sharing("first", &["true"]).spec();
    let first = pauses();
    let one = sharing("one", &["sleep", "1000"]);
    let (Outcome::Started { pid }, ..) = one.start() else { panic!("no start") };
    let two =
        sharing("two", &["sh", "-c", "ps -o pid,comm; ls /proc/1/root /proc/1/cwd; cat /proc/1/environ"])
            .to_end();
    let words: Vec<Vec<&str>> = two.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1][0], "1", "{}", two.stdout);
    assert!(words.iter().any(|line| line.get(1) == Some(&"sleep")), "the other container: {}", two.stdout);
    // Root without CAP_SYS_PTRACE may not even look at what pause has, and there is nothing.
    assert!(two.stderr.contains("/proc/1/root") && two.stderr.contains("/proc/1/environ"), "{}", two.stderr);
    let tracer = Security { add: vec!["SYS_PTRACE".into()], ..Security::default() };
    let tracer = Run { security: tracer, ..sharing("tracer", &["ls", "/proc/1/root/"]) }.to_end();
    assert_eq!((tracer.code, tracer.stdout.as_str()), (0, ""), "{tracer:?}");
    let status = fs::read_to_string(format!("/proc/{first}/status")).expect("status");
    for (name, value) in [("Seccomp", "2"), ("CapPrm", "0000000000000000"), ("NoNewPrivs", "1")] {
        assert_eq!(line(&status, name), value, "{name}");
    }
    assert!(line(&status, "Uid").starts_with("65535"), "{status}");
    // An orphan is reaped by pause, not left a zombie, which would be in /proc for as long as anybody waits.
    let script = "p=$(sh -c 'sleep 0.1 >/dev/null & echo $!'); n=0; \
                  while test -e /proc/$p && test $n -lt 600; do n=$((n+1)); sleep 0.1; done; test -e /proc/$p || echo reaped";
    let orphan = sharing("orphan", &["sh", "-c", script]).to_end();
    assert_eq!(orphan.stdout, "reaped\n", "{}", orphan.stderr);
    cgroup::kill(&one.leaf()).expect("kill");
    assert_eq!(wait(pid), 137);
    one.clean();
    cgroup::kill(&pod_cgroup().join("pause")).expect("kill");
    assert_eq!(wait(first), 137);
}

fn paused() {
    sharing("first", &["true"]).spec();
    assert!(!pause::lives(&dir()));
    let first = pauses();
    assert!(pause::lives(&dir()));
    let one = sharing("one", &["sleep", "1000"]);
    let (Outcome::Started { pid }, ..) = one.start() else { panic!("no start") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    assert_eq!(wait(pid), 137, "the kernel ends all with the first process");
    reap_all();
    assert!(!pause::lives(&dir()));
    one.clean();
    let second = pauses();
    assert!(pause::lives(&dir()) && second != first);
    let after = sharing("after", &["cat", "/proc/1/comm"]).to_end();
    assert_eq!(after.code, 0, "{after:?}");
    cgroup::kill(&pod_cgroup().join("pause")).expect("kill");
    // Not reaped yet: no new process may be born there.
    while fs::read_to_string(format!("/proc/{second}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
    assert!(!pause::lives(&dir()));
    assert_eq!(wait(second), 137);
    sandbox::tear_down(&dir()).expect("tear down");
}

fn sysctls() {
    let own = |path: &str| fs::read_to_string(path).expect("a sysctl of the machine's");
    let paths = [
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/net/ipv4/ping_group_range",
        "/proc/sys/kernel/shm_rmid_forced",
        "/proc/sys/net/ipv4/tcp_fin_timeout",
    ];
    let before = paths.map(own);
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let list = [setting("kernel.shm_rmid_forced", "1"), setting("net.ipv4.tcp_fin_timeout", "17")];
    let wanted = Sandbox { hostname: "podhost", sysctls: &list, ..Sandbox::default() };
    sandbox::set_up(&dir(), &wanted).expect("set up");
    let args: Vec<&str> = ["cat"].into_iter().chain(paths).collect();
    assert_eq!(run("sysctls", &args).to_end().stdout, "0\n0\t2147483647\n1\n17\n");
    assert_eq!(paths.map(own), before, "the machine's own were changed");
    sandbox::tear_down(&dir()).expect("tear down");
    // One that the kernel refuses is told by name.
    let bad = [setting("kernel.shm_rmid_forced", "much")];
    let error = sandbox::set_up(&dir(), &Sandbox { sysctls: &bad, ..wanted }).expect_err("no number");
    assert!(error.to_string().starts_with("sysctl kernel.shm_rmid_forced: "), "{error}");
}
