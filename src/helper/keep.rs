//! `podinit __keep <from> <to>`: a small file from memory to the disk, whole or not at all, and there when this ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The exit code: 0 it is on the disk, through a power cut too.
pub fn run(args: &[String]) -> i32 {
    let [from, to] = args else {
        eprintln!("usage: podinit __keep FROM TO");
        return 2;
    };
    match keep(Path::new(from), Path::new(to)) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{to}: cannot be written: {why}");
            1
        }
    }
}

/// Read under the lock of its folder: the last one of several that are at work brings the last content.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    let folder = |path: &Path| File::open(path.parent().unwrap_or(Path::new("/")));
    let lock = folder(from)?;
    lock.lock()?;
    let bytes = fs::read(from)?;
    let new = to.with_extension("json.new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, to)
    });
    if written.is_err() {
        // What is half there takes room that is needed.
        let _ = fs::remove_file(&new);
    }
    written.and_then(|()| folder(to)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_or_as_it_was() {
        let home = std::env::temp_dir().join(format!("podinit-keep-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(home.join("run")).unwrap();
        let (from, to) = (home.join("run/next"), home.join("jobs.json"));
        let words = |path: &Path| path.display().to_string();
        let args = [words(&from), words(&to)];
        assert_eq!(run(&args), 1, "there is nothing to bring");
        assert!(!to.exists());
        for content in ["a longer one", "short"] {
            fs::write(&from, content).unwrap();
            // What a cut one left is in nobody's way.
            fs::write(home.join("jobs.json.new"), "half of something that is longer than both").unwrap();
            assert_eq!(run(&args), 0);
            assert_eq!(fs::read_to_string(&to).unwrap(), content);
            assert!(!home.join("jobs.json.new").exists());
        }
        // Where the file cannot be written the old one stays.
        fs::write(&from, "later").unwrap();
        fs::create_dir(home.join("jobs.json.new")).unwrap();
        assert_eq!(run(&args), 1);
        assert_eq!(fs::read_to_string(&to).unwrap(), "short");
        // One that comes while another is at work waits for it, and then brings what is newest.
        fs::remove_dir(home.join("jobs.json.new")).unwrap();
        let other = File::open(home.join("run")).unwrap();
        other.lock().unwrap();
        let waiting = std::thread::spawn(move || run(&args));
        fs::write(&from, "newest").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "short");
        other.unlock().unwrap();
        assert_eq!(waiting.join().unwrap(), 0);
        assert_eq!(fs::read_to_string(&to).unwrap(), "newest");
        assert_eq!(run(&[]), 2);
        fs::remove_dir_all(&home).unwrap();
    }
}
