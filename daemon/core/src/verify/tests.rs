//! The audit against a scribe: the books' steps written down as the ledger writes them, on a clock that is moved by hand.

mod exported;
mod forged;
mod history;
mod imported;
mod resumed;

use super::rows::{Account, Budget, Chain, Token};
use super::*;
use crate::ask::Ask;
use crate::books::{self, AccountKind, Books, Ended, Limits, Wanted};
use crate::decision::{AccountState, Denial};
use crate::event::*;
use crate::policy::{self, Effective, Fields};

use crate::price::{self, Charge, Line, MaxTokensField, Overhead, Price};
use crate::usage::{Bucket, Usage};
use crate::window::{Period, Window};
use aex_proto::value::{BalanceId, RequestId};

const HOUR: i64 = 3_600_000_000;
/// 2026-11-21T12:00:00Z.
const NOON: Stamp = Stamp::new(1_795_262_400_000_000);

fn zones(name: &str) -> Option<TimeZone> {
    match name {
        "UTC" => Some(TimeZone::UTC),
        "east" => Some(TimeZone::fixed(jiff::tz::offset(9))),
        "west" => TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").ok(),
        _ => None,
    }
}

fn card() -> ModelCard {
    let text = Price::of(Pico::new(2), Pico::new(3));
    let price = Price { cached_input: Some(Pico::new(1)), call: Some(Pico::new(7)), ..text };
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 1_000,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(price),
        provider: "p".to_owned(),
        provider_model: "m".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: true,
        vision: false,
    }
}

/// What holds for an agent that states nothing and has no profile.
fn seed() -> Effective {
    Effective::of(Fields::default(), None)
}

/// All texts that a scribe's events name.
fn snapshots() -> Vec<(&'static str, String, Digest)> {
    let all = [("card", card().snapshot()), ("fields", Fields::default().snapshot()), ("policy", seed().snapshot())];
    all.into_iter().map(|(kind, (text, digest))| (kind, text, digest)).collect()
}

fn ask(output: u64) -> Ask {
    Ask { body_bytes: 100, choices: 1, messages: 1, model: "m".to_owned(), text_chars: 90, max_tokens: Some(output), ..Ask::default() }
}

/// A ledger in memory.
struct Scribe {
    books: Books,
    zone: String,
    now: Stamp,
    epoch: u32,
    events: Vec<(Stamp, Event)>,
    accounts: Vec<Account>,
    tokens: Vec<Token>,
    holds: BTreeMap<HoldKey, rows::Hold>,
    calls: Vec<Call>,
    requests: u64,
}

impl Scribe {
    fn new(zone: &str) -> Scribe {
        let mut scribe = Scribe {
            books: Books::new(zones(zone).unwrap(), 1),
            zone: zone.to_owned(),
            now: NOON,
            epoch: 0,
            events: Vec::new(),
            accounts: Vec::new(),
            tokens: Vec::new(),
            holds: BTreeMap::new(),
            calls: Vec::new(),
            requests: 0,
        };
        scribe.start(zone);
        scribe.account(None, AccountKind::Root, &[]);
        scribe
    }

    fn write(&mut self, event: impl Into<Event>) -> i64 {
        self.events.push((self.now, event.into()));
        i64::try_from(self.events.len()).unwrap()
    }

    /// A daemon starts, maybe in another zone: the books are read anew, and what a dead one left is ended.
    fn start(&mut self, zone: &str) {
        self.epoch += 1;
        self.zone = zone.to_owned();
        let mut fresh = Books::new(zones(zone).unwrap(), 1);
        self.books.accounts().for_each(|account| fresh.put_account(account.clone()));
        self.books.balances().for_each(|balance| fresh.put_balance(balance.clone()));
        self.books.holds().for_each(|(key, hold)| fresh.put_hold(*key, hold.clone()));
        self.books = fresh;
        let (ledger, zone) = ("0".repeat(32), self.zone.clone());
        self.write(EpochOpened { boot_us: 1, epoch: self.epoch, ledger, schema: 1, version: "0".to_owned(), zone });
        for key in self.holds.keys().copied().collect::<Vec<_>>() {
            if self.holds[&key].sent {
                self.settle(key, Settled::WorstCase, Outcome::Crash, &Usage::default());
            } else {
                self.release(key, Released::Crash, None);
            }
        }
        self.config(true);
    }

    /// A backup of all that is here takes the place of a ledger that had been started more often.
    fn restore(&mut self, epoch: u32) {
        let link = |head: Head, (at, event): &(Stamp, Event)| head.link(*at, event.kind(), &Digest::of(event.body().as_bytes()));
        let head = self.events.iter().fold(Head::START, link).into();
        self.epoch = epoch;
        self.write(LedgerRestored { by: None, epoch, file: Digest::ZERO, head, replaced: None });
        self.start("UTC");
    }

    fn config(&mut self, gateway_errors_charged: bool) {
        let cards = BTreeMap::from([("m".to_owned(), card().snapshot().1)]);
        self.write(ConfigLoaded { by: None, cards, default_model: None, gateway_errors_charged, providers: BTreeMap::new() });
    }

    fn account(&mut self, parent: Option<i64>, kind: AccountKind, budgets: &[(Period, i64)]) -> i64 {
        let number = i64::try_from(self.accounts.len()).unwrap() + 1;
        let (id, parent, name, limits) = (AccountId::new(number), parent.map(AccountId::new), format!("a{number}"), Limits::default());
        let (policy, state, reason) = (Fields::default().snapshot().1, AccountState::Active, String::new());
        self.write(AccountCreated {
            account: id,
            by: None,
            imported: None,
            kind,
            limits,
            name: name.clone(),
            parent,
            policy,
            reason: None,
        });
        let node = books::Account { id, parent, kind, name: name.clone(), state, reason: reason.clone(), limits, budgets: BTreeMap::new() };
        self.books.put_account(node);
        self.accounts.push(Account { id, parent, kind, name, state, reason, limits, policy, created_at: self.now, closed_at: None });
        for (period, limit) in budgets {
            let limit = Pico::new(*limit);
            let (balance, _) = self.books.set_budget(id, *period, Some(limit), self.now, Pico::ZERO).unwrap();
            self.window(balance);
            self.write(BudgetSet {
                account: id,
                balance,
                by: None,
                holds: Vec::new(),
                limit: Some(limit),
                period: *period,
                reason: None,
                spent: None,
            });
        }
        number
    }

    fn window(&mut self, id: BalanceId) {
        let books::Balance { account, period, window, limit, .. } = self.books.balance(id).unwrap().clone();
        self.write(WindowOpened { account, balance: id, end: window.end, limit, period, start: window.start });
    }

    /// Sets or lifts a budget of an account that lives.
    fn budget(&mut self, account: i64, period: Period, limit: Option<i64>) {
        let (account, limit) = (AccountId::new(account), limit.map(Pico::new));
        let window = Window::of(period, self.now, &zones(&self.zone).unwrap()).unwrap();
        let charged = self.calls.iter().filter(|call| window.holds(call.ended_at) && self.books.path(call.account).contains(&account));
        let spent = Pico::new(charged.map(|call| call.charge.get()).sum());
        let (balance, opened) = self.books.set_budget(account, period, limit, self.now, spent).unwrap();
        let mut holds = Vec::new();
        for (key, hold) in self.books.holds().filter(|(_, hold)| opened && hold.balances.contains(&balance)) {
            holds.push((key.request, key.attempt));
            self.holds.get_mut(key).unwrap().balances.clone_from(&hold.balances);
        }
        self.write(BudgetSet { account, balance, by: None, holds, limit, period, reason: None, spent: opened.then_some(spent) });
    }

    fn state(&mut self, account: i64, to: AccountState) {
        let mut node = self.books.account(AccountId::new(account)).unwrap().clone();
        if node.state == to || node.state == AccountState::Closed {
            return;
        }
        let reason = format!("because of {to:?}");
        self.write(AccountStateChanged { account: node.id, by: None, from: node.state, reason: reason.clone(), to });
        let row = self.accounts.iter_mut().find(|row| row.id == node.id).unwrap();
        (row.state, row.reason, row.closed_at) = (to, reason.clone(), (to == AccountState::Closed).then_some(self.now));
        (node.state, node.reason) = (to, reason);
        self.books.put_account(node);
    }

    fn token(&mut self, account: i64, number: u8) {
        let (token, account) = (Digest::of(&[number]), AccountId::new(account));
        self.write(TokenCreated { account, by: None, expires_at: None, label: None, read_only: false, reason: None, token });
        let (created_at, label) = (self.now, String::new());
        self.tokens.push(Token { hash: token, account, read_only: false, created_at, expires_at: None, revoked_at: None, label });
    }

    fn revoke(&mut self, number: u8, at: Stamp) {
        let row = self.tokens.iter_mut().find(|row| row.hash == Digest::of(&[number])).unwrap();
        row.revoked_at = Some(at);
        let (account, token) = (row.account, row.hash);
        self.write(TokenRevoked { account, at, by: None, reason: "rotated".to_owned(), token });
    }

    /// Asks for a call of so many tokens of output. `None`: it was refused, and that is recorded.
    fn call(&mut self, account: i64, output: u64, sent: bool) -> Option<HoldKey> {
        self.requests += 1;
        let request = RequestId::new(self.epoch, self.requests);
        self.attempt(HoldKey { request, attempt: 0 }, account, output, sent)
    }

    /// Asks for one attempt of a call.
    fn attempt(&mut self, key: HoldKey, account: i64, output: u64, sent: bool) -> Option<HoldKey> {
        let HoldKey { request, attempt } = key;
        let (account, ask, deadline) = (AccountId::new(account), ask(output), self.now.offset(HOUR));
        let (card_digest, policy) = (card().snapshot().1, seed().snapshot().1);
        let refused = |denial: Denial| CallDenied {
            tool: None,
            account,
            ask: Some(ask.clone()),
            card: Some(card_digest),
            facts: None,
            input: None,
            rule: denial.rule().into_owned(),
            denial,
            policy,
            request,
        };
        let limit = match policy::decide(&ask, &card(), &seed(), None).map(|permit| permit.max_tokens) {
            Ok(limit) => limit,
            Err(denial) => {
                let refused = refused(denial);
                self.write(refused);
                return None;
            }
        };
        let bound = price::bound(&ask, &card(), limit).unwrap();
        let wanted = Wanted { account, amount: bound.amount, at: self.now, deadline, epoch: self.epoch, sent };
        let placed = match self.books.hold(key, wanted).unwrap() {
            Ok(placed) => placed,
            Err(denial) => {
                let refused = refused(denial);
                self.write(refused);
                return None;
            }
        };
        placed.opened.iter().for_each(|id| self.window(*id));
        let held = CallHeld {
            tool: None,
            account,
            amount: bound.amount,
            ask,
            attempt,
            balances: placed.balances.clone(),
            card: card_digest,
            changes: Vec::new(),
            deadline,
            epoch: self.epoch,
            facts: None,
            idempotency: None,
            input: Digest::ZERO,
            input_tokens: bound.input_tokens,
            max_tokens: limit,
            output_tokens: bound.output_tokens,
            policy,
            request,
            rule: None,
            sent,
            skipped: Vec::new(),
        };
        let held_seq = self.write(held);
        let row = rows::Hold {
            key,
            account,
            model: "m".to_owned(),
            card: card_digest,
            amount: bound.amount,
            tokens: i64::try_from(bound.input_tokens + bound.output_tokens).unwrap(),
            balances: placed.balances,
            held_at: self.now,
            deadline,
            epoch: self.epoch,
            sent,
            held_seq,
        };
        self.holds.insert(key, row);
        Some(key)
    }

    fn send(&mut self, key: HoldKey) {
        self.books.mark_sent(key);
        self.holds.get_mut(&key).unwrap().sent = true;
        self.write(CallSent { attempt: key.attempt, request: key.request });
    }

    fn settle(&mut self, key: HoldKey, state: Settled, outcome: Outcome, usage: &Usage) {
        let charge = Charge::of(usage, card().price.as_ref().unwrap()).unwrap();
        let (amount, bound) = (self.holds[&key].amount, self.holds[&key].tokens);
        let quantity = usage.input_tokens() + usage.output_tokens();
        let (lines, total, tokens) = match state {
            Settled::WorstCase => (Vec::new(), amount, bound),
            _ => (charge.lines, charge.total, i64::try_from(quantity).unwrap()),
        };
        let settled = CallSettled {
            tool: None,
            attempt: key.attempt,
            charge: total,
            lines,
            outcome,
            relayed: None,
            request: key.request,
            state,
            status: Some(200),
            tier: charge.tier,
            unknown_usage: usage.unknown.clone(),
        };
        let seq = self.write(settled);
        self.end(key, Some(state), total, tokens, seq);
    }

    fn release(&mut self, key: HoldKey, reason: Released, status: Option<u16>) {
        let seq = self.write(CallReleased { attempt: key.attempt, reason, request: key.request, status });
        self.end(key, None, Pico::ZERO, 0, seq);
    }

    fn end(&mut self, key: HoldKey, state: Option<Settled>, charge: Pico, tokens: i64, ended_seq: i64) {
        let Some(Ended { overdrawn, .. }) = self.books.end(key, charge).unwrap() else { panic!("{key:?} is not held") };
        let rows::Hold { account, model, amount, held_at, held_seq, .. } = self.holds.remove(&key).unwrap();
        self.calls.push(Call { key, account, model, state, amount, charge, tokens, held_at, ended_at: self.now, held_seq, ended_seq });
        let path: Vec<books::Account> = self.books.path(account).iter().filter_map(|id| self.books.account(*id)).cloned().collect();
        let agent = path.iter().find(|above| above.kind == AccountKind::Agent);
        if let Some(agent) = agent.filter(|agent| overdrawn && agent.state == AccountState::Active) {
            self.state(agent.id.get(), AccountState::Suspended);
        }
    }

    /// These events in a chain.
    fn chained(events: &[(Stamp, Event)]) -> Vec<Record> {
        let mut head = Head::START;
        let chained = events.iter().map(|(at, event)| {
            let (kind, body) = (event.kind().to_owned(), event.body());
            head = head.link(*at, &kind, &Digest::of(body.as_bytes()));
            Record { seq: head.seq, at: *at, kind, body, hash: head.hash }
        });
        chained.collect()
    }

    /// What the audit says when these events are chained, and the rows are the scribe's.
    fn audit(&self, events: &[(Stamp, Event)]) -> Vec<Finding> {
        let mut audit = Audit::new(zones);
        for (kind, text, digest) in snapshots() {
            audit.snapshot(digest, kind, &text);
        }
        for record in Self::chained(events) {
            self.take(&mut audit, &record);
        }
        self.rows(&mut audit);
        audit.finish()
    }

    fn take(&self, audit: &mut Audit, record: &Record) {
        if let Some(expected) = audit.event(record) {
            audit.ended(&expected, self.calls.iter().find(|row| row.key == expected.key));
        }
    }

    fn rows(&self, audit: &mut Audit) {
        for row in &self.accounts {
            audit.account(row);
            for (period, limit) in &self.books.account(row.id).unwrap().budgets {
                audit.budget(&Budget { account: row.id, period: *period, limit: *limit });
            }
        }
        self.tokens.iter().for_each(|row| audit.token(row));
        self.books.balances().for_each(|row| audit.balance(row));
        self.holds.values().for_each(|row| audit.open(row, row.held_at, Some(self.epoch)));
        audit.count_ended(u64::try_from(self.calls.len()).unwrap());
        audit.chain(Some(&self.chain(audit.head())));
    }

    fn chain(&self, head: Head) -> Chain {
        let next_account = AccountId::new(i64::try_from(self.accounts.len()).unwrap() + 1);
        Chain { head, epoch: self.epoch, next_account, ledger: "0".repeat(32) }
    }

    /// What is broken, each with its finding.
    fn broken(&self) -> Vec<String> {
        let findings = self.audit(&self.events);
        findings.into_iter().flat_map(|finding| finding.broken.into_iter().map(move |what| format!("{}: {what}", finding.name))).collect()
    }
}
