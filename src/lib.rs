//! podinit: PID 1 that runs Kubernetes static pods. This page is the map: one line a room, from the roof to the cellar.
//!
//! Facts in, plan out, one action, look again: `senses` wait for news, `init` looks at what they point to and learns
//! facts, `pod::plan` decides, `hands` carry out one action and come back with a fact, which goes on the `ledger`.
//! Use goes downward only; `tests/layers.rs` holds the doors. `docs/design.md` tells why.

#![deny(unsafe_code)]

/// PID 1's life: boot, the loop, the end.
pub mod init;

/// The operator's commands: get, describe, logs, exec, image, ...
pub mod cli;
/// What runs in children of PID 1: start, exec, logger, probe, net, prompt, ...
pub mod helper;

/// Death and re-execution: PID 1 goes on from its ledger.
pub mod fatal;
/// An action, to a room or a helper, and back to facts; the reaper.
pub mod hands;
/// The facts on disk.
pub mod ledger;
/// The only poll(2): signals, the manifest directory, sockets.
pub mod senses;
/// Starts a helper: this binary again, as a clean child in its cgroup.
pub mod spawn;

/// Pod and image to a running OCI container: bundle, create, enter, cgroup, sandbox.
pub mod container;
/// OCI images: references, archives, the store, layers as EROFS.
pub mod image;
/// Container logs: CRI records, rotation, reading back.
pub mod logs;
/// PID 1's duties to the machine: mounts, devices, modules, storage, power.
pub mod machine;
/// Text to pods: YAML and JSON manifests, their defaults, checks, and the directory.
pub mod manifest;
/// The machine's network: links, addresses, DHCP.
pub mod net;
/// The operator's socket: requests and answers.
pub mod operator;
/// The volumes of a pod: made, filled, found for a mount, removed.
pub mod volume;

/// PURE: spec, facts, plan, restart, status, resources, env. No kernel, no clock, no log.
pub mod pod;

/// Time as plain data.
pub mod clock;
/// What the operator set: kernel command line, flags, file.
pub mod config;
/// The log: one grammar, one write a line.
pub mod console;
/// The kernel's escapes in its tables of mounts.
pub mod octal;
/// What a resting process gives back.
pub mod pages;
/// Names and texts in messages: quoted, and what an unknown name was probably meant to be.
pub mod spelling;
