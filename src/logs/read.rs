//! Reading a container's log back, as `kubectl logs` asks for it: what is printed of its records.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;

use super::record::{Record, parse, time};
use super::tail::Tail;

/// What of the log is wanted (Kubernetes API, PodLogOptions). `previous` and `follow` are the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only the last lines of what is there. A long line, kept in pieces, is one.
    pub tail: Option<usize>,
    /// Only records of this time or later.
    pub since: Option<Timestamp>,
    /// The record's time before each line.
    pub timestamps: bool,
    /// At most this many bytes of output.
    pub limit_bytes: Option<u64>,
}

/// Writes what is wanted of what is there of the log at `path`, rotated files and all, to `out`.
pub fn read(path: &Path, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let (mut tail, mut printer) = (Tail::open(path)?, Printer::new(options));
    tail.read(|line| printer.line(line, out))?;
    printer.release(out)?;
    out.flush()
}

/// Chooses and prints; holds the last lines back until all older ones are known.
pub struct Printer {
    since: Option<Timestamp>,
    timestamps: bool,
    /// How many of the last lines are wanted; None once they were printed, or if all are.
    last: Option<usize>,
    held: VecDeque<Vec<u8>>,
    /// A line was begun (tag P) and not ended.
    open: bool,
    /// How many bytes may still be printed.
    left: u64,
}

impl Printer {
    pub fn new(options: &Options) -> Self {
        Printer {
            since: options.since,
            timestamps: options.timestamps,
            last: options.tail,
            held: VecDeque::new(),
            open: false,
            left: options.limit_bytes.unwrap_or(u64::MAX),
        }
    }

    /// One line of the file; what is no record is passed over.
    pub fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let Some(record) = parse(line) else { return Ok(()) };
        // A piece of nothing begins no line.
        let nothing = record.partial && record.content.is_empty();
        if nothing || self.since.is_some_and(|since| record.time < since) {
            return Ok(());
        }
        let goes_on = std::mem::replace(&mut self.open, record.partial);
        let text = self.text(&record, goes_on);
        let Some(last) = self.last else { return self.put(&text, out) };
        match self.held.back_mut().filter(|_| goes_on) {
            Some(held) => held.extend_from_slice(&text),
            None => self.held.push_back(text),
        }
        while self.held.len() > last {
            self.held.pop_front();
        }
        Ok(())
    }

    fn text(&self, record: &Record, goes_on: bool) -> Vec<u8> {
        let mut text = Vec::with_capacity(record.content.len() + 40);
        if self.timestamps && !goes_on {
            text.extend_from_slice(time(record.time).as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(record.content);
        if !record.partial {
            text.push(b'\n');
        }
        text
    }

    /// All that was there has been read: from now on every line counts.
    pub fn release(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.last = None;
        std::mem::take(&mut self.held).iter().try_for_each(|text| self.put(text, out))
    }

    /// Whether nothing more may be printed.
    pub fn full(&self) -> bool {
        self.left == 0
    }

    fn put(&mut self, text: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let text = text.get(..room).unwrap_or(text);
        self.left = self.left.saturating_sub(text.len() as u64);
        out.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2020-01-01T00:00:01Z stdout F line1\n2020-01-01T00:00:02Z stderr F line2\nnonsense\n\
                       2020-01-01T00:00:03Z stdout P li\n2020-01-01T00:00:03Z stdout F ne3\n\
                       2020-01-01T00:00:04Z stdout F \n2020-01-01T00:00:05Z stdout P:TAG1:TAG2 five\n\
                       2020-01-01T00:00:06Z stdout F not whole ye";

    /// I5: the kubelet's logs_test, and what is not in it. Only `tail` is answered differently: there each piece
    /// of a long line counts.
    #[test]
    fn i5_what_is_wanted() {
        let dir = std::env::temp_dir().join(format!("podinit-read-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let none = Options::default;
        let since = |text: &str| Some(text.parse().unwrap());
        let all = "line1\nline2\nline3\n\nfive";
        let table = [
            (none(), all),
            (Options { tail: Some(0), ..none() }, ""),
            (Options { tail: Some(1), ..none() }, "five"),
            (Options { tail: Some(3), ..none() }, "line3\n\nfive"),
            (Options { tail: Some(4), ..none() }, "line2\nline3\n\nfive"),
            (Options { tail: Some(5), ..none() }, all),
            (Options { tail: Some(9), ..none() }, all),
            (Options { limit_bytes: Some(0), ..none() }, ""),
            (Options { limit_bytes: Some(1), ..none() }, "l"),
            (Options { limit_bytes: Some(6), ..none() }, "line1\n"),
            (Options { limit_bytes: Some(9), ..none() }, "line1\nlin"),
            (Options { limit_bytes: Some(14), ..none() }, "line1\nline2\nli"),
            (Options { limit_bytes: Some(100), ..none() }, all),
            (Options { limit_bytes: Some(5), tail: Some(3), ..none() }, "line3"),
            (Options { limit_bytes: Some(9), since: since("2020-01-01T00:00:03Z"), ..none() }, "line3\n\nfi"),
            (Options { since: since("2020-01-01T00:00:02Z"), ..none() }, "line2\nline3\n\nfive"),
            (Options { since: since("2020-01-01T00:00:02.000000001Z"), ..none() }, "line3\n\nfive"),
            (Options { since: since("2020-01-01T00:00:02Z"), tail: Some(1), ..none() }, "five"),
            (Options { since: since("2020-01-01T01:00:04+01:00"), ..none() }, "\nfive"),
            (Options { since: since("2030-01-01T00:00:00Z"), ..none() }, ""),
            (
                Options { timestamps: true, since: since("2020-01-01T00:00:03Z"), ..none() },
                "2020-01-01T00:00:03.000000000Z line3\n2020-01-01T00:00:04.000000000Z \n\
                 2020-01-01T00:00:05.000000000Z five",
            ),
            // The time counts too.
            (Options { timestamps: true, limit_bytes: Some(21), ..none() }, "2020-01-01T00:00:01.0"),
        ];
        for (options, expected) in table {
            let mut out = Vec::new();
            read(&path, &options, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{options:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// I5, row 20: limits of 3 and 11 bytes over two lines.
    #[test]
    fn i5_a_limit_ends_within_a_line_and_is_full() {
        for (limit, expected, full) in [
            (3, "abc", true),
            (11, "abcdefg\nabc", true),
            (16, "abcdefg\nabcdefg\n", true),
            (17, "abcdefg\nabcdefg\n", false),
        ] {
            let mut printer = Printer::new(&Options { limit_bytes: Some(limit), ..Options::default() });
            let mut out = Vec::new();
            for _ in 0..2 {
                printer.line(b"2020-01-01T00:00:01Z stdout F abcdefg\n", &mut out).unwrap();
            }
            assert_eq!((String::from_utf8(out).unwrap().as_str(), printer.full()), (expected, full));
        }
    }

    /// What is held back is the last of what was there; what comes later is printed at once.
    #[test]
    fn i5_after_the_last_lines_every_line_counts() {
        let (mut printer, mut out) =
            (Printer::new(&Options { tail: Some(1), ..Options::default() }), Vec::new());
        let line = |printer: &mut Printer, out: &mut Vec<u8>, text: &str| {
            printer.line(format!("2020-01-01T00:00:01Z stdout {text}\n").as_bytes(), out).unwrap();
        };
        line(&mut printer, &mut out, "F one");
        line(&mut printer, &mut out, "P tw");
        assert_eq!(out, b"");
        printer.release(&mut out).unwrap();
        line(&mut printer, &mut out, "F o");
        line(&mut printer, &mut out, "F three");
        assert_eq!(String::from_utf8(out).unwrap(), "two\nthree\n");
    }
}
