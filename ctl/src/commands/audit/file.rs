//! The audit of exported files, by the core alone: one thread reads lines, one replays what they say.

use crate::exit::{Attempt, Failure};
use aex_core::chain::Head;
use aex_core::export::{MAX_LINE, Part, Reader, Verifier};
use aex_core::verify::told;
use aex_proto::audit::{Audit, Noted};
use aex_proto::value::Stamp;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Lines that are handed on at once, and how many such batches may wait.
const BATCH: usize = 512;
const BATCHES: usize = 16;

/// How an export begins, and what its first line holds.
const FIRST: &[u8] = b"{\"export\":{";
const WORDS: [&[u8]; 3] = [FIRST, b"\"ledger\":\"", b"\"made_at\":\""];

/// What the reading half hands on.
enum Step {
    Begin(String),
    Parts(Vec<Part>),
    End,
}

/// Audits files that go on from each other.
pub(super) fn audit(files: &[PathBuf], expected: &[Noted]) -> Result<Audit, Failure> {
    // All are opened before the first is read: a wrong name is no finding.
    let opened = files.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let expected = expected.iter().map(|noted| Head { hash: noted.hash, seq: i64::try_from(noted.seq).unwrap_or(i64::MAX) }).collect();
    let mut verifier = Verifier::new(zone, expected);
    let verified = std::thread::scope(|scope| {
        let (steps, taken) = sync_channel(BATCHES);
        let replay = scope.spawn(move || {
            for step in taken {
                match step {
                    Step::Begin(name) => verifier.begin(&name),
                    Step::Parts(parts) => parts.into_iter().for_each(|part| verifier.part(part)),
                    Step::End => verifier.end(),
                }
            }
            verifier.finish()
        });
        let name = |path: &Path| if files.len() > 1 { path.display().to_string() } else { String::new() };
        let read: Result<(), Failure> = opened.into_iter().zip(files).try_for_each(|(file, path)| {
            send(&steps, Step::Begin(name(path)));
            read(file, &steps).attempt(|| format!("read {}", path.display()))?;
            send(&steps, Step::End);
            Ok(())
        });
        drop(steps);
        let verified = replay.join().map_err(|_| Failure::new("the audit ended by a panic"))?;
        read.map(|()| verified)
    })?;
    let at = verified.made_at.unwrap_or(Stamp::new(0));
    Ok(told(&verified.findings, verified.head, verified.counts, at, verified.unchecked))
}

/// Whoever takes it has gone when it panicked; its end tells.
fn send(steps: &SyncSender<Step>, step: Step) {
    drop(steps.send(step));
}

/// Opens a file that begins as an export does, changed or cut off as it may be: of anything else there is nothing to find.
fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).attempt(|| format!("open {}", path.display()))?;
    let mut input = BufReader::with_capacity(READ_BYTES, file);
    let begun = input.fill_buf().attempt(|| format!("read {}", path.display()))?;
    match foreign(begun) {
        None => Ok(input),
        Some(why) => Err(Failure::new(format!("{} is no export of aexd: {why}", path.display()))),
    }
}

/// Why these are not the first bytes of an export. One that holds nothing was cut off.
fn foreign(begun: &[u8]) -> Option<&'static str> {
    let line = begun.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let holds = |word: &[u8]| line.windows(word.len()).any(|found| found == word);
    if line.starts_with(b"\xef\xbb\xbf") {
        return Some("it begins with a byte order mark");
    }
    // A bit that was flipped leaves two of the three.
    if !FIRST.starts_with(line) && !WORDS.iter().any(|word| holds(word)) {
        return Some("its first line is not that of an export");
    }
    line.ends_with(b"\r\n").then_some("its line ends are CRLF, those of an export are LF")
}

fn read(mut input: BufReader<File>, steps: &SyncSender<Step>) -> std::io::Result<()> {
    let (mut reader, mut line, mut batch) = (Reader::new(), Vec::new(), Vec::with_capacity(BATCH));
    let cap = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    loop {
        line.clear();
        let length = input.by_ref().take(cap).read_until(b'\n', &mut line)?;
        let is_cut = length == MAX_LINE && line.last() != Some(&b'\n');
        if length > 0 {
            batch.push(if is_cut { reader.too_long() } else { reader.line(&line) });
        }
        if batch.len() >= BATCH || length == 0 || is_cut {
            send(steps, Step::Parts(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))));
        }
        if length == 0 || is_cut {
            return Ok(());
        }
    }
}

/// A zone by its name; the ledger names UTC when a zone has no name.
fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"export":{"agent":null,"ledger":"0","living":null,"made_at":"2026","rows":true,"since":null,"version":1}}"#;

    #[test]
    fn what_begins_as_an_export_is_one_whatever_bit_is_flipped_and_wherever_it_ends() {
        let whole = format!("{HEADER}\n{{\"event\":1}}\n").into_bytes();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(foreign(&flipped), None, "bit {bit}");
        }
        for end in 0..whole.len() {
            assert_eq!(foreign(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn what_does_not_is_told_in_a_word() {
        for (bytes, why) in [
            ("root:x:0:0\n".to_owned(), "first line"),
            ("SQLite format 3\0".to_owned(), "first line"),
            (format!("\u{feff}{HEADER}\n"), "byte order mark"),
            (format!("{HEADER}\r\n"), "CRLF"),
        ] {
            assert!(foreign(bytes.as_bytes()).is_some_and(|said| said.contains(why)), "{bytes}");
        }
    }
}
