//! PID 1 must never die: a panic or a fatal signal re-executes the binary, which goes on from the ledger.
//!
//! The containers are children of the same pid and live on. What the new image must not lose (the read ends of
//! container output) is not close-on-exec in PID 1; `spawn` closes it in children.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Set in the environment of a re-executed PID 1: how many times it has died since it last ran for a minute.
pub const RESUME: &str = "PODINIT_RESUME";

/// Deaths in a row after which the facts themselves are suspected and not read again.
pub const SUSPECT: u32 = 5;

/// A life that lasted so long was a good one: the deaths before it are forgiven.
const STABLE: Duration = Duration::from_secs(60);

/// Everything that execve(2) needs, made ahead: a signal handler may not allocate.
struct Image {
    argv: Vec<CString>,
    envp: Vec<CString>,
    /// The same, but the next death is the first in its row.
    forgiven: Vec<CString>,
}

static IMAGE: OnceLock<Image> = OnceLock::new();
static ARGV: AtomicPtr<*const libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
static ENVP: AtomicPtr<*const libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
static FORGIVEN: AtomicPtr<*const libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
static BORN: OnceLock<Instant> = OnceLock::new();
static DYING: AtomicBool = AtomicBool::new(false);

/// How this process came to be: None at a first start, else how many deaths in a row it follows.
pub fn resumed() -> Option<u32> {
    std::env::var(RESUME).ok()?.parse().ok()
}

/// From here on a panic or a fatal signal re-executes this binary with the same arguments.
pub fn arm() {
    let deaths = resumed().unwrap_or(0) + 1;
    let argv = std::env::args().filter_map(|word| CString::new(word).ok()).collect();
    let image = IMAGE.get_or_init(|| Image { argv, envp: environment(deaths), forgiven: environment(1) });
    ARGV.store(leak(&image.argv), Ordering::SeqCst);
    ENVP.store(leak(&image.envp), Ordering::SeqCst);
    FORGIVEN.store(leak(&image.forgiven), Ordering::SeqCst);
    BORN.get_or_init(Instant::now);
    std::panic::set_hook(Box::new(|panic| {
        // One write, no lock that the dying code may hold.
        let place = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        let text = format!("podinit: error: panic at {place}: re-executing\n");
        let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
        again();
    }));
    alternate_stack();
    let action = SigAction::new(
        SigHandler::Handler(on_fatal),
        SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER,
        SigSet::empty(),
    );
    for signal in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGSYS]
    {
        // SAFETY: the handler only calls async-signal-safe functions.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Forgives the former deaths once this life has lasted for a minute. To be called at each turn, before its work: no
/// timer is needed, since only a turn can die.
pub fn grow_old() {
    if BORN.get().is_some_and(|born| born.elapsed() >= STABLE) {
        forgive();
    }
}

/// The next death counts as the first: a minute was lived, or a test asked for the death.
pub fn forgive() {
    let forgiven = FORGIVEN.load(Ordering::SeqCst);
    if !forgiven.is_null() {
        ENVP.store(forgiven, Ordering::SeqCst);
    }
}

/// Our environment for a life that follows this many deaths.
fn environment(deaths: u32) -> Vec<CString> {
    std::env::vars()
        .filter(|(name, _)| name != RESUME)
        .map(|(name, value)| format!("{name}={value}"))
        .chain([format!("{RESUME}={deaths}")])
        .filter_map(|word| CString::new(word).ok())
        .collect()
}

/// Re-executes this binary now: an upgrade, or the end of a life. Returns only when execve fails.
pub fn again() {
    let argv = ARGV.load(Ordering::SeqCst);
    let envp = ENVP.load(Ordering::SeqCst);
    if argv.is_null() || DYING.swap(true, Ordering::SeqCst) {
        return;
    }
    // SAFETY: async-signal-safe calls on memory that is never freed. An execve keeps the signal mask, so it is
    // emptied first: a blocked SIGSEGV would kill the next life at its first fault.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::execve(c"/proc/self/exe".as_ptr(), argv, envp);
    }
    DYING.store(false, Ordering::SeqCst);
}

extern "C" fn on_fatal(signal: libc::c_int) {
    const TEXT: &[u8] = b"podinit: error: fatal signal: re-executing\n";
    // SAFETY: write(2), execve(2) and _exit(2) are async-signal-safe.
    unsafe {
        libc::write(2, TEXT.as_ptr().cast(), TEXT.len());
        again();
        libc::_exit(128 + signal);
    }
}

/// A stack overflow leaves no stack for its handler.
fn alternate_stack() {
    const SIZE: usize = 64 * 1024;
    let stack = Box::leak(vec![0u8; SIZE].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the memory is leaked, so it outlives every signal.
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
}

/// The null-terminated array of pointers that execve(2) wants; never freed.
fn leak(words: &'static [CString]) -> *mut *const libc::c_char {
    let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    Box::leak(pointers.into_boxed_slice()).as_mut_ptr()
}
