//! The DHCP client of one interface as a state machine (RFC 2131 section 4.4): no socket, no clock, time is an argument.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::message::{self, Answer, Header};
use crate::clock::Tick;

/// What a server has lent us.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Destination, its prefix, gateway; 0.0.0.0/0 is the default route.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub server: Ipv4Addr,
    /// For how long, and when to ask again (T1, T2), in seconds, as the server said.
    pub seconds: Option<u32>,
    pub renew: Option<u32>,
    pub rebind: Option<u32>,
    /// When it was given.
    pub since: Tick,
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send to everyone on the link, from no address.
    Broadcast(Vec<u8>),
    /// Send to a server, from our address.
    Unicast(Vec<u8>, Ipv4Addr),
    /// Use this lease from now on; it may be the old one with new times.
    Use(Lease),
    /// The address is no longer ours.
    Drop,
}

/// The client of one interface.
#[derive(Clone, Debug)]
pub struct Client {
    header: Header,
    state: State,
    lease: Option<Lease>,
    /// When it began to ask.
    began: Tick,
    /// Servers' refusals in a row.
    refused: u32,
    seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// The link is down.
    Off,
    /// Ask from the start, at this time.
    Init(Tick),
    /// Discover sent `tries` times; again at this time.
    Selecting { tries: u32, again: Tick },
    /// Request sent for an offer, or (without a server) for the address from before the link went down.
    Requesting { address: Ipv4Addr, server: Option<Ipv4Addr>, tries: u32, again: Tick },
    /// All is well until T1.
    Bound,
    /// Asking its server to prolong; again at this time.
    Renewing(Tick),
    /// Asking any server to prolong; again at this time.
    Rebinding(Tick),
}

/// Requests for one offer before asking from the start.
const TRIES: u32 = 4;
/// RFC 2131 section 4.4.5: renewals are no nearer than this.
const NEAREST: Duration = Duration::from_secs(60);
/// A server that lends for less would keep us busy with asking.
const SHORTEST: u32 = 30;

impl Client {
    /// `seed` makes transaction ids and the spread of retries; any number, best another for each machine and start.
    pub fn new(mac: [u8; 6], hostname: &str, seed: u64) -> Client {
        let header = Header { mac, hostname: hostname.into(), xid: 0, secs: 0 };
        Client { header, state: State::Off, lease: None, began: Tick(0), refused: 0, seed: seed | 1 }
    }

    /// The link has come up: ask, for the address we had if its lease still runs.
    pub fn up(&mut self, now: Tick) {
        if self.state != State::Off {
            return;
        }
        self.began = now;
        self.header.xid = self.random() as u32;
        self.state = match &self.lease {
            Some(lease) if lease.ends().is_none_or(|end| now < end) => {
                State::Requesting { address: lease.address, server: None, tries: 0, again: now }
            }
            _ => State::Init(now),
        };
    }

    /// The link has gone down. The lease is remembered; the address may stay until the link is back.
    pub fn down(&mut self) {
        self.state = State::Off;
    }

    /// Whether an answer may come: only then a socket is needed.
    pub fn listening(&self) -> bool {
        !matches!(self.state, State::Off | State::Bound | State::Init(_))
    }

    /// When `step` has something to do.
    pub fn due(&self) -> Option<Tick> {
        match &self.state {
            State::Off => self.lease.as_ref().and_then(Lease::ends),
            State::Init(at) => Some(*at),
            State::Selecting { again, .. } | State::Requesting { again, .. } => Some(*again),
            State::Bound => self.lease.as_ref().and_then(Lease::renews),
            State::Renewing(again) => self.lease.as_ref().and_then(Lease::rebinds).map(|at| at.min(*again)),
            State::Rebinding(again) => self.lease.as_ref().and_then(Lease::ends).map(|at| at.min(*again)),
        }
    }

    /// Does what time has made due.
    pub fn step(&mut self, now: Tick) -> Vec<Act> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.header.secs = (now - self.began).as_secs().min(0xFFFF) as u16;
        match self.state.clone() {
            State::Off => self.expire(now, State::Off),
            State::Init(_) => {
                self.began = now;
                self.header.secs = 0;
                self.header.xid = self.random() as u32;
                self.select(0, now)
            }
            State::Selecting { tries, .. } => self.select(tries, now),
            State::Requesting { tries: TRIES.., .. } => {
                // Nobody knows the old address any more, or the server that offered is gone.
                let init = State::Init(now);
                if self.lease.is_some() { self.expire(now, init) } else { self.to(init, now) }
            }
            State::Requesting { address, server, tries, .. } => {
                let again = now + self.pause(tries);
                self.state = State::Requesting { address, server, tries: tries + 1, again };
                vec![Act::Broadcast(message::request(&self.header, address, server))]
            }
            State::Bound | State::Renewing(_) | State::Rebinding(_) => self.prolong(now),
        }
    }

    /// Takes in a message from port 67.
    pub fn hear(&mut self, bytes: &[u8], now: Tick) -> Vec<Act> {
        if !self.listening() {
            return Vec::new();
        }
        match (message::read(&self.header, bytes, now), &self.state) {
            (Some(Answer::Offer { address, server }), State::Selecting { .. }) => {
                self.state = State::Requesting { address, server: Some(server), tries: 0, again: now };
                self.step(now)
            }
            // In Selecting there is nothing yet that could be acknowledged or refused.
            (
                Some(Answer::Ack(lease)),
                State::Requesting { .. } | State::Renewing(_) | State::Rebinding(_),
            ) => {
                let changed = self.lease.as_ref().is_some_and(|old| old.address != lease.address);
                self.lease = Some(lease.clone());
                self.state = State::Bound;
                self.refused = 0;
                let drop = changed.then_some(Act::Drop);
                drop.into_iter().chain([Act::Use(lease)]).collect()
            }
            (Some(Answer::Nak), State::Requesting { .. } | State::Renewing(_) | State::Rebinding(_)) => {
                // At once the first time (we have moved to another network), slower if it goes on.
                let wait = if self.refused == 0 { Duration::ZERO } else { self.pause(self.refused) };
                self.refused = self.refused.saturating_add(1);
                let init = State::Init(now + wait);
                if self.lease.is_some() { self.expire(now, init) } else { self.to(init, now) }
            }
            (Some(Answer::Offer { .. } | Answer::Ack(_) | Answer::Nak) | None, _) => Vec::new(),
        }
    }

    fn select(&mut self, tries: u32, now: Tick) -> Vec<Act> {
        let again = now + self.pause(tries);
        self.state = State::Selecting { tries: tries.saturating_add(1), again };
        vec![Act::Broadcast(message::discover(&self.header))]
    }

    /// Asks the lease's server from T1 on, any server from T2 on, and gives up at the end.
    fn prolong(&mut self, now: Tick) -> Vec<Act> {
        let Some(lease) = self.lease.clone() else { return self.to(State::Init(now), now) };
        let (Some(rebinds), Some(ends)) = (lease.rebinds(), lease.ends()) else {
            return self.to(State::Bound, now);
        };
        if now >= ends {
            return self.expire(now, State::Init(now));
        }
        if self.state == State::Bound {
            self.began = now;
            self.header.secs = 0;
            self.header.xid = self.random() as u32;
        }
        let half = |end: Tick| now + ((end - now) / 2).max(NEAREST);
        let message = message::renew(&self.header, lease.address);
        if now >= rebinds {
            self.state = State::Rebinding(half(ends));
            // As a broadcast, but from the address we have: `Unicast` to the broadcast address.
            vec![Act::Unicast(message, Ipv4Addr::BROADCAST)]
        } else {
            self.state = State::Renewing(half(rebinds));
            vec![Act::Unicast(message, lease.server)]
        }
    }

    fn expire(&mut self, now: Tick, next: State) -> Vec<Act> {
        self.lease = None;
        let mut acts = vec![Act::Drop];
        acts.extend(self.to(next, now));
        acts
    }

    fn to(&mut self, state: State, now: Tick) -> Vec<Act> {
        self.state = state;
        self.step(now)
    }

    /// 2, 4, 8 ... 64 s, each an eighth shorter or longer, so that a street of boards does not ask in one breath after
    /// a power cut.
    fn pause(&mut self, tries: u32) -> Duration {
        let seconds = 2u64 << tries.min(5);
        let eighth = seconds * 1000 / 8;
        Duration::from_millis(seconds * 1000 - eighth + self.random() % (2 * eighth + 1))
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

impl Lease {
    /// When it ends; None: never.
    pub fn ends(&self) -> Option<Tick> {
        self.length().map(|seconds| self.since + Duration::from_secs(seconds.into()))
    }

    /// T1: the server's, else half of the time.
    fn renews(&self) -> Option<Tick> {
        let length = self.length()?;
        let seconds = self.renew.filter(|seconds| (1..length).contains(seconds)).unwrap_or(length / 2);
        Some(self.since + Duration::from_secs(seconds.into()))
    }

    /// T2: the server's, else seven eighths of the time; never before T1.
    fn rebinds(&self) -> Option<Tick> {
        let length = self.length()?;
        let usual = (u64::from(length) * 7 / 8) as u32;
        let seconds = self.rebind.filter(|seconds| (1..length).contains(seconds)).unwrap_or(usual);
        Some((self.since + Duration::from_secs(seconds.into())).max(self.renews()?))
    }

    /// Seconds; None: for ever (0xffffffff).
    fn length(&self) -> Option<u32> {
        self.seconds.filter(|seconds| *seconds != u32::MAX).map(|seconds| seconds.max(SHORTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::{DhcpOption, MessageType};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn at(seconds: u64) -> Tick {
        Tick::seconds(seconds)
    }

    fn answer(client: &Client, kind: MessageType, last: u8, seconds: u32) -> Vec<u8> {
        let options = vec![DhcpOption::ServerIdentifier(SERVER), DhcpOption::AddressLeaseTime(seconds)];
        message::answer(&client.header, kind, [10, 0, 2, last], options)
    }

    fn bound(seconds: u32) -> Client {
        let mut client = Client::new(MAC, "porch", 42);
        client.up(at(0));
        assert!(matches!(client.step(at(0))[..], [Act::Broadcast(_)]));
        let offer = answer(&client, MessageType::Offer, 15, seconds);
        assert!(matches!(client.hear(&offer, at(1))[..], [Act::Broadcast(_)]));
        let ack = answer(&client, MessageType::Ack, 15, seconds);
        assert!(
            matches!(&client.hear(&ack, at(2))[..], [Act::Use(lease)] if lease.address == Ipv4Addr::new(10, 0, 2, 15))
        );
        client
    }

    #[test]
    fn an_idle_lease_wakes_nobody_before_its_half() {
        let client = bound(1000);
        assert_eq!(client.due(), Some(at(502)));
        assert!(!client.listening());
        assert_eq!(bound(u32::MAX).due(), None);
    }

    #[test]
    fn it_renews_then_rebinds_then_gives_up() {
        let mut client = bound(1000);
        let mut line = Vec::new();
        while let Some(due) = client.due() {
            assert!(client.step(Tick(due.0 - 1)).is_empty(), "acts before it is due");
            let acts = client.step(due);
            let what = match &acts[..] {
                [Act::Unicast(_, to)] if *to == SERVER => "renew",
                [Act::Unicast(_, Ipv4Addr::BROADCAST)] => "rebind",
                [Act::Drop, Act::Broadcast(_)] => "drop and discover",
                other => panic!("{other:?}"),
            };
            line.push((due.0 / 1_000_000_000, what));
            if what.starts_with("drop") {
                break;
            }
        }
        let expected = [
            (502, "renew"),
            (689, "renew"),
            (783, "renew"),
            (843, "renew"),
            (877, "rebind"),
            (939, "rebind"),
            (999, "rebind"),
            (1002, "drop and discover"),
        ];
        assert_eq!(line, expected);
    }

    #[test]
    fn a_renewal_prolongs_and_a_refusal_starts_anew() {
        let mut client = bound(1000);
        client.step(at(502));
        let ack = answer(&client, MessageType::Ack, 15, 1000);
        let mut renewed = client.clone();
        assert!(matches!(renewed.hear(&ack, at(503))[..], [Act::Use(_)]));
        assert_eq!(renewed.due(), Some(at(1003)));
        let mut moved = client.clone();
        let other = answer(&moved, MessageType::Ack, 16, 1000);
        assert!(matches!(moved.hear(&other, at(503))[..], [Act::Drop, Act::Use(_)]));
        let nak = answer(&client, MessageType::Nak, 0, 0);
        assert!(matches!(client.hear(&nak, at(503))[..], [Act::Drop, Act::Broadcast(_)]));
    }

    #[test]
    fn refusals_in_a_row_slow_it_down() {
        let mut client = Client::new(MAC, "", 42);
        client.up(at(0));
        client.step(at(0));
        let mut waits = Vec::new();
        for _ in 0..5 {
            let now = client.due().unwrap();
            client.step(now);
            client.hear(&answer(&client, MessageType::Offer, 15, 60), now);
            client.hear(&answer(&client, MessageType::Nak, 0, 0), now);
            waits.push((client.due().unwrap() - now).as_secs());
        }
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[4] >= 14, "{waits:?}");
    }

    #[test]
    fn without_a_server_it_asks_ever_more_seldom() {
        let mut client = Client::new(MAC, "", 7);
        client.up(at(0));
        let mut times = Vec::new();
        for _ in 0..9 {
            let due = client.due().unwrap();
            assert!(matches!(client.step(due)[..], [Act::Broadcast(_)]));
            times.push(due.0 / 1_000_000_000);
        }
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (gap, about) in gaps.iter().zip([2, 4, 8, 16, 32, 64, 64, 64]) {
            assert!(gap.abs_diff(about) <= about / 8 + 1, "{gaps:?}");
        }
    }

    #[test]
    fn a_link_that_comes_back_asks_for_its_old_address() {
        let mut client = bound(1000);
        client.down();
        assert_eq!(client.due(), Some(at(1002)));
        let mut late = client.clone();
        client.up(at(100));
        assert!(matches!(client.step(at(100))[..], [Act::Broadcast(_)]));
        assert!(matches!(client.state, State::Requesting { server: None, .. }));
        let mut nobody = client.clone();
        assert!(matches!(
            client.hear(&answer(&client, MessageType::Ack, 15, 1000), at(101))[..],
            [Act::Use(_)]
        ));
        let acts = loop {
            let due = nobody.due().unwrap();
            let acts = nobody.step(due);
            if acts.len() > 1 {
                break acts;
            }
        };
        assert!(matches!(acts[..], [Act::Drop, Act::Broadcast(_)]), "{acts:?}");
        assert_eq!(late.step(at(1002)), [Act::Drop]);
        late.up(at(2000));
        assert!(matches!(late.state, State::Init(_)));
    }

    #[test]
    fn an_unasked_answer_changes_nothing() {
        let mut client = bound(1000);
        let ack = answer(&client, MessageType::Ack, 99, 10);
        assert_eq!(client.hear(&ack, at(10)), []);
        let mut fresh = Client::new(MAC, "", 3);
        fresh.up(at(0));
        fresh.step(at(0));
        let ack = answer(&fresh, MessageType::Ack, 99, 10);
        assert_eq!(fresh.hear(&ack, at(1)), []);
        assert_eq!(fresh.hear(&answer(&fresh, MessageType::Nak, 0, 0), at(1)), []);
    }

    #[test]
    fn any_history_comes_to_rest_and_never_stalls() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut client = Client::new(MAC, "", seed);
            let mut now = at(0);
            for _ in 0..200 {
                match random.u8(..10) {
                    0 => client.down(),
                    1 => client.up(now),
                    kind @ 2..=5 => {
                        let kinds =
                            [MessageType::Offer, MessageType::Ack, MessageType::Nak, MessageType::Discover];
                        let bytes =
                            answer(&client, kinds[usize::from(kind - 2)], random.u8(..), random.u32(..5000));
                        client.hear(&bytes, now);
                    }
                    _ => now = client.due().unwrap_or(now).max(now),
                }
                client.step(now);
                assert!(client.due().is_none_or(|due| due > now), "{client:?} at {now:?}");
                assert!(client.due().is_some() || matches!(client.state, State::Off), "{client:?}");
            }
        }
    }
}
