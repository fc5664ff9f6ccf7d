//! The serial line while nobody is at it: PID 1 listens for the first Enter, and only then there is a prompt.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

pub struct Line {
    terminal: File,
}

impl Line {
    /// Listens to the terminal. It becomes nobody's controlling one, and no carrier is waited for.
    pub fn open(path: &str) -> io::Result<Line> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        Ok(Line { terminal: OpenOptions::new().read(true).custom_flags(flags).open(path)? })
    }

    /// Poll it for reading: a line is typed, or the terminal is gone. What was typed is left to the prompt.
    pub fn fd(&self) -> RawFd {
        self.terminal.as_raw_fd()
    }
}

/// The serial line that the kernel's console is on: the last one that it names.
pub fn console() -> Option<String> {
    let active = fs::read_to_string("/sys/class/tty/console/active").ok()?;
    let name = active.split_whitespace().last()?;
    Some(format!("/dev/{name}"))
}
