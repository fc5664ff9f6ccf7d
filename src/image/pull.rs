//! What the helper that pulls is asked, what it tells on the way, and what came of it.
//!
//! Descriptors: 3 is the request, 4 the answer, 5 the progress; all are memory of whoever asks.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::registry::credentials::Login;
use crate::config::{Proxies, Registries};

/// One pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// As it is wanted; any form.
    pub image: String,
    pub platform: Platform,
    /// The store's directory.
    pub store: PathBuf,
    /// Stores behind it, whose layers need not be pulled.
    pub behind: Vec<PathBuf>,
    pub registries: Registries,
    pub proxies: Proxies,
    /// Files in the form of Docker's config.json. The first that there is counts, as with the kubelet.
    pub keyrings: Vec<PathBuf>,
    /// Instead of theirs.
    pub login: Option<Login>,
}

/// The exit codes: the image is there, and the answer tells of it; it is not, and the answer tells why.
pub const DONE: i32 = 0;
pub const FAILED: i32 = 1;

/// What was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The full form of its name.
    pub reference: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Digest of the configuration.
    pub id: String,
    /// Bytes of its blobs, compressed as they are in the registry; those that were there already too.
    pub size: u64,
}

/// The three as who asks has them.
pub struct Files {
    asked: File,
    answer: File,
    progress: File,
}

impl Files {
    pub fn of(request: &Request) -> io::Result<Self> {
        let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
        let (mut asked, answer, progress) = (memory(c"request")?, memory(c"answer")?, memory(c"progress")?);
        asked.write_all(&serde_json::to_vec(request)?)?;
        Ok(Files { asked, answer, progress })
    }

    /// With the numbers that the helper knows them by.
    pub fn fds(&self) -> [(RawFd, RawFd); 3] {
        [(self.asked.as_raw_fd(), 3), (self.answer.as_raw_fd(), 4), (self.progress.as_raw_fd(), 5)]
    }

    pub fn progress(&self) -> Vec<Progress> {
        told(&self.progress)
    }

    /// What the helper said at its end. `done`: its exit code was `DONE`, not `FAILED`.
    pub fn outcome(&mut self, done: bool) -> Result<Report, String> {
        let mut bytes = Vec::new();
        let read = self.answer.rewind().and_then(|()| (&self.answer).take(LONGEST).read_to_end(&mut bytes));
        read.map_err(|why| why.to_string())?;
        match done {
            true => serde_json::from_slice(&bytes).map_err(|why| why.to_string()),
            false => Err(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// The longest answer that is read.
const LONGEST: u64 = 16 << 10;

/// How far one layer is, in bytes of its blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

const RECORD: usize = 16;

/// Writes where a layer stands: a record for each layer, lowest first.
pub fn tell(file: &File, layer: usize, progress: Progress) -> io::Result<()> {
    let mut record = [0; RECORD];
    let (done, total) = record.split_at_mut(RECORD / 2);
    done.copy_from_slice(&progress.done.to_le_bytes());
    total.copy_from_slice(&progress.total.to_le_bytes());
    file.write_all_at(&record, (layer * RECORD) as u64)
}

/// Where the layers stand; none before the manifest is known.
pub fn told(file: &File) -> Vec<Progress> {
    let mut layers = Vec::new();
    let mut record = [0; RECORD];
    while file.read_exact_at(&mut record, (layers.len() * RECORD) as u64).is_ok() {
        let number = |at: usize| {
            let bytes = record.get(at..at + RECORD / 2).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        layers.push(Progress { done: number(0), total: number(RECORD / 2) });
    }
    layers
}

/// All layers together.
pub fn sum(layers: &[Progress]) -> Progress {
    layers.iter().fold(Progress::default(), |sum, layer| Progress {
        done: sum.done.saturating_add(layer.done.min(layer.total)),
        total: sum.total.saturating_add(layer.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_heard_as_told() {
        let file = nix::sys::memfd::memfd_create(c"progress", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        let file = File::from(file.unwrap());
        assert_eq!((told(&file), sum(&[])), (Vec::new(), Progress::default()));
        let layers = [Progress { done: 1, total: 10 }, Progress { done: 1 << 40, total: 1 << 41 }];
        for (at, progress) in layers.into_iter().enumerate().rev() {
            tell(&file, at, progress).unwrap();
        }
        assert_eq!(told(&file), layers);
        assert_eq!(sum(&layers), Progress { done: (1 << 40) + 1, total: (1 << 41) + 10 });
    }
}
