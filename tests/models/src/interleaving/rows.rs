//! The tables: what a commit keeps. Books are made from them and put back into them, as the ledger does.

use super::{BOUND, Config, GROUP};
use aex_core::books::{Account, AccountKind, Balance, Books, HoldKey, Limits, OpenHold};
use aex_core::decision::AccountState;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Pico, RequestId, Stamp};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The row of a call that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Final {
    /// Which call.
    pub call: usize,
    /// How it ended.
    pub state: &'static str,
    /// What it was charged.
    pub charge: Pico,
}

/// The tables after a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Agents that an overdraft has suspended.
    pub suspended: BTreeSet<AccountId>,
    /// All balances.
    pub balances: Vec<Balance>,
    /// Open holds, by call.
    pub holds: BTreeMap<usize, OpenHold>,
    /// Calls that have ended, by number.
    pub ended: Vec<Final>,
}

/// Tables that are kept, with their digest: they are compared millions of times.
#[derive(Clone, Debug)]
pub struct Kept(Arc<(u64, Rows)>);

impl Kept {
    pub(super) fn new(rows: Rows) -> Kept {
        let mut hasher = DefaultHasher::new();
        rows.hash(&mut hasher);
        Kept(Arc::new((hasher.finish(), rows)))
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.0.1
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.0 == other.0
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}

/// Two agents in a group, below the root.
const TREE: [(i64, Option<i64>, AccountKind); 4] =
    [(1, None, AccountKind::Root), (2, Some(1), AccountKind::Group), (3, Some(2), AccountKind::Agent), (4, Some(2), AccountKind::Agent)];

pub(super) const DAY_US: i64 = 86_400_000_000;

pub(super) fn key(call: usize) -> HoldKey {
    HoldKey { request: RequestId::new(1, u64::try_from(call).unwrap() + 1), attempt: 0 }
}

impl Rows {
    pub(super) fn new(config: &Config) -> Rows {
        let mut rows = Rows { suspended: BTreeSet::new(), balances: Vec::new(), holds: BTreeMap::new(), ended: Vec::new() };
        let mut books = rows.books(config);
        for (account, period, limit) in budgets(config) {
            books.set_budget(account, period, Some(limit), Stamp::new(0), Pico::ZERO).expect("a budget of new books");
        }
        rows.put(&books);
        rows
    }

    pub(super) fn books(&self, config: &Config) -> Books {
        let mut books = Books::new(TimeZone::UTC, 1);
        for (id, parent, kind) in TREE {
            let id = AccountId::new(id);
            let state = if self.suspended.contains(&id) { AccountState::Suspended } else { AccountState::Active };
            let own = budgets(config).into_iter().filter(|(account, ..)| *account == id);
            let budgets = own.map(|(_, period, limit)| (period, limit)).collect();
            let (parent, limits) = (parent.map(AccountId::new), Limits::default());
            books.put_account(Account { id, parent, kind, name: String::new(), state, reason: String::new(), limits, budgets });
        }
        for balance in &self.balances {
            books.put_balance(balance.clone());
        }
        for (call, hold) in &self.holds {
            books.put_hold(key(*call), hold.clone());
        }
        books
    }

    pub(super) fn put(&mut self, books: &Books) {
        self.balances = books.balances().cloned().collect();
        self.holds = (0..8).filter_map(|call| Some((call, books.open_hold(key(call))?.clone()))).collect();
    }

    pub(super) fn end(&mut self, call: usize, state: &'static str, charge: Pico) {
        self.ended.push(Final { call, state, charge });
        self.ended.sort_by_key(|row| row.call);
    }

    /// Whether the call has left a row.
    pub(super) fn knows(&self, call: usize) -> bool {
        self.holds.contains_key(&call) || self.ended.iter().any(|row| row.call == call)
    }
}

/// The group admits two calls at once, the first agent two, the second one.
fn budgets(config: &Config) -> Vec<(AccountId, Period, Pico)> {
    let calls = |count: i64| Pico::new(BOUND.amount.get() * count);
    let mut budgets =
        vec![(GROUP, Period::Total, calls(2)), (AccountId::new(3), Period::Total, calls(2)), (AccountId::new(4), Period::Total, calls(1))];
    if config.days {
        // Over all time the group admits all three; in a day, two.
        budgets = vec![(GROUP, Period::Total, calls(3)), (GROUP, Period::Day, calls(2)), (AccountId::new(3), Period::Day, calls(1))];
    }
    budgets
}
