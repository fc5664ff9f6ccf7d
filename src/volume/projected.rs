//! The atomic writer: a projected volume's files change all at one moment, by the rename of one link.
//!
//! Laid out as by the kubelet (pkg/volume/util/atomic_writer.go): the files in `..2026_11_25_02_30_00.1234567890/`,
//! `..data` a link to it, and for each name at the top a link `name -> ..data/name`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use super::{group, remove, set_mode};
use crate::pod::project::File;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";
/// PATH_MAX.
const LONGEST: usize = 4096;

/// Makes `dir` hold these files and no others, of the pod's root (`root` on this machine). `group`: fsGroup, whose members
/// may then read them.
pub fn write(dir: &Path, files: &[File], root: u32, group: Option<u32>) -> io::Result<()> {
    let mut payload = BTreeMap::new();
    for file in files {
        payload.insert(clean(&file.path).map_err(io::Error::other)?, file);
    }
    if let Some(gid) = group {
        group::own_dir(dir, gid, 0o660)?;
    }
    let fresh = timestamped(dir)?;
    let done = fill(&dir.join(&fresh), &payload, root, group).and_then(|()| switch(dir, &fresh, root));
    if let Err(error) = done {
        let _ = remove::tree(&dir.join(&fresh));
        return Err(error);
    }
    show(dir, &payload, root, group)?;
    tidy(dir, &payload, &fresh)
}

/// The path within the volume without doubled slashes, or why it is none.
fn clean(path: &str) -> Result<PathBuf, String> {
    let refused = |why: &str| Err(format!("invalid path: {path:?} {why}"));
    if path.is_empty() {
        return refused("must not be empty");
    }
    if path.len() > LONGEST {
        return Err(format!("invalid path: must be less than or equal to {LONGEST} characters"));
    }
    if path.starts_with('/') {
        return refused("must be relative");
    }
    if path.starts_with("..") {
        return refused("must not start with \"..\"");
    }
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return refused("must not contain \"..\"");
            }
        }
    }
    if clean.as_os_str().is_empty() || clean.to_string_lossy().starts_with("..") {
        return refused("names no file");
    }
    Ok(clean)
}

/// Makes `..YYYY_MM_DD_HH_MM_SS.<random>`.
fn timestamped(dir: &Path) -> io::Result<OsString> {
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    loop {
        let name = format!("{stamp}.{}", RandomState::new().build_hasher().finish() % 10_000_000_000);
        match DirBuilder::new().mode(0o755).create(dir.join(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return other.map(|()| name.into()),
        }
    }
}

fn fill(dir: &Path, payload: &BTreeMap<PathBuf, &File>, root: u32, group: Option<u32>) -> io::Result<()> {
    let mut folders = BTreeSet::from([dir.to_owned()]);
    for (path, file) in payload {
        let target = dir.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|error| at(path, error))?;
            folders.extend(parent.ancestors().take_while(|folder| *folder != dir).map(Path::to_owned));
        }
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)
            .map_err(|error| at(path, error))?;
        out.write_all(&file.data).map_err(|error| at(path, error))?;
        let readable = if group.is_some() { 0o440 } else { 0 };
        lchown(&target, Some(root), group.or(Some(root)))?;
        set_mode(&target, file.mode & 0o777 | readable)?;
    }
    for folder in folders {
        lchown(&folder, Some(root), Some(root))?;
        set_mode(&folder, 0o755)?;
        if let Some(gid) = group {
            group::own_dir(&folder, gid, 0o440)?;
        }
    }
    Ok(())
}

/// From here on readers see the new files.
fn switch(dir: &Path, fresh: &OsString, root: u32) -> io::Result<()> {
    let next = dir.join(DATA_NEXT);
    absent(fs::remove_file(&next))?;
    symlink(fresh, &next)?;
    lchown(&next, Some(root), Some(root))?;
    fs::rename(&next, dir.join(DATA))
}

/// The names at the top that users see.
fn tops(payload: &BTreeMap<PathBuf, &File>) -> BTreeSet<OsString> {
    let first = |path: &PathBuf| path.components().next().map(|part| part.as_os_str().to_owned());
    payload.keys().filter_map(first).collect()
}

fn show(dir: &Path, payload: &BTreeMap<PathBuf, &File>, root: u32, group: Option<u32>) -> io::Result<()> {
    for name in tops(payload) {
        let (link, target) = (dir.join(&name), Path::new(DATA).join(&name));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        remove::tree(&link)?;
        symlink(&target, &link)?;
        lchown(&link, Some(root), group.or(Some(root)))?;
    }
    Ok(())
}

/// Takes away names that are no longer among the files, and all former contents: also those of a podinit that died
/// between the two.
fn tidy(dir: &Path, payload: &BTreeMap<PathBuf, &File>, fresh: &OsString) -> io::Result<()> {
    let keep = tops(payload);
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != DATA && name != *fresh && !keep.contains(&name) {
            remove::tree(&dir.join(&name))?;
        }
    }
    Ok(())
}

fn absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Projected file paths.
    #[test]
    fn g5_paths() {
        let long = format!("{}a", "x/".repeat(2048));
        let table = [
            ("i/am/well/behaved.txt", Some("i/am/well/behaved.txt")),
            (long.as_str(), None),
            ("/dev/null", None),
            ("..sneaky.txt", None),
            ("..", None),
            ("hello/../etc/somethingbad", None),
            ("a/..", None),
            ("./..data/x", None),
            (".", None),
            ("", None),
            ("foo////bar", Some("foo/bar")),
            ("foo/..bar", Some("foo/..bar")),
        ];
        for (path, expected) in table {
            assert_eq!(clean(path).ok(), expected.map(PathBuf::from), "{path:?}");
        }
    }

    fn file(path: &str, text: &str, mode: u32) -> File {
        File { path: path.into(), data: text.into(), mode }
    }

    /// Every name in the directory that users see, and those that they should not care for.
    fn names(dir: &Path) -> (Vec<String>, usize) {
        let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (hidden, mut seen): (Vec<_>, Vec<_>) = all.partition(|name| name.starts_with(".."));
        seen.sort();
        (seen, hidden.len())
    }

    #[test]
    fn files_change_at_one_moment_and_nothing_old_stays() {
        let dir = std::env::temp_dir().join(format!("podinit-projected-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let read = |path: &str| fs::read_to_string(dir.join(path)).ok();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().mode() & 0o7777;

        write(
            &dir,
            &[file("a", "one", 0o644), file("deep/er/b", "two", 0o400), file("deep/c", "", 0o777)],
            0,
            None,
        )
        .unwrap();
        assert_eq!((read("a").as_deref(), read("deep/er/b").as_deref()), (Some("one"), Some("two")));
        assert_eq!(
            (mode("a"), mode("deep/er/b"), mode("deep/c"), mode("deep")),
            (0o644, 0o400, 0o777, 0o755)
        );
        assert_eq!(names(&dir), (vec!["a".into(), "deep".into()], 2));
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(dir.join("..data")).unwrap().into_os_string().into_string().unwrap();
        let (stamp, random) = first.split_at(22);
        let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "..0000_00_00_00_00_00.");
        assert!(random.parse::<u64>().is_ok(), "{first}");
        // Who opened it reads on.
        let open = fs::File::open(dir.join("a")).unwrap();

        // What a death left: a half-made directory, and a link that was not yet renamed.
        fs::create_dir(dir.join("..2020_01_01_00_00_00.1")).unwrap();
        symlink("..2020_01_01_00_00_00.1", dir.join("..data_tmp")).unwrap();
        write(&dir, &[file("a", "changed", 0o644), file("new", "x", 0o600)], 0, None).unwrap();
        assert_eq!(
            (read("a").as_deref(), read("new").as_deref(), read("deep/c")),
            (Some("changed"), Some("x"), None)
        );
        assert_eq!(names(&dir), (vec!["a".into(), "new".into()], 2));
        assert_ne!(fs::read_link(dir.join("..data")).unwrap(), Path::new(&first));
        assert_eq!(io::read_to_string(open).unwrap(), "one");

        // One that cannot be written changes nothing.
        let clash = [file("n", "file", 0o644), file("n/m", "below a file", 0o644)];
        assert!(write(&dir, &clash, 0, None).is_err());
        assert!(write(&dir, &[file("../up", "", 0o644)], 0, None).is_err());
        assert_eq!(
            (read("a").as_deref(), names(&dir)),
            (Some("changed"), (vec!["a".into(), "new".into()], 2))
        );

        write(&dir, &[], 0, None).unwrap();
        assert_eq!(names(&dir), (vec![], 2));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn fs_group_may_read() {
        let dir = std::env::temp_dir().join(format!("podinit-projected-group-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        set_mode(&dir, 0o777).unwrap();
        write(&dir, &[file("d/secret", "x", 0o400)], 0, Some(2000)).unwrap();
        let meta = |path: &str| {
            let meta = fs::symlink_metadata(dir.join(path)).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(meta(""), (2000, 0o2777));
        assert_eq!(meta("..data/d"), (2000, 0o2755));
        assert_eq!(meta("..data/d/secret"), (2000, 0o440));
        assert_eq!(meta("d").0, 2000);
        fs::remove_dir_all(&dir).unwrap();
    }
}
