//! What a piece of work takes of memory, counted by the allocator and not by a clock: it is the same on a busy machine.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// Allocations, bytes held now, and the most that were.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(calls: usize, bytes: isize) {
    CALLS.with(|all| all.set(all.get() + calls));
    let held = HELD.with(|held| {
        held.set(held.get() + bytes);
        held.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(held)));
}

// SAFETY: the system's allocator does the work; the counters are this thread's own and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What some work took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Allocations.
    pub calls: usize,
    /// The most bytes held at one moment, beyond those before.
    pub peak: usize,
}

/// Does the work on this thread, and tells what it took.
pub fn on<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let (calls, held) = (CALLS.get(), HELD.get());
    PEAK.set(held);
    let done = work();
    let peak = usize::try_from(PEAK.get() - held).unwrap_or_default();
    (done, Spent { calls: CALLS.get() - calls, peak })
}
