//! What a helper finds at its start.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use podinit::container::cgroup;
use podinit::spawn::spawn;

use super::Test;
use super::machine::{cloexec_pipe, dir, pod_cgroup, wait};

pub const TESTS: &[Test] = &[
    ("a_helper_has_exactly_its_descriptors", descriptors),
    ("a_helper_starts_clean_and_in_its_cgroup", starts_clean),
];

/// The other side: tells on descriptor 1 what it finds. `fds`, `status`, or the text of a descriptor.
pub fn probe(args: &[String]) -> i32 {
    match args.first().map_or("", String::as_str) {
        "fds" => {
            let folder = fs::read_dir("/proc/self/fd").expect("fds");
            let mut list: Vec<i32> = folder
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                .filter(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|to| !to.ends_with("fd")))
                .collect();
            list.sort_unstable();
            println!("{list:?} {}", fs::read_link("/proc/self/fd/0").expect("stdin").display());
        }
        "status" => {
            print!("{}", fs::read_to_string("/proc/self/cgroup").expect("cgroup"));
            print!("{}", fs::read_to_string("/proc/self/status").expect("status"));
            println!("env {}", std::env::vars_os().count());
        }
        number => {
            let mut text = String::new();
            let mut file = File::open(format!("/proc/self/fd/{number}")).expect("open");
            file.read_to_string(&mut text).expect("read");
            print!("{text}");
        }
    }
    0
}

fn told(args: &[&str], fds: &[(i32, i32)], cgroup: Option<&std::path::Path>) -> String {
    let (out, stdout) = cloexec_pipe();
    let fds: Vec<(i32, i32)> = fds.iter().copied().chain([(stdout.as_raw_fd(), 1)]).collect();
    let pid = spawn(args, &fds, cgroup).expect("spawn");
    drop(stdout);
    let mut text = String::new();
    File::from(out).read_to_string(&mut text).expect("read");
    assert_eq!(wait(pid), 0, "{args:?} {fds:?}: {text}");
    text
}

fn descriptors() {
    assert_eq!(told(&["probe", "fds"], &[], None), "[0, 1, 2] /dev/null\n");
    // Files whose text is their own number here, to be told apart there.
    let files: Vec<File> = (0..4)
        .map(|number| {
            let path = dir().join(format!("file-{number}"));
            let mut file =
                File::options().create(true).truncate(true).read(true).write(true).open(path).expect("open");
            // SAFETY: a plain fcntl: ours are not close-on-exec, so that `spawn` has something to do.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
            write!(file, "{number}").expect("write");
            file.rewind().expect("rewind");
            file
        })
        .collect();
    let ours: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let [a, b, c, d] = ours[..] else { panic!("four files") };
    let maps: &[&[(i32, i32)]] = &[
        &[(a, 3)],
        &[(a, b), (b, a)],
        &[(a, b), (b, c), (c, d), (d, a)],
        &[(a, a), (b, 9), (b, 50), (c, 0)],
        &[(a, 7), (a, 8), (a, 2)],
        &[(d, 3), (c, 4), (b, 5), (a, 6)],
    ];
    for map in maps {
        let mut wanted: Vec<i32> = map.iter().map(|(_, child)| *child).chain([0, 1, 2]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let list = told(&["probe", "fds"], map, None);
        assert!(list.starts_with(&format!("{wanted:?} ")), "{map:?}: {list}");
        for (mine, child) in *map {
            let number = ours.iter().position(|fd| fd == mine).expect("one of ours");
            assert_eq!(
                told(&["probe", &child.to_string()], map, None),
                number.to_string(),
                "{map:?} {child}"
            );
        }
    }
}

fn starts_clean() {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).expect("mask");
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGUSR2, SigHandler::SigIgn) }.expect("ignore");
    let own = pod_cgroup().join("helper");
    fs::create_dir(&own).expect("make");
    let text = told(&["probe", "status"], &[], Some(&own));
    for line in ["SigBlk:\t0000000000000000", "env 0"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    // Rust itself ignores SIGPIPE (bit 12) again in every process that has a main of its own.
    assert!(text.contains("SigIgn:\t0000000000001000\n"), "{text}");
    let name = format!("0::/{}/helper\n", pod_cgroup().file_name().expect("name").to_string_lossy());
    assert!(text.contains(&name), "{name} in {text}");
    cgroup::remove(&own).expect("remove");
}
