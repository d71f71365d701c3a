//! Gives memory back that only starting, or a large update, needed.
//!
//! The allocator returns freed pages a while after they are freed, but only when somebody allocates
//! again; a proxy at rest does not, and would keep what reading the bootstrap took. And program text
//! that ran once stays mapped: command line, YAML and message decoding are most of the text touched
//! by a start.
//!
//! It frees nothing that is in use. What it drops and is needed after all comes back from the page
//! cache with the next touch, a few microseconds per 64 KiB.

#![expect(
    unsafe_code,
    reason = "the allocator and the kernel are asked for something the standard library does not offer"
)]

use std::fs;

use rustix::mm::Advice;
use rustix::mm::madvise;

/// Returns what the calling thread has freed, and the pages of threads that are gone.
pub fn collect() {
    // SAFETY: takes no pointer; it may be called on any thread at any time, and does nothing if this
    // process allocates by other means.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Forgets which pages of program text are in memory. Silent where `/proc` is missing: it only saves.
pub fn forget_text() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, len) in maps.lines().filter_map(text_mapping) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the mapping is of a file, executable and not writable (`text_mapping`), so nobody
        // has changed a page of it, and a page that is dropped is read from the file again.
        let outcome = unsafe { madvise(start, len, Advice::LinuxDontNeed) };
        if let Err(error) = outcome {
            tracing::debug!(%error, "program text stays resident");
        }
    }
}

/// Address and length of a mapping of unchanged program text. `r--p` is not enough: relocations are
/// written before such a mapping becomes read-only.
fn text_mapping(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_text = words.next()? == "r-xp";
    let path = words.nth(3)?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (is_text && path.starts_with('/')).then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_program_text_of_files_is_forgotten() {
        for (line, expected) in [
            (
                "1000-3000 r-xp 00002000 fe:00 12 /bin/weir",
                Some((0x1000, 0x2000)),
            ),
            ("1000-3000 r--p 00002000 fe:00 12 /bin/weir", None),
            ("1000-3000 rwxp 00002000 fe:00 12 /bin/weir", None),
            ("1000-3000 r-xp 00000000 00:00 0 [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(text_mapping(line), expected, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_after_forgetting() {
        let before: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        drop(before.clone());
        collect();
        forget_text();
        assert_eq!(before.last().map(String::as_str), Some("999"));
    }
}
