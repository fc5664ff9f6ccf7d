//! One HTTP/1.1 GET: a connection of its own, no compression, no proxy, and of the answer what is needed.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Instant;

use super::url::{Url, authority};
use super::{Authorities, Body, Stream, Trouble, connect, tls};

/// How much of a body a probe reads.
const BODY: usize = 10 << 10;
/// How long the head of an answer may be.
pub(super) const HEAD: u64 = 256 << 10;
/// The kubelet that we behave as.
pub const AGENT: &str = "kube-probe/1.36";

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub location: Option<String>,
    /// As much of it as was wanted.
    pub body: Vec<u8>,
}

/// On which terms a server is asked.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who must vouch for it; None: nobody.
    pub trust: Option<Authorities>,
    /// How many bytes of the body are read.
    pub most: usize,
    /// A body that breaks off is trouble also where TLS alone can tell.
    pub whole: bool,
}

impl Terms {
    /// A probe's.
    const PROBE: Terms = Terms { trust: None, most: BODY, whole: false };
}

/// The headers as the kubelet makes them of a handler's: names in Go's writing, one of a default's name replaces it,
/// an empty User-Agent or Accept is left out, and Host is the request's.
pub fn headers(given: &[(String, String)]) -> Vec<(String, String)> {
    let mut headers: Vec<_> = given.iter().map(|(name, value)| (canonical(name), value.clone())).collect();
    let mut default = |name: &str, value: &str| {
        if !headers.iter().any(|(other, _)| other == name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    };
    default("User-Agent", AGENT);
    default("Accept", "*/*");
    default("Connection", "close");
    let left_out = |name: &str| matches!(name, "User-Agent" | "Accept");
    headers.retain(|(name, value)| !(left_out(name) && value.is_empty()));
    headers
}

/// Asks once; a redirect is the caller's to follow. `headers`: as made by `headers`.
pub fn get(url: &Url, headers: &[(String, String)], until: Instant) -> Result<Reply, Trouble> {
    get_on(&Terms::PROBE, url, headers, until)
}

/// The same on other terms than a probe's.
pub fn get_on(
    terms: &Terms,
    url: &Url,
    headers: &[(String, String)],
    until: Instant,
) -> Result<Reply, Trouble> {
    let request = request(url, headers)?;
    let wire = connect(&url.host, url.port, until)?;
    let stream: Box<dyn Stream> = match url.https {
        true => Box::new(tls::client(wire, &url.host, terms.trust.as_ref())?),
        false => Box::new(wire),
    };
    talk(stream, &request, terms)
}

/// The bytes of a GET.
pub fn request(url: &Url, headers: &[(String, String)]) -> Result<Vec<u8>, Trouble> {
    let host = headers.iter().find(|(name, value)| name == "Host" && !value.is_empty());
    let host = host.map_or_else(|| authority(&url.host, url.port), |(_, value)| value.clone());
    let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", url.target());
    for (name, value) in headers {
        if value.bytes().chain(host.bytes()).any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            return Err(Trouble::Other(format!("net/http: invalid header field value for {name:?}")));
        }
        // What the request itself decides, as in Go.
        if !matches!(name.as_str(), "Host" | "Content-Length" | "Transfer-Encoding" | "Trailer") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

/// The bytes of a POST of a form.
pub fn post(url: &Url, headers: &[(String, String)], form: &str) -> Result<Vec<u8>, Trouble> {
    let mut bytes = request(url, headers)?;
    bytes.splice(.."GET".len(), *b"POST");
    bytes.truncate(bytes.len() - "\r\n".len());
    let length = form.len();
    bytes.extend(
        format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}")
            .bytes(),
    );
    Ok(bytes)
}

fn talk(stream: impl Read + Write, request: &[u8], terms: &Terms) -> Result<Reply, Trouble> {
    let (head, body) = exchange(stream, request, terms.whole)?;
    let mut bytes = Vec::new();
    body.take(terms.most as u64).read_to_end(&mut bytes).map_err(tls::told)?;
    let location = head.field("location").map(str::to_owned);
    Ok(Reply { status: head.status, location, body: bytes })
}

/// Sends a request; of the answer the head, and the body as it comes. `whole`: as in `Terms`.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    request: &[u8],
    whole: bool,
) -> Result<(Head, Body<S>), Trouble> {
    stream.write_all(request).map_err(tls::told)?;
    stream.flush().map_err(tls::told)?;
    let mut from = BufReader::new(stream);
    loop {
        let head = head(&mut from)?;
        // A server may say first that it will answer.
        if !(100..=199).contains(&head.status) || head.status == 101 {
            let body = Body::new(from, &head, whole);
            return Ok((head, body));
        }
    }
}

/// The first lines of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    /// The first of this name, which is given in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// How many bytes the body has, where that is told.
    pub fn length(&self) -> Option<u64> {
        self.field("content-length")?.parse().ok()
    }

    pub fn chunked(&self) -> bool {
        self.all("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"))
    }
}

pub fn head(from: &mut impl BufRead) -> Result<Head, Trouble> {
    let mut from = from.take(HEAD);
    let first = line(&mut from)?;
    let malformed = || Trouble::Other(format!("malformed HTTP response {first:?}"));
    let (version, rest) = first.split_once(' ').ok_or_else(malformed)?;
    let status = rest.split(' ').next().filter(|word| word.len() == 3).and_then(|word| word.parse().ok());
    let status = status.filter(|_| version.starts_with("HTTP/1.")).ok_or_else(malformed)?;
    let mut head = Head { status, ..Head::default() };
    loop {
        let line = line(&mut from)?;
        if line.is_empty() {
            return Ok(head);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| {
            Trouble::Other(format!(
                "net/http: HTTP/1.x transport connection broken: malformed header {line:?}"
            ))
        })?;
        head.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Without its end.
fn line(from: &mut impl BufRead) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes).map_err(tls::told)?;
    match bytes.pop() {
        Some(b'\n') => {}
        Some(_) => return Err(Trouble::Other("unexpected EOF".into())),
        None => return Err(Trouble::Other("EOF".into())),
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A header's name as Go writes it: `FOO-bAR` is `Foo-Bar`. One that is no name at all stays as it is.
fn canonical(name: &str) -> String {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return name.to_owned();
    }
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn f1_headers_are_the_kubelets() {
        // F1, http_test.go: TestHTTPProbeChecker, TestNewRequestForHTTPGetAction and v1's headers.
        let table: &[(&[(&str, &str)], &[(&str, &str)])] = &[
            (&[], &[("User-Agent", AGENT), ("Accept", "*/*"), ("Connection", "close")]),
            (
                &[("User-Agent", "foo/1.0")],
                &[("User-Agent", "foo/1.0"), ("Accept", "*/*"), ("Connection", "close")],
            ),
            (&[("user-agent", "")], &[("Accept", "*/*"), ("Connection", "close")]),
            (&[("Accept", "")], &[("User-Agent", AGENT), ("Connection", "close")]),
            (
                &[("accept", "application/json"), ("accept", "*/*"), ("pragma", "no-cache")],
                &[
                    ("Accept", "application/json"),
                    ("Accept", "*/*"),
                    ("Pragma", "no-cache"),
                    ("User-Agent", AGENT),
                    ("Connection", "close"),
                ],
            ),
            (
                &[("HOST", "muffins"), ("FOO-bAR", "x"), ("Accept-Encoding", "")],
                &[
                    ("Host", "muffins"),
                    ("Foo-Bar", "x"),
                    ("Accept-Encoding", ""),
                    ("User-Agent", AGENT),
                    ("Accept", "*/*"),
                    ("Connection", "close"),
                ],
            ),
        ];
        for (given, expected) in table {
            assert_eq!(headers(&pairs(given)), pairs(expected), "{given:?}");
        }
    }

    #[test]
    fn a_header_cannot_bring_another_one() {
        let url = Url::new(false, "h", 80, "/");
        for header in [("X", "a\r\nY: b"), ("Host", "a\r\nY: b")] {
            assert!(
                matches!(request(&url, &headers(&pairs(&[header]))), Err(Trouble::Other(_))),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_form_is_posted_with_its_length() {
        let url = Url::new(true, "h", 443, "/token?x");
        let bytes = post(&url, &pairs(&[("Accept", "a")]), "k=v%20w").unwrap();
        let expected = "POST /token?x HTTP/1.1\r\nHost: h:443\r\nAccept: a\r\n\
                        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nk=v%20w";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn answers_are_read_as_far_as_needed() {
        let reply = |status, body: &str| Ok((status, body.to_owned()));
        let broken = |text: &str| Err(Trouble::Other(text.to_owned()));
        let table = [
            ("HTTP/1.1 200 OK\r\n\r\nfine", reply(200, "fine")),
            ("HTTP/1.0 404\n\nno", reply(404, "no")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nfine", reply(200, "fi")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfine", broken("unexpected EOF")),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", reply(204, "")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2;x=y\r\nne\r\n0\r\n\r\n",
                reply(200, "fine"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfi", broken("unexpected EOF")),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\n\r\n", reply(500, "")),
            ("", broken("EOF")),
            ("HTTP/1.1 200 OK\r\n", broken("EOF")),
            ("SSH-2.0-OpenSSH_9\r\n", broken("malformed HTTP response \"SSH-2.0-OpenSSH_9\"")),
            ("HTTP/1.1 2000 OK\r\n\r\n", broken("malformed HTTP response \"HTTP/1.1 2000 OK\"")),
        ];
        for (text, expected) in table {
            let stream = Canned { said: text.as_bytes(), heard: Vec::new() };
            let got =
                talk(stream, b"", &Terms::PROBE).map(|r| (r.status, String::from_utf8(r.body).unwrap()));
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn a_body_longer_than_wanted_is_cut_and_no_trouble() {
        let long = "x".repeat(3 * BODY);
        for head in [String::new(), format!("Content-Length: {}\r\n", 3 * BODY)] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n{long}");
            let reply =
                talk(Canned { said: text.as_bytes(), heard: Vec::new() }, b"", &Terms::PROBE).unwrap();
            assert_eq!(reply.body.len(), BODY);
        }
        let chunk = format!("{:x}\r\n{long}\r\n", 3 * BODY);
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        let reply = talk(Canned { said: text.as_bytes(), heard: Vec::new() }, b"", &Terms::PROBE).unwrap();
        assert_eq!(reply.body.len(), BODY);
    }

    #[test]
    fn a_whole_body_is_read_as_far_as_wanted_and_a_cut_one_is_trouble() {
        let terms = Terms { trust: None, most: 3 * BODY, whole: true };
        for length in [2 * BODY, 3 * BODY, 4 * BODY] {
            let long = "x".repeat(length);
            let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{long}\r\n0\r\n\r\n");
            for rest in [format!("\r\n{long}"), format!("Content-Length: {length}\r\n\r\n{long}"), chunked] {
                let text = format!("HTTP/1.1 200 OK\r\n{rest}");
                let reply = talk(Canned { said: text.as_bytes(), heard: Vec::new() }, b"", &terms).unwrap();
                assert_eq!(reply.body.len(), length.min(3 * BODY));
            }
        }
        // A TLS stream that ends without a good-bye.
        let cut = || Cut(b"HTTP/1.1 200 OK\r\n\r\nhalf");
        assert_eq!(talk(cut(), b"", &Terms::PROBE).unwrap().body, b"half");
        assert_eq!(talk(cut(), b"", &terms), Err(Trouble::Other("EOF".into())));
    }

    struct Cut<'a>(&'a [u8]);

    impl Read for Cut<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                length => Ok(length),
            }
        }
    }

    impl Write for Cut<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Canned<'a> {
        said: &'a [u8],
        heard: Vec<u8>,
    }

    impl Read for Canned<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.said.read(buffer)
        }
    }

    impl Write for Canned<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
