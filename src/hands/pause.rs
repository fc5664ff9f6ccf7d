//! The first process of a pod whose containers share a pid namespace.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use super::{Hands, paths};
use crate::container::{cgroup, pause};
use crate::pod::Pod;
use crate::spawn::{spawn, spawn_in};

/// How long the helper may take that bears it in a user namespace, in milliseconds: it is a few milliseconds' work.
const BORN_WITHIN: u16 = 1000;

impl Hands {
    /// Sees to the first process of a pod whose containers share a pid namespace. Where it died, the kernel has killed
    /// all of them with it; the next start finds a new one.
    pub(super) fn pause(&self, pod: &Pod) -> io::Result<()> {
        let paths = paths::pod(&self.config, pod);
        if pause::lives(&paths.sandbox) {
            return Ok(());
        }
        // A leaf: the pod's own cgroup hands on controllers and so may hold no process.
        let group = paths::cgroup(&self.config, &paths.cgroup).join("pause");
        fs::create_dir_all(&group)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let fds = [0, 1, 2].map(|number| (null.as_raw_fd(), number));
        let pid = match pod.spaces.own_users {
            true => born_among(&self.users(pod), fds, &group)?,
            false => {
                let namespaces = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;
                spawn_in(&["__pause"], &fds, Some(&group), namespaces)?
            }
        };
        // Whether it begins is for the start helpers to wait for, each before it makes a container.
        pause::hold(&paths.sandbox, pid).inspect_err(|_| {
            let _ = cgroup::kill(&group);
        })
    }
}

/// Bears a pause process whose pid namespace belongs to the pod's user namespace (`users`): only that one's root can, so a helper
/// enters it, bears it, tells its number by a pipe, and ends. It runs beside us and not in the pod's cgroup, whose limits
/// may be such that a moment there is long: we wait for the number.
fn born_among(users: &Path, fds: [(RawFd, RawFd); 3], group: &Path) -> io::Result<i32> {
    let (hear, tell) = pipe2(OFlag::O_CLOEXEC)?;
    let fds: Vec<_> = fds.into_iter().chain([(tell.as_raw_fd(), 3)]).collect();
    spawn(&["__pause", &users.display().to_string()], &fds, None)?;
    drop(tell);
    let mut polls = [PollFd::new(hear.as_fd(), PollFlags::POLLIN)];
    let heard = loop {
        match poll(&mut polls, PollTimeout::from(BORN_WITHIN)) {
            // Another child's end; each costs at most the whole time once more.
            Err(Errno::EINTR) => {}
            heard => break heard?,
        }
    };
    if heard == 0 {
        return Err(io::Error::other("the pause helper is not born"));
    }
    // A number is shorter than what a pipe takes in one piece.
    let mut told = [0; 16];
    let count = File::from(hear).read(&mut told)?;
    let pid =
        std::str::from_utf8(told.get(..count).unwrap_or_default()).ok().and_then(|pid| pid.parse().ok());
    let pid: i32 =
        pid.ok_or_else(|| io::Error::other("the pause helper could not enter the user namespace"))?;
    fs::write(group.join("cgroup.procs"), pid.to_string()).inspect_err(|_| {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    })?;
    Ok(pid)
}
