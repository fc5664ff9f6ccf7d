//! Idmapped mounts: what a pod with a user namespace of its own sees of files whose owners are the machine's.
//!
//! mount_setattr(2), MOUNT_ATTR_IDMAP. Since Linux 5.12 for ext4, xfs and vfat, 5.15 btrfs, 5.18 f2fs, 5.19 EROFS (and
//! overlay over such layers), 6.3 tmpfs; never for proc, sysfs and overlay itself.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::sandbox::unmount;
use crate::pod::spec::Propagation;

/// linux/mount.h.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: libc::c_int = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_int = 4;

/// Shows `source`, a file or a directory with all that is mounted below it, at `target`, which is made; what was mounted
/// there is taken away first. `users`: the user namespace whose ids the source's own are shown as. What is mounted below
/// is not mapped, as a runtime does not map it.
pub fn bind(source: &Path, target: &Path, users: Option<&Path>, propagation: Propagation) -> io::Result<()> {
    unmount(target)?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let tree = clone(source)?;
    if fs::metadata(source)?.is_dir() {
        // A file of that name was there for an earlier run.
        let _ = fs::remove_file(target);
        fs::create_dir_all(target)?;
    } else {
        let _ = fs::remove_dir(target);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(target)?;
    }
    if let Some(users) = users {
        map(&tree, users).map_err(|error| explained(&error, source))?;
    }
    let change = match propagation {
        Propagation::None => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        // As its source is.
        Propagation::Bidirectional => 0,
    };
    if change != 0 {
        set(&tree, libc::AT_RECURSIVE, &Attributes { propagation: change, ..Attributes::default() })?;
    }
    attach(&tree, target)
}

/// The same of a read-only directory; one that is shown already stays.
pub fn layer(source: &Path, target: &Path, users: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let device = |path: &Path| fs::symlink_metadata(path).map(|about| about.dev());
    if device(target)? != device(target.parent().unwrap_or(target))? {
        return Ok(());
    }
    bind(source, target, Some(users), Propagation::None)
}

/// Whether the file system of this directory can be shown with other ids.
pub fn possible(dir: &Path, users: &Path) -> io::Result<bool> {
    match map(&clone(dir)?, users) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM | libc::ENOSYS)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
#[derive(Default)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub users: u64,
}

/// A copy of the mounts at and below this path, mounted nowhere.
fn clone(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_RECURSIVE;
    // SAFETY: a plain system call on a string that outlives it; it returns a new descriptor or -1.
    match unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is new and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

fn map(tree: &OwnedFd, users: &Path) -> io::Result<()> {
    let users = File::open(users)?;
    let number = u64::try_from(users.as_raw_fd()).unwrap_or(u64::MAX);
    set(tree, 0, &Attributes { set: MOUNT_ATTR_IDMAP, users: number, ..Attributes::default() })
}

fn set(tree: &OwnedFd, more: libc::c_int, attributes: &Attributes) -> io::Result<()> {
    change(tree.as_raw_fd(), Path::new(""), libc::AT_EMPTY_PATH | more, attributes)
}

/// mount_setattr(2): changes the mount at this path, taken from `dir`, and with AT_RECURSIVE those below it.
pub fn change(dir: RawFd, path: &Path, flags: libc::c_int, attributes: &Attributes) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the kernel reads a string that outlives the call, and as many bytes of the attributes as it is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let (from, to) = (tree.as_raw_fd(), libc::AT_FDCWD);
    let flags = MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: a plain system call on strings that outlive it.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, target.as_ptr(), flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel says no more than EINVAL.
fn explained(error: &io::Error, source: &Path) -> io::Error {
    let shown = source.display();
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM) => io::Error::new(
            ErrorKind::Unsupported,
            format!(
                "cannot show {shown} with the pod's own ids (hostUsers: false): failed to set MOUNT_ATTR_IDMAP: \
                 {error}: its file system has no idmapped mounts on this kernel: use another one"
            ),
        ),
        _ => io::Error::new(error.kind(), format!("map the ids of {shown}: {error}")),
    }
}
