//! What runs in children of PID 1, one file each.

pub mod logger;
