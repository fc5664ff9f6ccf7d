//! Removing a tree of ours: no symlink is followed, no other file system entered, every mount detached first.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, open, renameat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::beneath::{self, Way};

/// How many entries PID 1 removes itself: some ten milliseconds.
const AT_ONCE: usize = 1000;

/// How deep a tree is gone into. What is deeper is moved to the top first: a container may nest without end, and each
/// level costs us a descriptor and a piece of our stack.
const DEPTH: u32 = 64;

/// Removes it with all below. Every mount in it is detached before anything below it could be seen.
pub fn tree(dir: &Path) -> io::Result<()> {
    within(dir, usize::MAX).map(drop)
}

/// Removes at most so many entries. Whether all are gone.
pub fn within(dir: &Path, most: usize) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(true) };
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(true),
        other => other?,
    };
    let name = CString::new(name.as_bytes())?;
    let mut top = Top { fd: None, moved: 0, left: most };
    loop {
        let before = top.moved;
        match tree_at(parent.as_fd(), &name, 0, &mut top) {
            Err(_) if top.left == 0 => return Ok(false),
            // Something was moved up meanwhile, below what was already read.
            Err(error) if top.moved > before && error.raw_os_error() == Some(libc::ENOTEMPTY) => {}
            other => return other.map(|()| true),
        }
    }
}

/// The uppermost directory, how many were moved into it, and how many entries may still be removed.
struct Top {
    fd: Option<OwnedFd>,
    moved: u32,
    left: usize,
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
    top.left = top.left.checked_sub(1).ok_or(Errno::ETIME)?;
    detach(parent, name)?;
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if kind(&stat) != SFlag::S_IFDIR {
        return gone(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir));
    }
    // The strict way refuses a mount even of the same file system, which comparing devices would miss.
    let fd = match beneath::open(parent, name, libc::O_RDONLY | libc::O_DIRECTORY, Way::Strict) {
        // Two may be at it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
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
    let names = entries.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    let names = names.filter(|name| !matches!(name.to_bytes(), b"." | b".."));
    // One more, so that the want of leave shows.
    let names: Vec<CString> = names.take(top.left.saturating_add(1)).collect();
    for entry in &names {
        tree_at(entries.as_fd(), entry, depth + 1, top)?;
    }
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))
}

/// Detaches all that is mounted on this name, one over the other.
fn detach(parent: BorrowedFd, name: &CStr) -> io::Result<()> {
    let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string());
    let path = path.join(OsStr::from_bytes(name.to_bytes()));
    loop {
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, not there, or a symlink.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ELOOP) => return Ok(()),
            // Off a board without the right to unmount: openat2 then refuses to enter a mount.
            Err(Errno::EPERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes a tree; one that is too large to be removed at once is moved into `trash` and left there under the name that
/// is returned. Both lie on one file system.
pub fn discard(dir: &Path, trash: &Path) -> io::Result<Option<PathBuf>> {
    if within(dir, AT_ONCE)? {
        return Ok(None);
    }
    fs::create_dir_all(trash)?;
    // Not used before, also not by another podinit with the same data directory.
    let name = format!("{:016x}", RandomState::new().build_hasher().finish());
    let target = trash.join(name);
    fs::rename(dir, &target)?;
    Ok(Some(target))
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
