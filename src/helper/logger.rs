//! `podinit logger`: writes the output of all containers. One process, one thread, one poll; idle while they are silent.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::logs::pipe::Scratch;
use crate::logs::wire::{Order, Report, order, tell};
use crate::logs::writer::Writer;
use crate::pages;

/// Silence after which a burst of orders is over, in milliseconds.
const QUIET: u16 = 10_000;

/// Runs until PID 1 closes the socket, which is descriptor 3.
pub fn run() -> i32 {
    // SAFETY: PID 1 starts this helper with its socket as descriptor 3, open for all of its life.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    // PID 1's own descriptors are not close-on-exec. A container's write end, kept here, would keep its end from being seen.
    // SAFETY: nothing has been opened yet; only inherited descriptors are closed.
    unsafe { libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) };
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("logger: make a pipe: {error}");
            return 1;
        }
    };
    let mut writers: Vec<Writer> = Vec::new();
    // Whether there is something to give back: once after a burst of orders, not after each line of output.
    let mut fat = true;
    loop {
        let (asked, ready) = wait(socket, &writers, fat);
        if fat && !asked && ready.is_empty() {
            fat = false;
            pages::give_back();
        }
        for (writer, stream) in ready {
            if let Some(writer) = writers.get_mut(writer) {
                writer.turn(stream, &scratch);
            }
        }
        for writer in &mut writers {
            writer.pack();
        }
        writers.retain(|writer| !(writer.done() && said(socket, writer)));
        if asked {
            match order(socket) {
                Ok(Order::Add(add, fds)) => writers.push(Writer::new(add, *fds, &scratch)),
                Ok(Order::End) => return 0,
                Ok(Order::Nothing) => {}
                Err(error) => eprintln!("logger: an order: {error}"),
            }
            fat = true;
        }
    }
}

/// Sleeps until there is something: an order, or output, told as (index of the writer, stream). `once`: or a while is over.
fn wait(socket: BorrowedFd, writers: &[Writer], once: bool) -> (bool, Vec<(usize, usize)>) {
    let mut fds = vec![PollFd::new(socket, PollFlags::POLLIN)];
    let mut names = Vec::new();
    for (index, writer) in writers.iter().enumerate() {
        for (stream, fd) in writer.open() {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
            names.push((index, stream));
        }
    }
    let busy = writers.iter().any(|writer| writer.packing() || writer.done());
    let timeout = match (busy, once) {
        (true, _) => PollTimeout::ZERO,
        (false, true) => QUIET.into(),
        (false, false) => PollTimeout::NONE,
    };
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return (false, Vec::new()),
        Err(error) => {
            // Without poll there is no way on; PID 1 starts another one, and nothing is lost.
            eprintln!("logger: poll: {error}");
            std::process::exit(1);
        }
    }
    let told = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
    let asked = fds.first().is_some_and(told);
    let ready = fds.iter().skip(1).zip(names).filter(|(fd, _)| told(fd)).map(|(_, name)| name).collect();
    (asked, ready)
}

fn said(socket: BorrowedFd, writer: &Writer) -> bool {
    let report = Report::Done { id: writer.id().to_owned() };
    match tell(socket.as_fd(), &report) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("logger: {}: tell the end: {error}", writer.id());
            true
        }
    }
}
