//! The kernel's word about devices that come and go, by netlink.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use log::warn;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

/// The socket; poll it for reading, then `handle`.
pub struct Uevents {
    socket: OwnedFd,
}

/// What has been told since the last look. It says where to look, not what is.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// Of the devices that came.
    pub modaliases: Vec<String>,
    /// Input devices came or went.
    pub input: bool,
    /// Disks or partitions came or went.
    pub block: bool,
    /// Messages were lost: look at everything.
    pub lost: bool,
}

/// The kernel's own multicast group; 2 is udev's.
const GROUP: u32 = 1;
/// Room for the burst of a bus full of devices; the kernel takes it only while it is used.
const ROOM: usize = 2 << 20;
/// More than one look needs; what is left makes the descriptor readable again.
const MOST: usize = 1024;

impl Uevents {
    pub fn open() -> io::Result<Uevents> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        // Without it a burst may be lost, which handle() can tell.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &ROOM);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        Ok(Uevents { socket })
    }

    /// Reads all that has been told. Never blocks.
    pub fn handle(&mut self) -> Seen {
        let mut seen = Seen::default();
        let mut buffer = [0; 8192];
        for _ in 0..MOST {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // Any process may write to the socket; the kernel's messages come from 0.
                Ok((count, Some(from))) if from.pid() == 0 => {
                    seen.learn(buffer.get(..count).unwrap_or_default());
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOBUFS) => seen.lost = true,
                Err(error) => {
                    warn!("devices: cannot hear of new ones: {error}");
                    break;
                }
            }
        }
        seen
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Seen {
    /// One message: `add@/devices/...`, then `KEY=value`, each ended by a zero byte.
    fn learn(&mut self, message: &[u8]) {
        let mut words = message.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        if !words.next().is_some_and(|head| head.contains('@')) {
            return;
        }
        let (mut action, mut subsystem, mut modalias) = (None, None, None);
        for word in words {
            match word.split_once('=') {
                Some(("ACTION", value)) => action = Some(value.to_owned()),
                Some(("SUBSYSTEM", value)) => subsystem = Some(value.to_owned()),
                Some(("MODALIAS", value)) => modalias = Some(value.to_owned()),
                _ => {}
            }
        }
        let comes = action.as_deref() == Some("add");
        if !comes && action.as_deref() != Some("remove") {
            return;
        }
        self.input |= subsystem.as_deref() == Some("input");
        self.block |= subsystem.as_deref() == Some("block");
        self.modaliases.extend(modalias.filter(|alias| comes && !alias.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let table: [(&[u8], Seen); 7] = [
            (
                b"add@/devices/x\0ACTION=add\0SUBSYSTEM=virtio\0MODALIAS=virtio:d1v2\0",
                Seen { modaliases: vec!["virtio:d1v2".into()], ..Seen::default() },
            ),
            (b"add@/d\0ACTION=add\0SUBSYSTEM=input\0", Seen { input: true, ..Seen::default() }),
            (
                b"remove@/d\0ACTION=remove\0SUBSYSTEM=block\0MODALIAS=x\0",
                Seen { block: true, ..Seen::default() },
            ),
            (b"change@/d\0ACTION=change\0SUBSYSTEM=block\0", Seen::default()),
            (b"libudev\0ACTION=add\0SUBSYSTEM=input\0", Seen::default()),
            (b"", Seen::default()),
            (b"add@/d\0ACTION\0=\0\xff\xfe=\xff\0", Seen::default()),
        ];
        for (message, expected) in table {
            let mut seen = Seen::default();
            seen.learn(message);
            assert_eq!(seen, expected, "{}", String::from_utf8_lossy(message));
        }
    }
}
