//! Which of Kubernetes' fields podinit supports, and what it says of the others: none is dropped in silence.
//!
//! Refused is what would run otherwise than written, or less safely; warned of is what merely has no effect here.
//! A field that Kubernetes knows and this table does not is refused.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::report::Report;
use super::tree::{Node, Path, Value};

/// What is done about a field that is given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Support {
    /// It is supported; the fields below are looked up too.
    Yes,
    /// It is supported with all that is below.
    Whole,
    /// It has no effect, for this reason.
    Warn(&'static str),
    /// The document is refused, with this advice.
    Refuse(&'static str),
}

use Support::{Refuse, Warn, Whole, Yes};

struct Row {
    /// `[]` is any item of a list, `*` any key of a map. `initContainers` are looked up as `containers`
    /// too, and every probe as `livenessProbe`.
    path: &'static str,
    support: Support,
    /// Values that mean no more than leaving the field out, `{}` and `[]` for an empty one.
    unless: &'static [&'static str],
}

const fn row(path: &'static str, support: Support, unless: &'static [&'static str]) -> Row {
    Row { path, support, unless }
}

const SERVER: &str = "is set by an API server and has no effect in a manifest";
const SCHEDULER: &str = "concerns a scheduler and has no effect on a static pod";
const NOT_YET: &str = "is not supported yet: remove it";
const REFERENCE: &str = "refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): remove it";
const VOLUME: &str = "is a kind of volume that is not supported yet: emptyDir, hostPath, configMap, secret, downwardAPI, projected and image are";
const VOLUME_REFERENCE: &str = "refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): use hostPath";
const SERVER_FILE: &str = "comes from an API server, which a static pod has not (PreventStaticPodAPIReferences): use a Secret of the manifest directory";
const PROTOCOL: &str = "is not supported yet: HTTP/1.1 is";
const SECURITY: &str = "is not supported yet, and running without it would be less safe or differ: remove it only if that is acceptable";
const MORE_RIGHTS: &str = "is not supported yet, and the container would lack what it asks for: remove it";

const TABLE: &[Row] = &[
    row("apiVersion", Yes, &[]),
    row("kind", Yes, &[]),
    row("metadata", Yes, &[]),
    row("spec", Yes, &[]),
    row("status", Warn("is what podinit tells itself and has no effect in a manifest"), &["{}"]),
    // metadata
    row("metadata.name", Yes, &[]),
    row("metadata.namespace", Yes, &[]),
    row("metadata.uid", Yes, &[]),
    row("metadata.labels", Whole, &[]),
    row("metadata.annotations", Whole, &[]),
    row("metadata.generateName", Warn("has no effect on a static pod: give a name"), &[""]),
    row("metadata.creationTimestamp", Warn(SERVER), &[]),
    row("metadata.resourceVersion", Warn(SERVER), &[""]),
    row("metadata.generation", Warn(SERVER), &["0"]),
    row("metadata.selfLink", Warn(SERVER), &[""]),
    row("metadata.managedFields", Warn(SERVER), &["[]"]),
    row("metadata.ownerReferences", Warn(SERVER), &["[]"]),
    row("metadata.finalizers", Warn(SERVER), &["[]"]),
    row("metadata.deletionTimestamp", Refuse("marks a pod that is being deleted: remove it"), &[]),
    row("metadata.deletionGracePeriodSeconds", Refuse("marks a pod that is being deleted: remove it"), &[]),
    // the pod
    row("spec.containers", Yes, &[]),
    row("spec.containers[]", Yes, &[]),
    row("spec.initContainers", Yes, &[]),
    row("spec.volumes", Yes, &[]),
    row("spec.volumes[]", Yes, &[]),
    row("spec.restartPolicy", Yes, &[]),
    row("spec.terminationGracePeriodSeconds", Yes, &[]),
    row("spec.hostNetwork", Yes, &[]),
    row("spec.hostname", Yes, &[]),
    row("spec.nodeName", Yes, &[]),
    row("spec.enableServiceLinks", Yes, &[]),
    row("spec.dnsPolicy", Yes, &[]),
    row("spec.dnsConfig", Whole, &[]),
    row("spec.hostAliases", Whole, &[]),
    row("spec.activeDeadlineSeconds", Yes, &[]),
    row("spec.hostPID", Yes, &[]),
    row("spec.hostIPC", Yes, &[]),
    row("spec.hostUsers", Yes, &[]),
    row("spec.shareProcessNamespace", Yes, &[]),
    row("spec.hostnameOverride", Yes, &[]),
    row("spec.setHostnameAsFQDN", Yes, &[]),
    row("spec.subdomain", Yes, &[]),
    row("spec.os", Yes, &[]),
    row("spec.os.name", Refuse("names another operating system: this one is linux"), &["linux"]),
    row("spec.runtimeClassName", Refuse("is not supported: there is one runtime"), &[""]),
    row("spec.overhead", Refuse(NOT_YET), &["{}"]),
    row("spec.resources", Yes, &[]),
    row("spec.resources.limits", Whole, &[]),
    row("spec.resources.requests", Whole, &[]),
    row("spec.resources.claims", Refuse(REFERENCE), &["[]"]),
    row("spec.resourceClaims", Refuse(REFERENCE), &["[]"]),
    row("spec.ephemeralContainers", Refuse("cannot be given when a pod is created: remove it"), &["[]"]),
    row("spec.serviceAccountName", Refuse(REFERENCE), &[""]),
    row("spec.serviceAccount", Refuse(REFERENCE), &[""]),
    row("spec.imagePullSecrets", Yes, &[]),
    row("spec.imagePullSecrets[]", Yes, &[]),
    row("spec.imagePullSecrets[].name", Yes, &[]),
    row(
        "spec.automountServiceAccountToken",
        Warn("has no effect: there is no API server to have a token for"),
        &["false"],
    ),
    row("spec.schedulingGates", Refuse("holds back a pod that is placed already: remove it"), &["[]"]),
    row("spec.affinity", Warn(SCHEDULER), &["{}"]),
    row("spec.nodeSelector", Warn(SCHEDULER), &["{}"]),
    row("spec.tolerations", Warn(SCHEDULER), &["[]"]),
    row("spec.topologySpreadConstraints", Warn(SCHEDULER), &["[]"]),
    row("spec.schedulerName", Warn(SCHEDULER), &["", "default-scheduler"]),
    row("spec.schedulingGroup", Warn(SCHEDULER), &["{}"]),
    row("spec.preemptionPolicy", Warn(SCHEDULER), &["", "PreemptLowerPriority"]),
    row("spec.priority", Yes, &[]),
    row("spec.priorityClassName", Yes, &[]),
    row("spec.readinessGates", Warn("has no effect: nothing sets their conditions"), &["[]"]),
    row("spec.evictionResponders", Warn("has no effect: a static pod is not evicted"), &["[]"]),
    // the pod's security
    row("spec.securityContext", Yes, &[]),
    row("spec.securityContext.appArmorProfile", Whole, &[]),
    row("spec.securityContext.fsGroup", Yes, &[]),
    row("spec.securityContext.fsGroupChangePolicy", Yes, &[]),
    row("spec.securityContext.runAsUser", Yes, &[]),
    row("spec.securityContext.runAsGroup", Yes, &[]),
    row("spec.securityContext.runAsNonRoot", Yes, &[]),
    row("spec.securityContext.seLinuxOptions", Refuse(SECURITY), &["{}"]),
    row("spec.securityContext.seLinuxChangePolicy", Warn("has no effect without SELinux"), &[""]),
    row("spec.securityContext.seccompProfile", Whole, &[]),
    row("spec.securityContext.supplementalGroups", Whole, &[]),
    row("spec.securityContext.supplementalGroupsPolicy", Yes, &[]),
    row("spec.securityContext.sysctls", Whole, &[]),
    row("spec.securityContext.windowsOptions", Refuse("is for Windows: remove it"), &["{}"]),
    // a container
    row("spec.containers[].name", Yes, &[]),
    row("spec.containers[].image", Yes, &[]),
    row("spec.containers[].imagePullPolicy", Yes, &[]),
    row("spec.containers[].command", Whole, &[]),
    row("spec.containers[].args", Whole, &[]),
    row("spec.containers[].workingDir", Yes, &[]),
    row(
        "spec.containers[].tty",
        Refuse(
            "is not supported yet: remove it; podinit exec -it gives a command in the container a terminal",
        ),
        &["false"],
    ),
    row("spec.containers[].terminationMessagePath", Yes, &[]),
    row("spec.containers[].terminationMessagePolicy", Yes, &[]),
    row(
        "spec.containers[].stdin",
        Refuse("is not supported yet, and a program that reads its input would end at once: remove it"),
        &["false"],
    ),
    row("spec.containers[].stdinOnce", Warn("has no effect without stdin"), &["false"]),
    row("spec.containers[].envFrom", Whole, &[]),
    row("spec.containers[].lifecycle", Yes, &[]),
    row("spec.containers[].lifecycle.postStart", Yes, &[]),
    row("spec.containers[].lifecycle.postStart.exec", Whole, &[]),
    row("spec.containers[].lifecycle.postStart.httpGet", Yes, &[]),
    row("spec.containers[].lifecycle.postStart.httpGet.protocol", Refuse(PROTOCOL), &["", "HTTP/1.1"]),
    row("spec.containers[].lifecycle.postStart.httpGet.*", Whole, &[]),
    row("spec.containers[].lifecycle.postStart.tcpSocket", Whole, &[]),
    row("spec.containers[].lifecycle.postStart.sleep", Whole, &[]),
    row("spec.containers[].lifecycle.preStop", Yes, &[]),
    row("spec.containers[].lifecycle.preStop.exec", Whole, &[]),
    row("spec.containers[].lifecycle.preStop.httpGet", Yes, &[]),
    row("spec.containers[].lifecycle.preStop.httpGet.protocol", Refuse(PROTOCOL), &["", "HTTP/1.1"]),
    row("spec.containers[].lifecycle.preStop.httpGet.*", Whole, &[]),
    row("spec.containers[].lifecycle.preStop.tcpSocket", Whole, &[]),
    row("spec.containers[].lifecycle.preStop.sleep", Whole, &[]),
    row("spec.containers[].lifecycle.stopSignal", Yes, &[]),
    row("spec.containers[].livenessProbe", Yes, &[]),
    row("spec.containers[].livenessProbe.exec", Whole, &[]),
    row("spec.containers[].livenessProbe.httpGet", Yes, &[]),
    row("spec.containers[].livenessProbe.httpGet.protocol", Refuse(PROTOCOL), &["", "HTTP/1.1"]),
    row("spec.containers[].livenessProbe.httpGet.*", Whole, &[]),
    row("spec.containers[].livenessProbe.tcpSocket", Whole, &[]),
    row("spec.containers[].livenessProbe.grpc", Yes, &[]),
    row("spec.containers[].livenessProbe.grpc.port", Yes, &[]),
    row("spec.containers[].livenessProbe.grpc.service", Yes, &[]),
    row(
        "spec.containers[].livenessProbe.grpc.mode",
        Refuse("is not supported yet: Plaintext is"),
        &["", "Plaintext"],
    ),
    row("spec.containers[].livenessProbe.initialDelaySeconds", Yes, &[]),
    row("spec.containers[].livenessProbe.timeoutSeconds", Yes, &[]),
    row("spec.containers[].livenessProbe.periodSeconds", Yes, &[]),
    row("spec.containers[].livenessProbe.successThreshold", Yes, &[]),
    row("spec.containers[].livenessProbe.failureThreshold", Yes, &[]),
    row("spec.containers[].livenessProbe.terminationGracePeriodSeconds", Yes, &[]),
    row("spec.containers[].resizePolicy", Whole, &[]),
    row("spec.containers[].restartPolicy", Yes, &[]),
    row("spec.containers[].restartPolicyRules", Whole, &[]),
    row("spec.containers[].volumeDevices", Refuse(MORE_RIGHTS), &["[]"]),
    // env
    row("spec.containers[].env", Yes, &[]),
    row("spec.containers[].env[]", Yes, &[]),
    row("spec.containers[].env[].name", Yes, &[]),
    row("spec.containers[].env[].value", Yes, &[]),
    row("spec.containers[].env[].valueFrom", Yes, &[]),
    row("spec.containers[].env[].valueFrom.fieldRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.resourceFieldRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.configMapKeyRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.secretKeyRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.fileKeyRef", Whole, &[]),
    // ports, resources
    row("spec.containers[].ports", Whole, &[]),
    row("spec.containers[].resources", Yes, &[]),
    row("spec.containers[].resources.limits", Whole, &[]),
    row("spec.containers[].resources.requests", Whole, &[]),
    row("spec.containers[].resources.claims", Refuse(REFERENCE), &["[]"]),
    // mounts
    row("spec.containers[].volumeMounts", Yes, &[]),
    row("spec.containers[].volumeMounts[]", Yes, &[]),
    row("spec.containers[].volumeMounts[].name", Yes, &[]),
    row("spec.containers[].volumeMounts[].mountPath", Yes, &[]),
    row("spec.containers[].volumeMounts[].readOnly", Yes, &[]),
    row("spec.containers[].volumeMounts[].subPath", Yes, &[]),
    row("spec.containers[].volumeMounts[].subPathExpr", Yes, &[]),
    row("spec.containers[].volumeMounts[].mountPropagation", Yes, &[]),
    row("spec.containers[].volumeMounts[].recursiveReadOnly", Yes, &[]),
    row("spec.containers[].volumeMounts[].bindMountOptions", Refuse(NOT_YET), &["[]"]),
    // a container's security
    row("spec.containers[].securityContext", Yes, &[]),
    row("spec.containers[].securityContext.allowPrivilegeEscalation", Yes, &[]),
    row("spec.containers[].securityContext.appArmorProfile", Whole, &[]),
    row("spec.containers[].securityContext.capabilities", Whole, &[]),
    row("spec.containers[].securityContext.privileged", Yes, &[]),
    row("spec.containers[].securityContext.procMount", Yes, &[]),
    row("spec.containers[].securityContext.readOnlyRootFilesystem", Yes, &[]),
    row("spec.containers[].securityContext.runAsUser", Yes, &[]),
    row("spec.containers[].securityContext.runAsGroup", Yes, &[]),
    row("spec.containers[].securityContext.runAsNonRoot", Yes, &[]),
    row("spec.containers[].securityContext.seLinuxOptions", Refuse(SECURITY), &["{}"]),
    row("spec.containers[].securityContext.seccompProfile", Whole, &[]),
    row("spec.containers[].securityContext.windowsOptions", Refuse("is for Windows: remove it"), &["{}"]),
    // volumes
    row("spec.volumes[].name", Yes, &[]),
    row("spec.volumes[].emptyDir", Yes, &[]),
    row("spec.volumes[].emptyDir.medium", Yes, &[]),
    row("spec.volumes[].emptyDir.sizeLimit", Yes, &[]),
    row("spec.volumes[].emptyDir.mode", Refuse(NOT_YET), &[]),
    row("spec.volumes[].hostPath", Whole, &[]),
    row("spec.volumes[].configMap", Yes, &[]),
    row("spec.volumes[].configMap.name", Yes, &[]),
    row("spec.volumes[].configMap.optional", Yes, &[]),
    row("spec.volumes[].configMap.defaultMode", Yes, &[]),
    row("spec.volumes[].configMap.items", Yes, &[]),
    row("spec.volumes[].configMap.items[]", Yes, &[]),
    row("spec.volumes[].configMap.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].configMap.items[].*", Yes, &[]),
    row("spec.volumes[].secret", Yes, &[]),
    row("spec.volumes[].secret.secretName", Yes, &[]),
    row("spec.volumes[].secret.optional", Yes, &[]),
    row("spec.volumes[].secret.defaultMode", Yes, &[]),
    row("spec.volumes[].secret.items", Yes, &[]),
    row("spec.volumes[].secret.items[]", Yes, &[]),
    row("spec.volumes[].secret.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].secret.items[].*", Yes, &[]),
    row("spec.volumes[].downwardAPI", Yes, &[]),
    row("spec.volumes[].downwardAPI.defaultMode", Yes, &[]),
    row("spec.volumes[].downwardAPI.items", Yes, &[]),
    row("spec.volumes[].downwardAPI.items[]", Yes, &[]),
    row("spec.volumes[].downwardAPI.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].downwardAPI.items[].*", Whole, &[]),
    row("spec.volumes[].projected", Yes, &[]),
    row("spec.volumes[].projected.defaultMode", Yes, &[]),
    row("spec.volumes[].projected.sources", Yes, &[]),
    row("spec.volumes[].projected.sources[]", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap.name", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap.optional", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap.items", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap.items[]", Yes, &[]),
    row("spec.volumes[].projected.sources[].configMap.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].projected.sources[].configMap.items[].*", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret.name", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret.optional", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret.items", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret.items[]", Yes, &[]),
    row("spec.volumes[].projected.sources[].secret.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].projected.sources[].secret.items[].*", Yes, &[]),
    row("spec.volumes[].projected.sources[].downwardAPI", Yes, &[]),
    row("spec.volumes[].projected.sources[].downwardAPI.items", Yes, &[]),
    row("spec.volumes[].projected.sources[].downwardAPI.items[]", Yes, &[]),
    row("spec.volumes[].projected.sources[].downwardAPI.items[].user", Refuse(NOT_YET), &[]),
    row("spec.volumes[].projected.sources[].downwardAPI.items[].*", Whole, &[]),
    row("spec.volumes[].projected.sources[].serviceAccountToken", Refuse(SERVER_FILE), &[]),
    row("spec.volumes[].projected.sources[].clusterTrustBundle", Refuse(SERVER_FILE), &[]),
    row("spec.volumes[].projected.sources[].podCertificate", Refuse(SERVER_FILE), &[]),
    row("spec.volumes[].image", Whole, &[]),
    row("spec.volumes[].persistentVolumeClaim", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].ephemeral", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].csi", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].glusterfs", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].azureFile", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].*", Refuse(VOLUME), &[]),
];

/// The rows by their paths: a directory of thousands of manifests asks for each of their fields.
static ROWS: LazyLock<HashMap<&str, &Row>> =
    LazyLock::new(|| TABLE.iter().map(|row| (row.path, row)).collect());

/// Reports every given field that is not supported. `unknown`: the fields that are not Kubernetes', reported before.
pub fn check(report: &mut Report<'_>, unknown: &HashSet<Path>) {
    let root = report.root();
    below(report, unknown, root, &Path::default(), "");
}

fn below(report: &mut Report<'_>, unknown: &HashSet<Path>, node: &Node, path: &Path, pattern: &str) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = path.entry(&entry.key);
                let dot = if pattern.is_empty() { "" } else { "." };
                if !unknown.contains(&path) {
                    field(report, unknown, &entry.node, &path, &format!("{pattern}{dot}{}", entry.key));
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                below(report, unknown, item, &path.item(index), &format!("{pattern}[]"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

fn field(report: &mut Report<'_>, unknown: &HashSet<Path>, node: &Node, path: &Path, pattern: &str) {
    if node.value == Value::Null {
        return;
    }
    let (support, unless) = look_up(pattern).unwrap_or((Refuse(NOT_YET), &[]));
    if word(node).is_some_and(|word| unless.contains(&word.as_str())) {
        return;
    }
    match support {
        Yes => below(report, unknown, node, path, pattern),
        Whole => {}
        Warn(why) => report.warn(path, why),
        Refuse(why) => {
            let value = match &node.value {
                Value::List(_) | Value::Map(_) | Value::Null => String::new(),
                _ => format!("{} ", node.brief()),
            };
            report.refuse(path, format!("{value}{why}"));
        }
    }
}

/// The row of the path itself, else of any key in its place; for an init container also that of a regular one.
fn look_up(pattern: &str) -> Option<(Support, &'static [&'static str])> {
    let find = |path: &str| ROWS.get(path).map(|row| (row.support, row.unless));
    let any = |path: &str| find(&format!("{}.*", path.rsplit_once('.')?.0));
    let twin = || {
        let twin = pattern.replacen("spec.initContainers[]", "spec.containers[]", 1);
        let twin = twin.replacen("[].readinessProbe", "[].livenessProbe", 1);
        twin.replacen("[].startupProbe", "[].livenessProbe", 1)
    };
    find(pattern).or_else(|| find(&twin())).or_else(|| any(&twin()))
}

/// A value as a row's `unless` writes it; None for what is not that simple.
fn word(node: &Node) -> Option<String> {
    Some(match &node.value {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) if items.is_empty() => "[]".into(),
        Value::Map(entries) if entries.is_empty() => "{}".into(),
        Value::List(_) | Value::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    #[test]
    fn rows_are_unique_and_hang_on_supported_ones() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(
                TABLE.iter().skip(index + 1).all(|other| other.path != row.path),
                "{} comes twice",
                row.path
            );
            let parent = row.path.strip_suffix("[]").or_else(|| Some(row.path.rsplit_once('.')?.0));
            if let Some(parent) = parent {
                let (support, _) = look_up(parent).unwrap_or_else(|| panic!("{} hangs on nothing", row.path));
                assert_eq!(support, Yes, "{}", row.path);
            }
        }
    }

    #[test]
    fn what_means_no_more_than_leaving_it_out_passes() {
        let text = "
metadata: {creationTimestamp: null, managedFields: []}
spec:
  hostPID: false
  hostIPC: no
  hostUsers: true
  dnsPolicy: Default
  dnsConfig: {}
  automountServiceAccountToken: false
  securityContext: {seccompProfile: {type: Unconfined}, supplementalGroupsPolicy: Merge}
  imagePullSecrets: []
  nodeSelector: {}
  priority: 0
  os: {name: linux}
  initContainers:
  - restartPolicy: ~
    lifecycle: {}
  containers:
  - securityContext:
      privileged: false
      allowPrivilegeEscalation: true
      capabilities: {add: [], drop: []}
      procMount: Default
      readOnlyRootFilesystem: false
    stdin: false
    volumeMounts:
    - mountPropagation: None
      recursiveReadOnly: Disabled
status: {}
";
        let node = yaml::read(text, 1).unwrap().unwrap();
        let mut report = Report::new("f", &node, 0);
        check(&mut report, &HashSet::new());
        assert_eq!(report.into_problems(), []);
    }
}
