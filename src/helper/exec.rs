//! `podinit exec <request.json or descriptor>`: runs a process inside a running container with our 0, 1 and 2 (or a
//! terminal, whose master goes out over descriptor 3), and exits as it does.

use std::fs::{self, File};
use std::io::{self, Read};

use crate::container::enter::{self, Request};

/// The exit code: the process' own, 128 + signal, 126 and 127 as in a shell, 125 for a request that does not read.
pub fn run(args: &[String]) -> i32 {
    let [place] = args else {
        eprintln!("usage: podinit exec REQUEST");
        return 125;
    };
    match request(place) {
        Ok(request) => enter::run(&request),
        Err(error) => {
            eprintln!("exec: read request {place}: {error}");
            125
        }
    }
}

/// From a file, which is then removed, or from an open descriptor by its number, read to its end.
pub(super) fn request(place: &str) -> io::Result<Request> {
    let text = match place.parse::<u32>() {
        Ok(number) => {
            let mut text = Vec::new();
            // Through /proc: the descriptor itself stays as it is and needs no owner here.
            File::open(format!("/proc/self/fd/{number}"))?.read_to_end(&mut text)?;
            text
        }
        Err(_) => {
            let text = fs::read(place)?;
            // It is for us alone, and each command leaves one.
            fs::remove_file(place)?;
            text
        }
    };
    Ok(serde_json::from_slice(&text)?)
}
