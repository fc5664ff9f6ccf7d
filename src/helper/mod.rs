//! What runs in children of PID 1, one file each. Words of `podinit <name>` that no operator types.

pub mod exec;
pub mod logger;
pub mod net;
pub mod prompt;
pub mod start;

/// The first words by which PID 1 calls a helper.
pub const NAMES: &[&str] = &["__start", "__exec", "__logger", "__net", "__prompt"];

/// Runs the helper of this name; returns its exit code.
pub fn run(name: &str, args: &[String]) -> i32 {
    match name {
        "__start" => start::run(args),
        "__exec" => exec::run(args),
        "__logger" => {
            logger::run();
            0
        }
        "__net" => net::run(args),
        "__prompt" => prompt::run(args),
        _ => 2,
    }
}
