//! Counts what the tables hold: the tally of all that ended before this start.

use super::LedgerFault;
use super::load::word;
use super::read::{Reader, count};
use super::tally::{Counts, MAX_CLOSED, Past, Sums};
use aex_proto::value::{AccountId, Pico, RequestId, Stamp};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

/// Rows between two looks at whether the answer is still wanted.
const GLANCE: u64 = 8_192;

impl Reader<'_> {
    /// Counts all calls and denials up to an event. Gives up when the ledger closes.
    pub(super) fn past(&self, until: i64, now: Stamp, is_closing: impl Fn() -> bool) -> Result<Past, LedgerFault> {
        let mut past = Past::default();
        let homes = self.homes(&mut past.closed)?;
        let home = |account: i64| homes.get(&account).copied().unwrap_or(AccountId::ROOT);
        let mut seen: u64 = 0;
        let mut glance = || {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(GLANCE) && is_closing() { Err(LedgerFault::Unavailable) } else { Ok(()) }
        };
        let mut statement = self
            .conn
            .prepare("SELECT account, request, model, state, tokens, charge_pico, held_us, ended_us FROM calls WHERE ended_seq <= ?")?;
        let mut rows = statement.query([until])?;
        while let Some(row) = rows.next()? {
            glance()?;
            let request = RequestId::from_bits(row.get::<_, i64>(1)?.cast_unsigned());
            let (model, state) = (row.get_ref(2)?.as_str().unwrap_or_default(), row.get_ref(3)?.as_str().unwrap_or_default());
            let sums = Sums { calls: 1, tokens: count(row, 4)?, charged: Pico::new(row.get(5)?) };
            let counts = past.counts.entry(home(row.get(0)?)).or_insert_with(|| Counts::until(now));
            counts.active(Stamp::new(row.get(6)?));
            counts.ended(request, model, state, sums, Stamp::new(row.get(7)?));
        }
        self.sealed_refusals(&mut past, home)?;
        let mut statement = self.conn.prepare(
            "SELECT at_us, body ->> '$.account', body ->> '$.rule', coalesce(body ->> '$.count', 1), body ->> '$.cause' FROM events
             WHERE kind IN ('call.denied', 'call.denied.again', 'auth.failed') AND seq > ? AND seq <= ?",
        )?;
        let mut rows = statement.query(params![self.sealed_last()?, until])?;
        while let Some(row) = rows.next()? {
            glance()?;
            let (at, times) = (Stamp::new(row.get(0)?), count(row, 3)?);
            if let Some(cause) = row.get::<_, Option<String>>(4)? {
                let known = past.auth_failed.entry(word(&cause)?).or_default();
                *known = known.saturating_add(times);
                continue;
            }
            let counts = past.counts.entry(home(row.get(1)?)).or_insert_with(|| Counts::until(now));
            counts.refused(row.get_ref(2)?.as_str().unwrap_or_default(), times, at);
        }
        Ok(past)
    }

    /// Where each account is counted: on itself when it is open or one of the newest closed ones, else on the next account above.
    fn homes(&self, closed: &mut BTreeMap<AccountId, AccountId>) -> Result<BTreeMap<i64, AccountId>, LedgerFault> {
        let mut statement = self.conn.prepare("SELECT id, parent, closed_us IS NOT NULL FROM accounts ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let accounts: Vec<(i64, Option<i64>, bool)> = rows.collect::<Result<_, _>>()?;
        let newest: BTreeSet<i64> =
            accounts.iter().rev().filter(|(.., is_closed)| *is_closed).map(|(id, ..)| *id).take(MAX_CLOSED).collect();
        let mut homes = BTreeMap::new();
        // A parent is older than what is below it.
        for (id, parent, is_closed) in accounts {
            let above = parent.and_then(|parent| homes.get(&parent)).copied().unwrap_or(AccountId::ROOT);
            if newest.contains(&id) {
                closed.insert(AccountId::new(id), above);
            }
            homes.insert(id, if is_closed && !newest.contains(&id) { above } else { AccountId::new(id) });
        }
        Ok(homes)
    }
}
