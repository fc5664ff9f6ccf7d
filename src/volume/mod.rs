//! The volumes of a pod: made, filled, found for a mount, and removed without ever touching what is not ours.
//!
//! Where they are: `<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`, as the kubelet's, and what a mount needs
//! beside them in `<run>/pods/<uid>/`.

mod beneath;
mod empty;
pub mod group;
mod host;
mod peek;
mod projected;
mod remove;
mod share;
mod sub;
mod table;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use crate::pod::project::Contents;
use crate::pod::spec::{Medium, Mount, Plugin, Propagation, PullPolicy, Volume, VolumeSource};
use crate::pod::users::Ids;
use crate::pod::{Container, Pod};

pub use group::Own;
pub use peek::read;
pub use remove::{discard, tree as remove_tree};
pub use table::mounts;

/// Where volumes are.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Survives podinit: the data directory.
    pub root: &'a Path,
    /// Gone with the boot: the run directory.
    pub run: &'a Path,
    /// Of a pod with a user namespace of its own.
    pub users: Option<Users>,
}

/// Whose the files in a pod's volumes are that has a user namespace of its own.
#[derive(Clone, Copy, Debug)]
pub struct Users {
    pub ids: Ids,
    /// The pod's volumes on disk are shown to it by idmapped mounts, so that they hold its ids as they are. All others
    /// that we make are for this pod and this boot only, and hold the machine's.
    pub mapped: bool,
}

impl Place<'_> {
    /// What stands in this volume for one of the pod's ids.
    fn id(&self, source: &VolumeSource, id: u32) -> u32 {
        let shifted = |users: Users| users.ids.machine(id).unwrap_or(id);
        match (source, self.users) {
            (VolumeSource::EmptyDir { medium: Medium::Disk, .. }, Some(users)) if users.mapped => id,
            (VolumeSource::EmptyDir { .. } | VolumeSource::Projected { .. }, Some(users)) => shifted(users),
            (VolumeSource::HostPath { .. } | VolumeSource::Image { .. }, _) | (_, None) => id,
        }
    }

    /// Whether a pod with a user namespace of its own sees this volume by an idmapped mount. (An image volume's layers
    /// are so mounted themselves.)
    pub fn is_mapped(&self, source: &VolumeSource) -> bool {
        match source {
            VolumeSource::EmptyDir { medium: Medium::Disk, .. } => {
                self.users.is_some_and(|users| users.mapped)
            }
            VolumeSource::HostPath { .. } => self.users.is_some(),
            VolumeSource::EmptyDir { .. } | VolumeSource::Projected { .. } | VolumeSource::Image { .. } => {
                false
            }
        }
    }

    /// Gives a directory that was just made to the pod's root.
    fn give(&self, source: &VolumeSource, dir: &Path) -> io::Result<()> {
        let root = self.id(source, 0);
        match fs::symlink_metadata(dir)?.uid() {
            0 if root != 0 => lchown(dir, Some(root), Some(root)),
            _ => Ok(()),
        }
    }

    fn volumes(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid).join("volumes")
    }

    /// What is still to be removed, by a helper: `<root>/trash`.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    fn sandbox(&self, uid: &str) -> PathBuf {
        self.run.join("pods").join(uid)
    }

    /// The volume's directory; None: the host's own.
    fn dir(&self, uid: &str, volume: &Volume) -> Option<PathBuf> {
        let plugin = match &volume.source {
            VolumeSource::EmptyDir { .. } => "empty-dir",
            VolumeSource::HostPath { .. } => return None,
            VolumeSource::Projected { plugin, .. } => match plugin {
                Plugin::ConfigMap => "configmap",
                Plugin::Secret => "secret",
                Plugin::DownwardApi => "downward-api",
                Plugin::Projected => "projected",
            },
            VolumeSource::Image { .. } => "image",
        };
        Some(self.volumes(uid).join(format!("kubernetes.io~{plugin}")).join(&volume.name))
    }
}

/// Makes the pod's volumes; what is there already stays as it is. Memory volumes have at most `memory_bound` bytes (0:
/// not known). An error is the message of the pod's FailedMount event. Image volumes are not made here: their image may
/// still have to come.
pub fn set_up(pod: &Pod, place: &Place, contents: &Contents, memory_bound: u64) -> Result<(), String> {
    for volume in &pod.volumes {
        let named = |why: String| failed(&volume.name, &why);
        match &volume.source {
            VolumeSource::EmptyDir { medium, limit } => {
                let Some(dir) = place.dir(&pod.uid, volume) else { continue };
                empty::make(&dir, empty::kind(pod, *medium, *limit, memory_bound).map_err(named)?)
                    .and_then(|()| place.give(&volume.source, &dir))
                    .and_then(|()| group::begin(pod, volume, &dir, place))
                    .map_err(|error| named(format!("{}: {error}", dir.display())))?;
            }
            VolumeSource::HostPath { path, kind } => host::check(Path::new(path), *kind).map_err(named)?,
            VolumeSource::Projected { .. } => {
                let Some(dir) = place.dir(&pod.uid, volume) else { continue };
                let size = empty::kind(pod, Medium::Memory, None, memory_bound).map_err(named)?;
                let made = empty::make(&dir, size).and_then(|()| place.give(&volume.source, &dir));
                made.map_err(|error| named(format!("{}: {error}", dir.display())))?;
            }
            VolumeSource::Image { .. } => {}
        }
    }
    project(pod, place, contents)
}

/// Writes these contents into the pod's projected volumes: for a reader, each changes at one moment.
pub fn project(pod: &Pod, place: &Place, contents: &Contents) -> Result<(), String> {
    for volume in &pod.volumes {
        let (Some(files), Some(dir)) = (contents.get(&volume.name), place.dir(&pod.uid, volume)) else {
            continue;
        };
        let group = pod.security.fs_group.map(|gid| place.id(&volume.source, gid));
        projected::write(&dir, files, place.id(&volume.source, 0), group)
            .map_err(|error| failed(&volume.name, &error.to_string()))?;
    }
    Ok(())
}

/// In the kubelet's words.
pub fn failed(volume: &str, why: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}")
}

/// Whether a mount of the volume is read-only whatever it says itself.
pub fn read_only(source: &VolumeSource) -> bool {
    match source {
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => false,
        VolumeSource::Projected { .. } | VolumeSource::Image { .. } => true,
    }
}

/// Where the view of an image volume is to be mounted.
pub fn image_dir(pod: &Pod, volume: &Volume, place: &Place) -> Option<PathBuf> {
    place.dir(&pod.uid, volume)
}

/// The images that the container mounts.
pub fn images<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = (&'a str, PullPolicy)> {
    let mounted = |volume: &&Volume| container.mounts.iter().any(|mount| mount.volume == volume.name);
    pod.volumes.iter().filter(mounted).filter_map(|volume| match &volume.source {
        VolumeSource::Image { reference, pull } => Some((reference.as_str(), *pull)),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } | VolumeSource::Projected { .. } => {
            None
        }
    })
}

/// What is to be bind-mounted for the container's volumeMount of this index, `sub` of it (checked; empty: all).
/// `strongest`: of all its mounts.
pub fn source(
    pod: &Pod,
    container: &Container,
    index: usize,
    sub: &str,
    strongest: Propagation,
    place: &Place,
) -> Result<PathBuf, String> {
    let mount = container.mounts.get(index).ok_or_else(|| format!("no volumeMount {index}"))?;
    let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume);
    let base = match volume.map(|volume| &volume.source) {
        Some(VolumeSource::HostPath { path, .. }) => Some(PathBuf::from(path)),
        Some(_) => volume.and_then(|volume| place.dir(&pod.uid, volume)),
        None => None,
    };
    let base = base.ok_or_else(|| format!("volume {:?} not found", mount.volume))?;
    let sandbox = place.sandbox(&pod.uid);
    if mount.propagation != Propagation::None {
        share::share(&base, place.run).map_err(|error| format!("share {}: {error}", base.display()))?;
    }
    let target = || {
        let name = format!("{}/{}/{index}", mount.volume, container.name);
        sandbox.join("subpaths").join(name)
    };
    if !sub.is_empty() {
        let root = volume.map_or(0, |volume| place.id(&volume.source, 0));
        return sub::bind(&base, sub, &target(), mount.propagation, root).map_err(|error| {
            format!(
                "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": subPath {sub:?}: {error}",
                mount.volume, container.name
            )
        });
    }
    if mount.propagation != strongest {
        // libcontainer knows one propagation for all of a container's mounts: one that differs is bound from a mount
        // that already is as it should be.
        return sub::bind(&base, ".", &target(), mount.propagation, 0)
            .map_err(|error| format!("{}: {error}", base.display()));
    }
    Ok(base)
}

/// The strongest propagation of these mounts.
pub fn strongest(mounts: &[Mount]) -> Propagation {
    let rank = |propagation: &Propagation| match propagation {
        Propagation::None => 0,
        Propagation::HostToContainer => 1,
        Propagation::Bidirectional => 2,
    };
    mounts.iter().map(|mount| mount.propagation).max_by_key(rank).unwrap_or_default()
}

/// Unmounts and removes what all of this made for the pod; again and again until it succeeds. It follows no symlink
/// and enters no other file system: what is mounted there and cannot be unmounted is an error. Volumes that are too
/// large for PID 1 are moved away: the answer is where they are to be removed from.
pub fn tear_down(uid: &str, place: &Place) -> io::Result<Option<PathBuf>> {
    if uid.is_empty() || uid.contains('/') || uid == "." || uid == ".." {
        return Err(io::Error::other(format!("{uid:?} is no uid")));
    }
    let sandbox = place.sandbox(uid);
    let told = |dir: &Path| {
        let dir = dir.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("remove {dir}: {error}"))
    };
    for dir in ["mapped", "subpaths", "owned"].map(|name| sandbox.join(name)) {
        remove::tree(&dir).map_err(told(&dir))?;
    }
    let volumes = place.volumes(uid);
    let huge = remove::discard(&volumes, &place.trash()).map_err(told(&volumes))?;
    // After what was mounted over them.
    let layers = sandbox.join("layers");
    remove::tree(&layers).map_err(told(&layers))?;
    Ok(huge)
}

/// Sets the mode whatever the umask is.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(test)]
mod tests;
