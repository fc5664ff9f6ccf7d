//! What a container's first process is started with: the pod's words and variables over the image's.

use oci_spec::image::ImageConfiguration;

use super::{Environment, expand, find, set};
use crate::pod::spec::{Container, Pod};

/// What a process without a PATH of its own gets.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container's first process is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, never empty.
    pub args: Vec<String>,
    /// No name twice: the image's in its order, then the pod's in theirs, then what was missing.
    pub env: Vec<(String, String)>,
    /// Absolute.
    pub cwd: String,
}

/// The container's command, environment and working directory, as the kubelet and containerd make them of
/// PodSpec (command, args, workingDir), `own` (what `environment` made of env and envFrom) and OCI image configuration
/// (Entrypoint, Cmd, Env, WorkingDir). HOME is not set here: it depends on the image's /etc/passwd.
pub fn command(
    pod: &Pod,
    container: &Container,
    image: &ImageConfiguration,
    own: Environment,
) -> Result<Command, String> {
    // As in the kubelet, references see the pod's variables only, never the image's.
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| expand(word, |name| find(&own, name))).collect()
    };
    let config = image.config().as_ref();
    let of_image = |words: Option<&Option<Vec<String>>>| words.cloned().flatten().unwrap_or_default();

    let mut args = expanded(&container.command);
    let mut rest = expanded(&container.args);
    if args.is_empty() {
        if rest.is_empty() {
            rest = of_image(config.map(|config| config.cmd()));
        }
        args = of_image(config.map(|config| config.entrypoint()));
        // Docker's way to reset an inherited entrypoint.
        if args.len() == 1 && args.first().is_some_and(String::is_empty) {
            args.clear();
        }
    }
    args.append(&mut rest);
    if args.is_empty() {
        return Err("no command specified".into());
    }

    let mut env = Vec::new();
    for line in of_image(config.map(|config| config.env())) {
        let (name, value) = line.split_once('=').unwrap_or((line.as_str(), ""));
        set(&mut env, name, value.to_owned());
    }
    for (name, value) in own {
        set(&mut env, &name, value);
    }
    let mut default = |name: &str, value: &str| {
        if find(&env, name).is_none() {
            env.push((name.to_owned(), value.to_owned()));
        }
    };
    default("PATH", PATH);
    default("HOSTNAME", &pod.hostname);
    if container.tty {
        default("TERM", "xterm");
    }

    let of_image = config.and_then(|config| config.working_dir().as_deref()).unwrap_or_default();
    let cwd = container.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(of_image);
    let cwd = if cwd.starts_with('/') { cwd.to_owned() } else { format!("/{cwd}") };
    Ok(Command { args, env, cwd })
}
