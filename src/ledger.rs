//! The facts on disk: what a re-executed PID 1 goes on from.
//!
//! `world.json` is a snapshot, `facts.jsonl` every fact since, one `[tick, fact]` a line. They live in `/run`: a
//! reboot starts from nothing, because nothing of it is left. A fact is written before it is acted upon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::clock::Tick;
use crate::pod::{Fact, World};

/// Facts are folded into a new snapshot when their file has grown to this many bytes.
const FOLD: u64 = 1 << 20;

pub struct Ledger {
    folder: PathBuf,
    facts: File,
    size: u64,
}

impl Ledger {
    /// A fresh start: nothing has happened yet.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let _ = fs::remove_file(folder.join("world.json"));
        let _ = fs::remove_file(folder.join("facts.jsonl"));
        Self::open(folder)
    }

    /// A re-execution: the ledger, and the world that it tells of.
    pub fn resume(folder: &Path) -> io::Result<(Self, World)> {
        let mut world = match fs::read(folder.join("world.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => World::default(),
            Err(why) => return Err(why),
        };
        for line in BufReader::new(File::open(folder.join("facts.jsonl"))?).lines() {
            // The last line may be cut: its writer died in it, so nothing has acted upon it yet.
            if let Ok((now, fact)) = serde_json::from_str::<(Tick, Fact)>(&line?) {
                world.learn(fact, now);
            }
        }
        let mut ledger = Self::open(folder)?;
        ledger.fold(&world)?;
        Ok((ledger, world))
    }

    /// Writes one fact down. `world` must have learned it already: it is what a full ledger is folded into.
    pub fn note(&mut self, fact: &Fact, now: Tick, world: &World) -> io::Result<()> {
        let mut line = serde_json::to_vec(&(now, fact))?;
        line.push(b'\n');
        self.facts.write_all(&line)?;
        self.size += line.len() as u64;
        if self.size > FOLD { self.fold(world) } else { Ok(()) }
    }

    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let facts = OpenOptions::new().append(true).create(true).open(folder.join("facts.jsonl"))?;
        let size = facts.metadata()?.len();
        Ok(Ledger { folder: folder.to_owned(), facts, size })
    }

    /// Snapshot first, by rename, then an empty fact file: a death between the two replays facts that the snapshot
    /// holds already, which `learn` must bear.
    fn fold(&mut self, world: &World) -> io::Result<()> {
        let new = self.folder.join("world.json.new");
        fs::write(&new, serde_json::to_vec(world)?)?;
        fs::rename(&new, self.folder.join("world.json"))?;
        self.facts.set_len(0)?;
        self.size = 0;
        Ok(())
    }
}
