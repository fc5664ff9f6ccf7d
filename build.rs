//! Tells the binary its git revision, so that `podinit version` and the boot line name what runs; and keeps it lean.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // In a linked worktree .git is a file; a path that is not there would build everything anew each time.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=PODINIT_REVISION={revision}");
    lean();
}

/// A release aborts where it panics: nobody ever reads its tables for unwinding, a tenth of its size. Only Rust's own
/// linker, which is the default for PCs, can leave them out.
fn lean() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    let script = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("lean.ld");
    let tables = "*(.eh_frame) *(.gcc_except_table .gcc_except_table.*)";
    // With INSERT the linker's own layout stays as it is.
    let text = format!("SECTIONS {{ /DISCARD/ : {{ {tables} }} }} INSERT AFTER .bss;\n");
    fs::write(&script, text).expect("the output directory is ours");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned())
}
