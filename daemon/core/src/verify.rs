//! The audit: replays the events and compares what follows from them with what the ledger's rows say.
//!
//! Feed it every event in order, then the rows, then ask for the findings. It needs no daemon and no database.

use crate::books::{Balance, HoldKey};
use crate::chain::Head;
use crate::decision::Denial;
use crate::event::{BudgetSet, CallDenied, CallHeld, CallReleased, CallSettled, Event, Settled, WindowOpened};
use crate::policy::{self, Effective};
use crate::price::{self, Charge, ModelCard};
use crate::window::Window;
use aex_proto::value::{BalanceId, Digest, Pico, RequestId, Stamp};
use std::collections::BTreeMap;

/// Findings of one invariant that are kept; more are counted only.
const KEPT: usize = 20;

/// One event as it is stored or exported.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub seq: i64,
    /// When it was recorded.
    pub at: Stamp,
    /// Its kind.
    pub kind: String,
    /// Its canonical body.
    pub body: String,
    /// Its hash.
    pub hash: Digest,
}

/// A hold's row that is still open.
#[derive(Clone, Copy, Debug)]
pub struct OpenRow {
    /// The hold.
    pub key: HoldKey,
    /// What it holds.
    pub amount: Pico,
    /// The daemon's start that it belongs to.
    pub epoch: u32,
    /// When it is to end at the latest.
    pub deadline: Stamp,
}

/// A call's terminal row.
#[derive(Clone, Copy, Debug)]
pub struct EndedRow {
    /// The hold that it ended.
    pub key: HoldKey,
    /// What was charged; zero for a release.
    pub charge: Pico,
}

/// What the audit says of one invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The invariant.
    pub name: &'static str,
    /// Rows looked at.
    pub checked: u64,
    /// Rows that break it, described; at most twenty.
    pub broken: Vec<String>,
    /// All rows that break it.
    pub broken_count: u64,
}

impl Finding {
    fn new(name: &'static str) -> Finding {
        Finding { name, checked: 0, broken: Vec::new(), broken_count: 0 }
    }

    /// Whether it holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.broken_count == 0
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked = self.checked.saturating_add(1);
        if !holds {
            self.fail(what());
        }
    }

    fn fail(&mut self, what: String) {
        self.broken_count = self.broken_count.saturating_add(1);
        if self.broken.len() < KEPT {
            self.broken.push(what);
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    amount: Pico,
    balances: Vec<BalanceId>,
    card: Digest,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    spent: Pico,
    reserved: Pico,
    limit: Option<Pico>,
    opened: bool,
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    head: Head,
    open: BTreeMap<HoldKey, Held>,
    ended: BTreeMap<HoldKey, Pico>,
    tallies: BTreeMap<BalanceId, Tally>,
    cards: BTreeMap<Digest, ModelCard>,
    policies: BTreeMap<Digest, Effective>,
    epoch: u32,
    counts: Counts,
    budget: Finding,
    negative: Finding,
    orphans: Finding,
    integrity: Finding,
    sums: Finding,
    charges: Finding,
    decisions: Finding,
}

/// What the events count up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls settled by the provider's report.
    pub exact: u64,
    /// Calls settled by an estimate.
    pub estimated: u64,
    /// Calls charged in full because nobody knows.
    pub worst_case: u64,
    /// Holds released.
    pub released: u64,
    /// Money charged by estimates and worst cases.
    pub uncertain: Pico,
    /// Money charged in all.
    pub charged: Pico,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            head: Head::START,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            tallies: BTreeMap::new(),
            cards: BTreeMap::new(),
            policies: BTreeMap::new(),
            epoch: 0,
            counts: Counts::default(),
            budget: Finding::new("spent_within_budget"),
            negative: Finding::new("no_negative_values"),
            orphans: Finding::new("no_orphaned_reservations"),
            integrity: Finding::new("event_log_integrity"),
            sums: Finding::new("spent_matches_events"),
            charges: Finding::new("charges_repriced"),
            decisions: Finding::new("decisions_recomputed"),
        }
    }
}

impl Audit {
    /// Takes in a snapshot, by which events name prices and policies. One whose text does not have its digest is a finding.
    pub fn snapshot(&mut self, digest: Digest, kind: &str, text: &str) {
        self.integrity.check(Digest::of(text.as_bytes()) == digest, || format!("snapshot {digest}: its text has another digest"));
        let read = match kind {
            "card" => serde_json::from_str(text).map(|card| drop(self.cards.insert(digest, card))),
            "policy" => Effective::parse(text).map(|policy| drop(self.policies.insert(digest, policy))),
            _ => Ok(()),
        };
        if let Err(fault) = read {
            self.integrity.fail(format!("snapshot {digest}: {fault}"));
        }
    }

    /// Takes in the next event.
    pub fn event(&mut self, record: &Record) {
        let expected = self.head.link(record.at, &record.kind, &Digest::of(record.body.as_bytes()));
        self.integrity.check(expected.seq == record.seq, || format!("event {}: {} was expected", record.seq, expected.seq));
        self.integrity.check(expected.hash == record.hash, || format!("event {}: its hash does not follow from what it holds", record.seq));
        self.head = Head { seq: record.seq, hash: record.hash };
        match Event::parse(&record.kind, &record.body) {
            Ok(event) => self.replay(record.seq, event),
            Err(fault) => self.integrity.fail(format!("event {}: {fault}", record.seq)),
        }
    }

    fn replay(&mut self, seq: i64, event: Event) {
        match event {
            Event::EpochOpened(opened) => self.epoch = opened.epoch,
            Event::WindowOpened(window) => self.window(seq, &window),
            Event::BudgetSet(set) => self.budget(seq, &set),
            Event::CallHeld(held) => self.held(seq, *held),
            Event::CallSettled(settled) => self.settled(seq, &settled),
            Event::CallReleased(released) => self.released(seq, &released),
            Event::CallDenied(denied) => self.denied(seq, &denied),
            _ => {}
        }
    }

    fn window(&mut self, seq: i64, window: &WindowOpened) {
        let tally = self.tallies.entry(window.balance).or_default();
        self.integrity.check(!tally.opened, || format!("event {seq}: balance {} is opened again", window.balance));
        *tally = Tally { limit: window.limit, opened: true, ..Tally::default() };
    }

    fn budget(&mut self, seq: i64, set: &BudgetSet) {
        let mut reserved = Pico::ZERO;
        for (request, attempt) in &set.holds {
            let key = HoldKey { request: *request, attempt: *attempt };
            match self.open.get_mut(&key) {
                Some(held) => {
                    held.balances.push(set.balance);
                    reserved = reserved.plus(held.amount).unwrap_or(Pico::MAX);
                }
                None => self.integrity.fail(format!("event {seq}: takes in {request}, which is not held")),
            }
        }
        let tally = self.tallies.entry(set.balance).or_default();
        tally.limit = set.limit;
        if let Some(spent) = set.spent {
            self.integrity.check(!tally.opened, || format!("event {seq}: balance {} is opened again", set.balance));
            *tally = Tally { spent, reserved, limit: set.limit, opened: true };
        }
    }

    fn held(&mut self, seq: i64, held: CallHeld) {
        let key = HoldKey { request: held.request, attempt: held.attempt };
        self.recompute_admission(seq, &held);
        for id in &held.balances {
            let Some(tally) = self.tallies.get_mut(id).filter(|tally| tally.opened) else {
                self.integrity.fail(format!("event {seq}: holds on balance {id}, which was never opened"));
                continue;
            };
            tally.reserved = tally.reserved.plus(held.amount).unwrap_or(Pico::MAX);
            let used = tally.spent.plus(tally.reserved).unwrap_or(Pico::MAX);
            self.budget.check(tally.limit.is_none_or(|limit| used <= limit), || {
                format!(
                    "event {seq}: {} was admitted with {} of {} used on balance {id}",
                    held.request,
                    used,
                    tally.limit.unwrap_or(Pico::ZERO)
                )
            });
        }
        let row = Held { amount: held.amount, balances: held.balances, card: held.card };
        let fresh = self.open.insert(key, row).is_none() && !self.ended.contains_key(&key);
        self.integrity.check(fresh, || format!("event {seq}: {} is held again", held.request));
    }

    fn recompute_admission(&mut self, seq: i64, held: &CallHeld) {
        let (Some(card), Some(policy)) = (self.cards.get(&held.card), self.policies.get(&held.policy)) else {
            self.decisions.fail(format!("event {seq}: the snapshot of its price or policy is missing"));
            return;
        };
        let again = policy::decide(&held.ask, card, policy, held.facts.as_ref()).map(|permit| {
            let bound = price::bound(&held.ask, card, permit.max_tokens);
            (permit, bound)
        });
        let same = again.as_ref().is_ok_and(|(permit, bound)| {
            (permit.max_tokens, &permit.changes, &permit.rule) == (held.max_tokens, &held.changes, &held.rule)
                && bound.as_ref().is_ok_and(|bound| bound.amount == held.amount && bound.input_tokens == held.input_tokens)
        });
        self.decisions.check(same, || format!("event {seq}: {} is decided differently from its inputs: {again:?}", held.request));
    }

    fn denied(&mut self, seq: i64, denied: &CallDenied) {
        let (Denial::Policy { .. } | Denial::Rule(_), Some(ask), Some(card)) = (&denied.denial, &denied.ask, denied.card) else { return };
        let (Some(card), Some(policy)) = (self.cards.get(&card), self.policies.get(&denied.policy)) else {
            self.decisions.fail(format!("event {seq}: the snapshot of its price or policy is missing"));
            return;
        };
        let again = policy::decide(ask, card, policy, denied.facts.as_ref());
        self.decisions
            .check(again.as_ref() == Err(&denied.denial), || format!("event {seq}: {} is decided differently: {again:?}", denied.request));
    }

    fn settled(&mut self, seq: i64, settled: &CallSettled) {
        let key = HoldKey { request: settled.request, attempt: settled.attempt };
        let Some(held) = self.close(seq, key, settled.charge) else { return };
        match settled.state {
            Settled::Exact => self.counts.exact = self.counts.exact.saturating_add(1),
            Settled::Estimated => self.counts.estimated = self.counts.estimated.saturating_add(1),
            Settled::WorstCase => self.counts.worst_case = self.counts.worst_case.saturating_add(1),
        }
        self.counts.charged = self.counts.charged.plus(settled.charge).unwrap_or(Pico::MAX);
        if settled.state != Settled::Exact {
            self.counts.uncertain = self.counts.uncertain.plus(settled.charge).unwrap_or(Pico::MAX);
        }
        let right = match settled.state {
            Settled::WorstCase => settled.charge == held.amount && settled.lines.is_empty(),
            Settled::Exact | Settled::Estimated => Charge::sum(&settled.lines) == Some(settled.charge) && self.priced(&held.card, settled),
        };
        self.charges.check(right, || format!("event {seq}: the charge of {} does not follow from its lines and prices", settled.request));
    }

    fn priced(&self, card: &Digest, settled: &CallSettled) -> bool {
        let Some(price) = self.cards.get(card).and_then(|card| card.price.as_ref()) else { return false };
        settled.lines.iter().all(|line| price.unit(line.0).is_none_or(|unit| unit == line.2))
    }

    fn released(&mut self, seq: i64, released: &CallReleased) {
        let key = HoldKey { request: released.request, attempt: released.attempt };
        if self.close(seq, key, Pico::ZERO).is_some() {
            self.counts.released = self.counts.released.saturating_add(1);
        }
    }

    /// Moves the money of a hold that ends; a hold ends once.
    fn close(&mut self, seq: i64, key: HoldKey, charge: Pico) -> Option<Held> {
        let held = self.open.remove(&key);
        self.integrity.check(held.is_some(), || format!("event {seq}: ends {}, which is not held", key.request));
        let held = held?;
        for id in &held.balances {
            if let Some(tally) = self.tallies.get_mut(id) {
                tally.reserved = tally.reserved.minus(held.amount).unwrap_or(Pico::ZERO);
                tally.spent = tally.spent.plus(charge).unwrap_or(Pico::MAX);
            }
        }
        self.ended.insert(key, charge);
        Some(held)
    }

    /// Compares a balance's row.
    pub fn balance(&mut self, row: &Balance) {
        let id = row.id;
        let amounts = [row.spent, row.reserved, row.overdraft];
        self.negative.check(amounts.iter().all(|amount| !amount.is_negative()), || format!("balance {id}: {amounts:?}"));
        let used = row.spent.plus(row.reserved).and_then(|used| used.minus(row.overdraft));
        self.budget.check(used.is_some_and(|used| row.limit.is_none_or(|limit| used <= limit)), || {
            format!("balance {id}: spent {} + reserved {} − overdraft {} is above its limit", row.spent, row.reserved, row.overdraft)
        });
        let Some(tally) = self.tallies.remove(&id) else {
            self.sums.fail(format!("balance {id}: no event opened it"));
            return;
        };
        self.sums.check(tally.spent == row.spent, || format!("balance {id}: spent {}, its events say {}", row.spent, tally.spent));
        self.sums.check(tally.reserved == row.reserved, || {
            format!("balance {id}: reserved {}, its events say {}", row.reserved, tally.reserved)
        });
        self.sums.check(tally.limit == row.limit, || format!("balance {id}: its limit is not the one that its events say"));
        self.sums.check(row.window.end.is_some() || row.window == Window::TOTAL, || format!("balance {id}: its window is no window"));
    }

    /// Compares an open hold's row. Those of the living epoch within their deadline are calls in flight, no orphans.
    pub fn open(&mut self, row: &OpenRow, now: Stamp, living: Option<u32>) {
        let alive = living == Some(row.epoch) && now <= row.deadline;
        self.orphans
            .check(alive, || format!("{}: held by epoch {} until {}, and nobody works on it", row.key.request, row.epoch, row.deadline));
        let held = self.open.remove(&row.key);
        self.sums
            .check(held.is_some_and(|held| held.amount == row.amount), || format!("{}: its row and its event differ", row.key.request));
    }

    /// Compares a call's terminal row.
    pub fn ended(&mut self, row: &EndedRow) {
        let charge = self.ended.remove(&row.key);
        self.sums.check(charge == Some(row.charge), || format!("{}: its row says {}, its events {charge:?}", row.key.request, row.charge));
    }

    /// Where the chain ends.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What the events count up to.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What was found, the seed's five invariants first. `stored` is the head that the ledger keeps beside the events.
    #[must_use]
    pub fn finish(mut self, stored: Option<Head>) -> Vec<Finding> {
        if let Some(stored) = stored {
            self.integrity
                .check(stored == self.head, || format!("the events end at {}, the ledger's head is {}", self.head.seq, stored.seq));
        }
        for id in self.tallies.keys() {
            self.sums.fail(format!("balance {id}: its row is missing"));
        }
        for key in self.open.keys() {
            self.sums.fail(format!("{}: it is held by its events, and its row is missing", key.request));
        }
        let lost: Vec<RequestId> = self.ended.keys().map(|key| key.request).collect();
        for request in lost {
            self.sums.fail(format!("{request}: it has ended by its events, and its row is missing"));
        }
        vec![self.budget, self.negative, self.orphans, self.integrity, self.sums, self.charges, self.decisions]
    }
}
