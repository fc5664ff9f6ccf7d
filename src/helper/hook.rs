//! `podinit hook <request.json>`: one HTTP hook. Any answer is a success. Why there was none goes out over descriptor
//! 3; the exit code is that of a check.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::check;
use super::client::Trouble;
use super::client::url::Url;
use super::probe::{enter, tries};
use crate::pod::probe::{HookRequest, Try};
use crate::pod::spec::Handler;

/// A hook has no time limit of its own: it ends with its container.
const PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

pub fn run(args: &[String]) -> i32 {
    let result = match args {
        [place] => match request(Path::new(place)) {
            Ok(request) => ask(&request),
            Err(why) => Try::Error(format!("read request {place}: {why}")),
        },
        _ => Try::Error("usage: podinit hook REQUEST".into()),
    };
    check::tell(&result)
}

/// The file is for us alone.
fn request(place: &Path) -> io::Result<HookRequest> {
    let text = fs::read(place)?;
    fs::remove_file(place)?;
    Ok(serde_json::from_slice(&text)?)
}

fn ask(request: &HookRequest) -> Try {
    let Handler::Http { host, port, path, https, headers } = &request.handler else {
        return Try::Error("not an HTTP hook".into());
    };
    if let Some(space) = request.space.as_deref().filter(|_| tries::inside(&request.handler))
        && let Err(why) = enter(space)
    {
        return Try::Error(why);
    }
    let host = host.as_deref().unwrap_or(&request.address);
    let until = Instant::now() + PATIENCE;
    match tries::follow(Url::new(*https, host, *port, path), headers, until) {
        Ok(_) => Try::Success(String::new()),
        // The kubelet once took no notice of the scheme: manifests of that time say HTTPS and mean HTTP. What was
        // meant for TLS only is not sent in the clear.
        Err((Trouble::Plain, _)) => {
            let open = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("authorization");
            let headers: Vec<_> = headers.iter().filter(open).cloned().collect();
            match tries::follow(Url::new(false, host, *port, path), &headers, until) {
                Ok(_) => Try::Success(String::new()),
                Err((_, why)) => Try::Failure(why),
            }
        }
        Err((_, why)) => Try::Failure(why),
    }
}
