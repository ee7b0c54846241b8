//! Whole copies of a ledger as files of their own: consistent, verified, on the disk before they have their name, and never in the
//! place of another file.

use super::load::digest;
use super::{LedgerFault, file_fault};
use crate::os::clock;
use aex_core::chain::Head;
use aex_proto::value::Digest;
use rusqlite::{Connection, OpenFlags};
use sha2::Digest as _;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CHUNK: usize = 1 << 20;

/// A copy that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Where its chain ends.
    pub head: Head,
}

/// A copy that has not got its name yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Unnamed {
    copied: Copied,
}

/// Copies all that is committed into a folder. Waits for nobody, and nobody waits for it. `name` is what it will be called.
pub(super) fn write(conn: &Connection, folder: &Path, name: &str) -> Result<Unnamed, LedgerFault> {
    let path = folder.join(format!(".{name}.{}-{}.partial", std::process::id(), clock::wall().micros()));
    let fault = |fault| file_fault(&path, fault);
    // SQLite takes an empty file as a new one: so the copy is the owner's alone from its first byte on.
    File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(fault)?;
    let nothing = Copied { path: path.clone(), bytes: 0, sha256: Digest::ZERO, head: Head::START };
    let mut unnamed = Unnamed { copied: nothing };
    let text = path.to_str().ok_or_else(|| fault(std::io::Error::new(ErrorKind::InvalidInput, "the name is not UTF-8")))?;
    conn.execute("VACUUM INTO ?1", [text])?;
    let file = File::open(&path).map_err(fault)?;
    file.sync_all().map_err(fault)?;
    unnamed.copied.head = verify(&path)?;
    unnamed.copied.bytes = file.metadata().map_err(fault)?.len();
    unnamed.copied.sha256 = sha256(&path)?;
    Ok(unnamed)
}

impl Unnamed {
    pub(super) const fn sha256(&self) -> Digest {
        self.copied.sha256
    }

    /// Gives it its name. `None`: there is such a file already.
    pub(super) fn publish(&mut self, path: &Path) -> Result<Option<Copied>, LedgerFault> {
        match name(&self.copied.path, path) {
            Ok(()) => {}
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(fault) => return Err(file_fault(path, fault)),
        }
        // The old name goes when this is dropped.
        sync_folder(path)?;
        Ok(Some(Copied { path: path.to_owned(), ..self.copied.clone() }))
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_file(&self.copied.path)
            && fault.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%fault, path = %self.copied.path.display(), "a half-made copy of the ledger could not be removed");
        }
    }
}

/// A second name for a file, which no file may have. Where the file system knows no second names, the file gets another one.
pub(super) fn name(file: &Path, name: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(file, name) {
        Err(fault) if matches!(fault.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            // A link that leads nowhere is a name, too.
            if name.symlink_metadata().is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(file, name)
        }
        done => done,
    }
}

/// Whether a file is a whole ledger, as far as it can say so itself: where its chain ends.
fn verify(path: &Path) -> Result<Head, LedgerFault> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(LedgerFault::Broken(format!("the copy is not whole: {found}")));
    }
    head(&conn)
}

/// Where a chain ends, by the row and by the last event.
pub(super) fn head(conn: &Connection) -> Result<Head, LedgerFault> {
    let head = conn.query_row("SELECT seq, hash FROM chain", [], |row| Ok(Head { seq: row.get(0)?, hash: digest(row, 1)? }))?;
    super::load::check_head(conn, head)?;
    Ok(head)
}

/// The SHA-256 of a file.
pub(super) fn sha256(path: &Path) -> Result<Digest, LedgerFault> {
    let fault = |fault| file_fault(path, fault);
    let mut file = File::open(path).map_err(fault)?;
    let (mut hasher, mut chunk) = (sha2::Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(fault)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

/// Puts names on the disk: those in the folder of a file.
pub(super) fn sync_folder(file: &Path) -> Result<(), LedgerFault> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|fault| file_fault(folder, fault))
}

/// A file's name with something behind it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
