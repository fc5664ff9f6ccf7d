//! The operator's commands: kubectl's verbs, columns and words, asked of PID 1 over its socket.

mod args;
mod ask;
mod batch;
mod describe;
mod exec;
mod get;
mod help;
pub mod image;
mod logs;
mod names;
mod progress;
mod prune;
mod pull;
mod resource;
mod row;
mod table;
mod terminal;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::Config;
use crate::operator::request::{Answer, Request, SOCKET};
use args::Verb;

/// What a command works with besides its arguments.
pub struct World<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Stdin, stdout and stderr, for `exec` to hand over.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The moment that ages count from.
    pub now: Timestamp,
    /// PID 1's socket.
    pub socket: PathBuf,
    /// The image store.
    pub store: PathBuf,
}

/// Runs one command (without the program's name), as a process of its own would; returns its exit code: 0, 1 for a
/// failure, 2 for a command that makes no sense, and with `exec` the command's own.
pub fn run(args: &[String]) -> i32 {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    run_in(
        args,
        &mut World {
            out: &mut io::stdout(),
            err: &mut io::stderr(),
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            now: Timestamp::now(),
            socket: var("PODINIT_SOCKET").unwrap_or_else(|| SOCKET.into()),
            store: var("PODINIT_ROOT").unwrap_or_else(|| Config::default().root).join("images"),
        },
    )
}

/// As `run`, in a world of the caller's making.
pub fn run_in(args: &[String], world: &mut World<'_>) -> i32 {
    let parsed = args::socket(args).and_then(|(socket, rest)| {
        world.socket = socket.unwrap_or_else(|| world.socket.clone());
        args::parse(&rest)
    });
    let result = match parsed {
        Ok(verb) => obey(verb, world),
        Err(usage) => Err(Failure { text: format!("error: {usage}"), code: 2 }),
    };
    let flushed = world.out.flush();
    match result {
        Ok(code) if flushed.is_ok() => code,
        Ok(_) => 1,
        Err(failure) => {
            if !failure.text.is_empty() {
                // Nothing is left to be told where stderr is gone too.
                drop(writeln!(world.err, "{}", failure.text));
            }
            failure.code
        }
    }
}

fn obey(verb: Verb, world: &mut World<'_>) -> Result<i32, Failure> {
    match verb {
        Verb::Help(topic) => write!(world.out, "{}", help::text(topic.as_deref()))?,
        Verb::Get(get) => get::get(&get, world)?,
        Verb::Describe(describe) => describe::describe(&describe, world)?,
        Verb::Logs(logs) => logs::logs(&logs, world)?,
        Verb::Exec(exec) => return exec::exec(&exec, world),
        Verb::Image(args) => return Ok(image::run(&args, &world.store, &world.socket)),
        Verb::Power(how) => done(&Request::Power { how }, world)?,
        Verb::Fault(what) => done(&Request::Fault { what }, world)?,
        Verb::Version => version(world)?,
    }
    Ok(0)
}

fn done(request: &Request, world: &World<'_>) -> Result<(), Failure> {
    match ask::ask(&world.socket, request)? {
        Answer::Done {} => Ok(()),
        other => Err(ask::unexpected(&other)),
    }
}

/// This command's version, and PID 1's, which may be another.
fn version(world: &mut World<'_>) -> Result<(), Failure> {
    writeln!(world.out, "Client Version: {} ({})", env!("CARGO_PKG_VERSION"), env!("PODINIT_REVISION"))?;
    match ask::ask(&world.socket, &Request::Version {})? {
        Answer::Version { version, revision, node } => {
            writeln!(world.out, "Server Version: {version} ({revision}) on {node}")?;
            Ok(())
        }
        other => Err(ask::unexpected(&other)),
    }
}

/// Why a command failed: a line for stderr (none if empty), and the exit code.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    text: String,
    code: i32,
}

impl Failure {
    /// One of ours, not PID 1's.
    fn plain(why: impl std::fmt::Display) -> Self {
        Failure { text: format!("error: {why}"), code: 1 }
    }
}

impl From<io::Error> for Failure {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            // The reader has seen enough: `podinit logs ... | head`.
            io::ErrorKind::BrokenPipe => Failure { text: String::new(), code: 1 },
            _ => Failure::plain(why),
        }
    }
}
