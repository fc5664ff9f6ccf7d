//! Jobs over a power cut: what ended does not run again, what ran goes on.

use crate::pods::{ctl, pods};
use crate::qemu::Board;

/// `going` has done one of its two indexes and is at the other; `done` ends when it is told to.
pub const JOBS: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: going}
spec:
  completionMode: Indexed
  completions: 2
  activeDeadlineSeconds: 100000
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: podinit.dev/demo:1
        command: [sh, -c, 'test $JOB_COMPLETION_INDEX = 0 || sleep 1000000']
---
apiVersion: batch/v1
kind: Job
metadata: {name: done}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: main
        image: podinit.dev/demo:1
        command: [sh, -c, 'until test -e /go/on; do sleep 1; done']
        volumeMounts: [{name: go, mountPath: /go}]
      volumes: [{name: go, hostPath: {path: /run/go, type: DirectoryOrCreate}}]
";

/// The line of a Job in `get jobs`: its status and its completions.
fn told(jobs: &str, name: &str) -> Vec<String> {
    let mut lines = jobs.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.find(|words| words.first().is_some_and(|word| word == name)).unwrap_or_default()
}

fn jobs_until(board: &mut Board, going: &str, done: &str) {
    board.ask_until("get jobs", |jobs| {
        let (first, second) = (told(jobs, "going"), told(jobs, "done"));
        first.get(1..3).is_some_and(|words| words.join(" ") == going)
            && second.get(1..3).is_some_and(|words| words.join(" ") == done)
    });
}

/// Until `done` is told as complete: nobody syncs, and the plug may be pulled the moment after.
pub fn run(board: &mut Board) {
    jobs_until(board, "Running 1/2", "Running 0/1");
    assert_eq!(ctl(board, "echo >/host/run/go/on"), "");
    jobs_until(board, "Running 1/2", "Complete 1/1");
}

/// The next boot knows of both.
pub fn go_on(board: &mut Board) {
    board.wait_for("default/done: job is complete since a former boot");
    board.wait_for("default/going: job goes on where a former boot left it");
    jobs_until(board, "Running 1/2", "Complete 1/1");
    let name = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.name.clone().unwrap_or_default();
    let all = pods(board, |pods| pods.iter().any(|pod| name(pod).starts_with("going-1-")));
    let names: Vec<String> = all.iter().map(name).collect();
    assert!(!names.iter().any(|name| name.starts_with("done-") || name.starts_with("going-0-")), "{names:?}");
}
