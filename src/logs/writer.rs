//! One container's output to its log, so that a SIGKILL at any moment loses no byte and writes none twice.
//!
//! Each stream has a private pipe, the stage, that PID 1 holds too. Bytes are moved into an empty stage within the
//! kernel; looked at there; their records' place in the log is noted down (state); the records and the line's
//! unfinished rest are written; the stage is emptied; the note is cleared. Who comes next finds the stage either as
//! full as the note says, and does it all again in the same place, or emptier, and empties it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

use jiff::Timestamp;

use super::pipe::{Moved, Scratch, fill, shift, take};
use super::record::{MAX, Stream, render, time};
use super::rotate::{Packing, rotate};
use super::state::{Header, Intent, State};
use super::wire::Add;

pub struct Writer {
    order: Add,
    streams: [Lane; 2],
    log: Option<File>,
    state: State,
    header: Header,
    /// The log could not be written the last time.
    failing: bool,
    packing: Option<Packing>,
    /// Rotated logs still to be compressed, the oldest last.
    waiting: Vec<PathBuf>,
}

struct Lane {
    output: OwnedFd,
    stage: (OwnedFd, OwnedFd),
    /// The beginning of a line whose end has not come.
    carry: Vec<u8>,
    ended: bool,
}

impl Writer {
    /// Takes up a container's streams, and ends what a killed predecessor had begun. `fds` as `wire::Add` orders them.
    pub fn new(order: Add, fds: [OwnedFd; 6], scratch: &Scratch) -> Self {
        let [stdout, stderr, out_read, out_write, err_read, err_write] = fds;
        let lane = |output, stage| Lane { output, stage, carry: Vec::new(), ended: false };
        let streams = [lane(stdout, (out_read, out_write)), lane(stderr, (err_read, err_write))];
        let (state, header) = State::open(&order.state);
        let fresh = header.is_none();
        let mut writer = Writer {
            order,
            streams,
            log: None,
            state,
            header: header.unwrap_or_default(),
            failing: false,
            packing: None,
            waiting: Vec::new(),
        };
        if fresh {
            writer.mend();
            writer.note(None);
        }
        writer.recover(scratch);
        // What lay in a stage without a note: the container may stay silent for long.
        for (stream, _) in Stream::ALL.iter().enumerate() {
            if writer
                .streams
                .get(stream)
                .is_some_and(|lane| fill(lane.stage.0.as_fd()).is_ok_and(|held| held > 0))
            {
                writer.turn(stream, scratch);
            }
        }
        writer
    }

    pub fn id(&self) -> &str {
        &self.order.id
    }

    /// The streams that have not ended: index and the pipe to wait for.
    pub fn open(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.streams
            .iter()
            .enumerate()
            .filter(|(_, lane)| !lane.ended)
            .map(|(i, lane)| (i, lane.output.as_fd()))
    }

    /// Both streams have ended, and all of them is written.
    pub fn done(&self) -> bool {
        self.streams.iter().all(|lane| lane.ended) && !self.packing()
    }

    /// Whether there is something to compress.
    pub fn packing(&self) -> bool {
        self.packing.is_some() || !self.waiting.is_empty()
    }

    /// Takes what a stream has now, at most one batch.
    pub fn turn(&mut self, stream: usize, scratch: &Scratch) {
        let Some(lane) = self.streams.get(stream) else { return };
        let moved = match fill(lane.stage.0.as_fd()) {
            // Left by a predecessor that had not noted it down yet.
            Ok(1..) => Ok(Moved::Bytes),
            Ok(0) => shift(lane.output.as_fd(), lane.stage.1.as_fd()),
            Err(error) => Err(error),
        };
        let done = match moved {
            Ok(Moved::Empty) => return,
            Ok(Moved::Bytes) => self.batch(stream, false, scratch),
            Ok(Moved::End) => self.batch(stream, true, scratch),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // Pipes do not fail; should they, this stream cannot go on, and must not spin.
            eprintln!("logger: {} {}: {error}", self.order.id, stream_of(stream).word());
            self.end(stream);
        }
    }

    /// Compresses a little.
    pub fn pack(&mut self) {
        if self.packing.is_none() {
            let Some(next) = self.waiting.pop() else { return };
            match Packing::start(next) {
                Ok(packing) => self.packing = Some(packing),
                Err(error) => eprintln!("logger: {}: compress: {error}", self.order.id),
            }
        }
        let result = self.packing.as_mut().map(Packing::step);
        match result {
            Some(Ok(false)) | None => {}
            Some(Ok(true)) => self.packing = None,
            Some(Err(error)) => {
                eprintln!("logger: {}: compress: {error}", self.order.id);
                if let Some(packing) = self.packing.take() {
                    packing.give_up();
                }
            }
        }
    }

    /// Writes what lies in the stage, or (`end`) the stream's unterminated last line.
    fn batch(&mut self, stream: usize, end: bool, scratch: &Scratch) -> io::Result<()> {
        self.rotate_if_due();
        let Some(lane) = self.streams.get(stream) else { return Ok(()) };
        let held = fill(lane.stage.0.as_fd())?;
        let mut bytes = lane.carry.clone();
        scratch.peek(lane.stage.0.as_fd(), held, &mut bytes)?;
        let taken = bytes.len().saturating_sub(lane.carry.len());
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        let intent = Intent {
            stream,
            offset: self.size(),
            fill: held as u64,
            take: taken as u64,
            end,
            time: now,
            rest: 0,
        };
        self.write(intent, bytes)
    }

    /// Carries out what is intended with these bytes: the line's earlier beginning, and what lies in the stage.
    fn write(&mut self, mut intent: Intent, mut bytes: Vec<u8>) -> io::Result<()> {
        let stream = intent.stream;
        let at = Timestamp::from_nanosecond(i128::from(intent.time)).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut records = Vec::with_capacity(bytes.len() + bytes.len() / 2 + 128);
        let consumed = render(&bytes, intent.end, MAX, &time(at), stream_of(stream), &mut records);
        let rest = bytes.split_off(consumed);
        intent.rest = rest.len() as u64;
        self.note(Some(intent));

        if !records.is_empty() {
            self.put(intent.offset, &records, consumed as u64);
        }
        let slot = self.other_slot(stream);
        if let Err(error) = self.state.save_carry(stream, slot, &rest) {
            self.complain("keep an unfinished line", &error);
        }
        if let Some(lane) = self.streams.get_mut(stream) {
            take(lane.stage.0.as_fd(), intent.take as usize, None)?;
            lane.carry = rest;
        }
        self.settle(intent, slot);
        Ok(())
    }

    /// The batch is through: its note is cleared.
    fn settle(&mut self, intent: Intent, slot: u64) {
        if let Some(carry) = self.header.carry.get_mut(intent.stream) {
            *carry = (slot, intent.rest);
        }
        self.note(None);
        if intent.end {
            self.end(intent.stream);
        }
    }

    /// Ends what the note of a predecessor tells of.
    fn recover(&mut self, scratch: &Scratch) {
        for (stream, lane) in self.streams.iter_mut().enumerate() {
            let place = self.header.carry.get(stream).copied().unwrap_or_default();
            match self.state.carry(stream, place) {
                Ok(carry) => lane.carry = carry,
                Err(error) => eprintln!("logger: {}: read an unfinished line: {error}", self.order.id),
            }
        }
        let Some(intent) = self.header.intent else { return };
        if let Err(error) = self.resume(intent, scratch) {
            eprintln!("logger: {}: resume: {error}", self.order.id);
        }
    }

    fn resume(&mut self, intent: Intent, scratch: &Scratch) -> io::Result<()> {
        let slot = self.other_slot(intent.stream);
        let Some(lane) = self.streams.get_mut(intent.stream) else { return Ok(()) };
        let held = fill(lane.stage.0.as_fd())? as u64;
        if held >= intent.fill {
            // Nothing was taken: all of it again, in the same place, at the same time.
            let mut bytes = lane.carry.clone();
            scratch.peek(lane.stage.0.as_fd(), intent.take as usize, &mut bytes)?;
            return self.write(intent, bytes);
        }
        // It is written, and some of it was taken: the others go too.
        let left = intent.take.saturating_sub(intent.fill - held);
        take(lane.stage.0.as_fd(), left as usize, None)?;
        lane.carry = self.state.carry(intent.stream, (slot, intent.rest))?;
        self.settle(intent, slot);
        Ok(())
    }

    /// Writes records at their place. Where that fails they are dropped: a full disk must not stop the containers.
    fn put(&mut self, offset: u64, records: &[u8], bytes: u64) {
        match self.try_put(offset, records) {
            Ok(()) => {
                self.failing = false;
                if self.header.lost > 0 {
                    eprintln!("logger: {}: log works again: {} bytes lost", self.order.id, self.header.lost);
                    self.header.lost = 0;
                }
            }
            // Output of a pod that is gone is nobody's.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.complain("write log", &error);
                self.header.lost = self.header.lost.saturating_add(bytes);
                if let Some(log) = &self.log {
                    let _ = log.set_len(offset);
                }
            }
        }
    }

    fn try_put(&mut self, offset: u64, records: &[u8]) -> io::Result<()> {
        let log = self.log()?;
        if log.metadata()?.len() > offset {
            log.set_len(offset)?;
        }
        log.write_all_at(records, offset)
    }

    /// The log, opened if it is not.
    fn log(&mut self) -> io::Result<&File> {
        match self.log.take() {
            Some(log) => Ok(self.log.insert(log)),
            None => {
                // The container's directory only: where the pod's is gone the pod is, and a logger that was restarted
                // then made it again, for ever.
                if let Some(dir) = self.order.path.parent().filter(|dir| !dir.exists()) {
                    DirBuilder::new().mode(0o755).create(dir)?;
                }
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).mode(0o640);
                Ok(self.log.insert(options.open(&self.order.path)?))
            }
        }
    }

    fn size(&mut self) -> u64 {
        self.log().and_then(|log| log.metadata()).map_or(0, |meta| meta.len())
    }

    /// Ends a record that a power cut tore, so that the next one begins a line.
    fn mend(&mut self) {
        let size = self.size();
        let Some(log) = &self.log else { return };
        let mut last = [b'\n'];
        if size > 0 && log.read_exact_at(&mut last, size - 1).is_ok() && last != [b'\n'] {
            let _ = log.write_all_at(b"\n", size);
        }
    }

    /// Between batches only: an intended place must remain in the same file.
    fn rotate_if_due(&mut self) {
        if self.order.max_size == 0 || self.size() < self.order.max_size {
            return;
        }
        let busy = self.packing.as_ref().map(|packing| packing.source.as_path());
        match rotate(&self.order.path, self.order.max_files, Timestamp::now(), busy) {
            Ok(mut waiting) => {
                self.log = None;
                waiting.reverse();
                self.waiting = waiting;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.order.path.exists() => {
                self.log = None
            }
            Err(error) => self.complain("rotate log", &error),
        }
    }

    fn note(&mut self, intent: Option<Intent>) {
        self.header.intent = intent;
        if let Err(error) = self.state.save(&self.header) {
            self.complain("write state", &error);
        }
    }

    /// Told once until it works again.
    fn complain(&mut self, what: &str, error: &io::Error) {
        if !self.failing {
            eprintln!("logger: {}: {what} {}: {error}", self.order.id, self.order.path.display());
            self.failing = true;
        }
    }

    fn other_slot(&self, stream: usize) -> u64 {
        1 - self.header.carry.get(stream).map_or(0, |(slot, _)| slot & 1)
    }

    fn end(&mut self, stream: usize) {
        if let Some(lane) = self.streams.get_mut(stream) {
            lane.ended = true;
        }
        if self.streams.iter().all(|lane| lane.ended) && self.header.lost > 0 {
            eprintln!("logger: {}: {} bytes lost", self.order.id, self.header.lost);
        }
    }
}

/// Half-compressed logs are found again by the next rotation; nothing else needs to be put in order.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(packing) = self.packing.take() {
            packing.give_up();
        }
    }
}

fn stream_of(index: usize) -> Stream {
    if index == 0 { Stream::Stdout } else { Stream::Stderr }
}

/// Removes a container's state once the logger has told that it is done; what is gone already is fine.
pub fn forget(state: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
