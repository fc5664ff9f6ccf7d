//! `logs`: asks PID 1 where a container's log is, and reads it there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::args::{Logs, Since};
use super::ask::{ask, unexpected};
use super::{Failure, World, names};
use crate::logs::read::{Options, Printer};
use crate::logs::tail::Tail;
use crate::operator::request::{Answer, Request};

/// After how many quiet milliseconds a log's reader asks whether the container still runs.
const QUIET: u16 = 1000;

/// Prints the log; with `follow` until the container ends.
pub fn logs(logs: &Logs, world: &mut World<'_>) -> Result<(), Failure> {
    let pods = names::pods(world)?;
    let pod = names::one(&pods, &logs.pod, &logs.namespace)?;
    let container = names::container(pod, logs.container.as_deref(), world)?;
    let request = Request::LogPath {
        namespace: logs.namespace.clone(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        container,
        previous: logs.previous,
    };
    let (path, run, _) = place(&request, world)?;
    let since = match &logs.since {
        None => None,
        Some(Since::At(time)) => Some(*time),
        Some(Since::Ago(span)) => world.now.checked_sub(*span).ok().or(Some(Timestamp::MIN)),
    };
    // Watched before it is read, so that nothing written meanwhile is missed.
    let news = if logs.follow { watch(&path)? } else { None };
    let (timestamps, tail, limit_bytes) = (logs.timestamps, logs.tail, logs.limit_bytes);
    let mut printer = Printer::new(&Options { tail, since, timestamps, limit_bytes });
    let mut tail = Tail::open(&path).map_err(|why| failed(&path, &why))?;
    tail.read(|line| printer.line(line, world.out)).map_err(|why| failed(&path, &why))?;
    printer.release(world.out)?;
    world.out.flush()?;
    let Some(mut news) = news else { return Ok(()) };
    while !printer.full() {
        let quiet = !wait(&mut news)?;
        // Asked before the log is read: what was written until the container's end is then there.
        let ended = quiet && !matches!(place(&request, world), Ok((_, same, true)) if same == run);
        let read = tail.read(|line| printer.line(line, world.out));
        // Removed with its pod, after what was open has been read to its end.
        let gone = read.as_ref().is_err_and(|why| why.kind() == std::io::ErrorKind::NotFound);
        if !gone {
            read.map_err(|why| failed(&path, &why))?;
        }
        world.out.flush()?;
        if ended || gone {
            break;
        }
    }
    Ok(())
}

/// Where the log is, of which run, and whether more may come.
fn place(request: &Request, world: &World<'_>) -> Result<(PathBuf, u32, bool), Failure> {
    match ask(&world.socket, request)? {
        Answer::Log { path, run, running } => Ok((path, run, running)),
        other => Err(unexpected(&other)),
    }
}

fn watch(path: &Path) -> Result<Option<Inotify>, Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let news = Inotify::init()?;
    let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
    news.watches().add(directory, mask).map_err(|why| failed(directory, &why))?;
    Ok(Some(news))
}

/// Whether there is news, after a while at the latest.
fn wait(news: &mut Inotify) -> Result<bool, Failure> {
    let fired = match poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], PollTimeout::from(QUIET)) {
        Ok(count) => count > 0,
        Err(nix::errno::Errno::EINTR) => true,
        Err(why) => return Err(std::io::Error::from(why).into()),
    };
    if fired {
        // What it says does not matter: the log itself is looked at.
        match news.read_events(&mut [0; 4096]) {
            Ok(_) => {}
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(fired)
}

fn failed(path: &Path, why: &std::io::Error) -> Failure {
    match why.kind() {
        std::io::ErrorKind::BrokenPipe => Failure { text: String::new(), code: 1 },
        _ => Failure::plain(format!("{}: {why}", path.display())),
    }
}
