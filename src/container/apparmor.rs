//! AppArmor: whether this kernel has it, which profiles are loaded, and the change of profile at exec.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

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
    set(Path::new("/proc/thread-self/attr"), profile)
}

/// Only where the module has no file of its own is the other one its: another module may have that, and where a profile
/// is not loaded, this one's own answer is the one to tell.
fn set(attributes: &Path, profile: &str) -> io::Result<()> {
    let own = attributes.join("apparmor/exec");
    let file = if own.exists() { own } else { attributes.join("exec") };
    let mut open = OpenOptions::new().write(true).open(file)?;
    // The kernel takes it by one write.
    open.write_all(format!("exec {profile}").as_bytes())
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

    /// A stand-in for /proc/thread-self/attr: no kernel here has the module in force.
    #[test]
    fn a_profile_is_asked_for_where_the_module_listens() {
        let dir = std::env::temp_dir().join(format!("podinit-apparmor-{}", std::process::id()));
        let said = |file: &str| fs::read_to_string(dir.join(file)).ok();
        fs::create_dir_all(&dir).expect("make");
        assert!(set(&dir, "x").is_err(), "no module makes no file");
        assert_eq!(said("exec"), None);
        fs::write(dir.join("exec"), "").expect("write");
        set(&dir, "cri-containerd.apparmor.d").expect("the shared file");
        assert_eq!(said("exec").as_deref(), Some("exec cri-containerd.apparmor.d"));
        fs::create_dir(dir.join("apparmor")).expect("make");
        fs::write(dir.join("apparmor/exec"), "").expect("write");
        set(&dir, "my own").expect("its own file");
        assert_eq!(said("apparmor/exec").as_deref(), Some("exec my own"));
        assert_eq!(said("exec").as_deref(), Some("exec cri-containerd.apparmor.d"));
        // The shared one is not asked after a refusal of its own.
        fs::remove_file(dir.join("apparmor/exec")).expect("remove");
        fs::create_dir(dir.join("apparmor/exec")).expect("make");
        assert!(set(&dir, "none").is_err());
        assert_eq!(said("exec").as_deref(), Some("exec cri-containerd.apparmor.d"));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
