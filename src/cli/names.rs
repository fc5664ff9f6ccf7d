//! Which pod and which container the operator means.

use k8s_openapi::api::core::v1 as k8s;

use super::ask::{ask, unexpected};
use super::{Failure, World};
use crate::operator::request::{Answer, Request};

/// All pods.
pub fn pods(world: &World<'_>) -> Result<Vec<k8s::Pod>, Failure> {
    match ask(&world.socket, &Request::Pods {})? {
        Answer::Pods { items } => Ok(items),
        other => Err(unexpected(&other)),
    }
}

/// The pods of these names (all, where there are none) in a namespace, or in all of them.
/// A name may lack the node's suffix, as it does in the manifest. Those not found are an error each.
pub fn choose<'a>(
    pods: &'a [k8s::Pod],
    names: &[String],
    namespace: Option<&str>,
) -> (Vec<&'a k8s::Pod>, Vec<Failure>) {
    let there: Vec<&k8s::Pod> = pods
        .iter()
        .filter(|pod| namespace.is_none_or(|wanted| pod.metadata.namespace.as_deref() == Some(wanted)))
        .collect();
    if names.is_empty() {
        return (there, Vec::new());
    }
    let (mut chosen, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        let exact: Vec<_> =
            there.iter().filter(|pod| pod.metadata.name.as_ref() == Some(name)).copied().collect();
        let found = if exact.is_empty() {
            there.iter().filter(|pod| short(pod, name)).copied().collect()
        } else {
            exact
        };
        if found.is_empty() {
            missing.push(not_found(name, pods, namespace));
        }
        chosen.extend(found);
    }
    (chosen, missing)
}

/// The one pod of this name.
pub fn one<'a>(pods: &'a [k8s::Pod], name: &str, namespace: &str) -> Result<&'a k8s::Pod, Failure> {
    let (found, missing) = choose(pods, &[name.to_owned()], Some(namespace));
    match missing.into_iter().next() {
        Some(failure) => Err(failure),
        // One that is going and one that comes may share a name; the one that stays is meant.
        None => found
            .into_iter()
            .min_by_key(|pod| pod.metadata.deletion_timestamp.is_some())
            .ok_or_else(|| not_found(name, pods, Some(namespace))),
    }
}

/// Whether `name` is the pod's name without its node's.
fn short(pod: &k8s::Pod, name: &str) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let full = pod.metadata.name.as_deref().unwrap_or_default();
    full.strip_suffix(node).and_then(|rest| rest.strip_suffix('-')) == Some(name) && !node.is_empty()
}

fn not_found(name: &str, pods: &[k8s::Pod], namespace: Option<&str>) -> Failure {
    let elsewhere = pods.iter().find(|pod| {
        pod.metadata.namespace.as_deref() != namespace
            && (pod.metadata.name.as_deref() == Some(name) || short(pod, name))
    });
    let hint = match elsewhere.and_then(|pod| pod.metadata.namespace.as_deref()) {
        Some(other) if namespace.is_some() => format!(" (there is one in namespace {other}: -n {other})"),
        Some(_) | None => String::new(),
    };
    Failure { text: format!("Error from server (NotFound): pods \"{name}\" not found{hint}"), code: 1 }
}

/// The container meant: the named one, else the first, which is told on stderr where there are several.
pub fn container(pod: &k8s::Pod, wanted: Option<&str>, world: &mut World<'_>) -> Result<String, Failure> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let none = k8s::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let all: Vec<String> = spec
        .containers
        .iter()
        .map(|one| one.name.clone())
        .chain(init.iter().map(|one| format!("{} (init)", one.name)))
        .collect();
    if let Some(wanted) = wanted {
        let there = spec.containers.iter().chain(init).any(|one| one.name == wanted);
        return if there {
            Ok(wanted.to_owned())
        } else {
            Err(Failure::plain(format!(
                "container {wanted} is not valid for pod {name} out of: {}",
                all.join(", ")
            )))
        };
    }
    let first = spec.containers.first().map(|one| one.name.clone());
    let first = first.ok_or_else(|| Failure::plain(format!("pod {name} has no container")))?;
    if all.len() > 1 {
        writeln!(world.err, "Defaulted container \"{first}\" out of: {}", all.join(", "))?;
    }
    Ok(first)
}
