//! Device nodes and links in /dev that the kernel does not make itself.

use std::fs;
use std::os::fd::AsRawFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::symlinkat;

/// name, major, minor, mode: what a container runtime and a log need, where the kernel has no devtmpfs.
const NODES: &[(&str, u64, u64, u32)] = &[
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("kmsg", 1, 11, 0o600),
    ("tty", 5, 0, 0o666),
    ("console", 5, 1, 0o600),
    ("ptmx", 5, 2, 0o666),
    ("loop-control", 10, 237, 0o600),
    ("fuse", 10, 229, 0o666),
];

const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Makes the nodes of the table in /dev. Disks are not among them: without devtmpfs there is no data partition.
pub fn fallback() -> Result<(), String> {
    let mask = umask(Mode::empty());
    let made = NODES.iter().try_for_each(|(name, major, minor, mode)| {
        let path = format!("/dev/{name}");
        match mknod(path.as_str(), SFlag::S_IFCHR, Mode::from_bits_truncate(*mode), makedev(*major, *minor)) {
            Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
            Err(error) => Err(format!("{path}: {error}")),
        }
    });
    umask(mask);
    made
}

/// Makes the links that programs expect.
pub fn links(troubles: &mut Vec<String>) {
    for (name, target) in LINKS {
        match symlinkat(*target, nix::fcntl::AT_FDCWD, *name) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => troubles.push(format!("cannot link {name}: {error}")),
        }
    }
}

/// Opens /dev/console as the three standard streams where the kernel could not (an initramfs without the node), so
/// that no later descriptor gets their numbers. Rust's runtime has put /dev/null there then.
pub fn standard_streams(troubles: &mut Vec<String>) {
    if fs::read_link("/proc/self/fd/2").is_ok_and(|path| path.ends_with("console")) {
        return;
    }
    match open("/dev/console", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()) {
        Ok(console) => {
            let done = [
                nix::unistd::dup2_stdin(&console),
                nix::unistd::dup2_stdout(&console),
                nix::unistd::dup2_stderr(&console),
            ];
            for error in done.into_iter().filter_map(Result::err) {
                troubles.push(format!("cannot make the console a standard stream: {error}"));
            }
            // The console itself may have got one of the three numbers.
            if console.as_raw_fd() < 3 {
                std::mem::forget(console);
            }
        }
        Err(error) => troubles.push(format!("cannot open /dev/console: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_nodes_have_the_numbers_of_this_kernel() {
        for (name, major, minor, _) in NODES {
            // A sandbox has not all of them; null is everywhere.
            let Ok(meta) = fs::metadata(format!("/dev/{name}")) else {
                assert_ne!(*name, "null");
                continue;
            };
            if *name != "console" && *name != "ptmx" {
                assert_eq!(meta.rdev(), makedev(*major, *minor), "{name}");
            }
        }
    }
}
