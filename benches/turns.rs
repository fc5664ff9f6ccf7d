//! What a turn of PID 1's loop costs beside more and more pods at which nothing happens: `turns PODS EVENTS` crashes and
//! restarts one container EVENTS times. benches/turns counts its instructions. `turns list FILES` lists and plans a
//! directory of so many manifests, and prints what that takes beyond parsing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podinit::clock::Tick;
use podinit::ledger::Ledger;
use podinit::manifest::{Dir, parse};
use podinit::pod::facts::Exit;
use podinit::pod::roll::Roll;
use podinit::pod::{Action, Desired, Fact, Planner, Pod, Step, World, project};

/// All that a turn is made of, but for what the hands do outside.
struct Machine {
    planner: Planner,
    world: World,
    roll: Roll,
    ledger: Ledger,
    now: Tick,
    pid: i32,
    /// A container has ended and not been started again.
    down: bool,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
    match (words.first().map(String::as_str), number(0), number(1)) {
        (Some("list"), _, Some(files)) => list(files),
        (_, Some(pods), Some(events)) => turns(pods, events),
        _ => panic!("turns PODS EVENTS, or turns list FILES"),
    }
}

fn manifest(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p{number}\nspec:\n  containers:\n  - name: c\n    image: x:1\n    \
         command: [/bin/serve, --port, \"80\"]\n    env:\n    - name: A\n      value: b\n    ports:\n    - containerPort: \
         80\n    readinessProbe:\n      httpGet:\n        path: /\n        port: 80\n"
    )
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    let all = (0..count)
        .flat_map(|number| parse(manifest(number).as_bytes(), "f", &format!("/f{number}"), "n").pods);
    all.map(Arc::new).collect()
}

fn turns(count: usize, events: usize) {
    let folder = scratch("turns");
    let desired = Desired { pods: pods(count), ..Desired::default() };
    let world = World::default();
    let mut machine = Machine {
        planner: Planner::new(desired, &world),
        world,
        roll: Roll::default(),
        ledger: Ledger::create(&folder).expect("a ledger"),
        now: Tick::seconds(1),
        pid: 1,
        down: false,
    };
    machine.settle();
    // It runs for long, so that a crash is forgiven and the next start is due at once.
    let uid = machine.world.pods.keys().nth(count / 2).expect("a pod").clone();
    for _ in 0..events {
        machine.now = machine.now + Duration::from_secs(1000);
        let run = machine.world.pods[&uid].containers["c"].run.as_ref().expect("a run").number;
        machine.learn(Fact::Exited { uid: uid.clone(), container: "c".into(), run, exit: Exit::default() });
        machine.settle();
        assert!(machine.world.pods[&uid].containers["c"].run.as_ref().is_some_and(|run| run.running()));
    }
    assert_eq!(machine.world.pods.len(), count);
    let _ = fs::remove_dir_all(folder);
}

impl Machine {
    fn learn(&mut self, fact: Fact) {
        std::hint::black_box(fact.line(&self.world));
        self.down = match &fact {
            Fact::Exited { .. } => true,
            Fact::Started { .. } => false,
            _ => self.down,
        };
        self.world.learn(fact.clone(), self.now);
        self.planner.learned(&fact, &self.world);
        self.roll.learned(&fact, &self.world);
        self.ledger.note(&fact, self.now, &self.world).expect("room for it");
    }

    /// Everything that is due is done at once.
    fn settle(&mut self) {
        loop {
            let action = match self.planner.next(&self.world, self.now) {
                Step::Act(action) => action,
                Step::Rest(Some(until)) if self.down => {
                    self.now = until;
                    continue;
                }
                Step::Rest(_) => return,
            };
            for fact in self.done(action) {
                self.learn(fact);
            }
        }
    }

    fn done(&mut self, action: Action) -> Vec<Fact> {
        match action {
            Action::Admit(pod) => vec![Fact::Admitted { pod }],
            Action::SetUp { uid } => vec![Fact::SetUp { uid, ip: None }],
            Action::Find { uid, container } => {
                vec![Fact::ImageFound { uid, container, id: "sha256:1".into(), pulled: None }]
            }
            Action::Start { uid, container, run } => {
                self.pid += 2;
                let (helper, pid) = (self.pid, self.pid + 1);
                let (owner, name) = (uid.clone(), container.clone());
                let starting =
                    Fact::Starting { uid: owner, container: name, run, helper, stdout: 5, stderr: 6 };
                vec![starting, Fact::Started { uid, container, run, pid }]
            }
            Action::Clean { uid, container, run } => vec![Fact::Cleaned { uid, container, run }],
            other => panic!("not expected: {other:?}"),
        }
    }
}

/// Each as the median of a few rounds, in processor time: what other work of the machine takes is not in it.
fn list(files: usize) {
    let folder = scratch("list");
    let texts: Vec<String> = (0..files).map(manifest).collect();
    for (number, text) in texts.iter().enumerate() {
        fs::write(folder.join(format!("p{number}.yaml")), text).expect("a manifest");
    }
    // Files of the newest tick of the file system's clock are read again: one that is newer than all others.
    std::thread::sleep(Duration::from_millis(50));
    fs::write(folder.join("last.yaml"), manifest(files)).expect("a manifest");
    let world = World::default();
    let (mut parsed, mut first, mut again, mut planned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let begun = spent();
        for (number, text) in texts.iter().enumerate() {
            let read = parse(text.as_bytes(), "f", &format!("/f{number}"), "n");
            assert_eq!(std::hint::black_box(read).pods.len(), 1);
        }
        parsed.push(spent() - begun);
        let mut dir = Dir::new(folder.clone(), "n".into());
        let begun = spent();
        drop(dir.list());
        first.push(spent() - begun);
        let begun = spent();
        let listing = dir.list();
        let projections = project::digests(&listing.pods, &listing.configs);
        again.push(spent() - begun);
        assert_eq!(listing.pods.len(), files + 1);
        let mut planner = Planner::new(Desired::default(), &world);
        let begun = spent();
        planner.want(Desired { pods: listing.pods, projections, ..Desired::default() });
        // With the first admission, all are decided.
        assert!(matches!(planner.next(&world, Tick::seconds(1)), Step::Act(Action::Admit(_))));
        planned.push(spent() - begun);
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (parsed, first, again, planned) = (median(parsed), median(first), median(again), median(planned));
    let beyond = first - parsed + planned;
    println!(
        "{files} manifests: parsing {parsed:.1} ms; the first listing and its plan beyond it {beyond:.1} ms, {:.3} of it",
        beyond / parsed
    );
    println!(
        "of that planned {planned:.1} ms; each later listing, nothing changed, {again:.1} ms, {:.3}",
        again / parsed
    );
    let _ = fs::remove_dir_all(folder);
}

/// This thread's processor time, in ms.
fn spent() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    Duration::from(time).as_secs_f64() * 1e3
}

fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("podinit-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a directory");
    folder
}
