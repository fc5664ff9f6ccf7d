//! Who may be there: one pod of a name at a time; and what a pod needs before its containers: its sandbox.

use std::sync::Arc;

use super::{Case, UID};
use crate::clock::Tick;
use crate::pod::facts::{Dismissal, Fact, World};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy::{Always, Never, OnFailure};
use crate::pod::spec::{Desired, Pod};

/// E18: Kubernetes' Test_allowPodStart and TestStaticPodExclusion. A kubelet has a queue for each name; here what
/// is wanted holds the newest alone, so that who left it while it waited never runs.
#[test]
fn e18_static_pods_of_a_name_are_there_one_after_the_other() {
    let pod = |uid: &str| {
        let (uid, name) = uid.split_once('/').unwrap_or((uid, "web"));
        let mut pod = (*sample::pod(Always, &[], &["c"])).clone();
        (pod.uid, pod.name) = (uid.into(), name.into());
        if name == "elsewhere" {
            (pod.name, pod.namespace) = ("web".into(), "other".into());
        }
        Arc::new(pod)
    };
    // What is there (`-`: dismissed) and what is wanted; what is done about it.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let table: [Row; 10] = [
        ("row 3: nobody is there", &[], &["u1"], &["admit u1"]),
        ("row 5: it is there already", &["u1"], &["u1"], &[]),
        ("its successor is wanted", &["u1"], &["u2"], &["dismiss u1"]),
        ("row 6: its successor waits", &["u1-"], &["u2"], &[]),
        ("row 8: two namesakes are ending", &["u1-", "u2-"], &["u3"], &[]),
        ("row 11: u2 was taken away while it waited", &["u1-"], &["u3"], &[]),
        ("and then the next one may", &[], &["u3"], &["admit u3"]),
        ("two of a name at once: the first", &[], &["u1", "u2"], &["admit u1"]),
        ("who waits holds up nobody", &["u1-"], &["u2", "u9/other"], &["admit u9"]),
        ("a namespace has names of its own", &["u1-"], &["u2/elsewhere"], &["admit u2"]),
    ];
    for (row, there, wanted, expected) in table {
        let mut world = World::default();
        for name in there {
            let uid = name.trim_end_matches('-');
            world.learn(Fact::Admitted { pod: pod(uid) }, Tick::seconds(0));
            if name.ends_with('-') {
                let why = Dismissal::Replaced;
                world.learn(Fact::Dismissed { uid: uid.into(), why }, Tick::seconds(1));
                // It takes its time.
                let (uid, container) = (uid.to_owned(), "c".to_owned());
                let starting = Fact::Starting { uid, container, run: 0, helper: 5, stdout: 6, stderr: 7 };
                world.learn(starting, Tick::seconds(1));
            }
        }
        let desired = Desired { pods: wanted.iter().map(|uid| pod(uid)).collect(), ..Desired::default() };
        let done = Case { desired, world }.due(2).0;
        let done: Vec<_> =
            done.iter().filter(|word| word.starts_with("admit") || word.starts_with("dismiss")).collect();
        assert_eq!(done, expected.iter().collect::<Vec<_>>(), "{row}");
    }
}

/// E4, rows 2 and 15: a sandbox is made anew whatever the policy, and no container waits for another reason.
/// Rows 7, 8, 9 and 14 (E5: 4, 11, 12 and 13) cannot arise: a sandbox that was made is mounts, and does not end.
#[test]
fn e4_a_sandbox_is_tried_again_under_every_policy() {
    for policy in [Always, OnFailure, Never] {
        let pod: Arc<Pod> = sample::pod(policy, &[], &["0", "1", "2"]);
        let desired = Desired { pods: vec![pod.clone()], ..Desired::default() };
        let mut case = Case { desired, world: World::default() };
        case.learn(0, Fact::Admitted { pod });
        assert_eq!(case.due(0), (vec!["set up u1".to_owned()], None));
        let mut at = 0;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            case.learn(at, Fact::SetUpFailed { uid: UID.into(), why: "no".into() });
            assert_eq!(case.due(at), (vec![], Some(Tick::seconds(at + wait))), "{policy:?}");
            at += wait;
            assert_eq!(case.due(at).0, ["set up u1"], "{policy:?}");
        }
        case.learn(at, Fact::SetUp { uid: UID.into(), ip: None });
        assert_eq!(case.due(at).0, ["find 0", "find 1", "find 2"]);
        for container in ["0", "1", "2"] {
            let (uid, container) = (UID.to_owned(), container.to_owned());
            case.learn(at, Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None });
        }
        assert_eq!(case.due(at).0, ["start 0", "start 1", "start 2"], "{policy:?}");
    }
}
