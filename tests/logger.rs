//! The logger is killed at random moments, again and again; every byte is in the logs exactly once.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use podinit::logs::rotate::rotated;
use podinit::logs::{Add, Pipes, Report, add, pipes, record, report};

const CONTAINERS: usize = 3;
const KILLS: usize = 250;

fn start(containers: &[(Add, Pipes)], done: &[String]) -> (Child, OwnedFd) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podinit"));
    let fd = theirs.as_raw_fd();
    // SAFETY: dup2 is async-signal-safe.
    unsafe {
        command.arg("__logger").pre_exec(move || match libc::dup2(fd, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let child = command.spawn().unwrap();
    for (order, pipes) in containers.iter().filter(|(order, _)| !done.contains(&order.id)) {
        add(ours.as_fd(), order, pipes.for_logger()).unwrap();
    }
    (child, ours)
}

/// Lines, empty lines, lines without end, CRLF, long lines, binary; in writes of any size, until `enough`.
fn produce(seed: u64, enough: &AtomicBool, pipe: OwnedFd) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut pipe, mut all) = (File::from(pipe), Vec::new());
    while !enough.load(Ordering::Relaxed) {
        let length = match random.u8(0..20) {
            0 => random.usize(16_380..16_390),
            1 => random.usize(0..70_000),
            2 => 0,
            _ => random.usize(0..200),
        };
        let mut piece: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        match random.u8(0..6) {
            0 => {}
            1 => piece.extend(b"\r\n"),
            _ => piece.push(b'\n'),
        }
        pipe.write_all(&piece).unwrap();
        all.extend(piece);
        if random.u8(0..8) == 0 {
            thread::sleep(Duration::from_micros(random.u64(..3000)));
        }
    }
    all
}

/// What the records of these bytes add up to: a carriage return before a newline is dropped.
fn expected(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => out.extend([line, b"\n"].concat()),
            None => out.extend(line),
        }
    }
    out
}

fn read_back(log: &Path) -> [Vec<u8>; 2] {
    let mut streams = [Vec::new(), Vec::new()];
    let mut files = rotated(log).unwrap();
    files.push(log.to_owned());
    for file in files {
        let mut bytes = Vec::new();
        let raw = fs::read(&file).unwrap();
        if file.extension().is_some_and(|extension| extension == "gz") {
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&raw[..]), &mut bytes).unwrap();
        } else {
            bytes = raw;
        }
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let record = record::parse(line).unwrap_or_else(|| panic!("{}: {line:?}", file.display()));
            assert!(line.ends_with(b"\n") && record.content.len() <= record::MAX);
            let stream = &mut streams[record.stream as usize];
            stream.extend(record.content);
            if !record.partial {
                stream.push(b'\n');
            }
        }
    }
    streams
}

#[test]
fn killed_at_random_moments_it_loses_nothing_and_repeats_nothing() {
    let dir = std::env::temp_dir().join(format!("podinit-logger-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut containers: Vec<(Add, Pipes)> = Vec::new();
    let mut producers = Vec::new();
    // How long that takes is the machine's affair: on a fast one a fixed amount was written before all the kills.
    let enough = Arc::new(AtomicBool::new(false));
    for number in 0..CONTAINERS {
        let path: PathBuf = dir.join(format!("c{number}/0.log"));
        let state = dir.join(format!("state/{number}"));
        // The first is never rotated.
        let max_size = if number == 0 { 0 } else { 200_000 };
        let order = Add { id: number.to_string(), path, max_size, max_files: 100_000, state };
        let mut pipes = pipes(0).unwrap();
        for (stream, pair) in [&mut pipes.stdout, &mut pipes.stderr].into_iter().enumerate() {
            let null = File::open("/dev/null").unwrap().into();
            let write = std::mem::replace(&mut pair.1, null);
            let seed = seed.wrapping_add((number * 2 + stream) as u64);
            let enough = enough.clone();
            producers.push(thread::spawn(move || produce(seed, &enough, write)));
        }
        containers.push((order, pipes));
    }
    let mut done: Vec<String> = Vec::new();
    let mut kills = 0;
    let (mut child, mut socket) = start(&containers, &done);
    while done.len() < CONTAINERS {
        if kills < KILLS {
            thread::sleep(Duration::from_micros(random.u64(..12_000)));
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        } else {
            enough.store(true, Ordering::Relaxed);
            let mut fds = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
            assert_eq!(nix::poll::poll(&mut fds, 60_000u16).unwrap(), 1, "the logger hangs");
        }
        while let Some(Report::Done { id }) = report(socket.as_fd()).unwrap() {
            done.push(id);
        }
        if child.try_wait().unwrap().is_some() {
            (child, socket) = start(&containers, &done);
        }
    }
    assert_eq!(kills, KILLS);
    drop(socket);
    assert!(child.wait().unwrap().success());

    let written: Vec<Vec<u8>> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
    for (number, (order, _)) in containers.iter().enumerate() {
        let found = read_back(&order.path);
        for (stream, found) in found.iter().enumerate() {
            let wanted = expected(&written[number * 2 + stream]);
            let at = found.iter().zip(&wanted).position(|(a, b)| a != b);
            assert!(*found == wanted, "seed {seed}: {} {stream} differs at {at:?}", order.id);
        }
        let count = rotated(&order.path).unwrap().len();
        assert_eq!(count > 0, number > 0, "{count} rotated logs of {}", order.id);
    }
    fs::remove_dir_all(&dir).unwrap();
}

/// It was: a logger that was started after the pod's end wrote what was still on its way.
#[test]
fn the_logs_of_a_pod_that_is_gone_are_not_made_again() {
    let dir = std::env::temp_dir().join(format!("podinit-logger-gone-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    let pod = dir.join("pod");
    fs::create_dir_all(&pod).unwrap();
    let path = pod.join("c/0.log");
    let order = Add {
        id: "gone".into(),
        path: path.clone(),
        max_size: 0,
        max_files: 5,
        state: dir.join("state/gone"),
    };
    let mut pipes = pipes(0).unwrap();
    let null = || File::open("/dev/null").unwrap().into();
    let mut out = File::from(std::mem::replace(&mut pipes.stdout.1, null()));
    pipes.stderr.1 = null();
    let containers = [(order, pipes)];
    let (mut child, socket) = start(&containers, &[]);
    out.write_all(b"early\n").unwrap();
    while !path.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(socket);
    fs::remove_dir_all(&pod).unwrap();
    out.write_all(b"late\n").unwrap();
    drop(out);
    let (mut child, socket) = start(&containers, &[]);
    let mut fds = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut fds, 60_000u16).unwrap(), 1, "the logger hangs");
    assert!(matches!(report(socket.as_fd()).unwrap(), Some(Report::Done { .. })));
    drop(socket);
    assert!(child.wait().unwrap().success());
    assert!(!pod.exists());
    fs::remove_dir_all(&dir).unwrap();
}
