//! Finding file systems by their label, and growing a partition to its disk's end.

#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file system on a disk or a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// As in /sys/class/block: `mmcblk0p2`.
    pub name: String,
    pub system: System,
    pub label: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum System {
    Ext4 { block: u64, blocks: u64 },
    Fat,
}

/// Every file system with a label that can be found now, by name of the device.
pub fn volumes() -> Vec<Volume> {
    let mut names: Vec<String> = disks();
    names.sort();
    names.into_iter().filter_map(|name| probe(&name)).collect()
}

/// Disks and partitions that hold something; loop devices and their like are none.
pub fn disks() -> Vec<String> {
    const NONE: &[&str] = &["loop", "ram", "zram", "nbd", "sr", "fd", "mtdblock"];
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| !NONE.iter().any(|none| name.starts_with(none)) && sectors(name, "size") > 0)
        .collect()
}

/// Grows the partition `name` to its disk's end, where an MBR names it, nothing follows it, and there is at least 1 MiB
/// to win. The answer: its new size in bytes. Done again after a power cut it finishes what was begun.
pub fn grow(name: &str) -> io::Result<Option<u64>> {
    let Ok(number) = number(&format!("/sys/class/block/{name}/partition")) else { return Ok(None) };
    let Some(disk) = parent(name) else { return Ok(None) };
    let (start, size) = (sectors(name, "start"), sectors(&disk, "size"));
    let file = OpenOptions::new().read(true).write(true).open(format!("/dev/{disk}"))?;
    let mut sector = [0; SECTOR];
    file.read_exact_at(&mut sector, 0)?;
    let Some(length) = extend(&mut sector, number, start, size) else { return Ok(None) };
    file.write_all_at(&sector, 0)?;
    file.sync_all()?;
    if sectors(name, "size") < length {
        resize(&file, number, start, length)?;
    }
    Ok(Some(length * SECTOR as u64))
}

/// Grows a mounted ext4 file system to `blocks` blocks.
pub fn grow_ext4(mount: &Path, blocks: u64) -> io::Result<()> {
    let directory = File::open(mount)?;
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64 behind the pointer, which outlives the call.
    unsafe { ext4_resize(directory.as_raw_fd(), &blocks) }?;
    Ok(())
}

/// Bytes of a disk or partition, as the kernel sees it now.
pub fn size(name: &str) -> u64 {
    sectors(name, "size") * SECTOR as u64
}

/// Takes the file from a loop device; the kernel does it once nobody uses the device.
pub fn free_loop(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { loop_clear(device.as_raw_fd()) }?;
    Ok(())
}

const SECTOR: usize = 512;

nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64);
nix::ioctl_none_bad!(loop_clear, 0x4C01);
nix::ioctl_write_ptr_bad!(blkpg, 0x1269, Request);

/// struct blkpg_ioctl_arg of linux/blkpg.h.
#[repr(C)]
pub struct Request {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const Part,
}

/// struct blkpg_partition; start and length in bytes.
#[repr(C)]
pub struct Part {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// Tells the kernel a partition's new length, which it takes while the partition is in use. Both in sectors.
fn resize(disk: &File, number: u64, start: u64, length: u64) -> io::Result<()> {
    const RESIZE: i32 = 3;
    let bytes = |sectors: u64| (sectors * SECTOR as u64) as i64;
    let part = Part { start: bytes(start), length: bytes(length), number: number as i32, names: [0; 128] };
    let request = Request { operation: RESIZE, flags: 0, length: size_of::<Part>() as i32, data: &part };
    // SAFETY: both structures are laid out as the kernel's header has them, and outlive the call.
    unsafe { blkpg(disk.as_raw_fd(), &request) }?;
    Ok(())
}

/// Rewrites the length of entry `number` of an MBR so that it reaches the end of a disk of `disk` sectors, in whole MiB.
/// None: it is no MBR, not this partition, not the last one, or there is less than 1 MiB to win.
fn extend(sector: &mut [u8; SECTOR], number: u64, start: u64, disk: u64) -> Option<u64> {
    const MIB: u64 = 2048;
    let word =
        |sector: &[u8; SECTOR], at: usize| sector.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    if sector.get(510..)? != [0x55, 0xAA] || !(1..=4).contains(&number) {
        return None;
    }
    let entry = |index: u64| 446 + 16 * index as usize;
    let at = entry(number - 1);
    // 0xEE is the shield before a GPT, which has a table of its own.
    if matches!(sector.get(at + 4)?, 0 | 0xEE) || u64::from(word(sector, at + 8)?) != start {
        return None;
    }
    for other in (0..4).filter(|other| *other != number - 1) {
        if *sector.get(entry(other) + 4)? != 0 && u64::from(word(sector, entry(other) + 8)?) > start {
            return None;
        }
    }
    let old = u64::from(word(sector, at + 12)?);
    let length = (disk.checked_sub(start)? / MIB * MIB).min(u64::from(u32::MAX) / MIB * MIB);
    if length < old + MIB {
        return None;
    }
    sector.get_mut(at + 12..at + 16)?.copy_from_slice(&(length as u32).to_le_bytes());
    // The end in cylinders and heads: beyond what they can say.
    sector.get_mut(at + 5..at + 8)?.copy_from_slice(&[0xFE, 0xFF, 0xFF]);
    Some(length)
}

fn probe(name: &str) -> Option<Volume> {
    let file = File::open(format!("/dev/{name}")).ok()?;
    let mut head = [0; 2048];
    file.read_exact_at(&mut head, 0).ok()?;
    let (system, label) = identify(&head)?;
    Some(Volume { name: name.into(), system, label })
}

/// What the first 2 KiB say: an ext superblock at 1024, or a FAT boot sector, and the label.
fn identify(head: &[u8; 2048]) -> Option<(System, String)> {
    let u16_at = |at: usize| Some(u64::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
    let u32_at = |at: usize| Some(u64::from(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?)));
    let text = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        Some(String::from_utf8_lossy(bytes.get(..end)?).trim_end().to_owned())
    };
    const EXT: usize = 1024;
    if u16_at(EXT + 0x38)? == 0xEF53 {
        let block = 1024u64.checked_shl(u32_at(EXT + 0x18)?.min(6) as u32)?;
        const BIT64: u64 = 0x80;
        let high = if u32_at(EXT + 0x60)? & BIT64 != 0 { u32_at(EXT + 0x150)? } else { 0 };
        let blocks = u32_at(EXT + 4)? | high << 32;
        return Some((System::Ext4 { block, blocks }, text(EXT + 0x78, 16)?));
    }
    if u16_at(510)? != 0xAA55 {
        return None;
    }
    if text(82, 5)? == "FAT32" {
        return Some((System::Fat, text(71, 11)?));
    }
    text(54, 3).filter(|kind| kind == "FAT").and_then(|_| Some((System::Fat, text(43, 11)?)))
}

/// The disk of a partition: the directory that holds it in /sys.
fn parent(name: &str) -> Option<String> {
    let path = fs::canonicalize(format!("/sys/class/block/{name}")).ok()?;
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}

fn sectors(name: &str, what: &str) -> u64 {
    number(&format!("/sys/class/block/{name}/{what}")).unwrap_or(0)
}

fn number(path: &str) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| io::Error::other(format!("{path}: no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbr(entries: &[(u8, u32, u32)]) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        for (index, (kind, start, length)) in entries.iter().enumerate() {
            let at = 446 + 16 * index;
            sector[at + 4] = *kind;
            sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    #[test]
    fn only_the_last_partition_of_an_mbr_grows() {
        let two = mbr(&[(0xC, 2048, 100_000), (0x83, 102_048, 98_304)]);
        let table = [
            (two, 2, 102_048, 1_000_000, Some(897_024)),
            (two, 2, 102_048, 102_048 + 98_304 + 2047, None),
            (two, 2, 102_049, 1_000_000, None),
            (two, 1, 2048, 1_000_000, None),
            (two, 3, 102_048, 1_000_000, None),
            (two, 5, 102_048, 1_000_000, None),
            (two, 2, 102_048, 1_000, None),
            (two, 2, 102_048, 1 << 40, Some(0xFFFF_F800)),
            (mbr(&[(0xEE, 1, 1000)]), 1, 1, 1_000_000, None),
            ([0; SECTOR], 1, 0, 1_000_000, None),
        ];
        for (mut sector, number, start, disk, expected) in table {
            let before = sector;
            assert_eq!(extend(&mut sector, number, start, disk), expected, "{number} {start} {disk}");
            if let Some(length) = expected {
                assert_eq!(extend(&mut sector, number, start, disk), None, "again");
                assert_eq!(sector[462 + 12..462 + 16], (length as u32).to_le_bytes());
            } else {
                assert_eq!(before, sector);
            }
        }
    }

    #[test]
    fn file_systems_tell_their_label() {
        let mut ext = [0; 2048];
        ext[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
        ext[1024 + 4..1024 + 8].copy_from_slice(&1000u32.to_le_bytes());
        ext[1024 + 0x18] = 2;
        ext[1024 + 0x78..1024 + 0x7C].copy_from_slice(b"data");
        assert_eq!(identify(&ext), Some((System::Ext4 { block: 4096, blocks: 1000 }, "data".into())));
        let mut fat = [0; 2048];
        fat[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(identify(&fat), None);
        fat[82..90].copy_from_slice(b"FAT32   ");
        fat[71..82].copy_from_slice(b"BOOT       ");
        assert_eq!(identify(&fat), Some((System::Fat, "BOOT".into())));
        assert_eq!(identify(&[0; 2048]), None);
        assert!(identify(&[0xFF; 2048]).is_none());
    }
}
