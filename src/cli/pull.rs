//! `podinit image pull`: starts the helper that pulls, and shows how far it is.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::image::size;
use crate::config::{Config, FILE, Proxies};
use crate::image::platform::Platform;
use crate::image::pull::{DONE, FAILED, Progress, Report, Request, sum, told};
use crate::image::registry::credentials::Login;
use crate::spawn::spawn;

const LOOK: Duration = Duration::from_millis(100);
/// Cells of the bar.
const BAR: usize = 30;

/// `config`: a configuration file instead of the usual one, which need not be there.
pub fn pull(
    store: &Path,
    image: &str,
    platform: &Platform,
    login: Option<Login>,
    config: Option<&Path>,
) -> Result<Report, String> {
    let text = match config {
        Some(path) => Some(fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?),
        None => fs::read_to_string(FILE).ok(),
    };
    let (config, _) = Config::board("", text.as_deref());
    let request = Request {
        image: image.to_owned(),
        platform: platform.clone(),
        store: std::path::absolute(store).map_err(|why| format!("{}: {why}", store.display()))?,
        registries: config.registries,
        proxies: Proxies::environment(),
        keyrings: keyrings(store),
        login,
    };
    let trouble = |why: io::Error| format!("cannot start: {why}");
    let mut flight = Flight::begin(&request).map_err(trouble)?;
    let mut shown = Shown::new(io::stderr().is_terminal());
    let code = loop {
        let ended = waitpid(Pid::from_raw(flight.helper), Some(WaitPidFlag::WNOHANG));
        shown.show(&told(&flight.progress));
        match ended.map_err(|why| trouble(why.into()))? {
            WaitStatus::Exited(_, code) => break code,
            WaitStatus::Signaled(_, signal, _) => {
                shown.end();
                return Err(format!("{image}: the helper was ended by {signal}"));
            }
            _ => sleep(LOOK),
        }
    };
    shown.end();
    let answer = flight.answer().map_err(trouble)?;
    match code {
        DONE => serde_json::from_slice(&answer).map_err(|why| trouble(why.into())),
        FAILED => Err(String::from_utf8_lossy(&answer).into_owned()),
        code => Err(format!("{image}: the helper ended with exit code {code}")),
    }
}

/// Where the operator's logins are: beside the store, as PID 1 has them, else at home.
fn keyrings(store: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/config.json"));
    let beside = store.parent().map(|root| root.join("config.json"));
    beside.into_iter().chain(home).collect()
}

struct Flight {
    helper: i32,
    answer: File,
    progress: File,
}

impl Flight {
    fn begin(request: &Request) -> io::Result<Self> {
        let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
        let (mut asked, answer, progress) = (memory(c"request")?, memory(c"answer")?, memory(c"progress")?);
        asked.write_all(&serde_json::to_vec(request)?)?;
        let fds = [(asked.as_raw_fd(), 3), (answer.as_raw_fd(), 4), (progress.as_raw_fd(), 5)];
        let helper = spawn(&["__pull"], &fds, None)?;
        Ok(Flight { helper, answer, progress })
    }

    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.answer.rewind()?;
        self.answer.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What stands on the operator's screen.
struct Shown {
    terminal: bool,
    line: String,
    /// When, and how many bytes there were.
    begun: Option<(Instant, u64)>,
}

impl Shown {
    fn new(terminal: bool) -> Self {
        Shown { terminal, line: String::new(), begun: None }
    }

    /// On a terminal one line that moves, elsewhere a line for each layer that is done.
    fn show(&mut self, layers: &[Progress]) {
        if layers.is_empty() {
            return;
        }
        let all = sum(layers);
        let (begun, before) = *self.begun.get_or_insert((Instant::now(), all.done));
        let speed = (all.done - before.min(all.done)) as f64 / begun.elapsed().as_secs_f64().max(0.1);
        let line = match self.terminal {
            true => format!("{}  {}/s", bar(layers), size(speed as u64)),
            false => plain(layers),
        };
        if line == self.line {
            return;
        }
        self.line = line;
        // Nobody reads it where stderr is gone.
        let _ = match self.terminal {
            true => write!(io::stderr(), "\r{}\x1b[K", self.line),
            false => writeln!(io::stderr(), "{}", self.line),
        };
    }

    fn end(&self) {
        if self.terminal && !self.line.is_empty() {
            let _ = writeln!(io::stderr());
        }
    }
}

fn bar(layers: &[Progress]) -> String {
    let all = sum(layers);
    let share = |of: u64| (of * all.done).checked_div(all.total).unwrap_or(of);
    let cells = share(BAR as u64) as usize;
    let (full, rest) = ("=".repeat(cells), " ".repeat(BAR - cells.min(BAR)));
    format!("[{full}{rest}] {:>3}%  {} of {}  {}", share(100), size(all.done), size(all.total), plain(layers))
}

fn plain(layers: &[Progress]) -> String {
    let done = layers.iter().filter(|layer| layer.done >= layer.total).count();
    format!("{done} of {} layers", layers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_of_all_layers() {
        let layers = [Progress { done: 1_000_000, total: 1_000_000 }, Progress { done: 0, total: 2_000_000 }];
        let expected = "[==========                    ]  33%  1.00MB of 3.00MB  1 of 2 layers";
        assert_eq!(bar(&layers), expected);
        let whole = "[==============================] 100%  7B of 7B  1 of 1 layers";
        assert_eq!(bar(&[Progress { done: 7, total: 7 }]), whole);
        assert_eq!(bar(&[Progress::default()]), bar(&[Progress { done: 7, total: 7 }]).replace("7B", "0B"));
    }
}
