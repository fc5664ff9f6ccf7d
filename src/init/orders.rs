//! The operator's requests: questions are answered from the world, orders are carried out.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use log::{info, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::Agent;
use crate::clock::{Tick, Wall};
use crate::fatal;
use crate::operator::request::{Answer, Fault, Reason, Request};
use crate::operator::socket::{Asked, ConnectionId};
use crate::operator::view;
use crate::pod::status::Node;

/// What a doomed start helper lives at most: a slow board's start takes about as long.
const DOOM: Duration = Duration::from_millis(400);
/// How long PID 1 is absent at most.
const ABSENT: Duration = Duration::from_secs(60);

impl Agent {
    /// Takes up what came in over the socket.
    pub(super) fn serve(&mut self) {
        let Some(operator) = &mut self.operator else { return };
        let asked = operator.ready();
        let gone = operator.gone();
        for Asked { id, request, descriptors } in asked {
            if let Some(answer) = self.answer(id, &request, &descriptors) {
                self.reply(id, &answer);
            }
        }
        // Whoever hangs up on a command does not want it any more.
        for (session, connection) in self.sessions.values_mut() {
            if connection.is_some_and(|connection| gone.contains(&connection)) {
                session.kill();
                *connection = None;
            }
        }
    }

    pub(super) fn answer_session(&mut self, id: ConnectionId, code: i32) {
        self.reply(id, &Answer::Ended { code });
    }

    fn reply(&mut self, id: ConnectionId, answer: &Answer) {
        if let Some(operator) = &mut self.operator {
            operator.reply(id, answer);
        }
    }

    /// None: the answer comes later.
    fn answer(&mut self, id: ConnectionId, request: &Request, descriptors: &[OwnedFd]) -> Option<Answer> {
        match request {
            Request::Power { how } => {
                self.end(*how);
                Some(Answer::Done {})
            }
            Request::Fault { what } => self.fault(id, *what),
            Request::Pulls {} => Some(Answer::Pulls { items: self.hands.on_the_way(Tick::now()) }),
            Request::Exec { namespace, pod, container, command, tty } => {
                let target = match view::target(&self.world, namespace, pod, container) {
                    Ok(target) => target,
                    Err(refusal) => return Some(refusal),
                };
                let fds: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
                let begun =
                    self.hands.exec(&self.world, (&target.uid, &target.container), command, *tty, &fds);
                match begun {
                    Ok(session) => {
                        self.sessions.insert(session.helper, (session, Some(id)));
                        None
                    }
                    Err(why) => Some(Answer::refused(Reason::InternalError, why)),
                }
            }
            Request::Images {} => {
                let (used, certain) = self.hands.used_images(&self.world);
                Some(Answer::Images { store: self.config.root.join("images"), used, certain })
            }
            question => {
                let node =
                    Node { host_ips: self.hands.addresses(), restart_cap: Some(self.config.restart_cap) };
                view::answer(question, &self.world, Tick::now(), &Wall::now(), &node, &self.config)
            }
        }
    }

    /// What a test asks for. The answer goes out first.
    fn fault(&mut self, id: ConnectionId, what: Fault) -> Option<Answer> {
        if !self.config.faults {
            let message = "faults are off: podinit.faults=1 on the kernel command line allows them, \
                           off a board 'podinit run --faults'";
            return Some(Answer::refused(Reason::Forbidden, message));
        }
        self.reply(id, &Answer::Done {});
        info!("podinit: fault asked for: {what:?}");
        // A death that was asked for is no reason to suspect the facts.
        fatal::forgive();
        match what {
            Fault::KillStarts => self.doom.wish(DOOM),
            Fault::Panic => panic!("asked for"),
            Fault::Absent => {
                absent(&self.config.run);
                panic!("asked for")
            }
            Fault::Segv => signal_self(Signal::SIGSEGV),
            Fault::Abort => signal_self(Signal::SIGABRT),
            Fault::KillLogger => match self.world.helpers.get("logger") {
                Some(pid) => signal(*pid, Signal::SIGKILL),
                None => warn!("podinit: no logger runs"),
            },
        }
        None
    }
}

/// What happens meanwhile is for the next life to find out. A file that nobody removes does not end the machine.
fn absent(run: &Path) {
    let file = run.join("absent");
    let until = Tick::now() + ABSENT;
    if let Err(why) = fs::write(&file, "") {
        return warn!("{}: {why}", file.display());
    }
    while file.exists() && Tick::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal_self(which: Signal) {
    signal(nix::unistd::getpid().as_raw(), which);
}

fn signal(pid: i32, which: Signal) {
    let _ = kill(Pid::from_raw(pid), which);
}
