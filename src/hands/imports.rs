//! Archives in directories, imported once when podinit begins. Until that has ended no pull begins: what is missing may
//! come from there.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use log::{info, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pulls::BOUNDS;
use super::{Ended, Hands, talk};
use crate::image::imports::{Told, archives};

/// The most that is heard of it.
const LONGEST: u64 = 1 << 20;

#[derive(Default)]
pub struct Imports {
    begun: bool,
    flight: Option<Flight>,
}

struct Flight {
    helper: i32,
    group: PathBuf,
    said: File,
}

impl Hands {
    /// Whether images may still come from archives.
    pub(super) fn importing(&self) -> bool {
        !self.imports.begun && !self.config.image_archives.is_empty() || self.imports.flight.is_some()
    }

    /// Begins the import, once a life: a former life's helper was killed, and its work goes on here. Whether this was the
    /// moment, and there is nothing to wait for.
    pub(super) fn tend_imports(&mut self) -> bool {
        if std::mem::replace(&mut self.imports.begun, true) {
            return false;
        }
        if !archives(&self.config.image_archives).is_empty() {
            match self.begin_import() {
                Ok(flight) => self.imports.flight = Some(flight),
                Err(why) => warn!("images: no archive is imported: cannot start: {why}"),
            }
        }
        self.imports.flight.is_none()
    }

    fn begin_import(&mut self) -> io::Result<Flight> {
        let said = talk::memory(c"imported")?;
        let store = std::path::absolute(self.config.root.join("images"))?.display().to_string();
        let folders: Vec<String> =
            self.config.image_archives.iter().map(|folder| folder.display().to_string()).collect();
        let mut args = vec!["__import", &store];
        args.extend(folders.iter().map(String::as_str));
        let (helper, group) = self.spawn_bounded(&args, &[(said.as_raw_fd(), 3)], BOUNDS)?;
        Ok(Flight { helper, group, said })
    }

    /// Tells what was imported, if this child was the helper that did. Whether it was.
    pub(super) fn imported(&mut self, pid: i32, ended: Ended) -> bool {
        let Some(flight) = self.imports.flight.take_if(|flight| flight.helper == pid) else { return false };
        for told in flight.told().unwrap_or_default() {
            match told {
                Ok(what) => info!("images: {what}"),
                Err(why) => warn!("images: {why}"),
            }
        }
        if ended.code != 0 {
            warn!("images: the import of archives ended with exit code {}", ended.code);
        }
        self.drop_cgroup(flight.group);
        true
    }

    /// Nothing is wanted any more.
    pub(super) fn import_no_more(&mut self) {
        self.imports.begun = true;
        if let Some(flight) = &self.imports.flight {
            let _ = kill(Pid::from_raw(flight.helper), Signal::SIGKILL);
        }
    }
}

impl Flight {
    fn told(&self) -> io::Result<Vec<Told>> {
        let said = talk::heard(&self.said, LONGEST)?;
        Ok(said.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}
