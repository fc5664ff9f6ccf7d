//! Variables, names and sources as a container and its operator see them.

use std::fs;
use std::process::Command;

use super::instance::{Instance, PODINIT, manifest, until};
use nix::sys::signal::Signal;

const CONFIGS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: blue, SIZE: '3'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: open sesame}
---
";

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: env}
spec:
  restartPolicy: Never
  hostname: left
  subdomain: sub
  setHostnameAsFQDN: true
  hostAliases: [{ip: 10.1.2.3, hostnames: [one.example, two.example]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [10.9.9.9], searches: [my.domain], options: [{name: ndots, value: '3'}, {name: edns0}]}
  initContainers:
  - name: write
    image: podinit.dev/box:1
    command: [sh, -c, \"echo \\\"CONFIG_1='value1'\\\" >/data/config.env; echo \\\"CONFIG_2='two words'\\\" >>/data/config.env\"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: c
    image: podinit.dev/box:1
    command: [sh, -c, 'echo colour=$S_COLOUR size=$S_SIZE pass=$PASS c1=$CONFIG_1 c2=$CONFIG_2 none=$NONE all=$(ALL); cat /etc/hostname /etc/hosts /etc/resolv.conf']
    envFrom: [{prefix: S_, configMapRef: {name: settings}}, {secretRef: {name: nobody, optional: true}}]
    env:
    - {name: PASS, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: NONE, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
    - {name: CONFIG_1, valueFrom: {fileKeyRef: {volumeName: data, path: config.env, key: CONFIG_1}}}
    - {name: CONFIG_2, valueFrom: {fileKeyRef: {volumeName: data, path: config.env, key: CONFIG_2}}}
    - {name: ALL, value: $(S_COLOUR)-$(PASS)-$(CONFIG_2)}
  volumes: [{name: data, emptyDir: {}}]
";

#[test]
fn variables_and_names_are_as_the_manifest_says() {
    let mut here = Instance::new();
    here.write("env.yaml", &format!("{CONFIGS}{POD}"));
    let missing = "    env: [{name: A, valueFrom: {configMapKeyRef: {name: nobody, key: k}}}]\n";
    here.write("bad.yaml", &format!("{}{missing}", manifest("bad", "", &[("c", "true")])));
    here.start();
    here.pod_that("env", |pod| pod["status"]["phase"] == "Succeeded");
    let said = until("its output", || {
        Some(here.tells(&["logs", "env", "-c", "c"])).filter(|said| said.contains("options"))
    });
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "colour=blue size=3 pass=open sesame c1=value1 c2=two words none= all=blue-open sesame-two words",
            "left.sub.default.svc."
        ]
    );
    assert!(
        said.contains("\n\n# Entries added by HostAliases.\n10.1.2.3\tone.example\ttwo.example\n"),
        "{said}"
    );
    assert!(said.ends_with("search my.domain\nnameserver 10.9.9.9\noptions ndots:3 edns0\n"), "{said}");
    let bad = here.pod_that("bad", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].is_string()
    });
    let waiting = &bad["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "CreateContainerConfigError", "{waiting}");
    assert!(
        waiting["message"].as_str().is_some_and(|why| why.contains("configmap \"nobody\" not found")),
        "{waiting}"
    );
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

#[test]
fn one_file_is_a_source_too() {
    let here = Instance::new();
    let text = |word: &str| {
        manifest(
            "single",
            "  terminationGracePeriodSeconds: 1\n",
            &[("c", &format!("echo {word}; trap 'exit 0' TERM; while true; do sleep 0.1; done"))],
        )
    };
    here.write("only.yaml", &text("first"));
    here.write("other.yaml", &manifest("other", "", &[("c", "true")]));
    let path = here.home.join("m/only.yaml");
    let flags = here.flags().into_iter().map(|flag| match flag.strip_prefix("--pod-manifest-path=") {
        Some(_) => format!("--pod-manifest-path={}", path.display()),
        None => flag,
    });
    let out = fs::File::create(here.home.join("out")).unwrap();
    let mut podinit = Command::new(PODINIT)
        .arg("run")
        .args(flags)
        .arg("--file-check-frequency=1h")
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    until("podinit answers", || here.podinit(&["get", "pods"]).status.success().then_some(()));
    until("the first", || (here.tells(&["logs", "single"]) == "first\n").then_some(()));
    assert!(here.pod("other").is_none());
    // By a rename, and in place: inotify tells of both.
    here.write("only.yaml", &text("second"));
    until("the second", || (here.tells(&["logs", "single"]) == "second\n").then_some(()));
    fs::write(&path, text("third")).unwrap();
    until("the third", || (here.tells(&["logs", "single"]) == "third\n").then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(podinit.id() as i32), Signal::SIGTERM).unwrap();
    assert!(podinit.wait().unwrap().success(), "{}", here.log());
    here.assert_nothing_left();
}
