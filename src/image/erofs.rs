//! The EROFS on-disk format, written in one pass: uncompressed, 4 KiB blocks, extended inodes.
//!
//! Source: "EROFS core on-disk format" of the EROFS documentation. Block 0 holds the superblock and the root's inode
//! and is written last. Data blocks and blocks of inodes follow as the files come; a short last part of a file lies
//! behind its inode ("inline"), so that a small file costs no block of its own. Directories come at the end, when
//! their entries' inodes have their places. An inode's number (nid) is its offset / 32.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::erofs_dir;

pub const BLOCK: usize = 4096;
pub const SUPER: usize = 1024;
const SUPER_SIZE: usize = 128;
const ROOT: usize = SUPER + SUPER_SIZE;
pub const MAGIC: u32 = 0xE0F5_E1E2;
pub const INODE: usize = 64;
pub const SLOT: u64 = 32;
/// A file is read in pieces of so many blocks, and what follows on one another in the image is written as one.
const PIECE: usize = 16 * BLOCK;
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// A tail longer than this opens no new block of inodes: it would rather fill a block of its own.
const LONG_TAIL: usize = BLOCK / 2;
/// Checksum of the superblock, and mtime in the place of ctime.
const FEATURES: u32 = 1 | 2;

/// What an inode says beside its content.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    /// As `erofs_xattr::encode` makes them.
    pub xattrs: Vec<u8>,
}

/// Content written so far: whole blocks from `first` on, and the rest that has not been written.
pub struct Content {
    first: u32,
    size: u64,
    tail: Vec<u8>,
}

/// A directory about to be written: its entries sorted by name, `.` and `..` among them.
pub struct Directory<'a, E> {
    pub meta: &'a Meta,
    pub links: u32,
    pub entries: E,
}

/// Where a directory's parts go.
pub struct Place {
    pub nid: u64,
    first: u32,
    size: u64,
    inline: bool,
}

/// An EROFS file in the making.
pub struct Writer {
    file: File,
    /// What is written next, and where it goes.
    pending: (u64, Vec<u8>),
    /// What a file is read into.
    piece: Vec<u8>,
    /// The next free block.
    next: u64,
    /// The block of inodes being filled: its number and content, at most `BLOCK` bytes.
    open: Option<(u64, Vec<u8>)>,
    inodes: u32,
    root: Vec<u8>,
}

impl Writer {
    /// Starts in an empty file.
    pub fn new(file: File) -> Self {
        let pending = (0, Vec::with_capacity(PIECE));
        Writer { file, pending, piece: vec![0; PIECE], next: 1, open: None, inodes: 0, root: Vec::new() }
    }

    /// Writes a file's content, in parts: bytes of zeros, then bytes that come from the source. Blocks of zeros become
    /// holes of the image's own file.
    pub fn content(
        &mut self,
        parts: impl IntoIterator<Item = (u64, u64)>,
        source: &mut impl Read,
    ) -> io::Result<Content> {
        let first = self.block(self.next)?;
        let mut piece = std::mem::take(&mut self.piece);
        let (mut size, mut held) = (0, 0);
        for (zeros, data) in parts {
            size += zeros + data;
            held = self.zeros(&mut piece, held, zeros)?;
            let mut left = data;
            while left > 0 {
                if held == piece.len() {
                    self.blocks(&piece)?;
                    held = 0;
                }
                let space = piece.get_mut(held..).unwrap_or_default();
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
                match source.read(space.get_mut(..most).unwrap_or_default()) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => (held, left) = (held + n, left - n as u64),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let (blocks, tail) = piece.split_at(held - held % BLOCK);
        self.blocks(blocks)?;
        let tail = tail.get(..held % BLOCK).unwrap_or_default().to_vec();
        self.piece = piece;
        Ok(Content { first, size, tail })
    }

    /// Puts zeros behind the `held` bytes of a piece; tells how many it holds then. Whole blocks of them are passed over.
    fn zeros(&mut self, piece: &mut [u8], held: usize, zeros: u64) -> io::Result<usize> {
        let put = |piece: &mut [u8], held: usize, count: u64| {
            let end = held + count as usize;
            piece.get_mut(held..end).unwrap_or_default().fill(0);
            end
        };
        let short = zeros.min((held.wrapping_neg() % BLOCK) as u64);
        let (held, left) = (put(piece, held, short), zeros - short);
        if left < BLOCK as u64 && held < PIECE {
            return Ok(put(piece, held, left));
        }
        self.blocks(piece.get(..held).unwrap_or_default())?;
        self.next += left / BLOCK as u64;
        self.block(self.next)?;
        Ok(put(piece, 0, left % BLOCK as u64))
    }

    /// Writes a regular file or symbolic link; tells its nid.
    pub fn file(&mut self, meta: &Meta, mut content: Content) -> io::Result<u64> {
        let head = INODE + meta.xattrs.len();
        let tail = content.tail.len();
        let open = self.open.as_ref().map_or(0, |(_, block)| BLOCK - align(block.len()));
        let inline = tail > 0 && head + tail <= if tail > LONG_TAIL { open } else { BLOCK };
        if tail > 0 && !inline {
            // Nothing was written since the whole blocks: the tail's block follows them.
            content.tail.resize(BLOCK, 0);
            self.blocks(&content.tail)?;
            content.tail.clear();
        }
        let union = if content.size == 0 { 0 } else { content.first };
        let mut inode = self.inode(meta, 1, content.size, union, inline)?;
        inode.extend_from_slice(&content.tail);
        self.put(&inode)
    }

    /// Writes an inode without content: a device (its number in the kernel's own form), fifo or socket.
    pub fn special(&mut self, meta: &Meta, major: u32, minor: u32) -> io::Result<u64> {
        if major > 0xfff || minor > 0xf_ffff {
            return Err(io::Error::other(format!("device number {major}:{minor} is too large")));
        }
        let device = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        let inode = self.inode(meta, 1, 0, device, false)?;
        self.put(&inode)
    }

    /// Corrects the number of names of an inode already written.
    pub fn set_links(&mut self, nid: u64, links: u32) -> io::Result<()> {
        self.flush()?;
        self.write(&links.to_le_bytes(), nid * SLOT + 0x2c)
    }

    /// Finds a directory its place. Its entries' names must be final, their nids need not be.
    pub fn place<'a, E: Iterator<Item = erofs_dir::Entry<'a>>>(
        &mut self,
        directory: Directory<'a, E>,
        is_root: bool,
    ) -> io::Result<Place> {
        let size = erofs_dir::size(directory.entries);
        let tail = (size % BLOCK as u64) as usize;
        let head = INODE + directory.meta.xattrs.len();
        let room = if is_root { BLOCK - ROOT } else { BLOCK };
        let inline = tail > 0 && head + tail <= room;
        let first = self.block(self.next)?;
        self.next += if inline { size / BLOCK as u64 } else { size.div_ceil(BLOCK as u64) };
        let nid = match is_root {
            true if head > room => {
                return Err(io::Error::other("the root directory's attributes are too large"));
            }
            true => ROOT as u64 / SLOT,
            false => self.reserve(if inline { head + tail } else { head })?,
        };
        Ok(Place { nid, first, size, inline })
    }

    /// Writes a directory to its place, after all have one.
    pub fn directory<'a, E: Iterator<Item = erofs_dir::Entry<'a>>>(
        &mut self,
        directory: Directory<'a, E>,
        place: &Place,
    ) -> io::Result<()> {
        self.flush()?;
        let mut inode = self.inode(directory.meta, directory.links, place.size, place.first, place.inline)?;
        let mut at = u64::from(place.first) * BLOCK as u64;
        erofs_dir::encode(directory.entries, |block| {
            if place.inline && block.len() < BLOCK {
                inode.extend_from_slice(block);
                return Ok(());
            }
            // The rest of the last block is a hole or the end of the file.
            self.write(block, at)?;
            at += BLOCK as u64;
            Ok(())
        })?;
        if place.nid * SLOT == ROOT as u64 {
            self.root = inode;
            return Ok(());
        }
        self.write(&inode, place.nid * SLOT)
    }

    /// Writes block 0, without which the file is no file system, and hands the file back.
    pub fn finish(mut self, uuid: [u8; 16]) -> io::Result<File> {
        self.flush()?;
        let blocks = self.block(self.next)?;
        self.settle()?;
        self.file.set_len(self.next * BLOCK as u64)?;
        let mut block = vec![0; SUPER];
        block.extend_from_slice(&MAGIC.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&FEATURES.to_le_bytes());
        block.extend_from_slice(&[BLOCK.trailing_zeros() as u8, 0]);
        block.extend_from_slice(&((ROOT as u64 / SLOT) as u16).to_le_bytes());
        block.extend_from_slice(&u64::from(self.inodes).to_le_bytes());
        // Build time zero: the same layer makes the same bytes whenever it is written.
        block.extend_from_slice(&[0; 12]);
        block.extend_from_slice(&blocks.to_le_bytes());
        block.extend_from_slice(&[0; 8]);
        block.extend_from_slice(&uuid);
        block.resize(ROOT, 0);
        block.extend_from_slice(&self.root);
        block.resize(BLOCK, 0);
        let sum = crc32c(block.get(SUPER..).unwrap_or_default()).to_le_bytes();
        if let Some(field) = block.get_mut(SUPER + 4..SUPER + 8) {
            field.copy_from_slice(&sum);
        }
        self.file.write_all_at(&block, 0)?;
        Ok(self.file)
    }

    /// A block number as the format stores it: 32 bits, 16 TiB.
    fn block(&self, number: u64) -> io::Result<u32> {
        u32::try_from(number).map_err(|_| io::Error::other("the layer is larger than 16 TiB"))
    }

    /// Appends whole blocks; zeros only move the end.
    fn blocks(&mut self, data: &[u8]) -> io::Result<()> {
        if data.chunks(BLOCK).any(|block| Some(block) != ZEROS.get(..block.len())) {
            self.write(data, self.next * BLOCK as u64)?;
        }
        self.next += (data.len() / BLOCK) as u64;
        Ok(())
    }

    /// Writes now or later, in order: a hundred thousand small files are not as many calls.
    fn write(&mut self, data: &[u8], at: u64) -> io::Result<()> {
        let (begin, pending) = &mut self.pending;
        if *begin + pending.len() as u64 != at || pending.len() + data.len() > PIECE {
            self.file.write_all_at(pending, *begin)?;
            pending.clear();
            *begin = at;
        }
        if data.len() >= PIECE {
            return self.file.write_all_at(data, at);
        }
        pending.extend_from_slice(data);
        Ok(())
    }

    /// Everything written so far is in the file.
    fn settle(&mut self) -> io::Result<()> {
        let (begin, pending) = &mut self.pending;
        self.file.write_all_at(pending, *begin)?;
        pending.clear();
        Ok(())
    }

    fn inode(&mut self, meta: &Meta, links: u32, size: u64, union: u32, inline: bool) -> io::Result<Vec<u8>> {
        self.inodes = self.inodes.checked_add(1).ok_or_else(|| io::Error::other("too many files"))?;
        let words = if meta.xattrs.is_empty() { 0 } else { (meta.xattrs.len() - 12) / 4 + 1 };
        let words =
            u16::try_from(words).map_err(|_| io::Error::other("a file's attributes are too large"))?;
        let format: u16 = if inline { 1 | 2 << 1 } else { 1 };
        let mut inode = Vec::with_capacity(INODE + meta.xattrs.len());
        inode.extend_from_slice(&format.to_le_bytes());
        inode.extend_from_slice(&words.to_le_bytes());
        inode.extend_from_slice(&(meta.mode as u16).to_le_bytes());
        inode.extend_from_slice(&[0; 2]);
        inode.extend_from_slice(&size.to_le_bytes());
        for word in [union, self.inodes, meta.uid, meta.gid] {
            inode.extend_from_slice(&word.to_le_bytes());
        }
        inode.extend_from_slice(&meta.mtime.0.to_le_bytes());
        inode.extend_from_slice(&meta.mtime.1.to_le_bytes());
        inode.extend_from_slice(&links.to_le_bytes());
        inode.extend_from_slice(&[0; 16]);
        inode.extend_from_slice(&meta.xattrs);
        Ok(inode)
    }

    /// Puts an inode with what follows it into a block of inodes, or blocks of its own where it is larger.
    fn put(&mut self, inode: &[u8]) -> io::Result<u64> {
        let nid = self.reserve(inode.len())?;
        let at = (nid * SLOT % BLOCK as u64) as usize;
        match &mut self.open {
            Some((number, block)) if nid * SLOT / BLOCK as u64 == *number => {
                block.truncate(at);
                block.resize(at, 0);
                block.extend_from_slice(inode);
            }
            _ => self.write(inode, nid * SLOT)?,
        }
        Ok(nid)
    }

    /// Finds room of `size` bytes that does not cross a block, if it can be so.
    fn reserve(&mut self, size: usize) -> io::Result<u64> {
        if let Some((number, block)) = &mut self.open
            && align(block.len()) + size <= BLOCK
        {
            let at = align(block.len());
            block.resize(at + size, 0);
            return Ok((*number * BLOCK as u64 + at as u64) / SLOT);
        }
        let number = self.next;
        self.next += size.div_ceil(BLOCK) as u64;
        self.block(self.next)?;
        if size <= BLOCK {
            self.flush()?;
            self.open = Some((number, vec![0; size]));
        }
        Ok(number * BLOCK as u64 / SLOT)
    }

    /// Writes out the open block of inodes and closes it.
    fn flush(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((number, block)) => self.write(&block, number * BLOCK as u64),
            None => Ok(()),
        }
    }
}

fn align(size: usize) -> usize {
    size.next_multiple_of(SLOT as usize)
}

/// CRC-32C as EROFS takes it: started with ones, not inverted at the end. One block a layer: bit by bit will do.
fn crc32c(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_in_parts_is_the_same_content() {
        let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8 + 1).collect();
        let tables: [&[(u64, u64)]; 6] = [
            &[(0, 200_000)],
            &[(1, 3), (4092, 4096), (0, 7), (65_536, 0)],
            &[(100_000, 1), (5000, 65_535), (1, 65_536), (0, 2)],
            &[(0, 65_536), (3, 4), (0, 65_529), (4096, 1)],
            &[(0, 65_536), (10, 0), (0, 5)],
            &[(10_000, 0)],
        ];
        for parts in tables {
            let (mut expected, mut rest) = (Vec::new(), &data[..]);
            for &(zeros, length) in parts {
                expected.resize(expected.len() + zeros as usize, 0);
                let (now, after) = rest.split_at(length as usize);
                expected.extend_from_slice(now);
                rest = after;
            }
            let file = std::env::temp_dir().join(format!("podinit-parts-{}", std::process::id()));
            let open =
                File::options().read(true).write(true).create(true).truncate(true).open(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            let mut writer = Writer::new(open);
            let content = writer.content(parts.iter().copied(), &mut &data[..]).unwrap();
            writer.settle().unwrap();
            writer.file.set_len(writer.next * BLOCK as u64).unwrap();
            let mut found = vec![0; expected.len() - content.tail.len()];
            writer.file.read_exact_at(&mut found, u64::from(content.first) * BLOCK as u64).unwrap();
            found.extend_from_slice(&content.tail);
            assert_eq!(content.size as usize, expected.len(), "{parts:?}");
            assert!(found == expected, "{parts:?}");
        }
        assert!(Writer::new(File::open("/dev/null").unwrap()).content([(0, 9)], &mut &data[..5]).is_err());
    }

    #[test]
    fn the_checksum_is_crc32c_without_its_last_inversion() {
        // RFC 3720 appendix B.4 gives E3069283 for this text, inverted.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }
}
