//! What must hold, stated over what really happened; the world's own view is not asked.

use std::sync::Arc;
use std::time::Duration;

use podinit::clock::Tick;
use podinit::pod::Pod;
use podinit::pod::facts::{Dismissal, Fact};
use podinit::pod::plan::{Action, Plan};
use podinit::pod::spec::{Container, Desired, PullPolicy, RestartPolicy};

use crate::model::{End, RealContainer, RealPod, RealRun, Reality, clash, ports, subject};

type Verdict = Result<(), String>;

/// One property of an action, stated of the moment before it is carried out.
type Property = fn(&View, &Action) -> Verdict;

/// All of them.
pub const OF_ACTIONS: &[(&str, Property)] = &[
    ("never_two_live_runs", never_two_live_runs),
    ("no_main_before_its_inits_succeeded", no_main_before_its_inits_succeeded),
    ("restart_only_as_the_policy_says", restart_only_as_the_policy_says),
    ("no_restart_before_its_time", no_restart_before_its_time),
    ("run_numbers_count_up", run_numbers_count_up),
    ("image_seen_before_a_start", image_seen_before_a_start),
    ("no_retry_before_its_time", no_retry_before_its_time),
    ("no_signal_without_a_cause", no_signal_without_a_cause),
    ("no_kill_before_the_deadline", no_kill_before_the_deadline),
    ("nothing_started_for_a_dismissed_pod", nothing_started_for_a_dismissed_pod),
    ("one_pod_for_a_full_name", one_pod_for_a_full_name),
    ("no_two_pods_on_one_host_port", no_two_pods_on_one_host_port),
    ("admitted_only_if_wanted", admitted_only_if_wanted),
    ("dismissed_only_if_unwanted", dismissed_only_if_unwanted),
    ("cleaned_once_and_before_the_next_start", cleaned_once_and_before_the_next_start),
    ("torn_down_only_when_all_is_cleaned", torn_down_only_when_all_is_cleaned),
];

pub struct View<'a> {
    pub reality: &'a Reality,
    pub desired: &'a Desired,
    pub now: Tick,
}

impl View<'_> {
    fn pod(&self, action: &Action) -> Option<&RealPod> {
        self.reality.pods.get(subject(action).0)
    }

    fn container(&self, action: &Action) -> Option<&RealContainer> {
        self.pod(action)?.containers.get(subject(action).1)
    }

    fn deadline(&self, pod: &RealPod) -> Option<Tick> {
        let shortest = if self.desired.ending { self.desired.ending_grace } else { None };
        let grace = pod.spec.grace.min(shortest.unwrap_or(pod.spec.grace)).max(Duration::from_secs(1));
        Some(pod.dismissed? + grace)
    }
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}

fn never_two_live_runs(view: &View, action: &Action) -> Verdict {
    let Action::Start { .. } = action else { return Ok(()) };
    check(view.container(action).is_some_and(|c| c.live().is_none()), || {
        "it runs already, or is unknown".into()
    })
}

fn no_main_before_its_inits_succeeded(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let before = pod.spec.init.iter().take_while(|init| init.name != *container);
    for init in before {
        check(pod.succeeded(&init.name), || format!("{} did not succeed", init.name))?;
    }
    let is_init = pod.spec.init.iter().any(|init| init.name == *container);
    check(!(is_init && pod.succeeded(container)), || "it succeeded already".into())
}

fn restart_only_as_the_policy_says(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let Some((_, end)) = pod.containers[container].runs.last().and_then(|run| run.end) else { return Ok(()) };
    check(may_restart(pod, container, end), || format!("{:?} after {end:?}", pod.spec.restart))
}

pub fn may_restart(pod: &RealPod, container: &str, end: End) -> bool {
    let init = pod.spec.init.iter().any(|init| init.name == container);
    let failed = match end {
        End::Ours | End::CreateError => return true,
        End::StartError => true,
        End::Exit { code, oom } => code != 0 || init && oom,
    };
    match pod.spec.restart {
        RestartPolicy::Always => !init || failed,
        RestartPolicy::OnFailure => failed,
        RestartPolicy::Never => false,
    }
}

/// When the container may be started again, by client-go's Backoff.
pub fn restart_due(container: &RealContainer) -> Option<Tick> {
    let (finish, end) = container.runs.last()?.end?;
    if end == End::Ours {
        let wait = Duration::from_millis(100) * 2u32.pow((container.trouble - 1).min(20));
        return Some(finish + wait.min(Duration::from_secs(5)));
    }
    match container.entry {
        Some((wait, raised)) if finish - raised <= Duration::from_secs(600) => Some(finish + wait),
        _ => Some(finish),
    }
}

fn no_restart_before_its_time(view: &View, action: &Action) -> Verdict {
    let (Action::Start { .. }, Some(container)) = (action, view.container(action)) else { return Ok(()) };
    let due = restart_due(container);
    check(due.is_none_or(|due| due <= view.now), || format!("not before {due:?}"))
}

fn run_numbers_count_up(view: &View, action: &Action) -> Verdict {
    let (Action::Start { run, .. }, Some(container)) = (action, view.container(action)) else {
        return Ok(());
    };
    let next = container.runs.last().map_or(0, |run| run.number + 1);
    check(*run == next, || format!("the next number is {next}"))
}

fn image_seen_before_a_start(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container: name, .. }, Some(pod)) = (action, view.pod(action)) else {
        return Ok(());
    };
    let spec = pod.spec.container(name).ok_or("no such container")?;
    check(image_ready(spec, &pod.containers[name]), || {
        "its image was not found, or not since the last run".into()
    })
}

fn image_ready(spec: &Container, container: &RealContainer) -> bool {
    let ended = container.runs.last().and_then(|run| run.end).map(|(at, _)| at);
    container.found.is_some() && (spec.pull != PullPolicy::Always || container.found >= ended)
}

/// After `tries` failures, the last one at `at`: `first`, twice that, ... up to `cap`.
fn retry_due((tries, at): (u32, Tick), first: u64, cap: u64) -> Tick {
    if tries == 0 {
        return Tick(0);
    }
    at + Duration::from_secs((first << (tries - 1).min(20)).min(cap))
}

fn no_retry_before_its_time(view: &View, action: &Action) -> Verdict {
    let Some(pod) = view.pod(action) else { return Ok(()) };
    let due = match action {
        Action::SetUp { .. } => retry_due(pod.set_up_failed, 1, 60),
        Action::TearDown { .. } => retry_due(pod.tear_down_failed, 1, 30),
        Action::Find { container, .. } => retry_due(pod.containers[container].missing, 10, 300),
        _ => Tick(0),
    };
    check(due <= view.now, || format!("not before {due:?}"))
}

/// No liveness probes yet: only a dismissal, or a start helper that hangs, is a cause.
fn no_signal_without_a_cause(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { run, kill, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let live = view.container(action).and_then(RealContainer::live).filter(|live| live.number == *run);
    let live = live.ok_or("nothing runs there")?;
    if pod.dismissed.is_some() {
        return check(*kill || live.started.is_some() && live.stopped.is_none(), || {
            "stopped before it runs, or twice".into()
        });
    }
    let hangs = view.now >= live.starting + Duration::from_secs(120) && live.started.is_none()
        || live.killed.is_some();
    check(*kill && hangs, || "nobody dismissed it".into())
}

fn no_kill_before_the_deadline(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { kill: true, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let Some(run) = view.container(action).and_then(RealContainer::live) else { return Ok(()) };
    let due = kill_due(view, pod, run).ok_or("no deadline")?;
    check(due <= view.now, || format!("not before {due:?}"))
}

fn kill_due(view: &View, pod: &RealPod, run: &RealRun) -> Option<Tick> {
    let deadline = view.deadline(pod);
    let hung = run.starting + Duration::from_secs(120);
    match (run.killed, run.started) {
        (Some(killed), _) => Some(killed + Duration::from_secs(5)),
        (None, None) => Some(deadline.map_or(hung, |deadline| deadline.min(hung))),
        (None, Some(_)) => Some(deadline?.max(run.stopped? + Duration::from_secs(2))),
    }
}

fn nothing_started_for_a_dismissed_pod(view: &View, action: &Action) -> Verdict {
    let (Action::Start { .. } | Action::SetUp { .. } | Action::Find { .. }) = action else { return Ok(()) };
    check(view.pod(action).is_some_and(|pod| pod.dismissed.is_none()), || "dismissed, or unknown".into())
}

fn one_pod_for_a_full_name(view: &View, action: &Action) -> Verdict {
    let Action::Admit(pod) = action else { return Ok(()) };
    let twin = view.reality.pods.values().find(|other| other.spec.full_name() == pod.full_name());
    check(twin.is_none(), || format!("{} is still there", twin.map_or("", |twin| &twin.spec.uid)))
}

fn no_two_pods_on_one_host_port(view: &View, action: &Action) -> Verdict {
    let (wanted, me) = match action {
        Action::Admit(pod) => (ports(pod), &pod.uid),
        Action::Start { uid, .. } => (view.pod(action).map_or(Vec::new(), RealPod::ports), uid),
        _ => return Ok(()),
    };
    let other =
        view.reality.pods.iter().find(|(uid, pod)| *uid != me && holds(pod) && clash(&pod.ports(), &wanted));
    check(other.is_none(), || format!("{} holds it", other.map_or("", |(uid, _)| uid)))
}

/// Whether a pod may listen now or later.
fn holds(pod: &RealPod) -> bool {
    pod.live() || pod.dismissed.is_none() && !over(pod)
}

/// Whether nothing of the pod will ever run again by itself.
pub fn over(pod: &RealPod) -> bool {
    let ended_for_good =
        |name: &str| pod.containers[name].end().is_some_and(|end| !may_restart(pod, name, end));
    let failed_init = |name: &str| ended_for_good(name) && !pod.succeeded(name);
    !pod.live()
        && (pod.spec.init.iter().any(|init| failed_init(&init.name))
            || pod.spec.containers.iter().all(|main| ended_for_good(&main.name)))
}

fn admitted_only_if_wanted(view: &View, action: &Action) -> Verdict {
    let Action::Admit(pod) = action else { return Ok(()) };
    let wanted = !view.desired.ending && view.desired.pods.iter().any(|other| other.uid == pod.uid);
    check(wanted, || "not wanted".into())
}

fn dismissed_only_if_unwanted(view: &View, action: &Action) -> Verdict {
    let (Action::Dismiss { why, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    check(!wanted(view, pod), || "wanted".into())?;
    check(pod.dismissed.is_none(), || "twice".into())?;
    let heir = |other: &Pod| other.uid == pod.spec.uid || other.full_name() == pod.spec.full_name();
    let due = match view.desired.pods.iter().any(|other| heir(other)) {
        _ if view.desired.ending => Dismissal::Ending,
        true => Dismissal::Replaced,
        false => Dismissal::Removed,
    };
    check(*why == due, || format!("it is {due:?}"))
}

/// As it is: an edit that keeps the uid wants another pod, a new name of its file does not.
fn wanted(view: &View, pod: &RealPod) -> bool {
    let here = |wanted: &Pod| Pod { origin: pod.spec.origin.clone(), ..wanted.clone() };
    let same = |wanted: &Arc<Pod>| Arc::ptr_eq(wanted, &pod.spec) || here(wanted) == *pod.spec;
    !view.desired.ending && view.desired.pods.iter().any(|wanted| wanted.uid == pod.spec.uid && same(wanted))
}

fn cleaned_once_and_before_the_next_start(view: &View, action: &Action) -> Verdict {
    let last = view.container(action).and_then(|container| container.runs.last());
    match (action, last) {
        (Action::Clean { run, .. }, Some(last)) => {
            check(last.number == *run && last.end.is_some() && !last.cleaned, || "not to be cleaned".into())
        }
        (Action::Clean { .. }, None) => Err("there was no run".into()),
        (Action::Start { .. }, Some(last)) => check(last.cleaned, || "the last run is not cleaned".into()),
        _ => Ok(()),
    }
}

fn torn_down_only_when_all_is_cleaned(view: &View, action: &Action) -> Verdict {
    let Action::TearDown { .. } = action else { return Ok(()) };
    let pod = view.pod(action).ok_or("unknown")?;
    let mut runs = pod.containers.values().flat_map(|container| &container.runs);
    check(pod.dismissed.is_some() && runs.all(|run| run.cleaned), || "in use, or wanted".into())
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

/// No wanted pod waits unless a namesake or the holder of its port is there.
pub fn nothing_waits_without_a_reason(view: &View) -> Verdict {
    if view.desired.ending {
        return Ok(());
    }
    for pod in &view.desired.pods {
        let others = || view.reality.pods.values();
        let waits_for_name = others().any(|other| other.spec.full_name() == pod.full_name());
        let waits_for_port = others().any(|other| holds(other) && clash(&other.ports(), &ports(pod)));
        let admitted = view.reality.pods.contains_key(&pod.uid);
        check(admitted || waits_for_name || waits_for_port, || format!("{} waits for nothing", pod.uid))?;
    }
    Ok(())
}

/// What the plan will have to do for this pod without further news, and when.
fn dues(view: &View, pod: &RealPod) -> Vec<(Tick, String)> {
    let name = |what: &str| format!("{what} {}", pod.spec.uid);
    if !wanted(view, pod) && pod.dismissed.is_none() {
        return vec![(Tick(0), name("dismiss"))];
    }
    let mut dues = Vec::new();
    for (container, facts) in &pod.containers {
        match facts.runs.last() {
            Some(run) if run.end.is_some() && !run.cleaned => dues.push((run.starting, name("clean"))),
            Some(run) if run.end.is_none() => {
                let stop = pod.dismissed.is_some()
                    && run.started.is_some()
                    && run.stopped.is_none()
                    && run.killed.is_none();
                dues.extend(stop.then(|| (Tick(0), name("stop"))));
                dues.extend(kill_due(view, pod, run).map(|at| (at, name("kill"))));
            }
            Some(_) | None => {
                if pod.dismissed.is_none() && pod.set_up {
                    dues.extend(start_due(pod, container).map(|at| (at, name("start"))));
                }
            }
        }
    }
    if pod.dismissed.is_none() && !pod.set_up {
        dues.push((retry_due(pod.set_up_failed, 1, 60), name("set up")));
    }
    if pod.dismissed.is_some() && !pod.live() {
        dues.push((retry_due(pod.tear_down_failed, 1, 30), name("tear down")));
    }
    dues
}

/// When a container that does not run is to be started, or its image to be looked for.
fn start_due(pod: &RealPod, name: &str) -> Option<Tick> {
    for init in pod.spec.init.iter().take_while(|init| init.name != name) {
        if !pod.succeeded(&init.name) {
            return None;
        }
    }
    let container = &pod.containers[name];
    let mut due = Tick(0);
    if let Some(end) = container.end() {
        if !may_restart(pod, name, end) {
            return None;
        }
        due = restart_due(container)?;
    }
    Some(due.max(retry_due(container.missing, 10, 300)))
}

/// What must be so when nothing fails any more and nothing happens any more.
pub fn rests_at_what_is_wanted(view: &View) -> Verdict {
    nothing_waits_without_a_reason(view)?;
    for (uid, pod) in &view.reality.pods {
        check(pod.dismissed.is_none() && wanted(view, pod), || format!("{uid} is still there"))?;
        check(pod.set_up, || format!("{uid} is not set up"))?;
        if over(pod) {
            continue;
        }
        for main in &pod.spec.containers {
            let container = &pod.containers[&main.name];
            let done = container.end().is_some_and(|end| !may_restart(pod, &main.name, end));
            let runs = container.live().is_some_and(|run| run.started.is_some());
            check(runs || done, || format!("{uid}/{} does not run", main.name))?;
        }
    }
    Ok(())
}

/// Whether a fact comes too late, a second time, or of what never was: it must change nothing.
pub fn stale(reality: &Reality, fact: &Fact) -> bool {
    let (uid, container, number) = match fact {
        Fact::Admitted { pod } => return reality.pods.contains_key(&pod.uid),
        Fact::Dismissed { uid, .. } => {
            return reality.pods.get(uid).is_none_or(|pod| pod.dismissed.is_some());
        }
        Fact::Starting { uid, container, run, .. }
        | Fact::Started { uid, container, run, .. }
        | Fact::StartFailed { uid, container, run, .. }
        | Fact::Signalled { uid, container, run, .. }
        | Fact::Exited { uid, container, run, .. }
        | Fact::Cleaned { uid, container, run } => (uid, container, *run),
        _ => return false,
    };
    let Some(container) = reality.pods.get(uid).and_then(|pod| pod.containers.get(container)) else {
        return true;
    };
    // Of an untouched container the world may note that it heard something.
    let Some(last) = container.runs.last() else { return false };
    let live = last.end.is_none();
    match fact {
        Fact::Starting { .. } => live || number <= last.number,
        Fact::StartFailed { .. } if number > last.number => live,
        Fact::Started { .. } => number != last.number || !live || last.started.is_some(),
        Fact::Signalled { kill: false, .. } => number != last.number || !live || last.stopped.is_some(),
        Fact::Cleaned { .. } => number != last.number || live || last.cleaned,
        _ => number != last.number || !live,
    }
}
