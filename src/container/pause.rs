//! The first process of a pod whose containers share one pid namespace: held by a bind mount as the other namespaces
//! are, found again by its pid's file, made anew where it died.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::sandbox::unmount;

/// `pid` under the sandbox's `ns/`, and the file with the process' number as the machine sees it.
const NAMESPACE: &str = "ns/pid";
const NUMBER: &str = "pause";

/// PF_EXITING of a process' flags (linux/sched.h): set before the kernel kills all others in its namespace.
const EXITING: u64 = 4;

/// Whether the pod of this sandbox has its first process: the one that was held, and alive. A pid may have been used
/// again, so its namespace must be the one that is held. One that is dying waits, no zombie yet, until every other
/// process of the namespace has been reaped, which takes no new one from then on.
pub fn lives(dir: &Path) -> bool {
    let held = || -> Option<bool> {
        let pid: i32 = fs::read_to_string(dir.join(NUMBER)).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, five numbers, flags.
        let flags: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()?;
        let about = |path: &Path| fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
        let own = about(Path::new(&format!("/proc/{pid}/ns/pid")))?;
        Some(flags & EXITING == 0 && own == about(&dir.join(NAMESPACE))?)
    };
    held().unwrap_or(false)
}

/// Waits until the first process of this sandbox has let go of the machine's files: before, no container may see it.
/// The seccomp filter is the last thing that it does for that. Err: it has ended, or does not begin within `limit`.
pub fn begun(dir: &Path, limit: Duration) -> io::Result<()> {
    let until = Instant::now() + limit;
    while lives(dir) {
        let pid = fs::read_to_string(dir.join(NUMBER))?;
        let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
        if status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(io::Error::other("the pause helper does not begin"));
        }
        // A helper's nap: nobody waits for it but its own container.
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other("the pause helper has ended"))
}

/// Holds the namespace of this process, instead of any before. It must be the first in a pid namespace of its own.
pub fn hold(dir: &Path, pid: i32) -> io::Result<()> {
    let path = dir.join(NAMESPACE);
    let error = |error: io::Error| io::Error::new(error.kind(), format!("hold {}: {error}", path.display()));
    unmount(&path)?;
    match File::create_new(&path) {
        Err(trouble) if trouble.kind() != ErrorKind::AlreadyExists => return Err(error(trouble)),
        Ok(_) | Err(_) => {}
    }
    let source = format!("/proc/{pid}/ns/pid");
    mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|trouble| error(trouble.into()))?;
    fs::write(dir.join(NUMBER), pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// PID 1 waited for it, up to five seconds.
    #[test]
    fn a_pause_process_that_does_not_begin_is_the_start_helpers_to_wait_for() {
        let dir = std::env::temp_dir().join(format!("podinit-pause-{}", std::process::id()));
        fs::create_dir_all(dir.join("ns")).expect("a sandbox");
        let told = |limit| begun(&dir, limit).expect_err("it does not begin").to_string();
        assert_eq!(told(Duration::ZERO), "the pause helper has ended");
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().expect("a process");
        fs::write(dir.join(NUMBER), child.id().to_string()).expect("its number");
        symlink(format!("/proc/{}/ns/pid", child.id()), dir.join(NAMESPACE)).expect("its namespace");
        assert_eq!(told(Duration::from_millis(20)), "the pause helper does not begin");
        child.kill().and_then(|()| child.wait()).expect("its end");
        assert_eq!(told(Duration::from_secs(60)), "the pause helper has ended");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
