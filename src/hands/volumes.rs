//! Volumes: what the projected ones hold, and what a container sees of all of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use log::warn;
use nix::sys::utsname::uname;

use super::{Hands, paths};
use crate::container::bundle::Bind;
use crate::container::{mapped, sandbox};
use crate::image::mount as layers;
use crate::pod::facts::PodFacts;
use crate::pod::project::{self, Contents};
use crate::pod::spec::{Propagation, VolumeSource};
use crate::pod::users::Ids;
use crate::pod::{Container, Fact, Pod, mount};
use crate::spawn::spawn;
use crate::volume::{self, Place, Users};

impl Hands {
    pub(super) fn volumes(&self) -> Place<'_> {
        Place { root: &self.config.root, run: &self.config.run, users: None }
    }

    /// The same for a pod that has these ids, once its user namespace is there.
    pub(super) fn volumes_for(&self, pod: &Pod, ids: Option<Ids>) -> Place<'_> {
        // All that is not in memory lies on this file system.
        let mapped = || mapped::possible(&self.config.root, &self.users(pod)).unwrap_or(false);
        Place { users: ids.map(|ids| Users { ids, mapped: mapped() }), ..self.volumes() }
    }

    /// The user namespace of a pod that has its own.
    pub(super) fn users(&self, pod: &Pod) -> PathBuf {
        paths::pod(&self.config, pod).sandbox.join("ns").join(sandbox::USER)
    }

    /// Image layers as a pod with these ids sees them: shown once for all its life, unless their files are replaced.
    pub(super) fn layers_for(
        &self,
        pod: &Pod,
        ids: Option<Ids>,
        layers: Vec<PathBuf>,
    ) -> io::Result<Vec<PathBuf>> {
        if ids.is_none() {
            return Ok(layers);
        }
        let (shown, users) = (paths::pod(&self.config, pod).sandbox.join("layers"), self.users(pod));
        let show = |layer: PathBuf| {
            let target = shown.join(layer.file_name().unwrap_or_default());
            let fresh = !target.exists();
            mapped::layer(&layer, &target, &users)?;
            if fresh {
                layers::let_go(&target);
            }
            Ok(target)
        };
        layers.into_iter().map(show).collect()
    }

    /// What the pod's projected volumes should hold now, or the message of its FailedMount event.
    pub(super) fn contents(&self, pod: &Pod) -> (u64, Result<Contents, String>) {
        let contents = project::contents(pod, &self.configs, &self.node.allocatable);
        let contents = contents.map_err(|trouble| volume::failed(&trouble.volume, &trouble.why));
        (project::digest(pod, &self.configs), contents)
    }

    /// Writes the projected volumes anew. Where that fails, each holds what it held or what it should.
    pub(super) fn project(&mut self, pod: &PodFacts) -> Fact {
        let uid = pod.spec.uid.clone();
        let (digest, contents) = self.contents(&pod.spec);
        match contents
            .and_then(|contents| volume::project(&pod.spec, &self.volumes_for(&pod.spec, pod.ids), &contents))
        {
            Ok(()) => Fact::Projected { uid, digest },
            Err(why) => Fact::ProjectFailed { uid, digest, why },
        }
    }

    /// What is mounted into the container. `env`: its environment, for subPathExpr.
    pub(super) fn binds(
        &self,
        pod: &Pod,
        ids: Option<Ids>,
        container: &Container,
        env: &[(String, String)],
    ) -> Result<Vec<Bind>, String> {
        let place = self.volumes_for(pod, ids);
        let strongest = volume::strongest(&container.mounts);
        if strongest == Propagation::Bidirectional && !container.security.privileged {
            return Err("Bidirectional mount propagation is available only to privileged containers".into());
        }
        let mut binds = Vec::new();
        for (index, mount) in container.mounts.iter().enumerate() {
            let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume);
            let volume = volume.ok_or_else(|| format!("volume {:?} not found", mount.volume))?;
            if let VolumeSource::Image { reference, .. } = &volume.source {
                let dir = volume::image_dir(pod, volume, &place);
                self.show_image(pod, ids, reference, &dir.unwrap_or_default())
                    .map_err(|why| format!("volume {:?}: {why}", volume.name))?;
            }
            let sub = mount::sub_path(mount, env)?;
            let recursive_read_only = mount::recursive(mount, recursive_read_only())?;
            let mut source = volume::source(pod, container, index, &sub, strongest, &place)?;
            if ids.is_some() {
                // Also where nothing is mapped: the way to the volume may be closed to the pod's root.
                let users = Some(self.users(pod)).filter(|_| place.is_mapped(&volume.source));
                let target = self.staged(pod, &container.name).join(index.to_string());
                mapped::bind(&source, &target, users.as_deref(), mount.propagation)
                    .map_err(|why| volume::failed(&volume.name, &why.to_string()))?;
                source = target;
            }
            binds.push(Bind {
                source,
                target: Path::new("/").join(&mount.path),
                read_only: mount.read_only || volume::read_only(&volume.source),
                recursive_read_only,
                propagation: mount.propagation,
            });
        }
        Ok(binds)
    }

    /// Where what a container of a pod with its own users mounts is shown as it sees it.
    pub(super) fn staged(&self, pod: &Pod, container: &str) -> PathBuf {
        paths::pod(&self.config, pod).sandbox.join("mapped").join(container)
    }

    /// Removes a tree that holds no mount any more; a huge one by a helper, for PID 1 does nothing slow.
    pub(super) fn discard(&self, dir: &Path) -> io::Result<()> {
        volume::discard(dir, &self.volumes().trash()).map(|huge| self.bin(huge))
    }

    /// Has a helper remove what was moved into the trash.
    pub(super) fn bin(&self, huge: Option<PathBuf>) {
        let Some(path) = huge else { return };
        if let Err(why) = spawn(&["__remove", &path.display().to_string()], &[], None) {
            // The next life finds it there.
            warn!("{}: cannot remove yet: {why}", path.display());
        }
    }

    /// What a former life had no time to remove.
    pub(super) fn empty_trash(&self) {
        let left = fs::read_dir(self.volumes().trash()).into_iter().flatten().flatten();
        left.for_each(|entry| self.bin(Some(entry.path())));
    }

    /// Mounts the read-only view of an image; the one of an earlier container of the pod stays, unless a layer's file was
    /// replaced since.
    fn show_image(&self, pod: &Pod, ids: Option<Ids>, reference: &str, dir: &Path) -> Result<(), String> {
        let image = self.store.find(reference)?;
        let image = image.ok_or_else(|| format!("image \"{reference}\" is no longer in the store"))?;
        let lower = layers::mount_layers(&self.store, &image, &self.config.run);
        let shown = lower.and_then(|lower| {
            let lower = self.layers_for(pod, ids, lower)?;
            // Beside the volumes, which hold what the pod put there.
            let note =
                paths::pod(&self.config, pod).sandbox.join("views").join(dir.file_name().unwrap_or_default());
            let former = fs::read_to_string(&note).ok();
            let now = layers::text(&lower);
            if former.as_ref().is_some_and(|former| layers::is_replaced(former, &now)) {
                layers::unmount(dir)?;
            } else if former.is_some() {
                return layers::mount_view(&lower, dir);
            }
            layers::mount_view(&lower, dir)?;
            fs::create_dir_all(note.parent().unwrap_or(&note))?;
            fs::write(&note, now)
        });
        shown.map_err(|why| format!("image \"{reference}\": {why}"))
    }
}

/// Whether the kernel can make all mounts of a tree read-only at once: mount_setattr(2), Linux 5.12.
fn recursive_read_only() -> bool {
    let Ok(name) = uname() else { return false };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 12)
}
