//! `podinit __verify`: images read in full, and what is damaged of them put aside and replaced, at the leisure of
//! everybody else. What it is asked and tells is `image::verify`'s.

#![allow(unsafe_code)]

use std::io::Write;

use crate::image::verify::{Request, verify};

/// linux/ioprio.h.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_IDLE: libc::c_int = 3 << 13;

/// The exit code: 0 the answer is an answer, 1 it is what went wrong.
pub fn run() -> i32 {
    let Some((request, mut said)) = super::asked::<Request>() else { return 2 };
    step_back();
    let (code, text) = match verify(&request) {
        Ok(answer) => (0, serde_json::to_vec(&answer).unwrap_or_default()),
        Err(why) => (1, why.into_bytes()),
    };
    if said.write_all(&text).is_ok() { code } else { 2 }
}

/// Behind everybody else, for the processor and for the disk. Where that is refused it reads all the same.
fn step_back() {
    // SAFETY: plain system calls on numbers, about this process.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}
