//! `podinit __import <store> <directory>...`: the archives of some directories into the store, one after the other; what
//! became of each is told on descriptor 3.
//!
//! Anybody may have made them, so it gives up what a pull gives up.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use super::pull::shed;
use crate::image::Store;
use crate::image::imports::{self, Told};
use crate::image::platform::Platform;

/// The exit code: 0 all was told.
pub fn run(args: &[String]) -> i32 {
    let [store, folders @ ..] = args else {
        eprintln!("usage: podinit __import STORE DIRECTORY...");
        return 2;
    };
    // Before anything is given up.
    let Ok(mut said) = OpenOptions::new().append(true).open("/proc/self/fd/3") else { return 2 };
    let (store, folders) = (PathBuf::from(store), folders.iter().map(PathBuf::from).collect::<Vec<_>>());
    let ready = std::fs::create_dir_all(&store).map_err(|why| format!("{}: {why}", store.display()));
    let done = match ready.and_then(|()| shed::shed(&store)) {
        Err(why) => tell(&mut said, &Err(why)),
        Ok(()) => import(&Store::open(store), &folders, &mut said),
    };
    i32::from(done.is_err())
}

fn import(store: &Store, folders: &[PathBuf], said: &mut dyn Write) -> io::Result<()> {
    let platform = Platform::host();
    for archive in imports::archives(folders) {
        let told = match imports::import(store, &archive, &platform) {
            Ok(None) => continue,
            Ok(Some(images)) => Ok(format!("{} imported from {}", images.join(", "), archive.display())),
            Err(why) => Err(format!("not imported: {why}")),
        };
        tell(said, &told)?;
    }
    Ok(())
}

fn tell(said: &mut dyn Write, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    said.write_all(&line)
}
