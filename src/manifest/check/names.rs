//! The syntaxes of Kubernetes' names, each with what would do.
//!
//! Source: RFC 1123 as Kubernetes' apimachinery/pkg/util/validation applies it.

use crate::manifest::tree::quote;
use crate::pod::env;

/// Lower-case letters, digits and dashes, at most 63.
pub fn label(text: &str) -> Result<(), String> {
    if text.len() <= 63 && is_label(text) {
        return Ok(());
    }
    let cure = "use at most 63 lower-case letters, digits and '-', a letter or digit first and last";
    Err(format!("{} is not a DNS label: {cure}", quote(text)))
}

/// Such labels with dots between, at most 253.
pub fn subdomain(text: &str) -> Result<(), String> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    let cure = "use at most 253 lower-case letters, digits, '-' and '.', a letter or digit first and last";
    Err(format!("{} is not a DNS subdomain: {cure}", quote(text)))
}

/// A label's key: `[subdomain/]name`. An annotation's key is one in lower case.
pub fn key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if is_word(name) && prefix.is_none_or(|prefix| subdomain(prefix).is_ok()) {
        return Ok(());
    }
    let cure =
        "use at most 63 letters, digits, '-', '_' and '.', with an optional DNS subdomain and '/' before";
    Err(format!("{} is not a valid key: {cure}", quote(text)))
}

/// A label's value.
pub fn value(text: &str) -> Result<(), String> {
    if text.is_empty() || is_word(text) {
        return Ok(());
    }
    let cure = "use at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last";
    Err(format!("{} is not a valid label value: {cure}", quote(text)))
}

/// A port's name: an IANA service name.
pub fn port(text: &str) -> Result<(), String> {
    let letters =
        |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let valid = (1..=15).contains(&text.len())
        && letters(text)
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid {
        return Ok(());
    }
    let cure = "use at most 15 lower-case letters, digits and single '-' between them, one of them a letter";
    Err(format!("{} is not a port name: {cure}", quote(text)))
}

/// A variable's name: printable ASCII without '='.
pub fn variable(text: &str) -> Result<(), String> {
    if env::variable(text) {
        return Ok(());
    }
    Err(format!("{} is not a variable's name: use printable ASCII without '='", quote(text)))
}

/// A key of a ConfigMap or Secret, which is a file's name in a volume.
pub fn config_key(text: &str) -> Result<(), String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if letters && (1..=253).contains(&text.len()) && text != "." && !text.starts_with("..") {
        return Ok(());
    }
    let cure = "use at most 253 letters, digits, '-', '_' and '.', not '..' first";
    Err(format!("{} is not a key of a ConfigMap or Secret: {cure}", quote(text)))
}

/// A file's place within a volume, without doubled slashes. A name that begins with `..` is the volume's own.
pub fn inner_path(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let why = if text.is_empty() {
        return Err("is missing: give a file's place within the volume, such as conf/app.toml".into());
    } else if text.starts_with('/') {
        "is an absolute path: begin within the volume"
    } else if parts.contains(&"..") {
        "holds \"..\": stay within the volume"
    } else if text.starts_with("..") {
        "begins with \"..\", as only the volume's own files do: use another name"
    } else if parts.is_empty() {
        "names no file: give its place within the volume"
    } else if text.len() > 4096 || parts.iter().any(|part| part.len() > 255) {
        "is too long: use at most 4096 bytes, and 255 for each name"
    } else {
        return Ok(parts.join("/"));
    };
    Err(format!("{} {why}", quote(text)))
}

/// A uid names files and cgroups.
pub fn uid(text: &str) -> Result<(), String> {
    let valid = text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid {
        return Ok(());
    }
    Err(format!(
        "{} is not a uid: use at most 63 letters, digits, '-', '_' and '.', or leave it out",
        quote(text)
    ))
}

fn is_label(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Result<(), String>;

    #[test]
    fn names_are_judged_as_kubernetes_judges() {
        let long = "a".repeat(64);
        let table: [(&str, Check, &[&str], &[&str]); 7] = [
            (
                "label",
                label,
                &["a", "a-1", "1a", &long[1..]],
                &["", "A", "a.b", "-a", "a-", "a_b", "ä", &long],
            ),
            (
                "subdomain",
                subdomain,
                &["a", "a.b", "a-1.2b"],
                &["", "a..b", ".a", "a.", "A.b", "a_b", "a.-b"],
            ),
            (
                "key",
                key,
                &["a", "A.b_c-d", "x.io/A", &long[1..]],
                &["", "a/", "/a", "X.io/a", "a/b/c", "a~b", "-a", &long],
            ),
            ("value", value, &["", "a", "A_b.c-1"], &["-a", "a-", "a b", "a/b", &long]),
            (
                "port",
                port,
                &["abc", "easy", "do-re-me", "a1", "1a"],
                &["", "a.b.c", "80", "abcdefghijklmnop", "a--b", "-a", "a-", "Abc"],
            ),
            ("variable", variable, &["A", "a.b", "my var", "_", "1"], &["", "a=b", "ä", "a\tb"]),
            ("uid", uid, &["a", "0f-1_2.3"], &["", "..", ".a", "a/b", "a b", &long]),
        ];
        for (name, check, good, bad) in table {
            for text in good {
                assert!(check(text).is_ok(), "{name}: {text}");
            }
            for text in bad {
                assert!(check(text).is_err(), "{name}: {text}");
            }
        }
    }
}
