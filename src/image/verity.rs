//! fs-verity: of a sealed file the kernel checks each block when it is read, and gives EIO where it is not what it was.
//!
//! A seal is taken on or it is not: what a power cut leaves of one that was being made, the file system removes, and the
//! file is as it was. Linux, Documentation/filesystems/fsverity.rst.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;

const SHA256: u32 = 1;
const BLOCK: u32 = 4096;

/// `struct fsverity_enable_arg` of linux/fsverity.h.
#[repr(C)]
pub struct Enable {
    version: u32,
    algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    more: [u64; 11],
}

/// `struct fsverity_digest` with room for the longest that there is.
#[repr(C)]
pub struct Digest {
    algorithm: u16,
    size: u16,
    digest: [u8; 64],
}

/// The head of it, which is what the ioctl's number counts.
#[repr(C)]
pub struct DigestHead {
    algorithm: u16,
    size: u16,
}

nix::ioctl_write_ptr!(enable_verity, b'f', 133, Enable);
nix::ioctl_readwrite!(measure_verity, b'f', 134, DigestHead);

/// Seals a file that nobody writes any more. False: its file system, its kernel or its present use allow none, and the
/// file stays as good as it is.
pub fn seal(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let ask = Enable {
        version: 1,
        algorithm: SHA256,
        block_size: BLOCK,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        more: [0; 11],
    };
    // SAFETY: the kernel reads a whole fsverity_enable_arg that outlives the call.
    match unsafe { enable_verity(file.as_raw_fd(), &raw const ask) } {
        Ok(_) | Err(Errno::EEXIST) => Ok(true),
        // None there; blocks of another size; held open for writing; a file system that is read-only.
        Err(
            Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ETXTBSY | Errno::EROFS | Errno::EPERM,
        ) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the kernel checks this file, by its having a measure.
pub fn is_sealed(file: &File) -> bool {
    let mut digest = Digest { algorithm: 0, size: 64, digest: [0; 64] };
    // SAFETY: the kernel writes the head and as many bytes behind it as the head says there is room for.
    unsafe { measure_verity(file.as_raw_fd(), (&raw mut digest).cast()) }.is_ok() && digest.size > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_seal_the_file_is_as_it_was() {
        let path = std::env::temp_dir().join(format!("podinit-verity-{}", std::process::id()));
        std::fs::write(&path, [7; 5000]).unwrap();
        let sealed = seal(&path).unwrap();
        assert_eq!(is_sealed(&File::open(&path).unwrap()), sealed);
        assert_eq!(seal(&path).unwrap(), sealed, "again");
        assert_eq!(std::fs::read(&path).unwrap(), [7; 5000]);
        std::fs::remove_file(&path).unwrap();
        assert!(seal(&path).is_err(), "not there");
    }

    /// What the kernel reads: linux/fsverity.h, and the numbers of its ioctls.
    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!((size_of::<Enable>(), size_of::<DigestHead>(), size_of::<Digest>()), (128, 4, 68));
    }
}
