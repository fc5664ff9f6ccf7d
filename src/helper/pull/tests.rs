//! What takes too long for a real registry to show.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::config::{Proxies, Registries};

#[test]
fn a_connection_that_stalls_is_made_anew_from_where_it_was() {
    let blob = b"0123456789";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = ranges.clone();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && b"GET ".starts_with(&head[..head.len().min(4)]) {
                assert_eq!(stream.read(&mut byte).unwrap(), 1);
                head.push(byte[0]);
            }
            // It speaks no TLS.
            let Some(head) = String::from_utf8(head).ok().filter(|head| head.starts_with("GET ")) else {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
                continue;
            };
            let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")?.strip_suffix('-'));
            let from: usize = range.map_or(0, |from| from.parse().unwrap());
            let status = match range {
                None => "200 OK".to_owned(),
                Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {from}-9/10"),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", blob.len() - from);
            stream.write_all(head.as_bytes()).unwrap();
            // Three bytes, and then nothing more, but no end either.
            stream.write_all(&blob[from..blob.len().min(from + 3)]).unwrap();
            seen.lock().unwrap().push(from);
            held.push(stream);
        }
    });
    let image = Reference::parse(&format!("127.0.0.1:{port}/a:1")).unwrap();
    let endpoint = endpoints(&image, &Registries::default()).remove(0);
    let session = Session::new(endpoint, vec![], &Proxies::default(), &[]).unwrap();
    let sessions = [session.impatient(Duration::from_millis(50))];
    let wanted = Blob { digest: stream::digest(blob), size: 10, urls: vec![] };
    assert_eq!(Download::new(&sessions, &wanted).small().unwrap(), blob);
    assert_eq!(*ranges.lock().unwrap(), [0, 3, 6, 9]);
}

#[test]
fn what_cannot_be_used_of_the_logins_is_told_and_the_rest_is_used() {
    use crate::image::registry::credentials::Secret;

    let folder = std::env::temp_dir().join(format!("podinit-logins-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let entry = |user: &str| format!("{{\"username\": \"{user}\", \"password\": \"p\"}}");
    let secret = |name: &str, form, text: &str| Secret { name: name.into(), form, text: text.into() };
    let request = Request {
        image: String::new(),
        platform: crate::image::platform::Platform::host(),
        store: folder.join("images"),
        behind: vec![],
        registries: Registries::default(),
        proxies: Proxies::default(),
        secrets: vec![
            secret("n/a", Form::Config, &format!("{{\"auths\": {{\"h.io\": {}}}}}", entry("a"))),
            secret("n/bad", Form::Config, "hunter2"),
            secret("n/b", Form::Legacy, &format!("{{\"h.io/x\": {}}}", entry("b"))),
            secret("n/half", Form::Legacy, "{\"h.io\": {\"auth\": \"hunter2!\"}}"),
        ],
        keyrings: vec![
            (Form::Config, folder.join("absent")),
            (Form::Config, file("broken", "{\"auths\": hunter2")),
            (
                Form::Legacy,
                file("good", &format!("{{\"h.io\": {}, \"*.io/x\": {}}}", entry("c"), entry("a"))),
            ),
            (Form::Legacy, file("late", &format!("{{\"h.io\": {}}}", entry("d")))),
        ],
        login: None,
    };
    let keys = prepared(&request).unwrap();
    let image = Reference::parse("h.io/x/y").unwrap();
    let users: Vec<_> = keys.lookup(&image).into_iter().map(|login| login.user).collect();
    // Those of the Secrets first, of each the longest pattern; none twice.
    assert_eq!(users, ["b", "a", "c"]);
    assert_eq!(keys.left_out.len(), 3, "{:?}", keys.left_out);
    for (told, part) in
        keys.left_out.iter().zip(["Secret n/bad: not a", "Secret n/half: auths: h.io", "broken: not a"])
    {
        assert!(told.contains(part) && !told.contains("hunter2"), "{told}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
