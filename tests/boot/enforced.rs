//! What only a kernel enforces: an AppArmor profile that somebody loads, and huge pages. Steps of the boot in security.rs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::ByteString;

use crate::pods::{controlled, ctl, inside, listed, named, one, phase, pods, rows, status};
use crate::qemu::{Board, Setup};

/// Anything goes but one file.
const PROFILE: &str = "abi <abi/3.0>,
profile podinit-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  unix,
  deny /tmp/secret rw,
}
";

const PAGES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pages}
spec:
  containers:
  - name: small
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    resources: {limits: {memory: 32Mi, hugepages-2Mi: 2Mi}}
    volumeMounts: [{name: pages, mountPath: /pages}]
  - name: large
    image: podinit.dev/demo:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    resources: {limits: {memory: 32Mi, hugepages-2Mi: 6Mi}}
    volumeMounts: [{name: pages, mountPath: /pages}]
  volumes: [{name: pages, emptyDir: {medium: HugePages}}]
---
apiVersion: v1
kind: Pod
metadata: {name: toomany}
spec:
  containers:
  - {name: main, image: 'podinit.dev/demo:1', resources: {limits: {memory: 32Mi, hugepages-2Mi: 64Mi}}}
";

/// Compiled by Debian's parser for kernels as old as its stable one, and not loaded here.
fn compiled() -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("apparmor-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the test");
    fs::write(folder.join("profile"), PROFILE).expect("a profile");
    let made = Command::new("/sbin/apparmor_parser")
        .args(["-Q", "-K", "-M", "/etc/apparmor.d/abi/3.0", "--base", "/etc/apparmor.d", "-o"])
        .args([folder.join("compiled"), folder.join("profile")])
        .output()
        .expect("apparmor_parser (package apparmor)");
    assert!(made.status.success(), "{made:?}");
    let bytes = fs::read(folder.join("compiled")).expect("a compiled profile");
    let _ = fs::remove_dir_all(&folder);
    bytes
}

/// A board with 16 MiB of huge pages, these pods, and one that loads the profile when its manifest comes.
pub fn board() -> Setup {
    let own = |kind: &str| format!("    securityContext: {{appArmorProfile: {kind}}}\n    command:");
    let script = "echo x >/tmp/open && busybox touch /tmp/ready; exec sleep 1000";
    let armoured = one("armoured", "Always", script)
        .replace("    command:", &own("{type: Localhost, localhostProfile: podinit-test}"));
    let bare = one("bare", "Always", script).replace("    command:", &own("{type: Unconfined}"));
    let bytes = serde_json::to_string(&ByteString(compiled())).expect("base64");
    // The kernel takes a policy by one write.
    let loader = one(
        "loader",
        "Never",
        "busybox dd if=/policy/compiled of=/host/sys/kernel/security/apparmor/.load bs=1M",
    )
    .replace(
        "    command:",
        "    securityContext: {privileged: true}\n    volumeMounts: [{name: policy, mountPath: /policy}, \
         {name: host, mountPath: /host}]\n    command:",
    )
    .replace(
        "spec:\n",
        "spec:\n  volumes: [{name: policy, configMap: {name: policy}}, {name: host, hostPath: {path: /}}]\n",
    );
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: policy}}\nbinaryData: {{compiled: {bytes}}}\n---\n"
    );
    controlled()
        .append("hugepages=8")
        .manifest("armoured.yaml", &(armoured + &bare))
        .manifest(".loader", &(map + &loader))
        .manifest("pages.yaml", PAGES)
}

pub fn all(board: &mut Board) {
    rows!(board;
        a_profile_that_is_not_loaded_is_refused,
        a_profile_that_is_loaded_is_enforced,
        huge_pages_are_bounded_by_container_and_by_pod,
    );
}

fn a_profile_that_is_not_loaded_is_refused(board: &mut Board) {
    let all = pods(board, |pods| listed(pods, "armoured"));
    let told = named(&all, "armoured").status.as_ref().expect("a status");
    assert_eq!((told.phase.as_deref(), told.reason.as_deref()), (Some("Pending"), Some("AppArmor")));
    let words =
        "Pod was rejected: Cannot enforce AppArmor: profile \"podinit-test\" is not loaded (container: main)";
    assert_eq!(told.message.as_deref(), Some(words));
}

/// No manifest changes: the node is looked at again with each listing.
fn a_profile_that_is_loaded_is_enforced(board: &mut Board) {
    assert_eq!(ctl(board, "cd /host/etc/kubernetes/manifests; mv .loader loader.yaml"), "");
    pods(board, |pods| listed(pods, "loader") && phase(pods, "loader") == "Succeeded");
    pods(board, |pods| phase(pods, "armoured") == "Running" && status(pods, "armoured", "main").ready);
    let first = "cat /proc/1/attr/apparmor/current";
    // A command of the operator's is confined as the container's first process is.
    let own = "until test -e /tmp/ready; do sleep 1; done; cat /proc/self/attr/apparmor/current; \
               { echo x >/tmp/secret && echo written; } 2>&1; ls /tmp/open";
    let confined = "podinit-test (enforce)";
    assert_eq!(inside(board, "armoured", first), confined);
    let told = inside(board, "armoured", own);
    assert!(told.starts_with(confined) && told.ends_with("/tmp/open"), "{told}");
    assert!(told.contains("ermission denied") && !told.contains("written"), "{told}");
    assert_eq!(inside(board, "bare", first), "unconfined");
    let told = inside(board, "bare", own);
    assert!(told.starts_with("unconfined") && told.contains("written"), "{told}");
}

fn huge_pages_are_bounded_by_container_and_by_pod(board: &mut Board) {
    let all =
        pods(board, |pods| ["small", "large"].iter().all(|container| status(pods, "pages", container).ready));
    let told = named(&all, "toomany").status.as_ref().expect("a status");
    assert_eq!(told.reason.as_deref(), Some("OutOfhugepages-2Mi"), "{told:?}");

    let uid = named(&all, "pages").metadata.uid.clone().expect("a uid");
    let group = format!("/host/sys/fs/cgroup/kubepods/burstable/pod{uid}");
    let id = |container: &str| {
        let id = status(&all, "pages", container).container_id.clone().expect("an id");
        id.rsplit('/').next().expect("an id").to_owned()
    };
    let limit = |board: &mut Board, path: &str| ctl(board, &format!("cat {group}/{path}hugetlb.2MB.max"));
    let limits = [String::new(), id("small") + "/", id("large") + "/"].map(|path| limit(board, &path));
    assert_eq!(limits, ["8388608", "2097152", "6291456"]);

    let mount = inside(board, "pages -c small", "busybox grep ' /pages ' /proc/mounts");
    assert!(mount.contains("hugetlbfs") && mount.contains("pagesize=2M,size=8388608"), "{mount}");
    // By the container's group, though the volume has room; and then by the volume itself.
    let take =
        |name: &str, mib: u32| format!("{{ busybox fallocate -l {mib}M /pages/{name} && echo taken; }} 2>&1");
    assert!(inside(board, "pages -c small", &take("a", 4)).contains("No space left"));
    assert_eq!(inside(board, "pages -c small", "busybox rm -f /pages/a"), "");
    assert_eq!(inside(board, "pages -c small", &take("b", 2)), "taken");
    assert!(inside(board, "pages -c large", &take("c", 8)).contains("No space left"));
    assert_eq!(inside(board, "pages -c large", "busybox rm -f /pages/c"), "");
    assert_eq!(inside(board, "pages -c large", &take("d", 6)), "taken");
    assert!(inside(board, "pages -c large", &take("e", 2)).contains("No space left"));
    assert_eq!(ctl(board, &format!("cat {group}/hugetlb.2MB.current")), "8388608");
}
