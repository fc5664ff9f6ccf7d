//! Pods whose images come from a registry: pulled once for all, waited for, and kept when the registry is gone.

use std::process::Command;

use serde_json::Value;

use super::instance::{IMAGE, Instance, archive, manifest};
use super::servers::{Fault, Proxy, Registry, run};
use super::{FOREVER, status};

#[test]
fn images_are_pulled_once_for_all_and_stay_when_their_registry_is_gone() {
    let mut here = Instance::new();
    let folder = here.home.join("registry");
    std::fs::create_dir_all(&folder).unwrap();
    let registry = Registry::plain(&folder);
    let push = |name: &str| {
        let from = format!("oci-archive:{}", archive().display());
        let to = format!("docker://{}/{name}", registry.name());
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &from, &to]);
        run(&mut skopeo);
    };
    push("box:1");
    let proxy = Proxy::new(registry.port, |_, _| Fault::None);
    let image = |name: &str| format!("{}/{name}", proxy.name());
    let pod = |name: &str, of: &str| manifest(name, "", &[("c", FOREVER)]).replace(IMAGE, &image(of));
    // The one that it has by import is not asked for.
    here.write("own.yaml", &manifest("own", "", &[("c", FOREVER)]));
    here.write("one.yaml", &pod("one", "box:1"));
    here.write("two.yaml", &pod("two", "box:1"));
    here.write("late.yaml", &pod("late", "box:2"));
    here.start();
    ["own", "one", "two"].iter().for_each(|name| drop(here.running(name)));
    let manifests = |tag: &str| {
        let asked = |head: &&String| head.contains(&format!("/v2/box/manifests/{tag} "));
        proxy.heads().iter().filter(asked).count()
    };
    assert_eq!(manifests("1"), 1, "{:?}", proxy.heads());
    let told = here.say(&["describe", "pod", "two"]);
    assert!(told.contains(&format!("Pulling image \"{}\"", image("box:1"))), "{told}");
    assert!(told.contains(&format!("Successfully pulled image \"{}\" in ", image("box:1"))), "{told}");

    // What is not there is asked for again.
    let late = here.pod_that("late", |pod| status(pod)["state"]["waiting"]["reason"] == "ErrImagePull");
    let message = &status(&late)["state"]["waiting"]["message"];
    assert!(message.as_str().unwrap().ends_with("/box:2: not found"), "{message}");
    push("box:2");
    let late = here.running("late");
    assert_eq!(status(&late)["restartCount"], 0);
    assert!(manifests("2") >= 2);

    drop(registry);
    here.write("three.yaml", &pod("three", "box:1"));
    here.running("three");
    let told = here.say(&["describe", "pod", "three"]);
    assert!(told.contains("already present on machine"), "{told}");
    let always = pod("always", "box:1").replace("    command:", "    imagePullPolicy: Always\n    command:");
    assert!(always.contains("Always"), "{always}");
    here.write("always.yaml", &always);
    here.running("always");
    let told = here.say(&["describe", "pod", "always"]);
    assert!(told.contains(&format!("Failed to pull image \"{}\": ", image("box:1"))), "{told}");
    let none = pod("none", "box:3").replace("    command:", "    imagePullPolicy: Always\n    command:");
    here.write("none.yaml", &none);
    here.pod_that("none", |pod: &Value| status(pod)["state"]["waiting"]["reason"] == "ErrImagePull");
}
