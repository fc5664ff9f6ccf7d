//! Tars as different programs write them, made by hand: old, ustar, GNU and PAX headers, sparse files; and random layers
//! of an image, each a change of what the ones below have.

use std::collections::BTreeMap;

use fastrand::Rng;

/// Who writes: in which way a header says what its plain fields cannot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    /// Long names in entries before it, large numbers in base 256.
    Gnu,
    /// Everything that is special in an extended header.
    Pax,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Item {
    pub path: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub ids: (u32, u32),
    pub mtime: (i64, u32),
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub data: Vec<u8>,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Item {
    pub fn new(kind: u8, path: impl Into<Vec<u8>>) -> Self {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        let (data, xattrs) = (Vec::new(), Vec::new());
        let (ids, mtime, device) = ((0, 0), (1_700_000_000, 0), (0, 0));
        Item { path: path.into(), kind, mode, ids, mtime, link: Vec::new(), device, data, xattrs }
    }

    pub fn file(path: impl Into<Vec<u8>>, data: impl Into<Vec<u8>>) -> Self {
        Item { data: data.into(), ..Self::new(b'0', path) }
    }

    pub fn link(kind: u8, path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Item { link: target.into(), mode: 0o777, ..Self::new(kind, path) }
    }

    pub fn write(&self, style: Style, out: &mut Vec<u8>) {
        let mut pax = Vec::new();
        match style {
            Style::Gnu => {
                for (kind, name) in [(b'L', &self.path), (b'K', &self.link)] {
                    if name.len() > 100 {
                        raw(out, kind, b"././@LongLink", &[&name[..], b"\0"].concat());
                    }
                }
            }
            Style::Pax => {
                for (key, name) in [("path", &self.path), ("linkpath", &self.link)] {
                    if name.len() > 100 || !name.is_ascii() {
                        record(&mut pax, key, name);
                    }
                }
                for (key, id) in [("uid", self.ids.0), ("gid", self.ids.1)] {
                    if id > 0o7_777_777 {
                        record(&mut pax, key, id.to_string().as_bytes());
                    }
                }
                let (seconds, nanos) = self.mtime;
                if nanos > 0 || seconds < 0 {
                    let text = match seconds {
                        ..0 if nanos > 0 => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
                        _ => format!("{seconds}.{nanos:09}"),
                    };
                    record(&mut pax, "mtime", text.as_bytes());
                }
            }
        }
        for (name, value) in &self.xattrs {
            record(&mut pax, &format!("SCHILY.xattr.{name}"), value);
        }
        if !pax.is_empty() {
            raw(out, b'x', b"PaxHeaders/x", &pax);
        }
        let mut header = head(style, self.kind, &self.path, self.data.len() as u64);
        header.set_mode(self.mode);
        let old = header.as_old_mut();
        let length = self.link.len().min(100);
        old.linkname[..length].copy_from_slice(&self.link[..length]);
        let most = if style == Style::Gnu { u32::MAX } else { 0o7_777_777 };
        header.set_uid(self.ids.0.min(most).into());
        header.set_gid(self.ids.1.min(most).into());
        let seconds = self.mtime.0;
        header.set_mtime(if seconds < 0 && style == Style::Pax { 0 } else { seconds as u64 });
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        padded(out, &self.data);
    }

    /// What PAX can tell and GNU cannot.
    fn needs_pax(&self) -> bool {
        self.mtime.1 > 0 || !self.xattrs.is_empty()
    }
}

/// A whole archive.
pub fn archive(style: Style, items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.write(style, &mut out));
    end(out)
}

pub fn end(mut out: Vec<u8>) -> Vec<u8> {
    out.extend_from_slice(&[0; 1024]);
    out
}

/// An entry that is nothing but a name and data.
pub fn raw(out: &mut Vec<u8>, kind: u8, name: &[u8], data: &[u8]) {
    let mut header = head(Style::Gnu, kind, name, data.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    padded(out, data);
}

/// A header that still lacks its checksum.
pub fn head(style: Style, kind: u8, name: &[u8], size: u64) -> tar::Header {
    let mut header = if style == Style::Gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.set_entry_type(tar::EntryType::new(kind));
    let length = name.len().min(100);
    header.as_old_mut().name[..length].copy_from_slice(&name[..length]);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn padded(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// One record of an extended header: its length counts its own digits.
pub fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    Dir,
    /// A directory that the layer does not describe.
    Bare,
    Other,
}

/// The layers of a random image as tars, lowest first; the same for the same seed.
pub fn layers(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Rng::with_seed(seed);
    // What the layers so far make, by path; the root is no entry.
    let mut there: BTreeMap<String, Thing> = BTreeMap::new();
    (0..random.usize(2..6)).map(|_| layer(&mut random, &mut there)).collect()
}

fn layer(random: &mut Rng, there: &mut BTreeMap<String, Thing>) -> Vec<u8> {
    let style = if random.bool() { Style::Gnu } else { Style::Pax };
    let mut items = Vec::new();
    // What this layer has described.
    let mut own: BTreeMap<String, Thing> = BTreeMap::new();
    let mut files: Vec<String> = Vec::new();
    // What lower layers have and this one left alone so far.
    let mut standing = there.clone();
    describe(random, "", &mut own, &standing, &mut items);
    for _ in 0..random.usize(5..60) {
        let dir = some_dir(random, there);
        match random.u8(0..12) {
            // A lower file goes, or all of a lower directory; not what this layer has.
            0 => {
                let lower: Vec<&String> = there
                    .keys()
                    .filter(|path| !own.keys().any(|mine| mine == *path || below(mine, path)))
                    .collect();
                if let Some(gone) = random.choice(lower).cloned() {
                    let (parent, name) = gone.rsplit_once('/').unwrap_or(("", &gone));
                    describe(random, parent, &mut own, &standing, &mut items);
                    items.push(Item::file(join(parent, &format!(".wh.{name}")), ""));
                    for map in [&mut *there, &mut standing] {
                        map.retain(|path, _| *path != gone && !below(path, &gone));
                    }
                }
            }
            // What is not described in it would be the lower layers' to umoci, where the mark comes after it, though they are hidden.
            1 if !dir.is_empty()
                && !own.iter().any(|(path, thing)| *thing == Thing::Bare && below(path, &dir)) =>
            {
                // Before what this layer has there, or after it: its place says nothing.
                describe(random, &dir, &mut own, &standing, &mut items);
                items.push(Item::file(join(&dir, ".wh..wh..opq"), ""));
                there.retain(|path, _| !below(path, &dir) || own.contains_key(path));
                standing.retain(|path, _| !below(path, &dir));
            }
            2 | 3 => {
                let path = join(&dir, &name(random));
                replace([&mut *there, &mut own, &mut standing], &mut files, &path, Thing::Dir);
                describe(random, &path, &mut own, &standing, &mut items);
            }
            4 if !files.is_empty() => {
                let target = random.choice(&files).unwrap().clone();
                let path = join(&dir, &name(random));
                if path == target || below(&target, &path) {
                    continue;
                }
                describe(random, &dir, &mut own, &standing, &mut items);
                replace([&mut *there, &mut own, &mut standing], &mut files, &path, Thing::Other);
                own.insert(path.clone(), Thing::Other);
                let shown = if random.bool() { target.clone() } else { format!("/{target}") };
                let mut link = Item::link(b'1', path.clone(), shown);
                // A link's own header says what its file's says, as all writers have it.
                let first = items.iter().rev().find(|item| item.path == target.as_bytes()).cloned();
                let first = first.expect("the file came before");
                (link.mode, link.ids, link.mtime, link.xattrs) =
                    (first.mode, first.ids, first.mtime, first.xattrs);
                items.push(link);
            }
            _ => {
                describe(random, &dir, &mut own, &standing, &mut items);
                let path = join(&dir, &name(random));
                replace([&mut *there, &mut own, &mut standing], &mut files, &path, Thing::Other);
                own.insert(path.clone(), Thing::Other);
                let item = other(random, &path);
                if item.kind == b'0' {
                    files.push(path);
                }
                items.push(item);
            }
        }
    }
    let mut out = Vec::new();
    for item in &items {
        item.write(if item.needs_pax() { Style::Pax } else { style }, &mut out);
    }
    end(out)
}

fn below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

fn some_dir(random: &mut Rng, there: &BTreeMap<String, Thing>) -> String {
    let dirs = there.iter().filter(|(_, thing)| **thing == Thing::Dir).map(|(path, _)| path);
    let dirs: Vec<&String> = dirs.filter(|path| path.matches('/').count() < 6).collect();
    if random.u8(0..4) == 0 { String::new() } else { random.choice(dirs).cloned().unwrap_or_default() }
}

/// Few names, so that they meet again; some that no plain header holds, some that sort before the dots.
fn name(random: &mut Rng) -> String {
    match random.u8(0..12) {
        0 => format!("{}-{}", random.u8(0..3), "long".repeat(random.usize(20..60))),
        1 => "ünï cödé\n\t".into(),
        2 => [" blank", "!", ".hidden", "..two", "...", "-dash", "\u{1}"][random.usize(..7)].into(),
        _ => format!("n{}", random.u8(0..20)),
    }
}

/// The path's new thing takes the place of what was there; the first map is that of all layers.
fn replace(maps: [&mut BTreeMap<String, Thing>; 3], files: &mut Vec<String>, path: &str, thing: Thing) {
    let [there, own, standing] = maps;
    if !(thing == Thing::Dir && there.get(path) == Some(&Thing::Dir)) {
        for map in [&mut *there, own, standing] {
            map.retain(|other, _| other != path && !below(other, path));
        }
    }
    files.retain(|file| file != path && !below(file, path));
    there.insert(path.to_owned(), thing);
}

/// Describes a directory, and first those above it, as most writers have it for each that a layer changes. Some leave out
/// what lower layers have described.
fn describe(
    random: &mut Rng,
    dir: &str,
    own: &mut BTreeMap<String, Thing>,
    standing: &BTreeMap<String, Thing>,
    items: &mut Vec<Item>,
) {
    if own.contains_key(dir) {
        return;
    }
    if let Some((parent, _)) = dir.rsplit_once('/') {
        describe(random, parent, own, standing, items);
    }
    if standing.get(dir) == Some(&Thing::Dir) && random.u8(0..3) == 0 {
        own.insert(dir.to_owned(), Thing::Bare);
        return;
    }
    own.insert(dir.to_owned(), Thing::Dir);
    let shown = format!("{}{dir}/", ["", "./", "/"][random.usize(if dir.is_empty() { 1..2 } else { 0..3 })]);
    let mut item = Item::new(b'5', shown);
    attributes(random, &mut item);
    item.mode |= 0o700;
    items.push(item);
}

fn other(random: &mut Rng, path: &str) -> Item {
    let mut item = match random.u8(0..10) {
        0 => Item::link(b'2', path, ["../n1", "/etc/passwd", "n2", "a/../b//c", "."][random.usize(..5)]),
        1 => Item::link(b'2', path, "t".repeat(random.usize(1..400))),
        2 => Item::new(b'6', path),
        3 => {
            let kind = if random.bool() { b'3' } else { b'4' };
            // Character device 0:0 is a whiteout to overlay: no image can have one.
            Item { device: (random.u32(1..512), random.u32(0..70_000)), ..Item::new(kind, path) }
        }
        _ => {
            let size = match random.u8(0..6) {
                0 => 0,
                1 => random.usize(4000..4200),
                2 => random.usize(60_000..140_000),
                _ => random.usize(1..3000),
            };
            let zeros = random.u8(0..4) == 0;
            let byte = |_| if zeros { 0 } else { random.u8(..) };
            Item::file(path, (0..size).map(byte).collect::<Vec<u8>>())
        }
    };
    attributes(random, &mut item);
    item
}

fn attributes(random: &mut Rng, item: &mut Item) {
    let own = item.kind != b'2';
    if own {
        item.mode = random.u32(0..0o10000);
    }
    let id = |random: &mut Rng| match random.u8(0..4) {
        0 => random.u32(0..u32::MAX),
        1 => random.u32(0..70_000),
        _ => 0,
    };
    item.ids = (id(random), id(random));
    item.mtime = match random.u8(0..4) {
        0 => (-random.i64(1..1_000_000), 500_000_000),
        1 => (random.i64(0..1_700_000_000), random.u32(1..1_000_000_000)),
        2 => (random.i64(1 << 31..1 << 32), 0),
        _ => (random.i64(0..1_700_000_000), 0),
    };
    if own && random.u8(0..5) == 0 {
        let trusted = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
        item.xattrs.push(("trusted.word".into(), trusted));
        if matches!(item.kind, b'0' | b'5') {
            item.xattrs.push(("user.word".into(), b"x\ny=".to_vec()));
        }
        if item.kind == b'0' {
            // struct vfs_cap_data, revision 2: cap_net_raw, permitted and effective.
            let capability = [[1, 0, 0, 2], [0, 32, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
            item.xattrs.push(("security.capability".into(), capability));
        }
    }
}
