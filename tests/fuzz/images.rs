//! What holds for any layer, blob and document of an image, whoever made it.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use podinit::image::layer::convert;
use podinit::image::platform::Platform;
use podinit::image::registry::manifest;
use podinit::image::{Store, archive, stream, untar};

use crate::spent;

const MIB: usize = 1 << 20;
/// Larger files, which are holes mostly, are not read back.
const READ_BACK: u64 = 8 << 20;

/// A tar, whatever it holds: refused, or made into a layer that comes back as what it is.
pub fn layer(input: &[u8]) {
    let tar = mended(input);
    let (done, spent) = spent::on(|| convert(&tar[..], scratch(), [7; 16]));
    assert!(spent.peak <= 8 * MIB + 64 * tar.len(), "{spent:?} for {} bytes", tar.len());
    assert!(spent.calls <= 100_000 + 64 * tar.len(), "{spent:?} for {} bytes", tar.len());
    let mut file = match done {
        Ok(file) => file,
        Err(why) => return assert!(!why.to_string().is_empty()),
    };
    assert!(file.metadata().expect("its size").len() % 4096 == 0);
    if file.metadata().expect("its size").len() > READ_BACK {
        return;
    }
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("it is read");
    let mut again = convert(&tar[..], scratch(), [7; 16]).expect("as before");
    let mut other = Vec::new();
    again.rewind().and_then(|()| again.read_to_end(&mut other)).expect("it is read");
    assert!(bytes == other, "the same tar makes the same bytes");
    // Its files as a tar make a layer of the same files.
    let once = tar_of(file);
    let twice = tar_of(convert(&once[..], scratch(), [7; 16]).expect("what we wrote"));
    assert!(once == twice, "what comes back is the same");
}

fn tar_of(mut file: File) -> Vec<u8> {
    let mut tar = Vec::new();
    file.rewind().expect("a file");
    untar::layer(file, &mut tar).expect("a layer that we made");
    tar
}

/// The input with a right checksum in each header, found as a reader of tars finds them: what is wrong is elsewhere.
fn mended(input: &[u8]) -> Vec<u8> {
    let mut tar = input.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = block[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(*byte));
        let size = digits.fold(0, |size, digit| size << 3 | usize::from(digit - b'0'));
        at = at.saturating_add(512).saturating_add(size.next_multiple_of(512));
        if at >= tar.len() {
            break;
        }
    }
    tar
}

/// A blob, compressed in some way or in none: the same bytes come out of it however it is read, or an error.
pub fn blob(input: &[u8]) {
    let most = 32 * MIB as u64;
    let read = |step: usize| {
        let mut out = Vec::new();
        let mut source = stream::decompress(input)?.take(most);
        let mut piece = vec![0; step];
        loop {
            match source.read(&mut piece)? {
                0 => return Ok::<_, io::Error>(out),
                n => out.extend_from_slice(&piece[..n]),
            }
        }
    };
    let (whole, spent) = spent::on(|| {
        stream::decompress(input).and_then(|source| io::copy(&mut source.take(most), &mut io::sink()))
    });
    // The largest window, which a frame of a few bytes may ask for.
    assert!(spent.peak <= 130 * MIB + 16 * input.len(), "{spent:?} for {} bytes", input.len());
    let pieces = (read(1000), read(64 << 10));
    match (&whole, &pieces.0, &pieces.1) {
        (Ok(count), Ok(one), Ok(other)) => assert!(one == other && *count == one.len() as u64),
        (Err(_), Err(_), Err(_)) => {}
        // What is read before it is known to be damaged may reach the bound by one way and not by the other.
        _ => assert!(input.len() > 100, "read in pieces it is another: {whole:?}"),
    }
}

/// A registry's answer, or a file of an archive: understood or refused, within bounds. The first byte tells which.
pub fn documents(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let host = Platform::parse("linux/amd64").expect("a platform");
    let (told, spent) = spent::on(|| match kind % 4 {
        0 => manifest::parse(text, None, &host).map(drop),
        1 => imported(&host, |folder| fs::write(folder.join("index.json"), text)),
        2 => imported(&host, |folder| fs::write(folder.join("manifest.json"), text)),
        _ => imported(&host, |folder| {
            // Each blob is what the next one leads to, or what stands for it.
            let blobs = folder.join("blobs/sha256");
            fs::create_dir_all(&blobs)?;
            let mut before: Option<String> = None;
            for part in text.split(|byte| *byte == 0xff).take(4) {
                let mut part = String::from_utf8_lossy(part).into_owned();
                if let Some(before) = &before {
                    part = part.replace('@', before);
                }
                let digest = stream::digest(part.as_bytes());
                fs::write(blobs.join(&digest["sha256:".len()..]), &part)?;
                fs::write(folder.join("index.json"), &part)?;
                before = Some(digest);
            }
            Ok(())
        }),
    });
    assert!(spent.peak <= 4 * MIB + 256 * text.len(), "{spent:?} for {} bytes", text.len());
    if let Err(why) = told {
        assert!(!why.is_empty());
    }
}

/// An archive of these files, put into a store of its own.
fn imported(host: &Platform, make: impl FnOnce(&PathBuf) -> io::Result<()>) -> Result<(), String> {
    let folder = folder();
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).and_then(|()| make(&folder)).expect("room for it");
    let store = Store::open(folder.join("images"));
    let names = archive::import(&store, &folder, Some("x"), host);
    if names.is_err() {
        assert!(store.list().expect("a store").is_empty(), "nothing of what is refused");
    }
    let _ = fs::remove_dir_all(&folder);
    names.map(drop)
}

/// For this thread, in memory where there is a place.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("podinit-images-{}-{:?}", std::process::id(), std::thread::current().id()))
}

/// An empty file without a name.
fn scratch() -> File {
    let path = folder().with_extension("scratch");
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("room for it");
    fs::remove_file(&path).expect("it is there");
    file
}
