//! Directories of EROFS: blocks of 12-byte entries followed by their names, sorted by name across all blocks.

use std::io;

use super::erofs::BLOCK;

const ENTRY: usize = 12;

/// A name, the inode it names, and the inode's type as a directory entry tells it (fs_types.c of the kernel).
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub nid: u64,
    pub kind: u8,
}

/// The size of the directory: whole blocks, and the last one only as far as it is used.
pub fn size<'a>(entries: impl Iterator<Item = Entry<'a>>) -> u64 {
    let mut size = 0;
    let mut used = 0;
    for entry in entries {
        let need = ENTRY + entry.name.len();
        if used + need > BLOCK {
            size += BLOCK as u64;
            used = 0;
        }
        used += need;
    }
    size + used as u64
}

/// The directory's blocks, one after the other: a large directory is never whole in memory. All but the last are
/// padded with zeros.
pub fn encode<'a>(
    entries: impl Iterator<Item = Entry<'a>>,
    mut put: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut block: Vec<Entry> = Vec::new();
    let mut data = Vec::with_capacity(BLOCK);
    let mut used = 0;
    for entry in entries {
        let need = ENTRY + entry.name.len();
        if used + need > BLOCK {
            lay(&block, &mut data);
            data.resize(BLOCK, 0);
            put(&data)?;
            block.clear();
            used = 0;
        }
        used += need;
        block.push(entry);
    }
    lay(&block, &mut data);
    put(&data)
}

/// One block: the entries, then their names.
fn lay(block: &[Entry], data: &mut Vec<u8>) {
    data.clear();
    let mut name_at = block.len() * ENTRY;
    for entry in block {
        data.extend_from_slice(&entry.nid.to_le_bytes());
        data.extend_from_slice(&(name_at as u16).to_le_bytes());
        data.extend_from_slice(&[entry.kind, 0]);
        name_at += entry.name.len();
    }
    for entry in block {
        data.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(entries: &[Entry]) -> Vec<u8> {
        let mut data = Vec::new();
        let put = |block: &[u8]| {
            assert_eq!(data.len() % BLOCK, 0, "a block after the last");
            data.extend_from_slice(block);
            Ok(())
        };
        encode(entries.iter().copied(), put).unwrap();
        data
    }

    #[test]
    fn the_size_foretold_is_the_size_made() {
        for (count, length) in
            [(1, 1), (3, 5), (100, 60), (400, 1), (40, 244), (48, 244), (2000, 17), (64, 52)]
        {
            let names: Vec<Vec<u8>> = (0..count).map(|i| format!("{i:0>length$}").into_bytes()).collect();
            let entries: Vec<Entry> = names.iter().map(|name| Entry { name, nid: 7, kind: 1 }).collect();
            assert_eq!(
                size(entries.iter().copied()),
                whole(&entries).len() as u64,
                "{count} names of {length}"
            );
        }
    }

    #[test]
    fn names_follow_the_entries_of_their_block() {
        let entries = [Entry { name: b".", nid: 1, kind: 2 }, Entry { name: b"ab", nid: 258, kind: 1 }];
        let data = whole(&entries);
        assert_eq!(data[8..10], 24_u16.to_le_bytes());
        assert_eq!(data[12..14], [2, 1]);
        assert_eq!(data[20..22], 25_u16.to_le_bytes());
        assert_eq!(&data[24..], b".ab");
    }
}
