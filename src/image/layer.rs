//! A layer's tar stream to one EROFS file, read once and written once.
//!
//! Source: OCI image specification, "Image Layer Filesystem Changeset". Whiteouts become what overlay understands:
//! a character device 0:0 under the name, or the attribute trusted.overlay.opaque on the directory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Bound;

use super::erofs::{Directory, Meta, Writer};
use super::erofs_dir::Entry as Name;
use super::erofs_xattr;
use super::tarball::{Entry, Kind, Tarball, bad};
use super::tree::{Dir, Node, ROOT, Tree};

const LINK_TARGET_LIMIT: usize = 4095;
/// What is read at once: decompression and digests cost by the call.
const CHUNK: usize = 64 << 10;
/// Types of directory entries.
const FILE: u8 = 1;
const DIR: u8 = 2;
const CHAR: u8 = 3;
const BLOCK: u8 = 4;
const FIFO: u8 = 5;
const SYMLINK: u8 = 7;

/// Writes the layer that `tar` (uncompressed) describes into an empty file, and hands the file back. `uuid` becomes
/// the file system's. Of what follows the archive's end in the stream some may be read. An error names the path at fault.
pub fn convert(tar: impl Read, file: File, uuid: [u8; 16]) -> io::Result<File> {
    let mut tar = Tarball::new(BufReader::with_capacity(CHUNK, tar));
    let mut layer = Layer { tree: Tree::new(), writer: Writer::new(file), whiteout: None };
    while let Some(entry) = tar.next()? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        layer
            .add(entry, &mut tar)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    layer.finish(uuid)
}

struct Layer {
    tree: Tree,
    writer: Writer,
    /// One inode serves all whiteouts.
    whiteout: Option<u64>,
}

impl Layer {
    fn add<R: Read>(&mut self, entry: Entry, tar: &mut Tarball<R>) -> io::Result<()> {
        // What aufs keeps for itself: directories of such names, which lie in old images.
        if entry.path.rsplit(|&byte| byte == b'/').skip(1).any(|part| part.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        let (parent, name) = self.tree.parent(&entry.path).map_err(bad)?;
        let Some(name) = name else {
            return match entry.kind {
                Kind::Dir => self.dir(ROOT, &entry),
                _ => Err(bad("the root is not a directory")),
            };
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.hide(parent, hidden);
        }
        let node = match &entry.kind {
            Kind::Dir => {
                let dir = self.tree.make_dir(parent, name).map_err(bad)?;
                return self.dir(dir, &entry);
            }
            Kind::Link(target) => self.link(target, parent, name)?,
            // To overlay this is nothing else, as it is to every program that mounts layers so.
            Kind::Char(0, 0) => return self.tree.whiteout(parent, name).map_err(bad),
            kind => {
                let node = self.write(kind, &entry, tar)?;
                Some(self.tree.add(node).map_err(bad)?)
            }
        };
        if let Some(node) = node {
            self.tree.set(parent, name, node).map_err(bad)?;
        }
        Ok(())
    }

    /// A directory described, maybe once more: the last description holds, the entries stay.
    fn dir(&mut self, node: usize, entry: &Entry) -> io::Result<()> {
        self.tree.describe(node, meta(entry, libc::S_IFDIR)?).map_err(bad)
    }

    fn hide(&mut self, parent: usize, hidden: &[u8]) -> io::Result<()> {
        match hidden {
            b".wh..opq" => {
                if let Some(dir) = self.tree.dir_mut(parent) {
                    dir.opaque = true;
                }
                Ok(())
            }
            // Bookkeeping of aufs, which made this format.
            hidden if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => Err(bad("a whiteout of nothing")),
            hidden => self.tree.whiteout(parent, hidden).map_err(bad),
        }
    }

    /// Another name of a file; None where it names itself.
    fn link(&mut self, target: &[u8], parent: usize, name: &[u8]) -> io::Result<Option<usize>> {
        let shown = String::from_utf8_lossy(target).into_owned();
        let node = self.tree.find(target).map_err(bad)?;
        if node.is_some() && node == self.tree.child(parent, name) {
            return Ok(None);
        }
        match node.and_then(|node| self.tree.nodes.get_mut(node)) {
            Some(Node::File { links, .. }) => *links += 1,
            Some(Node::Dir(_)) => return Err(bad(format!("a hard link to the directory {shown}"))),
            Some(Node::Whiteout) | None => {
                return Err(bad(format!("a hard link to {shown}, which this layer does not hold")));
            }
        }
        Ok(node)
    }

    fn write<R: Read>(&mut self, kind: &Kind, entry: &Entry, tar: &mut Tarball<R>) -> io::Result<Node> {
        let node = |nid, kind, target| Node::File { nid, links: 1, kind, target };
        let special =
            |writer: &mut Writer, mode, major, minor| writer.special(&meta(entry, mode)?, major, minor);
        let writer = &mut self.writer;
        Ok(match kind {
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > LINK_TARGET_LIMIT {
                    return Err(bad(format!("a symbolic link of {} bytes", target.len())));
                }
                let content = writer.content([(0, target.len() as u64)], &mut &target[..])?;
                let nid = writer.file(&meta(entry, libc::S_IFLNK)?, content)?;
                node(nid, SYMLINK, Some(target.as_slice().into()))
            }
            Kind::Char(major, minor) => node(special(writer, libc::S_IFCHR, *major, *minor)?, CHAR, None),
            Kind::Block(major, minor) => node(special(writer, libc::S_IFBLK, *major, *minor)?, BLOCK, None),
            Kind::Fifo => node(special(writer, libc::S_IFIFO, 0, 0)?, FIFO, None),
            Kind::File | Kind::Dir | Kind::Link(_) => {
                let content = match &entry.sparse {
                    Some(map) => writer.content(parts(map, entry.size), tar)?,
                    None => writer.content([(0, entry.size)], tar)?,
                };
                node(writer.file(&meta(entry, libc::S_IFREG)?, content)?, FILE, None)
            }
        })
    }

    /// Corrects link counts, then writes the directories: first a place for each, then what lies in them.
    fn finish(mut self, uuid: [u8; 16]) -> io::Result<File> {
        for node in &self.tree.nodes {
            if let Node::File { nid, links, .. } = node
                && *links > 1
            {
                self.writer.set_links(*nid, *links)?;
            }
        }
        let dirs = self.family()?;
        let mut kept = Vec::with_capacity(dirs.len());
        for &(node, parent) in &dirs {
            let directory = directory(&self.tree, self.whiteout, (node, parent))?;
            let place = self.writer.place(directory, node == ROOT)?;
            if let Some(dir) = self.tree.dir_mut(node) {
                dir.nid = place.nid;
            }
            kept.push(place);
        }
        for (&(node, parent), place) in dirs.iter().zip(&kept) {
            let directory = directory(&self.tree, self.whiteout, (node, parent))?;
            self.writer.directory(directory, place)?;
        }
        self.writer.finish(uuid)
    }

    /// All directories that still hang on the root, each with its parent, parents first; names in order, so that the
    /// same tar makes the same file. Whiteouts get their inode here, and directories their marks.
    fn family(&mut self) -> io::Result<Vec<(usize, usize)>> {
        let mut dirs = vec![(ROOT, ROOT)];
        let mut at = 0;
        while let Some(&(node, parent)) = dirs.get(at) {
            at += 1;
            let above = self.tree.dir(parent).is_some_and(|dir| dir.alone);
            let Some(dir) = self.tree.dir_mut(node) else { continue };
            dir.alone = above || dir.opaque;
            dir.own |= above;
            if dir.alone {
                self.tree.drop_whiteouts(node);
            }
            let Some(dir) = self.tree.dir(node) else { continue };
            for child in dir.children.values().map(|&child| child as usize) {
                match self.tree.nodes.get(child) {
                    Some(Node::Dir(_)) => dirs.push((child, node)),
                    Some(Node::Whiteout) if self.whiteout.is_none() => {
                        let meta = Meta { mode: libc::S_IFCHR, ..Meta::default() };
                        self.whiteout = Some(self.writer.special(&meta, 0, 0)?);
                    }
                    _ => {}
                }
            }
            if let Some(Dir { meta, opaque: true, .. }) = self.tree.dir_mut(node) {
                erofs_xattr::add_opaque(&mut meta.xattrs)?;
            }
        }
        for &(node, parent) in dirs.iter().rev() {
            let Some(dir) = self.tree.dir_mut(node) else { continue };
            if !dir.own || dir.marked {
                erofs_xattr::add_implied(&mut dir.meta.xattrs, !dir.own)?;
                if let Some(parent) = self.tree.dir_mut(parent) {
                    parent.marked = true;
                }
            }
        }
        Ok(dirs)
    }
}

/// A directory with its entries in order; numbers of directories without a place yet are 0.
fn directory<'a>(
    tree: &'a Tree,
    whiteout: Option<u64>,
    (node, parent): (usize, usize),
) -> io::Result<Directory<'a, impl Iterator<Item = Name<'a>>>> {
    let dir = tree.dir(node).ok_or_else(|| bad("a directory was lost"))?;
    let place = |node: usize| tree.dir(node).map_or(0, |dir| dir.nid);
    let entry = move |name: &'a [u8], child: u32| {
        let (nid, kind) = match tree.nodes.get(child as usize) {
            Some(Node::Dir(dir)) => (dir.nid, DIR),
            Some(Node::File { nid, kind, .. }) => (*nid, *kind),
            Some(Node::Whiteout) | None => (whiteout.unwrap_or(0), CHAR),
        };
        Name { name, nid, kind }
    };
    let (one, two): (&[u8], &[u8]) = (b".", b"..");
    let range =
        |from, to| dir.children.range::<[u8], _>((from, to)).map(move |(name, &child)| entry(name, child));
    let entries = range(Bound::Unbounded, Bound::Excluded(one))
        .chain([Name { name: one, nid: place(node), kind: DIR }])
        .chain(range(Bound::Excluded(one), Bound::Excluded(two)))
        .chain([Name { name: two, nid: place(parent), kind: DIR }])
        .chain(range(Bound::Excluded(two), Bound::Unbounded));
    let is_dir = |child: &&u32| tree.dir(**child as usize).is_some();
    let links = 2 + dir.children.values().filter(is_dir).count() as u32;
    Ok(Directory { meta: &dir.meta, links, entries })
}

fn meta(entry: &Entry, kind: u32) -> io::Result<Meta> {
    Ok(Meta {
        mode: kind | entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: erofs_xattr::encode(&entry.xattrs)?,
    })
}

/// The content of a sparse file: bytes of zeros, then bytes that are stored, and so on to its end. The map is in order.
fn parts(map: &[(u64, u64)], size: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut end = 0;
    map.iter().copied().chain([(size, 0)]).map(move |(offset, length)| {
        let zeros = offset.saturating_sub(end);
        end = offset + length;
        (zeros, length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_link_name_literal(link).unwrap();
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }

    type Row<'a> = (EntryType, &'a str, &'a str);

    fn convert_all(entries: &[Row]) -> io::Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (kind, path, link) in entries {
            let data: &[u8] = if kind.is_file() { b"data" } else { b"" };
            entry(&mut tar, *kind, path, link, data);
        }
        let file = convert(&tar.into_inner().unwrap()[..], scratch(), [0; 16])?;
        let mut image = Vec::new();
        io::Seek::rewind(&mut &file)?;
        (&file).read_to_end(&mut image)?;
        Ok(image)
    }

    /// An unnamed file.
    fn scratch() -> File {
        use std::os::unix::fs::OpenOptionsExt;
        File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(std::env::temp_dir())
            .unwrap()
    }

    #[test]
    fn what_no_layer_may_hold_is_refused_by_name() {
        use EntryType as T;
        let table: [(&[Row], &str); 9] = [
            (&[(T::Regular, "../x", "")], "../x: a path with .. is refused"),
            (&[(T::Regular, "a/.wh.b/c", "")], "a/.wh.b/c: \".wh.b\" on the way is a whiteout's name"),
            (
                &[(T::Symlink, "s", ".wh.b"), (T::Regular, "s/c", "")],
                "s/c: \".wh.b\" on the way is a whiteout's name",
            ),
            (&[(T::Link, "a", "nowhere")], "a: a hard link to nowhere, which this layer does not hold"),
            (&[(T::Directory, "d", ""), (T::Link, "a", "d")], "a: a hard link to the directory d"),
            (&[(T::Regular, "f", ""), (T::Regular, "f/x", "")], "f/x: \"f\" on the way is not a directory"),
            (&[(T::Regular, "d/.wh.", "")], "d/.wh.: a whiteout of nothing"),
            (&[(T::Symlink, "s", "")], "s: a symbolic link of 0 bytes"),
            (&[(T::Regular, ".", "")], ".: the root is not a directory"),
        ];
        for (entries, expected) in table {
            assert_eq!(convert_all(entries).unwrap_err().to_string(), expected);
        }
        assert!(convert(&[7; 512][..], scratch(), [0; 16]).is_err());
    }

    #[test]
    fn the_same_tar_makes_the_same_bytes() {
        use EntryType as T;
        let entries = [
            (T::Regular, "/etc/file", ""),
            (T::Link, "etc/again", "./etc/file"),
            (T::Link, "etc/again", "etc/again"),
            (T::Regular, "etc/.wh.gone", ""),
            (T::Regular, "etc/.wh..wh..opq", ""),
            (T::Regular, ".wh..wh.plnk/12.34", ""),
            (T::Fifo, "fifo", ""),
            (T::Directory, "fifo", ""),
        ];
        let once = convert_all(&entries).unwrap();
        assert_eq!(once.len() % 4096, 0);
        assert_eq!(once, convert_all(&entries).unwrap());
    }

    #[test]
    fn an_endless_name_takes_no_memory() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'a'));
        let error = convert(endless, scratch(), [0; 16]).unwrap_err();
        assert!(error.to_string().contains("a header of 1099511627776 bytes"), "{error}");
    }

    #[test]
    fn a_sparse_file_has_its_zeros() {
        let parts = |map: &[(u64, u64)], size| parts(map, size).collect::<Vec<_>>();
        assert_eq!(parts(&[], 10_000), [(10_000, 0)]);
        assert_eq!(parts(&[(0, 5), (7, 3)], 20), [(0, 5), (2, 3), (10, 0)]);
        assert_eq!(parts(&[(2, 3)], 5), [(2, 3), (0, 0)]);
    }
}
