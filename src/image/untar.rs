//! A layer file back to a tar: the other way round of `layer`, whiteouts and opaque directories included.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::erofs_read::{Inode, Reader};
use super::erofs_xattr::{IMPLIED, ITSELF, OPAQUE};

/// Seven octal digits: what a header's field of 8 bytes holds.
const SMALL: u64 = 0o7_777_777;
/// Eleven octal digits.
const LARGE: u64 = 0o77_777_777_777;
const SHORT: usize = 100;

/// Writes the layer's files, parents first and names in order, and the end of the archive.
pub fn layer(file: File, out: &mut dyn Write) -> io::Result<()> {
    let reader = Reader::open(file)?;
    let mut known = HashMap::new();
    let mut todo = vec![(b"./".to_vec(), reader.root)];
    while let Some((path, nid)) = todo.pop() {
        let inode = reader.inode(nid)?;
        if inode.mode & libc::S_IFMT != libc::S_IFDIR {
            file_of(&reader, &inode, nid, path, &mut known, out)?;
            continue;
        }
        let mut inode = inode;
        let opaque = inode.xattrs.remove(OPAQUE.to_bytes()).is_some();
        let implied = inode.xattrs.remove(IMPLIED.to_bytes()).is_some_and(|mark| mark == ITSELF);
        if !implied {
            record(&path, b'5', &inode).write(out)?;
        }
        let base = if path == b"./" { &[][..] } else { &path };
        if opaque {
            whiteout(&[base, b".wh..wh..opq"].concat(), out)?;
        }
        for (name, nid) in reader.entries(&inode)?.into_iter().rev() {
            let child = reader.inode(nid)?;
            let end: &[u8] = if child.mode & libc::S_IFMT == libc::S_IFDIR { b"/" } else { b"" };
            todo.push(([base, &name, end].concat(), nid));
        }
    }
    out.write_all(&[0; 1024])
}

/// All that is no directory.
fn file_of(
    reader: &Reader,
    inode: &Inode,
    nid: u64,
    path: Vec<u8>,
    known: &mut HashMap<u64, Vec<u8>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let kind = inode.mode & libc::S_IFMT;
    if kind == libc::S_IFCHR && inode.device == (0, 0) {
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (dir, name) = path.split_at(cut);
        return whiteout(&[dir, b".wh.", name].concat(), out);
    }
    if inode.links > 1 {
        if let Some(first) = known.get(&nid) {
            return Record { link: first, ..record(&path, b'1', inode) }.write(out);
        }
        known.insert(nid, path.clone());
    }
    match kind {
        libc::S_IFREG => {
            Record { size: inode.size, ..record(&path, b'0', inode) }.write(out)?;
            let copied = io::copy(&mut reader.content(inode), out)?;
            pad(out, copied)
        }
        libc::S_IFLNK => {
            let mut target = Vec::new();
            reader.content(inode).take(1 << 16).read_to_end(&mut target)?;
            Record { link: &target, ..record(&path, b'2', inode) }.write(out)
        }
        libc::S_IFCHR => record(&path, b'3', inode).write(out),
        libc::S_IFBLK => record(&path, b'4', inode).write(out),
        libc::S_IFIFO => record(&path, b'6', inode).write(out),
        kind => Err(io::Error::other(format!("a file of type {kind:o}, which no tar holds"))),
    }
}

fn record<'a>(path: &'a [u8], kind: u8, inode: &Inode) -> Record<'a> {
    // A link's attributes are those of the file that it names.
    let xattrs = if kind == b'1' { Vec::new() } else { inode.xattrs.clone().into_iter().collect() };
    Record {
        path,
        kind,
        mode: inode.mode & 0o7777,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        // Of all else the same field is where the content lies.
        device: if matches!(kind, b'3' | b'4') { inode.device } else { (0, 0) },
        xattrs,
        ..Record::default()
    }
}

/// The mark of a file that lower layers have and this one hides.
fn whiteout(path: &[u8], out: &mut dyn Write) -> io::Result<()> {
    Record { path, kind: b'0', mode: 0o600, ..Record::default() }.write(out)
}

/// One entry's header, with a PAX header before it where the plain one cannot hold it all.
#[derive(Default)]
pub struct Record<'a> {
    pub path: &'a [u8],
    /// The type as a tar has it.
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    pub link: &'a [u8],
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Record<'_> {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let pax = self.pax();
        if !pax.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            name(&mut header, b"PaxHeaders/entry");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(pax.len() as u64);
            header.set_cksum();
            out.write_all(header.as_bytes())?;
            out.write_all(&pax)?;
            pad(out, pax.len() as u64)?;
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(self.kind));
        name(&mut header, self.path);
        header.set_mode(self.mode);
        header.set_uid(u64::from(self.uid).min(SMALL));
        header.set_gid(u64::from(self.gid).min(SMALL));
        header.set_mtime(u64::try_from(self.mtime.0).unwrap_or(0).min(LARGE));
        header.set_size(self.size.min(LARGE));
        let link = self.link.get(..self.link.len().min(SHORT)).unwrap_or_default();
        if let Some(field) = header.as_old_mut().linkname.get_mut(..link.len()) {
            field.copy_from_slice(link);
        }
        header.set_device_major(self.device.0)?;
        header.set_device_minor(self.device.1)?;
        header.set_cksum();
        out.write_all(header.as_bytes())
    }

    fn pax(&self) -> Vec<u8> {
        let mut pax = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            pax.extend_from_slice(format!("{length} ").as_bytes());
            pax.extend_from_slice(&[key, b"=", value, b"\n"].concat());
        };
        if self.path.len() > SHORT {
            add(b"path", self.path);
        }
        if self.link.len() > SHORT {
            add(b"linkpath", self.link);
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if u64::from(id) > SMALL {
                add(key.as_bytes(), id.to_string().as_bytes());
            }
        }
        if self.size > LARGE {
            add(b"size", self.size.to_string().as_bytes());
        }
        let (seconds, nanos) = self.mtime;
        if nanos > 0 || !(0..=LARGE as i64).contains(&seconds) {
            add(b"mtime", decimal(seconds, nanos).as_bytes());
        }
        for (key, value) in &self.xattrs {
            add(&[b"SCHILY.xattr.", &key[..]].concat(), value);
        }
        pax
    }
}

/// As PAX has times: before the epoch the whole number is negative, its fraction too.
fn decimal(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanos) if seconds < 0 => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}

fn name(header: &mut Header, path: &[u8]) {
    let path = path.get(..path.len().min(SHORT)).unwrap_or_default();
    if let Some(field) = header.as_old_mut().name.get_mut(..path.len()) {
        field.copy_from_slice(path);
    }
}

/// Zeros up to the next block of the tar.
pub fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let zeros = [0; 512];
    let short = (size % 512) as usize;
    out.write_all(zeros.get(short..).filter(|_| short > 0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tarball::{Kind, Tarball};

    #[test]
    fn what_no_plain_header_holds_is_read_back() {
        let long = [b'n'; 300];
        let table = [
            Record { path: b"plain", kind: b'0', mode: 0o644, mtime: (7, 0), ..Record::default() },
            Record { path: &long, kind: b'2', link: &long, ..Record::default() },
            Record { path: b"ids", kind: b'0', uid: u32::MAX - 1, gid: 1 << 30, ..Record::default() },
            Record { path: b"old", kind: b'0', mtime: (-2, 500_000_000), ..Record::default() },
            Record { path: b"far", kind: b'0', mtime: (1 << 40, 1), ..Record::default() },
            Record {
                path: b"\xff\xfe",
                kind: b'0',
                xattrs: vec![(b"user.a".into(), b"=\n\0".into())],
                ..Record::default()
            },
            Record { path: b"dev", kind: b'4', device: (259, 70_000), ..Record::default() },
        ];
        let mut bytes = Vec::new();
        table.iter().for_each(|record| record.write(&mut bytes).unwrap());
        bytes.extend_from_slice(&[0; 1024]);
        let mut tar = Tarball::new(&bytes[..]);
        for record in table {
            let entry = tar.next().unwrap().unwrap();
            assert_eq!(entry.path, record.path);
            assert_eq!((entry.mode, entry.uid, entry.gid), (record.mode, record.uid, record.gid));
            assert_eq!(entry.mtime, record.mtime);
            assert_eq!(entry.xattrs.into_iter().collect::<Vec<_>>(), record.xattrs);
            match entry.kind {
                Kind::Symlink(target) => assert_eq!(target, record.link),
                Kind::Block(major, minor) => assert_eq!((major, minor), record.device),
                kind => assert_eq!(kind, Kind::File),
            }
        }
        assert!(tar.next().unwrap().is_none());
    }
}
