//! Everything is killed at random moments while manifests come, change and go: PID 1 with and without a chance to
//! re-execute itself, its helpers, start helpers half-way, containers. At the end nothing is left over, and before it
//! what is wanted runs.
//!
//! `PODINIT_CHAOS=SEED` repeats a run, `PODINIT_CHAOS_ROUNDS=N` makes it longer.
#![allow(dead_code, reason = "of the vocabulary of tests/host.rs some words are not needed here")]

#[path = "host/instance.rs"]
mod instance;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use instance::{Instance, manifest, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many blows fall.
const ROUNDS: u32 = 120;

/// The pods that come and go, by number: what they are made of is what could be left over.
fn pod(number: u32, edition: u32) -> String {
    let forever = format!("echo {edition}; trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let name = format!("p{number}");
    let brief = "  terminationGracePeriodSeconds: 1\n";
    let mounted =
        "    volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m, subPath: below/it}]\n";
    let volumes = format!(
        "{brief}  volumes: [{{name: v, emptyDir: {{}}}}, {{name: m, emptyDir: {{medium: Memory}}}}]\n"
    );
    match number {
        0 => manifest(&name, brief, &[("c", &forever)]),
        1 => manifest(&name, &volumes, &[("a", &forever), ("b", "sleep 0.2; exit 1")]) + mounted,
        2 => manifest(&name, brief, &[("deaf", "trap '' TERM; while true; do sleep 0.1; done")]),
        3 => manifest(
            &name,
            &format!("{brief}  hostNetwork: true\n"),
            &[("a", &forever), ("b", &forever), ("c", &forever)],
        ),
        4 => {
            let init = "  initContainers:\n  - {name: i, image: podinit.dev/box:1, command: [sh, -c, 'sleep 0.3']}\n";
            // The edition is its ConfigMap's alone: such an edit replaces no pod.
            let forever = "trap 'exit 0' TERM; while true; do sleep 0.1; done";
            let volumes = "  securityContext: {fsGroup: 2000}\n  volumes:\n  - {name: cm, configMap: {name: p4}}\n  \
                - {name: image, image: {reference: \"podinit.dev/box:1\"}}\n  - {name: own, emptyDir: {}}\n  \
                - {name: host, hostPath: {path: /tmp}}\n";
            let mounts = "    volumeMounts:\n    - {name: cm, mountPath: /cm}\n    - {name: image, mountPath: /image, subPath: bin}\n    \
                - {name: own, mountPath: /own}\n    - {name: host, mountPath: /host, mountPropagation: HostToContainer}\n";
            let config = format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: p4}}\ndata: {{edition: \"{edition}\"}}\n"
            );
            manifest(&name, &format!("{brief}{volumes}{init}"), &[("c", forever)]) + mounts + &config
        }
        _ => manifest(
            &name,
            &format!("{brief}  restartPolicy: Never\n"),
            &[("c", &format!("echo {edition}; seq 1 3000; exit 3"))],
        ),
    }
}

#[test]
fn whatever_is_killed_nothing_is_left_over() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = given("PODINIT_CHAOS").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let rounds =
        given("PODINIT_CHAOS_ROUNDS").and_then(|rounds| u32::try_from(rounds).ok()).unwrap_or(ROUNDS);
    println!("PODINIT_CHAOS={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut here = Instance::new();
    let home = here.home.display().to_string();
    here.start();
    for round in 0..rounds {
        match random.u32(0..16) {
            0..6 => {
                let number = random.u32(0..6);
                here.write(&format!("p{number}.yaml"), &pod(number, round));
            }
            6 => {
                let _ = fs::remove_file(here.home.join(format!("m/p{}.yaml", random.u32(0..6))));
            }
            7..11 => {
                // A container's process, a logger, a start helper: whoever has our mounts, podinit itself not.
                let all: Vec<_> = processes(&home).into_iter().filter(|pid| *pid != here.pid()).collect();
                if let Some(pid) = random.choice(&all) {
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
            }
            11 => drop(here.podinit(&["fault", "killStarts"])),
            12 => {
                here.signal(*random.choice(&[Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS]).expect("one"))
            }
            13 => drop(here.podinit(&["fault", "panic"])),
            14 => {
                here.signal(Signal::SIGKILL);
                here.ended();
                here.start();
            }
            _ => drop(here.podinit(&["exec", &format!("p{}", random.u32(0..6)), "--", "ls", "/"])),
        }
        sleep(Duration::from_millis(random.u64(0..300)));
    }
    // No more blows: what is wanted runs, and only that.
    for number in 0..6 {
        here.write(&format!("p{number}.yaml"), &pod(number, rounds));
    }
    for (name, wanted) in [
        ("p0", "Running"),
        ("p1", "Running"),
        ("p2", "Running"),
        ("p3", "Running"),
        ("p4", "Running"),
        ("p5", "Failed"),
    ] {
        let said = if matches!(name, "p0" | "p5") { Some(format!("{rounds}\n")) } else { None };
        here.pod_that(name, |pod| pod["status"]["phase"] == wanted);
        if let Some(said) = said {
            until("the last edition's output", || {
                // An error while the last edition is being made: the one before ran when it was looked at.
                here.podinit(&["logs", name, "-c", "c"]).stdout.starts_with(said.as_bytes()).then_some(())
            });
        }
    }
    until("the last edition's ConfigMap", || {
        let said = here.podinit(&["exec", "p4", "-c", "c", "--", "cat", "/cm/edition"]).stdout;
        (said == rounds.to_string().into_bytes()).then_some(())
    });
    // Gone one by one, under a podinit that lives.
    for number in 0..6 {
        fs::remove_file(here.home.join(format!("m/p{number}.yaml"))).expect("a manifest");
    }
    until("no pod", || here.say(&["get", "pods", "-o", "name"]).trim().is_empty().then_some(()));
    for folder in ["run/pods", "run/state", "run/logs", "run/containers", "root/pods", "logs"] {
        let path = here.home.join(folder);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !inside(&path).is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        assert_eq!(inside(&path), [""; 0], "left over in {folder}");
    }
    let strangers = || processes(&home).into_iter().filter(|pid| *pid != here.pid()).collect::<Vec<_>>();
    // The logger and the probe helper stay, as podinit's own.
    until("no container's process", || strangers().iter().all(|pid| own(*pid)).then_some(()));
    here.signal(Signal::SIGTERM);
    assert_eq!(here.ended().code(), Some(0), "{}", here.log());
    here.assert_nothing_left();
}

/// What is in a directory, with what is below.
fn inside(path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        all.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(inside(&entry.path()));
        }
    }
    all
}

/// Whether it is a long-lived helper of podinit's.
fn own(pid: i32) -> bool {
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split('\0').nth(1).is_none_or(|word| matches!(word, "__logger" | "__probe"))
}
