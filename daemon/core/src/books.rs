//! The state of all money: accounts, balances per window, open holds. One step is one change; the ledger writes what changed.
//!
//! Promise 1 lives here: a hold is admitted on every balance of its path, or on none, and only while
//! spent + reserved + amount ≤ limit on each of them.

mod account;
mod balance;

pub use account::{Account, AccountKind, Limits};
pub use balance::Balance;

use crate::decision::{AccountState, Denial, Named};
use crate::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Pico, RequestId, Stamp};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// Arithmetic left its range, or rows do not fit together: the books are not to be trusted and nothing is admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BooksFault {
    /// An amount left the range of money.
    #[error("balance {0}: an amount is out of range")]
    OutOfRange(BalanceId),
    /// A row names a balance that is not there.
    #[error("balance {0} is missing")]
    NoBalance(BalanceId),
    /// A row names an account that is not there.
    #[error("account {0} is missing")]
    NoAccount(AccountId),
    /// The calendar has no window for an instant.
    #[error("no {1:?} window holds {0}")]
    NoWindow(Stamp, Period),
}

/// One hold: a request, and which try of it. A request that falls back to another model holds anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldKey {
    /// The request.
    pub request: RequestId,
    /// 0 for the first try.
    pub attempt: u8,
}

/// Money held for a call in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenHold {
    /// Whose call it is.
    pub account: AccountId,
    /// What is held.
    pub amount: Pico,
    /// The balances that hold it.
    pub balances: Vec<BalanceId>,
    /// The request may have reached the provider.
    pub sent: bool,
    /// The daemon's start that it belongs to.
    pub epoch: u32,
    /// When the daemon ends it at the latest.
    pub deadline: Stamp,
}

/// What a hold changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The balances that hold it.
    pub balances: Vec<BalanceId>,
    /// Those among them whose window was opened for it.
    pub opened: Vec<BalanceId>,
}

/// What ending a hold changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The hold as it was.
    pub hold: OpenHold,
    /// The bill put an account further beyond its limit: the agent is to be suspended.
    pub overdrawn: bool,
}

/// All accounts, balances and open holds.
#[derive(Clone, Debug)]
pub struct Books {
    zone: TimeZone,
    accounts: BTreeMap<AccountId, Account>,
    balances: BTreeMap<BalanceId, Balance>,
    by_window: BTreeMap<(AccountId, Period, Stamp), BalanceId>,
    latest: BTreeMap<(AccountId, Period), BalanceId>,
    /// Budgets that were taken away: the window that one had begun counts to its end, so that it is right when one comes again.
    lifted: BTreeSet<(AccountId, Period)>,
    holds: BTreeMap<HoldKey, OpenHold>,
    next_balance: i64,
    dirty: BTreeSet<BalanceId>,
}

impl Books {
    /// Empty books that count windows in a zone. New balances are numbered from `next_balance`.
    #[must_use]
    pub const fn new(zone: TimeZone, next_balance: i64) -> Books {
        Books {
            zone,
            accounts: BTreeMap::new(),
            balances: BTreeMap::new(),
            by_window: BTreeMap::new(),
            latest: BTreeMap::new(),
            lifted: BTreeSet::new(),
            holds: BTreeMap::new(),
            next_balance,
            dirty: BTreeSet::new(),
        }
    }

    /// Adds or replaces an account.
    pub fn put_account(&mut self, account: Account) {
        self.accounts.insert(account.id, account);
    }

    /// Adds a balance as it was stored. Its account, with its budgets, has to be there.
    pub fn put_balance(&mut self, balance: Balance) {
        let has_budget = self.accounts.get(&balance.account).is_some_and(|account| account.budgets.contains_key(&balance.period));
        if balance.period != Period::Total && !has_budget {
            self.lifted.insert((balance.account, balance.period));
        }
        self.by_window.insert((balance.account, balance.period, balance.window.start), balance.id);
        self.latest.insert((balance.account, balance.period), balance.id);
        self.next_balance = self.next_balance.max(balance.id.get().saturating_add(1));
        self.balances.insert(balance.id, balance);
    }

    /// Adds an open hold as it was stored; its balances already count it.
    pub fn put_hold(&mut self, key: HoldKey, hold: OpenHold) {
        self.holds.insert(key, hold);
    }

    /// An account.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// All accounts, by number.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// A balance.
    #[must_use]
    pub fn balance(&self, id: BalanceId) -> Option<&Balance> {
        self.balances.get(&id)
    }

    /// All balances, by number.
    pub fn balances(&self) -> impl Iterator<Item = &Balance> {
        self.balances.values()
    }

    /// All open holds.
    pub fn holds(&self) -> impl Iterator<Item = (&HoldKey, &OpenHold)> {
        self.holds.iter()
    }

    /// An open hold.
    #[must_use]
    pub fn open_hold(&self, key: HoldKey) -> Option<&OpenHold> {
        self.holds.get(&key)
    }

    /// An account and all above it, up to the root.
    #[must_use]
    pub fn path(&self, account: AccountId) -> Vec<AccountId> {
        let mut path = Vec::with_capacity(4);
        let mut next = Some(account);
        while let Some(account) = next.and_then(|id| self.accounts.get(&id)) {
            path.push(account.id);
            next = account.parent;
        }
        path
    }

    /// The balances changed since the last call, by number: what the ledger has to write.
    pub fn take_dirty(&mut self) -> BTreeSet<BalanceId> {
        std::mem::take(&mut self.dirty)
    }

    /// The first account on a path that is not active, as a denial.
    #[must_use]
    pub fn stopped(&self, path: &[AccountId]) -> Option<Denial> {
        path.iter()
            .filter_map(|id| self.accounts.get(id))
            .find(|account| account.state != AccountState::Active)
            .map(|account| Denial::Account { account: account.named(), reason: account.reason.clone(), state: account.state })
    }

    /// Places a hold on every balance of an account's path, or on none.
    ///
    /// # Errors
    /// Outer: the books do not fit together. Inner: the denial, when an account is not active or its money does not suffice.
    pub fn hold(&mut self, key: HoldKey, wanted: Wanted) -> Result<Result<Placed, Denial>, BooksFault> {
        let path = self.path(wanted.account);
        if path.last() != Some(&AccountId::ROOT) {
            // It was closed, and forgotten, while the call came in.
            let account = Named { id: wanted.account, kind: None, name: wanted.account.to_string() };
            return Ok(Err(Denial::Account { account, reason: "deleted".to_owned(), state: AccountState::Closed }));
        }
        if let Some(denial) = self.stopped(&path) {
            return Ok(Err(denial));
        }
        let slots = self.slots(&path, wanted.at)?;
        for slot in &slots {
            if let Some(denial) = self.refusal(slot, wanted.amount)? {
                return Ok(Err(denial));
            }
        }
        let mut placed = Placed { balances: Vec::with_capacity(slots.len()), opened: Vec::new() };
        for slot in slots {
            let id = match slot {
                Slot::Open(id) => id,
                Slot::New(account, period, window, limit) => {
                    let id = self.open_balance(account, period, window, limit);
                    placed.opened.push(id);
                    id
                }
            };
            self.balances.get_mut(&id).ok_or(BooksFault::NoBalance(id))?.reserve(wanted.amount)?;
            self.dirty.insert(id);
            placed.balances.push(id);
        }
        let hold = OpenHold {
            account: wanted.account,
            amount: wanted.amount,
            balances: placed.balances.clone(),
            sent: wanted.sent,
            epoch: wanted.epoch,
            deadline: wanted.deadline,
        };
        self.holds.insert(key, hold);
        Ok(Ok(placed))
    }

    /// Marks a hold as sent. `false` when it is not open.
    pub fn mark_sent(&mut self, key: HoldKey) -> bool {
        self.holds.get_mut(&key).map(|hold| hold.sent = true).is_some()
    }

    /// Ends a hold with what the call cost; nothing for a release. `None` when it has ended before: money moves once.
    ///
    /// # Errors
    /// When the books do not fit together.
    pub fn end(&mut self, key: HoldKey, charge: Pico) -> Result<Option<Ended>, BooksFault> {
        let Some(hold) = self.holds.remove(&key) else { return Ok(None) };
        let mut overdrawn = false;
        for id in &hold.balances {
            let balance = self.balances.get_mut(id).ok_or(BooksFault::NoBalance(*id))?;
            let before = balance.overdraft;
            balance.end(hold.amount, charge)?;
            overdrawn |= balance.overdraft > before;
            self.dirty.insert(*id);
        }
        Ok(Some(Ended { hold, overdrawn }))
    }

    /// The window whose balance [`Books::set_budget`] would open, because there is none yet.
    ///
    /// # Errors
    /// When the calendar has no window.
    pub fn to_be_opened(&self, account: AccountId, period: Period, at: Stamp) -> Result<Option<Window>, BooksFault> {
        let window = Window::of(period, at, &self.zone).ok_or(BooksFault::NoWindow(at, period))?;
        Ok((!self.by_window.contains_key(&(account, period, window.start))).then_some(window))
    }

    /// Sets or lifts an account's budget of a period; the running window counts on either way. `spent` is what the running window has already been charged outside any
    /// balance, when the account had none for this period. Open holds of the account's subtree are taken in. Returns the
    /// balance, and whether it was opened.
    ///
    /// # Errors
    /// When the books do not fit together.
    pub fn set_budget(
        &mut self,
        account: AccountId,
        period: Period,
        limit: Option<Pico>,
        at: Stamp,
        spent: Pico,
    ) -> Result<(BalanceId, bool), BooksFault> {
        let node = self.accounts.get_mut(&account).ok_or(BooksFault::NoAccount(account))?;
        match limit {
            Some(limit) => {
                node.budgets.insert(period, limit);
                self.lifted.remove(&(account, period));
            }
            None => {
                node.budgets.remove(&period);
                if period != Period::Total {
                    self.lifted.insert((account, period));
                }
            }
        }
        let window = Window::of(period, at, &self.zone).ok_or(BooksFault::NoWindow(at, period))?;
        if let Some(id) = self.by_window.get(&(account, period, window.start)).copied() {
            self.balances.get_mut(&id).ok_or(BooksFault::NoBalance(id))?.set_limit(limit);
            self.dirty.insert(id);
            return Ok((id, false));
        }
        let id = self.open_balance(account, period, window, limit);
        let inside: Vec<HoldKey> =
            self.holds.iter().filter(|(_, hold)| self.path(hold.account).contains(&account)).map(|(key, _)| *key).collect();
        let balance = self.balances.get_mut(&id).ok_or(BooksFault::NoBalance(id))?;
        balance.spent = spent;
        for key in inside {
            if let Some(hold) = self.holds.get_mut(&key) {
                hold.balances.push(id);
                balance.reserve(hold.amount)?;
            }
        }
        balance.keep_in_range();
        balance.measure_overdraft();
        Ok((id, true))
    }

    /// How full the fullest budget on an account's path is: what is spent or held of it, in percent, rounded up. Zero without one.
    ///
    /// # Errors
    /// When the books do not fit together.
    pub fn fullest_share(&self, account: AccountId, at: Stamp) -> Result<u64, BooksFault> {
        let path = self.path(account);
        let slots = self.slots(&path, at)?;
        let open = slots.iter().filter_map(|slot| match slot {
            Slot::Open(id) => self.balances.get(id),
            Slot::New(..) => None,
        });
        Ok(open.filter_map(Balance::share_percent).max().unwrap_or(0))
    }

    /// Drops a closed account and its balances from memory, when nothing open is left on it or below it. The rows stay.
    pub fn forget_closed(&mut self, id: AccountId) -> bool {
        let closed = self.accounts.get(&id).is_some_and(|account| account.state == AccountState::Closed);
        let has_child = || self.accounts.values().any(|account| account.parent == Some(id));
        let has_hold = || self.holds.values().any(|hold| hold.account == id);
        if !closed || has_child() || has_hold() {
            return false;
        }
        self.accounts.remove(&id);
        let balances: Vec<BalanceId> = self.balances.values().filter(|balance| balance.account == id).map(|balance| balance.id).collect();
        for balance in balances.iter().filter_map(|balance| self.balances.remove(balance)) {
            self.by_window.remove(&(balance.account, balance.period, balance.window.start));
            self.latest.remove(&(balance.account, balance.period));
            self.lifted.remove(&(balance.account, balance.period));
        }
        true
    }

    /// The balance of an account in the window of a period that holds an instant.
    #[must_use]
    pub fn balance_at(&self, account: AccountId, period: Period, at: Stamp) -> Option<&Balance> {
        self.find(account, period, at).and_then(|id| self.balances.get(&id))
    }

    fn find(&self, account: AccountId, period: Period, at: Stamp) -> Option<BalanceId> {
        if let Some(id) = self.latest.get(&(account, period))
            && self.balances.get(id).is_some_and(|balance| balance.window.holds(at))
        {
            return Some(*id);
        }
        let window = Window::of(period, at, &self.zone)?;
        self.by_window.get(&(account, period, window.start)).copied()
    }

    fn open_balance(&mut self, account: AccountId, period: Period, window: Window, limit: Option<Pico>) -> BalanceId {
        let id = BalanceId::new(self.next_balance);
        self.put_balance(Balance::open(id, account, period, window, limit));
        self.dirty.insert(id);
        id
    }

    fn slots(&self, path: &[AccountId], at: Stamp) -> Result<Vec<Slot>, BooksFault> {
        let mut slots = Vec::with_capacity(path.len().saturating_mul(2));
        for id in path {
            let account = self.accounts.get(id).ok_or(BooksFault::NoAccount(*id))?;
            slots.push(self.slot(account, Period::Total, at)?);
            for period in account.budgets.keys().filter(|period| **period != Period::Total) {
                slots.push(self.slot(account, *period, at)?);
            }
            let lifted = self.lifted.range((*id, Period::Total)..=(*id, Period::Month));
            slots.extend(lifted.filter_map(|(_, period)| self.find(*id, *period, at)).map(Slot::Open));
        }
        Ok(slots)
    }

    fn slot(&self, account: &Account, period: Period, at: Stamp) -> Result<Slot, BooksFault> {
        if let Some(id) = self.find(account.id, period, at) {
            return Ok(Slot::Open(id));
        }
        let window = Window::of(period, at, &self.zone).ok_or(BooksFault::NoWindow(at, period))?;
        Ok(Slot::New(account.id, period, window, account.budgets.get(&period).copied()))
    }

    fn refusal(&self, slot: &Slot, asked: Pico) -> Result<Option<Denial>, BooksFault> {
        let opened;
        let balance = match slot {
            Slot::Open(id) => self.balances.get(id).ok_or(BooksFault::NoBalance(*id))?,
            Slot::New(account, period, window, limit) => {
                opened = Balance::open(BalanceId::new(0), *account, *period, *window, *limit);
                &opened
            }
        };
        if balance.fits(asked) {
            return Ok(None);
        }
        let account = self.accounts.get(&balance.account).ok_or(BooksFault::NoAccount(balance.account))?;
        Ok(Some(Denial::Budget {
            account: account.named(),
            asked,
            left: balance.left().unwrap_or(Pico::ZERO),
            limit: balance.limit.unwrap_or(Pico::MAX),
            period: balance.period,
            resets_at: balance.window.end,
        }))
    }
}

/// A hold that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whose call it is.
    pub account: AccountId,
    /// The bound of the call.
    pub amount: Pico,
    /// Now: it decides the windows.
    pub at: Stamp,
    /// When the daemon ends it at the latest.
    pub deadline: Stamp,
    /// The daemon's start.
    pub epoch: u32,
    /// The send follows at once.
    pub sent: bool,
}

/// A balance that a hold needs: there, or to be opened when the hold is admitted.
enum Slot {
    Open(BalanceId),
    New(AccountId, Period, Window, Option<Pico>),
}

#[cfg(test)]
mod tests;
