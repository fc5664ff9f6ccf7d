//! What `podinit get events` tells: derived when a fact is learned, in the kubelet's words.

use std::borrow::Cow;
use std::time::Duration;

use super::batch;
use super::cause::{Cause, Why, cause};
use super::facts::{EVENTS, Event, Fact, HookKind, PodFacts, ProbeKind, Pulled, Sandbox, StartError, World};
use super::missing;
use super::restart;
use super::spec::{Container, Problem, RestartPolicy};
use crate::clock::{Tick, spelt};

/// Reason and message of a pod that outlived its activeDeadlineSeconds.
pub(super) const EXPIRED: (&str, &str) =
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

const NO_SECRET: &str = "FailedToRetrieveImagePullSecret";

/// What is new, before it is filed.
struct News {
    warning: bool,
    reason: Cow<'static, str>,
    message: String,
}

/// Adds an event for each refusal that the world does not know yet.
pub(super) fn refused(world: &mut World, problems: &[Problem], now: Tick) {
    let fresh: Vec<_> =
        problems.iter().filter(|p| p.refused && !world.problems.contains(p)).cloned().collect();
    for problem in fresh {
        let about = About { kind: "Node", pod: String::new(), uid: String::new(), container: String::new() };
        add(world, about, warning("FailedValidation", problem.to_string()), now);
    }
}

/// Tells of a pod, or a resize, that waits: one event for each reason, whose message follows what others use. `fresh`:
/// it was not told before.
pub(super) fn waits(world: &mut World, fact: &Fact, fresh: bool, now: Tick) {
    let (pod, reason, message) = match fact {
        Fact::Rejected { pod, reason, message } => (pod, reason.clone(), message.clone()),
        Fact::ResizePending { pod, reason, message } => {
            (pod, format!("Resize{reason}"), format!("Pod resize {reason}: {message}"))
        }
        _ => return,
    };
    let about = About { kind: "Pod", pod: pod.full_name(), uid: pod.uid.clone(), container: String::new() };
    follow(world, about, warning_as(reason, message), fresh, now);
}

/// Tells of the node that images could not be removed: one event for each reason, whose message follows the last numbers.
pub(super) fn collect_failed(world: &mut World, reason: &str, message: &str, now: Tick) {
    let about = About { kind: "Node", pod: String::new(), uid: String::new(), container: String::new() };
    follow(world, about, warning_as(reason.to_owned(), message.to_owned()), true, now);
}

/// Files an event that is the only one of its reason; a newer message takes the place of the former.
fn follow(world: &mut World, about: About, news: News, fresh: bool, now: Tick) {
    if world.events.back().is_some_and(|newest| newest.last > now) {
        return;
    }
    let known =
        |event: &Event| event.kind == about.kind && event.uid == about.uid && event.reason == news.reason;
    match world.events.iter().rposition(known).and_then(|index| Some((index, world.events.get_mut(index)?))) {
        // A replay leaves it where it is.
        Some((_, event)) if event.last == now => event.message = news.message,
        Some((index, event)) => {
            event.count = event.count.saturating_add(u32::from(fresh));
            (event.last, event.message) = (now, news.message);
            let newest = world.events.remove(index);
            world.events.extend(newest);
        }
        None if fresh => add(world, about, news, now),
        None => {}
    }
}

/// Adds the events of a fact that the world has just learned.
pub(super) fn derive(world: &mut World, fact: &Fact, now: Tick) {
    if let Fact::Job(fact) = fact {
        if let Some(told) = batch::tell::event(world, fact) {
            let about = About { kind: told.kind, pod: told.about, uid: told.uid, container: String::new() };
            let news = News { warning: told.warning, reason: told.reason.into(), message: told.message };
            add(world, about, news, now);
        }
        return;
    }
    let Some((uid, container)) = subject(fact) else { return };
    let Some(pod) = world.pods.get(uid) else { return };
    let about = About {
        kind: "Pod",
        pod: pod.spec.full_name(),
        uid: uid.to_owned(),
        container: container.to_owned(),
    };
    for news in tell(pod, container, fact) {
        let mut about = about.clone();
        if news.reason == NO_SECRET {
            // The pod's matter, whichever container is first to want it.
            about.container.clear();
        }
        add(world, about, news, now);
    }
}

/// Whom a fact concerns: pod and container.
fn subject(fact: &Fact) -> Option<(&str, &str)> {
    match fact {
        Fact::Listed { .. }
        | Fact::Kept { .. }
        | Fact::Dropped { .. }
        | Fact::Admitted { .. }
        | Fact::Rejected { .. }
        | Fact::ResizePending { .. }
        | Fact::Withdrawn { .. }
        | Fact::Collected { .. }
        | Fact::CollectFailed { .. }
        | Fact::Job(_)
        | Fact::Helper { .. }
        | Fact::Verified { .. }
        | Fact::Piped { .. }
        | Fact::Drained { .. } => None,
        Fact::Allocated { pod } => Some((&pod.uid, "")),
        Fact::Resized { uid, of, .. } | Fact::ResizeFailed { uid, of, .. } => {
            Some((uid, of.as_ref().map_or("", |(container, _)| container)))
        }
        Fact::Dismissed { uid, .. }
        | Fact::Allotted { uid, .. }
        | Fact::SetUp { uid, .. }
        | Fact::SetUpFailed { uid, .. }
        | Fact::TornDown { uid }
        | Fact::Expired { uid }
        | Fact::Projected { uid, .. }
        | Fact::ProjectFailed { uid, .. }
        | Fact::TearDownFailed { uid, .. } => Some((uid, "")),
        Fact::ImageFound { uid, container, .. }
        | Fact::ImageMissing { uid, container, .. }
        | Fact::ImageBackOff { uid, container }
        | Fact::ImagePulling { uid, container, .. }
        | Fact::ImageDamaged { uid, container, .. }
        | Fact::Logged { uid, container, .. }
        | Fact::Starting { uid, container, .. }
        | Fact::Started { uid, container, .. }
        | Fact::StartFailed { uid, container, .. }
        | Fact::Probed { uid, container, .. }
        | Fact::ProbeFailed { uid, container, .. }
        | Fact::Hooking { uid, container, .. }
        | Fact::Hooked { uid, container, .. }
        | Fact::Signalled { uid, container, .. }
        | Fact::RestartAll { uid, container, .. }
        | Fact::Exited { uid, container, .. }
        | Fact::Cleaned { uid, container, .. } => Some((uid, container)),
    }
}

fn tell(pod: &PodFacts, container: &str, fact: &Fact) -> Vec<News> {
    match fact {
        Fact::SetUpFailed { why, .. } => vec![set_up_failed(why)],
        Fact::ImageFound { pulled, .. } => {
            let image = pod.spec.container(container).map_or("", |spec| &spec.image);
            vec![normal("Pulled", found(image, pulled.as_ref()))]
        }
        Fact::ImagePulling { lacking, .. } => {
            let image = pod.spec.container(container).map_or("", |spec| &spec.image);
            let pulling = normal("Pulling", format!("Pulling image \"{image}\""));
            no_secrets(lacking).into_iter().chain([pulling]).collect()
        }
        Fact::ImageMissing { why, .. } => {
            let image = pod.spec.container(container).map_or("", |spec| &spec.image);
            no_image(image, why)
        }
        Fact::ImageBackOff { .. } => {
            let image = pod.spec.container(container).map_or("", |spec| &spec.image);
            let back_off = normal("BackOff", format!("Back-off pulling image \"{image}\""));
            vec![back_off, warning("Failed", "Error: ImagePullBackOff".to_owned())]
        }
        Fact::ImageDamaged { what, .. } => {
            let image = pod.spec.container(container).map_or("", |spec| &spec.image);
            vec![warning("ImageDamaged", format!("Image \"{image}\" is damaged: {what}"))]
        }
        Fact::Started { .. } => {
            vec![created(container), normal("Started", format!("Started container {container}"))]
        }
        Fact::StartFailed { why, .. } => {
            let mut news = start_failed(container, why);
            news.extend(back_off(pod, container));
            news
        }
        Fact::Signalled { .. } => vec![killing(pod, container)],
        Fact::RestartAll { .. } => {
            vec![normal("RestartingAllContainers", format!("Container {container} asks for it"))]
        }
        Fact::Expired { .. } => vec![normal(EXPIRED.0, EXPIRED.1.to_owned())],
        Fact::Exited { .. } => back_off(pod, container).into_iter().collect(),
        Fact::TearDownFailed { why, .. } => {
            vec![warning("FailedKillPod", format!("error killing pod: {why}"))]
        }
        // A set-up that failed for it has told it.
        Fact::ProjectFailed { why, .. } => match pod.sandbox {
            Sandbox::Ready { .. } => vec![warning("FailedMount", why.clone())],
            Sandbox::Absent | Sandbox::Failed { .. } => Vec::new(),
        },
        Fact::ProbeFailed { probe, error, why, .. } => vec![unhealthy(*probe, *error, why)],
        Fact::Hooked { hook, failed: Some(why), .. } => vec![hook_failed(*hook, why)],
        Fact::Allocated { .. } => vec![normal("ResizeStarted", "Pod resize started".to_owned())],
        Fact::Resized { .. } if pod.resizing() => Vec::new(),
        Fact::Resized { .. } => vec![normal("ResizeCompleted", "Pod resize completed".to_owned())],
        Fact::ResizeFailed { why, .. } => vec![warning("ResizeError", format!("Pod resize error: {why}"))],
        Fact::Listed { .. }
        | Fact::Kept { .. }
        | Fact::Dropped { .. }
        | Fact::Admitted { .. }
        | Fact::Rejected { .. }
        | Fact::ResizePending { .. }
        | Fact::Logged { .. }
        | Fact::Withdrawn { .. }
        | Fact::Collected { .. }
        | Fact::CollectFailed { .. }
        | Fact::Job(_)
        | Fact::Projected { .. }
        | Fact::Probed { .. }
        | Fact::Hooking { .. }
        | Fact::Hooked { .. }
        | Fact::Dismissed { .. }
        | Fact::Allotted { .. }
        | Fact::SetUp { .. }
        | Fact::Starting { .. }
        | Fact::Cleaned { .. }
        | Fact::TornDown { .. }
        | Fact::Piped { .. }
        | Fact::Drained { .. }
        | Fact::Verified { .. }
        | Fact::Helper { .. } => Vec::new(),
    }
}

/// Volumes are made with the sandbox; the kubelet tells the two apart.
fn set_up_failed(why: &str) -> News {
    if why.starts_with("MountVolume.SetUp failed") {
        warning("FailedMount", why.to_owned())
    } else {
        warning("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {why}"))
    }
}

/// The kubelet's words.
fn found(image: &str, pulled: Option<&Pulled>) -> String {
    let Some(Pulled { millis, waited, size }) = pulled else {
        return format!("Container image \"{image}\" already present on machine");
    };
    let span = |millis: &u64| spelt(Duration::from_millis(*millis));
    let (took, waited) = (span(millis), span(waited));
    format!(
        "Successfully pulled image \"{image}\" in {took} ({waited} including waiting). Image size: {size} bytes."
    )
}

fn no_secrets(names: &[String]) -> Option<News> {
    let message = format!(
        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
        names.join(", ")
    );
    (!names.is_empty()).then(|| warning(NO_SECRET, message))
}

/// What the kubelet tells of the image, then of the container that it was for.
fn no_image(image: &str, why: &str) -> Vec<News> {
    let (reason, message) = missing::told(image, why);
    let news = match reason {
        missing::PULL => warning("Failed", format!("Failed to pull image \"{image}\": {message}")),
        "ErrImageNeverPull" => warning("ErrImageNeverPull", message),
        _ => warning("InspectFailed", message),
    };
    vec![news, warning("Failed", format!("Error: {reason}"))]
}

fn start_failed(container: &str, why: &StartError) -> Vec<News> {
    let failed = warning("Failed", format!("Error: {}", why.message));
    if why.counts() { vec![created(container), failed] } else { vec![failed] }
}

/// Told when the end that leads into the wait is learned. The cap does not matter here: only whether there is a wait.
fn back_off(pod: &PodFacts, container: &str) -> Option<News> {
    let spec = pod.spec.container(container)?;
    let run = pod.present(container)?;
    let ours = run.failed.as_ref().is_some_and(|(_, why)| why.ours);
    let again = restart::again(pod, spec, None)?;
    if ours || pod.stopping().is_some() || Some(again) == run.ended() {
        return None;
    }
    let (name, namespace, uid) = (&pod.spec.name, &pod.spec.namespace, &pod.spec.uid);
    let message =
        format!("Back-off restarting failed container {container} in pod {name}_{namespace}({uid})");
    Some(warning("BackOff", message))
}

/// Why it is stopped, in the kubelet's words.
fn killing(pod: &PodFacts, container: &str) -> News {
    let cause =
        pod.spec.container(container).and_then(|spec| Some((spec, cause(pod, spec, pod.run(container)?)?)));
    let failed = |spec: &Container, probe: &str| match restart::policy(&pod.spec, spec) {
        RestartPolicy::Never => format!("Container {container} failed {probe} probe"),
        RestartPolicy::Always | RestartPolicy::OnFailure => {
            format!("Container {container} failed {probe} probe, will be restarted")
        }
    };
    let message = match cause {
        Some((spec, Cause { why: Why::Startup, .. })) => failed(spec, "startup"),
        Some((spec, Cause { why: Why::Liveness, .. })) => failed(spec, "liveness"),
        Some((_, Cause { why: Why::PostStart, .. })) => "FailedPostStartHook".to_owned(),
        Some((_, Cause { why: Why::Resize, .. })) => format!("Container {container} resize requires restart"),
        Some((_, Cause { why: Why::Damage, .. })) => {
            format!("Container {container} runs from a damaged image that is whole again, will be restarted")
        }
        Some((_, Cause { why: Why::All, .. })) | None => format!("Stopping container {container}"),
    };
    normal("Killing", message)
}

fn created(container: &str) -> News {
    normal("Created", format!("Created container: {container}"))
}

fn unhealthy(probe: ProbeKind, error: bool, why: &str) -> News {
    let kind = match probe {
        ProbeKind::Startup => "Startup",
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
    };
    let message = match error {
        true => format!("{kind} probe errored and resulted in unknown state: {why}"),
        false => format!("{kind} probe failed: {why}"),
    };
    warning("Unhealthy", message)
}

/// An exec hook's output stays out of the event, on purpose: it may hold secrets.
fn hook_failed(hook: HookKind, _why: &str) -> News {
    match hook {
        HookKind::PostStart => warning("FailedPostStartHook", "PostStartHook failed".into()),
        HookKind::PreStop => warning("FailedPreStopHook", "PreStopHook failed".into()),
    }
}

fn normal(reason: &'static str, message: String) -> News {
    News { warning: false, reason: reason.into(), message }
}

fn warning(reason: &'static str, message: String) -> News {
    News { warning: true, reason: reason.into(), message }
}

/// A warning whose reason comes with its fact.
fn warning_as(reason: String, message: String) -> News {
    News { warning: true, reason: reason.into(), message }
}

/// Whom an event concerns.
#[derive(Clone)]
struct About {
    kind: &'static str,
    pod: String,
    uid: String,
    container: String,
}

/// Files the event; one that was told before is counted and becomes the newest.
fn add(world: &mut World, about: About, news: News, now: Tick) {
    if world.events.back().is_some_and(|newest| newest.last > now) {
        // A fact that is replayed from the ledger: told already.
        return;
    }
    let About { kind, pod, uid, container } = about;
    let News { warning, reason, message } = news;
    // What comes back is mostly among the newest.
    let known = world.events.iter().rposition(|event| {
        event.uid == uid && event.container == container && event.reason == reason && event.message == message
    });
    if known.and_then(|index| world.events.get(index)).is_some_and(|event| event.last == now) {
        return;
    }
    let event = match known.and_then(|index| world.events.remove(index)) {
        Some(event) => Event { last: now, count: event.count.saturating_add(1), ..event },
        None => {
            let (reason, kind) = (reason.into_owned(), kind.to_owned());
            Event { first: now, last: now, count: 1, warning, reason, message, kind, pod, uid, container }
        }
    };
    world.events.push_back(event);
    while world.events.len() > EVENTS {
        world.events.pop_front();
    }
}
