//! Room on the store's file system. What does not fit is refused, before it starts where its size is known, and a
//! reserve always stays free.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// No image takes the last of the disk: on a board logs, pods' volumes and the machine's state lie on the same one, and
/// a log that cannot be written is the last thing that one wants of a disk that is full. The logs of one container are
/// 50 MiB at most by default; on a small file system the reserve is a tenth of it.
const RESERVE: u64 = 64 << 20;
/// The disk is looked at each time so much has come in.
const STEP: u64 = 1 << 20;

/// Whether `need` bytes may come in beside the reserve; the error tells all sizes.
pub fn check(dir: &Path, need: u64) -> io::Result<()> {
    let disk = statvfs(dir).map_err(io::Error::from)?;
    let size = disk.fragment_size();
    let (free, whole) = (disk.blocks_available() * size, disk.blocks() * size);
    let reserve = reserve(whole);
    if need.saturating_add(reserve) <= free {
        return Ok(());
    }
    let needed = if need > 0 { format!("at least {need} bytes are needed, ") } else { String::new() };
    let why = format!(
        "{FULL} of {}: {needed}{free} of {whole} bytes are free, and {reserve} are kept for logs and \
         state: remove images with podinit image remove or prune -a",
        dir.display()
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// What no image takes of a file system of this size.
pub fn reserve(whole: u64) -> u64 {
    RESERVE.min(whole / 10)
}

/// Whether an error's text tells of a full disk, by ours or by the kernel's words.
pub fn is_full(why: &str) -> bool {
    why.contains(FULL) || why.contains("os error 28")
}

const FULL: &str = "no space on the disk";

/// A reader that fails before what is written of it takes the reserve.
pub struct Guarded<R> {
    inner: R,
    dir: PathBuf,
    /// Bytes until the next look.
    left: u64,
}

impl<R: Read> Guarded<R> {
    pub fn new(inner: R, dir: &Path) -> Self {
        Guarded { inner, dir: dir.to_owned(), left: 0 }
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            check(&self.dir, 0)?;
            self.left = STEP;
        }
        let n = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
