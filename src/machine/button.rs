//! The power button: input devices that have a power key, as ACPI and gpio-keys make them.

#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use log::{info, warn};

/// EV_KEY and KEY_POWER of linux/input-event-codes.h.
const KEY_EVENT: u16 = 1;
const KEY_POWER: u16 = 116;

/// The key bits of a device: EVIOCGBIT(EV_KEY, 96 bytes), KEY_MAX being 767.
const KEYS: usize = 96;
nix::ioctl_read_buf!(key_bits, b'E', 0x20 + KEY_EVENT as u8, u8);

/// Every open button.
#[derive(Default)]
pub struct Buttons {
    open: Vec<(PathBuf, File)>,
}

impl Buttons {
    /// Looks at /dev/input anew: at boot, and when an input device came or went.
    pub fn rescan(&mut self) {
        self.open.retain(|(path, _)| path.exists());
        for entry in fs::read_dir("/dev/input").into_iter().flatten().flatten() {
            let path = entry.path();
            let event = entry.file_name().to_string_lossy().starts_with("event");
            if !event || self.open.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
            match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
                Ok(file) if has_power(&file) => {
                    info!("machine: power button at {}", path.display());
                    self.open.push((path, file));
                }
                Ok(_) => {}
                Err(error) => warn!("machine: cannot open {}: {error}", path.display()),
            }
        }
    }

    /// The descriptors to poll for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|(_, file)| file.as_fd())
    }

    /// Reads all buttons; whether one was pressed. A device that is gone is forgotten. Never blocks.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.open.retain_mut(|(_, file)| {
            let mut buffer = [0; 64 * size_of::<libc::input_event>()];
            match file.read(&mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    pressed |= power_pressed(buffer.get(..count).unwrap_or_default());
                    true
                }
                Err(error) => {
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
                }
            }
        });
        pressed
    }
}

fn has_power(file: &File) -> bool {
    let mut bits = [0; KEYS];
    // SAFETY: the request's number carries the buffer's length, so the kernel writes no byte beyond it.
    let known = unsafe { key_bits(file.as_raw_fd(), &mut bits) }.is_ok();
    known && bits.get(usize::from(KEY_POWER / 8)).is_some_and(|byte| byte & (1 << (KEY_POWER % 8)) != 0)
}

/// Whether the input events (struct input_event: a time, then type, code and value) hold the power key's going down.
fn power_pressed(events: &[u8]) -> bool {
    const SIZE: usize = size_of::<libc::input_event>();
    events.chunks_exact(SIZE).any(|event| match event.get(SIZE - 8..) {
        Some(&[a, b, c, d, e, f, g, h]) => {
            let (kind, code) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
            kind == KEY_EVENT && code == KEY_POWER && i32::from_ne_bytes([e, f, g, h]) == 1
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<libc::input_event>() - 8];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_power_keys_going_down_counts() {
        let down = event(1, 116, 1);
        let table = [
            (down.clone(), true),
            ([event(0, 0, 0), down.clone()].concat(), true),
            (event(1, 116, 0), false),
            (event(1, 30, 1), false),
            (event(2, 116, 1), false),
            (down[1..].to_vec(), false),
            (Vec::new(), false),
        ];
        for (bytes, expected) in table {
            assert_eq!(power_pressed(&bytes), expected);
        }
    }
}
