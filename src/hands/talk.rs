//! What a helper is asked and what it says, as files in memory: none for others to read, none to remove.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

/// The request, and room for the answer.
pub(super) fn ask(request: &impl Serialize) -> io::Result<(File, File)> {
    let mut asked = memory(c"request")?;
    asked.write_all(&serde_json::to_vec(request)?)?;
    Ok((asked, memory(c"answer")?))
}

pub(super) fn memory(name: &CStr) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// All that was said, up to `most` bytes.
pub(super) fn heard(mut said: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
