//! mountPropagation: a volume's directory on a shared mount, so that mounts made in it travel.
//!
//! Where the kubelet asks that the host's directory lies on a shared mount already and else refuses the container, we
//! make it lie on one: the mount that it lies on is marked shared, and stays so. No container gets anything by that
//! but those that ask for it. (A bind of the directory over itself would touch less, but hides what is mounted below:
//! of a directory around our own, every pod's volumes and namespaces.)

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::table;

/// Marks the mount that `dir` lies on, and those below `dir` but for ours, which are below `run`: what is bound there for
/// a container that is about to start was made private before.
pub fn share(dir: &Path, run: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    // Without one nothing is ours yet.
    let run = fs::canonicalize(run).unwrap_or_else(|_| run.to_owned());
    let none = None::<&str>;
    for below in table::mounts(&dir).iter().filter(|below| **below != dir && !below.starts_with(&run)) {
        match mount(none, below, none, MsFlags::MS_SHARED, none) {
            // Gone meanwhile.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for place in dir.ancestors() {
        match mount(none, place, none, MsFlags::MS_SHARED, none) {
            Ok(()) => return Ok(()),
            // Not a mount point: further up.
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("lies on no mount"))
}
