//! The first process of a pod whose containers share one pid namespace: held by a bind mount as the other namespaces
//! are, found again by its pid's file, made anew where it died.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
