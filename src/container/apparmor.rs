//! AppArmor: whether this kernel has it, which profiles are loaded, and the change of profile at exec.

use std::fs;
use std::io;

/// The kernel's list, `name (mode)` a line, in securityfs.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// The names of the loaded profiles; None: the kernel has no AppArmor, or it is switched off. Where the list cannot be
/// read (no securityfs is mounted) none is loaded: nobody could have loaded one.
pub fn loaded() -> Option<Vec<String>> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
    if !enabled.starts_with('Y') {
        return None;
    }
    Some(names(&fs::read_to_string(PROFILES).unwrap_or_default()))
}

fn names(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0.to_owned())).collect()
}

/// For the next exec of this process. By the module's own file (Linux 5.8), else by the one that all modules share.
pub fn at_exec(profile: &str) -> io::Result<()> {
    let word = format!("exec {profile}");
    let own = fs::write("/proc/thread-self/attr/apparmor/exec", &word);
    own.or_else(|_| fs::write("/proc/thread-self/attr/exec", &word))
        .map_err(|error| io::Error::new(error.kind(), format!("profile {profile}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_without_their_modes() {
        let text =
            "/usr/bin/man (enforce)\ncri-containerd.apparmor.d (complain)\nmy (own) one (kill)\nbroken\n";
        assert_eq!(names(text), ["/usr/bin/man", "cri-containerd.apparmor.d", "my (own) one"]);
    }
}
