//! Real mounts, as root.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};

use super::beneath::{self, Way};
use super::empty::{Kind, make, mounted};
use super::*;
use crate::pod::project::File;
use crate::pod::sample;
use crate::pod::spec::{HostPathType, Projection, PullPolicy, RestartPolicy};

fn fresh(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("podinit-volume-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Detached again at the end, even when a test fails: a bind must not be left on the host.
struct Bind(PathBuf);

impl Bind {
    fn new(from: &Path, to: &Path) -> Self {
        fs::create_dir_all(to).unwrap();
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("needs root to mount");
        Bind(to.to_owned())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.into(), source }
}

fn empty(name: &str, medium: Medium) -> Volume {
    volume(name, VolumeSource::EmptyDir { medium, limit: Some(1 << 20) })
}

/// A pod `uid1` with one container, which mounts every volume at `/<name>`.
fn with(volumes: Vec<Volume>) -> Pod {
    let mut pod = Arc::unwrap_or_clone(sample::pod(RestartPolicy::Always, &[], &["c"]));
    pod.uid = "uid1".into();
    let mounts = volumes.iter().map(|volume| Mount {
        volume: volume.name.clone(),
        path: format!("/{}", volume.name),
        ..Mount::default()
    });
    pod.containers[0].mounts = mounts.collect();
    pod.volumes = volumes;
    pod
}

#[test]
fn all_kinds_are_made_and_nothing_is_left() {
    let top = fresh("kinds");
    let (root, run) = (top.join("root"), top.join("run"));
    let place = Place { root: &root, run: &run, users: None };
    let projected =
        |plugin| VolumeSource::Projected { plugin, sources: vec![Projection::Downward(vec![])], mode: 0o644 };
    let host = VolumeSource::HostPath {
        path: top.join("host").display().to_string(),
        kind: HostPathType::DirectoryOrCreate,
    };
    let image = VolumeSource::Image { reference: "x:1".into(), pull: PullPolicy::Never };
    let mut pod = with(vec![
        empty("disk", Medium::Disk),
        empty("memory", Medium::Memory),
        volume("huge", VolumeSource::EmptyDir { medium: Medium::HugePages(None), limit: None }),
        volume("host", host),
        volume("image", image),
        volume("cm", projected(Plugin::ConfigMap)),
        volume("secret", projected(Plugin::Secret)),
        volume("fields", projected(Plugin::DownwardApi)),
        volume("all", projected(Plugin::Projected)),
    ]);
    let page = 2 << 20;
    pod.containers[0].huge_pages = [(page, page)].into();
    let text = |text: &str| vec![File { path: "file".into(), data: text.into(), mode: 0o644 }];
    let contents =
        |of: &str| ["cm", "secret", "fields", "all"].map(|name| (name.to_owned(), text(of))).into();
    set_up(&pod, &place, &contents("one"), 1 << 30).unwrap();

    let volumes = root.join("pods/uid1/volumes");
    let dirs = [
        ("disk", "kubernetes.io~empty-dir", ""),
        ("memory", "kubernetes.io~empty-dir", "tmpfs"),
        ("huge", "kubernetes.io~empty-dir", "hugetlbfs"),
        ("cm", "kubernetes.io~configmap", "tmpfs"),
        ("secret", "kubernetes.io~secret", "tmpfs"),
        ("fields", "kubernetes.io~downward-api", "tmpfs"),
        ("all", "kubernetes.io~projected", "tmpfs"),
    ];
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let source = |name: &str| {
        let index = pod.volumes.iter().position(|volume| volume.name == name).unwrap();
        source(&pod, &pod.containers[0], index, "", Propagation::None, &place)
    };
    for (name, plugin, kind) in dirs {
        let dir = volumes.join(plugin).join(name);
        assert_eq!(source(name).unwrap(), dir);
        let line = table.lines().find(|line| line.split(' ').nth(1) == Some(&dir.display().to_string()));
        assert_eq!(line.and_then(|line| line.split(' ').nth(2)).unwrap_or(""), kind, "{name}");
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o777, "{name}");
    }
    assert!(table.lines().any(|line| line.contains("~empty-dir/memory") && line.contains("size=1024k")));
    assert!(
        table
            .lines()
            .any(|line| line.contains("~empty-dir/huge") && line.contains("pagesize=2M,size=2097152"))
    );
    assert!(top.join("host").is_dir());
    assert_eq!(source("host").unwrap(), top.join("host"));
    let read = |name: &str| fs::read_to_string(source(name).unwrap().join("file")).unwrap();
    assert_eq!(read("cm"), "one");
    project(&pod, &place, &contents("two")).unwrap();
    assert_eq!(["cm", "secret", "fields", "all"].map(read), ["two"; 4]);

    fs::write(top.join("host/precious"), "keep").unwrap();
    tear_down("uid1", &place).unwrap();
    assert!(!volumes.exists() && top.join("host/precious").exists());
    let left = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!left.contains(&root.display().to_string()), "{left}");
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn tear_down_empties_neither_binds_nor_link_targets() {
    let top = fresh("tear");
    let (root, run, host) = (top.join("root"), top.join("run"), top.join("host"));
    let place = Place { root: &root, run: &run, users: None };
    fs::create_dir_all(host.join("deep")).unwrap();
    fs::write(host.join("deep/precious"), "keep").unwrap();
    let dir = |name: &str| root.join("pods/u/volumes/kubernetes.io~empty-dir").join(name);
    let volume = dir("data");
    make(&volume, Kind::Disk).unwrap();
    fs::write(volume.join("mine"), "x").unwrap();
    symlink(&host, volume.join("link")).unwrap();
    let memory = dir("memory");
    make(&memory, Kind::Memory(Some(1 << 20))).unwrap();
    assert!(mounted(&memory).unwrap());
    make(&memory, Kind::Memory(Some(1 << 20))).unwrap();
    fs::write(memory.join("inside"), "x").unwrap();
    // Binds of the same file system, which have the same device number, and one over another.
    let _one = Bind::new(&host, &volume.join("bind"));
    let _two = Bind::new(&host, &volume.join("sub/bind"));
    let _three = Bind::new(&host, &volume.join("sub/bind"));
    let _four = Bind::new(&host, &run.join("pods/u/subpaths/v/c/0"));
    tear_down("u", &place).unwrap();
    assert_eq!(fs::read_to_string(host.join("deep/precious")).unwrap(), "keep");
    assert!(!root.join("pods/u/volumes").exists() && !run.join("pods/u/subpaths").exists());
    tear_down("u", &place).unwrap();
    for bad in ["", ".", "..", "../x"] {
        assert!(tear_down(bad, &place).is_err(), "{bad:?}");
    }
    fs::remove_dir_all(&top).unwrap();
}

/// A container nested directories until it was killed: PID 1 ran out of descriptors and never got rid of the pod.
#[test]
fn a_tree_without_end_is_removed() {
    let top = fresh("deep");
    let dir = top.join("volume");
    fs::create_dir_all(&dir).unwrap();
    // In pieces: no path may have more than 4096 bytes.
    let mut fd = open(&dir, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..1200 {
        nix::sys::stat::mkdirat(&fd, c"..podinit-1", Mode::S_IRWXU).unwrap();
        nix::sys::stat::mkdirat(&fd, c"b", Mode::S_IRWXU).unwrap();
        fd =
            nix::fcntl::openat(&fd, c"..podinit-1", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    }
    remove::tree(&dir).unwrap();
    assert!(!dir.exists());
    remove::tree(&dir).unwrap();
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn a_huge_volume_is_moved_away_and_not_waited_for() {
    let top = fresh("huge");
    let (root, run) = (top.join("root"), top.join("run"));
    let place = Place { root: &root, run: &run, users: None };
    let dir = root.join("pods/u/volumes/kubernetes.io~empty-dir/v");
    for (files, huge) in [(900, false), (2500, true)] {
        make(&dir, Kind::Disk).unwrap();
        for number in 0..files {
            fs::write(dir.join(number.to_string()), "").unwrap();
        }
        let left = tear_down("u", &place).unwrap();
        assert_eq!((left.is_some(), dir.exists()), (huge, false), "{files}");
        if let Some(left) = left {
            assert!(left.starts_with(root.join("trash")) && left.join("kubernetes.io~empty-dir/v").is_dir());
            remove_tree(&left).unwrap();
            assert!(!left.exists());
        }
    }
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn a_mount_is_not_entered() {
    let top = fresh("xdev");
    let (host, inside) = (top.join("host"), top.join("tree"));
    fs::create_dir_all(&host).unwrap();
    let _bind = Bind::new(&host, &inside.join("bind"));
    let fd = open(&inside, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let strict = || beneath::open(fd.as_fd(), c"bind", libc::O_RDONLY, Way::Strict);
    assert_eq!(strict().unwrap_err().raw_os_error(), Some(libc::EXDEV));
    drop(_bind);
    assert!(strict().is_ok());
    fs::remove_dir_all(&top).unwrap();
}

/// hostPath types.
#[test]
fn g2_host_path_types() {
    use HostPathType::*;
    let top = fresh("types");
    fs::write(top.join("file"), "").unwrap();
    let _socket = UnixListener::bind(top.join("socket")).unwrap();
    let device = nix::sys::stat::makedev(7, 250);
    mknod(&top.join("block"), SFlag::S_IFBLK, Mode::S_IRUSR, device).expect("needs root");
    let all = [Unset, DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice];
    let table: [(PathBuf, &[HostPathType]); 5] = [
        (top.clone(), &[Unset, DirectoryOrCreate, Directory]),
        (top.join("file"), &[Unset, FileOrCreate, File]),
        (top.join("socket"), &[Unset, FileOrCreate, File, Socket]),
        ("/dev/null".into(), &[Unset, FileOrCreate, File, CharDevice]),
        (top.join("block"), &[Unset, FileOrCreate, File, BlockDevice]),
    ];
    for (path, good) in table {
        for kind in all {
            assert_eq!(host::check(&path, kind).is_ok(), good.contains(&kind), "{} {kind:?}", path.display());
        }
    }
    for kind in all {
        let missing = top.join("missing");
        let made = host::check(&missing, kind).is_ok();
        assert_eq!(made, matches!(kind, Unset | DirectoryOrCreate | FileOrCreate), "{kind:?}");
        assert_eq!(missing.is_file(), kind == FileOrCreate);
        let _ = fs::remove_file(&missing).or_else(|_| fs::remove_dir(&missing));
    }
    for (kind, what) in [
        (Directory, "directory"),
        (Socket, "socket file"),
        (CharDevice, "character device"),
        (BlockDevice, "block device"),
    ] {
        let message = host::check(&top.join("file"), kind).unwrap_err();
        let path = top.join("file").display().to_string();
        assert_eq!(message, format!("hostPath type check failed: {path} is not a {what}"));
    }
    assert!(host::check(Path::new("/var/../etc"), Directory).is_err());
    assert!(host::check(&top.join("no/parent"), FileOrCreate).is_err());
    fs::remove_dir_all(&top).unwrap();
}

/// subPath safety. Answered differently: a link that stays in the volume is followed (as the kubelet does before it opens),
/// because a ConfigMap's files are such links, and the kernel resolves and checks in one step.
#[test]
fn g7_sub_paths_stay_in_the_volume() {
    let top = fresh("sub");
    let base = top.join("base");
    fs::create_dir_all(base.join("..real")).unwrap();
    fs::set_permissions(&base, Permissions::from_mode(0o2775)).unwrap();
    fs::write(base.join("file"), "text").unwrap();
    fs::write(base.join("..real/conf"), "config").unwrap();
    let _socket = UnixListener::bind(base.join("socket")).unwrap();
    for (link, to) in [
        ("out", "/etc"),
        ("up", "../../"),
        ("dangling", "nowhere"),
        ("away", "../gone"),
        ("loop", "loop"),
        ("..data", "..real"),
        ("conf", "..data/conf"),
        ("round", "new/../..real"),
    ] {
        symlink(to, base.join(link)).unwrap();
    }
    let target = top.join("run/0");
    let _undo = Bind(target.clone());
    let bind = |sub: &str| sub::bind(&base, sub, &target, Propagation::None, 0);
    let bad = [
        "out",
        "out/passwd",
        "up",
        "up/x",
        "file/below",
        "socket/below",
        "dangling",
        "dangling/x",
        "away",
        "away/x",
        "loop",
        "loop/x",
        "..",
        "a/../..",
        "test/../../..",
    ];
    for bad in bad {
        assert!(bind(bad).is_err(), "{bad}");
    }
    assert!(!top.join("gone").exists() && !base.join("nowhere").exists());
    bind("new/a//b/").unwrap();
    fs::write(target.join("x"), "").unwrap();
    assert!(base.join("new/a/b/x").exists());
    for made in ["new", "new/a", "new/a/b"] {
        assert_eq!(fs::metadata(base.join(made)).unwrap().mode() & 0o7777, 0o2775, "{made}");
    }
    // Another run of the container may find a file where a directory was, and the other way round.
    for (sub, text) in [("file", "text"), ("conf", "config"), ("round/conf", "config")] {
        bind(sub).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), text, "{sub}");
        bind("new").unwrap();
        assert!(target.join("a").is_dir());
    }
    bind("socket").unwrap();
    drop(_undo);
    fs::remove_dir_all(&top).unwrap();
}

/// A container that exchanges a directory for a link while we look gets its own volume or an error, never the host.
#[test]
fn a_race_for_a_sub_path_is_never_won() {
    let top = fresh("race");
    let (base, host, target) = (top.join("base"), top.join("host"), top.join("run/0"));
    fs::create_dir_all(base.join("dir/in")).unwrap();
    fs::create_dir_all(host.join("in")).unwrap();
    fs::write(host.join("in/secret"), "").unwrap();
    symlink(&host, base.join("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let _undo = Bind(target.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let _ = nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &base.join("dir"),
                    nix::fcntl::AT_FDCWD,
                    &base.join("link"),
                    exchange,
                );
            }
        });
        for _ in 0..500 {
            if sub::bind(&base, "dir/in", &target, Propagation::None, 0).is_ok() {
                assert!(!target.join("secret").exists());
            }
            let _ = sub::bind(&base, "dir/made", &target, Propagation::None, 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!host.join("made").exists());
    drop(_undo);
    fs::remove_dir_all(&top).unwrap();
}

/// fsGroup change policy, and what the walk does.
#[test]
fn fs_group_owns_what_is_there() {
    let top = fresh("group");
    let (root, run, host) = (top.join("root"), top.join("run"), top.join("host"));
    let place = Place { root: &root, run: &run, users: None };
    let mut pod = with(vec![empty("v", Medium::Disk), empty("m", Medium::Memory)]);
    pod.security.fs_group = Some(3000);
    let dir = root.join("pods/uid1/volumes/kubernetes.io~empty-dir/v");
    let seen = |path: &Path| {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.gid(), meta.mode() & 0o7777)
    };

    // Fresh: at once.
    set_up(&pod, &place, &Contents::new(), 0).unwrap();
    assert_eq!(seen(&dir), (3000, 0o2777));
    assert_eq!(seen(&dir.with_file_name("m")), (3000, 0o2777));
    assert_eq!(group::orders(&pod, &place), []);
    // With files, after a podinit that is gone with its run directory: by the start helper.
    fs::create_dir_all(dir.join("deep")).unwrap();
    fs::create_dir_all(host.join("sub")).unwrap();
    for (file, mode) in [(dir.join("deep/file"), 0o4600), (host.join("precious"), 0o600)] {
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(dir.join("deep"), Permissions::from_mode(0o700)).unwrap();
    symlink(host.join("precious"), dir.join("link")).unwrap();
    symlink(&host, dir.join("folder")).unwrap();
    let _bind = Bind::new(&host, &dir.join("bind"));
    let before = (seen(&host), seen(&host.join("precious")));
    let bundle = top.join("bundle");
    fs::create_dir_all(&bundle).unwrap();
    let walk = |pod: &Pod| {
        let _ = fs::remove_dir_all(run.join("pods/uid1/owned"));
        set_up(pod, &place, &Contents::new(), 0).unwrap();
        let orders = group::orders(pod, &place);
        assert_eq!(orders.iter().map(|own| own.volume.as_str()).collect::<Vec<_>>(), ["v"]);
        group::stage(&bundle, &orders).unwrap();
        group::carry_out(&bundle).unwrap();
        assert_eq!(group::orders(pod, &place), []);
    };
    walk(&pod);
    assert_eq!(seen(&dir.join("deep")), (3000, 0o2770));
    assert_eq!(seen(&dir.join("deep/file")), (3000, 0o4660));
    assert_eq!(seen(&dir.join("link")).0, 3000);
    assert_eq!((seen(&host), seen(&host.join("precious"))), before, "it went outside");

    // policy, the root's group and mode, whether the walk was skipped
    let table = [
        (false, 3000, 0o2777, false),
        (true, 3000, 0o2777, true),
        (true, 3000, 0o2770, true),
        (true, 3001, 0o2777, false),
        (true, 3000, 0o2767, false),
        (true, 3000, 0o2707, false),
        (true, 3000, 0o777, false),
    ];
    for (on_mismatch, gid, mode, skipped) in table {
        pod.security.fs_group_on_mismatch = on_mismatch;
        let file = dir.join("deep/file");
        std::os::unix::fs::lchown(&file, None, Some(1)).unwrap();
        // Set-up opens the root to all; the walk sees what it leaves.
        let _ = fs::remove_dir_all(run.join("pods/uid1/owned"));
        std::os::unix::fs::lchown(&dir, None, Some(gid)).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        group::stage(&bundle, &group::orders(&pod, &place)).unwrap();
        group::carry_out(&bundle).unwrap();
        let walked = fs::metadata(&file).unwrap().gid() == 3000;
        assert_eq!(walked, !skipped, "{on_mismatch} {gid} {mode:o}");
    }
    drop(_bind);
    tear_down("uid1", &place).unwrap();
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn what_is_shared_travels_as_far_as_each_mount_says() {
    let top = fresh("share");
    let (root, run, own) = (top.join("root"), top.join("run"), top.join("own"));
    let place = Place { root: &root, run: &run, users: None };
    fs::create_dir_all(own.join("host/sub")).unwrap();
    // A mount of its own, so that the test marks nothing else of the machine.
    let _own = Bind::new(&own, &own);
    mount(None::<&str>, &own, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let host = own.join("host");
    let source_of = |uid: &str, propagation: Propagation, strongest: Propagation| {
        let of = VolumeSource::HostPath { path: host.display().to_string(), kind: HostPathType::Unset };
        let mut pod = with(vec![volume("h", of)]);
        pod.uid = uid.into();
        pod.containers[0].mounts[0].propagation = propagation;
        source(&pod, &pod.containers[0], 0, "", strongest, &place)
    };
    // `shared`, `master` or nothing: of the mount at this very path.
    let kind = |path: &Path| {
        let path = fs::canonicalize(path).unwrap().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(&path))?.to_owned();
        let fields: Vec<_> = line.split(' ').skip(6).take_while(|field| *field != "-").collect();
        Some(fields.iter().map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>().join(" "))
    };
    use Propagation::{Bidirectional, HostToContainer, None as Private};
    assert_eq!(source_of("a", Private, Private).unwrap(), host);
    assert_eq!((kind(&own).as_deref(), kind(&host)), (Some(""), None));
    assert_eq!(source_of("a", HostToContainer, HostToContainer).unwrap(), host);
    assert_eq!((kind(&own).as_deref(), kind(&host)), (Some("shared"), None));
    assert_eq!(source_of("b", Bidirectional, Bidirectional).unwrap(), host);
    // Beside a stronger one, the weaker has a mount of its own that is as it should be.
    let weaker = source_of("c", Private, Bidirectional).unwrap();
    assert_eq!((weaker.starts_with(&run), kind(&weaker).as_deref()), (true, Some("")));
    let slave = source_of("b", HostToContainer, Bidirectional).unwrap();
    assert_eq!((slave.starts_with(&run), kind(&slave).as_deref()), (true, Some("master")));
    let late = Bind::new(&top, &host.join("sub"));
    assert!(slave.join("sub/own").is_dir() && !weaker.join("sub/own").exists());
    drop(late);
    for uid in ["a", "b", "c"] {
        tear_down(uid, &place).unwrap();
    }
    assert!(kind(&own).is_some() && host.join("sub").is_dir());
    drop(_own);
    fs::remove_dir_all(&top).unwrap();
}
