//! Helpers that do one try of an exec probe, or one hook: what they are for, and what they say at their end.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::exec::{Session, enter};
use super::paths;
use super::{Ended, Hands};
use crate::clock::Tick;
use crate::config::Config;
use crate::pod::facts::{HookKind, PodFacts, ProbeKind, Run};
use crate::pod::probe::{HookRequest, OUTPUT, Try};
use crate::pod::{Container, Fact, World};
use crate::spawn::spawn;

/// A probe of one run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub uid: String,
    pub container: String,
    pub run: u32,
    pub kind: ProbeKind,
}

/// What a helper is at work for.
pub enum Purpose {
    Probe(Key),
    Hook { uid: String, container: String, run: u32, hook: HookKind },
}

/// A helper at work, and the pipe for what it says.
pub struct Check {
    pub purpose: Purpose,
    pub session: Session,
    said: File,
}

impl Check {
    /// A command in the container. `limit`: it is killed after that long, with everything it began.
    pub fn command(
        config: &Config,
        pod: &PodFacts,
        (name, run): (&str, &Run),
        command: &[String],
        limit: Option<Duration>,
        purpose: Purpose,
    ) -> io::Result<Check> {
        let (_, pid) = run.started.ok_or_else(|| io::Error::other("the container has not started"))?;
        let paths = paths::run(config, &pod.spec, name, run.number);
        let limit = limit.map_or(0, |limit| limit.as_millis().max(1)).to_string();
        let (said, tell) = pipe()?;
        let fds = [(tell.as_raw_fd(), 3)];
        let session = enter(config, &paths, pid, &["__check", &limit], command, false, &fds)?;
        Ok(Check { purpose, session, said })
    }

    /// An HTTP hook.
    pub fn http(
        config: &Config,
        pod: &PodFacts,
        (name, run): (&str, &Run),
        request: &HookRequest,
        purpose: Purpose,
    ) -> io::Result<Check> {
        let paths = paths::run(config, &pod.spec, name, run.number);
        let file = paths.bundle.join(format!("hook-{}.json", Tick::now().0));
        let (said, tell) = pipe()?;
        fs::write(&file, serde_json::to_vec(request)?)?;
        let helper = spawn(&["__hook", &file.display().to_string()], &[(tell.as_raw_fd(), 3)], None);
        if helper.is_err() {
            let _ = fs::remove_file(&file);
        }
        Ok(Check { purpose, session: Session::alone(helper?), said })
    }

    /// The helper has ended.
    fn result(mut self, ended: Ended) -> (Purpose, Try) {
        self.session.close();
        let mut said = vec![0; OUTPUT];
        // Its one write is there whole, or it never came.
        let length = self.said.read(&mut said).unwrap_or(0);
        said.truncate(length);
        (self.purpose, Try::of(ended.code, String::from_utf8_lossy(&said).into_owned()))
    }
}

/// A pipe that neither end waits for.
fn pipe() -> io::Result<(File, File)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((read.into(), write.into()))
}

impl Hands {
    /// What the end of this child means, if it was a check's helper; None: it was none.
    pub(super) fn checked(&mut self, pid: i32, ended: Ended, world: &World) -> Option<Vec<Fact>> {
        if let Some(check) = self.checks.remove(&pid) {
            let (purpose, result) = check.result(ended);
            return Some(match purpose {
                Purpose::Probe(key) => self.probed(&key, pid, result),
                Purpose::Hook { uid, container, run, hook } => {
                    let failed = failed(&result);
                    vec![Fact::Hooked { uid, container, run, hook, failed }]
                }
            });
        }
        // A hook that a former life began: its pipe went with that.
        let pods = self.roll.of_pid(pid).filter_map(|uid| world.pods.get(uid));
        pods.flat_map(hooks)
            .find(|hooked| hooked.run.hooks.get(&hooked.kind).and_then(|hook| hook.helper) == Some(pid))
            .map(|hooked| vec![hooked.ended(failed(&Try::of(ended.code, "its output is lost".into())))])
    }
}

fn failed(result: &Try) -> Option<String> {
    match result {
        Try::Success(_) => None,
        Try::Failure(why) | Try::Error(why) => Some(why.trim_end().to_owned()),
    }
}

/// A hook that was begun and has not ended.
pub struct Hooked<'a> {
    pub pod: &'a PodFacts,
    pub container: &'a Container,
    pub run: &'a Run,
    pub kind: HookKind,
}

impl Hooked<'_> {
    pub fn ended(&self, failed: Option<String>) -> Fact {
        let (uid, container) = (self.pod.spec.uid.clone(), self.container.name.clone());
        Fact::Hooked { uid, container, run: self.run.number, hook: self.kind, failed }
    }
}

/// All of a pod's.
pub fn hooks(pod: &PodFacts) -> impl Iterator<Item = Hooked<'_>> {
    pod.runs().filter(|(_, run)| !run.hooks.is_empty()).flat_map(move |(name, run)| {
        let open = run.hooks.iter().filter(|(_, hook)| hook.ended.is_none());
        open.filter_map(move |(kind, _)| {
            Some(Hooked { pod, container: pod.spec.container(name)?, run, kind: *kind })
        })
    })
}
