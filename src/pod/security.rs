//! What of a security context is judged before anything is made: root where none may be, and AppArmor profiles.

use super::spec::Profile;
use super::sysctl::Refusal;
use super::{Container, Pod};

/// runAsNonRoot against the user that the image names (as the OCI image config has it). The kubelet's words; the
/// message becomes a CreateContainerConfigError, which is tried again.
pub fn non_root(pod: &Pod, container: &Container, image_user: &str) -> Result<(), String> {
    let who =
        format!("(pod: \"{}_{}({})\", container: {})", pod.name, pod.namespace, pod.uid, container.name);
    let security = &container.security;
    if !security.non_root {
        return Ok(());
    }
    match (security.user, user_of(image_user)) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {who}")),
        (Some(_), _) => Ok(()),
        (None, (Some(0), _)) => Err(format!("container has runAsNonRoot and image will run as root {who}")),
        (None, (Some(uid), _)) if !(0..=HIGHEST).contains(&uid) => Err(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({HIGHEST})): must be between 0 and {HIGHEST}, inclusive {who}"
        )),
        (None, (None, name)) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
        )),
        (None, (Some(_) | None, _)) => Ok(()),
    }
}

/// The highest user id that Kubernetes takes.
const HIGHEST: i64 = i32::MAX as i64;

/// The user of an image config's USER without its group: a number, or a name. An image that names nobody runs as 0.
fn user_of(image_user: &str) -> (Option<i64>, &str) {
    let user = image_user.split(':').next().unwrap_or("");
    match (user, user.parse()) {
        ("", _) => (Some(0), ""),
        (_, Ok(number)) => (Some(number), ""),
        (name, Err(_)) => (None, name),
    }
}

/// The profile that containerd gives a container where a kernel has AppArmor.
pub const RUNTIME_DEFAULT: &str = "cri-containerd.apparmor.d";

/// Whether the pod's AppArmor profiles can be had. `loaded`: the names of the kernel's profiles; None: it has no
/// AppArmor. To ask for Unconfined, or for nothing, is always fine.
pub fn apparmor(pod: &Pod, loaded: Option<&[String]>) -> Result<(), Refusal> {
    for container in pod.all().filter(|container| !container.security.privileged) {
        let wanted = match &container.security.apparmor {
            Profile::Unset | Profile::Unconfined => continue,
            Profile::RuntimeDefault => RUNTIME_DEFAULT,
            Profile::Localhost(name) => name,
        };
        let why = match loaded {
            None => "AppArmor is not enabled on the host".to_owned(),
            Some(known) if known.iter().any(|name| name == wanted) => continue,
            Some(_) => format!("profile {wanted:?} is not loaded"),
        };
        return Err(("AppArmor", format!("Cannot enforce AppArmor: {why} (container: {})", container.name)));
    }
    Ok(())
}

/// The profile of one container, as the runtime spec has it; None: unconfined. One that asks for nothing gets the
/// runtime's default only where that is loaded: podinit has no compiler for it.
pub fn apparmor_profile(container: &Container, loaded: Option<&[String]>) -> Option<String> {
    let loaded = loaded?;
    if container.security.privileged {
        return None;
    }
    match &container.security.apparmor {
        Profile::Unset => loaded.iter().find(|name| *name == RUNTIME_DEFAULT).cloned(),
        Profile::RuntimeDefault => Some(RUNTIME_DEFAULT.into()),
        Profile::Unconfined => Some("unconfined".into()),
        Profile::Localhost(name) => Some(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::Security;

    fn pod(security: Security) -> Pod {
        let container = Container { name: "c".into(), security, ..Container::default() };
        Pod {
            uid: "u".into(),
            namespace: "default".into(),
            name: "web-board".into(),
            containers: vec![container],
            ..Pod::default()
        }
    }

    /// runAsNonRoot. One row (an image without any user starts) is answered differently on purpose: before that question
    /// is asked, the kubelet takes such an image's user for 0.
    #[test]
    fn h1_root_where_none_may_be_is_told_in_the_kubelets_words() {
        let who = "(pod: \"web-board_default(u)\", container: c)";
        let breaks = format!("container's runAsUser breaks non-root policy {who}");
        let root = format!("container has runAsNonRoot and image will run as root {who}");
        let name = |name: &str| {
            format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
            )
        };
        let table = [
            (true, Some(1000), "", Ok(())),
            (true, Some(1000), "root", Ok(())),
            (false, Some(0), "0", Ok(())),
            (false, None, "0", Ok(())),
            (false, Some(0), "", Ok(())),
            (false, None, "web", Ok(())),
            (true, Some(0), "1000", Err(breaks.clone())),
            (true, None, "0", Err(root.clone())),
            (true, None, "0:5", Err(root.clone())),
            (true, None, "", Err(root.clone())),
            (true, None, ":5", Err(root)),
            (true, None, "1000", Ok(())),
            (true, None, "1000:0", Ok(())),
            (true, None, "2147483647", Ok(())),
            (false, Some(1000), "0", Ok(())),
            (false, None, "2147483648", Ok(())),
            (true, Some(1000), "-1000", Ok(())),
            (true, Some(0), "web", Err(breaks.clone())),
            (true, None, "web", Err(name("web"))),
            (true, None, "web:0", Err(name("web"))),
        ];
        for (non_root_asked, user, image, wanted) in table {
            let pod = pod(Security { non_root: non_root_asked, user, ..Security::default() });
            let told = non_root(&pod, &pod.containers[0], image);
            assert_eq!(told, wanted, "nonRoot {non_root_asked}, runAsUser {user:?}, image {image:?}");
        }
    }

    /// It was taken for one that is not root.
    #[test]
    fn an_image_user_out_of_range_is_no_user_that_is_not_root() {
        let pod = pod(Security { non_root: true, ..Security::default() });
        for uid in ["2147483648", "-1000", "-1", "4294967296", "4294967295:5"] {
            let number = uid.split(':').next().unwrap();
            let told = non_root(&pod, &pod.containers[0], uid).expect_err(uid);
            let begin = format!("container has runAsNonRoot and image has an invalid user id ({number}). ");
            assert!(told.starts_with(&begin), "{told}");
        }
    }

    /// Image user.
    #[test]
    fn h2_an_images_user_is_a_number_or_a_name() {
        for (text, wanted) in [
            ("", (Some(0), "")),
            ("testUser", (None, "testUser")),
            ("2", (Some(2), "")),
            ("2:whatever", (Some(2), "")),
            ("-1", (Some(-1), "")),
            (":5", (Some(0), "")),
            ("testUser:5", (None, "testUser")),
            ("99999999999999999999", (None, "99999999999999999999")),
        ] {
            assert_eq!(user_of(text), wanted, "{text}");
        }
    }

    /// AppArmor; two of Kubernetes' rows are refused with the manifest.
    #[test]
    fn h4_apparmor_is_had_or_the_pod_is_refused() {
        let loaded = ["test".to_owned(), RUNTIME_DEFAULT.to_owned()];
        let refused = |why: &str| Err(("AppArmor", format!("Cannot enforce AppArmor: {why} (container: c)")));
        let none = refused("AppArmor is not enabled on the host");
        let local = |name: &str| Profile::Localhost(name.into());
        type Row<'a> = (Profile, Option<&'a [String]>, Result<(), Refusal>, Option<&'a str>);
        let table: [Row; 11] = [
            (Profile::Unset, None, Ok(()), None),
            (Profile::Unset, Some(&loaded), Ok(()), Some(RUNTIME_DEFAULT)),
            (Profile::Unset, Some(&loaded[..1]), Ok(()), None),
            (Profile::RuntimeDefault, Some(&loaded), Ok(()), Some(RUNTIME_DEFAULT)),
            (Profile::RuntimeDefault, None, none.clone(), None),
            (
                Profile::RuntimeDefault,
                Some(&loaded[..1]),
                refused("profile \"cri-containerd.apparmor.d\" is not loaded"),
                Some(RUNTIME_DEFAULT),
            ),
            (Profile::Unconfined, Some(&loaded), Ok(()), Some("unconfined")),
            (Profile::Unconfined, None, Ok(()), None),
            (local("test"), Some(&loaded), Ok(()), Some("test")),
            (local("test"), None, none, None),
            (local("other"), Some(&loaded), refused("profile \"other\" is not loaded"), Some("other")),
        ];
        for (apparmor_asked, loaded, judged, profile) in table {
            let mut pod = pod(Security { apparmor: apparmor_asked.clone(), ..Security::default() });
            assert_eq!(apparmor(&pod, loaded), judged, "{apparmor_asked:?}");
            let container = &pod.containers[0];
            assert_eq!(apparmor_profile(container, loaded).as_deref(), profile, "{apparmor_asked:?}");
            pod.containers[0].security.privileged = true;
            assert_eq!(apparmor(&pod, loaded), Ok(()), "{apparmor_asked:?}, privileged");
            assert_eq!(apparmor_profile(&pod.containers[0], loaded), None);
        }
    }
}
