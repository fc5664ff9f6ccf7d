//! What podinit makes of an image against what `umoci unpack` makes of it, for images that nobody would build.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::tars::{Item, Style, archive, end, head, layers, raw, record};
use super::*;
use crate::servers::{Form, layout};

/// `PODINIT_IMAGES`: how many random images, or `seed` and one number.
fn seeds() -> Vec<u64> {
    let given = std::env::var("PODINIT_IMAGES").unwrap_or_else(|_| "16".into());
    match given.strip_prefix("seed ") {
        Some(seed) => vec![seed.parse().expect("seed NUMBER")],
        None => (0..given.parse().expect("a number of images")).collect(),
    }
}

#[test]
fn random_images_are_what_umoci_unpacks() {
    own_mounts();
    let mut files = 0;
    for seed in seeds() {
        let home = fresh(&format!("random-{seed}"));
        files += same(&home, &layers(seed), &format!("seed {seed}"));
        unmounted(&home);
    }
    assert!(files > 20 * seeds().len(), "only {files} files");
}

/// Both views of one image are the same; tells how many files it has.
fn same(home: &Path, tars: &[Vec<u8>], what: &str) -> usize {
    let ours = mounted(home, tars, what);
    let bundle = home.join("bundle");
    let image = format!("{}:image", home.join("layout").display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    compare(ours, survey(&bundle.join("rootfs")), what)
}

/// The files of the image as the kernel shows them.
fn mounted(home: &Path, tars: &[Vec<u8>], what: &str) -> BTreeMap<PathBuf, Facts> {
    let forms = [Form::Gzip, Form::Plain];
    let parts: Vec<_> = tars.iter().enumerate().map(|(at, tar)| (forms[at % 2], tar.clone())).collect();
    let path = home.join("layout");
    layout(&path, &["linux/amd64"], &parts);
    let store = Store::open(home.join("images"));
    let amd64 = Platform::parse("linux/amd64").unwrap();
    archive::import(&store, &path, Some("image"), &amd64).unwrap_or_else(|error| panic!("{what}: {error}"));
    let image = store.find("image").unwrap().unwrap();
    check(&store, &image);
    let layers = mount_layers(&store, &image, &home.join("run")).unwrap();
    let rootfs = home.join("rootfs");
    mount_rootfs(&layers, &home.join("scratch"), &rootfs).unwrap();
    survey(&rootfs)
}

fn compare(mut ours: BTreeMap<PathBuf, Facts>, mut theirs: BTreeMap<PathBuf, Facts>, what: &str) -> usize {
    for files in [&mut ours, &mut theirs] {
        // umoci leaves the root the moment in which it put something into it.
        files.get_mut(Path::new("")).unwrap().mtime = (0, 0);
        // A name that a higher layer takes away still counts in the lower layer's inode: who shares an inode is told
        // by `same_as`.
        files.values_mut().for_each(|facts| facts.links = 0);
    }
    // umoci 0.4.7 leaves a directory the moment in which it took something out of it, where that is the last it does there.
    let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - 3600;
    for (path, facts) in &mut theirs {
        if let Some(own) = ours.get(path)
            && facts.mode & libc::S_IFMT == libc::S_IFDIR
            && (hour_ago..hour_ago + 7200).contains(&facts.mtime.0)
        {
            facts.mtime = own.mtime;
        }
    }
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differing: Vec<String> = paths
        .iter()
        .filter(|path| ours.get(**path) != theirs.get(**path))
        .map(|path| format!("{path:?}\n  ours   {:?}\n  theirs {:?}", ours.get(*path), theirs.get(*path)))
        .collect();
    let count = differing.len();
    assert!(differing.is_empty(), "{what}: {count} of {} differ:\n{}", paths.len(), differing.join("\n"));
    paths.len()
}

/// Overlay merges nothing in an opaque directory, and listed the marks in it as files that are not there.
#[test]
fn a_whiteout_in_an_opaque_directory_is_not_seen() {
    own_mounts();
    let dirs = || ["./", "d", "d/e"].map(|path| Item::new(b'5', path));
    let lower = [&dirs()[..], &["d/x", "d/e/x"].map(|path| Item::file(path, "x"))].concat();
    let marks = ["d/.wh.x", "d/.wh..wh..opq", "d/e/.wh.x"].map(|path| Item::file(path, ""));
    let upper = [&dirs()[..], &marks, &[Item::file("d/e/y", "y")]].concat();
    let home = fresh("opaque");
    same(&home, &[lower, upper].map(|items| archive(Style::Gnu, &items)), "opaque");
    unmounted(&home);
}

/// What bazel and its like write: the files alone, not the directories that they lie in.
#[test]
fn a_directory_that_an_upper_layer_does_not_describe_keeps_the_lower_ones_owner_and_mode() {
    own_mounts();
    let dir = |path: &str, mode, id| Item {
        mode,
        ids: (id, id + 1),
        mtime: (1_000_000_000, 7),
        xattrs: vec![("trusted.word".into(), path.into())],
        ..Item::new(b'5', path)
    };
    let acl = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255,
        255, 255,
    ];
    let inherits =
        Item { xattrs: vec![("system.posix_acl_default".into(), acl.to_vec())], ..dir("acl", 0o750, 9) };
    let lower = vec![
        dir("./", 0o711, 3),
        dir("tmp", 0o1777, 0),
        dir("home", 0o755, 0),
        dir("home/me", 0o700, 1000),
        dir("gone", 0o700, 1000),
        dir("opaque", 0o2750, 5),
        Item::file("opaque/hidden", "x"),
        dir("file", 0o700, 5),
        inherits,
        dir("acl/in", 0o700, 8),
    ];
    let middle =
        ["tmp/a", "home/me/.config/x", "new/deep/y", "acl/in/z"].map(|path| Item::file(path, "x")).to_vec();
    let upper = vec![
        Item::file("tmp/b", "x"),
        Item::file("home/me/.config/y", "x"),
        Item::file(".wh.gone", ""),
        Item::file("gone/anew", "x"),
        Item::file("opaque/.wh..wh..opq", ""),
        Item::file("opaque/seen", "x"),
        Item::file("file", "in a directory's place"),
    ];
    let top = vec![Item::file("tmp/c", "x"), dir("home", 0o711, 0), Item::file("home/me/z", "x")];
    let home = fresh("implied");
    let tars = [lower, middle, upper, top].map(|items| archive(Style::Pax, &items));
    same(&home, &tars, "implied");
    let rootfs = survey(&home.join("rootfs"));
    let about = |path: &str| (rootfs[Path::new(path)].mode & 0o7777, rootfs[Path::new(path)].mtime);
    assert_eq!(about(""), (0o711, (1_000_000_000, 7)));
    assert_eq!(about("tmp"), (0o1777, (1_000_000_000, 7)));
    assert_eq!((about("home").0, about("home/me").0, about("gone").0), (0o711, 0o700, 0o755));
    assert!(!home.join("rootfs/opaque/hidden").exists());

    // The same as a read-only view, and from its export.
    let store = Store::open(home.join("images"));
    let image = store.find("image").unwrap().unwrap();
    let layers = mount_layers(&store, &image, &home.join("run")).unwrap();
    for _ in 0..2 {
        mount_view(&layers, &home.join("view")).unwrap();
        compare(survey(&home.join("view")), rootfs.clone(), "view");
    }
    let mut out = File::create(home.join("exported.tar")).unwrap();
    podinit::image::export::export(&store, &image, &mut out).unwrap();
    let again = Store::open(home.join("again"));
    let amd64 = Platform::parse("linux/amd64").unwrap();
    archive::import(&again, &home.join("exported.tar"), None, &amd64).unwrap();
    let image = again.find("image").unwrap().unwrap();
    let layers = mount_layers(&again, &image, &home.join("run-again")).unwrap();
    mount_view(&layers, &home.join("view-again")).unwrap();
    compare(survey(&home.join("view-again")), rootfs, "exported");
    unmounted(&home);
}

/// Takes the mounts and files of one image away.
fn unmounted(home: &Path) {
    unmount_rootfs(&home.join("rootfs"), &home.join("scratch")).unwrap();
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(target).starts_with(home) {
            run(Command::new("umount").arg(target));
        }
    }
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn types_that_change_from_layer_to_layer_are_what_umoci_unpacks() {
    own_mounts();
    let dir = |path: &str| Item::new(b'5', path);
    let file = |path: &str| Item::file(path, path);
    let link = |path: &str| Item::link(b'2', path, "elsewhere");
    // Each to each, by what is there and what comes; a directory has something in it.
    let kinds = ["d", "f", "l", "p"];
    let thing = |kind: &str, path: &str| match kind {
        "d" => vec![dir(path), file(&format!("{path}/in-{path}"))],
        "f" => vec![file(path)],
        "l" => vec![link(path)],
        _ => vec![Item::new(b'6', path)],
    };
    let (mut lower, mut upper, mut top) = (vec![dir("./")], vec![dir("./")], vec![dir("./")]);
    for from in kinds {
        for to in kinds {
            lower.extend(thing(from, &format!("{from}{to}")));
            upper.extend(thing(to, &format!("{from}{to}")));
            // And back again, in the third.
            top.extend(thing(from, &format!("{from}{to}")));
            lower.extend(thing(from, &format!("two-{from}{to}")));
            upper.extend(thing(to, &format!("two-{from}{to}")));
            // Within one layer: the last one holds.
            upper.extend(thing(from, &format!("one-{from}{to}")));
            upper.extend(thing(to, &format!("one-{from}{to}")));
            // Taken away, and put there anew by the next; taken away and put there by the same.
            lower.extend(thing(from, &format!("gone-{from}{to}")));
            upper.push(file(&format!(".wh.gone-{from}{to}")));
            top.extend(thing(to, &format!("gone-{from}{to}")));
            lower.extend(thing(from, &format!("anew-{from}{to}")));
            upper.push(file(&format!(".wh.anew-{from}{to}")));
            upper.extend(thing(to, &format!("anew-{from}{to}")));
        }
    }
    let home = fresh("types");
    let tars = [lower, upper, top].map(|items| archive(Style::Gnu, &items));
    same(&home, &tars, "types");
    unmounted(&home);
}

#[test]
fn what_tar_writes_is_what_umoci_unpacks() {
    own_mounts();
    let home = fresh("tar");
    let tree = home.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    let mut holes = File::create(tree.join("holes")).unwrap();
    for part in 0..40_u64 {
        std::io::Seek::seek(&mut holes, std::io::SeekFrom::Start(part * 100_000)).unwrap();
        holes.write_all(&[part as u8 + 1; 5000]).unwrap();
    }
    holes.set_len(5_000_000).unwrap();
    File::create(tree.join("nothing")).unwrap().set_len(1 << 20).unwrap();
    let long = "name".repeat(50);
    fs::write(tree.join(&long), "long").unwrap();
    fs::hard_link(tree.join(&long), tree.join("a/b/again")).unwrap();
    std::os::unix::fs::symlink("far/".repeat(60), tree.join("a/link")).unwrap();
    fs::write(tree.join("a/data"), vec![7; 100_000]).unwrap();
    // umoci knows GNU's own sparse files as little as pieces in a list: there it is the tree itself that is compared with.
    let forms: [(&[&str], bool); 6] = [
        (&["--format=gnu", "--sparse"], false),
        (&["--format=pax", "--sparse", "--sparse-version=0.0"], true),
        (&["--format=pax", "--sparse", "--sparse-version=0.1"], true),
        (&["--format=pax", "--sparse", "--sparse-version=1.0"], true),
        (&["--format=gnu"], true),
        (&["--format=pax", "--xattrs"], true),
    ];
    for (form, known) in forms {
        let file = home.join("layer.tar");
        run(Command::new("tar").args(form).arg("-C").arg(&tree).arg("-cf").arg(&file).arg("."));
        let (at, what) = (home.join("one"), form.join(" "));
        fs::create_dir_all(&at).unwrap();
        let tars = [fs::read(&file).unwrap()];
        if known {
            same(&at, &tars, &what);
        } else {
            let ours = mounted(&at, &tars, &what);
            let mut source = survey(&tree);
            // GNU's format has whole seconds.
            source.values_mut().for_each(|facts| facts.mtime.1 = 0);
            source
                .insert("platform".into(), survey(&at.join("rootfs")).remove(Path::new("platform")).unwrap());
            compare(ours, source, &what);
        }
        // Whatever the form, it is the same file.
        assert_eq!(hash(&at.join("rootfs/holes")), hash(&tree.join("holes")), "{what}");
        unmounted(&at);
    }
}

#[test]
fn what_only_hands_write_is_what_umoci_unpacks() {
    own_mounts();
    let mut out = Vec::new();
    Item::new(b'5', "./").write(Style::Pax, &mut out);
    // An extended header that says again, and better, what the plain one says.
    let mut better = Vec::new();
    let told: [(&str, &[u8]); 7] = [
        ("path", b"better"),
        ("uid", b"4000000000"),
        ("gid", b"7"),
        ("mtime", b"1234567890.5"),
        ("size", b"5"),
        ("linkpath", b""),
        ("SCHILY.xattr.user.word", b"value"),
    ];
    told.iter().for_each(|(key, value)| record(&mut better, key, value));
    raw(&mut out, b'x', b"x", &better);
    let mut header = head(Style::Pax, b'0', b"worse", 5);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(b"12345");
    out.resize(out.len().next_multiple_of(512), 0);
    // The two halves of a ustar name.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(b'0'));
    header.as_old_mut().name[..4].copy_from_slice(b"name");
    header.as_ustar_mut().unwrap().prefix[..6].copy_from_slice(b"prefix");
    header.set_mode(0o640);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_size(0);
    header.set_cksum();
    Item::new(b'5', "prefix").write(Style::Pax, &mut out);
    out.extend_from_slice(header.as_bytes());
    // Descriptions one after the other: the last holds.
    Item { mode: 0o700, ..Item::new(b'5', "dir") }.write(Style::Gnu, &mut out);
    Item::file("dir/file", "first, and longer").write(Style::Gnu, &mut out);
    Item { mode: 0o1777, ids: (5, 6), ..Item::new(b'5', "dir/") }.write(Style::Gnu, &mut out);
    Item::file("./dir//./file", "last").write(Style::Gnu, &mut out);
    Item::link(b'1', "dir/also", "dir/file").write(Style::Gnu, &mut out);
    // Links on the way, within the layer.
    Item::link(b'2', "through", "dir").write(Style::Gnu, &mut out);
    Item::file("through/passed", "x").write(Style::Gnu, &mut out);
    let home = fresh("hands");
    same(&home, &[end(out)], "by hand");
    unmounted(&home);
}

#[test]
fn a_big_directory_is_what_umoci_unpacks() {
    own_mounts();
    let home = fresh("big");
    let mut items = vec![Item::new(b'5', "./"), Item::new(b'5', "big")];
    // Not in the order in which they are stored.
    items.extend((0..5000_u32).map(|n| Item::file(format!("big/{}", n.wrapping_mul(2_654_435_761)), "")));
    same(&home, &[archive(Style::Gnu, &items)], "a big directory");
    unmounted(&home);
}
