use std::sync::LazyLock;
use std::time::Duration;

use oci_spec::runtime::PosixRlimitType;
use serde_json::Value;

use super::*;
use crate::pod::spec::{PullPolicy, Resources, RestartPolicy};

static IMAGE: LazyLock<ImageConfiguration> = LazyLock::new(ImageConfiguration::default);

fn container() -> Container {
    Container {
        name: "web".into(),
        image: "nginx".into(),
        pull: PullPolicy::IfNotPresent,
        command: vec![],
        args: vec![],
        working_dir: None,
        env: vec![],
        mounts: vec![],
        resources: Resources::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
        ..Container::default()
    }
}

fn pod(host_network: bool) -> Pod {
    Pod {
        uid: "u".into(),
        namespace: "default".into(),
        name: "web-board".into(),
        origin: "web.yaml".into(),
        restart: RestartPolicy::Always,
        grace: Duration::from_secs(30),
        host_network,
        hostname: "web-board".into(),
        init: vec![],
        containers: vec![container()],
        volumes: vec![],
        object: Default::default(),
        ..Pod::default()
    }
}

/// A spec as JSON; `change` sees the input before.
fn made(host_network: bool, change: impl FnOnce(&mut Input)) -> Result<Value, StartError> {
    let pod = pod(host_network);
    let controllers = ["cpu", "memory"].map(str::to_owned).into();
    let exists = |path: &Path| {
        let path = path.to_string_lossy();
        !path.contains("/cpu/") && path != "/proc/acpi" || path.contains("/cpu/cpu0")
    };
    let mut input = Input {
        pod: &pod,
        container: &container(),
        image: &IMAGE,
        command: Command {
            argv: vec!["nginx".into(), "-g".into()],
            env: vec!["A=1".into()],
            cwd: "/".into(),
        },
        user: User { uid: 33, gid: 34, groups: vec![34, 70], home: "/var/www".into() },
        rootfs: Path::new("/r/rootfs"),
        cgroup: "/kubepods/podu/web-0",
        namespaces: Path::new("/r/ns"),
        shm: Path::new("/r/shm"),
        files: Files {
            hostname: Some(Path::new("/r/hostname")),
            hosts: Some(Path::new("/r/hosts")),
            resolv: Some(Path::new("/r/resolv.conf")),
            termination: Some(Path::new("/r/web/termination")),
        },
        mounts: vec![
            Bind {
                source: "/v/deep".into(),
                target: "/data/deep".into(),
                read_only: true,
                ..Bind::default()
            },
            Bind { source: "/v/data".into(), target: "/data".into(), ..Bind::default() },
        ],
        limits: Limits {
            shares: Some(1024),
            quota: Some(50_000),
            period: Some(100_000),
            memory: Some(64 << 20),
            oom_score_adj: Some(900),
            unified: [("memory.swap.max", "0"), ("pids.max", "9")]
                .map(|(file, value)| (file.to_owned(), value.to_owned()))
                .into(),
        },
        rlimits: vec![Rlimit { kind: PosixRlimitType::RlimitNofile, soft: 1024, hard: 4096 }],
        controllers: &controllers,
        exists: &exists,
    };
    change(&mut input);
    let mut value = serde_json::to_value(spec(&input)?).expect("a spec is JSON");
    // Sets have no order: sorted for the snapshot.
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let list = value["process"]["capabilities"][set].as_array_mut().expect("a set");
        list.sort_by_key(ToString::to_string);
    }
    Ok(value)
}

fn targets(spec: &Value) -> Vec<&str> {
    let mounts = spec["mounts"].as_array().expect("mounts");
    mounts.iter().map(|mount| mount["destination"].as_str().expect("a path")).collect()
}

/// The whole spec of an ordinary container. After a wanted change, take the new text from the failure.
#[test]
fn a_container_is_as_in_the_snapshot() {
    let spec = made(false, |_| {}).expect("spec");
    let wanted: Value = serde_json::from_str(include_str!("snapshot.json")).expect("snapshot");
    assert!(spec == wanted, "snapshot.json should be:\n{spec:#}");
}

#[test]
fn on_the_host_network_the_name_is_the_hosts_too() {
    let spec = made(true, |_| {}).expect("spec");
    let kinds: Vec<_> =
        spec["linux"]["namespaces"].as_array().expect("list").iter().map(|ns| &ns["type"]).collect();
    assert_eq!(kinds, ["pid", "mount", "cgroup", "ipc"]);
    assert_eq!(spec.get("hostname"), None);
}

/// libcontainer 0.7 heeds the root's propagation alone: the strongest stands for all.
#[test]
fn propagation_and_recursive_read_only() {
    use crate::pod::spec::Propagation::{Bidirectional, HostToContainer, None as Private};
    let table: [(&[_], _); 4] = [
        (&[], "private"),
        (&[Private, Private], "private"),
        (&[Private, HostToContainer], "slave"),
        (&[Bidirectional, HostToContainer, Private], "shared"),
    ];
    for (kinds, root) in table {
        let binds = |recursive_read_only| {
            let bind = |(index, propagation): (usize, &_)| Bind {
                source: "/v".into(),
                target: format!("/v{index}").into(),
                read_only: recursive_read_only,
                recursive_read_only,
                propagation: *propagation,
            };
            kinds.iter().enumerate().map(bind).collect::<Vec<_>>()
        };
        for (recursive, access) in [(false, "rw"), (true, "rro")] {
            let spec = made(false, |input| input.mounts = binds(recursive)).expect("spec");
            assert_eq!(spec["linux"]["rootfsPropagation"], root, "{kinds:?}");
            let mounts = spec["mounts"].as_array().expect("mounts");
            for (index, kind) in kinds.iter().enumerate() {
                let mount = mounts.iter().find(|mount| mount["destination"] == format!("/v{index}"));
                let word = match kind {
                    Private => "rprivate",
                    HostToContainer => "rslave",
                    Bidirectional => "rshared",
                };
                let options = &mount.expect("the volume")["options"];
                assert_eq!(*options, serde_json::json!(["rbind", word, access, "nodev"]));
            }
        }
    }
}

#[test]
fn what_a_volume_covers_is_not_mounted_twice() {
    let spec = made(false, |input| {
        let bind = |target: &str| Bind { source: "/v".into(), target: target.into(), ..Bind::default() };
        input.mounts = vec![bind("/dev/shm/"), bind("/etc/hosts"), bind("/"), bind("/dev/mqueue")];
        input.files.resolv = None;
    })
    .expect("spec");
    let wanted = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/sys/fs/cgroup",
        "/etc/hostname",
        "/dev/termination-log",
        "/",
        "/dev/shm/",
        "/etc/hosts",
        "/dev/mqueue",
    ];
    assert_eq!(targets(&spec), wanted);
}

#[test]
fn limits_need_their_controllers() {
    static NONE: BTreeSet<String> = BTreeSet::new();
    let spec = made(false, |input| input.controllers = &NONE).expect("spec");
    assert_eq!(spec["linux"]["resources"], serde_json::json!({}));
    assert_eq!(spec["process"]["oomScoreAdj"], 900);

    let spec = made(false, |input| input.limits = Limits::default()).expect("spec");
    assert_eq!(spec["linux"]["resources"], serde_json::json!({}));
    assert_eq!(spec["process"].get("oomScoreAdj"), None);
}

#[test]
fn the_environment_is_complete_and_the_manifests_word_stands() {
    let env = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let spec = made(false, |input| input.command.env = words).expect("spec");
        spec["process"]["env"]
            .as_array()
            .expect("env")
            .iter()
            .map(|e| e.as_str().unwrap_or("").to_owned())
            .collect()
    };
    let full: Vec<String> = env(&[]);
    assert_eq!(full, [format!("PATH={PATH}"), "HOSTNAME=web-board".into(), "HOME=/var/www".into()]);
    let own: Vec<String> = env(&["HOME=", "PATH=/x", "HOSTNAME=me", "HOMES=/"]);
    assert_eq!(own, ["HOME=", "PATH=/x", "HOSTNAME=me", "HOMES=/"]);
}

#[test]
fn the_primary_group_is_always_set() {
    let spec =
        made(false, |input| input.user = User { uid: 5, gid: 6, groups: vec![7], home: String::new() });
    let spec = spec.expect("spec");
    assert_eq!(spec["process"]["user"]["additionalGids"], serde_json::json!([6, 7]));
    assert!(spec["process"]["env"].as_array().expect("env").contains(&"HOME=/".into()));
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    type Change = fn(&mut Input);
    let table: [(Change, &str); 4] = [
        (|input| input.command.argv.clear(), "no command specified"),
        (|input| input.command.argv = vec![String::new()], "no command specified"),
        (|input| input.command.cwd = "srv".into(), "working directory \"srv\" is not absolute"),
        (
            |input| {
                input.mounts = vec![Bind { source: "/v".into(), target: "data".into(), ..Bind::default() }]
            },
            "mount path \"data\" is not absolute",
        ),
    ];
    for (change, words) in table {
        let error = made(false, change).expect_err(words);
        assert_eq!((error.message.as_str(), error.reason.as_str()), (words, "CreateContainerError"));
    }
}
