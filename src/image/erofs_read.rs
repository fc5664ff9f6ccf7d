//! EROFS files read back without a mount: those that `erofs` writes (uncompressed, extended inodes, inline attributes).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::erofs::{BLOCK, INODE, MAGIC, SLOT, SUPER};
use super::erofs_xattr;

/// A directory above this is damage: it would hold millions of names.
const DIRECTORY_LIMIT: u64 = 256 << 20;
const ENTRY: usize = 12;
/// Of `i_format`: how the content lies.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;

/// A file system in a file.
pub struct Reader {
    file: File,
    pub root: u64,
}

/// What an inode says, and where its content lies.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub links: u32,
    pub size: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a device: major and minor number.
    pub device: (u32, u32),
    /// Offset and length, in order.
    pieces: [(u64, u64); 2],
}

impl Reader {
    pub fn open(file: File) -> io::Result<Self> {
        let head = read(&file, SUPER as u64, 16)?;
        if u32_at(&head, 0) != MAGIC || head.get(12).copied() != Some(BLOCK.trailing_zeros() as u8) {
            return Err(bad("no EROFS file system of 4 KiB blocks"));
        }
        Ok(Reader { root: u64::from(u16_at(&head, 14)), file })
    }

    pub fn inode(&self, nid: u64) -> io::Result<Inode> {
        let at = nid.checked_mul(SLOT).ok_or_else(|| bad("an inode beyond the end"))?;
        let head = read(&self.file, at, INODE)?;
        let (format, words) = (u16_at(&head, 0), usize::from(u16_at(&head, 2)));
        if format & 1 == 0 {
            return Err(bad("an inode of the short form"));
        }
        let (mode, size, place) = (u32::from(u16_at(&head, 4)), u64_at(&head, 8), u32_at(&head, 16));
        let attributes = if words == 0 { 0 } else { 12 + 4 * (words - 1) };
        let xattrs = erofs_xattr::decode(&read(&self.file, at + INODE as u64, attributes)?)?;
        let kind = mode & libc::S_IFMT;
        let first = u64::from(place) * BLOCK as u64;
        let after = at + (INODE + attributes) as u64;
        let pieces = match format >> 1 & 7 {
            _ if [libc::S_IFCHR, libc::S_IFBLK].contains(&kind) => [(0, 0); 2],
            PLAIN => [(first, size), (0, 0)],
            INLINE => {
                let tail = size % BLOCK as u64;
                [(first, size - tail), (after, tail)]
            }
            _ => return Err(bad("content in a form that podinit does not write")),
        };
        Ok(Inode {
            mode,
            uid: u32_at(&head, 24),
            gid: u32_at(&head, 28),
            mtime: (u64_at(&head, 32) as i64, u32_at(&head, 40)),
            links: u32_at(&head, 44),
            size,
            xattrs,
            device: (place >> 8 & 0xfff, place & 0xff | place >> 12 & 0xf_ff00),
            pieces,
        })
    }

    /// The names in a directory with their inodes, without `.` and `..`, in order.
    pub fn entries(&self, inode: &Inode) -> io::Result<Vec<(Vec<u8>, u64)>> {
        if inode.size > DIRECTORY_LIMIT {
            return Err(bad("a directory that is too large"));
        }
        let mut data = Vec::new();
        self.content(inode).read_to_end(&mut data)?;
        let mut entries = Vec::new();
        for block in data.chunks(BLOCK) {
            let count = usize::from(u16_at(block, 8)) / ENTRY;
            for number in 0..count {
                let at = number * ENTRY;
                let start = usize::from(u16_at(block, at + 8));
                let end = if number + 1 < count { u16_at(block, at + ENTRY + 8).into() } else { block.len() };
                let name = block.get(start..end).ok_or_else(|| bad("a directory whose names overlap"))?;
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                if name.is_empty() || name.contains(&b'/') {
                    return Err(bad("a directory with a name that cannot be"));
                }
                if name != b"." && name != b".." {
                    entries.push((name.to_vec(), u64_at(block, at)));
                }
            }
        }
        Ok(entries)
    }

    /// A file's content, or a link's target.
    pub fn content(&self, inode: &Inode) -> Content<'_> {
        Content { file: &self.file, pieces: inode.pieces }
    }
}

pub struct Content<'a> {
    file: &'a File,
    pieces: [(u64, u64); 2],
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((offset, left)) = self.pieces.iter_mut().find(|(_, left)| *left > 0) else { return Ok(0) };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), *offset)?;
        if n == 0 && most > 0 {
            return Err(bad("content beyond the end"));
        }
        *offset += n as u64;
        *left -= n as u64;
        Ok(n)
    }
}

fn read(file: &File, at: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Numbers beyond the end are 0.
fn bytes_at<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    data.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(data, at))
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(data, at))
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(data, at))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged layer: {why}"))
}
