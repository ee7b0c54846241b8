//! Changes of a living account, inside the writer's transaction: what it states, its limits, its budgets.

use super::LedgerFault;
use super::entries::list;
use super::load;
use super::writer::Writer;
use aex_core::books::{Account, HoldKey, Limits};
use aex_core::event::{AccountUpdated, BudgetSet, By};
use aex_core::policy::Fields;
use aex_core::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Pico, Stamp};
use rusqlite::params;

impl Writer<'_> {
    /// Replaces what an account states and its limits on calls.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn update_account(
        &mut self,
        account: &Account,
        stated: &Fields,
        limits: Limits,
        reason: Option<String>,
        by: Option<By>,
    ) -> Result<(), LedgerFault> {
        let (text, digest) = stated.snapshot();
        self.snapshot("fields", digest, &text)?;
        let mut statement =
            self.conn.prepare_cached("UPDATE accounts SET rpm = ?2, concurrent = ?3, tpm = ?4, policy = ?5 WHERE id = ?1")?;
        statement.execute(params![account.id.get(), limits.rpm, limits.concurrent, limits.tpm, text])?;
        self.append(&AccountUpdated { account: account.id, by, limits, policy: digest, reason }.into())?;
        self.state.books.put_account(Account { limits, ..account.clone() });
        self.state.policies.insert(account.id, load::stored_policy(&text));
        self.directory_changed = true;
        Ok(())
    }

    /// Sets an account's budget of a period. The running window counts what it has spent already, and what calls in flight hold.
    /// Returns what is spent and held of it.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub fn set_budget(
        &mut self,
        account: AccountId,
        period: Period,
        limit: Pico,
        reason: Option<String>,
        by: Option<By>,
    ) -> Result<Pico, LedgerFault> {
        let mut statement = self.conn.prepare_cached("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?)")?;
        statement.execute(params![account.get(), period.name(), limit.get()])?;
        let spent = match self.state.books.balance_at(account, period, self.now) {
            Some(_) => Pico::ZERO,
            None => self.spent_in_window(account, period)?,
        };
        let (balance, opened) = self.state.books.set_budget(account, period, Some(limit), self.now, spent)?;
        let holds = if opened { self.take_in(balance)? } else { Vec::new() };
        let holds = holds.into_iter().map(|key| (key.request, key.attempt)).collect();
        self.append(&BudgetSet { account, balance, by, holds, limit: Some(limit), period, reason, spent: opened.then_some(spent) }.into())?;
        let row = self.state.books.balance(balance);
        Ok(row.and_then(|row| row.spent.plus(row.reserved)).unwrap_or(Pico::MAX))
    }

    /// What the calls of an account and all below it were charged that were held in the running window.
    fn spent_in_window(&self, account: AccountId, period: Period) -> Result<Pico, LedgerFault> {
        let window = Window::of(period, self.now, &self.state.zone)
            .ok_or_else(|| LedgerFault::Broken(format!("no {} holds {}", period.name(), self.now)))?;
        let sql = format!(
            "{} SELECT coalesce(sum(charge_pico >> 32), 0), coalesce(sum(charge_pico & 4294967295), 0)
             FROM calls WHERE account IN below AND held_us >= ?2 AND (?3 IS NULL OR held_us < ?3)",
            super::read::BELOW
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        // In halves: SQLite refuses a sum beyond its range, and such a budget could never be set.
        let (high, low): (i64, i64) = statement
            .query_row(params![account.get(), window.start.micros(), window.end.map(Stamp::micros)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let spent = (i128::from(high) << 32) + i128::from(low);
        Ok(i64::try_from(spent).map_or(Pico::MAX, Pico::new))
    }

    /// Writes the row of a balance that was opened in mid-period, and into the rows of open holds that it holds them.
    fn take_in(&mut self, balance: BalanceId) -> Result<Vec<HoldKey>, LedgerFault> {
        self.insert_balance(balance)?;
        let inside = self.state.books.holds().filter(|(_, hold)| hold.balances.contains(&balance));
        let inside: Vec<(HoldKey, String)> = inside.map(|(key, hold)| (*key, list(&hold.balances))).collect();
        let mut statement = self.conn.prepare_cached("UPDATE holds SET balances = ?3 WHERE request = ?1 AND attempt = ?2")?;
        for (key, balances) in &inside {
            statement.execute(params![key.request.bits().cast_signed(), key.attempt, balances])?;
        }
        Ok(inside.into_iter().map(|(key, _)| key).collect())
    }
}
