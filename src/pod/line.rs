//! Facts as console lines: `pod/container: verb what: why`, lower case, no full stop, one for each fact that changes
//! something.

use std::fmt::Write;

use super::cause::{Why, cause};
use super::facts::{Dismissal, Exit, Fact, HookKind, Image, PodFacts, ProbeKind, Run, Sandbox, Size, World};
use super::resources::Grant;
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
            Fact::Allotted { uid, ids } => {
                let pod = pod(uid).filter(|pod| pod.ids.is_none())?;
                Some(format!("{}: its user 0 is the machine's {}", pod.spec.full_name(), ids.first))
            }
            Fact::SetUp { uid, ip } => {
                let pod = pod(uid).filter(|pod| !matches!(pod.sandbox, Sandbox::Ready { .. }))?;
                let ip = ip.as_ref().map_or(String::new(), |ip| format!(", ip {ip}"));
                Some(format!("{}: set up{ip}", pod.spec.full_name()))
            }
            Fact::SetUpFailed { uid, why } => {
                Some(format!("{}: cannot set up: {}", pod(uid)?.spec.full_name(), one_line(why)))
            }
            Fact::ImageDamaged { uid, container, what, .. } => {
                let pod = pod(uid)?;
                let image = &pod.spec.container(container)?.image;
                Some(format!("{}: image {image} is damaged: {}", full(pod, container), one_line(what)))
            }
            Fact::Verified { all: true, damaged, .. } if damaged.is_empty() => {
                Some("images: all in use were read and are whole".to_owned())
            }
            Fact::Verified { damaged, .. } if damaged.is_empty() => None,
            Fact::Verified { damaged, .. } => {
                Some(format!("images: read, and damaged: {}", damaged.join(", ")))
            }
            Fact::ImagePulling { uid, container, lacking: _ } => {
                let pod = pod(uid)?;
                let image = &pod.spec.container(container)?.image;
                Some(format!("{}: pulling image {image}", full(pod, container)))
            }
            Fact::ImageFound { uid, container, id, pulled: _ } => {
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
                    (false, None, _) => {
                        let why = causes(pod, container, run).map_or(String::new(), |why| format!(": {why}"));
                        Some(format!("{}: sent stop signal{why}", full(pod, container)))
                    }
                    (true, _, None) => {
                        Some(format!("{}: killed: {}", full(pod, container), killed(pod, container, run)))
                    }
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
            Fact::Probed { uid, container, run, probe, ok, why } => {
                let pod = pod(uid)?;
                let run = live(pod, container, *run)?;
                let before = run.verdicts.get(probe).map(|(_, before, _)| *before);
                if before == Some(*ok) {
                    return None;
                }
                let verdict = match (probe, ok) {
                    (ProbeKind::Startup, true) => "startup probe succeeded".to_owned(),
                    (ProbeKind::Readiness, true) => "ready".to_owned(),
                    (ProbeKind::Liveness, true) => return None,
                    (ProbeKind::Startup, false) => format!("startup probe failed: {}", one_line(why)),
                    (ProbeKind::Readiness, false) => format!("not ready: {}", one_line(why)),
                    (ProbeKind::Liveness, false) => format!("liveness probe failed: {}", one_line(why)),
                };
                Some(format!("{}: {verdict}", full(pod, container)))
            }
            Fact::Hooked { uid, container, run, hook, failed: Some(why) } => {
                let pod = pod(uid)?;
                pod.run(container).filter(|known| known.number == *run)?;
                let hook = match hook {
                    HookKind::PostStart => "postStart",
                    HookKind::PreStop => "preStop",
                };
                Some(format!("{}: {hook} hook failed: {}", full(pod, container), one_line(why)))
            }
            Fact::Rejected { pod, reason, message } => {
                if world.rejected.get(&pod.uid).is_some_and(|known| known.told(reason, pod)) {
                    return None;
                }
                Some(format!("{}: rejected: {reason}: {}", pod.full_name(), one_line(message)))
            }
            Fact::Allocated { pod } => {
                let known = world.pods.get(&pod.uid).filter(|known| known.spec != *pod)?;
                Some(format!("{}: resizing: its manifest gives it other resources", known.spec.full_name()))
            }
            Fact::ResizePending { pod, reason, message } => {
                let known = world.pods.get(&pod.uid)?;
                if known.pending.as_ref().is_some_and(|known| known.told(reason, pod)) {
                    return None;
                }
                Some(format!("{}: resize waits: {reason}: {}", pod.full_name(), one_line(message)))
            }
            Fact::Resized { uid, of, grant } => {
                let (name, size) = sized(pod(uid)?, of.as_ref())?;
                (size.grant != Some(*grant)).then(|| format!("{name}: resized: {}", granted(grant)))
            }
            Fact::ResizeFailed { uid, of, grant, why } => {
                let (name, size) = sized(pod(uid)?, of.as_ref())?;
                let known = size.failed.as_ref().is_some_and(|failed| failed.grant == *grant);
                (!known).then(|| format!("{name}: cannot resize yet: {}", one_line(why)))
            }
            Fact::Expired { uid } => {
                let pod = pod(uid).filter(|pod| pod.expired.is_none())?;
                let name = pod.spec.full_name();
                Some(format!("{name}: stopping: it was active for longer than its activeDeadlineSeconds"))
            }
            Fact::RestartAll { uid, container, run } => {
                let pod = pod(uid)?;
                pod.present(container).filter(|known| known.number == *run && !known.live())?;
                let name = pod.spec.full_name();
                Some(format!("{name}: restarting all containers: a rule of {container} says so"))
            }
            Fact::Kept { .. }
            | Fact::Dropped { .. }
            | Fact::Withdrawn { .. }
            | Fact::Logged { .. }
            | Fact::Hooked { .. }
            | Fact::Hooking { .. }
            | Fact::ProbeFailed { .. }
            | Fact::ImageBackOff { .. }
            | Fact::Projected { .. } => None,
            Fact::ProjectFailed { uid, why, .. } => {
                let pod = pod(uid).filter(|pod| matches!(pod.sandbox, Sandbox::Ready { .. }))?;
                Some(format!("{}: cannot refresh volumes: {}", pod.spec.full_name(), one_line(why)))
            }
            Fact::TornDown { uid } => Some(format!("{}: gone", pod(uid)?.spec.full_name())),
            Fact::TearDownFailed { uid, why } => {
                Some(format!("{}: cannot tear down: {}", pod(uid)?.spec.full_name(), one_line(why)))
            }
            Fact::Piped { .. } | Fact::Drained { .. } => None,
            Fact::Job(fact) => fact.line(world),
            Fact::Helper { name, pid: Some(pid) } if world.helpers.get(name) != Some(pid) => {
                Some(format!("{name}: started, pid {pid}"))
            }
            Fact::Helper { name, pid: None } if world.helpers.contains_key(name) => {
                Some(format!("{name}: ended"))
            }
            Fact::Collected { images, files, bytes } => Some(collected(images, *files, *bytes)),
            Fact::CollectFailed { reason, message } => {
                Some(format!("images: {reason}: {}", one_line(message)))
            }
            Fact::Helper { .. } | Fact::Starting { .. } | Fact::Cleaned { .. } => None,
        }
    }
}

fn collected(images: &[String], files: u64, bytes: u64) -> String {
    let mut what = Vec::new();
    if !images.is_empty() {
        what.push(images.join(", "));
    }
    if files > 0 {
        what.push(format!("{files} files that no name led to"));
    }
    format!("images: removed {}: {bytes} bytes freed", what.join(" and "))
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

fn killed(pod: &PodFacts, container: &str, run: &Run) -> &'static str {
    match (run.started, run.stopped, causes(pod, container, run)) {
        (_, None, Some(why)) => why,
        (None, _, _) => "its start took too long",
        (Some(_), Some(_), _) => "its grace period is over",
        (Some(_), None, None) => "it shall not run",
    }
}

fn causes(pod: &PodFacts, container: &str, run: &Run) -> Option<&'static str> {
    Some(match cause(pod, pod.spec.container(container)?, run)?.why {
        Why::All => "all containers are restarted",
        Why::Startup => "its startup probe failed",
        Why::Liveness => "its liveness probe failed",
        Why::PostStart => "its postStart hook failed",
        Why::Resize => "it is given other resources",
        Why::Damage => "it runs from a damaged file of its image, which is whole again",
    })
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

/// Whom a resize concerns, by name, and what its cgroup has.
fn sized<'a>(pod: &'a PodFacts, of: Option<&(String, u32)>) -> Option<(String, &'a Size)> {
    match of {
        None => Some((pod.spec.full_name(), &pod.size)),
        Some((container, run)) => Some((full(pod, container), &live(pod, container, *run)?.size)),
    }
}

fn granted(grant: &Grant) -> String {
    let Grant { cpu_request, cpu_limit, memory_limit } = grant;
    let cpu = cpu_limit.map_or("no limit".to_owned(), |limit| format!("limit {limit}m"));
    let memory = memory_limit.map_or("no limit".to_owned(), |limit| format!("limit {limit}"));
    format!("cpu {cpu_request}m, {cpu}; memory {memory}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::pod::facts::StartError;
    use crate::pod::sample;
    use crate::pod::spec::RestartPolicy;
    use crate::pod::users::Ids;

    #[test]
    fn each_fact_has_its_line_once() {
        let pod = sample::pod(RestartPolicy::Always, &[], &["nginx"]);
        let (uid, container) = (|| "u1".to_owned(), || "nginx".to_owned());
        let exit = Exit { code: 137, signal: Some(9), oom: true, message: "bye\nbye".into() };
        let why =
            StartError { reason: "StartError".into(), message: "no such file: /bin/x".into(), ours: false };
        let start =
            |run| Fact::Starting { uid: uid(), container: container(), run, helper: 5, stdout: 6, stderr: 7 };
        let table = [
            (Fact::Admitted { pod: pod.clone() }, "default/web-board1: admitted from web.yaml"),
            (
                Fact::Allotted { uid: uid(), ids: Ids { first: 65_536, count: 65_536 } },
                "default/web-board1: its user 0 is the machine's 65536",
            ),
            (
                Fact::SetUpFailed { uid: uid(), why: "no space".into() },
                "default/web-board1: cannot set up: no space",
            ),
            (
                Fact::SetUp { uid: uid(), ip: Some("10.0.0.2".into()) },
                "default/web-board1: set up, ip 10.0.0.2",
            ),
            (
                Fact::ImageMissing { uid: uid(), container: container(), why: "not in the store".into() },
                "default/web-board1/nginx: cannot find image nginx:1: not in the store",
            ),
            (
                Fact::ImageFound { uid: uid(), container: container(), id: "sha256:1".into(), pulled: None },
                "default/web-board1/nginx: found image nginx:1",
            ),
            (start(0), ""),
            (
                Fact::StartFailed { uid: uid(), container: container(), run: 0, why },
                "default/web-board1/nginx: cannot start: StartError: no such file: /bin/x",
            ),
            (Fact::Cleaned { uid: uid(), container: container(), run: 0 }, ""),
            (start(1), ""),
            (
                Fact::Started { uid: uid(), container: container(), run: 1, pid: 212 },
                "default/web-board1/nginx: started, pid 212, run 1",
            ),
            (
                Fact::Dismissed { uid: uid(), why: Dismissal::Replaced },
                "default/web-board1: stopping: its manifest was changed",
            ),
            (
                Fact::Signalled { uid: uid(), container: container(), run: 1, kill: false },
                "default/web-board1/nginx: sent stop signal",
            ),
            (
                Fact::Signalled { uid: uid(), container: container(), run: 1, kill: true },
                "default/web-board1/nginx: killed: its grace period is over",
            ),
            (
                Fact::Exited { uid: uid(), container: container(), run: 1, exit },
                "default/web-board1/nginx: ended by signal 9: out of memory: bye bye",
            ),
            (
                Fact::TearDownFailed { uid: uid(), why: "busy".into() },
                "default/web-board1: cannot tear down: busy",
            ),
            (Fact::TornDown { uid: uid() }, "default/web-board1: gone"),
            (Fact::Helper { name: "logger".into(), pid: Some(7) }, "logger: started, pid 7"),
            (Fact::Helper { name: "logger".into(), pid: None }, "logger: ended"),
            (
                Fact::Collected { images: vec!["a:1".into(), "b:1".into()], files: 0, bytes: 4096 },
                "images: removed a:1, b:1: 4096 bytes freed",
            ),
            (
                Fact::Collected { images: vec!["a:1".into()], files: 2, bytes: 4096 },
                "images: removed a:1 and 2 files that no name led to: 4096 bytes freed",
            ),
            (
                Fact::CollectFailed { reason: "ImageGCFailed".into(), message: "no\nstore".into() },
                "images: ImageGCFailed: no store",
            ),
        ];
        let mut world = World::default();
        for (second, (fact, line)) in table.into_iter().enumerate() {
            assert_eq!(fact.line(&world).unwrap_or_default(), line);
            world.learn(fact.clone(), Tick::seconds(second as u64));
        }
        let reasons: Vec<_> = world.events.iter().map(|event| event.reason.as_str()).collect();
        let told = [
            "FailedCreatePodSandBox",
            "Failed",
            "Failed",
            "Pulled",
            "Failed",
            "Created",
            "Started",
            "Killing",
            "FailedKillPod",
            "ImageGCFailed",
        ];
        assert_eq!(reasons, told);
    }

    #[test]
    fn what_ends_a_run_is_told_with_its_reason() {
        let pod = sample::pod(RestartPolicy::Never, &[], &["a", "b"]);
        let pod = sample::with(&pod, "a", |container| {
            container.liveness = sample::probe(None);
            container.rules =
                vec![crate::pod::spec::RestartRule { not_in: false, codes: vec![42], all: true }];
        });
        let (uid, name) = (|| "u1".to_owned(), |name: &str| name.to_owned());
        let start = |container: &str| {
            let (helper, stdout, stderr) = (5, 6, 7);
            Fact::Starting { uid: uid(), container: name(container), run: 0, helper, stdout, stderr }
        };
        let started =
            |container: &str| Fact::Started { uid: uid(), container: name(container), run: 0, pid: 9 };
        let probed = Fact::Probed {
            uid: uid(),
            container: name("a"),
            run: 0,
            probe: ProbeKind::Liveness,
            ok: false,
            why: "refused\n".into(),
        };
        let signal =
            |container: &str, kill| Fact::Signalled { uid: uid(), container: name(container), run: 0, kill };
        let exit = Exit { code: 42, ..Exit::default() };
        let table = [
            (Fact::Admitted { pod }, "default/web-board1: admitted from web.yaml"),
            (start("a"), ""),
            (start("b"), ""),
            (started("a"), "default/web-board1/a: started, pid 9"),
            (started("b"), "default/web-board1/b: started, pid 9"),
            (probed.clone(), "default/web-board1/a: liveness probe failed: refused"),
            (probed, ""),
            (signal("a", false), "default/web-board1/a: sent stop signal: its liveness probe failed"),
            (
                Fact::Exited { uid: uid(), container: name("a"), run: 0, exit },
                "default/web-board1/a: exited with code 42",
            ),
            (
                Fact::RestartAll { uid: uid(), container: name("a"), run: 0 },
                "default/web-board1: restarting all containers: a rule of a says so",
            ),
            (signal("b", true), "default/web-board1/b: killed: all containers are restarted"),
            (Fact::RestartAll { uid: uid(), container: name("a"), run: 0 }, ""),
            (
                Fact::Expired { uid: uid() },
                "default/web-board1: stopping: it was active for longer than its activeDeadlineSeconds",
            ),
            (Fact::Expired { uid: uid() }, ""),
        ];
        let mut world = World::default();
        for (second, (fact, line)) in table.into_iter().enumerate() {
            assert_eq!(fact.line(&world).unwrap_or_default(), line);
            world.learn(fact.clone(), Tick::seconds(second as u64));
        }
        let told: Vec<_> = world.events.iter().map(|event| event.reason.as_str()).collect();
        let last = ["Killing", "RestartingAllContainers", "Killing", "DeadlineExceeded"];
        assert_eq!(told[told.len() - 4..], last);
    }

    #[test]
    fn problems_are_told_when_they_come_and_when_they_go() {
        let problem = Problem {
            file: "web.yaml".into(),
            line: 7,
            field: "spec.containers[0].image".into(),
            message: "missing".into(),
            refused: true,
        };
        let listed = Fact::Listed { problems: vec![problem] };
        let mut world = World::default();
        assert_eq!(listed.line(&world).as_deref(), Some("web.yaml:7: spec.containers[0].image: missing"));
        world.learn(listed.clone(), Tick::seconds(1));
        world.learn(listed.clone(), Tick::seconds(21));
        assert_eq!(listed.line(&world), None);
        assert_eq!((world.events.len(), world.events[0].count), (1, 1));
        let good = Fact::Listed { problems: Vec::new() };
        assert_eq!(good.line(&world).as_deref(), Some("web.yaml: no problems any more"));
    }

    #[test]
    fn equal_events_are_counted() {
        let mut world = World::default();
        world
            .learn(Fact::Admitted { pod: sample::pod(RestartPolicy::Always, &[], &["c"]) }, Tick::seconds(0));
        let (uid, container) = (|| "u1".to_owned(), || "c".to_owned());
        for (run, second) in [(0, 1), (1, 2), (2, 12)] {
            let fact =
                Fact::Starting { uid: uid(), container: container(), run, helper: 5, stdout: 6, stderr: 7 };
            world.learn(fact, Tick::seconds(second));
            world.learn(
                Fact::Started { uid: uid(), container: container(), run, pid: 9 },
                Tick::seconds(second),
            );
            let exit = Exit { code: 1, ..Exit::default() };
            world
                .learn(Fact::Exited { uid: uid(), container: container(), run, exit }, Tick::seconds(second));
        }
        let told: Vec<_> = world.events.iter().map(|event| (event.reason.as_str(), event.count)).collect();
        assert_eq!(told, [("Created", 3), ("Started", 3), ("BackOff", 2)]);
        let message = "Back-off restarting failed container c in pod web-board1_default(u1)";
        assert_eq!((world.events[2].message.as_str(), world.events[2].last), (message, Tick::seconds(12)));
    }
}
