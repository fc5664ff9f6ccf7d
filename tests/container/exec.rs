//! Processes inside a running container.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use podinit::container::enter::{self, Request};
use podinit::container::user::User;
use podinit::container::{Outcome, cgroup};
use podinit::pod::spec::Spaces;
use podinit::spawn::spawn;

use super::Test;
use super::machine::{Ended, Run, cloexec_pipe, dir, reap_all, run, wait};

pub const TESTS: &[Test] = &[
    ("exec_is_a_process_of_the_container", is_inside),
    ("exec_ends_with_the_codes_of_a_shell", codes),
    ("exec_with_a_terminal", || with_both_users(terminal)),
    ("exec_dies_with_its_helper", || with_both_users(dies)),
    ("exec_is_not_fooled", fooled),
];

/// With the machine's users, and with a user namespace of the pod's own.
fn with_both_users(test: fn(Spaces)) {
    for own_users in [false, true] {
        test(Spaces { own_users, ..Spaces::default() });
    }
}

/// A container that waits; its pid, and the request of its own process with other words.
fn waiting(one: &Run) -> (i32, Request) {
    let (Outcome::Started { pid }, ..) = one.start() else { panic!("no start") };
    (pid, request(one, pid))
}

/// For a process in the container whose first one this is.
pub fn request(one: &Run, pid: i32) -> Request {
    let spec = one.spec();
    let process = spec.process().clone().expect("a process");
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    Request { pid, cgroup: one.leaf(), process, seccomp, args: vec![], tty: false }
}

fn ask(request: &Request, args: &[&str]) -> String {
    let path = dir().join("request.json");
    let args = args.iter().map(|word| (*word).to_owned()).collect();
    let text = serde_json::to_vec(&Request { args, ..request.clone() }).expect("json");
    fs::write(&path, text).expect("write");
    path.to_str().expect("utf-8").to_owned()
}

pub fn exec(request: &Request, args: &[&str]) -> Ended {
    let path = ask(request, args);
    let (out, stdout) = cloexec_pipe();
    let (err, stderr) = cloexec_pipe();
    let fds = [(stdout.as_raw_fd(), 1), (stderr.as_raw_fd(), 2)];
    let pid = spawn(&["exec", &path], &fds, None).expect("spawn");
    drop((stdout, stderr));
    let mut ended = Ended { code: 0, stdout: String::new(), stderr: String::new() };
    File::from(out).read_to_string(&mut ended.stdout).expect("stdout");
    File::from(err).read_to_string(&mut ended.stderr).expect("stderr");
    ended.code = wait(pid);
    ended
}

fn end(one: &Run, pid: i32) {
    cgroup::kill(&one.leaf()).expect("kill");
    assert_eq!(wait(pid), 137);
    reap_all();
    one.clean();
    one.is_gone();
}

/// Everything that the container's own process has, an exec'd one has as well.
fn is_inside() {
    for (name, uid) in [("root", 0), ("web", 33)] {
        let mut one = run(&format!("in-{name}"), &["sleep", "1000"]);
        one.cwd = "/tmp".into();
        if uid != 0 {
            one.user = User { uid, gid: 34, groups: vec![34, 70], home: "/srv".into() };
        }
        let (pid, request) = waiting(&one);
        let lines = |ended: Ended, skipped: &[&str]| {
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
            let kept = ended.stdout.lines().filter(|line| !skipped.iter().any(|word| line.starts_with(word)));
            kept.map(str::to_owned).collect::<Vec<_>>()
        };
        let changing = [
            "Pid",
            "Tgid",
            "Ngid",
            "NS",
            "Vm",
            "Rss",
            "Hugetlb",
            "voluntary",
            "nonvoluntary",
            "Name",
            "PPid",
            "Threads",
            "Mems",
            "Cpus",
            "State",
            "FD",
            "SigQ",
            "x86",
            "Spec",
            "untag",
            "Core",
        ];
        let init = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let init = lines(Ended { code: 0, stdout: init, stderr: String::new() }, &changing);
        assert_eq!(lines(exec(&request, &["cat", "/proc/self/status"]), &changing), init);
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        assert_eq!(exec(&request, &["cat", "/proc/self/limits"]).stdout, limits);
        assert_eq!(exec(&request, &["ls", "/proc/self/fd"]).stdout, "0\n1\n2\n3\n");
        assert_eq!(exec(&request, &["cat", "/proc/self/oom_score_adj"]).stdout, "900\n");
        let mut env: Vec<String> = exec(&request, &["env"]).stdout.lines().map(str::to_owned).collect();
        env.sort_unstable();
        let mut own = one.spec().process().as_ref().and_then(|process| process.env().clone()).expect("env");
        own.sort_unstable();
        assert_eq!(env, own);
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("link");
            let seen = exec(&request, &["readlink", &format!("/proc/self/ns/{kind}")]).stdout;
            assert_eq!(Path::new(seen.trim()), link, "{kind}");
        }
        assert_eq!(exec(&request, &["pwd"]).stdout, "/tmp\n");
        // Its own cgroup below the container's, removed afterwards.
        let seen = exec(&request, &["cat", "/proc/self/cgroup"]).stdout;
        assert!(seen.lines().any(|line| line.starts_with("0::/exec-")), "{seen}");
        let left = fs::read_dir(one.leaf()).expect("leaf").filter_map(Result::ok);
        assert_eq!(left.filter(|entry| entry.path().is_dir()).count(), 0, "a cgroup is left");
        end(&one, pid);
    }
}

fn codes() {
    let one = run("codes", &["sleep", "1000"]);
    let (pid, request) = waiting(&one);
    fs::write(dir().join("rootfs/bin/dull"), "x").expect("write");
    fs::write(dir().join("rootfs/bin/garbage"), "\u{1}").expect("write");
    fs::set_permissions(dir().join("rootfs/bin/garbage"), PermissionsExt::from_mode(0o755)).expect("chmod");
    let table: &[(&[&str], i32, &str, &str)] = &[
        (&["true"], 0, "", ""),
        (&["sh", "-c", "echo a; echo b >&2; exit 9"], 9, "a\n", "b\n"),
        (&["sh", "-c", "kill -TERM $$"], 143, "", ""),
        (&["foo"], 127, "", "exec: \"foo\": executable file not found in $PATH\n"),
        (&["/foo"], 127, "", "exec: \"/foo\": no such file or directory\n"),
        (&["/bin/dull"], 126, "", "exec: \"/bin/dull\": permission denied\n"),
        (&["/bin/garbage"], 126, "", "exec: \"/bin/garbage\": exec format error\n"),
        (&[], 127, "", "exec: \"\": executable file not found in $PATH\n"),
    ];
    for (args, code, stdout, stderr) in table {
        let ended = exec(&request, args);
        assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (*code, *stdout, *stderr), "{args:?}");
    }
    let stale = Request { pid: std::process::id() as i32, ..request.clone() };
    let ended = exec(&stale, &["true"]);
    assert_eq!(ended.code, 126);
    assert!(ended.stderr.contains("find the container"), "{}", ended.stderr);
    end(&one, pid);
    let ended = exec(&request, &["true"]);
    assert_eq!(ended.code, 126, "{ended:?}");
}

fn terminal(spaces: Spaces) {
    let one = Run { spaces, ..run("tty", &["sleep", "1000"]) };
    let (pid, request) = waiting(&one);
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    let request = Request { tty: true, ..request };
    let path = ask(
        &request,
        &[
            "sh",
            "-c",
            "[ -t 0 ] && echo terminal; stty size; read word; echo got $word; ls -1 /proc/self/fd; exit 5",
        ],
    );
    let helper = spawn(&["exec", &path], &[(theirs.as_raw_fd(), 3)], None).expect("spawn");
    drop(theirs);
    let mut master = File::from(received(&ours));
    let size = libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    master.write_all(b"hello\n").expect("write");
    let mut text = Vec::new();
    // A master whose slave is closed reads EIO.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    assert!(text.contains("terminal\n") && text.contains("got hello\n0\n1\n2\n3\n"), "{text}");
    assert_eq!(wait(helper), 5);
    end(&one, pid);
}

fn received(socket: &UnixStream) -> OwnedFd {
    let mut byte = [0; 16];
    let mut space = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).expect("recvmsg");
    let fd = message.cmsgs().expect("rights").find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel made it for us just now.
    unsafe { OwnedFd::from_raw_fd(fd.expect("a descriptor")) }
}

/// SIGKILL of the helper: the process dies with it, and what it had started dies by its cgroup.
fn dies(spaces: Spaces) {
    let one = Run { spaces, ..run("dies", &["sleep", "1000"]) };
    let (pid, request) = waiting(&one);
    let path = ask(&request, &["sh", "-c", "sleep 1000 & sleep 1000 & echo go; wait"]);
    let (out, stdout) = cloexec_pipe();
    let helper = spawn(&["exec", &path], &[(stdout.as_raw_fd(), 1)], None).expect("spawn");
    drop(stdout);
    File::from(out).read_exact(&mut [0; 3]).expect("go");
    let own = enter::cgroup(&one.leaf(), helper as u32);
    assert_eq!(cgroup::pids(&own).expect("pids").len(), 3);
    kill(Pid::from_raw(helper), Signal::SIGKILL).expect("kill");
    assert_eq!(wait(helper), 137);
    cgroup::kill(&own).expect("kill");
    while cgroup::remove(&own).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(cgroup::pids(&one.leaf()).expect("pids"), [pid]);
    end(&one, pid);
}

/// What a container may set up to lead an exec astray.
fn fooled() {
    let one = run("fooled", &["sleep", "1000"]);
    let (pid, request) = waiting(&one);
    for number in 3..20 {
        let mut process = request.process.clone();
        process.set_cwd(format!("/proc/self/fd/{number}").into());
        let ended = exec(&Request { process, ..request.clone() }, &["pwd"]);
        assert_eq!(ended.code, 126, "a working directory of our descriptor {number}: {ended:?}");
    }
    let mut process = request.process.clone();
    process.set_cwd("/none".into());
    let ended = exec(&Request { process, ..request.clone() }, &["pwd"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (126, "exec: chdir to /none: no such file or directory\n")
    );

    // Another file as the terminal multiplexer.
    let dev = Path::new("/proc").join(pid.to_string()).join("root/dev");
    fs::remove_file(dev.join("ptmx")).expect("remove");
    symlink("null", dev.join("ptmx")).expect("link");
    let ended = exec(&Request { tty: true, ..request.clone() }, &["true"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (126, "exec: terminal: /dev/ptmx is not a terminal multiplexer\n")
    );
    end(&one, pid);
}
