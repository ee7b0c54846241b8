//! `aexctl export`: the ledger as a file, by the daemon when it runs, else by its binary on the ledger itself.

use super::Context;
use super::event::older;
use crate::aexd;
use crate::cli::{self, Since};
use crate::client::Client;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::{count, grouped};
use crate::view::View;
use aex_proto::ledger::{ExportQuery, Exported};
use aex_proto::method::{ExportPushed, LedgerExport};
use aex_proto::value::Digest;
use sha2::Digest as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Bytes copied at once.
const COPY: usize = 128 * 1024;

pub(super) fn run(context: &Context<'_>, wanted: &cli::Export) -> Result<Exit, Failure> {
    let mut target = match &wanted.out {
        None => Target::Stdout(*context.view),
        Some(path) => Target::File(Draft::beside(path)?),
    };
    match Client::connect(&context.paths) {
        Ok(client) => live(context, client, wanted, &mut target)?,
        Err(failure) if failure.exit == Exit::Unreachable => offline(context, wanted, &mut target)?,
        Err(failure) => return Err(failure),
    }
    let Some(done) = target.whole()? else { return Ok(Exit::Done) };
    if context.view.is_json() {
        context.view.show(&done, |_| String::new())?;
    } else {
        let Exported { file, bytes, lines, sha256 } = done;
        context.view.note(&format!("{file}: {}, {} bytes, sha256 {sha256}", count(lines, "line"), grouped(bytes)));
    }
    Ok(Exit::Done)
}

fn live(context: &Context<'_>, mut client: Client, wanted: &cli::Export, target: &mut Target) -> Result<(), Failure> {
    let (since_seq, since_at) = match wanted.since {
        None => (None, None),
        Some(Since::Seq(seq)) => (Some(seq), None),
        Some(Since::At(at)) => (None, Some(at)),
    };
    let begun = client.call::<LedgerExport>(&ExportQuery { agent: wanted.agent.clone(), since_seq, since_at })?;
    let export = begun.export;
    if let Some(sealed) = begun.sealed.filter(|_| since_seq.is_none()) {
        context.view.note(&format!("note: {}", older(&sealed)));
    }
    loop {
        let part = client.wait_notice::<ExportPushed>()?;
        if part.export != export {
            continue;
        }
        if let Some(fault) = part.fault {
            return Err(fault.into());
        }
        target.write(part.text.as_bytes())?;
        if part.is_whole {
            return Ok(());
        }
    }
}

/// `aexd export` reads the ledger without a daemon. What it says on stderr is its own, and so is its exit code.
fn offline(context: &Context<'_>, wanted: &cli::Export, target: &mut Target) -> Result<(), Failure> {
    let mut command = aexd::command("export", context.home.as_deref());
    if let Some(agent) = &wanted.agent {
        command.arg("--agent").arg(agent.as_str());
    }
    match wanted.since {
        None => {}
        Some(Since::Seq(seq)) => drop(command.arg("--since-seq").arg(seq.to_string())),
        Some(Since::At(at)) => drop(command.arg("--since-at").arg(at.to_string())),
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().attempt(|| "run aexd".to_owned()).map_err(aexd::missing)?;
    let copied = child.stdout.take().map_or(Ok(()), |output| copy(output, target));
    // When nobody takes what it writes, its pipe is closed by now and it ends.
    let status = child.wait().attempt(|| "wait for aexd".to_owned())?;
    copied?;
    match aexd::exit_of(status) {
        Exit::Command(0) => Ok(()),
        exit => Err(Failure::silent(exit)),
    }
}

fn copy(mut output: impl Read, target: &mut Target) -> Result<(), Failure> {
    let mut buffer = vec![0; COPY];
    loop {
        let count = output.read(&mut buffer).attempt(|| "read from aexd".to_owned())?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => target.write(bytes)?,
            _ => return Ok(()),
        }
    }
}

/// Where the file goes.
enum Target {
    Stdout(View),
    File(Draft),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Target::Stdout(view) => view.bytes(bytes),
            Target::File(draft) => draft.write(bytes),
        }
    }

    /// What was written, when it is a file.
    fn whole(self) -> Result<Option<Exported>, Failure> {
        match self {
            Target::Stdout(_) => Ok(None),
            Target::File(draft) => draft.whole().map(Some),
        }
    }
}

/// A file that is not whole yet, under another name beside it: readable by its owner only, and gone when it has its own name or never gets whole.
struct Draft {
    file: File,
    path: PathBuf,
    wanted: PathBuf,
    bytes: u64,
    lines: u64,
    hasher: sha2::Sha256,
}

impl Draft {
    /// Never in the place of another file: that may be the only export of events which are in the ledger no more.
    fn beside(wanted: &Path) -> Result<Draft, Failure> {
        let name = wanted.file_name().ok_or_else(|| Failure::new(format!("{} names no file", wanted.display())).with(Exit::Usage))?;
        // A link that leads nowhere is somebody's name, too.
        if wanted.symlink_metadata().is_ok() {
            return Err(taken(wanted));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let path = wanted.with_file_name(hidden);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.attempt(|| format!("make {}", path.display()))?;
        Ok(Draft { file, path, wanted: wanted.to_owned(), bytes: 0, lines: 0, hasher: sha2::Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let length = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(length(bytes.len()));
        self.lines = self.lines.saturating_add(length(bytes.iter().filter(|byte| **byte == b'\n').count()));
        self.file.write_all(bytes).attempt(|| format!("write {}", self.path.display()))
    }

    fn whole(self) -> Result<Exported, Failure> {
        let name = || format!("write {}", self.wanted.display());
        self.file.sync_all().attempt(name)?;
        match std::fs::hard_link(&self.path, &self.wanted) {
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => return Err(taken(&self.wanted)),
            // The file system knows no second names.
            Err(fault) if matches!(fault.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                if self.wanted.symlink_metadata().is_ok() {
                    return Err(taken(&self.wanted));
                }
                std::fs::rename(&self.path, &self.wanted).attempt(name)?;
            }
            // The first name goes when this is dropped.
            linked => linked.attempt(name)?,
        }
        let folder = self.wanted.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).attempt(name)?;
        let sha256 = Digest::from_bytes(self.hasher.clone().finalize().into());
        Ok(Exported { file: self.wanted.display().to_string(), bytes: self.bytes, lines: self.lines, sha256 })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn taken(file: &Path) -> Failure {
    Failure::new(format!("{} exists already", file.display())).hint("choose another name")
}
