//! Who pulls: Docker's config.json, read and matched as the kubelet does (pkg/credentialprovider).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::Reference;

/// What Docker's tools file Docker Hub's login under.
const HUB: &str = "index.docker.io";

/// A user and a password, which no message repeats.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Login({})", self.user)
    }
}

impl Login {
    /// Reads `USER:PASSWORD`; only the first colon divides.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Login { user: user.into(), password: password.into() })
            }
            _ => Err("credentials must be USER:PASSWORD".into()),
        }
    }

    /// The value of the Authorization header.
    pub fn basic(&self) -> String {
        format!("Basic {}", encode(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// The logins of a config.json, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// Longer patterns come first, as in the kubelet: it sorts them backwards.
    entries: Vec<(String, Login)>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

impl Keyring {
    /// Reads a config.json. An entry that cannot be used is left out, and told in the second part by its place, never
    /// by its content; an error: it is no config.json.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<String>), String> {
        let file: File = serde_json::from_slice(bytes).map_err(|why| {
            // serde's own words may hold a value.
            format!("not a config.json, line {} column {}", why.line(), why.column())
        })?;
        let (mut keyring, mut left_out) = (Keyring::default(), Vec::new());
        for (place, entry) in file.auths {
            match entry.login() {
                Ok(Some(login)) => keyring.entries.push((pattern(&place), login)),
                // Docker leaves an empty entry where a credential helper has the rest.
                Ok(None) => {}
                Err(why) => left_out.push(format!("auths: {place}: {why}")),
            }
        }
        keyring.entries.sort_by(|(one, _), (other, _)| other.cmp(one));
        Ok((keyring, left_out))
    }

    /// The logins to try in turn for an image, the most specific first.
    pub fn lookup(&self, image: &Reference) -> Vec<Login> {
        let name = image.name();
        let matching = self.entries.iter().filter(|(pattern, _)| matches(pattern, &name));
        let mut found: Vec<Login> = Vec::new();
        for (_, login) in matching {
            if !found.contains(login) {
                found.push(login.clone());
            }
        }
        if found.is_empty() && image.registry == "docker.io" {
            let hub = self.entries.iter().filter(|(pattern, _)| pattern == HUB);
            found.extend(hub.map(|(_, login)| login.clone()).take(1));
        }
        found
    }
}

impl Entry {
    fn login(self) -> Result<Option<Login>, String> {
        if !self.auth.is_empty() {
            let wrong = || "auth is not USER:PASSWORD in base64".to_owned();
            let text = decode(self.auth.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker itself pads with NUL.
            let text = text.ok_or_else(wrong)?;
            let login = Login::parse(text.trim_end_matches('\0')).map_err(|_| wrong())?;
            if !login.password.is_empty() || self.identitytoken.is_empty() {
                return Ok(Some(login));
            }
        } else if !self.username.is_empty() {
            return Ok(Some(Login { user: self.username, password: self.password }));
        }
        match self.identitytoken.is_empty() {
            true => Ok(None),
            false => {
                Err("an identitytoken is not supported: give a user and a password, or an access token \
                          as the password, in auth"
                    .into())
            }
        }
    }
}

/// A key of `auths` without scheme and the API's version: `https://index.docker.io/v1/` is `index.docker.io`.
fn pattern(key: &str) -> String {
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
fn matches(pattern: &str, name: &str) -> bool {
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

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, at| number << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let letter = LETTERS.get((number >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if at > three.len() { '=' } else { letter.into() });
        }
    }
    text
}

/// Standard base64, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.bytes() {
        let six = LETTERS.iter().position(|other| *other == letter)?;
        bits = bits << 6 | six as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    (text.len() % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(keys: &[&str], image: &str) -> Vec<String> {
        let auths: BTreeMap<&str, _> =
            keys.iter().map(|key| (*key, serde_json::json!({"username": key, "password": "p"}))).collect();
        let file = serde_json::json!({ "auths": auths }).to_string();
        let (keyring, left_out) = Keyring::parse(file.as_bytes()).unwrap();
        assert_eq!(left_out, [""; 0]);
        keyring.lookup(&Reference::parse(image).unwrap()).into_iter().map(|login| login.user).collect()
    }

    #[test]
    fn a_login_is_found_as_the_kubelet_finds_it() {
        // keyring_test.go: TestURLsMatch, TestDockerKeyringForGlob, TestDockerKeyringLookup.
        let table: &[(&[&str], &str, &[&str])] = &[
            (&["hello.kubernetes.io"], "hello.kubernetes.io/foo/bar", &["hello.kubernetes.io"]),
            (&["*.kubernetes.io"], "prefix.kubernetes.io/foo/bar", &["*.kubernetes.io"]),
            (&["prefix.*.io"], "prefix.kubernetes.io/foo/bar", &["prefix.*.io"]),
            (&["prefix.kubernetes.*"], "prefix.kubernetes.io/foo/bar", &["prefix.kubernetes.*"]),
            (&["*-good.kubernetes.io"], "prefix-good.kubernetes.io/foo", &["*-good.kubernetes.io"]),
            (&["*.kubernetes.io/foo"], "prefix.kubernetes.io/foo/bar", &["*.kubernetes.io/foo"]),
            (&["*.kubernetes.io:1111"], "prefix.kubernetes.io:1111/foo", &["*.kubernetes.io:1111"]),
            (&["*.kubernetes.io"], "prefix.kubernetes.io:80/foo", &[]),
            (&["*.kubernetes.io"], "kubernetes.io/foo", &[]),
            (&["*.kubernetes.io"], "a.b.kubernetes.io/foo", &[]),
            (&["kubernetes.io/foo"], "kubernetes.io/bar", &[]),
            (&["*.*.kubernetes.io"], "a.b.kubernetes.io/foo", &["*.*.kubernetes.io"]),
            (&["https://gcr.io/"], "gcr.io/a", &["https://gcr.io/"]),
            (&["https://gcr.io/v2/"], "gcr.io/a", &["https://gcr.io/v2/"]),
            (&["http://gcr.io/v1/a"], "gcr.io/a/b", &["http://gcr.io/v1/a"]),
            (&["[::1]:5000"], "[::1]:5000/a", &["[::1]:5000"]),
            // The longest first, then the rest in turn.
            (
                &["bar.example.com", "bar.example.com/pong", "*.example.com"],
                "bar.example.com/pong",
                &["bar.example.com/pong", "bar.example.com", "*.example.com"],
            ),
            (&["bar.example.com", "bar.example.com/pong"], "bar.example.com/ping", &["bar.example.com"]),
            // Docker Hub's own key, only where nothing else is for the image.
            (&["https://index.docker.io/v1/"], "nginx", &["https://index.docker.io/v1/"]),
            (&["index.docker.io", "docker.io"], "user/a", &["docker.io"]),
            (&["index.docker.io"], "quay.io/a/b", &[]),
        ];
        for (keys, image, expected) in table {
            assert_eq!(users(keys, image), *expected, "{keys:?} {image}");
        }
    }

    #[test]
    fn every_form_of_an_entry_is_read_or_told_without_its_secret() {
        let read = |entry: &str| {
            let file = format!("{{\"auths\": {{\"h.io\": {entry}}}, \"credsStore\": \"x\"}}");
            let (keyring, left_out) = Keyring::parse(file.as_bytes()).unwrap();
            (keyring.entries.into_iter().map(|(_, login)| login).next(), left_out.concat())
        };
        let login = |user: &str, password: &str| Login { user: user.into(), password: password.into() };
        let good = [
            (r#"{"auth": "dXNlcjpwYXNz"}"#, login("user", "pass")),
            (r#"{"auth": "dTpwOnc="}"#, login("u", "p:w")),
            (r#"{"auth": "dTpwOnc"}"#, login("u", "p:w")),
            (r#"{"username": "u", "password": "p"}"#, login("u", "p")),
            (r#"{"username": "no", "password": "no", "auth": "dXNlcjpwYXNz"}"#, login("user", "pass")),
            (r#"{"auth": "dXNlcjpwYXNz", "identitytoken": "t"}"#, login("user", "pass")),
        ];
        for (entry, expected) in good {
            assert_eq!(read(entry), (Some(expected), String::new()), "{entry}");
        }
        let bad = [
            (r#"{"auth": "dXNlcg=="}"#, "auths: h.io: auth is not USER:PASSWORD in base64"),
            (r#"{"auth": "hunter2!"}"#, "auths: h.io: auth is not USER:PASSWORD in base64"),
            (r#"{"auth": "dTo=", "identitytoken": "hunter2"}"#, "an identitytoken is not supported"),
            (r#"{"identitytoken": "hunter2"}"#, "an identitytoken is not supported"),
        ];
        for (entry, part) in bad {
            let (found, told) = read(entry);
            assert!(found.is_none() && told.contains(part) && !told.contains("hunter2"), "{entry}: {told}");
        }
        assert_eq!(read("{}"), (None, String::new()));
        let no_json = Keyring::parse(b"{\"auths\": {\"h\": {\"auth\": 12345}}}").unwrap_err();
        assert!(no_json.starts_with("not a config.json, line 1") && !no_json.contains("12345"), "{no_json}");
        assert_eq!(format!("{:?}", login("u", "hunter2")), "Login(u)");
        assert_eq!(login("u", "p:w").basic(), "Basic dTpwOnc=");
        assert!(Login::parse("u").is_err() && Login::parse(":p").is_err());
    }

    #[test]
    fn base64_is_undone() {
        for length in 0..70u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37)).collect();
            let text = encode(&bytes);
            assert!(text.len().is_multiple_of(4), "{text}");
            assert_eq!(decode(&text), Some(bytes));
        }
        assert_eq!(decode("A"), None);
        assert_eq!(decode("A-=="), None);
    }

    #[test]
    fn globs_are_of_one_label() {
        let table = [("*", "", true), ("a*c", "abbc", true), ("a?c", "abc", true), ("a*c*", "xac", false)];
        for (glob, text, expected) in table {
            assert_eq!(globbed(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
        assert!(globbed(b"*a*b*", b"xxaybz") && !globbed(b"*a*b", b"xxaybz") && !globbed(b"ab", b"a"));
    }
}
