//! Which face: PID 1, a helper, or the operator's command. TEMPORARY, for the machine's boot test.

use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use podinit::machine::power::{self, Ending};

use std::process::exit;

use podinit::{cli, helper, init};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let words = &args[1..];
    match words.first().map(String::as_str) {
        _ if std::process::id() == 1 => pid1(),
        Some("net") => {
            podinit::console::board(log::LevelFilter::Info);
            std::process::exit(podinit::helper::net::run(&words[1..]))
        }
        Some("prompt") => {
            podinit::console::board(log::LevelFilter::Info);
            std::process::exit(podinit::helper::prompt::run(&words[1..]))
        }
        Some("poweroff") => nix::sys::signal::kill(nix::unistd::Pid::from_raw(1), Signal::SIGTERM).unwrap(),
        Some("reboot") => nix::sys::signal::kill(nix::unistd::Pid::from_raw(1), Signal::SIGINT).unwrap(),
        Some("top") => std::thread::sleep(std::time::Duration::from_secs(1000)),
        Some("get") => {
            for f in [
                "/proc/mounts",
                "/proc/net/route",
                "/run/podinit/net.json",
                "/etc/resolv.conf",
                "/proc/modules",
                "/etc/hosts",
                "/proc/2/../interrupts",
            ] {
                if words.get(1).is_none_or(|w| f.contains(w.as_str())) {
                    println!("-- {f}\n{}", std::fs::read_to_string(f).unwrap_or_default());
                }
            }
        }
        other => println!("podinit {other:?}"),
    }
}

fn pid1() {
    let signals = signal_hook::low_level::pipe::register;
    let (read, write) = std::os::unix::net::UnixStream::pair().unwrap();
    let (rread, rwrite) = std::os::unix::net::UnixStream::pair().unwrap();
    let (cread, cwrite) = std::os::unix::net::UnixStream::pair().unwrap();
    read.set_nonblocking(true).unwrap();
    cread.set_nonblocking(true).unwrap();
    signals(15, write).unwrap();
    signals(2, rwrite).unwrap();
    signals(17, cwrite).unwrap();
    let (config, mut machine) = podinit::machine::boot();
    let _ = podinit::net::link::loopback_up();
    let net = config.net_args().map(|args| Command::new("/proc/self/exe").arg("net").args(args).spawn());
    let prompt = Command::new("/proc/self/exe").args(["prompt", "/dev/console"]).spawn();
    log::info!("test: {:?} {:?}", net.map(|n| n.is_ok()), prompt.is_ok());
    let ending = loop {
        let mut fds = vec![
            PollFd::new(read.as_fd(), PollFlags::POLLIN),
            PollFd::new(rread.as_fd(), PollFlags::POLLIN),
            PollFd::new(cread.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(u) = &machine.uevents {
            fds.push(PollFd::new(u.as_fd(), PollFlags::POLLIN));
        }
        fds.extend(machine.buttons.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let _ = poll(&mut fds, PollTimeout::NONE);
        let hit: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        if hit[0] {
            break Ending::Poweroff;
        }
        if hit[1] {
            break Ending::Reboot;
        }
        if hit[2] {
            let mut b = [0; 64];
            let _ = std::io::Read::read(&mut (&cread), &mut b);
            reap();
        }
        machine.device_news();
        if machine.buttons.pressed() {
            log::info!("test: button");
            break Ending::Poweroff;
        }
    };
    power::ask();
    let end = podinit::clock::Tick::now() + power::GRACE;
    let mut forced = false;
    while !power::alone() {
        let mut fds = [PollFd::new(cread.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(100u16));
        let mut b = [0; 64];
        let _ = std::io::Read::read(&mut (&cread), &mut b);
        reap();
        if podinit::clock::Tick::now() > end && !forced {
            power::force();
            forced = true;
        }
    }
    power::finish(ending);
}

fn reap() {
    while let Ok(status) = waitpid(nix::unistd::Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
        log::info!("test: reaped {status:?}");
    }
}
