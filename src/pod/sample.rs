//! A pod for tests.

use std::sync::Arc;
use std::time::Duration;

use super::spec::{Container, Pod, PullPolicy, Resources, RestartPolicy};

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
        volumes: Vec::new(),
        object: Default::default(),
    })
}

fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: format!("{name}:1"),
        pull: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        mounts: Vec::new(),
        resources: Resources::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
    }
}
