//! Jobs and CronJobs, run for real.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::instance::{IMAGE, Instance, until};
use super::{FOREVER, status, uid};

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().expect("a name").into()
}

/// The pods of the Job of this name.
fn of(here: &Instance, job: &str) -> Vec<Value> {
    let all = here.pods().into_iter();
    all.filter(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == job).collect()
}

fn phases(pods: &[Value], phase: &str) -> usize {
    pods.iter().filter(|pod| pod["status"]["phase"] == phase).count()
}

/// A Job with these lines of its spec.
fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{spec}  template:\n    spec:\n      \
         restartPolicy: Never\n      containers:\n      - name: c\n        image: {IMAGE}\n        \
         command: [sh, -c, {script:?}]\n"
    )
}

#[test]
fn an_indexed_job_runs_to_its_end_through_a_crash_and_a_kill_and_only_once() {
    let mut here = Instance::new();
    let script = "echo index $JOB_COMPLETION_INDEX; until test -e /gate/open; do sleep 0.05; done";
    let gate = here.home.join("gate");
    fs::create_dir(&gate).unwrap();
    let volumes = format!(
        "        volumeMounts: [{{name: gate, mountPath: /gate}}]\n      volumes: [{{name: gate, hostPath: {{path: {}}}}}]\n",
        gate.display()
    );
    let spec = "  completions: 3\n  parallelism: 2\n  completionMode: Indexed\n";
    here.write("sum.yaml", &format!("{}{volumes}", job("sum", spec, script)));
    here.start();
    let two = until("two pods", || {
        let pods = of(&here, "sum");
        (phases(&pods, "Running") == 2).then_some(pods)
    });
    assert_eq!(two.len(), 2, "no more than its parallelism");
    here.say(&["fault", "panic"]);
    until("another life", || here.log().contains("re-executed after death 1").then_some(()));
    until("an answer", || here.podinit(&["get", "pods"]).status.success().then_some(()));
    fs::write(gate.join("open"), "").unwrap();
    let three = until("three pods", || {
        let pods = of(&here, "sum");
        (phases(&pods, "Succeeded") == 3).then_some(pods)
    });
    let uids = |pods: &[Value]| pods.iter().map(|pod| uid(pod).to_owned()).collect::<BTreeSet<_>>();
    assert!(uids(&three).is_superset(&uids(&two)), "the crash replaced a pod");
    for pod in &three {
        let index =
            pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
        let name = name(pod);
        let suffix = name.strip_prefix(&format!("sum-{index}-")).expect("a name as Kubernetes gives it");
        assert_eq!(suffix.len(), 5, "{name}");
        assert_eq!(here.say(&["logs", &name]), format!("index {index}\n"));
    }
    let table = here.say(&["get", "pods"]);
    assert_eq!(table.lines().filter(|line| line.starts_with("sum-")).count(), 3, "{table}");
    until("its end", || here.say(&["get", "events"]).contains("Job completed").then_some(()));

    // A killed podinit's successor knows that it has run; an edit runs it again.
    here.signal(Signal::SIGKILL);
    here.ended();
    here.start();
    until("its memory", || {
        here.log().contains("default/sum: job is complete since a former boot").then_some(())
    });
    assert_eq!(of(&here, "sum").len(), 0);
    here.write("sum.yaml", &job("sum", "  backoffLimit: 0\n", "exit 3"));
    let failed = until("the edited one", || {
        of(&here, "sum").into_iter().find(|pod| pod["status"]["phase"] == "Failed")
    });
    assert_eq!(status(&failed)["state"]["terminated"]["exitCode"], 3);
    until("its failure", || here.say(&["get", "events"]).contains("BackoffLimitExceeded").then_some(()));
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0));
    here.assert_nothing_left();
}

#[test]
fn a_cron_job_runs_again_and_again_and_goes_with_its_manifest() {
    let mut here = Instance::new();
    let cron = |policy: &str, script: &str| {
        let job = job("tick", "", script);
        let (_, spec) = job.split_once("spec:\n").unwrap();
        let spec = spec.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: tick}}\nspec:\n  schedule: '@every 1s'\n  \
             concurrencyPolicy: {policy}\n  successfulJobsHistoryLimit: 2\n  jobTemplate:\n    spec:\n{spec}"
        )
    };
    here.write("tick.yaml", &cron("Allow", "echo tick"));
    here.start();
    let ticks = |here: &Instance| {
        let pods = here.pods().into_iter();
        pods.filter(|pod| name(pod).starts_with("tick-")).collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    until("four ends", || {
        let done = ticks(&here).into_iter().filter(|pod| pod["status"]["phase"] == "Succeeded");
        seen.extend(done.map(|pod| uid(&pod).to_owned()));
        (seen.len() >= 4).then_some(())
    });
    let pod = until("one of them", || ticks(&here).pop());
    let parts: Vec<String> = name(&pod).split('-').map(str::to_owned).collect();
    let [_, minutes, suffix] = parts.as_slice() else { panic!("{parts:?}") };
    assert!(minutes.parse::<u64>().unwrap() > 29_000_000 && suffix.len() == 5, "{parts:?}");
    until("no more than its history", || {
        let pods = ticks(&here);
        (phases(&pods, "Succeeded") == 2).then_some(())
    });

    // One that does not end holds up the next.
    here.write("tick.yaml", &cron("Forbid", FOREVER));
    until("a wait", || here.say(&["get", "events"]).contains("JobAlreadyActive").then_some(()));
    assert_eq!(phases(&ticks(&here), "Running"), 1);
    fs::remove_file(here.home.join("m/tick.yaml")).unwrap();
    until("no pod of it", || ticks(&here).is_empty().then_some(()));
}
