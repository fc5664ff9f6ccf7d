//! Everything that can be asked of PID 1, and what it answers: one JSON line each way over the operator's socket.
//!
//! A client writes one request, its file descriptors (SCM_RIGHTS) with its first byte, reads one answer, and may then
//! write the next. A line that is no request, or too long, is answered with `Answer::Refused` and hung up on.

use std::path::PathBuf;

use k8s_openapi::api::core::v1 as k8s;
use serde::{Deserialize, Serialize};

use crate::pod::collect::Used;
use crate::pod::pulls::OnTheWay;
use crate::pod::spec::Problem;

/// Where the socket is unless `--run-dir` or PODINIT_SOCKET says otherwise.
pub const SOCKET: &str = "/run/podinit/podinit.sock";

/// A request's longest line in bytes, its newline not counted.
pub const REQUEST_MAX: usize = 64 << 10;

/// An answer's longest line in bytes: 32 connections of them are what the socket may ever hold in memory.
pub const ANSWER_MAX: usize = 4 << 20;

/// One question or order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What runs here. Answer: Version.
    Version {},
    /// All pods of all namespaces. Answer: Pods.
    Pods {},
    /// What happened lately, the oldest first. Answer: Events.
    Events {},
    /// What is wrong with the manifests. Answer: Problems.
    Problems {},
    /// Which images are on their way from their registries, and how far. Answer: Pulls.
    Pulls {},
    /// All Jobs and all CronJobs of all namespaces. Answer: Jobs, CronJobs.
    Jobs {},
    CronJobs {},
    /// Which images are in use. Answer: Images.
    Images {},
    /// Where a container's log is. `previous`: of the run before. Answer: Log.
    LogPath {
        namespace: String,
        pod: String,
        container: String,
        previous: bool,
    },
    /// Run a command in a running container. Carries three descriptors, its stdin, stdout and stderr; with `tty` only
    /// one, a stream socket over which the pty's master comes back (SCM_RIGHTS). Answer: Ended, when it did.
    Exec {
        namespace: String,
        pod: String,
        container: String,
        command: Vec<String>,
        tty: bool,
    },
    /// End all pods, then the machine (off a board: then podinit). Answer: Done, before it happens.
    Power {
        how: Power,
    },
    /// Harm PID 1 itself; only where the configuration allows faults. Answer: Done, before it happens.
    Fault {
        what: Fault,
    },
}

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Power {
    Poweroff,
    Reboot,
    Halt,
}

/// What tests do to PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// A Rust panic.
    Panic,
    /// A write to address 0.
    Segv,
    /// abort(3).
    Abort,
    /// SIGKILL to the logger helper.
    KillLogger,
    /// SIGKILL to each of the next 100 start helpers, at a random moment.
    KillStarts,
    /// Deaf to everything while the file `absent` is in the run directory, which PID 1 makes itself, and then a panic.
    Absent,
}

/// What PID 1 says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Version {
        version: String,
        revision: String,
        node: String,
    },
    Pods {
        /// With their status; sorted by namespace and name.
        items: Vec<k8s::Pod>,
    },
    Events {
        items: Vec<k8s::Event>,
    },
    Problems {
        items: Vec<Problem>,
    },
    Pulls {
        /// Those under way first, then those that wait, in their turn.
        items: Vec<OnTheWay>,
    },
    /// As Kubernetes' API (batch/v1) has them; sorted by namespace and name.
    Jobs {
        items: Vec<serde_json::Value>,
    },
    CronJobs {
        items: Vec<serde_json::Value>,
    },
    Images {
        /// The store that its pods run from.
        store: PathBuf,
        /// What pods that are wanted or there name, and what they run from.
        used: Used,
        /// That is all: no manifest is refused, and no other podinit uses the store.
        certain: bool,
    },
    Log {
        /// The file that the run's log is (or was last) written to; rotated ones lie beside it.
        path: PathBuf,
        /// The run's number.
        run: u32,
        /// Whether more may come.
        running: bool,
    },
    /// A command ended: 0..255, 128 + signal where a signal ended it.
    Ended {
        code: i32,
    },
    Done {},
    Refused {
        reason: Reason,
        message: String,
    },
}

/// Why not, in Kubernetes' words (metav1.StatusReason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    BadRequest,
    NotFound,
    Forbidden,
    Conflict,
    InternalError,
    ServiceUnavailable,
}

impl Answer {
    /// A refusal.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Answer::Refused { reason, message: message.into() }
    }

    /// The answer as its line, newline included; one that cannot be sent becomes a refusal that can.
    pub fn line(&self) -> Vec<u8> {
        match serde_json::to_vec(self) {
            Ok(mut line) if line.len() <= ANSWER_MAX => {
                line.push(b'\n');
                line
            }
            Ok(line) => too_much(&format!("the answer has {} bytes, at most {ANSWER_MAX} fit", line.len())),
            Err(why) => too_much(&format!("the answer cannot be written: {why}")),
        }
    }
}

/// The line of a refusal, made of plain text only.
fn too_much(message: &str) -> Vec<u8> {
    let message: String =
        message.chars().filter(|letter| !matches!(letter, '"' | '\\' | '\0'..='\x1f')).collect();
    format!("{{\"refused\":{{\"reason\":\"InternalError\",\"message\":\"{message}\"}}}}\n").into_bytes()
}

impl Request {
    /// The request of one line, without its newline.
    pub fn parse(line: &[u8]) -> Result<Request, String> {
        serde_json::from_slice(line).map_err(|why| format!("no request: {why}"))
    }

    /// How many descriptors must come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Request::Exec { tty: false, .. } => 3,
            Request::Exec { tty: true, .. } => 1,
            Request::Version {}
            | Request::Pods {}
            | Request::Events {}
            | Request::Problems {}
            | Request::Pulls {}
            | Request::Jobs {}
            | Request::CronJobs {}
            | Request::Images {}
            | Request::LogPath { .. }
            | Request::Power { .. }
            | Request::Fault { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_plain_line() {
        let exec = Request::Exec {
            namespace: "default".into(),
            pod: "web-board1".into(),
            container: "web".into(),
            command: vec!["sh".into(), "-c".into(), "echo\n".into()],
            tty: true,
        };
        let table = [
            (Request::Pods {}, r#"{"pods":{}}"#),
            (Request::CronJobs {}, r#"{"cronJobs":{}}"#),
            (Request::Images {}, r#"{"images":{}}"#),
            (Request::Power { how: Power::Poweroff }, r#"{"power":{"how":"poweroff"}}"#),
            (Request::Fault { what: Fault::KillLogger }, r#"{"fault":{"what":"killLogger"}}"#),
            (
                exec,
                r#"{"exec":{"namespace":"default","pod":"web-board1","container":"web","command":["sh","-c","echo\n"],"tty":true}}"#,
            ),
        ];
        for (request, line) in table {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_is_named() {
        for (line, part) in [
            ("", "EOF"),
            ("{}", "expected value"),
            (r#"{"pod":{}}"#, "unknown variant `pod`"),
            (r#"{"pods":{"namespace":"a"}}"#, "unknown field `namespace`"),
            (r#"{"power":{"how":"off"}}"#, "unknown variant `off`"),
            (r#"{"pods":{}} x"#, "trailing"),
            ("\u{0}\u{1}", "expected value"),
        ] {
            let why = Request::parse(line.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }

    #[test]
    fn an_answer_too_long_becomes_a_refusal() {
        let line = Answer::refused(Reason::NotFound, "x".repeat(ANSWER_MAX)).line();
        let answer: Answer = serde_json::from_slice(&line).unwrap();
        assert!(matches!(answer, Answer::Refused { reason: Reason::InternalError, .. }), "{answer:?}");
    }
}
