//! Reading tar: old, ustar, GNU and PAX, one entry at a time, with bounded memory.
//!
//! The `tar` crate reads the header block; the framing is ours, because the crate keeps a long name whole in memory
//! however long it is, and its raw mode cannot follow a PAX size.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::Header;

use super::pax::{Pax, SparseMap};

/// Long names and PAX headers above this are refused.
const HEADER_LIMIT: u64 = 1 << 20;
/// A sparse file is written out whole (its holes stay holes on the disk); above this, all of a layer's together are
/// refused.
const SPARSE_LIMIT: u64 = 16 << 30;
const BLOCK: usize = 512;

/// One file of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As in the archive: may be absolute, start with `./`, end with `/`.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-id and sticky, without the type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of the file as it shall be; the stored data is shorter where `sparse` is set.
    pub size: u64,
    /// Where the stored data goes: offset and length, in order.
    pub sparse: Option<Vec<(u64, u64)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File,
    Dir,
    Symlink(Vec<u8>),
    /// The path of the file that this is another name of.
    Link(Vec<u8>),
    /// Major and minor number.
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// The entries of a tar stream. Reading from it reads the present entry's stored data.
pub struct Tarball<R> {
    source: R,
    /// Stored data of the present entry not read yet, and the padding after it.
    left: u64,
    padding: usize,
    /// Bytes consumed so far.
    position: u64,
    /// Bytes of all sparse files so far.
    sparse: u64,
}

impl<R: Read> Tarball<R> {
    pub fn new(source: R) -> Self {
        Tarball { source, left: 0, padding: 0, position: 0, sparse: 0 }
    }

    /// The next entry; None at the end of the archive.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        self.next_with(|source, n| {
            let skipped = io::copy(&mut source.take(n), &mut io::sink())?;
            if skipped == n { Ok(()) } else { Err(cut_short()) }
        })
    }

    /// As `next`, passing over unread data by `skip`: a file can seek.
    pub fn next_with(&mut self, skip: impl Fn(&mut R, u64) -> io::Result<()>) -> io::Result<Option<Entry>> {
        let mut pax = Pax::default();
        let mut long_path = None;
        let mut long_link = None;
        loop {
            if self.left > 0 {
                skip(&mut self.source, self.left)?;
                // A header may tell any size; the stream's end is found by the next read.
                self.position = self.position.saturating_add(self.left);
                self.left = 0;
            }
            // Some writers (umoci 0.4) forget to close their archive: the last padding is missing.
            let mut padding = [0; BLOCK];
            let padding = padding.get_mut(..self.padding).unwrap_or_default();
            if !self.fill(padding)? {
                return Ok(None);
            }
            self.padding = 0;
            let Some(block) = self.header()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            let kind = header.entry_type().as_byte();
            let size = if matches!(kind, b'x' | b'g' | b'L' | b'K') { None } else { pax.size };
            self.set_left(size.map_or_else(|| header.entry_size(), Ok)?);
            match kind {
                b'L' => long_path = Some(self.name()?),
                b'K' => long_link = Some(self.name()?),
                b'x' => pax = Pax::parse(&self.small()?)?,
                // Global headers carry comments (git) or nothing that a layer may rely on, as every OCI tool has it.
                b'g' => {}
                _ => return self.entry(header, pax, long_path, long_link).map(Some),
            }
        }
    }

    /// Where the present entry's unread data starts in the stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn set_left(&mut self, size: u64) {
        self.left = size;
        self.padding = (size.wrapping_neg() % BLOCK as u64) as usize;
    }

    /// The next header block; None at the end: a block of zeros, or the stream's end between entries.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let stored = Header::from_byte_slice(&block).cksum()?;
        if !checksums(&block).contains(&i64::from(stored)) {
            return Err(bad(format!("not a tar header at byte {}", self.position - BLOCK as u64)));
        }
        Ok(Some(block))
    }

    /// Fills the buffer; false where the stream ends right before it.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut got = 0;
        while let Some(space) = buffer.get_mut(got..).filter(|space| !space.is_empty()) {
            match self.source.read(space) {
                Ok(0) if got == 0 => return Ok(false),
                Ok(0) => return Err(cut_short()),
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += got as u64;
        Ok(true)
    }

    /// The whole data of a header entry.
    fn small(&mut self) -> io::Result<Vec<u8>> {
        if self.left > HEADER_LIMIT {
            return Err(bad(format!("a header of {} bytes, more than {HEADER_LIMIT}", self.left)));
        }
        let mut data = vec![0; self.left as usize];
        self.read_exact(&mut data)?;
        Ok(data)
    }

    fn name(&mut self) -> io::Result<Vec<u8>> {
        let mut name = self.small()?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn entry(
        &mut self,
        header: &Header,
        mut pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Entry> {
        let path = pax.path.take().or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax
            .link
            .take()
            .or(long_link)
            .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let device = || -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let kind = match header.entry_type().as_byte() {
            // Before ustar there was no type for a directory.
            b'0' | 0 if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Link(link),
            b'2' => Kind::Symlink(link),
            b'3' => device().map(|(major, minor)| Kind::Char(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(bad(format!("{path}: tar entry type {:?} is not known", char::from(other))));
            }
        };
        // A hard link's size tells of its target; some writers store it though no data follows.
        if matches!(kind, Kind::Link(_) | Kind::Symlink(_)) && pax.size.is_none() {
            self.set_left(0);
        }
        let number = |pax: Option<u64>, plain: io::Result<u64>, what: &str| {
            let number = pax.map_or(plain, Ok)?;
            u32::try_from(number).map_err(|_| bad(format!("{what} {number} does not fit in 32 bits")))
        };
        let mut entry = Entry {
            kind,
            mode: header.mode()? & 0o7777,
            uid: number(pax.uid, header.uid(), "uid")?,
            gid: number(pax.gid, header.gid(), "gid")?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                // Base-256 numbers are signed: the crate hands out the two's complement.
                None => (header.mtime()? as i64, 0),
            },
            xattrs: std::mem::take(&mut pax.xattrs),
            size: self.left,
            sparse: None,
            path,
        };
        if header.entry_type().is_gnu_sparse() {
            self.gnu_sparse(header, &mut entry)?;
        } else if pax.is_sparse() {
            self.pax_sparse(&pax, &mut entry)?;
        }
        Ok(entry)
    }

    /// The old GNU form: four pieces in the header, 21 in each block that follows.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> io::Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| bad("a sparse entry without a GNU header"))?;
        let mut map = Vec::new();
        let mut take = |pieces: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                map.push((piece.offset()?, piece.length()?));
            }
            if map.len() as u64 * 24 > HEADER_LIMIT {
                Err(bad("too many pieces in a sparse file"))
            } else {
                Ok(())
            }
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = tar::GnuExtSparseHeader::new();
            self.source.read_exact(extension.as_mut_bytes())?;
            self.position += BLOCK as u64;
            take(extension.sparse())?;
            more = extension.is_extended();
        }
        self.sparse(entry, map, Some(gnu.real_size()?))
    }

    /// The PAX forms 0.0, 0.1 (map in the header) and 1.0 (map in front of the data).
    fn pax_sparse(&mut self, pax: &Pax, entry: &mut Entry) -> io::Result<()> {
        if let Some(name) = &pax.sparse_name {
            entry.path = name.clone();
        }
        let map = if pax.sparse_in_data() {
            let mut map = SparseMap::default();
            for _ in 0..HEADER_LIMIT / BLOCK as u64 {
                let mut block = [0; BLOCK];
                self.read_exact(&mut block)?;
                if map.take(&block)? {
                    return self.sparse(entry, map.pairs(), pax.sparse_size);
                }
            }
            return Err(bad("too many pieces in a sparse file"));
        } else {
            pax.sparse_map.clone()
        };
        self.sparse(entry, map, pax.sparse_size)
    }

    fn sparse(&mut self, entry: &mut Entry, map: Vec<(u64, u64)>, size: Option<u64>) -> io::Result<()> {
        let size = size.ok_or_else(|| bad("a sparse file without its size"))?;
        set_sparse(entry, map, size, self.left)?;
        // A header makes gigabytes of zeros: each file within its bound, a thousand of them are a day's work.
        self.sparse += size;
        if self.sparse > SPARSE_LIMIT {
            return Err(bad(format!("sparse files of more than {SPARSE_LIMIT} bytes in one layer")));
        }
        Ok(())
    }
}

impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.source.read(buffer.get_mut(..most).unwrap_or_default())?;
        if n == 0 && most > 0 {
            return Err(cut_short());
        }
        self.left -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

/// Checks the map: in order, without overlap, inside the file, and of the length of the stored data.
fn set_sparse(entry: &mut Entry, map: Vec<(u64, u64)>, size: u64, stored: u64) -> io::Result<()> {
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    if size > SPARSE_LIMIT {
        return Err(bad(format!("{path}: a sparse file of {size} bytes, more than {SPARSE_LIMIT}")));
    }
    let (mut end, mut data) = (0, 0);
    for &(offset, length) in &map {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
        end = next.ok_or_else(|| bad(format!("{path}: the map of the sparse file is out of order")))?;
        data += length;
    }
    if data != stored {
        return Err(bad(format!("{path}: a sparse file's map tells {data} bytes, {stored} are stored")));
    }
    entry.size = size;
    entry.sparse = Some(map);
    Ok(())
}

/// The sum of the header's bytes with its checksum field blank, unsigned as the standard has it and signed as some
/// old writers did.
fn checksums(block: &[u8; BLOCK]) -> [i64; 2] {
    let mut sums = [0, 0];
    for (at, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        sums = [sums[0] + i64::from(byte), sums[1] + i64::from(byte as i8)];
    }
    sums
}

pub fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tar stream ends inside an entry")
}
