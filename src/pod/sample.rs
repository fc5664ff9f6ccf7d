//! A pod for tests.

use std::sync::Arc;
use std::time::Duration;

use super::spec::{Container, Pod, RestartPolicy};

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
