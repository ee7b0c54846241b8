//! Backups: copies of a living ledger, or of one at rest, made by a reader's own connection. Calls do not wait for them.

use super::copy::{self, Copied};
use super::{Ledger, LedgerFault, Refused, schema};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Steps of SQLite's machine between two looks at whether the ledger closes.
const STEPS_PER_LOOK: i32 = 100_000;

/// One backup at a time: each reads the whole disk.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicBool);

struct Taken<'t>(&'t Turn);

impl Turn {
    fn take(&self) -> Option<Taken<'_>> {
        (!self.0.swap(true, Ordering::AcqRel)).then_some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

impl Ledger {
    /// Copies all that is committed into a new file, beside the calls. A ledger that closes breaks it off.
    ///
    /// # Errors
    /// Outer: the ledger cannot be read, the file cannot be written, or the copy is not whole. Inner: there cannot be such a file.
    pub async fn backup(&self, file: PathBuf) -> Result<Result<Copied, Refused>, LedgerFault> {
        self.settled().await?;
        let inner = std::sync::Arc::clone(&self.inner);
        let work = move || {
            let Some(_turn) = inner.backup.take() else {
                return Ok(Err(Refused::State("a backup is being made already".to_owned())));
            };
            let conn = schema::open_for_reading(&inner.path)?;
            let queue = std::sync::Arc::clone(&inner.queue);
            conn.progress_handler(STEPS_PER_LOOK, Some(move || queue.is_closed()))?;
            into_file(&conn, &file)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| LedgerFault::Unavailable)?
    }
}

/// Copies a ledger that no daemon has open.
///
/// # Errors
/// As [`Ledger::backup`]; and when the ledger is newer than this program.
pub fn backup_at_rest(ledger: &Path, file: &Path) -> Result<Result<Copied, Refused>, LedgerFault> {
    let conn = schema::open_for_reading(ledger)?;
    schema::version(&conn, ledger)?;
    into_file(&conn, file)
}

fn into_file(conn: &Connection, file: &Path) -> Result<Result<Copied, Refused>, LedgerFault> {
    let exists = || Ok(Err(Refused::Exists(file.display().to_string())));
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return exists() };
    if !file.is_absolute() {
        return Ok(Err(Refused::State(format!("{} is not a whole path", file.display()))));
    }
    // A link that leads nowhere is somebody's name, too.
    if file.symlink_metadata().is_ok() {
        return exists();
    }
    if !folder.is_dir() {
        return Ok(Err(Refused::State(format!("the folder {} does not exist", folder.display()))));
    }
    // A statement of its own for VACUUM: it reads one state of the database, and changes none.
    conn.execute_batch("PRAGMA query_only = 0")?;
    let mut made = copy::write(conn, folder, &name.to_string_lossy())?;
    match made.publish(file)? {
        Some(copied) => Ok(Ok(copied)),
        None => exists(),
    }
}
