//! Power cuts: a board loses its power at random instants of what changes its images, and everything that it said it
//! had done is there at the next boot, nothing is damaged, and nothing is left over.
//!
//! Two models. `a_killed_board_*`: qemu is killed, so that all is lost that the board's kernel had not given to its disk.
//! `a_lost_cache_*`: qemu logs the writes and flushes of the disk (`blklogwrites`); from the log come states in which the
//! disk has lost, or torn, any of those that it had not been told to flush.
//!
//! PODINIT_CUTS and PODINIT_CRASH_STATES: how many; PODINIT_CUTS_SEED: which. Needs root, loop devices and ext4.

mod book;
#[path = "../boot/qemu.rs"]
mod qemu;
#[path = "../registry/servers.rs"]
#[allow(dead_code, reason = "a registry is enough here")]
mod servers;
mod shown;
mod stage;
mod states;
mod writes;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use book::Book;
use stage::{Op, Stage, typed};

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What decides all that is random. It is told, so that a failure can be tried again.
fn seed() -> u64 {
    given("PODINIT_CUTS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000))
}

/// How long each kind of command took when nothing disturbed it; under the name of none, until it began.
type Durations = BTreeMap<&'static str, Duration>;

/// When to cut, after the commands were typed: somewhere from a little before their begin to a little after their likely
/// end. `scale`: how many times as long as at first they take now.
fn delay(random: &mut fastrand::Rng, ops: &[Op], durations: &Durations, scale: f64) -> Duration {
    let all: Duration = ops.iter().map(|op| durations[op.kind]).sum();
    let (first, last) = (durations[""].mul_f64(0.8), (durations[""] + all).mul_f64(scale));
    first + last.saturating_sub(first).mul_f64(random.f64())
}

#[test]
fn a_killed_board_keeps_what_it_acknowledged() {
    let (count, seed) = (given("PODINIT_CUTS").unwrap_or(6), seed());
    println!("PODINIT_CUTS={count} PODINIT_CUTS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new("killed");
    let mut board = stage.setup(&stage.disk).boot();
    let (shown, _) = stage.look(&mut board, false).expect("a fresh disk");
    let mut states = shown.states();
    let mut durations = Durations::new();
    for op in stage.each() {
        let mark = board.prompt().say(&typed(std::slice::from_ref(&op)));
        let clock = Instant::now();
        let begun = board.prompt().wait_from(mark, "GO.");
        durations.insert("", clock.elapsed());
        let clock = Instant::now();
        board.prompt().wait_from(begun, "DONE.");
        assert!(board.prompt().since(begun).contains("ACK 0."), "{op:?}: {}", board.prompt().since(begun));
        durations.insert(op.kind, clock.elapsed());
        states.extend(op.change);
    }
    println!("{durations:?}");
    states.retain(|_, state| state.is_some());
    let mut files = stage.look(&mut board, false).expect("all in order").0.files;

    let (mut before, mut within, mut after) = (0, 0, 0);
    let mut scale = 1.1;
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for cut in 0..count {
        let ops = stage.draw(&mut random, &states);
        let mut book = Book::new(states);
        for op in &ops {
            book.begin(0, op.change.clone(), op.sweeps);
        }
        let mark = board.prompt().say(&typed(&ops));
        sleep(delay(&mut random, &ops, &durations, scale));
        let said = board.prompt().since(mark);
        board = board.boot_again();
        assert!(!said.contains("FAIL"), "{ops:?}: {said}");
        let acknowledged: Vec<usize> =
            (0..ops.len()).filter(|op| said.contains(&format!("ACK {op}."))).collect();
        acknowledged.iter().for_each(|op| book.done(*op, 1));
        let prune = random.bool();
        let checked = stage.look(&mut board, prune).and_then(|(shown, left)| {
            shown.judge(&book, 1)?;
            match left.as_ref().and_then(|left| left.unnamed().first().copied()) {
                Some(file) => Err(format!("{file} is left after a prune")),
                None => Ok((shown, left)),
            }
        });
        let (shown, left) =
            checked.unwrap_or_else(|why| panic!("cut {cut} of seed {seed}: {ops:?}: {said}: {why}"));
        // Another load of this machine moves all cuts to one side; this brings them back.
        let (place, change) = match acknowledged.len() {
            all if all == ops.len() => (&mut after, 0.85),
            0 if shown.files == files && shown.states() == book.first() => (&mut before, 1.15),
            _ => (&mut within, 1.0),
        };
        *place += 1;
        scale = f64::clamp(scale * change, 0.5, 10.0);
        if acknowledged.len() < ops.len() {
            ops.iter().for_each(|op| *kinds.entry(op.kind).or_default() += 1);
        }
        states = shown.states();
        files = left.unwrap_or(shown).files;
        println!(
            "cut {}: {} before, {within} within, {after} after; not acknowledged: {kinds:?}",
            cut + 1,
            before
        );
    }
}
