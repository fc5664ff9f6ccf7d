//! A blob as one stream of bytes, however often the connection breaks: it goes on where it was, at the next server where
//! one gives up. The digest over the whole is the reader's to check.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::session::{Failure, Session};
use crate::helper::client::{Body, Stream, tls};
use crate::image::registry::manifest::Blob;
use crate::image::stream;

/// How often in a row a server may fail without a byte.
const TRIES: u32 = 6;
/// Before the second try; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(500);

pub struct Download<'a> {
    /// Those that may have it, and which one is asked.
    sessions: &'a [Session],
    at: usize,
    given_up: usize,
    blob: &'a Blob,
    body: Option<Body<Box<dyn Stream>>>,
    done: u64,
    tries: u32,
    failure: Option<String>,
    watch: Option<(&'a (dyn Fn(u64) + Sync), &'a AtomicBool)>,
}

impl<'a> Download<'a> {
    pub fn new(sessions: &'a [Session], blob: &'a Blob) -> Self {
        let (at, given_up, done, tries) = (0, 0, 0, 0);
        Download { sessions, at, given_up, blob, body: None, done, tries, failure: None, watch: None }
    }

    /// Begins at the server of this number, counted round.
    pub fn begin(mut self, at: usize) -> Self {
        self.at = at % self.sessions.len().max(1);
        self
    }

    /// Tells `heard` how many bytes there are, and ends when `stop` is set.
    pub fn watched(mut self, heard: &'a (dyn Fn(u64) + Sync), stop: &'a AtomicBool) -> Self {
        self.watch = Some((heard, stop));
        self
    }

    /// Why no server gives it; None: what went wrong was not the download.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The whole, where it is small; its digest is checked.
    pub fn small(mut self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(|why| why.to_string())?;
        match stream::digest(&bytes) {
            digest if digest == self.blob.digest => Ok(bytes),
            digest => Err(format!("blob {} has the digest {digest}", self.blob.digest)),
        }
    }

    /// A connection whose next byte is the one that is wanted.
    fn open(&mut self) -> Result<(), Failure> {
        let none = || Failure::Final("there is no server to ask".into());
        let session = self.sessions.get(self.at).ok_or_else(none)?;
        let (head, mut body) = session.blob(&self.blob.digest, self.done)?;
        let wrong = |whole: u64| {
            Failure::Final(format!("blob {} has {whole} bytes, not {}", self.blob.digest, self.blob.size))
        };
        if head.status == 206 {
            let range = head.field("content-range").unwrap_or_default();
            let (begin, whole) = range_of(range)
                .ok_or_else(|| Failure::Passing(format!("an answer with the range {range:?}"), None))?;
            if begin != self.done {
                return Err(Failure::Passing(
                    format!("an answer from byte {begin}, not {}", self.done),
                    None,
                ));
            }
            if let Some(whole) = whole.filter(|whole| *whole != self.blob.size) {
                return Err(wrong(whole));
            }
        } else {
            if let Some(whole) = head.length().filter(|whole| *whole != self.blob.size) {
                return Err(wrong(whole));
            }
            // It knows no ranges: what we have is passed over.
            let passed = io::copy(&mut body.by_ref().take(self.done), &mut io::sink());
            if passed.map_err(|why| Failure::Passing(tls::told(why).to_string(), None))? != self.done {
                return Err(Failure::Passing("unexpected EOF".into(), None));
            }
        }
        self.body = Some(body);
        Ok(())
    }

    /// Waits until it is tried again; an error where that is no use.
    fn failed(&mut self, why: Failure) -> io::Result<()> {
        self.body = None;
        self.tries += 1;
        if let Failure::Passing(_, after) = &why
            && self.tries < TRIES
        {
            let pause = after.unwrap_or(Duration::ZERO).min(Duration::from_secs(30));
            thread::sleep(pause.max(PAUSE * (1 << (self.tries - 1))));
            return Ok(());
        }
        self.given_up += 1;
        if self.given_up < self.sessions.len() {
            (self.at, self.tries) = ((self.at + 1) % self.sessions.len(), 0);
            return Ok(());
        }
        let name = self.sessions.get(self.at).map(Session::name).unwrap_or_default();
        let why = why.told(&format!("{name}@{}", self.blob.digest));
        let why = match self.done {
            0 => why,
            done => format!("{why} (after {done} of {} bytes)", self.blob.size),
        };
        self.failure = Some(why.clone());
        Err(io::Error::other(why))
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let most = (self.blob.size - self.done).min(buffer.len() as u64) as usize;
            let Some(space) = buffer.get_mut(..most).filter(|space| !space.is_empty()) else { return Ok(0) };
            if let Some(why) = &self.failure {
                return Err(io::Error::other(why.clone()));
            }
            if self.watch.is_some_and(|(_, stop)| stop.load(Ordering::Relaxed)) {
                self.failure = Some("ended with the others".into());
                return Err(io::Error::other("ended with the others"));
            }
            let Some(body) = &mut self.body else {
                if let Err(why) = self.open() {
                    self.failed(why)?;
                }
                continue;
            };
            match body.read(space) {
                Ok(0) => self.failed(Failure::Passing("unexpected EOF".into(), None))?,
                Ok(count) => {
                    self.done += count as u64;
                    (self.tries, self.given_up) = (0, 0);
                    if let Some((heard, _)) = self.watch {
                        heard(self.done);
                    }
                    return Ok(count);
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => self.failed(Failure::Passing(tls::told(why).to_string(), None))?,
            }
        }
    }
}

/// Where a range begins, and how many bytes the whole has: `bytes 7-9/10`.
fn range_of(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, whole.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let table = [
            ("bytes 7-9/10", Some((7, Some(10)))),
            ("bytes 7-9/*", Some((7, None))),
            ("bytes */10", None),
            ("7-9/10", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(range_of(text), expected, "{text}");
        }
    }
}
