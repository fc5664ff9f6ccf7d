//! `podinit check <milliseconds> <request.json>`: a command in a container for a probe or a hook (0: no time limit).
//! What it says, at most 10 KiB, goes out over descriptor 3; the exit code tells how it went: see `pod::probe::Try`.
//!
//! The process that enters the container is a fork: this one stays outside, reads, keeps the time, and kills.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::exec;
use crate::container::cgroup;
use crate::container::enter::{self, Request};
use crate::pod::probe::{OUTPUT, Try};

/// Runs the command; the exit code is that of its result.
pub fn run(args: &[String]) -> i32 {
    let result = match args {
        [limit, place] => match (limit.parse(), exec::request(place)) {
            (Ok(limit), Ok(request)) => check(&request, Duration::from_millis(limit)),
            (Err(_), _) => Try::Error(format!("{limit:?} is no number of milliseconds")),
            (_, Err(why)) => Try::Error(format!("read request {place}: {why}")),
        },
        _ => Try::Error("usage: podinit check MILLISECONDS REQUEST".into()),
    };
    tell(&result)
}

/// Over descriptor 3, a pipe that holds more than 10 KiB: nobody is waited for.
pub(super) fn tell(result: &Try) -> i32 {
    // SAFETY: PID 1 gave it to us; where it did not, the write fails, and the exit code tells enough.
    let mut output = unsafe { File::from_raw_fd(3) };
    let _ = output.write_all(result.text().as_bytes());
    result.code()
}

fn check(request: &Request, limit: Duration) -> Try {
    match begin(request) {
        Ok(begun) => begun.end(request, limit),
        Err(why) => Try::Error(format!("exec: {why}")),
    }
}

struct Begun {
    child: i32,
    ended: OwnedFd,
    output: File,
    fault: File,
}

fn begin(request: &Request) -> io::Result<Begun> {
    let (output, write) = pipe2(OFlag::O_CLOEXEC)?;
    let (fault, complain) = pipe2(OFlag::O_CLOEXEC)?;
    let own = std::process::id();
    // SAFETY: this process has one thread, so its fork may do whatever it may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((output, fault));
            enter_it(request, own, write, complain)
        }
        ForkResult::Parent { child } => {
            fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            // SAFETY: a plain call that returns a new descriptor or -1.
            let ended = match unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) } {
                -1 => return Err(io::Error::last_os_error()),
                // SAFETY: it is new and nobody else's.
                fd => unsafe { OwnedFd::from_raw_fd(fd as i32) },
            };
            Ok(Begun { child: child.as_raw(), ended, output: output.into(), fault: fault.into() })
        }
    }
}

/// In the fork. Dies with its parent, whose pid the command's cgroup is named after.
fn enter_it(request: &Request, parent: u32, output: OwnedFd, complain: OwnedFd) -> ! {
    // SAFETY: plain calls on numbers; _exit runs nothing of the parent's that was copied.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        let placed = libc::getppid() == parent as i32
            && libc::dup2(output.as_raw_fd(), 1) >= 0
            && libc::dup2(output.as_raw_fd(), 2) >= 0;
        if !placed {
            libc::_exit(126);
        }
    }
    drop(output);
    let code = match enter::attempt(request, parent) {
        Ok(code) => code,
        Err(fault) => {
            let _ = File::from(complain).write_all(fault.message.as_bytes());
            fault.code
        }
    };
    // SAFETY: as above.
    unsafe { libc::_exit(code) }
}

impl Begun {
    fn end(mut self, request: &Request, limit: Duration) -> Try {
        let until = (!limit.is_zero()).then(|| Instant::now() + limit);
        let mut said = Vec::new();
        let in_time = self.listen(until, &mut said);
        let group = enter::cgroup(&request.cgroup, std::process::id());
        if !in_time {
            // First who enters, so that nothing new begins; then what began, which may not be there yet or any more.
            let _ = kill(Pid::from_raw(self.child), Signal::SIGKILL);
            let _ = cgroup::kill(&group);
        }
        let code = wait(self.child);
        if !in_time {
            let _ = cgroup::kill(&group);
            let _ = cgroup::remove(&group);
        }
        self.hear(&mut said);
        let said = String::from_utf8_lossy(&said).into_owned();
        let mut fault = String::new();
        // Whoever might write to it has ended.
        let _ = self.fault.read_to_string(&mut fault);
        match (in_time, code) {
            (false, _) => Try::Failure(format!("command {:?} timed out", request.args.join(" "))),
            (true, _) if !fault.is_empty() => Try::Error(fault),
            (true, 0) => Try::Success(said),
            (true, _) => Try::Failure(said),
        }
    }

    /// Reads until the command has ended; false: the time was over first. A process that it left in the background may
    /// hold the pipe, so the pipe's end tells nothing.
    fn listen(&mut self, until: Option<Instant>, said: &mut Vec<u8>) -> bool {
        let mut open = true;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            let mut polled = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            if open {
                polled.push(PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
            }
            // Rounded up: a look too early would be one more.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
            if polled.first().is_some_and(|fd| fd.any().unwrap_or(false)) {
                return true;
            }
            drop(polled);
            open = open && self.hear(said);
        }
    }

    /// Reads what is there, keeps what is wanted; false: the pipe is closed.
    fn hear(&mut self, said: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let wanted = length.min(OUTPUT - said.len());
                    said.extend(buffer.iter().take(wanted));
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return why.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn wait(child: i32) -> i32 {
    loop {
        match waitpid(Pid::from_raw(child), None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 126,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A command of this machine's shell in place of one that entered a container. `limit` in milliseconds, 0: none.
    fn outcome(script: &str, limit: u64, fault: &str) -> Try {
        let (output, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (hear, complain) = pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let to = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(to(&write)).stderr(to(&write));
        // Waited for by its pid, as the fork is.
        let child = command.spawn().unwrap().id() as i32;
        drop((command, write));
        File::from(complain).write_all(fault.as_bytes()).unwrap();
        // SAFETY: a plain call that returns a new descriptor.
        let ended = unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, child, 0) as i32) };
        let begun = Begun { child, ended, output: output.into(), fault: hear.into() };
        let request = Request {
            pid: 0,
            cgroup: "/nonexistent".into(),
            process: Default::default(),
            seccomp: None,
            args: vec!["sh".into(), "-c".into(), script.into()],
            tty: false,
        };
        begun.end(&request, Duration::from_millis(limit))
    }

    /// F4, the kubelet's exec_test, and what is not in it.
    #[test]
    fn f4_an_exit_and_what_was_said_make_the_result() {
        let (fine, bad) = (|text: &str| Try::Success(text.into()), |text: &str| Try::Failure(text.into()));
        let flood = "head -c 11264 /dev/zero | tr '\\0' x";
        let table = [
            ("printf OK", 0, "", fine("OK")),
            ("printf OK", 600_000, "", fine("OK")),
            ("true", 0, "", fine("")),
            ("echo no; exit 1", 0, "", bad("no\n")),
            ("echo no >&2; exit 1", 0, "", bad("no\n")),
            ("exit 255", 0, "", bad("")),
            ("echo last; kill -9 $$", 0, "", bad("last\n")),
            (flood, 0, "", fine(&"x".repeat(10240))),
            (&format!("{flood}; exit 3"), 0, "", bad(&"x".repeat(10240))),
            (
                "echo slow; exec sleep 600",
                100,
                "",
                bad("command \"sh -c echo slow; exec sleep 600\" timed out"),
            ),
            ("exit 127", 0, "exec failed: no such file", Try::Error("exec failed: no such file".into())),
        ];
        for (script, limit, fault, expected) in table {
            assert_eq!(outcome(script, limit, fault), expected, "{script}");
        }
        // Whoever it leaves in the background, with the pipe in hand, is not waited for.
        let Try::Success(said) = outcome("sleep 600 & echo $!", 0, "") else { panic!("it is waited for") };
        kill(Pid::from_raw(said.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }
}
