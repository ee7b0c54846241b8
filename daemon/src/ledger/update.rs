//! Changes of a living account, inside the writer's transaction: what it states, its limits, its budgets.

use super::LedgerFault;
use super::entries::list;
use super::load;
use super::past::Past;
use super::writer::Writer;
use aex_core::books::{Account, HoldKey, Limits};
use aex_core::event::{AccountUpdated, BudgetSet, By};
use aex_core::policy::Fields;
use aex_core::window::Period;
use aex_proto::value::{AccountId, BalanceId, Pico};
use rusqlite::params;

/// A budget that is to be set, or taken away.
#[derive(Clone, Debug)]
pub struct BudgetChange {
    /// The account.
    pub account: AccountId,
    /// The period.
    pub period: Period,
    /// What may be spent in it; `None` takes the budget away.
    pub limit: Option<Pico>,
    /// Why, when that was said.
    pub reason: Option<String>,
}

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

    /// Sets an account's budget of a period, or takes it away. The running window counts what it has spent already, which `past`
    /// knows, and what calls in flight hold. Returns what is spent and held of it. [`Writer::is_past`] is to be asked first.
    ///
    /// # Errors
    /// When the ledger cannot be read or written, or `past` is not what is needed.
    pub fn set_budget(&mut self, change: &BudgetChange, past: Option<&Past>, by: Option<By>) -> Result<Pico, LedgerFault> {
        let BudgetChange { account, period, limit, reason } = change;
        let (account, period, limit) = (*account, *period, *limit);
        // Beyond the range of money a sum of charges may be more than what the account's total could count.
        let ever = self.state.books.balance_at(account, Period::Total, self.now).map_or(Pico::MAX, |total| total.spent);
        let spent = self.spent_before(account, period, past)?.min(ever);
        match limit {
            Some(limit) => {
                let mut statement = self.conn.prepare_cached("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?)")?;
                statement.execute(params![account.get(), period.name(), limit.get()])?;
            }
            None => {
                let mut statement = self.conn.prepare_cached("DELETE FROM budgets WHERE account = ? AND period = ?")?;
                statement.execute(params![account.get(), period.name()])?;
            }
        }
        let (balance, opened) = self.state.books.set_budget(account, period, limit, self.now, spent)?;
        let holds = if opened { self.take_in(balance)? } else { Vec::new() };
        let holds = holds.into_iter().map(|key| (key.request, key.attempt)).collect();
        let (reason, spent) = (reason.clone(), opened.then_some(spent));
        self.append(&BudgetSet { account, balance, by, holds, limit, period, reason, spent }.into())?;
        let row = self.state.books.balance(balance);
        Ok(row.and_then(|row| row.spent.plus(row.reserved)).unwrap_or(Pico::MAX))
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
