//! The ledger's head, and the ledger as a file: lines in notifications, no faster than their client reads them.

use super::Control;
use super::connection::{After, Lines};
use super::fault::{Answer, broken, not_possible, read, settled, unfit};
use crate::gate::Gate;
use crate::ledger::{ExportWanted, Ledger, LedgerFault, SealedPart, Since};
use crate::os::clock;
use aex_core::chain::Head;
use aex_proto::frame;
use aex_proto::ledger::{ExportBegun, ExportPart, ExportQuery, LedgerHead, Sealed};
use aex_proto::method::ExportPushed;
use aex_proto::rpc::{ErrorObject, Fault, Request};
use aex_proto::value::Stamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Parts that are read ahead of the client.
const AHEAD: usize = 2;
/// How long the client may take for one part; after that the export ends, so that its reader is free.
const PATIENCE: Duration = Duration::from_secs(20);

/// An export that was asked for.
pub(super) struct Wanted {
    number: u64,
    what: ExportWanted,
}

/// Where the chain ends; the log keeps it, too, so that a ledger that is made anew is noticed.
pub(super) async fn head(gate: &Gate) -> Answer<LedgerHead> {
    settled(gate).await?;
    note_head(gate.ledger()).await.map_err(|fault| broken(&fault))
}

/// Reads where the chain ends and notes it in the log.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn note_head(ledger: &Ledger) -> Result<LedgerHead, LedgerFault> {
    let (name, head) = ledger.read(|reader| Ok((reader.name()?, reader.head()?))).await?;
    tracing::info!(ledger = name, seq = head.seq, hash = %head.hash, "ledger head");
    Ok(told_head(&name, head))
}

/// A head as the protocol tells it.
#[must_use]
pub fn told_head(ledger: &str, head: Head) -> LedgerHead {
    LedgerHead { hash: head.hash, ledger: ledger.to_owned(), seq: head.seq.unsigned_abs() }
}

/// What is in segments, as the protocol tells it.
pub(super) fn told_sealed(sealed: SealedPart) -> Sealed {
    Sealed { last: sealed.last.unsigned_abs(), segment: sealed.path }
}

/// What is asked for, in the ledger's terms.
#[must_use]
pub fn wanted(agent: Option<String>, since_seq: Option<u64>, since_at: Option<Stamp>) -> ExportWanted {
    let seq = since_seq.map(|seq| Since::Seq(i64::try_from(seq).unwrap_or(i64::MAX)));
    ExportWanted { agent, since: seq.or(since_at.map(Since::At)).unwrap_or_default() }
}

pub(super) async fn begin(gate: &Gate, number: u64, query: ExportQuery) -> Answer<(ExportBegun, After)> {
    if query.since_seq.is_some() && query.since_at.is_some() {
        return Err(unfit("name the event or the time that it begins with, not both"));
    }
    let what = wanted(query.agent.map(|name| name.as_str().to_owned()), query.since_seq, query.since_at);
    let sealed = read(gate, |reader| Ok(reader.sealed()?.map(told_sealed))).await?;
    Ok((ExportBegun { export: number, sealed }, After::Export(Wanted { number, what })))
}

/// Sends the file, and how it ended.
pub(super) async fn send(control: Arc<Control>, wanted: Wanted, lines: Lines) {
    let export = wanted.number;
    let fault = match Arc::clone(&control.exports).try_acquire_owned() {
        Ok(_place) => parts(&control.gate, wanted, &lines).await.err(),
        Err(_) => Some(ErrorObject::fault(Fault::Throttled, "as many exports as may run at once are running")),
    };
    let is_whole = fault.is_none();
    let last = ExportPart { export, text: String::new(), is_whole, fault };
    if let Some(line) = notice(&last) {
        // A client that has gone is not told.
        timeout(PATIENCE, lines.send(line)).await.ok();
    }
}

async fn parts(gate: &Gate, wanted: Wanted, lines: &Lines) -> Answer<()> {
    let Wanted { number, what } = wanted;
    gate.flush_denials().await;
    let (epoch, (parts, mut ready)) = (gate.ledger().epoch(), mpsc::channel::<Vec<u8>>(AHEAD));
    let writing = read(gate, move |reader| {
        let mut sink = |part| parts.blocking_send(part).map_err(|_| LedgerFault::Unavailable);
        reader.export(&what, clock::wall(), Some(epoch), &mut sink)
    });
    // A client that is too slow drops the parts' receiver, and that ends the writing.
    let sending = async move {
        while let Some(part) = ready.recv().await {
            // Lines of an export are text: the ledger holds no other.
            let text = String::from_utf8(part).unwrap_or_default();
            let part = ExportPart { export: number, text, is_whole: false, fault: None };
            let Some(line) = notice(&part) else { break };
            if !matches!(timeout(PATIENCE, lines.send(line)).await, Ok(Ok(()))) {
                return Err(ErrorObject::fault(Fault::Throttled, "its reader is too slow, or has gone"));
            }
        }
        Ok(())
    };
    let (written, sent) = tokio::join!(writing, sending);
    sent?;
    written?.map(|_| ()).map_err(|refused| not_possible(&refused))
}

fn notice(part: &ExportPart) -> Option<Vec<u8>> {
    let line = Request::notice::<ExportPushed>(part).and_then(|request| frame::line(&request));
    line.inspect_err(|fault| tracing::error!(%fault, "a part of an export has no JSON")).ok()
}
