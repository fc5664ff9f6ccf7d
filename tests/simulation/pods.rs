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
    let port = rng.bool().then(|| port(8000 + rng.i32(0..2), pick(rng, &["", "", "10.0.0.1", "10.0.0.2"])));
    let mut containers = vec![container(rng, "c0")];
    if rng.u8(0..3) == 0 {
        containers.push(container(rng, "c1"));
    }
    let init = (0..[0, 0, 1, 2][rng.usize(0..4)]).map(|n| container(rng, ["i0", "i1"][n])).collect();
    let ports = containers.iter().map(|_| port.clone()).enumerate();
    let object = k8s::Pod {
        spec: Some(k8s::PodSpec {
            containers: ports
                .map(|(index, port)| k8s::Container {
                    ports: port.filter(|_| index == 0).map(|p| vec![p]),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Arc::new(Pod {
        uid: uid.into(),
        namespace: "default".into(),
        name: name.into(),
        origin: format!("{name}.yaml"),
        restart: policy[rng.usize(0..3)],
        grace: Duration::from_secs(pick(rng, &[0, 1, 2, 5, 30, 30, 600])),
        host_network,
        hostname: name.into(),
        init,
        containers,
        object,
        ..Pod::default()
    })
}

/// The same pod under another name (a rename) or uid (an edit).
pub fn changed(pod: &Pod, name: &str, uid: &str) -> Arc<Pod> {
    Arc::new(Pod { name: name.into(), uid: uid.into(), ..pod.clone() })
}

/// The same uid, another content: an edit of a manifest that gives its uid.
pub fn edited(pod: &Pod, generation: usize) -> Arc<Pod> {
    let mut pod = pod.clone();
    for container in &mut pod.containers {
        container.args = vec![format!("{generation}")];
    }
    Arc::new(pod)
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
            Fact::Projected { uid: uid.clone(), digest: 1 },
            Fact::ProjectFailed { uid: uid.clone(), digest: 1, why: why() },
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
        termination_path: "/dev/termination-log".into(),
        ..Container::default()
    }
}

fn port(number: i32, address: &str) -> k8s::ContainerPort {
    k8s::ContainerPort {
        container_port: number,
        host_port: Some(number),
        host_ip: (!address.is_empty()).then(|| address.into()),
        protocol: Some("TCP".into()),
        ..Default::default()
    }
}
