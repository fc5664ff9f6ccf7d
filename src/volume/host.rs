//! hostPath: the checks of its type (Kubernetes API reference, HostPathVolumeSource).

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use crate::pod::spec::HostPathType;

/// Checks, and creates where the type says so.
pub fn check(path: &Path, kind: HostPathType) -> Result<(), String> {
    let shown = path.display();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("hostPath {shown} must not contain \"..\""));
    }
    let dir = |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path);
    let found = fs::metadata(path).ok().map(|meta| meta.file_type());
    let made = match (kind, found) {
        // As a runtime does: a missing source becomes a directory.
        (HostPathType::Unset | HostPathType::DirectoryOrCreate, None) => dir(path),
        (HostPathType::FileOrCreate, None) => {
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(drop)
        }
        _ => Ok(()),
    };
    made.map_err(|error| format!("create {shown}: {error}"))?;
    let now = fs::metadata(path).ok().map(|meta| meta.file_type());
    let (good, what) = match kind {
        HostPathType::Unset => (true, ""),
        HostPathType::Directory | HostPathType::DirectoryOrCreate => {
            (now.is_some_and(|kind| kind.is_dir()), "directory")
        }
        // The peer's own table: sockets and devices are files too.
        HostPathType::File | HostPathType::FileOrCreate => (now.is_some_and(|kind| !kind.is_dir()), "file"),
        HostPathType::Socket => (now.is_some_and(|kind| kind.is_socket()), "socket file"),
        HostPathType::CharDevice => (now.is_some_and(|kind| kind.is_char_device()), "character device"),
        HostPathType::BlockDevice => (now.is_some_and(|kind| kind.is_block_device()), "block device"),
    };
    if good { Ok(()) } else { Err(format!("hostPath type check failed: {shown} is not a {what}")) }
}
