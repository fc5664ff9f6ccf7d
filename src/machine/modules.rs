//! Kernel modules: those that the machine's devices ask for, and those that a list names.
//!
//! Only plain `.ko` files are loaded; the image build unpacks compressed ones. A module that the image does not hold is
//! no error: an image ships what its board needs, and many devices name more drivers than one.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use log::{debug, info, warn};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::utsname::uname;

use super::index::Index;
use super::uevents::Uevents;
use crate::clock::Tick;

/// Loads modules of the running kernel, each once.
pub struct Modules {
    root: PathBuf,
    index: Index,
    /// Modaliases that have been looked up, and modules that have been tried.
    met: HashSet<String>,
    tried: HashSet<String>,
}

/// The lists in the image: a name a line, `#` for comments. What pods are made of, and what can wait until they run.
const LIST: &str = "/etc/podinit/modules";
const LATER: &str = "/etc/podinit/modules.later";

/// A device's driver may bring devices of its own (a PCI bridge, then virtio, then a disk); deeper than this is none.
const DEPTH: usize = 8;

/// Where devices are listed: a folder of groups, and where in a group they are. A group may be a device itself (cpu).
const LISTINGS: &[(&str, &str)] = &[("/sys/bus", "devices"), ("/sys/class", ""), ("/sys/devices/system", "")];

impl Modules {
    /// Reads the index of /lib/modules of the running kernel; an empty one where there is none.
    pub fn open() -> Modules {
        let release = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
        let root = Path::new("/lib/modules").join(release);
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let index = Index::new(&text("modules.dep"), &text("modules.alias"), &text("modules.softdep"));
        Modules { root, index, met: HashSet::new(), tried: HashSet::new() }
    }

    /// Loads what every present device asks for, until no new device has appeared. `uevents`, open since before the
    /// first module, tell of those that a driver brought; without them everything is looked at again.
    pub fn cold_plug(&mut self, mut uevents: Option<&mut Uevents>) {
        let from = Tick::now();
        let (mut total, mut aliases) = (Vec::new(), present());
        for _ in 0..DEPTH {
            // The network and the disks first, as pods wait for them.
            aliases.sort_by_key(|alias| rank(alias));
            let loaded: Vec<String> = aliases.iter().flat_map(|alias| self.serve(alias)).collect();
            if loaded.is_empty() {
                break;
            }
            total.extend(loaded);
            let told = uevents.as_mut().map(|uevents| uevents.handle()).filter(|seen| !seen.lost);
            aliases = told.map_or_else(present, |seen| seen.modaliases);
        }
        if !total.is_empty() {
            info!(
                "modules: {} for devices in {:.3} s: {}",
                total.len(),
                (Tick::now() - from).as_secs_f64(),
                total.join(" ")
            );
        }
    }

    /// Loads what a device that has appeared asks for.
    pub fn load_for(&mut self, modalias: &str) {
        let loaded = self.serve(modalias);
        if !loaded.is_empty() {
            info!("modules: {} for a new device", loaded.join(" "));
        }
    }

    /// Loads what pods are made of: what the image's list and the configuration name, with what they need.
    pub fn load_listed(&mut self, names: &[String]) {
        self.load_all(LIST, names);
    }

    /// Loads what the image's other list names.
    pub fn load_later(&mut self) {
        self.load_all(LATER, &[]);
    }

    fn load_all(&mut self, list: &str, names: &[String]) {
        let from = Tick::now();
        let list = fs::read_to_string(list).unwrap_or_default();
        let list = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let names = list.filter(|name| !name.is_empty()).chain(names.iter().map(String::as_str));
        let loaded: Vec<String> = names.flat_map(|name| self.load(name)).collect();
        if !loaded.is_empty() {
            info!(
                "modules: {} listed in {:.3} s: {}",
                loaded.len(),
                (Tick::now() - from).as_secs_f64(),
                loaded.join(" ")
            );
        }
    }

    /// Loads one module by its name or alias, with what it needs; the answer names those that were not there before.
    pub fn load(&mut self, name: &str) -> Vec<String> {
        let order = self.index.order(name);
        let mut loaded = Vec::new();
        for (name, path) in order {
            if !self.tried.insert(name.to_owned()) {
                continue;
            }
            match insert(&self.root.join(path)) {
                Ok(true) => loaded.push(name.to_owned()),
                Ok(false) => {}
                // A driver that finds no device of its own says so at its start.
                Err(Errno::ENODEV) => debug!("modules: {name}: no such device"),
                Err(error) => warn!("modules: cannot load {name}: {error}"),
            }
        }
        loaded
    }

    fn serve(&mut self, modalias: &str) -> Vec<String> {
        if !self.met.insert(modalias.to_owned()) {
            return Vec::new();
        }
        let names: Vec<String> = self.index.serving(modalias).into_iter().map(str::to_owned).collect();
        names.iter().flat_map(|name| self.load(name)).collect()
    }
}

/// Whether the module is new; false where it is loaded already or not in the image.
fn insert(path: &Path) -> Result<bool, Errno> {
    const NONE: &CStr = c"";
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    };
    match finit_module(&file, NONE, ModuleInitFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The modaliases of the devices that are there. By the lists of them, as udev finds them: to walk all folders of
/// /sys/devices three times took a seventh of the time from the first process to the first container.
fn present() -> Vec<String> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut aliases = Vec::new();
    for (root, inner) in LISTINGS {
        for group in entries(Path::new(root)) {
            // `join` with nothing would add a slash, which a file does not take.
            let group = if inner.is_empty() { group } else { group.join(inner) };
            for device in std::iter::once(group.clone()).chain(entries(&group)) {
                let text = fs::read_to_string(device.join("modalias")).unwrap_or_default();
                aliases.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
            }
        }
    }
    aliases
}

/// PCI classes 01 (storage) and 02 (network), virtio devices 1 (network) and 2 (block), all of mmc; then buses, then
/// the rest.
fn rank(alias: &str) -> u8 {
    let first = ["bc01", "bc02"].iter().any(|class| alias.starts_with("pci:") && alias.contains(class))
        || alias.starts_with("virtio:d00000001")
        || alias.starts_with("virtio:d00000002")
        || alias.starts_with("mmc:");
    match alias.split(':').next().unwrap_or_default() {
        _ if first => 0,
        "of" | "pci" | "platform" | "usb" | "virtio" => 1,
        _ => 2,
    }
}
