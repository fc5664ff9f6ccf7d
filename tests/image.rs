//! The image room against images that others made: built by umoci, archived by skopeo, imported by podinit, mounted by
//! the kernel, checked by fsck.erofs, and compared file by file with what `umoci unpack` makes of the same image.
//!
//! Needs root, a kernel with EROFS and overlay, and the packages umoci, skopeo, erofs-utils, zstd, attr, libcap2-bin.
#![allow(unsafe_code)]

#[path = "image/collect.rs"]
mod collect;
#[path = "image/differential.rs"]
mod differential;
#[path = "image/hostile.rs"]
mod hostile;
#[allow(dead_code, reason = "its registry is for the tests of pulls")]
#[path = "registry/servers.rs"]
mod servers;
#[path = "fuzz/spent.rs"]
mod spent;
#[path = "image/tars.rs"]
mod tars;

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use podinit::image::archive;
use podinit::image::mount::{mount_layers, mount_rootfs, mount_view, unmount_rootfs};
use podinit::image::platform::Platform;
use podinit::image::{Image, Store};
use sha2::{Digest, Sha256};

const NAME: &str = "docker.io/library/nginx:1.22";

#[test]
fn a_mounted_image_is_what_umoci_unpacks() {
    own_mounts();
    let archives = built();
    let home = fresh("differential");
    let store = Store::open(home.join("images"));
    let names = archive::import(&store, &archives.join("nginx.oci.tar"), None, &Platform::host()).unwrap();
    assert_eq!(names, [NAME]);
    let image = store.find("nginx:1.22").unwrap().unwrap();
    assert_eq!(image.layers.len(), 5);
    check(&store, &image);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap()[0], "nginx");
    assert_eq!(store.verify(NAME).unwrap(), Vec::<String>::new());

    let layers = mount_layers(&store, &image, &home.join("run")).unwrap();
    assert_eq!(mount_layers(&store, &image, &home.join("run")).unwrap(), layers);
    let (scratch, rootfs) = (home.join("scratch"), home.join("rootfs"));
    mount_rootfs(&layers, &scratch, &rootfs).unwrap();
    let bundle = home.join("bundle");
    let layout = format!("{}:1.22", archives.join("layout").display());
    run(Command::new("umoci").args(["unpack", "--image", &layout]).arg(&bundle));
    let (ours, mut theirs) = (survey(&rootfs), survey(&bundle.join("rootfs")));
    // umoci leaves the root, and /opt, which the upper layers change and do not describe, the moment in which it did.
    for path in ["", "opt"].map(Path::new) {
        theirs.get_mut(path).unwrap().mtime = ours[path].mtime;
    }
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    assert!(paths.len() > 1200, "only {} files", paths.len());
    let differing: Vec<String> = paths
        .iter()
        .filter(|path| ours.get(**path) != theirs.get(**path))
        .map(|path| format!("{path:?}\n  ours   {:?}\n  theirs {:?}", ours.get(*path), theirs.get(*path)))
        .collect();
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), paths.len(), differing.join("\n"));

    assert!(!rootfs.join("opt/gone.txt").exists() && !rootfs.join("opt/old/file").exists());
    assert_eq!(fs::read_to_string(rootfs.join("opt/old/new")).unwrap(), "new\n");
    fs::write(rootfs.join("opt/old/new"), "written").unwrap();
    mount_rootfs(&layers, &scratch, &rootfs).unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("opt/old/new")).unwrap(), "new\n", "a restart starts clean");
    unmount_rootfs(&rootfs, &scratch).unwrap();
    unmount_rootfs(&rootfs, &scratch).unwrap();
    assert!(fs::read_dir(&rootfs).unwrap().next().is_none() && !scratch.exists());
}

#[test]
fn every_form_of_archive_makes_the_same_layers() {
    let archives = built();
    let home = fresh("forms");
    let docker = archives.join("nginx.docker.tar");
    let [gzip, zstd, dir] = ["docker.tar.gz", "docker.tar.zst", "layout"].map(|name| home.join(name));
    run(Command::new("sh")
        .arg("-c")
        .arg("gzip -1 <$0 >$1 && zstd -q $0 -o $2")
        .args([&docker, &gzip, &zstd]));
    fs::create_dir(&dir).unwrap();
    run(Command::new("tar").arg("-xf").arg(archives.join("nginx.oci.tar")).arg("-C").arg(&dir));
    let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
    let forms =
        [&archives.join("nginx.oci.tar"), &archives.join("nginx.zstd.tar"), &docker, &gzip, &zstd, &dir];
    for (number, form) in forms.into_iter().enumerate() {
        let store = Store::open(home.join(number.to_string()));
        let names = archive::import(&store, form, None, &Platform::host());
        assert_eq!(names, Ok(vec![NAME.to_owned()]), "{}", form.display());
        let image = store.find(NAME).unwrap().unwrap();
        let digests = image.layers.iter().map(|id| (id.clone(), hash(&store.layer(id)))).collect();
        assert_eq!(first.get_or_insert_with(|| BTreeMap::clone(&digests)), &digests, "{}", form.display());
    }
}

#[test]
fn an_unnamed_image_needs_a_name_and_the_platform_must_suit() {
    let home = fresh("names");
    let store = Store::open(home.join("images"));
    let layout = built().join("layout");
    let error = archive::import(&store, &layout, None, &Platform::host()).unwrap_err();
    assert!(error.contains("\"1.22\"") && error.contains("--name"), "{error}");
    let other = Platform::parse("linux/riscv64").unwrap();
    let error = archive::import(&store, &layout, Some("web"), &other).unwrap_err();
    assert!(error.contains("not for linux/riscv64"), "{error}");
    let names = archive::import(&store, &layout, Some("web"), &Platform::host());
    assert_eq!(names, Ok(vec!["docker.io/library/web:latest".to_owned()]));
    let image = store.find("web").unwrap().unwrap();
    let by_digest = store.find(&format!("web@{}", image.manifest)).unwrap().unwrap();
    assert_eq!(by_digest.id, image.id);
    assert!(store.find(&format!("other@{}", image.manifest)).unwrap().is_none());
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let home = fresh("damaged");
    let store = Store::open(home.join("images"));
    let broken = home.join("broken");
    run(Command::new("cp").arg("-a").arg(built().join("layout")).arg(&broken));
    // One bit of the largest blob, which is a layer.
    let blobs = fs::read_dir(broken.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let largest = blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let whole = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    for damaged in [bytes, whole[..middle].to_vec(), [&whole[..], b"more"].concat()] {
        fs::write(&largest, damaged).unwrap();
        let error = archive::import(&store, &broken, Some("web"), &Platform::host()).unwrap_err();
        assert!(error.contains("sha256:"), "{error}");
        assert_eq!(left_over(&home.join("images")), Vec::<PathBuf>::new());
    }
    fs::write(&largest, whole).unwrap();
    fs::write(home.join("images/tmp/cut-short"), "left by a power cut").unwrap();
    archive::import(&store, &broken, Some("web"), &Platform::host()).unwrap();
    assert!(!home.join("images/tmp/cut-short").exists());
    damage_is_noticed(&store);
    assert!(store.remove("web").unwrap() && !store.remove("web").unwrap());
    assert_eq!(left_over(&home.join("images")), Vec::<PathBuf>::new());
}

/// A flipped bit is found by verify, a truncated or missing layer already by find.
fn damage_is_noticed(store: &Store) {
    let image = store.find("web").unwrap().unwrap();
    let path = store.layer(&image.layers[0]);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, flipped).unwrap();
    let damage = store.verify("web").unwrap();
    assert!(damage.len() == 1 && damage[0].contains("damaged"), "{damage:?}");
    fs::write(&path, &whole[..whole.len() - 4096]).unwrap();
    assert!(store.find("web").unwrap_err().contains("damaged"));
    fs::remove_file(&path).unwrap();
    assert!(store.find("web").unwrap().is_none(), "it may be pulled again");
    fs::write(&path, whole).unwrap();
    assert_eq!(store.verify("web").unwrap(), Vec::<String>::new());
}

#[test]
fn two_names_share_layers_until_the_last_goes() {
    let home = fresh("shared");
    let store = Store::open(home.join("images"));
    for name in ["a", "b"] {
        archive::import(&store, &built().join("layout"), Some(name), &Platform::host()).unwrap();
    }
    let names: Vec<String> = store.list().unwrap().into_iter().map(|image| image.reference).collect();
    assert_eq!(names, ["docker.io/library/a:latest", "docker.io/library/b:latest"]);
    store.remove("a").unwrap();
    assert_eq!(store.verify("b").unwrap(), Vec::<String>::new());
}

#[test]
fn a_damaged_layer_is_put_aside_and_replaced_from_another_store() {
    let home = fresh("repaired");
    let stores = ["images", "factory"].map(|name| Store::open(home.join(name)));
    for store in &stores {
        archive::import(store, &built().join("layout"), Some("web"), &Platform::host()).unwrap();
    }
    let [store, factory] = &stores;
    let image = store.find("web").unwrap().unwrap();
    let path = store.layer(&image.layers[1]);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let aside = home.join("images/damaged").join(path.file_name().unwrap());
    let empty = Store::open(home.join("empty"));
    let mend = || {
        let found = store.repair("web", &[empty.clone(), factory.clone()]).unwrap();
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        (told, found.iter().all(|finding| finding.whole()))
    };
    assert_eq!(mend(), (Vec::new(), true));
    // Flipped in the middle and in the superblock, truncated, missing: replaced while there is a whole one.
    let (mut magic, mut uuid) = (whole.clone(), whole.clone());
    magic[1024] ^= 1;
    uuid[1024 + 0x30] ^= 0x80;
    for damaged in [Some(&flipped[..]), Some(&magic), Some(&uuid), Some(&whole[..4096]), Some(&[]), None] {
        match damaged {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (told, done) = mend();
        let from = format!("replaced from {}", home.join("factory").display());
        assert!(done && told.len() == 1 && told[0].ends_with(&from), "{told:?}");
        assert_eq!(damaged.map(<[u8]>::to_vec), fs::read(&aside).ok());
        assert!(store.verify("web").unwrap().is_empty() && fs::read(&path).unwrap() == whole);
        store.prune().unwrap();
        assert!(!aside.exists(), "it has a successor");
    }
    // Nobody has it: it is put aside, kept, and the import of the image brings it back.
    fs::write(&path, &flipped).unwrap();
    fs::write(factory.layer(&image.layers[1]), &flipped).unwrap();
    let (told, done) = mend();
    assert!(!done && told.len() == 1 && told[0].ends_with("no other store has it"), "{told:?}");
    let damaged = store.damaged().unwrap();
    assert!(damaged.len() == 1 && damaged[0].id.as_ref() == Some(&image.id), "{damaged:?}");
    assert!(damaged[0].what[0].contains(&path.display().to_string()), "{damaged:?}");
    assert_eq!(store.damage("web").unwrap().as_ref(), damaged.first());
    store.prune().unwrap();
    assert!(aside.exists() && !path.exists(), "the last copy of a named layer stays");
    archive::import(store, &built().join("layout"), Some("web"), &Platform::host()).unwrap();
    assert!(store.verify("web").unwrap().is_empty());
    store.prune().unwrap();
    assert!(!aside.exists());
    let config = home.join("images/configs").join(format!("{}.json", image.id.trim_start_matches("sha256:")));
    fs::write(&config, "{}").unwrap();
    assert!(store.find("web").is_err());
    assert!(store.damage("web").unwrap().is_some() && mend().1);
    assert_eq!(store.find("web").unwrap().unwrap().id, image.id);
    assert_eq!(store.damaged().unwrap(), []);
}

/// A tag flipped or cut short here and there: it is told, put aside, and had back; another image is nobody's concern.
#[test]
fn a_damaged_tag_is_put_aside_and_found_again() {
    let home = fresh("tag");
    let stores = ["images", "factory"].map(|name| Store::open(home.join(name)));
    for (store, name) in [(&stores[0], "web"), (&stores[1], "web"), (&stores[0], "other")] {
        archive::import(store, &built().join("layout"), Some(name), &Platform::host()).unwrap();
    }
    let [store, factory] = &stores;
    let image = store.find("web").unwrap().unwrap();
    let tag = home.join("images/tags/docker.io%2Flibrary%2Fweb%3Alatest.json");
    let aside = home.join("images/damaged/docker.io%2Flibrary%2Fweb%3Alatest.tag");
    let whole = fs::read(&tag).unwrap();
    let (mut rebuilt, mut lost) = (0, 0);
    for at in (0..whole.len()).step_by(17) {
        for cut in [false, true] {
            let mut bytes = whole.clone();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << (at % 7);
            }
            fs::write(&tag, &bytes).unwrap();
            let told = store.repair("web", &[]).unwrap();
            if told.iter().all(|finding| finding.whole()) {
                // A flipped bit of the manifest's digest is beyond what can be told; else it is what it was.
                let found = store.find("web").unwrap().unwrap();
                assert_eq!((&found.id, &found.layers), (&image.id, &image.layers), "{at} {cut} {told:?}");
                rebuilt += usize::from(!told.is_empty());
                assert!(told.is_empty() || fs::read(&aside).unwrap() == bytes, "{at} {cut}");
            } else {
                lost += 1;
                let names: Vec<String> =
                    store.damaged().unwrap().into_iter().map(|one| one.reference).collect();
                assert_eq!(names, ["docker.io/library/web:latest"], "{at} {cut}");
                assert!(store.find("web").is_ok_and(|found| found.is_none()), "{at} {cut}: it can be pulled");
                let told = store.repair("web", std::slice::from_ref(factory)).unwrap();
                assert!(told.iter().all(|finding| finding.whole()), "{at} {cut} {told:?}");
                assert_eq!(fs::read(&tag).unwrap(), whole, "{at} {cut}");
            }
            fs::write(&tag, &whole).unwrap();
        }
    }
    assert!(rebuilt > 5 && lost > 5, "{rebuilt} {lost}");

    // What it may name is no garbage, and what nothing names is, as always.
    fs::write(&tag, &whole[..whole.len() - 3]).unwrap();
    let stray = home.join("images/layers").join(format!("{:0>64}.erofs", 1));
    fs::write(&stray, [1; 4096]).unwrap();
    assert!(store.remove("other").unwrap());
    assert!(aside.exists() && !tag.exists() && !stray.exists());
    assert!(image.layers.iter().all(|layer| store.layer(layer).exists()));
    assert_eq!(store.names().unwrap(), ["docker.io/library/web:latest"]);
    assert!(store.repair("web", &[]).unwrap().iter().all(|finding| finding.whole()));
    assert_eq!(store.find("web").unwrap().unwrap().layers, image.layers);
    fs::write(&tag, "").unwrap();
    assert!(!store.repair("web", &[]).unwrap()[0].whole());
    assert!(store.remove("web").unwrap(), "also what is only left as damage can be taken away");
    assert!(!aside.exists() && store.names().unwrap().is_empty());
}

/// On a file system of 24 MiB, of which a tenth is kept.
#[test]
fn what_does_not_fit_is_refused_and_the_reserve_stays() {
    own_mounts();
    let home = fresh("full");
    let disk = home.join("disk");
    fs::create_dir(&disk).unwrap();
    let file = home.join("disk.ext4");
    File::create(&file).unwrap().set_len(24 << 20).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&file));
    run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&disk));
    let store = Store::open(disk.join("images"));
    let free = || {
        let disk = nix::sys::statvfs::statvfs(&disk).unwrap();
        (disk.blocks_available() * disk.fragment_size(), disk.blocks() * disk.fragment_size())
    };
    let (before, total) = free();
    // A layer of 64 MiB that gzip makes small is stopped on the way; one that is not compressed before it starts.
    let layout = home.join("layout");
    let zeros = home.join("big");
    fs::create_dir(&zeros).unwrap();
    let noise: Vec<u8> = (0_u32..64 << 10).flat_map(|n| [n as u8 ^ (n >> 8) as u8; 1024]).collect();
    fs::write(zeros.join("file"), noise).unwrap();
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    let image = format!("{}:1", layout.display());
    run(Command::new("umoci").args(["new", "--image", &image]));
    run(Command::new("umoci").args(["insert", "--image", &image]).arg(&zeros).arg("/"));
    let docker = home.join("docker.tar");
    let target = format!("docker-archive:{}:docker.io/library/big:1", docker.display());
    run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &format!("oci:{image}"), &target]));
    for (archive, early) in [(&layout, false), (&docker, true)] {
        let error = archive::import(&store, archive, Some("big"), &Platform::host()).unwrap_err();
        assert!(error.contains("no space") && error.contains("are kept for logs and state"), "{error}");
        assert_eq!(error.contains("at least"), early, "{error}");
        assert_eq!(left_over(&disk.join("images")), Vec::<PathBuf>::new());
        assert!(free().0 + (1 << 20) > before, "nothing of it stays");
    }
    fs::write(disk.join("filler"), vec![1; usize::try_from(before - total / 10 + (64 << 10)).unwrap()])
        .unwrap();
    let error = archive::import(&store, &built().join("layout"), Some("web"), &Platform::host()).unwrap_err();
    assert!(error.contains("no space"), "{error}");
    run(Command::new("umount").arg(&disk));
}

/// What is exported is what was imported, file by file, to podinit and to others.
#[test]
fn an_exported_image_is_what_umoci_and_skopeo_take() {
    let home = fresh("exported");
    let archives = built();
    let store = Store::open(home.join("images"));
    archive::import(&store, &archives.join("nginx.oci.tar"), None, &Platform::host()).unwrap();
    let export = |store: &Store, file: &Path| {
        let image = store.find(NAME).unwrap().unwrap();
        let mut out = std::io::BufWriter::new(File::create(file).unwrap());
        podinit::image::export::export(store, &image, &mut out).unwrap()
    };
    let [once, again] = ["once.tar", "again.tar"].map(|name| home.join(name));
    let digest = export(&store, &once);
    let second = Store::open(home.join("second"));
    assert_eq!(archive::import(&second, &once, None, &Platform::host()), Ok(vec![NAME.to_owned()]));
    assert_eq!(second.find(NAME).unwrap().unwrap().manifest, digest);
    assert_eq!(export(&second, &again), digest);
    assert_eq!(hash(&once), hash(&again), "an exported image is exported as the same bytes");
    let layout = home.join("layout");
    run(Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy"])
        .args([format!("oci-archive:{}", once.display()), format!("oci:{}:1.22", layout.display())]));
    let unpacked = |layout: &Path, name: &str| {
        let bundle = home.join(name);
        let image = format!("{}:1.22", layout.display());
        run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
        survey(&bundle.join("rootfs"))
    };
    let (mut ours, mut theirs) = (unpacked(&layout, "ours"), unpacked(&archives.join("layout"), "theirs"));
    for path in ["", "opt"].map(Path::new) {
        ours.get_mut(path).unwrap().mtime = (0, 0);
        theirs.get_mut(path).unwrap().mtime = (0, 0);
    }
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    assert!(paths.len() > 1200, "only {} files", paths.len());
    let differing: Vec<_> = paths.iter().filter(|path| ours.get(**path) != theirs.get(**path)).collect();
    assert!(differing.is_empty(), "{} of {} differ: {differing:?}", differing.len(), paths.len());
}

#[test]
fn a_tag_that_moves_leaves_no_garbage_and_prune_finds_what_is_left() {
    let home = fresh("tags");
    let store = Store::open(home.join("images"));
    archive::import(&store, &built().join("layout"), Some("a"), &Platform::host()).unwrap();
    assert!(store.tag("a", "b:1").unwrap() && !store.tag("nowhere", "c").unwrap());
    let id = store.find("a").unwrap().unwrap().id;
    assert_eq!(store.find("docker.io/library/b:1").unwrap().unwrap().id, id);
    let digest = format!("c@{id}");
    assert!(store.tag("a", &digest).unwrap_err().contains("leave the digest out"));
    assert!(store.remove("a").unwrap());
    assert_eq!(store.verify("b:1").unwrap(), Vec::<String>::new());
    assert_eq!(store.prune().unwrap(), (0, 0));
    let stray = home.join("images/layers").join(format!("{:0>64}.erofs", 1));
    fs::write(&stray, vec![1; 8192]).unwrap();
    assert_eq!(store.prune().unwrap(), (1, 8192));
    assert!(!stray.exists() && store.find("b:1").unwrap().is_some());
}

#[test]
fn an_image_of_a_hundred_layers_mounts() {
    own_mounts();
    let home = fresh("many");
    let layers: Vec<PathBuf> = (0..100).map(|n| home.join(format!("{n:0>60}"))).collect();
    for (n, layer) in layers.iter().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join(format!("f{n}")), "x").unwrap();
        fs::write(layer.join("top"), n.to_string()).unwrap();
    }
    mount_rootfs(&layers, &home.join("scratch"), &home.join("rootfs")).unwrap();
    assert_eq!(fs::read_dir(home.join("rootfs")).unwrap().count(), 101);
    assert_eq!(fs::read_to_string(home.join("rootfs/top")).unwrap(), "0");
    mount_rootfs(&[], &home.join("scratch, of: odd\\name"), &home.join("empty")).unwrap();
    fs::write(home.join("empty/file"), "x").unwrap();
}

/// The example image, built once a run.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = fresh("built");
        run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image/build")).arg(&out));
        out
    })
}

/// Mounts of this test are seen and kept by its thread alone.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
    for module in ["loop", "erofs", "overlay"] {
        // Built in, or loaded already, or else the mount says so.
        let _ = Command::new("modprobe").arg("-q").arg(module).status();
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    assert!(known.contains("erofs") && known.contains("overlay"), "this kernel lacks erofs or overlay");
}

fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
}

/// fsck.erofs accepts every layer, structure and content.
fn check(store: &Store, image: &Image) {
    for layer in &image.layers {
        run(Command::new("fsck.erofs").arg("--extract").arg(store.layer(layer)));
    }
}

/// All files below a store but its lock.
fn left_over(root: &Path) -> Vec<PathBuf> {
    let dirs = ["layers", "configs", "tags", "tmp"].map(|dir| root.join(dir));
    dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect()
}

/// All that can be told of a file.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    device: u64,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    links: u64,
    /// The first of the paths that share the inode.
    same_as: PathBuf,
}

/// Every file below `root` by its path from there.
fn survey(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut files = BTreeMap::new();
    let mut inodes = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let about = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{full:?}: {error}"));
        let kind = about.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            todo.extend(names.into_iter().rev().map(|name| path.join(name)));
        }
        let content = match kind {
            kind if kind.is_file() => hash(&full),
            kind if kind.is_symlink() => fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let device = kind.is_char_device() || kind.is_block_device();
        let facts = Facts {
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            mtime: (about.mtime(), about.mtime_nsec()),
            size: if kind.is_dir() { 0 } else { about.size() },
            device: if device { about.rdev() } else { 0 },
            content,
            xattrs: xattrs(&full),
            links: if kind.is_dir() { 0 } else { about.nlink() },
            same_as: inodes.entry((about.dev(), about.ino())).or_insert_with(|| path.clone()).clone(),
        };
        files.insert(path, facts);
    }
    files
}

fn hash(path: &Path) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).unwrap();
        if n == 0 {
            return hash.finalize().to_vec();
        }
        hash.update(&buffer[..n]);
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0_u8; 64 << 10];
    // SAFETY: the path ends with a zero, the buffer is as long as told.
    let n = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(n).unwrap_or(0));
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let text = CString::new(name).unwrap();
        let mut value = vec![0_u8; 64 << 10];
        // SAFETY: both texts end with a zero, the buffer is as long as told.
        let n =
            unsafe { libc::lgetxattr(path.as_ptr(), text.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(usize::try_from(n).expect("an attribute that is listed can be read"));
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}
