//! The table of mounts, from an initramfs's bare root to a machine that containers can live on.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::stat;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot};

use super::devices;

/// One line of the table. `options` are tried one after the other, the richest first: an older kernel refuses what it
/// does not know with EINVAL.
struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    options: &'static [&'static str],
}

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NOSUID: MsFlags = MsFlags::MS_NOSUID;
const NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// favordynmods takes 10 to 20 ms off every start of a container (Linux 6.0); memory_recursiveprot lets a pod's
/// protection reach its containers; nsdelegate makes a cgroup namespace a boundary.
const CGROUP: &[&str] =
    &["nsdelegate,favordynmods,memory_recursiveprot", "nsdelegate,memory_recursiveprot", "nsdelegate", ""];

/// A kernel without security modules has no such place.
const SECURITY: &str = "/sys/kernel/security";

const TABLE: &[Mount] = &[
    Mount { target: "/proc", kind: "proc", flags: QUIET, options: &[""] },
    Mount { target: "/sys", kind: "sysfs", flags: QUIET, options: &[""] },
    Mount { target: "/dev", kind: "devtmpfs", flags: NOSUID, options: &["mode=0755"] },
    Mount {
        target: "/dev/pts",
        kind: "devpts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        options: &["gid=5,mode=0620,ptmxmode=0666", "mode=0620,ptmxmode=0666"],
    },
    Mount { target: "/dev/shm", kind: "tmpfs", flags: NODEV, options: &["mode=1777"] },
    Mount { target: "/dev/mqueue", kind: "mqueue", flags: QUIET, options: &[""] },
    Mount { target: "/run", kind: "tmpfs", flags: NODEV, options: &["mode=0755"] },
    Mount { target: "/tmp", kind: "tmpfs", flags: NODEV, options: &["mode=1777"] },
    Mount { target: "/sys/fs/cgroup", kind: "cgroup2", flags: QUIET, options: CGROUP },
    // Where AppArmor profiles are loaded, and listed.
    Mount { target: SECURITY, kind: "securityfs", flags: QUIET, options: &[""] },
];

/// Mounts everything, private to no peer group. The answer is what did not work, for the log that cannot be yet.
pub fn boot() -> Vec<String> {
    let mut troubles = Vec::new();
    if on_initramfs() {
        note(
            &mut troubles,
            "cannot move / over the initramfs root, so containers cannot pivot",
            leave_rootfs(),
        );
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    note(
        &mut troubles,
        "cannot make / private",
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>),
    );
    for row in TABLE {
        if row.target == SECURITY && !Path::new(SECURITY).exists() {
            continue;
        }
        if let Err(error) = row.mount() {
            if row.kind == "devtmpfs" {
                note(&mut troubles, "cannot make a /dev without devtmpfs", devices::fallback());
                continue;
            }
            troubles.push(format!("cannot mount {} at {}: {error}", row.kind, row.target));
        }
    }
    devices::links(&mut troubles);
    devices::standard_streams(&mut troubles);
    troubles
}

impl Mount {
    fn mount(&self) -> Result<(), nix::Error> {
        // Best effort: mount says better what is wrong.
        let _ = fs::create_dir_all(self.target);
        if self.done() {
            return Ok(());
        }
        let mut last = Ok(());
        for options in self.options {
            last = mount(Some(self.kind), self.target, Some(self.kind), self.flags, Some(*options));
            if !matches!(last, Err(nix::Error::EINVAL)) {
                break;
            }
        }
        last
    }

    /// Whether the kernel has mounted it (devtmpfs where root= is a disk): it is another device than its parent.
    fn done(&self) -> bool {
        let parent = Path::new(self.target).parent().unwrap_or(Path::new("/"));
        matches!((stat(self.target), stat(parent)), (Ok(target), Ok(parent)) if target.st_dev != parent.st_dev)
    }
}

/// Whether / is the kernel's own rootfs, which pivot_root cannot leave: ramfs or tmpfs, as no disk is.
fn on_initramfs() -> bool {
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    statfs("/").is_ok_and(|fs| {
        fs.filesystem_type() == TMPFS_MAGIC || fs.filesystem_type() == FsType(RAMFS_MAGIC as _)
    })
}

/// Binds / over itself and moves it there: nothing is copied, and / becomes a mount that containers can pivot from.
/// Before any other mount, as the bind takes none along.
fn leave_rootfs() -> Result<(), nix::Error> {
    const STEP: &str = "/.root";
    // It may be there from a build; mount says what is wrong otherwise.
    let _ = fs::create_dir(STEP);
    mount(Some("/"), STEP, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    chdir(STEP)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")?;
    // Only its look is at stake.
    let _ = fs::remove_dir(STEP);
    Ok(())
}

fn note<T, E: std::fmt::Display>(troubles: &mut Vec<String>, what: &str, done: Result<T, E>) {
    if let Err(error) = done {
        troubles.push(format!("{what}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_mounts_parents_first_and_each_place_once() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(row.target.starts_with('/') && !row.options.is_empty(), "{}", row.target);
            for later in &TABLE[index + 1..] {
                assert_ne!(row.target, later.target);
                assert!(
                    !row.target.starts_with(&format!("{}/", later.target)),
                    "{} hides {}",
                    later.target,
                    row.target
                );
            }
        }
    }
}
