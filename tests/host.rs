//! `podinit run` on this very machine, without qemu: the real binary, real containers, asked from outside its mount
//! namespace. Each test has directories and cgroups of its own, so that they run beside each other and beside others.
//!
//! Needs root, a kernel with EROFS and overlay, and the packages busybox-static, umoci, skopeo and docker-registry.

#[path = "host/factory.rs"]
mod factory;
#[path = "host/instance.rs"]
mod instance;
#[path = "host/jobs.rs"]
mod jobs;
#[path = "host/lifecycle.rs"]
mod lifecycle;
#[path = "host/names.rs"]
mod names;
#[path = "host/probes.rs"]
mod probes;
#[path = "host/pull.rs"]
mod pull;
#[path = "host/security.rs"]
mod security;
#[path = "registry/servers.rs"]
#[allow(dead_code)]
mod servers;
#[path = "host/url.rs"]
mod url;
#[path = "host/users.rs"]
mod users;
#[path = "host/volumes.rs"]
mod volumes;
#[path = "host/workloads.rs"]
mod workloads;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use instance::{Instance, PODINIT, cgroups, manifest, processes, said, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs until it is stopped, and ends at once then.
const FOREVER: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().expect("a uid")
}

/// Of the first container.
fn status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[test]
fn a_pod_is_run_asked_and_ended_without_a_trace() {
    let mut here = Instance::new();
    here.write(
        "web.yaml",
        &manifest("web", "", &[("one", &format!("echo to one; {FOREVER}")), ("two", FOREVER)]),
    );
    here.start();
    let before = host_mounts();
    here.running("web");
    let pods = here.say(&["get", "pods"]);
    assert!(pods.lines().any(|line| line.starts_with("web-host ") && line.contains("2/2")), "{pods}");
    assert!(here.say(&["describe", "pod", "web"]).contains("Started container two"));
    until("its output", || (here.tells(&["logs", "web", "-c", "one"]) == "to one\n").then_some(()));

    assert!(here.say(&["exec", "web", "-c", "two", "--", "id"]).starts_with("uid=0"));
    let exec =
        here.podinit(&["exec", "web", "-c", "two", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((exec.status.code(), exec.stdout.as_slice()), (Some(7), &b"out\n"[..]));
    assert!(exec.stderr.starts_with(b"err\n"));
    let socket = format!("--socket={}", here.home.join("run/podinit.sock").display());
    let mut cat = Command::new(PODINIT)
        .args([&socket, "exec", "-i", "web", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(b"through the socket").unwrap();
    assert_eq!(said(&cat.wait_with_output().unwrap()), "through the socket");

    assert_eq!(host_mounts(), before, "its mounts are seen outside");
    let tree = cgroups().map(|root| own_cgroup(&root, &here));
    assert!(tree.as_ref().is_none_or(|tree| tree.is_dir()), "{tree:?}");
    here.signal(Signal::SIGINT);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    assert!(tree.is_none_or(|tree| !tree.exists()));
    here.assert_nothing_left();
}

/// The cgroup that its log of pods lies below: the one of all at the root that holds its pods' uids.
fn own_cgroup(root: &std::path::Path, here: &Instance) -> std::path::PathBuf {
    let uid = format!("pod{}", uid(&here.pod("web").expect("web")));
    let tops = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let mut ours = tops.filter(|top| top.join("kubepods/besteffort").join(&uid).is_dir());
    ours.next().expect("a cgroup of its own")
}

fn host_mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains("podinit-host-")).map(str::to_owned).collect()
}

#[test]
fn exits_are_told_and_failures_restarted() {
    let mut here = Instance::new();
    here.write("three.yaml", &manifest("three", "  restartPolicy: Never\n", &[("c", "exit 3")]));
    let once = "test -e /kept/mark && exit 0; touch /kept/mark; echo first; exit 1";
    let again = manifest(
        "again",
        "  restartPolicy: OnFailure\n  volumes: [{name: kept, emptyDir: {}}]\n",
        &[("c", once)],
    );
    here.write("again.yaml", &format!("{again}    volumeMounts: [{{name: kept, mountPath: /kept}}]\n"));
    here.start();
    let three = here.pod_that("three", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(status(&three)["state"]["terminated"]["exitCode"], 3);
    assert_eq!(status(&three)["restartCount"], 0);
    let again = here.pod_that("again", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(status(&again)["state"]["terminated"]["reason"], "Completed");
    assert_eq!(status(&again)["restartCount"], 1);
    until("its first output", || (here.tells(&["logs", "-p", "again"]) == "first\n").then_some(()));
}

#[test]
fn an_edit_replaces_and_a_bad_edit_keeps_the_last_good() {
    let mut here = Instance::new();
    here.write("web.yaml", &manifest("web", "", &[("c", &format!("echo old; {FOREVER}"))]));
    here.start();
    let old = here.running("web");
    let text = manifest("web", "", &[("c", &format!("echo new; {FOREVER}"))]);
    here.write("web.yaml", &text);
    let new = until("the new one", || {
        let pod = here.pod("web").filter(|pod| uid(pod) != uid(&old))?;
        status(&pod)["state"]["running"].is_object().then_some(pod)
    });
    until("its output", || (here.tells(&["logs", "web"]) == "new\n").then_some(()));

    here.write("web.yaml", &text.replace("image:", "imgae:"));
    let problems = until("a refusal", || {
        Some(here.say(&["get", "problems"])).filter(|problems| problems.contains("web.yaml"))
    });
    assert!(problems.contains("spec.containers[0]"), "{problems}");
    let kept = here.running("web");
    assert_eq!((uid(&kept), &status(&kept)["containerID"]), (uid(&new), &status(&new)["containerID"]));

    fs::remove_file(here.home.join("m/web.yaml")).unwrap();
    until("no pod", || here.pod("web").is_none().then_some(()));
}

/// It ended with an error, since the log went with the pod.
#[test]
fn followed_logs_end_quietly_with_their_removed_pod() {
    let mut here = Instance::new();
    let script = "trap 'echo last; exit 0' TERM; echo first; while true; do sleep 0.1; done";
    here.write("web.yaml", &manifest("web", "", &[("c", script)]));
    here.start();
    here.running("web");
    until("its output", || (here.tells(&["logs", "web"]) == "first\n").then_some(()));
    let socket = format!("--socket={}", here.home.join("run/podinit.sock").display());
    let mut logs = Command::new(PODINIT)
        .args([&socket, "logs", "-f", "web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    logs.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    fs::remove_file(here.home.join("m/web.yaml")).unwrap();
    let output = logs.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "last\n");
}

/// The fifth life does not trust the ledger, and finds the former ones' mounts in its own namespace.
#[test]
fn after_five_deaths_it_starts_over_and_keeps_volumes() {
    let mut here = Instance::new();
    let volumes = "  volumes: [{name: v, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}]\n";
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m, subPath: below}]\n";
    let text = manifest("web", volumes, &[("c", &format!("echo life >>/v/lives; echo >/m/x; {FOREVER}"))]);
    here.write("web.yaml", &format!("{text}{mounts}"));
    here.start();
    let before = here.running("web");
    until("its first life", || {
        (here.tells(&["exec", "web", "--", "cat", "/v/lives"]) == "life\n").then_some(())
    });
    for death in 1..=5 {
        // Not asked for: such a death would be forgiven.
        here.signal(Signal::SIGABRT);
        until("an answer", || {
            let ready = here.log().contains(&format!("re-executed after death {death}"))
                && here.podinit(&["get", "pods"]).status.success();
            ready.then_some(())
        });
    }
    assert!(here.log().contains("5 deaths in a row"), "{}", here.log());
    let after = here.running("web");
    assert_eq!(uid(&after), uid(&before));
    until("its second life", || {
        (here.tells(&["exec", "web", "--", "cat", "/v/lives"]) == "life\nlife\n").then_some(())
    });
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

#[test]
fn logs_read_back_equal() {
    let mut here = Instance::new();
    let script = "seq 1 20000; head -c 40000 /dev/zero | tr '\\0' x; echo; echo -n no newline";
    here.write("talk.yaml", &manifest("talk", "  restartPolicy: Never\n", &[("c", script)]));
    here.start();
    let lines: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    let expected = format!("{lines}{}\nno newline", "x".repeat(40000));
    here.pod_that("talk", |pod| pod["status"]["phase"] == "Succeeded");
    let length = expected.len();
    until("all output", || (here.tells(&["logs", "talk"]).len() >= length).then_some(()));
    let said = here.say(&["logs", "talk"]);
    assert!(said.trim_end_matches('\n') == expected, "{} bytes instead of {length}", said.len());
    assert_eq!(here.tells(&["logs", "--tail=2", "talk"]).lines().last(), Some("no newline"));
    let links: Vec<_> = fs::read_dir(here.home.join("run/containers")).unwrap().flatten().collect();
    assert!(links.len() == 1 && links[0].path().exists(), "{links:?}");
}

#[test]
fn what_cannot_start_says_why() {
    let mut here = Instance::new();
    let text = manifest("gone", "", &[("c", "true")]).replace(instance::IMAGE, "127.0.0.1:1/missing:1");
    here.write("gone.yaml", &text);
    let text = manifest("typo", "", &[("c", "true")]).replace("[sh,", "[no-such-command,");
    here.write("typo.yaml", &text);
    here.start();
    let waits = |pod: &Value| {
        status(pod)["state"]["waiting"]["reason"].as_str().is_some_and(|reason| reason.contains("Image"))
    };
    let gone = here.pod_that("gone", waits);
    let waiting = &status(&gone)["state"]["waiting"];
    assert!(waiting.to_string().contains("127.0.0.1:1/missing:1"), "{waiting}");
    assert!(waiting.to_string().contains("connection refused"), "{waiting}");
    let events = until("the failed start's event", || {
        Some(here.say(&["describe", "pod", "typo"])).filter(|text| {
            text.contains("no-such-command\\\": exec")
                || text.contains("\"no-such-command\": executable file not found")
        })
    });
    assert!(events.contains("executable file not found in $PATH"), "{events}");
}

#[test]
fn a_panic_and_a_crash_leave_containers_and_logs_alone() {
    let mut here = Instance::new();
    let count = "n=0; trap 'exit 0' TERM; while true; do n=$((n+1)); echo $n; sleep 0.01; done";
    here.write("count.yaml", &manifest("count", "", &[("c", count)]));
    here.start();
    let before = here.running("count");
    for (fault, deaths) in [("panic", 1), ("segv", 2), ("abort", 3)] {
        here.say(&["fault", fault]);
        // Asked for, so each counts as the first.
        until(fault, || (here.log().matches("re-executed after death 1").count() == deaths).then_some(()));
        until("an answer", || here.podinit(&["get", "pods"]).status.success().then_some(()));
    }
    here.say(&["fault", "killLogger"]);
    let lines = || here.tells(&["logs", "count"]).lines().count();
    let mark = lines();
    until("more output", || (lines() > mark + 20).then_some(()));
    let after = here.running("count");
    for field in ["containerID", "restartCount"] {
        assert_eq!(status(&before)[field], status(&after)[field], "{field}");
    }
    let log = here.say(&["logs", "count"]);
    let numbers: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "lost or doubled: {log}");
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0));
    here.assert_nothing_left();
}

#[test]
fn a_killed_podinit_is_swept_up_and_a_neighbour_is_not() {
    let mut here = Instance::new();
    let keep = "  volumes: [{name: v, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}]\n";
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m}]\n";
    let text = manifest("stays", keep, &[("c", &format!("touch /v/x /m/x; {FOREVER}"))]);
    here.write("stays.yaml", &format!("{text}{mounts}"));
    here.write("goes.yaml", &manifest("goes", keep, &[("c", FOREVER)]));
    let mut neighbour = Instance::beside(&here);
    neighbour.write("next.yaml", &manifest("next", "", &[("c", FOREVER)]));
    neighbour.start();
    here.start();
    let (stays, goes, next) = (here.running("stays"), here.running("goes"), neighbour.running("next"));
    here.signal(Signal::SIGKILL);
    here.ended();
    // The neighbour's have their layers elsewhere.
    let run = here.home.join("run").display().to_string();
    let old = processes(&run);
    assert!(!old.is_empty(), "its containers live on");

    fs::remove_file(here.home.join("m/goes.yaml")).unwrap();
    here.start();
    let again = here.running("stays");
    assert_eq!(uid(&again), uid(&stays));
    until("the old processes' end", || {
        let now = processes(&run);
        (!old.iter().any(|pid| now.contains(pid))).then_some(())
    });
    let told = here.log();
    let told =
        told.lines().find(|line| line.contains("removing what a former podinit left")).expect("a line");
    assert!(told.contains(uid(&stays)) && told.contains(uid(&goes)), "{told}");
    assert!(here.pod("goes").is_none());
    for folder in ["run/pods", "root/pods"] {
        let path = here.home.join(folder).join(uid(&goes));
        assert!(!path.exists(), "{}", path.display());
    }
    let logs: Vec<_> = fs::read_dir(here.home.join("logs")).unwrap().flatten().collect();
    assert_eq!(logs.len(), 1, "{logs:?}");

    let same = neighbour.running("next");
    assert_eq!(status(&same)["containerID"], status(&next)["containerID"]);
    assert_eq!(status(&same)["restartCount"], 0);
    for each in [&mut here, &mut neighbour] {
        each.signal(Signal::SIGTERM);
        assert_eq!(each.ended().code(), Some(0), "{}", each.log());
    }
    neighbour.assert_nothing_left();
    here.assert_nothing_left();
}

#[test]
fn a_second_signal_cuts_the_grace_short() {
    let mut here = Instance::new();
    let deaf = manifest(
        "deaf",
        "  terminationGracePeriodSeconds: 600\n",
        &[("c", "trap '' TERM; echo deaf; while true; do sleep 1; done")],
    );
    here.write("deaf.yaml", &deaf);
    here.start();
    here.running("deaf");
    until("its trap", || (here.tells(&["logs", "deaf"]) == "deaf\n").then_some(()));
    here.signal(Signal::SIGINT);
    until("the end's beginning", || here.log().contains("sent stop signal").then_some(()));
    assert!(here.log().contains("a second signal (Ctrl-C) cuts it short"), "{}", here.log());
    assert!(here.pod("deaf").is_some());
    here.signal(Signal::SIGINT);
    assert_eq!(here.ended().code(), Some(0));
    assert!(here.log().contains("ending at once"), "{}", here.log());
    here.assert_nothing_left();
}

#[test]
fn what_it_cannot_do_is_said_before_anything_is_done() {
    let mut here = Instance::new();
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap(),
        )
    };
    let run = |args: &[&str]| told(Command::new(PODINIT).arg("run").args(args));
    for (args, code, part) in [
        (&["--help"][..], 0, "--pod-manifest-path PATH"),
        (&["--nonsense=1"], 2, "--nonsense: unknown; known are pod-manifest-path"),
        (&["--v=loud"], 2, "--v: \"loud\" is no number"),
        (&["extra"], 2, "unexpected argument \"extra\""),
        (
            &["--pod-manifest-path=/no/such/place"],
            1,
            "/no/such/place is no directory and no file: --pod-manifest-path",
        ),
        (&["--pod-manifest-path=/dev/null"], 1, "/dev/null is no directory"),
    ] {
        let (exit, text) = run(args);
        assert!(exit == Some(code) && text.contains(part), "{args:?}: {exit:?} {text}");
    }
    let (exit, text) = told(Command::new(PODINIT).arg("--help"));
    assert!(exit == Some(0) && text.contains("  run "), "{text}");

    // Where another user can reach it, whoever owns the checkout.
    let copy = here.home.join("podinit");
    // By another process: what a thread beside this one forks meanwhile would keep our copy open for writing.
    said(&Command::new("cp").arg(PODINIT).arg(&copy).output().unwrap());
    let (exit, text) =
        told(Command::new(&copy).args(["run", "--pod-manifest-path=/tmp"]).uid(65534).gid(65534));
    assert!(exit == Some(1) && text.contains("must be root"), "{text}");

    here.start();
    let (exit, text) = run(&here.flags().iter().map(String::as_str).collect::<Vec<_>>());
    assert!(exit == Some(1) && text.contains("another podinit runs in"), "{text}");
    assert!(here.podinit(&["get", "pods"]).status.success(), "the first one was disturbed");
}

/// Built by umoci of Debian's packages and archived by skopeo: nothing of podinit made it.
#[test]
fn nginx_of_debian_serves_over_http() {
    let mut here = Instance::new();
    let images = here.home.join("nginx");
    let build = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image/build");
    said(&Command::new(build).arg(&images).output().unwrap());
    let store = here.home.join("root/images").display().to_string();
    let archive = images.join("nginx.oci.tar").display().to_string();
    let name = said(&here.podinit(&["image", "--store", &store, "import", &archive]));
    assert_eq!(name, "docker.io/library/nginx:1.22\n");
    // On the host's network, so that it is asked from outside; its port is one that is free here.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = here.home.join("nginx.conf");
    let text = format!(
        "user www-data;\nworker_processes 2;\npid /run/nginx.pid;\nerror_log /dev/stderr notice;\n\
         events {{ worker_connections 64; }}\nhttp {{\n  access_log /dev/stdout;\n  \
         server {{ listen 127.0.0.1:{port}; root /var/www/html; }}\n}}\n"
    );
    fs::write(&conf, text).unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: nginx}}\nspec:\n  hostNetwork: true\n  containers:\n  \
         - name: nginx\n    image: nginx:1.22\n    ports: [{{containerPort: {port}}}]\n    \
         volumeMounts: [{{name: conf, mountPath: /etc/nginx/nginx.conf, readOnly: true}}]\n  \
         volumes: [{{name: conf, hostPath: {{path: {}, type: File}}}}]\n",
        conf.display()
    );
    here.write("nginx.yaml", &pod);
    here.start();
    let get = |path: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(socket, "GET {path} HTTP/1.0\r\nHost: board\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    let page = until("a page", || get("/"));
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.ends_with("\r\n\r\npodinit serves\n"), "{page}");
    assert!(page.contains("Server: nginx/"), "{page}");
    assert!(get("/no").is_some_and(|answer| answer.starts_with("HTTP/1.1 404")));
    until("its access log", || {
        here.tells(&["logs", "nginx"]).contains("\"GET / HTTP/1.0\" 200").then_some(())
    });
    // What the upper layers took away or hid.
    let seen = here.say(&["exec", "nginx", "--", "ls", "/opt", "/opt/old"]);
    assert!(seen.contains("odd") && seen.contains("new") && !seen.contains("gone"), "{seen}");
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}
