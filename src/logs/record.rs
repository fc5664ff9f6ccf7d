//! CRI records: a stream's bytes to lines of `<time> <stdout|stderr> <F|P> <bytes>`, and back.

use jiff::Timestamp;

/// The longest content of one record, in bytes (containerd's max_container_log_line_size).
pub const MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// As a record names it.
    pub fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// RFC 3339 with nine digits, in UTC: `2026-01-02T03:04:05.000000006Z`.
pub fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// Appends the records of `bytes` to `out` and returns how many bytes they took; the rest is a line's beginning,
/// at most `max` + 1 bytes, and belongs before the bytes that come next. What is split where does not depend on
/// how the stream was cut into calls. `end`: nothing comes next, an unterminated line is written with tag P.
/// `max` 0: lines of any length are one record.
pub fn render(bytes: &[u8], end: bool, max: usize, time: &str, stream: Stream, out: &mut Vec<u8>) -> usize {
    let max = if max == 0 { usize::MAX } else { max };
    let head = |tag| format!("{time} {} {tag} ", stream.word()).into_bytes();
    let (full, partial) = (head('F'), head('P'));
    let mut emit = |head: &[u8], content: &[u8]| {
        out.extend_from_slice(head);
        out.extend_from_slice(content);
        out.push(b'\n');
    };
    let mut rest = bytes;
    while let Some((line, after)) = split_line(rest) {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        while let Some((piece, more)) = line.split_at_checked(max).filter(|(_, more)| !more.is_empty()) {
            emit(&partial, piece);
            line = more;
        }
        emit(&full, line);
        rest = after;
    }
    while let Some((piece, more)) = rest.split_at_checked(max).filter(|(_, more)| !more.is_empty()) {
        // A carriage return just past a full piece may yet turn out to be half of a line's end.
        if more == b"\r" && !end {
            break;
        }
        emit(&partial, piece);
        rest = more;
    }
    if end && !rest.is_empty() {
        emit(&partial, rest);
        rest = &[];
    }
    bytes.len() - rest.len()
}

/// One record, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// Tag P: the line goes on in the next record of the stream.
    pub partial: bool,
    pub content: &'a [u8],
}

/// Reads one line of a log file, with or without its newline; None where it is no record.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Whatever is no P is a whole line; more tags may follow.
    let partial = fields.next()?.split(|&byte| byte == b':').next()? == b"P";
    Some(Record { time, stream, partial, content: fields.next()? })
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renders in pieces of `cut` bytes; tags with the lengths of their contents.
    fn tags(input: &[u8], max: usize, cut: usize) -> Vec<(char, usize)> {
        let (mut out, mut carry) = (Vec::new(), Vec::new());
        for piece in input.chunks(cut) {
            carry.extend_from_slice(piece);
            let taken = render(&carry, false, max, "1970-01-01T00:00:00Z", Stream::Stdout, &mut out);
            carry.drain(..taken);
            assert!(max == 0 || carry.len() <= max + 1);
        }
        let taken = render(&carry, true, max, "1970-01-01T00:00:00Z", Stream::Stdout, &mut out);
        assert_eq!(taken, carry.len());
        let parsed = out.split_inclusive(|&byte| byte == b'\n').map(|line| parse(line).unwrap());
        parsed.map(|r| (if r.partial { 'P' } else { 'F' }, r.content.len())).collect()
    }

    /// I4, containerd's CRI logger (logger_test.go): where records begin and end, whatever the pieces in which bytes come.
    #[test]
    fn i4_records_of_a_stream() {
        let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        let crlf = |length: usize| [vec![b'x'; length], b"\r\n".to_vec()].concat();
        let table: Vec<(Vec<u8>, usize, Vec<(char, usize)>)> = vec![
            (b"".to_vec(), MAX, vec![]),
            (b"one\ntwo\n".to_vec(), MAX, vec![('F', 3), ('F', 3)]),
            (b"one\ntwo".to_vec(), MAX, vec![('F', 3), ('P', 3)]),
            (b"\n\r\n\r".to_vec(), MAX, vec![('F', 0), ('F', 0), ('P', 1)]),
            (b"a\rb\r\r\n".to_vec(), MAX, vec![('F', 4)]),
            (line(4096), MAX, vec![('F', 4096)]),
            (line(8202), MAX, vec![('F', 8202)]),
            (line(MAX), MAX, vec![('F', MAX)]),
            (crlf(MAX), MAX, vec![('F', MAX)]),
            (line(MAX + 1), MAX, vec![('P', MAX), ('F', 1)]),
            (
                [line(2 * MAX), line(2 * MAX + 1)].concat(),
                MAX,
                vec![('P', MAX), ('F', MAX), ('P', MAX), ('P', MAX), ('F', 1)],
            ),
            (crlf(2 * MAX), MAX, vec![('P', MAX), ('F', MAX)]),
            ([vec![b'x'; MAX], b"\r".to_vec()].concat(), MAX, vec![('P', MAX), ('P', 1)]),
            ([vec![b'x'; MAX], b"\ry\n".to_vec()].concat(), MAX, vec![('P', MAX), ('F', 2)]),
            (line(6154), 2048, vec![('P', 2048), ('P', 2048), ('P', 2048), ('F', 10)]),
            (line(6164), 2048, vec![('P', 2048), ('P', 2048), ('P', 2048), ('F', 20)]),
            (line(2048), 2048, vec![('F', 2048)]),
            (line(6144), 2048, vec![('P', 2048), ('P', 2048), ('F', 2048)]),
            (b"ab\ncd".to_vec(), 1, vec![('P', 1), ('F', 1), ('P', 1), ('P', 1)]),
            (line(8202), 6144, vec![('P', 6144), ('F', 2058)]),
            (line(8212), 6144, vec![('P', 6144), ('F', 2068)]),
            (line(MAX - 1), MAX, vec![('F', MAX - 1)]),
            (vec![b'x'; MAX], MAX, vec![('P', MAX)]),
            (line(3), 1, vec![('P', 1), ('P', 1), ('F', 1)]),
            (line(40_000), 0, vec![('F', 40_000)]),
        ];
        for (input, max, expected) in table {
            let cuts = if input.len() < 100 { [1, 2, 7] } else { [1021, 4096, 65536] };
            for cut in cuts {
                assert_eq!(tags(&input, max, cut), expected, "{} bytes, max {max}, cut {cut}", input.len());
            }
        }
    }

    /// I5, rows 13 to 17.
    #[test]
    fn i5_records_read_back() {
        let full = b"2016-10-20T18:39:20.57606443Z stdout F stdout test log\n";
        let record = parse(full).unwrap();
        assert_eq!(
            (record.stream, record.partial, record.content),
            (Stream::Stdout, false, &b"stdout test log"[..])
        );
        let partial = parse(b"2016-10-20T18:39:20.57606443Z stderr P:TAG1:TAG2 part").unwrap();
        assert_eq!((partial.stream, partial.partial, partial.content), (Stream::Stderr, true, &b"part"[..]));
        assert_eq!(parse(b"2016-10-20T18:39:20+02:00 stdout F \n").unwrap().content, b"");
        // As for a kubelet, whatever is not P is a whole line.
        assert!(!parse(b"2016-10-20T18:39:20Z stdout FP x").unwrap().partial);
        assert!(!parse(b"2016-10-20T18:39:20Z stdout PART x").unwrap().partial);
        for bad in
            [&b""[..], b"nonsense\n", b"2016-10-20T18:39:20Z stdout F", b"2016-10-20T18:39:20Z out F x"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(time(Timestamp::from_nanosecond(1).unwrap()), "1970-01-01T00:00:00.000000001Z");
    }
}
