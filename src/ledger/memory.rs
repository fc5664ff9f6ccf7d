//! What is known of Jobs and CronJobs, in a small file that outlives the machine's power where its place does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::pod::batch::facts::Memory;

/// Of `jobs.json`.
pub struct MemoryFile {
    path: PathBuf,
    /// What it holds.
    kept: Memory,
}

impl MemoryFile {
    /// Err: it is there and cannot be understood. It then counts as empty, and is overwritten.
    pub fn open(folder: &Path) -> (Self, io::Result<Memory>) {
        let path = folder.join(NAME);
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Memory>(&bytes).map_err(io::Error::from),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(why) => Err(why),
        };
        let kept = read.as_ref().cloned().unwrap_or_default();
        let told = read.map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", path.display())));
        (MemoryFile { path, kept }, told)
    }

    /// Writes it where it is another one; that time goes on is no reason.
    ///
    /// By rename and without fsync, which may take seconds on a card, and PID 1 does not wait: the file systems that
    /// boards have order a rename after the content. A cut power then loses the last moments, and a Job of them runs
    /// again, as it may in a cluster.
    pub fn keep(&mut self, memory: Memory) -> io::Result<()> {
        let latest = self.kept.latest;
        if (Memory { latest, ..memory.clone() }) == self.kept {
            return Ok(());
        }
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&memory)?)?;
        fs::rename(&new, &self.path)?;
        self.kept = memory;
        Ok(())
    }
}

const NAME: &str = "jobs.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::batch::facts::Past;

    #[test]
    fn it_comes_back_and_is_written_when_it_differs() {
        let folder = std::env::temp_dir().join(format!("podinit-memory-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let open = || MemoryFile::open(&folder);
        let (mut file, empty) = open();
        assert_eq!(empty.unwrap(), Memory::default());
        file.keep(Memory { latest: 5, ..Memory::default() }).unwrap();
        assert!(!folder.join(NAME).exists(), "a machine without Jobs has no such file");
        let past = Past { created: 7, of: None, progress: Default::default(), finished: None };
        let memory = Memory { jobs: [("j".into(), past)].into(), latest: 6, ..Memory::default() };
        file.keep(memory.clone()).unwrap();
        assert_eq!(open().1.unwrap(), memory);
        let later = Memory { latest: 7, ..memory.clone() };
        file.keep(later.clone()).unwrap();
        assert_eq!(open().1.unwrap(), memory, "only the time differs");
        file.keep(Memory { jobs: Default::default(), ..later }).unwrap();
        assert_eq!(open().1.unwrap().latest, 7);
        for bad in ["", "{", "[1]", "\0\0"] {
            fs::write(folder.join(NAME), bad).unwrap();
            let (mut file, told) = open();
            assert!(told.unwrap_err().to_string().contains("jobs.json: "), "{bad:?}");
            file.keep(memory.clone()).unwrap();
            assert_eq!(open().1.unwrap(), memory);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
