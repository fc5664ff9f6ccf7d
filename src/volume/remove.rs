//! Removing a tree of ours: no symlink is followed, no other file system entered, every mount detached first.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::beneath::{self, Way};

/// Removes it with all below. Every mount in it is detached before anything below it could be seen.
pub fn tree(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    tree_at(parent.as_fd(), &CString::new(name.as_bytes())?)
}

fn tree_at(parent: BorrowedFd, name: &CStr) -> io::Result<()> {
    detach(parent, name)?;
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if kind(&stat) != SFlag::S_IFDIR {
        return gone(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir));
    }
    // The strict way refuses a mount even of the same file system, which comparing devices would miss.
    let fd = beneath::open(parent, name, libc::O_RDONLY | libc::O_DIRECTORY, Way::Strict)?;
    if fstat(&fd)?.st_dev != fstat(parent)?.st_dev {
        return Err(io::Error::other(format!("{name:?} is another file system")));
    }
    let mut entries = Dir::from_fd(fd)?;
    let names: Vec<CString> =
        entries.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect();
    for entry in names.iter().filter(|entry| !matches!(entry.to_bytes(), b"." | b"..")) {
        tree_at(entries.as_fd(), entry)?;
    }
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))
}

/// Detaches all that is mounted on this name, one over the other.
fn detach(parent: BorrowedFd, name: &CStr) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.to_string_lossy());
    loop {
        match umount2(path.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, not there, or a symlink.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ELOOP) => return Ok(()),
            // Off a board without the right to unmount: openat2 then refuses to enter a mount.
            Err(Errno::EPERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The type of a file.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT)
}

fn gone(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
