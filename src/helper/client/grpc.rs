//! One call of grpc.health.v1.Health/Check over plaintext HTTP/2 (RFC 9113, RFC 7541): as much of both as it takes.
//!
//! Of the answer only the message and the trailers' grpc-status are read. A header that is told for the first time on
//! a fresh connection is told in full, so no table of headers is kept.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::http::AGENT;
use super::{Trouble, connect, url};

/// What became of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// HealthCheckResponse.status.
    Status(u64),
    /// The call failed with this code and message.
    Failed(u64, String),
    /// No connection that speaks HTTP/2.
    Unconnected(Trouble),
    /// The connection broke before an answer.
    Broken(Trouble),
}

/// The longest frame that is taken: HTTP/2's default.
const FRAME: usize = 16 << 10;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RESET: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 1;
    /// Of DATA and HEADERS.
    pub const END: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Asks for the health of this service; an empty one is the server's.
pub fn check(host: &str, port: u16, service: &str, timeout: Duration, until: Instant) -> Health {
    let wire = match connect(host, port, until) {
        Ok(wire) => wire,
        Err(why) => return Health::Unconnected(why),
    };
    let authority = url::authority(host, port);
    Call { stream: wire, greeted: false }.run(&request(&authority, service, timeout))
}

fn request(authority: &str, service: &str, timeout: Duration) -> Vec<u8> {
    // POST and http from HPACK's static table, the others as literals that are not to be indexed.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: Name, value: &str| {
        match name {
            Name::Static(index) => integer(&mut block, 4, index),
            Name::Own(name) => {
                block.push(0);
                text(&mut block, name);
            }
        }
        text(&mut block, value);
    };
    literal(Name::Static(4), "/grpc.health.v1.Health/Check");
    literal(Name::Static(1), authority);
    literal(Name::Static(31), "application/grpc");
    literal(Name::Static(58), AGENT);
    literal(Name::Own("te"), "trailers");
    literal(Name::Own("grpc-timeout"), &format!("{}m", timeout.as_millis().clamp(1, 99_999_999)));

    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.push(0x0a);
        varint(&mut message, service.len() as u64);
        message.extend(service.bytes());
    }
    let mut data = vec![0];
    data.extend((message.len() as u32).to_be_bytes());
    data.extend(message);

    let mut bytes = PREFACE.to_vec();
    // No pushes.
    frame(&mut bytes, kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]);
    frame(&mut bytes, kind::HEADERS, flag::END_HEADERS, 1, &block);
    frame(&mut bytes, kind::DATA, flag::END, 1, &data);
    bytes
}

enum Name {
    Static(u64),
    Own(&'static str),
}

struct Call<S> {
    stream: S,
    /// The server has spoken HTTP/2.
    greeted: bool,
}

impl<S: Read + Write> Call<S> {
    fn run(mut self, request: &[u8]) -> Health {
        match self.talk(request) {
            Ok(health) => health,
            Err(why) if self.greeted => Health::Broken(why),
            Err(why) => Health::Unconnected(why),
        }
    }

    fn talk(&mut self, request: &[u8]) -> Result<Health, Trouble> {
        self.stream.write_all(request)?;
        let mut message = Vec::new();
        let mut block = Vec::new();
        loop {
            let (kind, flags, body) = self.frame()?;
            match kind {
                kind::SETTINGS if flags & flag::ACK == 0 => self.answer(kind::SETTINGS, &[])?,
                kind::PING if flags & flag::ACK == 0 => self.answer(kind::PING, &body)?,
                kind::GOAWAY => return Err(Trouble::Other("the server closes the connection".into())),
                kind::RESET => {
                    return Err(Trouble::Other("the server ended the call without a status".into()));
                }
                kind::DATA => {
                    message.extend(unpadded(&body, flags, 0)?);
                    if let Some(status) = status(&message) {
                        return Ok(Health::Status(status));
                    }
                    if flags & flag::END != 0 {
                        return Err(Trouble::Other("an answer without a status".into()));
                    }
                }
                kind::HEADERS | kind::CONTINUATION => {
                    if kind == kind::HEADERS {
                        let priority = if flags & flag::PRIORITY == 0 { 0 } else { 5 };
                        block = unpadded(&body, flags, priority)?.to_vec();
                    } else {
                        block.extend(&body);
                    }
                    if block.len() > FRAME {
                        return Err(Trouble::Other("headers too long".into()));
                    }
                    if flags & flag::END_HEADERS != 0
                        && let Some((code, why)) = failure(&block)
                    {
                        return Ok(Health::Failed(code, why));
                    }
                }
                // Windows, priorities and what is not known yet concern no call as short as this.
                _ => {}
            }
        }
    }

    fn frame(&mut self) -> Result<(u8, u8, Vec<u8>), Trouble> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME || (!self.greeted && kind != kind::SETTINGS) {
            return Err(Trouble::Other("the server does not speak HTTP/2".into()));
        }
        self.greeted = true;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((kind, flags, body))
    }

    fn answer(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, flag::ACK, 0, body);
        self.stream.write_all(&bytes)
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    bytes.extend(body.len().to_be_bytes().iter().skip(size_of::<usize>() - 3));
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body);
}

fn unpadded(body: &[u8], flags: u8, skip: usize) -> Result<&[u8], Trouble> {
    let (padding, body) = match body.split_first() {
        Some((padding, rest)) if flags & flag::PADDED != 0 => (usize::from(*padding), rest),
        Some(_) | None => (0, body),
    };
    let end = body.len().checked_sub(padding);
    end.and_then(|end| body.get(skip..end)).ok_or_else(|| Trouble::Other("a frame too short".into()))
}

/// HealthCheckResponse.status, once the message is whole: field 1, a number. Without it: 0.
fn status(bytes: &[u8]) -> Option<u64> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    let mut message = bytes.get(5..5 + length)?;
    while let Some(tag) = number(&mut message) {
        let value = match tag & 7 {
            0 => number(&mut message)?,
            2 => {
                let length = number(&mut message)? as usize;
                message = message.get(length..)?;
                continue;
            }
            _ => return Some(0),
        };
        if tag >> 3 == 1 {
            return Some(value);
        }
    }
    Some(0)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// An integer with a prefix of this many bits, whose other bits are 0 (RFC 7541, section 5.1).
fn integer(bytes: &mut Vec<u8>, prefix: u32, value: u64) {
    let most = (1 << prefix) - 1;
    if value < most {
        bytes.push(value as u8);
    } else {
        bytes.push(most as u8);
        varint(bytes, value - most);
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    integer(bytes, 7, text.len() as u64);
    bytes.extend(text.bytes());
}

/// grpc-status other than OK, and grpc-message where it is plain, of a block of headers (RFC 7541, section 6).
fn failure(mut block: &[u8]) -> Option<(u64, String)> {
    let (mut code, mut message) = (None, String::new());
    while let Some(first) = block.first().copied() {
        // Indexed; a new size of the table; a literal, whose name is an index or follows.
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = prefixed(&mut block, prefix)?;
        if matches!(first, 0x80.. | 0x20..0x40) {
            continue;
        }
        let name = if index == 0 { Some(string(&mut block)?) } else { None };
        let value = string(&mut block)?;
        match name {
            Some((b"grpc-status", false) | (STATUS, true)) => code = digits(value),
            Some((b"grpc-message", false) | (MESSAGE, true)) if !value.1 => {
                message = String::from_utf8_lossy(value.0).into_owned();
            }
            Some(_) | None => {}
        }
    }
    code.filter(|code| *code != 0).map(|code| (code, message))
}

/// `grpc-status` and `grpc-message` in Huffman's code (RFC 7541, appendix B).
const STATUS: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
const MESSAGE: &[u8] = &[0x9a, 0xca, 0xc8, 0xb5, 0x25, 0x42, 0x07, 0x31, 0x7f];

/// An integer with a prefix of this many bits.
fn prefixed(bytes: &mut &[u8], prefix: u32) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    let most = (1u64 << prefix) - 1;
    let value = u64::from(*first) & most;
    if value < most { Some(value) } else { number(bytes)?.checked_add(most) }
}

/// A string as it came, and whether it is in Huffman's code.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let packed = bytes.first()? & 0x80 != 0;
    let length = usize::try_from(prefixed(bytes, 7)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((text, packed))
}

/// A decimal number; in Huffman's code 0, 1 and 2 are five bits, the other digits six.
fn digits((bytes, packed): (&[u8], bool)) -> Option<u64> {
    if !packed {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    let bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let value = |bits: &[bool]| bits.iter().fold(0, |value, bit| value << 1 | u64::from(*bit));
    let (mut rest, mut number) = (bits.as_slice(), 0_u64);
    // What is left over is padding: ones, fewer than eight.
    while !(rest.len() < 8 && rest.iter().all(|bit| *bit)) {
        let (length, digit) = match value(rest.get(..5)?) {
            digit @ 0..=2 => (5, digit),
            _ => (6, value(rest.get(..6)?).checked_sub(0b011001).filter(|digit| *digit < 7)? + 3),
        };
        number = number.checked_mul(10)?.checked_add(digit)?;
        rest = rest.get(length..)?;
    }
    Some(number)
}

/// Kubernetes' word for a status of the service.
pub fn word(status: u64) -> String {
    match status {
        0 => "UNKNOWN".into(),
        1 => "SERVING".into(),
        2 => "NOT_SERVING".into(),
        3 => "SERVICE_UNKNOWN".into(),
        other => other.to_string(),
    }
}

/// gRPC's word for a code.
pub fn code(code: u64) -> &'static str {
    match code {
        1 => "Canceled",
        2 => "Unknown",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "Code",
    }
}
