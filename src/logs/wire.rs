//! What PID 1 and the logger say to each other: one JSON message a packet on a SOCK_SEQPACKET pair.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, fchown, pipe2};
use serde::{Deserialize, Serialize};

/// The longest message.
const LONGEST: usize = 16 << 10;

/// Take up a container's output. With it go six descriptors: the read ends of stdout and stderr, then the read and
/// write end of stdout's stage, then those of stderr's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// PID 1's name for it, told again in `Report::Done`.
    pub id: String,
    /// The log: `paths::log`.
    pub path: PathBuf,
    /// Rotate at this size, in bytes; 0: never.
    pub max_size: u64,
    pub max_files: u32,
    /// A file of its own on a tmpfs, that outlives the logger. Remove it (`writer::forget`) after `Done`.
    pub state: PathBuf,
}

/// What the logger tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Both streams have ended and all of them is written: PID 1 may close its descriptors.
    Done { id: String },
}

/// The pipes of one run of a container. None of them is close-on-exec: PID 1 keeps them over its own re-execution.
#[derive(Debug)]
pub struct Pipes {
    /// The container's stdout: read end, write end. PID 1 closes the write ends once the container has them.
    pub stdout: (OwnedFd, OwnedFd),
    pub stderr: (OwnedFd, OwnedFd),
    /// The logger's private pipes; both ends stay with PID 1 until `Done`.
    pub stdout_stage: (OwnedFd, OwnedFd),
    pub stderr_stage: (OwnedFd, OwnedFd),
}

impl Pipes {
    /// In the order of `Add`.
    pub fn for_logger(&self) -> [BorrowedFd<'_>; 6] {
        [
            self.stdout.0.as_fd(),
            self.stderr.0.as_fd(),
            self.stdout_stage.0.as_fd(),
            self.stdout_stage.1.as_fd(),
            self.stderr_stage.0.as_fd(),
            self.stderr_stage.1.as_fd(),
        ]
    }
}

/// Makes a run's pipes. The output pipes belong to `owner`, so that a container that is not root may open /dev/stdout.
pub fn pipes(owner: u32) -> io::Result<Pipes> {
    let plain = || pipe2(OFlag::empty()).map_err(io::Error::from);
    let output = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = plain()?;
        // The read end's own flag; the container's end keeps blocking.
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fchown(&write, Some(Uid::from_raw(owner)), None)?;
        fchmod(&write, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok((read, write))
    };
    Ok(Pipes { stdout: output()?, stderr: output()?, stdout_stage: plain()?, stderr_stage: plain()? })
}

/// Hands a container's output to the logger; `fds` from `Pipes::for_logger`.
pub fn add(socket: BorrowedFd, order: &Add, fds: [BorrowedFd; 6]) -> io::Result<()> {
    let raw = fds.map(|fd| fd.as_raw_fd());
    send(socket, &serde_json::to_vec(order)?, &raw)
}

/// The next thing that the logger tells; None where there is nothing now (or, once it has died, ever).
pub fn report(socket: BorrowedFd) -> io::Result<Option<Report>> {
    match receive(socket, MsgFlags::MSG_DONTWAIT)? {
        Some((bytes, _)) if !bytes.is_empty() => Ok(Some(serde_json::from_slice(&bytes)?)),
        Some(_) | None => Ok(None),
    }
}

/// The logger's side of `report`.
pub fn tell(socket: BorrowedFd, report: &Report) -> io::Result<()> {
    send(socket, &serde_json::to_vec(report)?, &[])
}

/// The logger's side of `add`: what it got.
pub enum Order {
    Add(Add, Box<[OwnedFd; 6]>),
    /// PID 1 has closed its end.
    End,
    /// Nothing now.
    Nothing,
}

/// The next order; an error is a message that cannot be understood.
pub fn order(socket: BorrowedFd) -> io::Result<Order> {
    let Some((bytes, fds)) = receive(socket, MsgFlags::MSG_DONTWAIT)? else { return Ok(Order::Nothing) };
    if bytes.is_empty() {
        return Ok(Order::End);
    }
    let count = fds.len();
    let fds = fds.try_into().map_err(|_| io::Error::other(format!("{count} descriptors instead of 6")))?;
    Ok(Order::Add(serde_json::from_slice(&bytes)?, Box::new(fds)))
}

fn send(socket: BorrowedFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// One packet and its descriptors; None: nothing there now. A closed socket is an empty packet.
fn receive(socket: BorrowedFd, flags: MsgFlags) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([RawFd; 6]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(Errno::ECONNRESET) => return Ok(Some((Vec::new(), Vec::new()))),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    Ok(Some((bytes, fds)))
}
