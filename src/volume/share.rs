//! mountPropagation: a volume's directory as a shared mount, so that mounts made in it travel.
//!
//! Where the kubelet asks that the host's directory lies on a shared mount already and else refuses the container, we
//! make it one: it is bound over itself. With the last pod that wanted it the bind goes again. What is mounted there
//! anyway is only marked shared, and stays so.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Makes it so for the pod of this sandbox directory.
pub fn share(dir: &Path, sandbox: &Path) -> io::Result<()> {
    let none = None::<&str>;
    let dir = fs::canonicalize(dir)?;
    let shared = || mount(none, &dir, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let name = format!("{:016x}", hasher.finish());
    match shared() {
        Ok(()) => {
            // Bound by us for another pod: it is this one's too.
            let pods = sandbox.parent().unwrap_or(sandbox);
            return if others(pods, sandbox, &name)? { note(sandbox, &name, &dir) } else { Ok(()) };
        }
        // Not a mount point.
        Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Noted first: a death in between leaves a note too many, not a mount.
    note(sandbox, &name, &dir)?;
    mount(Some(dir.as_path()), &dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    Ok(shared()?)
}

/// Undoes it where no other pod below `pods` wants it.
pub fn unshare(sandbox: &Path, pods: &Path) -> io::Result<()> {
    let notes = match fs::read_dir(sandbox.join("shared")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in notes {
        let entry = entry?;
        let dir = fs::read_link(entry.path())?;
        if !others(pods, sandbox, &entry.file_name().to_string_lossy())? {
            match umount2(&dir, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(io::Error::other(format!("unmount {}: {errno}", dir.display()))),
            }
        }
        fs::remove_file(entry.path())?;
    }
    fs::remove_dir(sandbox.join("shared"))
}

fn note(sandbox: &Path, name: &str, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(sandbox.join("shared"))?;
    match symlink(dir, sandbox.join("shared").join(name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether a pod other than the one of `sandbox` has this note, or (`sandbox` its own) has it already.
fn others(pods: &Path, sandbox: &Path, name: &str) -> io::Result<bool> {
    for pod in fs::read_dir(pods)? {
        let pod = pod?.path();
        if pod != sandbox && fs::symlink_metadata(pod.join("shared").join(name)).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}
