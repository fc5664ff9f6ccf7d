//! A container's own variables: env and envFrom, with what they refer to.

mod command;
mod expand;
mod field;
mod resource;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::envfile;
use super::resources::Amounts;
use super::spec::{Config, Container, EnvValue, Pod};

pub use command::{Command, command};
pub use expand::expand;
pub(super) use field::field;
pub(super) use resource::resource;

/// The addresses that `status.hostIP`, `.hostIPs`, `.podIP` and `.podIPs` tell; the first is the primary one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
}

/// What a pod's variables are read from.
pub struct Sources<'a> {
    pub addresses: &'a Addresses,
    pub allocatable: &'a Amounts,
    /// Of all namespaces.
    pub configs: &'a [Arc<Config>],
    /// The content of a file in one of the pod's volumes, by the volume's name and the path in it; None: not there.
    pub file: &'a dyn Fn(&str, &str) -> Result<Option<Vec<u8>>, String>,
}

/// Names and values in their order, no name twice.
pub type Environment = Vec<(String, String)>;

/// The pod's own variables: envFrom's, then env's in order of declaration; of a name given twice the last value counts.
/// An error is the message of a CreateContainerConfigError.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Environment, String> {
    let &Sources { addresses, allocatable, .. } = sources;
    let mut env = Vec::new();
    for from in &container.env_from {
        for (key, value) in
            from.config.find(&pod.namespace, sources.configs)?.iter().flat_map(|config| &config.data)
        {
            let name = format!("{}{key}", from.prefix);
            // The kubelet skips them too (its event InvalidEnvironmentVariableNames): a key may be a file's name only.
            if variable(&name) {
                set(&mut env, &name, text(value));
            }
        }
    }
    for var in &container.env {
        let value = match &var.value {
            EnvValue::Literal(text) => expand(text, |name| find(&env, name)),
            EnvValue::Config { config: wanted, key } => {
                match wanted.find(&pod.namespace, sources.configs)?.map(|config| config.data.get(key)) {
                    Some(Some(value)) => text(value),
                    None => continue,
                    Some(None) if wanted.optional => continue,
                    Some(None) => {
                        let kind = if wanted.secret { "Secret" } else { "ConfigMap" };
                        let (namespace, name) = (&pod.namespace, &wanted.name);
                        return Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"));
                    }
                }
            }
            EnvValue::File { volume, path, key, optional } => {
                match of_file(sources, (volume, path), key)
                    .map_err(|why| format!("env {}: {why}", var.name))?
                {
                    Some(value) => value,
                    None if *optional => continue,
                    None => {
                        let why = format!("key {key:?} not found in {path:?} of volume {volume:?}");
                        return Err(format!("env {}: {why}", var.name));
                    }
                }
            }
            EnvValue::Field(path) => field(pod, path, addresses)?,
            EnvValue::Resource(wanted) => {
                resource(pod, wanted, allocatable).map_err(|why| format!("env {}: {why}", var.name))?
            }
        };
        set(&mut env, &var.name, value);
    }
    Ok(env)
}

/// The value of a fileKeyRef; None: there is no such file, or no such key in it.
fn of_file(sources: &Sources, (volume, path): (&str, &str), key: &str) -> Result<Option<String>, String> {
    let Some(content) = (sources.file)(volume, path)? else { return Ok(None) };
    let content =
        String::from_utf8(content).map_err(|_| format!("{path:?} of volume {volume:?} is not UTF-8"))?;
    envfile::value(&content, key).map_err(|why| format!("{path:?} of volume {volume:?}: {why}"))
}

/// Whether it can be a variable's name (Kubernetes' relaxed rule).
pub fn variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// A value of a ConfigMap or Secret as a variable: what is not UTF-8 cannot be told, and NUL would end it.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace('\0', "")
}

fn find(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}
