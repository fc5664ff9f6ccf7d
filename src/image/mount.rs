//! Layers mounted read-only once a boot, and on them the writable view of one container.

#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::{Image, Store, at, erofs, implied};

/// mount(2) takes one page of options; room is left for what is not a lower layer.
const OPTIONS_LIMIT: usize = 4000;
/// Another process may take the loop device that the kernel just called free.
const LOOP_TRIES: usize = 64;

/// Mounts each of the image's layers read-only below `<run>/layers`, where it stays until the machine ends, or until
/// another file is in its file's place. Returns the directories, topmost layer first, as overlay wants them.
pub fn mount_layers(store: &Store, image: &Image, run: &Path) -> io::Result<Vec<PathBuf>> {
    let mut layers = Vec::with_capacity(image.layers.len());
    for diff_id in image.layers.iter().rev() {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("mount layer {diff_id}: {error}"));
        let file = store.layer(diff_id);
        let target = run.join("layers").join(mount_name(diff_id, &file).map_err(told)?);
        // The empty layer, which some builders repeat, is one layer to overlay.
        if layers.contains(&target) {
            continue;
        }
        if mount_layer(&file, &target).map_err(told)? {
            let_go(&target);
        }
        layers.push(target);
    }
    Ok(layers)
}

/// Where a layer is mounted from this file: `<hex>.<device>.<inode>`. As long as it is mounted, no other file of that
/// file system has this number.
pub fn mount_name(diff_id: &str, file: &Path) -> io::Result<String> {
    let about = fs::metadata(file).map_err(|error| at(file, error))?;
    Ok(format!("{}.{:x}.{:x}", diff_id.trim_start_matches("sha256:"), about.dev(), about.ino()))
}

/// Which layer is mounted under this name.
pub fn diff_id(mount_name: &OsStr) -> String {
    let name = mount_name.to_string_lossy();
    format!("sha256:{}", name.split('.').next().unwrap_or_default())
}

/// What a view is made of, in words.
pub fn text(layers: &[PathBuf]) -> String {
    layers.iter().map(|layer| format!("{}\n", layer.file_name().unwrap_or_default().display())).collect()
}

/// Whether these are the same layers, from other files.
pub fn is_replaced(former: &str, now: &str) -> bool {
    let digits = |text: &str| -> Vec<String> {
        text.lines().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
    };
    former != now && digits(former) == digits(now)
}

/// Takes away what shows the same layer as `target` does and came from another file; containers that run from it keep it
/// until they end.
pub fn let_go(target: &Path) {
    let layer = |path: &Path| path.file_name().map(diff_id);
    let others = target.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    for other in others.map(|entry| entry.path()) {
        if other != target && layer(&other) == layer(target) {
            let gone = match umount2(&other, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // Of a mount that failed there is the directory only.
                Ok(()) | Err(Errno::EINVAL) => fs::remove_dir(&other),
                Err(errno) => Err(errno.into()),
            };
            if let Err(error) = gone {
                log::warn!("{}: cannot be let go: {error}", other.display());
            }
        }
    }
}

/// Mounts the writable view of `layers` (topmost first) at `target`; what is written goes under `scratch`, which is on
/// a file system of its own kind (not overlay) and is emptied first. Both directories are made.
pub fn mount_rootfs(layers: &[PathBuf], scratch: &Path, target: &Path) -> io::Result<()> {
    unmount_rootfs(target, scratch)?;
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for dir in [&upper, &work, &target.to_owned()] {
        fs::create_dir_all(dir).map_err(|error| at(dir, error))?;
    }
    let empty = [scratch.join("empty")];
    let lower = if layers.is_empty() {
        fs::create_dir_all(&empty[0]).map_err(|error| at(&empty[0], error))?;
        &empty[..]
    } else {
        layers
    };
    implied::make(&implied::find(lower)?, &upper)?;
    let mut dirs: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
    dirs.extend([upper.as_path(), work.as_path()]);
    overlay(&dirs, target).map_err(|error| at(target, error))
}

/// Mounts a read-only view of `layers` (topmost first) at `target`, which is made; a view that is there stays.
pub fn mount_view(layers: &[PathBuf], target: &Path) -> io::Result<()> {
    fs::create_dir_all(target).map_err(|error| at(target, error))?;
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev());
    if device(target)? != device(target.parent().unwrap_or(target))? {
        if layers.is_empty() || statfs(target)?.filesystem_type() != TMPFS_MAGIC {
            return Ok(());
        }
        // Half a view, of a life that ended there.
        unmount(target)?;
    }
    let flags = MsFlags::MS_RDONLY;
    match layers {
        [] => mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("size=4096,mode=0755"))?,
        // Overlay asks for two.
        [layer] => mount(Some(layer), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?,
        layers => {
            let mut dirs: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            let implied = implied::find(layers)?;
            if implied.any {
                // Of directories alone, and below the view in its own place.
                mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=0755"))?;
                implied::make(&implied, target)?;
                dirs.insert(0, target);
            }
            let (names, _held) = names(&dirs)?;
            let options = format!("lowerdir={}", names.join(":"));
            mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))?;
        }
    }
    Ok(())
}

/// Takes the view away and discards what was written. Also right after half a mount, or none.
pub fn unmount_rootfs(target: &Path, scratch: &Path) -> io::Result<()> {
    unmount(target)?;
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(scratch, error)),
        _ => Ok(()),
    }
}

/// Takes the view away and leaves what was written.
pub fn unmount(target: &Path) -> io::Result<()> {
    loop {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // A process that died uninterruptibly may still hold it; the name must be free now.
            Err(Errno::EBUSY) => umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .map_err(|errno| at(target, errno.into()))?,
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(errno) => return Err(at(target, errno.into())),
        }
    }
}

/// Whether it had to be mounted.
fn mount_layer(file: &Path, target: &Path) -> io::Result<bool> {
    fs::create_dir_all(target)?;
    if statfs(target)?.filesystem_type().0 as u32 == erofs::MAGIC {
        return Ok(false);
    }
    let flags = MsFlags::MS_RDONLY;
    // From 6.12 on EROFS can read from the file itself, where it is built so; before, it complains to the console.
    if release() >= (6, 12) && mount(Some(file), target, Some("erofs"), flags, None::<&str>).is_ok() {
        return Ok(true);
    }
    let (device, _open) = attach(file)?;
    mount(Some(&device), target, Some("erofs"), flags, None::<&str>)?;
    Ok(true)
}

/// The first two numbers of the kernel's version.
fn release() -> (u32, u32) {
    let Ok(name) = nix::sys::utsname::uname() else { return (0, 0) };
    let text = name.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// `struct loop_config` and `struct loop_info64` of linux/loop.h; nix has none of it.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// A loop device that reads from the file, and its open descriptor: without it or a mount the device frees itself.
fn attach(file: &Path) -> io::Result<(PathBuf, File)> {
    let backing = File::open(file).map_err(|error| at(file, error))?;
    let path = Path::new("/dev/loop-control");
    let control = File::options().read(true).write(true).open(path).map_err(|error| at(path, error))?;
    for _ in 0..LOOP_TRIES {
        // SAFETY: this ioctl takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let number = Errno::result(number).map_err(|errno| at(path, errno.into()))?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let open = File::open(&device).map_err(|error| at(&device, error))?;
        match configure(&open, &backing) {
            Ok(()) => return Ok((device, open)),
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(at(&device, errno.into())),
        }
    }
    Err(at(path, Errno::EBUSY.into()))
}

fn configure(device: &File, backing: &File) -> nix::Result<()> {
    let config = LoopConfig {
        fd: backing.as_raw_fd() as u32,
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the argument is a whole loop_config that outlives the call; the kernel only reads it.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    Errno::result(result).map(drop)
}

/// Mounts an overlay of the lower directories, topmost first, with upper and work as the last two.
fn overlay(dirs: &[&Path], target: &Path) -> io::Result<()> {
    let (names, _held) = names(dirs)?;
    let [lower @ .., upper, work] = names.as_slice() else { return Err(Errno::EINVAL.into()) };
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
    let attempt =
        |options: &str| mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options));
    // What is written dies with the container, so it needs no sync; the option came with 5.10.
    match attempt(&format!("{options},volatile")) {
        Err(Errno::EINVAL) => attempt(&options)?,
        result => result?,
    }
    Ok(())
}

/// The directories as they stand in overlay's options, and what is to be held open until it is mounted: paths with the
/// options' own separators, or too many of them, go by descriptor, 20 bytes each.
fn names(dirs: &[&Path]) -> io::Result<(Vec<String>, Vec<OwnedFd>)> {
    let plain: Vec<String> = dirs.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
    let special = |path: &String| path.contains([',', ':', '\\', '\u{fffd}']);
    if !plain.iter().any(special) && plain.iter().map(|path| path.len() + 1).sum::<usize>() <= OPTIONS_LIMIT {
        return Ok((plain, Vec::new()));
    }
    let mut held: Vec<OwnedFd> = Vec::new();
    for dir in dirs {
        held.push(open(*dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?);
    }
    Ok((held.iter().map(|dir| format!("/proc/self/fd/{}", dir.as_raw_fd())).collect(), held))
}
