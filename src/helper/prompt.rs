//! `podinit prompt TTY`: the operator's verbs on a serial console, for a board that no network reaches.
//!
//! PID 1 starts it when somebody presses Enter; closed by `exit`, it sleeps in a read until the next one. Each verb runs as a child of its own, in the terminal's foreground:
//! Ctrl-C ends the verb, not the prompt. The terminal stays in its cooked mode, whose line discipline edits the line.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::thread;
use std::time::Duration;

use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::sys::termios::{ControlFlags, LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, setpgid, setsid, tcsetpgrp};

use crate::clock::Tick;
use crate::config::console_terminal;
use crate::pages;

nix::ioctl_write_int_bad!(take_terminal, libc::TIOCSCTTY);

/// Whoever served the terminal this long had one that works.
const STABLE: Duration = Duration::from_secs(10);

/// Serves until it is killed, as it is by a terminal that hangs up. `args`: the terminal's path, by default
/// /dev/console.
///
/// A terminal that cannot be used (the kernel's console need not have a device: a port with a Bluetooth chip behind it
/// has none) is told once, and tried again all the same: it may come, as a USB adapter's does. By an end here PID 1
/// would learn no more than that, and start the next one.
pub fn run(args: &[String]) -> i32 {
    let tty = args.first().map_or("/dev/console", String::as_str);
    let mut ends = Ends::default();
    loop {
        let path = behind(tty);
        let since = Tick::now();
        let error = own(&path).map_or_else(|error| error, |()| serve());
        let (news, pause) = ends.another(format!("{path}: {error}"), Tick::now() - since);
        if let Some(why) = news {
            warn!("prompt: {why}: tried again now and then");
        }
        thread::sleep(pause);
    }
}

/// What became of the terminal so far, so that a trouble that stays is told once.
#[derive(Default)]
struct Ends {
    told: String,
    in_a_row: u32,
}

impl Ends {
    /// It ended, because of this, after this long. What to tell of it, and how long to wait.
    fn another(&mut self, why: String, lasted: Duration) -> (Option<&str>, Duration) {
        if lasted >= STABLE {
            *self = Ends::default();
        }
        // To a minute: a look costs next to nothing, but wakes the processor.
        let pause = Duration::from_secs(1 << self.in_a_row.min(6)).min(Duration::from_secs(60));
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.told == why {
            return (None, pause);
        }
        self.told = why;
        (Some(&self.told), pause)
    }
}

/// Makes the terminal our controlling one and our standard streams. /dev/console itself cannot be one; the terminal
/// behind it can. May be called again.
fn own(tty: &str) -> io::Result<()> {
    // A line without a carrier would hold up the opening.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let terminal = open(tty, flags | OFlag::O_NONBLOCK, Mode::empty())?;
    fcntl(&terminal, FcntlArg::F_SETFL(flags))?;
    // Already a leader where PID 1 has made us one.
    let _ = setsid();
    // SAFETY: TIOCSCTTY takes a number; 1: take it from another session.
    unsafe { take_terminal(terminal.as_raw_fd(), 1) }?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    if terminal.as_raw_fd() < 3 {
        std::mem::forget(terminal);
    }
    // SAFETY: the disposition is a constant; no handler runs. Without it handing the foreground back would stop us.
    unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
    // Caught by nobody, so that a Ctrl-C at the prompt ends the line only. Children get their default back.
    // SAFETY: as above.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    // SAFETY: as above.
    unsafe { signal(Signal::SIGQUIT, SigHandler::SigIgn) }?;
    Ok(())
}

/// The terminal behind /dev/console; others stand for themselves.
fn behind(tty: &str) -> String {
    let console = if tty == "/dev/console" { console_terminal() } else { None };
    console.unwrap_or_else(|| tty.into())
}

/// Answers until the terminal fails; how it did.
fn serve() -> io::Error {
    let stdin = io::stdin();
    let mut open = false;
    loop {
        calm();
        if open {
            say("podinit> ");
        } else {
            pages::give_back();
        }
        let mut line = String::new();
        match stdin.read_line(&mut line) {
            // Ctrl-D at an open prompt closes it; a terminal that hangs up says it for ever.
            Ok(0) if open => open = false,
            Ok(0) => return io::Error::other("it says that nothing will come any more"),
            Ok(_) if !open => {
                open = true;
                say("podinit: the operator's verbs; help lists them, exit closes the prompt\n");
            }
            Ok(_) => open = answer(&line),
            // Not UTF-8: noise on the line.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error,
        }
    }
}

/// Does what a line says; whether the prompt stays open.
fn answer(line: &str) -> bool {
    let words = match words(line) {
        Ok(words) => words,
        Err(why) => {
            say(&format!("{why}\n"));
            return true;
        }
    };
    let words = if words.first().is_some_and(|word| matches!(word.as_str(), "podinit" | "kubectl")) {
        words.get(1..).unwrap_or_default()
    } else {
        &words
    };
    match words.first().map(String::as_str) {
        None => {}
        Some("exit" | "quit" | "logout") => return false,
        Some("help" | "?") => say(HELP),
        Some(verb) if VERBS.contains(&verb) => {
            if let Err(error) = verb_in_child(words) {
                say(&format!("{verb}: {error}\n"));
            }
        }
        Some(word) => {
            say(&format!("{word}: unknown\n"));
            say(HELP);
        }
    }
    true
}

/// What an operator may call here; the other words of the command are PID 1's helpers.
const VERBS: &[&str] = &[
    "get", "describe", "logs", "exec", "apply", "delete", "image", "top", "version", "poweroff", "reboot",
    "halt", "fault",
];

const HELP: &str = "  get pods [-o wide|json|yaml]    get events\n  describe pod NAME\n  logs POD [-c CONTAINER] [-f] [-p] [--tail=N] \
                    [--since=1h]\n  exec [-it] POD [-c CONTAINER] -- COMMAND...\n  image ...\n  version   poweroff   reboot\n  exit\n";

/// Runs the verb in the terminal's foreground, and waits for it.
fn verb_in_child(words: &[String]) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("podinit").args(words);
    // SAFETY: only calls that are safe between fork and exec: setpgid, tcsetpgrp, signal.
    unsafe {
        command.pre_exec(|| {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            tcsetpgrp(io::stdin(), getpid())?;
            for number in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTTOU] {
                signal(number, SigHandler::SigDfl)?;
            }
            Ok(())
        });
    }
    let waited = command.spawn().and_then(|mut child| child.wait());
    tcsetpgrp(io::stdin(), getpid())?;
    if waited?.signal() == Some(libc::SIGINT) {
        say("\n");
    }
    Ok(())
}

/// A verb that was killed may have left the terminal raw, and a line that is not the kernel's console waits for a carrier.
fn calm() {
    if let Ok(mut mode) = tcgetattr(io::stdin()) {
        let wanted = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ISIG;
        if !mode.local_flags.contains(wanted) || !mode.control_flags.contains(ControlFlags::CLOCAL) {
            mode.local_flags |= wanted;
            mode.control_flags |= ControlFlags::CLOCAL;
            mode.input_flags |= nix::sys::termios::InputFlags::ICRNL;
            mode.output_flags |=
                nix::sys::termios::OutputFlags::OPOST | nix::sys::termios::OutputFlags::ONLCR;
            // Then the operator sees no echo, which is no reason to end.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &mode);
        }
    }
}

fn say(text: &str) {
    // A terminal that is gone is told by the next read.
    let _ = nix::unistd::write(io::stdout(), text.as_bytes());
}

/// Splits a line into words as a shell does: blanks, 'single' and "double" quotes, a backslash outside of single ones.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.trim_end_matches(['\n', '\r']).chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(chars.next().ok_or("a word ends in a backslash")?)
            }
            (None, c) if c.is_whitespace() || c.is_control() => all.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    all.extend(word);
    // What exec cannot take.
    if all.iter().any(|word| CString::new(word.as_str()).is_err()) {
        return Err("a word holds a zero byte");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_stays_unusable_is_told_once_and_tried_ever_more_rarely() {
        let mut ends = Ends::default();
        let table = [
            ("none", 0, true, 1),
            ("none", 0, false, 2),
            ("none", 9, false, 4),
            ("broken", 0, true, 8),
            ("broken", 0, false, 16),
            ("broken", 0, false, 32),
            ("broken", 0, false, 60),
            ("broken", 0, false, 60),
            // It has worked since: this is another trouble, whatever its name.
            ("broken", 10, true, 1),
            ("broken", 0, false, 2),
        ];
        for (step, (why, lasted, told, pause)) in table.into_iter().enumerate() {
            let expected = (told.then_some(why), Duration::from_secs(pause));
            assert_eq!(ends.another(why.into(), Duration::from_secs(lasted)), expected, "step {step}");
        }
    }

    #[test]
    fn lines_become_words() {
        let table: [(&str, &[&str]); 7] = [
            ("get pods\r\n", &["get", "pods"]),
            ("  exec web --  sh -c 'a  b' \n", &["exec", "web", "--", "sh", "-c", "a  b"]),
            ("a \"b \\\" c\"d ''", &["a", "b \" cd", ""]),
            ("a\\ b", &["a b"]),
            ("", &[]),
            ("\x1b[A", &["[A"]),
            ("'a\\b'", &["a\\b"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), expected, "{line:?}");
        }
        for line in ["'a", "\"a", "a\\"] {
            assert!(words(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn help_names_only_known_verbs() {
        let lines = HELP
            .lines()
            .flat_map(|line| line.trim().split("   "))
            .map(str::trim)
            .filter(|part| !part.is_empty());
        for part in lines {
            let verb = part.split(' ').next().unwrap();
            assert!(verb == "exit" || VERBS.contains(&verb), "{verb}");
        }
    }
}
