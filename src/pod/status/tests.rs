//! What is told of made-up pods: one line of table a situation.

mod life;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::pod::facts::{ContainerFacts, Dismissal, Exit, Image, Run, StartError};
use crate::pod::spec::{Container, Pod, PullPolicy, Resources, RestartPolicy};

/// A container that says no more than its name.
pub(crate) fn plain(name: &str) -> Container {
    Container {
        name: name.into(),
        image: "nginx:1.27".into(),
        pull: PullPolicy::IfNotPresent,
        command: vec![],
        args: vec![],
        working_dir: None,
        env: vec![],
        mounts: vec![],
        resources: Resources::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
        ..Container::default()
    }
}

/// `default/web-board1` with these containers, admitted at second 10, its sandbox ready at 11.
pub(crate) fn pod(restart: RestartPolicy, init: &[&str], containers: &[&str]) -> PodFacts {
    let named = |name: &&str| k8s::Container { name: (*name).into(), ..Default::default() };
    let spec = Pod {
        uid: "u1".into(),
        namespace: "default".into(),
        name: "web-board1".into(),
        origin: "web.yaml".into(),
        restart,
        grace: Duration::from_secs(30),
        host_network: false,
        hostname: "web-board1".into(),
        init: init.iter().map(|name| plain(name)).collect(),
        containers: containers.iter().map(|name| plain(name)).collect(),
        volumes: vec![],
        object: k8s::Pod {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some("web-board1".into()),
                namespace: Some("default".into()),
                uid: Some("u1".into()),
                ..Default::default()
            },
            spec: Some(k8s::PodSpec {
                init_containers: listed(init.iter().map(named).collect()),
                containers: containers.iter().map(named).collect(),
                ..Default::default()
            }),
            status: None,
        },
        ..Pod::default()
    };
    PodFacts {
        stale: None,
        size: Default::default(),
        pending: None,
        resized: None,
        counted: false,
        spec: Arc::new(spec),
        admitted: Tick::seconds(10),
        dismissed: None,
        expired: None,
        ids: None,
        sandbox: Sandbox::Ready { since: Tick::seconds(11), ip: Some("10.88.0.2".into()) },
        containers: BTreeMap::new(),
        stuck: None,
        projected: None,
    }
}

/// A run whose start helper was started at this second.
pub(crate) fn run(number: u32, starting: u64) -> Run {
    Run {
        number,
        starting: Tick::seconds(starting),
        helper: None,
        stdout: -1,
        stderr: -1,
        started: None,
        failed: None,
        stopped: None,
        killed: None,
        exited: None,
        cleaned: false,
        size: Default::default(),
        outgrown: None,
        worn: None,
        verdicts: Default::default(),
        hooks: Default::default(),
    }
}

/// A run that was started at once and, where given, ended at a second with a code.
pub(crate) fn ran(number: u32, starting: u64, exited: Option<(u64, i32)>) -> Run {
    Run {
        started: Some((Tick::seconds(starting), 100)),
        exited: exited.map(|(at, code)| (Tick::seconds(at), Exit { code, ..Exit::default() })),
        ..run(number, starting)
    }
}

/// A container whose image is there, with this newest run.
pub(crate) fn with(run: Run) -> ContainerFacts {
    ContainerFacts { image: found(), restarts: run.number, run: Some(run), ..ContainerFacts::default() }
}

fn found() -> Image {
    Image::Found { id: "sha256:abc".into() }
}

fn failed(reason: &str, ours: bool) -> ContainerFacts {
    let why = StartError { reason: reason.into(), message: "why".into(), ours };
    with(Run { failed: Some((Tick::seconds(20), why)), ..run(0, 19) })
}

fn missing(at: u64) -> ContainerFacts {
    let image = Image::Missing { tries: 1, at: Tick::seconds(at), why: "not found".into(), told: false };
    ContainerFacts { image, ..ContainerFacts::default() }
}

const WALL: Wall = Wall::at_boot(1_700_000_000);

fn told(facts: &PodFacts, second: u64) -> k8s::PodStatus {
    let node = Node { host_ips: vec!["10.0.2.15".into()], restart_cap: None };
    status(facts, Tick::seconds(second), &WALL, &node)
}

/// `waiting REASON: MESSAGE`, `running`, `terminated REASON CODE`.
fn brief(state: Option<&k8s::ContainerState>) -> String {
    let Some(state) = state else { return String::new() };
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone().unwrap_or_default();
        return match &waiting.message {
            Some(message) => format!("waiting {reason}: {message}"),
            None => format!("waiting {reason}"),
        };
    }
    match &state.terminated {
        Some(ended) => {
            format!("terminated {} {}", ended.reason.clone().unwrap_or_default(), ended.exit_code)
        }
        None => "running".to_owned(),
    }
}

#[test]
fn a_container_is_told_as_the_kubelet_tells_it() {
    use RestartPolicy::{Always, Never};
    let oom = Exit { code: 137, signal: Some(9), oom: true, message: "heap".into() };
    let oom = with(Run { exited: Some((Tick::seconds(20), oom)), ..ran(0, 15, None) });
    let again = |number, step, code| {
        let mut facts = with(ran(number, 15, Some((20, code))));
        facts.step = step;
        facts.stepped = Some(Tick::seconds(15));
        facts
    };
    let restarted = ContainerFacts { last: Some(ran(0, 12, Some((14, 3)))), ..with(ran(1, 15, None)) };
    let starting = ContainerFacts { last: Some(ran(0, 12, Some((14, 3)))), ..with(run(1, 15)) };
    let mut not_started = failed("StartError", false);
    (not_started.step, not_started.stepped) = (1, Some(Tick::seconds(15)));
    not_started.restarts = 2;
    not_started.run = not_started.run.map(|run| Run { number: 2, ..run });
    let backoff = |span: &str| {
        format!(
            "waiting CrashLoopBackOff: back-off {span} restarting failed container=a pod=web-board1_default(u1)"
        )
    };
    let table: Vec<(&str, RestartPolicy, ContainerFacts, String, &str, i32)> = vec![
        ("untouched", Always, ContainerFacts::default(), "waiting ContainerCreating".into(), "", 0),
        ("starting", Always, with(run(0, 15)), "waiting ContainerCreating".into(), "", 0),
        ("restarting", Always, starting, "waiting ContainerCreating".into(), "terminated Error 3", 1),
        ("running", Always, with(ran(0, 15, None)), "running".into(), "", 0),
        ("restarted", Always, restarted, "running".into(), "terminated Error 3", 1),
        ("done", Never, again(0, 0, 0), "terminated Completed 0".into(), "", 0),
        ("failed", Never, again(0, 0, 2), "terminated Error 2".into(), "", 0),
        ("out of memory", Never, oom, "terminated OOMKilled 137".into(), "", 0),
        ("restarts at once", Always, again(0, 0, 2), "terminated Error 2".into(), "", 0),
        ("10 s", Always, again(1, 1, 2), backoff("10s"), "terminated Error 2", 1),
        ("40 s, though it succeeded", Always, again(3, 3, 0), backoff("40s"), "terminated Completed 0", 3),
        ("160 s", Always, again(5, 5, 2), backoff("2m40s"), "terminated Error 2", 5),
        ("cap", Always, again(9, 9, 2), backoff("5m0s"), "terminated Error 2", 9),
        (
            "image lost",
            Always,
            ContainerFacts { image: missing(20).image, ..again(0, 0, 2) },
            "waiting ErrImagePull: not found".into(),
            "terminated Error 2",
            0,
        ),
        ("no image", Always, missing(20), "waiting ErrImagePull: not found".into(), "", 0),
        (
            "still no image",
            Always,
            missing(5),
            "waiting ImagePullBackOff: Back-off pulling image \"nginx:1.27\": ErrImagePull: not found".into(),
            "",
            0,
        ),
        (
            "config",
            Always,
            failed("CreateContainerConfigError", false),
            "waiting CreateContainerConfigError: why".into(),
            "",
            0,
        ),
        (
            "create",
            Always,
            failed("CreateContainerError", false),
            "waiting CreateContainerError: why".into(),
            "",
            0,
        ),
        ("ours", Always, failed("StartError", true), "waiting ContainerCreating: why".into(), "", 0),
        ("start", Never, failed("StartError", false), "terminated StartError 128".into(), "", 0),
        ("start, again", Always, not_started, backoff("10s"), "terminated StartError 128", 2),
    ];
    for (case, policy, facts, state, last, restarts) in table {
        let mut pod = pod(policy, &[], &["a"]);
        pod.containers.insert("a".into(), facts);
        let status = told(&pod, 25);
        let container = &status.container_statuses.as_ref().unwrap()[0];
        assert_eq!(brief(container.state.as_ref()), state, "{case}");
        assert_eq!(brief(container.last_state.as_ref()), last, "{case}: last state");
        assert_eq!(container.restart_count, restarts, "{case}: restarts");
        assert_eq!(container.ready, state == "running", "{case}: ready");
        let none = state.starts_with("waiting") && last.is_empty();
        assert_eq!(container.container_id.is_none(), none, "{case}: container id");
    }
}

#[test]
fn i2_a_missing_image_is_told_with_its_own_reason() {
    let mut facts = pod(RestartPolicy::Always, &[], &["a"]);
    // Each with its own words, told once; only a pull is backed off.
    for (reason, what, later) in [
        (
            "ErrImageNeverPull",
            "Container image \"nginx:1.27\" is not present with pull policy of Never",
            "ErrImageNeverPull: Container image \"nginx:1.27\" is not present with pull policy of Never",
        ),
        (
            "ImageInspectError",
            "damaged",
            "ImageInspectError: Failed to inspect image \"nginx:1.27\": damaged",
        ),
        (
            "ErrImagePull",
            "not found",
            "ImagePullBackOff: Back-off pulling image \"nginx:1.27\": ErrImagePull: not found",
        ),
    ] {
        let why = format!("{reason}: {what}");
        let image = Image::Missing { tries: 1, at: Tick::seconds(20), why: why.clone(), told: false };
        facts.containers.insert("a".into(), ContainerFacts { image, ..ContainerFacts::default() });
        let state = |second| {
            let status = told(&facts, second);
            brief(status.container_statuses.unwrap()[0].state.as_ref())
        };
        let now = if reason == "ErrImagePull" { why.as_str() } else { later };
        assert_eq!((state(25), state(35)), (format!("waiting {now}"), format!("waiting {later}")));
    }
    let image =
        Image::Missing { tries: 1, at: Tick::seconds(20), why: "InvalidImageName: bad".into(), told: false };
    facts.containers.insert("a".into(), ContainerFacts { image, ..ContainerFacts::default() });
    let state = brief(told(&facts, 25).container_statuses.unwrap()[0].state.as_ref());
    assert_eq!(state, "waiting InvalidImageName: Failed to apply default image tag \"nginx:1.27\": bad");
}

/// `TYPE=STATUS/REASON(MESSAGE)` of those that are not plainly true.
fn doubts(status: &k8s::PodStatus) -> Vec<String> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|one| one.status != "True" || one.reason.is_some())
        .map(|one| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!("{}={}/{}({})", one.type_, one.status, text(&one.reason), text(&one.message))
        })
        .collect()
}

#[test]
fn a_pods_life_is_told_in_phases_and_conditions() {
    let mut facts = pod(RestartPolicy::OnFailure, &["i", "j"], &["a", "b"]);
    let up = std::mem::take(&mut facts.sandbox);
    let waits = |names: &str| {
        vec![
            format!("Ready=False/ContainersNotReady(containers with unready status: {names})"),
            format!("ContainersReady=False/ContainersNotReady(containers with unready status: {names})"),
        ]
    };
    let before = |names: &str| {
        let text = format!("containers with incomplete status: {names}");
        let mut all = vec![format!("Initialized=False/ContainersNotInitialized({text})")];
        all.extend(waits("[a b]"));
        all
    };

    let status = told(&facts, 10);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(doubts(&status)[0], "PodReadyToStartContainers=False/()");
    assert_eq!(status.pod_ip, None);

    facts.sandbox = up;
    assert_eq!(doubts(&told(&facts, 11)), before("[i j]"));
    facts.containers.insert("i".into(), with(ran(0, 12, Some((13, 0)))));
    assert_eq!(doubts(&told(&facts, 13)), before("[j]"));
    facts.containers.insert("j".into(), with(ran(0, 13, Some((14, 0)))));
    let status = told(&facts, 14);
    assert_eq!((status.phase.as_deref(), doubts(&status)), (Some("Pending"), waits("[a b]")));
    assert_eq!(
        brief(status.container_statuses.as_ref().unwrap()[0].state.as_ref()),
        "waiting PodInitializing"
    );

    facts.containers.insert("a".into(), with(ran(0, 15, None)));
    let status = told(&facts, 15);
    assert_eq!((status.phase.as_deref(), doubts(&status)), (Some("Pending"), waits("[b]")));
    facts.containers.insert("b".into(), with(ran(0, 16, None)));
    let status = told(&facts, 16);
    assert_eq!((status.phase.as_deref(), doubts(&status)), (Some("Running"), vec![]));
    assert_eq!(status.pod_ip.as_deref(), Some("10.88.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("10.0.2.15"));
    let ready = &status.conditions.as_ref().unwrap()[2];
    assert_eq!(ready.last_transition_time.as_ref().unwrap().0.as_second(), 1_700_000_016);

    facts.containers.insert("b".into(), with(ran(0, 16, Some((20, 0)))));
    let status = told(&facts, 20);
    assert_eq!((status.phase.as_deref(), doubts(&status)), (Some("Running"), waits("[b]")));
    facts.containers.insert("a".into(), with(ran(0, 15, Some((21, 0)))));
    let status = told(&facts, 21);
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    assert_eq!(
        doubts(&status),
        [
            "Initialized=True/PodCompleted()",
            "Ready=False/PodCompleted()",
            "ContainersReady=False/PodCompleted()"
        ]
    );
}

#[test]
fn a_failed_pod_says_so() {
    let mut facts = pod(RestartPolicy::Never, &[], &["a"]);
    facts.containers.insert("a".into(), with(ran(0, 15, Some((16, 1)))));
    let status = told(&facts, 20);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(doubts(&status), ["Ready=False/PodFailed()", "ContainersReady=False/PodFailed()"]);
}

#[test]
fn a_readiness_gate_is_never_met() {
    let mut facts = pod(RestartPolicy::Always, &[], &["a"]);
    let mut spec = (*facts.spec).clone();
    let gates = ["gate1", "gate2"].map(|name| k8s::PodReadinessGate { condition_type: name.into() });
    spec.object.spec.as_mut().unwrap().readiness_gates = Some(gates.to_vec());
    facts.spec = Arc::new(spec);
    let unready = [
        "Ready=False/ContainersNotReady(containers with unready status: [a])",
        "ContainersReady=False/ContainersNotReady(containers with unready status: [a])",
    ];
    assert_eq!(doubts(&told(&facts, 14)), unready, "a gate is not asked before the containers are ready");
    facts.containers.insert("a".into(), with(ran(0, 15, None)));
    let unmet =
        |gate: &str| format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.");
    let unmet = format!("Ready=False/ReadinessGatesNotReady({}, {})", unmet("gate1"), unmet("gate2"));
    assert_eq!(doubts(&told(&facts, 16)), [unmet]);
}

/// Kubernetes' generate_test (E21): who is named as unready, sidecars first, plain init containers never.
#[test]
fn e21_ready_names_all_that_are_not() {
    // What runs (`+`), has ended (`-`) or never ran; the list.
    let table = [
        ("", Some("[s 1234 5678]")),
        ("s+", Some("[1234 5678]")),
        ("s+ 1234+", Some("[5678]")),
        ("s+ 1234+ 5678-", Some("[5678]")),
        ("s- 1234+ 5678+", Some("[s]")),
        ("1234+ 5678+", Some("[s]")),
        ("s+ 1234+ 5678+", None),
    ];
    for (known, list) in table {
        let mut facts = pod(RestartPolicy::Always, &["i", "s"], &["1234", "5678"]);
        let mut spec = (*facts.spec).clone();
        spec.init[1].sidecar = true;
        facts.spec = Arc::new(spec);
        facts.containers.insert("i".into(), with(ran(0, 12, Some((13, 0)))));
        for one in known.split_whitespace() {
            let (name, end) = one.split_at(one.len() - 1);
            let ended = (end == "-").then_some((16, 1));
            facts.containers.insert(name.into(), with(ran(0, 15, ended)));
        }
        let all = doubts(&told(&facts, 16));
        let of = |kind: &str| all.iter().find_map(|doubt| doubt.strip_prefix(&format!("{kind}=")));
        let expected =
            list.map(|list| format!("False/ContainersNotReady(containers with unready status: {list})"));
        assert_eq!([of("Ready"), of("ContainersReady")], [expected.as_deref(); 2], "{known}");
    }
}

/// Kubernetes' TestConvertToAPIContainerStatuses (E19), as far as a container can be unknown here.
#[test]
fn e19_what_is_not_known_of_a_container_is_told_as_the_kubelet_tells_it() {
    let mut facts = pod(RestartPolicy::Always, &["i", "s"], &["a"]);
    let mut spec = (*facts.spec).clone();
    spec.init[1].sidecar = true;
    facts.spec = Arc::new(spec);
    let states = |facts: &PodFacts| {
        let status = told(facts, 20);
        let all: Vec<_> =
            status.init_container_statuses.iter().chain(&status.container_statuses).flatten().collect();
        let states: Vec<_> = all.iter().map(|one| brief(one.state.as_ref())).collect();
        (states.join(", "), status.phase.unwrap(), all[0].ready)
    };
    let waits = "waiting PodInitializing, waiting PodInitializing, waiting PodInitializing";
    assert_eq!(states(&facts), (waits.into(), "Pending".into(), false));
    facts.containers.insert("a".into(), with(ran(0, 15, None)));
    let passed = "terminated Completed 0, waiting PodInitializing, running";
    assert_eq!(states(&facts), (passed.into(), "Pending".into(), true));
    // A container that was seen keeps what was last seen of it, and its count.
    facts.containers.insert("i".into(), with(ran(5, 12, Some((13, 0)))));
    facts.dismissed = Some((Tick::seconds(16), Dismissal::Removed));
    let status = &told(&facts, 20).init_container_statuses.unwrap()[0];
    assert_eq!((brief(status.state.as_ref()), status.restart_count), ("terminated Completed 0".into(), 5));
}

#[test]
fn the_machines_addresses_are_those_of_a_pod_on_its_network() {
    let mut facts = pod(RestartPolicy::Always, &[], &["a"]);
    let mut spec = (*facts.spec).clone();
    spec.host_network = true;
    facts.spec = Arc::new(spec);
    let node = Node { host_ips: vec!["10.0.2.15".into(), "fe80::1".into()], restart_cap: None };
    let status = status(&facts, Tick::seconds(20), &WALL, &node);
    assert_eq!(status.pod_ip, status.host_ip);
    assert_eq!(status.pod_ips.unwrap().len(), 2);
}

#[test]
fn an_object_carries_its_times() {
    let mut facts = pod(RestartPolicy::Always, &[], &["a"]);
    facts.containers.insert("a".into(), with(ran(1, 15, Some((16, 1)))));
    facts.dismissed = Some((Tick::seconds(20), Dismissal::Removed));
    facts.stuck = Some((2, Tick::seconds(20), "umount: device busy".into()));
    let object = object(&facts, Tick::seconds(21), &WALL, &Node::default());
    let text = serde_json::to_value(&object).unwrap();
    assert_eq!(text["metadata"]["creationTimestamp"], "2023-11-14T22:13:30Z");
    assert_eq!(text["metadata"]["annotations"]["kubernetes.io/config.seen"], "2023-11-14T22:13:30Z");
    assert_eq!(text["metadata"]["deletionTimestamp"], "2023-11-14T22:14:10Z");
    assert_eq!(text["metadata"]["deletionGracePeriodSeconds"], 30);
    let status = &text["status"];
    assert_eq!(status["startTime"], "2023-11-14T22:13:30Z");
    assert_eq!(status["message"], "torn down in vain 2 times: umount: device busy");
    let container = &status["containerStatuses"][0];
    let ended = &container["state"]["terminated"];
    assert_eq!(ended["reason"], "Error", "a dismissed pod's container waits for no restart: {container}");
    assert_eq!(ended["startedAt"], "2023-11-14T22:13:35Z");
    assert_eq!(ended["finishedAt"], "2023-11-14T22:13:36Z");
    let id = container["containerID"].as_str().unwrap().strip_prefix("podinit://").unwrap();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(container["imageID"], "sha256:abc");
}
