//! What is due, and when, computed from what really happened.

use std::time::Duration;

use podinit::clock::Tick;
use podinit::pod::facts::HookKind;
use podinit::pod::plan::Plan;

use podinit::pod::resources::Grant;

use crate::model::{End, RealContainer, RealPod, RealRun, Then, Unfit, then};
use crate::properties::{Verdict, View, check, wanted};

const HUNG: Duration = Duration::from_secs(120);

impl View<'_> {
    /// When a pod that only ends is out of time.
    pub fn deadline(&self, pod: &RealPod) -> Option<Tick> {
        let second = Duration::from_secs(1);
        let own = pod.spec.grace.max(second);
        let ending = if self.desired.ending { self.period(pod.spec.critical()) } else { None };
        let dismissed = pod.dismissed.map(|at| at + own.min(ending.unwrap_or(own)).max(second));
        let others = [pod.expired, pod.over()].into_iter().flatten().map(|at| at + own);
        dismissed.into_iter().chain(others).min()
    }

    /// The longest grace of a pod at the end.
    fn period(&self, critical: bool) -> Option<Duration> {
        let total = self.desired.ending_grace?;
        match self.share() {
            Some(share) if critical => Some(share),
            Some(share) => Some(total - share),
            None => Some(total),
        }
    }

    fn share(&self) -> Option<Duration> {
        let share = self.desired.ending_grace_critical?;
        (share > Duration::ZERO && share <= self.desired.ending_grace?).then_some(share)
    }

    /// When an ending machine dismisses this pod.
    pub fn turn_comes(&self, pod: &RealPod) -> Tick {
        if !self.desired.ending || !pod.spec.critical() || self.share().is_none() {
            return Tick(0);
        }
        let period = self.period(false).unwrap();
        let others = self.reality.pods.values().filter(|other| !other.spec.critical() && other.live());
        others.map(|other| other.dismissed.unwrap_or(self.now) + period).max().unwrap_or(Tick(0))
    }

    /// When this live run is out of time; None: it is to live.
    pub fn run_deadline(&self, pod: &RealPod, name: &str, run: &RealRun) -> Option<Tick> {
        let cause = pod.cause(name, run).map(|(since, grace)| since + grace);
        [self.deadline(pod), cause].into_iter().flatten().min()
    }

    /// When the run is killed, as things are.
    pub fn kill_due(&self, pod: &RealPod, name: &str, run: &RealRun) -> Option<Tick> {
        let deadline = self.run_deadline(pod, name, run);
        let hung = run.starting + HUNG;
        match (run.killed, run.started) {
            (Some(killed), _) => Some(killed + Duration::from_secs(5)),
            (None, _) if run.past => Some(Tick(0)),
            (None, None) => Some(deadline.map_or(hung, |deadline| deadline.min(hung))),
            (None, Some(_)) => Some(deadline?.max(run.stopped? + Duration::from_secs(2))),
        }
    }

    /// When its stop signal, or the hook before it, is due.
    pub fn stop_due(&self, pod: &RealPod, name: &str, run: &RealRun) -> Option<Tick> {
        let idle = run.past || run.killed.is_some() || run.stopped.is_some() || run.started.is_none();
        let deadline = self.run_deadline(pod, name, run).filter(|_| !idle)?;
        let hook = pod.spec.container(name).and_then(|spec| spec.pre_stop.as_ref()).is_some();
        let hooked = match run.hooks.get(&HookKind::PreStop) {
            None if hook && self.now < deadline => return Some(Tick(0)),
            None => true,
            Some((_, ended)) => ended.is_some(),
        };
        let withheld = pod.cause(name, run).is_none() && pod.withheld(name);
        Some(if hooked && !withheld { Tick(0) } else { deadline })
    }
}

/// Whether the start of this container goes on, its postStart hook included.
pub fn under_way(run: &RealRun) -> bool {
    run.end.is_none() && (run.started.is_none() || run.hooked(HookKind::PostStart).is_none())
}

/// Whether an earlier regular container with a postStart hook is being started.
pub fn held(pod: &RealPod, name: &str) -> bool {
    let earlier = pod.spec.containers.iter().take_while(|main| main.name != name);
    pod.spec.containers.iter().any(|main| main.name == name)
        && earlier.filter(|main| main.post_start.is_some()).any(|main| {
            let real = &pod.containers[&main.name];
            // A pull for the sake of a run that is there, or was the last one, holds nobody.
            let runs = |run: &RealRun| {
                run.end.is_some() && (run.past || then(&pod.spec, &main.name, run) == Then::Again)
            };
            real.pulling && real.runs.last().is_none_or(runs) || real.runs.last().is_some_and(under_way)
        })
}

/// With nothing to be done now, nothing may be overdue, and the plan must wake up exactly when something is due.
pub fn wakes_exactly_when_something_is_due(view: &View, plan: &Plan) -> Verdict {
    let mut due: Option<(Tick, String)> = None;
    for pod in view.reality.pods.values() {
        for (at, what) in dues(view, pod) {
            check(at > view.now, || format!("overdue since {at:?}: {what}"))?;
            if due.as_ref().is_none_or(|(first, _)| at < *first) {
                due = Some((at, what));
            }
        }
    }
    let at = due.as_ref().map(|(at, _)| *at);
    check(plan.wake_at == at, || format!("wakes at {:?}, but {due:?} is next", plan.wake_at))
}

/// What the plan will have to do for this pod without further news, and when.
fn dues(view: &View, pod: &RealPod) -> Vec<(Tick, String)> {
    let name = |what: &str| format!("{what} {}", pod.spec.uid);
    let mut dues = Vec::new();
    if !wanted(view, pod) && pod.dismissed.is_none() {
        dues.push((view.turn_comes(pod), name("dismiss")));
    }
    let stopping = pod.stopping().is_some();
    let limit = pod.spec.deadline.filter(|_| !stopping);
    dues.extend(limit.map(|limit| (pod.admitted + limit, name("expire"))));
    if pod.dismissed.is_some() && !pod.live() {
        dues.push((retry_due(pod.tear_down_failed, 1, 30), name("tear down")));
    }
    if !pod.set_up && !stopping {
        dues.push((retry_due(pod.set_up_failed, 1, 60), name("set up")));
    }
    dues.extend(resizes_due(view, pod).map(|at| (at, name("resize"))));
    let newest =
        |container: &RealContainer| container.runs.last().is_some_and(|run| run.past && !run.cleaned);
    let past = pod.containers.values().any(newest);
    let all = |name: &str| pod.present(name).is_some_and(|run| then(&pod.spec, name, run) == Then::All);
    if !past && !stopping && pod.spec.all().any(|container| all(&container.name)) {
        dues.push((Tick(0), name("restart all")));
    }
    for (container, facts) in &pod.containers {
        match facts.runs.last() {
            Some(run) if run.end.is_some() && !run.cleaned => dues.push((run.starting, name("clean"))),
            Some(run) if run.end.is_none() => {
                dues.extend(view.stop_due(pod, container, run).map(|at| (at, name("stop"))));
                dues.extend(view.kill_due(pod, container, run).map(|at| (at, name("kill"))));
                let spec = pod.spec.container(container).unwrap();
                let hook = spec.post_start.is_some()
                    && !stopping
                    && run.started.is_some()
                    && run.killed.is_none()
                    && pod.cause(container, run).is_none()
                    && !run.past
                    && !run.hooks.contains_key(&HookKind::PostStart);
                dues.extend(hook.then(|| (Tick(0), name("postStart"))));
                // An image is had anew while its container runs.
                if facts.damaged.is_some() && !facts.pulling && !stopping && !past {
                    dues.push((retry_due(facts.missing, 10, 300), name("mend")));
                }
            }
            Some(_) | None => {
                if !stopping && pod.set_up && !past {
                    dues.extend(start_due(pod, container).map(|at| (at, name("start"))));
                }
            }
        }
    }
    dues
}

/// When a cgroup is to be given what it should have, after failures to give it the same.
pub fn resize_due(unfit: Option<Unfit>, grant: &Grant) -> Tick {
    unfit.filter(|unfit| unfit.grant == *grant).map_or(Tick(0), |unfit| retry_due(unfit.tries, 1, 60))
}

/// When the first cgroup of the pod is to be resized: its own before its containers' where that one grows, and after
/// them where it shrinks.
fn resizes_due(view: &View, pod: &RealPod) -> Option<Tick> {
    let expires = pod.spec.deadline.is_some_and(|limit| pod.admitted + limit <= view.now);
    let has = pod.grant.filter(|_| pod.stopping().is_none() && !expires)?;
    let should = Grant::pod(&pod.spec);
    let most = has.most(&should);
    if has != most {
        return Some(resize_due(pod.unfit, &most));
    }
    let mut due = None;
    let mut left = false;
    for container in pod.spec.all() {
        let own = Grant::container(container);
        let run = pod.containers[&container.name].live().filter(|run| run.grant != own);
        left |= run.is_some();
        let steady = run.filter(|run| {
            let hooked = container.post_start.is_none() || run.hooks.contains_key(&HookKind::PostStart);
            let stops = run.stopped.is_some() || run.killed.is_some() || run.past;
            run.started.is_some() && hooked && !stops && pod.cause(&container.name, run).is_none()
        });
        let at = steady.map(|run| resize_due(run.unfit, &own));
        due = [due, at].into_iter().flatten().min();
    }
    if !left && has != should { Some(resize_due(pod.unfit, &should)) } else { due }
}

/// When a container that does not run is to be started, or its image to be looked for.
fn start_due(pod: &RealPod, name: &str) -> Option<Tick> {
    if held(pod, name) || !its_turn(pod, name) {
        return None;
    }
    let container = &pod.containers[name];
    // The end of its pull is news.
    if container.pulling {
        return None;
    }
    let mut due = Tick(0);
    if let Some(run) = container.runs.last() {
        if !run.past && then(&pod.spec, name, run) != Then::Again {
            return None;
        }
        due = restart_due(container)?;
    }
    if container.damaged.is_some() {
        // Its image comes first, whatever it waits for.
        due = Tick(0);
    }
    let look = due.max(retry_due(container.missing, 10, 300));
    // From the second failure on it is told once that it is not pulled yet.
    let tell = container.missing.1 + Duration::from_secs(10);
    let tells = container.missing.0 >= 2 && !container.told;
    Some(if tells { look.min(tell) } else { look })
}

/// Whether all that goes before this container is done: from the last one on that was ever reached.
fn its_turn(pod: &RealPod, name: &str) -> bool {
    let init = &pod.spec.init;
    let begun = pod.spec.containers.iter().any(|main| pod.present(&main.name).is_some());
    let last = init.iter().rposition(|one| pod.present(&one.name).is_some()).unwrap_or(0);
    let reached = if begun { init.len() } else { last };
    let place = init.iter().position(|one| one.name == name).unwrap_or(init.len());
    if place < reached && pod.plain(name) {
        return false;
    }
    init.iter().enumerate().take(place).skip(reached).all(|(_, one)| match one.sidecar {
        true => pod.present(&one.name).is_some_and(|run| run.up(one)),
        false => pod.succeeded(&one.name),
    })
}

/// When the container may be started again, by client-go's Backoff.
pub fn restart_due(container: &RealContainer) -> Option<Tick> {
    let (finish, end) = container.runs.last()?.end?;
    if end == End::Ours {
        let wait = Duration::from_millis(100) * 2u32.pow((container.trouble - 1).min(20));
        return Some(finish + wait.min(Duration::from_secs(5)));
    }
    if let Some(worn) = container.runs.last()?.worn {
        return Some(finish.max(worn));
    }
    match container.entry {
        Some((wait, raised)) if finish - raised <= Duration::from_secs(600) => Some(finish + wait),
        _ => Some(finish),
    }
}

/// After `tries` failures, the last one at `at`: `first`, twice that, ... up to `cap`.
pub fn retry_due((tries, at): (u32, Tick), first: u64, cap: u64) -> Tick {
    if tries == 0 {
        return Tick(0);
    }
    at + Duration::from_secs((first << (tries - 1).min(20)).min(cap))
}
