//! Image names: `nginx` is `docker.io/library/nginx:latest`.
//!
//! The grammar is that of the distribution project (reference.go), read by hand: its regular expression
//! costs 17 MB of memory when compiled, too much for PID 1.

use std::fmt;

const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// An image name in its full form. Neither tag nor digest given means the tag `latest`; with a digest the tag is
/// kept but only the digest decides (kubelet behaviour).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host, with its port where one was given: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Path below the registry: `library/nginx`.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:<64 hex>`.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads an image name as users write it. The error says what is wrong with which part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("invalid image name {text:?}: {why}"));
        if text.is_empty() {
            return refuse("empty");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return refuse("the digest is not sha256: and 64 hexadecimal digits");
        }
        // A colon before the last slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return refuse("the tag may hold letters, digits, '_', '.' and '-', at most 128");
        }
        let (registry, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        if !valid_host(registry) {
            return refuse("the registry is not a host name");
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        if is_hex(text, 64) {
            return refuse("64 hexadecimal digits are an image id, not a name");
        }
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return refuse("the repository must be lower case");
        }
        if !path.split('/').all(is_component) {
            return refuse("the repository may hold a-z, 0-9 and single '.', '_', '-' between them");
        }
        let library = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if library { format!("library/{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return refuse("longer than 255 characters");
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest: digest.map(str::to_owned) })
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `sha256:` and 64 lower case hexadecimal digits; the only digest that the store knows.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A first part is a registry where it cannot be anything else: the rule that every container tool follows.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

fn valid_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TAG_LIMIT
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Runs of a-z0-9 with one of `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    if !ends.iter().all(|end| end.is_some_and(|&b| word(b))) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// I1, Kubernetes' parsers_test, and the reference grammar.
    #[test]
    fn i1_names_take_their_full_form() {
        // pkg/util/parsers/parsers_test.go of Kubernetes, and the grammar's corners.
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("root:tag", "docker.io/library/root:tag"),
            ("root@sha256:HEX", "docker.io/library/root@sha256:HEX"),
            ("user/repo", "docker.io/user/repo:latest"),
            ("user/repo:tag", "docker.io/user/repo:tag"),
            ("user/repo@sha256:HEX", "docker.io/user/repo@sha256:HEX"),
            ("url:5000/repo", "url:5000/repo:latest"),
            ("url:5000/repo:tag", "url:5000/repo:tag"),
            ("url:5000/repo:latest@sha256:HEX", "url:5000/repo:latest@sha256:HEX"),
            ("localhost/a/b_c", "localhost/a/b_c:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx:1.27", "docker.io/library/nginx:1.27"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("UPPER/repo", "UPPER/repo:latest"),
            ("x/a--b__c.d", "docker.io/x/a--b__c.d:latest"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("url:5000/repo@sha256:HEX", "url:5000/repo@sha256:HEX"),
            ("root:tag@sha256:HEX", "docker.io/library/root:tag@sha256:HEX"),
            ("localhost", "docker.io/library/localhost:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("a.b/c/d/e:1.0-x_y.Z", "a.b/c/d/e:1.0-x_y.Z"),
            ("index.docker.io/user/repo", "docker.io/user/repo:latest"),
            ("a:_x", "docker.io/library/a:_x"),
            // Only the digits alone are an image's id.
            ("HEX:tag", "docker.io/library/HEX:tag"),
            ("docker.io/HEX", "docker.io/library/HEX:latest"),
            ("user/HEX", "docker.io/user/HEX:latest"),
        ];
        for (text, full) in table {
            let reference = Reference::parse(&text.replace("HEX", HEX));
            assert_eq!(reference.map(|r| r.to_string()), Ok(full.replace("HEX", HEX)), "{text}");
        }
    }

    #[test]
    fn a_full_form_is_its_own_full_form() {
        for text in ["nginx", "a/b:c", "h:1/x@sha256:HEX"] {
            let once = Reference::parse(&text.replace("HEX", HEX)).unwrap();
            assert_eq!(Reference::parse(&once.to_string()), Ok(once));
        }
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        let table = [
            ("", "empty"),
            ("ROOT", "lower case"),
            (HEX, "image id"),
            ("http://url", "registry"),
            ("FAILED_IMAGE", "lower case"),
            ("a:b c", "tag"),
            ("a:", "tag"),
            ("a@sha256:12", "digest"),
            ("a@", "digest"),
            ("a/../b", "repository"),
            ("a//b", "repository"),
            ("-a.com/b", "registry"),
            ("a.com:x/b", "registry"),
            ("/a", "repository"),
            ("a.com/", "repository"),
            ("a___b", "repository"),
            ("é", "repository"),
            ("a:.x", "tag"),
            ("a:-x", "tag"),
            ("a:b:c", "repository"),
            (" a", "repository"),
            ("a ", "repository"),
            ("a.", "repository"),
            ("_a", "repository"),
            ("a._b", "repository"),
            ("user/Repo", "lower case"),
            ("docker.io/ROOT:tag", "lower case"),
            ("a@b@c", "digest"),
            ("a@sha256:", "digest"),
            ("@sha256:12", "digest"),
            (":tag", "repository"),
            ("a.com:/b", "registry"),
            ("HTTPS://a/b", "registry"),
        ];
        for (text, word) in table {
            let error = Reference::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(Reference::parse(&"a".repeat(300)).is_err_and(|e| e.contains("255")));
        assert!(Reference::parse(&format!("a:{}", "b".repeat(129))).is_err());
    }
}
