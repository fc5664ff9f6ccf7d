//! Images on a disk that fills: what nothing uses goes, what any pod wants stays, pulls get the room that they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::instance::{IMAGE, Instance, archive, manifest, until};
use super::servers::{Registry, noise, run};
use super::{FOREVER, status};

const MIB: usize = 1 << 20;

/// A small disk for everything that an instance keeps, taken away after it.
struct Disk {
    home: PathBuf,
}

impl Disk {
    fn of(here: &Instance, mib: usize) -> Disk {
        // Of this thread and what it starts: whatever a test mounts for all, all processes of the machine have.
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let root = here.home.join("root");
        let options = format!("size={mib}m");
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("mount a tmpfs");
        Disk { home: here.home.clone() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.home.join("root"), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// As `docker save` writes it: one layer of so many bytes that nothing makes smaller.
fn saved(home: &Path, name: &str, bytes: usize) -> PathBuf {
    let work = home.join(format!("saved-{}", name.replace(['/', ':'], "-")));
    fs::create_dir_all(work.join("tree")).unwrap();
    let content =
        noise(name.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte)), bytes);
    fs::write(work.join("tree/ballast"), &content).unwrap();
    tar(&work.join("layer.tar"), &work.join("tree"), &["ballast"]);
    let layer = hex(&fs::read(work.join("layer.tar")).unwrap());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    fs::write(work.join("config.json"), config.to_string()).unwrap();
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(work.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = work.with_extension("tar");
    tar(&archive, &work, &["manifest.json", "config.json", "layer.tar"]);
    fs::remove_dir_all(&work).unwrap();
    archive
}

fn tar(to: &Path, folder: &Path, names: &[&str]) {
    run(Command::new("tar").arg("-cf").arg(to).arg("-C").arg(folder).args(names));
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn import(here: &Instance, archive: &Path) {
    let store = here.home.join("root/images").display().to_string();
    here.say(&["image", "--store", &store, "import", &archive.display().to_string()]);
    fs::remove_file(archive).unwrap();
}

fn images(here: &Instance) -> Vec<String> {
    let store = here.home.join("root/images").display().to_string();
    let list: Value =
        serde_json::from_str(&here.say(&["image", "--store", &store, "list", "-o", "json"])).unwrap();
    let names = list["images"].as_array().unwrap().iter();
    let short = |name: &Value| name["reference"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    names.map(short).collect()
}

/// An instance with a disk of its own and the image of `manifest` on it.
fn small(mib: usize, more: &str) -> (Disk, Instance) {
    let mut here = Instance::new();
    let disk = Disk::of(&here, mib);
    let store = here.home.join("root/images").display().to_string();
    here.say(&["image", "--store", &store, "import", &archive().display().to_string()]);
    let config = here.home.join("config.yaml");
    let head =
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfileCheckFrequency: 1s\n";
    fs::write(&config, format!("{head}{more}")).unwrap();
    here.more.push(format!("--config={}", config.display()));
    (disk, here)
}

#[test]
fn i3_what_nothing_uses_goes_when_the_disk_fills_and_what_is_wanted_stays() {
    let (_disk, mut here) = small(48, "imageMinimumGCAge: 0s\n");
    for (name, mib) in [("wanted:1", 10), ("of-a-job:1", 1), ("pinned:1", 4), ("old:1", 12), ("new:1", 12)] {
        import(&here, &saved(&here.home, name, mib * MIB));
    }
    let store = here.home.join("root/images").display().to_string();
    here.say(&["image", "--store", &store, "pin", "pinned:1"]);
    here.write("web.yaml", &manifest("web", "", &[("c", FOREVER)]));
    // It never comes in, and its image is the oldest of all.
    let large = manifest("large", "", &[("c", FOREVER)]).replace(IMAGE, "wanted:1");
    let large = large.replace("    command", "    resources: {requests: {cpu: 100k}}\n    command");
    here.write("large.yaml", &large);
    let job = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: never}\nspec:\n  schedule: '0 0 30 2 *'\n  \
               jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'of-a-job:1'}]}}}}\n";
    here.write("job.yaml", job);
    assert_eq!(images(&here).len(), 6);
    here.start();
    here.running("web");
    until("a collection", || here.log().contains("images: removed docker.io/library/old:1: ").then_some(()));
    assert_eq!(
        images(&here),
        ["new:1", "of-a-job:1", "pinned:1", "wanted:1", "box:1"],
        "no more than is needed"
    );
    assert_eq!(status(&here.running("web"))["restartCount"], 0);
    assert!(!here.say(&["get", "events"]).contains("FreeDiskSpaceFailed"), "enough was freed");

    let list = here.say(&["image", "--store", &store, "list"]);
    let stays = |name: &str, why: &str| {
        let line = list.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.ends_with(why), "{list}");
    };
    [("wanted", "in use"), ("of-a-job", "in use"), ("box", "in use"), ("pinned", "pinned"), ("new", "MB")]
        .iter()
        .for_each(|(name, why)| stays(name, why));
    // The operator may have all go that nothing uses; what that is, PID 1 says.
    let pruned = here.say(&["image", "--store", &store, "prune", "-a"]);
    assert!(pruned.starts_with("removed docker.io/library/new:1\nremoved 3 files, 12.6MB\n"), "{pruned}");
    let elsewhere = here.home.join("elsewhere").display().to_string();
    let refused = here.podinit(&["image", "--store", &elsewhere, "prune", "--all"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("runs pods from") && said.contains("--force"),
        "{said}"
    );
    here.write("bad.yaml", "kind: Pod\napiVersion: v1\nspec: {}\n");
    until("a refused manifest", || here.say(&["get", "problems"]).contains("bad.yaml").then_some(()));
    let refused = here.podinit(&["image", "--store", &store, "prune", "-a"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("a manifest is refused"), "{said}");
    assert_eq!(images(&here).len(), 4);
    here.signal(Signal::SIGTERM);
    here.ended();
    let refused = here.podinit(&["image", "--store", &store, "prune", "-a"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("podinit does not answer at"), "{said}");
    assert_eq!(images(&here).len(), 4);
    here.say(&["image", "--store", &store, "prune", "-a", "--force"]);
    assert_eq!(images(&here), ["pinned:1"]);
}

#[test]
fn i3_too_little_is_told_in_the_kubelets_words() {
    let (_disk, mut here) = small(40, "imageMinimumGCAge: 0s\n");
    import(&here, &saved(&here.home, "old:1", 2 * MIB));
    fs::write(here.home.join("root/ballast"), vec![1; 33 * MIB]).unwrap();
    here.write("web.yaml", &manifest("web", "", &[("c", FOREVER)]));
    here.start();
    here.running("web");
    let event = until("an event", || {
        let events: Value = serde_json::from_str(&here.say(&["get", "events", "-o", "json"])).unwrap();
        let events = events["items"].as_array().unwrap().clone();
        events.into_iter().find(|event| event["reason"] == "FreeDiskSpaceFailed")
    });
    let message = event["message"].as_str().unwrap();
    assert!(
        message.starts_with("Failed to garbage collect required amount of images. Attempted to free "),
        "{message}"
    );
    assert_eq!((&event["involvedObject"]["kind"], &event["type"]), (&"Node".into(), &"Warning".into()));
    assert_eq!(images(&here), ["box:1"], "what could go went");
}

#[test]
fn i3_a_pull_gets_room_from_what_nothing_uses_and_what_can_never_fit_is_refused() {
    let (_disk, mut here) = small(64, "imageMinimumGCAge: 0s\n");
    let folder = here.home.join("registry");
    fs::create_dir_all(&folder).unwrap();
    let registry = Registry::plain(&folder);
    let push = |name: &str, mib: usize| {
        let archive = saved(&here.home, &format!("{name}:1"), mib * MIB);
        registry.copy(&format!("docker-archive:{}", archive.display()), &format!("{name}:1"), &[]);
        fs::remove_file(archive).unwrap();
    };
    push("fits", 28);
    push("never", 90);
    for (name, mib) in [("older:1", 8), ("newer:1", 20)] {
        import(&here, &saved(&here.home, name, mib * MIB));
    }
    let pod = |name: &str| {
        manifest(name, "", &[("c", FOREVER)]).replace(IMAGE, &format!("{}/{name}:1", registry.name()))
    };
    here.write("web.yaml", &manifest("web", "", &[("c", FOREVER)]));
    here.start();
    here.running("web");
    // Its layer is mounted, though there is no program in it.
    here.write("brief.yaml", &manifest("brief", "", &[("c", FOREVER)]).replace(IMAGE, "older:1"));
    here.pod_that("brief", |pod| status(pod)["imageID"] != "");
    until("a mount", || (mounted(&here).len() == 2).then_some(()));
    fs::remove_file(here.home.join("m/brief.yaml")).unwrap();
    until("no pod", || here.pod("brief").is_none().then_some(()));
    here.write("never.yaml", &pod("never"));
    let never = here.pod_that("never", |pod| status(pod)["state"]["waiting"]["reason"] == "ErrImagePull");
    let message = status(&never)["state"]["waiting"]["message"].to_string();
    assert!(message.contains("no space on the disk") && message.contains("at least 9"), "{message}");
    assert_eq!(images(&here), ["newer:1", "older:1", "box:1"], "nothing goes in vain");
    fs::remove_file(here.home.join("m/never.yaml")).unwrap();

    here.write("fits.yaml", &pod("fits"));
    // There is no program in it.
    here.pod_that("fits", |pod| {
        let waiting = &status(pod)["state"]["waiting"];
        status(pod)["imageID"] != "" || waiting["reason"] == "RunContainerError"
    });
    let left = images(&here);
    assert!(left.contains(&"fits:1".to_owned()) && !left.contains(&"older:1".to_owned()), "{left:?}");
    let told = "images: removed docker.io/library/older:1, docker.io/library/newer:1: ";
    assert!(here.log().contains(told), "{}", here.log());
    here.running("web");
    // A mount would hold the bytes of a file that is gone.
    let layers = here.home.join("root/images/layers");
    let held = mounted(&here).into_iter().filter(|hex| !layers.join(format!("{hex}.erofs")).exists());
    assert_eq!(held.collect::<Vec<_>>(), [""; 0]);
}

/// The layers that podinit has mounted, by the digits of their digests.
fn mounted(here: &Instance) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", here.pid())).unwrap();
    let layers = here.home.join("run/layers").display().to_string();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let names = points.filter_map(|point| Some(point.strip_prefix(&layers)?.trim_matches('/')));
    names.map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
}
