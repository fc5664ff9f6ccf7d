//! `podinit net`: gives the wired interfaces their addresses, for as long as the machine runs.
//!
//! It hears of interfaces and cables from the kernel and asks a DHCP server on each; a lease's timers and news are all
//! that wakes it. Should it die, addresses stay for the rest of their lease, and its successor asks for them anew.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use log::{info, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::Tick;
use crate::config::{Fixed, Network};
use crate::net::dhcp::{Act, Client, Lease};
use crate::net::link::{self, Link};
use crate::net::netlink::Netlink;
use crate::net::packet::Wire;
use crate::net::report::{Interface, Report};
use crate::pages;

/// Runs until it is killed. `args`: `--ip=dhcp|ADDRESS/PREFIX[,GATEWAY[,DNS...]]`, `--hostname=NAME`, `--run-dir=DIR`,
/// as `Config::net_args` makes them.
pub fn run(args: &[String]) -> i32 {
    let done = start(args).and_then(|mut net| net.serve().map_err(|error| error.to_string()));
    match done {
        Ok(()) => 0,
        Err(why) => {
            warn!("net: {why}");
            1
        }
    }
}

struct Net {
    asks: Netlink,
    news: Netlink,
    network: Network,
    hostname: String,
    run: PathBuf,
    ports: BTreeMap<u32, Port>,
    reported: Report,
}

/// One wired interface.
struct Port {
    link: Link,
    client: Client,
    wire: Option<Wire>,
    lease: Option<Lease>,
    /// The lease has been logged since the cable came.
    told: bool,
}

fn start(args: &[String]) -> Result<Net, String> {
    let (mut network, mut hostname, mut run) = (Network::Dhcp, String::new(), PathBuf::from("/run/podinit"));
    for arg in args {
        match arg.split_once('=') {
            Some(("--ip", text)) => network = text.parse().map_err(|why| format!("--ip: {why}"))?,
            Some(("--hostname", text)) => hostname = text.into(),
            Some(("--run-dir", text)) => run = text.into(),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    let open = |groups| Netlink::open(groups).map_err(|error| format!("cannot speak to the kernel: {error}"));
    let (news, asks) = (open(link::NEWS)?, open(0)?);
    if let Err(error) = shed() {
        warn!("net: cannot give up root's powers: {error}");
    }
    Ok(Net { asks, news, network, hostname, run, ports: BTreeMap::new(), reported: Report::default() })
}

impl Net {
    fn serve(&mut self) -> io::Result<()> {
        self.look()?;
        loop {
            self.report();
            let due = self.ports.values().filter_map(|port| port.client.due()).min();
            // Rounded up, so that it does not wake a moment too early and spin.
            let timeout = due.map_or(PollTimeout::NONE, |due| {
                let milliseconds = (due - Tick::now()).as_micros().div_ceil(1000).min(i32::MAX as u128);
                PollTimeout::try_from(milliseconds as i32).unwrap_or(PollTimeout::MAX)
            });
            // A lease's next step is far away, an unanswered question's is not.
            if due.is_none_or(|due| due >= Tick::now() + Duration::from_secs(10)) {
                pages::give_back();
            }
            let wires = self.ports.values().filter_map(|port| port.wire.as_ref());
            let mut fds: Vec<PollFd> = [self.news.as_fd()]
                .into_iter()
                .chain(wires.map(|wire| wire.as_fd()))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if fds.first().and_then(PollFd::any).unwrap_or(false) {
                self.news.drain();
                self.look()?;
            }
            for port in self.ports.values_mut() {
                port.turn(&self.asks);
            }
        }
    }

    /// Compares the interfaces with what we know of them.
    fn look(&mut self) -> io::Result<()> {
        let links = link::links(&self.asks)?;
        let mut wired: Vec<Link> = links.into_iter().filter(Link::wired).collect();
        if matches!(self.network, Network::Fixed(_)) {
            wired.truncate(1);
        }
        self.ports.retain(|index, port| {
            let stays = wired.iter().any(|link| link.index == *index && link.mac == port.link.mac);
            if !stays {
                info!("net: {}: gone", port.link.name);
            }
            stays
        });
        for link in wired {
            let new = !self.ports.contains_key(&link.index);
            let seed = Tick::now().0 ^ link.mac.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
            let port = self.ports.entry(link.index).or_insert_with(|| Port {
                client: Client::new(link.mac, &self.hostname, seed),
                link: Link { carrier: false, ..link.clone() },
                wire: None,
                lease: None,
                told: false,
            });
            if !link.up
                && let Err(error) = link::set_up(&self.asks, link.index)
            {
                warn!("net: {}: cannot set it up: {error}", link.name);
            }
            let (before, now) = (port.link.carrier, link.carrier);
            port.link = link;
            match &self.network {
                Network::Dhcp if now && !before => port.client.up(Tick::now()),
                Network::Dhcp if before && !now => {
                    info!("net: {}: no carrier", port.link.name);
                    port.client.down();
                    port.told = false;
                    port.wire = None;
                }
                Network::Fixed(fixed) if new || (now && !before) => port.fix(&self.asks, fixed),
                Network::Dhcp | Network::Fixed(_) | Network::None => {}
            }
        }
        Ok(())
    }

    /// Writes net.json and resolv.conf where they have changed.
    fn report(&mut self) {
        let report = Report { interfaces: self.ports.values().map(Port::report).collect() };
        if report == self.reported {
            return;
        }
        match report.write(&self.run) {
            Ok(()) => self.reported = report,
            Err(error) => warn!("net: cannot write {}/net.json: {error}", self.run.display()),
        }
    }
}

impl Port {
    /// Hears, and does what is due.
    fn turn(&mut self, asks: &Netlink) {
        let mut acts = Vec::new();
        // A flood of messages must not keep the timers from their turn.
        for _ in 0..64 {
            let Some(message) = self.wire.as_ref().and_then(Wire::receive) else { break };
            acts.extend(self.client.hear(&message, Tick::now()));
        }
        acts.extend(self.client.step(Tick::now()));
        for act in acts {
            if let Err(error) = self.carry_out(&act, asks) {
                warn!("net: {}: {error}", self.link.name);
            }
        }
        if !self.client.listening() {
            self.wire = None;
        }
    }

    fn carry_out(&mut self, act: &Act, asks: &Netlink) -> io::Result<()> {
        match act {
            Act::Broadcast(message) => self.wire()?.broadcast(message),
            Act::Unicast(message, to) => self.wire()?.unicast(message, *to),
            Act::Use(lease) => {
                let same = self
                    .lease
                    .as_ref()
                    .is_some_and(|old| old.address == lease.address && old.routes == lease.routes);
                self.lease = Some(lease.clone());
                if !same || !self.told {
                    self.told = true;
                    info!("net: {}: {}", self.link.name, describe(lease));
                }
                self.apply(asks, lease)
            }
            Act::Drop => {
                let Some(lease) = self.lease.take() else { return Ok(()) };
                info!("net: {}: {} is no longer ours", self.link.name, lease.address);
                for (to, prefix, gateway) in &lease.routes {
                    // The kernel may have taken it with the link.
                    let _ = link::remove_route(asks, self.link.index, (*to, *prefix), *gateway);
                }
                link::remove_address(asks, self.link.index, lease.address, lease.prefix)
            }
        }
    }

    fn wire(&mut self) -> io::Result<&Wire> {
        let wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::open(self.link.index, &self.link.name)?,
        };
        Ok(self.wire.insert(wire))
    }

    fn apply(&self, asks: &Netlink, lease: &Lease) -> io::Result<()> {
        let index = self.link.index;
        link::add_address(asks, index, lease.address, lease.prefix, lease.seconds)?;
        for (to, prefix, gateway) in &lease.routes {
            link::add_route(asks, index, (*to, *prefix), *gateway, lease.address)?;
        }
        Ok(())
    }

    /// Sets a fixed address; told and reported like a lease without an end.
    fn fix(&mut self, asks: &Netlink, fixed: &Fixed) {
        if fixed.address.is_unspecified() {
            warn!("net: no address is configured beside its gateway and servers");
            return;
        }
        let lease = Lease {
            address: fixed.address,
            prefix: fixed.prefix,
            routes: fixed.gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway)).into_iter().collect(),
            dns: fixed.dns.clone(),
            domain: None,
            server: Ipv4Addr::UNSPECIFIED,
            seconds: None,
            renew: None,
            rebind: None,
            since: Tick::now(),
        };
        if let Err(error) = self.carry_out(&Act::Use(lease), asks) {
            warn!("net: {}: {error}", self.link.name);
        }
    }

    fn report(&self) -> Interface {
        let lease = self.lease.as_ref();
        Interface {
            name: self.link.name.clone(),
            mac: self.link.mac.map(|byte| format!("{byte:02x}")).join(":"),
            carrier: self.link.carrier,
            address: lease.map(|lease| lease.address),
            prefix: lease.map(|lease| lease.prefix),
            gateway: lease.and_then(gateway),
            dns: lease.map(|lease| lease.dns.clone()).unwrap_or_default(),
            domain: lease.and_then(|lease| lease.domain.clone()),
            lease: lease.and_then(|lease| lease.seconds),
        }
    }
}

fn gateway(lease: &Lease) -> Option<Ipv4Addr> {
    lease.routes.iter().find(|(_, prefix, _)| *prefix == 0).map(|(_, _, gateway)| *gateway)
}

/// `10.0.2.15/24 via 10.0.2.2, lease 86400 s`.
fn describe(lease: &Lease) -> String {
    let via = gateway(lease).map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let term = match lease.seconds {
        None => ", fixed".into(),
        Some(u32::MAX) => ", lease for ever".into(),
        Some(seconds) => format!(", lease {seconds} s"),
    };
    format!("{}/{}{via}{term}", lease.address, lease.prefix)
}

/// Gives up all of root's powers but those over the network, for ourselves and whatever we might become.
fn shed() -> io::Result<()> {
    const NET_BIND_SERVICE: u32 = 10;
    const NET_ADMIN: u32 = 12;
    const NET_RAW: u32 = 13;
    const VERSION_3: u32 = 0x2008_0522;
    const NOROOT_LOCKED: libc::c_ulong = 3;
    let kept: u32 = 1 << NET_BIND_SERVICE | 1 << NET_ADMIN | 1 << NET_RAW;
    // SAFETY: prctl with these operations takes numbers only.
    let bits = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NOROOT_LOCKED, 0, 0, 0) };
    // SAFETY: as above.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if bits < 0 || set < 0 {
        return Err(io::Error::last_os_error());
    }
    // struct __user_cap_header_struct, and two of __user_cap_data_struct: effective, permitted, inheritable.
    let header: [u32; 2] = [VERSION_3, 0];
    let data: [u32; 6] = [kept, kept, 0, 0, 0, 0];
    // SAFETY: both arrays have the sizes that version 3 asks for, and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // The working directory of a helper holds no mount.
    let _ = std::env::set_current_dir("/");
    Ok(())
}
