//! What PID 1 and the start helper tell each other: files in the bundle directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::pod::facts::StartError;

/// `start.json`: what the start helper must know beside `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Unique on this machine for ever: `[A-Za-z0-9_+.-]`.
    pub id: String,
    /// libcontainer's state root: `<run>/state`.
    pub state: PathBuf,
    /// The helper's descriptors that become the container's 0, 1 and 2; each above 2.
    pub stdin: i32,
    pub stdout: i32,
    pub stderr: i32,
}

/// What a start helper left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container's first process runs its program.
    Started { pid: i32 },
    /// It does not, and nothing of it is left.
    Failed(StartError),
    /// The helper died before it could say: `clean` is to be called.
    Silent,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Report {
    Pid(i32),
    Error { reason: String, message: String },
}

/// Writes `config.json` and `start.json` into `bundle` (made where missing) and takes an old report away.
pub fn stage(bundle: &Path, spec: &Spec, start: &Start) -> io::Result<()> {
    fs::create_dir_all(bundle).map_err(|error| context(&error, "make", bundle))?;
    gone(fs::remove_file(bundle.join("report.json")), "remove", &bundle.join("report.json"))?;
    write(&bundle.join("config.json"), spec)?;
    write(&bundle.join("start.json"), start)
}

/// Reads `start.json`.
pub fn staged(bundle: &Path) -> io::Result<Start> {
    let path = bundle.join("start.json");
    let text = fs::read(&path).map_err(|error| context(&error, "read", &path))?;
    serde_json::from_slice(&text).map_err(|error| context(&error.into(), "read", &path))
}

/// Leaves `report.json`, whole or not at all: by rename.
pub fn report(bundle: &Path, outcome: &Result<i32, StartError>) -> io::Result<()> {
    let report = match outcome {
        Ok(pid) => Report::Pid(*pid),
        Err(error) => Report::Error { reason: error.reason.clone(), message: error.message.clone() },
    };
    let part = bundle.join("report.json.part");
    write(&part, &report)?;
    fs::rename(&part, bundle.join("report.json")).map_err(|error| context(&error, "rename", &part))
}

/// What the ended start helper of this bundle left.
pub fn outcome(bundle: &Path) -> Outcome {
    let Ok(text) = fs::read(bundle.join("report.json")) else { return Outcome::Silent };
    match serde_json::from_slice(&text) {
        Ok(Report::Pid(pid)) => Outcome::Started { pid },
        Ok(Report::Error { reason, message }) => Outcome::Failed(StartError { reason, message, ours: false }),
        Err(_) => Outcome::Silent,
    }
}

/// Removes what libcontainer keeps of a container: after it ended, or when its start was cut short.
pub fn forget(state: &Path, id: &str) -> io::Result<()> {
    let path = state.join(id);
    gone(fs::remove_dir_all(&path), "remove", &path)
}

fn gone(result: io::Result<()>, what: &str, path: &Path) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(context(&error, what, path)),
        _ => Ok(()),
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value).map_err(|error| context(&error.into(), "write", path))?;
    fs::write(path, text).map_err(|error| context(&error, "write", path))
}

fn context(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let bundle = std::env::temp_dir().join(format!("podinit-handover-{}", std::process::id()));
        let start = Start { id: "a-0".into(), state: "/run/state".into(), stdin: 3, stdout: 4, stderr: 5 };
        stage(&bundle, &Spec::default(), &start).expect("stage");
        assert_eq!(staged(&bundle).expect("staged"), start);
        assert_eq!(outcome(&bundle), Outcome::Silent);

        report(&bundle, &Ok(7)).expect("report");
        assert_eq!(fs::read_to_string(bundle.join("report.json")).expect("read"), r#"{"pid":7}"#);
        assert_eq!(outcome(&bundle), Outcome::Started { pid: 7 });

        let error = StartError { reason: "StartError".into(), message: "no".into(), ours: false };
        report(&bundle, &Err(error.clone())).expect("report");
        let text = fs::read_to_string(bundle.join("report.json")).expect("read");
        assert_eq!(text, r#"{"error":{"reason":"StartError","message":"no"}}"#);
        assert_eq!(outcome(&bundle), Outcome::Failed(error));

        fs::write(bundle.join("report.json"), "{").expect("write");
        assert_eq!(outcome(&bundle), Outcome::Silent);
        stage(&bundle, &Spec::default(), &start).expect("again");
        assert_eq!(outcome(&bundle), Outcome::Silent);
        assert!(!bundle.join("report.json").exists());
        fs::remove_dir_all(&bundle).expect("remove");

        forget(&bundle, "a-0").expect("forget nothing");
        assert!(staged(&bundle).expect_err("nothing there").to_string().contains("start.json"));
    }
}
