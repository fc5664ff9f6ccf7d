//! Bytes on their way through: digests taken in passing, gzip and zstd undone.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

const CHUNK: usize = 64 << 10;
/// What `zstd -d` allows when not told otherwise; a window is memory, all of it.
const WINDOW_LIMIT: u64 = 128 << 20;
/// What RFC 8878 recommends that everybody can read, and `zstd -19` makes. Who needs more waits for its turn, so that
/// two layers that are pulled at once do not need twice the largest window.
const WINDOW: u64 = 8 << 20;
static LARGE: Mutex<()> = Mutex::new(());
/// Magic number and frame header at their longest (RFC 8878 section 3.1.1.1).
const FRAME_HEADER: usize = 18;
/// A frame of nothing.
const EMPTY: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0];

/// A reader that takes the SHA-256 of all that passes.
pub struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    pub fn new(inner: R) -> Self {
        Hashed { inner, hash: Sha256::new() }
    }

    /// Reads to the end and tells the digest of the whole: `sha256:<hex>`.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(name(self.hash))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// The digest of bytes at hand: `sha256:<hex>`.
pub fn digest(bytes: &[u8]) -> String {
    name(Sha256::new_with_prefix(bytes))
}

/// A finished hash as a digest.
pub fn name(hash: Sha256) -> String {
    let mut name = String::from("sha256:");
    for byte in hash.finalize() {
        name.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        name.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    name
}

/// Undoes gzip (of any number of members) or zstd (of any number of frames) by the first bytes, whatever the media
/// type said; other data passes as it is.
pub fn decompress<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd] || is_skippable(&magic);
    let source = Cursor::new(magic).chain(source);
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(source)),
        (false, true) => Box::new(Zstd::new(source)),
        (false, false) => Box::new(source),
    })
}

/// RFC 8878 section 3.1.2: a skippable frame, with which seekable zstd files may begin.
fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// The frames of a zstd file, one after the other.
struct Zstd<R> {
    source: Peeked<R>,
    decoder: FrameDecoder,
    in_frame: bool,
    /// The largest so far.
    window: u64,
    /// Kept to the end, as the decoder keeps its memory.
    turn: Option<MutexGuard<'static, ()>>,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> Self {
        let source = Peeked { inner: BufReader::with_capacity(CHUNK, source), ahead: Vec::new() };
        Zstd { source, decoder: decoder(), in_frame: false, window: 0, turn: None }
    }

    /// Starts the next frame, passing over skippable ones; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let header = self.source.peek()?;
            if header.is_empty() {
                return Ok(false);
            }
            let window = window(header);
            if window > WINDOW && self.turn.is_none() {
                self.turn = Some(LARGE.lock().unwrap_or_else(PoisonError::into_inner));
            }
            if window > self.window {
                // The smaller one is given back before the larger one is made.
                (self.decoder, self.window) = (decoder(), window);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(bad_zstd(error)),
            }
        }
    }
}

fn decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_LIMIT);
    // Its first window grows by doubling, and is copied as it does; each later one is made in its size.
    let _ = decoder.reset(&EMPTY[..]);
    decoder
}

/// The window that a frame's header asks for; 0 where it is none.
fn window(header: &[u8]) -> u64 {
    let frame = header.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd]);
    let Some((&descriptor, rest)) = frame.and_then(<[u8]>::split_first) else { return 0 };
    let single = descriptor & 0x20 != 0;
    if !single {
        let byte = rest.first().copied().unwrap_or(0);
        let base = 1_u64 << (10 + (byte >> 3));
        return base + base / 8 * u64::from(byte & 7);
    }
    // The whole content is the window.
    let ids = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
    let (length, more) =
        [(1, 0), (2, 256), (4, 0), (8, 0)].get(usize::from(descriptor >> 6)).copied().unwrap_or((0, 0));
    let size = rest.get(ids..ids + length).unwrap_or_default();
    size.iter().rev().fold(0, |size, &byte| size << 8 | u64::from(byte)) + more
}

/// A reader whose next bytes can be looked at.
struct Peeked<R> {
    inner: BufReader<R>,
    /// Looked at, and not read yet.
    ahead: Vec<u8>,
}

impl<R: Read> Peeked<R> {
    /// The next bytes: as many as a frame's header has at most, fewer at the end.
    fn peek(&mut self) -> io::Result<&[u8]> {
        let missing = FRAME_HEADER.saturating_sub(self.ahead.len());
        self.inner.by_ref().take(missing as u64).read_to_end(&mut self.ahead)?;
        Ok(&self.ahead)
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            return self.inner.read(buffer);
        }
        let n = buffer.len().min(self.ahead.len());
        buffer.iter_mut().zip(self.ahead.drain(..n)).for_each(|(to, byte)| *to = byte);
        Ok(n)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.source, some).map_err(bad_zstd)?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.in_frame = false;
        }
        Ok(0)
    }
}

fn bad_zstd(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn undo(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_compression_is_undone_member_by_member() {
        let long = b"0123456789".repeat(50_000);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
        assert_eq!(undo(b"").unwrap(), b"");
        assert_eq!(undo(b"ab").unwrap(), b"ab");
        assert_eq!(undo(&[gzip(&long), gzip(b"tail")].concat()).unwrap(), [&long[..], b"tail"].concat());
        let frames = [skippable.clone(), zstd(&long), skippable, zstd(b""), zstd(b"tail")].concat();
        assert_eq!(undo(&frames).unwrap(), [&long[..], b"tail"].concat());
    }

    #[test]
    fn a_frame_tells_its_window() {
        let header = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd], rest].concat();
        let table: [(&[u8], u64); 8] = [
            (&[0, 0], 1 << 10),
            (&[0, 13 << 3], 8 << 20),
            (&[0, 13 << 3 | 7], 15 << 20),
            (&[0, 31 << 3], 1 << 41),
            (&[0x20, 200], 200),
            (&[0x61, 9, 1, 2], 0x0201 + 256),
            (&[0xa3, 1, 1, 1, 1, 0, 0, 0, 4], 4 << 24),
            (&[0xe2, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0], 1 << 32),
        ];
        for (rest, expected) in table {
            assert_eq!(window(&header(rest)), expected, "{rest:?}");
        }
        assert_eq!(window(&[0x28]), 0);
        assert_eq!(window(&[0x50, 0x2a, 0x4d, 0x18, 0, 31 << 3, 0, 0]), 0, "what is to be skipped has none");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for whole in [gzip(&[7; 5000]), zstd(&b"0123456789".repeat(500))] {
            for cut in [5, whole.len() / 2, whole.len() - 1] {
                assert!(undo(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
            }
        }
    }

    #[test]
    fn the_digest_is_that_of_the_whole() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
        assert_eq!(Hashed::new(&b"abc"[..]).finish().unwrap(), digest(b"abc"));
    }
}
