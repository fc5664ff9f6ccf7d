//! To be furnished.

pub mod exec;
pub mod start;
