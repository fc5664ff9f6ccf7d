//! Extended attributes of EROFS, all inline behind their inode.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;

/// How names begin that overlay keeps to itself: no container sees such attributes.
pub const OWN: &[u8] = b"trusted.overlay.";
/// The mark of a directory that hides all that lower layers have in it.
pub const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The mark of a directory that the archive does not describe, or of one on the way to such a one (see `implied`).
pub const IMPLIED: &CStr = c"trusted.overlay.implied";
/// What `IMPLIED` says of a directory that is implied itself.
pub const ITSELF: &[u8] = b"y";

const HEADER: usize = 12;
/// The name prefixes that the format knows by number; a name outside of them cannot be kept.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The attributes as they follow an inode; empty where there are none. Attributes in no namespace of Linux (those of
/// other systems) are left out, as every OCI tool does. So are overlay's own: a layer may not give itself a redirect.
pub fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut out = vec![0; HEADER];
    for (name, value) in xattrs {
        if name.starts_with(OWN) || name.starts_with(b"user.overlay.") {
            continue;
        }
        push(&mut out, name, value)?;
    }
    if out.len() == HEADER {
        out.clear();
    }
    Ok(out)
}

/// The attributes of bytes that `encode` made.
pub fn decode(bytes: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "damaged layer: attributes");
    let mut xattrs = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(xattrs);
    }
    // Shared attributes are never written.
    let mut rest = bytes.get(HEADER..).filter(|_| bytes.get(4) == Some(&0)).ok_or_else(bad)?;
    while let [length, index, low, high, after @ ..] = rest {
        let (length, size) = (usize::from(*length), usize::from(u16::from_le_bytes([*low, *high])));
        let (prefix, _) = PREFIXES.iter().find(|(_, known)| known == index).ok_or_else(bad)?;
        let (name, value) = (after.get(..length), after.get(length..length + size));
        xattrs.insert([prefix, name.ok_or_else(bad)?].concat(), value.ok_or_else(bad)?.to_vec());
        rest = after.get((4 + length + size).next_multiple_of(4) - 4..).ok_or_else(bad)?;
    }
    if rest.is_empty() { Ok(xattrs) } else { Err(bad()) }
}

/// Marks a directory as hiding all that lower layers have in it.
pub fn add_opaque(xattrs: &mut Vec<u8>) -> io::Result<()> {
    add(xattrs, OPAQUE, b"y")
}

/// Marks a directory that the archive does not describe (`itself`), or one on the way to such a one (see `implied`).
pub fn add_implied(xattrs: &mut Vec<u8>, itself: bool) -> io::Result<()> {
    add(xattrs, IMPLIED, if itself { ITSELF } else { b"n" })
}

/// An attribute that no archive may bring.
fn add(xattrs: &mut Vec<u8>, name: &CStr, value: &[u8]) -> io::Result<()> {
    if xattrs.is_empty() {
        xattrs.resize(HEADER, 0);
    }
    push(xattrs, name.to_bytes(), value)
}

/// A name in no namespace that the format knows adds nothing.
fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let known = PREFIXES.iter().find_map(|&(prefix, index)| {
        let rest = name.strip_prefix(prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((index, rest))
    });
    let Some((index, name)) = known else { return Ok(()) };
    let too_large =
        || io::Error::other(format!("extended attribute {:?} is too large", String::from_utf8_lossy(name)));
    out.push(u8::try_from(name.len()).map_err(|_| too_large())?);
    out.push(index);
    out.extend_from_slice(&u16::try_from(value.len()).map_err(|_| too_large())?.to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_numbered_by_namespace_and_aligned() {
        let xattrs =
            [("user.a", "x"), ("security.capability", "cap"), ("com.apple.x", "no"), ("user.", "no")]
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let out = encode(&xattrs.into()).unwrap();
        let expected =
            [&[0; 12][..], &[10, 6, 3, 0], b"capabilitycap\0\0\0", &[1, 1, 1, 0], b"ax\0\0"].concat();
        assert_eq!(out, expected);
        let back = decode(&out).unwrap();
        assert_eq!(back.len(), 2);
        assert_eq!(back[&b"security.capability"[..]], b"cap");
        assert!(decode(&out[..out.len() - 4]).is_err() && decode(&[]).unwrap().is_empty());
        assert!(encode(&BTreeMap::new()).unwrap().is_empty());
        assert!(encode(&[(b"user.x".to_vec(), vec![0; 70_000])].into()).is_err());
    }

    #[test]
    fn overlay_attributes_are_ours_alone() {
        let forged = [(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec())];
        assert!(encode(&forged.clone().into()).unwrap().is_empty());
        let mut opaque = encode(&forged.into()).unwrap();
        add_opaque(&mut opaque).unwrap();
        assert_eq!(&opaque[12..], [&[14, 4, 1, 0][..], b"overlay.opaquey\0"].concat());
    }
}
