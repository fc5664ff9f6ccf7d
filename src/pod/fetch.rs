//! What PID 1 asks the helper that reads pods over HTTP, and what it hears.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The largest manifest that is read, in bytes: what an API server's etcd takes for one object (1.5 MiB). The kubelet
/// reads 10 MiB of a file, but not in the one thread on which a machine hangs.
pub const LARGEST: usize = 3 << 19;

/// The kubelet's time limit of one request, redirects and all.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One GET.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub url: String,
    /// Their values are secrets.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Request({})", self.url)
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Status 200, and not larger than the largest.
    Body(Vec<u8>),
    /// Why there is none.
    Trouble(String),
}

/// When the next request is made after one that has ended: after the operator's span, and sooner while none was ever
/// answered, because a machine's network comes up some seconds after its podinit.
pub fn pause(check: Duration, answered: bool, tries: u32) -> Duration {
    match answered {
        true => check,
        false => check.min(Duration::from_secs(1 << tries.min(16))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_never_answered_is_asked_sooner() {
        let check = Duration::from_secs(20);
        let pauses: Vec<_> = (0..7).map(|tries| pause(check, false, tries).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!((pause(check, true, 0), pause(check, false, u32::MAX)), (check, check));
        assert_eq!(pause(Duration::from_millis(300), false, 0), Duration::from_millis(300));
    }

    #[test]
    fn a_request_does_not_show_its_headers() {
        let headers = vec![("Authorization".to_owned(), "hunter2".to_owned())];
        let request = Request { url: "http://h/".into(), headers };
        assert_eq!(format!("{request:?}"), "Request(http://h/)");
    }
}
