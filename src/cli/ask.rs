//! Asks PID 1 over its socket.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Failure;
use crate::operator::fds;
use crate::operator::request::{ANSWER_MAX, Answer, Reason, Request};

/// The answer to one request; a refusal is an error.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, Failure> {
    let stream = send(socket, request, &[])?;
    receive(&stream)
}

/// Sends a request with its descriptors, and leaves its answer to be received.
pub fn send(socket: &Path, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<UnixStream, Failure> {
    let place = socket.display();
    let stream = UnixStream::connect(socket).map_err(|why| {
        Failure::plain(match why.kind() {
            io::ErrorKind::PermissionDenied => format!("{place}: {why}: only root may ask podinit"),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("podinit does not answer at {place}: {why} (PODINIT_SOCKET names another place)")
            }
            _ => format!("{place}: {why}"),
        })
    })?;
    let mut line =
        serde_json::to_vec(request).map_err(|why| Failure::plain(format!("the request: {why}")))?;
    line.push(b'\n');
    let mut sent = 0;
    while sent < line.len() {
        let with = if sent == 0 { descriptors } else { &[] };
        match fds::send(stream.as_fd(), &line[sent..], with) {
            Ok(size) => sent += size,
            Err(nix::errno::Errno::EINTR) => {}
            // Its refusal may still be read.
            Err(nix::errno::Errno::EPIPE) => break,
            Err(why) => return Err(Failure::plain(format!("{place}: {why}"))),
        }
    }
    Ok(stream)
}

/// Waits for the answer.
pub fn receive(stream: &UnixStream) -> Result<Answer, Failure> {
    let mut line = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match (&*stream).read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => line.extend_from_slice(&buffer[..size]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            // Reset: it hung up before it had read all; what it said before counts.
            Err(_) => break,
        }
        if line.ends_with(b"\n") || line.len() > ANSWER_MAX + 1 {
            break;
        }
    }
    if !line.ends_with(b"\n") {
        return Err(Failure::plain("podinit hung up without an answer: it may have restarted; try again"));
    }
    match serde_json::from_slice(&line) {
        Ok(Answer::Refused { reason, message }) => Err(refusal(reason, &message)),
        Ok(answer) => Ok(answer),
        Err(why) => Err(Failure::plain(format!(
            "podinit's answer makes no sense to this command (another version?): {why}"
        ))),
    }
}

/// What a refusal is to kubectl.
fn refusal(reason: Reason, message: &str) -> Failure {
    Failure { text: format!("Error from server ({reason:?}): {message}"), code: 1 }
}

/// The failure of an answer to another question.
pub fn unexpected(answer: &Answer) -> Failure {
    let told: String = format!("{answer:?}").chars().take(80).collect();
    Failure::plain(format!("podinit answered another question: {told}"))
}
