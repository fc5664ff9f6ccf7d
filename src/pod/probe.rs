//! Probes: which are to be tried now, when the next try is due, and what a row of results means.
//!
//! Kubernetes v1.36: `pkg/kubelet/prober/worker.go`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{PodFacts, ProbeKind, Run};
use super::spec::{Container, Handler, Probe};
use crate::clock::Tick;

/// All that a container may have, in the order of their turns.
pub const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

/// How much of what a handler says is kept.
pub const OUTPUT: usize = 10 << 10;

/// How much of it goes into a fact: each failed try is written down, and an event is read by people.
const TOLD: usize = 1024;

/// How one try went, with what the handler said. A warning of the kubelet's is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Try {
    Success(String),
    Failure(String),
    /// It could not be made: that says nothing of the container.
    Error(String),
}

impl Try {
    /// As a helper that tries once exits.
    pub fn code(&self) -> i32 {
        match self {
            Try::Success(_) => 0,
            Try::Failure(_) => 1,
            Try::Error(_) => 2,
        }
    }

    /// What the handler said.
    pub fn text(&self) -> &str {
        match self {
            Try::Success(text) | Try::Failure(text) | Try::Error(text) => text,
        }
    }

    /// By a helper's exit code; one that was killed tells nothing of the container.
    pub fn of(code: i32, text: String) -> Self {
        match code {
            0 => Try::Success(text),
            1 => Try::Failure(text),
            2 => Try::Error(text),
            _ => Try::Error(format!("the helper ended with {code}")),
        }
    }
}

/// What a try leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// One try failed, or could not be made (`error`).
    Failed { error: bool, why: String },
    /// The verdict is another one than before.
    Verdict { ok: bool, why: String },
}

/// What the probe helper is asked over its socket: JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    Watch(Box<Watch>),
    Forget { id: u64 },
}

/// A probe that the helper is to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// PID 1's name for it, told again in its reports.
    pub id: u64,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub begin: Begin,
    /// Whom a handler without a host asks.
    pub address: String,
    /// The pod's network namespace, where it has one of its own: a handler without a host asks from within.
    pub space: Option<PathBuf>,
}

/// What the probe helper tells of a watched probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: u64,
    pub told: Told,
}

/// What the hook helper is asked, by a file: JSON. The fields are those of `Watch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookRequest {
    pub handler: Handler,
    pub address: String,
    pub space: Option<PathBuf>,
}

/// Where a worker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// When the container started.
    pub started: Tick,
    /// The last verdict, where another worker came to one.
    pub verdict: Option<bool>,
    /// The share of a period, in thousandths, that the first try waits: not all probes at once after a restart of ours.
    pub spread: Option<u32>,
}

/// The tries of one probe of one run: a new run gets a new one.
#[derive(Clone, Debug)]
pub struct Worker {
    kind: ProbeKind,
    period: Duration,
    /// Successes and failures in a row that make a verdict.
    success: u32,
    failure: u32,
    due: Tick,
    verdict: Option<bool>,
    /// The last result, and how often in a row.
    streak: (bool, u32),
}

impl Worker {
    /// The first try is due at once, but not before the initial delay is over.
    pub fn new(kind: ProbeKind, probe: &Probe, begin: Begin, now: Tick) -> Self {
        let spread = begin.spread.map_or(Duration::ZERO, |share| probe.period * share.min(1000) / 1000);
        Worker {
            kind,
            period: probe.period,
            success: probe.success,
            failure: probe.failure,
            due: (begin.started + probe.initial_delay).max(now + spread),
            verdict: begin.verdict.or(initial(kind)),
            streak: (false, 0),
        }
    }

    /// When the next try is due; None: never again for this run.
    pub fn due(&self) -> Option<Tick> {
        let decided = match self.kind {
            ProbeKind::Startup => self.verdict.is_some(),
            ProbeKind::Liveness => self.verdict == Some(false),
            ProbeKind::Readiness => false,
        };
        (!decided).then_some(self.due)
    }

    /// Whether a further success would change nothing and be told to nobody.
    pub fn healthy(&self) -> bool {
        self.verdict == Some(true)
    }

    /// The due try was made and went like this. A try that took longer than the period is followed at once.
    pub fn tried(&mut self, result: Try, now: Tick) -> Vec<Told> {
        self.due = (self.due + self.period).max(now);
        let (ok, why) = match result {
            Try::Error(why) => return vec![Told::Failed { error: true, why: short(&why) }],
            Try::Success(why) => (true, short(&why)),
            Try::Failure(why) => (false, short(&why)),
        };
        let before = if self.streak.0 == ok { self.streak.1 } else { 0 };
        self.streak = (ok, before.saturating_add(1));
        let mut told = Vec::new();
        if !ok {
            told.push(Told::Failed { error: false, why: why.clone() });
        }
        let enough = if ok { self.success } else { self.failure };
        if self.streak.1 >= enough && self.verdict != Some(ok) {
            self.verdict = Some(ok);
            told.push(Told::Verdict { ok, why });
        }
        told
    }
}

/// What holds before anything was tried.
fn initial(kind: ProbeKind) -> Option<bool> {
    match kind {
        ProbeKind::Startup => None,
        ProbeKind::Liveness => Some(true),
        ProbeKind::Readiness => Some(false),
    }
}

/// The container's probe of this kind.
pub fn of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup.as_ref(),
        ProbeKind::Liveness => container.liveness.as_ref(),
        ProbeKind::Readiness => container.readiness.as_ref(),
    }
}

/// The probe of this kind and the run that it is to be tried on now, if it is to be tried at all: the container runs
/// and its postStart hook is done; liveness and readiness after startup has succeeded, startup and liveness until they
/// are decided; and of a pod that is stopping only readiness, so that it can drop.
pub fn wanted<'a>(
    pod: &'a PodFacts,
    container: &'a Container,
    kind: ProbeKind,
) -> Option<(&'a Probe, &'a Run)> {
    let probe = of(container, kind)?;
    let run = pod.present(&container.name).filter(|run| run.begun(container))?;
    let wanted = match kind {
        ProbeKind::Startup => pod.stopping().is_none() && run.verdict(kind).is_none(),
        ProbeKind::Liveness => {
            pod.stopping().is_none() && run.up(container) && run.verdict(kind) != Some(false)
        }
        ProbeKind::Readiness => run.up(container),
    };
    wanted.then_some((probe, run))
}

/// The share of a period that a probe of this name waits after a restart of ours: any, but always the same.
pub fn share(name: &str) -> u32 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % 1000
}

fn short(why: &str) -> String {
    let why = why.trim_end();
    let end = (0..=why.len().min(TOLD)).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
    why.get(..end).unwrap_or_default().to_owned()
}
