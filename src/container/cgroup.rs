//! The pods' cgroups (v2): the tree, limits, kill, removal, and what the kernel counted. Plain files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

/// The tree of all pods (the cgroupfs driver of a kubelet).
const TREE: [&str; 3] = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];

/// Controllers whose lack costs a pod a limit that it may have asked for.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// What the machine's cgroups can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// Enabled down to the pods.
    pub available: BTreeSet<String>,
    /// Of cpu, memory and pids, those that are not: worth one warning.
    pub missing: Vec<String>,
}

/// Makes `kubepods`, `kubepods/burstable` and `kubepods/besteffort` below `parent` (made too; empty: the root) of the
/// cgroup2 root and enables every controller that it has down to them. A controller that cannot be enabled is missing,
/// not an error.
pub fn prepare(root: &Path, parent: &str) -> io::Result<Controllers> {
    let offered = read(&root.join("cgroup.controllers"))?;
    let mut available: BTreeSet<String> = offered.split_whitespace().map(str::to_owned).collect();
    available = enable(root, &available);
    let mut own = root.to_owned();
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        own.push(part);
        make(&own)?;
        available = enable(&own, &available);
    }
    for name in TREE {
        let path = own.join(name);
        make(&path)?;
        available = enable(&path, &available);
    }
    let missing = NEEDED.iter().filter(|name| !available.contains(**name)).map(|name| (*name).to_owned());
    Ok(Controllers { missing: missing.collect(), available })
}

/// Makes a pod's cgroup (`kubepods/burstable/pod<uid>` below the root), writes its values (file name to text) and hands
/// the controllers on to its containers. Values of controllers that are not there are left out. Containers make their
/// own leaf: libcontainer enables nothing where the leaf exists.
pub fn make_pod(
    path: &Path,
    values: &BTreeMap<String, String>,
    controllers: &BTreeSet<String>,
) -> io::Result<()> {
    make(path)?;
    for (file, value) in values {
        let (controller, _) = file.split_once('.').unwrap_or((file, ""));
        if controllers.contains(controller) {
            let file = path.join(file);
            fs::write(&file, value)
                .map_err(|error| context(&error, &format!("write {value:?} to"), &file))?;
        }
    }
    enable(path, controllers);
    Ok(())
}

/// Why a cgroup in use cannot be given other values.
#[derive(Debug)]
pub enum Unfit {
    /// More memory is in use than it would have: the kernel would kill for it, and the write would wait for that.
    Below {
        limit: u64,
        usage: u64,
    },
    Write(io::Error),
}

/// Writes these files of a cgroup in use. A memory limit under what is in use is refused before anything is written.
pub fn resize(path: &Path, files: &[(&str, String)], controllers: &BTreeSet<String>) -> Result<(), Unfit> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let there = |file: &str| controllers.contains(file.split('.').next().unwrap_or_default());
    for (file, value) in files.iter().filter(|(file, _)| there(file)) {
        let usage = || fs::read_to_string(path.join("memory.current")).ok().and_then(|text| number(&text));
        let limit = number(value).filter(|_| *file == "memory.max");
        if let (Some(limit), Some(usage)) = (limit, limit.and_then(|_| usage()))
            && usage > limit
        {
            return Err(Unfit::Below { limit, usage });
        }
    }
    for (file, value) in files.iter().filter(|(file, _)| there(file)) {
        let file = path.join(file);
        let written = fs::write(&file, value);
        written.map_err(|error| Unfit::Write(context(&error, &format!("write {value:?} to"), &file)))?;
    }
    Ok(())
}

/// SIGKILL to everything in it and below. No such cgroup: nothing to do. Not waited for.
///
/// To end a start that hangs or was killed: the start helper's own cgroup first, then the container's. A process moves
/// from the first to the second only, so nothing is left out.
pub fn kill(path: &Path) -> io::Result<()> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => Ok(()),
        // Linux before 5.14. A fork in the meantime is caught by the next round.
        Err(error) if error.kind() == ErrorKind::NotFound => kill_each(path),
        Err(error) => Err(context(&error, "kill", path)),
    }
}

fn kill_each(path: &Path) -> io::Result<()> {
    for _ in 0..100 {
        let pids = pids(path)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            // One that is gone already is what we want.
            let _ = signal(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// Removes it with all below it, children first. Fails with EBUSY while a process lives in it; gone already is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    // Deepest first; a cgroup made meanwhile shows as EBUSY and is met at the next try.
    for each in tree(path)?.iter().rev() {
        match fs::remove_dir(each) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(context(&error, "remove cgroup", each)),
        }
    }
    Ok(())
}

/// How many processes in it the kernel killed for want of memory; 0 without the memory controller.
pub fn oom_kills(path: &Path) -> u64 {
    let events = fs::read_to_string(path.join("memory.events")).unwrap_or_default();
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The processes in it and below, zombies not; none where there is no such cgroup.
pub fn pids(path: &Path) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for each in tree(path)? {
        match fs::read_to_string(each.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok())),
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(context(&error, "list processes of", &each)),
        }
    }
    Ok(pids)
}

/// It and every cgroup below it, parents first. A loop, not a recursion: a container chooses the depth.
fn tree(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut ahead = vec![path.to_path_buf()];
    while let Some(next) = ahead.pop() {
        match fs::read_dir(&next) {
            Ok(entries) => {
                let entries = entries.filter_map(Result::ok);
                let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                ahead.extend(folders.map(|entry| entry.path()));
                found.push(next);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(context(&error, "list cgroup", &next)),
        }
    }
    Ok(found)
}

/// The controllers of `wanted` that are now enabled for the children of `path`. One at a time: the kernel takes all or
/// none of a line.
fn enable(path: &Path, wanted: &BTreeSet<String>) -> BTreeSet<String> {
    let file = path.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let enabled: BTreeSet<&str> = enabled.split_whitespace().collect();
    let absent: Vec<String> = wanted
        .iter()
        .filter(|name| !enabled.contains(name.as_str()))
        .map(|name| format!("+{name}"))
        .collect();
    // At once, since the kernel goes over the whole tree for each write; one by one only to learn which it refuses.
    if absent.is_empty() || fs::write(&file, absent.join(" ")).is_ok() {
        return wanted.clone();
    }
    let works =
        |name: &&String| enabled.contains(name.as_str()) || fs::write(&file, format!("+{name}")).is_ok();
    wanted.iter().filter(works).cloned().collect()
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(context(&error, "make cgroup", path)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| context(&error, "read", path))
}

fn context(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("podinit-cgroup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("make folder");
        path
    }

    #[test]
    fn the_tree_is_made_and_missing_controllers_are_told() {
        let root = folder("prepare");
        fs::write(root.join("cgroup.controllers"), "cpu memory io\n").expect("write");
        let found = prepare(&root, "").expect("prepare");
        assert_eq!(found.missing, ["pids"]);
        assert_eq!(found.available.iter().collect::<Vec<_>>(), ["cpu", "io", "memory"]);
        assert!(root.join("kubepods/besteffort").is_dir() && root.join("kubepods/burstable").is_dir());
        assert_eq!(prepare(&root, "").expect("twice"), found);
        assert_eq!(prepare(&root, "/own/er").expect("below"), found);
        assert!(root.join("own/er/kubepods/besteffort").is_dir());
        assert!(root.join("own/cgroup.subtree_control").exists(), "no controllers for our own parent");

        let pod = root.join("kubepods/burstable/podx");
        let values = [("cpu.weight", "39"), ("pids.max", "10"), ("memory.max", "4096")];
        let values = values.map(|(file, value)| (file.to_owned(), value.to_owned())).into();
        make_pod(&pod, &values, &found.available).expect("make");
        assert_eq!(fs::read_to_string(pod.join("cpu.weight")).expect("read"), "39");
        assert_eq!(fs::read_to_string(pod.join("memory.max")).expect("read"), "4096");
        assert!(!pod.join("pids.max").exists(), "a limit of a missing controller was written");

        fs::remove_dir_all(&root).expect("remove");
        assert!(prepare(&root, "").expect_err("no root").to_string().contains("cgroup.controllers"));
    }

    #[test]
    fn a_limit_under_what_is_in_use_is_refused_and_nothing_is_written() {
        let root = folder("resize");
        let all: BTreeSet<String> = ["cpu", "memory"].map(str::to_owned).into();
        let files = |memory: &str| [("memory.max", memory.to_owned()), ("cpu.weight", "39".to_owned())];
        let text = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        fs::write(root.join("memory.current"), "5000\n").expect("write");
        match resize(&root, &files("4999"), &all) {
            Err(Unfit::Below { limit: 4999, usage: 5000 }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!((text("memory.max"), text("cpu.weight")), (String::new(), String::new()));
        for memory in ["5000", "max"] {
            resize(&root, &files(memory), &all).expect("written");
            assert_eq!((text("memory.max").as_str(), text("cpu.weight").as_str()), (memory, "39"));
        }
        // Without the controller there is no such file.
        resize(&root, &files("1"), &["cpu".to_owned()].into()).expect("written");
        assert_eq!(text("memory.max"), "max");
        fs::remove_dir_all(&root).expect("remove");
        assert!(matches!(resize(&root, &files("1"), &all), Err(Unfit::Write(_))));
    }

    #[test]
    fn counts_and_lists_read() {
        let root = folder("read");
        assert_eq!((oom_kills(&root), pids(&root).expect("list")), (0, vec![]));
        fs::create_dir_all(root.join("a/b")).expect("make");
        fs::write(root.join("cgroup.procs"), "1\n22\n").expect("write");
        fs::write(root.join("a/b/cgroup.procs"), "333\n").expect("write");
        fs::write(root.join("memory.events"), "low 0\noom 2\noom_kill 3\noom_group_kill 1\n").expect("write");
        assert_eq!((oom_kills(&root), pids(&root).expect("list")), (3, vec![1, 22, 333]));
        fs::remove_dir_all(&root).expect("remove");
        assert_eq!(pids(&root).expect("gone"), Vec::<i32>::new());
    }

    #[test]
    fn removal_takes_children_first_and_may_be_repeated() {
        let root = folder("remove");
        fs::create_dir_all(root.join("x/y/z")).expect("make");
        fs::create_dir_all(root.join("x/w")).expect("make");
        remove(&root.join("x")).expect("remove");
        assert!(!root.join("x").exists());
        remove(&root.join("x")).expect("again");
        kill(&root.join("x")).expect("kill of nothing");
        fs::remove_dir_all(&root).expect("remove");
    }
}
