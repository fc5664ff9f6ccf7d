//! A pod for tests.

use std::sync::Arc;
use std::time::Duration;

use super::spec::{Container, Handler, Pod, Probe, RestartPolicy};

/// `default/web-board1`, uid `u1`, grace 30 s, with these containers.
pub(crate) fn pod(restart: RestartPolicy, init: &[&str], containers: &[&str]) -> Arc<Pod> {
    let all = |names: &[&str]| names.iter().map(|name| container(name)).collect();
    Arc::new(Pod {
        uid: "u1".into(),
        namespace: "default".into(),
        name: "web-board1".into(),
        origin: "web.yaml".into(),
        restart,
        grace: Duration::from_secs(30),
        host_network: false,
        hostname: "web-board1".into(),
        init: all(init),
        containers: all(containers),
        ..Pod::default()
    })
}

fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: format!("{name}:1"),
        termination_path: "/dev/termination-log".into(),
        ..Container::default()
    }
}

/// The same pod with a change to the container of this name.
pub(crate) fn with(pod: &Pod, name: &str, change: impl FnOnce(&mut Container)) -> Arc<Pod> {
    let mut pod = pod.clone();
    let mut all = pod.init.iter_mut().chain(&mut pod.containers);
    change(all.find(|container| container.name == name).unwrap());
    Arc::new(pod)
}

/// A probe of the defaults, with a grace of its own where one is given.
pub(crate) fn probe(grace: Option<u64>) -> Option<Probe> {
    Some(Probe {
        handler: Handler::Tcp { host: None, port: 80 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success: 1,
        failure: 3,
        grace: grace.map(Duration::from_secs),
    })
}
