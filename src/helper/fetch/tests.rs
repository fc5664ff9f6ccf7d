//! What a URL answers, from real servers on this machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::helper::client::servers::{TlsServer, nobody, redirect, says, server};

/// Patient, for a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn ask(url: &str, headers: &[(&str, &str)], authorities: &[&str]) -> Result<String, String> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request = Request { url: url.into(), headers };
    fetch(&request, authorities, Instant::now() + LONG).map(|body| String::from_utf8(body).unwrap())
}

#[test]
fn only_a_whole_200_is_an_answer() {
    let largest = "x".repeat(LARGEST);
    let port = server(move |head| match head.split(' ').nth(1).unwrap_or_default() {
        "/pods?board=1" => says("200 OK", "pods"),
        "/" => says("200 OK", "root"),
        "/empty" => says("200 OK", ""),
        "/204" => says("204 No Content", ""),
        "/404" => says("404 Not Found", "body"),
        "/302" => Some("HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nbody".into()),
        "/loop" => redirect(302, "/loop"),
        "/to" => redirect(307, "/pods?board=1"),
        "/ftp" => redirect(307, "ftp://h/hunter2"),
        "/largest" => says("200 OK", &largest),
        "/larger" => says("200 OK", &format!("{largest}x")),
        "/cut" => Some("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".into()),
        _ => None,
    });
    let (at, gone) = (format!("http://127.0.0.1:{port}"), nobody());
    let table = [
        (format!("{at}/pods?board=1"), Ok("pods".to_owned())),
        (at.clone(), Ok("root".to_owned())),
        (format!("{at}/empty"), Ok(String::new())),
        (format!("{at}/to"), Ok("pods".to_owned())),
        (format!("{at}/largest"), Ok("x".repeat(LARGEST))),
        (
            format!("{at}/larger"),
            Err("its answer is larger than 1572864 bytes: a manifest may not be".to_owned()),
        ),
        (format!("{at}/204"), Err("HTTP status 204".to_owned())),
        (format!("{at}/404"), Err("HTTP status 404".to_owned())),
        (format!("{at}/302"), Err("HTTP status 302".to_owned())),
        (format!("{at}/loop"), Err("stopped after 10 redirects".to_owned())),
        (format!("{at}/ftp"), Err("redirects to what is no HTTP URL".to_owned())),
        (format!("{at}/cut"), Err("unexpected EOF".to_owned())),
        (
            format!("http://127.0.0.1:{gone}/"),
            Err(format!("dial tcp 127.0.0.1:{gone}: connect: connection refused")),
        ),
    ];
    for (url, expected) in table {
        assert!(ask(&url, &[], &[]) == expected, "{url}");
    }
    let silent = Request { url: format!("{at}/silent"), headers: Vec::new() };
    let late = fetch(&silent, &[], Instant::now() + Duration::from_millis(300));
    assert_eq!(late, Err("no whole answer within 10 s".to_owned()));
}

#[test]
fn headers_are_for_their_own_host_alone() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let note = |heads: &Arc<Mutex<Vec<String>>>, head: &str| heads.lock().unwrap().push(head.to_owned());
    let seen = heads.clone();
    let other = server(move |head| {
        note(&seen, head);
        says("200 OK", "other")
    });
    let seen = heads.clone();
    let port = server(move |head| {
        note(&seen, head);
        match head.split(' ').nth(1).unwrap_or_default() {
            "/own" => redirect(302, "/pods"),
            // Another name of the same machine is another host.
            "/away" => redirect(302, &format!("http://localhost:{other}/pods")),
            _ => says("200 OK", "pods"),
        }
    });
    let given = [("authorization", "Bearer hunter2"), ("X-Board", "7"), ("X-Board", "8")];
    let with = |head: &str| {
        let lines = ["Authorization: Bearer hunter2", "X-Board: 7", "X-Board: 8"];
        lines.iter().filter(|line| head.contains(&format!("\r\n{line}\r\n"))).count()
    };
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    for (path, body, sent) in
        [("/pods", "pods", &[3][..]), ("/own", "pods", &[3, 3][..]), ("/away", "other", &[3, 0][..])]
    {
        assert_eq!(ask(&url(path), &given, &[]).as_deref(), Ok(body), "{path}");
        let heads = std::mem::take(&mut *heads.lock().unwrap());
        assert_eq!(heads.iter().map(|head| with(head)).collect::<Vec<_>>(), sent, "{path}: {heads:?}");
        assert!(heads.iter().all(|head| head.contains("\r\nUser-Agent: podinit/")), "{heads:?}");
    }
    ask(&url("/pods"), &[("user-agent", "board")], &[]).unwrap();
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.contains("\r\nUser-Agent: board\r\n") && !head.contains("podinit"), "{head}");
}

#[test]
fn a_server_is_believed_only_with_a_certificate_of_the_systems_authorities() {
    let table = [("ec", "-tls1_3"), ("ec", "-tls1_2"), ("rsa:2048", "-tls1_3"), ("rsa:2048", "-tls1_2")];
    let servers = table.map(|(key, version)| TlsServer::new(key, "IP:127.0.0.1", &[version]));
    let [first, second, ..] = &servers;
    let url = |server: &TlsServer| format!("https://127.0.0.1:{}/", server.port);
    for (server, kind) in servers.iter().zip(table) {
        let said = ask(&url(server), &[], &["/no/such/file", &server.authority(), "/dev/null"]);
        assert!(said.as_ref().is_ok_and(|body| body.contains("s_server")), "{kind:?}: {said:?}");
    }
    let refused = |url: &str, file: &str, part: &str| {
        let why = ask(url, &[], &[file]).expect_err(part);
        assert!(why.contains(part), "{why}");
    };
    refused(&url(first), &second.authority(), "tls: invalid peer certificate: ");
    refused(
        &url(first),
        "/no/such/file",
        "there is no file of certificate authorities: put one at /no/such/file",
    );
    refused(&url(first), "/dev/null", "/dev/null holds no certificate of an authority");
    let named = TlsServer::new("ec", "DNS:boards.example.com", &[]);
    refused(&url(&named), &named.authority(), "certificate not valid for name");
    // From plain HTTP a redirect may lead there; what it says is checked all the same.
    let to = url(first);
    let upgrade = server(move |_| redirect(301, &to));
    assert!(ask(&format!("http://127.0.0.1:{upgrade}/"), &[], &[&first.authority()]).is_ok());
    refused(
        &format!("http://127.0.0.1:{upgrade}/"),
        &second.authority(),
        &format!("redirected to 127.0.0.1:{}: tls", first.port),
    );
}

#[test]
fn from_https_no_way_leads_to_http() {
    let tls = TlsServer::new("ec", "IP:127.0.0.1", &["-HTTP"]);
    let plain = server(|_| says("200 OK", "not checked"));
    tls.answer("pods", &says("200 OK", "pods").unwrap());
    tls.answer("own", &redirect(302, "/pods").unwrap());
    tls.answer("down", &redirect(302, &format!("http://127.0.0.1:{plain}/")).unwrap());
    let ask = |path: &str| ask(&format!("https://127.0.0.1:{}/{path}", tls.port), &[], &[&tls.authority()]);
    assert_eq!((ask("pods").as_deref(), ask("own").as_deref()), (Ok("pods"), Ok("pods")));
    let why = "redirects from https to http, which is not followed: name the last URL";
    assert_eq!(ask("down"), Err(why.to_owned()));
}
