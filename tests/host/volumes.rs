//! Volumes as a container sees them.

use std::fs;
use std::process::Command;

use super::instance::{IMAGE, Instance, manifest, said, until};
use super::{FOREVER, Signal, status, uid};

/// What a shell command in the pod's first container prints.
fn sh(here: &Instance, pod: &str, script: &str) -> String {
    here.say(&["exec", pod, "--", "sh", "-c", script])
}

/// The pod with these volumes and mounts (flow style) of its one container, which runs until it is stopped.
fn pod(name: &str, more: &str, volumes: &[&str], mounts: &[&str]) -> String {
    let list = |title: &str, rows: &[&str], indent: &str| {
        let rows: String = rows.iter().map(|row| format!("{indent}- {{{row}}}\n")).collect();
        format!("{indent}{title}:\n{rows}")
    };
    let spec = format!("{more}{}", list("volumes", volumes, "  "));
    manifest(name, &spec, &[("c", FOREVER)]) + &list("volumeMounts", mounts, "    ")
}

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{data}}}\n")
}

fn told(here: &Instance, what: &str, text: &str) {
    let pod = || here.say(&["describe", "pod", what]);
    until(text, || pod().contains(text).then_some(()));
}

#[test]
fn a_pod_reads_its_files_and_a_changed_config_map_reaches_it_without_a_restart() {
    let mut here = Instance::new();
    let volumes = [
        "name: cm, configMap: {name: app}",
        "name: key, secret: {secretName: key, defaultMode: 0400, items: [{key: tls, path: deep/tls.key}]}",
        "name: fields, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, \
         {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}, \
         {path: disk, resourceFieldRef: {containerName: c, resource: requests.ephemeral-storage, divisor: 1Ki}}]}",
        "name: all, projected: {sources: [{configMap: {name: app, items: [{key: a.conf, path: a, mode: 0600}]}}, \
         {secret: {name: key}}, {configMap: {name: none, optional: true}}, \
         {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}",
    ];
    let mounts = [
        "name: cm, mountPath: /cm",
        "name: key, mountPath: /key",
        "name: fields, mountPath: /fields",
        "name: all, mountPath: /all",
        "name: cm, mountPath: /one/a.conf, subPath: a.conf",
    ];
    let text = pod("reader", "", &volumes, &mounts)
        .replace("{name: reader}", "{name: reader, labels: {b: two, a: one}}")
        .replace(
            "    volumeMounts:",
            "    resources: {limits: {cpu: 250m, ephemeral-storage: 10Mi}}\n    env: [{name: DISK, valueFrom: \
             {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Mi}}}]\n    volumeMounts:",
        );
    here.write("reader.yaml", &text);
    here.write("app.yaml", &config_map("app", "a.conf: one, b: \"two\""));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {tls: secret}\n";
    here.write("key.yaml", secret);
    here.start();
    let before = here.running("reader");
    let cat = |path: &str| sh(&here, "reader", &format!("cat {path}"));
    for (path, expected) in [
        ("/cm/a.conf", "one"),
        ("/cm/b", "two"),
        ("/key/deep/tls.key", "secret"),
        ("/fields/labels", "a=\"one\"\nb=\"two\""),
        ("/fields/cpu", "250"),
        ("/fields/disk", "10240"),
        ("/all/a", "one"),
        ("/all/tls", "secret"),
        ("/all/name", "reader-host"),
        ("/one/a.conf", "one"),
    ] {
        assert_eq!(cat(path), expected, "{path}");
    }
    assert_eq!(sh(&here, "reader", "echo $DISK"), "10\n");
    let modes = "cd /; busybox stat -L -c '%a %n' cm/a.conf key/deep/tls.key all/a all/tls cm";
    assert_eq!(
        sh(&here, "reader", modes),
        "644 cm/a.conf\n400 key/deep/tls.key\n600 all/a\n644 all/tls\n777 cm\n"
    );
    assert_eq!(sh(&here, "reader", "cd /cm; echo *"), "a.conf b\n");
    let write = here.podinit(&["exec", "reader", "--", "sh", "-c", "echo x >/cm/x"]);
    assert!(String::from_utf8_lossy(&write.stderr).contains("Read-only file system"), "{write:?}");

    here.write("app.yaml", &config_map("app", "a.conf: changed, c: new"));
    // A file may be on its way out while it is asked for.
    let tells = |path: &str| here.tells(&["exec", "reader", "--", "cat", path]);
    until("the change", || (tells("/cm/a.conf") == "changed" && tells("/all/a") == "changed").then_some(()));
    assert_eq!(cat("/cm/c"), "new");
    assert_eq!(sh(&here, "reader", "cd /cm; echo *"), "a.conf c\n");
    assert_eq!(cat("/one/a.conf"), "one", "a subPath is a file of its own");

    // What cannot be written leaves what is there, says so, and is mended by the next edit.
    here.write("app.yaml", &config_map("app", "b: gone"));
    told(&here, "reader", "references non-existent config key: a.conf");
    assert_eq!((cat("/all/a"), cat("/all/tls")), ("changed".into(), "secret".into()));
    here.write("app.yaml", &config_map("app", "a.conf: mended"));
    until("the mend", || (tells("/all/a") == "mended" && tells("/cm/a.conf") == "mended").then_some(()));
    let after = here.running("reader");
    for field in ["containerID", "restartCount"] {
        assert_eq!(status(&before)[field], status(&after)[field], "{field}");
    }
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

#[test]
fn a_pod_waits_for_its_config_map() {
    let mut here = Instance::new();
    here.write(
        "late.yaml",
        &pod("late", "", &["name: v, configMap: {name: late}"], &["name: v, mountPath: /v"]),
    );
    here.start();
    told(&here, "late", "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found");
    assert!(here.say(&["describe", "pod", "late"]).contains("FailedMount"));
    here.write("config.yaml", &config_map("late", "k: here"));
    here.running("late");
    assert_eq!(sh(&here, "late", "cat /v/k"), "here");
}

#[test]
fn an_image_volume_shows_the_image_and_a_missing_one_says_so() {
    let mut here = Instance::new();
    let image = |reference: &str| format!("name: i, image: {{reference: \"{reference}\"}}");
    here.write(
        "good.yaml",
        &pod(
            "good",
            "",
            &[&image(IMAGE)],
            &["name: i, mountPath: /i", "name: i, mountPath: /only, subPath: bin"],
        ),
    );
    let missing = image("podinit.dev/absent:1").replace("}", ", pullPolicy: Never}");
    here.write("bad.yaml", &pod("bad", "", &[&missing], &["name: i, mountPath: /i"]));
    here.start();
    here.running("good");
    assert_eq!(sh(&here, "good", "/i/bin/busybox echo run; ls /only/busybox"), "run\n/only/busybox\n");
    let write = here.podinit(&["exec", "good", "--", "touch", "/i/x"]);
    assert!(String::from_utf8_lossy(&write.stderr).contains("Read-only file system"), "{write:?}");
    let bad = here.pod_that("bad", |pod| status(pod)["state"]["waiting"]["message"].is_string());
    let waiting = &status(&bad)["state"]["waiting"];
    assert!(waiting["reason"].as_str().unwrap().contains("Image"), "{waiting}");
    assert!(waiting["message"].as_str().unwrap().contains("podinit.dev/absent:1"), "{waiting}");
    fs::remove_file(here.home.join("m/bad.yaml")).unwrap();
    until("no pod", || here.pod("bad").is_none().then_some(()));
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

#[test]
fn sub_paths_are_expanded_and_a_missing_variable_says_so() {
    let mut here = Instance::new();
    let env = "    env: [{name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n    volumeMounts:";
    let text = |name: &str, variable: &str| {
        let mount = format!("name: v, mountPath: /v, subPathExpr: of/$({variable})");
        let all = "name: v, mountPath: /all";
        pod(name, "", &["name: v, emptyDir: {}"], &[&mount, all]).replace("    volumeMounts:", env)
    };
    here.write("good.yaml", &text("good", "WHO"));
    here.write("bad.yaml", &text("bad", "WHAT"));
    here.start();
    here.running("good");
    assert_eq!(sh(&here, "good", "touch /v/x; ls /all/of/good-host"), "x\n");
    let bad = here.pod_that("bad", |pod| status(pod)["state"]["waiting"]["message"].is_string());
    let waiting = &status(&bad)["state"]["waiting"];
    assert_eq!(waiting["reason"], "CreateContainerConfigError", "{waiting}");
    assert!(waiting["message"].as_str().unwrap().contains("missing value for WHAT"), "{waiting}");
}

#[test]
fn fs_group_owns_a_fresh_volume_and_one_that_was_kept() {
    let mut here = Instance::new();
    let text = pod(
        "group",
        "  securityContext: {fsGroup: 2000}\n",
        &["name: v, emptyDir: {}", "name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}"],
        &["name: v, mountPath: /v", "name: m, mountPath: /m"],
    );
    here.write("group.yaml", &text);
    here.start();
    let before = here.running("group");
    let of = |path: &str| sh(&here, "group", &format!("busybox stat -c '%g %a' {path}"));
    assert_eq!((of("/v").as_str(), of("/m").as_str()), ("2000 2777\n", "2000 2777\n"));
    let make =
        "mkdir -p /v/deep; echo kept >/v/deep/f; busybox chown 0:0 /v/deep/f; busybox chmod 600 /v/deep/f";
    sh(&here, "group", &make.replace("mkdir", "busybox mkdir"));
    assert_eq!(of("/v/deep/f"), "0 600\n");
    let full = here.podinit(&["exec", "group", "--", "sh", "-c", "head -c 2000000 /dev/zero >/m/x"]);
    assert!(!full.status.success(), "{full:?}");
    assert_eq!(sh(&here, "group", "busybox stat -c %s /m/x"), "1048576\n");

    here.signal(Signal::SIGKILL);
    here.ended();
    here.start();
    let after = here.running("group");
    assert_eq!(uid(&after), uid(&before));
    let of = |path: &str| sh(&here, "group", &format!("busybox stat -c '%g %a' {path}"));
    assert_eq!((of("/v/deep/f").as_str(), of("/v/deep").as_str()), ("2000 660\n", "2000 2775\n"));
    assert_eq!(sh(&here, "group", "cat /v/deep/f"), "kept\n");
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

/// Mounts on the host's side, that is, in podinit's mount namespace.
#[test]
fn mounts_travel_and_are_read_only_as_the_mount_says() {
    let mut here = Instance::new();
    let host = here.home.join("host");
    fs::create_dir_all(host.join("early")).unwrap();
    fs::create_dir_all(host.join("late")).unwrap();
    here.start();
    let mount = |name: &str| {
        let target = host.join(name).display().to_string();
        let (pid, args) = (here.pid().to_string(), ["mount", "-t", "tmpfs", "tmpfs"]);
        said(&Command::new("nsenter").args(["-t", &pid, "-m"]).args(args).arg(target).output().unwrap());
    };
    mount("early");
    let volume = format!("name: h, hostPath: {{path: {}}}", host.display());
    let text = |name: &str, more: &str| {
        pod(name, "", &[&volume], &[&format!("name: h, mountPath: /h{more}"), "name: h, mountPath: /plain"])
    };
    here.write("none.yaml", &text("none", ""));
    here.write("slave.yaml", &text("slave", ", mountPropagation: HostToContainer"));
    here.write("ro.yaml", &text("ro", ", readOnly: true"));
    here.write("rro.yaml", &text("rro", ", readOnly: true, recursiveReadOnly: Enabled"));
    for name in ["none", "slave", "ro", "rro"] {
        here.running(name);
    }
    let touch = |pod: &str, path: &str| here.podinit(&["exec", pod, "--", "touch", path]).status.success();
    let table = [
        ("none", "/h/x", true),
        ("none", "/h/early/x", true),
        ("ro", "/h/x", false),
        ("ro", "/h/early/x", true),
        ("rro", "/h/x", false),
        ("rro", "/h/early/x", false),
        ("rro", "/plain/early/x", true),
    ];
    for (pod, path, expected) in table {
        assert_eq!(touch(pod, path), expected, "{pod} {path}");
    }
    mount("late");
    let seen = |pod: &str, path: &str| {
        here.say(&["exec", pod, "--", "cat", "/proc/mounts"]).contains(&format!(" {path} "))
    };
    assert!(seen("slave", "/h/late") && touch("slave", "/h/late/y"));
    for (pod, path) in [("slave", "/plain/late"), ("none", "/h/late")] {
        assert!(!seen(pod, path) && seen(pod, &path.replace("late", "early")), "{pod} {path}");
    }
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

/// The tear-down of a huge volume, and the clean-up of a huge writable layer, held PID 1 up.
#[test]
fn huge_trees_go_to_the_trash_and_from_there() {
    let mut here = Instance::new();
    let text = pod("huge", "", &["name: v, emptyDir: {}"], &["name: v, mountPath: /v"]);
    let make =
        "busybox mkdir /l; cd /l; seq 1 3000 | busybox xargs touch; cd /v; seq 1 3000 | busybox xargs touch;";
    here.write("huge.yaml", &text.replace("trap 'exit", &format!("{make} echo made; trap 'exit")));
    here.start();
    here.running("huge");
    until("its files", || (here.tells(&["logs", "huge"]) == "made\n").then_some(()));
    fs::remove_file(here.home.join("m/huge.yaml")).unwrap();
    until("no pod", || here.pod("huge").is_none().then_some(()));
    let trash = here.home.join("root/trash");
    assert!(trash.is_dir(), "nothing was moved there");
    until("an empty trash", || fs::read_dir(&trash).unwrap().next().is_none().then_some(()));
    assert!(!here.home.join("root/pods").read_dir().unwrap().any(|_| true));
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    assert!(!trash.exists());
    here.assert_nothing_left();
}

#[test]
fn fs_group_lets_a_user_in() {
    let mut here = Instance::new();
    let text = pod(
        "user",
        "  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}\n",
        &["name: v, emptyDir: {}", "name: key, secret: {secretName: key, defaultMode: 0400}"],
        &["name: v, mountPath: /v", "name: key, mountPath: /key", "name: v, mountPath: /s, subPath: of/mine"],
    );
    here.write("user.yaml", &text);
    here.write("key.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {k: secret}\n");
    here.start();
    here.running("user");
    let stat = "busybox stat -c '%u %g'";
    assert_eq!(sh(&here, "user", &format!("id -u; touch /v/x; {stat} /v/x")), "1000\n1000 2000\n");
    assert_eq!(sh(&here, "user", "cat /key/k; busybox stat -Lc ' %g %a' /key/k"), "secret 2000 440\n");
    assert_eq!(sh(&here, "user", &format!("touch /s/y; {stat} /v/of/mine/y")), "1000 2000\n");
}

/// A storage pod mounts and unmounts, and others see it.
#[test]
fn a_mount_made_in_a_container_reaches_host_and_neighbours_and_nothing_else_does() {
    let mut here = Instance::new();
    let host = here.home.join("host");
    fs::create_dir_all(host.join("made")).unwrap();
    let text = |name: &str, propagation: &str| {
        let volumes =
            [format!("name: h, hostPath: {{path: {}}}", host.display()), "name: e, emptyDir: {}".into()];
        let mount = format!("name: h, mountPath: /h, mountPropagation: {propagation}");
        pod(name, "", &volumes.each_ref().map(String::as_str), &[&mount, "name: e, mountPath: /e"])
    };
    let privileged = "    securityContext: {privileged: true}\n    volumeMounts:";
    here.write("maker.yaml", &text("maker", "Bidirectional").replace("    volumeMounts:", privileged));
    here.write("user.yaml", &text("user", "HostToContainer"));
    here.start();
    here.running("maker");
    here.running("user");
    let mounts = || {
        let text = fs::read_to_string(format!("/proc/{}/mounts", here.pid())).unwrap();
        text.lines().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)).collect::<Vec<_>>()
    };
    sh(
        &here,
        "maker",
        "busybox mkdir /e/in; for d in /h/made /e/in /tmp; do busybox mount -t tmpfs tmpfs $d; done",
    );
    sh(&here, "maker", "touch /h/made/x");
    assert_eq!(sh(&here, "user", "ls /h/made"), "x\n");
    let made = host.join("made").display().to_string();
    let now = mounts();
    assert_eq!(now.iter().filter(|path| **path == made).count(), 1, "{now:?}");
    // Nothing else of the container's came out, neither what the runtime mounted nor what it did elsewhere itself.
    let out = |path: &&String| path.contains("/rootfs/") || path.ends_with("/in");
    assert_eq!(now.iter().find(out), None);
    assert!(!here.podinit(&["exec", "user", "--", "sh", "-c", "busybox umount /h/made"]).status.success());

    // What was mounted stays for the neighbours until its maker unmounts it.
    assert_eq!(sh(&here, "user", "ls /h/made"), "x\n");
    sh(&here, "maker", "busybox umount /h/made");
    assert_eq!(sh(&here, "user", "ls /h/made"), "");
    assert!(!mounts().contains(&made));
    for name in ["maker", "user"] {
        fs::remove_file(here.home.join(format!("m/{name}.yaml"))).unwrap();
        until("no pod", || here.pod(name).is_none().then_some(()));
    }
    let left: Vec<_> =
        mounts().into_iter().filter(|path| path.starts_with(&host.display().to_string())).collect();
    assert_eq!(left, Vec::<String>::new());
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

/// As a node exporter looks at the machine: what comes and goes is seen, and nothing is held by being seen.
#[test]
fn the_whole_machine_is_watched_and_not_held() {
    let mut here = Instance::new();
    let watch = pod(
        "watch",
        "",
        &["name: root, hostPath: {path: /}"],
        &["name: root, mountPath: /host, readOnly: true, mountPropagation: HostToContainer"],
    );
    here.write("watch.yaml", &watch);
    here.start();
    here.running("watch");
    let other = pod(
        "other",
        "",
        &["name: m, emptyDir: {medium: Memory}"],
        &["name: m, mountPath: /m, subPath: below"],
    );
    let seen = || {
        let table = here.say(&["exec", "watch", "--", "cat", "/proc/mounts"]);
        let home = format!("/host{}/", here.home.display());
        let paths = table.lines().filter_map(|line| line.split(' ').nth(1));
        paths.filter(|path| path.starts_with(&home)).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = seen();
    for _ in 0..2 {
        here.write("other.yaml", &other);
        here.running("other");
        sh(&here, "other", "touch /m/x");
        let now = seen();
        assert!(now.iter().any(|path| path.ends_with("~empty-dir/m")), "{now:?}");
        // The view of another container's root is seen, what is mounted in it is not.
        let inner = now.iter().find(|path| path.contains("/rootfs/") && !before.contains(path));
        assert_eq!(inner, None);
        fs::remove_file(here.home.join("m/other.yaml")).unwrap();
        until("no other pod", || here.pod("other").is_none().then_some(()));
        // Layers stay, here as everywhere.
        let left: Vec<_> =
            seen().into_iter().filter(|path| !before.contains(path) && !path.contains("/layers/")).collect();
        assert_eq!(left, Vec::<String>::new());
    }
    // One whose mounts do travel, started while all around it is shared: its root is its own all the same.
    let host = here.home.join("host");
    fs::create_dir_all(&host).unwrap();
    let volume = format!("name: h, hostPath: {{path: {}}}", host.display());
    let maker = pod("maker", "", &[&volume], &["name: h, mountPath: /h, mountPropagation: Bidirectional"]);
    let privileged = "    securityContext: {privileged: true}\n    volumeMounts:";
    here.write("maker.yaml", &maker.replace("    volumeMounts:", privileged));
    here.running("maker");
    sh(&here, "maker", "busybox mount -t tmpfs tmpfs /tmp");
    let table = fs::read_to_string(format!("/proc/{}/mounts", here.pid())).unwrap();
    assert_eq!(table.lines().find(|line| line.contains("/rootfs/")), None);
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}
