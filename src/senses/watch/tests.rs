//! Every way by which a manifest changes, against the real inotify. Its events are there when the call that makes them
//! returns, so nothing is waited for.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{linkat, truncate};

use super::*;

/// A fresh folder `manifests` with `web.yaml` in it, and a file beside it.
fn folder(name: &str) -> (PathBuf, PathBuf) {
    let base = std::env::temp_dir().join(format!("podinit-watch-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    let folder = base.join("manifests");
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join("web.yaml"), "a: 1\n").expect("write");
    fs::write(base.join("outside.yaml"), "b: 1\n").expect("write");
    (base, folder)
}

fn by_tmpfile(dir: &Path) {
    let mut file =
        File::options().write(true).custom_flags(libc::O_TMPFILE).open(dir).expect("a file without a name");
    file.write_all(b"c: 1\n").expect("write");
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(AT_FDCWD, name.as_str(), AT_FDCWD, &dir.join("new.yaml"), follow).expect("name it");
}

#[allow(unsafe_code)]
fn by_mmap(dir: &Path) {
    let file = File::options().read(true).write(true).open(dir.join("web.yaml")).expect("open");
    // SAFETY: a mapping of one page of a file that is open, written within its size, and unmapped.
    unsafe {
        let flags = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(std::ptr::null_mut(), 4096, flags, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(page, libc::MAP_FAILED);
        drop(file);
        page.cast::<u8>().write(b'z');
        libc::munmap(page, 4096);
    }
}

/// As ConfigMap volumes and their imitators do: links through `..data`, which is swapped by a rename.
fn by_data_link(dir: &Path) {
    fs::create_dir(dir.join("..2")).expect("make");
    fs::write(dir.join("..2/web.yaml"), "a: 2\n").expect("write");
    symlink("..2", dir.join("..data_tmp")).expect("link");
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("swap");
}

fn by_vim(dir: &Path) {
    fs::rename(dir.join("web.yaml"), dir.join("web.yaml~")).expect("backup");
    fs::write(dir.join("web.yaml"), "a: 2\n").expect("write");
    fs::remove_file(dir.join("web.yaml~")).expect("remove");
}

fn by_sed(dir: &Path) {
    fs::write(dir.join("sedA1b2"), "a: 2\n").expect("write");
    fs::rename(dir.join("sedA1b2"), dir.join("web.yaml")).expect("rename");
}

#[test]
fn whatever_changes_a_manifest_is_noticed() {
    let table: [(&str, fn(&Path), bool); 20] = [
        ("nothing", |_| (), false),
        ("read", |dir| drop(fs::read(dir.join("web.yaml"))), false),
        ("listed", |dir| drop(fs::read_dir(dir).map(Iterator::count)), false),
        ("cp, nano, kubectl > file", |dir| drop(fs::write(dir.join("new.yaml"), "a: 2\n")), true),
        ("written in place", |dir| drop(fs::write(dir.join("web.yaml"), "a: 2\n")), true),
        ("removed", |dir| drop(fs::remove_file(dir.join("web.yaml"))), true),
        ("vim", by_vim, true),
        ("sed -i", by_sed, true),
        ("mv within", |dir| drop(fs::rename(dir.join("web.yaml"), dir.join("x.yaml"))), true),
        ("mv in", |dir| drop(fs::rename(dir.join("../outside.yaml"), dir.join("x.yaml"))), true),
        ("mv over", |dir| drop(fs::rename(dir.join("../outside.yaml"), dir.join("web.yaml"))), true),
        ("mv out", |dir| drop(fs::rename(dir.join("web.yaml"), dir.join("../x.yaml"))), true),
        ("hard link", |dir| drop(fs::hard_link(dir.join("../outside.yaml"), dir.join("x.yaml"))), true),
        ("symlink", |dir| drop(symlink("../outside.yaml", dir.join("x.yaml"))), true),
        ("..data swapped", by_data_link, true),
        ("chmod", |dir| drop(fs::set_permissions(dir.join("web.yaml"), Permissions::from_mode(0o600))), true),
        ("a file without a name is given one", by_tmpfile, true),
        ("written through a mapping", by_mmap, true),
        ("mkdir", |dir| drop(fs::create_dir(dir.join("sub"))), true),
        // Only by the system call itself: truncate(1) opens the file, and its close is heard. Found by the listing.
        ("truncate(2)", |dir| truncate(&dir.join("web.yaml"), 2).expect("truncate"), false),
    ];
    for (what, change, expected) in table {
        let (base, dir) = folder("table");
        let mut watch = Watch::new(&dir);
        change(&dir);
        assert_eq!(watch.changed(), expected, "{what}");
        assert!(!watch.changed(), "{what}: told twice");
        fs::remove_dir_all(&base).expect("clean");
    }
}

#[test]
fn a_file_is_read_when_it_is_closed_not_while_it_is_written() {
    let (base, dir) = folder("close");
    let mut watch = Watch::new(&dir);
    let mut file = File::create(dir.join("new.yaml")).expect("create");
    file.write_all(b"half of").expect("write");
    assert!(!watch.changed());
    file.write_all(b" it").expect("write");
    assert!(!watch.changed());
    drop(file);
    assert!(watch.changed());
    fs::remove_dir_all(&base).expect("clean");
}

#[test]
fn a_directory_that_goes_and_comes_is_watched_again() {
    let (base, dir) = folder("comes");
    let away = base.join("away");
    let steps: [(&str, fn(&Path, &Path), bool); 3] = [
        ("removed", |dir, _| fs::remove_dir_all(dir).expect("remove"), true),
        ("moved away", |dir, away| fs::rename(dir, away).expect("move"), true),
        // Of this a watch tells nothing: the next listing asks what is at the path.
        (
            "its parent moved away",
            |dir, away| {
                let parent = dir.parent().expect("a parent");
                fs::rename(parent, parent.with_extension("away")).expect("move");
                fs::create_dir(parent).expect("make");
                fs::rename(parent.with_extension("away"), away).expect("move");
            },
            false,
        ),
    ];
    for (what, go, told) in steps {
        let mut watch = Watch::new(&dir);
        go(&dir, &away);
        assert_eq!(watch.changed(), told, "{what}");
        watch.renew();
        assert_eq!(watch.fd(), None, "{what}: something else is watched");
        assert!(!watch.changed(), "{what}");
        fs::create_dir_all(&dir).expect("make");
        watch.renew();
        fs::write(dir.join("new.yaml"), "a: 1\n").expect("write");
        assert!(watch.changed(), "{what}: it came back unwatched");
        let held = watch.fd();
        watch.renew();
        assert_eq!(watch.fd(), held, "{what}: renewed for nothing");
        let _ = fs::remove_dir_all(&away);
    }
    let _ = fs::remove_dir_all(base.with_extension("away"));
    fs::remove_dir_all(&base).expect("clean");
}

#[test]
fn an_overflow_is_a_reason_to_look() {
    let (base, dir) = folder("overflow");
    let mut watch = Watch::new(&dir);
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
    let most: usize = most.trim().parse().expect("a number");
    // Made and never opened, one of these is no reason.
    let make = |name: String| {
        mknod(&dir.join(name), SFlag::S_IFREG, Mode::S_IRUSR, 0).expect("make");
    };
    make("0".into());
    assert!(!watch.changed());
    (1..=most + 1).for_each(|number| make(number.to_string()));
    assert!(watch.changed(), "the overflow was not noticed");
    fs::write(dir.join("web.yaml"), "a: 2\n").expect("write");
    assert!(watch.changed(), "nothing is noticed after an overflow");
    fs::remove_dir_all(&base).expect("clean");
}
