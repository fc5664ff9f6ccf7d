//! Starts a helper: this same binary as a child, with a clean signal state, exactly the descriptors it is given, and
//! in its cgroup from its first instruction on.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_char, c_uint};

use crate::container::child::{CLEAR_SIGHAND, INTO_CGROUP, clean_signals, clone3, close_on_exec};

/// Runs `/proc/self/exe` with these arguments (after `podinit`) and an empty environment; returns its pid, unreaped.
///
/// `fds`: pairs of our descriptor and the child's number for it, in any order and overlap. The child has these, and
/// 0 (/dev/null), 1 and 2 (ours) where they are not among them, and no other. `cgroup`: an existing cgroup2 directory;
/// the child is born in it, or (on a kernel that refuses that) enters it before it runs this binary.
/// A child that cannot do this much exits with 127.
pub fn spawn(args: &[&str], fds: &[(RawFd, RawFd)], cgroup: Option<&Path>) -> io::Result<i32> {
    spawn_in(args, fds, cgroup, 0)
}

/// The same in new namespaces (CLONE_NEW*).
pub fn spawn_in(
    args: &[&str],
    fds: &[(RawFd, RawFd)],
    cgroup: Option<&Path>,
    namespaces: u64,
) -> io::Result<i32> {
    let mut plan = Plan::new(args, fds, cgroup)?;
    let folder = cgroup.map(File::open).transpose().map_err(|error| {
        let path = cgroup.unwrap_or(Path::new("")).display();
        io::Error::new(error.kind(), format!("open cgroup {path}: {error}"))
    })?;

    let mut flags = CLEAR_SIGHAND | namespaces;
    if folder.is_some() {
        flags |= INTO_CGROUP;
    }
    let target = folder.as_ref().map_or(0, |folder| folder.as_raw_fd() as u64);
    match clone3(flags, target) {
        Ok(0) => plan.become_it(false),
        Ok(pid) => return Ok(pid),
        // No CLONE_INTO_CGROUP before Linux 5.7, no clone3 before 5.3 or under an old seccomp filter.
        Err(error) if namespaces == 0 && refused(&error) => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("clone: {error}"))),
    }
    // SAFETY: the child calls only async-signal-safe functions before exec.
    match unsafe { libc::fork() } {
        0 => plan.become_it(true),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

fn refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG | libc::EPERM)
    )
}

/// All that the child needs, made before it exists: between clone and exec it must not allocate.
struct Plan {
    /// Keeps what `argv` points to.
    _args: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: [*const c_char; 1],
    /// Ours, the child's; sorted by the child's.
    fds: Vec<(RawFd, RawFd)>,
    /// No number at or above it is among `fds`.
    free: RawFd,
    procs: Option<CString>,
}

impl Plan {
    fn new(args: &[&str], fds: &[(RawFd, RawFd)], cgroup: Option<&Path>) -> io::Result<Plan> {
        let words = std::iter::once("podinit").chain(args.iter().copied());
        let args = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let argv = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
        let mut fds = fds.to_vec();
        fds.sort_by_key(|(_, child)| *child);
        if fds.iter().any(|(ours, child)| *ours < 0 || *child < 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("negative descriptor in {fds:?}"),
            ));
        }
        if fds.windows(2).any(|pair| matches!(pair, [(_, one), (_, other)] if one == other)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("number used twice in {fds:?}")));
        }
        let free = fds.iter().map(|(ours, child)| (*ours).max(*child)).max().unwrap_or(2).max(2) + 1;
        let procs =
            cgroup.map(|path| CString::new(path.join("cgroup.procs").as_os_str().as_bytes())).transpose()?;
        Ok(Plan { _args: args, argv, envp: [std::ptr::null()], fds, free, procs })
    }

    /// In the child. Any failure ends it: a helper with a wrong descriptor or outside its cgroup must not run.
    fn become_it(&mut self, enter: bool) -> ! {
        // SAFETY: only system calls on memory that the parent prepared; the child never returns from here.
        unsafe {
            if !((!enter || self.enter()) && self.arrange() && clean_signals()) {
                libc::_exit(127);
            }
            // Ctrl-C on the terminal of `podinit run` is for podinit alone, not for its logger or a start under way.
            libc::setsid();
            libc::execve(c"/proc/self/exe".as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            libc::_exit(127)
        }
    }

    fn enter(&self) -> bool {
        let Some(procs) = &self.procs else { return true };
        // SAFETY: plain system calls on a string that outlives them.
        unsafe {
            let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            fd >= 0 && libc::write(fd, c"0".as_ptr().cast(), 1) == 1
        }
    }

    /// First every descriptor to a number beyond all of ours and the child's, then each to its place: no order of
    /// direct moves is right for every overlap.
    fn arrange(&mut self) -> bool {
        // SAFETY: plain system calls on numbers.
        unsafe {
            for (ours, _) in &mut self.fds {
                *ours = libc::fcntl(*ours, libc::F_DUPFD_CLOEXEC, self.free);
                if *ours < 0 {
                    return false;
                }
            }
            if !self.fds.iter().any(|(_, child)| *child == 0) {
                let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
                if null < 0 || (null != 0 && (libc::dup2(null, 0) < 0 || libc::close(null) < 0)) {
                    return false;
                }
            }
            // All of ours are CLOEXEC in the gaps between the child's numbers; dup2 clears it on those.
            let mut next: c_uint = 3;
            for (ours, child) in &self.fds {
                if libc::dup2(*ours, *child) < 0 {
                    return false;
                }
                let child = *child as c_uint;
                if child >= 3 {
                    if child > next && !close_on_exec(next, child - 1) {
                        return false;
                    }
                    next = child + 1;
                }
            }
            close_on_exec(next, c_uint::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_plans_are_refused_before_there_is_a_child() {
        for fds in [&[(0, 3), (1, 3)][..], &[(-1, 3)], &[(0, -1)]] {
            assert!(spawn(&["start"], fds, None).is_err(), "{fds:?}");
        }
        assert!(spawn(&["nul\0"], &[], None).is_err());
        let error = spawn(&["start"], &[], Some(Path::new("/nowhere"))).expect_err("no such cgroup");
        assert!(error.to_string().contains("open cgroup /nowhere"), "{error}");
    }
}
