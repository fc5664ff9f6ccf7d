//! The serial line while nobody is at it: PID 1 listens for the first Enter, and only then there is a prompt.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::termios::{ControlFlags, SetArg, tcgetattr, tcsetattr};

use crate::config::{Prompt, console_terminal};

pub struct Line {
    terminal: File,
}

impl Line {
    /// Listens to the terminal. It becomes nobody's controlling one, and no carrier is waited for.
    pub fn open(path: &str, speed: Option<u32>) -> io::Result<Line> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let terminal = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if let Some(speed) = speed.and_then(rate) {
            let mut mode = tcgetattr(&terminal)?;
            // The kernel sets up its console alone; most lines have no wire for a carrier.
            mode.control_flags |= ControlFlags::CLOCAL;
            // As cfsetspeed(3) does it, whose versioned name a static C library does not have.
            mode.control_flags.remove(ControlFlags::CBAUD);
            mode.control_flags |= speed;
            tcsetattr(&terminal, SetArg::TCSANOW, &mode)?;
        }
        Ok(Line { terminal })
    }

    /// Poll it for reading: a line is typed, or the terminal is gone. What was typed is left to the prompt.
    pub fn fd(&self) -> RawFd {
        self.terminal.as_raw_fd()
    }
}

/// The terminal that the prompt is on, and the speed that it is given; None: there is none.
pub fn of(prompt: &Prompt) -> Option<(String, Option<u32>)> {
    match prompt {
        Prompt::Console => console_terminal().map(|path| (path, None)),
        Prompt::Terminal(terminal) => Some((format!("/dev/{}", terminal.name), terminal.speed)),
        Prompt::None => None,
    }
}

/// One of `config::SPEEDS` as termios names it.
fn rate(speed: u32) -> Option<ControlFlags> {
    Some(ControlFlags::from_bits_retain(match speed {
        9600 => libc::B9600,
        19_200 => libc::B19200,
        38_400 => libc::B38400,
        57_600 => libc::B57600,
        115_200 => libc::B115200,
        230_400 => libc::B230400,
        460_800 => libc::B460800,
        921_600 => libc::B921600,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SPEEDS;

    #[test]
    fn every_speed_of_the_configuration_has_a_rate() {
        assert!(SPEEDS.iter().all(|speed| rate(*speed).is_some()));
    }
}
