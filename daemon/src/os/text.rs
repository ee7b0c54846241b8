//! The program's own text in memory.

#![expect(unsafe_code, reason = "madvise(2) has no safe wrapper")]

use rustix::mm::{Advice, madvise};
use std::io;

/// Unmaps the program's text: a start runs through most of it once, and what is used from then on is mapped again as it is needed, from
/// memory that all who run this program share. Where the kernel does not want to, all stays as it is.
///
/// # Errors
/// When the mapping is not found, or the kernel refuses.
pub fn give_back() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let own = give_back as fn() -> io::Result<()> as usize;
    let text = maps.lines().filter_map(executable).find(|text| text.contains(&own)).ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: the range is one mapping of this program's file, executable and not writable: nobody has written to it, so each page that is
    // touched again is read from the file as it was (madvise(2), MADV_DONTNEED on a private mapping of a file).
    unsafe { madvise(std::ptr::with_exposed_provenance_mut(text.start), text.len(), Advice::LinuxDontNeed) }?;
    Ok(())
}

/// proc_pid_maps(5): `55d0c0a00000-55d0c1a00000 r-xp 008f0000 fe:00 1234  /usr/bin/aexd`.
fn executable(line: &str) -> Option<std::ops::Range<usize>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    rest.starts_with("r-xp ").then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_executable_and_never_written_is_given_back() {
        let rows = [
            ("55d0c0a00000-55d0c1a00000 r-xp 008f0000 fe:00 1234  /usr/bin/aexd", Some(0x55d0_c0a0_0000..0x55d0_c1a0_0000)),
            ("55d0c1a00000-55d0c1b00000 r--p 018f0000 fe:00 1234  /usr/bin/aexd", None),
            ("55d0c1a00000-55d0c1b00000 rwxp 00000000 00:00 0", None),
            ("7ffd1000-7ffd2000 rw-p 00000000 00:00 0  [stack]", None),
            ("", None),
        ];
        for (line, wanted) in rows {
            assert_eq!(executable(line), wanted, "{line}");
        }
    }

    #[test]
    fn the_program_runs_on_without_its_text_in_memory() {
        give_back().unwrap();
        assert_eq!(executable("1-2 r-xp 0"), Some(1..2));
    }
}
