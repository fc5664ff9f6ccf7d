//! Sidecars, restarts of all containers and active deadlines, with real processes.

use std::fs;
use std::os::fd::AsRawFd;

use crate::instance::{IMAGE, Instance, manifest, until};
use crate::{FOREVER, status};

/// A container of a list: name, script, and more lines of its own.
fn container(name: &str, script: &str, more: &str) -> String {
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    format!("  - name: {name}\n    image: {IMAGE}\n    command: [sh, -c, {script:?}]\n{mounts}{more}")
}

/// A pod that never restarts, with these init containers and containers, and the directory `home` at /v.
fn pod(name: &str, home: &str, init: &[String], containers: &[String]) -> String {
    let (init, containers) = (init.concat(), containers.concat());
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         volumes: [{{name: v, hostPath: {{path: {home}}}}}]\n  initContainers:\n{init}  containers:\n{containers}"
    )
}

#[test]
fn sidecars_rules_and_deadlines() {
    let mut here = Instance::new();
    let volume = |name: &str| {
        let path = here.home.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (order, all) = (volume("order"), volume("all"));

    // The sidecar is restarted once, ends last, and keeps nothing alive.
    let side = "echo side >>/v/order; test -e /v/mark || { touch /v/mark; exit 0; }; \
                trap 'echo term >>/v/order; exit 0' TERM; touch /v/up; while true; do sleep 0.1; done";
    let main = "echo main >>/v/order; while ! test -e /v/up; do sleep 0.1; done; echo end >>/v/order";
    let text = pod(
        "order",
        &order.display().to_string(),
        &[
            container("side", side, "    restartPolicy: Always\n"),
            container("init", "echo init >>/v/order", ""),
        ],
        &[container("main", main, "")],
    );
    here.write("order.yaml", &text);

    let rules = "    restartPolicy: Never\n    restartPolicyRules:\n    - action: RestartAllContainers\n      \
                 exitCodes: {operator: In, values: [42]}\n";
    let wait = "while ! test -e /v/up; do sleep 0.1; done";
    let first = format!("test -e /v/mark && {{ {FOREVER}; }}; touch /v/mark; {wait}; exit 42");
    let second = format!("touch /v/up; {FOREVER}");
    let text = pod(
        "all",
        &all.display().to_string(),
        &[container("init", "echo init >>/v/inits", "")],
        &[container("first", &first, rules), container("second", &second, "")],
    );
    here.write("all.yaml", &text);
    here.start();

    let ended = here.pod_that("order", |pod| pod["status"]["phase"] == "Succeeded");
    let order = fs::read_to_string(order.join("order")).unwrap();
    let lines: Vec<_> = order.lines().filter(|line| *line != "side").collect();
    assert_eq!(lines, ["init", "main", "end", "term"]);
    assert_eq!(order.lines().filter(|line| *line == "side").count(), 2, "{order}");
    assert_eq!(ended["status"]["initContainerStatuses"][0]["restartCount"], 1);

    // The count is one more as soon as they wait for it: only when both run has all of it been done.
    let restarted = here.pod_that("all", |pod| {
        let both = pod["status"]["containerStatuses"].as_array();
        both.is_some_and(|both| both.iter().all(|one| one["restartCount"] == 1 && one["ready"] == true))
    });
    let status_of = &restarted["status"];
    let last = |index: usize| &status_of["containerStatuses"][index]["lastState"]["terminated"];
    assert_eq!(status_of["phase"], "Running");
    assert_eq!(status_of["initContainerStatuses"][0]["restartCount"], 1);
    assert_eq!(last(0)["exitCode"], 42);
    assert_eq!((&last(1)["reason"], &last(1)["exitCode"]), (&"RestartingAllContainers".into(), &137.into()));
    assert_eq!(fs::read_to_string(all.join("inits")).unwrap(), "init\ninit\n");
    let pods = here.say(&["get", "pods"]);
    assert!(pods.lines().any(|line| line.starts_with("all-host ") && line.contains("2/2")), "{pods}");

    // Longer and longer, until the deadline is long enough for a start on this machine.
    let cut = [1, 10, 60].into_iter().any(|seconds| {
        let spec = format!("  activeDeadlineSeconds: {seconds}\n");
        let name = format!("short{seconds}");
        here.write(&format!("{name}.yaml"), &manifest(&name, &spec, &[("c", FOREVER)]));
        let short = here.pod_that(&name, |pod| {
            pod["status"]["phase"] == "Failed" && !status(pod)["state"]["running"].is_object()
        });
        assert_eq!(short["status"]["reason"], "DeadlineExceeded");
        status(&short)["state"]["terminated"].is_object()
    });
    assert!(cut, "none was started");
}

/// Of the ended runs one keeps its log, as the kubelet's container GC leaves it.
#[test]
fn a_crash_loop_leaves_the_logs_of_two_runs() {
    let mut here = Instance::new();
    let marks = here.home.join("marks");
    fs::create_dir_all(&marks).expect("make");
    let crash = |mark: &str| format!("test -e /v/{mark} || {{ echo {mark}; touch /v/{mark}; exit 1; }}; ");
    let script = format!("{}{}echo third; {FOREVER}", crash("first"), crash("second"));
    let text = pod(
        "loop",
        &marks.display().to_string(),
        &[],
        &[container("c", &script, "    restartPolicy: Always\n")],
    );
    here.write("loop.yaml", &text);
    here.start();
    here.pod_that("loop", |pod| {
        let told = status(pod);
        told["restartCount"] == 2 && told["state"]["running"].is_object()
    });
    until("its output", || (here.tells(&["logs", "loop"]) == "third\n").then_some(()));
    assert_eq!(here.say(&["logs", "--previous", "loop"]), "second\n");
    let names = |folder: std::path::PathBuf| {
        let entries = fs::read_dir(folder).expect("a directory").flatten();
        entries.map(|entry| entry.path()).collect::<std::collections::BTreeSet<_>>()
    };
    let of_pod = names(here.home.join("logs")).pop_first().expect("the pod's logs").join("c");
    let logs = names(of_pod.clone());
    assert_eq!(logs, ["1.log", "2.log"].map(|name| of_pod.join(name)).into());
    let links = names(here.home.join("run/containers")).into_iter();
    assert_eq!(
        links.map(|link| fs::read_link(link).expect("a link")).collect::<std::collections::BTreeSet<_>>(),
        logs
    );
}

/// What a later life of podinit goes on from: the logs' numbers, the last good ConfigMap; and what it leaves behind: no
/// pipe that nobody knows, as of a start whose fact its death cut off.
#[test]
fn what_outlives_a_file_and_a_death() {
    let mut here = Instance::new();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: one}\n";
    // Deaf to its stop signal until it may go, so that its file is back before it is gone.
    let gate = here.home.join("gate");
    fs::create_dir_all(&gate).expect("make");
    let deaf = "trap : TERM; echo here; while ! busybox rm /gate/open 2>/dev/null; do sleep 0.1; done";
    let spec = format!(
        "  terminationGracePeriodSeconds: 600\n  volumes: [{{name: gate, hostPath: {{path: {}}}}}]\n",
        gate.display()
    );
    let mounts = "    volumeMounts: [{name: gate, mountPath: /gate}]\n";
    let back = manifest("back", &spec, &[("c", deaf)]) + mounts;
    here.write("config.yaml", config);
    here.write("back.yaml", &back);
    // The end of a pipe that passes a re-execution.
    let (stray, _kept) = nix::unistd::pipe().expect("a pipe");
    let inode = |path: String| fs::read_link(path).map(|link| link.display().to_string()).ok();
    let own = inode(format!("/proc/self/fd/{}", stray.as_raw_fd())).expect("a pipe");
    here.start();
    let has = |here: &Instance| {
        let entries = fs::read_dir(format!("/proc/{}/fd", here.pid())).expect("its descriptors");
        entries.flatten().any(|entry| inode(entry.path().display().to_string()).as_ref() == Some(&own))
    };
    assert!(has(&here), "it was not inherited");
    here.running("back");
    let uid = here.running("back")["metadata"]["uid"].clone();
    fs::remove_file(here.home.join("m/back.yaml")).expect("remove");
    until("its stop", || here.log().contains("default/back-host: stopping").then_some(()));
    here.write("back.yaml", &back);
    // Who has seen this file, which came later, has seen that one.
    here.write("witness.yaml", "kind: [");
    until("its file's return", || here.log().contains("witness.yaml:").then_some(()));
    fs::remove_file(here.home.join("m/witness.yaml")).expect("remove");
    fs::write(gate.join("open"), "").expect("write");
    until("its end", || here.log().contains("default/back-host: gone").then_some(()));
    let again = here.running("back");
    assert_eq!((&again["metadata"]["uid"], &status(&again)["restartCount"]), (&uid, &1.into()));
    until("its output", || (here.tells(&["logs", "back"]) == "here\n").then_some(()));

    here.write("config.yaml", "kind: [");
    until("the refusal", || here.log().contains("config.yaml:1: not YAML").then_some(()));
    here.say(&["fault", "panic"]);
    until("its next life", || here.log().contains("re-executed after death 1").then_some(()));
    let reads = manifest("reads", "", &[("c", "echo $A; sleep 1000")]);
    let env = "    env: [{name: A, valueFrom: {configMapKeyRef: {name: kept, key: a}}}]\n";
    here.write("reads.yaml", &format!("{reads}{env}"));
    until("the last good value", || (here.tells(&["logs", "reads"]) == "one\n").then_some(()));
    assert_eq!(status(&here.pod("back").expect("it runs on"))["restartCount"], 1);
    assert!(!has(&here), "a pipe that nobody knows stayed open");
    fs::remove_file(here.home.join("m/back.yaml")).expect("remove");
    let stops = |here: &Instance| here.log().matches("default/back-host: stopping").count();
    until("its second stop", || (stops(&here) == 2).then_some(()));
    fs::write(gate.join("open"), "").expect("write");
    until("its end", || here.pod("back").is_none().then_some(()));
    let logs = fs::read_dir(here.home.join("logs")).expect("the logs").flatten();
    let logs: Vec<_> = logs.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(logs.len() == 1 && logs[0].contains("reads-host"), "{logs:?}");
}
