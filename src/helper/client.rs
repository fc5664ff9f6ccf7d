//! Short conversations with servers in pods: connect, ask, hear, all before one deadline. For helpers: it blocks.

mod authorities;
mod body;
pub mod grpc;
pub mod http;
pub mod proxy;
mod resolve;
#[cfg(test)]
pub mod servers;
pub mod tls;
pub mod url;

pub use authorities::{Authorities, FILES};
pub use body::Body;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Why a conversation came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The deadline came first.
    Late,
    /// A server that was to speak TLS answered in plain text.
    Plain,
    /// In Go's words, which the kubelet tells.
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Late => out.write_str("i/o timeout"),
            Trouble::Plain => out.write_str("http: server gave HTTP response to HTTPS client"),
            Trouble::Other(text) => out.write_str(text),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Trouble::Late,
            io::ErrorKind::UnexpectedEof => Trouble::Other("EOF".into()),
            _ => Trouble::Other(words(&error)),
        }
    }
}

/// A connection whose reads and writes end at one moment, however many there are.
pub struct Wire {
    stream: TcpStream,
    until: Instant,
    /// From now on each of them has so much time, and all together have no end.
    each: Option<Duration>,
}

impl Wire {
    /// For what may take long as long as it goes on.
    pub fn patient(mut self, each: Duration) -> Self {
        self.each = Some(each);
        self
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.each {
            Some(each) => Ok(Some(each)),
            None => left(self.until).map(Some),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection of either kind, with TLS or without.
pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Connects to the first address of this host that answers. No host is this machine.
pub fn connect(host: &str, port: u16, until: Instant) -> Result<Wire, Trouble> {
    let shown = url::authority(host, port);
    let dial = |text: String| Trouble::Other(format!("dial tcp {text}"));
    let addresses = resolve::addresses(host, until).map_err(|why| dial(format!("lookup {host}: {why}")))?;
    let mut last = dial(format!("lookup {host}: no such host"));
    for address in addresses {
        let address = SocketAddr::new(address, port);
        let connected = left(until).and_then(|left| TcpStream::connect_timeout(&address, left));
        match connected {
            Ok(stream) => {
                // As the kubelet: what a close has not delivered within a second is dropped.
                let linger = libc::linger { l_onoff: 1, l_linger: 1 };
                let _ = setsockopt(&stream, sockopt::Linger, &linger);
                return Ok(Wire { stream, until, each: None });
            }
            Err(why) if why.kind() == io::ErrorKind::TimedOut => {
                last = dial(format!("{shown}: i/o timeout"));
            }
            Err(why) => last = dial(format!("{shown}: connect: {}", words(&why))),
        }
    }
    Err(last)
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// The kernel's words, as Go writes them.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}
