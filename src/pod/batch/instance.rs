//! A Job's pod: the template's by its own name, with what the Job controller adds to it.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::spec::{Job, Owner};
use crate::pod::spec::{EnvValue, EnvVar, Pod};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The pod of this number: `<job>-xxxxx`, and `<job>-<index>-xxxxx` for a completion index, as Kubernetes names it.
/// `failures`: how often the index failed before, where that is limited.
pub fn instance(job: &Job, index: Option<u32>, number: u32, failures: Option<u32>) -> Arc<Pod> {
    let template = &*job.pod;
    let stem = match index {
        Some(index) => format!("{}-{index}", job.name),
        None => job.name.clone(),
    };
    // A long name is cut before its index, not in it.
    let end = stem.strip_prefix(job.name.as_str()).unwrap_or_default();
    let cut: String = job.name.chars().take(57 - end.len()).collect();
    let name: String = format!("{cut}{end}-").chars().chain(suffix(&job.uid, number)).collect();
    let uid = format!("{}-{number}", job.uid);
    let mut pod = Pod {
        uid: uid.clone(),
        name: name.clone(),
        owner: Some(Owner { job: job.uid.clone(), index, number }),
        ..template.clone()
    };
    // Its own name is seen inside, but for an index the one by which its peers count on it, unless given.
    let given = template.object.spec.as_ref().and_then(|spec| spec.hostname.clone());
    if !template.host_network && template.names.hostname_override.is_none() {
        let own = if index.is_some() { stem } else { name.clone() };
        let own: String = given.unwrap_or(own).chars().take(63).collect();
        own.trim_end_matches(['-', '.']).clone_into(&mut pod.hostname);
    }
    let metadata = &mut pod.object.metadata;
    (metadata.name, metadata.uid) = (Some(name), Some(uid.clone()));
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: job.name.clone(),
        uid: job.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    let labels = metadata.labels.get_or_insert_default();
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.insert(format!("{prefix}job-name"), job.name.clone());
        labels.insert(format!("{prefix}controller-uid"), job.uid.clone());
    }
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.hash".into(), uid);
    if let Some(index) = index {
        labels.insert(INDEX.into(), index.to_string());
        annotations.insert(INDEX.into(), index.to_string());
        if let Some(failures) = failures {
            annotations.insert("batch.kubernetes.io/job-index-failure-count".into(), failures.to_string());
        }
        variable(&mut pod, index);
    }
    Arc::new(pod)
}

/// Every container is told its index, unless it has such a variable already.
fn variable(pod: &mut Pod, index: u32) {
    for container in pod.init.iter_mut().chain(&mut pod.containers) {
        if !container.env.iter().any(|variable| variable.name == VARIABLE) {
            let value = EnvValue::Literal(index.to_string());
            container.env.push(EnvVar { name: VARIABLE.into(), value });
        }
    }
    let Some(spec) = &mut pod.object.spec else { return };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.name == VARIABLE) {
            let path = format!("metadata.annotations['{INDEX}']");
            let field = k8s::ObjectFieldSelector { api_version: Some("v1".into()), field_path: path };
            let source = k8s::EnvVarSource { field_ref: Some(field), ..Default::default() };
            let value_from = Some(source);
            env.push(k8s::EnvVar { name: VARIABLE.into(), value_from, ..Default::default() });
        }
    }
}

/// Kubernetes' letters for names: none makes a word, and none is taken for another.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five of them. From the Job and the number, so that what was planned and not done yet keeps its name; no two numbers
/// of a Job share one, because the step has no factor in common with 27.
fn suffix(job: &str, number: u32) -> impl Iterator<Item = char> {
    const ALL: u64 = 27u64.pow(5);
    const STEP: u64 = 5_000_011;
    let start = job.bytes().fold(0u64, |sum, byte| (sum * 131 + u64::from(byte)) % ALL);
    let mut rest = (start + u64::from(number) % ALL * STEP) % ALL;
    (0..5).map(move |_| {
        let letter = LETTERS.get((rest % 27) as usize).copied().unwrap_or(b'b');
        rest /= 27;
        char::from(letter)
    })
}
