//! What a window had spent before a budget of it is set: summed by a reader, so that calls do not wait for the scan.
//!
//! The scan of all calls stands on one snapshot, whose last event is known. Whatever ended since then has an event behind that,
//! so the writer adds the few calls of these events in the transaction that opens the balance.

use super::read::{BELOW, Reader};
use super::writer::Writer;
use super::{Ledger, LedgerFault};
use aex_core::event::CallSettled;
use aex_core::window::{Period, Window};
use aex_proto::value::{AccountId, Pico, Stamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// What the calls of an account and all below it were charged that were held in a window, up to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    account: AccountId,
    window: Window,
    spent: Pico,
    until: i64,
}

impl Ledger {
    /// Sums up what a budget that is set now would find spent; `None` when its window's balance is there and knows.
    ///
    /// # Errors
    /// When the ledger cannot be read, or the writer has stopped.
    pub async fn past(&self, account: AccountId, period: Period) -> Result<Option<Past>, LedgerFault> {
        let window = self.admin(move |writer| writer.to_be_opened(account, period).map(Ok)).await?;
        let Ok(Some(window)) = window else { return Ok(None) };
        let past = self.read(move |reader| reader.spent_in(account, window)).await?;
        // What ended during the scan is many events; what ends from here on is few.
        let caught_up = move |reader: &Reader<'_>| match past.is_followed(reader.conn)? {
            true => past.up_to(reader.conn, reader.head()?.seq),
            false => reader.spent_in(account, window),
        };
        self.read(caught_up).await.map(Some)
    }
}

impl Reader<'_> {
    /// Reads all calls that have ended: for a reader's thread alone.
    pub(super) fn spent_in(&self, account: AccountId, window: Window) -> Result<Past, LedgerFault> {
        let until = self.head()?.seq;
        let sql = format!(
            "{BELOW} SELECT coalesce(sum(charge_pico >> 32), 0), coalesce(sum(charge_pico & 4294967295), 0)
             FROM calls WHERE account IN below AND held_us >= ?2 AND (?3 IS NULL OR held_us < ?3)"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let window_us = params![account.get(), window.start.micros(), window.end.map(Stamp::micros)];
        // In halves: SQLite refuses a sum beyond its range, and such a budget could never be set.
        let (high, low): (i64, i64) = statement.query_row(window_us, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let spent = (i128::from(high) << 32) + i128::from(low);
        Ok(Past { account, window, spent: i64::try_from(spent).map_or(Pico::MAX, Pico::new), until })
    }
}

impl Past {
    /// Whether all events behind it are in the ledger: a compaction may have taken some of them out since.
    fn is_followed(&self, conn: &Connection) -> Result<bool, LedgerFault> {
        let sealed: i64 = conn.prepare_cached("SELECT coalesce(max(last), 0) FROM seals")?.query_row([], |row| row.get(0))?;
        Ok(sealed <= self.until)
    }

    /// The same up to a later event, which this connection sees.
    fn up_to(mut self, conn: &Connection, head: i64) -> Result<Past, LedgerFault> {
        let mut events = conn.prepare_cached("SELECT body FROM events WHERE seq > ? AND seq <= ? AND kind = 'call.settled'")?;
        let mut call = conn.prepare_cached("SELECT account, charge_pico, held_us FROM calls WHERE request = ? AND attempt = ?")?;
        let mut known = BTreeMap::new();
        let mut rows = events.query([self.until, head])?;
        while let Some(row) = rows.next()? {
            let body: String = row.get(0)?;
            let settled: CallSettled = serde_json::from_str(&body).map_err(|fault| LedgerFault::Broken(fault.to_string()))?;
            let (account, charge, held_at) = call
                .query_row(params![settled.request.bits().cast_signed(), settled.attempt], |row| {
                    Ok((AccountId::new(row.get(0)?), Pico::new(row.get(1)?), Stamp::new(row.get(2)?)))
                })
                .optional()?
                .ok_or_else(|| LedgerFault::Broken(format!("{}: the row of its end is missing", settled.request)))?;
            let inside = match known.get(&account) {
                Some(inside) => *inside,
                None => {
                    let inside = is_below(conn, account, self.account)?;
                    known.insert(account, inside);
                    inside
                }
            };
            if inside && self.window.holds(held_at) {
                self.spent = self.spent.plus(charge).unwrap_or(Pico::MAX);
            }
        }
        self.until = head;
        Ok(self)
    }
}

impl Writer<'_> {
    /// The window whose balance a budget that is set now opens; `None` when it is there.
    fn to_be_opened(&self, account: AccountId, period: Period) -> Result<Option<Window>, LedgerFault> {
        Ok(self.state.books.to_be_opened(account, period, self.now)?)
    }

    /// Whether what was summed up before is what a budget of a period needs now. It is not when a new window has begun since, or
    /// events behind it were compacted.
    ///
    /// # Errors
    /// When the calendar has no window, or the ledger cannot be read.
    pub fn is_past(&self, account: AccountId, period: Period, past: Option<&Past>) -> Result<bool, LedgerFault> {
        let Some(window) = self.to_be_opened(account, period)? else { return Ok(true) };
        match past.filter(|past| past.account == account && past.window == window) {
            Some(past) => past.is_followed(self.conn),
            None => Ok(false),
        }
    }

    /// What the running window has spent; nothing when its balance is there and knows.
    pub(super) fn spent_before(&self, account: AccountId, period: Period, past: Option<&Past>) -> Result<Pico, LedgerFault> {
        if self.to_be_opened(account, period)?.is_none() {
            return Ok(Pico::ZERO);
        }
        let fitting = past.filter(|_| self.is_past(account, period, past).is_ok_and(|fits| fits));
        let past = fitting.ok_or_else(|| LedgerFault::Broken(format!("what account {account} spent by {} was not read", period.name())))?;
        Ok(past.up_to(self.conn, self.state.head.seq)?.spent)
    }
}

/// Whether an account is another or below it; by the tables, which keep closed ones.
fn is_below(conn: &Connection, account: AccountId, above: AccountId) -> Result<bool, LedgerFault> {
    let mut parent = conn.prepare_cached("SELECT parent FROM accounts WHERE id = ?")?;
    let mut next = Some(account.get());
    while let Some(id) = next {
        if id == above.get() {
            return Ok(true);
        }
        next = parent.query_row([id], |row| row.get(0)).optional()?.flatten();
    }
    Ok(false)
}
