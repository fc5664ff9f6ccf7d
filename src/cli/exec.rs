//! `exec`: a command in a container, with this process's own stdin, stdout and stderr or a terminal of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{isatty, read, write};

use super::args::Exec;
use super::ask::{receive, send, unexpected};
use super::terminal::{Caught, Raw, copy_size};
use super::{Failure, World, names};
use crate::operator::fds;
use crate::operator::request::{Answer, Request};

/// Ctrl-D: what a terminal's reader takes for the end of its input.
const END_OF_INPUT: u8 = 4;

/// Runs the command; its exit code.
pub fn exec(exec: &Exec, world: &mut World<'_>) -> Result<i32, Failure> {
    let pods = names::pods(world)?;
    let pod = names::one(&pods, &exec.pod, &exec.namespace)?;
    let container = names::container(pod, exec.container.as_deref(), world)?;
    world.out.flush()?;
    let request = Request::Exec {
        namespace: exec.namespace.clone(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        container,
        command: exec.command.clone(),
        tty: exec.tty,
    };
    let answer = if exec.tty { terminal(exec, &request, world) } else { plain(exec, &request, world) }?;
    match answer {
        Answer::Ended { code: 0 } => Ok(0),
        Answer::Ended { code } => {
            writeln!(world.err, "command terminated with exit code {code}")?;
            Ok(code)
        }
        other => Err(unexpected(&other)),
    }
}

/// The command reads and writes what this process would.
fn plain(exec: &Exec, request: &Request, world: &World<'_>) -> Result<Answer, Failure> {
    let nothing = File::open("/dev/null")?;
    let [stdin, stdout, stderr] = world.stdio;
    let stdin = if exec.stdin { stdin } else { nothing.as_fd() };
    let stream = send(&world.socket, request, &[stdin, stdout, stderr])?;
    receive(&stream)
}

/// The command has a pty, whose other side comes over a socket and is passed on to and from here.
fn terminal(exec: &Exec, request: &Request, world: &mut World<'_>) -> Result<Answer, Failure> {
    let [stdin, stdout, _] = world.stdio;
    if exec.stdin && !isatty(stdin).unwrap_or(false) {
        writeln!(world.err, "Unable to use a TTY - input is not a terminal or the right kind of file")?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    let mut session = Session {
        resized: Caught::new(&[Signal::SIGWINCH])?,
        ended: Caught::new(&[Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT])?,
        answer: send(&world.socket, request, &[theirs.as_fd()])?,
        master: Master::Awaited(ours),
        stdin: exec.stdin.then_some(stdin),
        stdout,
        input: Vec::new(),
    };
    drop(theirs);
    // Only where the command is to read keys; without -i, Ctrl-C must still end this process.
    let raw = if exec.stdin { Raw::set(stdin) } else { None };
    let answer = session.pass();
    drop(raw);
    answer
}

/// The pty's other side.
enum Master {
    Awaited(UnixStream),
    Open(OwnedFd),
    Gone,
}

struct Session<'a> {
    resized: Caught,
    ended: Caught,
    answer: UnixStream,
    master: Master,
    /// None: nothing more comes from it.
    stdin: Option<BorrowedFd<'a>>,
    stdout: BorrowedFd<'a>,
    /// Read from stdin, not yet taken by the command.
    input: Vec<u8>,
}

impl Session<'_> {
    /// Passes bytes on until the answer comes.
    fn pass(&mut self) -> Result<Answer, Failure> {
        loop {
            let [answer, resized, ended, master, stdin] = self.wait()?;
            if ended {
                return Err(Failure { text: String::new(), code: 130 });
            }
            if resized {
                self.resized.clear();
                self.resize();
            }
            if master {
                self.output()?;
            }
            if stdin {
                self.keys()?;
            }
            self.push();
            if answer {
                let answer = receive(&self.answer)?;
                // What the command wrote last is in the pty still.
                self.output()?;
                return Ok(answer);
            }
        }
    }

    /// Which of the answer, the signals, the pty and stdin have something.
    fn wait(&self) -> Result<[bool; 5], Failure> {
        let (master, events) = match &self.master {
            Master::Awaited(socket) => (Some(socket.as_fd()), PollFlags::POLLIN),
            Master::Open(master) if self.input.is_empty() => (Some(master.as_fd()), PollFlags::POLLIN),
            Master::Open(master) => (Some(master.as_fd()), PollFlags::POLLIN | PollFlags::POLLOUT),
            Master::Gone => (None, PollFlags::empty()),
        };
        // Keys wait until the pty is there, and while it takes none.
        let ready = matches!(self.master, Master::Open(_)) && self.input.is_empty();
        let stdin = self.stdin.filter(|_| ready);
        let wanted = [
            Some((self.answer.as_fd(), PollFlags::POLLIN)),
            Some((self.resized.as_fd(), PollFlags::POLLIN)),
            Some((self.ended.as_fd(), PollFlags::POLLIN)),
            master.map(|fd| (fd, events)),
            stdin.map(|fd| (fd, PollFlags::POLLIN)),
        ];
        let mut list: Vec<PollFd<'_>> =
            wanted.iter().flatten().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
        match poll(&mut list, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok([false; 5]),
            Err(why) => return Err(io::Error::from(why).into()),
        }
        let mut fired = list.iter().map(|entry| entry.any().unwrap_or(true));
        Ok(wanted.map(|entry| entry.is_some() && fired.next().unwrap_or(false)))
    }

    /// Takes the pty, or what the command wrote to it.
    fn output(&mut self) -> Result<(), Failure> {
        if let Master::Awaited(socket) = &self.master {
            let mut came = Vec::new();
            let nothing = fds::receive(socket.as_fd(), &mut [0; 16], &mut came).unwrap_or(0) == 0;
            match came.into_iter().next() {
                Some(master) => {
                    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
                        .map_err(io::Error::from)?;
                    self.master = Master::Open(master);
                    self.resize();
                }
                None if nothing => self.master = Master::Gone,
                None => {}
            }
        }
        let Master::Open(master) = &self.master else { return Ok(()) };
        let mut buffer = [0; 16 << 10];
        loop {
            match read(master, &mut buffer) {
                Ok(size) if size > 0 => all(self.stdout, &buffer[..size])?,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                // EIO: no one has the terminal open any more.
                Ok(_) | Err(_) => {
                    self.master = Master::Gone;
                    return Ok(());
                }
            }
        }
    }

    fn keys(&mut self) -> Result<(), Failure> {
        let Some(stdin) = self.stdin else { return Ok(()) };
        let mut buffer = [0; 4 << 10];
        match read(stdin, &mut buffer) {
            Ok(0) => {
                self.input.push(END_OF_INPUT);
                self.stdin = None;
            }
            Ok(size) => self.input.extend_from_slice(&buffer[..size]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.stdin = None,
        }
        Ok(())
    }

    /// Hands the input on as far as the command takes it.
    fn push(&mut self) {
        let Master::Open(master) = &self.master else { return };
        while !self.input.is_empty() {
            match write(master, &self.input) {
                Ok(size) => drop(self.input.drain(..size)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.input.clear(),
            }
        }
    }

    fn resize(&self) {
        if let Master::Open(master) = &self.master {
            copy_size(self.stdout, master.as_fd());
        }
    }
}

/// Writes everything, however long it takes.
fn all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                // The operator's terminal is non-blocking by someone else's doing.
                poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE)
                    .map_err(io::Error::from)?;
            }
            Err(why) => return Err(io::Error::from(why).into()),
        }
    }
    Ok(())
}
