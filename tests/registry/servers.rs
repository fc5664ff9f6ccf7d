//! Debian's docker-registry on loopback, a proxy before it that is as bad as it is told to be, and images for them.

#[path = "large.rs"]
pub mod large;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

pub const USER: &str = "board";
pub const PASSWORD: &str = "pass:word";

pub struct Registry {
    child: Child,
    pub port: u16,
    folder: PathBuf,
    tls: bool,
}

impl Registry {
    /// Without TLS and without logins.
    pub fn plain(folder: &Path) -> Self {
        Self::new(folder, false)
    }

    /// TLS by a certificate of its own authority, `ca.pem` in the folder, and one user.
    pub fn private(folder: &Path) -> Self {
        Self::new(folder, true)
    }

    fn new(folder: &Path, tls: bool) -> Self {
        let port = nobody();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {0}/data}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: x\n",
            folder.display()
        );
        if tls {
            certificates(folder);
            let line = run(Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]));
            fs::write(folder.join("htpasswd"), line.stdout).unwrap();
            let at = folder.display();
            config += &format!("  tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}\n");
            config += &format!("auth:\n  htpasswd: {{realm: board, path: {at}/htpasswd}}\n");
        }
        fs::write(folder.join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("docker-registry (package docker-registry)");
        let registry = Registry { child, port, folder: folder.to_owned(), tls };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `127.0.0.1:PORT`.
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// skopeo puts the image of a layout here as `name`.
    pub fn push(&self, layout: &Path, name: &str, more: &[&str]) {
        self.copy(&format!("oci:{}:image", layout.display()), name, more);
    }

    /// skopeo puts an image here as `name`; `from` as skopeo names it, like `oci-archive:FILE`.
    pub fn copy(&self, from: &str, name: &str, more: &[&str]) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet"]).args(more);
        if self.tls {
            let certificates = self.folder.join("trusted");
            fs::create_dir_all(&certificates).unwrap();
            fs::copy(self.folder.join("ca.pem"), certificates.join("ca.crt")).unwrap();
            skopeo.arg("--dest-cert-dir").arg(certificates);
            skopeo.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        } else {
            skopeo.arg("--dest-tls-verify=false");
        }
        run(skopeo.arg(from).arg(format!("docker://{}/{name}", self.name())));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificates(folder: &Path) {
    let make = |subject: &str, files: [&str; 2], more: &[&str]| {
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "1", "-subj", subject, "-keyout", files[0], "-out", files[1]])
            .args(more)
            .current_dir(folder));
    };
    make("/CN=authority", ["ca.key", "ca.pem"], &[]);
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:registry.test"];
    make("/CN=server", ["key.pem", "cert.pem"], &[&signed[..], &names].concat());
}

/// What becomes of one connection, counted in bytes of the server's answer.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// It ends after so many.
    Cut(usize),
    /// The byte at this place is another one.
    Corrupt(usize),
    /// Each piece of 64 KiB comes so late.
    Slow(Duration),
    /// After so many the rest waits until this is set.
    Hold(usize, Arc<AtomicBool>),
    /// The registry is not asked: this is the answer.
    Say(String),
    /// It is not asked for a part: the range is left out.
    Whole,
    /// It is said to be so long.
    Length(usize),
    /// Nobody answers.
    Refuse,
}

/// Stands before a server on this machine. A CONNECT is granted, and leads there whatever host it names.
pub struct Proxy {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `fault`: by the head of the request, and how many there were before.
    pub fn new(to: u16, fault: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, count, fault) = (heads.clone(), Arc::new(AtomicUsize::new(0)), Arc::new(fault));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, count, fault) = (seen.clone(), count.clone(), fault.clone());
                thread::spawn(move || {
                    let mut client = stream.unwrap();
                    let mut head = head(&mut client);
                    if head.starts_with("CONNECT ") {
                        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                        seen.lock().unwrap().push(std::mem::take(&mut head));
                    }
                    let fault = fault(&head, count.fetch_add(1, Ordering::SeqCst));
                    if !head.is_empty() {
                        seen.lock().unwrap().push(head.clone());
                    }
                    if let Fault::Say(text) = &fault {
                        let _ = client.write_all(text.as_bytes());
                    } else if !matches!(fault, Fault::Refuse) {
                        if matches!(fault, Fault::Whole) {
                            let kept =
                                head.split_inclusive("\r\n").filter(|line| !line.starts_with("Range: "));
                            head = kept.collect();
                        }
                        let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                        server.write_all(head.as_bytes()).unwrap();
                        let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                        thread::spawn(move || {
                            let _ = std::io::copy(&mut up, &mut down);
                        });
                        pass(&mut server, &mut client, &fault);
                        let _ = server.shutdown(Shutdown::Both);
                    }
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { port, heads }
    }

    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The head of a request; empty where it is none (TLS).
fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    let mut first = [0];
    if client.peek(&mut first).is_ok() && !first[0].is_ascii_uppercase() {
        return String::new();
    }
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    // A form is told with it.
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let mut form = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut form).unwrap();
    head.extend(form);
    String::from_utf8(head).unwrap()
}

/// An answer with this body.
pub fn says(status: &str, fields: &str, body: &str) -> Fault {
    Fault::Say(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn pass(server: &mut TcpStream, client: &mut TcpStream, fault: &Fault) {
    let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
    if let Fault::Length(length) = fault {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && server.read(&mut buffer[..1]).is_ok_and(|n| n == 1) {
            head.push(buffer[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let line = |line: &str| match line.starts_with("Content-Length: ") {
            true => format!("Content-Length: {length}\r\n"),
            false => line.to_owned(),
        };
        if client.write_all(head.split_inclusive("\r\n").map(line).collect::<String>().as_bytes()).is_err() {
            return;
        }
    }
    while let Ok(count) = server.read(&mut buffer) {
        let mut piece = &mut buffer[..count];
        match fault {
            Fault::Cut(at) if passed + piece.len() > *at => piece = &mut piece[..at - passed],
            Fault::Corrupt(at) if (passed..passed + piece.len()).contains(at) => piece[at - passed] ^= 0xff,
            Fault::Slow(pause) => thread::sleep(*pause),
            Fault::Hold(at, gate) if passed + piece.len() > *at => {
                let first = at.saturating_sub(passed);
                if client.write_all(&piece[..first]).is_err() {
                    return;
                }
                while !gate.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                (passed, piece) = (passed + first, &mut piece[first..]);
            }
            _ => {}
        }
        passed += piece.len();
        let cut = matches!(fault, Fault::Cut(at) if passed >= *at);
        if count == 0 || client.write_all(piece).is_err() || cut {
            return;
        }
    }
}

/// A port on which nobody listens.
pub fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How a layer's blob is made of its tar.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
}

/// An OCI layout with an image, or several for as many platforms, under the tag `image`; its diff ids, by platform.
pub fn layout(folder: &Path, platforms: &[&str], layers: &[(Form, Vec<u8>)]) -> Vec<Vec<String>> {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let (mut manifests, mut all) = (Vec::new(), Vec::new());
    for platform in platforms {
        let parts: Vec<&str> = platform.split('/').collect();
        let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
        // Each platform has a layer of its own.
        let own = (Form::Gzip, tar(&[("platform", platform.as_bytes())]));
        for (form, tar) in layers.iter().chain([&own]) {
            diff_ids.push(digest(tar));
            let (kind, blob) = match form {
                Form::Plain => ("tar", tar.clone()),
                Form::Gzip => ("tar+gzip", gzip(tar)),
                Form::Zstd => ("tar+zstd", zstd(tar)),
            };
            descriptors.push(put(folder, &blob, &format!("application/vnd.oci.image.layer.v1.{kind}"), None));
        }
        let config = serde_json::json!({
            "os": parts[0], "architecture": parts[1], "variant": parts.get(2),
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config =
            put(folder, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json", None);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors,
        });
        let platform = serde_json::json!({"os": parts[0], "architecture": parts[1], "variant": parts.get(2)});
        manifests.push(put(folder, manifest.to_string().as_bytes(), MANIFEST, Some(platform)));
        all.push(diff_ids);
    }
    let index = |manifests: Vec<serde_json::Value>| serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut top = match manifests.as_slice() {
        [one] => one.clone(),
        _ => put(folder, index(manifests).to_string().as_bytes(), INDEX, None),
    };
    top["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "image"});
    fs::write(folder.join("index.json"), index(vec![top]).to_string()).unwrap();
    all
}

/// The digest of a layer's blob, by the layout's only manifest.
pub fn blob(layout: &Path, place: usize) -> String {
    let read =
        |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = read(layout.join("index.json"));
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let manifest = read(layout.join("blobs/sha256").join(manifest));
    manifest["layers"][place]["digest"].as_str().unwrap().to_owned()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn put(folder: &Path, bytes: &[u8], kind: &str, platform: Option<serde_json::Value>) -> serde_json::Value {
    let digest = digest(bytes);
    fs::write(folder.join("blobs/sha256").join(&digest["sha256:".len()..]), bytes).unwrap();
    let mut descriptor = serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
    if let Some(platform) = platform {
        descriptor["platform"] = platform;
    }
    descriptor
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    output
}
