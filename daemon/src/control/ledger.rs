//! Backups of the living ledger, as the protocol tells them.

use super::fault::{Answer, broken, not_possible};
use crate::gate::Gate;
use crate::ledger::Copied;
use crate::os::clock;
use aex_core::event::By;
use aex_proto::ledger::{Backup, BackupWanted};
use aex_proto::value::Stamp;
use std::path::PathBuf;

pub(super) async fn backup(gate: &Gate, by: &By, wanted: BackupWanted) -> Answer<Backup> {
    gate.flush_denials().await;
    let copied = gate.ledger().backup(PathBuf::from(wanted.file)).await;
    let copied = copied.map_err(|fault| broken(&fault))?.map_err(|refused| not_possible(&refused))?;
    tracing::info!(pid = by.pid, uid = by.uid, file = %copied.path.display(), head = copied.head.seq, "the ledger was backed up");
    Ok(reply(&copied, clock::wall()))
}

/// A copy in the protocol's words.
#[must_use]
pub fn reply(copied: &Copied, at: Stamp) -> Backup {
    Backup {
        at,
        file: copied.path.display().to_string(),
        bytes: copied.bytes,
        sha256: copied.sha256,
        head_seq: copied.head.seq.unsigned_abs(),
        head_hash: copied.head.hash,
    }
}
