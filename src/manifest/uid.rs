//! A pod's uid from its content: comments, key order and formatting do not change it, anything that runs does.

use std::io::{self, Write};

use k8s_openapi::api::core::v1::Pod;

/// 128-bit FNV-1a, as the kubelet uses for static pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(u128);

impl Fnv {
    pub const fn new() -> Self {
        Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// 32 hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.eat(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a pod is read from; it is hashed into its uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'s> {
    /// The full path.
    File(&'s str),
    Url(&'s str),
}

impl From<'_> {
    /// The word of the annotation kubernetes.io/config.source.
    pub fn source(self) -> &'static str {
        match self {
            From::File(_) => "file",
            From::Url(_) => "http",
        }
    }
}

/// The uid of a defaulted pod read from there on `node`. Err: the pod holds what JSON cannot (a date beyond the year 9999).
pub fn uid(pod: &Pod, node: &str, from: From<'_>) -> Result<String, String> {
    let mut hash = Fnv::new();
    serde_json::to_writer(&mut hash, pod).map_err(|error| error.to_string())?;
    let place = match from {
        From::File(path) => format!("file:{path}"),
        From::Url(url) => format!("url:{url}"),
    };
    hash.eat(format!("host:{node}{place}").as_bytes());
    Ok(hash.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_of_128_bits() {
        for (text, expected) in [
            ("", "6c62272e07bb014262b821756295c58d"),
            ("a", "d228cb696f1a8caf78912b704e4a8964"),
            ("foobar", "343e1662793c64bf6f0d3597ba446f18"),
        ] {
            let mut hash = Fnv::new();
            hash.eat(text.as_bytes());
            assert_eq!(hash.hex(), expected, "{text}");
        }
    }
}
