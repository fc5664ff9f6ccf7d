//! The machine's end, after the pods': TERM to whoever is left, KILL, unmount, and the last call.

use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};

use crate::clock::Tick;
use crate::machine::power::{self, Ending};
use crate::operator::request::Power;

/// Ends the machine. Should the kernel refuse, it is asked again: PID 1 may not return.
pub fn machine(power: Power) -> ! {
    let ending = match power {
        Power::Poweroff => Ending::Poweroff,
        Power::Reboot => Ending::Reboot,
        Power::Halt => Ending::Halt,
    };
    power::ask();
    settle(power::GRACE);
    power::force();
    settle(power::GRACE);
    loop {
        power::finish(ending);
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// Reaps until nobody is left or the time is over. Nothing else happens any more, so short naps are as good as a poll.
fn settle(grace: Duration) {
    let until = Tick::now() + grace;
    while !power::alone() && Tick::now() < until {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some()) {}
        std::thread::sleep(Duration::from_millis(10));
    }
}
