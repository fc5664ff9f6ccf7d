//! The decision: what is to be done now, and when to look again. Pure.

mod admit;
mod end;
mod live;
mod planner;
mod project;
mod room;
mod stop;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use planner::{Planner, Step};

use super::facts::{Dismissal, HookKind, PodFacts, World};
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
    /// Run a hook of the container's live run. Answer: Hooking, later Hooked.
    Hook { uid: String, container: String, run: u32, hook: HookKind },
    /// Write the pod's projected volumes anew. Answer: Projected or ProjectFailed.
    Project { uid: String },
    /// Tell that a wanted pod cannot be taken up. Answer: Rejected.
    Reject { pod: Arc<Pod>, reason: String, message: String },
    /// Forget that, as the pod is no longer wanted, or waits for the end of its namesake. Answer: Withdrawn.
    Withdraw { uid: String },
    /// Note that all containers are to be restarted. Answer: RestartAll.
    RestartAll { uid: String, container: String, run: u32 },
    /// Note that the pod has outlived its activeDeadlineSeconds. Answer: Expired.
    Expire { uid: String },
    /// Send the stop signal, or kill everything in it (its start helper too). Answer: Signalled (later Exited).
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
///
/// No action depends on another one of the same plan: all of them may be carried out, or only the first.
/// Costs one pass over the wanted pods and one over the admitted pods and their containers. What PID 1 asks is a
/// `Planner`, which comes to the same and thinks only about what changed.
pub fn plan(desired: &Desired, world: &World, now: Tick) -> Plan {
    let mut turn = Turn { desired, now, plan: Plan::default() };
    let wanted = admit::wanted(desired);
    let critical = end::critical(&turn, world);
    for (uid, pod) in &world.pods {
        one(&mut turn, pod, wanted.unwanted(uid, pod), critical);
    }
    admit::admit(&mut turn, world);
    turn.plan
}

/// One admitted pod. `critical`: when an ending machine dismisses its critical pods.
fn one(turn: &mut Turn, pod: &PodFacts, unwanted: Option<Dismissal>, critical: Tick) {
    match (&pod.dismissed, unwanted) {
        (Some(_), _) => end::pod(turn, pod),
        (None, None) => {
            project::pod(turn, pod);
            live::pod(turn, pod);
        }
        (None, Some(why)) => {
            let waits = why == Dismissal::Ending && pod.spec.critical();
            let due = if waits { critical } else { turn.now };
            turn.at(due, || Action::Dismiss { uid: pod.spec.uid.clone(), why });
            if due > turn.now {
                live::pod(turn, pod);
            }
        }
    }
}

/// The plan while it is made.
struct Turn<'a> {
    desired: &'a Desired,
    now: Tick,
    plan: Plan,
}

impl Turn<'_> {
    /// To be done now.
    fn act(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    /// To be done at its time: now if that has come, else something to wake up for.
    fn at(&mut self, due: Tick, action: impl FnOnce() -> Action) {
        if due <= self.now {
            self.act(action());
        } else {
            self.plan.wake_at = Some(self.plan.wake_at.map_or(due, |other| other.min(due)));
        }
    }
}
