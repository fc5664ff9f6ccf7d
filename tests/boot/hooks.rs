//! Further rows of the list (see cases.rs): probes, hooks, and the names that a container knows.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::lifecycle::{WAIT, container, order, pod, remove, running, sidecar};
use crate::pods::{controlled, ctl, inside, listed, pods, rows, status, when};
use crate::qemu::Board;

/// Serves a page that is made anew each time. All that happens is written down.
const PAGE: &str = r#"echo up >>/v/order; busybox rm -f /v/bad; busybox mkdir -p /v/cgi-bin; busybox printf '#!/bin/sh\nif test -e /v/bad; then echo bad >>/v/order; echo "Status: 500 Bad"; else echo good >>/v/order; fi; echo; echo page\n' >/v/cgi-bin/healthz; busybox chmod 755 /v/cgi-bin/healthz; (sleep 10; touch /v/bad) & httpd -f -h /v -p 8000 & "#;

/// A pod of one container.
fn alone(name: &str, script: &str, more: &str) -> String {
    pod(name, "Always", &[], &[container("main", script, more)])
}

fn probe(kind: &str, what: &str) -> String {
    format!("    {kind}: {{{what}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 20}}\n")
}

/// A command that writes down that it ran.
fn note(text: &str) -> String {
    format!("exec: {{command: [sh, -c, 'echo {text} >>/v/order']}}")
}

fn hooks(post: &str, pre: &str) -> String {
    format!("    lifecycle: {{postStart: {{{post}}}, preStop: {{{pre}}}}}\n")
}

/// Two containers that leave `/etc/hosts` alone, and one that mounts its own.
fn hosts(name: &str, more: &str) -> String {
    let own = "    volumeMounts: [{name: own, mountPath: /etc/hosts, subPath: hosts}]\n";
    let own = container("own", WAIT, "").replace("    volumeMounts: [{name: v, mountPath: /v}]\n", own);
    pod(name, "Always", &[], &[container("one", WAIT, ""), container("two", WAIT, ""), own])
        .replace("  volumes: [", &format!("  {more}\n  volumes: [{{name: own, configMap: {{name: own}}}}, "))
}

#[test]
fn probes_hooks_and_names() {
    let server = TlsServer::start();
    let (post, pre) = (note("post"), note("pre"));
    let none = "exec: {command: [ls, /v/none]}";
    let stop = format!("    lifecycle: {{preStop: {{{pre}}}}}\n");
    let get = "httpGet: {port: 8000, path: /cgi-bin/healthz}";
    let first = probe("startupProbe", get).replace("failureThreshold: 2", "failureThreshold: 60");
    let page = format!("{PAGE}{WAIT}");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\ndata: {hosts: mine}\n---\n";
    let all = [
        alone("live", WAIT, &(probe("livenessProbe", none) + &stop)),
        alone("startup", WAIT, &(probe("startupProbe", none) + &stop)),
        alone("health", &page, &(first.clone() + &probe("livenessProbe", get))),
        alone("unready", &page, &(first + &probe("readinessProbe", get))),
        map.to_owned(),
        hosts("hosts", "hostAliases: [{ip: 10.1.2.3, hostnames: [far.local]}]"),
        hosts("nodehosts", "hostNetwork: true"),
    ];
    let near = |path: &str| format!("httpGet: {{port: 8000, path: {path}}}");
    let far = |path: &str| {
        format!("httpGet: {{scheme: HTTPS, host: 10.0.2.2, port: {}, path: {path}}}", server.port)
    };
    let bad = probe("livenessProbe", "exec: {command: [sh, -c, '! test -e /v/bad']}");
    let up = "    startupProbe: {tcpSocket: {port: 8000}, periodSeconds: 1, failureThreshold: 60}\n";
    let hooked = pod(
        "hooked",
        "Always",
        &[sidecar("server", "exec httpd -f -vv -h /www -p 8000", up)],
        &[
            container("exec", WAIT, &(hooks(&post, &pre) + &bad)),
            container("http", WAIT, &(hooks(&near("/post"), &near("/pre")) + &bad)),
            container("https", WAIT, &(hooks(&far("/post"), &far("/pre")) + &bad)),
        ],
    );
    let sleeps = hooks("sleep: {seconds: 3}", "sleep: {seconds: 4}");
    let nap = pod("nap", "Always", &[], &[container("main", WAIT, &sleeps), container("next", WAIT, "")]);
    let mut board = controlled()
        .manifest("all.yaml", &all.concat())
        .manifest("nap.yaml", &nap)
        .manifest(".hooked", &hooked)
        .boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    let j1_42_hooks_ask_over_https = |board: &mut Board| {
        for path in ["post", "pre"] {
            assert!(server.asked().contains(&format!("FILE:{path}")), "{path}: {}", server.asked());
        }
        assert_eq!(status(&pods(board, |_| true), "hooked", "server").restart_count, 0);
    };
    rows!(board;
        j1_38_a_failed_probe_runs_the_hook_and_restarts,
        j1_40_liveness_restarts_and_readiness_does_not,
        j1_41_hosts_files_are_managed_unless_mounted,
        j1_42_a_sleep_delays_the_start_and_the_end,
        j1_42_hooks_run_commands_and_ask_over_http,
        j1_42_hooks_ask_over_https,
    );
}

fn j1_38_a_failed_probe_runs_the_hook_and_restarts(board: &mut Board) {
    for name in ["live", "startup"] {
        let all = pods(board, |pods| status(pods, name, "main").restart_count >= 1);
        assert!(status(&all, name, "main").last_state.is_some(), "{name}");
        assert_eq!(order(board, name, 1)[0], "pre", "{name}");
        let main = format!("{name}-podinit/main: ");
        let (mark, _) = board.wait_from(0, &format!("{main}exited with code"));
        board.wait_from(mark, &format!("{main}started"));
    }
    let events = board.ask("get events");
    for words in ["Liveness probe failed: ", "Startup probe failed: "] {
        assert!(events.contains(words), "{words}: {events}");
    }
}

fn j1_40_liveness_restarts_and_readiness_does_not(board: &mut Board) {
    pods(board, |pods| status(pods, "health", "main").restart_count >= 1);
    let told = ctl(
        board,
        "until [ $(busybox grep -c up /host/var/health/order) -ge 2 ]; do sleep 1; done; cat /host/var/health/order",
    );
    let told: Vec<&str> = told.lines().collect();
    let first = told[1..].split(|line| *line == "up").next().unwrap_or_default();
    let bad = first.iter().position(|line| *line == "bad").expect("it was bad");
    assert_eq!(first[bad..], ["bad", "bad"], "restarted at the threshold: {told:?}");

    let enough = "until [ $(busybox grep -c bad /host/var/unready/order) -ge 5 ]; do sleep 1; done";
    assert_eq!(ctl(board, enough), "");
    let all = pods(board, |pods| !status(pods, "unready", "main").ready);
    assert!(running(&all, "unready", "main") && status(&all, "unready", "main").restart_count == 0);
    let events = board.ask("get events");
    for kind in ["Liveness", "Readiness"] {
        let words = format!("{kind} probe failed: HTTP probe failed with statuscode: 500");
        assert!(events.contains(&words), "{words}: {events}");
    }
}

fn j1_41_hosts_files_are_managed_unless_mounted(board: &mut Board) {
    for name in ["hosts", "nodehosts"] {
        pods(board, |pods| ["one", "two", "own"].iter().all(|container| running(pods, name, container)));
    }
    let read = |board: &mut Board, target: &str| inside(board, target, "cat /etc/hosts");
    for name in ["one", "two"] {
        let managed = read(board, &format!("hosts -c {name}"));
        assert!(managed.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{managed}");
        assert!(managed.ends_with("\n# Entries added by HostAliases.\n10.1.2.3\tfar.local"), "{managed}");
    }
    for pod in ["hosts -c own", "nodehosts -c own"] {
        assert_eq!(read(board, pod), "mine", "{pod}");
    }
    // The node's names, and no file of the node's is written.
    let node = ctl(board, "cat /host/etc/hosts");
    assert!(!node.contains("Kubernetes") && !node.contains("-podinit"), "{node}");
    for name in ["one", "two"] {
        let seen = read(board, &format!("nodehosts -c {name}"));
        let whole = format!("# Kubernetes-managed hosts file (host network).\n{node}");
        assert_eq!(seen, whole.trim());
    }
}

fn j1_42_a_sleep_delays_the_start_and_the_end(board: &mut Board) {
    let (mark, started) = when(board, 0, "nap-podinit/main: started");
    let (_, next) = when(board, mark, "nap-podinit/next: started");
    assert!(next - started >= 2.5, "{}", next - started);
    pods(board, |pods| status(pods, "nap", "main").ready);
    let mark = remove(board, "nap.yaml");
    let (mark, begun) = when(board, mark, "nap-podinit: stopping");
    let (_, asked) = when(board, mark, "nap-podinit/main: sent stop signal");
    assert!(asked - begun >= 3.5, "{}", asked - begun);
}

fn j1_42_hooks_run_commands_and_ask_over_http(board: &mut Board) {
    let all = ["exec", "http", "https"];
    board.ask_until("get pods -o wide", |text| text.contains("10.0.2.15"));
    assert_eq!(ctl(board, "cd /host/etc/kubernetes/manifests; mv .hooked hooked.yaml"), "");
    pods(board, |pods| listed(pods, "hooked") && all.iter().all(|name| status(pods, "hooked", name).ready));
    assert_eq!(order(board, "hooked", 1), ["post"]);
    board.ask_until("logs hooked -c server", |said| said.contains("url:/post"));
    assert_eq!(ctl(board, "touch /host/var/hooked/bad"), "");
    pods(board, |pods| all.iter().all(|name| status(pods, "hooked", name).restart_count >= 1));
    assert_eq!(order(board, "hooked", 2)[..2], ["post", "pre"]);
    board.ask_until("logs hooked -c server", |said| said.contains("url:/pre"));
}

/// `openssl s_server` on the machine that runs the tests, which a board knows as 10.0.2.2. It tells of each file that it
/// is asked for.
struct TlsServer {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl TlsServer {
    fn start() -> TlsServer {
        let name = format!("tls-{}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("a folder for the test");
        for file in ["post", "pre"] {
            fs::write(folder.join(file), file).expect("a page");
        }
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "1", "-subj", "/CN=nobody.invalid", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&folder)
            .output()
            .expect("openssl (package openssl)");
        assert!(made.status.success(), "{made:?}");
        // Bound for a moment to learn of a free port.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.expect("a port").port();
        let child = Command::new("openssl")
            .args(["s_server", "-WWW", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("asked")).expect("a file"))
            .spawn()
            .expect("openssl (package openssl)");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        TlsServer { child, port, folder }
    }

    /// What it has told so far.
    fn asked(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
