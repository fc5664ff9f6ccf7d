//! What the tests run on: mounts, a rootfs of busybox, bundles, and the part of PID 1.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe};
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use podinit::container::bundle::{self, Bind, Command, Files, Input, Limits};
use podinit::container::sandbox::Sandbox;
use podinit::container::user::User;
use podinit::container::{Confinement, Outcome, Start, cgroup, handover, mapped, rlimit, sandbox};
use podinit::pod::spec::{Propagation, PullPolicy, Resources, RestartPolicy, Security, Spaces};
use podinit::pod::users::Ids;
use podinit::pod::{Container, Pod};
use podinit::spawn::spawn;

pub const CGROUPS: &str = "/sys/fs/cgroup";
const TOOLS: &[&str] = &[
    "sh", "cat", "ls", "id", "env", "true", "false", "sleep", "touch", "readlink", "pwd", "stty", "kill",
    "mknod", "hostname", "ip", "head", "mkdir", "unshare", "ps", "ping",
];

/// This test's own folder and cgroup.
pub fn dir() -> PathBuf {
    std::env::temp_dir().join(format!("podinit-container-{}", std::process::id()))
}

/// The sandbox of a pod with users of its own, and the machine's ids that they are.
pub fn own() -> PathBuf {
    dir().join("own")
}

pub const IDS: Ids = Ids { first: 131_072, count: 65_536 };

pub fn pod_cgroup() -> PathBuf {
    Path::new(CGROUPS).join(format!("podinit-test-{}", std::process::id()))
}

/// Mount namespace, cgroup2, rootfs, pod cgroup. A panic of a test ends its whole process, so what was made is
/// removed by a hook.
pub fn prepare() {
    assert!(nix::unistd::geteuid().is_root(), "these tests start containers: run them as root");
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), none).expect("mount cgroup2");
    fs::create_dir(pod_cgroup()).expect("make the pod's cgroup");

    let root = dir().join("rootfs");
    for name in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(name)).expect("make rootfs");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("copy busybox (package busybox-static)");
    for tool in TOOLS {
        symlink("busybox", root.join("bin").join(tool)).expect("link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
        .expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nssl:x:70:web\n").expect("group");

    let before = std::panic::take_hook();
    let here = std::process::id();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if std::process::id() == here {
            let _ = std::panic::catch_unwind(leave);
        }
    }));
}

/// Ends and removes everything; what is still there afterwards fails the test.
pub fn leave() {
    let _ = cgroup::kill(&pod_cgroup());
    reap_all();
    let _ = cgroup::remove(&pod_cgroup());
    let _ = sandbox::tear_down(&dir());
    let _ = umount2(&own().join("rootfs"), MntFlags::MNT_DETACH);
    let _ = sandbox::tear_down(&own());
    let _ = umount2(CGROUPS, MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(dir());
}

/// Waits for every child there is.
pub fn reap_all() {
    while waitpid(Pid::from_raw(-1), None).is_ok() {}
}

pub fn container() -> Container {
    Container {
        name: "c".into(),
        image: "busybox".into(),
        pull: PullPolicy::Never,
        command: vec![],
        args: vec![],
        working_dir: None,
        env: vec![],
        mounts: vec![],
        resources: Resources::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
        ..Container::default()
    }
}

pub fn pod() -> Pod {
    Pod {
        uid: "u".into(),
        namespace: "default".into(),
        name: "p".into(),
        origin: "p.yaml".into(),
        restart: RestartPolicy::Never,
        grace: Duration::from_secs(1),
        host_network: false,
        hostname: "podhost".into(),
        init: vec![],
        containers: vec![container()],
        volumes: vec![],
        object: Default::default(),
        ..Pod::default()
    }
}

/// One run of one container.
#[derive(Clone)]
pub struct Run {
    pub id: String,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: User,
    pub mounts: Vec<Bind>,
    pub limits: Limits,
    pub security: Security,
    pub spaces: Spaces,
    /// Where Localhost profiles are.
    pub profiles: PathBuf,
}

pub fn run(id: &str, argv: &[&str]) -> Run {
    Run {
        id: id.into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: vec!["GIVEN=yes".into()],
        cwd: "/".into(),
        user: User { uid: 0, gid: 0, groups: vec![0], home: "/root".into() },
        mounts: vec![],
        limits: Limits { oom_score_adj: Some(900), ..Limits::default() },
        security: Security::default(),
        spaces: Spaces::default(),
        profiles: dir().join("seccomp"),
    }
}

impl Run {
    pub fn bundle(&self) -> PathBuf {
        dir().join("bundles").join(&self.id)
    }

    pub fn state(&self) -> PathBuf {
        dir().join("state")
    }

    pub fn leaf(&self) -> PathBuf {
        pod_cgroup().join(&self.id)
    }

    pub fn helper_cgroup(&self) -> PathBuf {
        pod_cgroup().join(format!("{}.helper", self.id))
    }

    /// Where its sandbox is: one for all containers with the machine's users, one for those with a pod's own.
    pub fn sandbox(&self) -> PathBuf {
        if self.spaces.own_users { own() } else { dir() }
    }

    /// The rootfs as it sees it.
    fn rootfs(&self) -> PathBuf {
        let (plain, shown) = (dir().join("rootfs"), own().join("rootfs"));
        if !self.spaces.own_users {
            return plain;
        }
        if !shown.join("bin").exists() {
            mapped::bind(&plain, &shown, Some(&own().join("ns/user")), Propagation::None).expect("idmapped");
        }
        shown
    }

    pub fn spec(&self) -> Spec {
        let (home, ids) = (self.sandbox(), self.spaces.own_users.then_some(IDS));
        if !home.join("ns/ipc").exists() {
            fs::create_dir_all(&home).expect("make");
            let wanted = Sandbox { hostname: "podhost", ids, ..Sandbox::default() };
            sandbox::set_up(&home, &wanted).expect("sandbox");
        }
        for name in ["hosts", "termination"] {
            fs::write(home.join(name), "here\n").expect("write");
            chown(home.join(name), ids.map(|ids| ids.first), ids.map(|ids| ids.first)).expect("chown");
        }
        let cgroup = format!("/{}/{}", pod_cgroup().file_name().expect("name").to_string_lossy(), self.id);
        let container = Container { security: self.security.clone(), ..container() };
        bundle::spec(&Input {
            pod: &Pod { spaces: self.spaces, ..pod() },
            container: &container,
            image: &ImageConfiguration::default(),
            command: Command { argv: self.argv.clone(), env: self.env.clone(), cwd: self.cwd.clone() },
            user: self.user.clone(),
            rootfs: &self.rootfs(),
            cgroup: &cgroup,
            namespaces: &home.join("ns"),
            shm: &home.join("shm"),
            files: Files {
                hosts: Some(&home.join("hosts")),
                termination: Some(&home.join("termination")),
                ..Files::default()
            },
            mounts: self.mounts.clone(),
            limits: self.limits.clone(),
            rlimits: rlimit::possible(),
            confinement: Confinement::of(&container, std::slice::from_ref(&self.profiles))
                .expect("a confinement"),
            controllers: &BTreeSet::new(),
            exists: &Path::exists,
        })
        .expect("spec")
    }

    /// Starts the helper in its own cgroup: its pid, and our ends of stdout and stderr.
    pub fn helper(&self) -> (i32, File, File) {
        let start = Start { id: self.id.clone(), state: self.state(), stdin: 3, stdout: 4, stderr: 5 };
        handover::stage(&self.bundle(), &self.spec(), &start).expect("stage");
        fs::create_dir_all(self.helper_cgroup()).expect("helper's cgroup");
        let null = File::open("/dev/null").expect("/dev/null");
        let (out, stdout) = cloexec_pipe();
        let (err, stderr) = cloexec_pipe();
        let bundle = self.bundle();
        let args = ["start", bundle.to_str().expect("utf-8")];
        let fds = [(null.as_raw_fd(), 3), (stdout.as_raw_fd(), 4), (stderr.as_raw_fd(), 5)];
        let pid = spawn(&args, &fds, Some(&self.helper_cgroup())).expect("spawn");
        (pid, out.into(), err.into())
    }

    /// Runs the helper to its end: what it reported, with our ends of the container's output.
    pub fn start(&self) -> (Outcome, File, File) {
        let (helper, out, err) = self.helper();
        let code = wait(helper);
        let outcome = handover::outcome(&self.bundle());
        let wanted = if matches!(outcome, Outcome::Started { .. }) { 0 } else { 1 };
        assert_eq!(code, wanted, "the helper's exit code for {outcome:?}");
        cgroup::remove(&self.helper_cgroup()).expect("remove the helper's cgroup");
        (outcome, out, err)
    }

    /// Runs the container to its end.
    pub fn to_end(&self) -> Ended {
        let (outcome, mut out, mut err) = self.start();
        let Outcome::Started { pid } = outcome else { panic!("{}: {outcome:?}", self.id) };
        let mut ended = Ended { code: 0, stdout: String::new(), stderr: String::new() };
        out.read_to_string(&mut ended.stdout).expect("stdout");
        err.read_to_string(&mut ended.stderr).expect("stderr");
        ended.code = wait(pid);
        self.clean();
        ended
    }

    /// What PID 1 does after a container's end.
    pub fn clean(&self) {
        cgroup::remove(&self.leaf()).expect("remove the leaf");
        handover::forget(&self.state(), &self.id).expect("forget");
    }

    pub fn is_gone(&self) {
        assert!(!self.leaf().exists(), "{}: its cgroup is left", self.id);
        assert!(!self.state().join(&self.id).exists(), "{}: its state is left", self.id);
        let one = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        assert_eq!(one, Err(nix::errno::Errno::ECHILD), "{}: a process is left", self.id);
    }
}

#[derive(Debug, PartialEq)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The exit code of one process, 128 + signal. Reaps whatever ends meanwhile, as PID 1 does: a container's first
/// process is not done before every process that was exec'd into its pid namespace has been reaped.
pub fn wait(pid: i32) -> i32 {
    loop {
        match waitpid(Pid::from_raw(-1), None).expect("a child of ours") {
            WaitStatus::Exited(ended, code) if ended.as_raw() == pid => return code,
            WaitStatus::Signaled(ended, signal, _) if ended.as_raw() == pid => return 128 + signal as i32,
            _ => {}
        }
    }
}

pub fn cloexec_pipe() -> (OwnedFd, OwnedFd) {
    // Not close-on-exec: `spawn` must see to it.
    pipe().expect("pipe")
}
