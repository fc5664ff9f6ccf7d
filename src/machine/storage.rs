//! What outlives a boot: the data partition, and what the boot partition brings.
//!
//! The data partition is the ext4 file system labelled `data` (or as configured). It is grown to its disk's end, mounted
//! at /data, and is then behind `/var/lib/podinit` (`/data/podinit`), `/var/log` (`/data/log`), and the upper half of an
//! overlay over `/etc` (`/data/etc`), so that what is written there on a running board stays. What the image itself
//! holds in /var/lib/podinit can then be seen at /run/podinit/factory, read-only; its images lie behind the store. A
//! power cut is the journal's business: it replays at the mount. Where there is no such partition, or it cannot be
//! mounted, all of it stays in memory.
//!
//! A FAT file system labelled `BOOT` is mounted read-only at /boot. Its `config.yaml` and `manifests/*` are copied to
//! /etc/podinit/config.yaml and the manifest directory where no file of that name is yet: what an operator changed on
//! the board is not overwritten at the next boot, and a first manifest can be put onto the card with any computer. So can
//! archives of images, in its `images/`; what came with the card lies in its `factory/`, and is used from there.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use log::{error, info, warn};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::modules::Modules;
use super::partition::{self, System, Volume};
use super::uevents::Uevents;
use crate::clock::Tick;
use crate::config::{self, Data};

/// How long a disk may take to show up once its controller has a driver (SD cards, USB).
const PATIENCE: Duration = Duration::from_secs(3);

const DATA: &str = "/data";
const BOOT: &str = "/boot";

/// Finds and mounts the data and boot partitions. Waits only where there is a disk, or a controller that may find one.
pub fn boot(data: &Data, modules: &mut Modules) {
    let label = match data {
        Data::Label(label) => Some(label.as_str()),
        Data::None => None,
    };
    let volumes = find(label, modules);
    let data = volumes.iter().find(|volume| is_data(volume, label));
    match (data, label) {
        (Some(volume), _) => match take(volume, modules) {
            Ok(()) => {}
            Err(why) => {
                error!("storage: {}: {why}; everything stays in memory and is lost at power off", volume.name)
            }
        },
        (None, Some(label)) => {
            info!("storage: no file system labelled {label:?}: everything stays in memory")
        }
        (None, None) => info!("storage: everything stays in memory, as configured"),
    }
    if let Some(volume) = volumes.iter().find(|volume| volume.system == System::Fat && volume.label == "BOOT")
    {
        ["vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"]
            .iter()
            .for_each(|name| drop(modules.load(name)));
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match mount_at(&format!("/dev/{}", volume.name), BOOT, Some("vfat"), flags, None) {
            Ok(()) => info!("storage: {} is {BOOT}, read-only", volume.name),
            Err(why) => warn!("storage: {}: {why}", volume.name),
        }
        adopt(&Path::new(BOOT).join("config.yaml"), Path::new(config::FILE));
    }
}

/// Copies the boot partition's manifests into the manifest directory, but for those that are there.
pub fn adopt_manifests(manifests: &Path) {
    for entry in fs::read_dir(Path::new(BOOT).join("manifests")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with('.') {
            adopt(&entry.path(), &manifests.join(name));
        }
    }
}

/// The volumes, once the data partition is among them or is no longer to be waited for.
fn find(label: Option<&str>, modules: &mut Modules) -> Vec<Volume> {
    let mut uevents = Uevents::open().ok();
    let deadline = Tick::now() + PATIENCE;
    let mut volumes = partition::volumes();
    while label.is_some() && !volumes.iter().any(|volume| is_data(volume, label)) && may_come() {
        let left = deadline - Tick::now();
        let Some(uevents) = uevents.as_mut().filter(|_| !left.is_zero()) else { break };
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // An interrupted poll only looks earlier.
        let _ = poll(&mut [PollFd::new(uevents.as_fd(), PollFlags::POLLIN)], timeout);
        let seen = uevents.handle();
        seen.modaliases.iter().for_each(|alias| modules.load_for(alias));
        if seen.lost {
            modules.cold_plug(None);
        }
        volumes = partition::volumes();
    }
    volumes
}

/// Whether there is a disk, or a controller that finds its disks after its driver has started.
fn may_come() -> bool {
    let some = |path: &str| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    !partition::disks().is_empty() || some("/sys/class/mmc_host") || some("/sys/class/scsi_host")
}

fn is_data(volume: &Volume, label: Option<&str>) -> bool {
    matches!(volume.system, System::Ext4 { .. }) && Some(volume.label.as_str()) == label
}

/// Grows, mounts and lays out the data partition.
fn take(volume: &Volume, modules: &mut Modules) -> Result<(), String> {
    modules.load("ext4");
    match partition::grow(&volume.name) {
        Ok(Some(bytes)) => info!("storage: partition {} grown to {} MiB", volume.name, bytes >> 20),
        Ok(None) => {}
        Err(why) => warn!("storage: cannot grow partition {}: {why}", volume.name),
    }
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    mount_at(&format!("/dev/{}", volume.name), DATA, Some("ext4"), flags, Some("errors=remount-ro"))?;
    if let System::Ext4 { block, blocks } = volume.system {
        let possible = partition::size(&volume.name) / block;
        if possible > blocks + (1 << 20) / block {
            match partition::grow_ext4(Path::new(DATA), possible) {
                Ok(()) => {
                    info!("storage: file system {} grown to {} MiB", volume.name, (possible * block) >> 20)
                }
                Err(why) => warn!("storage: cannot grow the file system of {}: {why}", volume.name),
            }
        }
    }
    let left = nix::sys::statvfs::statvfs(DATA).map(|fs| (fs.blocks_available() * fs.fragment_size()) >> 20);
    info!("storage: {} is {DATA}, {} MiB free", volume.name, left.unwrap_or(0));
    let overlay = lay_out(modules);
    overlay.into_iter().for_each(|trouble| warn!("storage: {trouble}"));
    Ok(())
}

/// Puts the data partition behind the directories that last. The answer is what did not work.
fn lay_out(modules: &mut Modules) -> Vec<String> {
    const ROOT: &str = "/var/lib/podinit";
    let mut troubles = Vec::new();
    let mut note = |done: Result<(), String>| troubles.extend(done.err());
    let bind = |from: &str, to: &str| {
        fs::create_dir_all(from).map_err(|error| format!("cannot make {from}: {error}"))?;
        mount_at(from, to, None, MsFlags::MS_BIND, None)
    };
    if fs::read_dir(ROOT).is_ok_and(|mut entries| entries.next().is_some()) {
        const FACTORY: &str = "/run/podinit/factory";
        note(bind(ROOT, FACTORY));
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        note(mount_at(ROOT, FACTORY, None, flags, None));
    }
    note(bind("/data/podinit", ROOT));
    note(bind("/data/log", "/var/log"));
    modules.load("overlay");
    let made = ["/etc", "/data/etc", "/data/.etc.work"].iter().try_for_each(fs::create_dir_all);
    note(made.map_err(|error| format!("cannot make /data/etc: {error}")));
    let options = "lowerdir=/etc,upperdir=/data/etc,workdir=/data/.etc.work";
    note(mount_at("etc", "/etc", Some("overlay"), MsFlags::MS_NOATIME | MsFlags::MS_NODEV, Some(options)));
    troubles
}

fn mount_at(
    from: &str,
    to: &str,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| format!("cannot make {to}: {error}"))?;
    mount(Some(from), to, kind, flags, options)
        .map_err(|error| format!("cannot mount {from} at {to}: {error}"))
}

/// Copies a file to where none is; whole or not at all, also through a power cut.
fn adopt(from: &Path, to: &Path) {
    if !from.is_file() || to.exists() {
        return;
    }
    match copy(from, to) {
        Ok(()) => info!("storage: {} taken from {}", to.display(), from.display()),
        Err(error) => warn!("storage: cannot copy {} to {}: {error}", from.display(), to.display()),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let directory = to.parent().unwrap_or(Path::new("/"));
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(directory)?;
    // Dotfiles are no manifests.
    let half = directory.join(format!(".{name}.new"));
    fs::write(&half, fs::read(from)?)?;
    fs::File::open(&half)?.sync_all()?;
    fs::rename(&half, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_overwritten() {
        let directory = std::env::temp_dir().join(format!("podinit-adopt-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (from, to) = (directory.join("a.yaml"), directory.join("to/b.yaml"));
        fs::write(&from, "one").unwrap();
        adopt(&from, &to);
        assert_eq!(fs::read_to_string(&to).unwrap(), "one");
        fs::write(&from, "two").unwrap();
        adopt(&from, &to);
        assert_eq!(fs::read_to_string(&to).unwrap(), "one");
        assert_eq!(fs::read_dir(directory.join("to")).unwrap().count(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_ext4_of_the_label_is_data() {
        let volume = |system, label: &str| Volume { name: "vda".into(), system, label: label.into() };
        let ext4 = System::Ext4 { block: 4096, blocks: 1 };
        assert!(is_data(&volume(ext4.clone(), "data"), Some("data")));
        assert!(!is_data(&volume(ext4.clone(), "other"), Some("data")));
        assert!(!is_data(&volume(System::Fat, "data"), Some("data")));
        assert!(!is_data(&volume(ext4, ""), None));
    }
}
