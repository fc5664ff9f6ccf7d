//! `podinit probe`: the network probes of all pods. One loop keeps the time, threads make the tries; PID 1 hears of
//! failed tries and of verdicts that change, and of nothing else.
#![allow(unsafe_code)]

mod pool;
#[cfg(test)]
mod tests;
pub mod tries;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;

use crate::clock::Tick;
use crate::container::capability::SYS_ADMIN;
use crate::container::identity;
use crate::pod::agenda::Agenda;
use crate::pod::probe::{Order, Report, Try, Watch, Worker};
pub(super) use pool::enter;
use pool::{Done, Pool, Task};

/// The longest order: what a socket takes at all.
const LONGEST: usize = 256 << 10;

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

/// The watched probes, and when each is to be looked at.
#[derive(Default)]
struct Jobs {
    all: BTreeMap<u64, Job>,
    agenda: Agenda<u64>,
}

struct Job {
    watch: Arc<Watch>,
    worker: Worker,
    /// A thread is at it.
    flying: bool,
}

/// Until the other end is closed.
fn serve(socket: BorrowedFd) -> std::io::Result<()> {
    let (mut rung, bell) = UnixStream::pair()?;
    rung.set_nonblocking(true)?;
    // A bell that was rung often enough need not be rung.
    bell.set_nonblocking(true)?;
    let (done, results) = channel();
    let pool = Pool::new(done, bell);
    let mut jobs = Jobs::default();
    let mut buffer = vec![0; LONGEST];
    loop {
        jobs.begin(&pool, socket, Tick::now())?;
        let [ordered, news] = wait([socket, rung.as_fd()], jobs.agenda.first())?;
        // The bell only wakes; the results are in the channel.
        while news && matches!(rung.read(&mut [0; 64]), Ok(1..)) {}
        while let Ok(done) = results.try_recv() {
            jobs.heed(done, socket)?;
        }
        if ordered && !jobs.hear(socket, &mut buffer)? {
            return Ok(());
        }
    }
}

impl Jobs {
    /// All orders there are. False: the other end is closed.
    fn hear(&mut self, socket: BorrowedFd, buffer: &mut [u8]) -> std::io::Result<bool> {
        loop {
            match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(false),
                Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(true),
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn take(&mut self, order: &[u8]) {
        match serde_json::from_slice(order) {
            Ok(Order::Watch(watch)) => {
                let worker = Worker::new(watch.kind, &watch.probe, watch.begin, Tick::now());
                self.agenda.set(&watch.id, worker.due());
                self.all.insert(watch.id, Job { watch: Arc::from(watch), worker, flying: false });
            }
            Ok(Order::Forget { id }) => {
                self.agenda.set(&id, None);
                self.all.remove(&id);
            }
            Err(why) => eprintln!("probe: an order: {why}"),
        }
    }

    /// Begins every try that is due.
    fn begin(&mut self, pool: &Pool, socket: BorrowedFd, now: Tick) -> std::io::Result<()> {
        for id in self.agenda.due(now) {
            // One that is still in the air rings when it is done.
            let Some(job) = self.all.get_mut(&id).filter(|job| !job.flying) else { continue };
            job.flying = true;
            // A success that changes nothing is waited for by nobody before the next try is due.
            let calm = job.worker.healthy().then(|| job.worker.due()).flatten();
            let calm = calm.map(|due| due + job.watch.probe.period);
            self.agenda.set(&id, calm);
            if let Err(why) = pool.make(Task { watch: job.watch.clone(), calm }) {
                let result = Try::Error(format!("no thread: {why}"));
                self.heed(Done { id, result, at: Tick::now() }, socket)?;
            }
        }
        Ok(())
    }

    /// What a thread has found, to the worker, and what follows to PID 1.
    fn heed(&mut self, done: Done, socket: BorrowedFd) -> std::io::Result<()> {
        // Forgotten meanwhile: nobody wants to know.
        let Some(job) = self.all.get_mut(&done.id) else { return Ok(()) };
        job.flying = false;
        let told = job.worker.tried(done.result, done.at);
        self.agenda.set(&done.id, job.worker.due());
        told.into_iter().try_for_each(|told| tell(socket, &Report { id: done.id, told }))
    }
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

/// Which of them have something to say; the moment may come first.
fn wait(fds: [BorrowedFd; 2], until: Option<Tick>) -> std::io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let timeout = until.map(|tick| TimeSpec::from_duration(tick - Tick::now()));
    match ppoll(&mut polled, timeout, None) {
        Ok(_) => Ok(polled.map(|fd| fd.any().unwrap_or(true))),
        Err(Errno::EINTR) => Ok([false; 2]),
        Err(why) => Err(why.into()),
    }
}
