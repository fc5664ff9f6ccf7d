//! Bytes on their way through: digests taken in passing, gzip and zstd undone.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

const CHUNK: usize = 64 << 10;
/// What `zstd -d` allows when not told otherwise; a window is memory.
const WINDOW_LIMIT: u64 = 128 << 20;

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
    source: BufReader<R>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> Self {
        let source = BufReader::with_capacity(CHUNK, source);
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_LIMIT);
        Zstd { source, decoder, in_frame: false }
    }

    /// Starts the next frame, passing over skippable ones; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
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
        Ok(false)
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
