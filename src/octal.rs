//! The escapes by which the kernel's tables of mounts keep a path in one word.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A path as /proc/self/mounts and mountinfo have it: space, tab, newline and backslash are `\ooo`.
pub fn unescaped(text: &[u8]) -> PathBuf {
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
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn paths_read_as_they_are() {
        for (text, path) in [
            ("/a\\040b", "/a b"),
            ("/plain", "/plain"),
            ("/a\\134x\\", "/a\\x\\"),
            ("/1234", "/1234"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text.as_bytes()), PathBuf::from(path), "{text}");
        }
        assert_eq!(unescaped(b"/a\\011\xff"), Path::new(OsStr::from_bytes(b"/a\t\xff")));
    }
}
