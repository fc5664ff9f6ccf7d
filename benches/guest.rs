//! What benches/run boots: `guest` as the kernel's first program, and the program that the measured containers run.
//!
//! As PID 1 it leaves a child behind that measures, and becomes what is measured: podinit, or busybox's init. In a
//! container it is `guest stamp FIFO` (tells the time of its first instruction, and ends) or `guest sleep FILE`.
//! Each result is a line `bench: <word>...` on the console. Nanoseconds of CLOCK_MONOTONIC, which the kernel starts.
#![no_main]
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libc::{c_char, c_int};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::stat::Mode;
use serde_json::Value;

const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Ours alone, on the file system that PID 1 has as well; shown in the containers as /out.
const OUT: &str = "/bench/out";
const FIFO: &str = "/bench/out/fifo";
const UP: &str = "/bench/out/up";
const GUEST: &str = "/bench/guest";
/// A proc of our own, from before PID 1 changes its root.
const PROC: &str = "/bench/proc";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// C's main: Rust's own does a dozen system calls before the first instruction of ours.
#[unsafe(no_mangle)]
pub extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    let first = now();
    let words: Vec<String> = std::env::args().collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "stamp", path] => stamp(first, path),
        [_, "sleep", path] => rest(path),
        _ if std::process::id() == 1 => init(),
        _ => 2,
    }
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The FIFO is there for the rounds; for a boot it is a file.
fn stamp(first: u64, path: &str) -> c_int {
    let told = OpenOptions::new().append(true).create(true).open(path);
    i32::from(told.and_then(|mut file| file.write_all(format!("{first}\n").as_bytes())).is_err())
}

fn rest(path: &str) -> c_int {
    let told = OpenOptions::new().append(true).create(true).open(path);
    if told.and_then(|mut file| file.write_all(b".\n")).is_err() {
        return 1;
    }
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

fn init() -> c_int {
    let none: Option<&str> = None;
    fs::create_dir_all(PROC).and_then(|()| fs::create_dir_all(OUT)).expect("make directories");
    mount(Some("proc"), PROC, Some("proc"), MsFlags::empty(), none).expect("mount proc");
    let words = fs::read_to_string(format!("{PROC}/cmdline")).expect("read cmdline");
    let word = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or("");
    let (mode, rounds) = (word("bench.mode="), word("bench.rounds=").parse().unwrap_or(30));
    let become_it: &[&str] = if mode == "busybox" { &["/bin/busybox", "init"] } else { &["/init"] };
    if mode == "podinit" {
        manifest("stamp", &["stamp", "/out/stamp"]).expect("write a manifest");
    }
    // SAFETY: there is one thread.
    if unsafe { libc::fork() } == 0 {
        let done = match mode {
            "start" => start(rounds),
            "rest" => at_rest(),
            _ => boot(mode),
        };
        say(&match done {
            Ok(()) => "done".to_owned(),
            Err(why) => format!("failed: {why}"),
        });
        let _ = reboot(RebootMode::RB_POWER_OFF);
        return 1;
    }
    let words: Vec<_> = become_it.iter().map(|word| CString::new(*word).expect("no nul")).collect();
    let _ = nix::unistd::execve(&words[0], &words, &[c"HOME=/", c"TERM=linux"]);
    1
}

/// One write a line, for PID 1 writes to the console as well.
fn say(text: &str) {
    let _ = io::stdout().write_all(format!("\nbench: {text}\n").as_bytes());
    let _ = io::stdout().flush();
}

/// Kernel start to first instruction, as told by the program that PID 1 starts.
fn boot(mode: &str) -> io::Result<()> {
    let stamp = format!("{OUT}/stamp");
    wait("the stamp", || fs::read_to_string(&stamp).is_ok_and(|text| text.ends_with('\n')))?;
    say(&format!("boot {mode} {}", fs::read_to_string(&stamp)?.trim()));
    Ok(())
}

/// PID 1's view of the machine, once it listens.
fn enter() -> io::Result<()> {
    let root = format!("{PROC}/1/root");
    wait("podinit", || Path::new(&root).join("run/podinit/podinit.sock").exists())?;
    std::os::unix::fs::chroot(root)?;
    std::env::set_current_dir("/")
}

fn wait(what: &str, done: impl Fn() -> bool) -> io::Result<()> {
    let end = now() + PATIENCE.as_nanos() as u64;
    while !done() {
        if now() > end {
            return Err(io::Error::other(format!("waited in vain for {what}")));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A pod of one container that runs this program with these words; renamed into the directory. When that was.
fn manifest(name: &str, words: &[&str]) -> io::Result<u64> {
    let args: String = words.iter().map(|word| format!("{word:?}, ")).collect();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: podinit.dev/guest:1\n    \
         imagePullPolicy: Never\n    args: [{args}]\n    volumeMounts:\n    - name: out\n      mountPath: /out\n  \
         volumes:\n  - name: out\n    hostPath:\n      path: {OUT}\n"
    );
    let part = format!("/bench/{name}.yaml");
    fs::write(&part, text)?;
    let begun = now();
    fs::rename(part, format!("{MANIFESTS}/{name}.yaml"))?;
    Ok(begun)
}

/// Manifest to first instruction, against crun and fork + exec: every round has all three in a new order.
fn start(rounds: usize) -> io::Result<()> {
    enter()?;
    nix::unistd::mkfifo(FIFO, Mode::from_bits_truncate(0o666))?;
    let mut fifo = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(FIFO)?;
    // A pod that stays: its bundle is what crun is given.
    manifest("holder", &["sleep", "/out/up"])?;
    wait("the first pod", || Path::new(UP).exists())?;
    let bundle = Bundle::adapt()?;
    let seed = now();
    let mut dice = seed;
    for round in 0..=rounds {
        let mut order = ["podinit", "crun", "fork"];
        for last in (1..order.len()).rev() {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            order.swap(last, (dice % (last as u64 + 1)) as usize);
        }
        for way in order {
            let begun = match way {
                "podinit" => manifest("round", &["stamp", "/out/fifo"])?,
                "crun" => bundle.run(round)?,
                _ => spawn(Command::new(GUEST).args(["stamp", FIFO]))?,
            };
            let first = told(&mut fifo)?;
            // The first of each is a warm-up.
            if round > 0 {
                say(&format!("start {way} {}", first - begun));
            }
            if way == "podinit" {
                fs::remove_file(format!("{MANIFESTS}/round.yaml"))?;
                wait("the pod's end", || {
                    fs::read_dir("/run/podinit/pods").is_ok_and(|pods| pods.count() == 1)
                })?;
            }
            reap();
            sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// When the program began.
fn told(fifo: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(60_000_u16))? == 0 {
            return Err(io::Error::other("the program did not tell its time"));
        }
        let mut part = [0; 64];
        let count = fifo.read(&mut part)?;
        text.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    text.trim().parse().map_err(|_| io::Error::other(format!("{text:?} is no time")))
}

/// Starts it with no output of its own; when that was.
fn spawn(command: &mut Command) -> io::Result<u64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = now();
    command.spawn()?;
    Ok(begun)
}

fn reap() {
    while nix::sys::wait::wait().is_ok() {}
}

/// The bundle that podinit made, for crun.
struct Bundle {
    path: PathBuf,
    spec: Value,
}

impl Bundle {
    /// Changed are: the program's words; the root, a plain directory with the image's one file, since crun mounts no
    /// image; the namespaces, which crun makes itself where podinit makes them before it starts the container.
    fn adapt() -> io::Result<Bundle> {
        let pod = fs::read_dir("/run/podinit/pods")?.next().ok_or(io::Error::other("no pod"))??.path();
        let text = fs::read(pod.join("c/main/0/config.json"))?;
        let mut spec: Value = serde_json::from_slice(&text)?;
        let path = PathBuf::from("/bench/crun");
        fs::create_dir_all(path.join("rootfs"))?;
        fs::copy(GUEST, path.join("rootfs/guest"))?;
        spec["root"]["path"] = "rootfs".into();
        spec["process"]["args"] = serde_json::json!(["/guest", "stamp", "/out/fifo"]);
        for namespace in spec["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
            namespace.as_object_mut().map(|namespace| namespace.remove("path"));
        }
        Ok(Bundle { path, spec })
    }

    fn run(&self, round: usize) -> io::Result<u64> {
        let mut spec = self.spec.clone();
        spec["linux"]["cgroupsPath"] = format!("/bench/{round}").into();
        fs::write(self.path.join("config.json"), serde_json::to_vec(&spec)?)?;
        let id = format!("bench-{round}");
        spawn(
            Command::new("/bench/bin/crun")
                .args(["--root", "/run/crun", "--cgroup-manager", "cgroupfs", "run", "--bundle"])
                .arg(&self.path)
                .arg(id),
        )
    }
}

/// Memory with 1, 10 and 50 pods; wake-ups in a minute with 10.
fn at_rest() -> io::Result<()> {
    enter()?;
    let mut made = 0;
    for pods in [1, 10, 50] {
        while made < pods {
            made += 1;
            manifest(&format!("pod{made}"), &["sleep", "/out/up"])?;
        }
        wait("the pods", || fs::read_to_string(UP).is_ok_and(|text| text.lines().count() == pods))?;
        // Two listings later the starts are over, and what they took has been given back; what a listing takes has not.
        sleep(Duration::from_secs(45));
        for (name, bytes) in podinits()? {
            say(&format!("own {pods} {name} {}", bytes.own));
            say(&format!("memory {pods} {name} {}", bytes.pss));
        }
        if pods == 10 {
            let before = podinits()?;
            sleep(Duration::from_secs(60));
            for (name, after) in podinits()? {
                let none = Usage::default();
                let before = before.get(&name).unwrap_or(&none);
                say(&format!("wakes {pods} {name} {}", after.woken - before.woken));
                say(&format!("preempted {pods} {name} {}", after.preempted - before.preempted));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Usage {
    /// KiB; a page that several processes map counts for each by its share.
    pss: u64,
    /// KiB that no file is behind.
    own: u64,
    /// Times that it had slept.
    woken: u64,
    /// Times that another process took the processor from it.
    preempted: u64,
}

/// Every process of PID 1's program, by its duty.
fn podinits() -> io::Result<BTreeMap<String, Usage>> {
    let ours = fs::read_link("/proc/1/exe")?;
    let mut found: BTreeMap<String, Usage> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().parse::<u32>().is_err()
            || fs::read_link(path.join("exe")).ok().as_ref() != Some(&ours)
        {
            continue;
        }
        let words = fs::read_to_string(path.join("cmdline"))?;
        let name = words.split('\0').nth(1).filter(|word| word.starts_with("__")).unwrap_or("__init");
        let usage = found.entry(name.trim_start_matches('_').to_owned()).or_default();
        let status = fs::read_to_string(path.join("status"))?;
        let memory = fs::read_to_string(path.join("smaps_rollup"))?;
        usage.pss += number(&memory, "Pss:");
        usage.own += number(&memory, "Pss_Anon:");
        usage.woken += number(&status, "voluntary_ctxt_switches:");
        usage.preempted += number(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(found)
}

/// The number after a word at the start of a line.
fn number(text: &str, word: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or("0");
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
