//! What a container's security context comes to on this machine: read from the kernel and from profile files, so that
//! `bundle` stays pure.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, LinuxDevice, LinuxSeccomp};

use super::{apparmor, capability, device, seccomp};
use crate::pod::facts::StartError;
use crate::pod::{Container, security};

/// One container's.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// Its bounding set; effective and permitted too where it runs as root.
    pub capabilities: Capabilities,
    pub seccomp: Option<LinuxSeccomp>,
    pub apparmor: Option<String>,
    /// Whether the kernel keeps it from devices.
    pub device_filter: bool,
    /// The machine's, for a privileged container.
    pub devices: Vec<LinuxDevice>,
}

impl Confinement {
    /// `roots`: where seccomp profiles are.
    pub fn of(container: &Container, roots: &[PathBuf]) -> Result<Confinement, StartError> {
        let context = &container.security;
        let device_filter = device::possible();
        let capabilities = capability::of(context, device_filter).map_err(|message| StartError {
            reason: "CreateContainerError".into(),
            message,
            ours: false,
        })?;
        Ok(Confinement {
            seccomp: seccomp::choose(context, &capabilities, roots)?,
            apparmor: security::apparmor_profile(container, apparmor::loaded().as_deref()),
            capabilities,
            device_filter,
            devices: if context.privileged { device::host() } else { Vec::new() },
        })
    }
}
