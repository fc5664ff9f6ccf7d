//! Addresses of HTTP servers: what a probe or hook names, and where a server sends it on to.

use std::fmt;

/// An absolute HTTP URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub https: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query as given, without a fragment; may be empty or begin with `?`.
    pub path: String,
}

impl Url {
    pub fn new(https: bool, host: &str, port: u16, path: &str) -> Self {
        let path = path.split('#').next().unwrap_or_default();
        let rooted = path.is_empty() || path.starts_with(['/', '?']);
        let path = if rooted { escaped(path) } else { format!("/{}", escaped(path)) };
        Url { https, host: host.to_owned(), port, path }
    }

    /// What stands in the request line.
    pub fn target(&self) -> String {
        match self.path.starts_with('/') {
            true => self.path.clone(),
            false => format!("/{}", self.path),
        }
    }

    /// Where a Location header of its answer leads (RFC 3986, section 5.2, without dot segments); None: nowhere.
    pub fn join(&self, location: &str) -> Option<Url> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = |rest| (self.https, rest);
        let (https, rest) = match location.split_once("://") {
            Some((word, rest)) if word.eq_ignore_ascii_case("http") => (false, rest),
            Some((word, rest)) if word.eq_ignore_ascii_case("https") => (true, rest),
            Some((word, _)) if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => return None,
            Some(_) | None => match location.strip_prefix("//") {
                Some(rest) => scheme(rest),
                None => return Some(Url { path: self.beside(location), ..self.clone() }),
            },
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(end);
        let place = place.rsplit('@').next().unwrap_or(place);
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (place, if https { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Url::new(https, host, port, path))
    }

    fn beside(&self, location: &str) -> String {
        let own = self.path.split('?').next().unwrap_or_default();
        match location.chars().next() {
            None => self.path.clone(),
            Some('/') => escaped(location),
            Some('?') => format!("{own}{}", escaped(location)),
            Some(_) => {
                let folder = own.rfind('/').and_then(|at| own.get(..=at)).unwrap_or("/");
                format!("{folder}{}", escaped(location))
            }
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }
}

/// `host:port`, an IPv6 address in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What may not stand in a request line is written by its number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f2_urls_are_written_as_the_kubelet_writes_them() {
        // F1 (rows 26 to 28) and F2, http_test.go and prober_test.go: FormatURL; the last column is the request's.
        let table = [
            (false, "localhost", 93, "", "http://localhost:93", "/"),
            (true, "localhost", 93, "/path?bar", "https://localhost:93/path?bar", "/path?bar"),
            (false, "localhost", 93, "?foo", "http://localhost:93?foo", "/?foo"),
            (false, "hostname", 76, "path", "http://hostname:76/path", "/path"),
            (false, "::1", 80, "/a b", "http://[::1]:80/a%20b", "/a%20b"),
            (false, "h", 80, "/a%20b\r\nX: y#part", "http://h:80/a%20b%0D%0AX:%20y", "/a%20b%0D%0AX:%20y"),
        ];
        for (https, host, port, path, whole, target) in table {
            let url = Url::new(https, host, port, path);
            assert_eq!((url.to_string().as_str(), url.target().as_str()), (whole, target));
        }
    }

    #[test]
    fn a_location_is_absolute_or_seen_from_where_it_was_said() {
        let from = Url::new(false, "h", 8080, "/a/b?q");
        let table = [
            ("/new", Some("http://h:8080/new")),
            ("new", Some("http://h:8080/a/new")),
            ("?x=http://y", Some("http://h:8080/a/b?x=http://y")),
            ("/to?next=http://y/", Some("http://h:8080/to?next=http://y/")),
            ("http://h:81/x", Some("http://h:81/x")),
            ("HTTPS://other/x#y", Some("https://other:443/x")),
            ("//other", Some("http://other:80")),
            ("http://u:p@[::1]:9/x", Some("http://[::1]:9/x")),
            ("http://[::1]/x", Some("http://[::1]:80/x")),
            ("ftp://h/x", None),
            ("http:///x", None),
            ("http://h:port/x", None),
        ];
        for (location, expected) in table {
            assert_eq!(from.join(location).map(|url| url.to_string()).as_deref(), expected, "{location}");
        }
    }
}
