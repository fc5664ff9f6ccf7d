//! PAX extended headers (POSIX.1 pax, "extended header"): the keys that a file in a layer can carry.

use std::collections::BTreeMap;
use std::io;

use super::tarball::bad;

/// What an extended header says of the next entry.
#[derive(Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    pub sparse_map: Vec<(u64, u64)>,
    sparse_major: Option<u64>,
    /// A map was given in the header, maybe an empty one.
    sparse_listed: bool,
    sparse_offset: Option<u64>,
}

impl Pax {
    pub fn parse(mut data: &[u8]) -> io::Result<Self> {
        let mut pax = Pax::default();
        while !data.is_empty() {
            let (key, value, rest) =
                record(data).ok_or_else(|| bad("a PAX header's record is not `length key=value`"))?;
            pax.set(key, value)?;
            data = rest;
        }
        Ok(pax)
    }

    pub fn is_sparse(&self) -> bool {
        self.sparse_listed || self.sparse_in_data()
    }

    /// Form 1.0 keeps its map in front of the data.
    pub fn sparse_in_data(&self) -> bool {
        self.sparse_major == Some(1)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let text = || {
            let text = std::str::from_utf8(value).ok();
            text.ok_or_else(|| bad(format!("PAX {}: not a text", String::from_utf8_lossy(key))))
        };
        let number = || {
            let number = text()?.parse::<u64>();
            number.map_err(|_| {
                bad(format!("PAX {}: {:?} is not a number", String::from_utf8_lossy(key), value))
            })
        };
        match key {
            // As if it were not there: the plain header holds.
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => {
                let time = time(text()?);
                self.mtime = Some(time.ok_or_else(|| bad(format!("PAX mtime: {:?} is not a time", text())))?);
            }
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(number()?),
            b"GNU.sparse.major" => self.sparse_major = Some(number()?),
            b"GNU.sparse.numblocks" => self.sparse_listed = true,
            b"GNU.sparse.offset" => self.sparse_offset = Some(number()?),
            b"GNU.sparse.numbytes" => {
                let offset =
                    self.sparse_offset.take().ok_or_else(|| bad("a sparse length without offset"))?;
                self.sparse_listed = true;
                self.sparse_map.push((offset, number()?));
            }
            b"GNU.sparse.map" => {
                self.sparse_listed = true;
                self.sparse_map = pairs(text()?.split(',').filter(|part| !part.is_empty()))
                    .ok_or_else(|| bad("GNU.sparse.map is not a list of offsets and lengths"))?;
            }
            _ => self.set_xattr(key, value)?,
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.insert(name.to_vec(), value.to_vec());
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            // bsdtar writes both; the raw value above wins.
            let name = unescape(name);
            let value = base64(value).ok_or_else(|| bad("LIBARCHIVE.xattr: the value is not base64"))?;
            self.xattrs.entry(name).or_insert(value);
        }
        Ok(())
    }
}

/// `<length> <key>=<value>\n`, where the length counts the whole record. Values may hold any byte.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(data.get(..space)?).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, data.get(length..)?))
}

/// Decimal seconds, maybe negative, maybe with a fraction; finer than a nanosecond is cut off.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if negative && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// The map of form 1.0 as it comes: a count, then offsets and lengths, one a line. It is read once, however long.
#[derive(Default)]
pub struct SparseMap {
    /// Of numbers that follow.
    count: Option<u64>,
    numbers: Vec<u64>,
    /// Of the present line.
    number: Option<u64>,
}

impl SparseMap {
    /// Takes a block; true when the map is whole. What is behind it fills its last block.
    pub fn take(&mut self, block: &[u8]) -> io::Result<bool> {
        let not_a_map = || bad("the map of a sparse file is not made of numbers");
        for &byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let number = self.number.unwrap_or(0).checked_mul(10);
                    self.number =
                        Some(number.and_then(|number| number.checked_add(digit)).ok_or_else(not_a_map)?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or_else(not_a_map)?;
                    match self.count {
                        None => self.count = Some(number.checked_mul(2).ok_or_else(not_a_map)?),
                        Some(_) => self.numbers.push(number),
                    }
                    if self.count == Some(self.numbers.len() as u64) {
                        return Ok(true);
                    }
                }
                _ => return Err(not_a_map()),
            }
        }
        Ok(false)
    }

    /// Offsets and lengths.
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        self.numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect()
    }
}

fn pairs<'a>(mut numbers: impl Iterator<Item = &'a str>) -> Option<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    while let Some(offset) = numbers.next() {
        pairs.push((offset.parse().ok()?, numbers.next()?.parse().ok()?));
    }
    Some(pairs)
}

/// Undoes the percent signs of a LIBARCHIVE attribute's name.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) if byte == b'%' => {
                out.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// RFC 4648 section 4, padded or not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for &byte in text.iter().filter(|byte| !matches!(byte, b'=' | b'\n')) {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        let table = [
            ("0", Some((0, 0))),
            ("1700000000.123456789", Some((1_700_000_000, 123_456_789))),
            ("5.5", Some((5, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("x", None),
            ("1.x", None),
        ];
        for (text, expected) in table {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn attributes_come_in_both_spellings() {
        let mut data = Vec::new();
        data.extend_from_slice(b"27 SCHILY.xattr.user.a=x\ny\n");
        data.extend_from_slice(b"37 LIBARCHIVE.xattr.user%2eb=aGVsbG8\n");
        let pax = Pax::parse(&data).unwrap();
        assert_eq!(pax.xattrs.get(&b"user.a"[..]).unwrap(), b"x\ny");
        assert_eq!(pax.xattrs.get(&b"user.b"[..]).unwrap(), b"hello");
    }

    #[test]
    fn an_empty_value_says_nothing() {
        let pax = Pax::parse(b"8 path=\n7 uid=\n9 mtime=\n").unwrap();
        assert!(pax.path.is_none() && pax.uid.is_none() && pax.mtime.is_none());
    }

    #[test]
    fn records_that_lie_are_refused() {
        for data in [&b"99 path=a\n"[..], b"path=a\n", b"8 path=a\n", b"10 path=a!", b"0 \n"] {
            assert!(Pax::parse(data).is_err(), "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn a_sparse_map_waits_until_it_is_whole() {
        let mut map = SparseMap::default();
        assert!(!map.take(b"2\n0\n5\n1").unwrap());
        assert!(map.take(b"0\n7\n\0\0x").unwrap());
        assert_eq!(map.pairs(), [(0, 5), (10, 7)]);
        assert!(SparseMap::default().take(b"0\n\0").unwrap());
        for wrong in [&b"x\n"[..], b"\n", b"1\n\n", b"\0", b"99999999999999999999\n"] {
            assert!(SparseMap::default().take(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
