//! The only poll(2): signals, the manifest directory, sockets. News say where to look; they carry no content.

mod watch;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::pipe;

use crate::clock::Tick;
use watch::Watch;

/// Where there is something to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// A child may have ended.
    pub children: bool,
    /// A manifest may have changed.
    pub manifests: bool,
    /// SIGTERM or SIGPWR: the machine (or `podinit run`) is to end.
    pub terminate: bool,
    /// SIGINT: Ctrl-Alt-Del on a board, Ctrl-C elsewhere.
    pub interrupt: bool,
    /// SIGHUP: read the manifests again.
    pub hangup: bool,
    /// The others that were polled for the caller and have something.
    pub ready: Vec<RawFd>,
}

pub struct Senses {
    /// The self-pipe's read end: a byte for each signal.
    signals: UnixStream,
    terminate: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    manifests: Watch,
}

impl Senses {
    /// Catches the signals (none is blocked or ignored: both would be inherited) and watches the directory.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (signals, writer) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let flag = || Arc::new(AtomicBool::new(false));
        let (terminate, interrupt, hangup) = (flag(), flag(), flag());
        let pairs =
            [(SIGTERM, &terminate), (libc::SIGPWR, &terminate), (SIGINT, &interrupt), (SIGHUP, &hangup)];
        for (signal, flag) in pairs {
            signal_hook::flag::register(signal, flag.clone())?;
            pipe::register(signal, writer.try_clone()?)?;
        }
        pipe::register(SIGCHLD, writer.try_clone()?)?;
        // Caught and forgotten: an ignored SIGPIPE would be inherited, a default one would kill us.
        signal_hook::flag::register(SIGPIPE, flag())?;
        Ok(Senses { signals, terminate, interrupt, hangup, manifests: Watch::new(folder) })
    }

    /// Watches the manifest directory that is there now. To be called before each listing.
    pub fn watch(&mut self) {
        self.manifests.renew();
    }

    /// Sleeps until there is news or `wake_at` has come. `others` are polled for the caller.
    pub fn wait(&mut self, wake_at: Option<Tick>, others: &[(RawFd, PollFlags)]) -> News {
        let mut news = News::default();
        let watched = self.manifests.fd();
        {
            let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let rest = watched.iter().map(|&fd| (fd, PollFlags::POLLIN)).chain(others.iter().copied());
            for (fd, flags) in rest {
                polled.push(PollFd::new(borrow(fd), flags));
            }
            // An interrupted or failed poll is a look around for nothing, never an end.
            let _ = nix::poll::ppoll(&mut polled, timeout(wake_at), None);
            let first = 1 + usize::from(watched.is_some());
            let rung = |fd: &PollFd| fd.revents().is_some_and(|flags| !flags.is_empty());
            news.manifests = watched.is_some() && polled.get(1).is_some_and(rung);
            let ready = polled.iter().skip(first).zip(others).filter(|(fd, _)| rung(fd));
            news.ready = ready.map(|(_, (fd, _))| *fd).collect();
        }
        news.children = self.drain();
        news.terminate = self.terminate.swap(false, Ordering::SeqCst);
        news.interrupt = self.interrupt.swap(false, Ordering::SeqCst);
        news.hangup = self.hangup.swap(false, Ordering::SeqCst);
        news.manifests = news.manifests && self.manifests.changed();
        news
    }

    /// Empties the self-pipe. Any signal may have been a SIGCHLD: looking once too often costs one waitpid.
    fn drain(&mut self) -> bool {
        let mut buffer = [0; 64];
        let mut any = false;
        while matches!(self.signals.read(&mut buffer), Ok(n) if n > 0) {
            any = true;
        }
        any
    }
}

/// How long poll may sleep. Rounded up to the nanosecond by its own unit, so that it never wakes early.
fn timeout(wake_at: Option<Tick>) -> Option<nix::sys::time::TimeSpec> {
    wake_at.map(|tick| nix::sys::time::TimeSpec::from_duration(tick - Tick::now()))
}

#[allow(unsafe_code)]
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: only polled; a number that is no longer open is answered with POLLNVAL.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
