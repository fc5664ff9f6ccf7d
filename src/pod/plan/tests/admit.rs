//! Who is taken up, who waits, and what is said of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Case, word};
use crate::clock::Tick;
use crate::pod::facts::{Dismissal, Fact, World};
use crate::pod::plan::{Action, plan};
use crate::pod::resources::{Amounts, Node};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy::Always;
use crate::pod::spec::{Desired, Pod, PodSecurity, Profile};

/// A pod `u<n>` that asks for so much cpu and memory.
fn pod(number: u8, cpu: u64, memory: u64) -> Pod {
    let mut pod = sample::pod(Always, &[], &["c"]).as_ref().clone();
    (pod.uid, pod.name) = (format!("u{number}"), format!("p{number}"));
    let asked = &mut pod.containers[0].resources;
    (asked.cpu_request, asked.memory_request) = (Some(cpu), Some(memory));
    pod
}

/// 1000m, 100 bytes, 50 bytes of storage, 4 MiB of huge pages, 3 pods.
fn small() -> Node {
    let allocatable = Amounts {
        cpu_milli: 1000,
        memory: 100,
        storage: 50,
        huge_pages: BTreeMap::from([(2 << 20, 4 << 20)]),
    };
    Node { allocatable, pods: 3, kernel: Some((6, 12)), ..Node::default() }
}

fn wanted(pods: Vec<Pod>, node: Node) -> Case {
    let pods = pods.into_iter().map(Arc::new).collect();
    Case { desired: Desired { pods, node, ..Desired::default() }, world: World::default() }
}

impl Case {
    /// Does what is due about admission until nothing of it is; what it was.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..20 {
            let plan = plan(&self.desired, &self.world, Tick::seconds(1));
            let answers = plan.actions.iter().filter_map(|action| {
                let fact = match action.clone() {
                    Action::Admit(pod) => Fact::Admitted { pod },
                    Action::Reject { pod, reason, message } => Fact::Rejected { pod, reason, message },
                    Action::Withdraw { uid } => Fact::Withdrawn { uid },
                    Action::Dismiss { uid, why } => Fact::Dismissed { uid, why },
                    Action::TearDown { uid, .. } => Fact::TornDown { uid },
                    _ => return None,
                };
                Some((word(action), fact))
            });
            let Some((what, fact)) = answers.collect::<Vec<_>>().into_iter().next() else { return done };
            done.push(what);
            self.learn(1, fact);
        }
        panic!("never settles: {done:?}");
    }

    fn message(&self, uid: &str) -> &str {
        &self.world.rejected[uid].message
    }
}

fn huge(number: u8, bytes: u64) -> Pod {
    let mut pod = pod(number, 0, 0);
    pod.containers[0].huge_pages = BTreeMap::from([(2 << 20, bytes)]);
    pod
}

fn storage(number: u8, bytes: u64) -> Pod {
    let mut pod = pod(number, 0, 0);
    pod.containers[0].resources.storage_request = Some(bytes);
    pod
}

/// One pod is there that takes 600m, 60 bytes, 30 of storage and one huge page.
#[test]
fn the_first_check_that_fails_is_told_in_the_kubelets_words() {
    let out = |resource: &str, [asked, used, most]: [u64; 3]| {
        (
            format!("OutOf{resource}"),
            format!(
                "Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {most}"
            ),
        )
    };
    let sysctl = |name: &str| Pod {
        security: PodSecurity { sysctls: vec![(name.into(), "1".into())], ..PodSecurity::default() },
        ..pod(2, 500, 0)
    };
    let mut apparmor = pod(2, 500, 0);
    apparmor.containers[0].security.apparmor = Profile::Localhost("mine".into());
    let table: [(Pod, Option<(String, String)>); 11] = [
        (pod(2, 400, 40), None),
        (pod(2, 401, 0), Some(out("cpu", [401, 600, 1000]))),
        (pod(2, 0, 41), Some(out("memory", [41, 60, 100]))),
        (pod(2, 500, 41), Some(out("cpu", [500, 600, 1000]))),
        (storage(2, 20), None),
        (storage(2, 21), Some(out("ephemeral-storage", [21, 30, 50]))),
        (huge(2, 2 << 20), None),
        (huge(2, 4 << 20), Some(out("hugepages-2Mi", [4 << 20, 2 << 20, 4 << 20]))),
        (sysctl("kernel.shm_rmid_forced"), Some(out("cpu", [500, 600, 1000]))),
        (
            sysctl("kernel.msgmax"),
            Some(("SysctlForbidden".into(), "forbidden sysctl: \"kernel.msgmax\" not allowlisted".into())),
        ),
        (
            apparmor,
            Some((
                "AppArmor".into(),
                "Cannot enforce AppArmor: AppArmor is not enabled on the host (container: c)".into(),
            )),
        ),
    ];
    for (second, expected) in table {
        let mut first = pod(1, 600, 60);
        first.containers[0].resources.storage_request = Some(30);
        first.containers[0].huge_pages = BTreeMap::from([(2 << 20, 2 << 20)]);
        let mut case = wanted(vec![first, second], small());
        let done = case.settle();
        assert_eq!(done[0], "admit u1");
        let told = case.world.rejected.get("u2").map(|told| (told.reason.clone(), told.message.clone()));
        assert_eq!(told, expected);
        assert_eq!(case.world.pods.contains_key("u2"), expected.is_none());
        assert_eq!(case.settle(), Vec::<String>::new(), "told once");
    }
}

#[test]
fn pods_are_counted() {
    let mut case = wanted((1..5).map(|number| pod(number, 0, 0)).collect(), small());
    assert_eq!(case.settle(), ["admit u1", "admit u2", "admit u3", "reject u4: OutOfpods"]);
    assert_eq!(
        case.message("u4"),
        "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
    );
}

#[test]
fn what_waits_comes_in_its_order_when_there_is_room_and_holds_nobody_up() {
    let mut case = wanted(vec![pod(1, 700, 0), pod(2, 600, 0), pod(3, 300, 0), pod(4, 100, 0)], small());
    let done = ["admit u1", "admit u3", "reject u2: OutOfcpu", "reject u4: OutOfcpu"];
    assert_eq!(case.settle(), done);
    case.desired.pods.remove(0);
    let done = case.settle();
    // While the first one ends it still holds what it has.
    assert_eq!(done, ["dismiss u1", "tear down u1", "admit u2", "admit u4"]);
    assert!(case.world.rejected.is_empty());
}

#[test]
fn a_pod_that_runs_keeps_its_place_whatever_comes_before_it() {
    let mut case = wanted(vec![pod(2, 800, 0)], small());
    assert_eq!(case.settle(), ["admit u2"]);
    case.desired.pods.insert(0, Arc::new(pod(1, 800, 0)));
    assert_eq!(case.settle(), ["reject u1: OutOfcpu"]);
}

#[test]
fn a_rejection_is_told_again_when_it_says_something_else() {
    let mut case = wanted(vec![pod(1, 300, 0), pod(2, 2000, 0)], small());
    assert_eq!(case.settle(), ["admit u1", "reject u2: OutOfcpu"]);
    let since = case.world.rejected["u2"].since;
    case.desired.pods.insert(1, Arc::new(pod(3, 100, 0)));
    assert_eq!(case.settle(), ["admit u3", "reject u2: OutOfcpu"]);
    assert!(case.message("u2").contains("used: 400"));
    assert_eq!(case.world.rejected["u2"].since, since);
    // The same words of another content, under the same uid.
    let edited = Pod { grace: std::time::Duration::from_secs(1), ..pod(2, 2000, 0) };
    case.desired.pods[2] = Arc::new(edited.clone());
    assert_eq!(case.settle(), ["reject u2: OutOfcpu"]);
    assert_eq!(*case.world.rejected["u2"].pod, edited);
}

/// What is used is part of the message: the status follows it, and nobody is told again.
#[test]
fn a_rejection_was_told_whenever_others_came_or_went() {
    let node = Node { pods: 9, ..small() };
    let mut case = wanted(vec![pod(1, 300, 0), pod(2, 2000, 0)], node);
    let told = |case: &Case| {
        let events = case.world.events.iter().filter(|event| event.uid == "u2");
        events.map(|event| event.count).collect::<Vec<_>>()
    };
    case.settle();
    assert_eq!(told(&case), [1]);
    for (number, used) in [(3, 400), (4, 500)] {
        let other = Arc::new(pod(number, 100, 0));
        case.desired.pods.insert(0, other.clone());
        case.learn(2, Fact::Admitted { pod: other });
        let mut actions = plan(&case.desired, &case.world, Tick::seconds(2)).actions.into_iter();
        let rejected = actions.find_map(|action| match action {
            Action::Reject { pod, reason, message } => Some(Fact::Rejected { pod, reason, message }),
            _ => None,
        });
        let rejected = rejected.expect("its status is kept current");
        assert_eq!(rejected.line(&case.world), None);
        case.learn(2, rejected);
        assert!(case.message("u2").contains(&format!("used: {used}")), "{}", case.message("u2"));
        assert_eq!(told(&case), [1]);
    }
}

#[test]
fn a_rejection_goes_with_the_wish() {
    let gone: [fn(&mut Case); 3] = [
        |case| drop(case.desired.pods.remove(1)),
        |case| case.desired.ending = true,
        // Another pod has taken its name meanwhile; it waits for that one, and nothing is wrong with it.
        |case| {
            let other = Pod { uid: "u9".into(), ..pod(2, 1, 1) };
            case.learn(1, Fact::Admitted { pod: Arc::new(other) });
            case.learn(1, Fact::Dismissed { uid: "u9".into(), why: Dismissal::Removed });
        },
    ];
    for change in gone {
        let mut case = wanted(vec![pod(1, 600, 0), pod(2, 600, 0)], small());
        assert_eq!(case.settle(), ["admit u1", "reject u2: OutOfcpu"]);
        change(&mut case);
        let plan = plan(&case.desired, &case.world, Tick::seconds(1));
        assert!(plan.actions.iter().any(|action| word(action) == "withdraw u2"), "{plan:?}");
        case.learn(1, Fact::Withdrawn { uid: "u2".into() });
        assert!(case.world.rejected.is_empty());
    }
}

#[test]
fn a_taken_port_is_told() {
    let port = |number: u8| {
        let mut pod = pod(number, 0, 0);
        pod.host_network = true;
        let port = k8s_openapi::api::core::v1::ContainerPort { host_port: Some(80), ..Default::default() };
        let container =
            k8s_openapi::api::core::v1::Container { ports: Some(vec![port]), ..Default::default() };
        pod.object.spec.get_or_insert_default().containers = vec![container];
        pod
    };
    let mut case = wanted(vec![port(1), port(2)], small());
    assert_eq!(case.settle(), ["admit u1", "reject u2: NodePorts"]);
    assert_eq!(
        case.message("u2"),
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    );
}
