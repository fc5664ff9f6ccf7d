//! What podinit decides, without hands: specs and facts in, plan and status out. No kernel, no clock, no log.

pub mod agenda;
pub mod batch;
pub mod cause;
pub mod collect;
pub mod dns;
pub mod env;
pub mod envfile;
pub mod events;
pub mod facts;
pub mod fetch;
pub mod hosts;
pub mod kept;
pub mod learn;
pub mod line;
pub mod missing;
pub mod mount;
pub mod plan;
pub mod probe;
pub mod project;
pub mod pulls;
pub mod quantity;
pub mod resources;
pub mod restart;
pub mod roll;
#[cfg(test)]
pub(crate) mod sample;
pub mod security;
pub mod spec;
pub mod status;
pub mod sysctl;
pub mod users;
pub mod verify;

pub use facts::{Fact, World};
pub use plan::{Action, Plan, Planner, Step, plan};
pub use spec::{Container, Desired, Pod};
