//! What a volumeMount asks for, checked: its subPath and whether it is read-only all the way down. Pure.

use std::collections::BTreeSet;

use super::env;
use super::spec::{Mount, Propagation, Recursive};

/// The path within the volume, `$(VAR)` expanded from the container's environment; empty: the whole volume.
/// Unlike in the kubelet, the image's own variables count too.
pub fn sub_path(mount: &Mount, env: &[(String, String)]) -> Result<String, String> {
    let path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expr), _) => expand(expr, env)?,
        (None, Some(path)) => path.clone(),
        (None, None) => String::new(),
    };
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(path)
}

fn expand(expr: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(BTreeSet::new());
    let path = env::expand(expr, |name| {
        let value = env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        if value.as_ref().is_none_or(String::is_empty) {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    });
    let missing: Vec<_> = missing.into_inner().into_iter().collect();
    if missing.is_empty() { Ok(path) } else { Err(format!("missing value for {}", missing.join(", "))) }
}

/// Whether what is mounted below the mount is read-only too. `able`: the kernel can do it (5.12).
pub fn recursive(mount: &Mount, able: bool) -> Result<bool, String> {
    let refused = |why: &str| {
        Err(format!("volume {:?} requested recursive read-only mode, but it is {why}", mount.volume))
    };
    match mount.recursive_read_only {
        Recursive::Disabled => Ok(false),
        Recursive::IfPossible | Recursive::Enabled if !mount.read_only => refused("not read-only"),
        Recursive::IfPossible | Recursive::Enabled if mount.propagation != Propagation::None => {
            refused(&format!("not compatible with propagation \"{:?}\"", mount.propagation))
        }
        Recursive::IfPossible => Ok(able),
        Recursive::Enabled if !able => refused("not supported by the runtime"),
        Recursive::Enabled => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B3 (rows 6 to 14) and G3 (rows 6 and 7): subPathExpr, and mount path errors.
    #[test]
    fn sub_paths() {
        let bar = [("POD_NAME".to_string(), "bar".to_string()), ("EMPTY".to_string(), String::new())];
        let expr = |text: &str| Mount { sub_path_expr: Some(text.into()), ..Mount::default() };
        let plain = |text: &str| Mount { sub_path: Some(text.into()), ..Mount::default() };
        let table = [
            (Mount::default(), Ok("")),
            (expr("foo"), Ok("foo")),
            (expr("foo/$(POD_NAME)"), Ok("foo/bar")),
            (expr(""), Ok("")),
            (expr("$(POD_NAME)/bar"), Ok("bar/bar")),
            (expr("$$(POD_NAME)"), Ok("$(POD_NAME)")),
            (plain("$(POD_NAME)"), Ok("$(POD_NAME)")),
            (expr("/foo/$(GONE)"), Err("missing value for GONE")),
            (expr("$(Z)/$(A)/$(Z)"), Err("missing value for A, Z")),
            (expr("$(EMPTY)"), Err("missing value for EMPTY")),
            (expr("$()"), Err("missing value for ")),
            (expr("$(POD_NAME$(ANNOTATION))"), Err("missing value for POD_NAME$(ANNOTATION")),
            (plain("a/..b"), Ok("a/..b")),
            (
                plain("/must/not/be/absolute"),
                Err("error SubPath `/must/not/be/absolute` must not be an absolute path"),
            ),
            (
                plain("no/backsteps/../allowed"),
                Err("unable to provision SubPath `no/backsteps/../allowed`: must not contain '..'"),
            ),
            (expr("/$(POD_NAME)"), Err("error SubPath `/bar` must not be an absolute path")),
        ];
        for (mount, expected) in table {
            let found = sub_path(&mount, &bar);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{mount:?}");
        }
    }

    /// Recursive read-only.
    #[test]
    fn recursive_read_only() {
        use Propagation::*;
        use Recursive::*;
        let no = "not read-only";
        let table = [
            (false, Disabled, Propagation::None, true, Ok(false)),
            (true, Disabled, Propagation::None, true, Ok(false)),
            (true, IfPossible, Propagation::None, true, Ok(true)),
            (true, IfPossible, Propagation::None, false, Ok(false)),
            (false, IfPossible, Propagation::None, true, Err(no)),
            (false, IfPossible, Propagation::None, false, Err(no)),
            (true, Enabled, Propagation::None, true, Ok(true)),
            (
                true,
                Enabled,
                HostToContainer,
                true,
                Err("not compatible with propagation \"HostToContainer\""),
            ),
            (true, Enabled, Bidirectional, true, Err("not compatible with propagation \"Bidirectional\"")),
            (true, IfPossible, Bidirectional, true, Err("not compatible with propagation \"Bidirectional\"")),
            (false, Enabled, Propagation::None, true, Err(no)),
            (true, Enabled, Propagation::None, false, Err("not supported by the runtime")),
        ];
        for (read_only, recursive_read_only, propagation, able, expected) in table {
            let mount =
                Mount { volume: "v".into(), read_only, recursive_read_only, propagation, ..Mount::default() };
            let expected = expected
                .map_err(|why| format!("volume \"v\" requested recursive read-only mode, but it is {why}"));
            assert_eq!(recursive(&mount, able), expected, "{mount:?} {able}");
        }
    }
}
