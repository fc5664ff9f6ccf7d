//! Servers for tests: one that answers as it is told, and another's TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// An HTTP server: each request is answered with what this makes of its head; None: never.
pub fn server(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            // Who speaks something else is told so at once.
            while !head.ends_with(b"\r\n\r\n")
                && b"GET ".starts_with(&head[..head.len().min(4)])
                && stream.read(&mut byte).is_ok_and(|n| n == 1)
            {
                head.push(byte[0]);
            }
            match answer(&String::from_utf8_lossy(&head)) {
                Some(text) => drop(stream.write_all(text.as_bytes())),
                None => held.push(stream),
            }
        }
    });
    port
}

pub fn says(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

pub fn redirect(status: u16, location: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
}

/// A port on which nobody listens.
pub fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// `openssl s_server`, another's TLS, with a certificate by an authority of its own.
pub struct TlsServer {
    child: Child,
    pub port: u16,
    folder: PathBuf,
}

impl TlsServer {
    /// `key`: `ec`, or a kind of openssl's such as `rsa:2048`. `name`: whose certificate it is (`IP:127.0.0.1`).
    pub fn new(key: &str, name: &str, flags: &[&str]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("podinit-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let curve: &[&str] = if key == "ec" { &["-pkeyopt", "ec_paramgen_curve:prime256v1"] } else { &[] };
        let make = |subject: &str, files: [&str; 2], more: &[&str]| {
            let mut command = Command::new("openssl");
            command
                .args(["req", "-x509", "-newkey", key, "-nodes", "-days", "1", "-subj", subject])
                .args(curve);
            command.args(["-keyout", files[0], "-out", files[1]]).args(more).current_dir(&folder);
            let made = command.output().expect("openssl (package openssl)");
            assert!(made.status.success(), "{made:?}");
        };
        make("/CN=authority", ["ca.key", "ca.pem"], &[]);
        let (alt, constraint) = (format!("subjectAltName={name}"), "basicConstraints=critical,CA:FALSE");
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", &alt, "-addext", constraint];
        make("/CN=server", ["key.pem", "cert.pem"], &signed);
        let port = nobody();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .args(flags)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        TlsServer { child, port, folder }
    }

    /// With the flag -HTTP: a whole answer, by its name in the URL.
    pub fn answer(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// The file of its authority.
    pub fn authority(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
