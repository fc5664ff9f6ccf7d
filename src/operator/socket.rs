//! PID 1's end of the operator's socket: connections with bounded buffers, of which none can block or outstay.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, send, socket,
    sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use super::fds::{accept, receive};
use super::request::{Answer, REQUEST_MAX, Reason, Request};

/// How many connections there may be. One more takes the place of the oldest that owes a request.
const CONNECTIONS: usize = 32;

/// Connections taken up in one turn, so that a flood of them cannot hold PID 1.
const PER_TURN: usize = 64;

/// More descriptors than any request carries are a mistake or an attack.
const DESCRIPTORS: usize = 3;

/// The listening socket and its connections. Every call returns at once.
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// In the order in which they came.
    connections: Vec<Connection>,
    next: u64,
    /// Given up for a moment to take up and close a connection when descriptors have run out: left in the queue, it
    /// would wake PID 1 for ever.
    spare: Option<OwnedFd>,
    /// Gone with their question unanswered, not yet told.
    gone: Vec<ConnectionId>,
}

/// Names a connection for its whole life; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// A request, to be answered by `Listener::reply`.
#[derive(Debug)]
pub struct Asked {
    pub id: ConnectionId,
    pub request: Request,
    /// As many as `Request::descriptors` says; close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Listener {
    /// Listens at `path` with mode 0600; a socket that was left there is replaced.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        let name =
            |why: Errno| io::Error::new(io::Error::from(why).kind(), format!("{}: {why}", path.display()));
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(name)?;
        // Before bind, so that there is no moment in which others may connect.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(name)?;
        match std::fs::remove_file(path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(why.kind(), format!("{}: {why}", path.display())));
            }
            Ok(()) | Err(_) => {}
        }
        bind(socket.as_raw_fd(), &UnixAddr::new(path).map_err(name)?).map_err(name)?;
        listen(&socket, Backlog::new(128).map_err(name)?).map_err(name)?;
        let spare = spare();
        Ok(Listener {
            socket,
            path: path.to_owned(),
            connections: Vec::new(),
            next: 0,
            spare,
            gone: Vec::new(),
        })
    }

    /// What to poll for; when any of it fires, call `ready`.
    pub fn polls(&self) -> Vec<(RawFd, PollFlags)> {
        let listener = (self.socket.as_raw_fd(), PollFlags::POLLIN);
        let connections = self.connections.iter().map(|one| (one.stream.as_raw_fd(), one.events()));
        std::iter::once(listener).chain(connections).collect()
    }

    /// Takes up what came in and sends what is due; returns the requests that are complete.
    pub fn ready(&mut self) -> Vec<Asked> {
        self.take_up();
        let mut asked = Vec::new();
        for connection in &mut self.connections {
            asked.extend(connection.turn());
        }
        self.sweep();
        asked
    }

    /// Answers a request. An answer to a connection that is gone is dropped.
    pub fn reply(&mut self, id: ConnectionId, answer: &Answer) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.answer(answer, State::Answering);
        }
        self.sweep();
    }

    /// The connections that went away before their answer, each told once: what was begun for them is unwanted.
    pub fn gone(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.gone)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn take_up(&mut self) {
        for _ in 0..PER_TURN {
            match accept(self.socket.as_fd()) {
                Ok(stream) => self.welcome(stream),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EMFILE | Errno::ENFILE) => {
                    self.spare = None;
                    drop(accept(self.socket.as_fd()));
                    self.spare = spare();
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self, stream: OwnedFd) {
        let mut connection = Connection::new(ConnectionId(self.next), stream);
        self.next = self.next.wrapping_add(1);
        if !connection.trusted() {
            let refusal = Answer::refused(Reason::Forbidden, "only root may ask");
            return connection.answer(&refusal, State::Leaving);
        }
        if self.connections.len() >= CONNECTIONS && !self.make_room() {
            let busy = format!("{CONNECTIONS} connections wait for their answers: try again");
            return connection.answer(&Answer::refused(Reason::ServiceUnavailable, busy), State::Leaving);
        }
        self.connections.push(connection);
    }

    /// Drops the oldest connection that owes us a request, else the oldest that does not read its answer.
    fn make_room(&mut self) -> bool {
        let oldest = |state: fn(&State) -> bool| self.connections.iter().position(|one| state(&one.state));
        let asking = oldest(|state| matches!(state, State::Asking));
        let victim = asking.or_else(|| oldest(|state| !matches!(state, State::Waiting)));
        if let Some(victim) = victim {
            self.connections.remove(victim);
        }
        victim.is_some()
    }

    /// Forgets the connections that ended.
    fn sweep(&mut self) {
        let gone = &mut self.gone;
        self.connections.retain(|one| {
            if let State::Ended { unanswered: true } = one.state {
                gone.push(one.id);
            }
            !matches!(one.state, State::Ended { .. })
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A client then learns at once that no one listens.
        drop(std::fs::remove_file(&self.path));
    }
}

/// One client.
struct Connection {
    id: ConnectionId,
    stream: OwnedFd,
    inbox: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    outbox: Vec<u8>,
    /// How much of the outbox is sent.
    sent: usize,
    state: State,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client's, to send a request.
    Asking,
    /// PID 1's, to answer it.
    Waiting,
    /// The client's, to read the answer; then it may ask again.
    Answering,
    /// The client's, to read the refusal; then it is hung up on.
    Leaving,
    Ended {
        unanswered: bool,
    },
}

impl Connection {
    fn new(id: ConnectionId, stream: OwnedFd) -> Self {
        let (inbox, outbox) = (Vec::new(), Vec::new());
        Connection { id, stream, inbox, descriptors: Vec::new(), outbox, sent: 0, state: State::Asking }
    }

    /// Root, or the user that podinit itself runs as.
    fn trusted(&self) -> bool {
        let peer = getsockopt(&self.stream, sockopt::PeerCredentials);
        peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
    }

    fn events(&self) -> PollFlags {
        match self.state {
            State::Asking => PollFlags::POLLIN,
            State::Answering | State::Leaving => PollFlags::POLLOUT,
            // A hang-up is told without being asked for.
            State::Waiting | State::Ended { .. } => PollFlags::empty(),
        }
    }

    /// Goes on as far as it can without waiting.
    fn turn(&mut self) -> Option<Asked> {
        match self.state {
            State::Asking => return self.listen(),
            State::Answering | State::Leaving => self.flush(),
            State::Waiting if hung_up(self.stream.as_fd()) => self.state = State::Ended { unanswered: true },
            State::Waiting | State::Ended { .. } => {}
        }
        None
    }

    fn listen(&mut self) -> Option<Asked> {
        let mut buffer = [0; 16 << 10];
        loop {
            match receive(self.stream.as_fd(), &mut buffer, &mut self.descriptors) {
                Ok(0) => {
                    self.end();
                    return None;
                }
                Ok(size) => self.inbox.extend_from_slice(buffer.get(..size).unwrap_or_default()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return None,
                Err(_) => {
                    self.end();
                    return None;
                }
            }
            if self.descriptors.len() > DESCRIPTORS {
                return self.refuse(format!("more than {DESCRIPTORS} descriptors"));
            }
            if let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
                return self.understand(end);
            }
            if self.inbox.len() > REQUEST_MAX {
                return self.refuse(format!("a request has at most {REQUEST_MAX} bytes"));
            }
        }
    }

    /// Makes a request of the line that ends at `end`.
    fn understand(&mut self, end: usize) -> Option<Asked> {
        let inbox = std::mem::take(&mut self.inbox);
        let descriptors = std::mem::take(&mut self.descriptors);
        let (line, rest) = inbox.split_at_checked(end)?;
        if line.len() > REQUEST_MAX {
            return self.refuse(format!("a request has at most {REQUEST_MAX} bytes"));
        }
        if rest.len() > 1 {
            return self.refuse("the next request comes after the answer to this one".to_owned());
        }
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(why) => return self.refuse(why),
        };
        if descriptors.len() != request.descriptors() {
            let (came, due) = (descriptors.len(), request.descriptors());
            return self.refuse(format!("{came} descriptors came with a request that takes {due}"));
        }
        self.state = State::Waiting;
        Some(Asked { id: self.id, request, descriptors })
    }

    fn refuse(&mut self, why: String) -> Option<Asked> {
        self.descriptors.clear();
        self.answer(&Answer::refused(Reason::BadRequest, why), State::Leaving);
        None
    }

    fn answer(&mut self, answer: &Answer, state: State) {
        self.outbox = answer.line();
        self.sent = 0;
        self.state = state;
        self.flush();
    }

    fn flush(&mut self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(self.stream.as_raw_fd(), rest, flags) {
                Ok(size) => self.sent += size,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => return self.end(),
            }
        }
        self.outbox = Vec::new();
        self.sent = 0;
        match self.state {
            State::Leaving => self.end(),
            _ => self.state = State::Asking,
        }
    }

    fn end(&mut self) {
        self.state = State::Ended { unanswered: false };
    }
}

/// Whether the other end is gone altogether; a client that only closed its sending side still wants its answer.
fn hung_up(stream: BorrowedFd<'_>) -> bool {
    let mut list = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut list, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}
