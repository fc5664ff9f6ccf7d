//! Which face: PID 1, a helper, or the operator's command. TEMPORARY, for the machine's boot test.

use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use podinit::machine::power::{self, Ending};

use std::process::exit;

use podinit::{cli, helper, init};

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("logger") => podinit::helper::logger::run(),
        _ => {
            println!("podinit {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}
