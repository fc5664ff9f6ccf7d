//! States in which a disk may be that lost its cache, each mounted on this machine and used as a board would use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::book::Book;
use super::servers::run;
use super::shown::Shown;
use super::stage::{Stage, typed};
use super::writes::{Entry, Loss, cuts, entries, flushed, open, replay, survivors};
use super::{given, seed};

/// Of so many states one is booted.
const BOOTED: usize = 60;

#[test]
fn a_lost_cache_loses_nothing_acknowledged() {
    let (count, seed) = (given("PODINIT_CRASH_STATES").unwrap_or(40), seed());
    println!("PODINIT_CRASH_STATES={count} PODINIT_CUTS_SEED={seed}");
    let count = usize::try_from(count).expect("a number of states");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new("cache");
    let folder = Memory::new(&stage);
    let (book, from) = record(&stage, &mut random, 4 + count / 10, &folder.0.join("log"));
    let log = open(&folder.0.join("log"));
    let all = entries(&log).expect("a log");
    let first = all.iter().position(|entry| entry.end() >= from).expect("writes");
    println!("{} writes and flushes, {} since the first command", all.len(), all.len() - first);

    // All that has surely reached the disk at the cut in question.
    let (kept, state) = (folder.0.join("kept"), folder.0.join("state"));
    copy(&stage.disk, &kept);
    let (disk, mut done) = (open(&kept), 0);
    let (mut lost, mut open_then, mut booted) = (0, 0, 0);
    for (number, cut) in cuts(count, &all[first..], &mut random).into_iter().enumerate() {
        let cut = first + cut;
        let sure = flushed(&all[..=cut]);
        replay(&log, &disk, &whole(&all[done..sure])).expect("replayed");
        done = sure;
        copy(&kept, &state);
        let loss = [Loss::All, Loss::Some, Loss::Torn, Loss::One][random.usize(..4)];
        let pieces = survivors(&all[sure..=cut], loss, &mut random);
        let bytes = |pieces: &[(Entry, u64, u64)]| pieces.iter().map(|(.., length)| length).sum::<u64>();
        lost += usize::from(bytes(&pieces) < bytes(&whole(&all[sure..=cut])));
        replay(&log, &open(&state), &pieces).expect("replayed");
        let at = all[cut].end();
        open_then += usize::from(book.working(at));
        let told = |why: String| panic!("state {number} of seed {seed}, write {cut}, {loss:?}: {why}");
        if number % BOOTED == BOOTED / 2 {
            booted += 1;
            boot(&stage, &state, &book, at).unwrap_or_else(told);
        }
        check(&stage, &folder.0, &book, at, &mut random)
            .unwrap_or_else(|why| told(format!("{why}; open then: {:?}", book.open(at))));
        if (number + 1) % 20 == 0 || number + 1 == count {
            let number = number + 1;
            println!(
                "{number} states: {open_then} within commands, {lost} with lost writes, {booted} booted"
            );
        }
    }
}

/// A folder in memory, in a mount namespace of this thread's: it is gone with the thread, and so are all mounts in it.
struct Memory(PathBuf);

impl Memory {
    fn new(stage: &Stage) -> Memory {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root, for a mount namespace of its own");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("a private tree");
        let folder = stage.disk.with_file_name("states");
        fs::create_dir(&folder).expect("a folder");
        mount(Some("states"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=2G")).expect("a tmpfs");
        fs::create_dir(folder.join("mounted")).expect("a folder");
        Memory(folder)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // With the disk that may be mounted in it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Runs rounds of commands on a board and logs the writes of its disk. What was begun and acknowledged at which length of
/// the log; and its length before the first.
fn record(stage: &Stage, random: &mut fastrand::Rng, rounds: usize, log: &Path) -> (Book, u64) {
    let mut board = stage.setup(&stage.disk).writes().boot();
    let (shown, _) = stage.look(&mut board, false).expect("a fresh disk");
    let written = board.file("writes");
    let length = || fs::metadata(&written).expect("a log").len();
    let (mut states, from) = (shown.states(), length());
    let mut book = Book::new(states.clone());
    for _ in 0..rounds {
        let ops = stage.draw(random, &states);
        let begun = length();
        let numbers: Vec<_> = ops.iter().map(|op| book.begin(begun, op.change.clone(), op.sweeps)).collect();
        let mark = board.prompt().say(&typed(&ops));
        let mark = board.prompt().wait_from(mark, "GO.");
        let mut open: Vec<_> = numbers.iter().enumerate().collect();
        while !open.is_empty() {
            let said = board.prompt().since(mark);
            assert!(!said.contains("FAIL"), "{ops:?}: {said}");
            let now = length();
            open.retain(|(op, number)| {
                let done = said.contains(&format!("ACK {op}."));
                if done {
                    book.done(**number, now);
                }
                !done
            });
            sleep(Duration::from_millis(2));
        }
        board.prompt().wait_from(mark, "DONE.");
        states.extend(ops.into_iter().filter_map(|op| op.change));
        states.retain(|_, state| state.is_some());
    }
    board.monitor("quit");
    board.ended();
    fs::copy(board.file("writes"), log).expect("the log");
    (book, from)
}

fn whole(entries: &[Entry]) -> Vec<(Entry, u64, u64)> {
    entries.iter().map(|entry| (*entry, 0, entry.length)).collect()
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").args([from, to]));
}

/// As on a board: the mount replays the journal; then what is there, a sweep, and an image that comes anew.
fn check(
    stage: &Stage,
    folder: &Path,
    book: &Book,
    at: u64,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let (state, mounted) = (folder.join("state"), folder.join("mounted"));
    command(Command::new("mount").args(["-o", "loop,noatime,errors=remount-ro"]).args([&state, &mounted]))?;
    let used = used(stage, &mounted.join("podinit/images"), book, at, random);
    command(Command::new("umount").arg(&mounted))?;
    used?;
    command(Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&state))
}

fn used(stage: &Stage, store: &Path, book: &Book, at: u64, random: &mut fastrand::Rng) -> Result<(), String> {
    Shown::read(store)?.judge(book, at)?;
    let image = |words: &str| {
        let mut podinit = Command::new(env!("CARGO_BIN_EXE_podinit"));
        podinit.arg("image").arg("--store").arg(store).args(words.split(' '));
        command(&mut podinit)
    };
    image("verify")?;
    image("prune")?;
    let swept = Shown::read(store)?;
    if let Some(left) = swept.unnamed().first() {
        return Err(format!("{left} is left after a prune"));
    }
    // What was under way, or anything: it comes anew.
    let open = book.open(at);
    let pulls: Vec<_> = (0..4).map(|content| stage.pull(content)).collect();
    let cut = pulls.iter().find(|op| op.change.as_ref().is_some_and(|(name, _)| open.contains(name)));
    let pull = cut.unwrap_or(&pulls[random.usize(..4)]);
    image(&format!("{} --config {}", pull.words, stage.here().display()))?;
    let import = stage.import(random.usize(..6));
    let archive = store.join("../../cuts").canonicalize().map_err(|why| why.to_string())?;
    image(&import.words.replace("/data/cuts", &archive.display().to_string()))?;
    image("verify")?;
    let states = Shown::read(store)?.states();
    for (name, state) in [pull, &import].into_iter().filter_map(|op| op.change.as_ref()) {
        if states.get(name) != Some(state) {
            return Err(format!("{name} is {:?}, and was to become {state:?}", states.get(name)));
        }
    }
    Ok(())
}

fn boot(stage: &Stage, state: &Path, book: &Book, at: u64) -> Result<(), String> {
    let mut board = stage.setup(state).boot();
    let (shown, left) = stage.look(&mut board, true)?;
    shown.judge(book, at)?;
    match left.as_ref().and_then(|left| left.unnamed().first().copied()) {
        Some(file) => Err(format!("{file} is left after a prune")),
        None => Ok(()),
    }
}

/// What it said, where it failed.
fn command(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {said}", output.status)) }
}
