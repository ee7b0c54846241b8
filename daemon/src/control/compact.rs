//! Takes old events out of the ledger: a segment that is proven, then the seal, then the deletion, a part at a time.

use super::Control;
use super::fault::{Answer, act, broken, not_possible, read, tallied, unfit};
use crate::ledger::{Ledger, LedgerFault};
use crate::os::clock;
use aex_core::event::By;
use aex_proto::ledger::{Compact, Compacted};
use aex_proto::rpc::{ErrorObject, Fault};
use std::path::PathBuf;
use std::sync::Arc;

/// Events that are deleted in one transaction: calls wait for it.
const PART: i64 = 2_000;

pub(super) async fn run(control: &Control, by: By, wanted: Compact) -> Answer<Compacted> {
    let Ok(_one_at_a_time) = control.compacting.try_lock() else {
        return Err(ErrorObject::fault(Fault::Conflict, "the ledger is being compacted already"));
    };
    let gate = &control.gate;
    let folder = match wanted.dir {
        Some(folder) => PathBuf::from(folder),
        None => gate.paths().ledger.with_file_name("segments"),
    };
    if !folder.is_absolute() {
        return Err(unfit(format!("{} is not a whole path", folder.display())));
    }
    // What is counted of the past is counted before a part of it is gone.
    tallied(gate).await?;
    let segment = read(gate, move |reader| reader.segment(wanted.before, &folder, clock::wall())).await?;
    let segment = Arc::new(segment.map_err(|refused| not_possible(&refused))?);
    let sealing = Arc::clone(&segment);
    act(gate, move |writer| writer.seal(&sealing, Some(by))).await?;
    tracing::info!(first = segment.first, last = segment.last, path = %segment.path.display(), sha256 = %segment.sha256, "events were sealed");
    forget_sealed(gate.ledger()).await.map_err(|fault| broken(&fault))?;
    Ok(Compacted {
        events: segment.last.saturating_sub(segment.first).saturating_add(1).unsigned_abs(),
        first: segment.first.unsigned_abs(),
        last: segment.last.unsigned_abs(),
        segment: segment.path.display().to_string(),
        sha256: segment.sha256,
    })
}

/// Deletes what is sealed, a part at a time; a daemon that was killed meanwhile goes on with it at its next start.
///
/// # Errors
/// When the ledger cannot be written.
pub async fn forget_sealed(ledger: &Ledger) -> Result<(), LedgerFault> {
    while let Ok(true) = ledger.admin(|writer| writer.forget_sealed(PART).map(Ok)).await? {}
    Ok(())
}
