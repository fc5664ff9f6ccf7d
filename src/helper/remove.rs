//! `podinit __remove <dir>`: removes a tree that is too large for PID 1, as carefully as PID 1 would.

use std::path::Path;

use crate::volume;

/// The exit code: 0 it is gone. Nobody waits for it: what is left is tried again by the next life of PID 1.
pub fn run(args: &[String]) -> i32 {
    let [dir] = args else {
        eprintln!("usage: podinit __remove DIR");
        return 2;
    };
    match volume::remove_tree(Path::new(dir)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("remove {dir}: {error}");
            1
        }
    }
}
