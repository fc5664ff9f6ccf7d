//! Pods whose images come from a registry: pulled once for all, waited for, and kept when the registry is gone.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podinit::image::platform::Platform;
use serde_json::Value;

use super::instance::{IMAGE, Instance, archive, manifest, until};
use super::servers::{Fault, Form, PASSWORD, Proxy, Registry, USER, layout, noise, tar};
use super::{FOREVER, status};

#[test]
fn images_are_pulled_once_for_all_and_stay_when_their_registry_is_gone() {
    let mut here = Instance::new();
    let folder = here.home.join("registry");
    std::fs::create_dir_all(&folder).unwrap();
    let registry = Registry::plain(&folder);
    let push = |name: &str| registry.copy(&format!("oci-archive:{}", archive().display()), name, &[]);
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

#[test]
fn a_pull_is_told_while_it_is_under_way() {
    let mut here = Instance::new();
    let folder = here.home.join("registry");
    std::fs::create_dir_all(&folder).unwrap();
    let registry = Registry::plain(&folder);
    let path = here.home.join("layout");
    let noise = noise(5, 3 << 20);
    layout(&path, &[&Platform::host().to_string()], &[(Form::Plain, tar(&[("noise", &noise)]))]);
    registry.push(&path, "big:1", &[]);
    registry.push(&path, "next:1", &[]);
    // Of the large layer a first part comes, and the rest once this is told.
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let proxy = Proxy::new(registry.port, move |_, _| Fault::Hold(1 << 20, open.clone()));
    let image = |name: &str| format!("{}/{name}", proxy.name());
    for name in ["big", "next"] {
        let pod = manifest(name, "", &[("c", FOREVER)]).replace(IMAGE, &image(&format!("{name}:1")));
        here.write(&format!("{name}.yaml"), &pod);
    }
    here.start();
    let pods = until("a part of it", || {
        let Output { stdout, stderr, .. } = here.podinit(&["get", "pods"]);
        let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        // 3 MiB of noise and a small layer: 33 % is the first MiB of it.
        err.contains("(33%)").then_some((out, err))
    });
    // The table is kubectl's, and the state the kubelet's.
    for line in pods.0.lines().skip(1) {
        assert_eq!(line.split_whitespace().nth(2), Some("ContainerCreating"), "{}", pods.0);
    }
    let told = format!("big-host: pulling {}: 1.05MB of 3.15MB (33%), ", image("big:1"));
    assert!(pods.1.contains(&told) && pods.1.contains("of 2 layers"), "{}", pods.1);
    let waits = format!("next-host: pulling {}: waits for its turn\n", image("next:1"));
    assert!(pods.1.contains(&waits), "{}", pods.1);
    let told = here.say(&["describe", "pod", "big"]);
    let line = told.lines().find(|line| line.trim_start().starts_with("Progress: ")).expect("its progress");
    assert!(line.contains(" 1.05MB of 3.15MB (33%), "), "{told}");
    gate.store(true, Ordering::SeqCst);
    // What they are made of is no program, so that they end; nothing is on its way any more.
    for name in ["big", "next"] {
        here.pod_that(name, |pod| {
            status(pod)["imageID"].as_str().is_some_and(|id| id.starts_with("sha256:"))
        });
    }
    let Output { stderr, .. } = here.podinit(&["get", "pods"]);
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
}

#[test]
fn a_pod_pulls_as_its_secrets_say_and_nobody_is_told_what_they_hold() {
    let mut here = Instance::new();
    let folder = here.home.join("registry");
    std::fs::create_dir_all(&folder).unwrap();
    let registry = Registry::private(&folder);
    let path = here.home.join("layout");
    layout(&path, &[&Platform::host().to_string()], &[(Form::Plain, tar(&[("a", b"a")]))]);
    registry.push(&path, "team/app:1", &[]);
    let image = format!("{}/team/app:1", registry.name());
    let secret = |name: &str, kind: &str, key: &str, content: serde_json::Value| {
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind,
            "stringData": {key: content.to_string()},
        });
        here.write(&format!("{name}.json"), &secret.to_string());
    };
    let login = |password: &str| serde_json::json!({"username": USER, "password": password});
    let (config, legacy) = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg");
    let auths = |password: &str| serde_json::json!({"auths": {registry.name(): login(password)}});
    secret("good", config, ".dockerconfigjson", auths(PASSWORD));
    secret(
        "older",
        legacy,
        ".dockercfg",
        serde_json::json!({format!("https://{}/v1/", registry.name()): login(PASSWORD)}),
    );
    secret("wrong", config, ".dockerconfigjson", auths("hunter2"));
    secret("other", "Opaque", ".dockerconfigjson", auths(PASSWORD));
    here.start();
    let pod = |name: &str, secrets: &str| {
        let more = format!("  imagePullSecrets: [{secrets}]\n");
        let pod = manifest(name, &more, &[("c", FOREVER)]).replace(IMAGE, &image);
        here.write(
            &format!("{name}.yaml"),
            &pod.replace("    command:", "    imagePullPolicy: Always\n    command:"),
        );
    };
    // Those that may not come first, as what is there is used whoever pulled it.
    pod("none", "");
    pod("refused", "{name: wrong}, {}");
    pod("opaque", "{name: other}");
    for name in ["none", "refused", "opaque"] {
        let pod = here.pod_that(name, |pod| status(pod)["state"]["waiting"]["reason"] == "ErrImagePull");
        let message = status(&pod)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
        let expected =
            if name == "refused" { "pull access denied" } else { "asks for a user and a password" };
        assert!(message.contains(expected), "{name}: {message}");
    }
    let pulled = |pod: &Value| status(pod)["imageID"].as_str().is_some_and(|id| id.starts_with("sha256:"));
    // One after the other is tried, and one that is not there is told.
    pod("tried", "{name: wrong}, {name: nowhere}, {name: good}");
    here.pod_that("tried", pulled);
    pod("legacy", "{name: older}");
    here.pod_that("legacy", pulled);
    let told = here.say(&["describe", "pod", "tried"]);
    let lacking = "FailedToRetrieveImagePullSecret";
    let words =
        "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed.";
    assert!(told.contains(lacking) && told.contains(words), "{told}");
    assert!(!here.say(&["describe", "pod", "refused"]).contains(lacking));

    // The machine's own, in the older form; and a broken one of the newer form, which is passed over and told.
    std::fs::write(here.home.join("root/config.json"), "{\"auths\": hunter2}").unwrap();
    pod("mine", "");
    let pod_of =
        |name: &str| here.pod_that(name, |pod| !status(pod)["state"]["waiting"]["message"].is_null());
    let _ = pod_of("mine");
    until("why it is refused", || {
        here.log().contains("config.json: not a config.json, line 1 column").then_some(())
    });
    let file = serde_json::json!({registry.name(): login(PASSWORD)});
    std::fs::write(here.home.join("root/.dockercfg"), file.to_string()).unwrap();
    until("a pull by the machine's own login", || {
        let told = here.tells(&["describe", "pod", "mine"]);
        told.contains("Successfully pulled image").then_some(())
    });

    let events = here.say(&["get", "events", "-o", "json"]);
    for text in [here.log(), events, here.say(&["get", "pods", "-o", "json"])] {
        for secret in [PASSWORD, "hunter2", "Ym9hcmQ6"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
