//! Layers that are damaged while their pods run: noticed, told, put aside and replaced, and nobody is called.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::instance::{IMAGE, Instance, PODINIT, archive, manifest, said, until};
use super::servers::{Fault, Proxy, Registry};
use super::{FOREVER, status};

/// Reads all images each time.
fn often(here: &mut Instance, every: &str) {
    let file = here.home.join("config.yaml");
    let text = format!(
        "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nimageVerifyFrequency: {every}\n\
         additionalImageStores: [{}]\n",
        here.home.join("factory").display()
    );
    fs::write(&file, text).unwrap();
    here.more.push(format!("--config={}", file.display()));
}

/// Another store of the machine, with the image.
fn factory(here: &Instance) -> PathBuf {
    let store = here.home.join("factory");
    let mut import = Command::new(PODINIT);
    import.args(["image", "--store"]).arg(&store).arg("import").arg(archive());
    said(&import.output().unwrap());
    store
}

fn layer(here: &Instance) -> PathBuf {
    let entries = fs::read_dir(here.home.join("root/images/layers")).unwrap();
    let mut files = entries.map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|kind| kind == "erofs")).expect("a layer")
}

/// Flips a bit of what nothing that runs has use for, behind everybody's back.
fn flip(layer: &Path) {
    let bytes = fs::read(layer).unwrap();
    let text = b"BusyBox is copyrighted";
    let at = bytes.windows(text.len()).position(|found| found == text).expect("busybox tells of itself");
    let file = fs::File::options().write(true).open(layer).expect("a file system that does not seal it");
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

/// From which files podinit's layers are mounted.
fn mounts(here: &Instance) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", here.pid())).unwrap();
    let below = format!("{}/", here.home.join("run/layers").display());
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)?.strip_prefix(&below));
    points.map(str::to_owned).collect()
}

fn told(here: &Instance, name: &str) -> String {
    here.say(&["describe", "pod", name])
}

fn image(here: &Instance, args: &[&str]) -> String {
    let store = here.home.join("root/images").display().to_string();
    String::from_utf8(here.podinit(&[&["image", "--store", &store], args].concat()).stdout).unwrap()
}

#[test]
fn a_flipped_bit_is_found_and_its_layer_replaced_from_another_store() {
    let mut here = Instance::new();
    often(&mut here, "4s");
    let factory = factory(&here);
    here.write("web.yaml", &manifest("web", "", &[("c", FOREVER)]));
    // What ends by itself is left to its end.
    here.write("once.yaml", &manifest("once", "  restartPolicy: Never\n", &[("c", FOREVER)]));
    here.start();
    here.running("web");
    let once = here.running("once");
    let (layer, before) = (layer(&here), mounts(&here));
    let whole = fs::read(&layer).unwrap();
    flip(&layer);
    let flipped = fs::read(&layer).unwrap();
    let web = here.pod_that("web", |pod| {
        status(pod)["restartCount"] == 1 && status(pod)["state"]["running"].is_object()
    });
    assert_eq!(status(&web)["lastState"]["terminated"]["exitCode"], 0, "it got its stop signal");
    assert_eq!(fs::read(&layer).unwrap(), whole);
    let aside = here.home.join("root/images/damaged").join(layer.file_name().unwrap());
    assert_eq!(fs::read(aside).unwrap(), flipped);
    let said = told(&here, "web");
    let file = layer.file_name().unwrap().to_str().unwrap();
    assert!(said.contains("ImageDamaged") && said.contains(file), "{said}");
    assert!(said.contains(&format!("put aside, replaced from {}", factory.display())), "{said}");
    assert!(said.contains("runs from a damaged image that is whole again, will be restarted"), "{said}");
    assert!(!said.contains("Back-off"), "{said}");
    let after = mounts(&here);
    assert!(before.len() == 1 && after.len() == 1 && before != after, "{before:?} {after:?}");
    let now = here.pod("once").unwrap();
    assert_eq!(status(&now)["state"], status(&once)["state"], "nothing else is disturbed");
    assert!(told(&here, "once").contains("ImageDamaged"));
    assert!(here.log().contains("is damaged: "), "{}", here.log());
    // And that is all: what was replaced is not replaced again.
    let looks = || here.log().matches("images: all in use were read and are whole").count();
    let seen = looks();
    until("two more looks", || (looks() >= seen + 2).then_some(()));
    assert_eq!(status(&here.pod("web").unwrap())["restartCount"], 1);
    assert!(image(&here, &["verify"]).contains(": ok"));
}

#[test]
fn an_end_that_damage_explains_is_looked_into_at_once() {
    let mut here = Instance::new();
    often(&mut here, "0s");
    factory(&here);
    let volume = "  volumes: [{name: kept, emptyDir: {}}]\n";
    let script =
        format!("test -e /kept/go && {{ {FOREVER} }}; until test -e /kept/go; do sleep 0.1; done; exit 135");
    let script = script.replace("done }", "done; }");
    let web = manifest("web", volume, &[("c", &script)]);
    here.write("web.yaml", &format!("{web}    volumeMounts: [{{name: kept, mountPath: /kept}}]\n"));
    here.start();
    here.running("web");
    let layer = layer(&here);
    let whole = fs::read(&layer).unwrap();
    flip(&layer);
    here.say(&["exec", "web", "--", "touch", "/kept/go"]);
    // Here the crash may come first, and its back-off; the image's being whole again ends that.
    until("the layer", || (fs::read(&layer).is_ok_and(|bytes| bytes == whole)).then_some(()));
    let web = here.running("web");
    assert!(status(&web)["restartCount"].as_u64().unwrap() >= 1);
    let said = told(&here, "web");
    assert!(said.contains("ImageDamaged") && said.contains("replaced from"), "{said}");
}

#[test]
fn without_another_store_the_pod_runs_on_until_its_registry_is_back() {
    let mut here = Instance::new();
    often(&mut here, "4s");
    let folder = here.home.join("registry");
    fs::create_dir_all(&folder).unwrap();
    let registry = Registry::plain(&folder);
    registry.copy(&format!("oci-archive:{}", archive().display()), "box:1", &[]);
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = gone.clone();
    let fault = move |_: &str, _| if is_gone.load(Ordering::SeqCst) { Fault::Refuse } else { Fault::None };
    let proxy = Proxy::new(registry.port, fault);
    let name = format!("{}/box:1", proxy.name());
    // The image of the other tests would vouch for the same layer.
    image(&here, &["remove", IMAGE]);
    here.write("web.yaml", &manifest("web", "", &[("c", FOREVER)]).replace(IMAGE, &name));
    here.start();
    let first = here.running("web");
    gone.store(true, Ordering::SeqCst);
    let layer = layer(&here);
    let whole = fs::read(&layer).unwrap();
    flip(&layer);
    until("it to be told", || told(&here, "web").contains("it is pulled again").then_some(()));
    until("a pull in vain", || told(&here, "web").contains("Failed to pull image").then_some(()));
    assert!(!layer.exists(), "it was put aside");
    let shown = image(&here, &["list"]);
    assert!(shown.lines().any(|line| line.contains("/box") && line.ends_with("damaged")), "{shown}");
    let inspected: Value = serde_json::from_str(&image(&here, &["inspect", &name])).unwrap();
    assert!(inspected["damaged"][0].as_str().unwrap().contains(&layer.display().to_string()), "{inspected}");
    let now = here.pod("web").unwrap();
    assert_eq!(status(&now)["state"], status(&first)["state"], "it runs on");
    gone.store(false, Ordering::SeqCst);
    here.pod_that("web", |pod: &Value| {
        status(pod)["restartCount"] == 1 && status(pod)["state"]["running"].is_object()
    });
    assert_eq!(fs::read(&layer).unwrap(), whole, "the same bytes as before");
    let said = told(&here, "web");
    assert!(said.contains("Successfully pulled image") && !said.contains("restarting failed"), "{said}");
    let again = image(&here, &["list"]);
    assert!(!again.contains("damaged"), "{again}");
}

#[test]
fn what_is_damaged_before_the_start_is_replaced_too_whatever_the_pull_policy() {
    for part in ["layer", "superblock", "config", "tag"] {
        let mut here = Instance::new();
        // What is missing here is served from there at once, and put back when it is seen.
        often(&mut here, "4s");
        factory(&here);
        let only = |dir: &str| {
            let mut files = fs::read_dir(here.home.join("root/images").join(dir)).unwrap();
            files.next().unwrap().unwrap().path()
        };
        let (path, bytes) = match part {
            "layer" => (layer(&here), None),
            "superblock" => (layer(&here), Some(vec![0; 8192])),
            "config" => (only("configs"), Some(b"{}".to_vec())),
            _ => (only("tags"), Some(b"{ \"reference\": ".to_vec())),
        };
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        bytes.into_iter().for_each(|bytes| fs::write(&path, bytes).unwrap());
        let never = manifest("web", "", &[("c", FOREVER)]);
        here.write("web.yaml", &never.replace("    command:", "    imagePullPolicy: Never\n    command:"));
        here.start();
        here.running("web");
        until(part, || (fs::read(&path).is_ok_and(|bytes| bytes == whole)).then_some(()));
        let said = until("its event", || {
            let said = told(&here, "web");
            said.contains("ImageDamaged").then_some(said)
        });
        assert!(said.contains("ImageDamaged") && said.contains("replaced from"), "{part}: {said}");
    }
}
