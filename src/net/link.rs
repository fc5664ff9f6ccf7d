//! Network interfaces, their addresses and routes.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use super::netlink::{CREATE, DUMP, Netlink, REPLACE, Request, attributes};

/// One interface, as the kernel tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// Set up by an administrator (IFF_UP).
    pub up: bool,
    /// There is a cable and something at its other end (IFF_LOWER_UP).
    pub carrier: bool,
    /// Its frames are Ethernet's (ARPHRD_ETHER).
    pub ethernet: bool,
}

/// The multicast group that tells of interfaces.
pub const NEWS: u32 = 1;

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;

const ETHER: u16 = 1;
const UP: u32 = 0x1;
const LOWER_UP: u32 = 0x1_0000;

/// Brings the loopback interface up; the kernel gives it its addresses then. For the machine and each pod's network.
pub fn loopback_up() -> io::Result<()> {
    const LOOPBACK: u32 = 1;
    set_up(&Netlink::open(0)?, LOOPBACK)
}

/// Every interface.
pub fn links(netlink: &Netlink) -> io::Result<Vec<Link>> {
    let found = netlink.ask(Request::new(GETLINK, DUMP, &[0; 16]), true)?;
    Ok(found
        .iter()
        .filter(|message| message.kind == NEWLINK)
        .filter_map(|message| read(&message.body))
        .collect())
}

/// Sets an interface up.
pub fn set_up(netlink: &Netlink, index: u32) -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(UP.to_ne_bytes());
    body.extend(UP.to_ne_bytes());
    netlink.ask(Request::new(NEWLINK, 0, &body), false).map(drop)
}

/// Gives an interface an address for so many seconds; None: for ever. Said again it prolongs.
pub fn add_address(
    netlink: &Netlink,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
    seconds: Option<u32>,
) -> io::Result<()> {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let broadcast = (u32::from(address) | !mask).to_be_bytes();
    let life = seconds.unwrap_or(u32::MAX).to_ne_bytes();
    // struct ifa_cacheinfo: preferred, valid, and two times that only the kernel sets.
    let times = [life, life, [0; 4], [0; 4]].concat();
    let mut request = Request::new(NEWADDR, CREATE | REPLACE, &address_body(index, prefix))
        .attribute(1, &address.octets())
        .attribute(2, &address.octets())
        .attribute(6, &times);
    if prefix < 31 {
        request = request.attribute(4, &broadcast);
    }
    netlink.ask(request, false).map(drop)
}

/// Takes an address away; the routes that need it go with it.
pub fn remove_address(netlink: &Netlink, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let request = Request::new(DELADDR, 0, &address_body(index, prefix)).attribute(2, &address.octets());
    netlink.ask(request, false).map(drop)
}

/// Adds a route through a gateway (0.0.0.0: directly on the link), from the address that the link has now. The lower of
/// two interfaces is preferred.
pub fn add_route(
    netlink: &Netlink,
    index: u32,
    (to, prefix): (Ipv4Addr, u8),
    gateway: Ipv4Addr,
    source: Ipv4Addr,
) -> io::Result<()> {
    let request =
        route(NEWROUTE, CREATE | REPLACE, index, (to, prefix), gateway).attribute(7, &source.octets());
    netlink.ask(request, false).map(drop)
}

/// Takes a route away.
pub fn remove_route(netlink: &Netlink, index: u32, to: (Ipv4Addr, u8), gateway: Ipv4Addr) -> io::Result<()> {
    netlink.ask(route(DELROUTE, 0, index, to, gateway), false).map(drop)
}

impl Link {
    /// Whether it is a wired Ethernet interface of the machine itself: by type, never by name. A veth or a bridge has no
    /// device; Wi-Fi has one, but needs more than an address.
    pub fn wired(&self) -> bool {
        let path = Path::new("/sys/class/net").join(&self.name);
        self.ethernet && path.join("device").exists() && !path.join("phy80211").exists()
    }
}

fn address_body(index: u32, prefix: u8) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    body
}

fn route(kind: u16, flags: u16, index: u32, (to, prefix): (Ipv4Addr, u8), gateway: Ipv4Addr) -> Request {
    const MAIN: u8 = 254;
    const BY_DHCP: u8 = 16;
    const UNICAST: u8 = 1;
    const ONLINK: u32 = 4;
    const SCOPE_LINK: u8 = 253;
    let direct = gateway.is_unspecified();
    let scope = if direct { SCOPE_LINK } else { 0 };
    let mut body = vec![libc::AF_INET as u8, prefix, 0, 0, MAIN, BY_DHCP, scope, UNICAST];
    // Some providers' gateway is outside of the prefix that they give.
    body.extend(if direct { 0 } else { ONLINK }.to_ne_bytes());
    let request = Request::new(kind, flags, &body)
        .attribute(1, &to.octets())
        .attribute(4, &index.to_ne_bytes())
        .attribute(6, &(100 + index).to_ne_bytes());
    if direct { request } else { request.attribute(5, &gateway.octets()) }
}

/// struct ifinfomsg and its attributes.
fn read(body: &[u8]) -> Option<Link> {
    let word = |at: usize| body.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
    let (index, flags) = (word(4)?, word(8)?);
    let (mut name, mut mac) = (String::new(), [0; 6]);
    for (kind, value) in attributes(body, 16) {
        match kind {
            1 => mac = value.try_into().unwrap_or(mac),
            3 => name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            _ => {}
        }
    }
    let (up, carrier) = (flags & UP != 0, flags & LOWER_UP != 0);
    Some(Link { index, name, mac, up, carrier, ethernet: kind == ETHER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_its_loopback() {
        let found = links(&Netlink::open(0).unwrap()).unwrap();
        let lo = found.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, lo.wired()), (1, false));
    }
}
