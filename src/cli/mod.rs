//! The operator's commands.

/// podinit image: the store on this machine.
pub mod image;
