//! Which of Kubernetes' fields podinit supports, and what it says of the others: none is dropped in silence.
//!
//! Refused is what would run otherwise than written, or less safely; warned of is what merely has no effect here.
//! A field that Kubernetes knows and this table does not is refused.

use std::collections::HashSet;

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
    /// `[]` is any item of a list, `*` any key of a map. `initContainers` are looked up as `containers` too.
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
const ENV_REFERENCE: &str = "refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): write the value into the manifest";
const VOLUME: &str = "is a kind of volume that is not supported yet: emptyDir and hostPath are";
const VOLUME_REFERENCE: &str = "refers to an object of an API server, which a static pod may not (PreventStaticPodAPIReferences): use hostPath";
const PROBE: &str = "probes are not run yet: the container counts as ready while it runs, and is restarted only when it exits";
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
    row(
        "spec.dnsPolicy",
        Refuse("is not supported yet: ClusterFirst, ClusterFirstWithHostNet and Default are"),
        DNS,
    ),
    row("spec.dnsConfig", Refuse(NOT_YET), &["{}"]),
    row("spec.hostAliases", Refuse(NOT_YET), &["[]"]),
    row(
        "spec.activeDeadlineSeconds",
        Refuse("is not supported yet, and the pod would run for longer: remove it"),
        &[],
    ),
    row("spec.hostPID", Refuse(MORE_RIGHTS), &["false"]),
    row("spec.hostIPC", Refuse(MORE_RIGHTS), &["false"]),
    row("spec.hostUsers", Refuse(SECURITY), &["true"]),
    row("spec.shareProcessNamespace", Refuse(NOT_YET), &["false"]),
    row("spec.hostnameOverride", Refuse("is not supported yet: use hostname"), &[""]),
    row("spec.setHostnameAsFQDN", Refuse("is not supported yet: use hostname"), &["false"]),
    row("spec.subdomain", Warn("has no effect: there is no cluster DNS"), &[""]),
    row("spec.os", Yes, &[]),
    row("spec.os.name", Refuse("names another operating system: this one is linux"), &["linux"]),
    row("spec.runtimeClassName", Refuse("is not supported: there is one runtime"), &[""]),
    row("spec.overhead", Refuse(NOT_YET), &["{}"]),
    row(
        "spec.resources",
        Refuse("is not supported yet at the pod's level: give each container its resources"),
        &["{}"],
    ),
    row("spec.resourceClaims", Refuse(REFERENCE), &["[]"]),
    row("spec.ephemeralContainers", Refuse("cannot be given when a pod is created: remove it"), &["[]"]),
    row("spec.serviceAccountName", Refuse(REFERENCE), &[""]),
    row("spec.serviceAccount", Refuse(REFERENCE), &[""]),
    row("spec.imagePullSecrets", Refuse(REFERENCE), &["[]"]),
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
    row("spec.priority", Warn("has no effect yet: no pod makes room for another"), &["0"]),
    row("spec.priorityClassName", Warn("has no effect yet: no pod makes room for another"), &[""]),
    row("spec.readinessGates", Warn("has no effect: nothing sets their conditions"), &["[]"]),
    row("spec.evictionResponders", Warn("has no effect: a static pod is not evicted"), &["[]"]),
    // the pod's security
    row("spec.securityContext", Yes, &[]),
    row("spec.securityContext.appArmorProfile", Yes, &[]),
    row("spec.securityContext.appArmorProfile.type", Refuse(SECURITY), &["Unconfined"]),
    row("spec.securityContext.appArmorProfile.localhostProfile", Refuse(SECURITY), &[""]),
    row("spec.securityContext.fsGroup", Refuse(MORE_RIGHTS), &[]),
    row("spec.securityContext.fsGroupChangePolicy", Warn("has no effect without fsGroup"), &[""]),
    row("spec.securityContext.runAsUser", Refuse(SECURITY), &[]),
    row("spec.securityContext.runAsGroup", Refuse(SECURITY), &[]),
    row("spec.securityContext.runAsNonRoot", Refuse(SECURITY), &["false"]),
    row("spec.securityContext.seLinuxOptions", Refuse(SECURITY), &["{}"]),
    row("spec.securityContext.seLinuxChangePolicy", Warn("has no effect without SELinux"), &[""]),
    row("spec.securityContext.seccompProfile", Yes, &[]),
    row("spec.securityContext.seccompProfile.type", Refuse(SECURITY), &["Unconfined"]),
    row("spec.securityContext.seccompProfile.localhostProfile", Refuse(SECURITY), &[""]),
    row("spec.securityContext.supplementalGroups", Refuse(MORE_RIGHTS), &["[]"]),
    row("spec.securityContext.supplementalGroupsPolicy", Refuse(SECURITY), &["", "Merge"]),
    row("spec.securityContext.sysctls", Refuse(NOT_YET), &["[]"]),
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
    row("spec.containers[].envFrom", Refuse(ENV_REFERENCE), &["[]"]),
    row("spec.containers[].lifecycle", Yes, &[]),
    row(
        "spec.containers[].lifecycle.postStart",
        Refuse("hooks are not supported yet, and the container would start without it: remove it"),
        &["{}"],
    ),
    row(
        "spec.containers[].lifecycle.preStop",
        Refuse("hooks are not supported yet, and the container would stop without it: remove it"),
        &["{}"],
    ),
    row(
        "spec.containers[].lifecycle.stopSignal",
        Refuse("is not supported yet: the image's STOPSIGNAL is used"),
        &[""],
    ),
    row("spec.containers[].livenessProbe", Warn(PROBE), &[]),
    row("spec.containers[].readinessProbe", Warn(PROBE), &[]),
    row("spec.containers[].startupProbe", Warn(PROBE), &[]),
    row(
        "spec.containers[].resizePolicy",
        Warn("has no effect: a change of resources replaces the pod"),
        &["[]"],
    ),
    row(
        "spec.containers[].restartPolicy",
        Refuse("is a container's own restart policy, which is not supported yet: use the pod's"),
        &[""],
    ),
    row(
        "spec.initContainers[].restartPolicy",
        Refuse("makes the init container a sidecar, which is not supported yet: make it a regular container"),
        &[""],
    ),
    row("spec.containers[].restartPolicyRules", Refuse(NOT_YET), &["[]"]),
    row("spec.containers[].volumeDevices", Refuse(MORE_RIGHTS), &["[]"]),
    // env
    row("spec.containers[].env", Yes, &[]),
    row("spec.containers[].env[]", Yes, &[]),
    row("spec.containers[].env[].name", Yes, &[]),
    row("spec.containers[].env[].value", Yes, &[]),
    row("spec.containers[].env[].valueFrom", Yes, &[]),
    row("spec.containers[].env[].valueFrom.fieldRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.resourceFieldRef", Whole, &[]),
    row("spec.containers[].env[].valueFrom.configMapKeyRef", Refuse(ENV_REFERENCE), &[]),
    row("spec.containers[].env[].valueFrom.secretKeyRef", Refuse(ENV_REFERENCE), &[]),
    row("spec.containers[].env[].valueFrom.fileKeyRef", Refuse(NOT_YET), &[]),
    // ports, resources
    row("spec.containers[].ports", Whole, &[]),
    row("spec.containers[].resources", Yes, &[]),
    row("spec.containers[].resources.limits", Yes, &[]),
    row("spec.containers[].resources.limits.cpu", Yes, &[]),
    row("spec.containers[].resources.limits.memory", Yes, &[]),
    row(
        "spec.containers[].resources.limits.*",
        Refuse("is a resource that is not supported yet: cpu and memory are"),
        &[],
    ),
    row("spec.containers[].resources.requests", Yes, &[]),
    row("spec.containers[].resources.requests.cpu", Yes, &[]),
    row("spec.containers[].resources.requests.memory", Yes, &[]),
    row(
        "spec.containers[].resources.requests.*",
        Refuse("is a resource that is not supported yet: cpu and memory are"),
        &[],
    ),
    row("spec.containers[].resources.claims", Refuse(REFERENCE), &["[]"]),
    // mounts
    row("spec.containers[].volumeMounts", Yes, &[]),
    row("spec.containers[].volumeMounts[]", Yes, &[]),
    row("spec.containers[].volumeMounts[].name", Yes, &[]),
    row("spec.containers[].volumeMounts[].mountPath", Yes, &[]),
    row("spec.containers[].volumeMounts[].readOnly", Yes, &[]),
    row("spec.containers[].volumeMounts[].subPath", Yes, &[]),
    row("spec.containers[].volumeMounts[].subPathExpr", Refuse("is not supported yet: use subPath"), &[""]),
    row(
        "spec.containers[].volumeMounts[].mountPropagation",
        Refuse("is not supported yet: None is"),
        &["", "None"],
    ),
    row(
        "spec.containers[].volumeMounts[].recursiveReadOnly",
        Refuse("is not supported yet: Disabled is"),
        &["", "Disabled"],
    ),
    row("spec.containers[].volumeMounts[].bindMountOptions", Refuse(NOT_YET), &["[]"]),
    // a container's security
    row("spec.containers[].securityContext", Yes, &[]),
    row("spec.containers[].securityContext.allowPrivilegeEscalation", Refuse(SECURITY), &["true"]),
    row("spec.containers[].securityContext.appArmorProfile", Yes, &[]),
    row("spec.containers[].securityContext.appArmorProfile.type", Refuse(SECURITY), &["Unconfined"]),
    row("spec.containers[].securityContext.appArmorProfile.localhostProfile", Refuse(SECURITY), &[""]),
    row("spec.containers[].securityContext.capabilities", Yes, &[]),
    row("spec.containers[].securityContext.capabilities.add", Refuse(MORE_RIGHTS), &["[]"]),
    row("spec.containers[].securityContext.capabilities.drop", Refuse(SECURITY), &["[]"]),
    row("spec.containers[].securityContext.privileged", Refuse(MORE_RIGHTS), &["false"]),
    row("spec.containers[].securityContext.procMount", Refuse(MORE_RIGHTS), &["", "Default"]),
    row("spec.containers[].securityContext.readOnlyRootFilesystem", Refuse(SECURITY), &["false"]),
    row("spec.containers[].securityContext.runAsUser", Refuse(SECURITY), &[]),
    row("spec.containers[].securityContext.runAsGroup", Refuse(SECURITY), &[]),
    row("spec.containers[].securityContext.runAsNonRoot", Refuse(SECURITY), &["false"]),
    row("spec.containers[].securityContext.seLinuxOptions", Refuse(SECURITY), &["{}"]),
    row("spec.containers[].securityContext.seccompProfile", Yes, &[]),
    row("spec.containers[].securityContext.seccompProfile.type", Refuse(SECURITY), &["Unconfined"]),
    row("spec.containers[].securityContext.seccompProfile.localhostProfile", Refuse(SECURITY), &[""]),
    row("spec.containers[].securityContext.windowsOptions", Refuse("is for Windows: remove it"), &["{}"]),
    // volumes
    row("spec.volumes[].name", Yes, &[]),
    row("spec.volumes[].emptyDir", Yes, &[]),
    row("spec.volumes[].emptyDir.medium", Yes, &[]),
    row("spec.volumes[].emptyDir.sizeLimit", Yes, &[]),
    row("spec.volumes[].emptyDir.mode", Refuse(NOT_YET), &[]),
    row("spec.volumes[].hostPath", Whole, &[]),
    row("spec.volumes[].configMap", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].secret", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].persistentVolumeClaim", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].ephemeral", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].csi", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].glusterfs", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].azureFile", Refuse(VOLUME_REFERENCE), &[]),
    row("spec.volumes[].*", Refuse(VOLUME), &[]),
];

/// ClusterFirst falls back to Default where there is no cluster.
const DNS: &[&str] = &["", "ClusterFirst", "ClusterFirstWithHostNet", "Default"];

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
    let find = |path: &str| TABLE.iter().find(|row| row.path == path).map(|row| (row.support, row.unless));
    let any = |path: &str| find(&format!("{}.*", path.rsplit_once('.')?.0));
    let twin = pattern.replacen("spec.initContainers[]", "spec.containers[]", 1);
    find(pattern).or_else(|| find(&twin)).or_else(|| any(&twin))
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
