//! IP and UDP around DHCP messages (RFC 791, 768), and the two sockets that carry them.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recv, sendto, setsockopt, socket, sockopt,
};

const CLIENT: u16 = 68;
const SERVER: u16 = 67;
const UDP: u8 = 17;
const IP: usize = 20;

/// The sockets of one interface while answers may come.
pub struct Wire {
    /// Sees IP packets for UDP port 68 only, also before we have an address.
    raw: OwnedFd,
    /// Sends from our address, and keeps the kernel from telling servers that nobody is at port 68.
    udp: OwnedFd,
    index: u32,
}

impl Wire {
    pub fn open(index: u32, name: &str) -> io::Result<Wire> {
        let raw = raw_socket(index)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let udp = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&udp, sockopt::ReuseAddr, &true)?;
        setsockopt(&udp, sockopt::Broadcast, &true)?;
        setsockopt(&udp, sockopt::BindToDevice, &name.into())?;
        bind(udp.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT)))?;
        Ok(Wire { raw, udp, index })
    }

    /// Sends to everyone on the link, from no address.
    pub fn broadcast(&self, message: &[u8]) -> io::Result<()> {
        let packet = wrap(message);
        let mut to = link_address(self.index);
        to.sll_halen = 6;
        to.sll_addr = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: packet and address are valid for their lengths during the call.
        let sent = unsafe {
            libc::sendto(
                self.raw.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                size,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends to a server's port from our address.
    pub fn unicast(&self, message: &[u8], to: Ipv4Addr) -> io::Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(to, SERVER));
        sendto(self.udp.as_raw_fd(), message, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// The next message that has come; None: there is none now.
    pub fn receive(&self) -> Option<Vec<u8>> {
        // What the UDP socket holds came by the raw one too.
        let mut buffer = [0; 2048];
        while recv(self.udp.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
        loop {
            let count = recv(self.raw.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            if let Some(message) = unwrap(buffer.get(..count)?) {
                return Some(message.to_vec());
            }
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

fn raw_socket(index: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // No protocol: nothing is received before the filter stands.
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut program = FILTER;
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program outlives the call, which copies it.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size)
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    let address = link_address(index);
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is valid for its length during the call.
    if unsafe { libc::bind(fd, (&raw const address).cast(), size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn link_address(index: u32) -> libc::sockaddr_ll {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index as i32;
    address
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Takes unfragmented UDP to port 68, from the IP header on, so that other traffic wakes nobody.
const FILTER: [libc::sock_filter; 9] = [
    op(0x30, 0, 0, 9),             // ldb [9]: the protocol
    op(0x15, 0, 5, UDP as u32),    // jeq udp, else drop
    op(0x28, 0, 0, 6),             // ldh [6]: the fragment's place
    op(0x45, 3, 0, 0x1FFF),        // jset: drop
    op(0xB1, 0, 0, 0),             // ldxb 4*([0]&0xf): the header's length
    op(0x48, 0, 0, 2),             // ldh [x+2]: the destination port
    op(0x15, 1, 0, CLIENT as u32), // jeq 68: take
    op(0x06, 0, 0, 0),             // ret 0: drop
    op(0x06, 0, 0, 0xFFFF),        // ret: take
];

/// An IP packet from 0.0.0.0:68 to 255.255.255.255:67.
fn wrap(message: &[u8]) -> Vec<u8> {
    let udp_length = (message.len() + 8) as u16;
    let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let mut udp = Vec::new();
    udp.extend(CLIENT.to_be_bytes());
    udp.extend(SERVER.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(message);
    let pseudo = [&from.octets()[..], &to.octets(), &[0, UDP], &udp_length.to_be_bytes(), &udp].concat();
    // 0 would mean "no checksum".
    let sum = match checksum(&pseudo) {
        0 => 0xFFFF,
        sum => sum,
    };
    let mut ip = vec![0x45, 0x10];
    ip.extend((udp_length + IP as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let header = checksum(&ip).to_be_bytes();
    let sum = sum.to_be_bytes();
    for (bytes, at, value) in [(&mut ip, 10, header), (&mut udp, 6, sum)] {
        if let Some(place) = bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&value);
        }
    }
    [ip, udp].concat()
}

/// The message in an IP packet from port 67 to port 68. The UDP checksum is not looked at: a virtual network card
/// leaves it to hardware that is not there; ids and addresses inside are checked instead.
fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xF) * 4;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let packet = packet.get(..total)?;
    let ip = packet.get(..header)?;
    if first >> 4 != 4 || header < IP || ip.get(9) != Some(&UDP) || checksum(ip) != 0 {
        return None;
    }
    let udp = packet.get(header..)?;
    if udp.get(..4)? != [SERVER.to_be_bytes(), CLIENT.to_be_bytes()].concat() {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    udp.get(8..length)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_reads_back() {
        let mut packet = wrap(b"hello");
        assert_eq!(checksum(&packet[..IP]), 0);
        assert_eq!(unwrap(&packet), None, "a client's message is not a server's");
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(unwrap(&packet), Some(&b"hello"[..]));
        packet.extend([0; 10]);
        assert_eq!(unwrap(&packet), Some(&b"hello"[..]), "Ethernet pads short frames");
        packet[8] ^= 1;
        assert_eq!(unwrap(&packet), None, "a broken header");
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let mut random = fastrand::Rng::with_seed(1);
        let good = wrap(&[7; 40]);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            bytes[random.usize(..40)] = random.u8(..);
            bytes.truncate(random.usize(..=good.len()));
            let _ = unwrap(&bytes);
        }
    }
}
