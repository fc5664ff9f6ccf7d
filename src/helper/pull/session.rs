//! One server that is asked for one image: by which way, as whom, and what its answers mean.

use std::fmt::Write as _;
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::config::Proxies;
use crate::helper::client::http::{self, Head};
use crate::helper::client::proxy::Proxy;
use crate::helper::client::url::{Url, authority};
use crate::helper::client::{Authorities, Body, Stream, Trouble, connect, tls};
use crate::image::registry::challenge::{self, Challenge};
use crate::image::registry::credentials::Login;
use crate::image::registry::endpoint::{self, Endpoint};
use crate::image::registry::manifest;

/// How long it may take to connect, and how long each read or write after that.
const CONNECT: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 10;
/// How often a manifest is asked for; who wants the image asks again later anyway.
const TRIES: u32 = 3;
/// The longest wait that a server may ask for within one pull.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an error's text is read, and of a token's.
const TEXT: u64 = 64 << 10;
const AGENT: &str = concat!("podinit/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work a little later; not before this long, where the server said so.
    Passing(String, Option<Duration>),
    /// Not for us, or not for this login.
    Refused(String),
    /// The server has no such thing.
    Missing,
    Final(String),
}

impl Failure {
    pub fn told(self, what: &str) -> String {
        match self {
            Failure::Missing => format!("{what}: not found"),
            Failure::Passing(why, _) | Failure::Refused(why) | Failure::Final(why) => {
                format!("{what}: {why}")
            }
        }
    }

    fn passing(trouble: &Trouble) -> Self {
        Failure::Passing(trouble.to_string(), None)
    }
}

pub type Answer = (Head, Body<Box<dyn Stream>>);

pub struct Session {
    endpoint: Endpoint,
    proxies: Proxies,
    trust: Result<Authorities, String>,
    logins: Vec<Login>,
    /// How long each read and write may take.
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// It speaks no TLS.
    plain: bool,
    /// The value of Authorization.
    authorization: Option<String>,
    /// Which login is used.
    login: usize,
}

impl Session {
    /// `authorities`: as for `Authorities::of`. The error tells of a proxy or a file that cannot be used.
    pub fn new(
        endpoint: Endpoint,
        logins: Vec<Login>,
        proxies: &Proxies,
        authorities: &[&str],
    ) -> Result<Self, String> {
        let trust = Authorities::beside(authorities, endpoint.ca.as_deref());
        let state = Mutex::new(State::default());
        Ok(Session { endpoint, proxies: proxies.clone(), trust, logins, idle: IDLE, state })
    }

    #[cfg(test)]
    pub fn impatient(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The server and the repository, as an image's name has them.
    pub fn name(&self) -> String {
        self.endpoint.image()
    }

    /// A manifest's bytes and its media type. `what`: a tag or a digest.
    pub fn manifest(&self, what: &str) -> Result<(Vec<u8>, Option<String>), Failure> {
        let path = self.endpoint.manifest(what);
        let once = || {
            let (head, body) = self.get(&path, Some(manifest::ACCEPT), 0)?;
            let mut bytes = Vec::new();
            let read = body.take(manifest::LARGEST + 1).read_to_end(&mut bytes);
            read.map_err(|why| Failure::passing(&tls::told(why)))?;
            if bytes.len() as u64 > manifest::LARGEST {
                return Err(Failure::Final(format!(
                    "the manifest is larger than {} bytes",
                    manifest::LARGEST
                )));
            }
            Ok((bytes, head.field("content-type").map(str::to_owned)))
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match once() {
                Err(Failure::Passing(_, after)) if tries < TRIES => {
                    std::thread::sleep(after.unwrap_or(Duration::from_secs(1 << (tries - 1))).min(PATIENCE));
                }
                done => return done,
            }
        }
    }

    /// A blob, from this byte on where the server can.
    pub fn blob(&self, digest: &str, from: u64) -> Result<Answer, Failure> {
        self.get(&self.endpoint.blob(digest), None, from)
    }

    /// With one login after the other.
    fn get(&self, path: &str, accept: Option<&str>, from: u64) -> Result<Answer, Failure> {
        loop {
            let login = self.state().login;
            match self.authorized(path, accept, from) {
                Err(Failure::Refused(_) | Failure::Missing) if login + 1 < self.logins.len() => {
                    let mut state = self.lock();
                    // Another thread may have gone on already.
                    if state.login == login {
                        (state.login, state.authorization) = (login + 1, None);
                    }
                }
                done => return done,
            }
        }
    }

    fn authorized(&self, path: &str, accept: Option<&str>, from: u64) -> Result<Answer, Failure> {
        let mut fresh = false;
        loop {
            let (head, body) = self.follow(path, accept, from)?;
            match head.status {
                200 | 206 => return Ok((head, body)),
                401 if !fresh => {
                    self.authorize(&head)?;
                    fresh = true;
                }
                401 | 403 => {
                    let said = said(body);
                    let denied = "pull access denied, repository does not exist or may require authorization";
                    return Err(Failure::Refused(format!("{denied}{said}")));
                }
                404 => return Err(Failure::Missing),
                408 | 429 | 500..=599 => {
                    let after = head.field("retry-after").and_then(|text| text.parse().ok());
                    let why = format!("HTTP status {}{}", head.status, said(body));
                    return Err(Failure::Passing(why, after.map(Duration::from_secs)));
                }
                status => return Err(Failure::Final(format!("HTTP status {status}{}", said(body)))),
            }
        }
    }

    /// Asks, and follows where the server sends us; its authorization is for itself alone.
    fn follow(&self, path: &str, accept: Option<&str>, from: u64) -> Result<Answer, Failure> {
        let first = self.url(path);
        let mut url = first.clone();
        for _ in 0..REDIRECTS {
            let mut fields = Vec::new();
            let own = (url.https, &url.host, url.port) == (first.https, &first.host, first.port);
            fields.extend(
                self.state().authorization.filter(|_| own).map(|text| ("Authorization".into(), text)),
            );
            fields.extend(accept.map(|accept| ("Accept".to_owned(), accept.to_owned())));
            if from > 0 {
                fields.push(("Range".into(), format!("bytes={from}-")));
            }
            let (head, body) = match self.send(&url, &fields, None) {
                // Who is not asked for a certificate may have none.
                Err(trouble) if own && self.downgrade(&trouble) => {
                    return self.follow(path, accept, from);
                }
                done => done.map_err(|trouble| Failure::passing(&trouble))?,
            };
            let to = match (head.status, head.field("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location,
                _ => return Ok((head, body)),
            };
            let next =
                url.join(to).ok_or_else(|| Failure::Final("redirects to what is no HTTP URL".into()))?;
            if url.https && !next.https && !self.endpoint.insecure {
                let why = format!("redirects from https to http ({})", next.host);
                return Err(Failure::Final(why));
            }
            url = next;
        }
        Err(Failure::Final(format!("stopped after {REDIRECTS} redirects")))
    }

    /// One exchange. `fields`: beside those that every request has; `form`: it is posted.
    fn send(&self, url: &Url, fields: &[(String, String)], form: Option<&str>) -> Result<Answer, Trouble> {
        let until = Instant::now() + CONNECT;
        let proxy = endpoint::proxy(&self.proxies, url.https, &url.host, url.port);
        let basic = |text: &str| Login::parse(text).ok().map(|login| login.basic());
        let proxy = proxy.map(|text| Proxy::parse(text, basic)).transpose().map_err(Trouble::Other)?;
        let mut fields = fields.to_vec();
        fields.push(("User-Agent".into(), AGENT.into()));
        let trust = match (&self.trust, self.endpoint.insecure) {
            (_, true) => None,
            (Ok(trust), false) => Some(trust),
            (Err(why), false) if url.https => return Err(Trouble::Other(why.clone())),
            (Err(_), false) => None,
        };
        let (stream, target): (Box<dyn Stream>, Option<String>) = match (proxy, url.https) {
            (None, false) => (Box::new(connect(&url.host, url.port, until)?.patient(self.idle)), None),
            (Some(proxy), false) => {
                fields.extend(proxy.fields());
                (Box::new(proxy.reach(until)?.patient(self.idle)), Some(url.to_string()))
            }
            (proxy, true) => {
                let wire = match proxy {
                    Some(proxy) => proxy.tunnel(&url.host, url.port, until)?,
                    None => connect(&url.host, url.port, until)?,
                };
                (Box::new(tls::client(wire.patient(self.idle), &url.host, trust)?), None)
            }
        };
        let (method, mut request) = match form {
            None => ("GET ", http::request(url, &http::headers(&fields))?),
            Some(form) => ("POST ", http::post(url, &http::headers(&fields), form)?),
        };
        if let Some(target) = target {
            let rest = request.split_off(method.len() + url.target().len());
            request.truncate(method.len());
            request.extend(target.bytes().chain(rest));
        }
        http::exchange(stream, &request, true)
    }

    /// Whether it is now asked without TLS, and was not before.
    fn downgrade(&self, trouble: &Trouble) -> bool {
        let no_tls = match trouble {
            Trouble::Plain => true,
            Trouble::Other(why) => why == "EOF" || self.endpoint.port == 443 && why.starts_with("dial tcp"),
            Trouble::Late => false,
        };
        let mut state = self.lock();
        let change = self.endpoint.https && self.endpoint.insecure && no_tls && !state.plain;
        state.plain |= change;
        change
    }

    fn url(&self, path: &str) -> Url {
        let Endpoint { https, host, port, .. } = &self.endpoint;
        match self.state().plain {
            true => Url::new(false, host, if *port == 443 { 80 } else { *port }, path),
            false => Url::new(*https, host, *port, path),
        }
    }

    /// Becomes who the server wants to know.
    fn authorize(&self, head: &Head) -> Result<(), Failure> {
        let login = self.logins.get(self.state().login);
        let challenge = challenge::choose(head.all("www-authenticate"));
        let none = "the registry asks for an authorization that podinit does not know";
        let authorization = match (challenge, login) {
            (None, _) => return Err(Failure::Refused(none.into())),
            (Some(Challenge::Basic), None) => {
                return Err(Failure::Refused("the registry asks for a user and a password".into()));
            }
            (Some(Challenge::Basic), Some(login)) if login.is_token() => {
                let why = "the registry asks for a user and a password, and there is an identity token";
                return Err(Failure::Refused(why.into()));
            }
            (Some(Challenge::Basic), Some(login)) => login.basic(),
            (Some(Challenge::Bearer { realm, service, scope }), login) => {
                let scope = scope.unwrap_or_else(|| self.endpoint.scope());
                format!("Bearer {}", self.token(&realm, service.as_deref(), &scope, login)?)
            }
        };
        self.lock().authorization = Some(authorization);
        Ok(())
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<String, Failure> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Token {
            token: String,
            access_token: String,
        }
        let url = self.url("").join(realm);
        let mut url = url.ok_or_else(|| Failure::Final(format!("the realm {realm:?} is no HTTP URL")))?;
        let place = authority(&url.host, url.port);
        if login.is_some() && !url.https && self.url("").https && !self.endpoint.insecure {
            return Err(Failure::Final(format!("{place} would get the password in plain text: not sent")));
        }
        let mut query = format!("scope={}", escaped(scope));
        if let Some(service) = service {
            let _ = write!(query, "&service={}", escaped(service));
        }
        let token = login.filter(|login| login.is_token());
        // OAuth 2.0 (RFC 6749, section 6), as the distribution project's docs/spec/auth/oauth.
        let form = token.map(|login| {
            let token = escaped(&login.password);
            format!("grant_type=refresh_token&{query}&client_id=podinit&refresh_token={token}")
        });
        if form.is_none() {
            url.path.push(if url.path.contains('?') { '&' } else { '?' });
            url.path.push_str(&query);
        }
        let basic = login.filter(|login| !login.is_token()).map(Login::basic);
        let fields: Vec<_> = basic.map(|basic| ("Authorization".to_owned(), basic)).into_iter().collect();
        let (head, body) =
            self.send(&url, &fields, form.as_deref()).map_err(|why| match Failure::passing(&why) {
                Failure::Passing(why, after) => Failure::Passing(format!("{place}: {why}"), after),
                other => other,
            })?;
        match head.status {
            200 => {}
            401 | 403 => {
                let what = login.map_or("nobody gets a token", |_| "the login is refused");
                return Err(Failure::Refused(format!("{what} by {place}{}", said(body))));
            }
            status => {
                return Err(Failure::Passing(format!("{place}: HTTP status {status}{}", said(body)), None));
            }
        }
        let mut bytes = Vec::new();
        body.take(TEXT).read_to_end(&mut bytes).map_err(|why| Failure::passing(&tls::told(why)))?;
        let token: Token = serde_json::from_slice(&bytes).unwrap_or_default();
        match [token.token, token.access_token].into_iter().find(|token| !token.is_empty()) {
            Some(token) => Ok(token),
            None => Err(Failure::Final(format!("{place} answers without a token"))),
        }
    }

    fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a registry says of its error: `: CODE: message` (distribution specification, "Error Codes").
fn said(body: impl Read) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        code: String,
        message: String,
    }
    let mut bytes = Vec::new();
    let _ = body.take(TEXT).read_to_end(&mut bytes);
    let errors = serde_json::from_slice::<Errors>(&bytes).map(|said| said.errors).unwrap_or_default();
    let first = errors.into_iter().next();
    let text =
        first.map(|said| format!(": {}: {}", said.code.to_lowercase(), said.message)).unwrap_or_default();
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// For a value in a query.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}
