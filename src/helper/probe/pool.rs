//! The threads that make the tries: one each for all that are in the air, since each may wait for its server. A few that
//! are done rest for the next one, because to make a thread costs more than most tries.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::tries;
use crate::clock::Tick;
use crate::pod::probe::{Try, Watch};

/// TLS needs most of it; only what is touched costs memory.
const STACK: usize = 512 << 10;
/// How many threads may rest.
const SPARE: usize = 4;
/// How often one try is made where it cannot be made (kubelet: maxProbeRetries).
const RETRIES: usize = 3;

/// One try that is to be made.
pub struct Task {
    pub watch: Arc<Watch>,
    /// Until then a success is nothing that anybody waits for: it is found with the next look. None: it is news.
    pub calm: Option<Tick>,
}

/// What came of it, and when.
pub struct Done {
    pub id: u64,
    pub result: Try,
    pub at: Tick,
}

#[derive(Clone)]
pub struct Pool {
    tasks: Arc<(Mutex<Tasks>, Condvar)>,
    done: Sender<Done>,
    /// Rung when there is news in `done`.
    bell: Arc<UnixStream>,
    /// The machine's network, to which each thread returns, so that none keeps a removed pod's alive.
    own: Arc<Option<File>>,
}

#[derive(Default)]
struct Tasks {
    queue: VecDeque<Task>,
    resting: usize,
}

impl Pool {
    /// Tries are told to `done`; the other end of `bell` becomes readable when somebody should look there.
    pub fn new(done: Sender<Done>, bell: UnixStream) -> Self {
        let own = Arc::new(File::open("/proc/thread-self/ns/net").ok());
        Pool { tasks: Arc::default(), done, bell: Arc::new(bell), own }
    }

    /// Begins a try.
    pub fn make(&self, task: Task) -> io::Result<()> {
        let mut tasks = self.tasks();
        if tasks.resting > tasks.queue.len() {
            tasks.queue.push_back(task);
            drop(tasks);
            self.tasks.1.notify_one();
            return Ok(());
        }
        drop(tasks);
        let pool = self.clone();
        let work = move || {
            let mut next = Some(task);
            while let Some(task) = next {
                if !pool.work(&task) {
                    return;
                }
                next = pool.rest();
            }
        };
        thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task; None where enough threads rest already.
    fn rest(&self) -> Option<Task> {
        let mut tasks = self.tasks();
        if tasks.resting >= SPARE {
            return None;
        }
        tasks.resting += 1;
        let task = loop {
            if let Some(task) = tasks.queue.pop_front() {
                break task;
            }
            tasks = self.tasks.1.wait(tasks).unwrap_or_else(PoisonError::into_inner);
        };
        tasks.resting -= 1;
        Some(task)
    }

    /// One try, in the pod's network where it asks the pod itself. False: this thread is of no further use.
    fn work(&self, task: &Task) -> bool {
        let watch = &task.watch;
        let space = watch.space.as_deref().filter(|_| tries::inside(&watch.probe.handler));
        let result = match space.map_or(Ok(()), enter) {
            Ok(()) => persistent(|| tries::attempt(&watch.probe, &watch.address)),
            Err(why) => Try::Error(why),
        };
        let returned = space.is_none()
            || (*self.own).as_ref().is_some_and(|own| setns(own, CloneFlags::CLONE_NEWNET).is_ok());
        let success = matches!(result, Try::Success(_));
        let _ = self.done.send(Done { id: watch.id, result, at: Tick::now() });
        // Looked at after it was sent: who looks at that moment or later finds it.
        if !(success && task.calm.is_some_and(|until| Tick::now() < until)) {
            let _ = (&*self.bell).write(&[1]);
        }
        returned
    }
}

pub fn enter(space: &Path) -> Result<(), String> {
    let shown = space.display();
    let entered = File::open(space).and_then(|space| Ok(setns(space, CloneFlags::CLONE_NEWNET)?));
    entered.map_err(|why| format!("cannot enter the pod's network {shown}: {why}"))
}

/// A try that could not be made is made again at once.
pub(super) fn persistent(mut attempt: impl FnMut() -> Try) -> Try {
    let mut result = attempt();
    for _ in 1..RETRIES {
        if !matches!(result, Try::Error(_)) {
            break;
        }
        result = attempt();
    }
    result
}
