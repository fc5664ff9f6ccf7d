//! The checks of one container: image, commands, messages, and whatever has a file of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;

use super::{choose, env, lifecycle, mounts, ports, resources, security};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{Container, PullPolicy, RestartPolicy};
use crate::spelling::nearest;

pub const PULL: &[(&str, PullPolicy)] = &[
    ("Always", PullPolicy::Always),
    ("IfNotPresent", PullPolicy::IfNotPresent),
    ("Never", PullPolicy::Never),
];

/// What a container's checks need to know of its pod.
pub struct Around<'p> {
    pub containers: HashSet<&'p str>,
    pub volumes: HashMap<&'p str, &'p k8s::Volume>,
    pub annotations: &'p BTreeMap<String, String>,
    pub security: &'p k8s::PodSecurityContext,
    pub restart: RestartPolicy,
    pub grace: Duration,
    pub host_network: bool,
    /// hostUsers: false.
    pub own_users: bool,
}

impl Around<'_> {
    /// Why there is no such volume, with what would do.
    pub fn no_volume(&self, name: &str) -> String {
        let known: Vec<&str> = self.volumes.keys().copied().collect();
        let cure = match nearest(name, &known) {
            Some(near) => format!("did you mean {near}?"),
            None => "add it to spec.volumes".into(),
        };
        format!("no volume is named {}: {cure}", quote(name))
    }
}

/// One container, defaulted before.
pub fn check(
    report: &mut Report<'_>,
    given: &k8s::Container,
    init: bool,
    around: &Around<'_>,
    path: &Path,
) -> Container {
    image(report, given.image.as_deref().unwrap_or_default(), "a container", &path.key("image"));
    let pull = choose(report, &given.image_pull_policy, PULL, &path.key("imagePullPolicy"));
    let messages = [("File", false), ("FallbackToLogsOnError", true)];
    let field = path.key("terminationMessagePolicy");
    let fallback = choose(report, &given.termination_message_policy, &messages, &field);
    let working_dir = given.working_dir.clone().filter(|dir| !dir.is_empty());
    if let Some(dir) = &working_dir
        && !dir.starts_with('/')
    {
        report.refuse(
            &path.key("workingDir"),
            format!("{} is not an absolute path: begin it with /", quote(dir)),
        );
    }
    ports::check(report, given, around.host_network, path);
    let (resources, huge_pages) = resources::container(report, given, around.restart, path);
    let mut container = Container {
        name: given.name.clone(),
        security: security::container(report, &given.name, given.security_context.as_ref(), around, path),
        env_from: env::sources(report, given, path),
        image: given.image.clone().unwrap_or_default(),
        pull: pull.unwrap_or(PullPolicy::IfNotPresent),
        command: given.command.clone().unwrap_or_default(),
        args: given.args.clone().unwrap_or_default(),
        working_dir,
        env: env::all(report, given, around, path),
        mounts: mounts::check(report, given, around, path),
        resources,
        huge_pages,
        tty: given.tty.unwrap_or_default(),
        termination_path: given.termination_message_path.clone().unwrap_or_default(),
        fallback_to_logs: fallback.unwrap_or_default(),
        ..Container::default()
    };
    lifecycle::check(report, given, init, around, path, &mut container);
    container
}

/// An image's reference; `what` needs it.
pub fn image(report: &mut Report<'_>, image: &str, what: &str, path: &Path) {
    if image.is_empty() {
        report.refuse(path, format!("{what} needs an image"));
    } else if image.contains(char::is_whitespace) {
        report.refuse(path, format!("{} holds a blank: remove it", quote(image)));
    }
}
