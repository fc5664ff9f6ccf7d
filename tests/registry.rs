//! Images pulled from a real registry: Debian's docker-registry on loopback, with TLS by an authority of its own and a
//! login, or without; images put there by skopeo; connections that break, stall and lie.
//!
//! Needs root and the packages docker-registry, skopeo, openssl, apache2-utils (htpasswd).

#[path = "registry/servers.rs"]
#[allow(dead_code, reason = "tests/host.rs uses it too")]
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podinit::image::Store;
use servers::{
    Fault, Form, PASSWORD, Proxy, Registry, USER, blob, digest, large, layout, nobody, noise, run, says, tar,
};

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

    /// Pulls with less than 32 MiB in the helper; what is said on the way.
    fn frugal(&self, image: &str) -> String {
        let mut child = self.command(image).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let peaks = watch(child.id());
        let mut told = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
        assert!(child.wait().unwrap().success(), "{told}");
        let peak = *peaks.iter().max().expect("the helper was seen");
        assert!(peak < 32 << 10, "{peak} KiB");
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

    let (of, count) = (layer, AtomicUsize::new(0));
    let once = Proxy::new(registry.port, move |head, _| {
        let first = head.contains(&of) && count.fetch_add(1, Ordering::SeqCst) == 0;
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

/// A registry before which a server of tokens stands, which grants `good-N` for a while.
fn guarded(
    registry: &Registry,
    lives: usize,
    grant: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> (Proxy, Proxy) {
    let given = Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = Proxy::new(registry.port, move |head, _| match grant(head) {
        true => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            // Either name is in use.
            let name = if number.is_multiple_of(2) { "token" } else { "access_token" };
            says("200 OK", "", &format!("{{\"{name}\": \"good-{number}\", \"expires_in\": 60}}"))
        }
        false => says(
            "401 Unauthorized",
            "",
            "{\"errors\": [{\"code\": \"DENIED\", \"message\": \"no such user\"}]}",
        ),
    });
    let (realm, used) = (tokens.name(), AtomicUsize::new(0));
    let front = Proxy::new(registry.port, move |head, _| {
        let granted = 0..given.load(Ordering::SeqCst);
        let good = granted.rev().any(|one| head.contains(&format!("Authorization: Bearer good-{one}\r\n")));
        // A token is outlived after so many requests that go on with a blob, of which there is one alone: two that are
        // pulled at once could use up each other's new token.
        let resumed = head.contains("\r\nRange: ");
        if good && !(resumed && used.fetch_add(1, Ordering::SeqCst) % lives == lives - 1) {
            return Fault::Cut(1 << 20);
        }
        let challenge = format!(
            "Bearer realm=\"http://{realm}/token?x=1\",service=\"a registry\",scope=\"repository:team/app:pull\""
        );
        says("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "")
    });
    (front, tokens)
}

#[test]
fn a_token_is_asked_for_as_the_challenge_says_and_anew_where_it_expires() {
    let board = Board::new("token");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, tar(&[("big", &noise(4, 4 << 20))]))]);
    registry.push(&path, "team/app:1", &[]);
    let basic = "Authorization: Basic Ym9hcmQ6cGFzczp3b3Jk\r\n";
    let (front, tokens) = guarded(&registry, 2, move |head| head.contains(basic));
    let image = format!("{}/team/app:1", front.name());
    let told = board.refuses(&mut board.command(&image));
    assert!(
        told.contains("nobody gets a token by 127.0.0.1:") && told.contains(": denied: no such user"),
        "{told}"
    );
    let told = board.refuses(board.command(&image).args(["--creds", "board:hunter2"]));
    assert!(told.contains("the login is refused by 127.0.0.1:") && !told.contains("hunter2"), "{told}");
    // The layer comes in four parts, and the token is outlived on the way.
    let login = format!("{USER}:{PASSWORD}");
    run(board.command(&image).args(["--creds", &login]));
    board.holds(&image, &diff_ids[0]);
    let asked: Vec<_> = tokens.heads().into_iter().filter(|head| head.contains(basic)).collect();
    assert!(asked.len() >= 3, "{asked:?}");
    let line = "GET /token?x=1&scope=repository%3Ateam%2Fapp%3Apull&service=a%20registry HTTP/1.1\r\n";
    assert!(asked.iter().all(|head| head.starts_with(line)), "{asked:?}");
    assert!(
        front.heads().iter().all(|head| !head.contains("Basic")),
        "the password is for the token's server"
    );
}

#[test]
fn an_identity_token_is_posted_for_another_and_told_to_nobody_else() {
    let board = Board::new("identity");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[text("a")]);
    registry.push(&path, "team/app:1", &[]);
    let (front, tokens) = guarded(&registry, 1000, |head| head.contains("&refresh_token=hunter2%2B"));
    let image = format!("{}/team/app:1", front.name());
    let auths =
        serde_json::json!({"auths": {front.name(): {"auth": "MDAwMDo=", "identitytoken": "hunter2+"}}});
    fs::write(board.sub("root").join("config.json"), auths.to_string()).unwrap();
    board.pull(&image);
    board.holds(&image, &diff_ids[0]);
    let form = "grant_type=refresh_token&scope=repository%3Ateam%2Fapp%3Apull&service=a%20registry&client_id=podinit&refresh_token=hunter2%2B";
    let asked = tokens.heads();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("POST /token?x=1 HTTP/1.1\r\n") && asked[0].ends_with(form), "{asked:?}");
    assert!(!asked[0].contains("Authorization"), "{asked:?}");
    assert!(front.heads().iter().all(|head| !head.contains("hunter2")));
    // Where a password is wanted it is of no use, and not sent.
    let private = Registry::private(&board.sub("private"));
    let auths = serde_json::json!({"auths": {private.name(): {"identitytoken": "hunter2+"}}});
    fs::write(board.folder.join("root/config.json"), auths.to_string()).unwrap();
    let told = board.refuses(&mut board.command(&format!("{}/a:1", private.name())));
    assert!(told.contains("asks for a user and a password, and there is an identity token"), "{told}");
}

#[test]
fn a_blob_is_fetched_where_it_is_sent_to_and_the_login_stays() {
    let board = Board::new("redirect");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, tar(&[("big", &noise(6, 2 << 20))]))]);
    registry.push(&path, "team/app:1", &[]);
    // The blobs lie on another server, which breaks off as well.
    let store = Proxy::new(registry.port, |head, _| match head.contains("Authorization") {
        true => says("400 Bad Request", "", ""),
        false => Fault::Cut(1 << 20),
    });
    let to = store.name();
    let front = Proxy::new(registry.port, move |head, _| {
        if !head.contains("Authorization: Basic ") {
            return says("401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n", "");
        }
        match head.split(' ').nth(1).unwrap() {
            blob if blob.contains("/blobs/") => {
                says("307 Temporary Redirect", &format!("Location: http://{to}{blob}\r\n"), "")
            }
            _ => Fault::None,
        }
    });
    let image = format!("{}/team/app:1", front.name());
    let login = format!("{USER}:{PASSWORD}");
    run(board.command(&image).args(["--creds", &login]));
    board.holds(&image, &diff_ids[0]);
    let heads = store.heads();
    assert!(heads.iter().any(|head| head.contains("Range: bytes=")), "{heads:?}");
    assert!(heads.iter().all(|head| !head.contains("Authorization")), "{heads:?}");
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let board = Board::new("busy");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[text("a")]);
    registry.push(&path, "app:1", &[]);
    // Of every thing the first is refused for a while.
    let seen = Mutex::new(BTreeSet::new());
    let busy = Proxy::new(registry.port, move |head, _| {
        // What is no HTTP is the first try of TLS.
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        match (path.contains("/manifests/"), seen.lock().unwrap().insert(path)) {
            (_, false) => Fault::None,
            (true, true) => says("429 Too Many Requests", "Retry-After: 1\r\n", ""),
            (false, true) => says("503 Service Unavailable", "", "<html>"),
        }
    });
    let image = format!("{}/app:1", busy.name());
    board.pull(&image);
    board.holds(&image, &diff_ids[0]);

    let message =
        "{\"errors\": [{\"code\": \"TOOMANYREQUESTS\", \"message\": \"You have reached your limit\"}]}";
    let limit =
        Proxy::new(registry.port, move |_, _| says("429 Too Many Requests", "Retry-After: 0\r\n", message));
    let told = board.refuses(&mut board.command(&format!("{}/app:1", limit.name())));
    assert!(told.contains("HTTP status 429: toomanyrequests: You have reached your limit"), "{told}");
    assert_eq!(limit.heads().len(), 3, "asked again, and not for ever");
    // What is no use to ask again is not.
    let gone = Proxy::new(registry.port, |_, _| says("418 I'm a teapot", "", ""));
    let told = board.refuses(&mut board.command(&format!("{}/app:1", gone.name())));
    assert!(told.contains("HTTP status 418") && gone.heads().len() == 1, "{told}");
}

#[test]
fn a_range_that_is_not_kept_and_a_length_that_is_wrong_are_seen() {
    let board = Board::new("ranges");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, diff_ids) = board.make(&[HOST], &[(Form::Gzip, tar(&[("big", &noise(7, 1 << 20))]))]);
    registry.push(&path, "app:1", &[]);
    // The first answer breaks off; the one to the range is the whole blob again.
    let broken = Proxy::new(registry.port, |head, _| match head.contains("Range: ") {
        true => Fault::Whole,
        false => Fault::Cut(500_000),
    });
    let image = format!("{}/app:1", broken.name());
    board.pull(&image);
    board.holds(&image, &diff_ids[0]);
    assert!(broken.heads().iter().any(|head| head.contains("Range: bytes=")));

    for length in [1, 1 << 30] {
        let board = Board::new(&format!("length-{length}"));
        let lies = Proxy::new(registry.port, move |head, _| match head.contains("/blobs/") {
            true => Fault::Length(length),
            false => Fault::None,
        });
        let told = board.refuses(&mut board.command(&format!("{}/app:1", lies.name())));
        assert!(told.contains(&format!(" has {length} bytes, not ")), "{told}");
    }
}

#[test]
fn a_layer_that_is_no_tar_is_fetched_once() {
    let board = Board::new("no-tar");
    let registry = Registry::plain(&board.sub("registry"));
    let (path, _) = board.make(&[HOST], &[(Form::Gzip, noise(8, 1 << 20))]);
    registry.push(&path, "app:1", &[]);
    let proxy = Proxy::new(registry.port, |_, _| Fault::None);
    let image = format!("{}/app:1", proxy.name());
    let told = board.refuses(&mut board.command(&image));
    assert!(told.contains("layer sha256:") && !told.contains("digest"), "{told}");
    let layer = blob(&path, 0);
    assert_eq!(proxy.heads().iter().filter(|head| head.contains(&layer)).count(), 1, "{:?}", proxy.heads());
    assert!(board.store().find(&image).unwrap().is_none());
}

#[test]
fn an_index_of_arm_gives_what_the_machine_can_run() {
    let board = Board::new("arm");
    let registry = Registry::plain(&board.sub("registry"));
    // What is offered; what is wanted, and which one it is.
    let table: &[(&[&str], &str, Option<usize>)] = &[
        (&["linux/amd64", "linux/arm64"], "linux/arm64", Some(1)),
        (&["linux/arm64/v8", "linux/amd64"], "linux/arm64", Some(0)),
        (&["linux/arm64/v9", "linux/arm64/v8"], "linux/arm64", Some(1)),
        (&["linux/arm64/v9", "linux/amd64"], "linux/arm64", None),
        (&["linux/arm/v7", "linux/amd64"], "linux/arm64", None),
        (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some(1)),
    ];
    for (number, (offered, wanted, place)) in table.iter().enumerate() {
        let path = board.folder.join(format!("index-{number}"));
        let diff_ids = layout(&path, offered, &[text("a")]);
        registry.push(&path, &format!("arm:{number}"), &["--all"]);
        let image = format!("{}/arm:{number}", registry.name());
        let mut command = board.command(&image);
        command.args(["--platform", wanted]);
        match place {
            Some(place) => {
                run(&mut command);
                board.holds(&image, &diff_ids[*place]);
            }
            None => {
                let told = board.refuses(&mut command);
                assert!(told.contains(&format!("no match for platform {wanted}")), "{offered:?}: {told}");
            }
        }
    }
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
    let told = board.frugal(&image);
    board.holds(&image, &diff_ids[0]);
    assert!(told.ends_with("62 of 62 layers\n"), "{told}");
}

/// `PODINIT_LARGE_IMAGE`: its size in MiB.
#[test]
fn an_image_of_a_gibibyte_needs_little_memory() {
    let size = std::env::var("PODINIT_LARGE_IMAGE").map_or(1024, |text| text.parse().expect("MiB"));
    let board = Board::new("gibibyte");
    let registry = Registry::plain(&board.sub("registry"));
    let path = board.folder.join("layout");
    let diff_id = large::layout(&path, |tar| large::big(tar, size));
    registry.push(&path, "big:1", &[]);
    let image = format!("{}/big:1", registry.name());
    board.frugal(&image);
    board.holds(&image, std::slice::from_ref(&diff_id));
    assert!(fs::metadata(board.store().layer(&diff_id)).unwrap().len() > size << 20);
    fs::remove_dir_all(&board.folder).unwrap();
}

#[test]
fn a_hundred_thousand_small_files_need_little_memory() {
    let board = Board::new("many");
    let registry = Registry::plain(&board.sub("registry"));
    let path = board.folder.join("layout");
    let diff_id = large::layout(&path, |tar| large::many(tar, 100_000));
    registry.push(&path, "many:1", &[]);
    let image = format!("{}/many:1", registry.name());
    board.frugal(&image);
    board.holds(&image, &[diff_id]);
    fs::remove_dir_all(&board.folder).unwrap();
}

/// The peaks, in KiB, that the children of a process tell of themselves until they end: VmHWM only grows. Without the
/// pages of the program itself, of which a build for tests has many times the released one's.
fn watch(parent: u32) -> Vec<u64> {
    let mut peaks = Vec::new();
    let mut found = false;
    loop {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let status = children.split_whitespace().next().map(|child| format!("/proc/{child}/status"));
        let status = status.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let told = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
            status.lines().find_map(value)
        };
        let peak = told("VmHWM:").zip(told("RssFile:")).map(|(peak, program)| peak.saturating_sub(program));
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
