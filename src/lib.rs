//! podinit: PID 1 that runs Kubernetes static pods. This page is the map: one line a room, and the doors.
//!
//! Facts in, plan out, one action, look again:
//! `senses` wait for news, `init` looks at what it points to and learns facts, `pod::plan` decides,
//! `hands` carry out one action and come back with a fact.

#![deny(unsafe_code)]

/// Death and re-execution.
pub mod fatal;
/// Action to a room or a helper, and back to a fact.
pub mod hands;
/// PID 1's life: boot, the loop, the end.
pub mod init;
/// The facts on disk.
pub mod ledger;
/// The only poll(2).
pub mod senses;

/// Time as plain data.
pub mod clock;
/// What the operator set.
pub mod config;
/// The logger.
pub mod console;

/// PURE: spec, facts, plan, restart, status, resources, env.
pub mod pod;

/// The operator's commands: get, describe, logs, exec, image, ...
pub mod cli;
/// Pod and image to a running OCI container: bundle, create, exec, cgroup, sandbox.
pub mod container;
/// What runs in children of PID 1: start, exec, logger, net, prompt.
pub mod helper;
/// OCI images: references, the store, archives, layers as EROFS.
pub mod image;
/// Container logs: CRI records, rotation, reading back.
pub mod logs;
/// PID 1's duties to the machine: mounts, devices, modules, storage, power.
pub mod machine;
/// Text to `Desired`: YAML and JSON manifests, their defaults, checks, and the directory.
pub mod manifest;
/// The network of machine and pods: links, addresses, DHCP.
pub mod net;
/// The operator's socket: requests and answers.
pub mod operator;
/// Starts a helper: this binary again, as a clean child in its cgroup.
pub mod spawn;
/// emptyDir and hostPath.
pub mod volume;
