//! What is printed of a CRI log's records: `<time> <stdout|stderr> <F|P> <content>`.

use std::collections::VecDeque;
use std::io::{self, Write};

use jiff::Timestamp;

/// Chooses and prints; holds the last lines back until all older ones are known.
pub struct Printer {
    since: Option<Timestamp>,
    timestamps: bool,
    /// How many of the last lines are wanted; None once they were printed, or if all are.
    last: Option<usize>,
    held: VecDeque<Vec<u8>>,
    /// A line was begun (tag P) and not ended.
    open: bool,
}

impl Printer {
    pub fn new(since: Option<Timestamp>, timestamps: bool, last: Option<usize>) -> Self {
        Printer { since, timestamps, last, held: VecDeque::new(), open: false }
    }

    /// One line of the file; what is no record is passed over.
    pub fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Some((stamp, partial, content)) = parse(line) else { return Ok(()) };
        if let Some(since) = self.since
            && std::str::from_utf8(stamp)
                .ok()
                .and_then(|text| text.parse().ok())
                .is_none_or(|time: Timestamp| time < since)
        {
            return Ok(());
        }
        let mut text = Vec::new();
        if self.timestamps && !self.open {
            text.extend_from_slice(stamp);
            text.push(b' ');
        }
        text.extend_from_slice(content);
        if !partial {
            text.push(b'\n');
        }
        let goes_on = std::mem::replace(&mut self.open, partial);
        let Some(last) = self.last else { return out.write_all(&text) };
        match self.held.back_mut().filter(|_| goes_on) {
            Some(held) => held.extend_from_slice(&text),
            None => self.held.push_back(text),
        }
        while self.held.len() > last {
            self.held.pop_front();
        }
        Ok(())
    }

    /// All that was there has been read: from now on every line counts.
    pub fn release(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.last = None;
        self.held.drain(..).try_for_each(|text| out.write_all(&text))
    }

    /// Nothing more comes.
    pub fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.flush()
    }
}

/// Time, whether the line goes on, content.
fn parse(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
    if !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    Some((time, tag.first() == Some(&b'P'), fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_and_put_together() {
        let log = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\nnonsense\n\
                   2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:04Z stdout F ee\n\
                   2026-01-01T00:00:05Z stdout F \n2026-01-01T00:00:06Z stdout P five";
        let from = |second: i64| Some(Timestamp::new(1_767_225_600 + second, 0).unwrap());
        let table = [
            (None, false, None, "one\ntwo\nthree\n\nfive"),
            (None, false, Some(3), "three\n\nfive"),
            (None, false, Some(0), ""),
            (None, false, Some(99), "one\ntwo\nthree\n\nfive"),
            (from(5), false, None, "\nfive"),
            (from(2), false, Some(1), "five"),
            (
                from(3),
                true,
                Some(3),
                "2026-01-01T00:00:03Z three\n2026-01-01T00:00:05Z \n2026-01-01T00:00:06Z five",
            ),
        ];
        for (since, timestamps, last, expected) in table {
            let (mut printer, mut out) = (Printer::new(since, timestamps, last), Vec::new());
            log.split_inclusive('\n').for_each(|line| printer.line(line.as_bytes(), &mut out).unwrap());
            printer.release(&mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{since:?} {timestamps} {last:?}");
        }
    }
}
