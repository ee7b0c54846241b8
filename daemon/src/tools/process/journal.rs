//! What the processes of a server say beside MCP: the last lines in memory, more in a file, and whoever follows.
//!
//! Bounded in lines, bytes, rate and files. Must not: make a process wait for a disk or a reader for ever.

use super::super::framing::Allowance;
use super::super::lock;
use super::hidden::Hidden;
use crate::os::clock;
use aex_proto::value::Stamp;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::broadcast;

/// Bytes of the last lines that are kept in memory.
const RING: usize = 64 << 10;
/// Bytes of a log file before it is put aside; one old file is kept.
const FILE: u64 = 1 << 20;
/// Bytes of a line that are looked at; what follows is dropped.
const LOOKED_AT: usize = 8 << 10;
/// Lines that may come at once, and each second after that.
const LINES: u64 = 200;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard error.
    Stderr,
    /// Standard output, where it was no message.
    Stdout,
    /// The daemon, about the process.
    Daemon,
}

/// A line of a server's log. Its text has no control characters and no secrets of the server's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it came.
    pub at: Stamp,
    /// The server.
    pub server: Arc<str>,
    /// Its process.
    pub pid: u32,
    /// Where it came from.
    pub stream: Stream,
    /// What it says, at most 4 KiB.
    pub text: String,
}

/// The log of a server.
#[derive(Debug)]
pub(in crate::tools) struct Journal {
    server: Arc<str>,
    path: PathBuf,
    kept: Mutex<Kept>,
    followers: broadcast::Sender<LogLine>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    file: Option<(File, u64)>,
}

impl Journal {
    pub(in crate::tools) fn new(server: &str, folder: &Path, followers: broadcast::Sender<LogLine>) -> Journal {
        let path = folder.join(format!("{server}.log"));
        Journal { server: server.into(), path, kept: Mutex::new(Kept::default()), followers }
    }

    /// The last lines, of one process or of all, the oldest first.
    pub(in crate::tools) fn last(&self, count: usize, pid: Option<u32>) -> Vec<LogLine> {
        let kept = lock(&self.kept);
        let of_it = kept.lines.iter().rev().filter(|line| pid.is_none_or(|pid| line.pid == pid));
        let mut lines: Vec<LogLine> = of_it.take(count).cloned().collect();
        lines.reverse();
        lines
    }

    /// The last lines that a process wrote to standard error.
    pub(in crate::tools) fn last_words(&self, count: usize, pid: u32) -> Vec<String> {
        let lines = self.last(usize::MAX, Some(pid)).into_iter().filter(|line| line.stream == Stream::Stderr);
        let words: Vec<String> = lines.map(|line| line.text).collect();
        words.split_at(words.len().saturating_sub(count)).1.to_vec()
    }

    fn keep(&self, pid: u32, stream: Stream, text: String) {
        let line = LogLine { at: clock::wall(), server: Arc::clone(&self.server), pid, stream, text };
        let mut kept = lock(&self.kept);
        if let Err(fault) = kept.append(&self.path, &line) {
            tracing::debug!(%fault, path = %self.path.display(), "a tool's log cannot be written");
        }
        kept.bytes = kept.bytes.saturating_add(line.text.len());
        kept.lines.push_back(line.clone());
        while kept.bytes > RING {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(oldest.text.len());
        }
        drop(kept);
        // Nobody may be following.
        drop(self.followers.send(line));
    }
}

impl Kept {
    fn append(&mut self, path: &Path, line: &LogLine) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length > FILE) {
            self.file = None;
            fs::rename(path, path.with_extension("log.1"))?;
        }
        if self.file.is_none() {
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        let Some((file, length)) = &mut self.file else { return Ok(()) };
        let stream = match line.stream {
            Stream::Stderr => "",
            Stream::Stdout => "stdout: ",
            Stream::Daemon => "aexd: ",
        };
        let text = format!("{} [{}] {stream}{}\n", line.at, line.pid, line.text);
        file.write_all(text.as_bytes())?;
        *length = length.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

/// What one process says, on its way to the log.
#[derive(Debug)]
pub(in crate::tools) struct Feeder {
    journal: Arc<Journal>,
    pid: u32,
    hidden: Arc<Hidden>,
    rate: Mutex<Rate>,
}

#[derive(Debug)]
struct Rate {
    left: u64,
    at: Duration,
    dropped: u64,
}

impl Feeder {
    /// For a process whose environment holds these secrets.
    pub(in crate::tools) fn new<'a>(journal: &Arc<Journal>, pid: u32, secrets: impl Iterator<Item = &'a str>) -> Arc<Feeder> {
        let rate = Mutex::new(Rate { left: LINES, at: clock::mono(), dropped: 0 });
        Arc::new(Feeder { journal: Arc::clone(journal), pid, hidden: Arc::new(Hidden::new(secrets)), rate })
    }

    /// Keeps a line, unless there are too many.
    pub(in crate::tools) fn line(&self, stream: Stream, line: &[u8]) {
        let Some(dropped) = lock(&self.rate).take(clock::mono()) else { return };
        if dropped > 0 {
            self.journal.keep(self.pid, Stream::Daemon, format!("{dropped} lines came too fast and were dropped"));
        }
        let line = line.split_at_checked(LOOKED_AT).map_or(line, |(head, _)| head);
        self.journal.keep(self.pid, stream, self.hidden.line(line));
    }

    /// Keeps a line of the daemon's own, which may hold words of the server.
    pub(in crate::tools) fn say(&self, text: &str) {
        self.journal.keep(self.pid, Stream::Daemon, self.hidden.said(text));
    }

    /// The values that nothing which the process says may hold when it is kept.
    pub(in crate::tools) fn hidden(&self) -> &Arc<Hidden> {
        &self.hidden
    }
}

impl Rate {
    /// Takes a line's place; tells how many were dropped before it.
    fn take(&mut self, now: Duration) -> Option<u64> {
        let since = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let gained = since.saturating_mul(LINES) / 1_000;
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(LINES);
            self.at = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.dropped))
            }
            None => {
                self.dropped = self.dropped.saturating_add(1);
                None
            }
        }
    }
}

/// Reads a process's standard error to its end.
pub(in crate::tools) async fn drain(pipe: Receiver, feeder: Arc<Feeder>) {
    let mut read = Vec::new();
    let mut line: Vec<u8> = Vec::new();
    let mut allowance = Allowance::new(clock::mono());
    loop {
        if pipe.readable().await.is_err() {
            break;
        }
        read.clear();
        read.reserve(LOOKED_AT);
        match pipe.try_read_buf(&mut read) {
            Ok(0) => break,
            Ok(count) => allowance.spend(count),
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        let mut pieces = read.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            extend(&mut line, first);
        }
        for piece in pieces {
            feeder.line(Stream::Stderr, &line);
            line.clear();
            extend(&mut line, piece);
        }
        read.shrink_to(LOOKED_AT);
        if let Some(rest) = allowance.rest(clock::mono()) {
            tokio::time::sleep(rest).await;
        }
        tokio::task::consume_budget().await;
    }
    if !line.is_empty() {
        feeder.line(Stream::Stderr, &line);
    }
}

/// No more of a line is kept than is looked at.
fn extend(line: &mut Vec<u8>, piece: &[u8]) {
    let room = LOOKED_AT.saturating_sub(line.len());
    line.extend_from_slice(piece.split_at_checked(room).map_or(piece, |(head, _)| head));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let at = Duration::from_millis;
        let mut rate = Rate { left: 2, at: at(0), dropped: 0 };
        assert_eq!([rate.take(at(1)), rate.take(at(1)), rate.take(at(1)), rate.take(at(2))], [Some(0), Some(0), None, None]);
        assert_eq!(rate.take(at(12)), Some(2), "two were dropped before it");
    }

    #[test]
    fn the_last_lines_stay_in_memory_and_one_old_file_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new("noisy", folder.path(), broadcast::Sender::new(4));
        for number in 0..600 {
            journal.keep(7, Stream::Stderr, format!("{number} {}", "a".repeat(4_000)));
        }
        let kept = journal.last(usize::MAX, Some(7));
        assert!(kept.len() > 10 && kept.len() < 18, "{}", kept.len());
        assert!(kept.last().is_some_and(|line| line.text.starts_with("599 ")));
        assert!(journal.last(usize::MAX, Some(8)).is_empty());
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["noisy.log", "noisy.log.1"]);
    }
}
