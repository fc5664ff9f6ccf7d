//! The log of a disk's writes and flushes, in the form of Linux' dm-log-writes, and states of the disk made from it.
//!
//! Source: Linux' Documentation/admin-guide/device-mapper/log-writes.rst; qemu's block/blklogwrites.c writes an entry
//! once its request is done, and before the board learns that it is. So what the board knew to be done when it asked
//! for a flush is before that flush in the log.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
pub const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// The file system's superblock, which ext4 writes in place and counts on to be written whole.
const SUPERBLOCK: u64 = 4096;

/// A write, or a flush, or both: the flush comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub flush: bool,
    pub fua: bool,
    /// Place on the disk and length, in bytes.
    pub at: u64,
    pub length: u64,
    /// Where its bytes are in the log.
    pub bytes: u64,
}

impl Entry {
    /// Where it ends in the log.
    pub fn end(&self) -> u64 {
        self.bytes + self.length
    }
}

/// All entries that the log's first sector counts.
pub fn entries(log: &File) -> io::Result<Vec<Entry>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let words = |at: u64| {
        let mut bytes = [0; 32];
        log.read_exact_at(&mut bytes, at)?;
        let word = |number: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * number + byte]));
        io::Result::Ok([word(0), word(1), word(2), word(3)])
    };
    let [magic, version, count, size] = words(0)?;
    if (magic, version, size & 0xffff_ffff) != (MAGIC, 1, SECTOR) {
        return Err(bad(format!("no log of sectors of {SECTOR} bytes: {magic:#x} {version} {size}")));
    }
    let (mut entries, mut at) = (Vec::new(), SECTOR);
    for _ in 0..count {
        let [sector, sectors, flags, data] = words(at)?;
        if flags & !(FLUSH | FUA) != 0 || flags & DISCARD != 0 || data != 0 {
            return Err(bad(format!("an entry at {at} with flags {flags:#x} and {data} bytes of its own")));
        }
        let entry = Entry {
            flush: flags & FLUSH != 0,
            fua: flags & FUA != 0,
            at: sector * SECTOR,
            length: sectors * SECTOR,
            bytes: at + SECTOR,
        };
        at = entry.end();
        entries.push(entry);
    }
    Ok(entries)
}

/// Of the entries, how many had surely reached the disk for good when the last of them was done: those before the last
/// flush.
pub fn flushed(entries: &[Entry]) -> usize {
    entries.iter().rposition(|entry| entry.flush).unwrap_or(0)
}

/// How a disk treats what it was not told to flush.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// All of it is lost.
    All,
    /// Each write is lost or not.
    Some,
    /// Each sector is lost or not.
    Torn,
    /// One write is lost, or torn; all others are there.
    One,
}

/// Pieces of unflushed writes that have reached the disk, as (entry, place in it, length); in the order of the log.
/// What a write that is there overwrote does not matter, so any of several writes to a sector may be the one that stays.
pub fn survivors(entries: &[Entry], loss: Loss, random: &mut fastrand::Rng) -> Vec<(Entry, u64, u64)> {
    let lost = random.usize(..entries.len().max(1));
    let torn = random.bool();
    let mut pieces = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let whole = match loss {
            _ if entry.fua => true,
            Loss::All => false,
            Loss::Some => random.bool(),
            Loss::Torn => entry.at < SUPERBLOCK && random.bool(),
            Loss::One => number != lost,
        };
        let tears = matches!((loss, torn), (Loss::Torn, _) | (Loss::One, true)) && entry.at >= SUPERBLOCK;
        if whole {
            pieces.push((*entry, 0, entry.length));
        } else if tears {
            let sectors = (0..entry.length).step_by(SECTOR as usize).filter(|_| random.bool());
            pieces.extend(sectors.collect::<Vec<_>>().into_iter().map(|at| (*entry, at, SECTOR)));
        }
    }
    pieces
}

/// Writes pieces of entries onto a disk.
pub fn replay(log: &File, disk: &File, pieces: &[(Entry, u64, u64)]) -> io::Result<()> {
    for (entry, from, length) in pieces {
        let mut bytes = vec![0; usize::try_from(*length).expect("a write fits into memory")];
        log.read_exact_at(&mut bytes, entry.bytes + from)?;
        disk.write_all_at(&bytes, entry.at + from)?;
    }
    Ok(())
}

pub fn open(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Numbers of entries after which the power goes, in order: writes that had not been flushed. One may come again, for
/// what else is lost with it differs.
pub fn cuts(count: usize, entries: &[Entry], random: &mut fastrand::Rng) -> Vec<usize> {
    let writes = || entries.iter().enumerate().filter(|(_, entry)| entry.length > 0 && !entry.fua);
    let writes: Vec<usize> = writes().map(|(number, _)| number).collect();
    let mut cuts: Vec<usize> = (0..count).map(|_| writes[random.usize(..writes.len())]).collect();
    cuts.sort_unstable();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(entries: &[(u64, u64, u64)]) -> File {
        let path = std::env::temp_dir().join(format!("podinit-writes-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("its name is not needed");
        let sector = |words: [u64; 4]| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.resize(SECTOR as usize, 0);
            bytes
        };
        file.write_all(&sector([MAGIC, 1, entries.len() as u64, SECTOR])).expect("written");
        for (number, (at, sectors, flags)) in entries.iter().enumerate() {
            file.write_all(&sector([*at, *sectors, *flags, 0])).expect("written");
            file.write_all(&vec![number as u8 + 1; (sectors * SECTOR) as usize]).expect("written");
        }
        file
    }

    #[test]
    fn what_was_flushed_is_there_and_what_was_not_may_be() {
        let log = log(&[(100, 2, 0), (0, 0, FLUSH), (100, 2, 0), (200, 1, FUA), (300, 2, 0)]);
        let all = entries(&log).expect("a log");
        assert_eq!(all.len(), 5);
        assert_eq!(all[2], Entry { flush: false, fua: false, at: 51200, length: 1024, bytes: 512 * 6 });
        let counts: Vec<usize> = (0..=5).map(|count| flushed(&all[..count])).collect();
        assert_eq!(counts, [0, 0, 1, 1, 1, 1]);
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let pieces = survivors(&all[1..], Loss::Some, &mut random);
            seen.insert(pieces.iter().map(|(entry, ..)| entry.at / SECTOR).collect::<Vec<_>>());
        }
        // The FUA write always, in order, and every choice of the others.
        let expected: [&[u64]; 4] = [&[0, 200], &[0, 100, 200], &[0, 100, 200, 300], &[0, 200, 300]];
        let of = |list: &[u64]| list.iter().copied().filter(|at| *at != 0).collect::<Vec<_>>();
        let shown: BTreeSet<Vec<u64>> = seen.iter().map(|list| of(list)).collect();
        assert_eq!(shown, expected.iter().map(|list| of(list)).collect());
        assert_eq!(survivors(&all[1..], Loss::All, &mut random).len(), 1);
        let disk = File::from(
            nix::sys::memfd::memfd_create(c"disk", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("memory"),
        );
        replay(&log, &disk, &[(all[0], 0, 1024), (all[2], 512, 512)]).expect("replayed");
        let mut bytes = [0; 1024];
        disk.read_exact_at(&mut bytes, 51200).expect("read");
        assert_eq!((bytes[511], bytes[512]), (1, 3));
    }

    #[test]
    fn the_superblock_is_never_torn() {
        let superblock = Entry { flush: false, fua: false, at: 0, length: 4096, bytes: 0 };
        let mut random = fastrand::Rng::with_seed(7);
        for loss in [Loss::Torn, Loss::One] {
            let lengths = (0..100).flat_map(|_| survivors(&[superblock; 2], loss, &mut random));
            assert!(lengths.map(|(.., length)| length).all(|length| length == 4096), "{loss:?}");
        }
    }
}
