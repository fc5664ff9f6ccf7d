//! The decision: what is to be done now, and when to look again. Pure.

use std::sync::Arc;

use super::facts::{Dismissal, World};
use super::spec::{Desired, Pod};
use crate::clock::Tick;

/// One thing to do. Each is answered by at least one fact, at once or (Start) by a helper's end.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take the pod up. Answer: Admitted.
    Admit(Arc<Pod>),
    /// Note that it is no longer wanted. Answer: Dismissed.
    Dismiss { uid: String, why: Dismissal },
    /// Make cgroup, namespaces, volumes, log directories. Answer: SetUp or SetUpFailed.
    SetUp { uid: String },
    /// See to the container's image. Answer: ImageFound or ImageMissing.
    Find { uid: String, container: String },
    /// Start the container's run of this number. Answer: Starting, later Started or StartFailed.
    Start { uid: String, container: String, run: u32 },
    /// Send the stop signal, or kill everything in it. Answer: Signalled (later Exited).
    Signal { uid: String, container: String, run: u32, kill: bool },
    /// Remove what an ended run left. Answer: Cleaned.
    Clean { uid: String, container: String, run: u32 },
    /// Remove everything of the pod. Answer: TornDown or TearDownFailed.
    TearDown { uid: String },
}

/// What is due now, in order, and when something will be due without further news.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Tick>,
}

/// What to do now about the difference between what is wanted and what is.
pub fn plan(_desired: &Desired, _world: &World, _now: Tick) -> Plan {
    Plan::default()
}
