//! The facts on disk: what a re-executed PID 1 goes on from.
//!
//! `world.json` is a snapshot, `facts.jsonl` every fact since, one `[tick, fact]` a line. They live in `/run`: a
//! reboot starts from nothing, because nothing of it is left. A fact is written before it is acted upon.

mod memory;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock::Tick;
use crate::pod::{Fact, World};

pub use memory::MemoryFile;

/// Facts are folded into a new snapshot when their file has grown to this many bytes, and is as large as the snapshot: so
/// a fact costs the same in a large world as in a small one.
const FOLD: u64 = 1 << 20;

/// Secrets are among the facts.
const OWN: u32 = 0o600;

pub struct Ledger {
    folder: PathBuf,
    facts: File,
    size: u64,
    /// How large the last snapshot was.
    whole: u64,
    /// A fact could not be written: what is on disk would tell of another world, so it was taken away.
    behind: bool,
}

impl Ledger {
    /// A fresh start: nothing has happened yet.
    pub fn create(folder: &Path) -> io::Result<Self> {
        forget(folder);
        Self::open(folder)
    }

    /// A re-execution: the ledger, and the world that it tells of. Fails where it is missing or cannot be understood.
    pub fn resume(folder: &Path) -> io::Result<(Self, World)> {
        let path = folder.join(WORLD);
        let mut world = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| context(&why.into(), &path))?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => World::default(),
            Err(why) => return Err(context(&why, &path)),
        };
        let path = folder.join(FACTS);
        let bytes = fs::read(&path).map_err(|why| context(&why, &path))?;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // The last line may be cut: its writer died in it, so nothing has acted upon it yet.
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let (now, fact) = serde_json::from_slice::<(Tick, Fact)>(line).map_err(|why| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}:{}: {why}", path.display(), index + 1))
            })?;
            world.learn(fact, now);
        }
        let mut ledger = Self::open(folder)?;
        if let Err(why) = ledger.fold(&world) {
            // Behind is not lost: the next note tries again.
            log::error!("ledger: {why}: until there is room a re-execution would start from nothing");
        }
        Ok((ledger, world))
    }

    /// Writes one fact down. `world` must have learned it already: it is what a full ledger is folded into.
    ///
    /// Err: there is no room for it. Then nothing is left on disk, because a later life must rather start over than go
    /// on from half of what happened; each later note tries to write the whole world again. Told once.
    pub fn note(&mut self, fact: &Fact, now: Tick, world: &World) -> io::Result<()> {
        if self.behind {
            let _ = self.fold(world);
            return Ok(());
        }
        let mut line = serde_json::to_vec(&(now, fact))?;
        line.push(b'\n');
        let written = self.facts.write_all(&line);
        self.size += line.len() as u64;
        // Where there is no room for a line there may be some once the lines are folded.
        if written.is_err() || self.size > FOLD.max(self.whole) { self.fold(world) } else { Ok(()) }
    }

    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let facts = OpenOptions::new().append(true).create(true).mode(OWN).open(folder.join(FACTS))?;
        let size = facts.metadata()?.len();
        Ok(Ledger { folder: folder.to_owned(), facts, size, whole: 0, behind: false })
    }

    /// Snapshot first, by rename, then an empty fact file: a death between the two replays facts that the snapshot
    /// holds already, which `learn` must bear.
    fn fold(&mut self, world: &World) -> io::Result<()> {
        let folded = self.snapshot(world);
        self.behind = folded.is_err();
        if self.behind {
            forget(&self.folder);
        }
        folded
    }

    fn snapshot(&mut self, world: &World) -> io::Result<()> {
        let new = self.folder.join(NEW);
        // What a cut one left may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWN).open(&new)?;
        let bytes = serde_json::to_vec(world)?;
        file.write_all(&bytes)?;
        if self.behind {
            // It was taken away with all that it held.
            self.facts = Self::open(&self.folder)?.facts;
        }
        fs::rename(&new, self.folder.join(WORLD))?;
        self.facts.set_len(0)?;
        (self.size, self.whole) = (0, bytes.len() as u64);
        Ok(())
    }
}

const WORLD: &str = "world.json";
const NEW: &str = "world.json.new";
const FACTS: &str = "facts.jsonl";

/// Whatever is there of a ledger. The facts first: without them there is none.
fn forget(folder: &Path) {
    for name in [FACTS, WORLD, NEW] {
        let _ = fs::remove_file(folder.join(name));
    }
}

fn context(why: &io::Error, path: &Path) -> io::Error {
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::Exit;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("podinit-ledger-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    /// A pod whose container crashes over and over, up to run `runs`.
    fn story(runs: u32) -> Vec<(Tick, Fact)> {
        let (uid, container) = (|| "u1".to_owned(), || "c".to_owned());
        let mut facts = vec![
            Fact::Admitted { pod: sample::pod(RestartPolicy::Always, &[], &["c"]) },
            Fact::SetUp { uid: uid(), ip: None },
            Fact::ImageFound { uid: uid(), container: container(), id: "sha256:1".into(), pulled: None },
            Fact::Helper { name: "logger".into(), pid: Some(3) },
        ];
        for run in 0..runs {
            let id = format!("id{run}");
            facts.push(Fact::Piped { id: id.clone(), log: "c.log".into(), fds: vec![4, 5, 6, 7, 8, 9] });
            facts.push(Fact::Starting {
                uid: uid(),
                container: container(),
                run,
                helper: 9,
                stdout: 4,
                stderr: 4,
            });
            facts.push(Fact::Started { uid: uid(), container: container(), run, pid: 10 });
            let exit = Exit { code: 1, message: "x".repeat(200), ..Exit::default() };
            facts.push(Fact::Exited { uid: uid(), container: container(), run, exit });
            facts.push(Fact::Drained { id });
            facts.push(Fact::Cleaned { uid: uid(), container: container(), run });
        }
        facts.into_iter().enumerate().map(|(second, fact)| (Tick::seconds(second as u64), fact)).collect()
    }

    fn tell(ledger: &mut Ledger, world: &mut World, facts: &[(Tick, Fact)]) {
        for (now, fact) in facts {
            world.learn(fact.clone(), *now);
            ledger.note(fact, *now, world).expect("noted");
        }
    }

    #[test]
    fn a_new_life_knows_what_the_former_one_knew() {
        let folder = folder("resume");
        let facts = story(3);
        for cut in 0..=facts.len() {
            let (mut ledger, mut world) = (Ledger::create(&folder).expect("created"), World::default());
            tell(&mut ledger, &mut world, &facts[..cut]);
            let (mut ledger, resumed) = Ledger::resume(&folder).expect("resumed");
            assert_eq!(resumed, world, "after {cut} facts");
            // It goes on where the former one stopped.
            tell(&mut ledger, &mut world, &facts[cut..]);
            assert_eq!(Ledger::resume(&folder).expect("resumed twice").1, world, "after {cut} facts");
        }
        fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn a_cut_line_is_one_that_nobody_acted_upon() {
        let folder = folder("torn");
        let facts = story(1);
        let (mut ledger, mut world) = (Ledger::create(&folder).expect("created"), World::default());
        tell(&mut ledger, &mut world, &facts[..4]);
        let line = serde_json::to_vec(&facts[4]).expect("a line");
        let before = fs::read(folder.join(FACTS)).expect("facts");
        // The last of them is a whole fact without its line's end: its write was not over.
        for length in 1..=line.len() {
            let _ = fs::remove_file(folder.join(WORLD));
            fs::write(folder.join(FACTS), [&before, &line[..length]].concat()).expect("torn");
            let (mut ledger, resumed) = Ledger::resume(&folder).expect("resumed");
            assert_eq!(resumed, world, "{length} bytes of the last line");
            // What is written next is not glued to it.
            ledger.note(&facts[4].1, facts[4].0, &resumed).expect("noted");
            assert!(Ledger::resume(&folder).is_ok(), "{length} bytes of the last line");
        }
        fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn a_long_ledger_is_folded_and_a_death_within_replays_what_is_known() {
        let folder = folder("fold");
        let facts = story(2500);
        let (mut ledger, mut world) = (Ledger::create(&folder).expect("created"), World::default());
        tell(&mut ledger, &mut world, &facts);
        let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
        assert!(size(WORLD) > 0 && size(FACTS) <= FOLD, "{} and {} bytes", size(WORLD), size(FACTS));
        assert_eq!(Ledger::resume(&folder).expect("resumed").1, world);

        // A death between the snapshot and the emptying of the facts, at any distance.
        for from in [0, 1, facts.len() / 2, facts.len() - 3] {
            let lines: Vec<_> =
                facts[from..].iter().map(|fact| serde_json::to_vec(fact).expect("a line")).collect();
            fs::write(folder.join(FACTS), [lines.join(&b'\n'), vec![b'\n']].concat()).expect("facts");
            fs::write(folder.join(WORLD), serde_json::to_vec(&world).expect("a world")).expect("a snapshot");
            assert_eq!(Ledger::resume(&folder).expect("resumed").1, world, "from {from}");
        }
        fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn what_cannot_be_understood_is_told_by_its_file() {
        let folder = folder("bad");
        let fresh = || drop(Ledger::create(&folder).expect("created"));
        let told = || Ledger::resume(&folder).err().expect("an error").to_string();
        assert!(told().contains(FACTS), "missing: {}", told());
        fresh();
        assert_eq!(Ledger::resume(&folder).expect("empty").1, World::default());
        for bad in ["", "{", "[]", "\0\0\0", "{\"pods\": 5}"] {
            fresh();
            fs::write(folder.join(WORLD), bad).expect("a snapshot");
            assert!(told().contains(WORLD), "{bad:?}: {}", told());
        }
        fresh();
        fs::write(folder.join(FACTS), "[1,{\"TornDown\":{\"uid\":\"u\"}}]\nnonsense\n").expect("facts");
        assert!(told().contains("facts.jsonl:2"), "{}", told());
        // Starting over takes all of it away.
        fresh();
        assert_eq!(Ledger::resume(&folder).expect("empty").1, World::default());
        fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn without_room_nothing_false_is_left_and_it_comes_back_whole() {
        let folder = folder("full");
        let facts = story(2);
        let (mut ledger, mut world) = (Ledger::create(&folder).expect("created"), World::default());
        tell(&mut ledger, &mut world, &facts[..4]);
        // Every write to it fails, and so does every snapshot.
        ledger.facts = OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
        fs::create_dir_all(folder.join(NEW).join("in-the-way")).expect("an obstacle");
        let note = |ledger: &mut Ledger, world: &mut World, at: usize| {
            let (now, fact) = &facts[at];
            world.learn(fact.clone(), *now);
            ledger.note(fact, *now, world)
        };
        assert!(note(&mut ledger, &mut world, 4).is_err());
        assert!(note(&mut ledger, &mut world, 5).is_ok(), "it is told once");
        assert!(Ledger::resume(&folder).is_err(), "half of what happened was left");
        fs::remove_dir_all(folder.join(NEW)).expect("room");
        assert!(note(&mut ledger, &mut world, 6).is_ok());
        assert!(note(&mut ledger, &mut world, 7).is_ok());
        assert_eq!(Ledger::resume(&folder).expect("resumed").1, world);
        fs::remove_dir_all(&folder).expect("clean");
    }
}
