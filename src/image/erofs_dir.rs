//! Directories of EROFS: blocks of 12-byte entries followed by their names, sorted by name across all blocks.

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
pub fn size(entries: &[Entry]) -> u64 {
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

/// The directory's bytes; every block but the last padded with zeros.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let count = rest.iter().take_while(|entry| {
            used += ENTRY + entry.name.len();
            used <= BLOCK
        });
        let (block, after) = rest.split_at(count.count().max(1));
        rest = after;
        data.resize(data.len().next_multiple_of(BLOCK), 0);
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
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_foretold_is_the_size_made() {
        for (count, length) in
            [(1, 1), (3, 5), (100, 60), (400, 1), (40, 244), (48, 244), (2000, 17), (64, 52)]
        {
            let names: Vec<Vec<u8>> = (0..count).map(|i| format!("{i:0>length$}").into_bytes()).collect();
            let entries: Vec<Entry> = names.iter().map(|name| Entry { name, nid: 7, kind: 1 }).collect();
            assert_eq!(size(&entries), encode(&entries).len() as u64, "{count} names of {length}");
        }
    }

    #[test]
    fn names_follow_the_entries_of_their_block() {
        let entries = [Entry { name: b".", nid: 1, kind: 2 }, Entry { name: b"ab", nid: 258, kind: 1 }];
        let data = encode(&entries);
        assert_eq!(data[8..10], 24_u16.to_le_bytes());
        assert_eq!(data[12..14], [2, 1]);
        assert_eq!(data[20..22], 25_u16.to_le_bytes());
        assert_eq!(&data[24..], b".ab");
    }
}
