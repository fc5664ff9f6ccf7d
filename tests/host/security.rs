//! Security contexts from the manifest to the kernel, by `podinit run` on this machine.

use std::fs;

use serde_json::Value;

use super::instance::{IMAGE, Instance, manifest, until};
use super::{FOREVER, status};

fn exec(here: &Instance, pod: &str, container: &str, script: &str) -> String {
    here.say(&["exec", pod, "-c", container, "--", "sh", "-c", script])
}

/// Waits with a single fork: of a loop of sleeps there may be two at any moment, one of them not yet a sleep.
pub const WAITING: &str = "trap 'exit 0' TERM; sleep 100000 & while true; do wait; done";

/// Waits until the container sees so many shells that wait, and as many of their sleeps.
pub fn counted(here: &Instance, pod: &str, container: &str, expected: &str) {
    let script = "n=0; m=0; for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline)\" in \
                  *'while t'[r]ue*) n=$((n+1));; 'sleep 100'[0]*) m=$((m+1));; esac; done; echo $n $m";
    until(&format!("{expected:?} in {pod}"), || {
        (here.tells(&["exec", pod, "-c", container, "--", "sh", "-c", script]) == expected).then_some(())
    });
}

#[test]
fn a_security_context_reaches_the_process_and_its_execs() {
    let mut here = Instance::new();
    let context = "  hostNetwork: false
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000]}
";
    let text = manifest("strict", context, &[("c", &format!("grep -h . /proc/self/status; {FOREVER}"))]);
    let container = format!(
        "    image: {IMAGE}\n    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}\n"
    );
    here.write(
        "strict.yaml",
        &text.replace(&format!("    image: {IMAGE}\n"), &container).replace("grep -h .", "cat"),
    );
    let sysctls = "  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}\n";
    here.write("sysctl.yaml", &manifest("sysctl", sysctls, &[("c", FOREVER)]));
    here.start();
    here.running("strict");
    let first = until("its status", || {
        Some(here.tells(&["logs", "strict"])).filter(|text| text.contains("Speculation"))
    });
    let later = exec(&here, "strict", "c", "cat /proc/self/status; touch /x || echo read-only");
    for text in [&first, &later] {
        for line in [
            "Uid:\t1000\t1000\t1000\t1000",
            "Gid:\t3000\t3000\t3000\t3000",
            "Groups:\t2000 3000 4000 ",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line:?} in\n{text}");
        }
    }
    assert!(later.ends_with("read-only\n"), "{later}");
    here.running("sysctl");
    let seen = exec(
        &here,
        "sysctl",
        "c",
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    assert_eq!(seen, "1\n0\n");
}

/// runAsNonRoot and seccomp selection: the words, and that it is tried again rather than given up.
#[test]
fn what_may_not_start_is_told_in_the_kubelets_words() {
    let mut here = Instance::new();
    let root = "  securityContext: {runAsNonRoot: true}\n";
    here.write("root.yaml", &manifest("root", root, &[("c", FOREVER)]));
    let profile =
        "  securityContext: {seccompProfile: {type: Localhost, localhostProfile: profiles/none.json}}\n";
    here.write("profile.yaml", &manifest("profile", profile, &[("c", FOREVER)]));
    let sysctl = "  securityContext: {sysctls: [{name: net.core.somaxconn, value: '9'}]}\n";
    here.write("sysctl.yaml", &manifest("sysctl", sysctl, &[("c", FOREVER)]));
    here.start();
    let waiting = |pod: &Value| status(pod)["state"]["waiting"].clone();
    let told = |name: &str, reason: &str| {
        let pod = here.pod_that(name, |pod| waiting(pod)["reason"] == reason);
        waiting(&pod)["message"].as_str().unwrap_or_default().to_owned()
    };
    let message = told("root", "CreateContainerConfigError");
    assert!(
        message.contains("container has runAsNonRoot and image will run as root (pod: \"root-host_default("),
        "{message}"
    );
    let message = told("profile", "CreateContainerError");
    assert!(
        message.contains("root/seccomp/profiles/none.json or /var/lib/kubelet/seccomp/profiles/none.json"),
        "{message}"
    );
    // The profile comes late: the next try finds it.
    let folder = here.home.join("root/seccomp/profiles");
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join("none.json"), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).expect("write");
    here.running("profile");
    let described = until("the sysctl's event", || {
        Some(here.say(&["describe", "pod", "sysctl"])).filter(|text| text.contains("forbidden sysctl"))
    });
    assert!(described.contains("forbidden sysctl: \"net.core.somaxconn\" not allowlisted"), "{described}");
    assert!(here.log().contains("net.core.somaxconn"), "{}", here.log());
}

/// J1, row 37; and the pod's first process may die.
#[test]
fn pids_are_shared_and_survive_the_death_of_their_first_process() {
    let mut here = Instance::new();
    let pair = [("one", WAITING), ("two", WAITING)];
    here.write("shared.yaml", &manifest("shared", "  shareProcessNamespace: true\n", &pair));
    here.write("apart.yaml", &manifest("apart", "", &pair));
    here.start();
    here.running("apart");
    here.running("shared");
    counted(&here, "apart", "one", "1 1\n");
    counted(&here, "shared", "one", "2 2\n");
    let first = |pod: &str| exec(&here, pod, "one", "cat /proc/1/comm");
    assert_eq!(first("apart"), "sh\n");
    assert_ne!(first("shared"), "sh\n");

    let pod = here.pod("shared").expect("the pod");
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let held = here.home.join("run/pods").join(uid).join("pause");
    let first: i32 = fs::read_to_string(&held).expect("its pid").parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    here.pod_that("shared", |pod| {
        let all = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        all.len() == 2 && all.iter().all(|each| each["restartCount"] == 1 && each["ready"] == true)
    });
    counted(&here, "shared", "two", "2 2\n");
    let second: i32 = fs::read_to_string(&held).expect("its pid").parse().expect("a pid");
    assert_ne!(first, second);
    fs::remove_file(here.home.join("m/shared.yaml")).expect("remove");
    until("its end", || here.pod("shared").is_none().then_some(()));
    let left = std::path::PathBuf::from(format!("/proc/{second}"));
    until("the end of the first process", || (!left.exists()).then_some(()));
}
