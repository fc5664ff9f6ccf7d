//! Pods with a user namespace of their own (hostUsers: false), on this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::instance::{IMAGE, Instance, manifest, until};
use super::security::{WAITING, counted};
use super::{FOREVER, status, uid};

fn exec(here: &Instance, pod: &str, container: &str, script: &str) -> String {
    here.say(&["exec", pod, "-c", container, "--", "sh", "-c", script])
}

/// A pod with hostUsers: false, its lines of the spec, and those of its one container.
fn pod(name: &str, spec: &str, script: &str, container: &str) -> String {
    manifest(name, &format!("  hostUsers: false\n{spec}"), &[("c", script)]) + container
}

/// The first of the machine's ids that a pod has.
fn first(here: &Instance, pod: &str, container: &str) -> u32 {
    let map = exec(here, pod, container, "cat /proc/self/uid_map");
    let numbers: Vec<u32> = map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!((numbers[0], numbers[2], numbers.len()), (0, 65_536, 3), "{map}");
    assert_eq!(exec(here, pod, container, "cat /proc/self/gid_map"), map);
    assert!(numbers[1] >= 65_536 && numbers[1].is_multiple_of(65_536), "{map}");
    numbers[1]
}

/// Owner, mode and name of each path, as the container sees them.
fn owners(here: &Instance, pod: &str, paths: &str) -> String {
    exec(here, pod, "c", &format!("busybox stat -c '%u:%g %n' {paths}"))
}

const VOLUMES: &str = "  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: cm, configMap: {name: app}}
  - {name: all, projected: {sources: [{configMap: {name: app}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}
  - {name: host, hostPath: {path: HOST}}
  - {name: box, image: {reference: IMAGE, pullPolicy: Never}}
";
const MOUNTS: &str = "    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: cm, mountPath: /cm}
    - {name: all, mountPath: /all}
    - {name: host, mountPath: /host}
    - {name: host, mountPath: /made, subPath: sub/made}
    - {name: memory, mountPath: /part, subPath: made}
    - {name: box, mountPath: /box}
    - {name: cm, mountPath: /one, subPath: a}
";

#[test]
fn a_pod_has_ids_of_its_own_and_sees_all_files_as_its_own() {
    let mut here = Instance::new();
    // A way that only the machine's root may go, and files of two users at its end.
    let host = here.home.join("closed/host");
    fs::create_dir_all(&host).expect("make");
    fs::write(host.join("roots"), "of root\n").expect("write");
    fs::write(host.join("webs"), "of 33\n").expect("write");
    chown(host.join("webs"), Some(33), Some(34)).expect("chown");
    fs::set_permissions(here.home.join("closed"), Permissions::from_mode(0o700)).expect("chmod");
    here.write("app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {a: one}\n");
    let volumes = VOLUMES.replace("HOST", &host.display().to_string()).replace("IMAGE", IMAGE);
    let script =
        format!("cat /proc/self/status; echo again >/dev/stdout; echo bye >/dev/termination-log; {FOREVER}");
    let spec = format!("  shareProcessNamespace: false\n{volumes}");
    here.write("own.yaml", &pod("own", &spec, &script, MOUNTS));
    let context =
        "  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000]}\n";
    let spec = format!("{context}{volumes}");
    let script =
        "cat /proc/self/status; for d in disk memory; do echo x >/$d/mine; done; echo again >/dev/stdout; ";
    here.write("plain.yaml", &pod("plain", &spec, &format!("{script}{FOREVER}"), MOUNTS));
    here.start();
    let running = here.running("own");
    here.running("plain");

    let (own, plain) = (first(&here, "own", "c"), first(&here, "plain", "c"));
    assert_ne!(own, plain, "no two pods have the same");
    for kind in ["user", "net", "ipc", "uts", "mnt", "pid", "cgroup"] {
        let link = |pod: &str| exec(&here, pod, "c", &format!("busybox readlink /proc/self/ns/{kind}"));
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("ours");
        let (a, b) = (link("own"), link("plain"));
        assert!(a != b && ![a, b].contains(&format!("{}\n", host.display())), "{kind}");
    }

    // The first process and its execs are root there, with the usual capabilities, and nobody here.
    let logged =
        until("its status", || Some(here.tells(&["logs", "own"])).filter(|text| text.contains("again\n")));
    for text in [&logged, &exec(&here, "own", "c", "cat /proc/self/status")] {
        for line in ["Uid:\t0\t0\t0\t0", "Gid:\t0\t0\t0\t0", "Seccomp:\t2"] {
            assert!(text.contains(&format!("{line}\n")), "{line:?} in\n{text}");
        }
        let capabilities = text.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
        assert!(
            u64::from_str_radix(capabilities, 16).expect("a mask") & 1 == 1,
            "CAP_CHOWN of {capabilities}"
        );
    }
    let init = fs::read_dir("/proc").expect("proc").flatten().find_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.contains(&format!("Uid:\t{own}\t{own}\t{own}\t{own}\n")).then_some(())
    });
    assert!(init.is_some(), "no process of uid {own} on this machine");

    // All that is there belongs to whom it should.
    let seen = owners(
        &here,
        "own",
        "/ /bin/busybox /tmp /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log /dev/shm /disk /memory /cm /cm/..data/a /all/name /host /host/roots /host/webs /made /part /box/bin/busybox /one /proc/self/status",
    );
    for line in seen.lines() {
        let wanted = if line.ends_with("/webs") { "33:34 " } else { "0:0 " };
        assert!(line.starts_with(wanted), "{line} in\n{seen}");
    }
    assert_eq!(exec(&here, "own", "c", "cat /host/webs /cm/a /all/name"), "of 33\noneown-host");
    // And root may do there what root may, to the very files.
    exec(
        &here,
        "own",
        "c",
        "echo new >/host/new; busybox chown 7:8 /host/new; echo x >/disk/f; busybox chown 5 /disk/f; echo x >/memory/f; echo x >/made/f; echo x >/part/f; echo x >/new; echo x >/dev/shm/f",
    );
    let about =
        |path: &str| fs::metadata(host.join(path)).map(|about| (about.uid(), about.gid())).expect(path);
    assert_eq!((about("new"), about("sub/made/f"), about("sub/made")), ((7, 8), (0, 0), (0, 0)));
    let volume = |pod: &Value, name: &str| {
        let volumes = here.home.join("root/pods").join(uid(pod)).join("volumes/kubernetes.io~empty-dir");
        volumes.join(name)
    };
    assert_eq!(fs::metadata(volume(&running, "disk/f")).expect("on disk").uid(), 5);
    // What the machine keeps for itself is nobody's there, and root there is nobody here.
    for (script, expected) in [
        ("echo 1 >/proc/sys/vm/drop_caches", "denied|Read-only"),
        ("busybox mknod /dev/mem2 c 1 1", "not permitted"),
        ("busybox mount -t ext4 /dev/vda /tmp", "not permitted|denied|No such"),
        ("echo x >/box/x", "Read-only"),
        ("echo x >/cm/x", "Read-only"),
    ] {
        let said = exec(&here, "own", "c", &format!("({script}) 2>&1; true"));
        assert!(expected.split('|').any(|word| said.contains(word)), "{script}: {said}");
    }
    let sysctls = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; busybox hostname; busybox ip -o link show lo | busybox grep -c UP";
    assert_eq!(exec(&here, "own", "c", sysctls), "0\nown-host\n1\n");

    // runAsUser, fsGroup and supplementalGroups.
    let logged =
        until("its status", || Some(here.tells(&["logs", "plain"])).filter(|text| text.contains("again\n")));
    for text in [&logged, &exec(&here, "plain", "c", "cat /proc/self/status")] {
        for line in [
            "Uid:\t1000\t1000\t1000\t1000",
            "Gid:\t3000\t3000\t3000\t3000",
            "Groups:\t2000 3000 4000 ",
            "CapEff:\t0000000000000000",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line:?} in\n{text}");
        }
    }
    let seen = owners(&here, "plain", "/disk /memory /cm /cm/..data/a /disk/mine /memory/mine");
    assert_eq!(
        seen,
        "0:2000 /disk\n0:2000 /memory\n0:2000 /cm\n0:2000 /cm/..data/a\n1000:2000 /disk/mine\n1000:2000 /memory/mine\n"
    );

    // PID 1's next life knows whose is what: another container in the same namespaces, and a volume written anew.
    here.signal(Signal::SIGSEGV);
    here.write("app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {a: two}\n");
    until("the new text", || {
        let said = here.podinit(&["exec", "own", "-c", "c", "--", "cat", "/cm/a"]);
        (said.stdout == b"two").then_some(())
    });
    assert_eq!(
        owners(&here, "own", "/cm/..data/a /cm/..data /cm/..data/"),
        "0:0 /cm/..data/a\n0:0 /cm/..data\n0:0 /cm/..data/\n"
    );
    assert_eq!(first(&here, "own", "c"), own);
    here.write("third.yaml", &pod("third", "", FOREVER, ""));
    here.running("third");
    let third = first(&here, "third", "c");
    assert!(third != own && third != plain, "{third}");

    // An edit makes a new pod: the old one's ids are free once it is gone.
    fs::remove_file(here.home.join("m/own.yaml")).expect("remove");
    until("its end", || here.pod("own").is_none().then_some(()));
    assert_eq!(fs::metadata(host.join("new")).expect("the machine's own").uid(), 7);
    here.write("fourth.yaml", &pod("fourth", "", FOREVER, ""));
    here.running("fourth");
    assert_eq!(first(&here, "fourth", "c"), own);
    here.signal(Signal::SIGTERM);
    assert!(here.ended().success());
    here.assert_nothing_left();
}

#[test]
fn a_shared_pid_namespace_hooks_probes_and_restarts_know_of_the_users() {
    let mut here = Instance::new();
    let pair = [("one", WAITING), ("two", WAITING)];
    here.write(
        "shared.yaml",
        &manifest("shared", "  hostUsers: false\n  shareProcessNamespace: true\n", &pair),
    );
    let probes = "    lifecycle: {postStart: {exec: {command: [sh, -c, 'busybox whoami; id -u >/tmp/hook']}}}
    readinessProbe: {exec: {command: [sh, -c, 'test -O /tmp/hook && test $(cat /tmp/hook) = 0']}, periodSeconds: 1, timeoutSeconds: 60}
    startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 1000, timeoutSeconds: 60}
    livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, timeoutSeconds: 60}
";
    let script = "busybox httpd -p 80; [ -e /tmp/second ] || { touch /tmp/second; }; trap 'exit 0' TERM; while true; do sleep 0.1; done";
    here.write("probed.yaml", &pod("probed", "", script, probes));
    let open = "    securityContext: {privileged: true}\n    tty: false\n";
    here.write("open.yaml", &pod("open", "", FOREVER, open));
    let unmasked = "    securityContext: {procMount: Unmasked}\n";
    here.write("unmasked.yaml", &pod("unmasked", "", FOREVER, unmasked));
    let sysctls = "  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}, {name: net.ipv4.ip_local_port_range, value: '2000 3000'}]}\n";
    here.write("sysctl.yaml", &pod("sysctl", sysctls, FOREVER, ""));
    here.start();
    here.running("shared");
    counted(&here, "shared", "one", "2 2\n");
    let pause =
        exec(&here, "shared", "one", "busybox grep -E '^(Uid|CapPrm|Seccomp|NoNewPrivs):' /proc/1/status");
    assert!(pause.starts_with("Uid:\t65535\t") && pause.contains("CapPrm:\t0000000000000000\n"), "{pause}");
    assert!(pause.contains("Seccomp:\t2\n") && pause.contains("NoNewPrivs:\t1\n"), "{pause}");
    // Its death takes both, and both come again in the same user namespace.
    let before = first(&here, "shared", "one");
    let held = here.home.join("run/pods").join(uid(&here.pod("shared").expect("the pod"))).join("pause");
    let pid: i32 = fs::read_to_string(&held).expect("its pid").parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    here.pod_that("shared", |pod| {
        let states = pod["status"]["containerStatuses"].as_array().expect("states");
        states.iter().all(|each| each["restartCount"] == 1 && each["state"]["running"].is_object())
    });
    assert_eq!(first(&here, "shared", "two"), before);
    counted(&here, "shared", "one", "2 2\n");

    let pod = here.pod_that("probed", |pod| status(pod)["ready"] == true);
    assert_eq!(status(&pod)["restartCount"], 0, "the network probe finds its port");
    // The helper that asked has CAP_SYS_ADMIN and no other capability, nor could it get one.
    let log = here.log();
    let number = log.lines().find_map(|line| line.split_once("probe: started, pid ")).expect("the helper").1;
    let about = fs::read_to_string(format!("/proc/{number}/status")).expect("its status");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert!(about.contains(&format!("{set}:\t0000000000200000\n")), "{set} in\n{about}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert!(about.contains(&format!("{set}:\t0000000000000000\n")), "{set} in\n{about}");
    }
    // Privileged, but in its own users: all capabilities there, and none of the machine's.
    here.running("open");
    let all = exec(
        &here,
        "open",
        "c",
        "busybox mkdir /m; busybox mount -t tmpfs none /m && echo mounted; busybox mount -o remount,rw /proc/sys 2>/dev/null; (echo 1 >/proc/sys/vm/drop_caches) 2>/dev/null && echo open; true",
    );
    assert_eq!(all, "mounted\n");
    here.running("unmasked");
    assert_eq!(exec(&here, "unmasked", "c", "busybox grep -c ' /proc/' /proc/self/mountinfo; true"), "0\n");
    here.running("sysctl");
    let seen = exec(
        &here,
        "sysctl",
        "c",
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range",
    );
    assert_eq!(seen, "1\n2000\t3000\n");
}

#[test]
fn what_cannot_be_with_users_of_its_own_is_told() {
    let mut here = Instance::new();
    let high = "    securityContext: {runAsUser: 65536}\n";
    here.write("high.yaml", &pod("high", "", FOREVER, high));
    here.write("group.yaml", &pod("group", "  securityContext: {fsGroup: 70000}\n", FOREVER, ""));
    // proc has no idmapped mounts, on any kernel.
    let volumes = "  volumes: [{name: v, hostPath: {path: /proc/sys}}]\n";
    here.write("proc.yaml", &pod("proc", volumes, FOREVER, "    volumeMounts: [{name: v, mountPath: /v}]\n"));
    here.write("good.yaml", &pod("good", "", FOREVER, ""));
    here.start();
    let message = |name: &str, reason: &str| {
        let waiting = |pod: &Value| status(pod)["state"]["waiting"].clone();
        let pod = here.pod_that(name, |pod| waiting(pod)["reason"] == reason);
        waiting(&pod)["message"].as_str().unwrap_or_default().to_owned()
    };
    let said = message("high", "CreateContainerError");
    assert!(said.contains("user 65536 is not among the pod's 65536 ids (hostUsers: false)"), "{said}");
    let said = message("proc", "CreateContainerConfigError");
    assert!(
        said.contains("cannot show /proc/sys with the pod's own ids") && said.contains("MOUNT_ATTR_IDMAP"),
        "{said}"
    );
    let log = until("the group's refusal", || {
        Some(here.log()).filter(|log| log.contains("fsGroup 70000 is not among the pod's 65536 groups"))
    });
    assert!(log.contains("default/group-host: cannot set up: hostUsers: false: fsGroup 70000"), "{log}");
    here.running("good");
}
