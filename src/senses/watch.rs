//! The manifest directory under inotify: whether a listing is worth it. What it misses, the periodic listing finds.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchMask};

/// More reads than one look needs; what is left makes the descriptor readable again.
const READS: usize = 1024;

pub struct Watch {
    /// A directory with manifests, or one manifest.
    path: PathBuf,
    /// The directory that is watched: of a single manifest the one it lies in, as a rename puts another file in its place.
    folder: PathBuf,
    /// The watch, and device and inode of what it watches.
    held: Option<(Inotify, (u64, u64))>,
}

impl Watch {
    pub fn new(path: &Path) -> Self {
        let mut watch = Watch { path: path.to_owned(), folder: path.to_owned(), held: None };
        watch.renew();
        watch
    }

    /// What to poll for reading.
    pub fn fd(&self) -> Option<RawFd> {
        self.held.as_ref().map(|(inotify, _)| inotify.as_raw_fd())
    }

    /// Watches what is at the path now: it may be made later, replaced with its parents, or mounted over, of which a
    /// watch tells nothing. To be called before each listing.
    pub fn renew(&mut self) {
        self.folder = match self.path.parent() {
            Some(parent) if self.path.is_file() => parent.to_owned(),
            Some(_) | None => self.path.clone(),
        };
        let present = fs::metadata(&self.folder).map(|meta| (meta.dev(), meta.ino())).ok();
        if present.is_none() || self.held.as_ref().map(|(_, watched)| *watched) != present {
            self.held = present.and_then(|present| Some((watch(&self.folder).ok()?, present)));
        }
    }

    /// Reads what inotify tells. True: it is worth a listing. A file that is just being made is not: its close is.
    pub fn changed(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let (mut any, mut lost) = (false, false);
        let Some((inotify, _)) = &mut self.held else { return false };
        for _ in 0..READS {
            let Ok(events) = inotify.read_events(&mut buffer) else { break };
            let mut seen = false;
            for event in events {
                seen = true;
                lost |=
                    event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED);
                // An overflow has no name and is no creation: look at everything.
                // Beside a single manifest may lie what changes all the time.
                let other = self.folder != self.path
                    && event.name.is_some_and(|name| self.path.file_name() != Some(name));
                let whole = || event.name.is_some_and(|name| is_whole(&self.folder.join(name)));
                any |= !other && (!event.mask.contains(EventMask::CREATE) || whole());
            }
            if !seen {
                break;
            }
        }
        if lost {
            self.held = None;
            self.renew();
        }
        any || lost
    }
}

/// A link that appears is complete at once; a regular file is written and closed after its creation.
fn is_whole(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1)
}

fn watch(folder: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVE
        | WatchMask::DELETE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(folder, mask)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests;
