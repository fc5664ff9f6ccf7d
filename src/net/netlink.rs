//! Messages to and from the kernel's network half (rtnetlink): a builder, a bounds-checked reader, a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

pub const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const REPLACE: u16 = 0x100;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// A request: nlmsghdr, a fixed body, attributes.
pub struct Request {
    bytes: Vec<u8>,
}

/// One message of an answer or an event: its kind and what follows the nlmsghdr.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// An rtnetlink socket.
pub struct Netlink {
    socket: OwnedFd,
}

impl Request {
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes.extend(body);
        put(&mut bytes, 4, &kind.to_ne_bytes());
        put(&mut bytes, 6, &(flags | REQUEST).to_ne_bytes());
        Request { bytes }
    }

    /// Adds an attribute, padded to four bytes.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self
    }

    fn finish(mut self, dump: bool) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        put(&mut self.bytes, 0, &length.to_ne_bytes());
        if !dump {
            let flags =
                self.bytes.get(6..8).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes) | ACK;
            put(&mut self.bytes, 6, &flags.to_ne_bytes());
        }
        self.bytes
    }
}

impl Netlink {
    /// A socket that hears of `groups` (RTMGRP_ bits); 0 for one that asks.
    pub fn open(groups: u32) -> io::Result<Netlink> {
        let mut flags = SockFlag::SOCK_CLOEXEC;
        if groups != 0 {
            flags |= SockFlag::SOCK_NONBLOCK;
        }
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        // The kernel answers at once; the limit is only against the impossible.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Netlink { socket })
    }

    /// Sends a request and waits for its end. The messages of a dump, or nothing.
    pub fn ask(&self, request: Request, dump: bool) -> io::Result<Vec<Message>> {
        send(self.socket.as_raw_fd(), &request.finish(dump), MsgFlags::empty())?;
        let mut all = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((count, Some(from))) if from.pid() == 0 => count,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(buffer.get(..count).unwrap_or_default()) {
                match message.kind {
                    DONE => return Ok(all),
                    ERROR => {
                        let code = message
                            .body
                            .get(..4)
                            .and_then(|four| four.try_into().ok())
                            .map_or(-libc::EIO, i32::from_ne_bytes);
                        return if code == 0 { Ok(all) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => all.push(message),
                }
            }
        }
    }

    /// Throws away what has been told: an event says where to look, not what is.
    pub fn drain(&self) {
        let mut buffer = [0; 8192];
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of one datagram; a broken length ends it.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let length =
            header.get(..4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize;
        let kind = header.get(4..6).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes);
        let Some(body) = bytes.get(HEADER..length) else { break };
        all.push(Message { kind, body: body.to_vec() });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The attributes that follow a fixed part of `skip` bytes; a broken length ends them.
pub fn attributes(body: &[u8], skip: usize) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    let mut bytes = body.get(skip..).unwrap_or_default();
    while let Some(&[a, b, c, d]) = bytes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = bytes.get(4..length) else { break };
        all.push((u16::from_ne_bytes([c, d]), value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let bytes =
            Request::new(16, DUMP, &[7; 8]).attribute(3, b"eth0\0").attribute(1, &[1, 2]).finish(true);
        let all = messages(&bytes);
        assert_eq!((all.len(), all[0].kind), (1, 16));
        assert_eq!(attributes(&all[0].body, 8), [(3, &b"eth0\0"[..]), (1, &[1, 2][..])]);
        assert_eq!(bytes.len() as u32, u32::from_ne_bytes(bytes[..4].try_into().unwrap()));
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let good = Request::new(16, 0, &[0; 16]).attribute(3, b"eth0\0").finish(false);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(0..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            for message in messages(&bytes) {
                assert!(attributes(&message.body, random.usize(..20)).len() < 64);
            }
        }
    }
}
