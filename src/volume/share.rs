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

pub fn share(dir: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    let none = None::<&str>;
    for place in dir.ancestors() {
        match mount(none, place, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none) {
            Ok(()) => return Ok(()),
            // Not a mount point: further up.
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("lies on no mount"))
}
