//! The lines of a log that is written, rotated and removed while it is read: from its oldest file on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// A log's files: the rotated ones, `0.log.<time>` and `0.log.<time>.gz`, the oldest first, then `0.log`.
pub struct Tail {
    path: PathBuf,
    /// Open, read up to what was there; None before the first read and while there is none.
    file: Option<File>,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    /// A log is read from its oldest file on. One that has no file yet is empty, its directory must be there.
    pub fn open(path: &Path) -> io::Result<Tail> {
        files(path)?;
        Ok(Tail { path: path.to_owned(), file: None, rest: Vec::new() })
    }

    /// Hands on every whole line, with its newline, that has come since the last time.
    pub fn read(&mut self, mut line: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let inode = file.metadata()?.ino();
            let renamed = std::fs::metadata(&self.path).map_or(true, |meta| meta.ino() != inode);
            // Looked at before it is read: once renamed, nothing is added to it.
            lines(file, &mut self.rest, &mut line)?;
            if !renamed {
                return Ok(());
            }
            let files = files(&self.path)?;
            let at =
                files.iter().position(|path| std::fs::metadata(path).is_ok_and(|meta| meta.ino() == inode));
            // Where it is gone already, only the newest is known to come after it.
            let next = at.map_or(files.len().saturating_sub(1), |at| at + 1);
            return self.all(files.get(next..).unwrap_or_default(), line);
        }
        let files = files(&self.path)?;
        self.all(&files, line)
    }

    fn all(&mut self, files: &[PathBuf], mut line: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for path in files {
            let mut file = match File::open(path) {
                Ok(file) => file,
                // Removed by now, as too old.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                Err(why) => return Err(why),
            };
            if path.extension().is_some_and(|end| end == "gz") {
                lines(&mut GzDecoder::new(file), &mut self.rest, &mut line)?;
            } else {
                lines(&mut file, &mut self.rest, &mut line)?;
                self.file = Some(file);
            }
        }
        Ok(())
    }
}

fn lines(
    from: &mut impl Read,
    rest: &mut Vec<u8>,
    line: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    loop {
        let size = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => size,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        for piece in buffer[..size].split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                line(rest)?;
                rest.clear();
            }
        }
    }
}

/// Those that are there, the oldest first.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let rotated = file.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        // Half-written archives end in `.tmp`.
        if rotated.is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_digit()) && !rest.ends_with(".tmp")
        }) {
            files.push(directory.join(file));
        }
    }
    files.sort_by_cached_key(|file| age(file));
    // Where an archive and what it was made of are both there, one is enough.
    files.dedup_by(|later, earlier| later.to_string_lossy() == format!("{}.gz", earlier.to_string_lossy()));
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// What sorts rotated logs, `0.log.20260131-120000`, `0.log.20260131-120000-1.gz`, by their age.
fn age(file: &Path) -> (String, u32, bool) {
    let name = file.to_string_lossy();
    let (stem, packed) = name.strip_suffix(".gz").map_or((&*name, false), |stem| (stem, true));
    let stamp = stem.rsplit('.').next().unwrap_or_default();
    let mut parts = stamp.splitn(3, '-');
    let day = parts.next().unwrap_or_default();
    let time = parts.next().unwrap_or_default();
    let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    (format!("{day}-{time}"), count, packed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write(path: &Path, text: &str) {
        File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn no_line_is_lost_or_told_twice_over_rotations() {
        let dir = std::env::temp_dir().join(format!("podinit-tail-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("0.log");
        let rotated = |end: &str| dir.join(format!("0.log.20260101-0000{end}"));
        let mut seen = String::new();
        let mut tail = Tail::open(&log).unwrap();
        let mut more = |tail: &mut Tail| -> String {
            seen.clear();
            tail.read(|line| {
                seen.push_str(std::str::from_utf8(line).unwrap());
                Ok(())
            })
            .unwrap();
            seen.clone()
        };
        assert_eq!(more(&mut tail), "");
        let mut packed =
            flate2::write::GzEncoder::new(File::create(rotated("00.gz")).unwrap(), Default::default());
        packed.write_all(b"1\n").unwrap();
        packed.finish().unwrap();
        write(&rotated("00-1"), "2\n");
        write(&rotated("00-2.tmp"), "not yet\n");
        write(&dir.join("10.log"), "another's\n");
        write(&log, "3\n4");
        assert_eq!(more(&mut tail), "1\n2\n3\n");
        write(&log, "4\n5\n");
        assert_eq!(more(&mut tail), "44\n5\n");
        // Written, rotated twice, and written to between two looks.
        write(&log, "6\n");
        std::fs::rename(&log, rotated("01")).unwrap();
        write(&log, "7\n");
        std::fs::rename(&log, rotated("02")).unwrap();
        write(&log, "8\n");
        assert_eq!(more(&mut tail), "6\n7\n8\n");
        assert_eq!(more(&mut tail), "");
        std::fs::rename(&log, rotated("03")).unwrap();
        assert_eq!(more(&mut tail), "");
        write(&log, "9\n");
        assert_eq!(more(&mut tail), "9\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
