//! When a wanted pod's projected volumes are written anew: what they should hold is no longer what they hold.

use std::time::Duration;

use super::{Action, Turn};
use crate::pod::facts::{PodFacts, Sandbox};
use crate::pod::restart;

/// The first and the longest wait between tries to write the same.
const PROJECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

pub(super) fn pod(turn: &mut Turn, pod: &PodFacts) {
    let (uid, Sandbox::Ready { .. }) = (&pod.spec.uid, &pod.sandbox) else { return };
    let Some(digest) = turn.desired.projections.get(uid).copied() else { return };
    if pod.projected == Some(digest) {
        return;
    }
    let project = || Action::Project { uid: uid.clone() };
    match &pod.stale {
        Some(stale) if stale.digest == digest => {
            turn.at(stale.at + restart::retry(PROJECT.0, PROJECT.1, stale.tries), project);
        }
        Some(_) | None => turn.act(project()),
    }
}

/// Whether a set-up that failed may fare better now: what it could not write is no longer what is to be written.
pub(super) fn mended(turn: &Turn, pod: &PodFacts) -> bool {
    let now = turn.desired.projections.get(&pod.spec.uid);
    pod.stale.as_ref().is_some_and(|stale| now.is_some_and(|digest| *digest != stale.digest))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::clock::Tick;
    use crate::pod::facts::{Fact, World};
    use crate::pod::spec::{Desired, RestartPolicy};
    use crate::pod::{plan, sample};

    const UID: &str = "u1";

    struct Case {
        desired: Desired,
        world: World,
    }

    impl Case {
        /// Admitted at 0; its volumes should hold 1.
        fn new() -> Self {
            let pod = sample::pod(RestartPolicy::Always, &[], &["c"]);
            let projections = [(UID.to_owned(), 1)].into();
            let mut world = World::default();
            world.learn(Fact::Admitted { pod: pod.clone() }, Tick(0));
            Case { desired: Desired { pods: vec![pod], projections, ..Desired::default() }, world }
        }

        fn learn(&mut self, second: u64, fact: Fact) {
            self.world.learn(fact, Tick::seconds(second));
        }

        fn set_up(&mut self, second: u64, digest: u64) {
            self.learn(second, Fact::Projected { uid: UID.into(), digest });
            self.learn(second, Fact::SetUp { uid: UID.into(), ip: None });
        }

        fn failed(&mut self, second: u64, digest: u64) {
            self.learn(second, Fact::ProjectFailed { uid: UID.into(), digest, why: "no".into() });
        }

        fn want(&mut self, digest: u64) {
            self.desired.projections.insert(UID.into(), digest);
        }

        /// What is done about its volumes, and the wake-up in seconds.
        fn told(&self, second: u64) -> (Option<&'static str>, Option<u64>) {
            let plan = plan(&self.desired, &self.world, Tick::seconds(second));
            // Beside them its container's image is looked for.
            let action = plan.actions.iter().find_map(|action| match action {
                Action::Project { uid } if uid == UID => Some("project"),
                Action::SetUp { uid } if uid == UID => Some("set up"),
                _ => None,
            });
            (action, plan.wake_at.map(|at| (at - Tick(0)).as_secs()))
        }
    }

    #[test]
    fn volumes_are_written_anew_when_they_should_hold_something_else() {
        let mut case = Case::new();
        assert_eq!(case.told(1), (Some("set up"), None));
        case.set_up(1, 1);
        assert_eq!(case.told(1), (None, None));
        case.want(2);
        assert_eq!(case.told(2), (Some("project"), None));
        case.learn(2, Fact::Projected { uid: UID.into(), digest: 2 });
        assert_eq!(case.told(2), (None, None));
        // A pod without projected volumes has no digest.
        case.desired.projections.clear();
        assert_eq!(case.told(3), (None, None));
    }

    #[test]
    fn a_failed_refresh_waits_longer_each_time_and_not_at_all_for_other_contents() {
        let mut case = Case::new();
        case.set_up(0, 1);
        case.want(2);
        for (at, wake) in [(10, 11), (11, 13), (13, 17), (17, 25), (25, 41), (41, 73), (73, 133), (133, 193)]
        {
            case.failed(at, 2);
            assert_eq!(case.told(at), (None, Some(wake)));
            assert_eq!(case.told(wake), (Some("project"), None));
        }
        // Told again from the ledger.
        case.failed(133, 2);
        assert_eq!(case.told(133), (None, Some(193)));
        case.want(3);
        assert_eq!(case.told(134), (Some("project"), None));
        case.failed(134, 3);
        assert_eq!(case.told(134), (None, Some(135)));
        case.want(1);
        assert_eq!(case.told(134), (None, None), "they hold that still");
    }

    #[test]
    fn a_set_up_that_failed_for_want_of_a_config_map_is_tried_at_once_when_it_came() {
        let mut case = Case::new();
        let set_up_failed = || Fact::SetUpFailed { uid: UID.into(), why: "no".into() };
        case.learn(10, set_up_failed());
        case.failed(10, 1);
        assert_eq!(case.told(10), (None, Some(11)));
        case.want(2);
        assert_eq!(case.told(10), (Some("set up"), None));
        // This time it was something else: what it could not write is no reason any more.
        case.learn(11, set_up_failed());
        assert_eq!(case.told(11), (None, Some(13)));
        let reasons = case.world.events.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>();
        assert_eq!(reasons, ["FailedCreatePodSandBox"]);
    }

    #[test]
    fn trouble_with_volumes_is_told_as_the_kubelet_tells_it() {
        let mut case = Case::new();
        let why = "MountVolume.SetUp failed for volume \"config\" : configmap \"x\" not found";
        case.learn(1, Fact::SetUpFailed { uid: UID.into(), why: why.into() });
        case.failed(1, 1);
        case.set_up(2, 1);
        case.learn(3, Fact::ProjectFailed { uid: UID.into(), digest: 2, why: why.into() });
        let told: Vec<_> =
            case.world.events.iter().map(|e| (e.reason.as_str(), e.message.as_str(), e.count)).collect();
        assert_eq!(told, [("FailedMount", why, 2)]);
    }
}
