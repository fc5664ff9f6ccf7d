//! What is known of Jobs and CronJobs, in a small file that outlives the machine's power where its place does.
//!
//! An fsync may take seconds on a card, and PID 1 does not wait: it puts the content into its run directory, which is
//! memory, and a helper (`podinit __keep`) brings it to the disk. What it brought there is acted upon when it has ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Tick;
use crate::pod::batch::facts::Memory;

/// After a failure it is tried again with the next news, but not sooner.
const AGAIN: Duration = Duration::from_secs(20);

/// Of `jobs.json`.
pub struct MemoryFile {
    path: PathBuf,
    /// What the helper reads, in a folder that it locks.
    next: PathBuf,
    /// What the disk holds.
    kept: Memory,
    under_way: Option<Way>,
    failed: Option<Tick>,
}

/// What a helper brings to the disk.
struct Way {
    helper: i32,
    memory: Memory,
    /// Jobs whose end it tells of.
    ends: Vec<String>,
}

impl MemoryFile {
    /// `folder`: where it is; `run`: in memory. Err: it is there and cannot be understood. It then counts as empty, and
    /// is overwritten.
    pub fn open(folder: &Path, run: &Path) -> (Self, io::Result<Memory>) {
        let path = folder.join(NAME);
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Memory>(&bytes).map_err(io::Error::from),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(why) => Err(why),
        };
        let kept = read.as_ref().cloned().unwrap_or_default();
        let told = read.map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", path.display())));
        let next = run.join("jobs").join("next");
        (MemoryFile { path, next, kept, under_way: None, failed: None }, told)
    }

    /// Whether a helper is under way.
    pub fn busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether something may be brought to the disk now.
    pub fn ready(&self, now: Tick) -> bool {
        !self.busy() && self.failed.is_none_or(|at| now >= at + AGAIN)
    }

    /// Whether the disk holds this; that time goes on makes no difference.
    pub fn holds(&self, memory: &Memory) -> bool {
        let latest = self.kept.latest;
        (Memory { latest, ..memory.clone() }) == self.kept
    }

    /// Puts it where the helper reads it. Returns what the helper is called with.
    ///
    /// By rename, and the helper reads it under a lock: should one of a former life of PID 1 still be at work, the later
    /// of the two brings what was put here last.
    pub fn stage(&self, memory: &Memory) -> io::Result<[String; 2]> {
        let new = self.next.with_extension("new");
        if let Some(folder) = self.next.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&new, serde_json::to_vec(memory)?)?;
        fs::rename(&new, &self.next)?;
        Ok([&self.next, &self.path].map(|path| path.display().to_string()))
    }

    /// The helper is under way with this.
    pub fn begun(&mut self, helper: i32, memory: Memory, ends: Vec<String>) {
        self.under_way = Some(Way { helper, memory, ends });
    }

    /// A child of PID 1 has ended so. None: it was none of ours; else the Jobs whose end it told of.
    pub fn ended(&mut self, pid: i32, done: bool, now: Tick) -> Option<Vec<String>> {
        let way = self.under_way.take_if(|way| way.helper == pid)?;
        match done {
            true => (self.kept, self.failed) = (way.memory, None),
            false => self.failed(now),
        }
        Some(way.ends)
    }

    pub fn failed(&mut self, now: Tick) {
        self.failed = Some(now);
    }
}

const NAME: &str = "jobs.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::batch::facts::Past;

    #[test]
    fn it_comes_back_and_only_what_a_helper_brought_to_the_disk_counts() {
        let folder = std::env::temp_dir().join(format!("podinit-memory-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let open = || MemoryFile::open(&folder, &folder.join("run"));
        let keep = |file: &mut MemoryFile, memory: &Memory| {
            let [from, to] = file.stage(memory).unwrap();
            fs::copy(from, to).unwrap();
            file.begun(7, memory.clone(), vec!["j".into()]);
            assert!(file.busy() && !file.ready(Tick(0)) && !file.holds(memory));
            assert_eq!(file.ended(8, true, Tick(0)), None);
            assert_eq!(file.ended(7, true, Tick(0)), Some(vec!["j".into()]));
            assert!(file.ready(Tick(0)) && file.holds(memory));
        };
        let (mut file, empty) = open();
        assert_eq!(empty.unwrap(), Memory::default());
        assert!(
            file.holds(&Memory { latest: 5, ..Memory::default() }),
            "a machine without Jobs has no such file"
        );
        let past = Past { created: 7, started: 8, of: None, progress: Default::default(), finished: None };
        let memory = Memory { jobs: [("j".into(), past)].into(), latest: 6, ..Memory::default() };
        assert!(!file.holds(&memory));
        keep(&mut file, &memory);
        assert_eq!(open().1.unwrap(), memory);
        assert!(file.holds(&Memory { latest: 7, ..memory.clone() }), "only the time differs");
        // A helper that failed: it is tried again, a while later.
        let less = Memory { jobs: Default::default(), ..memory.clone() };
        file.begun(9, less.clone(), Vec::new());
        assert_eq!(file.ended(9, false, Tick::seconds(1)), Some(Vec::new()));
        assert!(file.holds(&memory) && !file.holds(&less));
        assert!(!file.ready(Tick::seconds(20)) && file.ready(Tick::seconds(21)));
        for bad in ["", "{", "[1]", "\0\0"] {
            fs::write(folder.join(NAME), bad).unwrap();
            let (mut file, told) = open();
            assert!(told.unwrap_err().to_string().contains("jobs.json: "), "{bad:?}");
            keep(&mut file, &memory);
            assert_eq!(open().1.unwrap(), memory);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
