//! The operator's own terminal: raw mode that is always taken back, its size, and the signals that matter meanwhile.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);

/// A terminal in raw mode; dropping it takes that back.
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// None where this is no terminal.
    pub fn set(terminal: BorrowedFd<'a>) -> Option<Raw<'a>> {
        let before = tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal, SetArg::TCSANOW, &raw).ok()?;
        Some(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Nothing more can be done where the terminal is gone.
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Gives `to` the window size of `from`, where both are terminals.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    // SAFETY: all zeros are a valid winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in a winsize that lives for the call.
    if unsafe { window_size(from.as_raw_fd(), &raw mut size) }.is_ok() && size.ws_row > 0 {
        // SAFETY: the kernel reads a winsize that lives for the call. A refusal leaves the size as it is.
        let _ = unsafe { set_window_size(to.as_raw_fd(), &raw const size) };
    }
}

/// Readable when one of some signals came.
pub struct Caught {
    reader: UnixStream,
    ids: Vec<SigId>,
}

impl Caught {
    /// From now on these signals are caught.
    pub fn new(signals: &[Signal]) -> io::Result<Caught> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let mut caught = Caught { reader, ids: Vec::new() };
        for signal in signals {
            caught.ids.push(pipe::register(*signal as i32, writer.try_clone()?)?);
        }
        Ok(caught)
    }

    /// Forgets those that came.
    pub fn clear(&mut self) {
        let mut buffer = [0; 64];
        while io::Read::read(&mut self.reader, &mut buffer).is_ok_and(|size| size > 0) {}
    }
}

impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.ids.drain(..).for_each(|id| {
            unregister(id);
        });
    }
}
