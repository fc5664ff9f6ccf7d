//! What runs in children of PID 1: one file each.

/// DHCP on the wired interfaces.
pub mod net;
/// The operator's verbs on the serial console.
pub mod prompt;
