//! The checks of security contexts: the pod's, and each container's with what it takes over from the pod's.

use k8s_openapi::api::core::v1 as k8s;

use super::container::Around;
use super::{choose, sysctl};
use crate::manifest::report::Report;
use crate::manifest::tree::{Path, quote};
use crate::pod::spec::{PodSecurity, Profile, Security, Spaces};
use crate::spelling::nearest;

/// Which namespaces the pod shares.
pub fn spaces(report: &mut Report<'_>, spec: &k8s::PodSpec) -> Spaces {
    let path = Path::of("spec");
    let spaces = Spaces {
        host_pid: spec.host_pid.unwrap_or_default(),
        host_ipc: spec.host_ipc.unwrap_or_default(),
        share_pid: spec.share_process_namespace.unwrap_or_default(),
        own_users: spec.host_users == Some(false),
    };
    if spaces.share_pid && spaces.host_pid {
        report.refuse(&path.key("shareProcessNamespace"), "excludes hostPID: keep one");
    }
    let with_users = [
        (spaces.host_pid, "hostPID"),
        (spaces.host_ipc, "hostIPC"),
        (spec.host_network.unwrap_or_default(), "hostNetwork"),
    ];
    for (_, other) in with_users.into_iter().filter(|(given, _)| *given && spaces.own_users) {
        report.refuse(&path.key(other), "excludes hostUsers: false: keep one");
    }
    spaces
}

/// What of the pod's context concerns the pod as a whole.
pub fn pod(report: &mut Report<'_>, spec: &k8s::PodSpec) -> PodSecurity {
    let none = k8s::PodSecurityContext::default();
    let given = spec.security_context.as_ref().unwrap_or(&none);
    let path = Path::of("spec.securityContext");
    let changes = [("", false), ("Always", false), ("OnRootMismatch", true)];
    let policies = [("", false), ("Merge", false), ("Strict", true)];
    let mut groups = Vec::new();
    for (index, group) in given.supplemental_groups.iter().flatten().enumerate() {
        groups.extend(id(report, Some(*group), &path.key("supplementalGroups").item(index)));
    }
    PodSecurity {
        fs_group: id(report, given.fs_group, &path.key("fsGroup")),
        fs_group_on_mismatch: choose(
            report,
            &given.fs_group_change_policy,
            &changes,
            &path.key("fsGroupChangePolicy"),
        )
        .unwrap_or_default(),
        groups,
        strict_groups: choose(
            report,
            &given.supplemental_groups_policy,
            &policies,
            &path.key("supplementalGroupsPolicy"),
        )
        .unwrap_or_default(),
        sysctls: sysctl::check(report, spec, given, &path.key("sysctls")),
    }
}

/// A container's context, which wins over the pod's field by field.
pub fn container(
    report: &mut Report<'_>,
    name: &str,
    given: Option<&k8s::SecurityContext>,
    around: &Around<'_>,
    path: &Path,
) -> Security {
    let none = k8s::SecurityContext::default();
    let given = given.unwrap_or(&none);
    let pods = around.security;
    let path = path.key("securityContext");
    let above = Path::of("spec.securityContext");
    let mut number = |own: Option<i64>, pods: Option<i64>, field: &str| match own {
        Some(_) => id(report, own, &path.key(field)),
        None => id(report, pods, &above.key(field)),
    };
    let user = number(given.run_as_user, pods.run_as_user, "runAsUser");
    let group = number(given.run_as_group, pods.run_as_group, "runAsGroup");
    let capabilities = given.capabilities.as_ref();
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let (add, drop) = (
        list(capabilities.and_then(|given| given.add.as_ref())),
        list(capabilities.and_then(|given| given.drop.as_ref())),
    );
    let privileged = given.privileged.unwrap_or_default();
    let no_escalation = given.allow_privilege_escalation == Some(false);
    let field = path.key("allowPrivilegeEscalation");
    if no_escalation && privileged {
        report.refuse(&field, "false excludes privileged: true: keep one");
    } else if no_escalation && add.iter().any(|name| name == "CAP_SYS_ADMIN") {
        report.refuse(&field, "false excludes the capability CAP_SYS_ADMIN: keep one");
    }
    let masks = [("", false), ("Default", false), ("Unmasked", true)];
    let unmasked = choose(report, &given.proc_mount, &masks, &path.key("procMount")).unwrap_or_default();
    if unmasked && !around.own_users {
        report.refuse(
            &path.key("procMount"),
            "\"Unmasked\" needs spec.hostUsers: false: add it, or use Default",
        );
    }
    Security {
        user,
        group,
        non_root: given.run_as_non_root.or(pods.run_as_non_root).unwrap_or_default(),
        privileged,
        no_escalation,
        read_only_root: given.read_only_root_filesystem.unwrap_or_default(),
        add: capability_names(report, &add, &path.key("capabilities.add")),
        drop: capability_names(report, &drop, &path.key("capabilities.drop")),
        seccomp: match (&given.seccomp_profile, &pods.seccomp_profile) {
            (Some(own), _) => seccomp(report, own, &path.key("seccompProfile")),
            (None, Some(pods)) => seccomp(report, pods, &above.key("seccompProfile")),
            (None, None) => Profile::Unset,
        },
        apparmor: match (&given.app_armor_profile, annotated(report, name, around), &pods.app_armor_profile) {
            (Some(own), annotated, _) => {
                let own = apparmor(report, own, &path.key("appArmorProfile"));
                if annotated.is_some_and(|annotated| annotated != own) {
                    let message =
                        format!("differs from the annotation {APPARMOR}{name}: remove the annotation");
                    report.refuse(&path.key("appArmorProfile"), message);
                }
                own
            }
            (None, Some(annotated), _) => annotated,
            (None, None, Some(pods)) => apparmor(report, pods, &above.key("appArmorProfile")),
            (None, None, None) => Profile::Unset,
        },
        unmasked,
    }
}

/// What of the profiles was said by annotation, before there were fields. The kubelet still heeds AppArmor's.
pub fn annotations(report: &mut Report<'_>, around: &Around<'_>) {
    let path = Path::of("metadata.annotations");
    for key in around.annotations.keys() {
        if let Some(name) = key.strip_prefix(APPARMOR)
            && !around.containers.contains(name)
        {
            report.refuse(&path.entry(key), format!("no container is named {}", quote(name)));
        } else if SECCOMP.iter().any(|prefix| key.starts_with(prefix)) {
            report.warn(&path.entry(key), "has no effect any more: use securityContext.seccompProfile");
        }
    }
}

const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &[&str] =
    &["seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/"];

fn annotated(report: &mut Report<'_>, name: &str, around: &Around<'_>) -> Option<Profile> {
    let key = format!("{APPARMOR}{name}");
    let value = around.annotations.get(&key)?;
    match (value.as_str(), value.strip_prefix("localhost/")) {
        ("runtime/default", _) => Some(Profile::RuntimeDefault),
        ("unconfined", _) => Some(Profile::Unconfined),
        (_, Some(profile)) if !profile.is_empty() => Some(Profile::Localhost(profile.into())),
        ("", _) => None,
        _ => {
            let message =
                format!("{} is none of runtime/default, unconfined, localhost/<profile>", quote(value));
            report.refuse(&Path::of("metadata.annotations").entry(&key), message);
            None
        }
    }
}

/// A user's or group's number.
fn id(report: &mut Report<'_>, given: Option<i64>, path: &Path) -> Option<u32> {
    let number = given?;
    match u32::try_from(number) {
        Ok(id) if id <= i32::MAX as u32 => Some(id),
        Ok(_) | Err(_) => {
            report.refuse(path, format!("{number} is not a user or group: use 0 to {}", i32::MAX));
            None
        }
    }
}

fn seccomp(report: &mut Report<'_>, given: &k8s::SeccompProfile, path: &Path) -> Profile {
    let file = given.localhost_profile.as_deref().unwrap_or_default();
    let profile = profile(report, &given.type_, file, path);
    let climbs = file.split('/').any(|part| part == "..");
    if matches!(profile, Profile::Localhost(_)) && (file.starts_with('/') || climbs) {
        let message = format!("{} leaves the folder of profiles: use a path below it", quote(file));
        report.refuse(&path.key("localhostProfile"), message);
    }
    profile
}

fn apparmor(report: &mut Report<'_>, given: &k8s::AppArmorProfile, path: &Path) -> Profile {
    let name = given.localhost_profile.as_deref().unwrap_or_default();
    let profile = profile(report, &given.type_, name, path);
    if matches!(profile, Profile::Localhost(_)) && (name.trim() != name || name.len() > 4095) {
        let message = format!("{} is not a profile's name: remove blanks around it", quote(name));
        report.refuse(&path.key("localhostProfile"), message);
    }
    profile
}

fn profile(report: &mut Report<'_>, kind: &str, local: &str, path: &Path) -> Profile {
    let kinds = [
        ("RuntimeDefault", Profile::RuntimeDefault),
        ("Unconfined", Profile::Unconfined),
        ("Localhost", Profile::Localhost(local.into())),
    ];
    let found = kinds.into_iter().find(|(word, _)| *word == kind).map(|(_, profile)| profile);
    let field = path.key("localhostProfile");
    match &found {
        None => {
            let message = format!("{} is none of RuntimeDefault, Unconfined, Localhost", quote(kind));
            report.refuse(&path.key("type"), message);
        }
        Some(Profile::Localhost(_)) if local.is_empty() => {
            report.refuse(&field, "is missing: name the profile, or use another type");
        }
        Some(Profile::Localhost(_)) => {}
        Some(Profile::Unset | Profile::RuntimeDefault | Profile::Unconfined) if !local.is_empty() => {
            report.refuse(&field, format!("{} is for type Localhost only: remove it", quote(local)));
        }
        Some(Profile::Unset | Profile::RuntimeDefault | Profile::Unconfined) => {}
    }
    found.unwrap_or_default()
}

/// Linux' capabilities (capability.h), without CAP_.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// With or without CAP_, in any case, as container runtimes take them. Better than they: an unknown one is refused,
/// not dropped.
fn capability_names(report: &mut Report<'_>, given: &[String], path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let name = text.to_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if !CAPABILITIES.contains(&name) {
            let cure = match nearest(name, CAPABILITIES) {
                Some(near) => format!("did you mean {near}?"),
                None => "use one of capabilities(7)".into(),
            };
            report.refuse(&path.item(index), format!("{} is not a capability: {cure}", quote(text)));
        }
        names.push(name.to_owned());
    }
    names
}
