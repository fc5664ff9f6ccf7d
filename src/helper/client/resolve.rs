//! Names of hosts to addresses: /etc/hosts, then the name servers of /etc/resolv.conf (RFC 1035).
//!
//! Not the C library's: in a static binary it is 180 KiB, loads shared objects that a board has not, and has no deadline.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long one server may take for one question.
const WAIT: Duration = Duration::from_secs(2);

const A: u16 = 1;
const AAAA: u16 = 28;

/// All addresses of this host, the preferred ones first. Never empty. The error is Go's text.
pub fn addresses(host: &str, until: Instant) -> Result<Vec<IpAddr>, String> {
    if host.is_empty() {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = listed(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !found.is_empty() {
        return Ok(found);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    asked(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), host, until)
}

/// What a hosts file says.
fn listed(hosts: &str, host: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(host)).then_some(address)
    });
    named.collect()
}

fn asked(config: &str, host: &str, until: Instant) -> Result<Vec<IpAddr>, String> {
    let words = |key: &'static str| {
        let lines = config.lines().map(str::split_whitespace);
        lines.filter_map(move |mut words| (words.next() == Some(key)).then_some(words)).flatten()
    };
    let servers: Vec<IpAddr> = words("nameserver").filter_map(|word| word.parse().ok()).collect();
    if servers.is_empty() {
        return Err("no such host: no name server is configured".into());
    }
    let mut names = vec![host.trim_end_matches('.').to_owned()];
    if !host.contains('.') {
        names.splice(0..0, words("search").map(|domain| format!("{host}.{}", domain.trim_end_matches('.'))));
    }
    for name in &names {
        for kind in [A, AAAA] {
            for server in &servers {
                match ask(SocketAddr::new(*server, 53), name, kind, until) {
                    Ok(found) if !found.is_empty() => return Ok(found),
                    // It knows of none.
                    Ok(_) => break,
                    Err(why) if Instant::now() >= until => return Err(why.to_string()),
                    // Another server may answer.
                    Err(_) => {}
                }
            }
        }
    }
    Err("no such host".into())
}

fn ask(server: SocketAddr, name: &str, kind: u16, until: Instant) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    // The port is random, too; the answer comes from the server that was asked, or not at all.
    let id = socket.local_addr()?.port() ^ (u64::from(std::process::id()) as u16);
    socket.send(&question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?)?;
    let until = until.min(Instant::now() + WAIT);
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other("i/o timeout"));
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        let answer = buffer.get(..length).unwrap_or_default();
        if let Some(found) = answers(answer, id, kind) {
            return Ok(found);
        }
    }
}

/// None for a name that is none.
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::from(id.to_be_bytes());
    // Recursion desired; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    Some(bytes)
}

/// The addresses in an answer to our question; None where it is not one.
fn answers(bytes: &[u8], id: u16, kind: u16) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if number(0)? != id || bytes.get(2)? & 0x80 == 0 {
        return None;
    }
    let (questions, records) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = past(bytes, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..records {
        at = past(bytes, at)?;
        let (is, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if is == kind {
            let four = <[u8; 4]>::try_from(data).map(IpAddr::from);
            found.extend(four.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)));
        }
    }
    Some(found)
}

/// Where the name that begins here ends.
fn past(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            // A pointer ends a name.
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn addresses_need_no_server() {
        let until = Instant::now();
        let table = [("", "127.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1")];
        for (host, expected) in table {
            assert_eq!(addresses(host, until), Ok(vec![expected.parse().unwrap()]), "{host}");
        }
        let hosts = "127.0.0.1 localhost # box\n10.0.0.7\tbox  Box.lan\n::1 localhost\n";
        assert_eq!(listed(hosts, "box"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(listed(hosts, "BOX.lan").len(), 1);
        assert_eq!(listed(hosts, "localhost").len(), 2);
        assert_eq!(
            asked("search lan\n", "box", until),
            Err("no such host: no name server is configured".into())
        );
    }

    #[test]
    fn a_name_server_is_asked_and_its_answer_understood() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = server.local_addr().unwrap();
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let asked = &buffer[..length];
                // Somebody else's answer first, then ours: an alias, and an address of it.
                server.send_to(&[0; 12], from).unwrap();
                let mut answer = asked.to_vec();
                (answer[2], answer[7]) = (0x81, 2);
                answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12]);
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1, 2, 3]);
                server.send_to(&answer, from).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        let found = ask(place, "box.example", A, until).unwrap();
        assert_eq!(found, ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(ask(place, "box.example", AAAA, until).unwrap(), Vec::<IpAddr>::new());
        serving.join().unwrap();
        for name in ["", "a..b", &"x".repeat(64)] {
            assert_eq!(question(1, name, A), None, "{name}");
        }
    }

    #[test]
    fn no_answer_of_any_shape_is_trouble() {
        let mut answer = question(7, "box", A).unwrap();
        (answer[2], answer[7]) = (0x81, 1);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1, 2, 3]);
        assert_eq!(answers(&answer, 7, A).map(|found| found.len()), Some(1));
        for length in 0..answer.len() {
            assert_eq!(answers(&answer[..length], 7, A), None, "{length}");
        }
        assert_eq!(answers(&answer, 8, A), None);
    }
}
