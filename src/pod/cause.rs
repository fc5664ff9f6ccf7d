//! Why a live run is stopped although its pod goes on.

use std::time::Duration;

use super::facts::{HookKind, PodFacts, ProbeKind, Run};
use super::restart::policy;
use super::spec::{Container, Probe, RestartPolicy, Role};
use crate::clock::Tick;

/// The reason, its moment, and the time that the container is given from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub why: Why,
    pub since: Tick,
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All containers of the pod are restarted.
    All,
    /// Its startup probe failed.
    Startup,
    /// Its liveness probe failed.
    Liveness,
    /// Its postStart hook failed.
    PostStart,
    /// It is given other resources, and its resizePolicy asks for a restart.
    Resize,
    /// It runs from a damaged file, and there is a whole one.
    Damage,
}

/// The cause to stop this run, the newest one of the container. What a probe tells after the pod began to stop is
/// none: a sidecar that fails because its pod goes down keeps its place in the order.
pub fn cause(pod: &PodFacts, container: &Container, run: &Run) -> Option<Cause> {
    let spec = &pod.spec;
    if pod.containers.get(&container.name).is_some_and(|facts| facts.is_past(run)) {
        return Some(Cause { why: Why::All, since: run.starting, grace: Duration::ZERO });
    }
    let probed = |kind, why, probe: &Option<Probe>| {
        let (since, ok, _) = run.verdicts.get(&kind)?;
        let grace = probe.as_ref().and_then(|probe| probe.grace).unwrap_or(spec.grace);
        (!ok).then_some(Cause { why, since: *since, grace })
    };
    let hooked = || {
        let (since, failed) = run.hooks.get(&HookKind::PostStart)?.ended.as_ref()?;
        failed.as_ref().map(|_| Cause { why: Why::PostStart, since: *since, grace: spec.grace })
    };
    let resized = || run.outgrown.map(|since| Cause { why: Why::Resize, since, grace: spec.grace });
    // What ends by itself is left to its end.
    let lasts = || spec.role(container) != Role::Init && policy(spec, container) == RestartPolicy::Always;
    let worn = || {
        let since = run.worn.filter(|_| lasts())?;
        Some(Cause { why: Why::Damage, since, grace: spec.grace })
    };
    let cause = probed(ProbeKind::Startup, Why::Startup, &container.startup)
        .or_else(|| probed(ProbeKind::Liveness, Why::Liveness, &container.liveness))
        .or_else(hooked)
        .or_else(resized)
        .or_else(worn)?;
    let stopping = pod.stopping();
    stopping.is_none_or(|stopping| cause.since <= stopping).then_some(cause)
}
