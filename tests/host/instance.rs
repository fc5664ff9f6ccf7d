//! One `podinit run` with directories of its own, asked by the commands that an operator types. What it made is removed
//! also when a test fails.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub const PODINIT: &str = env!("CARGO_BIN_EXE_podinit");

/// The image that `manifest` names: busybox alone.
pub const IMAGE: &str = "podinit.dev/box:1";

/// The longest that anything here may take on a busy machine. Only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(180);

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Instance {
    /// run/, root/, logs/ and m/ (the manifests) lie in it.
    pub home: PathBuf,
    /// Another's data directory, where it is shared.
    root: PathBuf,
    /// Flags beside those that every instance has.
    pub more: Vec<String>,
    child: Option<Child>,
}

impl Instance {
    /// Directories, and the image in the store; started by `start`.
    pub fn new() -> Instance {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("podinit-host-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        let root = home.join("root");
        for folder in [&home.join("m"), &root] {
            fs::create_dir_all(folder).expect("make directories");
        }
        let instance = Instance { home, root, more: Vec::new(), child: None };
        let store = instance.root.join("images").display().to_string();
        let archive = archive().display().to_string();
        assert_eq!(
            said(&instance.podinit(&["image", "--store", &store, "import", &archive])),
            format!("{IMAGE}\n")
        );
        instance
    }

    /// Another one with the same data directory.
    pub fn beside(other: &Instance) -> Instance {
        let mut instance = Instance::new();
        instance.root.clone_from(&other.root);
        instance
    }

    pub fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.home.join(name).display().to_string();
        vec![
            format!("--pod-manifest-path={}", path("m")),
            format!("--run-dir={}", path("run")),
            format!("--root-dir={}", self.root.display()),
            format!("--pod-logs-dir={}", path("logs")),
            "--hostname-override=host".into(),
            "--faults".into(),
        ]
    }

    pub fn start(&mut self) {
        assert!(nix::unistd::geteuid().is_root(), "these tests run pods: run them as root");
        let out =
            File::options().create(true).append(true).open(self.home.join("out")).expect("open the log");
        let mut command = Command::new(PODINIT);
        command.arg("run").args(self.flags()).args(&self.more).stdin(std::process::Stdio::null());
        command.stdout(out.try_clone().expect("the log twice")).stderr(out);
        // SAFETY: a plain system call. A test run that is killed leaves no podinit behind.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        self.child = Some(command.spawn().expect("start podinit"));
        until("podinit answers", || self.podinit(&["get", "pods"]).status.success().then_some(()));
    }

    /// The pid of podinit, which it keeps through panics and crashes.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it was started").id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal podinit");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        until("podinit's end", || child.try_wait().expect("wait"))
    }

    /// What podinit logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("out")).unwrap_or_default()
    }

    /// Writes a manifest as an editor does: beside, then renamed.
    pub fn write(&self, file: &str, text: &str) {
        let new = self.home.join(format!("{file}.new"));
        fs::write(&new, text).expect("write a manifest");
        fs::rename(new, self.home.join("m").join(file)).expect("rename a manifest");
    }

    /// A command of the operator's.
    pub fn podinit(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PODINIT);
        command.env("PODINIT_SOCKET", self.home.join("run/podinit.sock"));
        command.args(args).output().expect("run podinit")
    }

    /// What a command that must succeed prints.
    pub fn say(&self, args: &[&str]) -> String {
        said(&self.podinit(args))
    }

    /// What a command prints, which may fail as yet: for `until`.
    pub fn tells(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.podinit(args).stdout).into_owned()
    }

    /// The pod of this manifest name as the API has it.
    pub fn pod(&self, name: &str) -> Option<Value> {
        self.pods().into_iter().find(|pod| pod["metadata"]["name"] == format!("{name}-host"))
    }

    /// All pods as the API has them.
    pub fn pods(&self) -> Vec<Value> {
        let pods: Value = serde_json::from_str(&self.say(&["get", "pods", "-o", "json"])).expect("a PodList");
        pods["items"].as_array().expect("items").clone()
    }

    /// The pod once this holds for it.
    pub fn pod_that(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&format!("pod {name}"), || self.pod(name).filter(&holds))
    }

    /// The pod once all its containers run.
    pub fn running(&self, name: &str) -> Value {
        self.pod_that(name, |pod| {
            let states = pod["status"]["containerStatuses"].as_array();
            states.is_some_and(|states| states.iter().all(|each| each["state"]["running"].is_object()))
        })
    }

    /// Nothing is left of it in any process' mounts, loop devices, cgroups or processes.
    pub fn assert_nothing_left(&self) {
        let home = self.home.display().to_string();
        until(&format!("nothing left of {home}"), || (left(&home).is_empty()).then_some(()));
        let run = self.home.join("run");
        let files: Vec<_> = fs::read_dir(run).expect("the run directory").flatten().collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- podinit's log:\n{}---", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(child.id() as i32);
            // The second one hurries.
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().is_ok_and(|status| status.is_none()) {
                let _ = kill(pid, Signal::SIGTERM);
                std::thread::sleep(Duration::from_millis(200));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // What a podinit that failed did not end.
        for pid in processes(&self.home.display().to_string()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Tries until there is an answer.
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The standard output of a command that succeeded.
pub fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A pod: each container's name and shell script. `more` stands under `spec`.
pub fn manifest(name: &str, more: &str, containers: &[(&str, &str)]) -> String {
    let containers: String = containers
        .iter()
        .map(|(name, script)| {
            format!("  - name: {name}\n    image: {IMAGE}\n    command: [sh, -c, {script:?}]\n")
        })
        .collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{more}  containers:\n{containers}")
}

/// The processes that have a mount from below this directory, in a mount namespace that is not ours: podinit, containers
/// and helpers. What a test mounts itself all processes of its own namespace have, which are nobody's to kill.
pub fn processes(home: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mounts = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let space = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let own = ["self", "thread-self", "1"].map(space);
    pids.filter(|pid| mounts(pid).contains(&format!("{home}/")))
        .filter(|pid| space(&pid.to_string()).is_some_and(|space| !own.contains(&Some(space))))
        .collect()
}

/// What is left of an instance.
fn left(home: &str) -> Vec<String> {
    let mut left: Vec<_> = processes(home).iter().map(|pid| format!("process {pid}")).collect();
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.starts_with(&format!("{home}/")) {
            left.push(format!("loop device of {file}"));
        }
    }
    left
}

/// The directory in which this machine has cgroup2, if any.
pub fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(line.split(' ').nth(1)?.into())
}

/// The OCI archive of `IMAGE`, made once by umoci and skopeo of Debian's static busybox.
pub fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let archive = tmp.join("host-box.oci.tar");
        if archive.exists() {
            return archive;
        }
        let work = tmp.join(format!("host-box-{}", std::process::id()));
        let _ = fs::remove_dir_all(&work);
        let bin = work.join("tree/bin");
        fs::create_dir_all(&bin).expect("make directories");
        fs::create_dir_all(work.join("tree/tmp")).expect("make directories");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("copy busybox (package busybox-static)");
        for tool in ["sh", "cat", "echo", "sleep", "id", "seq", "tr", "head", "touch", "ls", "true"] {
            symlink("busybox", bin.join(tool)).expect("link");
        }
        let (layout, tree) = (work.join("layout"), work.join("tree"));
        let image = format!("{}:1", layout.display());
        let work_tar = work.join("box.tar");
        let from = format!("oci:{image}");
        let to = format!("oci-archive:{}:{IMAGE}", work_tar.display());
        let made = |program: &str, args: &[&str]| {
            said(&Command::new(program).args(args).output().unwrap_or_else(|why| panic!("{program}: {why}")));
        };
        let text = |path: &Path| path.display().to_string();
        made("umoci", &["init", "--layout", &text(&layout)]);
        made("umoci", &["new", "--image", &image]);
        made("umoci", &["insert", "--image", &image, &text(&tree), "/"]);
        made(
            "umoci",
            &["config", "--image", &image, "--config.env", "PATH=/bin", "--config.cmd", "/bin/true"],
        );
        made("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &to]);
        // Whole or not at all, whoever else makes it now.
        fs::rename(&work_tar, &archive).expect("keep the archive");
        let _ = fs::remove_dir_all(&work);
        archive
    })
}
