//! Inputs that the fuzzer found worth keeping (`fuzz/run`), and those that once broke something: all properties hold.

#[path = "fuzz/images.rs"]
mod images;
#[path = "fuzz/properties.rs"]
mod properties;
#[path = "fuzz/spent.rs"]
mod spent;

use std::fs;
use std::io::Read;
use std::path::Path;

use podinit::manifest::parse;

/// Each kept input of the target has the target's properties.
fn replay(target: &str, property: fn(&[u8])) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fuzz/{target}.tar.gz"));
    let file = fs::File::open(&path).expect("the kept inputs");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut count = 0;
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let (name, mut input) = (entry.path().expect("a name").display().to_string(), Vec::new());
        entry.read_to_end(&mut input).expect("its bytes");
        let told = std::panic::catch_unwind(|| property(&input));
        assert!(told.is_ok(), "{name} of {}: {:?}", path.display(), String::from_utf8_lossy(&input));
        count += 1;
    }
    assert!(count >= 50, "{} holds too few inputs: {count}", path.display());
}

#[test]
fn kept_manifests() {
    replay("manifests", properties::manifests);
}

#[test]
fn kept_resolv_confs() {
    replay("resolv_conf", properties::resolv_conf);
}

#[test]
fn kept_logs() {
    replay("cri_log", properties::cri_log);
}

#[test]
fn kept_layers() {
    replay("layer", images::layer);
}

#[test]
fn kept_blobs() {
    replay("blob", images::blob);
}

#[test]
fn kept_documents() {
    replay("documents", images::documents);
}

/// Each was within the bounds of a document, all of them together took gigabytes.
#[test]
fn a_thousand_small_bombs_in_one_file() {
    let word = "x".repeat(500);
    let bomb = format!("a: &a {word}\nb: &b [{0}]\nc: [{1}]\n", ["*a"; 40].join(","), ["*b"; 70].join(","));
    let text = vec![bomb; 700].join("---\n");
    properties::manifests(text.as_bytes());
    let problems = parse(text.as_bytes(), "f.yaml", "/f.yaml", "n").problems;
    assert!(problems.iter().any(|problem| problem.message.contains("write several files")), "{problems:?}");
}

/// The room of a file's workloads counted values and not their bytes: this took gigabytes.
#[test]
fn a_thousand_pods_with_a_megabyte_of_annotation() {
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  replicas: 1000\n  selector: \
         {{matchLabels: {{a: b}}}}\n  template:\n    metadata: {{labels: {{a: b}}, annotations: {{c: {}}}}}\n    \
         spec: {{containers: [{{name: c, image: x}}]}}\n",
        "x".repeat(1 << 20)
    );
    properties::manifests(text.as_bytes());
    let problems = parse(text.as_bytes(), "f.yaml", "/f.yaml", "n").problems;
    assert!(problems.iter().any(|problem| problem.field == "spec.replicas"), "{problems:?}");
}

/// Each option was compared with all before it, and a copy made of both names.
#[test]
fn a_resolv_conf_of_thousands_of_options() {
    let options: Vec<String> = (0..5000).map(|number| format!("o{number}:1")).collect();
    properties::resolv_conf(format!("options {}\n", options.join(" ")).as_bytes());
}

/// The line that was told stood behind the last one of the file.
#[test]
fn a_text_that_ends_within_a_mapping() {
    properties::manifests(b"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 3\nseccompProfile\n");
}
