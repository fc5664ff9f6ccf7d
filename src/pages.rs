//! What a resting process gives back: heap that is free, and the mapping of program that only busy times need.
//!
//! Boot touches nearly all of the program, and the kernel maps 16 pages around each that is touched: four processes held
//! 5 MiB of it while they slept. A page that is needed again is there after a page fault, from the page cache.

#![allow(unsafe_code)]

use libc::{c_int, c_void};

/// To be called before a sleep that may be long. What comes next pays in page faults: not to be
/// called between two starts.
pub fn give_back() {
    // SAFETY: malloc_trim touches only what the allocator has free.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: the callback has the right type and is done with what it is given when it returns.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

/// Forgets the read-only pages of the first object, which is the program, and ends there.
unsafe extern "C" fn forget(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    const PAGE: u64 = 64 << 10;
    // SAFETY: dl_iterate_phdr hands over a valid object with as many program headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        // Whole pages only, of the largest size that any kernel has: data may begin on the last one.
        let from = (base + header.p_vaddr).next_multiple_of(PAGE);
        let to = (base + header.p_vaddr + header.p_memsz) / PAGE * PAGE;
        if from < to {
            // SAFETY: the range is mapped from the program's file, read-only and never written, so that each of its
            // pages is the same when it comes back. Where the kernel refuses, it stays.
            unsafe { libc::madvise(from as *mut c_void, (to - from) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_gave_back_maps_less_and_goes_on() {
        let mapped = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
        };
        // Other tests run meanwhile, and what they touch comes back at once: the least of some tries counts.
        let before = mapped();
        let after = (0..50).map(|_| (give_back(), mapped()).1).min().unwrap();
        assert!(after < before, "{after} pages of {before}");
        assert_eq!(format!("{:?}", vec![1.5; 2]), "[1.5, 1.5]");
    }
}
