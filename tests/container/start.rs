//! Starts, ends, failures, and what a process finds around it.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use podinit::container::user::User;
use podinit::container::{Bind, Outcome, cgroup};

use super::Test;
use super::machine::{dir, run, wait};

pub const TESTS: &[Test] = &[
    ("runs_and_exits_with_its_code", runs_and_exits),
    ("a_program_that_cannot_run_is_told_plainly", cannot_run),
    ("a_failed_start_leaves_nothing", failed_start),
    ("the_process_starts_clean", clean),
    ("a_user_has_his_ids_and_no_capability", user),
    ("volumes_and_files_are_there", volumes),
    ("killed_by_its_cgroup", killed),
];

fn runs_and_exits() {
    let ended = run("sh", &["sh", "-c", "echo out; echo err >&2; exit 7"]).to_end();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (7, "out\n", "err\n"));
    let one = run("again", &["true"]);
    assert_eq!(one.to_end().code, 0);
    one.is_gone();
    assert_eq!(run("signal", &["sh", "-c", "sleep 0; exit 130"]).to_end().code, 130);
}

fn cannot_run() {
    let root = dir().join("rootfs");
    for (name, mode, text) in
        [("dull", 0o644, "x"), ("garbage", 0o755, "\u{1}\u{2}"), ("private", 0o700, "#!/bin/sh\nexit 3\n")]
    {
        fs::write(root.join("bin").join(name), text).expect("write");
        fs::set_permissions(root.join("bin").join(name), Permissions::from_mode(mode)).expect("chmod");
    }
    let table = [
        ("foo", "exec: \"foo\": executable file not found in $PATH"),
        ("/foo", "exec: \"/foo\": no such file or directory"),
        ("/bin/dull", "exec: \"/bin/dull\": permission denied"),
        ("dull", "exec: \"dull\": permission denied"),
        ("/bin", "exec: \"/bin\": is a directory"),
        ("/bin/garbage", "exec: \"/bin/garbage\": exec format error"),
    ];
    for (number, (program, message)) in table.iter().enumerate() {
        let one = run(&format!("bad-{number}"), &[program]);
        let (outcome, mut out, mut err) = one.start();
        let Outcome::Failed(why) = outcome else { panic!("{program}: {outcome:?}") };
        assert_eq!((why.message.as_str(), why.reason.as_str(), why.ours), (*message, "StartError", false));
        let mut text = String::new();
        out.read_to_string(&mut text).expect("stdout");
        err.read_to_string(&mut text).expect("stderr");
        assert_eq!(text, "", "{program}: the container's output holds lines that are not its own");
        one.is_gone();
    }
    assert_eq!(run("private", &["private"]).to_end().code, 3, "root's own program, mode 0700");
}

fn failed_start() {
    let mut one = run("lost", &["true"]);
    one.cwd = "/bin/busybox/x".into();
    let (Outcome::Failed(why), ..) = one.start() else { panic!("a file as the working directory") };
    assert!(
        why.message.starts_with("working directory /bin/busybox/x: ")
            && why.message.contains("Not a directory"),
        "{}",
        why.message
    );
    one.is_gone();

    let mut one = run("nosource", &["true"]);
    one.mounts =
        vec![Bind { source: "/nowhere".into(), target: "/data".into(), read_only: true, ..Bind::default() }];
    let (Outcome::Failed(why), ..) = one.start() else { panic!("a mount of nothing") };
    assert!(why.message.starts_with("mount of /nowhere at /data: No such file"), "{}", why.message);
    one.is_gone();

    fs::remove_file(dir().join("ns/net")).expect_err("a namespace is held by a mount");
    let one = run("twice", &["sleep", "1000"]);
    let (Outcome::Started { pid }, ..) = one.start() else { panic!("no start") };
    let (Outcome::Failed(why), ..) = one.start() else { panic!("the same id twice") };
    assert!(why.message.contains("twice exists already"), "{}", why.message);
    assert_eq!(
        cgroup::pids(&one.leaf()).expect("pids"),
        [pid],
        "the failed start killed the running container"
    );
    cgroup::kill(&one.leaf()).expect("kill");
    assert_eq!(wait(pid), 137);
    one.clean();
    one.is_gone();
}

/// PID 1 with a full mask, ignored signals and open descriptors: none of it reaches the container.
fn clean() {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).expect("mask");
    // SAFETY: ignoring a signal runs no code.
    unsafe { nix::sys::signal::signal(Signal::SIGUSR1, nix::sys::signal::SigHandler::SigIgn) }
        .expect("ignore");
    let status = run("status", &["cat", "/proc/self/status"]).to_end().stdout;
    for name in ["SigBlk", "SigIgn", "SigCgt", "CapInh", "CapAmb"] {
        assert!(status.contains(&format!("{name}:\t0000000000000000\n")), "{name} in\n{status}");
    }
    // containerd's 14.
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{name}:\t00000000a80425fb\n")), "{name} in\n{status}");
    }
    for line in ["NoNewPrivs:\t0", "Umask:\t0022", "Groups:\t0 ", "NSpid:\t1"] {
        assert!(status.contains(&format!("{line}\n")), "{line:?} in\n{status}");
    }
    // ls has the folder itself open as 3.
    let fds = run("fds", &["ls", "/proc/self/fd"]).to_end().stdout;
    assert_eq!(fds, "0\n1\n2\n3\n");
    let env = run("env", &["env"]).to_end().stdout;
    let mut env: Vec<&str> = env.lines().collect();
    env.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env, ["GIVEN=yes", "HOME=/root", "HOSTNAME=podhost", path]);
    assert_eq!(run("name", &["hostname"]).to_end().stdout, "podhost\n");
    assert_eq!(run("oom", &["cat", "/proc/self/oom_score_adj"]).to_end().stdout, "900\n");
    let lo = run("lo", &["ip", "-o", "addr"]).to_end().stdout;
    assert!(lo.contains("lo    inet 127.0.0.1/8") && lo.lines().all(|line| line.contains(" lo ")), "{lo}");
    assert_eq!(
        run(
            "cgroup",
            &["sh", "-c", "cat /proc/self/cgroup | while read a; do case $a in 0::*) echo $a;; esac; done"]
        )
        .to_end()
        .stdout,
        "0::/\n"
    );
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("read");
    assert_eq!(own, "0\n", "the container's oom_score_adj came back to PID 1");
}

fn user() {
    let mut one = run("web", &["cat", "/proc/self/status"]);
    one.user = User { uid: 33, gid: 34, groups: vec![34, 70], home: "/srv".into() };
    let status = one.to_end().stdout;
    for line in ["Uid:\t33\t33\t33\t33", "Gid:\t34\t34\t34\t34", "Groups:\t34 70 "] {
        assert!(status.contains(&format!("{line}\n")), "{line:?} in\n{status}");
    }
    for (name, set) in
        [("CapPrm", "0"), ("CapEff", "0"), ("CapInh", "0"), ("CapAmb", "0"), ("CapBnd", "a80425fb")]
    {
        assert!(status.contains(&format!("{name}:\t{set:0>16}\n")), "{name} in\n{status}");
    }
}

fn volumes() {
    let data = dir().join("data");
    fs::create_dir_all(&data).expect("make");
    fs::write(data.join("file"), "content\n").expect("write");
    let mut one = run(
        "vol",
        &[
            "sh",
            "-c",
            "cat /etc/hosts /ro/file; touch /ro/x; touch /rw/new; echo bye > /dev/termination-log; touch /dev/shm/s; pwd",
        ],
    );
    one.cwd = "/work/deep".into();
    let bind = |target: &str, read_only| Bind {
        source: data.clone(),
        target: target.into(),
        read_only,
        ..Bind::default()
    };
    one.mounts = vec![bind("/rw", false), bind("/ro", true)];
    let ended = one.to_end();
    assert_eq!(ended.stdout, "here\ncontent\n/work/deep\n", "{}", ended.stderr);
    assert!(ended.stderr.contains("/ro/x: Read-only file system"), "{}", ended.stderr);
    assert!(data.join("new").exists() && !data.join("x").exists());
    assert_eq!(fs::read_to_string(dir().join("termination")).expect("read"), "bye\n");
    assert!(dir().join("shm/s").exists(), "/dev/shm is not the pod's");
}

fn killed() {
    let one = run("kill", &["sh", "-c", "sleep 1000 & sleep 1000 & echo go; wait"]);
    let (Outcome::Started { pid }, mut out, _err) = one.start() else { panic!("no start") };
    let mut word = [0; 3];
    out.read_exact(&mut word).expect("go");
    assert_eq!(cgroup::pids(&one.leaf()).expect("pids").len(), 3);
    cgroup::kill(&one.leaf()).expect("kill");
    assert_eq!(wait(pid), 137);
    one.clean();
    one.is_gone();
}
