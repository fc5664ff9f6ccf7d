//! The URL that wants pods is asked from time to time, by a helper for each request, which PID 1 does not wait for.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::warn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, Hands, talk};
use crate::clock::Tick;
use crate::config::Config;
use crate::pod::fetch::{Answer, LARGEST, PATIENCE, Request, pause};
use crate::spawn::spawn;

/// A helper that does not keep its time limit is killed this long after it.
const LATE: Duration = Duration::from_secs(5);

pub struct Fetch {
    /// None: no URL wants anything, or nothing is wanted any more.
    request: Option<Request>,
    check: Duration,
    flight: Option<Flight>,
    due: Tick,
    /// In this life.
    answered: bool,
    /// Requests since then that came to nothing.
    tries: u32,
}

/// A request that is being made.
struct Flight {
    helper: i32,
    late: Tick,
    killed: bool,
    answer: File,
}

impl Fetch {
    pub fn new(config: &Config) -> Self {
        let headers = config.static_pod_url_headers.0.clone();
        Fetch {
            request: config.static_pod_url.clone().map(|url| Request { url, headers }),
            check: config.http_check,
            flight: None,
            due: Tick(0),
            answered: false,
            tries: 0,
        }
    }

    /// Asks when it is time. Returns when to look again.
    pub fn tend(&mut self, now: Tick) -> Option<Tick> {
        let request = self.request.as_ref()?;
        match &mut self.flight {
            Some(flight) if flight.killed => None,
            Some(flight) if now >= flight.late => {
                flight.killed = true;
                let _ = kill(Pid::from_raw(flight.helper), Signal::SIGKILL);
                None
            }
            Some(flight) => Some(flight.late),
            None if now < self.due => Some(self.due),
            None => match begin(request, now) {
                Ok(flight) => Some(self.flight.insert(flight).late),
                Err(why) => {
                    warn!("fetch: cannot start: {why}");
                    self.due = now + self.check;
                    Some(self.due)
                }
            },
        }
    }

    /// What came of the request, if this child was its helper.
    fn ended(&mut self, pid: i32, ended: Ended, now: Tick) -> Option<Answer> {
        let flight = self.flight.take_if(|flight| flight.helper == pid)?;
        let answer = flight.read(ended);
        match answer {
            Answer::Body(_) => (self.answered, self.tries) = (true, 0),
            Answer::Trouble(_) => self.tries = self.tries.saturating_add(1),
        }
        self.due = now + pause(self.check, self.answered, self.tries.saturating_sub(1));
        self.request.is_some().then_some(answer)
    }

    fn stop(&mut self) {
        self.request = None;
        if let Some(flight) = &self.flight {
            let _ = kill(Pid::from_raw(flight.helper), Signal::SIGKILL);
        }
    }
}

fn begin(request: &Request, now: Tick) -> io::Result<Flight> {
    let (asked, answer) = talk::ask(request)?;
    let helper = spawn(&["__fetch"], &[(asked.as_raw_fd(), 3), (answer.as_raw_fd(), 4)], None)?;
    Ok(Flight { helper, late: now + PATIENCE + LATE, killed: false, answer })
}

impl Flight {
    fn read(self, ended: Ended) -> Answer {
        match (ended.code, talk::heard(&self.answer, LARGEST as u64)) {
            (0, Ok(bytes)) => Answer::Body(bytes),
            (1, Ok(bytes)) => Answer::Trouble(format!("cannot be read: {}", String::from_utf8_lossy(&bytes))),
            (_, Ok(_)) if self.killed => {
                let seconds = (PATIENCE + LATE).as_secs();
                Answer::Trouble(format!("cannot be read: its helper was killed after {seconds} s"))
            }
            (code, Ok(_)) => {
                Answer::Trouble(format!("cannot be read: its helper ended with exit code {code}"))
            }
            (_, Err(why)) => Answer::Trouble(format!("cannot be read: {why}")),
        }
    }
}

impl Hands {
    /// What the URL answered, if this child was the helper that asked it.
    pub fn fetched(&mut self, pid: i32, ended: Ended) -> Option<Answer> {
        self.fetch.ended(pid, ended, Tick::now())
    }

    /// Nothing is wanted any more, so nobody is asked.
    pub fn fetch_no_more(&mut self) {
        self.fetch.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn fetch(url: Option<&str>) -> Fetch {
        Fetch::new(&Config { static_pod_url: url.map(str::to_owned), ..Config::default() })
    }

    fn flight(helper: i32, said: &str) -> Flight {
        let mut answer = talk::memory(c"answer").unwrap();
        answer.write_all(said.as_bytes()).unwrap();
        Flight { helper, late: Tick::seconds(15), killed: false, answer }
    }

    #[test]
    fn without_a_url_nothing_is_due() {
        assert_eq!(fetch(None).tend(Tick::seconds(100)), None);
    }

    #[test]
    fn the_end_of_its_helper_is_an_answer_and_the_next_request_is_due_later() {
        let body = |text: &str| Answer::Body(text.as_bytes().to_vec());
        let trouble = |text: &str| Answer::Trouble(format!("cannot be read: {text}"));
        let mut fetch = fetch(Some("http://h/"));
        // What the helper said, its exit code, the answer, and after how many seconds it is asked again.
        let table = [
            ("late", 1, trouble("late"), 1),
            ("", 101, trouble("its helper ended with exit code 101"), 2),
            ("", 137, trouble("its helper ended with exit code 137"), 4),
            ("", 0, body(""), 20),
            ("pods", 0, body("pods"), 20),
            ("late", 1, trouble("late"), 20),
        ];
        for (said, code, answer, seconds) in table {
            let now = Tick::seconds(50);
            // A number that no process has: it is never signalled here.
            fetch.flight = Some(flight(i32::MAX, said));
            let ended = Ended { code, signal: None };
            assert_eq!(fetch.ended(1, ended, now), None, "another child");
            assert_eq!(fetch.ended(i32::MAX, ended, now), Some(answer));
            assert_eq!((fetch.due, fetch.tend(now)), (now + Duration::from_secs(seconds), Some(fetch.due)));
        }
        fetch.flight = Some(flight(i32::MAX, ""));
        assert_eq!(fetch.tend(Tick::seconds(14)), Some(Tick::seconds(15)));
        assert_eq!((fetch.tend(Tick::seconds(15)), fetch.tend(Tick::seconds(16))), (None, None));
        let killed = fetch.ended(i32::MAX, Ended { code: 137, signal: Some(9) }, Tick::seconds(16));
        assert_eq!(killed, Some(trouble("its helper was killed after 15 s")));
        // Nobody is asked for what is not wanted any more.
        fetch.flight = Some(flight(i32::MAX, "pods"));
        fetch.stop();
        assert_eq!(fetch.ended(i32::MAX, Ended { code: 0, signal: None }, Tick::seconds(17)), None);
        assert_eq!((fetch.flight.is_none(), fetch.tend(Tick::seconds(900))), (true, None));
    }
}
