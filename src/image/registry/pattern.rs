//! Which images an entry of a config.json is for, as the kubelet matches them (pkg/credentialprovider, URLsMatch).

/// A key of `auths` without scheme and the API's version: `https://index.docker.io/v1/` is `index.docker.io`.
pub fn pattern(key: &str) -> String {
    let rest = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme)).unwrap_or(key);
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let path = match path.strip_prefix("/v1/").or(path.strip_prefix("/v2/")) {
        Some("") => "",
        Some(_) => path.get(3..).unwrap_or_default(),
        None if path == "/" => "",
        None => path,
    };
    format!("{host}{path}")
}

/// Whether a pattern is for a name without scheme: each label of the host by glob, the port exactly, the path by its
/// beginning (URLsMatch).
pub fn matches(pattern: &str, name: &str) -> bool {
    let parts = |text: &str| {
        let (place, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        let bracket = place.rfind(']').map_or(0, |at| at + 1);
        let port = place.get(bracket..).and_then(|rest| rest.rfind(':')).map(|at| at + bracket);
        let (host, port) = port.map_or((place, ""), |at| place.split_at(at));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((glob, glob_port, prefix), (host, port, path)) = (parts(pattern), parts(name));
    let (globs, labels): (Vec<_>, Vec<_>) = (glob.split('.').collect(), host.split('.').collect());
    glob_port == port
        && path.starts_with(&prefix)
        && globs.len() == labels.len()
        && globs.iter().zip(&labels).all(|(glob, label)| globbed(glob.as_bytes(), label.as_bytes()))
}

/// `*` is any run of letters, `?` one letter.
fn globbed(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(letter) if *letter == b'?' || Some(letter) == text.get(here) => {
                (at, here) = (at + 1, here + 1);
            }
            Some(_) | None => match &mut star {
                Some((back, from)) => {
                    *from += 1;
                    (at, here) = (*back + 1, *from);
                }
                None => return false,
            },
        }
    }
    glob.get(at..).unwrap_or_default().iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_of_one_label() {
        let table = [("*", "", true), ("a*c", "abbc", true), ("a?c", "abc", true), ("a*c*", "xac", false)];
        for (glob, text, expected) in table {
            assert_eq!(globbed(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
        assert!(globbed(b"*a*b*", b"xxaybz") && !globbed(b"*a*b", b"xxaybz") && !globbed(b"ab", b"a"));
    }
}
