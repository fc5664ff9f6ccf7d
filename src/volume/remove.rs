//! Removing a tree of ours: no symlink is followed, no other file system entered, every mount detached first.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, open, renameat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::beneath::{self, Way};

/// How deep a tree is gone into. What is deeper is moved to the top first: a container may nest without end, and each
/// level costs us a descriptor and a piece of our stack.
const DEPTH: u32 = 64;

/// Removes it with all below. Every mount in it is detached before anything below it could be seen.
pub fn tree(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let name = CString::new(name.as_bytes())?;
    loop {
        let mut top = Top { fd: None, moved: 0 };
        match tree_at(parent.as_fd(), &name, 0, &mut top) {
            // Something was moved up meanwhile, below what was already read.
            Err(error) if top.moved > 0 && error.raw_os_error() == Some(libc::ENOTEMPTY) => {}
            other => return other,
        }
    }
}

/// The uppermost directory, and how many were moved into it.
struct Top {
    fd: Option<OwnedFd>,
    moved: u32,
}

impl Top {
    fn take(&mut self, parent: BorrowedFd, name: &CStr) -> io::Result<()> {
        let Some(top) = &self.fd else { return Err(Errno::ELOOP.into()) };
        loop {
            self.moved += 1;
            let to = format!("..podinit-{}", self.moved);
            match renameat2(parent, name, top, to.as_str(), RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => {}
                other => return Ok(other?),
            }
        }
    }
}

fn tree_at(parent: BorrowedFd, name: &CStr, depth: u32, top: &mut Top) -> io::Result<()> {
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
    if depth == DEPTH {
        return top.take(parent, name);
    }
    if depth == 0 {
        top.fd = Some(fd.try_clone()?);
    }
    let mut entries = Dir::from_fd(fd)?;
    let names: Vec<CString> =
        entries.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect();
    for entry in names.iter().filter(|entry| !matches!(entry.to_bytes(), b"." | b"..")) {
        tree_at(entries.as_fd(), entry, depth + 1, top)?;
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
