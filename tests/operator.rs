//! The operator's commands against a fake PID 1 in this process: its socket, its answers, what is printed.
//! What is printed is compared with `tests/snapshots`; PODINIT_UPDATE_SNAPSHOTS=1 writes them anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollTimeout, poll};
use podinit::cli;
use podinit::clock::{Tick, Wall};
use podinit::config::Config;
use podinit::operator::request::{Answer, Reason, Request};
use podinit::operator::socket::{Asked, ConnectionId, Listener};
use podinit::operator::{fds, view};
use podinit::pod::World;
use podinit::pod::batch::facts::{End, JobFact, Verdict};
use podinit::pod::batch::schedule::{Schedule, Zone};
use podinit::pod::batch::spec::{Consequence, Cron, Job, Owner, Rule};
use podinit::pod::facts::{
    ContainerFacts, Dismissal, Event, Exit, Fact, Image, PodFacts, Run, Sandbox, StartError,
};
use podinit::pod::pulls::{Layer, OnTheWay};
use podinit::pod::spec::{Pod, Problem};
use podinit::pod::status::Node;

/// Second 1000 of a machine that booted at this moment, 2026-11-24 03:00:00 UTC.
const BOOT: i64 = 1_795_489_200;
const NOW: u64 = 1000;

// ---- A made-up machine ----

/// A pod as its JSON tells it; what podinit itself keeps beside it is filled in.
fn pod(json: serde_json::Value, admitted: u64) -> PodFacts {
    let object: k8s::Pod = serde_json::from_value(json).unwrap();
    let spec = object.spec.clone().unwrap();
    let container = |one: &k8s::Container| -> podinit::pod::Container {
        podinit::pod::Container {
            name: one.name.clone(),
            image: one.image.clone().unwrap(),
            termination_path: "/dev/termination-log".into(),
            ..Default::default()
        }
    };
    let meta = &object.metadata;
    let name = meta.name.clone().unwrap();
    let pod = Pod {
        uid: meta.uid.clone().unwrap(),
        namespace: meta.namespace.clone().unwrap(),
        origin: format!("{}.yaml", name.strip_suffix("-board1").unwrap()),
        hostname: name.clone(),
        name,
        restart: serde_json::from_value(spec.restart_policy.clone().unwrap().into()).unwrap(),
        grace: Duration::from_secs(30),
        host_network: spec.host_network == Some(true),
        init: spec.init_containers.iter().flatten().map(container).collect(),
        containers: spec.containers.iter().map(container).collect(),
        volumes: vec![],
        object,
        ..Pod::default()
    };
    PodFacts {
        stale: None,
        size: Default::default(),
        pending: None,
        resized: None,
        counted: false,
        spec: Arc::new(pod),
        admitted: Tick::seconds(admitted),
        dismissed: None,
        expired: None,
        ids: None,
        sandbox: Sandbox::Ready { since: Tick::seconds(admitted), ip: None },
        containers: BTreeMap::new(),
        stuck: None,
        projected: None,
    }
}

/// A run that started at a second and, where given, ended at another with a code.
fn ran(number: u32, started: u64, ended: Option<(u64, i32)>) -> Run {
    Run {
        number,
        starting: Tick::seconds(started),
        helper: None,
        stdout: -1,
        stderr: -1,
        started: Some((Tick::seconds(started), 4711)),
        failed: None,
        stopped: None,
        killed: None,
        exited: ended.map(|(at, code)| {
            (Tick::seconds(at), Exit { code, signal: None, oom: code == 137, message: String::new() })
        }),
        cleaned: false,
        size: Default::default(),
        outgrown: None,
        worn: None,
        verdicts: Default::default(),
        hooks: Default::default(),
    }
}

fn with(run: Run, last: Option<Run>) -> ContainerFacts {
    let image = Image::Found { id: format!("sha256:{}", "ab".repeat(32)) };
    ContainerFacts { image, restarts: run.number, run: Some(run), last, ..ContainerFacts::default() }
}

fn event(second: u64, count: u32, warning: bool, what: (&str, &str), pod: (&str, &str, &str)) -> Event {
    Event {
        kind: if pod.0.is_empty() { "Node" } else { "Pod" }.into(),
        first: Tick::seconds(second - u64::from(count) + 1),
        last: Tick::seconds(second),
        count,
        warning,
        reason: what.0.into(),
        message: what.1.into(),
        pod: pod.0.into(),
        uid: pod.1.into(),
        container: pod.2.into(),
    }
}

fn world() -> World {
    let mut world = World::default();
    let mut web = pod(
        serde_json::json!({
            "metadata": {
                "name": "web-board1", "namespace": "default", "uid": "aaaa", "labels": { "app": "web", "tier": "front" },
                "annotations": { "kubernetes.io/config.hash": "aaaa", "kubernetes.io/config.source": "file" },
            },
            "spec": {
                "hostNetwork": true, "nodeName": "board1", "restartPolicy": "Always",
                "tolerations": [{ "effect": "NoExecute", "operator": "Exists" }],
                "containers": [
                    {
                        "name": "web", "image": "nginx:1.27", "command": ["nginx", "-g", "daemon off;"],
                        "ports": [{ "containerPort": 80, "hostPort": 80, "protocol": "TCP" }],
                        "resources": { "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "100m" } },
                        "env": [
                            { "name": "MODE", "value": "fast" },
                            { "name": "NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } },
                        ],
                        "volumeMounts": [
                            { "name": "www", "mountPath": "/var/www", "readOnly": true, "subPath": "site" },
                            { "name": "cache", "mountPath": "/cache" },
                        ],
                    },
                    { "name": "tail", "image": "busybox", "args": ["tail"] },
                ],
                "volumes": [
                    { "name": "www", "hostPath": { "path": "/srv/www", "type": "Directory" } },
                    { "name": "cache", "emptyDir": {} },
                ],
            },
        }),
        100,
    );
    web.containers.insert("web".into(), with(ran(0, 101, None), None));
    web.containers.insert("tail".into(), with(ran(2, 688, None), Some(ran(1, 300, Some((688, 137))))));
    let mut job = pod(
        serde_json::json!({
            "metadata": { "name": "job-board1", "namespace": "default", "uid": "bbbb" },
            "spec": {
                "nodeName": "board1", "restartPolicy": "OnFailure",
                "initContainers": [{ "name": "one", "image": "a" }, { "name": "two", "image": "b" }],
                "containers": [{ "name": "job", "image": "c" }],
            },
        }),
        200,
    );
    job.containers.insert("one".into(), with(ran(0, 201, Some((202, 0))), None));
    job.containers.insert("two".into(), with(ran(0, 203, None), None));
    let simple = |name: &str, uid: &str, namespace: &str, policy: &str| {
        let json = serde_json::json!({
            "metadata": { "name": name, "namespace": namespace, "uid": uid },
            "spec": {
                "nodeName": "board1", "restartPolicy": policy,
                "containers": [{ "name": "main", "image": "busybox" }],
            },
        });
        pod(json, 300)
    };
    let mut done = simple("done-board1", "cccc", "default", "Never");
    done.containers.insert("main".into(), with(ran(0, 301, Some((302, 0))), None));
    let mut loops = simple("loop-board1", "dddd", "default", "Always");
    let looping = ContainerFacts {
        step: 3,
        stepped: Some(Tick::seconds(960)),
        ..with(ran(4, 965, Some((970, 1))), Some(ran(3, 940, Some((945, 1)))))
    };
    loops.containers.insert("main".into(), looping);
    let mut going = simple("going-board1", "eeee", "default", "Always");
    going.containers.insert("main".into(), with(ran(0, 301, None), None));
    going.dismissed = Some((Tick::seconds(990), Dismissal::Removed));
    let mut lost = simple("lost-board1", "ffff", "kube-system", "Always");
    let why = "no such image in the store".to_owned();
    let missing = Image::Missing { tries: 1, at: Tick::seconds(400), why, told: true };
    lost.containers.insert("main".into(), ContainerFacts { image: missing, ..ContainerFacts::default() });
    let mut broken = simple("broken-board1", "gggg", "kube-system", "Always");
    let why =
        StartError { reason: "StartError".into(), message: "exec: \"nope\": not found".into(), ours: false };
    let run = Run { started: None, failed: Some((Tick::seconds(999), why)), ..ran(1, 998, None) };
    broken.containers.insert(
        "main".into(),
        ContainerFacts { step: 1, stepped: Some(Tick::seconds(998)), ..with(run, None) },
    );
    for facts in [web, job, done, loops, going, lost, broken] {
        world.pods.insert(facts.spec.uid.clone(), facts);
    }
    world.problems = vec![
        Problem {
            file: "loop.yaml".into(),
            line: 7,
            field: "spec.containers[0].imagePolicy".into(),
            message: "unknown field: imagePullPolicy would do".into(),
            refused: false,
        },
        Problem {
            file: "new.yaml".into(),
            line: 0,
            field: String::new(),
            message: "cannot be read: permission denied".into(),
            refused: true,
        },
        Problem {
            file: "web.yaml".into(),
            line: 7,
            field: "spec.containers[0].image".into(),
            message: "\"nginx:\": not an image reference".into(),
            refused: true,
        },
        Problem {
            file: "web.yaml".into(),
            line: 9,
            field: "spec.restartPolicy".into(),
            message: "\"always\": Always, OnFailure or Never would do".into(),
            refused: true,
        },
    ];
    batch(&mut world);
    world.events.extend([
        event(101, 1, false, ("Started", "Started container web"), ("default/web-board1", "aaaa", "web")),
        event(
            970,
            5,
            true,
            ("BackOff", "Back-off restarting failed container"),
            ("default/loop-board1", "dddd", "main"),
        ),
        event(400, 1, true, ("Failed", "no such image"), ("kube-system/lost-board1", "ffff", "main")),
        event(2, 1, false, ("Starting", "podinit started"), ("", "", "")),
    ]);
    world
}

/// Jobs and CronJobs, by the facts that would have made them.
fn batch(world: &mut World) {
    let mut told: Vec<(u64, Fact)> = Vec::new();
    let learn = |told: &mut Vec<(u64, Fact)>, second: u64, fact| told.push((second, Fact::Job(fact)));
    let template = pod(
        serde_json::json!({
            "metadata": {
                "name": "sum-board1", "namespace": "default", "uid": "t", "labels": { "app": "sum" },
                "annotations": { "kubernetes.io/config.source": "file" },
            },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "main", "image": "busybox" }, { "name": "log", "image": "logger:2" }],
            },
        }),
        0,
    );
    let job = |name: &str, completions, parallelism| Job {
        uid: format!("{name}-uid"),
        namespace: "default".into(),
        name: name.into(),
        origin: format!("{name}.yaml"),
        parallelism,
        completions,
        backoff_limit: 6,
        pod: template.spec.clone(),
        ..Job::default()
    };
    let begin = |told: &mut Vec<(u64, Fact)>, second, job: Job| {
        learn(told, second, JobFact::Begun { job: Arc::new(job) });
    };
    let finish = |told: &mut Vec<(u64, Fact)>, second: u64, job: &str, end: End, kept| {
        let job = format!("{job}-uid");
        learn(told, second, JobFact::Finished { job: job.clone(), end, at: 0 });
        if kept {
            learn(told, second, JobFact::Kept { job });
        }
    };
    let indexed = Job {
        indexed: true,
        limit_per_index: Some(1),
        deadline: Some(Duration::from_secs(3600)),
        ttl: Some(Duration::from_secs(600)),
        rules: vec![Rule {
            what: Consequence::Ignore,
            container: Some("main".into()),
            not_in: true,
            codes: vec![0, 3],
        }],
        ..job("index", Some(5), 2)
    };
    let uid = indexed.uid.clone();
    begin(&mut told, 100, indexed);
    for (number, index, verdict) in [
        (0, 0, Verdict::Succeeded),
        (1, 1, Verdict::Succeeded),
        (2, 2, Verdict::Succeeded),
        (3, 4, Verdict::FailedIndex),
    ] {
        // Each was a pod that ended and is forgotten by now.
        let owner = Owner { job: uid.clone(), index: Some(index), number };
        let spec =
            Arc::new(Pod { uid: format!("{uid}-{number}"), owner: Some(owner), ..(*template.spec).clone() });
        told.push((110, Fact::Admitted { pod: spec.clone() }));
        let counted =
            JobFact::Counted { job: uid.clone(), pod: spec.uid.clone(), index: Some(index), verdict };
        learn(&mut told, 120, counted);
    }
    begin(&mut told, 100, job("done", Some(1), 1));
    finish(&mut told, 163, "done", End::Complete, true);
    begin(&mut told, 100, job("late", Some(1), 1));
    let why =
        End::Failed("BackoffLimitExceeded".into(), "Job has reached the specified backoff limit".into());
    finish(&mut told, 163, "late", why.clone(), true);
    begin(&mut told, 100, job("soon", None, 1));
    finish(&mut told, 990, "soon", End::Complete, false);
    begin(&mut told, 100, job("sooner", None, 3));
    finish(&mut told, 990, "sooner", why, false);
    begin(&mut told, 300, Job { suspend: true, ..job("rest", Some(1), 1) });
    begin(&mut told, 300, job("gone", Some(1), 1));
    learn(&mut told, 995, JobFact::Missed { job: "gone-uid".into(), on: true });
    begin(&mut told, 300, Job { namespace: "kube-system".into(), ..job("other", Some(1), 1) });

    learn(&mut told, 90, JobFact::Clock { offset: BOOT, time: BOOT + 90 });
    let cron = |name: &str, text: &str| Cron {
        namespace: "default".into(),
        name: name.into(),
        schedule: Schedule::parse(text).unwrap(),
        text: text.into(),
        keep_succeeded: 3,
        keep_failed: 1,
        job: Arc::new(job(name, Some(1), 1)),
        ..Cron::default()
    };
    let tick = cron("tick", "*/5 * * * *");
    for cron in [
        tick.clone(),
        Cron { suspend: true, zone: Zone::utc("Etc/UTC"), late: Some(60), ..cron("night", "@daily") },
    ] {
        learn(&mut told, 100, JobFact::Followed { cron: Arc::new(cron), at: BOOT + 100 });
    }
    let (first, second) = (tick.job(BOOT + 300), tick.job(BOOT + 600));
    learn(&mut told, 300, JobFact::Begun { job: first.clone() });
    learn(&mut told, 320, JobFact::Finished { job: first.uid.clone(), end: End::Complete, at: BOOT + 320 });
    learn(&mut told, 321, JobFact::Kept { job: first.uid.clone() });
    learn(&mut told, 600, JobFact::Begun { job: second });
    told.sort_by_key(|(second, _)| *second);
    for (second, fact) in told {
        world.learn(fact, Tick::seconds(second));
    }
    world.pods.retain(|_, pod| pod.spec.owner.is_none());
}

// ---- A fake PID 1 ----

/// Answers in a thread of its own until dropped.
struct Machine {
    dir: PathBuf,
    end: Arc<AtomicBool>,
    /// The most connections that there ever were at once.
    most: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
    life: Option<JoinHandle<()>>,
}

impl Machine {
    fn start(name: &str) -> Machine {
        let dir = std::env::temp_dir().join(format!("podinit-operator-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut listener = Listener::bind(&dir.join("sock")).unwrap();
        let (end, most, gone): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (until, peak, left, logs) = (end.clone(), most.clone(), gone.clone(), dir.join("logs"));
        let life = std::thread::spawn(move || {
            let world = world();
            let mut running: Vec<(ConnectionId, std::process::Child)> = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let wanted = listener.polls();
                // The descriptors live as long as the listener, which is not touched meanwhile.
                let list: Vec<_> =
                    wanted.iter().map(|(fd, events)| libc_pollfd(*fd, events.bits())).collect();
                wait(list);
                for Asked { id, request, descriptors } in listener.ready() {
                    match answer(&request, &world, &logs) {
                        Some(answer) => listener.reply(id, &answer),
                        None => match obey(&request, &world, descriptors) {
                            Ok(Some(child)) => running.push((id, child)),
                            Ok(None) => {}
                            Err(answer) => listener.reply(id, &answer),
                        },
                    }
                }
                peak.fetch_max(listener.connections(), Ordering::Relaxed);
                left.fetch_add(listener.gone().len(), Ordering::Relaxed);
                running.retain_mut(|(id, child)| match child.try_wait().unwrap() {
                    None => true,
                    Some(status) => {
                        listener.reply(*id, &Answer::Ended { code: status.code().unwrap_or(128) });
                        false
                    }
                });
            }
        });
        Machine { dir, end, most, gone, life: Some(life) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.life.take().unwrap().join();
        std::fs::remove_dir_all(&self.dir).unwrap();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn libc_pollfd(fd: i32, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits a little, so that ended children are noticed too: a stand-in for PID 1's SIGCHLD.
#[allow(unsafe_code)]
fn wait(mut list: Vec<libc::pollfd>) {
    // SAFETY: the list lives for the call and has the length given.
    unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, 5) };
}

fn answer(request: &Request, world: &World, logs: &Path) -> Option<Answer> {
    let node = Node { host_ips: vec!["10.0.2.15".into()], ..Node::default() };
    let config = Config { node_name: "board1".into(), pod_logs: logs.to_owned(), ..Config::default() };
    view::answer(request, world, Tick::seconds(NOW), &Wall::at_boot(BOOT), &node, &config)
}

/// One pull that is under way, and one that waits for it.
fn on_the_way() -> Vec<OnTheWay> {
    let layer = |done, total, had| Layer { done, total, had };
    let pull = |image: &str, whose: (&str, &str), millis, layers| OnTheWay {
        image: image.to_owned(),
        whose: vec![(whose.0.to_owned(), whose.1.to_owned())],
        millis,
        layers,
    };
    let layers = vec![layer(5_000_000, 5_000_000, 5_000_000), layer(12_000_000, 40_000_000, 0)];
    vec![
        pull("docker.io/library/c:latest", ("bbbb", "job"), Some(10_000), layers),
        pull("docker.io/library/busybox:latest", ("ffff", "main"), None, vec![]),
    ]
}

/// Runs commands here instead of in a container.
fn obey(
    request: &Request,
    world: &World,
    descriptors: Vec<OwnedFd>,
) -> Result<Option<std::process::Child>, Answer> {
    match request {
        Request::Exec { namespace, pod, container, command, tty } => {
            view::target(world, namespace, pod, container)?;
            let mut child = Command::new(&command[0]);
            child.args(&command[1..]);
            if *tty {
                let pty = nix::pty::openpty(None, None).unwrap();
                fds::send(descriptors[0].as_fd(), b"p", &[pty.master.as_fd()]).unwrap();
                let slave = || pty.slave.try_clone().unwrap();
                child.stdin(slave()).stdout(slave()).stderr(slave());
            } else {
                let mut descriptors = descriptors.into_iter();
                let mut next = || descriptors.next().unwrap();
                child.stdin(next()).stdout(next()).stderr(next());
            }
            Ok(Some(child.spawn().unwrap()))
        }
        Request::Pulls {} => Err(Answer::Pulls { items: on_the_way() }),
        Request::Power { .. } => Err(Answer::Done {}),
        Request::Fault { .. } => Err(Answer::refused(Reason::Forbidden, "faults are not allowed here")),
        other => panic!("view::answer answers {other:?}"),
    }
}

// ---- What is printed ----

/// What a command prints to stdout and stderr, and its exit code.
fn podinit(machine: &Machine, line: &str) -> (String, String, i32) {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (out, err, code) = podinit_on(machine, line, [null.as_fd(); 3]);
    (out, err, code)
}

fn podinit_on(machine: &Machine, line: &str, stdio: [BorrowedFd<'_>; 3]) -> (String, String, i32) {
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = Wall::at_boot(BOOT).time(Tick::seconds(NOW));
    let (socket, store) = (machine.socket(), machine.dir.join("images"));
    let code =
        cli::run_in(&args, &mut cli::World { out: &mut out, err: &mut err, stdio, now, socket, store });
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code)
}

/// Compares with the file of this name.
fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("PODINIT_UPDATE_SNAPSHOTS").is_some() {
        return std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|why| panic!("{}: {why}: PODINIT_UPDATE_SNAPSHOTS=1 writes it", path.display()));
    let first = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        expected == text,
        "{name} differs from line {:?} on; PODINIT_UPDATE_SNAPSHOTS=1 accepts this:\n{text}",
        first.map(|at| at + 1)
    );
}

/// The digits of container ids are another test's matter.
fn anonymous(text: &str) -> String {
    let mut parts = text.split("podinit://");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        assert!(part.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit), "{part}");
        out += "podinit://<id>";
        out += &part[64..];
    }
    out
}

#[test]
fn commands_print_what_kubectl_prints() {
    let machine = Machine::start("print");
    let mut all = String::new();
    for line in [
        "help",
        "get pods",
        "get pods -A --no-headers",
        "get po -o wide",
        "get pods -n nowhere",
        "get pods web done-board1",
        "get pods -o name -A",
        "get pods nope",
        "get pods lost",
        "get events",
        "get events -A",
        "get events -A -o wide",
        "get problems",
        "get jobs",
        "get job index other",
        "get jobs -A -o wide",
        "get jobs -o name",
        "get jobs -n nowhere",
        "get cj",
        "get cronjobs -o wide --no-headers",
        "get cronjob/tick cronjob/tock",
        "get deployments",
        "get pods --watch",
        "poweroff",
        "fault panic",
        "logs nope",
        "logs loop -c nope",
        "logs lost -n kube-system",
        "logs job",
        "exec done -- true",
        "nonsense",
    ] {
        let (out, err, code) = podinit(&machine, line);
        all += &format!("# podinit {line}\n{out}");
        all.extend(err.lines().map(|line| format!("2> {line}\n")));
        all += &format!("= {code}\n\n");
    }
    snapshot("commands.txt", &all.replace(&machine.dir.display().to_string(), "DIR"));
    for (name, line) in [
        ("describe.txt", "describe pod web job"),
        ("describe-troubled.txt", "describe pod/loop-board1 pod/going-board1 pod/done"),
        ("pods.json", "get pods -A -o json"),
        ("pod.yaml", "get pod web -o yaml"),
        ("job.yaml", "get job index -o yaml"),
        ("jobs.json", "get jobs -o json done late"),
        ("cronjobs.yaml", "get cronjobs -o yaml"),
    ] {
        let (text, err, code) = podinit(&machine, line);
        assert_eq!((err.as_str(), code), ("", 0), "{line}");
        snapshot(name, &anonymous(&text));
    }
    let (version, _, code) = podinit(&machine, "version");
    assert!(version.contains("Server Version: ") && version.ends_with(" on board1\n"), "{version}");
    assert_eq!(code, 0);
}

#[test]
fn json_is_a_pod_list() {
    let machine = Machine::start("json");
    let (text, _, _) = podinit(&machine, "get pods -A -o json");
    let list: k8s_openapi::List<k8s::Pod> = serde_json::from_str(&text).unwrap();
    assert_eq!(list.items.len(), 7);
    assert!(text.contains("\"kind\": \"PodList\""), "{text}");
}

#[test]
fn nobody_listens() {
    let machine = Machine::start("nobody");
    let args = ["get".to_owned(), "pods".to_owned()];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let null = File::open("/dev/null").unwrap();
    let code = cli::run_in(
        &args,
        &mut cli::World {
            out: &mut out,
            err: &mut err,
            stdio: [null.as_fd(); 3],
            now: jiff::Timestamp::UNIX_EPOCH,
            socket: machine.dir.join("none"),
            store: machine.dir.join("images"),
        },
    );
    let err = String::from_utf8(err).unwrap();
    assert!(code == 1 && err.starts_with("error: podinit does not answer at "), "{code} {err}");
}

// ---- exec ----

#[test]
fn exec_hands_its_own_descriptors_over() {
    let machine = Machine::start("exec");
    let mut stdin = file(&machine, "in");
    stdin.write_all(b"hello\n").unwrap();
    stdin.rewind().unwrap();
    let (mut out, mut err) = (file(&machine, "out"), file(&machine, "err"));
    let stdio = [stdin.as_fd(), out.as_fd(), err.as_fd()];
    // Without -i its stdin is empty, with it what this process has.
    let (_, told, code) = podinit_on(&machine, "exec web -c tail -- cat", stdio);
    assert_eq!((told.as_str(), code), ("", 0));
    let (_, told, code) = podinit_on(&machine, "exec -i web -- cat", stdio);
    assert_eq!((told.as_str(), code), ("Defaulted container \"web\" out of: web, tail\n", 0));
    let (_, told, code) = podinit_on(&machine, "exec web -c web -- ls /nowhere", stdio);
    assert_eq!((told.as_str(), code), ("command terminated with exit code 2\n", 2));
    let (mut printed, mut failed) = (String::new(), String::new());
    out.rewind().unwrap();
    err.rewind().unwrap();
    out.read_to_string(&mut printed).unwrap();
    err.read_to_string(&mut failed).unwrap();
    assert_eq!(printed, "hello\n");
    assert!(failed.contains("/nowhere"), "{failed}");
}

fn file(machine: &Machine, name: &str) -> File {
    let path = machine.dir.join(name);
    File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

#[test]
fn exec_with_a_terminal_passes_size_keys_and_exit_code_and_leaves_it_as_it_was() {
    let machine = Machine::start("tty");
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let ours = nix::pty::openpty(Some(&size), None).unwrap();
    let before = nix::sys::termios::tcgetattr(&ours.slave).unwrap();
    let mut keys = File::from(ours.master.try_clone().unwrap());
    // Ctrl-D ends its input once cat runs in the pty; raw mode here must not have eaten it.
    let typist = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains("ready") {
            let size = keys.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..size]);
        }
        keys.write_all(b"typed\n\x04").unwrap();
        while !String::from_utf8_lossy(&seen).contains("end") {
            let size = keys.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..size]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let script = machine.dir.join("script");
    // The size comes with the pty's other side, which we get about when the command begins.
    let sized = "until [ \"$(stty size)\" != \"0 0\" ]; do sleep 0.01; done; stty size";
    std::fs::write(&script, format!("{sized}; echo ready; cat; echo end; exit 7")).unwrap();
    let line = format!("exec -it web -c web -- sh {}", script.display());
    let (_, told, code) = podinit_on(&machine, &line, [ours.slave.as_fd(); 3]);
    let seen = typist.join().unwrap();
    assert_eq!((told.as_str(), code), ("command terminated with exit code 7\n", 7));
    assert!(seen.contains("33 99") && seen.contains("typed"), "{seen}");
    assert_eq!(nix::sys::termios::tcgetattr(&ours.slave).unwrap(), before);
}

// ---- Clients that misbehave ----

fn all_of(mut stream: &UnixStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(size @ 1..) = stream.read(&mut buffer) {
        text.extend_from_slice(&buffer[..size]);
    }
    String::from_utf8(text).unwrap()
}

/// An honest client is served, now.
fn served(machine: &Machine) {
    let (out, err, code) = podinit(machine, "get pods done");
    assert!(code == 0 && out.contains("done-board1"), "{err}");
}

#[test]
fn what_is_no_request_is_told_and_hung_up_on() {
    let machine = Machine::start("bad");
    let long = vec![b'x'; (64 << 10) + 1];
    let mut closed = long.clone();
    closed.push(b'\n');
    for (bytes, part) in [
        (&b"nonsense\n"[..], "no request"),
        (b"\n", "no request"),
        (b"{\"pods\":{}}\n{\"pods\":{}}\n", "after the answer"),
        (b"{\"exec\":{\"namespace\":\"a\",\"pod\":\"b\",\"container\":\"c\",\"command\":[],\"tty\":false}}\n", "0 descriptors"),
        (&long, "at most 65536 bytes"),
        (&closed, "at most 65536 bytes"),
    ] {
        let mut stream = machine.connect();
        stream.write_all(bytes).unwrap();
        let answer = all_of(&stream);
        assert!(answer.contains("BadRequest") && answer.contains(part), "{answer}");
        served(&machine);
    }
    // The longest line that is allowed is only refused for what it says.
    let mut stream = machine.connect();
    stream.write_all(&long[1..]).unwrap();
    stream.write_all(b"\n").unwrap();
    assert!(all_of(&stream).contains("no request"));
}

#[test]
fn a_line_may_come_in_pieces_and_several_one_after_the_other() {
    let machine = Machine::start("pieces");
    let mut stream = machine.connect();
    for _ in 0..3 {
        for byte in b"{\"version\":{}}\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"{\"version\":{");
        while answer[0] != b'\n' {
            stream.read_exact(&mut answer[..1]).unwrap();
        }
    }
}

#[test]
fn half_lines_and_early_ends_disturb_no_one() {
    let machine = Machine::start("half");
    for _ in 0..100 {
        machine.connect().write_all(b"{\"po").unwrap();
        machine.connect().write_all(b"{\"pods\":{}}\n").unwrap();
        drop(machine.connect());
        let stream = machine.connect();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    served(&machine);
    // One that asks and closes its sending side still gets its answer.
    let mut stream = machine.connect();
    stream.write_all(b"{\"problems\":{}}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(all_of(&stream).starts_with("{\"problems\":{\"items\":["));
}

#[test]
fn a_hundred_idle_connections_lock_no_one_out() {
    let machine = Machine::start("hundred");
    let mut idle: Vec<UnixStream> = (0..100).map(|_| machine.connect()).collect();
    served(&machine);
    idle[99].write_all(b"{\"version\":{}}\n").unwrap();
    let mut first = [0; 1];
    idle[99].read_exact(&mut first).unwrap();
    assert!(machine.most.load(Ordering::Relaxed) <= 32);
}

#[test]
fn strange_descriptors_are_closed() {
    let machine = Machine::start("descriptors");
    let (ours, theirs) = UnixStream::pair().unwrap();
    for count in [1, 3, 4, 60] {
        let stream = machine.connect();
        let many: Vec<BorrowedFd<'_>> = (0..count).map(|_| theirs.as_fd()).collect();
        fds::send(stream.as_fd(), b"{\"pods\":{}}\n", &many).unwrap();
        assert!(all_of(&stream).contains("descriptors"));
    }
    drop(theirs);
    // The end comes when no one holds the other side any more.
    assert_eq!(all_of(&ours), "");
}

#[test]
fn a_client_that_leaves_its_command_behind_is_told() {
    let machine = Machine::start("gone");
    let null = File::open("/dev/null").unwrap();
    let stream = machine.connect();
    let exec = b"{\"exec\":{\"namespace\":\"default\",\"pod\":\"web-board1\",\"container\":\"web\",\"command\":[\"sh\",\"-c\",\"read x\"],\"tty\":false}}\n";
    // Else the command would hold its own input open, and outlive the test.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    fds::send(stream.as_fd(), exec, &[reader.as_fd(), null.as_fd(), null.as_fd()]).unwrap();
    drop(reader);
    served(&machine);
    drop(stream);
    while machine.gone.load(Ordering::Relaxed) == 0 {
        let mut list: [PollFd<'_>; 0] = [];
        poll(&mut list, PollTimeout::from(1u8)).unwrap();
    }
    drop(writer);
    served(&machine);
}

#[test]
fn the_socket_is_roots_own() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::start("mode");
    let mode = std::fs::metadata(machine.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // A socket left behind by a crash is replaced.
    let path = machine.dir.join("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&path).unwrap();
    assert!(listener.polls()[0].0.as_raw_fd() > 2);
    drop(listener);
    assert!(!path.exists());
}

// ---- logs ----

fn log_dir(machine: &Machine, pod: &str, container: &str) -> PathBuf {
    let dir = machine.dir.join("logs").join(pod).join(container);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn logs_are_read_where_they_lie() {
    let machine = Machine::start("logs");
    let dir = log_dir(&machine, "default_web-board1_aaaa", "tail");
    let record = |second: u32, text: &str| format!("2026-11-24T03:16:{second:02}.5Z stdout F {text}\n");
    std::fs::write(dir.join("1.log"), record(1, "the run before")).unwrap();
    std::fs::write(dir.join("2.log.20261124-031600"), record(2, "rotated")).unwrap();
    std::fs::write(dir.join("2.log"), record(38, "one") + &record(39, "two")).unwrap();
    for (flags, expected) in [
        ("", "rotated\none\ntwo\n"),
        (" -p", "the run before\n"),
        (" --tail 1", "two\n"),
        (
            " --tail=2 --timestamps",
            "2026-11-24T03:16:38.500000000Z one\n2026-11-24T03:16:39.500000000Z two\n",
        ),
        (" --limit-bytes 11", "rotated\none"),
        (" --limit-bytes 0 --tail 1", "two\n"),
        (" --since 2s", "one\ntwo\n"),
        (" --since-time 2026-11-24T03:16:39Z", "two\n"),
    ] {
        let (out, err, code) = podinit(&machine, &format!("logs web -c tail{flags}"));
        assert_eq!((out.as_str(), err.as_str(), code), (expected, "", 0), "{flags}");
    }
    let (_, err, code) = podinit(&machine, "logs web -c web -p");
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "Error from server (BadRequest): previous terminated container \"web\" in pod \"web-board1\" not found\n"
    );
}

#[test]
fn a_followed_log_ends_with_its_container() {
    let machine = Machine::start("follow");
    let dir = log_dir(&machine, "default_done-board1_cccc", "main");
    std::fs::write(dir.join("0.log"), "2026-11-24T03:00:00Z stdout F all\n").unwrap();
    let (out, _, code) = podinit(&machine, "logs -f done");
    assert_eq!((out.as_str(), code), ("all\n", 0));
}
