//! The DHCP client's messages (RFC 2131, options of RFC 2132 and 3442).

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Encodable};

use super::dhcp::Lease;
use crate::clock::Tick;

/// What every message of a client carries.
#[derive(Clone, Debug)]
pub struct Header {
    pub mac: [u8; 6],
    pub hostname: String,
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
}

/// What a server says to us.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Offer { address: Ipv4Addr, server: Ipv4Addr },
    Ack(Lease),
    Nak,
}

const WANTED: [OptionCode; 8] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::ClasslessStaticRoute,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// BOOTP's least length, which some relays insist on.
const LEAST: usize = 300;

/// DHCPDISCOVER.
pub fn discover(header: &Header) -> Vec<u8> {
    message(header, MessageType::Discover, Ipv4Addr::UNSPECIFIED, [])
}

/// DHCPREQUEST while we have no address: for an offer of `server`, or after a restart for an address we had (None).
pub fn request(header: &Header, address: Ipv4Addr, server: Option<Ipv4Addr>) -> Vec<u8> {
    let asked = [Some(DhcpOption::RequestedIpAddress(address)), server.map(DhcpOption::ServerIdentifier)];
    message(header, MessageType::Request, Ipv4Addr::UNSPECIFIED, asked.into_iter().flatten())
}

/// DHCPREQUEST of a client that has the address and wants to keep it.
pub fn renew(header: &Header, address: Ipv4Addr) -> Vec<u8> {
    message(header, MessageType::Request, address, [])
}

fn message(
    header: &Header,
    kind: MessageType,
    ours: Ipv4Addr,
    options: impl IntoIterator<Item = DhcpOption>,
) -> Vec<u8> {
    // We cannot answer ARP before we have an address, and not every server and switch reaches us all the same.
    let flags: u16 = if ours.is_unspecified() { 0x8000 } else { 0 };
    let mut fixed = vec![1, 1, 6, 0];
    fixed.extend(header.xid.to_be_bytes());
    fixed.extend(header.secs.to_be_bytes());
    fixed.extend(flags.to_be_bytes());
    fixed.extend(ours.octets());
    fixed.extend([0; 12]);
    fixed.extend(header.mac);
    fixed.resize(236, 0);
    fixed.extend([99, 130, 83, 99, 255]);
    // dhcproto's constructors ask the kernel for random numbers even where the id is given, and a board without a clock
    // or a network has none yet: the client would hang in its first second. Its reader does not.
    let Ok(mut message) = Message::from_bytes(&fixed) else { return Vec::new() };
    let all = message.opts_mut();
    all.insert(DhcpOption::MessageType(kind));
    all.insert(DhcpOption::ClientIdentifier([&[1][..], &header.mac].concat()));
    all.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
    all.insert(DhcpOption::MaxMessageSize(1472));
    if !header.hostname.is_empty() {
        all.insert(DhcpOption::Hostname(header.hostname.clone()));
    }
    options.into_iter().for_each(|option| drop(all.insert(option)));
    let mut bytes = message.to_vec().unwrap_or_default();
    if bytes.len() < LEAST {
        bytes.resize(LEAST, 0);
    }
    bytes
}

/// Reads a server's message to the client of this header; None: it is not for us, or cannot be used.
pub fn read(header: &Header, bytes: &[u8], now: Tick) -> Option<Answer> {
    // op BOOTREPLY, Ethernet, six bytes of address; checked here as the decoder trusts the length.
    if bytes.get(..3)? != [2, 1, 6] {
        return None;
    }
    let message = Message::from_bytes(&sift(bytes)?).ok()?;
    if message.xid() != header.xid || message.chaddr() != header.mac {
        return None;
    }
    let server = match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    };
    match message.opts().msg_type()? {
        MessageType::Offer => Some(Answer::Offer { address: usable(message.yiaddr())?, server: server? }),
        MessageType::Ack => Some(Answer::Ack(lease(&message, server, now)?)),
        MessageType::Nak => Some(Answer::Nak),
        _ => None,
    }
}

/// The message with only the options that we read, each of a possible length. dhcproto 0.15 panics on some others (option
/// 80 that is not empty), and anyone on the link can send them.
fn sift(bytes: &[u8]) -> Option<Vec<u8>> {
    // The fixed part without the server's name and boot file, and the cookie.
    const NAMES: std::ops::Range<usize> = 44..236;
    const OPTIONS: usize = 240;
    let mut out = bytes.get(..OPTIONS)?.to_vec();
    out.get_mut(NAMES)?.fill(0);
    let mut rest = bytes.get(OPTIONS..)?;
    while let Some((&code, tail)) = rest.split_first() {
        match code {
            0 => rest = tail,
            255 => break,
            _ => {
                let (&length, tail) = tail.split_first()?;
                let (value, tail) = tail.split_at_checked(usize::from(length))?;
                let fits = match code {
                    53 => length == 1,
                    1 | 51 | 54 | 58 | 59 => length == 4,
                    3 | 6 => length != 0 && length % 4 == 0,
                    15 | 121 => length != 0,
                    _ => false,
                };
                if fits {
                    out.extend([code, length]);
                    out.extend(value);
                }
                rest = tail;
            }
        }
    }
    out.push(255);
    Some(out)
}

fn lease(message: &Message, server: Option<Ipv4Addr>, now: Tick) -> Option<Lease> {
    let address = usable(message.yiaddr())?;
    let mut lease = Lease {
        address,
        prefix: by_class(address),
        routes: Vec::new(),
        dns: Vec::new(),
        domain: None,
        server: server?,
        seconds: None,
        renew: None,
        rebind: None,
        since: now,
    };
    let (mut routers, mut routes) = (Vec::new(), Vec::new());
    for (_, option) in message.opts().iter() {
        match option {
            DhcpOption::SubnetMask(mask) => lease.prefix = prefix(*mask)?,
            DhcpOption::Router(found) => routers.extend(found.iter().filter_map(|router| usable(*router))),
            DhcpOption::ClasslessStaticRoute(found) => {
                routes.extend(found.iter().map(|(net, gateway)| (net.addr(), net.prefix_len(), *gateway)));
            }
            DhcpOption::DomainNameServer(found) => {
                lease.dns = found.iter().filter_map(|dns| usable(*dns)).take(3).collect();
            }
            DhcpOption::DomainName(name) => lease.domain = domain(name),
            DhcpOption::AddressLeaseTime(seconds) => lease.seconds = Some(*seconds),
            DhcpOption::Renewal(seconds) => lease.renew = Some(*seconds),
            DhcpOption::Rebinding(seconds) => lease.rebind = Some(*seconds),
            _ => {}
        }
    }
    // RFC 3442: where there are classless routes, the router option is not to be used.
    let default = routers.first().map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router));
    lease.routes = if routes.is_empty() { default.into_iter().collect() } else { routes };
    lease.seconds?;
    Some(lease)
}

/// An address that a machine can have.
fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let no =
        address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback();
    (!no).then_some(address)
}

fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones() as u8)
}

/// For servers that send no mask (RFC 950's classes).
fn by_class(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

/// A domain name goes into a file, so only what a name may hold.
fn domain(text: &str) -> Option<String> {
    let text = text.trim_end_matches(['\0', '.']);
    let clean = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    (!text.is_empty() && text.len() <= 253 && clean).then(|| text.to_owned())
}

/// What a server would answer, for tests.
#[cfg(test)]
pub fn answer(header: &Header, kind: MessageType, address: [u8; 4], options: Vec<DhcpOption>) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(header.xid, none, address.into(), none, none, &header.mac);
    message.set_opcode(dhcproto::v4::Opcode::BootReply);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    options.into_iter().for_each(|option| drop(message.opts_mut().insert(option)));
    message.to_vec().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { mac: [2, 0, 0, 0, 0, 1], hostname: "porch".into(), xid: 7, secs: 0 }
    }

    fn options() -> Vec<DhcpOption> {
        vec![
            DhcpOption::ServerIdentifier([10, 0, 2, 2].into()),
            DhcpOption::SubnetMask([255, 255, 255, 0].into()),
            DhcpOption::Router(vec![[10, 0, 2, 2].into()]),
            DhcpOption::DomainNameServer(vec![[10, 0, 2, 3].into(), [0, 0, 0, 0].into()]),
            DhcpOption::DomainName("home.\0".into()),
            DhcpOption::AddressLeaseTime(86400),
        ]
    }

    #[test]
    fn an_ack_is_a_lease() {
        let bytes = answer(&header(), MessageType::Ack, [10, 0, 2, 15], options());
        let Some(Answer::Ack(lease)) = read(&header(), &bytes, Tick::seconds(1)) else { panic!("no lease") };
        assert_eq!((lease.address, lease.prefix), ([10, 0, 2, 15].into(), 24));
        assert_eq!(lease.routes, [([0, 0, 0, 0].into(), 0, [10, 0, 2, 2].into())]);
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert_eq!((lease.domain.as_deref(), lease.seconds), (Some("home"), Some(86400)));
    }

    #[test]
    fn what_is_not_for_us_or_unusable_is_nothing() {
        let good = answer(&header(), MessageType::Ack, [10, 0, 2, 15], options());
        assert!(read(&header(), &good, Tick(0)).is_some());
        let other = Header { xid: 8, ..header() };
        assert_eq!(read(&other, &good, Tick(0)), None);
        let other = Header { mac: [2, 0, 0, 0, 0, 2], ..header() };
        assert_eq!(read(&other, &good, Tick(0)), None);
        for address in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [127, 0, 0, 1]] {
            assert_eq!(
                read(&header(), &answer(&header(), MessageType::Ack, address, options()), Tick(0)),
                None
            );
        }
        let crooked = [options(), vec![DhcpOption::SubnetMask([255, 0, 255, 0].into())]].concat();
        assert_eq!(
            read(&header(), &answer(&header(), MessageType::Ack, [10, 0, 2, 15], crooked), Tick(0)),
            None
        );
        assert_eq!(
            read(&header(), &answer(&header(), MessageType::Ack, [10, 0, 2, 15], vec![]), Tick(0)),
            None
        );
        assert_eq!(read(&header(), &discover(&header()), Tick(0)), None);
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let good = answer(&header(), MessageType::Ack, [10, 0, 2, 15], options());
        for length in 0..good.len() {
            let _ = read(&header(), &good[..length], Tick(0));
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = read(&header(), &bytes, Tick(0));
        }
    }

    #[test]
    fn requests_carry_what_a_server_needs() {
        let bytes = request(&header(), [10, 0, 2, 15].into(), Some([10, 0, 2, 2].into()));
        assert!(bytes.len() >= LEAST);
        let message = Message::from_bytes(&bytes).unwrap();
        assert!(message.flags().broadcast());
        assert!(message.opts().has_msg_type(MessageType::Request));
        assert_eq!((message.xid(), message.chaddr()), (7, &header().mac[..]));
        let renewal = Message::from_bytes(&renew(&header(), [10, 0, 2, 15].into())).unwrap();
        assert_eq!(renewal.ciaddr(), Ipv4Addr::new(10, 0, 2, 15));
        assert!(!renewal.flags().broadcast() && !renewal.opts().contains(OptionCode::RequestedIpAddress));
    }
}
