//! An image out of the store: an OCI image layout in a tar, as skopeo, umoci, podman and docker read it.
//!
//! Source: OCI image specification, "Image Layout". Each layer becomes an uncompressed tar again; what its first tar
//! looked like is not kept, so its digests, and those of configuration and manifest, are new ones.

use std::fs::File;
use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::untar::{self, Record};
use super::{Image, Reference, Store, stream};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the image as a tar; tells the digest of its manifest there. The same image makes the same bytes. Each layer
/// is read twice: its name in the tar is its digest.
pub fn export(store: &Store, image: &Image, out: &mut dyn Write) -> Result<String, String> {
    let text = |error: io::Error| format!("{}: {error}", image.reference);
    let mut layers = Vec::new();
    for diff_id in &image.layers {
        layers.push(measure(store, diff_id).map_err(|error| format!("layer {diff_id}: {error}"))?);
    }
    let config = config(store, image, &layers)?;
    let config_digest = stream::digest(&config);
    let descriptor =
        |kind: &str, digest: &str, size: u64| json!({"mediaType": kind, "digest": digest, "size": size});
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config_digest, config.len() as u64),
        "layers": layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect::<Vec<_>>(),
    }))?;
    let manifest_digest = stream::digest(&manifest);
    let mut entry = descriptor(MANIFEST, &manifest_digest, manifest.len() as u64);
    if let Some(entry) = entry.as_object_mut() {
        // skopeo and umoci look for the tag or the whole name in the second; containerd and podinit in the first.
        let name = Reference::parse(&image.reference)?;
        let tag = name.tag.clone().unwrap_or_else(|| image.reference.clone());
        let names =
            json!({"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": tag});
        entry.insert("annotations".into(), names);
    }
    let index = bytes(&json!({"schemaVersion": 2, "manifests": [entry]}))?;
    let mut write =
        |name: &str, bytes: &[u8]| file(out, name, bytes.len() as u64, |out| out.write_all(bytes));
    write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}").map_err(text)?;
    write("index.json", &index).map_err(text)?;
    write(&blob(&manifest_digest), &manifest).map_err(text)?;
    write(&blob(&config_digest), &config).map_err(text)?;
    let mut done: Vec<&str> = Vec::new();
    for (diff_id, (digest, size)) in image.layers.iter().zip(&layers) {
        // A layer that an image repeats is one blob.
        if done.contains(&digest.as_str()) {
            continue;
        }
        done.push(digest);
        file(out, &blob(digest), *size, |out| layer(store, diff_id, out)).map_err(text)?;
    }
    out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(text)?;
    Ok(manifest_digest)
}

/// The configuration with the layers' new digests, and all else as it is.
fn config(store: &Store, image: &Image, layers: &[(String, u64)]) -> Result<Vec<u8>, String> {
    let mut config: Value = store.raw_config(&image.id)?;
    let digests: Vec<&str> = layers.iter().map(|(digest, _)| digest.as_str()).collect();
    let slot = config.pointer_mut("/rootfs/diff_ids");
    *slot.ok_or_else(|| format!("{}: its configuration has no rootfs.diff_ids", image.reference))? =
        json!(digests);
    bytes(&config)
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| error.to_string())
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// A file of the layout.
fn file(
    out: &mut dyn Write,
    name: &str,
    size: u64,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let record = Record { path: name.as_bytes(), kind: b'0', mode: 0o644, size, ..Record::default() };
    record.write(out)?;
    content(out)?;
    untar::pad(out, size)
}

fn layer(store: &Store, diff_id: &str, out: &mut dyn Write) -> io::Result<()> {
    untar::layer(File::open(store.layer(diff_id))?, out)
}

/// The digest and the size of the layer's tar.
fn measure(store: &Store, diff_id: &str) -> io::Result<(String, u64)> {
    struct Measure(Sha256, u64);
    impl Write for Measure {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            self.1 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut measure = Measure(Sha256::new(), 0);
    layer(store, diff_id, &mut measure)?;
    Ok((stream::name(measure.0), measure.1))
}
