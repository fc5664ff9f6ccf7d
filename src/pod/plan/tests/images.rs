//! I2, the kubelet's image_manager_test.go: what each of its looks at a pod does and tells about an image.

use std::sync::Arc;

use super::{Case, UID};
use crate::clock::{Tick, Wall};
use crate::pod::facts::{Fact, Pulled, World};
use crate::pod::sample;
use crate::pod::spec::PullPolicy::{self, Always, IfNotPresent, Never};
use crate::pod::spec::{Desired, Pod, RestartPolicy};
use crate::pod::status::{Node, status};

/// How a look at the image ends.
#[derive(Clone, Copy)]
enum Look {
    /// It is in the store.
    There,
    /// It is pulled.
    Comes,
    /// Its pull is begun, and fails for this.
    Fails(&'static str),
    /// There is no pull, for this reason.
    No(&'static str),
}

impl Case {
    /// What hands do about `find c`.
    fn look(&mut self, second: u64, look: Look) {
        let (uid, container) = (|| UID.to_owned(), || "c".to_owned());
        let mut learn = |fact| self.world.learn(fact, Tick::seconds(second));
        let pulling = Fact::ImagePulling { uid: uid(), container: container(), lacking: vec![] };
        let found =
            |pulled| Fact::ImageFound { uid: uid(), container: container(), id: "sha256:1".into(), pulled };
        let missing =
            |why: &str| Fact::ImageMissing { uid: uid(), container: container(), why: why.to_owned() };
        match look {
            Look::There => learn(found(None)),
            Look::Comes => {
                learn(pulling);
                learn(found(Some(Pulled { millis: 1500, waited: 2500, size: 7 })));
            }
            Look::Fails(why) => {
                learn(pulling);
                learn(missing(why));
            }
            Look::No(why) => learn(missing(why)),
        }
    }

    /// `Type Reason: message` of all that was told from this second on, the oldest first.
    fn told(&self, second: u64) -> Vec<String> {
        let news = self.world.events.iter().filter(|event| event.last >= Tick::seconds(second));
        let line = |event: &crate::pod::facts::Event| {
            let kind = if event.warning { "Warning" } else { "Normal" };
            format!("{kind} {}: {}", event.reason, event.message)
        };
        news.map(line).collect()
    }

    /// `reason: message` for which the container waits.
    fn waits(&self, second: u64) -> String {
        let now = Tick(Tick::seconds(second).0 + 9);
        let status = status(&self.world.pods[UID], now, &Wall::at_boot(0), &Node::default());
        let state = status.container_statuses.unwrap().remove(0).state.unwrap();
        let waiting = state.waiting.unwrap_or_default();
        format!("{}: {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
    }
}

fn case(image: &str, pull: PullPolicy) -> Case {
    let mut pod = (*sample::pod(RestartPolicy::Always, &[], &["c"])).clone();
    (pod.containers[0].image, pod.containers[0].pull) = (image.to_owned(), pull);
    set_up(pod)
}

/// Of its images nothing is known.
fn set_up(pod: Pod) -> Case {
    let pod = Arc::new(pod);
    let desired = Desired { pods: vec![pod.clone()], ..Desired::default() };
    let mut case = Case { desired, world: World::default() };
    case.learn(0, Fact::Admitted { pod });
    case.learn(0, Fact::SetUp { uid: UID.into(), ip: None });
    case
}

/// One look of the kubelet's: what is done, what is told of it, and for what the container waits then.
type Sync<'a> = (&'a str, &'a [&'a str], &'a str);

const PULLING: &str = "Normal Pulling: Pulling image \"x\"";
const PULLED: &str =
    "Normal Pulled: Successfully pulled image \"x\" in 1.5s (2.5s including waiting). Image size: 7 bytes.";
const PRESENT: &str = "Normal Pulled: Container image \"x\" already present on machine";
const ERROR: &str = "Warning Failed: Error: ErrImagePull";
const BACK_OFF: &[&str] =
    &["Normal BackOff: Back-off pulling image \"x\"", "Warning Failed: Error: ImagePullBackOff"];
const GOES_ON: &str = "ContainerCreating: ";

/// Rows 1 to 4 and 6 to 9, with a clock that steps by the first wait: there by a second, here by ten.
#[test]
fn i2_each_look_does_and_tells_what_the_kubelets_does() {
    let failed: &[&str] = &[PULLING, "Warning Failed: Failed to pull image \"x\": 404", ERROR];
    let fails = ("find c", failed, "ErrImagePull: 404");
    let waits: Sync =
        ("back off c", BACK_OFF, "ImagePullBackOff: Back-off pulling image \"x\": ErrImagePull: 404");
    // It was told: nothing is done or told again, and it waits as before.
    let still: Sync = ("", &[], waits.2);
    let rate: &[&str] = &[PULLING, "Warning Failed: Failed to pull image \"x\": pull QPS exceeded", ERROR];
    let exceeded: Sync = ("find c", rate, "ErrImagePull: pull QPS exceeded");
    let held: Sync = (
        "back off c",
        BACK_OFF,
        "ImagePullBackOff: Back-off pulling image \"x\": ErrImagePull: pull QPS exceeded",
    );
    let never: Sync = (
        "find c",
        &[
            "Warning ErrImageNeverPull: Container image \"x\" is not present with pull policy of Never",
            "Warning Failed: Error: ErrImageNeverPull",
        ],
        "ErrImageNeverPull: Container image \"x\" is not present with pull policy of Never",
    );
    let invalid: Sync = (
        "find c",
        &[
            "Warning InspectFailed: Failed to apply default image tag \"x\": it is bad",
            "Warning Failed: Error: InvalidImageName",
        ],
        "InvalidImageName: Failed to apply default image tag \"x\": it is bad",
    );
    let damaged: Sync = (
        "find c",
        &[
            "Warning InspectFailed: Failed to inspect image \"x\": damaged: here",
            "Warning Failed: Error: ImageInspectError",
        ],
        "ImageInspectError: Failed to inspect image \"x\": damaged: here",
    );
    let absent =
        Look::No("ErrImageNeverPull: Container image \"x\" is not present with pull policy of Never");
    let (bad, broken) =
        (Look::No("InvalidImageName: it is bad"), Look::No("ImageInspectError: damaged: here"));
    let table: &[(&str, PullPolicy, Look, &[Sync])] = &[
        ("1", IfNotPresent, Look::Comes, &[("find c", &[PULLING, PULLED], GOES_ON)]),
        ("2", IfNotPresent, Look::There, &[("find c", &[PRESENT], GOES_ON)]),
        ("3", Always, Look::Comes, &[("find c", &[PULLING, PULLED], GOES_ON)]),
        ("4", Never, absent, &[never, never, never]),
        ("a damaged one", Never, broken, &[damaged, damaged, damaged]),
        ("6", IfNotPresent, Look::Fails("404"), &[fails, fails, waits, fails, waits, still, still, fails]),
        ("7", IfNotPresent, Look::Fails("pull QPS exceeded"), &[exceeded, exceeded, held, exceeded, held]),
        ("8", IfNotPresent, bad, &[invalid, invalid, invalid]),
        ("8, Never", Never, bad, &[invalid, invalid, invalid]),
    ];
    for (row, pull, look, syncs) in table {
        let mut case = case("x", *pull);
        for (number, (done, told, waits)) in syncs.iter().enumerate() {
            let second = 10 + 10 * number as u64;
            let due = case.due(second).0;
            assert_eq!(due.join(", "), *done, "row {row}, look {number}");
            match *done {
                "find c" => case.look(second, *look),
                "back off c" => {
                    let fact = Fact::ImageBackOff { uid: UID.into(), container: "c".into() };
                    case.learn(second, fact);
                }
                _ => {}
            }
            assert_eq!(case.told(second), *told, "row {row}, look {number}");
            assert_eq!(case.waits(second), *waits, "row {row}, look {number}");
        }
    }
}

/// Rows 2 and 3: an image that is there is looked at before every run, and with Always pulled.
#[test]
fn i2_an_image_is_seen_to_before_every_run_where_it_is_always_pulled() {
    for (pull, again) in [(IfNotPresent, "start c"), (Always, "find c")] {
        let mut case = case("x", pull);
        case.look(1, if pull == Always { Look::Comes } else { Look::There });
        case.run(2, "c", 0, Some((0, false)));
        assert_eq!(case.due(60).0, [again]);
    }
}

/// client-go's Backoff: 10 s, 20 s ... 5 min; a success does not forgive, ten minutes without a failure do.
#[test]
fn i2_the_back_off_doubles_and_is_forgotten_after_ten_minutes() {
    let mut case = case("x", Always);
    let mut at = 1;
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        case.look(at, Look::Fails("no"));
        if wait > 10 {
            assert_eq!(case.due(at + 10).0, ["back off c"]);
            case.learn(at + 10, Fact::ImageBackOff { uid: UID.into(), container: "c".into() });
        }
        assert_eq!(case.due(at + wait - 1), (vec![], Some(Tick::seconds(at + wait))));
        assert_eq!(case.due(at + wait).0, ["find c"], "{wait}");
        at += wait;
    }
    at -= 300;
    // How long after the last failure the next one is, and the how manieth it counts as.
    for (later, count) in [(600, 8), (601, 1), (599, 2), (1000, 1)] {
        case.look(at + 1, Look::Comes);
        at += later;
        case.look(at, Look::Fails("no"));
        let failed = case.world.pods[UID].containers["c"].failed_pulls;
        assert_eq!(failed, Some((count, Tick::seconds(at))), "{later}");
    }
}

/// Another container of the pod, whose image is there, does not wait for it.
#[test]
fn i2_a_missing_image_holds_up_no_other_container() {
    let mut case = set_up((*sample::pod(RestartPolicy::Never, &[], &["c", "other"])).clone());
    case.look(1, Look::Fails("not there"));
    let (uid, container) = (UID.to_owned(), "other".to_owned());
    case.learn(1, Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
    assert_eq!(case.due(1).0, ["start other"]);
}
