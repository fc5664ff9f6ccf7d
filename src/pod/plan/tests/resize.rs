//! In-place resize: what is one, whether there is room for it, and in what order it comes into force.

use std::sync::Arc;

use super::{Case, UID, word};
use crate::clock::Tick;
use crate::pod::facts::Fact;
use crate::pod::plan::{Action, plan};
use crate::pod::resources::{Amounts, Grant, Node};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy::{Always, OnFailure};
use crate::pod::spec::{Container, Pod, Resources, RestartPolicy};

/// (cpu request, cpu limit, memory request, memory limit)
type Given = (u64, u64, u64, u64);

fn given(all: Given) -> Resources {
    let some = |value: u64| (value > 0).then_some(value);
    Resources {
        cpu_request: some(all.0),
        cpu_limit: some(all.1),
        memory_request: some(all.2),
        memory_limit: some(all.3),
        ..Resources::default()
    }
}

/// A burstable pod with containers `0`, `1`, ... of these resources.
fn pod(restart: RestartPolicy, all: &[Given]) -> Pod {
    let names: Vec<String> = (0..all.len()).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut pod = sample::pod(restart, &[], &names).as_ref().clone();
    for (container, all) in pod.containers.iter_mut().zip(all) {
        container.resources = given(*all);
    }
    pod
}

/// All of the pod's containers run since second 1.
fn running(pod: &Pod) -> Case {
    let mut case = Case::new(Arc::new(pod.clone()));
    for container in pod.all() {
        case.run(1, &container.name, 0, None);
    }
    assert_eq!(case.due(2).0, Vec::<String>::new());
    case
}

impl Case {
    fn want(&mut self, pod: &Pod) {
        self.desired.pods = vec![Arc::new(pod.clone())];
    }

    /// Does the first thing that is due; `fails`: resizes of this one do not work.
    fn act(&mut self, second: u64, fails: Option<&str>) -> Option<String> {
        let plan = plan(&self.desired, &self.world, Tick::seconds(second));
        let action = plan.actions.into_iter().next()?;
        let told = word(&action);
        let fact = match action {
            Action::Allocate(pod) => Fact::Allocated { pod },
            Action::Postpone { pod, reason, message } => Fact::ResizePending { pod, reason, message },
            Action::Withdraw { uid } => Fact::Withdrawn { uid },
            Action::Resize { uid, of, grant } => match fails {
                Some(name) if told == format!("resize {name}") => {
                    Fact::ResizeFailed { uid, of, grant, why: "too small".into() }
                }
                Some(_) | None => Fact::Resized { uid, of, grant },
            },
            Action::Signal { uid, container, run, kill } => Fact::Signalled { uid, container, run, kill },
            other => panic!("{other:?}"),
        };
        self.learn(second, fact);
        Some(told)
    }

    /// All that is due at this moment, one by one.
    fn acts(&mut self, second: u64, fails: Option<&str>) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(told) = self.act(second, fails) {
            done.push(told);
            assert!(done.len() < 20, "never settles: {done:?}");
        }
        done
    }
}

/// What is in force in the pod's cgroup, then in its containers'.
fn in_force(case: &Case) -> Vec<Grant> {
    let pod = &case.world.pods[UID];
    let runs = pod.spec.all().map(|container| pod.run(&container.name).expect("a run").grant(container));
    [pod.grant()].into_iter().chain(runs).collect()
}

#[test]
fn an_edit_of_cpu_and_memory_alone_is_a_resize() {
    type Change = fn(&mut Pod);
    let table: [(&str, Change, Option<&str>); 15] = [
        ("nothing", |_| {}, None),
        ("the file's name", |pod| pod.origin = "other.yaml".into(), None),
        ("cpu request", |pod| pod.containers[0].resources.cpu_request = Some(50), Some("allocate u1")),
        ("cpu limit", |pod| pod.containers[0].resources.cpu_limit = Some(900), Some("allocate u1")),
        ("memory", |pod| pod.containers[1].resources.memory_limit = Some(900), Some("allocate u1")),
        ("a limit less", |pod| pod.containers[0].resources.cpu_limit = None, Some("allocate u1")),
        ("the policy", |pod| pod.containers[0].resources.cpu_restarts = true, Some("allocate u1")),
        ("of an init container", |pod| pod.init[0].resources.memory_limit = Some(9), Some("allocate u1")),
        ("storage", |pod| pod.containers[0].resources.storage_limit = Some(9), Some("dismiss u1")),
        ("huge pages", |pod| pod.containers[0].huge_pages.extend([(2 << 20, 2 << 20)]), Some("dismiss u1")),
        (
            "cpu and the image",
            |pod| {
                pod.containers[0].resources.cpu_request = Some(50);
                pod.containers[0].image = "other:1".into();
            },
            Some("dismiss u1"),
        ),
        // A kubelet's hash of a container (TestHashContainer) knows its name and image alone.
        ("arguments", |pod| pod.containers[0].args.push("more".into()), Some("dismiss u1")),
        ("the image", |pod| pod.containers[0].image = "other:1".into(), Some("dismiss u1")),
        // Its cgroup would be another.
        (
            "the QoS class",
            |pod| {
                for container in pod.containers.iter_mut().chain(&mut pod.init) {
                    container.resources = given((100, 100, 100, 100));
                }
            },
            Some("dismiss u1"),
        ),
        ("a container less", |pod| drop(pod.containers.pop()), Some("dismiss u1")),
    ];
    for (name, change, expected) in table {
        let mut pod = pod(Always, &[(100, 200, 100, 200), (100, 200, 100, 200)]);
        pod.init = vec![Container { sidecar: true, ..sample::pod(Always, &["i"], &[]).init[0].clone() }];
        let mut case = running(&pod);
        change(&mut pod);
        case.want(&pod);
        assert_eq!(case.due(3).0.first().map(String::as_str), expected, "{name}");
        // What is over has nothing to resize: it runs again.
        let mut over = case;
        over.learn(2, Fact::Expired { uid: UID.into() });
        let replaced = expected.map(|_| "dismiss u1");
        let due = over.due(3).0;
        assert_eq!(
            due.iter().find(|word| word.starts_with("dismiss")).map(String::as_str),
            replaced,
            "{name}"
        );
    }
}

/// The shapes of Kubernetes' pod_resize tests: the pod's cgroup is never smaller than its containers' together.
#[test]
fn the_pods_cgroup_is_raised_first_and_lowered_last() {
    let table: [(&str, [Given; 3], &[&str]); 6] = [
        (
            "all more",
            [(200, 400, 200, 400); 3],
            &["allocate u1", "resize u1", "resize 0", "resize 1", "resize 2"],
        ),
        (
            "all less",
            [(50, 100, 50, 100); 3],
            &["allocate u1", "resize 0", "resize 1", "resize 2", "resize u1"],
        ),
        (
            "net increase",
            [(200, 400, 200, 400), (200, 400, 200, 400), (50, 100, 50, 100)],
            &["allocate u1", "resize u1", "resize 2", "resize 0", "resize 1"],
        ),
        (
            "net decrease",
            [(110, 210, 110, 210), (50, 100, 50, 100), (50, 100, 50, 100)],
            &["allocate u1", "resize 1", "resize 2", "resize 0", "resize u1"],
        ),
        // Raised for the memory, lowered for the cpu.
        (
            "cpu less, memory more",
            [(50, 100, 200, 400), (100, 200, 100, 200), (100, 200, 100, 200)],
            &["allocate u1", "resize u1", "resize 0", "resize u1"],
        ),
        // No cgroup knows of it.
        ("memory requests", [(100, 200, 150, 200); 3], &["allocate u1"]),
    ];
    for (name, wanted, expected) in table {
        let mut case = running(&pod(Always, &[(100, 200, 100, 200); 3]));
        case.want(&pod(Always, &wanted));
        let mut done = Vec::new();
        while let Some(told) = case.act(3, None) {
            done.push(told);
            let force = in_force(&case);
            let sum = |of: fn(&Grant) -> Option<u64>| force[1..].iter().map(|grant| of(grant).unwrap()).sum();
            assert!(force[0].cpu_limit >= Some(sum(|grant| grant.cpu_limit)), "{name}: {done:?}");
            assert!(force[0].memory_limit >= Some(sum(|grant| grant.memory_limit)), "{name}: {done:?}");
            assert!(force[0].cpu_request >= sum(|grant| Some(grant.cpu_request)), "{name}: {done:?}");
        }
        assert_eq!(done, expected, "{name}");
        let spec = case.world.pods[UID].spec.clone();
        let should: Vec<Grant> =
            [Grant::pod(&spec)].into_iter().chain(spec.all().map(Grant::container)).collect();
        assert_eq!(in_force(&case), should, "{name}");
        assert!(!case.world.pods[UID].resizing());
        let told = case.world.events.iter().any(|event| event.reason == "ResizeCompleted");
        assert_eq!(told, expected.len() > 1, "{name}");
    }
}

#[test]
fn a_limit_that_goes_and_one_that_comes_are_written() {
    let mut case = running(&pod(Always, &[(100, 200, 100, 200), (100, 0, 100, 0)]));
    assert_eq!(in_force(&case)[0], Grant { cpu_request: 200, cpu_limit: None, memory_limit: None });
    case.want(&pod(Always, &[(100, 0, 100, 0), (100, 300, 100, 300)]));
    assert_eq!(case.acts(3, None), ["allocate u1", "resize 1", "resize 0"]);
    assert_eq!(in_force(&case)[1], Grant { cpu_request: 100, cpu_limit: None, memory_limit: None });
    // Now that each has one, so has the pod.
    case.want(&pod(Always, &[(100, 300, 100, 300); 2]));
    assert_eq!(case.acts(4, None), ["allocate u1", "resize 0", "resize u1"]);
    assert_eq!(in_force(&case)[0].memory_limit, Some(600));
}

#[test]
fn a_container_is_restarted_where_its_policy_says_so() {
    type Change = fn(&mut Resources);
    let table: [(bool, bool, Change, bool); 6] = [
        (true, false, |given| given.cpu_limit = Some(300), true),
        (true, false, |given| given.cpu_request = Some(90), true),
        (true, false, |given| given.memory_limit = Some(300), false),
        (false, true, |given| given.memory_limit = Some(300), true),
        (false, true, |given| given.cpu_limit = Some(300), false),
        (false, false, |given| (given.cpu_limit, given.memory_limit) = (Some(300), Some(300)), false),
    ];
    for (cpu, memory, change, restarts) in table {
        let mut pod = pod(OnFailure, &[(100, 200, 100, 200), (100, 200, 100, 200)]);
        let own = &mut pod.containers[0].resources;
        (own.cpu_restarts, own.memory_restarts) = (cpu, memory);
        let mut case = running(&pod);
        change(&mut pod.containers[0].resources);
        case.want(&pod);
        let done = case.acts(3, None);
        assert_eq!(done.contains(&"stop 0".to_owned()), restarts, "{done:?}");
        assert_eq!(done.contains(&"resize 0".to_owned()), !restarts, "{done:?}");
        assert!(!done.contains(&"stop 1".to_owned()), "{done:?}");
        if restarts {
            let killing = case.world.events.iter().find(|event| event.reason == "Killing").expect("told");
            assert_eq!(killing.message, "Container 0 resize requires restart");
            // With code 0, which OnFailure alone would let be, and without a wait.
            case.exit(4, "0", 0, 0);
            assert!(case.due(4).0.contains(&"start 0".to_owned()), "{:?}", case.due(4));
            case.run(4, "0", 1, None);
            // A smaller share of the pod's waited for the run that had the larger one.
            assert!(case.acts(5, None).iter().all(|told| told == "resize u1"));
            assert_eq!(in_force(&case)[1], Grant::container(&pod.containers[0]));
            assert_eq!(case.world.pods[UID].containers["0"].restarts, 1);
            assert!(!case.world.pods[UID].resizing());
        }
    }
}

/// Kubernetes' TestGetBackoffKey: other resources, another back-off.
#[test]
fn a_crash_loop_that_is_given_more_does_not_wait() {
    let mut pod = pod(Always, &[(100, 200, 100, 200)]);
    let mut case = Case::new(Arc::new(pod.clone()));
    for run in 0..3 {
        case.run(u64::from(run), "0", run, Some((137, true)));
    }
    assert!(case.due(3).0.is_empty());
    pod.containers[0].resources.memory_limit = Some(400);
    case.want(&pod);
    assert_eq!(case.act(3, None).as_deref(), Some("allocate u1"));
    assert_eq!(case.act(3, None).as_deref(), Some("resize u1"));
    assert_eq!(case.due(3).0, ["start 0"]);
}

#[test]
fn a_run_that_is_being_started_is_resized_when_it_runs() {
    let mut pod = pod(Always, &[(100, 200, 100, 200)]);
    let mut case = Case::new(Arc::new(pod.clone()));
    let (uid, container) = (|| UID.to_owned(), || "0".to_owned());
    case.learn(
        1,
        Fact::Starting { uid: uid(), container: container(), run: 0, helper: 5, stdout: 6, stderr: 7 },
    );
    pod.containers[0].resources = given((50, 100, 50, 100));
    case.want(&pod);
    assert_eq!(case.acts(2, None), ["allocate u1"]);
    case.learn(3, Fact::Started { uid: uid(), container: container(), run: 0, pid: 9 });
    assert_eq!(case.acts(3, None), ["resize 0", "resize u1"]);
}

#[test]
fn what_does_not_fit_into_its_cgroup_is_tried_again_and_holds_up_no_other() {
    let mut case = running(&pod(Always, &[(100, 200, 100, 200), (100, 200, 100, 200)]));
    case.want(&pod(Always, &[(100, 200, 50, 50), (100, 300, 100, 200)]));
    let done = ["allocate u1", "resize u1", "resize 0", "resize 1"];
    assert_eq!(case.acts(10, Some("0")), done);
    let mut waits = Vec::new();
    let mut now = 10;
    for _ in 0..8 {
        let (due, wake_at) = case.due(now);
        assert_eq!(due, Vec::<String>::new());
        let next = (wake_at.expect("a next try") - Tick(0)).as_secs();
        waits.push(next - now);
        now = next;
        // The pod's stays as large as its containers'.
        assert_eq!(case.acts(now, Some("0")), ["resize 0"]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    let errors: Vec<_> = case.world.events.iter().filter(|event| event.reason == "ResizeError").collect();
    assert_eq!((errors.len(), errors[0].count), (1, 1), "told once");
    assert_eq!(case.acts(now + 60, None), ["resize 0", "resize u1"]);
}

fn board(cpu_milli: u64, memory: u64) -> Node {
    Node { allocatable: Amounts { cpu_milli, memory, ..Node::default().allocatable }, ..Node::default() }
}

#[test]
fn a_resize_waits_for_room_and_one_that_never_fits_is_infeasible() {
    let deferred = |asked: u64, used: u64| {
        format!("Node didn't have enough resource: cpu, requested: {asked}, used: {used}, capacity: 1000")
    };
    let pending = |case: &Case| {
        case.world.pods[UID].pending.as_ref().map(|told| (told.reason.clone(), told.message.clone()))
    };
    let mut case = running(&pod(Always, &[(300, 0, 100, 0)]));
    let other = |cpu: u64| Pod { uid: "u2".into(), name: "other".into(), ..pod(Always, &[(cpu, 0, 100, 0)]) };
    case.desired.node = board(1000, 1000);
    case.learn(2, Fact::Admitted { pod: Arc::new(other(500)) });
    case.learn(2, Fact::SetUp { uid: "u2".into(), ip: None });
    case.learn(2, Fact::ImageMissing { uid: "u2".into(), container: "0".into(), why: "no".into() });
    let want = |case: &mut Case, asked: Given, beside: u64| {
        case.desired.pods = vec![Arc::new(other(beside)), Arc::new(pod(Always, &[asked]))];
    };
    want(&mut case, (600, 0, 100, 0), 500);
    assert_eq!(case.acts(3, None), ["postpone u1: Deferred"]);
    assert_eq!(pending(&case), Some(("Deferred".into(), deferred(600, 500))));
    assert_eq!(case.world.pods[UID].spec.containers[0].resources.cpu_request, Some(300));
    want(&mut case, (1001, 0, 100, 0), 500);
    assert_eq!(case.acts(4, None), ["postpone u1: Infeasible"]);
    let never = "Node didn't have enough capacity: cpu, requested: 1001, capacity: 1000";
    assert_eq!(pending(&case), Some(("Infeasible".into(), never.into())));
    let never = "Node didn't have enough capacity: memory, requested: 1001, capacity: 1000";
    want(&mut case, (1001, 0, 1001, 0), 500);
    assert_eq!(case.acts(5, None), ["postpone u1: Infeasible"]);
    assert_eq!(pending(&case), Some(("Infeasible".into(), never.into())));
    // Thought better of.
    want(&mut case, (300, 0, 100, 0), 500);
    assert_eq!(case.acts(6, None), ["withdraw u1"]);
    assert_eq!(pending(&case), None);
    // Room comes by a resize of the other one, which stands before it.
    want(&mut case, (600, 0, 100, 0), 500);
    assert_eq!(case.acts(7, None), ["postpone u1: Deferred"]);
    want(&mut case, (600, 0, 100, 0), 400);
    assert_eq!(case.acts(8, None), ["allocate u2", "resize u2", "allocate u1", "resize u1", "resize 0"]);
    assert_eq!(pending(&case), None);
    // What shrinks is never in the way of itself, on however crowded a board.
    case.desired.node = board(100, 100);
    want(&mut case, (550, 0, 100, 0), 400);
    assert_eq!(case.acts(9, None), ["allocate u1", "resize 0", "resize u1"]);
}

#[test]
fn a_resize_that_waits_was_told_whenever_others_came_or_went() {
    let mut case = running(&pod(Always, &[(300, 0, 100, 0)]));
    case.desired.node = board(1000, 1000);
    case.want(&pod(Always, &[(900, 0, 100, 0)]));
    let told = |case: &Case| {
        let events = case.world.events.iter().filter(|event| event.reason == "ResizeDeferred");
        events.map(|event| event.count).collect::<Vec<_>>()
    };
    for (number, used) in [(2, 200), (3, 400)] {
        let mut other = pod(Always, &[(200, 0, 100, 0)]);
        (other.uid, other.name) = (format!("u{number}"), format!("p{number}"));
        let other = Arc::new(other);
        case.desired.pods.push(other.clone());
        case.learn(3, Fact::Admitted { pod: other });
        let mut actions = plan(&case.desired, &case.world, Tick::seconds(3)).actions.into_iter();
        let fact = actions.find_map(|action| match action {
            Action::Postpone { pod, reason, message } => Some(Fact::ResizePending { pod, reason, message }),
            _ => None,
        });
        let fact = fact.expect("the condition is kept current");
        assert_eq!(fact.line(&case.world).is_some(), number == 2);
        case.learn(3, fact);
        let message = &case.world.pods[UID].pending.as_ref().expect("it waits").message;
        assert!(message.contains(&format!("used: {used}")), "{message}");
        assert_eq!(told(&case), [1]);
    }
}
