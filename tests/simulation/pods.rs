//! Random pods, and every fact that could be told of them.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use k8s_openapi::api::core::v1 as k8s;
use podinit::clock::Tick;
use podinit::pod::facts::{Dismissal, Exit, Fact, HookKind, ProbeKind, StartError};
use podinit::pod::resources::{Grant, qos};
use podinit::pod::spec::{
    Container, Handler, Probe, PullPolicy, Resources, RestartPolicy, RestartRule, Volume, VolumeSource,
};
use podinit::pod::users::Ids;
use podinit::pod::{Pod, World};

use crate::room;

pub fn random(rng: &mut Rng, name: &str, uid: &str) -> Arc<Pod> {
    let policy = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    let host_network = rng.u8(0..3) == 0;
    let port = rng.bool().then(|| port(rng));
    let mut containers = vec![long(rng, "c0")];
    if rng.u8(0..3) == 0 {
        containers.push(long(rng, "c1"));
    }
    let init = (0..[0, 0, 1, 2, 3][rng.usize(0..5)]).map(|n| init(rng, ["i0", "i1", "i2"][n])).collect();
    let listens = rng.usize(0..containers.len());
    let ports = containers.iter().map(|_| port.clone()).enumerate();
    let object = k8s::Pod {
        spec: Some(k8s::PodSpec {
            containers: ports
                .map(|(index, port)| k8s::Container {
                    ports: port.filter(|_| index == listens).map(|p| vec![p]),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Arc::new(Pod {
        uid: uid.into(),
        namespace: pick(rng, &["default", "default", "default", "other"]).into(),
        name: name.into(),
        origin: format!("{name}.yaml"),
        restart: policy[rng.usize(0..3)],
        grace: Duration::from_secs(pick(rng, &[0, 1, 2, 5, 30, 30, 600])),
        host_network,
        hostname: name.into(),
        deadline: pick(rng, &[None, None, None, None, None, Some(5), Some(60), Some(2000)])
            .map(Duration::from_secs),
        priority: pick(rng, &[0, 0, 0, 2_000_000_000]),
        init,
        containers,
        // No two pods have all their images in common.
        volumes: vec![data(&format!("{name}-{uid}:1"))],
        object,
        ..Pod::default()
    })
}

/// A volume that an image is looked for with a container's own; the model leaves it to the shelf.
pub fn data(image: &str) -> Volume {
    let source = VolumeSource::Image { reference: image.to_owned(), pull: PullPolicy::Never };
    Volume { name: "data".into(), source }
}

/// The same pod under another name (a rename) or uid (an edit).
pub fn changed(pod: &Pod, name: &str, uid: &str) -> Arc<Pod> {
    Arc::new(Pod { name: name.into(), uid: uid.into(), ..pod.clone() })
}

/// The same uid, another content: an edit of a manifest that gives its uid.
pub fn edited(rng: &mut Rng, pod: &Pod, generation: usize) -> Arc<Pod> {
    let mut pod = pod.clone();
    let args = vec![format!("{generation}")];
    match rng.u8(0..8) {
        0..4 => resize(rng, &mut pod),
        4 => pod.grace += Duration::from_secs(1),
        5 if !pod.init.is_empty() => pod.init[0].args = args,
        _ => pod.containers[0].args = args,
    }
    Arc::new(pod)
}

/// Other resources for some of its containers, mostly such that it keeps its QoS class.
fn resize(rng: &mut Rng, pod: &mut Pod) {
    let is = pod.clone();
    for _ in 0..8 {
        for container in pod.init.iter_mut().chain(&mut pod.containers) {
            if rng.bool() {
                continue;
            }
            let Resources { storage_request, .. } = container.resources;
            container.resources = Resources { storage_request, ..room::resources(rng) };
        }
        if *pod != is && qos(pod) == qos(&is) {
            return;
        }
    }
}

/// The same pod in a file of another name.
pub fn moved(pod: &Pod, generation: usize) -> Arc<Pod> {
    Arc::new(Pod { origin: format!("{generation}.yaml"), ..pod.clone() })
}

pub fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())]
}

/// Every fact about every container of the world, fitting or not.
pub fn every_fact(world: &World) -> Vec<Fact> {
    let mut facts = vec![
        Fact::Listed { problems: Vec::new() },
        Fact::Helper { name: "logger".into(), pid: Some(7) },
        Fact::Helper { name: "net".into(), pid: None },
        Fact::Collected { images: vec!["x:1".into()], files: 1, bytes: 4096 },
        Fact::CollectFailed { reason: "FreeDiskSpaceFailed".into(), message: "too little".into() },
        Fact::Piped { id: "nobody".into(), log: "0.log".into(), fds: vec![6, 7] },
        Fact::Drained { id: "nobody".into() },
        Fact::Verified { begun: Tick::seconds(1), images: vec!["a:1".into()], all: true, damaged: vec![] },
    ];
    let strange = [("nobody".to_owned(), "c0".to_owned())];
    let known = world.pods.iter().flat_map(|(uid, pod)| {
        pod.spec
            .all()
            .map(|c| c.name.clone())
            .chain(["none".to_owned()])
            .map(|c| (uid.clone(), c))
            .collect::<Vec<_>>()
    });
    for (uid, container) in known.chain(strange) {
        let number = world.pods.get(&uid).and_then(|pod| pod.run(&container)).map_or(0, |run| run.number);
        facts.extend(world.pods.get(&uid).map(|pod| Fact::Admitted { pod: pod.spec.clone() }));
        facts.extend(world.rejected.values().flat_map(|told| {
            let (pod, message) = (told.pod.clone(), told.message.clone());
            let uid = pod.uid.clone();
            [Fact::Rejected { pod, reason: "OutOfcpu".into(), message }, Fact::Withdrawn { uid }]
        }));
        let why = || "no luck".to_owned();
        facts.extend([
            Fact::Dismissed { uid: uid.clone(), why: Dismissal::Removed },
            Fact::Allotted { uid: uid.clone(), ids: Ids { first: 65_536, count: 65_536 } },
            Fact::SetUp { uid: uid.clone(), ip: None },
            Fact::SetUpFailed { uid: uid.clone(), why: why() },
            Fact::Projected { uid: uid.clone(), digest: 1 },
            Fact::ProjectFailed { uid: uid.clone(), digest: 1, why: why() },
            Fact::TornDown { uid: uid.clone() },
            Fact::Expired { uid: uid.clone() },
            Fact::Withdrawn { uid: uid.clone() },
            Fact::TearDownFailed { uid: uid.clone(), why: why() },
        ]);
        let of = Some((container.clone(), number));
        for of in [None, of] {
            let grant = Grant { cpu_request: 7, cpu_limit: Some(8), memory_limit: None };
            facts.extend([
                Fact::Resized { uid: uid.clone(), of: of.clone(), grant },
                Fact::ResizeFailed { uid: uid.clone(), of, grant, why: why() },
            ]);
        }
        if let Some(pod) = world.pods.get(&uid).map(|pod| pod.spec.clone()) {
            let mut other = pod.as_ref().clone();
            other.containers[0].resources.cpu_request = Some(9);
            let (reason, message) = ("Deferred".to_owned(), why());
            facts.extend([
                Fact::Allocated { pod: Arc::new(other) },
                Fact::ResizePending { pod, reason, message },
            ]);
        }
        facts.push(Fact::Logged { uid: uid.clone(), container: container.clone(), runs: 2 });
        facts.extend([
            Fact::ImageFound {
                uid: uid.clone(),
                container: container.clone(),
                id: "sha256:1".into(),
                pulled: None,
            },
            Fact::ImagePulling { uid: uid.clone(), container: container.clone(), lacking: vec![] },
            Fact::ImageMissing { uid: uid.clone(), container: container.clone(), why: why() },
            Fact::ImageDamaged { uid: uid.clone(), container: container.clone(), what: why(), layer: true },
            Fact::ImageDamaged { uid: uid.clone(), container: container.clone(), what: why(), layer: false },
        ]);
        for run in [number.saturating_sub(1), number, number + 1, u32::MAX] {
            let (uid, container) = (|| uid.clone(), || container.clone());
            facts.extend([
                Fact::Starting { uid: uid(), container: container(), run, helper: 5, stdout: 6, stderr: 7 },
                Fact::Started { uid: uid(), container: container(), run, pid: 9 },
                Fact::Signalled { uid: uid(), container: container(), run, kill: false },
                Fact::Signalled { uid: uid(), container: container(), run, kill: true },
                Fact::Exited {
                    uid: uid(),
                    container: container(),
                    run,
                    exit: Exit { code: 1, ..Exit::default() },
                },
                Fact::Cleaned { uid: uid(), container: container(), run },
                Fact::RestartAll { uid: uid(), container: container(), run },
            ]);
            for (probe, ok) in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness]
                .into_iter()
                .flat_map(|kind| [(kind, false), (kind, true)])
            {
                facts.extend([
                    Fact::Probed { uid: uid(), container: container(), run, probe, ok, why: why() },
                    Fact::ProbeFailed {
                        uid: uid(),
                        container: container(),
                        run,
                        probe,
                        error: ok,
                        why: why(),
                    },
                ]);
            }
            for hook in [HookKind::PostStart, HookKind::PreStop] {
                let hooked = |failed| Fact::Hooked { uid: uid(), container: container(), run, hook, failed };
                facts.push(Fact::Hooking { uid: uid(), container: container(), run, hook, helper: 4 });
                facts.extend([hooked(None), hooked(Some(why()))]);
            }
            for (reason, ours) in
                [("StartError", true), ("StartError", false), ("CreateContainerError", false)]
            {
                let why = StartError { reason: reason.into(), message: "no luck".into(), ours };
                facts.push(Fact::StartFailed { uid: uid(), container: container(), run, why });
            }
        }
    }
    facts
}

/// One that is to run on: with hooks and probes.
fn long(rng: &mut Rng, name: &str) -> Container {
    let hook = |rng: &mut Rng| (rng.u8(0..4) == 0).then(|| Handler::Exec(vec!["/bin/hook".into()]));
    let (post_start, pre_stop) = (hook(rng), hook(rng));
    let (startup, liveness, readiness) = (probe(rng), probe(rng), probe(rng));
    Container { post_start, pre_stop, startup, liveness, readiness, ..container(rng, name) }
}

fn init(rng: &mut Rng, name: &str) -> Container {
    if rng.bool() {
        return Container { sidecar: true, restart: None, ..long(rng, name) };
    }
    // A rule for success would run it for ever.
    let mut plain = container(rng, name);
    plain.rules.retain(|rule| rule.codes.contains(&0) == rule.not_in);
    plain
}

fn probe(rng: &mut Rng) -> Option<Probe> {
    (rng.u8(0..4) == 0).then(|| Probe {
        handler: Handler::Tcp { host: None, port: 80 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success: 1,
        failure: 3,
        grace: pick(rng, &[None, None, Some(0), Some(1), Some(20)]).map(Duration::from_secs),
    })
}

fn rules(rng: &mut Rng) -> Vec<RestartRule> {
    let count = pick(rng, &[0, 0, 0, 1, 2]);
    let rule = |rng: &mut Rng| RestartRule {
        not_in: rng.u8(0..4) == 0,
        codes: pick(rng, &[&[0][..], &[1], &[137], &[0, 1], &[1, 137, 143]]).to_vec(),
        all: rng.bool(),
    };
    (0..count).map(|_| rule(rng)).collect()
}

fn container(rng: &mut Rng, name: &str) -> Container {
    let own = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    Container {
        restart: (rng.u8(0..5) == 0).then(|| pick(rng, &own)),
        rules: rules(rng),
        name: name.into(),
        image: pick(rng, &["a:1", "b:1"]).into(),
        pull: pick(rng, &[PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never]),
        termination_path: "/dev/termination-log".into(),
        resources: room::resources(rng),
        ..Container::default()
    }
}

fn port(rng: &mut Rng) -> k8s::ContainerPort {
    let number = 8000 + rng.i32(0..2);
    let address = pick(rng, &["", "", "0.0.0.0", "::", "10.0.0.1", "10.0.0.2"]);
    k8s::ContainerPort {
        container_port: number,
        host_port: Some(number),
        host_ip: (!address.is_empty()).then(|| address.into()),
        protocol: pick(rng, &[None, Some("TCP"), Some("UDP")]).map(Into::into),
        ..Default::default()
    }
}
