//! The decision: what is to be done now, and when to look again. Pure.

mod admit;
mod end;
mod live;
mod planner;
mod project;
mod resize;
mod room;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use planner::{Planner, Step};

use super::batch::decide::decide;
use super::batch::facts::JobFact;
use super::facts::{Dismissal, HookKind, PodFacts, World};
use super::resources::Grant;
use super::spec::{Desired, Pod};
use crate::clock::{Tick, sooner};
use admit::Edit;

/// One thing to do. Each is answered by at least one fact, at once or (Start) by a helper's end.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take the pod up. Answer: Admitted.
    Admit(Arc<Pod>),
    /// Note that it is no longer wanted. Answer: Dismissed.
    Dismiss { uid: String, why: Dismissal },
    /// Make cgroup, namespaces, volumes, log directories. Answer: SetUp or SetUpFailed.
    SetUp { uid: String },
    /// See to the container's image. Answer: ImageFound or ImageMissing, or ImagePulling and one of them later.
    Find { uid: String, container: String },
    /// Note that a pull which failed is not tried again yet. Answer: ImageBackOff.
    BackOff { uid: String, container: String },
    /// Start the container's run of this number. Answer: Starting, later Started or StartFailed.
    Start { uid: String, container: String, run: u32 },
    /// Run a hook of the container's live run. Answer: Hooking, later Hooked.
    Hook { uid: String, container: String, run: u32, hook: HookKind },
    /// Write the pod's projected volumes anew. Answer: Projected or ProjectFailed.
    Project { uid: String },
    /// Tell that a wanted pod cannot be taken up. Answer: Rejected.
    Reject { pod: Arc<Pod>, reason: String, message: String },
    /// Forget that, as the pod is no longer wanted, or waits for the end of its namesake; or as an admitted pod's resize
    /// is no longer wanted. Answer: Withdrawn.
    Withdraw { uid: String },
    /// Take up a resize of an admitted pod: from now on its spec is this one. Answer: Allocated.
    Allocate(Arc<Pod>),
    /// Tell that it cannot be taken up now. Answer: ResizePending.
    Postpone { pod: Arc<Pod>, reason: String, message: String },
    /// Give the cgroup of the container's run, or without one the pod's, these values. Answer: Resized or ResizeFailed.
    Resize { uid: String, of: Option<(String, u32)>, grant: Grant },
    /// Note that all containers are to be restarted. Answer: RestartAll.
    RestartAll { uid: String, container: String, run: u32 },
    /// Note that the pod has outlived its activeDeadlineSeconds. Answer: Expired.
    Expire { uid: String },
    /// Send the stop signal, or kill everything in it (its start helper too). Answer: Signalled (later Exited).
    Signal { uid: String, container: String, run: u32, kill: bool },
    /// Remove what an ended run left. Answer: Cleaned.
    Clean { uid: String, container: String, run: u32 },
    /// Remove everything of the pod, its logs only where it is not to come back. Answer: TornDown or TearDownFailed.
    TearDown { uid: String, keep_logs: bool },
    /// Note something of a Job or a CronJob. Answer: the fact itself.
    Note(JobFact),
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
    let batch = decide(desired, world, now);
    let actions = batch.notes.into_iter().map(Action::Note).collect();
    let mut turn = Turn { desired, now, plan: Plan { actions, wake_at: batch.wake_at } };
    let listed = desired.pods.iter().filter(|pod| pod.owner.is_none());
    let all: Vec<_> = listed.chain(&batch.pods).collect();
    let wanted = admit::wanted(desired, &all);
    let critical = end::critical(&turn, world);
    let mut resizes = BTreeSet::new();
    for (uid, pod) in &world.pods {
        let edit = wanted.edit(uid, pod);
        if one(&mut turn, pod, edit, wanted.again(uid), critical) {
            resizes.insert(uid.as_str());
        }
    }
    admit::admit(&mut turn, world, &all, &resizes);
    turn.plan
}

/// One admitted pod. `again`: one of its uid is to come after it; `critical`: when an ending machine dismisses its
/// critical pods. Whether it asks to be resized.
fn one(turn: &mut Turn, pod: &PodFacts, edit: Edit, again: bool, critical: Tick) -> bool {
    if pod.dismissed.is_some() {
        end::pod(turn, pod, again);
        return false;
    }
    match edit {
        Edit::None => {
            if pod.pending.is_some() {
                turn.act(Action::Withdraw { uid: pod.spec.uid.clone() });
            }
            if !resize::pod(turn, pod) {
                project::pod(turn, pod);
            }
            live::pod(turn, pod);
        }
        Edit::Resize => {
            // What its volumes should hold is known of the wanted pod only.
            resize::pod(turn, pod);
            live::pod(turn, pod);
        }
        Edit::Unwanted(why) => {
            let waits = why == Dismissal::Ending && pod.spec.critical();
            let due = if waits { critical } else { turn.now };
            turn.at(due, || Action::Dismiss { uid: pod.spec.uid.clone(), why });
            if due > turn.now {
                live::pod(turn, pod);
            }
        }
    }
    edit == Edit::Resize
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
            self.plan.wake_at = sooner(self.plan.wake_at, due);
        }
    }
}
