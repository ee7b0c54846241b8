//! The record of the processes that run, `tools/running.json`: what a daemon that died by SIGKILL left is found by it at the next start.
//!
//! Must not: trust a number alone. A record counts on the boot that it was made on, together with the time when its process started.

use super::super::lock;
use super::tree::{self, Leftover};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Mutex;

/// The record, on disk and in memory.
#[derive(Debug)]
pub(in crate::tools) struct Running {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    record: Record,
    is_written: bool,
    marks: u64,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The boot that it holds for.
    boot: String,
    /// The mark of the daemon that wrote it.
    mark: String,
    processes: Vec<Recorded>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recorded {
    server: String,
    pid: u32,
    /// When it started, in ticks since boot (proc_pid_stat(5)).
    start: u64,
}

impl Running {
    /// Kills what an earlier daemon of this home left, and begins a record of its own, which is written with the first process.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(in crate::tools) fn begin(path: PathBuf) -> io::Result<(Running, Vec<Leftover>)> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let leftovers = sweep(&path, &boot);
        let mut mark = [0; 16];
        getrandom::fill(&mut mark).map_err(io::Error::other)?;
        let record = Record { boot, mark: hex::encode(mark), processes: Vec::new() };
        Ok((Running { path, state: Mutex::new(State { record, is_written: false, marks: 0 }) }, leftovers))
    }

    /// A mark for the next process. The daemon's own part of it is on disk by then, so that one which starts just before the daemon dies is
    /// found as well.
    ///
    /// # Errors
    /// When the record cannot be written: nothing is started that could not be found again.
    pub(super) fn mark(&self) -> io::Result<String> {
        let mut state = lock(&self.state);
        if !state.is_written {
            self.write(&state.record)?;
            state.is_written = true;
        }
        state.marks = state.marks.saturating_add(1);
        Ok(format!("{}.{}", state.record.mark, state.marks))
    }

    pub(super) fn add(&self, server: &str, pid: u32, start: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.record.processes.push(Recorded { server: server.to_owned(), pid, start });
        self.write(&state.record)
    }

    pub(super) fn remove(&self, pid: u32) {
        let mut state = lock(&self.state);
        state.record.processes.retain(|recorded| recorded.pid != pid);
        if let Err(fault) = self.write(&state.record) {
            tracing::warn!(%fault, path = %self.path.display(), "the record of running tools cannot be written");
        }
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let fresh = self.path.with_extension("json.new");
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&fresh, &self.path)
    }
}

/// Kills what the file tells of, if it is of this boot.
fn sweep(path: &std::path::Path, boot: &str) -> Vec<Leftover> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(fault) => {
            tracing::warn!(%fault, path = %path.display(), "the record of running tools cannot be read");
            return Vec::new();
        }
    };
    let record: Record = match serde_json::from_slice(&text) {
        Ok(record) => record,
        Err(fault) => {
            tracing::warn!(%fault, path = %path.display(), "the record of running tools is damaged");
            return Vec::new();
        }
    };
    if record.boot != boot || boot.is_empty() || record.mark.is_empty() {
        return Vec::new();
    }
    let recorded: Vec<(u32, u64)> = record.processes.iter().map(|recorded| (recorded.pid, recorded.start)).collect();
    let (found, left) = tree::kill_leftovers(&record.mark, &recorded);
    if left > 0 {
        tracing::warn!(left, "processes of tools that an earlier daemon left could not be killed");
    }
    let server = |pid: u32| record.processes.iter().find(|recorded| recorded.pid == pid).map(|recorded| recorded.server.clone());
    found.into_iter().map(|pid| Leftover { server: server(pid).unwrap_or_default(), pid }).collect()
}
