//! `podinit probe`: the network probes of all pods. One loop keeps the time, a thread makes each try; PID 1 hears of
//! failed tries and of verdicts that change, and of nothing else.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;
pub mod tries;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;

use crate::clock::Tick;
use crate::container::capability::SYS_ADMIN;
use crate::container::identity;
use crate::pod::probe::{Order, Report, Try, Watch, Worker};

/// The longest order: what a socket takes at all.
const LONGEST: usize = 256 << 10;
/// How often one try is made where it cannot be made (kubelet: maxProbeRetries).
const RETRIES: usize = 3;
/// TLS needs most of it; only what is touched costs memory.
const STACK: usize = 512 << 10;

/// Runs until PID 1 closes the socket, which is descriptor 3.
pub fn run() -> i32 {
    // SAFETY: PID 1 starts this helper with its socket as descriptor 3, open for all of its life.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    // PID 1's own descriptors are not close-on-exec.
    // SAFETY: nothing has been opened yet; only inherited descriptors are closed.
    unsafe { libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) };
    // Before there is a second thread. It speaks with whatever answers, and of root's rights needs but the one to enter
    // a pod's network.
    let kept = identity::keep(SYS_ADMIN).map_err(std::io::Error::from);
    match kept.and_then(|()| serve(socket)) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("probe: {why}");
            1
        }
    }
}

/// A watched probe.
struct Job {
    watch: Watch,
    worker: Worker,
    /// A thread is at it.
    flying: bool,
}

/// Until the other end is closed.
fn serve(socket: BorrowedFd) -> std::io::Result<()> {
    let (mut rung, bell) = UnixStream::pair()?;
    rung.set_nonblocking(true)?;
    let (done, results) = channel();
    let mut jobs = BTreeMap::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let next = begin(&mut jobs, &done, &bell, Tick::now());
        wait(&[socket, rung.as_fd()], next)?;
        // The bell only wakes; the results are in the channel.
        while matches!(rung.read(&mut [0; 64]), Ok(1..)) {}
        heed(&results, &mut jobs, socket)?;
        loop {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(()),
                Ok(length) => take(&mut jobs, buffer.get(..length).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(why) => return Err(why.into()),
            }
        }
    }
}

fn take(jobs: &mut BTreeMap<u64, Job>, order: &[u8]) {
    match serde_json::from_slice(order) {
        Ok(Order::Watch(watch)) => {
            let worker = Worker::new(watch.kind, &watch.probe, watch.begin, Tick::now());
            jobs.insert(watch.id, Job { watch: *watch, worker, flying: false });
        }
        Ok(Order::Forget { id }) => drop(jobs.remove(&id)),
        Err(why) => eprintln!("probe: an order: {why}"),
    }
}

/// Begins every try that is due. Returns when the next one will be.
fn begin(
    jobs: &mut BTreeMap<u64, Job>,
    done: &Sender<(u64, Try)>,
    bell: &UnixStream,
    now: Tick,
) -> Option<Tick> {
    let mut next = None;
    for job in jobs.values_mut().filter(|job| !job.flying) {
        match job.worker.due() {
            Some(due) if due <= now => {
                job.flying = true;
                fly(&job.watch, done, bell);
            }
            Some(due) => next = Some(next.map_or(due, |other: Tick| other.min(due))),
            None => {}
        }
    }
    next
}

/// One try, on a thread of its own: it may enter the pod's network, and never comes back from there.
fn fly(watch: &Watch, done: &Sender<(u64, Try)>, bell: &UnixStream) {
    let (id, sender) = (watch.id, done.clone());
    let begun = bell.try_clone().and_then(|mut bell| {
        let (probe, address, space) = (watch.probe.clone(), watch.address.clone(), watch.space.clone());
        let made = move || {
            let result =
                match space.as_deref().filter(|_| tries::inside(&probe.handler)).map_or(Ok(()), enter) {
                    Ok(()) => persistent(|| tries::attempt(&probe, &address)),
                    Err(why) => Try::Error(why),
                };
            let _ = sender.send((id, result));
            let _ = bell.write(&[1]);
        };
        thread::Builder::new().stack_size(STACK).spawn(made)
    });
    if let Err(why) = begun {
        let _ = done.send((id, Try::Error(format!("no thread: {why}"))));
        let _ = (&*bell).write(&[1]);
    }
}

pub(super) fn enter(space: &Path) -> Result<(), String> {
    let shown = space.display();
    let entered = File::open(space).and_then(|space| Ok(setns(space, CloneFlags::CLONE_NEWNET)?));
    entered.map_err(|why| format!("cannot enter the pod's network {shown}: {why}"))
}

/// A try that could not be made is made again at once.
fn persistent(mut attempt: impl FnMut() -> Try) -> Try {
    let mut result = attempt();
    for _ in 1..RETRIES {
        if !matches!(result, Try::Error(_)) {
            break;
        }
        result = attempt();
    }
    result
}

/// What the threads have found, to the workers, and what follows to PID 1.
fn heed(
    results: &Receiver<(u64, Try)>,
    jobs: &mut BTreeMap<u64, Job>,
    socket: BorrowedFd,
) -> std::io::Result<()> {
    while let Ok((id, result)) = results.try_recv() {
        // Forgotten meanwhile: nobody wants to know.
        let Some(job) = jobs.get_mut(&id) else { continue };
        job.flying = false;
        for told in job.worker.tried(result, Tick::now()) {
            tell(socket, &Report { id, told })?;
        }
    }
    Ok(())
}

/// Waits where PID 1 is busy; it never waits for us.
fn tell(socket: BorrowedFd, report: &Report) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(report)?;
    loop {
        match send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EINTR) => {}
            // Its end is seen by the next look at the socket.
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
            Err(why) => return Err(why.into()),
        }
    }
}

fn wait(fds: &[BorrowedFd], until: Option<Tick>) -> std::io::Result<()> {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = until.map(|tick| TimeSpec::from_duration(tick - Tick::now()));
    match ppoll(&mut polled, timeout, None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(why) => Err(why.into()),
    }
}
