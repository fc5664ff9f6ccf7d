//! What 200 healthy probes with a period of 1 s cost: half of them HTTP, half TCP, against a server in this process.
//! Prints the probe helper's processor time as a share of one core, and as a ratio to a bare loop that makes the same
//! connections at the same time and does nothing else; its memory; what it told. Its own helper.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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
    let bare = thread::spawn(move || bare(port)).join().expect("the bare loop");
    let (used, span) = (ticks(helper) - before, begun.elapsed());
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let used = used as f64 / second.map_or(100.0, |ticks| ticks as f64);
    let mut reports = 0;
    while recv(ours.as_raw_fd(), &mut [0; 4096], MsgFlags::MSG_DONTWAIT).is_ok_and(|length| length > 0) {
        reports += 1;
    }
    let share = |used: f64| 100.0 * used / span.as_secs_f64();
    println!("{PROBES} probes a second: {:.2} % of one core", share(used));
    println!("a bare loop of the same connections: {:.2} %; ratio {:.2}", share(bare), used / bare);
    println!("memory: {} KiB, reports: {reports}", memory(helper));
}

/// The same connections, one after the other at the same pace. Returns its processor time in seconds.
fn bare(port: u16) -> f64 {
    let spent = || {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        Duration::from(nix::time::clock_gettime(clock).expect("a clock")).as_secs_f64()
    };
    let (before, begun) = (spent(), Instant::now());
    let step = Duration::from_secs(1) / PROBES as u32;
    for number in 1..=SPAN.as_secs() as u32 * PROBES as u32 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        if number % 2 == 1 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
            let _ = stream.read(&mut [0; 1024]).expect("an answer");
        }
        drop(stream);
        thread::sleep((step * number).saturating_sub(begun.elapsed()));
    }
    spent() - before
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
