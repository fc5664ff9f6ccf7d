//! Layers that mean harm: refused, or kept within their image, with memory that does not grow with what they claim.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use podinit::image::layer::convert;
use podinit::image::stream;

use super::tars::{Item, Style, archive, end, head, raw, record};
use super::*;
use crate::servers::digest;
use crate::spent::{self, Spent};

const MIB: usize = 1 << 20;

/// An unnamed file.
fn scratch() -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE).open(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn converted(tar: impl Read) -> (io::Result<File>, Spent) {
    spent::on(|| convert(tar, scratch(), [0; 16]))
}

/// What is said of a layer that is refused.
fn refused(tar: impl Read) -> String {
    let (done, spent) = converted(tar);
    assert!(spent.peak < 8 * MIB, "{spent:?}");
    done.expect_err("it is to be refused").to_string()
}

/// A pattern of bytes, again and again, and then an end.
struct Endless<F> {
    next: F,
    piece: io::Cursor<Vec<u8>>,
}

impl<F: FnMut() -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.piece.read(buffer)?;
        if n > 0 {
            return Ok(n);
        }
        self.piece = io::Cursor::new((self.next)());
        self.piece.read(buffer)
    }
}

fn endless(next: impl FnMut() -> Vec<u8>) -> impl Read {
    Endless { next, piece: io::Cursor::default() }
}

#[test]
fn paths_out_of_the_image_are_refused_or_lead_back_into_it() {
    own_mounts();
    let outside = fresh("outside");
    let out = outside.display().to_string();
    for path in ["../x", "a/../../x", "/..", "a/..", "/../../../etc/passwd"] {
        let told = refused(&archive(Style::Gnu, &[Item::file(path, "x")])[..]);
        assert!(told.contains("a path with .. is refused"), "{path}: {told}");
    }
    // A hard link out of the image, and one to a link that leads out.
    for target in ["/etc/passwd", "../../etc/passwd", "link/../../../etc/passwd"] {
        let items = [Item::link(b'2', "link", "/"), Item::link(b'1', "x", target)];
        let told = refused(&archive(Style::Gnu, &items)[..]);
        assert!(told.starts_with("x: "), "{target}: {told}");
    }
    // What is absolute, or goes through a link, stays below the image's own root.
    let items = [
        Item::new(b'5', "./"),
        Item::file(format!("{out}/absolute"), "x"),
        Item::link(b'2', "up", format!("../../../../../..{out}")),
        Item::file("up/climbed", "x"),
        Item::link(b'2', "root", "/"),
        Item::file("root/rooted", "x"),
        // A directory on the way becomes a link, and later a directory again.
        Item::new(b'5', "race"),
        Item::link(b'2', "race", out.clone()),
        Item::file("race/raced", "x"),
        Item::new(b'5', "race"),
        Item::file("race/own", "x"),
    ];
    let home = fresh("contained");
    let store = Store::open(home.join("images"));
    let path = home.join("layout");
    servers::layout(&path, &["linux/amd64"], &[(servers::Form::Plain, archive(Style::Gnu, &items))]);
    archive::import(&store, &path, Some("image"), &Platform::parse("linux/amd64").unwrap()).unwrap();
    let image = store.find("image").unwrap().unwrap();
    check(&store, &image);
    let layers = mount_layers(&store, &image, &home.join("run")).unwrap();
    let rootfs = home.join("rootfs");
    mount_rootfs(&layers, &home.join("scratch"), &rootfs).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing is outside");
    let inside = rootfs.join(out.trim_start_matches('/'));
    for name in ["absolute", "climbed", "raced"] {
        assert!(inside.join(name).is_file(), "{name}");
    }
    assert!(rootfs.join("rooted").is_file());
    assert!(fs::symlink_metadata(rootfs.join("race")).unwrap().is_dir() && rootfs.join("race/own").is_file());
    unmount_rootfs(&rootfs, &home.join("scratch")).unwrap();
}

#[test]
fn sizes_that_are_absurd_are_refused() {
    let sized = |kind: u8, size: u64| {
        let mut header = head(Style::Gnu, kind, b"f", size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let pax = |key: &str, value: &[u8]| {
        let (mut records, mut out) = (Vec::new(), Vec::new());
        record(&mut records, key, value);
        raw(&mut out, b'x', b"x", &records);
        Item::file("f", "data").write(Style::Pax, &mut out);
        end(out)
    };
    let sparse = |size: u64, pieces: &[(u64, u64)], stored: u64| {
        let mut header = head(Style::Gnu, b'S', b"f", stored);
        let gnu = header.as_gnu_mut().unwrap();
        let octal = |field: &mut [u8], number: u64| {
            // Base 256, for what octal digits cannot tell.
            field.fill(0);
            field[0] = 0x80;
            let length = field.len();
            field[length - 8..].copy_from_slice(&number.to_be_bytes());
        };
        octal(&mut gnu.realsize, size);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
            octal(&mut slot.offset, *offset);
            octal(&mut slot.numbytes, *length);
        }
        header.set_cksum();
        [header.as_bytes(), &[1; 1024][..stored.next_multiple_of(512) as usize], &[0; 1024]].concat()
    };
    let table: [(&str, Vec<u8>, &str); 15] = [
        ("a file that is not there", sized(b'0', u64::MAX / 2), "ends inside an entry"),
        ("a name without end", sized(b'L', 1 << 40), "a header of 1099511627776 bytes"),
        ("a link's name without end", sized(b'K', u64::MAX), "a header of"),
        ("an extended header without end", sized(b'x', 1 << 30), "a header of 1073741824 bytes"),
        ("a comment that is not there", sized(b'g', 1 << 30), "ends inside an entry"),
        ("a size in PAX", pax("size", b"18446744073709551615"), "ends inside an entry"),
        ("a size that is none", pax("size", b"99999999999999999999"), "is not a number"),
        ("a uid that does not fit", pax("uid", b"4294967296"), "does not fit in 32 bits"),
        ("a time that is none", pax("mtime", b"99999999999999999999"), "is not a time"),
        ("an attribute that is too large", pax("SCHILY.xattr.user.a", &[b'x'; 70_000]), "is too large"),
        ("a sparse file of an exbibyte", sparse(1 << 60, &[(0, 5)], 5), "a sparse file of"),
        ("pieces that overlap", sparse(1000, &[(0, 500), (400, 500)], 1000), "out of order"),
        ("a piece behind the end", sparse(1000, &[(900, 200)], 200), "out of order"),
        ("a piece that wraps", sparse(1000, &[(5, u64::MAX)], 4), "out of order"),
        ("more pieces than data", sparse(1000, &[(0, 500)], 5), "are stored"),
    ];
    for (what, tar, expected) in table {
        let told = refused(&tar[..]);
        assert!(told.contains(expected), "{what}: {told}");
    }
}

#[test]
fn many_sparse_files_are_together_no_larger_than_one_may_be() {
    let mut holes = head(Style::Gnu, b'S', b"f", 0);
    holes.as_gnu_mut().unwrap().realsize[..11].copy_from_slice(format!("{:011o}", 7_u64 << 30).as_bytes());
    holes.set_cksum();
    let told = refused(endless(|| holes.as_bytes().to_vec()));
    assert!(told.contains("sparse files of more than"), "{told}");
}

#[test]
fn names_without_end_take_little_memory() {
    // A hundred thousand files are what an image may well have.
    let mut count = 0;
    let (done, spent) = converted(endless(|| {
        count += 1;
        let mut out = Vec::new();
        if count <= 100_000 {
            Item::file(format!("a-dir-{}/a-file-of-number-{count}", count / 100), "x")
                .write(Style::Gnu, &mut out);
        }
        out
    }));
    done.unwrap();
    assert!(spent.peak < 18 * MIB, "{spent:?}");

    // The others never end by themselves.
    let said = "need more than 80 MiB of memory";
    let mut bombs: Vec<(&str, Box<dyn FnMut(u64) -> Vec<u8>>)> = Vec::new();
    let one = |item: Item| {
        let mut out = Vec::new();
        item.write(Style::Pax, &mut out);
        out
    };
    bombs.push(("links", Box::new(move |n| one(Item::link(b'2', format!("{n}"), "t".repeat(4000))))));
    bombs.push(("deep paths", Box::new(move |n| one(Item::file(format!("{n}{}", "/d".repeat(2000)), "")))));
    bombs.push(("attributes of directories", {
        Box::new(move |n| {
            let xattrs = (0..3).map(|at| (format!("user.{at}"), vec![b'x'; 60_000])).collect();
            one(Item { xattrs, ..Item::new(b'5', format!("{n}")) })
        })
    }));
    bombs.push(("attributes of one directory", {
        Box::new(move |n| {
            let xattrs = vec![("user.a".into(), vec![b'x'; 60_000])];
            one(Item { mode: n as u32 & 0o777, xattrs, ..Item::new(b'5', "dir") })
        })
    }));
    for (what, mut next) in bombs {
        let mut count = 0;
        let (done, spent) = converted(endless(|| {
            count += 1;
            next(count)
        }));
        let told = done.expect_err(what).to_string();
        assert!(told.contains(said), "{what}: {told}");
        assert!(spent.peak < 150 * MIB, "{what}: {spent:?}");
    }
}

#[test]
fn headers_without_an_entry_take_no_memory() {
    let mut records = Vec::new();
    (0..8500).for_each(|n| record(&mut records, &format!("SCHILY.xattr.user.{n}"), &[b'x'; 90]));
    for kind in [b'x', b'g', b'L', b'K'] {
        let mut left = 60;
        let bomb = endless(|| {
            left -= 1;
            let mut out = Vec::new();
            if left >= 0 {
                raw(&mut out, kind, b"x", &records);
            }
            out
        });
        let (done, spent) = converted(bomb);
        // An archive of headers holds no file.
        done.unwrap();
        assert!(spent.peak < 12 * MIB, "{}: {spent:?}", char::from(kind));
    }
}

/// The map in front of the data was read from its start with each block that came.
#[test]
fn a_long_map_of_a_sparse_file_is_read_once() {
    let mut records = Vec::new();
    for (key, value) in [("major", "1"), ("minor", "0"), ("name", "f"), ("realsize", "400000")] {
        record(&mut records, &format!("GNU.sparse.{key}"), value.as_bytes());
    }
    let mut map = b"50000\n".to_vec();
    (0..50_000).for_each(|n| map.extend_from_slice(format!("{}\n1\n", n * 8).as_bytes()));
    map.resize(map.len().next_multiple_of(512), 0);
    map.extend_from_slice(&[b'd'; 50_000]);
    let mut out = Vec::new();
    raw(&mut out, b'x', b"x", &records);
    raw(&mut out, b'0', b"GNUSparseFile.0/f", &map);
    let (done, spent) = converted(&end(out)[..]);
    done.unwrap();
    assert!(spent.peak < 8 * MIB && spent.calls < 1000, "{spent:?}");
}

#[test]
fn a_layer_cut_anywhere_is_refused_and_leaves_nothing() {
    let mut items =
        vec![Item::new(b'5', "d"), Item::file("d/f", vec![1; 1300]), Item::link(b'2', "l", "d/f")];
    items.push(Item { mtime: (1, 5), ..Item::file("n".repeat(200), vec![2; 700]) });
    items.push(Item::link(b'1', "again", "d/f"));
    items.push(Item::file(".wh.gone", ""));
    let whole = [archive(Style::Pax, &items), vec![0; 4096]].concat();
    let home = fresh("cut");
    let store = Store::open(home.join("images"));
    let id = digest(&whole);
    let mut cuts: Vec<usize> = (0..whole.len()).step_by(512).collect();
    cuts.extend(cuts.clone().into_iter().skip(1).flat_map(|cut| [cut - 1, cut + 7]));
    let add = |bytes: &[u8]| store.write().unwrap().add_layer(&id, None, &mut &bytes[..]);
    for cut in cuts {
        let told = add(&whole[..cut]).expect_err("it is not whole");
        assert!(told.why.contains(&id), "{told:?}");
        let packed = servers::gzip(&whole);
        assert!(add(&packed[..packed.len() * cut / whole.len()]).is_err(), "gzip, {cut} of {}", whole.len());
        assert_eq!(left_over(&home.join("images")), Vec::<PathBuf>::new(), "cut at {cut}");
    }
    // What follows the end of the archive is of the layer's digest, and of nothing else.
    assert!(add(&[&whole[..], &[0; 512]].concat()).is_err() && add(&[&whole[..], b"x"].concat()).is_err());
    add(&whole).unwrap();
    let trailing = [&whole[..], &archive(Style::Gnu, &[Item::file("second", "x")])].concat();
    store.write().unwrap().add_layer(&digest(&trailing), None, &mut &trailing[..]).unwrap();
    let sizes = [&id, &digest(&trailing)].map(|id| fs::metadata(store.layer(id)).unwrap().len());
    assert_eq!(sizes[0], sizes[1], "a second archive behind the first is none of its files");
}

#[test]
fn bombs_of_gzip_and_zstd_take_little_memory() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; MIB];
    (0..256).for_each(|_| gzip.write_all(&zeros).unwrap());
    let gzip = gzip.finish().unwrap();
    assert!(gzip.len() < MIB);
    // A hundred members: as large as it gets.
    let read = |bytes: &mut dyn Read| {
        spent::on(|| io::copy(&mut stream::decompress(bytes)?, &mut io::sink()).map_err(io::Error::other))
    };
    let members = [&gzip[..], &gzip].concat();
    let (done, spent) = read(&mut &members[..]);
    assert_eq!(done.unwrap(), 512 * MIB as u64);
    assert!(spent.peak < MIB, "{spent:?}");
    // A name that never ends in the header.
    let name = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'n'; 64 * MIB]].concat();
    let (done, spent) = read(&mut &name[..]);
    assert!(done.is_err() && spent.peak < MIB, "{spent:?}");

    // Frames that say which window they need: 8 MiB is what the format recommends, 128 MiB are as much as `zstd --long`.
    for (window, most) in [(23, 10 * MIB), (27, 130 * MIB)] {
        let (done, spent) = read(&mut &frame(window, 2000)[..]);
        assert_eq!(done.unwrap(), 2000 * 128 * 1024);
        assert!(spent.peak < most, "2^{window}: {spent:?}");
    }
    // One frame after the other, each with a larger window: there is one at a time.
    let growing = [frame(21, 20), frame(26, 600), frame(27, 4)].concat();
    let (done, spent) = read(&mut &growing[..]);
    assert!(done.is_ok() && spent.peak < 130 * MIB, "{spent:?}");
    for window in [28, 31, 41] {
        let (done, spent) = read(&mut &frame(window, 10)[..]);
        let told = done.unwrap_err().to_string();
        assert!(told.contains("window") && spent.peak < MIB, "2^{window}: {told}: {spent:?}");
    }
    // A content size for a window, as single segments have it.
    let single = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 40).to_le_bytes(), &[3, 0, 0, 0]].concat();
    let (done, spent) = read(&mut &single[..]);
    assert!(done.is_err() && spent.peak < MIB, "{spent:?}");
    // What is to be skipped is not kept.
    let skip = [&[0x50, 0x2a, 0x4d, 0x18][..], &(64 * MIB as u32).to_le_bytes(), &vec![0; 64 * MIB]].concat();
    let (done, spent) = read(&mut &skip[..]);
    assert!(done.unwrap() == 0 && spent.peak < MIB, "{spent:?}");
}

/// Only one large window at once: two would be more than a pull may have.
#[test]
fn large_windows_wait_for_one_another() {
    let bytes = frame(25, 400);
    let mut first = stream::decompress(&bytes[..]).unwrap();
    first.read_exact(&mut [0; 100]).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let (small, large) = (frame(23, 4), bytes.clone());
    let second = std::thread::spawn(move || {
        for (name, bytes) in [("small", small), ("large", large)] {
            io::copy(&mut stream::decompress(&bytes[..]).unwrap(), &mut io::sink()).unwrap();
            send.send(name).unwrap();
        }
    });
    assert_eq!(receive.recv().unwrap(), "small");
    assert!(receive.try_recv().is_err(), "the first one is not done");
    drop(first);
    assert_eq!(receive.recv().unwrap(), "large");
    second.join().unwrap();
}

/// A zstd frame with a window of 2^log bytes, and so many blocks of 128 KiB of one byte.
fn frame(log: u8, blocks: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    for at in 1..=blocks {
        let head = u32::from(at == blocks) | 1 << 1 | (128 * 1024) << 3;
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.push(b'z');
    }
    out
}
