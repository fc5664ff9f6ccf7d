//! `podinit image pull`: starts the helper that pulls, and shows how far it is.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::image::size;
use crate::config::{Config, FILE, Proxies};
use crate::image::platform::Platform;
use crate::image::pull::{DONE, FAILED, Files, Progress, Report, Request, sum};
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
        behind: Vec::new(),
        registries: config.registries,
        proxies: Proxies::environment(),
        keyrings: keyrings(store),
        login,
    };
    let trouble = |why: io::Error| format!("cannot start: {why}");
    let mut files = Files::of(&request).map_err(trouble)?;
    let helper = spawn(&["__pull"], &files.fds(), None).map_err(trouble)?;
    let mut shown = Shown::new(io::stderr().is_terminal());
    let code = loop {
        let ended = waitpid(Pid::from_raw(helper), Some(WaitPidFlag::WNOHANG));
        shown.show(&files.progress());
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
    match code {
        DONE | FAILED => files.outcome(code == DONE),
        code => Err(format!("{image}: the helper ended with exit code {code}")),
    }
}

/// Where the operator's logins are: beside the store, as PID 1 has them, else at home.
fn keyrings(store: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/config.json"));
    let beside = store.parent().map(|root| root.join("config.json"));
    beside.into_iter().chain(home).collect()
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
