//! Pod and image to a running OCI container: the spec, the start, processes inside it, its cgroup and namespaces.
//!
//! PID 1 calls `bundle`, `user`, `cgroup`, `sandbox`, `limits` and the file side of `handover`; `create` and `enter` run in
//! helpers only.

pub mod bundle;
pub mod cgroup;
pub mod child;
pub mod create;
pub mod defaults;
pub mod enter;
pub mod handover;
pub mod program;
pub mod rlimit;
pub mod sandbox;
pub mod user;
pub mod workdir;

pub use bundle::{Bind, Command, Files, Input, Limits};
pub use handover::{Outcome, Start};
pub use user::User;
