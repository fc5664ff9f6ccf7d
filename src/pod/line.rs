//! Facts as console lines: `pod/container: verb what: why`, lower case, no full stop, one for each fact that changes
//! something.

use std::fmt::Write;

use super::facts::{Dismissal, Exit, Fact, Image, PodFacts, Run, Sandbox, World};
use super::spec::Problem;

impl Fact {
    /// What the console says of this fact, given the world **before** it is learned; None where it changes nothing that
    /// a reader would care for. Several problems make several lines.
    pub fn line(&self, world: &World) -> Option<String> {
        let pod = |uid: &str| world.pods.get(uid);
        match self {
            Fact::Listed { problems } => listed(problems, &world.problems),
            Fact::Admitted { pod } if world.pods.contains_key(&pod.uid) => None,
            Fact::Admitted { pod } => Some(format!("{}: admitted from {}", pod.full_name(), pod.origin)),
            Fact::Dismissed { uid, why } => {
                let pod = pod(uid).filter(|pod| pod.dismissed.is_none())?;
                Some(format!("{}: stopping: {}", pod.spec.full_name(), dismissal(*why)))
            }
            Fact::SetUp { uid, ip } => {
                let pod = pod(uid).filter(|pod| !matches!(pod.sandbox, Sandbox::Ready { .. }))?;
                let ip = ip.as_ref().map_or(String::new(), |ip| format!(", ip {ip}"));
                Some(format!("{}: set up{ip}", pod.spec.full_name()))
            }
            Fact::SetUpFailed { uid, why } => {
                Some(format!("{}: cannot set up: {}", pod(uid)?.spec.full_name(), one_line(why)))
            }
            Fact::ImageFound { uid, container, id } => {
                let pod = pod(uid)?;
                let image = &pod.spec.container(container)?.image;
                let known = pod.containers.get(container).map(|facts| &facts.image);
                if known.is_some_and(|known| matches!(known, Image::Found { id: known } if known == id)) {
                    return None;
                }
                Some(format!("{}: found image {image}", full(pod, container)))
            }
            Fact::ImageMissing { uid, container, why } => {
                let pod = pod(uid)?;
                let image = &pod.spec.container(container)?.image;
                let known = pod.containers.get(container).map(|facts| &facts.image);
                if known
                    .is_some_and(|known| matches!(known, Image::Missing { why: known, .. } if known == why))
                {
                    return None;
                }
                Some(format!("{}: cannot find image {image}: {}", full(pod, container), one_line(why)))
            }
            Fact::Started { uid, container, run, pid } => {
                let pod = pod(uid)?;
                live(pod, container, *run).filter(|run| run.started.is_none())?;
                let again = if *run > 0 { format!(", run {run}") } else { String::new() };
                Some(format!("{}: started, pid {pid}{again}", full(pod, container)))
            }
            Fact::StartFailed { uid, container, run, why } => {
                let pod = pod(uid)?;
                if pod
                    .run(container)
                    .is_some_and(|known| known.number > *run || known.number == *run && !known.live())
                {
                    return None;
                }
                pod.spec.container(container)?;
                Some(format!(
                    "{}: cannot start: {}: {}",
                    full(pod, container),
                    why.reason,
                    one_line(&why.message)
                ))
            }
            Fact::Signalled { uid, container, run, kill } => {
                let pod = pod(uid)?;
                let run = live(pod, container, *run)?;
                match (kill, run.stopped, run.killed) {
                    (false, None, _) => Some(format!("{}: sent stop signal", full(pod, container))),
                    (true, _, None) => Some(format!("{}: killed: {}", full(pod, container), killed(run))),
                    (true, _, Some(_)) => {
                        Some(format!("{}: killed again: it has not ended", full(pod, container)))
                    }
                    (false, Some(_), _) => None,
                }
            }
            Fact::Exited { uid, container, run, exit } => {
                let pod = pod(uid)?;
                live(pod, container, *run)?;
                Some(format!("{}: {}", full(pod, container), exited(exit)))
            }
            Fact::TornDown { uid } => Some(format!("{}: gone", pod(uid)?.spec.full_name())),
            Fact::TearDownFailed { uid, why } => {
                Some(format!("{}: cannot tear down: {}", pod(uid)?.spec.full_name(), one_line(why)))
            }
            Fact::Helper { name, pid: Some(pid) } if world.helpers.get(name) != Some(pid) => {
                Some(format!("{name}: started, pid {pid}"))
            }
            Fact::Helper { name, pid: None } if world.helpers.contains_key(name) => {
                Some(format!("{name}: ended"))
            }
            Fact::Helper { .. } | Fact::Starting { .. } | Fact::Cleaned { .. } => None,
        }
    }
}

/// What is new among the problems, and which files have none any more.
fn listed(problems: &[Problem], known: &[Problem]) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    for problem in problems.iter().filter(|problem| !known.contains(problem)) {
        lines.push(one_line(&problem.to_string()));
    }
    for problem in known {
        let line = format!("{}: no problems any more", problem.file);
        if problems.iter().all(|other| other.file != problem.file) && !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { None } else { Some(lines.join("\n")) }
}

fn dismissal(why: Dismissal) -> &'static str {
    match why {
        Dismissal::Removed => "its manifest is gone",
        Dismissal::Replaced => "its manifest was changed",
        Dismissal::Ending => "the machine is ending",
    }
}

fn killed(run: &Run) -> &'static str {
    match (run.started, run.stopped) {
        (None, _) => "its start took too long",
        (Some(_), Some(_)) => "its grace period is over",
        (Some(_), None) => "it shall not run",
    }
}

fn exited(exit: &Exit) -> String {
    let mut line = match exit.signal {
        Some(signal) => format!("ended by signal {signal}"),
        None => format!("exited with code {}", exit.code),
    };
    if exit.oom {
        line.push_str(": out of memory");
    }
    if !exit.message.is_empty() {
        let _ = write!(line, ": {}", one_line(&exit.message));
    }
    line
}

fn full(pod: &PodFacts, container: &str) -> String {
    format!("{}/{container}", pod.spec.full_name())
}

fn live<'a>(pod: &'a PodFacts, container: &str, number: u32) -> Option<&'a Run> {
    pod.run(container).filter(|run| run.number == number && run.live())
}

/// The first 200 characters without control characters, so that no container can paint the console.
fn one_line(text: &str) -> String {
    text.trim().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
