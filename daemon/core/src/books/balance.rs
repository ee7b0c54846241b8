//! One balance: the money of an account in a window.

use super::BooksFault;
use crate::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Pico};
use serde::{Deserialize, Serialize};

/// The money of one account in one window. Invariant: nothing negative, and spent + reserved − overdraft ≤ limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// Whose money it is.
    pub account: AccountId,
    /// Its number.
    pub id: BalanceId,
    /// The budget; `None` counts without a limit.
    pub limit: Option<Pico>,
    /// How far bills or a lowered limit put it beyond its limit.
    pub overdraft: Pico,
    /// The period that the window belongs to.
    pub period: Period,
    /// Held by calls in flight.
    pub reserved: Pico,
    /// Charged so far.
    pub spent: Pico,
    /// The span of time that it counts.
    pub window: Window,
}

impl Balance {
    /// An empty one.
    #[must_use]
    pub const fn open(id: BalanceId, account: AccountId, period: Period, window: Window, limit: Option<Pico>) -> Balance {
        Balance { id, account, period, window, limit, spent: Pico::ZERO, reserved: Pico::ZERO, overdraft: Pico::ZERO }
    }

    /// limit − spent − reserved; negative in overdraft, `None` without a limit.
    #[must_use]
    pub fn left(&self) -> Option<Pico> {
        self.limit?.minus(self.used())
    }

    /// spent + reserved. What is beyond the range of money stays at its end: such a balance takes nothing more.
    fn used(&self) -> Pico {
        self.spent.plus(self.reserved).unwrap_or(Pico::MAX)
    }

    /// What is spent or held of the limit, in percent, rounded up; `None` without a limit.
    pub(super) fn share_percent(&self) -> Option<u64> {
        let limit = i128::from(self.limit?.get());
        let used = i128::from(self.used().get()).max(0);
        if limit <= 0 {
            return Some(100);
        }
        let share = used.saturating_mul(100).saturating_add(limit.saturating_sub(1)).checked_div(limit)?;
        Some(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Whether an amount more would stay within the limit, and within the range of money.
    pub(super) fn fits(&self, amount: Pico) -> bool {
        self.used().plus(amount).is_some_and(|used| self.limit.is_none_or(|limit| used <= limit))
    }

    /// Holds an amount.
    pub(super) fn reserve(&mut self, amount: Pico) -> Result<(), BooksFault> {
        self.reserved = self.reserved.plus(amount).ok_or(BooksFault::OutOfRange(self.id))?;
        Ok(())
    }

    /// Lets a hold go and charges. A bill is never refused: beyond the range of money it is recorded as the largest amount that
    /// still has room for what is held.
    pub(super) fn end(&mut self, held: Pico, charge: Pico) -> Result<(), BooksFault> {
        self.reserved = self.reserved.minus(held).filter(|left| !left.is_negative()).ok_or(BooksFault::OutOfRange(self.id))?;
        self.spent = self.spent.plus(charge).unwrap_or(Pico::MAX);
        self.keep_in_range();
        self.measure_overdraft();
        Ok(())
    }

    /// spent + reserved stays an amount, so that every row of it can be stored.
    pub(super) fn keep_in_range(&mut self) {
        self.spent = self.spent.min(Pico::MAX.minus(self.reserved).unwrap_or(Pico::ZERO));
    }

    /// Sets or lifts the limit.
    pub(super) fn set_limit(&mut self, limit: Option<Pico>) {
        self.limit = limit;
        self.measure_overdraft();
    }

    /// How far it is beyond its limit now.
    pub(super) fn measure_overdraft(&mut self) {
        let over = self.limit.and_then(|limit| self.used().minus(limit)).unwrap_or(Pico::ZERO);
        self.overdraft = over.max(Pico::ZERO);
    }
}
