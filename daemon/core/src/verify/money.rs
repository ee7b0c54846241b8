//! Balances as the events make them: which windows are open, what is spent and held in each, and which of them a call has to be on.

use super::tree::Node;
use super::words::Said;
use super::{Audit, Place};
use crate::books::{Balance, HoldKey};
use crate::decision::AccountState;
use crate::event::{BudgetSet, Event, WindowOpened};
use crate::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Pico, Stamp};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// All balances that were ever opened.
#[derive(Debug, Default)]
pub(super) struct Money {
    pub(super) balances: BTreeMap<BalanceId, Balance>,
    by_window: BTreeMap<(AccountId, Period, Stamp), BalanceId>,
    latest: BTreeMap<(AccountId, Period), BalanceId>,
    /// A window that only a budget can have opened: the budget has to be the next event.
    pub(super) pending: Option<(i64, WindowOpened)>,
}

impl Money {
    pub(super) fn open(&mut self, balance: Balance) {
        self.by_window.insert((balance.account, balance.period, balance.window.start), balance.id);
        self.latest.insert((balance.account, balance.period), balance.id);
        self.balances.insert(balance.id, balance);
    }

    fn calendar(&self, account: AccountId, period: Period, at: Stamp, zone: &TimeZone) -> Option<BalanceId> {
        let window = Window::of(period, at, zone)?;
        self.by_window.get(&(account, period, window.start)).copied()
    }

    /// The balance that counts an account's calls of an instant. The window opened last counts to its end, even when the
    /// daemon has been given another zone since.
    pub(super) fn counting(&self, account: AccountId, period: Period, at: Stamp, zone: &TimeZone) -> Option<BalanceId> {
        let latest = self.latest.get(&(account, period)).filter(|id| self.balances.get(id).is_some_and(|balance| balance.window.holds(at)));
        latest.copied().or_else(|| self.calendar(account, period, at, zone))
    }

    /// The balances that have to hold a call, by number: of every account on its path the total, one for each budget, and any
    /// other whose window has begun: it counts to its end, also when the budget is taken away.
    ///
    /// # Errors
    /// The first of them that no event opened.
    pub(super) fn needed(&self, path: &[&Node], at: Stamp, zone: &TimeZone) -> Result<Vec<BalanceId>, String> {
        let mut needed = Vec::with_capacity(path.len().saturating_mul(2));
        for node in path {
            for period in Period::ALL {
                match self.counting(node.row.id, period, at, zone) {
                    Some(id) => needed.push(id),
                    None if period == Period::Total || node.budgets.contains_key(&period) => {
                        return Err(format!("no balance of account {} by {} is open", node.row.id, period.name()));
                    }
                    None => {}
                }
            }
        }
        needed.sort_unstable();
        Ok(needed)
    }

    pub(super) fn hold(&mut self, id: BalanceId, amount: Pico) -> Option<&Balance> {
        let balance = self.balances.get_mut(&id)?;
        balance.reserved = balance.reserved.plus(amount).unwrap_or(Pico::MAX);
        stay_in_range(balance);
        Some(balance)
    }

    /// Ends a hold on a balance. Whether the charge put it further beyond its limit.
    pub(super) fn end(&mut self, id: BalanceId, held: Pico, charge: Pico) -> bool {
        let Some(balance) = self.balances.get_mut(&id) else { return false };
        let before = overdraft(balance);
        balance.reserved = balance.reserved.minus(held).unwrap_or(Pico::ZERO);
        balance.spent = balance.spent.plus(charge).unwrap_or(Pico::MAX);
        stay_in_range(balance);
        overdraft(balance) > before
    }
}

/// Bills beyond the range of money leave room for what is held.
fn stay_in_range(balance: &mut Balance) {
    balance.spent = balance.spent.min(Pico::MAX.minus(balance.reserved).unwrap_or(Pico::ZERO));
}

/// spent + reserved; what is beyond the range of money stays at its end.
pub(super) fn used(balance: &Balance) -> Pico {
    balance.spent.plus(balance.reserved).unwrap_or(Pico::MAX)
}

/// How far a balance is beyond its limit.
pub(super) fn overdraft(balance: &Balance) -> Pico {
    balance.limit.and_then(|limit| used(balance).minus(limit)).unwrap_or(Pico::ZERO).max(Pico::ZERO)
}

impl Audit {
    /// Whether what has to follow the last event does: the suspension that a bill brings about, the budget that opened a window.
    pub(super) fn pending(&mut self, next: Option<&Event>) {
        if let Some((seq, agent)) = self.suspends.take() {
            let follows = next.is_some_and(|next| {
                matches!(next, Event::AccountStateChanged(changed) if changed.account == agent && changed.to == AccountState::Suspended)
            });
            self.found.budget.check(follows, || {
                format!("event {seq}: its bill went beyond what may be spent, and agent {agent} is not suspended by the next event")
            });
        }
        let Some((seq, opened)) = self.money.pending.take() else { return };
        let follows = next.is_some_and(|next| {
            matches!(next, Event::BudgetSet(set) if set.balance == opened.balance
                && set.account == opened.account
                && set.period == opened.period
                && set.limit == opened.limit
                && set.spent.is_none())
        });
        self.found.budget.check(follows, || {
            format!(
                "event {seq}: {} is opened with the limit {}, which is no budget of its account",
                self.tree.balance(opened.balance, opened.account, opened.period),
                opened.limit.said()
            )
        });
    }

    pub(super) fn window_opened(&mut self, place: Place, opened: WindowOpened) {
        let WindowOpened { account, balance, end, limit, period, start } = opened;
        let window = Window { start, end };
        let zone = self.zone_at(place);
        self.found.budget.check(Window::of(period, place.at, &zone) == Some(window), || {
            format!(
                "{place}: {} is opened {}, which is not the {} of that instant",
                self.tree.balance(balance, account, period),
                window.said(),
                period.name()
            )
        });
        let node = self.tree.accounts.get(&account);
        let budget = node.and_then(|node| node.budgets.get(&period).copied());
        let open = self.money.counting(account, period, place.at, &zone).is_some();
        if budget != limit || open || (period != Period::Total && limit.is_none()) {
            self.money.pending = Some((place.seq, opened));
        }
        let empty = period != Period::Total || node.is_none_or(|node| node.brought == Pico::ZERO);
        self.found.budget.check(empty, || format!("{place}: balance {balance} leaves out what account {account} had spent before"));
        self.found
            .integrity
            .check(node.is_some(), || format!("{place}: balance {balance} is opened for account {account}, which is not there"));
        self.opened(place, Balance::open(balance, account, period, window, limit));
    }

    /// Takes in a balance that is opened: each is new, and so is its window.
    fn opened(&mut self, place: Place, balance: Balance) {
        let last = self.money.balances.last_key_value().map(|(id, _)| *id);
        let taken = self.money.by_window.contains_key(&(balance.account, balance.period, balance.window.start));
        let id = balance.id;
        self.found.integrity.check(last.is_none_or(|last| last < id) && !taken, || format!("{place}: balance {id} is opened again"));
        if !self.money.balances.contains_key(&id) {
            self.money.open(balance);
        }
    }

    pub(super) fn budget_set(&mut self, place: Place, set: &BudgetSet) {
        let Some(node) = self.tree.accounts.get_mut(&set.account) else {
            return self.found.integrity.fail(format!("{place}: sets a budget of account {}, which is not there", set.account));
        };
        match set.limit {
            Some(limit) => {
                node.budgets.insert(set.period, limit);
                if !node.limits_had.contains(&(set.period, limit)) {
                    node.limits_had.push((set.period, limit));
                }
            }
            None => drop(node.budgets.remove(&set.period)),
        }
        let zone = self.zone_at(place);
        match (self.money.calendar(set.account, set.period, place.at, &zone), set.spent) {
            (running, Some(spent)) => {
                self.found.budget.check(running.is_none(), || {
                    format!("{place}: balance {} is opened, and the running window's is {}", set.balance, running.said())
                });
                self.opened_by_budget(place, set, spent, &zone);
            }
            (running, None) => {
                let same = running == Some(set.balance) && set.holds.is_empty();
                self.found.budget.check(same, || {
                    format!("{place}: a budget is set on balance {}; the running window's is {}", set.balance, running.said())
                });
                if let Some(balance) = self.money.balances.get_mut(&set.balance) {
                    balance.limit = set.limit;
                }
            }
        }
    }

    /// A budget that is set in mid-period: its balance takes in all that is held below its account. What the period had spent
    /// before is told by the event alone; it is no more than what the account spent ever. A total begins with what the account
    /// brought along.
    fn opened_by_budget(&mut self, place: Place, set: &BudgetSet, spent: Pico, zone: &TimeZone) {
        let window = Window::of(set.period, place.at, zone).unwrap_or(Window::TOTAL);
        let ever = self.money.counting(set.account, Period::Total, place.at, zone).and_then(|id| self.money.balances.get(&id));
        let brought = self.tree.accounts.get(&set.account).map_or(Pico::ZERO, |node| node.brought);
        let most = ever.map_or(brought, |total| total.spent);
        let least = if set.period == Period::Total { brought } else { Pico::ZERO };
        // What others spent and hold below an account is not told by an export without their events.
        let is_whole = self.is_whole(set.account);
        self.found.budget.check(!is_whole || (!spent.is_negative() && (least..=most).contains(&spent)), || {
            format!("{place}: balance {} is opened with {spent} spent; the account has spent {most} in all", set.balance)
        });
        let below = |account: AccountId| self.tree.path(account).iter().any(|node| node.row.id == set.account);
        let held: Vec<HoldKey> = self.open.iter().filter(|(_, held)| below(held.row.account)).map(|(key, _)| *key).collect();
        let mut told: Vec<HoldKey> = set.holds.iter().map(|(request, attempt)| HoldKey { request: *request, attempt: *attempt }).collect();
        told.sort_unstable();
        self.found.budget.check(!is_whole || told == held, || {
            format!("{place}: balance {} takes in {} holds of the {} that are open below its account", set.balance, told.len(), held.len())
        });
        self.opened(place, Balance { spent, ..Balance::open(set.balance, set.account, set.period, window, set.limit) });
        for key in told {
            if let Some(held) = self.open.get_mut(&key) {
                held.row.balances.push(set.balance);
                self.money.hold(set.balance, held.row.amount);
            }
        }
    }
}
