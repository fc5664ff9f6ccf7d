//! Pods that a URL wants: from a real HTTP server that changes its answer, fails and recovers, to running containers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::instance::{IMAGE, Instance, manifest, until};
use super::{FOREVER, status, uid};

/// What the server says, and how often it was asked so far with the right header and in all.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    status: u16,
    body: String,
    asked: u64,
    trusted: u64,
}

impl Server {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pods", listener.local_addr().unwrap());
        let server = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let mut state = server.0.lock().unwrap();
                let (status, body) = (state.status, state.body.clone());
                let _ =
                    write!(stream, "HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                state.asked += 1;
                state.trusted += u64::from(head.contains("\r\nAuthorization: Bearer hunter2\r\n"));
            }
        });
        url
    }

    fn says(&self, status: u16, body: &str) {
        let mut state = self.0.lock().unwrap();
        (state.status, state.body) = (status, body.to_owned());
    }

    /// Waits until what it says now was taken in: a request that began before it, one after it, and the next one.
    fn heard(&self) {
        let asked = || self.0.lock().unwrap().asked;
        let before = asked();
        until("two requests", || (asked() >= before + 3).then_some(()));
    }
}

fn id(pod: &Value) -> String {
    status(pod)["containerID"].as_str().expect("an id").to_owned()
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_url_wants_pods_changes_its_mind_fails_and_recovers() {
    let server = Server::default();
    server.says(503, "busy");
    let url = server.start();
    let mut here = Instance::new();
    here.more = vec![
        format!("--manifest-url={url}"),
        "--manifest-url-header=Authorization:Bearer hunter2".into(),
        "--http-check-frequency=200ms".into(),
    ];
    here.write("local.yaml", &manifest("local", "", &[("c", FOREVER)]));
    here.start();
    here.running("local");
    let trouble = format!("{url}: cannot be read: HTTP status 503\n");
    until("the trouble", || here.log().contains(&trouble).then_some(()));
    server.heard();
    assert_eq!(count(&here.log(), "HTTP status 503"), 1, "told once: {}", here.log());

    server.says(200, &manifest("web", "", &[("c", FOREVER)]));
    let web = here.running("web");
    assert_eq!(web["metadata"]["annotations"]["kubernetes.io/config.source"], "http");
    assert_eq!(web["metadata"]["annotations"]["kubernetes.io/config.hash"], uid(&web));
    assert_eq!(web["spec"]["tolerations"], Value::Null);
    assert_eq!(count(&here.log(), &format!("{url}: no problems any more\n")), 1, "{}", here.log());

    let command = ["sh", "-c", FOREVER];
    let item = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": IMAGE, "command": command}]}})
    };
    let mut list = json!({"apiVersion": "v1", "kind": "PodList", "items": [item("one"), item("two")]});
    server.says(200, &list.to_string());
    let (one, two) = (here.running("one"), here.running("two"));
    until("web's end", || here.pod("web").is_none().then_some(()));

    // One bad pod spoils the whole answer.
    list["items"][0] = item("three");
    list["items"][1]["spec"]["containers"][0]["name"] = json!("_");
    server.says(200, &list.to_string());
    let refused = format!("{url}: its answer is refused as a whole, and its last good answer stays\n");
    until("the refusal", || here.log().contains(&refused).then_some(()));
    // Neither a failure nor a new life of PID 1 takes a pod away.
    server.says(404, "gone");
    until("the failure", || here.log().contains("HTTP status 404: its last good answer stays").then_some(()));
    here.podinit(&["fault", "panic"]);
    until("a new life", || here.log().contains("re-executed").then_some(()));
    server.heard();
    assert_eq!((id(&here.running("one")), id(&here.running("two"))), (id(&one), id(&two)));
    assert!(here.pod("three").is_none() && here.pod("local").is_some());

    list["items"] = json!([item("two")]);
    server.says(200, &list.to_string());
    until("one's end", || here.pod("one").is_none().then_some(()));
    assert_eq!(id(&here.running("two")), id(&two));
    assert_eq!(uid(&here.running("two")), uid(&two));

    let state = server.0.lock().unwrap();
    assert_eq!(state.asked, state.trusted, "a request without its header");
    drop(state);
    let mut told = here.log();
    for file in ["world.json", "facts.jsonl"] {
        told += &fs::read_to_string(here.home.join("run").join(file)).unwrap_or_default();
    }
    assert!(!told.contains("hunter2"));
    here.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}
