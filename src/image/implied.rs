//! Directories that a layer puts something into without describing them: they are as the layer below has them.
//!
//! A layer's file is one for all images, and what is below is the image's: so such a directory is listed in an attribute of
//! the layer's root, which overlay shows nobody, and is given what the layer below says once an image is mounted.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// The attribute on a layer's root: paths without a leading slash, a zero byte behind each.
pub const NAME: &[u8] = b"trusted.podinit.implied";
const LIST: &CStr = c"trusted.podinit.implied";
const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// An attribute's value has 64 KiB at most; what does not fit in stays 0755 and root's.
pub const LIMIT: usize = 60_000;

/// Gives the directories of a mounted image that its topmost layers only imply what lower ones say of them. `layers`: the
/// mounted layers, topmost first; `target`: their overlay, which is written.
pub fn mend(layers: &[PathBuf], target: &Path) -> io::Result<()> {
    let lists: Vec<BTreeSet<PathBuf>> = layers.iter().map(|layer| list(layer)).collect::<io::Result<_>>()?;
    // Parents come before what is in them.
    let all: BTreeSet<&PathBuf> = lists.iter().flatten().collect();
    for path in all {
        if let Some(from) = described(layers, &lists, path)? {
            let told =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            give(&from, target, path).map_err(told)?;
        }
    }
    Ok(())
}

fn list(layer: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let value = attribute(layer, LIST)?.unwrap_or_default();
    let paths = value.split(|&byte| byte == 0).filter(|path| !path.is_empty());
    Ok(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
}

/// The directory whose attributes count, where that is not in the topmost layer that has it.
fn described(layers: &[PathBuf], lists: &[BTreeSet<PathBuf>], path: &Path) -> io::Result<Option<OwnedFd>> {
    let mut implied = false;
    for (layer, list) in layers.iter().zip(lists) {
        let (found, end) = seen(layer, path)?;
        match found {
            Some(found) if !list.contains(path) => return Ok(implied.then_some(found)),
            Some(_) => implied = true,
            None => {}
        }
        if end {
            break;
        }
    }
    Ok(None)
}

/// The directory in this layer, and whether the layer hides what lower ones have there.
fn seen(layer: &Path, path: &Path) -> io::Result<(Option<OwnedFd>, bool)> {
    let mut here = open(layer, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut opaque = false;
    for part in path.components() {
        let Component::Normal(name) = part else { return Ok((None, true)) };
        // A link on the way is no directory, and is not followed.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        here = match openat(&here, name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::ENOENT) => return Ok((None, opaque)),
            Err(errno) => return Err(errno.into()),
        };
        if !about(&here)?.is_dir() {
            return Ok((None, true));
        }
        opaque |= attribute(&shown(&here), OPAQUE)?.is_some();
    }
    Ok((Some(here), opaque))
}

fn give(from: &OwnedFd, target: &Path, path: &Path) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(target, flags, Mode::empty())?;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let to = openat2(&root, path, how)?;
    let (to, about) = (shown(&to), about(from)?);
    chown(&to, Some(about.uid()), Some(about.gid()))?;
    fs::set_permissions(&to, Permissions::from_mode(about.mode() & 0o7777))?;
    copy_attributes(&shown(from), &to)?;
    let time = TimeSpec::new(about.mtime(), about.mtime_nsec());
    Ok(utimensat(AT_FDCWD, &to, &time, &time, UtimensatFlags::FollowSymlink)?)
}

/// What overlay shows of them, and the target can have.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    for name in names(from)? {
        let ours = [&b"trusted.overlay."[..], b"trusted.podinit."]
            .iter()
            .any(|own| name.as_bytes().starts_with(own));
        let Some(value) = attribute(from, &name)?.filter(|_| !ours) else { continue };
        let path = CString::new(to.as_os_str().as_bytes())?;
        // SAFETY: both names end with a zero byte, and the value has the length that is given.
        let done =
            unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        match Errno::result(done) {
            Ok(_) | Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn names(path: &Path) -> io::Result<Vec<CString>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: without room the kernel only tells the size.
    let size = Errno::result(unsafe { libc::listxattr(path.as_ptr(), std::ptr::null_mut(), 0) })?;
    let mut names = vec![0; usize::try_from(size).unwrap_or(0)];
    // SAFETY: the buffer has the length that is given.
    let size = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(Errno::result(size)?).unwrap_or(0));
    let each = names.split(|byte: &u8| *byte == 0).filter(|name| !name.is_empty());
    each.map(|name| CString::new(name).map_err(io::Error::from)).collect()
}

/// None: there is no such attribute.
fn attribute(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut value = vec![0; 1 << 16];
    // SAFETY: both names end with a zero byte, and the buffer has the length that is given.
    let size =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(size) {
        Ok(size) => {
            value.truncate(usize::try_from(size).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn about(fd: &OwnedFd) -> io::Result<Metadata> {
    fs::metadata(shown(fd))
}

/// A path of what is open, for what takes no descriptor of this kind.
fn shown(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
