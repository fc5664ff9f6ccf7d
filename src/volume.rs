//! emptyDir and hostPath: made, found for a mount, and removed without ever touching what is not ours.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::pod::spec::{HostPathType, Medium, Mount, VolumeSource};
use crate::pod::{Container, Pod};

/// Makes the pod's volumes; what is there already stays as it is. A memory volume has at most `memory_bound` bytes.
/// An error is the message of the pod's FailedMount event.
pub fn set_up(pod: &Pod, root: &Path, memory_bound: u64) -> Result<(), String> {
    for volume in &pod.volumes {
        let named = |why: String| format!("volume {:?}: {why}", volume.name);
        match &volume.source {
            VolumeSource::EmptyDir { medium, limit } => {
                let dir = empty_dir(root, &pod.uid, &volume.name);
                let size = (*medium == Medium::Memory)
                    .then(|| limit.filter(|&limit| limit > 0).unwrap_or(u64::MAX).min(memory_bound));
                make_empty(&dir, size).map_err(|error| named(format!("{}: {error}", dir.display())))?;
            }
            VolumeSource::HostPath { path, kind } => check(Path::new(path), *kind).map_err(named)?,
            VolumeSource::Projected { .. } | VolumeSource::Image { .. } => {
                return Err(named("is of a kind that is not supported yet".into()));
            }
        }
    }
    Ok(())
}

/// What is to be bind-mounted for a volumeMount of the container.
pub fn source(
    pod: &Pod,
    container: &Container,
    mount: &Mount,
    root: &Path,
    run: &Path,
) -> Result<PathBuf, String> {
    let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume);
    let base = match volume.map(|volume| &volume.source) {
        Some(VolumeSource::EmptyDir { .. }) => empty_dir(root, &pod.uid, &mount.volume),
        Some(VolumeSource::HostPath { path, .. }) => PathBuf::from(path),
        Some(VolumeSource::Projected { .. } | VolumeSource::Image { .. }) | None => {
            return Err(format!("volume {:?} not found", mount.volume));
        }
    };
    let sub = mount.sub_path.as_deref().unwrap_or_default();
    if sub.is_empty() {
        return Ok(base);
    }
    if sub.starts_with('/') {
        return Err(format!("subPath {sub:?} must not be an absolute path"));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("subPath {sub:?} must not contain \"..\""));
    }
    let index = container.mounts.iter().position(|other| other == mount).unwrap_or(0);
    let dir = run.join("pods").join(&pod.uid).join("subpaths").join(&mount.volume).join(&container.name);
    bind_sub(&base, sub, &dir.join(index.to_string())).map_err(|error| format!("subPath {sub:?}: {error}"))
}

/// Unmounts and removes what `set_up` and `source` made for the pod; again and again until it succeeds. It follows
/// no symlink and enters no other file system: what is mounted there and cannot be unmounted is an error.
pub fn tear_down(uid: &str, root: &Path, run: &Path) -> io::Result<()> {
    if uid.is_empty() || uid.contains('/') || uid == "." || uid == ".." {
        return Err(io::Error::other(format!("{uid:?} is no uid")));
    }
    let dirs = [run.join("pods").join(uid).join("subpaths"), root.join("pods").join(uid).join("volumes")];
    for dir in &dirs {
        remove(dir)
            .map_err(|error| io::Error::new(error.kind(), format!("remove {}: {error}", dir.display())))?;
    }
    Ok(())
}

fn empty_dir(root: &Path, uid: &str, name: &str) -> PathBuf {
    root.join("pods").join(uid).join("volumes/kubernetes.io~empty-dir").join(name)
}

fn make_empty(dir: &Path, size: Option<u64>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if let Some(size) = size
        && !mounted(dir)?
    {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        // Memory that is swapped out is no longer in memory; kernels before 6.4 do not know the option.
        let option = |more: &str| format!("size={size},mode=0777{more}");
        mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(option(",noswap").as_str()))
            .or_else(|_| mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(option("").as_str())))?;
    }
    // Whatever the umask is.
    fs::set_permissions(dir, Permissions::from_mode(0o777))
}

/// Whether something is mounted just there.
fn mounted(dir: &Path) -> io::Result<bool> {
    let parent = dir.parent().unwrap_or(dir);
    let device = |path: &Path| nix::sys::stat::lstat(path).map(|stat| stat.st_dev);
    Ok(device(dir)? != device(parent)?)
}

/// The checks of hostPath.type (Kubernetes API reference, HostPathVolumeSource), creating where the type says so.
fn check(path: &Path, kind: HostPathType) -> Result<(), String> {
    let shown = path.display();
    if path.components().any(|part| part == std::path::Component::ParentDir) {
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

/// Opens `sub` below `base` without following any symlink, makes missing directories, and binds it to `target`:
/// the container may exchange names in its volume meanwhile, but not the file behind a descriptor.
fn bind_sub(base: &Path, sub: &str, target: &Path) -> io::Result<PathBuf> {
    let path = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let mut fd = open(base, path, Mode::empty())?;
    let mode = Mode::from_bits_truncate(fstat(&fd)?.st_mode & 0o7777);
    for part in sub.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let next = match openat(&fd, part, path | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::ENOENT) => {
                mkdirat(&fd, part, mode)?;
                let made = openat(&fd, part, path | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY, Mode::empty())?;
                // Whatever the umask is.
                fs::set_permissions(proc_path(&made), Permissions::from_mode(mode.bits()))?;
                made
            }
            other => other?,
        };
        if kind(&fstat(&next)?) == SFlag::S_IFLNK {
            return Err(io::Error::other(format!("{part:?} is a symbolic link")));
        }
        fd = next;
    }
    while umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind(&fstat(&fd)?) == SFlag::S_IFDIR {
        fs::create_dir_all(target)?;
    } else {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(target)?;
    }
    mount(Some(proc_path(&fd).as_path()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(target.to_owned())
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Removes a tree of ours. Every mount in it is detached before anything below it could be seen.
fn remove(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    remove_at(parent.as_fd(), &CString::new(name.as_bytes())?)
}

fn remove_at(parent: BorrowedFd, name: &CStr) -> io::Result<()> {
    detach(parent, name)?;
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if kind(&stat) != SFlag::S_IFDIR {
        return gone(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir));
    }
    // RESOLVE_NO_XDEV refuses a mount even of the same file system, which comparing devices would miss.
    let fd = open_beneath(parent, name)?;
    if fstat(&fd)?.st_dev != fstat(parent)?.st_dev {
        return Err(io::Error::other(format!("{name:?} is another file system")));
    }
    let mut entries = Dir::from_fd(fd)?;
    let names: Vec<CString> =
        entries.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect();
    for entry in names.iter().filter(|entry| !matches!(entry.to_bytes(), b"." | b"..")) {
        remove_at(entries.as_fd(), entry)?;
    }
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))
}

/// Detaches all that is mounted on this name, one over the other.
fn detach(parent: BorrowedFd, name: &CStr) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.to_string_lossy());
    loop {
        match umount2(path.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, not there, or a symlink.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ELOOP) => return Ok(()),
            // Off a board without the right to unmount: openat2 then refuses to enter a mount.
            Err(Errno::EPERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_beneath(parent: BorrowedFd, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    let size = std::mem::size_of::<libc::open_how>();
    // SAFETY: the pointers live through the call, and the size is that of the struct.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, parent.as_raw_fd(), name.as_ptr(), &how, size) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT)
}

fn gone(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("podinit-volume-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Detached again at the end, even when a test fails: a bind must not be left on the host.
    struct Bind(PathBuf);

    impl Bind {
        fn new(from: &Path, to: &Path) -> Self {
            fs::create_dir_all(to).unwrap();
            mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("needs root to mount");
            Bind(to.to_owned())
        }
    }

    impl Drop for Bind {
        fn drop(&mut self) {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn tear_down_empties_neither_binds_nor_link_targets() {
        let top = fresh("tear");
        let (root, run, host) = (top.join("root"), top.join("run"), top.join("host"));
        fs::create_dir_all(host.join("deep")).unwrap();
        fs::write(host.join("deep/precious"), "keep").unwrap();
        let volume = empty_dir(&root, "u", "data");
        make_empty(&volume, None).unwrap();
        fs::write(volume.join("mine"), "x").unwrap();
        symlink(&host, volume.join("link")).unwrap();
        let memory = empty_dir(&root, "u", "memory");
        make_empty(&memory, Some(1 << 20)).unwrap();
        assert!(mounted(&memory).unwrap());
        make_empty(&memory, Some(1 << 20)).unwrap();
        fs::write(memory.join("inside"), "x").unwrap();
        // Binds of the same file system, which have the same device number, and one over another.
        let _one = Bind::new(&host, &volume.join("bind"));
        let _two = Bind::new(&host, &volume.join("sub/bind"));
        let _three = Bind::new(&host, &volume.join("sub/bind"));
        let _four = Bind::new(&host, &run.join("pods/u/subpaths/v/c/0"));
        tear_down("u", &root, &run).unwrap();
        assert_eq!(fs::read_to_string(host.join("deep/precious")).unwrap(), "keep");
        assert!(!root.join("pods/u/volumes").exists() && !run.join("pods/u/subpaths").exists());
        tear_down("u", &root, &run).unwrap();
        for bad in ["", ".", "..", "../x"] {
            assert!(tear_down(bad, &root, &run).is_err(), "{bad:?}");
        }
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn a_mount_is_not_entered() {
        let top = fresh("xdev");
        let (host, inside) = (top.join("host"), top.join("tree"));
        fs::create_dir_all(&host).unwrap();
        let _bind = Bind::new(&host, &inside.join("bind"));
        let fd = open(&inside, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(open_beneath(fd.as_fd(), c"bind").unwrap_err().raw_os_error(), Some(libc::EXDEV));
        drop(_bind);
        assert!(open_beneath(fd.as_fd(), c"bind").is_ok());
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn host_path_types() {
        use HostPathType::*;
        let top = fresh("types");
        fs::write(top.join("file"), "").unwrap();
        let _socket = UnixListener::bind(top.join("socket")).unwrap();
        let all = [Unset, DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice];
        let table: [(PathBuf, &[HostPathType]); 4] = [
            (top.clone(), &[Unset, DirectoryOrCreate, Directory]),
            (top.join("file"), &[Unset, FileOrCreate, File]),
            (top.join("socket"), &[Unset, FileOrCreate, File, Socket]),
            ("/dev/null".into(), &[Unset, FileOrCreate, File, CharDevice]),
        ];
        for (path, good) in table {
            for kind in all {
                assert_eq!(check(&path, kind).is_ok(), good.contains(&kind), "{} {kind:?}", path.display());
            }
        }
        for kind in all {
            let missing = top.join("missing");
            let made = check(&missing, kind).is_ok();
            assert_eq!(made, matches!(kind, Unset | DirectoryOrCreate | FileOrCreate), "{kind:?}");
            assert_eq!(missing.is_file(), kind == FileOrCreate);
            let _ = fs::remove_file(&missing).or_else(|_| fs::remove_dir(&missing));
        }
        let message = check(&top.join("file"), Directory).unwrap_err();
        assert!(
            message.starts_with("hostPath type check failed: ")
                && message.ends_with("file is not a directory")
        );
        assert!(check(Path::new("/var/../etc"), Directory).is_err());
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn sub_paths_follow_no_link() {
        let top = fresh("sub");
        let (base, target) = (top.join("base"), top.join("run/0"));
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("file"), "text").unwrap();
        symlink("/etc", base.join("out")).unwrap();
        for bad in ["out", "out/passwd", "file/below"] {
            assert!(bind_sub(&base, bad, &target).is_err(), "{bad}");
        }
        let _undo = Bind(target.clone());
        bind_sub(&base, "a/b", &target).unwrap();
        fs::write(target.join("x"), "").unwrap();
        assert!(base.join("a/b/x").exists());
        let _undo = Bind(top.join("run/1"));
        bind_sub(&base, "file", &top.join("run/1")).unwrap();
        assert_eq!(fs::read_to_string(top.join("run/1")).unwrap(), "text");
        drop(_undo);
        umount2(&target, MntFlags::MNT_DETACH).unwrap();
        let _ = umount2(&top.join("run/1"), MntFlags::MNT_DETACH);
        fs::remove_dir_all(&top).unwrap();
    }
}
