//! Reading a container's log back, as `kubectl logs` asks for it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, poll};

use super::record::{Record, parse, time};

/// What of the log is wanted (Kubernetes API, PodLogOptions). `previous` is the caller's choice of another path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on until `ended` says that the container has ended, over rotations.
    pub follow: bool,
    /// Only the last records, a piece of a long line counting as one.
    pub tail: Option<u64>,
    /// Only records of this time or later.
    pub since: Option<Timestamp>,
    /// The record's time before each line.
    pub timestamps: bool,
    /// At most this many bytes of output.
    pub limit_bytes: Option<u64>,
}

/// Writes what is wanted of the log at `path` to `out`. `ended` is asked about once a second while following.
pub fn read(
    path: &Path,
    options: &Options,
    out: &mut impl Write,
    mut ended: impl FnMut() -> bool,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut watch = match options.follow {
        true => Some(watch(path)?),
        false => None,
    };
    if let Some(tail) = options.tail {
        let start = tail_start(&file, tail)?;
        file.seek(SeekFrom::Start(start))?;
    }
    let mut printer = Printer { options, left: options.limit_bytes.unwrap_or(u64::MAX), within: false };
    let mut pending = Vec::new();
    while printer.left > 0 {
        // Asked before reading: what was written before the end is then surely read.
        let over = !options.follow || ended();
        // A rotated log is not written to any more: seen before the last read of it, nothing of it is missed.
        let rotated = options.follow && moved(&file, path);
        drain(&mut file, &mut pending, &mut printer, out)?;
        if rotated {
            match File::open(path) {
                Ok(next) => {
                    (file, pending) = (next, Vec::new());
                    continue;
                }
                // Renamed, and the next one not made yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if over {
            break;
        }
        out.flush()?;
        if let Some(watch) = &mut watch {
            poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], 1000u16)?;
            let mut events = [0; 4096];
            match watch.read_events(&mut events) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
    out.flush()
}

struct Printer<'a> {
    options: &'a Options,
    left: u64,
    /// The last piece was partial: its line goes on.
    within: bool,
}

impl Printer<'_> {
    fn print(&mut self, record: &Record, out: &mut impl Write) -> io::Result<()> {
        if self.options.since.is_some_and(|since| record.time < since) {
            return Ok(());
        }
        let mut line = Vec::with_capacity(record.content.len() + 40);
        if self.options.timestamps && !self.within {
            line.extend_from_slice(time(record.time).as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(record.content);
        if !record.partial {
            line.push(b'\n');
        }
        self.within = record.partial;
        line.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left = self.left.saturating_sub(line.len() as u64);
        out.write_all(&line)
    }
}

/// Prints all whole records up to the end of the file; `pending` keeps the beginning of one. What is none is skipped.
fn drain(
    file: &mut File,
    pending: &mut Vec<u8>,
    printer: &mut Printer,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while printer.left > 0 {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        pending.extend_from_slice(buffer.get(..got).unwrap_or_default());
        let end = pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let rest = pending.split_off(end);
        for record in pending.split_inclusive(|&byte| byte == b'\n').filter_map(parse) {
            printer.print(&record, out)?;
        }
        *pending = rest;
    }
    Ok(())
}

/// Where the last `count` lines begin.
fn tail_start(file: &File, count: u64) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let (mut found, mut buffer) = (0, vec![0; 16 << 10]);
    while end > 0 {
        let length = end.min(buffer.len() as u64);
        let start = end - length;
        let block = buffer.get_mut(..length as usize).unwrap_or_default();
        file.read_exact_at(block, start)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            found += 1;
            if found > count {
                return Ok(start + index as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

fn watch(path: &Path) -> io::Result<Inotify> {
    let watch = Inotify::init()?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    watch.watches().add(dir, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
    Ok(watch)
}

fn moved(file: &File, path: &Path) -> bool {
    let same = |here: std::fs::Metadata| file.metadata().is_ok_and(|ours| ours.ino() == here.ino());
    !std::fs::metadata(path).is_ok_and(same)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LOG: &str = "2020-01-01T00:00:01Z stdout F line1\n2020-01-01T00:00:02Z stderr F line2\n\
                       nonsense\n2020-01-01T00:00:03Z stdout P li\n2020-01-01T00:00:03Z stdout F ne3\n";

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("podinit-read-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn what_is_wanted() {
        let dir = scratch("options");
        let path = dir.join("0.log");
        fs::write(&path, LOG).unwrap();
        let none = Options::default;
        let since = |text: &str| Some(text.parse().unwrap());
        let table = [
            (none(), "line1\nline2\nline3\n"),
            (Options { tail: Some(0), ..none() }, ""),
            (Options { tail: Some(2), ..none() }, "line3\n"),
            (Options { tail: Some(9), ..none() }, "line1\nline2\nline3\n"),
            (Options { limit_bytes: Some(0), ..none() }, ""),
            (Options { limit_bytes: Some(9), ..none() }, "line1\nlin"),
            (Options { limit_bytes: Some(100), ..none() }, "line1\nline2\nline3\n"),
            (Options { since: since("2020-01-01T00:00:02Z"), ..none() }, "line2\nline3\n"),
            (Options { since: since("2030-01-01T00:00:00Z"), ..none() }, ""),
            (Options { timestamps: true, tail: Some(2), ..none() }, "2020-01-01T00:00:03.000000000Z line3\n"),
        ];
        for (options, expected) in table {
            let mut out = Vec::new();
            read(&path, &options, &mut out, || true).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{options:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn followed_over_a_rotation() {
        let dir = scratch("follow");
        let path = dir.join("0.log");
        fs::write(&path, LOG).unwrap();
        let (mut out, mut turn) = (Vec::new(), 0);
        read(&path, &Options { follow: true, ..Default::default() }, &mut out, || {
            turn += 1;
            if turn == 2 {
                let mut old = fs::OpenOptions::new().append(true).open(&path).unwrap();
                old.write_all(b"2020-01-01T00:00:04Z stdout F line4\n").unwrap();
                fs::rename(&path, dir.join("0.log.20200101-000000")).unwrap();
                fs::write(&path, "2020-01-01T00:00:05Z stdout F line5\n").unwrap();
            }
            turn > 3
        })
        .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "line1\nline2\nline3\nline4\nline5\n");
        fs::remove_dir_all(&dir).unwrap();
    }
}
