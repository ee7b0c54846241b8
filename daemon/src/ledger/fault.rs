//! What can break in the ledger. A refusal is no fault: it is data.

use std::path::{Path, PathBuf};

/// Something broke. No path leads from here to an admitted call.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFault {
    /// The database refused.
    #[error("ledger: {0}")]
    Sql(#[from] rusqlite::Error),
    /// No reader was free in time.
    #[error("ledger: no reader was free: {0}")]
    Pool(#[from] r2d2::Error),
    /// A file could not be used.
    #[error("ledger: {path}: {fault}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        fault: std::io::Error,
    },
    /// The disk refused a flush.
    #[error("ledger: a flush failed: {0}")]
    Flush(std::io::Error),
    /// Another daemon has it open.
    #[error("ledger: {} is in use by another aexd{holder} (its lock is held)", path.display())]
    Locked {
        /// The ledger.
        path: PathBuf,
        /// ` with pid N`; empty when it has not said so.
        holder: String,
    },
    /// The books do not fit together.
    #[error("ledger: {0}")]
    Books(#[from] aex_core::books::BooksFault),
    /// The rows do not fit together.
    #[error("ledger: {0}")]
    Broken(String),
    /// It was written by a newer version.
    #[error("ledger: {path} has schema {found}, this aexd knows {known}: use the newer aexd, or restore a backup")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// It was written by an older version, and no daemon has started on it since.
    #[error("ledger: {path} has schema {found}, this aexd knows {known}: the next start of the daemon migrates it")]
    Older {
        /// The file.
        path: PathBuf,
        /// The version found; 0: there is nothing in it.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// Its tables could not be brought to this version.
    #[error("ledger: {path} could not be brought from schema {from} to {to}: {fault}; it is as it was{copy}")]
    Migration {
        /// The file.
        path: PathBuf,
        /// Its version.
        from: u32,
        /// The version of this program.
        to: u32,
        /// `; PATH is a copy of it`; empty when none could be made.
        copy: String,
        /// What went wrong.
        fault: Box<LedgerFault>,
    },
    /// The system refuses it: the disk may be full, read-only or broken.
    #[error("{fault} ({path}: is the disk full, read-only, or is there a limit on the size of files?)")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        fault: Box<LedgerFault>,
    },
    /// What it holds is not what was written.
    #[error("ledger: {path} is damaged: {what}. `aexctl audit` says more; `aexctl restore FILE` puts a backup in its place")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The writer has stopped, or the queue before it is full.
    #[error("ledger: not available")]
    Unavailable,
}

impl LedgerFault {
    /// Whether a flush has failed, SQLite's own ones included: final, whoever asked for it.
    pub(super) fn is_failed_flush(&self) -> bool {
        use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
        match self {
            LedgerFault::Flush(_) => true,
            LedgerFault::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                [SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC].contains(&error.extended_code)
            }
            _ => false,
        }
    }
}

/// A file that could not be used.
pub(super) fn file_fault(path: &Path, fault: std::io::Error) -> LedgerFault {
    LedgerFault::File { path: path.to_owned(), fault }
}
