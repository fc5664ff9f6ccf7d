//! Pod and image to a running OCI container: the spec, the start, processes inside it, its cgroup and namespaces.
//!
//! PID 1 calls `bundle` and what it is made of, `cgroup`, `sandbox`, `pause` and the file side of `handover`; `create`
//! and `enter` run in helpers only.

pub mod apparmor;
pub mod bundle;
pub mod capability;
pub mod cgroup;
pub mod child;
pub mod confinement;
pub mod create;
pub mod defaults;
pub mod device;
pub mod enter;
pub mod handover;
pub mod identity;
pub mod mapped;
pub mod pause;
pub mod program;
pub mod rlimit;
pub mod sandbox;
pub mod seccomp;
pub mod user;
pub mod workdir;

pub use bundle::{Bind, Command, Files, Input, Limits};
pub use confinement::Confinement;
pub use handover::{Outcome, Start};
pub use user::User;
