//! PURE: counts of calls and denials by account, kept beside the books so that nobody has to scan the tables for them.
//!
//! The writer stages what a group does and counts it once the group is committed. What ended before this start is replayed
//! from the tables (`replay`) when somebody first asks. Must not: decide anything; what may be spent is in the balances.

use aex_core::books::Books;
use aex_core::decision::AuthCause;
use aex_proto::value::{AccountId, Pico, RequestId, Stamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Recent calls are counted in slots of ten seconds, for an hour.
const SLOT_US: i64 = 10_000_000;
const SLOTS: usize = 361;
/// And in hours, for a day.
const HOUR_US: i64 = 3_600_000_000;
const HOURS: usize = 24;
/// Closed accounts that keep counts of their own, for whoever asks what a run came to; older ones count on the account above.
pub(super) const MAX_CLOSED: usize = 4_096;

/// Calls by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Charged by the provider's report.
    pub exact: u64,
    /// Charged by an estimate.
    pub estimated: u64,
    /// Charged in full.
    pub worst_case: u64,
    /// Not charged.
    pub released: u64,
}

impl Ends {
    /// Calls that were charged.
    #[must_use]
    pub const fn charged(&self) -> u64 {
        self.exact.saturating_add(self.estimated).saturating_add(self.worst_case)
    }

    /// Each state with its count.
    #[must_use]
    pub const fn rows(&self) -> [(&'static str, u64); 4] {
        [("exact", self.exact), ("estimated", self.estimated), ("worst_case", self.worst_case), ("released", self.released)]
    }

    fn slot(&mut self, state: &str) -> &mut u64 {
        match state {
            "exact" => &mut self.exact,
            "estimated" => &mut self.estimated,
            "released" => &mut self.released,
            _ => &mut self.worst_case,
        }
    }
}

/// Calls that were charged, their tokens and their cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls.
    pub calls: u64,
    /// Their tokens; those of a worst case are its bound's.
    pub tokens: u64,
    /// What they cost.
    pub charged: Pico,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.charged = self.charged.plus(other.charged).unwrap_or(Pico::MAX);
    }
}

/// What a span of time came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Calls that were charged in it.
    pub calls: u64,
    /// Calls that were denied in it.
    pub denied: u64,
    /// What was charged in it.
    pub charged: Pico,
}

impl Span {
    fn add(&mut self, other: Span) {
        self.calls = self.calls.saturating_add(other.calls);
        self.denied = self.denied.saturating_add(other.denied);
        self.charged = self.charged.plus(other.charged).unwrap_or(Pico::MAX);
    }
}

/// Denials by kind. Those of callers that are not known, and of requests that are no good, are none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// For want of money.
    pub budget: u64,
    /// By a rate.
    pub rate: u64,
    /// By policy, scope or state.
    pub policy: u64,
}

/// The counts of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by how they ended.
    pub ends: Ends,
    /// Charged calls by the name of their model.
    pub models: BTreeMap<String, Sums>,
    /// Denials by rule.
    pub denials: BTreeMap<String, u64>,
    /// When a call last began, ended or was denied.
    pub last_activity: Option<Stamp>,
    /// The earliest call that has ended.
    pub first_call: Option<RequestId>,
    recent: BTreeMap<i64, Span>,
    hours: BTreeMap<i64, u64>,
    /// What lies behind this has a place in no slot: the wall clock has been set back to before it.
    until: Option<Stamp>,
}

impl Counts {
    /// Counts of what happened before an instant. What the wall clock, before it was set back, had put behind it still counts,
    /// but not as recent.
    pub(crate) fn until(now: Stamp) -> Counts {
        Counts { until: Some(now), ..Counts::default() }
    }

    /// All charged calls.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.models.values().for_each(|model| sums.add(*model));
        sums
    }

    /// All denials.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.denials.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Denials by kind.
    #[must_use]
    pub fn denied_by_kind(&self) -> Denied {
        let mut denied = Denied::default();
        for (rule, count) in &self.denials {
            let slot = match rule.as_str() {
                "budget" => &mut denied.budget,
                "rpm" | "tpm" | "concurrency" => &mut denied.rate,
                "authentication"
                | "authentication_rate"
                | "request_form"
                | "max_body"
                | "price"
                | "protocol"
                | "provider_key"
                | "ledger"
                | "shutdown" => continue,
                _ => &mut denied.policy,
            };
            *slot = slot.saturating_add(*count);
        }
        denied
    }

    /// The last so many seconds, at most an hour's, and up to ten more: as slots go.
    #[must_use]
    pub fn last_seconds(&self, now: Stamp, seconds: u32) -> Span {
        let last = now.micros().div_euclid(SLOT_US);
        let first = now.offset(i64::from(seconds).saturating_mul(-1_000_000)).micros().div_euclid(SLOT_US);
        let mut span = Span::default();
        self.recent.range(first..=last.max(first)).for_each(|(_, slot)| span.add(*slot));
        span
    }

    /// Charged calls of the last 24 hours by the hour that they ended in, the running one included, oldest first.
    #[must_use]
    pub fn last_hours(&self, now: Stamp) -> Vec<(Stamp, u64)> {
        let last = now.micros().div_euclid(HOUR_US);
        let hours = (0..i64::try_from(HOURS).unwrap_or(0)).rev().map(|ago| last.saturating_sub(ago));
        hours.map(|hour| (Stamp::new(hour.saturating_mul(HOUR_US)), self.hours.get(&hour).copied().unwrap_or(0))).collect()
    }

    pub(crate) fn active(&mut self, at: Stamp) {
        self.last_activity = self.last_activity.max(Some(self.until.map_or(at, |until| at.min(until))));
    }

    /// Counts a call that has ended.
    pub(crate) fn ended(&mut self, request: RequestId, model: &str, state: &str, sums: Sums, at: Stamp) {
        self.active(at);
        self.first_call = Some(self.first_call.map_or(request, |first| first.min(request)));
        let count = self.ends.slot(state);
        *count = count.saturating_add(1);
        if state == "released" {
            return;
        }
        match self.models.get_mut(model) {
            Some(known) => known.add(sums),
            None => drop(self.models.insert(model.to_owned(), sums)),
        }
        self.recently(at, Span { calls: 1, denied: 0, charged: sums.charged });
        if self.until.is_some_and(|until| at > until) {
            return;
        }
        let hour = self.hours.entry(at.micros().div_euclid(HOUR_US)).or_default();
        *hour = hour.saturating_add(1);
        keep_newest(&mut self.hours, HOURS);
    }

    /// Counts calls that were denied.
    pub(crate) fn refused(&mut self, rule: &str, count: u64, at: Stamp) {
        self.active(at);
        match self.denials.get_mut(rule) {
            Some(known) => *known = known.saturating_add(count),
            None => drop(self.denials.insert(rule.to_owned(), count)),
        }
        self.recently(at, Span { calls: 0, denied: count, charged: Pico::ZERO });
    }

    fn recently(&mut self, at: Stamp, span: Span) {
        if self.until.is_some_and(|until| at > until) {
            return;
        }
        self.recent.entry(at.micros().div_euclid(SLOT_US)).or_default().add(span);
        keep_newest(&mut self.recent, SLOTS);
    }

    /// The wall clock was set back: slots behind its time would crowd out those that are to come.
    fn set_back(&mut self, now: Stamp) {
        self.last_activity = self.last_activity.map(|at| at.min(now));
        drop(self.recent.split_off(&now.micros().div_euclid(SLOT_US).saturating_add(1)));
        drop(self.hours.split_off(&now.micros().div_euclid(HOUR_US).saturating_add(1)));
    }

    fn add(&mut self, other: &Counts) {
        for (state, count) in other.ends.rows() {
            let known = self.ends.slot(state);
            *known = known.saturating_add(count);
        }
        for (model, sums) in &other.models {
            self.models.entry(model.clone()).or_default().add(*sums);
        }
        for (rule, count) in &other.denials {
            let known = self.denials.entry(rule.clone()).or_default();
            *known = known.saturating_add(*count);
        }
        self.last_activity = self.last_activity.max(other.last_activity);
        self.first_call = [self.first_call, other.first_call].into_iter().flatten().min();
        for (slot, span) in &other.recent {
            self.recent.entry(*slot).or_default().add(*span);
        }
        for (hour, calls) in &other.hours {
            let known = self.hours.entry(*hour).or_default();
            *known = known.saturating_add(*calls);
        }
        keep_newest(&mut self.recent, SLOTS);
        keep_newest(&mut self.hours, HOURS);
    }
}

fn keep_newest<T>(slots: &mut BTreeMap<i64, T>, most: usize) {
    while slots.len() > most {
        slots.pop_first();
    }
}

/// What a group did, until it is committed.
#[derive(Debug)]
pub(super) enum Change {
    Held(AccountId),
    Ended { account: AccountId, request: RequestId, model: String, state: &'static str, sums: Sums },
    Denied { account: AccountId, rule: String, count: u64 },
    AuthFailed { cause: AuthCause, count: u64 },
}

/// What ended before this start.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) counts: BTreeMap<AccountId, Counts>,
    pub(super) closed: BTreeMap<AccountId, AccountId>,
    pub(super) auth_failed: BTreeMap<AuthCause, u64>,
}

/// The counts that the writer keeps: each account's own, without those below it.
#[derive(Debug)]
pub(super) struct Tally {
    counts: BTreeMap<AccountId, Arc<Counts>>,
    /// Closed accounts that the books have forgotten, with the account above.
    closed: BTreeMap<AccountId, AccountId>,
    auth_failed: BTreeMap<AuthCause, u64>,
    staged: Vec<(Stamp, Change)>,
    /// The newest event that is counted.
    counted_to: i64,
}

impl Tally {
    /// Nothing has happened since this event.
    pub(super) const fn new(head: i64) -> Tally {
        Tally { counts: BTreeMap::new(), closed: BTreeMap::new(), auth_failed: BTreeMap::new(), staged: Vec::new(), counted_to: head }
    }

    /// Notes what the running group does.
    pub(super) fn stage(&mut self, at: Stamp, change: Change) {
        self.staged.push((at, change));
    }

    /// Counts what the group did: it is committed up to this event.
    pub(super) fn commit(&mut self, books: &Books, head: i64) {
        self.counted_to = head;
        let mut staged = std::mem::take(&mut self.staged);
        for (at, change) in staged.drain(..) {
            match change {
                Change::Held(account) => self.own(books, account).active(at),
                Change::Ended { account, request, model, state, sums } => self.own(books, account).ended(request, &model, state, sums, at),
                Change::Denied { account, rule, count } => self.own(books, account).refused(&rule, count, at),
                Change::AuthFailed { cause, count } => {
                    let known = self.auth_failed.entry(cause).or_default();
                    *known = known.saturating_add(count);
                }
            }
        }
        self.staged = staged;
    }

    /// The wall clock was set back.
    pub(super) fn set_back(&mut self, now: Stamp) {
        self.counts.values_mut().for_each(|counts| Arc::make_mut(counts).set_back(now));
    }

    /// After a fault: the group counts if the tables have it after all, which are at this event.
    pub(super) fn recover(&mut self, books: &Books, head: i64) {
        if head == self.counted_to {
            self.staged.clear();
        }
        self.commit(books, head);
    }

    /// The books forget a closed account.
    pub(super) fn forgotten(&mut self, books: &Books, account: AccountId, parent: AccountId) {
        self.closed.insert(account, parent);
        self.trim(books);
    }

    /// Takes in what ended before this start.
    pub(super) fn take_in(&mut self, past: Past, books: &Books) {
        self.closed.extend(past.closed.into_iter().filter(|(id, _)| books.account(*id).is_none()));
        for (account, counts) in past.counts {
            self.own(books, account).add(&counts);
        }
        for (cause, count) in past.auth_failed {
            let known = self.auth_failed.entry(cause).or_default();
            *known = known.saturating_add(count);
        }
        self.trim(books);
    }

    fn trim(&mut self, books: &Books) {
        while self.closed.len() > MAX_CLOSED {
            let Some((account, parent)) = self.closed.pop_first() else { return };
            if let Some(counts) = self.counts.remove(&account) {
                self.own(books, parent).add(&counts);
            }
        }
    }

    /// An account's own counts; of one that is long gone, the root's.
    fn own(&mut self, books: &Books, account: AccountId) -> &mut Counts {
        let is_known = books.account(account).is_some() || self.closed.contains_key(&account);
        Arc::make_mut(self.counts.entry(if is_known { account } else { AccountId::ROOT }).or_default())
    }

    /// The counts as they are, and the tree to sum them by. Shares the counts: the writer copies those that it changes next.
    pub(super) fn snapshot(&self, books: &Books) -> Snapshot {
        let open = books.accounts().filter_map(|account| Some((account.id, account.parent?)));
        let parents = self.closed.iter().map(|(id, parent)| (*id, *parent)).chain(open).collect();
        Snapshot { counts: self.counts.clone(), parents, auth_failed: self.auth_failed.clone() }
    }
}

/// The counts at one instant.
#[derive(Debug)]
pub(super) struct Snapshot {
    counts: BTreeMap<AccountId, Arc<Counts>>,
    parents: BTreeMap<AccountId, AccountId>,
    auth_failed: BTreeMap<AuthCause, u64>,
}

impl Snapshot {
    /// Adds each account's counts to all above it.
    pub(super) fn sum(self) -> Tallied {
        let mut sums: BTreeMap<AccountId, Counts> = BTreeMap::new();
        for (account, counts) in &self.counts {
            let mut at = *account;
            sums.entry(at).or_default().add(counts);
            while at != AccountId::ROOT {
                // An account whose parents are long gone counts on the root.
                at = self.parents.get(&at).copied().unwrap_or(AccountId::ROOT);
                sums.entry(at).or_default().add(counts);
            }
        }
        Tallied { sums, auth_failed: self.auth_failed }
    }
}

/// Counts of each account and all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    sums: BTreeMap<AccountId, Counts>,
    /// Failed authentications by cause.
    pub auth_failed: BTreeMap<AuthCause, u64>,
}

impl Tallied {
    /// The counts of an account and all below it.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Counts {
        self.sums.get(&account).cloned().unwrap_or_default()
    }

    /// When calls of an account or one below it last began, ended or were denied.
    #[must_use]
    pub fn last_activity(&self, account: AccountId) -> Option<Stamp> {
        self.sums.get(&account).and_then(|counts| counts.last_activity)
    }
}

#[cfg(test)]
mod tests;
