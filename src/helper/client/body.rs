//! The body of an HTTP answer, as it comes: by length, in chunks, or to the connection's end.

use std::io::{self, BufRead, BufReader, Read};

use super::http::{HEAD, Head};

/// Ends where the body does. A body that breaks off is an error.
pub struct Body<S> {
    from: BufReader<S>,
    left: Left,
}

enum Left {
    /// Bytes.
    Length(u64),
    /// Bytes of this chunk; `first`: none was begun yet.
    Chunk { bytes: u64, first: bool },
    /// Nobody told how long it is. `whole`: that TLS ends without a good-bye is an error.
    Open { whole: bool },
}

impl<S: Read> Body<S> {
    pub(super) fn new(from: BufReader<S>, head: &Head, whole: bool) -> Self {
        let left = match (head.status, head.chunked(), head.length()) {
            (101 | 204 | 304, _, _) => Left::Length(0),
            (_, true, _) => Left::Chunk { bytes: 0, first: true },
            (_, false, Some(length)) => Left::Length(length),
            (_, false, None) => Left::Open { whole },
        };
        Body { from, left }
    }

    /// The size of the next chunk; the end of the one before is passed over.
    fn chunk(&mut self, first: bool) -> io::Result<u64> {
        if !first {
            self.line()?;
        }
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16);
        size.map_err(|_| io::Error::other("invalid byte in chunk length"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(HEAD).read_until(b'\n', &mut bytes)?;
        match bytes.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
            Some(_) | None => Err(cut()),
        }
    }
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Left::Chunk { bytes: 0, first } = self.left {
            self.left = match self.chunk(first)? {
                0 => Left::Length(0),
                bytes => Left::Chunk { bytes, first: false },
            };
        }
        match &mut self.left {
            Left::Length(0) => Ok(0),
            Left::Length(bytes) | Left::Chunk { bytes, .. } => {
                let most = usize::try_from(*bytes).unwrap_or(usize::MAX).min(buffer.len());
                match self.from.read(buffer.get_mut(..most).unwrap_or_default()) {
                    Ok(0) => Err(cut()),
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Err(cut()),
                    Ok(count) => {
                        *bytes -= count as u64;
                        Ok(count)
                    }
                    Err(why) => Err(why),
                }
            }
            Left::Open { whole } => match self.from.read(buffer) {
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof && !*whole => Ok(0),
                done => done,
            },
        }
    }
}

fn cut() -> io::Error {
    io::Error::other("unexpected EOF")
}
