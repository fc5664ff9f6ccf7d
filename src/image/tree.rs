//! What a layer holds, in memory, while its tar is read: names, and for directories their attributes. Files are on
//! the disk already; of them only the inode's number is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::erofs::Meta;

pub const ROOT: usize = 0;
/// Links followed on the way to a file before it is called a loop, as the kernel counts.
const LINK_LIMIT: usize = 40;
/// What may be held of one layer: half a million files of ordinary names. Two layers are converted at once, and a pull
/// may have 192 MiB.
const LIMIT: usize = 80 << 20;
/// What one more name in a directory takes beside its own bytes: half-filled nodes of the map, and the allocator's share.
const NAME: usize = 64;
/// What a directory takes: the map of its names begins with room for eleven.
const DIR: usize = size_of::<Dir>() + 256;
const NAME_LIMIT: usize = 255;
const PATH_LIMIT: usize = 4096;

#[derive(Debug)]
pub enum Node {
    Dir(Box<Dir>),
    /// Anything written already. `target` is that of a symbolic link: later entries may go through it.
    File {
        nid: u64,
        links: u32,
        kind: u8,
        target: Option<Box<[u8]>>,
    },
    /// Hides what lower layers have under this name.
    Whiteout,
}

#[derive(Debug, Default)]
pub struct Dir {
    pub meta: Meta,
    pub children: BTreeMap<Box<[u8]>, u32>,
    /// Hides all that lower layers have in this directory.
    pub opaque: bool,
    /// Nothing of lower layers is seen in it, because it or one above it is opaque.
    pub alone: bool,
    /// Its attributes are its own: an entry describes it, or there is none below whose they could be.
    pub own: bool,
    /// It is implied, or one below it is.
    pub marked: bool,
    /// Its inode's number, once it has one.
    pub nid: u64,
}

pub struct Tree {
    pub nodes: Vec<Node>,
    /// Bytes, about. What is replaced stays counted: it was in the archive.
    held: usize,
}

impl Tree {
    pub fn new() -> Self {
        Tree { nodes: vec![Node::Dir(Box::new(implied()))], held: 0 }
    }

    pub fn dir(&self, at: usize) -> Option<&Dir> {
        match self.nodes.get(at) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub fn dir_mut(&mut self, at: usize) -> Option<&mut Dir> {
        match self.nodes.get_mut(at) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub fn child(&self, dir: usize, name: &[u8]) -> Option<usize> {
        self.dir(dir)?.children.get(name).map(|&node| node as usize)
    }

    /// Gives a directory the attributes of its latest description.
    pub fn describe(&mut self, at: usize, meta: Meta) -> Result<(), String> {
        self.hold(meta.xattrs.len())?;
        if let Some(dir) = self.dir_mut(at) {
            dir.meta = meta;
            dir.own = true;
        }
        Ok(())
    }

    /// The directory that a path's last part lies in, and that part; the part is None for the root itself.
    /// Directories that are missing on the way are made, links on the way followed, all within the layer.
    pub fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(usize, Option<&'a [u8]>), String> {
        let mut parts = parts(path)?;
        let Some(name) = parts.pop() else { return Ok((ROOT, None)) };
        Ok((self.walk(&parts, true)?, Some(name)))
    }

    /// The node at a path, its last part not followed; for the target of a hard link.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<usize>, String> {
        let mut parts = parts(path)?;
        let Some(name) = parts.pop() else { return Ok(Some(ROOT)) };
        match self.walk(&parts, false) {
            Ok(dir) => Ok(self.child(dir, name)),
            Err(_) => Ok(None),
        }
    }

    /// Gives a directory an entry, in the place of what had the name before.
    pub fn set(&mut self, dir: usize, name: &[u8], node: usize) -> Result<(), String> {
        self.hold(NAME + name.len())?;
        let node = u32::try_from(node).map_err(|_| "too many files in a layer")?;
        let old = self.dir_mut(dir).and_then(|dir| dir.children.insert(name.into(), node));
        if let Some(old) = old {
            self.forget(old as usize);
        }
        Ok(())
    }

    pub fn add(&mut self, node: Node) -> Result<usize, String> {
        let more = match &node {
            Node::Dir(_) => DIR,
            Node::File { target, .. } => target.as_ref().map_or(0, |target| target.len()),
            Node::Whiteout => 0,
        };
        self.hold(size_of::<Node>() + more)?;
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), String> {
        self.held += bytes;
        if self.held > LIMIT {
            let (files, limit) = (self.nodes.len(), LIMIT >> 20);
            return Err(format!(
                "the names of its first {files} files need more than {limit} MiB of memory: build it in several layers"
            ));
        }
        Ok(())
    }

    /// The directory of this name, made where there is none. In the place of a file or a whiteout it is opaque: what
    /// lower layers have there was hidden before.
    pub fn make_dir(&mut self, parent: usize, name: &[u8]) -> Result<usize, String> {
        let old = self.child(parent, name);
        if let Some(old) = old.filter(|&old| self.dir(old).is_some()) {
            return Ok(old);
        }
        let dir = Dir { opaque: old.is_some(), own: old.is_some(), ..implied() };
        let node = self.add(Node::Dir(Box::new(dir)))?;
        self.set(parent, name, node)?;
        Ok(node)
    }

    /// Hides what lower layers have under this name; what this layer has there stays (OCI image layer, "Whiteouts").
    pub fn whiteout(&mut self, parent: usize, name: &[u8]) -> Result<(), String> {
        match self.child(parent, name) {
            None => {
                let node = self.add(Node::Whiteout)?;
                self.set(parent, name, node)?;
            }
            Some(node) => {
                if let Some(dir) = self.dir_mut(node) {
                    dir.opaque = true;
                }
            }
        }
        Ok(())
    }

    /// Takes the whiteouts out of a directory in which there is nothing to hide: overlay, which merges nothing there, would
    /// list them.
    pub fn drop_whiteouts(&mut self, at: usize) {
        let Some(dir) = self.dir_mut(at) else { return };
        let mut children = std::mem::take(&mut dir.children);
        children.retain(|_, child| !matches!(self.nodes.get(*child as usize), Some(Node::Whiteout)));
        if let Some(dir) = self.dir_mut(at) {
            dir.children = children;
        }
    }

    fn walk(&mut self, parts: &[&[u8]], make: bool) -> Result<usize, String> {
        // Where we are, as the way from the root: `..` of a link's target goes back along it.
        let mut way = vec![ROOT];
        let mut todo: Vec<Cow<[u8]>> = parts.iter().rev().map(|&part| part.into()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let here = way.last().copied().unwrap_or(ROOT);
            match &*part {
                b"" | b"." => continue,
                b".." => {
                    way.truncate(way.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let child = self.child(here, &part);
            match child.and_then(|child| self.nodes.get(child)) {
                Some(Node::Dir(_)) => way.extend(child),
                Some(Node::File { target: Some(target), .. }) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err("too many symbolic links on the way".into());
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    todo.extend(
                        target.split(|&byte| byte == b'/').rev().map(|part| Cow::from(part.to_vec())),
                    );
                }
                Some(Node::File { .. }) => {
                    return Err(format!(
                        "{:?} on the way is not a directory",
                        String::from_utf8_lossy(&part)
                    ));
                }
                Some(Node::Whiteout) | None if make => {
                    check_name(&part)?;
                    if part.starts_with(b".wh.") {
                        let part = String::from_utf8_lossy(&part);
                        return Err(format!("{part:?} on the way is a whiteout's name"));
                    }
                    way.push(self.make_dir(here, &part)?);
                }
                Some(Node::Whiteout) | None => return Err("no such directory".into()),
            }
        }
        Ok(way.last().copied().unwrap_or(ROOT))
    }

    /// Takes one name from a node, and with a directory's last one all below it.
    fn forget(&mut self, node: usize) {
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            match self.nodes.get_mut(node) {
                Some(Node::Dir(dir)) => {
                    todo.extend(std::mem::take(&mut **dir).children.into_values().map(|node| node as usize));
                }
                Some(Node::File { links, .. }) => *links = links.saturating_sub(1),
                Some(Node::Whiteout) | None => {}
            }
        }
    }
}

/// A directory that no entry describes.
fn implied() -> Dir {
    Dir { meta: Meta { mode: libc::S_IFDIR | 0o755, ..Meta::default() }, ..Dir::default() }
}

/// The parts of a path in the archive: a leading slash and `.` count for nothing, `..` is refused.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, String> {
    if path.len() > PATH_LIMIT {
        return Err(format!("the path is longer than {PATH_LIMIT} bytes"));
    }
    let parts: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    for part in &parts {
        check_name(part)?;
    }
    Ok(parts)
}

fn check_name(part: &[u8]) -> Result<(), String> {
    if part == b".." {
        return Err("a path with .. is refused".into());
    }
    if part.contains(&0) {
        return Err("the path holds a zero byte".into());
    }
    if part.len() > NAME_LIMIT {
        return Err(format!("a name is longer than {NAME_LIMIT} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tree: &mut Tree, path: &str, target: Option<&str>) -> usize {
        let (dir, name) = tree.parent(path.as_bytes()).unwrap();
        let target = target.map(|text| text.as_bytes().into());
        let node = tree.add(Node::File { nid: 9, links: 1, kind: 1, target }).unwrap();
        tree.set(dir, name.unwrap(), node).unwrap();
        node
    }

    #[test]
    fn links_are_followed_within_the_layer() {
        let mut tree = Tree::new();
        let (usr, _) = tree.parent(b"usr/lib/x").unwrap();
        for (link, target) in
            [("lib", "usr/lib"), ("abs", "/usr/lib"), ("up", "../../../usr/lib"), ("a", "b"), ("b", "a")]
        {
            file(&mut tree, link, Some(target));
        }
        for path in ["lib/f", "/abs/f", "./up/./f"] {
            assert_eq!(tree.parent(path.as_bytes()).unwrap(), (usr, Some(&b"f"[..])), "{path}");
        }
        assert!(tree.parent(b"a/f").unwrap_err().contains("too many symbolic links"));
    }

    #[test]
    fn paths_out_of_the_layer_are_refused() {
        let mut tree = Tree::new();
        let long = "n".repeat(256);
        let deep = "d/".repeat(3000);
        for path in ["../x", "a/../../x", "/..", "a/..", &long, &deep, "a\0b"] {
            assert!(tree.parent(path.as_bytes()).is_err(), "{path}");
        }
        assert_eq!(tree.parent(b"./").unwrap(), (ROOT, None));
    }

    #[test]
    fn what_replaces_hides_the_lower_layers_too() {
        let mut tree = Tree::new();
        let first = file(&mut tree, "x", None);
        let (dir, _) = tree.parent(b"x2/y").unwrap();
        assert!(!tree.dir(dir).unwrap().opaque);
        assert!(tree.parent(b"x/y").unwrap_err().contains("not a directory"));
        let made = tree.make_dir(ROOT, b"x").unwrap();
        assert!(tree.dir(made).unwrap().opaque);
        assert!(matches!(tree.nodes[first], Node::File { links: 0, .. }));
        tree.whiteout(ROOT, b"w").unwrap();
        tree.whiteout(ROOT, b"x2").unwrap();
        assert!(tree.dir(dir).unwrap().opaque);
        let under = tree.parent(b"w/y").unwrap().0;
        assert!(tree.dir(under).unwrap().opaque);
    }
}
