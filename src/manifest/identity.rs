//! What the kubelet adds to a static pod: uid, node, annotations, and where it comes from a file a toleration.

use k8s_openapi::api::core::v1 as k8s;

use super::uid::{self, From};
use crate::pod::spec::Pod;

/// In the kubelet's order: the uid first, so that nothing added here changes it.
pub fn give(pod: &mut Pod, mut object: k8s::Pod, from: From<'_>, node: &str) -> Result<(), String> {
    let given = object.metadata.uid.take().filter(|uid| !uid.is_empty());
    pod.uid = match given {
        Some(uid) => uid,
        None => uid::uid(&object, node, from)?,
    };
    let metadata = &mut object.metadata;
    metadata.uid = Some(pod.uid.clone());
    metadata.name = Some(pod.name.clone());
    metadata.namespace = Some(pod.namespace.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.hash".into(), pod.uid.clone());
    annotations.insert("kubernetes.io/config.source".into(), from.source().into());
    let spec = object.spec.get_or_insert_default();
    spec.node_name = Some(node.into());
    match from {
        From::File(_) => spec.tolerations.get_or_insert_default().push(k8s::Toleration {
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            ..Default::default()
        }),
        From::Url(_) => {}
    }
    pod.object = object;
    Ok(())
}
