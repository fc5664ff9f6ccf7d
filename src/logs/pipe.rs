//! The few calls on pipes that a loss-free logger is made of.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice, tee};
use nix::unistd::{pipe2, read};

/// The most that is taken from a stream at once: what a pipe of default size holds.
pub const BATCH: usize = 64 << 10;

/// How many bytes lie in the pipe.
pub fn fill(pipe: BorrowedFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the address given.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut bytes) };
    Errno::result(result)?;
    usize::try_from(bytes).map_err(|_| io::Error::other("FIONREAD told a negative size"))
}

/// What moving bytes from one pipe to another found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Bytes,
    /// Nothing there now.
    Empty,
    /// Nothing there, and nobody left who could write.
    End,
}

/// Moves what lies in `from` to `to`, at most BATCH bytes: within the kernel, so that no byte is ever in neither.
pub fn shift(from: BorrowedFd, to: BorrowedFd) -> io::Result<Moved> {
    match splice(from, None, to, None, BATCH, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(0) => Ok(Moved::End),
        Ok(_) => Ok(Moved::Bytes),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Moved::Empty),
        Err(error) => Err(error.into()),
    }
}

/// A pipe to look into others with.
pub struct Scratch {
    read: OwnedFd,
    write: OwnedFd,
}

impl Scratch {
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Scratch { read, write })
    }

    /// Appends to `out` the first bytes of the pipe, at most `count`, and leaves them there.
    pub fn peek(&self, pipe: BorrowedFd, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let copied = tee(pipe, self.write.as_fd(), count, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        take(self.read.as_fd(), copied, Some(out))
    }
}

/// Takes `count` bytes out of the pipe, which must hold them; appends them to `out` if given.
pub fn take(pipe: BorrowedFd, count: usize, mut out: Option<&mut Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let mut left = count;
    while left > 0 {
        let room = left.min(buffer.len());
        let Some(space) = buffer.get_mut(..room) else { break };
        match read(pipe, space) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                left = left.saturating_sub(got);
                if let Some(out) = &mut out {
                    out.extend_from_slice(space.get(..got).unwrap_or_default());
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
