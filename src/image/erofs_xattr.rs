//! Extended attributes of EROFS, all inline behind their inode.

use std::collections::BTreeMap;
use std::io;

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
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let known = PREFIXES.iter().find_map(|&(prefix, index)| {
            let rest = name.strip_prefix(prefix)?;
            (prefix.ends_with(b".") != rest.is_empty()).then_some((index, rest))
        });
        if let Some((index, rest)) = known {
            push(&mut out, index, rest, value)?;
        }
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
    add(xattrs, b"overlay.opaque", b"y")
}

/// Marks a directory that the archive does not describe (`itself`), or one on the way to such a one (see `implied`).
pub fn add_implied(xattrs: &mut Vec<u8>, itself: bool) -> io::Result<()> {
    add(xattrs, b"overlay.implied", if itself { b"y" } else { b"n" })
}

/// A trusted attribute of our own.
fn add(xattrs: &mut Vec<u8>, name: &[u8], value: &[u8]) -> io::Result<()> {
    if xattrs.is_empty() {
        xattrs.resize(HEADER, 0);
    }
    push(xattrs, 4, name, value)
}

fn push(out: &mut Vec<u8>, index: u8, name: &[u8], value: &[u8]) -> io::Result<()> {
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
