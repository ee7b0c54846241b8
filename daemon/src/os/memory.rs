//! Memory that a start or a busy time needed, and a rest does not.

#![expect(unsafe_code, reason = "madvise(2), mallopt(3) and malloc_trim(3) have no safe wrappers")]

use rustix::mm::{Advice, madvise};
use std::io;

/// Bytes from which on a block of memory is the kernel's again as soon as it is free: long prompts. What is smaller is kept at hand.
#[cfg(target_env = "gnu")]
const LARGE: nix::libc::c_int = 1 << 20;
/// Bytes of free memory at the end of a heap that are kept at hand.
#[cfg(target_env = "gnu")]
const AT_HAND: nix::libc::c_int = 4 << 20;

/// Bounds what is kept of memory that is free: glibc's own bounds grow with the largest block that was ever given back (mallopt(3)), so that
/// one prompt of ten megabytes would be kept for ever. For the start, before there are threads.
pub fn bound_free() {
    // SAFETY: these set two numbers (mallopt(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, AT_HAND);
    }
}

/// Gives back what is free, and [the text](give_back_text). Takes a millisecond or so; for a daemon that rests.
///
/// # Errors
/// As [`give_back_text`]; what is free was given back then.
pub fn give_back() -> io::Result<()> {
    // SAFETY: it may be called at any time, from any thread (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
    give_back_text()
}

/// Unmaps the program's text and constants: a start runs through most of them once, and what is used from then on is mapped again as it is
/// needed, from memory that all who run this program share. Where the kernel does not want to, all stays as it is.
///
/// # Errors
/// When the mappings are not found, or the kernel refuses.
pub fn give_back_text() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let own = give_back_text as fn() -> io::Result<()> as usize;
    let mapped: Vec<Mapping<'_>> = maps.lines().filter_map(Mapping::read).collect();
    let text = mapped.iter().find(|mapping| mapping.range.contains(&own)).ok_or(io::ErrorKind::NotFound)?;
    for mapping in mapped.iter().filter(|mapping| mapping.file == text.file && mapping.is_never_written()) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.range.start);
        // SAFETY: the range is one mapping of this program's file, and nobody has written to it, so each page that is touched again is read
        // from the file as it was (madvise(2), MADV_DONTNEED on a private mapping of a file).
        unsafe { madvise(start, mapping.range.len(), Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// A line of proc_pid_maps(5): `55d0c0a00000-55d0c1a00000 r-xp 008f0000 fe:00 1234  /usr/bin/aexd`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'m> {
    range: std::ops::Range<usize>,
    mode: &'m str,
    offset: &'m str,
    /// Its device and inode.
    file: (&'m str, &'m str),
}

impl<'m> Mapping<'m> {
    fn read(line: &'m str) -> Option<Mapping<'m>> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let (mode, offset, file) = (words.next()?, words.next()?, (words.next()?, words.next()?));
        Some(Mapping { range: number(start)?..number(end)?, mode, offset, file })
    }

    /// Text; and what lies at the begin of a program's file, which the loader maps to be read only. What else can only be read was written
    /// by the loader before that (RELRO; ELF, `PT_GNU_RELRO`).
    fn is_never_written(&self) -> bool {
        self.mode == "r-xp" || (self.mode == "r--p" && self.offset == "00000000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_given_back() {
        let rows = [
            ("55d0c0a00000-55d0c1a00000 r-xp 008f0000 fe:00 1234  /usr/bin/aexd", true),
            ("55d0c0000000-55d0c0a00000 r--p 00000000 fe:00 1234  /usr/bin/aexd", true),
            ("55d0c1a00000-55d0c1b00000 r--p 018f0000 fe:00 1234  /usr/bin/aexd", false),
            ("55d0c1b00000-55d0c1c00000 rw-p 00000000 fe:00 1234  /usr/bin/aexd", false),
            ("55d0c1a00000-55d0c1b00000 rwxp 00000000 00:00 0", false),
            ("7ffd1000-7ffd2000 rw-p 00000000 00:00 0  [stack]", false),
        ];
        for (line, wanted) in rows {
            assert_eq!(Mapping::read(line).map(|mapping| mapping.is_never_written()), Some(wanted), "{line}");
        }
        let range = 0x55d0_c0a0_0000..0x55d0_c1a0_0000;
        let text = Mapping { range, mode: "r-xp", offset: "008f0000", file: ("fe:00", "1234") };
        assert_eq!(Mapping::read(rows[0].0), Some(text));
        for line in ["", "5-6", "5-6 r-xp 0 fe:00", "x-6 r-xp 0 fe:00 1"] {
            assert_eq!(Mapping::read(line), None, "{line}");
        }
    }

    #[test]
    fn the_program_runs_on_without_its_text_in_memory() {
        let mut kept = vec![vec![7_u8; 10_000]; 100];
        kept.retain_mut(|bytes| bytes.pop() != Some(7));
        give_back().unwrap();
        give_back().unwrap();
        kept.push(vec![8; 10_000]);
        assert_eq!(kept, [vec![8; 10_000]]);
    }
}
