//! What runs in children of PID 1, one file each.

/// A command in a container, for a probe or a hook.
pub mod check;
/// Conversations with servers in pods: HTTP, TLS, gRPC.
pub mod client;
/// Images that go when the disk fills.
pub mod collect;
/// A process inside a running container.
pub mod exec;
/// What pods a URL wants.
pub mod fetch;
/// An HTTP hook.
pub mod hook;
/// Archives of some directories into the store.
pub mod import;
/// A small file to the disk, for good.
pub mod keep;
/// Container output to CRI log files.
pub mod logger;
/// DHCP on every wired link.
pub mod net;
/// The first process of a pod with shareProcessNamespace.
pub mod pause;
/// HTTP, TCP and gRPC probes.
pub mod probe;
/// The operator's verbs on the serial console.
pub mod prompt;
/// An image from its registry.
pub mod pull;
/// A tree that is too large for PID 1 to remove.
pub mod remove;
/// One container's create and start.
pub mod start;
/// Images read in full.
pub mod verify;

use std::fs::File;
use std::io::Read;

use serde::de::DeserializeOwned;

use crate::console;

/// The first words by which PID 1 calls a helper; an operator types none of them.
pub const NAMES: &[&str] = &[
    "__check",
    "__collect",
    "__exec",
    "__fetch",
    "__hook",
    "__import",
    "__keep",
    "__logger",
    "__net",
    "__pause",
    "__probe",
    "__prompt",
    "__pull",
    "__remove",
    "__start",
    "__verify",
];

/// Runs the helper of this name; returns its exit code.
pub fn run(name: &str, args: &[String]) -> i32 {
    match name {
        "__check" => check::run(args),
        "__collect" => collect::run(),
        "__exec" => exec::run(args),
        "__fetch" => fetch::run(),
        "__hook" => hook::run(args),
        "__import" => import::run(args),
        "__keep" => keep::run(args),
        "__logger" => logger::run(),
        "__net" => net::run(telling(args)),
        "__pause" => pause::run(args),
        "__prompt" => prompt::run(telling(args)),
        "__probe" => probe::run(),
        "__pull" => pull::run(),
        "__remove" => remove::run(args),
        "__start" => start::run(args),
        "__verify" => verify::run(),
        _ => 2,
    }
}

/// What a helper is asked on descriptor 3, and where its answer goes, descriptor 4. Opened anew, so that our place in
/// them is not theirs who started us; before anything is given up, as they are root's.
fn asked<T: DeserializeOwned>() -> Option<(T, File)> {
    let mut asked = File::open("/proc/self/fd/3").ok()?;
    let said = File::options().write(true).open("/proc/self/fd/4").ok()?;
    let mut bytes = Vec::new();
    asked.read_to_end(&mut bytes).ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, said))
}

/// A board's helper tells what it does on the console, as PID 1 does, at the level that is its first argument. The
/// other arguments.
fn telling(args: &[String]) -> &[String] {
    let Some((level, rest)) = args.split_first() else { return args };
    console::board(level.parse().unwrap_or(log::LevelFilter::Info));
    rest
}
