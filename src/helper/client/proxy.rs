//! A way through an HTTP proxy: CONNECT for TLS (RFC 9110, section 9.3.6), the whole URL in the request line without.

use std::io::{BufReader, Read, Write};
use std::time::Instant;

use super::url::{Url, authority};
use super::{Trouble, Wire, connect, http};

/// Where a proxy is, and the value of its Proxy-Authorization.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    pub login: Option<String>,
}

impl Proxy {
    /// Reads `[http://][USER:PASSWORD@]HOST[:PORT]`; the login in the form that `basic` makes of it. The error does not
    /// repeat the text, which may hold a password.
    pub fn parse(text: &str, basic: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("https://") || lower.starts_with("socks") {
            return Err("the proxy is asked by TLS or SOCKS, which is not supported: use http://".into());
        }
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let place = rest.split(['/', '?']).next().unwrap_or_default();
        let login = place.rsplit_once('@').and_then(|(login, _)| basic(&unescaped(login)));
        let url = Url::new(false, "", 80, "").join(&format!("http://{place}"));
        let url = url.ok_or("the proxy is no http://HOST:PORT")?;
        Ok(Proxy { host: url.host, port: url.port, login })
    }

    /// A connection on which this host can be spoken with as if there were no proxy.
    pub fn tunnel(&self, host: &str, port: u16, until: Instant) -> Result<Wire, Trouble> {
        let trouble = |why: &str| Trouble::Other(format!("proxyconnect {}: {why}", self.place()));
        let mut wire = self.reach(until)?;
        let place = authority(host, port);
        let login = self.fields().map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n");
        wire.write_all(request.as_bytes()).map_err(Trouble::from)?;
        // Byte by byte: what follows the head is the other's.
        let head = http::head(&mut BufReader::with_capacity(1, Bytewise(&mut wire)));
        match head.map_err(|why| trouble(&why.to_string()))?.status {
            200..=299 => Ok(wire),
            status => Err(trouble(&format!("HTTP status {status}"))),
        }
    }

    pub fn reach(&self, until: Instant) -> Result<Wire, Trouble> {
        let told = |why: Trouble| Trouble::Other(format!("proxyconnect {}: {why}", self.place()));
        connect(&self.host, self.port, until).map_err(told)
    }

    /// What is said to the proxy alone.
    pub fn fields(&self) -> Option<(String, String)> {
        self.login.clone().map(|login| ("Proxy-Authorization".to_owned(), login))
    }

    fn place(&self) -> String {
        authority(&self.host, self.port)
    }
}

struct Bytewise<'a>(&'a mut Wire);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer.get_mut(..1).unwrap_or_default())
    }
}

/// `%40` is `@`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let number = (*first == b'%').then(|| tail.get(..2)).flatten();
        let number = number.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(number.unwrap_or(*first));
        rest = tail.get(if number.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_from_its_variable() {
        let read = |text: &str| {
            Proxy::parse(text, |login| Some(format!("<{login}>"))).map(|at| (at.host, at.port, at.login))
        };
        let table = [
            ("http://p.lan:3128", Ok(("p.lan".to_owned(), 3128, None))),
            ("p.lan", Ok(("p.lan".to_owned(), 80, None))),
            ("http://u:p%40%3a@[::1]:8080/", Ok(("::1".to_owned(), 8080, Some("<u:p@:>".to_owned())))),
            ("http://p:x", Err("the proxy is no http://HOST:PORT".to_owned())),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in ["https://u:hunter2@p", "socks5://p"] {
            let why = read(text).unwrap_err();
            assert!(why.contains("not supported") && !why.contains("hunter2"), "{why}");
        }
    }
}
