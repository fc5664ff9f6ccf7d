//! What 200 healthy probes with a period of 1 s cost: half of them HTTP, half TCP, against a server in this process.
//! Prints the probe helper's processor time as a share of one core, its memory, and what it told. Its own helper.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use podinit::clock::Tick;
use podinit::pod::facts::ProbeKind;
use podinit::pod::probe::{Begin, Order, Watch};
use podinit::pod::spec::{Handler, Probe};

const PROBES: u64 = 200;
const SPAN: Duration = Duration::from_secs(20);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == "__probe") {
        std::process::exit(podinit::helper::run("__probe", &[]));
    }
    let port = serve();
    let kind = SockType::SeqPacket;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("a socket pair");
    let helper = podinit::spawn::spawn(&["__probe"], &[(theirs.as_raw_fd(), 3)], None).expect("the helper");
    drop(theirs);
    for id in 1..=PROBES {
        let handler = match id % 2 {
            0 => Handler::Tcp { host: None, port },
            _ => Handler::Http { host: None, port, path: "/".into(), https: false, headers: Vec::new() },
        };
        let second = Duration::from_secs(1);
        let probe = Probe {
            handler,
            initial_delay: Duration::ZERO,
            period: second,
            timeout: second,
            success: 1,
            failure: 3,
            grace: None,
        };
        let begin = Begin { started: Tick::now(), verdict: Some(true), spread: Some((id * 5) as u32) };
        let kind = ProbeKind::Readiness;
        let order = Order::Watch(Box::new(Watch {
            id,
            kind,
            probe,
            begin,
            address: "127.0.0.1".into(),
            space: None,
        }));
        let bytes = serde_json::to_vec(&order).expect("JSON");
        send(ours.as_raw_fd(), &bytes, MsgFlags::empty()).expect("an order sent");
    }
    thread::sleep(Duration::from_secs(2));
    let (before, begun) = (ticks(helper), Instant::now());
    thread::sleep(SPAN);
    let (used, span) = (ticks(helper) - before, begun.elapsed());
    let seconds = used as f64
        / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .map_or(100.0, |ticks| ticks as f64);
    let mut reports = 0;
    while recv(ours.as_raw_fd(), &mut [0; 4096], MsgFlags::MSG_DONTWAIT).is_ok_and(|length| length > 0) {
        reports += 1;
    }
    println!("{PROBES} probes a second: {:.2} % of one core", 100.0 * seconds / span.as_secs_f64());
    println!("memory: {} KiB, reports: {reports}", memory(helper));
}

/// A server that has an answer for everybody.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if stream.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    port
}

/// Processor time of a process, in clock ticks.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the helper lives");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// What of its memory nobody else has, in KiB.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}
