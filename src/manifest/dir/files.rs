//! The files of the manifest directory: which there are, whether one changed, its bytes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::pod::fetch::LARGEST;

/// Tells whether a file changed.
#[derive(Clone, Copy, PartialEq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    pub changed: (i64, i64),
    /// A later change of the directory is known, so the file's clock tick is over: a further write would show.
    pub settled: bool,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: true,
        }
    }

    /// Whether nothing can have been written since the old one was taken.
    pub fn proves_same(self, old: Stamp) -> bool {
        old.settled && Stamp { settled: true, ..self } == old
    }
}

/// What is at a name.
pub enum Look {
    File(Stamp),
    Unreadable(io::Error),
    Gone,
    Skipped(&'static str),
}

pub fn look(name: &OsStr, path: &Path) -> Look {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // Removed since the listing; but a link that leads nowhere is still there.
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Look::Gone;
        }
        Err(error) => return Look::Unreadable(error),
    };
    if metadata.is_dir() {
        return Look::Skipped("is a directory: manifests below it are not read");
    }
    if !metadata.is_file() {
        return Look::Skipped("is no regular file and is not read");
    }
    if backup(name.as_bytes()) {
        return Look::Skipped("looks like an editor's backup and is not read: rename it to run it");
    }
    Look::File(Stamp::of(&metadata))
}

/// Better than the kubelet, which runs them.
fn backup(name: &[u8]) -> bool {
    let endings: [&[u8]; 5] = [b"~", b".bak", b".swp", b".orig", b".tmp"];
    endings.iter().any(|ending| name.ends_with(ending)) || (name.starts_with(b"#") && name.ends_with(b"#"))
}

/// The visible names in byte order; a path that is a file is the only one.
pub fn scan(path: &Path) -> io::Result<Vec<(OsString, PathBuf)>> {
    if fs::metadata(path)?.is_file() {
        let name = path.file_name().unwrap_or(path.as_os_str());
        return Ok(vec![(name.to_owned(), path.to_owned())]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(b".") {
            found.push((entry.file_name(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// A file's bytes, at most one more than allowed. Never waits for a writer, should the name be a pipe by now.
pub fn fetch(path: &Path) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is no regular file any more"));
    }
    // Room for all of it, and for finding its end: two reads do.
    let mut bytes = Vec::with_capacity(metadata.len().min(LARGEST as u64) as usize + 32);
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
