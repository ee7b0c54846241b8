//! The kill of a subtree, inside the writer's transaction.

use super::LedgerFault;
use super::writer::Writer;
use aex_core::books::{Account, AccountKind};
use aex_core::decision::AccountState;
use aex_core::event::By;

/// What a kill ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Runs that it closed.
    pub runs: u64,
    /// Calls in flight that are told to end once it is committed.
    pub calls: u64,
}

impl Writer<'_> {
    /// Denies every call of an account and all below it, ends those in flight, and closes the runs, for `run_reason`. A run
    /// that is killed itself is closed: nothing brings it back.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn kill(&mut self, account: &Account, reason: &str, run_reason: &str, by: &By) -> Result<Killed, LedgerFault> {
        let books = &self.state.books;
        let calls = books.holds().filter(|(_, hold)| books.path(hold.account).contains(&account.id)).count();
        let mut runs = self.open_below(account.id);
        runs.retain(|node| node.kind == AccountKind::Run);
        if account.kind == AccountKind::Run {
            runs.push(account.clone());
        } else {
            self.set_state(account, AccountState::Killed, reason, Some(by.clone()))?;
        }
        // Nothing stands below a run.
        let runs = self.close_all(runs, run_reason, Some(by))?;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Killed { runs: count(runs.len()), calls: count(calls) })
    }
}
