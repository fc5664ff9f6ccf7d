//! A pod's namespaces without a process.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use podinit::container::sandbox::{Sandbox, set_up, tear_down};

use super::Test;
use super::machine::dir;

pub const TESTS: &[Test] =
    &[("a_sandbox_stands_without_a_process", stands), ("a_half_made_sandbox_is_torn_down", half)];

fn ours() -> Vec<u64> {
    let inode = |name| fs::metadata(format!("/proc/self/ns/{name}")).expect("namespace").ino();
    ["net", "ipc", "uts", "mnt", "pid_for_children"].map(inode).into()
}

fn wanted(hostname: &str, host_network: bool) -> Sandbox<'_> {
    Sandbox { hostname, host_network, ..Sandbox::default() }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mounts")
}

fn stands() {
    let (before, own) = (mounts(), ours());
    let name = nix::unistd::gethostname().expect("hostname");
    for host_network in [false, true] {
        set_up(&dir(), &wanted("my-pod", host_network)).expect("set up");
        assert_eq!(ours(), own, "PID 1 has left its own namespaces");
        assert_eq!(nix::unistd::gethostname().expect("hostname"), name);
        let wanted: &[&str] = if host_network { &["ipc"] } else { &["ipc", "net", "uts"] };
        let mut found: Vec<String> = fs::read_dir(dir().join("ns"))
            .expect("ns")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        found.sort();
        assert_eq!(found, wanted);
        for name in wanted {
            let here = fs::metadata(dir().join("ns").join(name)).expect("namespace").ino();
            assert!(!own.contains(&here), "{name} is our own");
        }
        let shm = fs::metadata(dir().join("shm")).expect("shm");
        assert_eq!(shm.permissions().mode() & 0o7777, 0o1777);
        let about = nix::sys::statfs::statfs(&dir().join("shm")).expect("statfs");
        assert_eq!(about.blocks() * about.block_size() as u64, 64 << 20);
        let text = mounts();
        let ns = dir().join("ns");
        let line = text
            .lines()
            .find(|line| line.contains(&format!(" {} ", ns.display())))
            .expect("a mount of its own");
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");

        tear_down(&dir()).expect("tear down");
        tear_down(&dir()).expect("again");
        assert_eq!(mounts(), before);
        assert!(!dir().join("ns").exists() && !dir().join("shm").exists());
    }
    let ids = Some(super::machine::IDS);
    set_up(&dir(), &Sandbox { ids, ..wanted("my-pod", false) }).expect("set up");
    assert_eq!(ours(), own, "PID 1 has left its own namespaces");
    let open = |name: &str| File::open(dir().join("ns").join(name)).expect("held");
    for name in ["ipc", "net", "uts"] {
        // SAFETY: NS_GET_USERNS (ioctl_nsfs(2)) takes no argument and returns a new descriptor.
        let owner = unsafe { OwnedFd::from_raw_fd(libc::ioctl(open(name).as_raw_fd(), 0xb701)) };
        let of = |file: &File| file.metadata().expect("about").ino();
        assert_eq!(of(&File::from(owner)), of(&open("user")), "{name} is not its user namespace's");
    }
    let shm = fs::metadata(dir().join("shm")).expect("shm");
    assert_eq!((shm.uid(), shm.gid(), shm.mode() & 0o7777), (131_072, 131_072, 0o1777));
    tear_down(&dir()).expect("tear down");
    assert_eq!(mounts(), before);
    let long = "x".repeat(65);
    let error = set_up(&dir(), &wanted(&long, false)).expect_err("65 characters are no hostname");
    assert!(error.to_string().contains(&long), "{error}");
    assert_eq!(mounts(), before, "the failed one left a mount");
    let none = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(-1), None);
    assert_eq!(none, Err(nix::errno::Errno::ECHILD), "a process is left");
}

fn half() {
    let before = mounts();
    tear_down(&dir()).expect("nothing there");
    // Twice over, as after a crash in the middle of the first.
    set_up(&dir(), &wanted("one", false)).expect("set up");
    nix::mount::umount2(&dir().join("ns/net"), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    fs::remove_file(dir().join("ns/net")).expect("remove");
    set_up(&dir(), &wanted("two", false)).expect("over the half-made one");
    tear_down(&dir()).expect("tear down");
    assert_eq!(mounts(), before);
}
