//! A layer that decays on the board's disk between two boots.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::qemu::board;

const BLOCK: u64 = 4096;

/// Flips a bit of the first program in the layer on a disk with an ext4 file system, without that file system's help.
fn flip_on_disk(disk: &Path, layer: &Path) {
    let bytes = std::fs::read(layer).expect("the layer, as the image build made it");
    let magic = b"\x7fELF";
    let at = bytes.windows(magic.len()).position(|found| found == magic).expect("a program") as u64;
    let name = layer.file_name().unwrap().to_str().unwrap();
    let mut debugfs = Command::new("debugfs");
    debugfs.arg("-R").arg(format!("blocks /podinit/images/layers/{name}")).arg(disk);
    let said = String::from_utf8(debugfs.output().expect("debugfs (package e2fsprogs)").stdout).unwrap();
    let blocks: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let place = blocks[(at / BLOCK) as usize] * BLOCK + at % BLOCK;
    let file = File::options().read(true).write(true).open(disk).unwrap();
    let mut there = [0; 4];
    file.read_exact_at(&mut there, place).unwrap();
    assert_eq!(&there, magic, "it is that block");
    // A bit that a kernel without the seal would not stumble over: of what pads the header.
    file.write_all_at(&[1], place + 12).unwrap();
}

fn layer() -> std::path::PathBuf {
    let layers = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/qemu-x86_64/images/layers");
    let mut files = std::fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|kind| kind == "erofs")).expect("the demo's layer")
}

/// The kernel refuses to read what is not what was sealed; the container's start fails for it, the layer is read at once,
/// put aside and replaced by the one that came with the board, and the pod answers. Nobody does anything.
#[test]
fn a_flipped_bit_on_the_disk_is_an_error_to_its_reader_and_heals() {
    let config = "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nimageVerifyFrequency: 100h\n";
    let mut board = board("qemu-x86_64").config(config).data().boot();
    assert!(board.http("/").contains("It runs."));
    board.wait_for("images: all in use were read and are whole");
    // A name of one's own takes the layer from behind the store into it, where it is sealed.
    board.ask("image tag podinit.dev/demo:1 podinit.dev/mine:1");
    let told = board.ask("image inspect podinit.dev/mine:1");
    assert!(told.contains("\"sealedLayers\": 1"), "{told}");
    board.say("poweroff");
    assert_eq!(board.ended().code(), Some(0));
    let layer = layer();
    flip_on_disk(&board.disk(), &layer);

    let mut board = board.boot_again();
    let line = board.wait_for("is damaged: ");
    let file = layer.file_name().unwrap().to_str().unwrap();
    assert!(line.contains(file) && line.contains("Input/output error"), "{line}");
    assert!(line.ends_with("replaced from /run/podinit/factory/images"), "{line}");
    assert!(board.http("/").contains("It runs."));
    let events = board.ask("get events");
    assert!(events.contains("ImageDamaged"), "{events}");
    let told = board.ask("image verify");
    assert!(told.contains("podinit.dev/demo:1: ok"), "{told}");
    // The new one is sealed too.
    let told = board.ask("image inspect podinit.dev/demo:1");
    assert!(told.contains("\"sealedLayers\": 1"), "{told}");
}
