//! Seals: old events that were taken out into segments. Where the ledger begins since then, what is known of the sealed part, and the
//! writer's steps: one transaction seals, later ones delete what is sealed, a part at a time, so that no call waits long.
//!
//! A kill between the two leaves events that nobody reads any more; the next start deletes them.

use super::audit::ended_digest;
use super::load::{digest, word};
use super::read::{Reader, count};
use super::segment::Segment;
use super::tally::Past;
use super::writer::Writer;
use super::{LedgerFault, Refused};
use aex_core::canon;
use aex_core::event::{By, LedgerSealed};
use aex_core::verify::rows::{Ended, Seal};
use aex_core::verify::{Audit, Checkpoint};
use aex_proto::value::{AccountId, Digest, Stamp};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows of ended calls whose order is kept in memory at once.
const WITHIN: i64 = 1 << 20;
/// How exactly recent refusals are kept: as exactly as they are counted.
const SLOT_US: i64 = 10_000_000;
/// How long a refusal is recent: the longest span that is counted, and an hour.
const RECENT_US: i64 = 25 * 3_600_000_000;

/// The newest seal.
#[derive(Clone, Debug)]
pub struct SealedPart {
    /// All events up to this one are in segments.
    pub last: i64,
    /// The newest segment.
    pub path: String,
}

/// Refusals that were sealed: what `replay` would count of their events.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusals {
    /// By cause.
    auth_failed: BTreeMap<String, u64>,
    /// Account, rule, how many, and when the last of them was.
    denied: Vec<(AccountId, String, u64, Stamp)>,
}

impl Reader<'_> {
    /// A ledger of an older version, read at rest, has no such table.
    fn has_seals(&self) -> Result<bool, LedgerFault> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'seals')";
        Ok(self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// What is in segments.
    ///
    /// # Errors
    /// When the query fails.
    pub fn sealed(&self) -> Result<Option<SealedPart>, LedgerFault> {
        if !self.has_seals()? {
            return Ok(None);
        }
        let mut statement = self.conn.prepare_cached("SELECT last, path FROM seals ORDER BY last DESC LIMIT 1")?;
        Ok(statement.query_row([], |row| Ok(SealedPart { last: row.get(0)?, path: row.get(1)? })).optional()?)
    }

    /// The last event that is in a segment; 0: none is.
    pub(super) fn sealed_last(&self) -> Result<i64, LedgerFault> {
        Ok(self.sealed()?.map_or(0, |sealed| sealed.last))
    }

    /// The state behind the last sealed event. Inner: why it cannot be trusted.
    pub(super) fn base(&self) -> Result<Option<Result<Checkpoint, String>>, LedgerFault> {
        let Some(sealed) = self.sealed()? else { return Ok(None) };
        let sql = "SELECT state_text, state FROM seals WHERE last = ?";
        let (text, stated): (Option<String>, Digest) = self.conn.query_row(sql, [sealed.last], |row| Ok((row.get(0)?, digest(row, 1)?)))?;
        let text = text.unwrap_or_default();
        let read = match Digest::of(text.as_bytes()) == stated {
            true => Checkpoint::parse(&text).and_then(|state| match state.head().seq == sealed.last {
                true => Ok(state),
                false => Err(format!("it stands behind event {}", state.head().seq)),
            }),
            false => Err("its text has another digest".to_owned()),
        };
        Ok(Some(read.map_err(|why| format!("the state behind event {}: {why}", sealed.last))))
    }

    /// What an audit says of the sealed part beside its state: each seal is named by an event, and so is what is known of refusals;
    /// the rows of calls that ended are those of the state.
    pub(super) fn audit_seals(&self, audit: &mut Audit, base: Option<&Checkpoint>) -> Result<(), LedgerFault> {
        if !self.has_seals()? {
            return Ok(());
        }
        let mut statement = self.conn.prepare("SELECT last, first, segment, state, denials, denials_text FROM seals ORDER BY last")?;
        let mut rows = statement.query([])?;
        let mut seals = Vec::new();
        while let Some(row) = rows.next()? {
            let seal =
                Seal { last: row.get(0)?, first: row.get(1)?, segment: digest(row, 2)?, state: digest(row, 3)?, denials: digest(row, 4)? };
            let text: Option<String> = row.get(5)?;
            let genuine = text.is_none_or(|text| Digest::of(text.as_bytes()) == seal.denials);
            audit.form(genuine, || format!("seal of event {}: what it knows of refusals has another digest", seal.last));
            seals.push(seal);
        }
        audit.seals(&seals);
        let Some(base) = base else { return Ok(()) };
        audit.demand_proof();
        let ended = self.ended_up_to(base.head().seq)?;
        audit.sealed_calls(base, ended);
        Ok(())
    }

    /// All rows of calls that ended up to an event, by one digest.
    fn ended_up_to(&self, last: i64) -> Result<Ended, LedgerFault> {
        let mut ended = Ended::NONE;
        let mut after = 0;
        while after < last {
            let until = last.min(after.saturating_add(WITHIN));
            let mut found = self.ended_within(after, until)?;
            found.sort_unstable_by_key(|(seq, _)| *seq);
            ended = found.into_iter().fold(ended, |ended, (_, row)| ended.and(row));
            after = until;
        }
        Ok(ended)
    }

    fn ended_within(&self, after: i64, until: i64) -> Result<Vec<(i64, Digest)>, LedgerFault> {
        let mut statement = self.conn.prepare(
            "SELECT request, attempt, account, model, state, amount_pico, charge_pico, tokens, held_us, ended_us, held_seq, ended_seq
             FROM calls WHERE ended_seq > ? AND ended_seq <= ?",
        )?;
        let mut rows = statement.query([after, until])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            // A row that cannot be read is none of those that were sealed: its digest tells.
            found.push((row.get(11)?, ended_digest(row).unwrap_or(Digest::ZERO)));
        }
        Ok(found)
    }

    /// Counts the refusals that were sealed.
    pub(super) fn sealed_refusals(&self, past: &mut Past, home: impl Fn(i64) -> AccountId) -> Result<(), LedgerFault> {
        let known = self.refusals()?;
        for (cause, times) in known.auth_failed {
            let counted = past.auth_failed.entry(word(&cause)?).or_default();
            *counted = counted.saturating_add(times);
        }
        for (account, rule, times, at) in known.denied {
            past.counts.entry(home(account.get())).or_default().refused(&rule, times, at);
        }
        Ok(())
    }

    fn refusals(&self) -> Result<Refusals, LedgerFault> {
        let Some(sealed) = self.sealed()? else { return Ok(Refusals::default()) };
        let sql = "SELECT denials_text FROM seals WHERE last = ?";
        let text: Option<String> = self.conn.query_row(sql, [sealed.last], |row| row.get(0))?;
        serde_json::from_str(&text.unwrap_or_default())
            .map_err(|fault| LedgerFault::Broken(format!("what the seal of event {} knows of refusals: {fault}", sealed.last)))
    }

    /// What is known of refusals up to an event, as text: those of today as exactly as they are counted, older ones by their sums.
    pub(super) fn refusals_up_to(&self, last: i64, now: Stamp) -> Result<String, LedgerFault> {
        let mut known = self.refusals()?;
        let mut denied: BTreeMap<(AccountId, String, i64), (u64, Stamp)> = BTreeMap::new();
        let recent = now.offset(-RECENT_US);
        let mut add = |account: AccountId, rule: String, times: u64, at: Stamp| {
            let slot = if at < recent { i64::MIN } else { at.micros().div_euclid(SLOT_US) };
            let (sum, latest) = denied.entry((account, rule, slot)).or_insert((0, at));
            (*sum, *latest) = (sum.saturating_add(times), at.max(*latest));
        };
        known.denied.drain(..).for_each(|(account, rule, times, at)| add(account, rule, times, at));
        let mut statement = self.conn.prepare(
            "SELECT at_us, body ->> '$.account', body ->> '$.rule', coalesce(body ->> '$.count', 1), body ->> '$.cause' FROM events
             WHERE kind IN ('call.denied', 'call.denied.again', 'auth.failed') AND seq > ? AND seq <= ?",
        )?;
        let mut rows = statement.query(params![self.sealed_last()?, last])?;
        while let Some(row) = rows.next()? {
            let times = count(row, 3)?;
            if let Some(cause) = row.get::<_, Option<String>>(4)? {
                let sum = known.auth_failed.entry(cause).or_default();
                *sum = sum.saturating_add(times);
                continue;
            }
            add(AccountId::new(row.get(1)?), row.get(2)?, times, Stamp::new(row.get(0)?));
        }
        known.denied = denied.into_iter().map(|((account, rule, _), (times, at))| (account, rule, times, at)).collect();
        Ok(canon::text(&known))
    }
}

impl Writer<'_> {
    /// Seals what a segment holds: from here on nobody reads these events any more.
    ///
    /// # Errors
    /// Outer: the ledger. Inner: others were sealed since the segment was written.
    pub fn seal(&mut self, segment: &Segment, by: Option<By>) -> Result<Result<(), Refused>, LedgerFault> {
        let sealed = Reader::new(self.conn).sealed_last()?;
        if sealed.saturating_add(1) != segment.first || segment.last > self.state.head.seq {
            return Ok(Err(Refused::State(format!("events up to {sealed} have been sealed meanwhile"))));
        }
        let Segment { first, last, hash, sha256, .. } = *segment;
        let (state, denials) = (Digest::of(segment.state.as_bytes()), Digest::of(segment.denials.as_bytes()));
        let events = last.saturating_sub(first).saturating_add(1);
        self.append(&LedgerSealed { by, denials, events, first, hash, last, segment: sha256, state }.into())?;
        self.conn.execute("UPDATE seals SET state_text = NULL, denials_text = NULL", [])?;
        self.conn.execute(
            "INSERT INTO seals (last, first, path, segment, state, denials, state_text, denials_text) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                last,
                first,
                segment.path.display().to_string(),
                sha256.bytes(),
                state.bytes(),
                denials.bytes(),
                segment.state,
                segment.denials
            ],
        )?;
        Ok(Ok(()))
    }

    /// Deletes so many events that are sealed; `false` when none is left.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn forget_sealed(&mut self, at_most: i64) -> Result<bool, LedgerFault> {
        let sealed = Reader::new(self.conn).sealed_last()?;
        let first: Option<i64> = self.conn.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?;
        let Some(first) = first.filter(|first| *first <= sealed) else { return Ok(false) };
        let until = sealed.min(first.saturating_add(at_most).saturating_sub(1));
        self.conn.prepare_cached("DELETE FROM events WHERE seq <= ?")?.execute([until])?;
        self.conn.prepare_cached("DELETE FROM stored WHERE seq <= ?")?.execute([until])?;
        Ok(until < sealed)
    }
}
