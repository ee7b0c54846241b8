//! The ledger's rows against what the events say of them. Rows are taken in once; what is left over at the end is missing.

use super::Audit;
use super::finding::Finding;

use super::money::{overdraft, used};
use super::rows::{Account, Budget, Call, Chain, Hold, Token};
use super::words::Said;
use crate::books::{Balance, HoldKey};
use aex_proto::value::Stamp;

/// The fields in which a row differs from what it should be, with both values.
macro_rules! differences {
    ($row:expr, $events:expr, $($field:ident),* $(,)?) => {{
        let mut found: Vec<String> = Vec::new();
        $(if $row.$field != $events.$field {
            found.push(format!("{} is {}, by its events {}", stringify!($field), $row.$field.said(), $events.$field.said()));
        })*
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }};
}

impl Audit {
    /// Compares the row that says where the ledger stands.
    pub fn chain(&mut self, row: Option<&Chain>) {
        let Some(row) = row else { return self.found.integrity.fail("chain: its row is missing".to_owned()) };
        let events = Chain {
            head: self.head,
            epoch: self.epoch,
            next_account: self.tree.next_account(),
            ledger: self.ledger.clone().unwrap_or_else(|| row.ledger.clone()),
        };
        let verdict = differences!(row, events, head, epoch, next_account, ledger);
        self.found.integrity.verdict(verdict, || "chain".to_owned());
    }

    /// Compares an account's row. Its budgets are rows of their own.
    pub fn account(&mut self, row: &Account) {
        let verdict = match self.tree.accounts.get_mut(&row.id).filter(|_| self.seen.insert(row.id)) {
            Some(node) => {
                differences!(row, node.row, parent, kind, name, state, reason, limits, policy, created_at, closed_at)
            }
            None => Err("no event made it".to_owned()),
        };
        self.found.integrity.verdict(verdict, || format!("account {}", row.id));
    }

    /// Compares a budget's row.
    pub fn budget(&mut self, row: &Budget) {
        let limit = self.tree.accounts.get_mut(&row.account).and_then(|node| node.budgets.remove(&row.period));
        let verdict = match limit {
            Some(limit) => differences!(row, Budget { limit, ..*row }, limit),
            None => Err("no event set it".to_owned()),
        };
        self.found.sums.verdict(verdict, || format!("budget of account {} by {}", row.account, row.period.name()));
    }

    /// Compares a token's row.
    pub fn token(&mut self, row: &Token) {
        let verdict = match self.tree.tokens.remove(&row.hash) {
            Some(events) => differences!(row, events, account, read_only, created_at, expires_at, revoked_at, label),
            None => Err("no event made it".to_owned()),
        };
        self.found.integrity.verdict(verdict, || format!("token {}", row.hash));
    }

    /// Takes the windows of balances from their rows: where a zone is not known, or its rules are others than they were, the events
    /// do not tell all of them.
    pub const fn trust_windows(&mut self) {
        self.windows_of_rows = true;
    }

    /// Compares a balance's row.
    pub fn balance(&mut self, row: &Balance) {
        let id = row.id;
        // A row may lie about whose it is; the event that opened it is believed.
        let Balance { account, period, .. } = *self.money.balances.get(&id).unwrap_or(row);
        let name = || self.tree.balance(id, account, period);
        let Balance { spent, reserved, overdraft: beyond, .. } = *row;
        self.found.negative.check([spent, reserved, beyond].iter().all(|amount| !amount.is_negative()), || {
            format!("{}: spent {spent}, reserved {reserved}, overdraft {beyond}", name())
        });
        let within = |limit| used(row).minus(row.overdraft).is_some_and(|used| used <= limit);
        self.found.budget.check(row.limit.is_none_or(within), || {
            format!("{}: spent {spent} + reserved {reserved} − overdraft {beyond} is above its limit", name())
        });
        let verdict = match self.money.balances.remove(&id) {
            Some(events) => {
                let window = if self.windows_of_rows { row.window } else { events.window };
                let events = Balance { overdraft: overdraft(&events), window, ..events };
                differences!(row, events, account, period, window, limit, spent, reserved, overdraft)
            }
            None => Err("no event opened it".to_owned()),
        };
        self.found.sums.verdict(verdict, name);
    }

    /// Compares an open hold's row. Those of the living epoch within their deadline are calls in flight, no orphans. The deadline is a
    /// time of the wall clock, so it moves with each jump of that.
    pub fn open(&mut self, row: &Hold, now: Stamp, living: Option<u32>) {
        let moved_us = self.open.get(&row.key).map_or(0, |held| held.moved_us);
        let alive = living == Some(row.epoch) && now <= row.deadline.offset(moved_us);
        self.found
            .orphans
            .check(alive, || format!("{}: held by epoch {} until {}, and nobody works on it", row.key.request, row.epoch, row.deadline));
        let verdict = match self.open.remove(&row.key) {
            Some(held) => {
                differences!(row, held.row, account, model, card, amount, tokens, balances, held_at, deadline, epoch, sent, held_seq)
            }
            None => Err("no event holds it".to_owned()),
        };
        self.found.sums.verdict(verdict, || held_key(row.key));
    }

    /// Compares the terminal row of a call with what [`Audit::event`] said of it. That is done call by call, so that the audit
    /// keeps no call that has ended: the row names the events that held and ended it, so that it stands for one end only.
    pub fn ended(&mut self, events: &Call, row: Option<&Call>) {
        let verdict = match row {
            Some(row) => differences!(row, events, account, model, state, amount, charge, tokens, held_at, ended_at, held_seq, ended_seq),
            None => Err("it has ended by its events, and its row is missing".to_owned()),
        };
        self.found.sums.verdict(verdict, || held_key(events.key));
    }

    /// Compares the number of terminal rows. `false`: there are others than those that the events name.
    pub fn count_ended(&mut self, rows: u64) -> bool {
        let events = self.ended.count;
        self.found.sums.check(rows == events, || format!("calls: {rows} rows of calls that have ended, by their events {events}"));
        rows == events
    }

    /// A terminal row that no event names.
    pub fn stray(&mut self, key: HoldKey) {
        self.found.sums.fail(format!("{}: no event ended it", held_key(key)));
    }

    /// A row that does not fit its table.
    pub fn unreadable(&mut self, table: &str, fault: &str) {
        self.found.integrity.fail(format!("{table}: a row cannot be read: {fault}"));
    }

    /// What was found where no rows are at hand, the seed's five invariants first.
    #[must_use]
    pub fn finish_without_rows(mut self) -> Vec<Finding> {
        self.pending(None);
        self.unmet();
        self.found.list()
    }

    /// What was found, the seed's five invariants first. A row that was not given is missing.
    #[must_use]
    pub fn finish(mut self) -> Vec<Finding> {
        self.pending(None);
        self.found
            .integrity
            .check(self.restored.is_none(), || "the last event is a restore that no start of the daemon followed".to_owned());
        self.unmet();
        for (id, node) in &self.tree.accounts {
            if !self.seen.contains(id) {
                self.found.integrity.fail(format!("account {id}: its row is missing"));
            }
            for period in node.budgets.keys() {
                self.found.sums.fail(format!("budget of account {id} by {}: its row is missing", period.name()));
            }
        }
        for hash in self.tree.tokens.keys() {
            self.found.integrity.fail(format!("token {hash}: its row is missing"));
        }
        // The rows of those above a filtered account are not given.
        let left = self.money.balances.values().filter(|balance| self.is_whole(balance.account));
        let missing: Vec<String> = left.map(|balance| self.tree.balance(balance.id, balance.account, balance.period)).collect();
        for name in missing {
            self.found.sums.fail(format!("{name}: its row is missing"));
        }
        for key in self.open.keys() {
            self.found.sums.fail(format!("{}: it is held by its events, and its row is missing", held_key(*key)));
        }
        self.found.list()
    }
}

fn held_key(key: HoldKey) -> String {
    if key.attempt == 0 { key.request.to_string() } else { format!("{} (attempt {})", key.request, key.attempt) }
}
