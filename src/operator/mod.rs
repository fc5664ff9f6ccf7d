//! The operator's socket: what can be asked of PID 1, the answers, and the connections that carry them.

/// Descriptors over a unix socket.
pub mod fds;
/// One enum of everything that can be asked, and its answer.
pub mod request;
/// PID 1's end of the socket.
pub mod socket;
/// Answers from the world's facts. Pure.
pub mod view;

pub use request::{Answer, Request};
