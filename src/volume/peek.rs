//! A file that a container wrote into an emptyDir, as fileKeyRef reads it: never out of the volume, never much, never
//! waiting for anything.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::beneath::{self, Way};
use super::{Place, VolumeSource};
use crate::pod::Pod;

/// The most that is read of one file.
const LARGEST: u64 = 64 << 10;

/// The bytes of `path` in the pod's emptyDir of this name; None: there is no such file. Symbolic links are followed as
/// long as they stay in the volume. An error is the message of a CreateContainerConfigError.
pub fn read(pod: &Pod, volume: &str, path: &str, place: &Place) -> Result<Option<Vec<u8>>, String> {
    let found = pod.volumes.iter().find(|known| known.name == volume);
    let empty = found.filter(|known| matches!(known.source, VolumeSource::EmptyDir { .. }));
    let dir = empty.and_then(|known| place.dir(&pod.uid, known));
    let dir = dir.ok_or_else(|| format!("volume {volume:?} is no emptyDir of the pod"))?;
    match bytes(&dir, path) {
        Ok(bytes) if bytes.len() as u64 > LARGEST => {
            Err(format!("{path:?} of volume {volume:?} holds more than {LARGEST} bytes"))
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(why) => Err(format!("{path:?} of volume {volume:?}: {why}")),
    }
}

fn bytes(dir: &Path, path: &str) -> io::Result<Vec<u8>> {
    let dir = File::open(dir)?;
    // A pipe without a writer would hold PID 1 up for ever.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::from(beneath::open(dir.as_fd(), &CString::new(path)?, flags, Way::Inside)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::pod::sample;
    use crate::pod::spec::{Medium, RestartPolicy, Volume};

    #[test]
    fn only_what_lies_in_the_volume_is_read() {
        let top = std::env::temp_dir().join(format!("podinit-peek-{}", std::process::id()));
        let (root, run) = (top.join("root"), top.join("run"));
        let place = Place { root: &root, run: &run, users: None };
        let volume = |name: &str, source| Volume { name: name.into(), source };
        let pod = Pod {
            volumes: vec![
                volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, limit: None }),
                volume(
                    "host",
                    VolumeSource::HostPath {
                        path: "/etc".into(),
                        kind: crate::pod::spec::HostPathType::Unset,
                    },
                ),
            ],
            ..Arc::unwrap_or_clone(sample::pod(RestartPolicy::Always, &[], &["c"]))
        };
        let dir = place.dir("u1", &pod.volumes[0]).expect("an emptyDir");
        fs::create_dir_all(dir.join("deep")).expect("a directory");
        fs::write(dir.join("deep/file"), "A='1'").expect("a file");
        fs::write(dir.join("large"), vec![b'x'; 65537]).expect("a file");
        symlink("deep/file", dir.join("inside")).expect("a link");
        symlink("/etc/passwd", dir.join("outside")).expect("a link");
        symlink("../../../../..", dir.join("up")).expect("a link");
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let read = |volume: &str, path: &str| super::read(&pod, volume, path, &place);
        for path in ["deep/file", "inside", "./deep//file"] {
            assert_eq!(read("data", path), Ok(Some(b"A='1'".to_vec())), "{path}");
        }
        for path in ["none", "deep/file/none"] {
            assert_eq!(read("data", path), Ok(None), "{path}");
        }
        for path in ["outside", "up/etc/passwd", "../x", "pipe", "deep", "large"] {
            assert!(read("data", path).is_err(), "{path}");
        }
        for volume in ["host", "nobody"] {
            assert!(read(volume, "passwd").is_err_and(|why| why.contains("is no emptyDir")), "{volume}");
        }
        fs::remove_dir_all(&top).expect("removed");
    }
}
