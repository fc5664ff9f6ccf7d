//! Probes and hooks in real containers, from YAML to status and events.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::instance::{Instance, PATIENCE, manifest, until};
use super::{FOREVER, status};

/// A server in the pod's own network, whose `/ok` is there for as long as the file is.
const SERVER: &str = "mkdir -p /w && echo fine >/w/ok && trap 'exit 0' TERM; busybox httpd -f -p 127.0.0.1:8080 -h /w & echo $! >/tmp/server; while true; do sleep 0.1; done";

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    conditions.iter().find(|one| one["type"] == kind).expect("the condition")
}

fn ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}

fn shell(here: &Instance, pod: &str, line: &str) -> String {
    here.say(&["exec", pod, "--", "sh", "-c", line])
}

/// What is told of the pod, once it holds this.
fn told(here: &Instance, pod: &str, part: &str) -> String {
    until(part, || Some(here.say(&["describe", "pod", pod])).filter(|text| text.contains(part)))
}

/// One pod of one container with these fields.
fn one(name: &str, script: &str, more: &str) -> String {
    manifest(name, "", &[("c", script)]) + more
}

#[test]
fn a_failed_liveness_probe_restarts_after_the_pre_stop_hook() {
    let mut here = Instance::new();
    let volumes = "  volumes: [{name: kept, emptyDir: {}}]\n";
    // Not asked before the file is there for the first time.
    let more = "    volumeMounts: [{name: kept, mountPath: /kept}]\n\
        \u{20}   env: [{name: FILE, value: /tmp/health}]\n\
        \u{20}   startupProbe: {exec: {command: [cat, $(FILE)]}, periodSeconds: 1, failureThreshold: 1000, timeoutSeconds: 60}\n\
        \u{20}   livenessProbe: {exec: {command: [cat, $(FILE)]}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 60}\n\
        \u{20}   lifecycle: {preStop: {exec: {command: [sh, -c, echo pre >>/kept/log]}}}\n";
    let script = format!("echo start >>/kept/log; touch /tmp/health; {FOREVER}");
    here.write("live.yaml", &(manifest("live", volumes, &[("c", &script)]) + more));
    here.start();
    here.pod_that("live", |pod| status(pod)["started"] == true);
    let log = || here.tells(&["exec", "live", "--", "cat", "/kept/log"]);
    assert_eq!(log(), "start\n");
    shell(&here, "live", "busybox rm /tmp/health");
    let again = here.pod_that("live", |pod| {
        status(pod)["restartCount"] == 1 && status(pod)["state"]["running"].is_object()
    });
    assert_eq!(status(&again)["lastState"]["terminated"]["exitCode"], 0, "{again}");
    until("its second start", || (log() == "start\npre\nstart\n").then_some(()));
    let text = told(&here, "live", "Liveness probe failed: cat: can't open '/tmp/health'");
    assert!(text.contains("Unhealthy"), "{text}");
}

#[test]
fn readiness_flips_ready_and_nothing_else() {
    let mut here = Instance::new();
    let more = "    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 60}\n";
    here.write("web.yaml", &one("web", FOREVER, more));
    here.start();
    let before = here.running("web");
    assert!(!ready(&before), "{before}");
    told(&here, "web", "Readiness probe failed: cat: can't open '/tmp/ready'");
    shell(&here, "web", "touch /tmp/ready");
    here.pod_that("web", ready);
    shell(&here, "web", "busybox rm /tmp/ready");
    let after = here.pod_that("web", |pod| !ready(pod));
    for field in ["containerID", "restartCount"] {
        assert_eq!(status(&before)[field], status(&after)[field], "{field}");
    }
    assert_eq!(condition(&after, "Ready")["reason"], "ContainersNotReady");
}

#[test]
fn a_startup_probe_holds_the_others_back_and_a_failed_one_restarts() {
    let mut here = Instance::new();
    let startup = |file: &str, failure: u32| {
        format!(
            "    startupProbe: {{exec: {{command: [cat, {file}]}}, periodSeconds: 1, failureThreshold: {failure}, timeoutSeconds: 60}}\n"
        )
    };
    let others = "    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 60}\n\
        \u{20}   readinessProbe: {exec: {command: ['true']}, periodSeconds: 60, timeoutSeconds: 60}\n";
    here.write("slow.yaml", &one("slow", FOREVER, &(startup("/tmp/up", 1000) + others)));
    here.write("never.yaml", &one("never", FOREVER, &startup("/tmp/up", 2)));
    here.start();
    here.running("slow");
    told(&here, "slow", "Startup probe failed: cat: can't open '/tmp/up'");
    here.pod_that("never", |pod| status(pod)["restartCount"].as_u64() >= Some(1));
    told(&here, "never", "Startup probe failed: ");
    let slow = here.running("slow");
    assert_eq!((&status(&slow)["started"], &status(&slow)["restartCount"]), (&false.into(), &0.into()));
    assert!(!here.say(&["describe", "pod", "slow"]).contains("Liveness"), "tried before it was started");
    shell(&here, "slow", "touch /tmp/alive /tmp/up");
    // At once, not a period of the readiness probe later.
    here.pod_that("slow", |pod| ready(pod) && status(pod)["started"] == true);
    shell(&here, "slow", "busybox rm /tmp/alive");
    here.pod_that("slow", |pod| status(pod)["restartCount"] == 1);
    told(&here, "slow", "Liveness probe failed: ");
}

#[test]
fn exec_probes_that_hang_or_flood_or_do_not_exist() {
    let mut here = Instance::new();
    let probe = |command: &str, times: &str| {
        format!("    readinessProbe: {{exec: {{command: {command}}}, {times}, failureThreshold: 1}}\n")
    };
    let (patient, hasty) = ("periodSeconds: 1, timeoutSeconds: 60", "periodSeconds: 10, timeoutSeconds: 1");
    here.write("hang.yaml", &one("hang", FOREVER, &probe("[sh, -c, 'sleep 1000 & sleep 1001']", hasty)));
    here.write("flood.yaml", &one("flood", FOREVER, &probe("[head, -c, '300000', /dev/zero]", patient)));
    here.write("none.yaml", &one("none", FOREVER, &probe("[no-such-command]", patient)));
    here.start();
    here.pod_that("flood", ready);
    told(&here, "hang", "Readiness probe failed: command \"sh -c sleep 1000 & sleep 1001\" timed out");
    let left =
        || shell(&here, "hang", "for d in /proc/[0-9]*; do busybox tr '\\0' ' ' <$d/cmdline; echo; done");
    // Long before the next try's are born.
    until("the killed sleeps' end", || (!left().contains("sleep 1000")).then_some(()));
    let text = told(&here, "none", "Readiness probe errored and resulted in unknown state: ");
    assert!(text.contains("executable file not found in $PATH"), "{text}");
    assert!(!ready(&here.running("hang")) && !ready(&here.running("none")));
}

#[test]
fn network_probes_ask_inside_the_pod_and_outlive_their_helper() {
    let mut here = Instance::new();
    let more = "    ports: [{name: web, containerPort: 8080}]\n\
        \u{20}   startupProbe: {tcpSocket: {port: web}, periodSeconds: 1, failureThreshold: 1000, timeoutSeconds: 60}\n\
        \u{20}   livenessProbe: {tcpSocket: {port: web}, periodSeconds: 1, timeoutSeconds: 60}\n\
        \u{20}   readinessProbe: {httpGet: {port: 8080, path: /ok}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 60}\n";
    // Both on the same port: each pod has a network of its own.
    for name in ["one", "two"] {
        here.write(&format!("{name}.yaml"), &one(name, SERVER, more));
    }
    here.start();
    let before = here.pod_that("one", ready);
    here.pod_that("two", ready);
    let helper = || child(here.pid(), "__probe");
    let first = helper().expect("a probe helper");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let second = until("another helper", || helper().filter(|pid| *pid != first));
    // A death of PID 1 ends the helper, too.
    here.say(&["fault", "panic"]);
    until("a new life", || here.log().contains("re-executed after death 1").then_some(()));
    until("a third helper", || helper().filter(|pid| *pid != second));
    shell(&here, "two", "busybox rm /w/ok");
    here.pod_that("two", |pod| !ready(pod));
    told(&here, "two", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    let after = here.pod("one").unwrap();
    assert!(ready(&after), "{after}");
    assert_eq!(condition(&after, "Ready"), condition(&before, "Ready"));
    assert_eq!(status(&after)["restartCount"], 0);
    let log = here.log();
    assert_eq!(log.matches("default/one-host/c: ready").count(), 1, "{log}");
    shell(&here, "one", "busybox kill $(cat /tmp/server)");
    here.pod_that("one", |pod| status(pod)["restartCount"] == 1);
    told(&here, "one", "Liveness probe failed: dial tcp 127.0.0.1:8080: connect: connection refused");
    // Not before it heeds the signal.
    here.pod_that("one", ready);
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    assert_eq!(helper_left(second), None);
    here.assert_nothing_left();
}

fn helper_left(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|comm| comm.starts_with("podinit"))
}

/// The child of this process that was called by this word.
fn child(parent: i32, word: &str) -> Option<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let of = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        of == Some(parent) && words.split(|byte| *byte == 0).any(|found| found == word.as_bytes())
    })
}

/// A server on the machine, which tells what it is asked.
fn server() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && b"GET ".starts_with(&head[..head.len().min(4)]) {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    Ok(_) | Err(_) => break,
                }
            }
            let _ = send.send(String::from_utf8_lossy(&head).into_owned());
            // Any answer is good enough for a hook.
            let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (port, requests)
}

#[test]
fn hooks_are_run_and_a_sleeping_one_delays_the_end() {
    let mut here = Instance::new();
    let (port, requests) = server();
    let http = |path: &str, scheme: &str| {
        format!(
            "httpGet: {{host: 127.0.0.1, port: {port}, path: {path}, scheme: {scheme}, \
             httpHeaders: [{{name: Authorization, value: secret}}, {{name: X-Mark, value: here}}]}}"
        )
    };
    let hooks =
        |post: &str, pre: &str| format!("    lifecycle: {{postStart: {{{post}}}, preStop: {{{pre}}}}}\n");
    let exec = |line: &str| format!("exec: {{command: [sh, -c, {line:?}]}}");
    here.write("web.yaml", &one("web", FOREVER, &hooks(&http("/begun", "HTTP"), &http("/ended", "HTTPS"))));
    here.write(
        "nap.yaml",
        &one("nap", FOREVER, &hooks(&exec("echo hooked >/tmp/mark"), "sleep: {seconds: 3}")),
    );
    here.start();
    let begun = requests.recv_timeout(PATIENCE).expect("a request");
    assert!(
        begun.starts_with("GET /begun HTTP/1.1\r\n") && begun.contains("\r\nAuthorization: secret\r\n"),
        "{begun}"
    );
    here.pod_that("web", |pod| status(pod)["started"] == true);
    here.pod_that("nap", |pod| status(pod)["started"] == true);
    assert_eq!(shell(&here, "nap", "cat /tmp/mark"), "hooked\n");

    let removed = Instant::now();
    for name in ["web", "nap"] {
        fs::remove_file(here.home.join(format!("m/{name}.yaml"))).unwrap();
    }
    // The server does not speak TLS: it is asked again in the clear, without what is secret.
    let mut ended = requests.recv_timeout(PATIENCE).expect("a request");
    while !ended.starts_with("GET ") {
        ended = requests.recv_timeout(PATIENCE).expect("a request");
    }
    assert!(
        ended.starts_with("GET /ended HTTP/1.1\r\n") && ended.contains("\r\nX-Mark: here\r\n"),
        "{ended}"
    );
    assert!(!ended.contains("secret"), "{ended}");
    until("no pod", || here.pod("web").is_none().then_some(()));
    until("no pod", || here.pod("nap").is_none().then_some(()));
    assert!(removed.elapsed() >= Duration::from_secs(3), "it did not sleep: {:?}", removed.elapsed());
}

#[test]
fn a_failed_post_start_hook_ends_its_container() {
    let mut here = Instance::new();
    let hook = |text: &str| format!("    lifecycle: {{postStart: {{{text}}}}}\n");
    here.write("bad.yaml", &one("bad", FOREVER, &hook("exec: {command: [sh, -c, 'echo secret; exit 3']}")));
    here.write("tcp.yaml", &one("tcp", FOREVER, &hook("tcpSocket: {port: 80}")));
    // It ends with its container, whatever it waits for.
    let script = "while ! test -e /tmp/hooked; do sleep 0.1; done; exit 7";
    let waits = hook("exec: {command: [sh, -c, 'touch /tmp/hooked; sleep 1000']}");
    here.write("end.yaml", &one("end", script, &waits));
    here.start();
    for name in ["bad", "tcp", "end"] {
        let text = told(&here, name, "FailedPostStartHook");
        // The state's message tells what it said, as the kubelet's does; the events, which more may read, do not.
        let (_, events) = text.split_once("\nEvents:").expect("events");
        assert!(!events.contains("secret"), "{text}");
        here.pod_that(name, |pod| status(pod)["restartCount"].as_u64() >= Some(1));
    }
    let log = here.log();
    assert!(log.contains("postStart hook failed: secret"), "{log}");
    assert!(log.contains("postStart hook failed: invalid handler: tcpSocket"), "{log}");
    assert_eq!(status(&here.pod("end").unwrap())["lastState"]["terminated"]["exitCode"], 7);
}
