//! Boots boards in qemu: the way a person uses them, from the image build to the power button.
//!
//! A scenario is a test like those below: `board(NAME)` with its manifests, `boot()`, then what a person would do and see.

mod cases;
mod enforced;
mod hooks;
mod jobs;
mod lifecycle;
mod logs;
mod manifests;
mod operator;
mod outlive;
mod pods;
mod pulls;
mod qemu;
mod resources;
mod robust;
mod security;
#[path = "../registry/servers.rs"]
#[allow(dead_code, reason = "a registry is enough here")]
mod servers;

use std::path::Path;
use std::process::Command;

use qemu::{Board, Setup, board, built};

/// The main path: the kernel starts podinit, the demo pod answers over HTTP, `poweroff` switches the machine off.
fn demo_answers(name: &'static str) {
    let mut board = answering(board(name));
    board.say("poweroff");
    assert_eq!(board.ended().code(), Some(0));
}

/// Boots it, until the demo answers.
fn answering(setup: Setup) -> Board {
    let mut board = setup.boot();
    let page = board.http("/");
    assert!(page.contains("200 OK") && page.contains("It runs."), "{page}");
    let pods = board.ask("get pods");
    assert!(
        pods.lines()
            .any(|line| line.starts_with("hello-") && line.contains("1/1") && line.contains("Running")),
        "{pods}"
    );
    board
}

#[test]
fn qemu_x86_64_serves_the_demo() {
    demo_answers("qemu-x86_64");
}

#[test]
fn qemu_aarch64_serves_the_demo() {
    demo_answers("qemu-aarch64");
}

#[test]
fn raspberrypi_serves_the_demo_from_its_card_and_imports_what_was_put_there() {
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other.tar");
    let setup = board("raspberrypi");
    let _ = std::fs::remove_file(&archive);
    let from = format!("oci-archive:{}/build/demo/arm64.tar", env!("CARGO_MANIFEST_DIR"));
    let to = format!("docker-archive:{}:podinit.dev/other:1", archive.display());
    built("raspberrypi");
    servers::run(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &from, &to]));
    let mut board = answering(setup.on_card(&archive, "images/other.tar"));
    let images = board.ask("image list -o json");
    let images: serde_json::Value = serde_json::from_str(&images).expect(&images);
    let found: Vec<_> = images["images"]
        .as_array()
        .expect("images")
        .iter()
        .map(|image| (image["reference"].as_str(), image["factory"].as_bool()))
        .collect();
    let wanted = [(Some("podinit.dev/demo:1"), Some(true)), (Some("podinit.dev/other:1"), Some(false))];
    assert_eq!(found, wanted);
    board.say("poweroff");
    assert_eq!(board.ended().code(), Some(0));
}

#[test]
fn the_power_button_switches_off() {
    let mut board = board("qemu-x86_64").boot();
    board.http("/");
    board.press_power();
    assert_eq!(board.ended().code(), Some(0));
}

#[test]
fn reboot_comes_back_up() {
    let mut board = board("qemu-x86_64").boot();
    board.http("/");
    let mark = board.say("reboot");
    // The kernel's first line of the second boot is above the console's log level; podinit's own is not.
    board.wait_from(mark, "is PID 1");
    board.http("/");
}

#[test]
fn ctrl_alt_del_reboots_in_order() {
    let board = board("qemu-x86_64").boot();
    board.http("/");
    let mark = board.mark();
    board.monitor("sendkey ctrl-alt-delete");
    let (mark, _) = board.wait_from(mark, "ending: reboot");
    let (mark, _) = board.wait_from(mark, "hello-podinit: gone");
    board.wait_from(mark, "is PID 1");
    board.http("/");
}

#[test]
fn a_pulled_plug_leaves_the_data_disk_usable() {
    let board = board("qemu-x86_64").data().boot();
    board.http("/");
    let board = board.boot_again();
    assert!(board.http("/").contains("It runs."));
}
