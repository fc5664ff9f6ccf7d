//! The same config.json run by crun: whatever differs stands in a table with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use oci_spec::runtime::{Capabilities, Capability, Spec};
use podinit::container::capability::ALL;
use podinit::container::user::User;
use podinit::pod::spec::{Profile, Security};

use super::Test;
use super::machine::run;

pub const TESTS: &[Test] = &[("as_crun_does_but_for_what_is_explained", compare)];

/// What a process may find out about itself: a name, its command, and which of its words are worth comparing.
const PROBES: &[(&str, &[&str], fn(&str) -> BTreeMap<String, String>)] = &[
    ("status", &["cat", "/proc/self/status"], status),
    ("limits", &["cat", "/proc/self/limits"], whole_lines),
    ("mounts", &["cat", "/proc/self/mountinfo"], mounts),
    ("fds", &["ls", "/proc/self/fd"], whole_lines),
    ("namespaces", &["sh", "-c", "for n in /proc/self/ns/*; do echo $n $(readlink $n); done"], namespaces),
    ("dev", &["ls", "-l", "/dev"], nodes),
    ("env", &["env"], whole_lines),
    ("id", &["id"], whole_lines),
    ("cwd", &["pwd"], whole_lines),
    ("ids", &["cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups"], whole_lines),
    ("files", &["sh", "-c", "ls -ldn / /* /etc/* /bin/busybox"], nodes),
];

/// (probe, key, why ours is not crun's).
const EXPLAINED: &[(&str, &str, &str)] = &[
    (
        "status",
        "SigIgn",
        "crun passes on what its caller ignores (the C library's own two signals included), we do not",
    ),
    (
        "mounts",
        "/proc/bus options",
        "libcontainer keeps nosuid, nodev and noexec of /proc on its read-only parts",
    ),
    ("mounts", "/proc/fs options", "the same"),
    ("mounts", "/proc/irq options", "the same"),
    ("mounts", "/proc/sys options", "the same"),
    ("mounts", "/proc/sysrq-trigger options", "the same"),
    ("mounts", "/proc/interrupts kind", "masked by the container's own /dev/null (crun: by the machine's)"),
    ("mounts", "/proc/interrupts options", "what is written to it is lost, as in any null device"),
    ("mounts", "/proc/kcore kind", "the same"),
    ("mounts", "/proc/kcore options", "the same"),
    ("mounts", "/proc/keys kind", "the same"),
    ("mounts", "/proc/keys options", "the same"),
    ("mounts", "/proc/latency_stats kind", "the same"),
    ("mounts", "/proc/latency_stats options", "the same"),
    ("mounts", "/proc/sched_debug kind", "the same"),
    ("mounts", "/proc/sched_debug options", "the same"),
    ("mounts", "/proc/timer_list kind", "the same"),
    ("mounts", "/proc/timer_list options", "the same"),
    ("dev", "core -> /proc/kcore", "libcontainer links it only where there is a /proc/kcore"),
    ("dev", "null", "crun gives its stdin (its caller's /dev/null, here) to the user; ours stays root's"),
];

/// The same for one context: (context, probe, key, why).
const EXPLAINED_ONCE: &[(&str, &str, &str, &str)] = &[
    ("privileged", "dev", "cpu", "libcontainer makes the folders of device nodes under a umask of 0"),
    ("privileged", "dev", "net", "the same"),
    ("privileged", "dev", "input", "the same"),
    ("privileged", "dev", "dri", "the same"),
    ("privileged", "dev", "snd", "the same"),
    ("privileged", "dev", "bus", "the same"),
    ("privileged", "dev", "mapper", "the same"),
    ("privileged", "dev", "vfio", "the same"),
];

/// The same in a user namespace, where nobody makes device nodes: (probe, first and last word of the key, why).
const EXPLAINED_USERS: &[(&str, (&str, &str), &str)] = &[
    (
        "mounts",
        ("/dev/", "count"),
        "crun binds the nodes that it adds itself once more over those of the spec",
    ),
    (
        "mounts",
        ("/dev/", "options"),
        "crun's bind of a node takes nosuid and noexec, and its mqueue no option at all",
    ),
    (
        "mounts",
        ("/dev/", "kind"),
        "crun makes a privileged container's nodes anew, we bind the machine's own",
    ),
];

fn compare() {
    let mut differences = Vec::new();
    let plain = Security::default;
    let contexts = [
        ("root", 0, plain()),
        ("web", 33, plain()),
        ("privileged", 0, Security { privileged: true, ..plain() }),
        ("dropped", 0, Security { drop: vec!["ALL".into()], no_escalation: true, ..plain() }),
        ("readonly", 33, Security { read_only_root: true, ..plain() }),
        ("unconfined", 0, Security { seccomp: Profile::Unconfined, unmasked: true, ..plain() }),
        ("users", 0, plain()),
        ("users-web", 33, plain()),
        ("users-privileged", 0, Security { privileged: true, ..plain() }),
        ("users-unmasked", 0, Security { unmasked: true, ..plain() }),
    ];
    for (user, uid, security) in &contexts {
        for (name, command, read) in PROBES {
            let one = |id: String| {
                let mut one = run(&id, command);
                one.cwd = "/tmp".into();
                one.security = security.clone();
                one.spaces.own_users = user.starts_with("users");
                if *uid != 0 {
                    one.user = User { uid: *uid, gid: 34, groups: vec![34, 70], home: "/srv".into() };
                }
                one
            };
            let ours = one(format!("{name}-{user}"));
            let ended = ours.to_end();
            assert_eq!(ended.code, 0, "{name}: {ended:?}");
            let theirs = crun(&format!("{name}-{user}"), &one(format!("{name}-{user}-crun")));
            let (ours, theirs) = (read(&ended.stdout), read(&theirs));
            assert!(!ours.is_empty(), "{name}: nothing to compare in {}", ended.stdout);
            for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                if ours.get(key) != theirs.get(key) {
                    differences.push((
                        *user,
                        *name,
                        key.clone(),
                        ours.get(key).cloned(),
                        theirs.get(key).cloned(),
                    ));
                }
            }
        }
    }
    let known = |user: &str, name: &str, key: &str| {
        let everywhere = EXPLAINED.iter().any(|(probe, line, _)| *probe == name && *line == key);
        let context = user.strip_prefix("users-").unwrap_or(user);
        let once = |(one, probe, line, _): &(&str, _, _, _)| (*one, *probe, *line) == (context, name, key);
        let with_users = |(probe, (start, end), _): &(&str, (&str, &str), _)| {
            user.starts_with("users") && *probe == name && key.starts_with(start) && key.ends_with(end)
        };
        everywhere || EXPLAINED_ONCE.iter().any(once) || EXPLAINED_USERS.iter().any(with_users)
    };
    differences.retain(|(user, name, key, ..)| !known(user, name, key));
    assert!(differences.is_empty(), "unexplained: {differences:#?}");
}

/// Runs the bundle with crun, on the config.json that the start helper would get.
fn crun(id: &str, one: &super::machine::Run) -> String {
    let bundle = one.bundle();
    fs::create_dir_all(&bundle).expect("make bundle");
    let mut spec = one.spec();
    // For its device filter crun raises a limit, which takes CAP_SYS_RESOURCE. Nothing compared here shows a filter.
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut()) {
        resources.set_devices(None);
    }
    // Nor can it leave out a capability that it has not got itself; in a user namespace it has all.
    if !one.spaces.own_users {
        leave_out(&mut spec);
    }
    fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).expect("json")).expect("write");
    let root = super::machine::dir().join("crun");
    let done = Command::new("crun")
        .args(["--cgroup-manager", "cgroupfs", "--root"])
        .arg(&root)
        .args(["run", "--bundle"])
        .arg(&bundle)
        .arg(id)
        .output()
        .expect("run crun (package crun)");
    assert!(done.status.success(), "crun {id}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Takes the capabilities away that this machine has not got.
fn leave_out(spec: &mut Spec) {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let ours = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("CapPrm");
    let ours = u64::from_str_radix(ours.trim(), 16).expect("a mask");
    let has =
        |one: &Capability| ALL.iter().position(|known| known == one).is_some_and(|at| ours >> at & 1 == 1);
    let process = spec.process_mut().as_mut().expect("a process");
    let mut sets = process.capabilities().clone().expect("sets");
    let kept: Option<Capabilities> =
        sets.bounding().as_ref().map(|set| set.iter().copied().filter(has).collect());
    sets.set_bounding(kept.clone()).set_effective(kept.clone()).set_permitted(kept);
    process.set_capabilities(Some(sets));
}

/// Each line as its own key.
fn whole_lines(text: &str) -> BTreeMap<String, String> {
    text.lines().map(|line| (line.to_owned(), String::new())).collect()
}

/// /proc/self/status without what changes by itself: pids, memory, times.
fn status(text: &str) -> BTreeMap<String, String> {
    const KEPT: &[&str] = &[
        "Name",
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Threads",
        "CoreDumping",
        "THP_enabled",
    ];
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .filter(|(name, _)| KEPT.contains(name))
        .map(|(name, value)| (name.into(), value.trim().into()))
        .collect()
}

/// mountinfo: for each target its options (sorted), kind, and whether it takes part in propagation.
fn mounts(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let (before, after) = line.split_once(" - ").expect("a separator");
        let fields: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let mut options: Vec<&str> = fields[5].split(',').collect();
        options.sort_unstable();
        let target = fields[4];
        found.insert(format!("{target} options"), options.join(","));
        found.insert(format!("{target} kind"), after[0].into());
        let peers: Vec<&str> = fields[6..].iter().map(|peer| peer.split(':').next().unwrap_or("")).collect();
        found.insert(format!("{target} propagation"), peers.join(","));
        *found.entry(format!("{target} count")).or_default() += "I";
    }
    found
}

/// Which namespaces are the pod's (by number), the machine's, or the container's own.
fn namespaces(text: &str) -> BTreeMap<String, String> {
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words
        .map(|(path, link)| {
            let name = path.rsplit('/').next().unwrap_or("");
            let host = fs::read_link(format!("/proc/self/ns/{name}")).expect("our own namespace");
            let own = ["mnt", "pid", "pid_for_children", "cgroup"].contains(&name);
            let value = match host.to_string_lossy() == link {
                true => "the machine's",
                false if own => "its own",
                false => link,
            };
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// ls -l without times: mode, owner, numbers, name.
fn nodes(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with("total"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = line.split(":").last().and_then(|end| end.get(3..)).unwrap_or(line);
            let numbers = if line.starts_with('c') { words[4..6].join("") } else { String::new() };
            (name.to_owned(), format!("{} {} {} {numbers}", words[0], words[2], words[3]))
        })
        .collect()
}
