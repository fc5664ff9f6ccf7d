//! READY, STATUS and RESTARTS as kubectl's printer tells them.

use serde_json::{Value, json};

use super::*;

fn waiting(reason: &str) -> Value {
    json!({ "waiting": { "reason": reason } })
}

fn running() -> Value {
    json!({ "running": {} })
}

fn ended(reason: &str, code: i32) -> Value {
    json!({ "terminated": { "reason": reason, "exitCode": code } })
}

/// Name, state, whether started and ready, restarts. A name with `s` is a sidecar's.
type One = (&'static str, Value, bool, i32);

fn pod(phase: &str, conditions: &[&str], init: &[One], mains: &[One]) -> k8s::Pod {
    let specs = |all: &[One]| -> Vec<Value> {
        let policy = |name: &str| if name.starts_with('s') { json!("Always") } else { Value::Null };
        all.iter().map(|(name, ..)| json!({ "name": name, "restartPolicy": policy(name) })).collect()
    };
    let statuses = |all: &[One]| -> Vec<Value> {
        let status = |(name, state, up, restarts): &One| {
            json!({ "name": name, "state": state, "started": up, "ready": up, "restartCount": restarts,
                "image": "", "imageID": "" })
        };
        all.iter().map(status).collect()
    };
    let conditions: Vec<_> = conditions.iter().map(|one| json!({ "type": one, "status": "True" })).collect();
    serde_json::from_value(json!({
        "metadata": { "name": "a" },
        "spec": { "initContainers": specs(init), "containers": specs(mains) },
        "status": {
            "phase": phase, "conditions": conditions,
            "initContainerStatuses": statuses(init), "containerStatuses": statuses(mains),
        },
    }))
    .unwrap()
}

/// In the manner of kubectl's TestPrintPod and TestPrintPodWithRestartableInitContainers.
#[test]
fn init_containers_and_sidecars_are_told_as_kubectl_tells_them() {
    let created = || vec![("a", waiting("PodInitializing"), false, 0)];
    let runs = || vec![("a", running(), true, 0)];
    let table: Vec<(&str, &[&str], Vec<One>, Vec<One>, [&str; 3])> = vec![
        (
            "Pending",
            &[],
            vec![("i", waiting("PodInitializing"), false, 0), ("j", waiting("PodInitializing"), false, 0)],
            created(),
            ["0/1", "Init:0/2", "0"],
        ),
        (
            "Pending",
            &[],
            vec![("i", ended("Completed", 0), true, 0), ("j", running(), true, 1)],
            created(),
            ["0/1", "Init:1/2", "1"],
        ),
        (
            "Pending",
            &[],
            vec![("i", waiting("CrashLoopBackOff"), false, 3)],
            created(),
            ["0/1", "Init:CrashLoopBackOff", "3"],
        ),
        ("Failed", &[], vec![("i", ended("Error", 1), false, 0)], created(), ["0/1", "Init:Error", "0"]),
        ("Pending", &[], vec![("i", ended("", 3), false, 0)], created(), ["0/1", "Init:ExitCode:3", "0"]),
        (
            "Pending",
            &[],
            vec![("i", ended("Completed", 0), true, 0)],
            created(),
            ["0/1", "PodInitializing", "0"],
        ),
        // A sidecar that runs, but is not started, holds back the rest.
        (
            "Pending",
            &[],
            vec![("s", running(), false, 0), ("i", waiting("PodInitializing"), false, 0)],
            created(),
            ["0/2", "Init:0/2", "0"],
        ),
        (
            "Pending",
            &[],
            vec![("s", running(), true, 1), ("i", running(), true, 0)],
            created(),
            ["1/2", "Init:1/2", "1"],
        ),
        (
            "Running",
            &["Initialized", "Ready"],
            vec![("s", running(), true, 2)],
            runs(),
            ["2/2", "Running", "2"],
        ),
        // Restarts of plain init containers do not count any more.
        (
            "Running",
            &["Initialized"],
            vec![("i", ended("Completed", 0), true, 4), ("s", running(), true, 2)],
            runs(),
            ["2/2", "Running", "2"],
        ),
        // A sidecar in a crash loop beside a main that runs: its word stands, as kubectl has it.
        (
            "Running",
            &["Initialized"],
            vec![("s", waiting("CrashLoopBackOff"), false, 5)],
            runs(),
            ["1/2", "Init:CrashLoopBackOff", "5"],
        ),
        (
            "Running",
            &["Initialized"],
            vec![("s", running(), true, 0)],
            vec![("a", ended("Completed", 0), false, 0), ("b", running(), true, 0)],
            ["2/3", "NotReady", "0"],
        ),
        (
            "Succeeded",
            &["Initialized"],
            vec![("s", ended("Completed", 0), false, 0)],
            vec![("a", ended("Completed", 0), false, 0)],
            ["0/2", "Completed", "0"],
        ),
        ("Failed", &[], vec![], vec![("a", ended("OOMKilled", 137), false, 0)], ["0/1", "OOMKilled", "0"]),
    ];
    for (phase, conditions, init, mains, expected) in table {
        let row = row(&pod(phase, conditions, &init, &mains), false, Timestamp::UNIX_EPOCH);
        assert_eq!(row[1..4], expected, "{init:?} {mains:?}");
    }
}

#[test]
fn a_pod_that_is_not_taken_up_or_was_ended_shows_its_reason() {
    let mut pod = pod("Pending", &[], &[], &[("a", running(), true, 0)]);
    let status = pod.status.as_mut().unwrap();
    (status.reason, status.container_statuses) = (Some("OutOfcpu".into()), None);
    assert_eq!(row(&pod, false, Timestamp::UNIX_EPOCH)[1..3], ["0/1", "OutOfcpu"]);
    let status = pod.status.as_mut().unwrap();
    (status.phase, status.reason) = (Some("Failed".into()), Some("Terminated".into()));
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    assert_eq!(row(&pod, false, Timestamp::UNIX_EPOCH)[2], "Terminated");
}
