//! How far a backup and the ledger that is there are one. A restore makes two ledgers of one name, so the name proves nothing: events
//! are the same where hashes say so, and what cannot be compared counts as different.

use crate::ledger::LedgerFault;
use crate::ledger::copy;
use crate::ledger::load::digest;
use aex_proto::value::Digest;
use rusqlite::{Connection, OptionalExtension};

/// How far two ledgers are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    /// The last event that both are known to have; 0: none is.
    pub(super) last: i64,
    /// They differ behind it. `false`: that cannot be told, for one of them has sealed the next events away.
    pub(super) is_exact: bool,
}

/// Compares two ledgers of one name.
pub(super) fn common(backup: &Connection, current: &Connection) -> Result<Common, LedgerFault> {
    let same = |seq: i64| -> Result<bool, LedgerFault> {
        let (one, other) = (hash(backup, seq)?, hash(current, seq)?);
        Ok(one.is_some() && one == other)
    };
    let end = copy::head(backup)?.seq.min(copy::head(current)?.seq);
    let begin = first(backup)?.max(first(current)?);
    if begin <= end && same(begin)? {
        // From here on both have every event; where one is the same, so are all before it.
        let (mut low, mut high) = (begin, end);
        while low < high {
            let middle = high.saturating_sub(high.saturating_sub(low) / 2);
            if same(middle)? {
                low = middle;
            } else {
                high = middle.saturating_sub(1);
            }
        }
        return Ok(Common { last: low, is_exact: true });
    }
    let (ours, theirs) = (seals(backup)?, seals(current)?);
    let mut places: Vec<i64> = ours.iter().chain(&theirs).map(|(last, _)| *last).filter(|last| *last <= end).collect();
    places.sort_unstable_by(|one, other| other.cmp(one));
    for last in places {
        // The state behind an event holds the event's hash.
        let is_both = ours.iter().any(|seal| seal.0 == last && theirs.contains(seal));
        if is_both || same(last)? {
            let is_exact = last == end || (last.saturating_add(1) == begin && begin <= end);
            return Ok(Common { last, is_exact });
        }
    }
    Ok(Common { last: 0, is_exact: end == 0 || begin == 1 })
}

/// The first event that is not in a segment; 1 where there is none.
fn first(conn: &Connection) -> Result<i64, LedgerFault> {
    Ok(conn.query_row("SELECT coalesce(min(seq), 1) FROM events", [], |row| row.get(0))?)
}

/// An event's hash: its own row's, or that of the event which sealed all up to it.
fn hash(conn: &Connection, seq: i64) -> Result<Option<Digest>, LedgerFault> {
    let own = conn.query_row("SELECT hash FROM events WHERE seq = ?", [seq], |row| digest(row, 0)).optional()?;
    if own.is_some() {
        return Ok(own);
    }
    let sql = "SELECT body ->> 'hash' FROM events WHERE kind = 'ledger.sealed' AND body ->> 'last' = ?";
    let told: Option<String> = conn.query_row(sql, [seq], |row| row.get(0)).optional()?;
    Ok(told.and_then(|told| told.parse().ok()))
}

/// The last event of each seal, and the digest of the state behind it.
fn seals(conn: &Connection) -> Result<Vec<(i64, Digest)>, LedgerFault> {
    // The ledger that is there may be of an older version, which had none.
    let has_seals: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'seals')", [], |row| row.get(0))?;
    if !has_seals {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare("SELECT last, state FROM seals")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, digest(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
