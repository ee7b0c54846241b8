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

/// What the reading half hands on.
enum Step {
    Begin(String),
    Parts(Vec<Part>),
    End,
}

/// Audits files that go on from each other.
pub(super) fn audit(files: &[PathBuf], expected: &[Noted]) -> Result<Audit, Failure> {
    // All are opened before the first is read: a wrong name is no finding.
    let opened = files.iter().map(|path| File::open(path).attempt(|| format!("open {}", path.display()))).collect::<Result<Vec<_>, _>>()?;
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

fn read(file: File, steps: &SyncSender<Step>) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(READ_BYTES, file);
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
