//! Images pulled from a real registry: Debian's docker-registry on loopback, with TLS by an authority of its own and a
//! login, or without; images put there by skopeo; connections that break, stall and lie.
//!
//! Needs root and the packages docker-registry, skopeo, openssl, apache2-utils (htpasswd).

#[path = "registry/servers.rs"]
#[allow(dead_code, reason = "tests/host.rs uses it too")]
mod servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use podinit::image::Store;
use servers::{Fault, Form, PASSWORD, Proxy, Registry, USER, blob, digest, layout, nobody, noise, run, tar};

const HOST: &str = "linux/amd64";

/// A board's place: its store, its configuration file.
struct Board {
    folder: PathBuf,
}

impl Board {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let board = Board { folder };
        board.configure("");
        board
    }

    fn configure(&self, fields: &str) {
        let head = "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\n";
        fs::write(self.folder.join("config.yaml"), format!("{head}{fields}")).unwrap();
    }

    fn command(&self, image: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podinit"));
        command.env_clear().args(["image", "--store"]).arg(self.folder.join("root/images"));
        command.args(["pull", image, "--platform", HOST, "--config"]).arg(self.folder.join("config.yaml"));
        command.stdin(Stdio::null());
        command
    }

    /// What it says when it is done.
    fn pull(&self, image: &str) -> String {
        String::from_utf8(run(&mut self.command(image)).stdout).unwrap()
    }

    /// What it says when it fails, and that nothing is named then.
    fn refuses(&self, command: &mut Command) -> String {
        let Output { status, stderr, .. } = command.output().unwrap();
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{told}");
        told
    }

    fn store(&self) -> Store {
        Store::open(self.folder.join("root/images"))
    }

    /// The image is there, whole, with these layers.
    fn holds(&self, image: &str, diff_ids: &[String]) {
        let store = self.store();
        let found = store.find(image).unwrap().unwrap_or_else(|| panic!("{image} is not there"));
        assert_eq!(found.layers, diff_ids, "{image}");
        assert_eq!(store.verify(&found.reference).unwrap(), [""; 0]);
    }

    fn make(&self, platforms: &[&str], layers: &[(Form, Vec<u8>)]) -> (PathBuf, Vec<Vec<String>>) {
        let path = self.folder.join(format!("layout-{}", layers.len()));
        let diff_ids = layout(&path, platforms, layers);
        (path, diff_ids)
    }

    fn sub(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

fn text(name: &str) -> (Form, Vec<u8>) {
    (Form::Gzip, tar(&[(name, name.as_bytes())]))
}

#[test]
fn a_private_registry_asks_who_pulls_and_must_show_who_it_is() {
    let board = Board::new("private");
    let registry = Registry::private(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[text("a"), (Form::Plain, tar(&[("b", b"b")]))]);
    registry.push(&path, "team/app:1", &[]);
    let image = format!("{}/team/app:1", registry.name());
    let ca = board.folder.join("registry/ca.pem");
    let entry = format!("registries:\n- host: {}\n", registry.name());
    let login = format!("{USER}:{PASSWORD}");

    // Loopback is believed without a certificate, a host by name is not; it is found through a proxy.
    let named = image.replace(&registry.name(), "registry.test");
    let proxy = Proxy::new(registry.port, |_, _| Fault::None);
    let through = |board: &Board| {
        let mut command = board.command(&named);
        command.env("HTTPS_PROXY", format!("http://u:p@{}", proxy.name())).args(["--creds", &login]);
        command
    };
    let told = board.refuses(&mut through(&board));
    assert!(told.contains("tls: invalid peer certificate"), "{told}");
    board.configure(&format!("registries:\n- host: registry.test\n  ca: {}\n", ca.display()));
    run(&mut through(&board));
    board.holds(&named, &diff_ids[0]);
    let heads = proxy.heads();
    assert!(heads.iter().all(|head| head.starts_with("CONNECT registry.test:443 HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads[0].contains("Proxy-Authorization: Basic dTpw\r\n"), "{heads:?}");

    board.configure(&format!("{entry}  ca: {}\n", ca.display()));
    let told = board.refuses(&mut board.command(&image));
    assert!(told.contains("the registry asks for a user and a password"), "{told}");
    let told = board.refuses(board.command(&image).args(["--creds", "board:wrong"]));
    assert!(told.contains("pull access denied") && !told.contains("wrong"), "{told}");
    assert!(board.store().find(&image).unwrap().is_none());
    assert!(board.store().find(&named).unwrap().is_some());

    // A config.json beside the store: the longest pattern first, and if that is refused the next.
    let auth = |user: &str, password: &str| serde_json::json!({"username": user, "password": password});
    let auths = serde_json::json!({"auths": {
        format!("https://{}/team", registry.name()): auth(USER, "outdated"),
        format!("*.0.0.1:{}", registry.port): auth(USER, PASSWORD),
    }});
    fs::write(board.folder.join("root/config.json"), auths.to_string()).unwrap();
    let said = board.pull(&image);
    assert!(said.starts_with(&format!("{image}\nsha256:")), "{said}");
    board.holds(&image, &diff_ids[0]);

    // By digest, with and without the tag; another digest is not there.
    let found = said.lines().nth(1).unwrap();
    for name in [image.replace(":1", &format!("@{found}")), format!("{image}@{found}")] {
        board.pull(&name);
        board.holds(&name, &diff_ids[0]);
    }
    let other = image.replace(":1", &format!("@{}", digest(b"other")));
    let told = board.refuses(&mut board.command(&other));
    assert!(told.contains(&format!("{}: not found", digest(b"other"))), "{told}");
}

#[test]
fn every_form_of_layer_and_both_families_of_manifests_are_taken() {
    let board = Board::new("forms");
    let registry = Registry::plain(&board.sub("registry"));
    let same = tar(&[("x", b"x")]);
    let layers =
        [(Form::Plain, tar(&[("p", b"p")])), (Form::Gzip, same.clone()), (Form::Zstd, tar(&[("z", b"z")]))];
    let (path, diff_ids) = board.make(&[HOST], &layers);
    registry.push(&path, "oci:1", &[]);
    board.pull(&format!("{}/oci:1", registry.name()));
    board.holds(&format!("{}/oci:1", registry.name()), &diff_ids[0]);
    // The same layer twice.
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, same.clone()), (Form::Gzip, same)]);
    registry.push(&path, "docker:1", &["--format=v2s2"]);
    board.pull(&format!("{}/docker:1", registry.name()));
    board.holds(&format!("{}/docker:1", registry.name()), &diff_ids[0]);
}

#[test]
fn of_several_platforms_one_is_pulled() {
    let board = Board::new("platforms");
    let registry = Registry::plain(&board.sub("registry"));
    let platforms = ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/amd64"];
    let (path, diff_ids) = board.make(&platforms, &[text("a")]);
    registry.push(&path, "many:1", &["--all"]);
    let image = format!("{}/many:1", registry.name());
    let table = [("linux/amd64", 3), ("linux/arm64", 2), ("linux/arm/v7", 1), ("linux/arm/v6", 0)];
    for (wanted, place) in table {
        run(board.command(&image).args(["--platform", wanted]));
        board.holds(&image, &diff_ids[place]);
    }
    let told = board.refuses(board.command(&image).args(["--platform", "linux/s390x"]));
    assert!(
        told.contains("no match for platform linux/s390x: there are linux/arm/v6, linux/arm/v7"),
        "{told}"
    );
    // What was there is there still.
    board.holds(&image, &diff_ids[0]);
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let board = Board::new("broken");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, tar(&[("big", &noise(1, 3 << 20))]))]);
    registry.push(&path, "app:1", &[]);
    // Every answer breaks off after a megabyte, and every third connection before it begins.
    let proxy = Proxy::new(registry.port, |_, count| match count % 3 {
        2 => Fault::Refuse,
        _ => Fault::Cut(1 << 20),
    });
    let image = format!("{}/app:1", proxy.name());
    board.pull(&image);
    board.holds(&image, &diff_ids[0]);
    let ranges: Vec<String> = proxy
        .heads()
        .iter()
        .flat_map(|head| {
            head.lines().filter(|line| line.starts_with("Range: ")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let starts: Vec<u64> = ranges
        .iter()
        .map(|line| line.trim_start_matches("Range: bytes=").trim_end_matches('-').parse().unwrap())
        .collect();
    assert!(starts.len() >= 3 && starts.is_sorted() && starts[0] > 900_000, "{ranges:?}");

    // A layer that is there is not asked for again.
    let before = proxy.heads().len();
    board.pull(&image);
    let again: Vec<_> = proxy.heads().split_off(before);
    assert!(again.iter().all(|head| !head.contains(&blob(&path, 0))), "{again:?}");
}

#[test]
fn bytes_that_are_wrong_are_asked_for_anew_and_never_kept() {
    let board = Board::new("wrong");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, tar(&[("big", &noise(2, 1 << 20))]))]);
    registry.push(&path, "app:1", &[]);
    let layer = blob(&path, 0);
    let of = layer.clone();
    let always = Proxy::new(registry.port, move |head, _| match head.contains(&of) {
        true => Fault::Corrupt(600_000),
        false => Fault::None,
    });
    let image = format!("{}/app:1", always.name());
    let told = board.refuses(&mut board.command(&image));
    assert!(told.contains(&format!("layer {}", diff_ids[0][0])), "{told}");
    assert!(board.store().find(&image).unwrap().is_none());
    assert!(!board.store().layer(&diff_ids[0][0]).exists());

    let (of, count) = (layer, std::sync::atomic::AtomicUsize::new(0));
    let once = Proxy::new(registry.port, move |head, _| {
        let first = head.contains(&of) && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        if first { Fault::Corrupt(600_000) } else { Fault::None }
    });
    let image = format!("{}/app:1", once.name());
    board.pull(&image);
    board.holds(&image, &diff_ids[0]);

    // A manifest by digest that is another one.
    let manifest = Proxy::new(registry.port, |head, _| match head.contains("/manifests/") {
        true => Fault::Corrupt(500),
        false => Fault::None,
    });
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let told = board.refuses(&mut board.command(&format!("{}/app@{digest}", manifest.name())));
    assert!(told.contains("has the digest sha256:") || told.contains("malformed"), "{told}");
}

#[test]
fn mirrors_are_asked_before_the_registry_and_passed_over_where_they_fail() {
    let board = Board::new("mirrors");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[text("a")]);
    registry.push(&path, "library/app:1", &[]);
    let (first, second) = (nobody(), Proxy::new(registry.port, |_, _| Fault::None));
    board.configure(&format!(
        "registries:\n- host: docker.io\n  mirrors: ['http://127.0.0.1:{first}', 'http://{}']\n",
        second.name()
    ));
    assert!(board.pull("app:1").starts_with("docker.io/library/app:1\n"));
    board.holds("app:1", &diff_ids[0]);
    let heads = second.heads();
    assert!(heads[0].starts_with("GET /v2/library/app/manifests/1?ns=docker.io HTTP/1.1\r\n"), "{heads:?}");

    // A mirror that breaks down half way: the next has the rest.
    let (path, diff_ids) =
        board.make(&[HOST], &[text("a"), (Form::Gzip, tar(&[("big", &noise(3, 1 << 20))]))]);
    registry.push(&path, "library/app:2", &[]);
    let layer = blob(&path, 1);
    let broken = Proxy::new(registry.port, move |head, _| match head {
        head if head.contains(&layer) && head.contains("Range: ") => Fault::Refuse,
        head if head.contains(&layer) => Fault::Cut(500_000),
        _ => Fault::None,
    });
    board.configure(&format!(
        "registries:\n- host: docker.io\n  mirrors: ['http://{}', 'http://{}']\n",
        broken.name(),
        second.name()
    ));
    board.pull("app:2");
    board.holds("app:2", &diff_ids[0]);
    let resumed = second.heads().iter().filter(|head| head.contains("Range: bytes=")).count();
    assert_eq!(resumed, 1, "{:?}", second.heads());
}

#[test]
fn pulls_of_the_same_layers_at_the_same_moment_do_not_disturb_one_another() {
    let board = Board::new("together");
    let registry = Registry::plain(&board.sub("registry"));
    let layers: Vec<_> = (0..8).map(|seed| (Form::Gzip, tar(&[("file", &noise(seed, 100_000))]))).collect();
    let (path, diff_ids) = board.make(&[HOST], &layers);
    let slow = Proxy::new(registry.port, |_, _| Fault::Slow(Duration::from_millis(30)));
    let images: Vec<String> = (0..4).map(|number| format!("{}/app:{number}", slow.name())).collect();
    for number in 0..4 {
        registry.push(&path, &format!("app:{number}"), &[]);
    }
    let pulls: Vec<_> = images
        .iter()
        .map(|image| board.command(image).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for pull in pulls {
        let done = pull.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    images.iter().for_each(|image| board.holds(image, &diff_ids[0]));
    let layer = blob(&path, 0);
    let times = slow.heads().iter().filter(|head| head.contains(&layer)).count();
    assert_eq!(times, 1, "a layer is pulled once");
    assert_eq!(fs::read_dir(board.folder.join("root/images/tmp")).unwrap().count(), 0);
}

#[test]
fn sixty_layers_and_a_large_one_need_little_memory() {
    let board = Board::new("large");
    let registry = Registry::plain(&board.sub("registry"));
    let mut layers: Vec<_> = (0..60).map(|number| text(&format!("file{number}"))).collect();
    layers.push((Form::Gzip, tar(&[("big", &noise(9, 160 << 20))])));
    let (path, diff_ids) = board.make(&[HOST], &layers);
    registry.push(&path, "large:1", &[]);
    let image = format!("{}/large:1", registry.name());
    let mut child = board.command(&image).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let peaks = watch(child.id());
    assert!(child.wait().unwrap().success());
    let peak = *peaks.iter().max().expect("the helper was seen");
    board.holds(&image, &diff_ids[0]);
    assert!(peak < 32 << 10, "{peak} KiB");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
    assert!(told.ends_with("62 of 62 layers\n"), "{told}");
}

/// The peaks, in KiB, that the children of a process tell of themselves until they end: VmHWM only grows.
fn watch(parent: u32) -> Vec<u64> {
    let mut peaks = Vec::new();
    let mut found = false;
    loop {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let status = children.split_whitespace().next().map(|child| format!("/proc/{child}/status"));
        let status = status.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        match peak {
            Some(peak) if status.starts_with("Name:\texe\n") || status.starts_with("Name:\tpodinit\n") => {
                found = true;
                peaks.push(peak);
            }
            _ if found => return peaks,
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
