//! PID 1's duties to the machine: mounts, devices, modules, storage, names, the power button, the end.
//!
//! The order at boot: `boot` (all of it, once), then `Machine` lives in PID 1's loop. No duty's failure stops the next.

/// The power button and other input devices that can ask for the machine's end.
pub mod button;
/// Device nodes and links that the kernel does not make.
pub mod devices;
/// The machine's name, and the files that tell it.
pub mod hostname;
/// Which devices a module serves, and in which order modules load.
mod index;
/// What the kernel is told once: sysctls, limits, cgroup controllers.
mod kernel;
/// Kernel modules.
pub mod modules;
/// The table of mounts.
pub mod mounts;
/// Finding file systems by label, and growing a partition.
mod partition;
/// Reboot, poweroff, and what comes before.
pub mod power;
/// The data and boot partitions.
pub mod storage;
/// The kernel's word about devices that come and go.
pub mod uevents;

use std::fs;

use log::{info, warn};

use crate::clock::Tick;
use crate::config::{self, Config};
use crate::console;

/// What PID 1 keeps of the machine after boot.
pub struct Machine {
    /// Poll it for reading, then call `device_news`.
    pub uevents: Option<uevents::Uevents>,
    pub modules: modules::Modules,
    /// Poll their descriptors for reading, then call `pressed`.
    pub buttons: button::Buttons,
    /// What can wait is still to be done.
    unsettled: bool,
}

/// Boots the machine: everything before the first pod. To be called once, by PID 1, before any child; after a
/// re-execution it finds the mark of the first call and only opens descriptors and reads the configuration again.
/// Takes as long as its slowest driver, and up to 3 s more where there is a disk without the data partition.
pub fn boot() -> (Config, Machine) {
    let again = fs::exists(BOOTED).unwrap_or(false);
    let troubles = if again { Vec::new() } else { mounts::boot() };
    console::board(log::LevelFilter::Info);
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let read = || fs::read_to_string(config::FILE).ok();
    let (mut config, _) = Config::board(&cmdline, read().as_deref());
    console::set_level(config.log);
    troubles.iter().for_each(|trouble| warn!("machine: {trouble}"));
    if !again {
        info!("machine: podinit {} ({}) is PID 1", env!("CARGO_PKG_VERSION"), env!("PODINIT_REVISION"));
        kernel::tune();
        if let Err(error) = power::take_ctrl_alt_del() {
            warn!("machine: ctrl-alt-del stays the kernel's: {error}");
        }
    }
    // Before the first module, so that no device that comes while we look is missed.
    let mut uevents =
        uevents::Uevents::open().map_err(|error| warn!("devices: cannot hear of new ones: {error}")).ok();
    let mut modules = modules::Modules::open();
    if !again {
        modules.cold_plug(uevents.as_mut());
        modules.load_listed(&config.modules);
        storage::boot(&config.data, &mut modules);
    }
    // The data partition's /etc may hold another configuration than the image's.
    let (found, warnings) = Config::board(&cmdline, read().as_deref());
    warnings.iter().for_each(|warning| warn!("config: {warning}"));
    if !again {
        let known = std::mem::take(&mut config.modules);
        modules.load_listed(
            &found.modules.iter().filter(|name| !known.contains(name)).cloned().collect::<Vec<_>>(),
        );
    }
    config = found;
    console::set_level(config.log);
    config.node_name = hostname::set(config.hostname.as_deref());
    if !again {
        for directory in
            [&config.manifests, &config.root, &config.run, &config.pod_logs, &config.container_logs]
        {
            if let Err(error) = fs::create_dir_all(directory) {
                warn!("machine: cannot make {}: {error}", directory.display());
            }
        }
        storage::adopt_manifests(&config.manifests);
        if let Err(error) = fs::write(BOOTED, "") {
            warn!("machine: cannot write {BOOTED}: {error}");
        }
        info!("machine: ready after {:.3} s", (Tick::now() - Tick(0)).as_secs_f64());
    }
    let mut buttons = button::Buttons::default();
    buttons.rescan();
    (config, Machine { uevents, modules, buttons, unsettled: true })
}

impl Machine {
    /// Does what no pod is made of. To be called once the first pods run; again it does nothing.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.modules.load_later();
        }
    }

    /// Handles what the kernel tells of devices: loads their modules, and finds new buttons.
    pub fn device_news(&mut self) {
        let Some(uevents) = &mut self.uevents else { return };
        let seen = uevents.handle();
        if seen.lost {
            self.modules.cold_plug(Some(uevents));
        }
        for modalias in &seen.modaliases {
            self.modules.load_for(modalias);
        }
        if seen.input || seen.lost {
            self.buttons.rescan();
        }
    }
}

/// Says that this boot has been done, for a PID 1 that re-executes itself.
const BOOTED: &str = "/run/podinit.booted";
