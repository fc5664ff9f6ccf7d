//! What is mounted, as the kernel's own table tells it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points at or below the path, in the order in which they were made.
pub fn mounts(path: &Path) -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(unescaped).filter(|point| point.starts_with(path)).collect()
}

/// A mount point as /proc/self/mountinfo has it: space, tab, newline and backslash are `\ooo`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_read_as_they_are() {
        for (text, path) in
            [("/a\\040b", "/a b"), ("/plain", "/plain"), ("/a\\134x\\", "/a\\x\\"), ("/1234", "/1234")]
        {
            assert_eq!(unescaped(text.as_bytes()), PathBuf::from(path), "{text}");
        }
        assert!(mounts(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert!(mounts(Path::new("/proc/no-such-place")).is_empty());
    }
}
