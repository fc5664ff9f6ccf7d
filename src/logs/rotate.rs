//! Rotation: `0.log` becomes `0.log.<YYYYMMDD-HHMMSS>`, older ones are compressed, the oldest removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Renames the log away and makes room for it, so that at most `max_files` remain with the new one. Returns the rotated
/// logs that wait to be compressed, the oldest first. Whoever dies in between loses nothing: it is done again.
pub fn rotate(log: &Path, max_files: u32, now: Timestamp, busy: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    for path in leftovers(log, busy)? {
        fs::remove_file(path)?;
    }
    let mut old = rotated(log)?;
    let keep = (max_files.max(2) - 2) as usize;
    for path in old.drain(..old.len().saturating_sub(keep)) {
        fs::remove_file(path)?;
    }
    let name = next_name(log, &rotated(log)?, now);
    fs::rename(log, &name)?;
    old.retain(|path| !packed(path) && Some(path.as_path()) != busy);
    Ok(old)
}

/// The rotated logs, the oldest first, compressed or not.
pub fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in beside(log)? {
        let (stem, _) = split(log, &path);
        if stem.len() >= 15 && stem.starts_with(|first: char| first.is_ascii_digit()) && !unfinished(&path) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| split(log, path));
    Ok(found)
}

/// One log being compressed, a step at a time, so that no container waits for it.
pub struct Packing {
    pub source: PathBuf,
    tmp: PathBuf,
    from: File,
    to: GzEncoder<File>,
}

impl Packing {
    pub fn start(source: PathBuf) -> io::Result<Self> {
        let from = File::open(&source)?;
        let tmp = added(&source, ".tmp");
        let mode = from.metadata()?.permissions().mode() & 0o777;
        let to = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&tmp)?;
        Ok(Packing { source, tmp, from, to: GzEncoder::new(to, Compression::fast()) })
    }

    /// Compresses a little more; true when it is done.
    pub fn step(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 32 << 10];
        let got = self.from.read(&mut buffer)?;
        if got > 0 {
            self.to.write_all(buffer.get(..got).unwrap_or_default())?;
            return Ok(false);
        }
        self.to.try_finish()?;
        // A rotation may have removed it meanwhile.
        if self.source.exists() {
            fs::rename(&self.tmp, added(&self.source, ".gz"))?;
            fs::remove_file(&self.source)?;
        } else {
            fs::remove_file(&self.tmp)?;
        }
        Ok(true)
    }

    /// Removes what was begun.
    pub fn give_up(self) {
        let _ = fs::remove_file(&self.tmp);
    }
}

/// Half-written archives, and logs whose archive is whole.
fn leftovers(log: &Path, busy: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let all = beside(log)?;
    let useless = |path: &PathBuf| {
        let busy = busy.is_some_and(|busy| *path == added(busy, ".tmp"));
        (unfinished(path) && !busy) || (!packed(path) && all.contains(&added(path, ".gz")))
    };
    Ok(all.iter().filter(|path| useless(path)).cloned().collect())
}

fn beside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::other(format!("{} is no log's name", log.display())));
    };
    let prefix = format!("{name}.");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The stamp in the name, and the count that tells several of one second apart.
fn split(log: &Path, path: &Path) -> (String, u64) {
    let text = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let name = text(path);
    let stem = name.strip_prefix(&format!("{}.", text(log))).unwrap_or_default();
    let stem = stem.trim_end_matches(".gz").trim_end_matches(".tmp");
    match stem.split_at_checked(15) {
        Some((stamp, count)) => (stamp.to_owned(), count.trim_start_matches('-').parse().unwrap_or(0)),
        None => (stem.to_owned(), 0),
    }
}

/// Later than every other one, whatever the clock says: boards wake in 1970.
fn next_name(log: &Path, rotated: &[PathBuf], now: Timestamp) -> PathBuf {
    let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string();
    match rotated.last().map(|path| split(log, path)) {
        Some((last, count)) if last >= stamp => added(log, &format!(".{last}-{}", count.saturating_add(1))),
        Some(_) | None => added(log, &format!(".{stamp}")),
    }
}

fn added(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

fn unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// I6: the kubelet's container_log_manager_test. Whether it is time is the writer's: at the size, as there.
    #[test]
    fn i6_oldest_removed_older_packed_current_renamed() {
        let dir = std::env::temp_dir().join(format!("podinit-rotate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let log = dir.join("3.log");
        let old = ["3.log.20260101-000000.gz", "3.log.20260101-000001", "3.log.20260101-000001.tmp"];
        let twin =
            ["3.log.20251231-000000", "3.log.20251231-000000.gz", "3.log.unused", "13.log.20260101-000000"];
        for name in old.iter().chain(&twin) {
            fs::write(dir.join(name), "old").unwrap();
        }
        fs::write(&log, "current").unwrap();
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(dir.join(old[1]), fs::Permissions::from_mode(0o640)).unwrap();
        let now = "2026-01-01T00:00:02Z".parse().unwrap();
        let waiting = rotate(&log, 3, now, None).unwrap();
        assert_eq!(waiting, [dir.join("3.log.20260101-000001")]);
        for path in waiting {
            let mut packing = Packing::start(path).unwrap();
            while !packing.step().unwrap() {}
        }
        let expected =
            ["13.log.20260101-000000", "3.log.20260101-000001.gz", "3.log.20260101-000002", "3.log.unused"];
        assert_eq!(names(&dir), expected);
        assert_eq!(mode(expected[1]), 0o640, "its mode is the log's");
        let mut text = String::new();
        let packed = File::open(dir.join(expected[1])).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");

        // Twelve in the same second, and then the clock is set back: the order of the names remains that of time.
        for number in 0..12 {
            fs::write(&log, number.to_string()).unwrap();
            let at = if number < 11 { now } else { "1970-01-01T00:00:00Z".parse().unwrap() };
            rotate(&log, 20, at, None).unwrap();
        }
        let order: Vec<_> =
            rotated(&log).unwrap().iter().skip(2).map(|p| fs::read_to_string(p).unwrap()).collect();
        assert_eq!(order, (0..12).map(|number| number.to_string()).collect::<Vec<_>>());
        fs::remove_dir_all(&dir).unwrap();
    }
}
