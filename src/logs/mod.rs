//! Container logs: CRI records, rotation, reading back, and how PID 1 hands a container's output to the logger.

pub mod paths;
pub mod pipe;
pub mod read;
pub mod record;
pub mod rotate;
mod state;
pub mod tail;
pub mod wire;
pub mod writer;

pub use wire::{Add, Pipes, Report, add, pipes, report};
