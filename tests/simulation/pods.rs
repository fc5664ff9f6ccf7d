//! Random pods, and every fact that could be told of them.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use k8s_openapi::api::core::v1 as k8s;
use podinit::pod::facts::{Dismissal, Exit, Fact, StartError};
use podinit::pod::spec::{Container, PullPolicy, RestartPolicy};
use podinit::pod::{Pod, World};

pub fn random(rng: &mut Rng, name: &str, uid: &str) -> Arc<Pod> {
    let policy = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    let host_network = rng.u8(0..3) == 0;
    let port = rng.bool().then(|| port(rng));
    let mut containers = vec![container(rng, "c0")];
    if rng.u8(0..3) == 0 {
        containers.push(container(rng, "c1"));
    }
    let init = (0..[0, 0, 1, 2][rng.usize(0..4)]).map(|n| container(rng, ["i0", "i1"][n])).collect();
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
        init,
        containers,
        volumes: Vec::new(),
        object,
    })
}

/// The same pod under another name (a rename) or uid (an edit).
pub fn changed(pod: &Pod, name: &str, uid: &str) -> Arc<Pod> {
    Arc::new(Pod { name: name.into(), uid: uid.into(), ..pod.clone() })
}

/// The same uid, another content: an edit of a manifest that gives its uid.
pub fn edited(rng: &mut Rng, pod: &Pod, generation: usize) -> Arc<Pod> {
    let mut pod = pod.clone();
    let args = vec![format!("{generation}")];
    match rng.u8(0..4) {
        0 => pod.grace += Duration::from_secs(1),
        1 if !pod.init.is_empty() => pod.init[0].args = args,
        _ => pod.containers[0].args = args,
    }
    Arc::new(pod)
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
        Fact::Piped { id: "nobody".into(), log: "0.log".into(), fds: vec![6, 7] },
        Fact::Drained { id: "nobody".into() },
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
        let why = || "no luck".to_owned();
        facts.extend([
            Fact::Dismissed { uid: uid.clone(), why: Dismissal::Removed },
            Fact::SetUp { uid: uid.clone(), ip: None },
            Fact::SetUpFailed { uid: uid.clone(), why: why() },
            Fact::TornDown { uid: uid.clone() },
            Fact::TearDownFailed { uid: uid.clone(), why: why() },
        ]);
        facts.extend([
            Fact::ImageFound { uid: uid.clone(), container: container.clone(), id: "sha256:1".into() },
            Fact::ImageMissing { uid: uid.clone(), container: container.clone(), why: why() },
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
            ]);
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

fn container(rng: &mut Rng, name: &str) -> Container {
    Container {
        name: name.into(),
        image: pick(rng, &["a:1", "b:1"]).into(),
        pull: pick(rng, &[PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never]),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        mounts: Vec::new(),
        resources: Default::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
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
