//! emptyDir and hostPath (temporary).
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::pod::spec::{Mount, VolumeSource};
use crate::pod::{Container, Pod};

pub fn set_up(pod: &Pod, root: &Path, _bound: u64) -> Result<(), String> {
    for volume in &pod.volumes {
        if let VolumeSource::EmptyDir { .. } = volume.source {
            let path = place(pod, &volume.name, root);
            fs::create_dir_all(&path).map_err(|e| e.to_string())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}
fn place(pod: &Pod, name: &str, root: &Path) -> PathBuf {
    root.join("pods").join(&pod.uid).join("volumes/kubernetes.io~empty-dir").join(name)
}
pub fn source(pod: &Pod, _c: &Container, mount: &Mount, root: &Path, _run: &Path) -> Result<PathBuf, String> {
    let volume = pod.volumes.iter().find(|v| v.name == mount.volume).ok_or("no volume")?;
    Ok(match &volume.source {
        VolumeSource::EmptyDir { .. } => place(pod, &volume.name, root),
        VolumeSource::HostPath { path, .. } => path.into(),
    })
}
pub fn tear_down(uid: &str, root: &Path, _run: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root.join("pods").join(uid).join("volumes")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
