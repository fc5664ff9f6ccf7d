//! Collections in stores of files that have only names, sizes and times.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::pod::collect::Policy;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// A store whose files have only names, sizes and times.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Home {
    fn new(name: &str) -> Home {
        let home = std::env::temp_dir().join(format!("podinit-collect-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        for dir in ["layers", "configs", "tags", "tmp", "damaged"] {
            fs::create_dir_all(home.join(dir)).unwrap();
        }
        Home(home)
    }

    fn store(&self) -> Store {
        Store::open(self.0.clone())
    }

    /// A layer of so many MiB.
    fn layer(&self, digit: char, mib: usize, written: u64) {
        let digits = digit.to_string().repeat(64);
        let file = self.0.join("layers").join(format!("{digits}.erofs"));
        fs::write(&file, vec![1; mib << 20]).unwrap();
        fs::write(file.with_extension("sha256"), "sum").unwrap();
        for file in [file.with_extension("sha256"), file] {
            files::stamp(&file, Duration::from_secs(written)).unwrap();
        }
    }

    /// An image of these layers; times in seconds.
    fn image(&self, name: &str, config: char, layers: &[char], used: u64, detected: u64) {
        let [config, layers @ ..] = &[&[config][..], layers].concat()[..] else { return };
        let digest = |digit: &char| format!("sha256:{}", digit.to_string().repeat(64));
        let layers: Vec<_> = layers.iter().map(digest).collect();
        let reference = format!("docker.io/library/{name}");
        let tag = serde_json::json!({
            "reference": reference, "manifest": "", "config": digest(config), "layers": layers,
        });
        let file = self.0.join("configs").join(format!("{}.json", config.to_string().repeat(64)));
        fs::write(&file, "{}").unwrap();
        files::stamp(&file, Duration::from_secs(detected)).unwrap();
        let file = self.tag(name);
        fs::write(&file, tag.to_string()).unwrap();
        files::stamp(&file, Duration::from_secs(used)).unwrap();
    }

    fn tag(&self, name: &str) -> PathBuf {
        self.0.join("tags").join(format!("docker.io%2Flibrary%2F{}.json", name.replace(':', "%3A")))
    }

    fn used(&self, name: &str) -> u64 {
        let written = fs::metadata(self.tag(name)).unwrap().modified().unwrap();
        written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    fn names(&self, dir: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.join(dir)).unwrap().flatten();
        let short = |name: String| match name.split_once("%2Flibrary%2F") {
            Some((_, name)) => name.trim_end_matches(".json").replace("%3A", ":"),
            None => name.chars().skip(63).collect(),
        };
        entries.map(|entry| short(entry.file_name().into_string().unwrap())).collect()
    }

    fn request(&self, aim: Option<Aim>, used: &[&str]) -> Request {
        let policy = Policy { high: 0, low: 0, min_age: Duration::ZERO, max_age: Duration::ZERO };
        let names = used.iter().map(|name| (*name).to_owned()).collect();
        let used = Used { names, ids: BTreeSet::new() };
        Request { store: self.0.clone(), policy, aim, used, since: Used::default(), steady: true }
    }
}

fn collect(request: &Request, now: Duration) -> Report {
    super::collect(request, now, disk)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

#[test]
fn i3_tags_go_with_what_no_other_is_made_of_and_orphans_after_a_day() {
    let home = Home::new("all");
    for (digit, written) in [('a', 9), ('b', 9), ('c', 9), ('d', 2 * DAY), ('e', 1), ('f', 0)] {
        home.layer(digit, 1, NOW - DAY - 5 + written);
    }
    home.image("one:1", '1', &['a', 'b'], NOW - 9, NOW - DAY);
    home.image("two:1", '2', &['b', 'c'], NOW - 8, NOW - DAY);
    home.image("two:also", '2', &['b', 'c'], NOW - 7, NOW - DAY);
    let report = collect(&home.request(Some(Aim::All), &["two:1"]), at(NOW));
    // d is from the future: it counts from now.
    assert_eq!((report.images, report.files), (vec!["docker.io/library/one:1".to_owned()], 4));
    assert_eq!(report.trouble, None);
    assert!(report.bytes >= 3 << 20, "{}", report.bytes);
    assert_eq!(home.names("tags"), set(&["two:1", "two:also"]));
    let layers = ["b.erofs", "b.sha256", "c.erofs", "c.sha256", "d.erofs", "d.sha256"];
    assert_eq!(home.names("layers"), set(&layers));
    assert_eq!(home.names("configs"), set(&["2.json"]));
    let later = collect(&home.request(None, &["two:1"]), at(NOW + DAY));
    assert_eq!((later.images, later.files), (vec![], 2));
    assert_eq!(home.names("layers"), set(&layers[..4]));
    assert_eq!(
        collect(&home.request(Some(Aim::All), &["two"]), at(NOW)).images.len(),
        2,
        "two is two:latest"
    );
}

#[test]
fn i3_a_disk_without_a_size_is_told_and_too_little_too() {
    let home = Home::new("told");
    home.layer('a', 1, NOW - DAY);
    home.image("one:1", '1', &['a'], NOW - 9, NOW - DAY);
    let mut request = home.request(Some(Aim::Thresholds), &[]);
    let nothing = super::collect(&request, at(NOW), |_| Ok(Disk::default()));
    let told = ("InvalidDiskCapacity", "invalid capacity 0 on image filesystem");
    assert_eq!(nothing.trouble, Some((told.0.to_owned(), told.1.to_owned())));
    let gone = super::collect(&request, at(NOW), |_| Err(io::Error::other("no disk")));
    assert_eq!(gone.trouble, Some(("ImageGCFailed".to_owned(), "no disk".to_owned())));
    request.policy.high = 85;
    let full = |_: &Store| Ok(Disk { capacity: 100 << 20, available: 0, reserve: 0 });
    let little = super::collect(&request, at(NOW), full);
    assert_eq!(little.images.len(), 1);
    let (reason, message) = little.trouble.unwrap();
    assert!(
        reason == "FreeDiskSpaceFailed" && message.contains("Attempted to free 104857600 bytes"),
        "{message}"
    );
}

#[test]
fn i3_what_is_in_use_stays_by_any_name_by_digest_damaged_and_nameless() {
    let digest = format!("sha256:{}", "1".repeat(64));
    for used in
        ["one:1", "docker.io/library/one:1", "index.docker.io/library/one:1", &format!("one@{digest}")]
    {
        let home = Home::new("used");
        home.image("one:1", '1', &['a'], NOW - 9, NOW - DAY);
        home.image("other:1", '2', &['b'], NOW - 9, NOW - DAY);
        // Its layer is lost: it may be had again from somewhere.
        let report = collect(&home.request(Some(Aim::All), &[used]), at(NOW));
        assert_eq!(report.images, ["docker.io/library/other:1"], "{used}");
    }
    let home = Home::new("nameless");
    home.layer('a', 1, NOW - 9 * DAY);
    let config =
        serde_json::json!({"rootfs": {"diff_ids": [format!("sha256:{}", "a".repeat(64))]}}).to_string();
    let id = crate::image::stream::digest(config.as_bytes());
    let file = home.0.join("configs").join(format!("{}.json", &id["sha256:".len()..]));
    fs::write(&file, config).unwrap();
    files::stamp(&file, at(NOW - 9 * DAY)).unwrap();
    let mut request = home.request(Some(Aim::All), &[]);
    request.used.ids.insert(id);
    assert_eq!(collect(&request, at(NOW)), Report::default(), "a container runs from it");
    assert_eq!(home.names("layers").len(), 2);
    request.used.ids.clear();
    assert_eq!(collect(&request, at(NOW)).files, 3);
}

#[test]
fn i3_nothing_goes_while_another_adds_nor_beside_a_tag_that_cannot_be_read() {
    let home = Home::new("busy");
    home.image("one:1", '1', &['a'], NOW - 9 * DAY, NOW - DAY);
    home.image("two:1", '2', &['a'], NOW - 9 * DAY, NOW - DAY);
    let store = home.store();
    let adding = store.add().unwrap();
    let report = collect(&home.request(Some(Aim::All), &["two:1"]), at(NOW));
    assert!(report.busy && report.images.is_empty(), "{report:?}");
    assert_eq!(
        (home.used("one:1"), home.used("two:1")),
        (NOW - 9 * DAY, NOW),
        "its use is noted all the same"
    );
    drop(adding);
    fs::write(home.tag("bad:1"), "no tag").unwrap();
    let report = collect(&home.request(Some(Aim::All), &["two:1"]), at(NOW));
    let (reason, message) = report.trouble.unwrap();
    assert!(reason == "ImageGCFailed" && message.contains("bad"), "{reason}: {message}");
    assert!(report.images.is_empty());
    fs::remove_file(home.tag("bad:1")).unwrap();
    assert_eq!(collect(&home.request(Some(Aim::All), &["two:1"]), at(NOW)).images.len(), 1);
    let nowhere = Request { store: "/nonexistent".into(), ..home.request(Some(Aim::All), &[]) };
    assert_eq!(collect(&nowhere, at(NOW)), Report::default());
}

#[test]
fn i3_the_last_use_outlives_a_boot_with_any_clock() {
    let home = Home::new("clock");
    for (name, config, used) in
        [("a:1", '1', NOW - 3 * DAY), ("b:1", '2', NOW - 2 * DAY), ("c:1", '3', NOW - 5)]
    {
        home.image(name, config, &[config], used, NOW - 3 * DAY);
        home.layer(config, 1, NOW - 3 * DAY);
    }
    // As full as can be, and one image less will do.
    let full = |_: &Store| Ok(Disk { capacity: 100 << 20, available: 0, reserve: 0 });
    let first = |home: &Home, now: u64| {
        let mut request = home.request(Some(Aim::Thresholds), &[]);
        (request.policy.high, request.policy.low) = (99, 99);
        super::collect(&request, at(now), full).images
    };
    // A boot whose clock was never set uses a: it is used later than all others, and written once.
    for _ in 0..3 {
        assert_eq!(collect(&home.request(None, &["a:1"]), at(500)), Report::default());
        assert_eq!(home.used("a:1"), NOW - 4);
    }
    // Then one of which the clock is right: what was used for longest goes.
    assert_eq!(first(&home, NOW + DAY), ["docker.io/library/b:1"]);
    assert_eq!(first(&home, 500), ["docker.io/library/c:1"]);
    // A clock far ahead, put right: a use in the future is one of now.
    collect(&home.request(None, &["a:1"]), at(NOW + 9000 * DAY));
    assert_eq!(home.used("a:1"), NOW + 9000 * DAY);
    collect(&home.request(None, &[]), at(NOW));
    assert_eq!(home.used("a:1"), NOW);
    // What was in use since the last note is noted, though it is no more.
    let mut request = home.request(None, &[]);
    request.since.names.insert("a:1".into());
    collect(&request, at(NOW + DAY));
    assert_eq!(home.used("a:1"), NOW + DAY);
}

#[test]
fn a_pinned_name_stays_and_keeps_that_through_a_new_image() {
    let home = Home::new("pinned");
    home.image("one:1", '1', &['a'], NOW - 9, NOW - DAY);
    let store = home.store();
    assert_eq!((store.pin("one:1", true), store.pin("two:1", true)), (Ok(true), Ok(false)));
    assert_eq!(collect(&home.request(Some(Aim::All), &[]), at(NOW)).images, [""; 0]);
    let digest = format!("sha256:{}", "2".repeat(64));
    store.write().unwrap().add_tag("docker.io/library/one:1", "", &digest, &[]).unwrap();
    assert_eq!(collect(&home.request(Some(Aim::All), &[]), at(NOW)).images, [""; 0]);
    assert_eq!(store.pin("one:1", false), Ok(true));
    assert_eq!(collect(&home.request(Some(Aim::All), &[]), at(NOW)).images.len(), 1);
}
