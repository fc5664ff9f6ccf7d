//! Answers from the world's facts. Pure.

use std::path::PathBuf;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::request::{Answer, Reason, Request};
use crate::clock::{Tick, Wall};
use crate::config::Config;
use crate::pod::facts::{Event, PodFacts, Rejection, Run};
use crate::pod::spec::Container;
use crate::pod::status::{Node, object, rejected, status};
use crate::pod::{Pod, World, batch};

/// The answer to a question; None for what wants hands: an order (Exec, Power, Fault), and Pulls.
pub fn answer(
    request: &Request,
    world: &World,
    now: Tick,
    wall: &Wall,
    node: &Node,
    config: &Config,
) -> Option<Answer> {
    let moment = Moment { now, wall, node };
    Some(match request {
        Request::Version {} => Answer::Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("PODINIT_REVISION").to_owned(),
            node: config.node_name.clone(),
        },
        Request::Pods {} => pods(world, &moment),
        Request::Events {} => Answer::Events {
            items: world.events.iter().map(|event| told(event, world, wall, &config.node_name)).collect(),
        },
        Request::Problems {} => Answer::Problems { items: world.problems.clone() },
        Request::Jobs {} => Answer::Jobs { items: batch::status::jobs(world, now, wall) },
        Request::CronJobs {} => Answer::CronJobs { items: batch::status::crons(world, wall) },
        Request::LogPath { namespace, pod, container, previous } => {
            match (find(world, namespace, pod, container), kept_out(world, namespace, pod)) {
                (Ok((pod, container)), _) => log(pod, container, *previous, &moment, config),
                (Err(_), Some(rejection)) => no_log(rejection, container, *previous),
                (Err(refusal), None) => refusal,
            }
        }
        Request::Pulls {}
        | Request::Exec { .. }
        | Request::Images {}
        | Request::Power { .. }
        | Request::Fault { .. } => {
            return None;
        }
    })
}

/// A running container, for a command to be run in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub uid: String,
    pub container: String,
    pub run: u32,
    /// Its first process, in PID 1's pid namespace.
    pub pid: i32,
}

/// The running container that an Exec means; `Answer::Refused` where there is none.
pub fn target(world: &World, namespace: &str, pod: &str, container: &str) -> Result<Target, Answer> {
    let (facts, container) = find(world, namespace, pod, container)?;
    let run = facts.containers.get(&container.name).and_then(|facts| facts.run.as_ref());
    let started = run.filter(|run| run.exited.is_none()).and_then(|run| Some((run.number, run.started?.1)));
    match started {
        Some((run, pid)) => {
            Ok(Target { uid: facts.spec.uid.clone(), container: container.name.clone(), run, pid })
        }
        // The kubelet's own words.
        None => Err(Answer::refused(
            Reason::BadRequest,
            format!("container {} not running (pod {namespace}/{pod})", container.name),
        )),
    }
}

/// The moment of an answer.
struct Moment<'a> {
    now: Tick,
    wall: &'a Wall,
    node: &'a Node,
}

/// All pods, by namespace and name.
fn pods(world: &World, moment: &Moment) -> Answer {
    let mut pods: Vec<&PodFacts> = world.pods.values().collect();
    pods.sort_by_cached_key(|facts| (facts.spec.namespace.clone(), facts.spec.name.clone(), facts.admitted));
    let admitted = pods.iter().map(|facts| object(facts, moment.now, moment.wall, moment.node));
    let waiting = world.rejected.values().map(|rejection| rejected(rejection, moment.wall));
    let mut items: Vec<k8s::Pod> = admitted.chain(waiting).collect();
    items.sort_by_cached_key(|pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone()));
    Answer::Pods { items }
}

/// The pod and container of these names; of two pods of one name the one that stays.
fn find<'a>(
    world: &'a World,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(&'a PodFacts, &'a Container), Answer> {
    let facts = world
        .pods
        .values()
        .filter(|facts| facts.spec.namespace == namespace && facts.spec.name == pod)
        .min_by_key(|facts| facts.dismissed.is_some())
        .ok_or_else(|| Answer::refused(Reason::NotFound, format!("pods \"{pod}\" not found")))?;
    let container = facts.spec.container(container).ok_or_else(|| {
        Answer::refused(Reason::BadRequest, format!("container {container} is not valid for pod {pod}"))
    })?;
    Ok((facts, container))
}

/// The wanted pod of this name that is not taken up, where there is none that is.
fn kept_out<'a>(world: &'a World, namespace: &str, pod: &str) -> Option<&'a Rejection> {
    let named = |spec: &Pod| spec.namespace == namespace && spec.name == pod;
    let taken = world.pods.values().any(|facts| named(&facts.spec));
    world.rejected.values().find(|rejection| !taken && named(&rejection.pod))
}

/// The container of a rejected pod has no log yet, and waits for what its pod waits for.
fn no_log(rejection: &Rejection, container: &str, previous: bool) -> Answer {
    let name = &rejection.pod.name;
    let message = if rejection.pod.container(container).is_none() {
        format!("container {container} is not valid for pod {name}")
    } else if previous {
        format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
    } else {
        format!("container \"{container}\" in pod \"{name}\" is waiting to start: {}", rejection.reason)
    };
    Answer::refused(Reason::BadRequest, message)
}

/// Where the log of the container's present run is: as with the kubelet, that of the run before while the next one is
/// not yet started.
fn log(pod: &PodFacts, container: &Container, previous: bool, moment: &Moment, config: &Config) -> Answer {
    let name = &pod.spec.name;
    let facts = pod.containers.get(&container.name);
    let begun = |run: &&Run| run.started.is_some() || run.exited.is_some();
    let newest = facts.and_then(|facts| facts.run.as_ref()).filter(begun);
    let last = facts.and_then(|facts| facts.last.as_ref()).filter(begun);
    let waiting = waiting(pod, container, moment);
    let chosen = match (previous, &waiting) {
        (false, _) => newest.or(last),
        // While it waits to run again, the run that just ended is the one before.
        (true, Some(_)) => newest.or(last),
        (true, None) => last,
    };
    let Some(run) = chosen else {
        let message = if previous {
            format!("previous terminated container \"{}\" in pod \"{name}\" not found", container.name)
        } else {
            let reason = waiting.unwrap_or_else(|| "ContainerCreating".to_owned());
            format!("container \"{}\" in pod \"{name}\" is waiting to start: {reason}", container.name)
        };
        return Answer::refused(Reason::BadRequest, message);
    };
    let directory = format!("{}_{name}_{}", pod.spec.namespace, pod.spec.uid);
    let path: PathBuf = [config.pod_logs.as_path(), directory.as_ref(), container.name.as_ref()]
        .into_iter()
        .collect::<PathBuf>()
        .join(format!("{}.log", run.number));
    Answer::Log { path, run: run.number, running: run.exited.is_none() }
}

/// The reason for which a container waits.
fn waiting(pod: &PodFacts, container: &Container, moment: &Moment) -> Option<String> {
    let status = status(pod, moment.now, moment.wall, moment.node);
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let told = all.into_iter().find(|told| told.name == container.name)?;
    told.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

/// An event as Kubernetes shows it; one of no pod is the node's, in the namespace `default`.
fn told(event: &Event, world: &World, wall: &Wall, node: &str) -> k8s::Event {
    let (namespace, name) = event.pod.split_once('/').unwrap_or(("default", node));
    let pod = !event.pod.is_empty();
    let batch = matches!(event.kind.as_str(), "Job" | "CronJob");
    let init = world
        .pods
        .get(&event.uid)
        .is_some_and(|facts| facts.spec.init.iter().any(|one| one.name == event.container));
    let field = if init { "initContainers" } else { "containers" };
    let path = format!("spec.{field}{{{}}}", event.container);
    k8s::Event {
        count: Some(i32::try_from(event.count).unwrap_or(i32::MAX)),
        first_timestamp: Some(Time(wall.time(event.first))),
        involved_object: k8s::ObjectReference {
            api_version: Some(if batch { "batch/v1" } else { "v1" }.to_owned()),
            field_path: (!event.container.is_empty()).then_some(path),
            kind: Some(event.kind.clone()),
            name: Some(name.to_owned()),
            namespace: pod.then(|| namespace.to_owned()),
            uid: (!event.uid.is_empty()).then(|| event.uid.clone()),
            ..Default::default()
        },
        last_timestamp: Some(Time(wall.time(event.last))),
        message: Some(event.message.clone()),
        metadata: ObjectMeta {
            // Kubernetes' own events are named by their object and the moment, in hexadecimal.
            name: Some(format!("{name}.{:x}", event.first.0)),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        reason: Some(event.reason.clone()),
        reporting_component: Some("podinit".to_owned()),
        reporting_instance: Some(node.to_owned()),
        source: Some(k8s::EventSource { component: Some("podinit".to_owned()), host: Some(node.to_owned()) }),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::{ContainerFacts, Dismissal, Fact};
    use crate::pod::spec::RestartPolicy;
    use crate::pod::status::tests::{pod, ran, run, with};

    fn ask(request: Request, world: &World) -> Answer {
        let wall = Wall::at_boot(1_700_000_000);
        answer(&request, world, Tick::seconds(25), &wall, &Node::default(), &Config::default()).unwrap()
    }

    fn log_of(facts: ContainerFacts, previous: bool) -> Result<(String, bool), String> {
        let mut pod = pod(RestartPolicy::Always, &[], &["a"]);
        pod.containers.insert("a".into(), facts);
        let mut world = World::default();
        world.pods.insert("u1".into(), pod);
        let (namespace, pod, container) = ("default".into(), "web-board1".into(), "a".into());
        match ask(Request::LogPath { namespace, pod, container, previous }, &world) {
            Answer::Log { path, running, .. } => Ok((path.display().to_string(), running)),
            Answer::Refused { message, .. } => Err(message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_log_is_that_of_the_run_that_kubernetes_means() {
        let file = |number| format!("/var/log/pods/default_web-board1_u1/a/{number}.log");
        let both = |run| ContainerFacts { last: Some(ran(0, 12, Some((14, 1)))), ..with(run) };
        let looping =
            ContainerFacts { step: 1, stepped: Some(Tick::seconds(15)), ..both(ran(1, 15, Some((24, 1)))) };
        let waits = "container \"a\" in pod \"web-board1\" is waiting to start: ContainerCreating";
        let none = "previous terminated container \"a\" in pod \"web-board1\" not found";
        let table = [
            ("untouched", ContainerFacts::default(), Err(waits), Err(none)),
            ("starting", with(run(0, 12)), Err(waits), Err(none)),
            ("running", with(ran(0, 12, None)), Ok((0, true)), Err(none)),
            ("restarted", both(ran(1, 15, None)), Ok((1, true)), Ok((0, false))),
            ("restarting", both(run(1, 15)), Ok((0, false)), Ok((0, false))),
            ("backing off", looping, Ok((1, false)), Ok((1, false))),
        ];
        for (case, facts, now, before) in table {
            let expect = |wanted: Result<(u32, bool), &str>| match wanted {
                Ok((number, running)) => Ok((file(number), running)),
                Err(why) => Err(why.to_owned()),
            };
            assert_eq!(log_of(facts.clone(), false), expect(now), "{case}");
            assert_eq!(log_of(facts, true), expect(before), "{case}, previous");
        }
    }

    #[test]
    fn a_rejected_pods_log_was_not_found() {
        let mut world = World::default();
        let pod = pod(RestartPolicy::Always, &[], &["a"]).spec;
        let rejected = Fact::Rejected { pod, reason: "OutOfcpu".into(), message: "too much".into() };
        world.learn(rejected, Tick::seconds(1));
        let told = |pod: &str, container: &str, previous| {
            let (namespace, pod, container) = ("default".into(), pod.into(), container.into());
            match ask(Request::LogPath { namespace, pod, container, previous }, &world) {
                Answer::Refused { message, .. } => message,
                other => panic!("{other:?}"),
            }
        };
        let waits = "container \"a\" in pod \"web-board1\" is waiting to start: OutOfcpu";
        let none = "previous terminated container \"a\" in pod \"web-board1\" not found";
        assert_eq!(told("web-board1", "a", false), waits);
        assert_eq!(told("web-board1", "a", true), none);
        assert_eq!(told("web-board1", "b", false), "container b is not valid for pod web-board1");
        assert_eq!(told("x", "a", false), "pods \"x\" not found");
    }

    #[test]
    fn a_command_runs_only_in_what_runs() {
        let mut world = World::default();
        let mut leaving = pod(RestartPolicy::Always, &[], &["a"]);
        leaving.containers.insert("a".into(), with(ran(0, 12, None)));
        leaving.dismissed = Some((Tick::seconds(13), Dismissal::Replaced));
        world.pods.insert("u0".into(), leaving);
        let mut staying = pod(RestartPolicy::Always, &[], &["a", "b"]);
        staying.containers.insert("a".into(), with(ran(2, 12, None)));
        staying.containers.insert("b".into(), with(ran(2, 12, Some((14, 0)))));
        world.pods.insert("u1".into(), staying);
        let refusal = |pod: &str, container: &str| match target(&world, "default", pod, container) {
            Err(Answer::Refused { reason, message }) => (reason, message),
            other => panic!("{other:?}"),
        };
        let found = target(&world, "default", "web-board1", "a").unwrap();
        assert_eq!((found.run, found.pid), (2, 100));
        assert_eq!(refusal("x", "a"), (Reason::NotFound, "pods \"x\" not found".into()));
        assert_eq!(refusal("web-board1", "c").1, "container c is not valid for pod web-board1");
        assert_eq!(refusal("web-board1", "b").1, "container b not running (pod default/web-board1)");
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let mut world = World::default();
        world.pods.insert("u1".into(), pod(RestartPolicy::Always, &["i"], &["a"]));
        let event = Event {
            first: Tick::seconds(1),
            last: Tick::seconds(3),
            count: 2,
            warning: true,
            reason: "BackOff".into(),
            message: "Back-off restarting failed container".into(),
            kind: "Pod".into(),
            pod: "default/web-board1".into(),
            uid: "u1".into(),
            container: "i".into(),
        };
        let none = String::new;
        let own = Event { kind: "Node".into(), pod: none(), uid: none(), container: none(), ..event.clone() };
        let (kind, uid) = ("CronJob".into(), "c".into());
        let cron = Event { kind, pod: "default/tick".into(), uid, container: none(), ..event.clone() };
        world.events.extend([event, own, cron]);
        let Answer::Events { items } = ask(Request::Events {}, &world) else { panic!("no events") };
        let object = |at: usize| {
            let object = &items[at].involved_object;
            (object.kind.clone().unwrap(), object.name.clone().unwrap(), object.field_path.clone())
        };
        assert_eq!(object(0), ("Pod".into(), "web-board1".into(), Some("spec.initContainers{i}".into())));
        assert_eq!(object(1), ("Node".into(), "podinit".into(), None));
        assert_eq!(object(2), ("CronJob".into(), "tick".into(), None));
        assert_eq!(items[2].involved_object.api_version.as_deref(), Some("batch/v1"));
        assert_eq!(items[0].type_.as_deref(), Some("Warning"));
    }
}
