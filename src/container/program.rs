//! Finds the program that a container's first word names, as seen from inside, and says plainly why it cannot run.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

/// Why a program does not run: in runc's words, and with the shell's exit code (126 found, 127 not found).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: i32,
    pub message: String,
}

impl Fault {
    /// For an errno of access(2) or execve(2).
    pub fn new(program: &str, errno: Errno) -> Fault {
        let code = if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) { 127 } else { 126 };
        Fault { code, message: format!("exec: {program:?}: {}", words(errno)) }
    }
}

/// Go's words for an errno, which a Kubernetes user knows: lower case.
pub fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// The path to run: `program` itself where it has a slash, else its first executable place in `path` (a PATH).
/// Asked with the caller's effective ids, so that a root-only program is root's to run.
pub fn find(program: &str, path: &str) -> Result<String, Fault> {
    if program.contains('/') {
        return match runnable(Path::new(program)) {
            Ok(()) => Ok(program.to_owned()),
            Err(errno) => Err(Fault::new(program, errno)),
        };
    }
    let mut denied = false;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let place = format!("{folder}/{program}");
        match runnable(Path::new(&place)) {
            Ok(()) => return Ok(place),
            Err(errno) => denied |= errno == Errno::EACCES && Path::new(&place).is_file(),
        }
    }
    match denied {
        true => Err(Fault::new(program, Errno::EACCES)),
        false => Err(Fault {
            code: 127,
            message: format!("exec: {program:?}: executable file not found in $PATH"),
        }),
    }
}

/// Of a process' environment, as `NAME=value`; the last one counts.
pub fn search_path(env: &[String]) -> &str {
    env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("")
}

fn runnable(path: &Path) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)?;
    // A directory passes for executable.
    match path.is_dir() {
        true => Err(Errno::EISDIR),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_or_refused_in_plain_words() {
        let dir = std::env::temp_dir().join(format!("podinit-program-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/folder")).expect("make");
        fs::create_dir_all(dir.join("b")).expect("make");
        for (name, mode) in [("a/dull", 0o644), ("b/dull2", 0o644), ("b/tool", 0o700), ("b/folder", 0o755)] {
            fs::write(dir.join(name), "").expect("write");
            fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).expect("chmod");
        }
        let at = |name: &str| format!("{}/{name}", dir.display());
        let path = format!("{}:{}", at("a"), at("b"));

        assert_eq!(find("tool", &path), Ok(at("b/tool")));
        assert_eq!(find("folder", &path), Ok(at("b/folder")));
        assert_eq!(find(&at("b/tool"), ""), Ok(at("b/tool")));
        let table = [
            ("nothing".to_owned(), 127, "executable file not found in $PATH"),
            (String::new(), 127, "executable file not found in $PATH"),
            ("dull".to_owned(), 126, "permission denied"),
            (at("nothing"), 127, "no such file or directory"),
            (at("a/dull"), 126, "permission denied"),
            (at("a/folder"), 126, "is a directory"),
            (at("b/tool/x"), 127, "not a directory"),
        ];
        for (program, code, words) in table {
            let fault = find(&program, &path).expect_err(&program);
            assert_eq!(fault, Fault { code, message: format!("exec: {program:?}: {words}") });
        }
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn the_last_path_counts() {
        let env = ["PATH=/a".to_owned(), "PATHS=/x".to_owned(), "PATH=/b".to_owned()];
        assert_eq!((search_path(&env), search_path(&[])), ("/b", ""));
    }
}
