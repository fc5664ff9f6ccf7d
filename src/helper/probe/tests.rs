//! F1 and F5, the kubelet's tables against real servers on this machine: F1 (`http_test.go`), tcp and F5 (`grpc_test.go`).
//!
//! Answered differently on purpose: a gRPC server that is not there fails at once, not at the deadline; a body that
//! never comes is a failure, not an error that is ignored.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::pool::persistent;
use super::tries::attempt;
use super::*;
use crate::helper::client::servers::{TlsServer, nobody, redirect, says, server};
use crate::pod::facts::ProbeKind;
use crate::pod::probe::{Begin, Told};
use crate::pod::spec::{Handler, Probe};

fn probe(handler: Handler, timeout: u64) -> Probe {
    Probe {
        handler,
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(10),
        timeout: Duration::from_secs(timeout),
        success: 1,
        failure: 1,
        grace: None,
    }
}

/// Patient, for a busy machine.
fn try_http(port: u16, path: &str, headers: &[(&str, &str)]) -> Try {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    attempt(
        &probe(Handler::Http { host: None, port, path: path.into(), https: false, headers }, 30),
        "127.0.0.1",
    )
}

#[test]
fn f1_http_statuses_and_redirects_are_the_kubelets() {
    let other = server(|_| says("200 OK", "other"));
    let port = server(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["status", status] => says(&format!("{status} Word"), "body"),
            ["to", status, to @ ..] => {
                redirect(status.parse().unwrap(), &format!("/status/{}", to.join("/")))
            }
            ["port"] => redirect(302, &format!("http://127.0.0.1:{other}/")),
            ["away"] => redirect(302, "http://example.invalid/"),
            ["loop"] => redirect(302, "/loop"),
            ["nowhere"] => Some("HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nbody".into()),
            ["long"] => says("200 OK", &"x".repeat(11 << 10)),
            _ => says("400 Bad Request", path),
        }
    });
    let fine = |body: &str| Try::Success(body.into());
    let failed = |status: u16| Try::Failure(format!("HTTP probe failed with statuscode: {status}"));
    let ended = |body: &str| Try::Success(format!("Probe terminated redirects, Response body: {body}"));
    let looped = format!("Get \"http://127.0.0.1:{port}/loop\": stopped after 10 redirects");
    let mut table = vec![
        ("/status/200".to_owned(), fine("body")),
        ("status/299".to_owned(), fine("body")),
        (
            "/status/199x".to_owned(),
            Try::Failure(format!(
                "Get \"http://127.0.0.1:{port}/status/199x\": malformed HTTP response \"HTTP/1.1 199x Word\""
            )),
        ),
        ("/status/304".to_owned(), ended("")),
        ("/status/399".to_owned(), ended("body")),
        ("/status/400".to_owned(), failed(400)),
        ("/status/404".to_owned(), failed(404)),
        ("/status/500".to_owned(), failed(500)),
        ("/status/503".to_owned(), failed(503)),
        ("/port".to_owned(), fine("other")),
        ("/away".to_owned(), ended("")),
        ("/loop".to_owned(), Try::Failure(looped)),
        ("/nowhere".to_owned(), ended("body")),
        ("/long".to_owned(), fine(&"x".repeat(10 << 10))),
    ];
    for status in [301, 302, 303, 307, 308] {
        table.push((format!("/to/{status}/200"), fine("body")));
        table.push((format!("/to/{status}/500"), failed(500)));
    }
    for (path, expected) in table {
        assert_eq!(try_http(port, &path, &[]), expected, "{path}");
    }
}

#[test]
fn f1_an_http_server_sees_exactly_the_kubelets_headers() {
    let heard = Arc::new(Mutex::new(String::new()));
    let port = {
        let heard = heard.clone();
        server(move |head| {
            *heard.lock().unwrap() = head.to_owned();
            if head.contains("GET /first ") { redirect(302, "/second") } else { says("200 OK", "") }
        })
    };
    let own = format!("Host: 127.0.0.1:{port}");
    let defaults = ["User-Agent: kube-probe/1.36", "Accept: */*", "Connection: close"];
    let table: &[(&[(&str, &str)], Vec<&str>)] = &[
        (&[], [&[own.as_str()], &defaults[..]].concat()),
        (&[("Accept-Encoding", "gzip")], [&[own.as_str(), "Accept-Encoding: gzip"], &defaults[..]].concat()),
        (&[("Accept-Encoding", "foo")], [&[own.as_str(), "Accept-Encoding: foo"], &defaults[..]].concat()),
        (&[("Accept-Encoding", "")], [&[own.as_str(), "Accept-Encoding: "], &defaults[..]].concat()),
        (
            &[("X-Muffins-Or-Cupcakes", "muffins")],
            [&[own.as_str(), "X-Muffins-Or-Cupcakes: muffins"], &defaults[..]].concat(),
        ),
        (&[("User-Agent", "foo/1.0")], [&[own.as_str(), "User-Agent: foo/1.0"], &defaults[1..]].concat()),
        (&[("User-Agent", "")], [&[own.as_str()], &defaults[1..]].concat()),
        (&[("Host", "muffins.cupcakes.org")], [&["Host: muffins.cupcakes.org"], &defaults[..]].concat()),
    ];
    for (headers, expected) in table {
        for path in ["/", "/first"] {
            assert_eq!(try_http(port, path, headers), Try::Success(String::new()));
            let seen = heard.lock().unwrap().clone();
            let mut seen: Vec<_> = seen.trim_end().lines().skip(1).collect();
            let mut expected = expected.clone();
            seen.sort_unstable();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{headers:?} {path}");
        }
    }
}

#[test]
fn f1_servers_that_do_not_answer_fail_in_the_kubelets_words() {
    let (silent, gone) = (server(|_| None), nobody());
    let http = |port, timeout| {
        let handler = Handler::Http { host: None, port, path: "/".into(), https: false, headers: Vec::new() };
        attempt(&probe(handler, timeout), "127.0.0.1")
    };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(http(silent, 1), Try::Failure(format!("Get \"http://127.0.0.1:{silent}/\": {late}")));
    let refused = format!("dial tcp 127.0.0.1:{gone}: connect: connection refused");
    assert_eq!(http(gone, 30), Try::Failure(format!("Get \"http://127.0.0.1:{gone}/\": {refused}")));

    let tcp = |host: Option<&str>, port| {
        attempt(&probe(Handler::Tcp { host: host.map(str::to_owned), port }, 30), "127.0.0.1")
    };
    assert_eq!(tcp(None, silent), Try::Success(String::new()));
    assert_eq!(tcp(Some("localhost"), silent), Try::Success(String::new()));
    assert_eq!(tcp(None, gone), Try::Failure(refused));
    assert!(
        matches!(tcp(Some("no-such-host.invalid"), 1), Try::Failure(why) if why.contains("lookup no-such-host.invalid"))
    );
}

fn https(port: u16) -> Try {
    let handler = Handler::Http { host: None, port, path: "/".into(), https: true, headers: Vec::new() };
    attempt(&probe(handler, 30), "127.0.0.1")
}

#[test]
fn https_is_spoken_with_whoever_answers() {
    for version in ["-tls1_3", "-tls1_2"] {
        let server = TlsServer::new("ec", "DNS:nobody.invalid", &[version]);
        let said = https(server.port);
        assert!(matches!(&said, Try::Success(body) if body.contains("s_server")), "{version}: {said:?}");
    }
    let port = server(|_| says("400 Bad Request", ""));
    let plain = format!("Get \"https://127.0.0.1:{port}/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(https(port), Try::Failure(plain));
}

/// A gRPC server by the h2 crate: the bytes of its answer's message, or the trailers alone.
fn grpc_server(answer: Option<Result<Vec<u8>, &'static [(&'static str, &'static str)]>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut held = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["te"], "trailers");
                    let mut body = request.into_body();
                    let asked = body.data().await.unwrap().unwrap();
                    let service = asked.get(7..).unwrap_or_default().to_vec();
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    match &answer {
                        Some(Ok(message)) => {
                            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                            let mut bytes = vec![0, 0, 0, 0, message.len() as u8];
                            // A service called `down` is down.
                            bytes.extend(if service == b"down" { &[8, 2] } else { message.as_slice() });
                            stream.send_data(bytes.into(), false).unwrap();
                            let mut trailers = http::HeaderMap::new();
                            trailers.insert("grpc-status", "0".parse().unwrap());
                            stream.send_trailers(trailers).unwrap();
                        }
                        Some(Err(trailers)) => {
                            let head =
                                trailers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
                            respond.send_response(head.body(()).unwrap(), true).unwrap();
                        }
                        None => held.push(respond),
                    }
                }
            }
        });
    });
    port
}

fn grpc(port: u16, service: &str, timeout: u64) -> Try {
    attempt(&probe(Handler::Grpc { port, service: service.into() }, timeout), "127.0.0.1")
}

#[test]
fn f5_grpc_health_is_told_in_the_kubelets_words() {
    let unhealthy = |word: &str| Try::Failure(format!("service unhealthy (responded with \"{word}\")"));
    let serving = grpc_server(Some(Ok(vec![8, 1])));
    assert_eq!(grpc(serving, "", 30), Try::Success("service healthy".into()));
    assert_eq!(grpc(serving, "some.Service", 30), Try::Success("service healthy".into()));
    assert_eq!(grpc(serving, "down", 30), unhealthy("NOT_SERVING"));
    assert_eq!(grpc(grpc_server(Some(Ok(vec![8, 2]))), "", 30), unhealthy("NOT_SERVING"));
    assert_eq!(grpc(grpc_server(Some(Ok(Vec::new()))), "", 30), unhealthy("UNKNOWN"));
    assert_eq!(grpc(grpc_server(Some(Ok(vec![8, 3]))), "", 30), unhealthy("SERVICE_UNKNOWN"));

    let codes: [(&'static [(&str, &str)], &str); 4] = [
        (
            &[("grpc-status", "12")],
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ",
        ),
        (&[("grpc-status", "4")], "timeout: health rpc did not complete within 30s"),
        (&[("grpc-status", "5")], "error: health rpc probe failed: rpc error: code = NotFound desc = "),
        (
            &[("x", "y"), ("grpc-status", "16")],
            "error: health rpc probe failed: rpc error: code = Unauthenticated desc = ",
        ),
    ];
    for (trailers, expected) in codes {
        assert_eq!(grpc(grpc_server(Some(Err(trailers))), "", 30), Try::Failure(expected.into()));
    }

    let late = "timeout: health rpc did not complete within 2s";
    assert_eq!(grpc(grpc_server(None), "", 2), Try::Failure(late.into()));
    let gone = nobody();
    let start = format!("timeout: failed to connect service \"127.0.0.1:{gone}\" within 1s: ");
    assert!(matches!(grpc(gone, "", 1), Try::Failure(why) if why.starts_with(&start)));
    let plain = server(|_| says("400 Bad Request", ""));
    let said = grpc(plain, "", 30);
    assert!(matches!(&said, Try::Failure(why) if why.contains("does not speak HTTP/2")), "{said:?}");
}

#[test]
fn an_unknown_or_missing_handler_is_an_error_and_tried_thrice() {
    let mut tries = 0;
    let result = persistent(|| {
        tries += 1;
        attempt(&probe(Handler::Exec(vec!["x".into()]), 1), "127.0.0.1")
    });
    assert_eq!((result, tries), (Try::Error("not a network probe".into()), 3));
    let mut results = vec![Try::Failure("no".into()), Try::Error("broken".into())];
    assert_eq!(persistent(|| results.pop().unwrap()), Try::Failure("no".into()));
    assert_eq!(results, [], "a failure is not tried again");
}

/// The helper's loop on a thread, and PID 1's end of its socket.
fn helper() -> (OwnedFd, thread::JoinHandle<std::io::Result<()>>) {
    let kind = SockType::SeqPacket;
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (ours, thread::spawn(move || serve(theirs.as_fd())))
}

fn order(socket: &OwnedFd, order: &Order) {
    send(socket.as_raw_fd(), &serde_json::to_vec(order).unwrap(), MsgFlags::empty()).unwrap();
}

fn report(socket: &OwnedFd) -> Report {
    let mut buffer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
    serde_json::from_slice(&buffer[..length]).unwrap()
}

fn watch(id: u64, port: u16, verdict: Option<bool>) -> Order {
    Order::Watch(Box::new(Watch {
        id,
        kind: ProbeKind::Readiness,
        probe: probe(Handler::Tcp { host: None, port }, 30),
        begin: Begin { started: Tick::now(), verdict, spread: None },
        address: "127.0.0.1".into(),
        space: None,
    }))
}

#[test]
fn only_changes_are_reported_and_what_is_forgotten_is_quiet() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (socket, helper) = helper();
    order(&socket, &watch(1, port, None));
    assert_eq!(report(&socket), Report { id: 1, told: Told::Verdict { ok: true, why: String::new() } });
    // Ready already: nothing is told of it, nor of the first one any more; the third is the next that is heard of.
    order(&socket, &watch(2, port, Some(true)));
    for _ in 0..5 {
        drop(listener.accept().unwrap());
    }
    order(&socket, &watch(3, port, None));
    assert_eq!(report(&socket), Report { id: 3, told: Told::Verdict { ok: true, why: String::new() } });
    order(&socket, &Order::Forget { id: 1 });
    order(&socket, &Order::Forget { id: 3 });
    order(&socket, &watch(4, port, None));
    assert_eq!(report(&socket).id, 4);
    order(&socket, &Order::Forget { id: 4 });
    drop(listener);
    let mut told = BTreeMap::new();
    while !told.contains_key(&(2, true)) {
        let Report { id, told: news } = report(&socket);
        told.insert((id, matches!(news, Told::Verdict { .. })), news);
    }
    assert!(matches!(told[&(2, false)], Told::Failed { error: false, .. }), "{told:?}");
    assert!(
        matches!(&told[&(2, true)], Told::Verdict { ok: false, why } if why.contains("refused")),
        "{told:?}"
    );
    drop(socket);
    helper.join().unwrap().unwrap();
}

#[test]
fn tries_that_wait_for_their_server_hold_back_no_other() {
    let silent = server(|_| None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (socket, helper) = helper();
    // More than rest between tries.
    for id in 1..=12 {
        let Order::Watch(mut watch) = watch(id, port, None) else { unreachable!() };
        watch.probe.handler =
            Handler::Http { host: None, port: silent, path: "/".into(), https: false, headers: Vec::new() };
        order(&socket, &Order::Watch(watch));
    }
    for id in 13..=16 {
        order(&socket, &watch(id, port, None));
        assert_eq!(report(&socket), Report { id, told: Told::Verdict { ok: true, why: String::new() } });
    }
    drop(socket);
    helper.join().unwrap().unwrap();
}

#[test]
fn a_try_is_made_in_the_pods_network() {
    if !nix::unistd::geteuid().is_root() {
        // Not a silent pass: the same is asserted end to end by tests/host.rs, which is root's.
        eprintln!("not root: no network namespace to try in");
        return;
    }
    // A server on the machine, and a namespace in which nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = std::env::temp_dir().join(format!("podinit-probe-ns-{}", std::process::id()));
    let made = Command::new("unshare").args(["-n", "sleep", "600"]).spawn();
    let mut sleeper = made.expect("unshare (package util-linux)");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = format!("/proc/{}/ns/net", sleeper.id());
    while fs::read_link(&theirs).unwrap() == own {
        thread::sleep(Duration::from_millis(5));
    }
    let (socket, helper) = helper();
    let Order::Watch(mut inside) = watch(1, port, None) else { unreachable!() };
    inside.space = Some(theirs.into());
    order(&socket, &Order::Watch(inside.clone()));
    let said = report(&socket);
    assert!(matches!(&said.told, Told::Failed { error: false, .. }), "{said:?}");
    order(&socket, &Order::Forget { id: 1 });
    // The host's own, because the handler names it.
    inside.id = 2;
    inside.probe.handler = Handler::Tcp { host: Some("127.0.0.1".into()), port };
    order(&socket, &Order::Watch(inside.clone()));
    let second = loop {
        let said = report(&socket);
        if said.id == 2 {
            break said;
        }
    };
    assert_eq!(second.told, Told::Verdict { ok: true, why: String::new() });
    order(&socket, &Order::Forget { id: 2 });
    inside.id = 3;
    inside.space = Some(path);
    inside.probe.handler = Handler::Tcp { host: None, port };
    order(&socket, &Order::Watch(inside));
    let third = loop {
        let said = report(&socket);
        if said.id == 3 {
            break said;
        }
    };
    assert!(matches!(third.told, Told::Failed { error: true, .. }), "{third:?}");
    drop(socket);
    helper.join().unwrap().unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}
