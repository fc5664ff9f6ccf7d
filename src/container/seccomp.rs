//! Seccomp: which profile a container gets. `filter` makes the kernel's program of it, in the helper.

pub mod default;
pub mod filter;
mod number;

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use crate::pod::facts::StartError;
use crate::pod::spec::{Profile, Security};

pub use filter::Filter;

/// A profile larger than this is refused: PID 1 reads it.
const LARGEST: u64 = 1 << 20;

/// The profile of a container with these capabilities in its bounding set; None: unconfined. Unset is RuntimeDefault
/// (the kubelet with seccompDefault), and a privileged container has none whatever it says, as everywhere.
///
/// `roots`: where the files of Localhost profiles are, the first that has it counts.
pub fn choose(
    security: &Security,
    capabilities: &Capabilities,
    roots: &[PathBuf],
) -> Result<Option<LinuxSeccomp>, StartError> {
    let failed = |message| StartError { reason: "CreateContainerError".into(), message, ours: false };
    if security.privileged {
        return Ok(None);
    }
    match &security.seccomp {
        Profile::Unconfined => Ok(None),
        Profile::Unset | Profile::RuntimeDefault => default::profile(capabilities)
            .map(Some)
            .map_err(|error| failed(format!("the default seccomp profile: {error}"))),
        Profile::Localhost(name) => load(name, roots).map(Some).map_err(failed),
    }
}

fn load(name: &str, roots: &[PathBuf]) -> Result<LinuxSeccomp, String> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !inside {
        return Err(format!(
            "seccomp profile {name:?}: use a path below {}",
            roots.first().map_or(Path::new("the seccomp directory"), PathBuf::as_path).display()
        ));
    }
    for root in roots {
        let path = root.join(name);
        let text = match read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|error| format!("seccomp profile {}: {error}", path.display()))?,
        };
        let profile: LinuxSeccomp = serde_json::from_str(&text)
            .map_err(|error| format!("seccomp profile {}: {error}", path.display()))?;
        Filter::compile(&profile).map_err(|error| format!("seccomp profile {}: {error}", path.display()))?;
        return Ok(profile);
    }
    let places: Vec<_> = roots.iter().map(|root| root.join(name).display().to_string()).collect();
    Err(format!("seccomp profile {name:?}: there is no file {}", places.join(" or ")))
}

fn read(path: &Path) -> io::Result<String> {
    // A fifo would hold up PID 1 for ever.
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    let read = fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST {
        return Err(io::Error::other(format!("more than {LARGEST} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxSeccompAction;

    use super::*;

    fn chosen(seccomp: Profile, privileged: bool, roots: &[PathBuf]) -> Result<Option<LinuxSeccomp>, String> {
        let security = Security { seccomp, privileged, ..Security::default() };
        choose(&security, &Capabilities::new(), roots).map_err(|why| {
            assert_eq!((why.reason.as_str(), why.ours), ("CreateContainerError", false));
            why.message
        })
    }

    /// Seccomp selection; podinit runs as a kubelet with seccompDefault.
    #[test]
    fn h3_a_container_gets_the_profile_that_it_asks_for() {
        let default = default::profile(&Capabilities::new()).expect("profile");
        for asked in [Profile::Unset, Profile::RuntimeDefault] {
            assert_eq!(chosen(asked.clone(), false, &[]), Ok(Some(default.clone())), "{asked:?}");
        }
        assert_eq!(chosen(Profile::Unconfined, false, &[]), Ok(None));
        for asked in [Profile::Unset, Profile::RuntimeDefault, Profile::Localhost("none.json".into())] {
            assert_eq!(chosen(asked.clone(), true, &[]), Ok(None), "{asked:?}, privileged");
        }
    }

    #[test]
    fn a_file_is_read_or_refused_by_name_and_reason() {
        let dir = std::env::temp_dir().join(format!("podinit-seccomp-{}", std::process::id()));
        let roots = ["one", "two"].map(|name| dir.join(name));
        for root in &roots {
            fs::create_dir_all(root.join("folder")).expect("make");
        }
        let good = r#"{"defaultAction": "SCMP_ACT_LOG"}"#;
        fs::write(roots[1].join("folder/audit.json"), good).expect("write");
        fs::write(roots[0].join("wrong.json"), r#"{"defaultAction": "SCMP_ACT_LOUD"}"#).expect("write");
        fs::write(roots[1].join("wrong.json"), good).expect("write");
        fs::write(roots[0].join("ask.json"), r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).expect("write");
        fs::write(dir.join("outside.json"), good).expect("write");
        let chosen = |name: &str| chosen(Profile::Localhost(name.into()), false, &roots);

        let found = chosen("folder/audit.json").expect("read").expect("a profile");
        assert_eq!(found.default_action(), LinuxSeccompAction::ScmpActLog);
        let one = roots[0].display();
        let table = [
            ("wrong.json", format!("seccomp profile {one}/wrong.json: unknown variant `SCMP_ACT_LOUD`")),
            ("ask.json", format!("seccomp profile {one}/ask.json: defaultAction: SCMP_ACT_NOTIFY")),
            ("folder", format!("seccomp profile {one}/folder: not a regular file")),
            ("none.json", format!("seccomp profile \"none.json\": there is no file {one}/none.json or ")),
            ("../outside.json", format!("seccomp profile \"../outside.json\": use a path below {one}")),
            ("/etc/passwd", format!("seccomp profile \"/etc/passwd\": use a path below {one}")),
            ("", format!("seccomp profile \"\": use a path below {one}")),
        ];
        for (name, message) in table {
            let error = chosen(name).expect_err(name);
            assert!(error.starts_with(&message), "{error}");
        }
        fs::remove_dir_all(&dir).expect("remove");
    }
}
