//! fsGroup: every entry of an emptyDir belongs to the group, and its members may read and write it.
//!
//! Source: Kubernetes v1.36, pkg/volume/volume_linux.go. A fresh volume is done at once; one that holds files already
//! (a pod that runs again under its uid) may be huge, and PID 1 does nothing slow: the start helper walks it, before
//! the container is made, and leaves a mark, so that it is walked once for each set-up of the pod.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, fchownat};
use serde::{Deserialize, Serialize};

use super::beneath::{self, Way};
use super::remove::kind;
use super::{Place, set_mode};
use crate::pod::Pod;
use crate::pod::spec::{Volume, VolumeSource};

/// What members of the group may do with files: read and write.
const FILES: u32 = 0o660;
/// And with directories: enter them too.
const ENTER: u32 = 0o110;
const SETGID: u32 = 0o2000;
/// In the bundle.
const ORDERS: &str = "own.json";

/// One volume to be walked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub volume: String,
    pub dir: PathBuf,
    pub gid: u32,
    /// fsGroupChangePolicy OnRootMismatch.
    pub on_mismatch: bool,
    /// The mark that is left.
    pub done: PathBuf,
}

/// At the set-up of the pod: a volume without entries is done at once.
pub(super) fn begin(pod: &Pod, volume: &Volume, dir: &Path, place: &Place) -> io::Result<()> {
    let Some(gid) = pod.security.fs_group else { return Ok(()) };
    if fs::read_dir(dir)?.next().is_some() {
        return Ok(());
    }
    own_dir(dir, place.id(&volume.source, gid), FILES)?;
    leave_mark(&mark(pod, volume, place))
}

/// For a start helper: the volumes that are still to be walked. hostPath is never among them.
pub fn orders(pod: &Pod, place: &Place) -> Vec<Own> {
    let Some(gid) = pod.security.fs_group else { return Vec::new() };
    let owned = pod.volumes.iter().filter(|volume| match volume.source {
        VolumeSource::EmptyDir { .. } => true,
        // Written with their group.
        VolumeSource::Projected { .. } => false,
        VolumeSource::HostPath { .. } | VolumeSource::Image { .. } => false,
    });
    let order = |volume: &Volume| {
        Some(Own {
            volume: volume.name.clone(),
            dir: place.dir(&pod.uid, volume)?,
            gid: place.id(&volume.source, gid),
            on_mismatch: pod.security.fs_group_on_mismatch,
            done: mark(pod, volume, place),
        })
    };
    owned.filter_map(order).filter(|own| !own.done.exists()).collect()
}

fn mark(pod: &Pod, volume: &Volume, place: &Place) -> PathBuf {
    place.sandbox(&pod.uid).join("owned").join(&volume.name)
}

fn leave_mark(mark: &Path) -> io::Result<()> {
    if let Some(folder) = mark.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(mark, "")
}

/// Puts the orders where the start helper looks for them.
pub fn stage(bundle: &Path, orders: &[Own]) -> io::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    fs::write(bundle.join(ORDERS), serde_json::to_vec(orders)?)
}

/// In the start helper: does what was staged, if anything was. An error names the volume.
pub fn carry_out(bundle: &Path) -> Result<(), String> {
    let orders: Vec<Own> = match fs::read(bundle.join(ORDERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{ORDERS}: {error}")),
        Ok(text) => serde_json::from_slice(&text).map_err(|error| format!("{ORDERS}: {error}"))?,
    };
    for own in &orders {
        own.walk()
            .and_then(|()| leave_mark(&own.done))
            .map_err(|error| format!("applying fsGroup to volume \"{}\": {error}", own.volume))?;
    }
    Ok(())
}

impl Own {
    fn walk(&self) -> io::Result<()> {
        let meta = fs::symlink_metadata(&self.dir)?;
        if self.on_mismatch && matches(meta.gid(), meta.mode(), self.gid) {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        below(open(&self.dir, flags, Mode::empty())?, self.gid)?;
        // Last, so that a walk that was cut short does not look like a whole one.
        own_dir(&self.dir, self.gid, FILES)
    }
}

/// Whether a root with this group and mode makes the walk needless under OnRootMismatch.
fn matches(gid: u32, mode: u32, wanted: u32) -> bool {
    gid == wanted && mode & (FILES | ENTER) == FILES | ENTER && mode & SETGID != 0
}

/// Gives a directory to the group: `files` are the bits of files, 0660 or 0440.
pub(super) fn own_dir(dir: &Path, gid: u32, files: u32) -> io::Result<()> {
    lchown(dir, None, Some(gid))?;
    let mode = fs::symlink_metadata(dir)?.mode() & 0o7777;
    set_mode(dir, mode | files | ENTER | SETGID)
}

/// Gives all that is in the directory to the group. Its containers may run and play tricks meanwhile: each entry is
/// opened first, never through a link or into another mount, and changed by its descriptor.
fn below(dir: OwnedFd, gid: u32) -> io::Result<()> {
    let mut entries = Dir::from_fd(dir)?;
    // Read whole before anything is changed: what moves meanwhile must not make it endless.
    let names: Vec<CString> =
        entries.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect();
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        match entry(entries.as_fd(), name, gid) {
            // Gone meanwhile, or something is mounted there that is not the volume's.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EXDEV)) => {}
            other => other.map_err(|error| io::Error::new(error.kind(), format!("{name:?}: {error}")))?,
        }
    }
    Ok(())
}

fn entry(parent: BorrowedFd, name: &CStr, gid: u32) -> io::Result<()> {
    // Of a link, this opens the link.
    let fd = beneath::open(parent, name, libc::O_PATH, Way::Strict)?;
    let stat = fstat(&fd)?;
    let folder = kind(&stat) == SFlag::S_IFDIR;
    let wanted = stat.st_mode & 0o7777 | FILES | if folder { ENTER | SETGID } else { 0 };
    if stat.st_gid != gid {
        fchownat(&fd, c"", None, Some(Gid::from_raw(gid)), AtFlags::AT_EMPTY_PATH)?;
    }
    if kind(&stat) == SFlag::S_IFLNK {
        return Ok(());
    }
    // Also after the change of group, which takes set-id bits away.
    if stat.st_gid != gid || stat.st_mode & 0o7777 != wanted {
        set_mode(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())), wanted)?;
    }
    if folder {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        below(beneath::open(fd.as_fd(), c".", flags, Way::Strict)?, gid)?;
    }
    Ok(())
}
