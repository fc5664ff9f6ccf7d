//! The logger's memory of one container: a small file on /run that outlives the logger, though not the machine.
//!
//! The header lies within one page and is written by one call, so that a SIGKILL leaves the old one or the new one.
//! The beginnings of unfinished lines lie in two slots a stream, written in turn before the header names them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: u64 = 0x706f_6469_6e69_7401;
const WORDS: usize = 16;
/// Larger than a line's longest beginning, in whole pages.
const SLOT: u64 = 20 << 10;

/// A batch that is being written: everything needed to do it again, or to know that it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// 0: stdout, 1: stderr.
    pub stream: usize,
    /// Where in the log its records begin.
    pub offset: u64,
    /// What the stage held before any of it was taken.
    pub fill: u64,
    /// How many of these bytes the batch takes.
    pub take: u64,
    /// The stream has ended: nothing comes after.
    pub end: bool,
    /// The records' time, in nanoseconds since the epoch.
    pub time: i64,
    /// The length of the line's beginning that remains after it, in the stream's other slot.
    pub rest: u64,
}

/// What the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub intent: Option<Intent>,
    /// By stream: which slot holds the beginning of its unfinished line, and how long it is.
    pub carry: [(u64, u64); 2],
    /// Bytes of output that could not be written and were not yet told of.
    pub lost: u64,
}

pub struct State {
    /// None: it could not be opened; then a kill may cost what was under way, but nothing else.
    file: Option<File>,
}

impl State {
    /// Opens or makes the file; the header is None where it is new.
    pub fn open(path: &Path) -> (Self, Option<Header>) {
        let open = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        match open() {
            Ok(file) => {
                let header = load(&file);
                (State { file: Some(file) }, header)
            }
            Err(error) => {
                eprintln!("logger: open {}: {error}", path.display());
                (State { file: None }, None)
            }
        }
    }

    pub fn save(&self, header: &Header) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let intent = header.intent.unwrap_or_default();
        let words: [u64; WORDS] = [
            MAGIC,
            u64::from(header.intent.is_some()),
            intent.stream as u64,
            intent.offset,
            intent.fill,
            u64::from(intent.end),
            intent.time as u64,
            intent.rest,
            header.carry[0].0,
            header.carry[0].1,
            header.carry[1].0,
            header.carry[1].1,
            header.lost,
            intent.take,
            0,
            0,
        ];
        let mut bytes = [0; WORDS * 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)
    }

    pub fn save_carry(&self, stream: usize, slot: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.file {
            Some(file) if !bytes.is_empty() => file.write_all_at(bytes, place(stream, slot)),
            _ => Ok(()),
        }
    }

    pub fn carry(&self, stream: usize, (slot, length): (u64, u64)) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length.min(SLOT) as usize];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, place(stream, slot))?;
        }
        Ok(bytes)
    }
}

fn load(file: &File) -> Option<Header> {
    let mut bytes = [0; WORDS * 8];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let mut words = [0; WORDS];
    for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(from.try_into().ok()?);
    }
    let [
        magic,
        pending,
        stream,
        offset,
        fill,
        end,
        time,
        rest,
        slot0,
        length0,
        slot1,
        length1,
        lost,
        take,
        ..,
    ] = words;
    let intent = Intent {
        stream: usize::try_from(stream & 1).ok()?,
        offset,
        fill,
        take,
        end: end == 1,
        time: time as i64,
        rest,
    };
    (magic == MAGIC).then_some(Header {
        intent: (pending == 1).then_some(intent),
        carry: [(slot0 & 1, length0), (slot1 & 1, length1)],
        lost,
    })
}

fn place(stream: usize, slot: u64) -> u64 {
    4096 + (stream as u64 * 2 + (slot & 1)) * SLOT
}
