//! Status along a pod's life: sidecars, probes, hooks, restarts of all, deadlines, the end of the machine.
//!
//! Of the kubelet's tables these cannot arise here: a container that ran and is forgotten (E19, rows 1 to 4), and
//! one without a status (E21, rows 3, 5 and 8), because PID 1 is the parent of every container and remembers it
//! as long as its pod; a readiness gate that somebody has set (E21, rows 12 and 13); a pod without a start time (E20,
//! row 4).

use super::*;
use crate::pod::facts::{Fact, HookKind, ProbeKind, World};
use crate::pod::sample;
use crate::pod::spec::RestartPolicy::{Always, Never, OnFailure};
use crate::pod::spec::{Handler, RestartRule};

struct Life(World);

impl Life {
    fn new(pod: Arc<Pod>) -> Self {
        let mut life = Life(World::default());
        life.learn(10, Fact::Admitted { pod });
        life.learn(10, Fact::SetUp { uid: "u1".into(), ip: Some("10.88.0.2".into()) });
        life
    }

    fn learn(&mut self, second: u64, fact: Fact) {
        self.0.learn(fact, Tick::seconds(second));
    }

    fn start(&mut self, second: u64, name: &str, run: u32) {
        let (uid, container) = (|| "u1".to_owned(), || name.to_owned());
        let (helper, stdout, stderr) = (5, 6, 7);
        self.learn(
            second,
            Fact::ImageFound { uid: uid(), container: container(), id: "sha256:1".into(), pulled: None },
        );
        self.learn(
            second,
            Fact::Starting { uid: uid(), container: container(), run, helper, stdout, stderr },
        );
        self.learn(second, Fact::Started { uid: uid(), container: container(), run, pid: 9 });
    }

    fn exit(&mut self, second: u64, name: &str, run: u32, code: i32) {
        let exit = Exit { code, ..Exit::default() };
        self.learn(second, Fact::Exited { uid: "u1".into(), container: name.into(), run, exit });
        self.learn(second, Fact::Cleaned { uid: "u1".into(), container: name.into(), run });
    }

    fn probed(&mut self, second: u64, name: &str, probe: ProbeKind, ok: bool) {
        let (uid, container) = ("u1".to_owned(), name.to_owned());
        self.learn(second, Fact::Probed { uid, container, run: 0, probe, ok, why: String::new() });
    }

    fn status(&self, second: u64) -> k8s::PodStatus {
        told(&self.0.pods["u1"], second)
    }

    fn phase(&self, second: u64) -> String {
        self.status(second).phase.unwrap()
    }

    /// `started ready` of a container.
    fn up(&self, second: u64, name: &str) -> (bool, bool) {
        let status = self.container(second, name);
        (status.started.unwrap(), status.ready)
    }

    fn container(&self, second: u64, name: &str) -> k8s::ContainerStatus {
        let status = self.status(second);
        let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        all.find(|status| status.name == name).unwrap()
    }
}

fn sidecar() -> Arc<Pod> {
    let pod = sample::pod(Always, &["s"], &["c"]);
    sample::with(&pod, "s", |container| {
        container.sidecar = true;
        container.startup = sample::probe(None);
    })
}

/// Kubernetes' TestPodPhaseWithContainerRestartPolicy: the pod's policy, each container with its own and its end.
#[test]
fn e2_a_containers_own_policy_makes_the_phase() {
    type One<'a> = (&'a str, Option<RestartPolicy>, Option<i32>);
    let table: &[(RestartPolicy, &[One], &str)] = &[
        (Always, &[("a", Some(Never), Some(-1))], "Failed"),
        (Always, &[("a", Some(Never), Some(0))], "Succeeded"),
        (Always, &[("a", Some(Never), None)], "Running"),
        (Always, &[("a", Some(OnFailure), Some(-1))], "Running"),
        (Always, &[("a", Some(OnFailure), Some(0))], "Succeeded"),
        (Never, &[("a", Some(Always), Some(0))], "Running"),
        (Never, &[("a", Some(Always), Some(1))], "Running"),
        (Never, &[("a", Some(OnFailure), Some(1))], "Running"),
        (Never, &[("a", Some(OnFailure), Some(0))], "Succeeded"),
        (OnFailure, &[("a", Some(Never), Some(1))], "Failed"),
        (OnFailure, &[("a", Some(Always), Some(0))], "Running"),
        (Always, &[("a", Some(Never), Some(1)), ("b", Some(Never), Some(0))], "Failed"),
        (Always, &[("a", Some(Never), Some(0)), ("b", Some(Never), Some(0))], "Succeeded"),
        // One that runs, or runs again, keeps the pod Running, whoever has failed for good.
        (Always, &[("a", Some(Never), Some(1)), ("b", None, None)], "Running"),
        (Always, &[("a", Some(Never), Some(1)), ("b", None, Some(0))], "Running"),
        (Never, &[("a", Some(OnFailure), Some(1)), ("b", None, Some(1))], "Running"),
        (Never, &[("a", Some(OnFailure), Some(0)), ("b", None, Some(1))], "Failed"),
        (Never, &[("i", Some(OnFailure), Some(-1)), ("a", None, None)], "Pending"),
        (Always, &[("i", Some(Never), Some(-1)), ("a", None, None)], "Failed"),
        (OnFailure, &[("i", Some(Never), Some(1)), ("a", Some(Always), None)], "Failed"),
        (Never, &[("i", Some(OnFailure), Some(0)), ("a", None, Some(0))], "Succeeded"),
    ];
    for (policy, all, phase) in table {
        let (inits, mains): (Vec<_>, Vec<_>) =
            all.iter().map(|(name, ..)| *name).partition(|name| *name == "i");
        let mut pod = sample::pod(*policy, &inits, &mains);
        for (name, own, _) in *all {
            pod = sample::with(&pod, name, |container| container.restart = *own);
        }
        let mut life = Life::new(pod);
        for (name, _, code) in *all {
            // After an init container that has failed nothing starts.
            if matches!(all.first(), Some(("i", _, Some(code))) if *code != 0) && *name != "i" {
                continue;
            }
            life.start(11, name, 0);
            if let Some(code) = code {
                life.exit(12, name, 0, *code);
            }
        }
        assert_eq!(life.phase(12), *phase, "{policy:?} {all:?}");
    }
}

/// Kubernetes' TestPodPhaseWithRestartAllContainers, its rows.
#[test]
fn e2_a_restart_of_all_makes_the_phase() {
    let rule = |container: &mut crate::pod::Container| {
        container.rules = vec![RestartRule { not_in: false, codes: vec![42], all: true }];
    };
    let ended = |pod: Arc<Pod>, ends: &[(&str, i32)]| {
        let mut life = Life::new(pod);
        for (name, code) in ends {
            life.start(11, name, 0);
            life.exit(12, name, 0, *code);
        }
        life
    };
    // By a rule that matches all run again, so that the pod goes on; one that does not match changes nothing.
    let ruled = sample::with(&sample::pod(Never, &[], &["a", "b"]), "a", rule);
    for (code, other, phase) in
        [(42, 0, "Running"), (42, 1, "Running"), (1, 0, "Failed"), (0, 1, "Failed"), (0, 0, "Succeeded")]
    {
        assert_eq!(ended(ruled.clone(), &[("a", code), ("b", other)]).phase(12), phase, "{code} {other}");
    }
    let first = sample::with(&sample::pod(Never, &["i"], &["a"]), "i", rule);
    for (code, phase) in [(42, "Pending"), (1, "Failed")] {
        assert_eq!(ended(first.clone(), &[("i", code)]).phase(12), phase, "{code}");
    }

    let all = sample::with(&sample::pod(Never, &["i"], &["a", "b"]), "a", rule);
    let mut life = ended(all, &[("i", 0)]);
    life.start(13, "b", 0);
    life.start(13, "a", 0);
    life.exit(14, "a", 0, 42);
    assert_eq!(life.phase(14), "Running", "row 9");
    life.learn(14, Fact::RestartAll { uid: "u1".into(), container: "a".into(), run: 0 });
    let restarting = |life: &Life| {
        let conditions = life.status(14).conditions.unwrap();
        conditions.iter().any(|one| one.type_ == "AllContainersRestarting" && one.status == "True")
    };
    assert!(restarting(&life));
    life.learn(14, Fact::Signalled { uid: "u1".into(), container: "b".into(), run: 0, kill: true });
    life.exit(14, "b", 0, 137);
    assert!(!restarting(&life));
    assert_eq!(life.phase(14), "Running", "row 11");
    let told = ["i", "a", "b"].map(|name| {
        let status = life.container(14, name);
        (brief(status.state.as_ref()), brief(status.last_state.as_ref()), status.restart_count)
    });
    let waits = || "waiting RestartingAllContainers".to_owned();
    let last = ["terminated Completed 0", "terminated Error 42", "terminated RestartingAllContainers 137"];
    assert_eq!(told, last.map(|last| (waits(), last.to_owned(), 1)));
    let ended = life.container(14, "b").last_state.and_then(|last| last.terminated).unwrap();
    let removed = "The container is removed because RestartAllContainers in place";
    assert_eq!(ended.message.as_deref(), Some(removed), "E19, row 7");
    life.start(14, "i", 1);
    assert_eq!((life.phase(14), life.container(14, "i").restart_count), ("Pending".into(), 1));
    life.exit(15, "i", 1, 1);
    assert_eq!(life.phase(15), "Failed", "row 13");
}

#[test]
fn a_sidecar_counts_when_it_is_up() {
    let mut life = Life::new(sidecar());
    life.start(11, "s", 0);
    assert_eq!((life.up(11, "s"), life.phase(11)), ((false, false), "Pending".into()));
    assert_eq!(
        doubts(&life.status(11)),
        [
            "Initialized=False/ContainersNotInitialized(containers with incomplete status: [s])",
            "Ready=False/ContainersNotReady(containers with unready status: [s c])",
            "ContainersReady=False/ContainersNotReady(containers with unready status: [s c])"
        ]
    );
    life.probed(12, "s", ProbeKind::Startup, true);
    assert_eq!(life.up(12, "s"), (true, true));
    life.start(13, "c", 0);
    assert_eq!((doubts(&life.status(13)), life.phase(13)), (vec![], "Running".into()));
    // It dies later: the pod is initialised all the same, and not ready.
    life.exit(20, "s", 0, 1);
    assert_eq!(life.phase(20), "Running");
    assert_eq!(
        doubts(&life.status(20)),
        [
            "Ready=False/ContainersNotReady(containers with unready status: [s])",
            "ContainersReady=False/ContainersNotReady(containers with unready status: [s])"
        ]
    );
}

#[test]
fn a_sidecar_does_not_count_where_the_pod_is_over() {
    let pod = Pod { restart: OnFailure, ..(*sidecar()).clone() };
    let mut life = Life::new(Arc::new(pod));
    life.start(11, "s", 0);
    life.probed(12, "s", ProbeKind::Startup, true);
    life.start(13, "c", 0);
    life.exit(14, "c", 0, 0);
    assert_eq!(life.phase(14), "Running", "as long as the sidecar runs");
    life.exit(15, "s", 0, 143);
    assert_eq!(life.phase(15), "Succeeded");
    assert_eq!(brief(life.container(15, "s").state.as_ref()), "terminated Error 143");
}

#[test]
fn probes_and_hooks_make_a_container_started_and_ready() {
    let pod = sample::with(&sample::pod(Always, &[], &["c"]), "c", |container| {
        container.startup = sample::probe(None);
        container.readiness = sample::probe(None);
        container.post_start = Some(Handler::Sleep(Duration::from_secs(1)));
    });
    let mut life = Life::new(pod);
    life.start(11, "c", 0);
    let (uid, container, hook) = (|| "u1".to_owned(), || "c".to_owned(), HookKind::PostStart);
    life.probed(12, "c", ProbeKind::Startup, true);
    assert_eq!(life.up(12, "c"), (false, false), "its hook has not ended");
    life.learn(12, Fact::Hooking { uid: uid(), container: container(), run: 0, hook, helper: 3 });
    life.learn(13, Fact::Hooked { uid: uid(), container: container(), run: 0, hook, failed: None });
    assert_eq!(life.up(13, "c"), (true, false));
    life.probed(14, "c", ProbeKind::Readiness, true);
    assert_eq!(life.up(14, "c"), (true, true));
    life.probed(15, "c", ProbeKind::Readiness, false);
    assert_eq!((life.up(15, "c"), life.phase(15)), ((true, false), "Running".into()));
    life.exit(16, "c", 0, 0);
    assert_eq!(life.up(16, "c"), (false, false));
}

#[test]
fn a_failed_post_start_hook_is_told_before_the_back_off() {
    let hooked = |policy| {
        let pod = sample::with(&sample::pod(policy, &[], &["c"]), "c", |container| {
            container.post_start = Some(Handler::Exec(vec!["/x".into()]));
        });
        let mut life = Life::new(pod);
        for run in 0..2 {
            let (uid, container, hook) = (|| "u1".to_owned(), || "c".to_owned(), HookKind::PostStart);
            life.start(11, "c", run);
            life.learn(11, Fact::Hooking { uid: uid(), container: container(), run, hook, helper: 3 });
            let failed = Some("exit code 3".to_owned());
            life.learn(12, Fact::Hooked { uid: uid(), container: container(), run, hook, failed });
            life.exit(13, "c", run, 143);
        }
        move |second| brief(life.container(second, "c").state.as_ref())
    };
    assert_eq!(hooked(Always)(14), "waiting PostStartHookError: exit code 3");
    assert_eq!(hooked(Never)(14), "terminated Error 143");
}

#[test]
fn a_pod_that_its_deadline_or_the_machine_ends_has_failed() {
    let expired = |life: &mut Life| life.learn(20, Fact::Expired { uid: "u1".into() });
    let ended = |life: &mut Life| {
        life.learn(20, Fact::Dismissed { uid: "u1".into(), why: Dismissal::Ending });
    };
    let removed = |life: &mut Life| {
        life.learn(20, Fact::Dismissed { uid: "u1".into(), why: Dismissal::Removed });
    };
    type End<'a> = &'a dyn Fn(&mut Life);
    let table: [(End, &str, Option<&str>, Option<&str>); 3] = [
        (
            &expired,
            "Failed",
            Some("DeadlineExceeded"),
            Some("Pod was active on the node longer than the specified deadline"),
        ),
        (
            &ended,
            "Failed",
            Some("Terminated"),
            Some("Pod was terminated in response to imminent node shutdown."),
        ),
        (&removed, "Running", None, None),
    ];
    for (end, phase, reason, message) in table {
        let mut life = Life::new(sample::pod(Always, &[], &["c"]));
        life.start(11, "c", 0);
        end(&mut life);
        life.exit(21, "c", 0, 0);
        let status = life.status(22);
        assert_eq!(
            (status.phase.as_deref(), status.reason.as_deref(), status.message.as_deref()),
            (Some(phase), reason, message)
        );
        let target = status.conditions.iter().flatten().find(|one| one.type_ == "DisruptionTarget");
        assert_eq!(
            target.and_then(|one| one.reason.as_deref()),
            reason.filter(|reason| *reason == "Terminated").map(|_| "TerminationByKubelet")
        );
        if phase == "Failed" {
            let unready =
                status.conditions.iter().flatten().find(|one| one.type_ == "ContainersReady").unwrap();
            assert_eq!((unready.status.as_str(), unready.reason.as_deref()), ("False", Some("PodFailed")));
        }
    }
    // What was over before the end stays what it was.
    let mut life = Life::new(sample::pod(Never, &[], &["c"]));
    life.start(11, "c", 0);
    life.exit(12, "c", 0, 0);
    ended(&mut life);
    assert_eq!((life.phase(21), life.status(21).reason), ("Succeeded".into(), None));
}

#[test]
fn a_rejected_pod_waits_and_says_why() {
    let pod = sample::pod(Always, &[], &["c"]);
    let message = "Node didn't have enough resource: cpu";
    let rejection =
        Rejection { pod, since: Tick::seconds(10), reason: "OutOfcpu".into(), message: message.into() };
    let status = rejected(&rejection, &WALL).status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(status.message, Some(format!("Pod was rejected: {message}")));
}
