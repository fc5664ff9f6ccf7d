//! Images that are made while they are written: large ones never lie in memory or, uncompressed, on the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{MANIFEST, put};

/// A writer that takes the digest and the length of all that passes.
pub struct Measured<W> {
    to: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Measured<W> {
    fn new(to: W) -> Self {
        Measured { to, hash: Sha256::new(), length: 0 }
    }

    fn digest(&self) -> String {
        let hex: String = self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What a layer's tar is written to.
pub type Layer = tar::Builder<Measured<GzEncoder<Measured<File>>>>;

/// An OCI layout with an image of one layer under the tag `image`, whose tar `fill` writes; its diff id.
pub fn layout(folder: &Path, fill: impl FnOnce(&mut Layer)) -> String {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let file = Measured::new(File::create(blobs.join("making")).unwrap());
    let mut tar = tar::Builder::new(Measured::new(GzEncoder::new(file, Compression::fast())));
    fill(&mut tar);
    let plain = tar.into_inner().unwrap();
    let diff_id = plain.digest();
    let blob = plain.to.finish().unwrap();
    let digest = blob.digest();
    fs::rename(blobs.join("making"), blobs.join(&digest["sha256:".len()..])).unwrap();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layer = json!({"mediaType": kind, "digest": digest, "size": blob.length});
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let put = |what: &Value, kind: &str| put(folder, what.to_string().as_bytes(), kind, None);
    let config = put(&config, "application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut top = put(&manifest, MANIFEST);
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "image"});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string())
        .unwrap();
    diff_id
}

/// A file of so many MiB: each of noise that repeats, so that it packs well, some of them zeros.
pub fn big(tar: &mut Layer, mib: u64) {
    struct Content(u64, Vec<u8>);
    impl io::Read for Content {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let at = (self.0 % (1 << 20)) as usize;
            if at == 0 {
                let seed = self.0 >> 20;
                let piece = if seed % 8 == 7 { vec![0; 16 << 10] } else { super::noise(seed, 16 << 10) };
                self.1 = piece.repeat(64);
            }
            let count = buffer.len().min(self.1.len() - at);
            buffer[..count].copy_from_slice(&self.1[at..at + count]);
            self.0 += count as u64;
            Ok(count)
        }
    }
    let size = mib << 20;
    let mut header = header(size);
    tar.append_data(&mut header, "big", io::Read::take(Content(0, Vec::new()), size)).unwrap();
}

/// So many files of 1 to 1500 bytes, a hundred a directory.
pub fn many(tar: &mut Layer, count: usize) {
    let text = super::noise(5, 1500);
    for number in 0..count {
        let data = &text[..1 + number * 7919 % 1500];
        let path = format!("dir-{}/a-file-of-number-{number}", number / 100);
        tar.append_data(&mut header(data.len() as u64), path, data).unwrap();
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}
