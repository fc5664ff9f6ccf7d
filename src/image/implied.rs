//! Directories that a layer's archive does not describe, though it has files in them: they are those of the layers below,
//! with owner, mode, time and attributes. Overlay would show the topmost layer's, so the writable layer begins with them.
//!
//! A layer's file marks them, and the directories on the way to them, when it is made (`layer`).

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::at;
use super::erofs_xattr::{IMPLIED, ITSELF, OPAQUE, OWN};

/// So many directories that several layers have are looked at: it is done at each start.
const LIMIT: usize = 4096;
/// The longest path that is looked at: where layers and views lie comes before it, and 4096 bytes is all that there may be.
const DEEP: usize = 2048;

/// Directories that a view of layers has with other attributes than overlay would show.
pub struct Implied {
    /// The root, then those directories and all that they lie in, parents first; and whose attributes each has.
    found: Vec<(PathBuf, PathBuf)>,
    /// Whether there is more to do than for the root that overlay would show.
    pub any: bool,
}

/// Looks for them in these layers, topmost first.
pub fn find(layers: &[PathBuf]) -> io::Result<Implied> {
    let mut search = Search { left: LIMIT, found: Vec::new() };
    let all = layers.iter().cloned().map(Part::of).collect::<io::Result<_>>()?;
    search.visit(&Merged { all, shown: layers.len() }, PathBuf::new())?;
    if search.left == 0 {
        log::warn!(
            "more than {LIMIT} directories are in several layers and not described by all: the rest is 0755 root"
        );
    }
    let found = search.found;
    let root = found.first().map(|(_, source)| source);
    Ok(Implied { any: found.len() > 1 || root != layers.first(), found })
}

/// Makes them in `upper`, an empty directory, which becomes the root.
pub fn make(implied: &Implied, upper: &Path) -> io::Result<()> {
    let found = || implied.found.iter().map(|(path, source)| (upper.join(path), source));
    for (to, _) in found().skip(1) {
        fs::create_dir(&to).map_err(|error| at(&to, error))?;
    }
    // Now that all are there: a new one changes the time of the one that it is in, and inherits its access lists.
    found().try_for_each(|(to, source)| copy(source, &to).map_err(|error| at(&to, error)))
}

/// A layer's directory, and its mark.
struct Part {
    path: PathBuf,
    mark: Option<Vec<u8>>,
}

impl Part {
    fn of(path: PathBuf) -> io::Result<Part> {
        Ok(Part { mark: attribute(&path, IMPLIED)?, path })
    }

    fn is_implied(&self) -> bool {
        self.mark.as_deref() == Some(ITSELF)
    }
}

/// One directory as the layers have it, topmost first.
struct Merged {
    all: Vec<Part>,
    /// How many of them overlay shows the entries of: down to the first opaque one.
    shown: usize,
}

impl Merged {
    /// A directory's entry of this name.
    fn child(&self, name: &OsStr) -> io::Result<Merged> {
        let mut child = Merged { all: Vec::new(), shown: 0 };
        let mut opaque = false;
        for dir in self.all.iter().take(self.shown) {
            let path = dir.path.join(name);
            match fs::symlink_metadata(&path) {
                Ok(about) if about.is_dir() => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => continue,
                // A whiteout, or what took the place of the lower layers' directory.
                Ok(_) => break,
                Err(error) => return Err(at(&path, error)),
            }
            child.shown += usize::from(!opaque);
            opaque |= attribute(&path, OPAQUE)?.is_some();
            child.all.push(Part::of(path)?);
        }
        Ok(child)
    }

    /// Whose attributes it has: those of the topmost layer that describes it.
    fn source(&self) -> Option<&Part> {
        self.all.iter().find(|dir| !dir.is_implied()).or(self.all.first())
    }
}

struct Search {
    left: usize,
    /// Paths of directories to be made, parents first, and whose attributes they have.
    found: Vec<(PathBuf, PathBuf)>,
}

impl Search {
    fn visit(&mut self, dir: &Merged, path: PathBuf) -> io::Result<()> {
        let (Some(top), Some(source)) = (dir.all.first(), dir.source()) else { return Ok(()) };
        let before = self.found.len();
        let needed = before == 0 || source.path != top.path;
        self.found.push((path.clone(), source.path.clone()));
        for name in marked(dir)? {
            let child = dir.child(&name)?;
            // What one layer alone has is as it should be, and all below it.
            let path = path.join(name);
            if child.all.len() > 1 && self.left > 0 && path.as_os_str().len() <= DEEP {
                self.left -= 1;
                self.visit(&child, path)?;
            }
        }
        if !needed && self.found.len() == before + 1 {
            self.found.truncate(before);
        }
        Ok(())
    }
}

/// The names of the directories in it that are marked in a layer.
fn marked(dir: &Merged) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for Part { path, .. } in dir.all.iter().take(dir.shown).filter(|part| part.mark.is_some()) {
        for entry in fs::read_dir(path).map_err(|error| at(path, error))? {
            let entry = entry.map_err(|error| at(path, error))?;
            if entry.file_type()?.is_dir() && attribute(&entry.path(), IMPLIED)?.is_some() {
                names.insert(entry.file_name());
            }
        }
    }
    Ok(names)
}

/// Owner, extended attributes, mode and time.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let about = fs::metadata(from)?;
    chown(to, Some(about.uid()), Some(about.gid()))?;
    for name in attributes(from)? {
        if name.to_bytes().starts_with(OWN) {
            continue;
        }
        let Some(value) = attribute(from, &name)? else { continue };
        let path = c_path(to)?;
        // SAFETY: the strings end with a zero byte and the value has the given length.
        let done =
            unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        match Errno::result(done) {
            // A file system of memory has user attributes from 6.6 on.
            Ok(_) | Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // Last: a change of owner takes bits away.
    fs::set_permissions(to, Permissions::from_mode(about.mode() & 0o7777))?;
    let time = TimeSpec::new(about.mtime(), about.mtime_nsec());
    Ok(utimensat(AT_FDCWD, to, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// An extended attribute's value; None where there is none, or where the file system has none at all. What cannot be read
/// is an error: a guess would give a damaged layer's directories to root.
fn attribute(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let shown = path;
    let path = c_path(path)?;
    let value = read(|buffer, size| {
        // SAFETY: the strings end with a zero byte; no more than `size` bytes are written.
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), size) }
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(at(shown, errno.into())),
    }
}

/// The names of the extended attributes.
fn attributes(path: &Path) -> io::Result<Vec<CString>> {
    let path = c_path(path)?;
    let names = read(|buffer, size| {
        // SAFETY: the string ends with a zero byte; no more than `size` bytes are written.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), size) }
    });
    let names = match names {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names?,
    };
    Ok(names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

/// Asks for the size, then for as many bytes.
fn read(ask: impl Fn(*mut u8, usize) -> isize) -> nix::Result<Vec<u8>> {
    let size = Errno::result(ask(std::ptr::null_mut(), 0))?.unsigned_abs();
    let mut value = vec![0; size];
    if size > 0 {
        let size = Errno::result(ask(value.as_mut_ptr(), size))?.unsigned_abs();
        value.truncate(size);
    }
    Ok(value)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().to_owned().into_vec())?)
}
