//! Random Jobs, CronJobs and pods, and how what is wanted changes.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use podinit::pod::Pod;
use podinit::pod::batch::schedule::Schedule;
use podinit::pod::batch::spec::{Concurrency, Cron, Job};
use podinit::pod::resources::{Amounts, Node};
use podinit::pod::spec::{Container, Desired, RestartPolicy, Spaces};

use crate::jobs::{Story, failure_policy};
use crate::pods::{data, pick};

/// One with room for everything, or for a few pods; the other pods alone never fill it.
pub fn node(rng: &mut Rng) -> Node {
    let allocatable =
        Amounts { cpu_milli: u64::MAX, memory: u64::MAX, storage: u64::MAX, ..Amounts::default() };
    Node { allocatable, pods: pick(rng, &[u64::MAX, 5]), ..Node::default() }
}

/// Something else is wanted.
pub fn change(story: &mut Story) {
    story.generation += 1;
    let (generation, rng) = (story.generation, &mut story.rng);
    let desired = &mut story.desired;
    match rng.u8(0..20) {
        0..5 => {
            let name = pick(rng, &["a", "b"]);
            let job = job(rng, name, generation);
            desired.jobs.retain(|other| other.name != job.name);
            desired.jobs.push(Arc::new(job));
        }
        5..9 => edit(rng, desired),
        9..11 => drop(any(rng, &mut desired.jobs)),
        11..14 => {
            let cron = cron(rng, generation);
            desired.crons.retain(|other| other.name != cron.name);
            desired.crons.push(Arc::new(cron));
        }
        14..16 => {
            if let Some(cron) = any(rng, &mut desired.crons) {
                desired.crons.push(Arc::new(Cron { suspend: !cron.suspend, ..(*cron).clone() }));
            }
        }
        16 => drop(any(rng, &mut desired.crons)),
        17..19 if desired.pods.len() < 2 => {
            let name = format!("p{generation}");
            let restart = RestartPolicy::Always;
            let pod = Pod { uid: name.clone(), restart, ..template(rng, &name) };
            desired.pods.push(Arc::new(pod));
        }
        _ => drop(any(rng, &mut desired.pods)),
    }
}

/// What may be changed while it runs.
fn edit(rng: &mut Rng, desired: &mut Desired) {
    let Some(job) = any(rng, &mut desired.jobs) else { return };
    let mut job = (*job).clone();
    match rng.u8(0..3) {
        0 => job.parallelism = pick(rng, &[0, 1, 2, 3]),
        1 => job.suspend = !job.suspend,
        _ => job.ttl = pick(rng, &[None, Some(0), Some(100)]).map(Duration::from_secs),
    }
    desired.jobs.push(Arc::new(job));
}

/// Such that all comes to rest.
pub fn calm(desired: &mut Desired) {
    for cron in &mut desired.crons {
        *cron = Arc::new(Cron { suspend: true, ..(**cron).clone() });
    }
}

/// Taken out.
fn any<T>(rng: &mut Rng, of: &mut Vec<T>) -> Option<T> {
    (!of.is_empty()).then(|| of.remove(rng.usize(0..of.len())))
}

fn template(rng: &mut Rng, name: &str) -> Pod {
    Pod {
        uid: "template".into(),
        namespace: "default".into(),
        name: name.into(),
        origin: format!("{name}.yaml"),
        restart: pick(rng, &[RestartPolicy::Never, RestartPolicy::Never, RestartPolicy::OnFailure]),
        grace: Duration::from_secs(pick(rng, &[0, 1, 30])),
        spaces: Spaces { own_users: rng.bool(), ..Spaces::default() },
        containers: vec![Container { name: "c".into(), image: "a:1".into(), ..Container::default() }],
        volumes: vec![data(&format!("{name}:1"))],
        ..Pod::default()
    }
}

fn job(rng: &mut Rng, name: &str, generation: u32) -> Job {
    let completions = pick(rng, &[None, Some(1), Some(1), Some(2), Some(4)]);
    let indexed = completions.is_some() && rng.bool();
    let limit_per_index = if indexed { pick(rng, &[None, Some(0), Some(1)]) } else { None };
    let pod = template(rng, name);
    let never = pod.restart == RestartPolicy::Never;
    Job {
        uid: format!("{name}{generation}"),
        namespace: "default".into(),
        name: name.into(),
        origin: pod.origin.clone(),
        parallelism: pick(rng, &[0, 1, 1, 2, 3]),
        completions,
        backoff_limit: if limit_per_index.is_some() { i32::MAX as u32 } else { pick(rng, &[0, 1, 2, 6]) },
        deadline: pick(rng, &[None, None, None, Some(30), Some(900)]).map(Duration::from_secs),
        ttl: pick(rng, &[None, None, Some(0), Some(100)]).map(Duration::from_secs),
        suspend: rng.u8(0..6) == 0,
        indexed,
        limit_per_index,
        max_failed_indexes: limit_per_index.and_then(|_| pick(rng, &[None, Some(0), Some(1)])),
        rules: if never { failure_policy(rng, limit_per_index.is_some()) } else { Vec::new() },
        of: None,
        pod: Arc::new(pod),
    }
}

/// The policy goes by the name: what an edit of it is to the Jobs that are there is another story.
fn cron(rng: &mut Rng, generation: u32) -> Cron {
    let policies =
        [("allow", Concurrency::Allow), ("forbid", Concurrency::Forbid), ("replace", Concurrency::Replace)];
    let (name, concurrency) = pick(rng, &policies);
    let text = pick(rng, &["* * * * *", "*/5 * * * *", "@every 40s", "@hourly"]);
    let job = Job { suspend: false, ..job(rng, name, generation) };
    Cron {
        namespace: "default".into(),
        name: name.into(),
        schedule: Schedule::parse(text).unwrap(),
        text: text.into(),
        concurrency,
        suspend: rng.u8(0..6) == 0,
        late: pick(rng, &[None, None, Some(5), Some(100)]),
        keep_succeeded: pick(rng, &[0, 1, 3]),
        keep_failed: pick(rng, &[0, 1]),
        job: Arc::new(Job { parallelism: job.parallelism.max(1), ..job }),
        ..Cron::default()
    }
}
