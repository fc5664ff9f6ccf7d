//! The logger: one line for one fact, one write(2) a line, on the console.
//!
//! `simple_logger` decides what is logged (the level, and the quieter level of the crates below us); the line itself is
//! ours, since simple_logger's has no room for the time since boot and may take two writes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use simple_logger::SimpleLogger;

use crate::clock::Tick;

/// How long a line waits for a console that takes nothing (a terminal stopped by Ctrl-S), in milliseconds.
/// After one line lost the next do not wait at all, so that no terminal can stop PID 1.
const PATIENCE: u16 = 200;

/// Logs to the board's console, or to standard error as long as /dev/console cannot be opened. Called again it opens
/// the console anew: once before /dev is mounted, once after.
pub fn board(level: LevelFilter) {
    let console = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/console")
        .ok();
    install(level, console);
}

/// Logs to standard error: `podinit run`, helpers off a board, the operator's command.
pub fn terminal(level: LevelFilter) {
    install(level, None);
}

/// Another level, once the configuration is known.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

struct Console {
    filter: SimpleLogger,
    out: Mutex<Out>,
}

struct Out {
    console: Option<File>,
    stalled: bool,
}

static CONSOLE: std::sync::OnceLock<Console> = std::sync::OnceLock::new();

fn install(level: LevelFilter, console: Option<File>) {
    let filter = SimpleLogger::new()
        .with_level(LevelFilter::Trace)
        // What libcontainer and its kin tell is for their makers; errors come back to us as errors.
        .with_module_level("libcontainer", LevelFilter::Off)
        .with_module_level("libcgroups", LevelFilter::Off);
    let logger =
        CONSOLE.get_or_init(|| Console { filter, out: Mutex::new(Out { console: None, stalled: false }) });
    if let Ok(mut out) = logger.out.lock() {
        *out = Out { console, stalled: false };
    }
    // A second call finds the logger set, which is what it wants.
    let _ = log::set_logger(logger);
    log::set_max_level(level);
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(Tick::now(), record.level(), &record.args().to_string());
        if let Ok(mut out) = self.out.try_lock() {
            out.write(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

impl Out {
    fn write(&mut self, line: &[u8]) {
        let Some(console) = &self.console else {
            let _ = std::io::stderr().write_all(line);
            return;
        };
        let mut rest = line;
        while !rest.is_empty() {
            match (&*console).write(rest) {
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.stalled = false;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !self.stalled => {
                    self.stalled = true;
                    let mut fds = [PollFd::new(console.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut fds, PollTimeout::from(PATIENCE)).unwrap_or(0) == 0 {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// `[    2.134] default/web: started, pid 212`: seconds since boot, a mark for what needs attention, the fact. A line
/// break in the fact becomes a space and other control characters a dot, so that no fact can forge another.
fn line(now: Tick, level: Level, fact: &str) -> String {
    let mark = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    };
    let milliseconds = now.0 / 1_000_000;
    let mut line = format!("[{:5}.{:03}] {mark}", milliseconds / 1000, milliseconds % 1000);
    line.extend(fact.trim_end().chars().map(|c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '.',
        c => c,
    }));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_time_mark_and_fact() {
        let now = Tick(2_134_567_890);
        assert_eq!(line(now, Level::Info, "default/web: started"), "[    2.134] default/web: started\n");
        assert_eq!(line(now, Level::Warn, "x"), "[    2.134] warning: x\n");
        assert_eq!(
            line(Tick::seconds(123_456), Level::Error, "a\nb\x1b[2J\n"),
            "[123456.000] error: a b.[2J\n"
        );
    }
}
