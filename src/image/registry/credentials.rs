//! Who pulls: Docker's config.json and .dockercfg, and the Secrets that hold such, read and matched as the kubelet does
//! (pkg/credentialprovider).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::Reference;
use super::base64::{decode, encode};
use super::pattern::{matches, pattern};

/// What Docker's tools file Docker Hub's login under.
const HUB: &str = "index.docker.io";

/// A user and a password, or without a user a token that stands for both (Docker's identitytoken), which no message
/// repeats.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Login({})", if self.is_token() { "token" } else { &self.user })
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

    /// Whether it is an identity token, for which a token server gives others (OAuth 2.0, refresh_token).
    pub fn is_token(&self) -> bool {
        self.user.is_empty()
    }

    /// The value of the Authorization header.
    pub fn basic(&self) -> String {
        format!("Basic {}", encode(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// In which form logins are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Docker's config.json.
    Config,
    /// Its older .dockercfg: the entries alone.
    Legacy,
}

/// A Secret of imagePullSecrets, which no message repeats.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `namespace/name`.
    pub name: String,
    pub form: Form,
    pub text: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({})", self.name)
    }
}

impl Secret {
    /// None: a Secret of this type holds no logins, or not under its key.
    pub fn of(name: &str, kind: &str, data: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let (form, key) = match kind {
            "kubernetes.io/dockerconfigjson" => (Form::Config, ".dockerconfigjson"),
            "kubernetes.io/dockercfg" => (Form::Legacy, ".dockercfg"),
            _ => return None,
        };
        let text = data.get(key).filter(|bytes| !bytes.is_empty())?;
        Some(Secret { name: name.to_owned(), form, text: String::from_utf8_lossy(text).into_owned() })
    }
}

/// The files that hold logins, in the kubelet's order: the first that can be read counts. Its working directory is `/`,
/// as a daemon's is. `root`: where the images lie in.
pub fn files(root: &Path, home: Option<&Path>) -> Vec<(Form, PathBuf)> {
    let home = || home.into_iter().filter(|home| home.is_absolute());
    let config = [root.to_owned(), "/".into()].into_iter().chain(home().map(|home| home.join(".docker")));
    let config = config.chain(["/.docker".into()]).map(|folder| (Form::Config, folder.join("config.json")));
    let legacy = [root.to_owned(), "/".into()].into_iter().chain(home().map(Path::to_owned));
    let legacy = legacy.map(|folder| (Form::Legacy, folder.join(".dockercfg")));
    let mut files: Vec<_> = Vec::new();
    for file in config.chain(legacy) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
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
    /// Reads logins. An entry that cannot be used is left out, and told in the second part by its place, never by its
    /// content; an error: it is no such text.
    pub fn parse(form: Form, bytes: &[u8]) -> Result<(Self, Vec<String>), String> {
        let (name, auths) = match form {
            Form::Config => ("config.json", serde_json::from_slice(bytes).map(|file: File| file.auths)),
            Form::Legacy => (".dockercfg", serde_json::from_slice(bytes)),
        };
        // serde's own words may hold a value.
        let wrong =
            |why: serde_json::Error| format!("not a {name}, line {} column {}", why.line(), why.column());
        let (mut keyring, mut left_out) = (Keyring::default(), Vec::new());
        for (place, entry) in auths.map_err(wrong)? {
            match entry.login() {
                Ok(Some(login)) => keyring.entries.push((pattern(&place), login)),
                // Docker leaves an empty entry where a credential helper has the rest.
                Ok(None) => {}
                Err(why) => left_out.push(format!("auths: {place}: {why}")),
            }
        }
        keyring.sort();
        Ok((keyring, left_out))
    }

    /// Adds another's logins; which are first is by their patterns.
    pub fn add(&mut self, other: Keyring) {
        self.entries.extend(other.entries);
        self.sort();
    }

    fn sort(&mut self) {
        self.entries.sort_by(|(one, _), (other, _)| other.cmp(one));
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
        let token = Some(self.identitytoken).filter(|token| !token.is_empty());
        Ok(token.map(|password| Login { user: String::new(), password }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(keys: &[&str], image: &str) -> Vec<String> {
        let auths: BTreeMap<&str, _> =
            keys.iter().map(|key| (*key, serde_json::json!({"username": key, "password": "p"}))).collect();
        let file = serde_json::json!({ "auths": auths }).to_string();
        let (keyring, left_out) = Keyring::parse(Form::Config, file.as_bytes()).unwrap();
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
            let (keyring, left_out) = Keyring::parse(Form::Config, file.as_bytes()).unwrap();
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
            // Docker writes a user without a password beside it.
            (r#"{"auth": "dTo=", "identitytoken": "hunter2"}"#, login("", "hunter2")),
            (r#"{"identitytoken": "hunter2"}"#, login("", "hunter2")),
        ];
        for (entry, expected) in good {
            assert_eq!(read(entry), (Some(expected), String::new()), "{entry}");
        }
        let bad = [
            (r#"{"auth": "dXNlcg=="}"#, "auths: h.io: auth is not USER:PASSWORD in base64"),
            (r#"{"auth": "hunter2!"}"#, "auths: h.io: auth is not USER:PASSWORD in base64"),
        ];
        for (entry, part) in bad {
            let (found, told) = read(entry);
            assert!(found.is_none() && told.contains(part) && !told.contains("hunter2"), "{entry}: {told}");
        }
        assert_eq!(read("{}"), (None, String::new()));
        let no_json = Keyring::parse(Form::Config, b"{\"auths\": {\"h\": {\"auth\": 12345}}}").unwrap_err();
        assert!(no_json.starts_with("not a config.json, line 1") && !no_json.contains("12345"), "{no_json}");
        assert_eq!(format!("{:?}", login("u", "hunter2")), "Login(u)");
        assert_eq!(format!("{:?}", login("", "hunter2")), "Login(token)");
        assert_eq!(login("u", "p:w").basic(), "Basic dTpwOnc=");
        assert!(Login::parse("u").is_err() && Login::parse(":p").is_err());
    }

    #[test]
    fn logins_of_secrets_and_files_come_in_the_kubelets_order() {
        let legacy =
            br#"{"h.io": {"auth": "dTpw"}, "h.io/a": {"username": "v", "password": "p", "email": "x"}}"#;
        let (mut keyring, left_out) = Keyring::parse(Form::Legacy, legacy).unwrap();
        let config = br#"{"auths": {"h.io/a/b": {"username": "w", "password": "p"}}, "HttpHeaders": {}}"#;
        keyring.add(Keyring::parse(Form::Config, config).unwrap().0);
        let users: Vec<_> = keyring.lookup(&Reference::parse("h.io/a/b").unwrap());
        assert_eq!(users.iter().map(|login| login.user.as_str()).collect::<Vec<_>>(), ["w", "v", "u"]);
        assert_eq!(left_out, [""; 0]);
        // A config.json is no .dockercfg, and the other way round it has no entries.
        assert!(Keyring::parse(Form::Legacy, b"{\"auths\": 1}").unwrap_err().starts_with("not a .dockercfg"));
        assert_eq!(Keyring::parse(Form::Config, legacy).unwrap().0, Keyring::default());

        let data = |key: &str| [(key.to_owned(), b"{}".to_vec())].into();
        for (kind, key, form) in [
            ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", Some(Form::Config)),
            ("kubernetes.io/dockercfg", ".dockercfg", Some(Form::Legacy)),
            ("kubernetes.io/dockercfg", ".dockerconfigjson", None),
            ("Opaque", ".dockerconfigjson", None),
            ("", ".dockercfg", None),
        ] {
            let secret = Secret::of("n/s", kind, &data(key));
            assert_eq!(secret.as_ref().map(|secret| secret.form), form, "{kind} {key}");
            assert!(secret.is_none_or(|secret| format!("{secret:?}") == "Secret(n/s)"));
        }

        let shown = |home: Option<&str>| -> Vec<String> {
            let files = files(Path::new("/var/lib/podinit"), home.map(Path::new));
            files.into_iter().map(|(form, path)| format!("{form:?} {}", path.display())).collect()
        };
        let all = [
            "Config /var/lib/podinit/config.json",
            "Config /config.json",
            "Config /root/.docker/config.json",
            "Config /.docker/config.json",
            "Legacy /var/lib/podinit/.dockercfg",
            "Legacy /.dockercfg",
            "Legacy /root/.dockercfg",
        ];
        assert_eq!(shown(Some("/root")), all);
        let homeless: Vec<_> = all.into_iter().filter(|file| !file.contains("root")).collect();
        assert_eq!(
            (shown(None), shown(Some("/")), shown(Some(""))),
            (to(&homeless), to(&homeless), to(&homeless))
        );
    }

    fn to(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
