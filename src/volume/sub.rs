//! subPath: a part of a volume, bound where only we can get at it.
//!
//! The container may exchange names in its volume meanwhile, but not the file behind a descriptor. Symlinks are
//! followed as long as they stay in the volume (a ConfigMap's files are such links); the kernel checks that in the same
//! step (openat2(2), RESOLVE_BENEATH).

use std::ffi::{CStr, CString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use super::beneath::{self, Way};
use super::remove::kind;
use super::set_mode;
use crate::pod::spec::Propagation;

/// Binds `sub` of `base` to `target` with this propagation; missing directories are made with `base`'s mode, for `root`.
pub fn bind(
    base: &Path,
    sub: &str,
    target: &Path,
    propagation: Propagation,
    root: u32,
) -> io::Result<PathBuf> {
    let fd = find(base, sub, root)?;
    while umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind(&fstat(&fd)?) == SFlag::S_IFDIR {
        // A file of that name was there for an earlier run.
        let _ = fs::remove_file(target);
        fs::create_dir_all(target)?;
    } else {
        let _ = fs::remove_dir(target);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(target)?;
    }
    let none = None::<&str>;
    mount(Some(proc_path(&fd).as_path()), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    let change = match propagation {
        Propagation::None => MsFlags::MS_PRIVATE,
        Propagation::HostToContainer => MsFlags::MS_SLAVE,
        // As its source is.
        Propagation::Bidirectional => return Ok(target.to_owned()),
    };
    mount(none, target, none, change | MsFlags::MS_REC, none)?;
    Ok(target.to_owned())
}

/// Opens `sub` beneath `base`, making what is missing.
fn find(base: &Path, sub: &str, owner: u32) -> io::Result<OwnedFd> {
    let root = open(base, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let mode = Mode::from_bits_truncate(fstat(&root)?.st_mode & 0o7777);
    let mut fd = root.try_clone()?;
    // From the root each time: a link may lead up and elsewhere within the volume.
    let mut path = PathBuf::new();
    for part in sub.split('/').filter(|part| !part.is_empty() && *part != ".") {
        path.push(part);
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        fd = match beneath::open(root.as_fd(), &name, libc::O_PATH, Way::Inside) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                make(&fd, &CString::new(part)?, mode, owner)?
            }
            other => other?,
        };
    }
    Ok(fd)
}

/// Makes one directory. A link that leads nowhere is in the way: nothing is made where it points to.
fn make(parent: &OwnedFd, name: &CStr, mode: Mode, owner: u32) -> io::Result<OwnedFd> {
    let made = mkdirat(parent, name, mode);
    if !matches!(made, Ok(()) | Err(Errno::EEXIST)) {
        made?;
    }
    let fd = beneath::open(parent.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY, Way::Strict)?;
    if made.is_ok() {
        // A group other than ours comes from its parent (set-group-id: fsGroup's).
        let gid = (fstat(&fd)?.st_gid == 0).then_some(Gid::from_raw(owner));
        fchownat(&fd, c"", Some(Uid::from_raw(owner)), gid, AtFlags::AT_EMPTY_PATH)?;
        // Whatever the umask is.
        set_mode(&proc_path(&fd), mode.bits())?;
    }
    Ok(fd)
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
