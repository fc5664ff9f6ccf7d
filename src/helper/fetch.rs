//! `podinit fetch`: reads what pods a URL wants, once. Descriptor 3 is the request, 4 is for the answer: the body where
//! the exit code is 0, why there is none where it is 1.
//!
//! What it hears comes from a network, so it gives up root first. PID 1 keeps its time.

use std::io::{self, Write};
use std::time::Instant;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::client::http::{self, Terms};
use super::client::url::{Url, authority};
use super::client::{Authorities, FILES, Trouble};
use crate::pod::fetch::{LARGEST, PATIENCE, Request};

/// How many requests a chain of redirects may take.
const REDIRECTS: usize = 10;
/// The user and group that are nobody's.
const NOBODY: u32 = 65534;

pub fn run() -> i32 {
    let Some((request, mut said)) = super::asked::<Request>() else { return 2 };
    let answer = match shed() {
        Ok(()) => fetch(&request, FILES, Instant::now() + PATIENCE),
        Err(why) => Err(format!("cannot give up root's powers: {why}")),
    };
    let (code, bytes) = match answer {
        Ok(body) => (0, body),
        Err(why) => (1, why.into_bytes()),
    };
    if said.write_all(&bytes).is_ok() { code } else { 2 }
}

fn shed() -> io::Result<()> {
    prctl::set_no_new_privs()?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // The working directory of a helper holds no mount.
    let _ = std::env::set_current_dir("/");
    Ok(())
}

/// The whole body of a 200. Redirects are followed; the request's headers are for its own host alone, and from https no
/// way leads to http: what comes runs as root.
fn fetch(request: &Request, authorities: &[&str], until: Instant) -> Result<Vec<u8>, String> {
    let no_url = || format!("{:?} is no HTTP URL", request.url);
    let first = Url::new(false, "", 80, "").join(&request.url).ok_or_else(no_url)?;
    let mut url = first.clone();
    let mut terms = Terms { trust: None, most: LARGEST + 1, whole: true };
    let agent = ("User-Agent".to_owned(), concat!("podinit/", env!("CARGO_PKG_VERSION")).to_owned());
    for _ in 0..REDIRECTS {
        if url.https && terms.trust.is_none() {
            terms.trust = Some(Authorities::of(authorities)?);
        }
        let own = url.host.eq_ignore_ascii_case(&first.host);
        let mut given = if own { request.headers.clone() } else { Vec::new() };
        if !given.iter().any(|(name, _)| name.eq_ignore_ascii_case(&agent.0)) {
            given.push(agent.clone());
        }
        let reply = http::get_on(&terms, &url, &http::headers(&given), until).map_err(|why| match why {
            Trouble::Late => format!("no whole answer within {} s", PATIENCE.as_secs()),
            Trouble::Plain | Trouble::Other(_) => why.to_string(),
        });
        let reply = reply.map_err(|why| format!("{}{why}", beside(&first, &url)))?;
        match (reply.status, reply.location) {
            (200, _) if reply.body.len() > LARGEST => {
                return Err(format!("its answer is larger than {LARGEST} bytes: a manifest may not be"));
            }
            (200, _) => return Ok(reply.body),
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                // Not repeated: a URL that is made for one request may hold a secret.
                let next = url.join(&location).ok_or("redirects to what is no HTTP URL")?;
                if url.https && !next.https {
                    return Err(
                        "redirects from https to http, which is not followed: name the last URL".into()
                    );
                }
                url = next;
            }
            (status, _) => return Err(format!("{}HTTP status {status}", beside(&first, &url))),
        }
    }
    Err(format!("stopped after {REDIRECTS} redirects"))
}

/// Whose trouble it is, where that is not the first server's.
fn beside(first: &Url, url: &Url) -> String {
    let place = |url: &Url| authority(&url.host, url.port);
    if place(first) == place(url) { String::new() } else { format!("redirected to {}: ", place(url)) }
}

#[cfg(test)]
mod tests;
