//! The log: lines for a person on a terminal, JSON lines in `logs/aex.log`, or below systemd, which keeps its own times, on
//! standard error.

use anyhow::Context;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Text on standard error.
    Person,
    /// JSON lines on standard error.
    Journal,
    /// JSON lines in a file.
    File,
}

impl Place {
    /// The place for this process: a person's when that was asked for or standard error is a terminal.
    #[must_use]
    pub fn of(is_asked_for: bool) -> Place {
        let stderr = io::stderr();
        if is_asked_for || stderr.is_terminal() {
            return Place::Person;
        }
        let journal = std::env::var_os("JOURNAL_STREAM");
        if journal.is_some_and(|journal| is_journal(&journal, &stderr)) { Place::Journal } else { Place::File }
    }
}

/// Whether standard error is the stream that systemd names. A shell in a service of the user's hands the variable down to what
/// has another standard error (systemd.exec(5)).
fn is_journal(named: &OsStr, stderr: &impl AsFd) -> bool {
    let metadata = stderr.as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata());
    metadata.is_ok_and(|file| named == OsStr::new(&format!("{}:{}", file.dev(), file.ino())))
}

/// Starts logging at a level. The time, level and message are top-level fields of each line of JSON.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(place: Place, dir: &Path, level: tracing::Level) -> anyhow::Result<()> {
    // The subscriber would tell of its own failures on standard error, and Rust panics when that can't be written either.
    // The SDK of the tools' protocol logs whole messages, and with them arguments and results, which are written nowhere.
    let filter = EnvFilter::new(format!("{level},rmcp=off"));
    let builder = || tracing_subscriber::fmt().with_env_filter(filter.clone()).log_internal_errors(false);
    let json = || builder().json().flatten_event(true);
    match place {
        Place::Person => builder().with_target(false).with_writer(|| Lossy(io::stderr())).init(),
        Place::Journal => json().with_writer(|| Lossy(io::stderr())).init(),
        Place::File => {
            let path = dir.join("aex.log");
            let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
            json().with_writer(Mutex::new(Lossy(file))).init();
        }
    }
    Ok(())
}

/// A writer that never fails: on a full disk the log has gaps, and the daemon goes on.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_loses_log_lines_and_nothing_else() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(writeln!(Lossy(full), "a line").is_ok());
    }

    #[test]
    fn a_journal_that_was_handed_down_is_not_taken_for_ours() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let named = |ino: u64| format!("{}:{ino}", metadata.dev());
        assert!(is_journal(OsStr::new(&named(metadata.ino())), &file));
        assert!(!is_journal(OsStr::new(&named(metadata.ino() + 1)), &file));
    }

    #[test]
    fn what_is_asked_for_comes_before_what_is_found() {
        assert_eq!(Place::of(true), Place::Person);
    }
}
