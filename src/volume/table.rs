//! What is mounted, as the kernel's own table tells it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::octal::unescaped;

/// The mount points at or below the path, in the order in which they were made.
pub fn mounts(path: &Path) -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(unescaped).filter(|point| point.starts_with(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_where_they_are() {
        assert!(mounts(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert!(mounts(Path::new("/proc/no-such-place")).is_empty());
    }
}
