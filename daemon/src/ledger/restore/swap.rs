//! The change of names. Each step leaves a whole ledger at its path: the old one until the last step, then the new one.

use super::{Current, file_time};
use crate::ledger::copy::{sync_folder, with_suffix};
use crate::ledger::{LedgerFault, file_fault};
use crate::os::clock;
use rusqlite::Connection;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What SQLite keeps beside a database, and takes for that of any database of the name.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// What of that holds rows.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// Where a backup is made ready.
pub(super) fn staged(ledger: &Path) -> PathBuf {
    with_suffix(ledger, ".restoring")
}

pub(super) fn remove_staged(staged: &Path) {
    if let Err(fault) = remove_all(staged) {
        tracing::warn!(%fault, "what a restore left could not be removed");
    }
}

/// Takes away what a restore left that was broken off: the copy of the backup, and a second name of the ledger that still is one. A log
/// that was kept under that name is the ledger's again. Nothing may have opened the ledger before.
///
/// # Errors
/// When a name cannot be changed or removed.
pub(in crate::ledger) fn tidy(ledger: &Path) -> Result<(), LedgerFault> {
    let staged = staged(ledger);
    remove_all(&staged)?;
    let Ok(own) = std::fs::metadata(ledger) else { return Ok(()) };
    if own.nlink() < 2 {
        return Ok(());
    }
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    let kept = with_suffix(ledger, KEPT).file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).map_err(|fault| file_fault(folder, fault))? {
        let entry = entry.map_err(|fault| file_fault(folder, fault))?;
        let is_kept = entry.file_name().to_string_lossy().starts_with(&kept);
        if is_kept && entry.metadata().is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino())) {
            LOGS.iter().try_for_each(|suffix| put_back(&with_suffix(&entry.path(), suffix), &with_suffix(ledger, suffix)))?;
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Gives a ledger that kept its place the log again that had lost its own name already.
fn put_back(kept: &Path, log: &Path) -> Result<(), LedgerFault> {
    if !kept.exists() {
        return Ok(());
    }
    // Whoever looks at a database without its log may leave an empty one.
    if std::fs::metadata(log).is_ok_and(|found| found.len() > 0) {
        return remove(kept);
    }
    std::fs::rename(kept, log).map_err(|fault| file_fault(log, fault))?;
    sync_folder(log)
}

const KEPT: &str = ".replaced-";

/// Puts the staged file in the ledger's place. Answers under which name the ledger is kept.
pub(super) fn swap(staged: &Path, ledger: &Path, current: Current) -> Result<Option<PathBuf>, LedgerFault> {
    let kept = free_name(ledger);
    let steps = steps(staged, ledger, &kept, current);
    let keeps = steps.len() > 1;
    steps.into_iter().try_for_each(|step| step())?;
    Ok(keeps.then_some(kept))
}

type Step<'s> = Box<dyn FnOnce() -> Result<(), LedgerFault> + 's>;

/// The steps, in their order. A broken ledger keeps its log; in a sound one there is nothing that is not in the database, too.
fn steps<'s>(staged: &'s Path, ledger: &'s Path, kept: &'s Path, current: Current) -> Vec<Step<'s>> {
    let mut steps: Vec<Step<'s>> = Vec::new();
    match current {
        Current::None => {}
        Current::Readable(readable) => {
            steps.push(Box::new(move || fold(readable.conn, ledger)));
            steps.push(Box::new(move || keep(ledger, kept)));
        }
        Current::Unreadable(_) => {
            steps.push(Box::new(move || if ledger.exists() { keep(ledger, kept) } else { Ok(()) }));
            steps.push(Box::new(move || {
                let mut logs = LOGS.iter().map(|suffix| (with_suffix(ledger, suffix), with_suffix(kept, suffix)));
                logs.try_for_each(|(log, kept)| if log.exists() { keep(&log, &kept) } else { Ok(()) })
            }));
            // SQLite would take the old log for one of the new database.
            steps.push(Box::new(move || BESIDE.iter().try_for_each(|suffix| remove(&with_suffix(ledger, suffix)))));
        }
    }
    steps.push(Box::new(move || {
        sync_folder(ledger)?;
        std::fs::rename(staged, ledger).map_err(|fault| file_fault(ledger, fault))?;
        sync_folder(ledger)
    }));
    steps
}

/// Brings the log into the database, and closes it as the last one that has it open: the log goes with that.
fn fold(conn: Connection, ledger: &Path) -> Result<(), LedgerFault> {
    let in_use = || LedgerFault::Locked { path: ledger.to_owned(), holder: ", or is read by another program".to_owned() };
    let is_busy: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        return Err(in_use());
    }
    conn.close().map_err(|(_, fault)| fault)?;
    if with_suffix(ledger, "-wal").exists() { Err(in_use()) } else { Ok(()) }
}

/// A second name; where the file system knows none, a second file.
fn keep(file: &Path, name: &Path) -> Result<(), LedgerFault> {
    let kept = match std::fs::hard_link(file, name) {
        Err(fault) if matches!(fault.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            std::fs::copy(file, name).and_then(|_| std::fs::File::open(name)?.sync_all())
        }
        done => done,
    };
    kept.map_err(|fault| file_fault(name, fault))?;
    sync_folder(name)
}

fn free_name(ledger: &Path) -> PathBuf {
    let first = with_suffix(ledger, &format!("{KEPT}{}", file_time(clock::wall())));
    let numbered = (2_u32..).map(|number| with_suffix(&first, &format!("-{number}")));
    std::iter::once(first.clone()).chain(numbered).find(|name| name.symlink_metadata().is_err()).unwrap_or(first)
}

fn remove_all(database: &Path) -> Result<(), LedgerFault> {
    BESIDE.iter().chain([&""]).try_for_each(|suffix| remove(&with_suffix(database, suffix)))
}

fn remove(path: &Path) -> Result<(), LedgerFault> {
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => Err(file_fault(path, fault)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Readable;
    use super::*;
    use crate::ledger::copy;

    fn sample(path: &Path, which: &str) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ledger/schema-2").join(which);
        std::fs::copy(&sample, path).unwrap();
        let log = with_suffix(&sample, "-wal");
        if log.exists() {
            std::fs::copy(&log, with_suffix(path, "-wal")).unwrap();
        }
    }

    fn head(path: &Path) -> i64 {
        copy::head(&Connection::open(path).unwrap()).unwrap().seq
    }

    /// Breaks a change off after each of its steps, as a crash would.
    #[track_caller]
    fn broken_off(current: fn(&Path) -> Current, is_sound: bool) {
        let mut reached = 0;
        for after in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (ledger, staged) = (folder.path().join("ledger.db"), folder.path().join("ledger.db.restoring"));
            sample(&ledger, "crashed/ledger.db");
            sample(&staged, "ledger.db");
            let kept = free_name(&ledger);
            let all = steps(&staged, &ledger, &kept, current(&ledger));
            let count = all.len();
            all.into_iter().take(after).try_for_each(|step| step()).unwrap();
            let is_new = after >= count;
            tidy(&ledger).unwrap();
            assert!(!staged.exists());
            assert_eq!(kept.exists(), is_new);
            assert_eq!(with_suffix(&kept, "-wal").exists(), is_new && !is_sound);
            assert_eq!(head(&ledger), if is_new { 108 } else { 111 }, "after {after} of {count} steps");
            if is_new {
                assert_eq!(head(&kept), 111, "what was kept is whole");
                break;
            }
            reached += 1;
        }
        assert!(reached >= 3);
    }

    #[test]
    fn a_crash_between_two_steps_leaves_the_old_ledger_or_the_new_one_whole() {
        broken_off(|ledger| Current::Readable(Box::new(Readable::open(ledger).unwrap())), true);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_kept_with_its_log() {
        broken_off(|_| Current::Unreadable("broken".to_owned()), false);
    }

    #[test]
    fn two_restores_in_a_second_keep_both() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.db");
        let first = free_name(&ledger);
        std::fs::write(&first, "").unwrap();
        assert_ne!(free_name(&ledger), first);
    }
}
