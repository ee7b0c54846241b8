//! The lock beside the ledger.

use super::LedgerFault;
use std::io::{Read, Write};
use std::path::Path;

/// Two daemons on one ledger would each trust their own books.
pub(super) fn take(path: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, LedgerFault> {
    let lock_path = path.with_extension("lock");
    let fault = |fault| LedgerFault::File { path: lock_path.clone(), fault };
    let file = std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&lock_path).map_err(fault)?;
    let mut held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(mut file, _)| {
        let mut pid = String::new();
        // The name is a courtesy: the lock counts.
        let said = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
        let holder = if said { format!(" with pid {}", pid.trim()) } else { String::new() };
        LedgerFault::Locked { path: path.to_owned(), holder }
    })?;
    held.set_len(0).and_then(|()| held.write_all(format!("{}\n", std::process::id()).as_bytes())).map_err(fault)?;
    Ok(held)
}
