//! What must hold, stated over what really happened; the world's own view is not asked.

use std::sync::Arc;
use std::time::Duration;

use podinit::clock::Tick;
use podinit::pod::Pod;
use podinit::pod::facts::{Dismissal, Fact, HookKind};
use podinit::pod::plan::Action;
use podinit::pod::resources::Grant;
use podinit::pod::spec::{Container, Desired, PullPolicy};

use crate::due::{held, resize_due, restart_due, retry_due, under_way};
use crate::model::{RealContainer, RealPod, RealRun, Reality, Then, clash, ports, subject, then};
use crate::room::{fits, resizable, what_is_admitted_fits, what_is_allocated_fits};

pub type Verdict = Result<(), String>;

/// One property of an action, stated of the moment before it is carried out.
type Property = fn(&View, &Action) -> Verdict;

/// All of them.
pub const OF_ACTIONS: &[(&str, Property)] = &[
    ("never_two_live_runs", never_two_live_runs),
    ("no_main_before_its_inits_succeeded", no_main_before_its_inits_succeeded),
    ("no_start_before_an_earlier_post_start_ended", no_start_before_an_earlier_post_start_ended),
    ("restart_only_as_the_policy_says", restart_only_as_the_policy_says),
    ("no_restart_before_its_time", no_restart_before_its_time),
    ("run_numbers_count_up", run_numbers_count_up),
    ("image_seen_before_a_start", image_seen_before_a_start),
    ("no_retry_before_its_time", no_retry_before_its_time),
    ("no_signal_without_a_cause", no_signal_without_a_cause),
    ("no_kill_before_the_deadline", no_kill_before_the_deadline),
    ("no_sidecar_stopped_before_the_others_ended", no_sidecar_stopped_before_the_others_ended),
    ("pre_stop_before_the_stop_signal", pre_stop_before_the_stop_signal),
    ("hooks_once_and_in_their_time", hooks_once_and_in_their_time),
    ("all_restarted_only_by_a_rule", all_restarted_only_by_a_rule),
    ("expired_only_at_its_deadline", expired_only_at_its_deadline),
    ("critical_pods_last", critical_pods_last),
    ("nothing_started_for_a_pod_that_ends", nothing_started_for_a_pod_that_ends),
    ("one_pod_for_a_full_name", one_pod_for_a_full_name),
    ("no_two_pods_on_one_host_port", no_two_pods_on_one_host_port),
    ("what_is_admitted_fits", what_is_admitted_fits),
    ("what_is_allocated_fits", what_is_allocated_fits),
    ("containers_always_fit_into_their_pod", containers_always_fit_into_their_pod),
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

    fn live(&self, action: &Action, number: u32) -> Result<&RealRun, String> {
        let live = self.container(action).and_then(RealContainer::live);
        live.filter(|live| live.number == number).ok_or("nothing runs there".into())
    }
}

pub fn check(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}

fn never_two_live_runs(view: &View, action: &Action) -> Verdict {
    let Action::Start { .. } = action else { return Ok(()) };
    check(view.container(action).is_some_and(|c| c.live().is_none()), || {
        "it runs already, or is unknown".into()
    })
}

/// Nor before its sidecars were up: since then they may have died, and come back.
fn no_main_before_its_inits_succeeded(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let before = pod.spec.init.iter().take_while(|init| init.name != *container);
    for init in before {
        let done = if init.sidecar { pod.containers[&init.name].was_up } else { pod.succeeded(&init.name) };
        check(done, || format!("{} is not through", init.name))?;
    }
    check(!(pod.plain(container) && pod.succeeded(container)), || "it succeeded already".into())
}

fn no_start_before_an_earlier_post_start_ended(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    check(!held(pod, container), || "an earlier one is being started".into())
}

fn restart_only_as_the_policy_says(view: &View, action: &Action) -> Verdict {
    let (Action::Start { container, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let old = pod.containers.values().filter_map(|one| one.runs.last()).find(|run| run.past && !run.cleaned);
    check(old.is_none(), || "something is left from before the restart of all".into())?;
    let Some(run) = pod.present(container) else { return Ok(()) };
    check(then(&pod.spec, container, run) == Then::Again, || {
        format!("{:?} after {:?}", pod.spec.restart, run.end)
    })
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
    let next = container.runs.last().map_or(container.first, |run| run.number + 1);
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

fn no_retry_before_its_time(view: &View, action: &Action) -> Verdict {
    let Some(pod) = view.pod(action) else { return Ok(()) };
    let due = match action {
        Action::SetUp { .. } => retry_due(pod.set_up_failed, 1, 60),
        Action::TearDown { .. } => retry_due(pod.tear_down_failed, 1, 30),
        Action::Find { container, .. } => retry_due(pod.containers[container].missing, 10, 300),
        Action::BackOff { container, .. } => pod.containers[container].missing.1 + Duration::from_secs(10),
        Action::Resize { of: None, grant, .. } => resize_due(pod.unfit, grant),
        Action::Resize { of: Some((container, _)), grant, .. } => {
            pod.containers[container].live().map_or(Tick(0), |run| resize_due(run.unfit, grant))
        }
        _ => Tick(0),
    };
    check(due <= view.now, || format!("not before {due:?}"))
}

/// The end of its pod, a probe or a hook that failed, a restart of all, a start helper that hangs.
fn no_signal_without_a_cause(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { run, kill, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let (live, name) = (view.live(action, *run)?, subject(action).1);
    let ends = view.run_deadline(pod, name, live).is_some();
    if *kill {
        let hangs = view.now >= live.starting + Duration::from_secs(120) && live.started.is_none();
        return check(ends || live.past || hangs || live.killed.is_some(), || "no cause to kill it".into());
    }
    check(ends && !live.past, || "no cause to stop it".into())?;
    check(live.started.is_some() && live.stopped.is_none() && live.killed.is_none(), || {
        "stopped before it runs, or twice".into()
    })
}

fn no_kill_before_the_deadline(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { kill: true, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let Some(run) = view.container(action).and_then(RealContainer::live) else { return Ok(()) };
    let due = view.kill_due(pod, subject(action).1, run).ok_or("no deadline")?;
    check(due <= view.now, || format!("not before {due:?}"))
}

/// Unless it is out of time, or was being stopped for a reason of its own.
fn no_sidecar_stopped_before_the_others_ended(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { run, kill: false, .. }, Some(pod)) = (action, view.pod(action)) else {
        return Ok(());
    };
    let (live, name) = (view.live(action, *run)?, subject(action).1);
    let alone = pod.cause(name, live).is_some();
    let late = view.run_deadline(pod, name, live).is_some_and(|deadline| deadline <= view.now);
    check(alone || late || !pod.withheld(name), || "others need it".into())
}

fn pre_stop_before_the_stop_signal(view: &View, action: &Action) -> Verdict {
    let (Action::Signal { run, kill: false, .. }, Some(pod)) = (action, view.pod(action)) else {
        return Ok(());
    };
    let (live, name) = (view.live(action, *run)?, subject(action).1);
    let none = pod.spec.container(name).is_some_and(|spec| spec.pre_stop.is_none());
    let late = view.run_deadline(pod, name, live).is_some_and(|deadline| deadline <= view.now);
    check(none || late || live.hooked(HookKind::PreStop).is_some(), || "its hook has not ended".into())
}

fn hooks_once_and_in_their_time(view: &View, action: &Action) -> Verdict {
    let (Action::Hook { run, hook, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let (live, name) = (view.live(action, *run)?, subject(action).1);
    let spec = pod.spec.container(name).ok_or("no such container")?;
    let calm = live.stopped.is_none() && live.killed.is_none() && live.started.is_some() && !live.past;
    check(calm && !live.hooks.contains_key(hook), || "twice, or too late, or too early".into())?;
    let deadline = view.run_deadline(pod, name, live);
    match hook {
        HookKind::PostStart => check(spec.post_start.is_some() && deadline.is_none(), || "it ends".into()),
        HookKind::PreStop => {
            let time = deadline.is_some_and(|deadline| view.now < deadline);
            check(spec.pre_stop.is_some() && time, || "it does not end, or has no time".into())
        }
    }
}

fn all_restarted_only_by_a_rule(view: &View, action: &Action) -> Verdict {
    let (Action::RestartAll { container, run, .. }, Some(pod)) = (action, view.pod(action)) else {
        return Ok(());
    };
    let ended = pod.present(container).filter(|ended| ended.number == *run);
    let rule = ended.is_some_and(|run| then(&pod.spec, container, run) == Then::All);
    check(rule && pod.stopping().is_none(), || "no rule says so".into())
}

fn expired_only_at_its_deadline(view: &View, action: &Action) -> Verdict {
    let (Action::Expire { .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    let due = pod.spec.deadline.map(|limit| pod.admitted + limit);
    check(pod.stopping().is_none() && due.is_some_and(|due| due <= view.now), || "too early, or over".into())
}

fn critical_pods_last(view: &View, action: &Action) -> Verdict {
    let (Action::Dismiss { .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    check(view.turn_comes(pod) <= view.now, || "others still run".into())
}

fn nothing_started_for_a_pod_that_ends(view: &View, action: &Action) -> Verdict {
    let (Action::Start { .. } | Action::SetUp { .. } | Action::Find { .. } | Action::BackOff { .. }) = action
    else {
        return Ok(());
    };
    let goes_on = view.pod(action).is_some_and(|pod| pod.stopping().is_none());
    check(goes_on, || "dismissed, expired, over or unknown".into())
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
pub fn holds(pod: &RealPod) -> bool {
    pod.live() || pod.stopping().is_none()
}

/// Only what has another grant is resized, while it runs and is not being stopped; the pod's cgroup holds its
/// containers' whatever is written.
fn containers_always_fit_into_their_pod(view: &View, action: &Action) -> Verdict {
    let (Action::Resize { of, grant, .. }, Some(pod)) = (action, view.pod(action)) else { return Ok(()) };
    check(pod.stopping().is_none() && pod.grant.is_some(), || "it ends, or is not set up".into())?;
    let Some((name, run)) = of else {
        let should = Grant::pod(&pod.spec);
        check(pod.grant != Some(*grant), || "for nothing".into())?;
        let all = |container: &Container| {
            let live = pod.containers[&container.name].live();
            live.is_none_or(|run| run.grant == Grant::container(container))
        };
        let lowers = pod.grant.is_some_and(|has| has.most(grant) == has);
        check(!lowers || *grant == should && pod.spec.all().all(all), || "lowered before all others".into())?;
        return check(grant.most(&should) == *grant, || "less than it should have".into());
    };
    let live = view.live(action, *run)?;
    let own = pod.spec.container(name).map(Grant::container);
    check(own == Some(*grant) && live.grant != *grant, || "not what it should have, or for nothing".into())?;
    let steady = live.started.is_some() && live.stopped.is_none() && live.killed.is_none() && !live.past;
    check(steady && pod.cause(name, live).is_none(), || "it does not run, or is being stopped".into())?;
    let room = pod.grant.is_some_and(|has| has.most(&Grant::pod(&pod.spec)) == has);
    check(room, || "before its pod's".into())
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

/// As it is: an edit that keeps the uid wants another pod; a new name of its file does not, nor does a resize of one
/// that goes on.
pub fn wanted(view: &View, pod: &RealPod) -> bool {
    let here = |wanted: &Pod| Pod { origin: pod.spec.origin.clone(), ..wanted.clone() };
    let resized = |wanted: &Pod| pod.stopping().is_none() && resizable(&pod.spec, wanted);
    let same =
        |wanted: &Arc<Pod>| Arc::ptr_eq(wanted, &pod.spec) || here(wanted) == *pod.spec || resized(wanted);
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
    check(pod.dismissed.is_some() && runs.all(|run| run.cleaned), || "in use, or wanted".into())?;
    let Action::TearDown { keep_logs, uid } = action else { return Ok(()) };
    let returns = !view.desired.ending || view.desired.returns;
    let again = returns && view.desired.pods.iter().any(|wanted| wanted.uid == *uid);
    check(*keep_logs == again, || format!("it comes back: {again}"))
}

/// No wanted pod waits unless a namesake or the holder of its port is there, or there is no room.
pub fn nothing_waits_without_a_reason(view: &View) -> Verdict {
    if view.desired.ending {
        return Ok(());
    }
    for pod in &view.desired.pods {
        let others = || view.reality.pods.values();
        let waits_for_name = others().any(|other| other.spec.full_name() == pod.full_name());
        let waits_for_port = others().any(|other| holds(other) && clash(&other.ports(), &ports(pod)));
        let admitted = view.reality.pods.contains_key(&pod.uid);
        check(admitted || waits_for_name || waits_for_port || !fits(view, pod), || {
            format!("{} waits for nothing", pod.uid)
        })?;
    }
    Ok(())
}

/// What must be so when nothing fails any more and nothing happens any more.
pub fn rests_at_what_is_wanted(view: &View) -> Verdict {
    nothing_waits_without_a_reason(view)?;
    for (uid, pod) in &view.reality.pods {
        check(pod.dismissed.is_none() && wanted(view, pod), || format!("{uid} is still there"))?;
        if pod.stopping().is_some() {
            check(!pod.live(), || format!("{uid} is over, and something of it runs"))?;
            continue;
        }
        check(pod.set_up, || format!("{uid} is not set up"))?;
        check(pod.grant == Some(Grant::pod(&pod.spec)), || format!("{uid} has not what it should have"))?;
        for container in pod.spec.all() {
            let live = pod.containers[&container.name].live();
            let damaged = pod.containers[&container.name].damaged.filter(|_| live.is_some());
            check(damaged.is_none(), || format!("{uid}/{}'s image is still damaged", container.name))?;
            let worn = live.is_some_and(|run| run.worn.is_some()) && pod.lasts(&container.name);
            check(!worn, || format!("{uid}/{} still runs from a damaged file", container.name))?;
            let has = live.is_none_or(|run| run.grant == Grant::container(container));
            check(has, || format!("{uid}/{} has not what it should have", container.name))?;
        }
        for container in pod.spec.init.iter().filter(|init| init.sidecar).chain(&pod.spec.containers) {
            let run = pod.present(&container.name);
            let done = !container.sidecar
                && run.is_some_and(|run| {
                    run.end.is_some() && then(&pod.spec, &container.name, run) == Then::Stays
                });
            let runs = run.is_some_and(|run| run.up(container) && !under_way_with_hook(run, container));
            check(runs || done, || format!("{uid}/{} does not run", container.name))?;
        }
    }
    Ok(())
}

fn under_way_with_hook(run: &RealRun, container: &Container) -> bool {
    container.post_start.is_some() && under_way(run)
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
