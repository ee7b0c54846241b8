//! The ledger as it is, on a disk: what the audit says of it, whatever was done through the daemon and by hand.

mod damaged;
mod history;
mod mailboxes;
mod model;
mod past;
mod refusing;
mod restoring;
mod sealing;
mod stored;
mod tampered;

use super::*;
use aex_core::ask::Ask;
use aex_core::books::{AccountKind, Limits};
use aex_core::event::CallDenied;
use aex_core::policy::{self, Effective, Fields};
use aex_core::price::{self, MaxTokensField, ModelCard, Overhead, Price};
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, RequestId, Stamp, TokenHash, token_text};
use jiff::tz::TimeZone;
use std::path::Path;

fn card() -> ModelCard {
    let price = Price { call: Some(Pico::new(7)), ..Price::of(Pico::new(2), Pico::new(3)) };
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
fn seed() -> Arc<Snapshot> {
    let (text, digest) = Effective::of(Fields::default(), None).snapshot();
    Arc::new(Snapshot { kind: "policy", digest, text })
}

/// A ledger in a folder of its own.
struct House {
    home: tempfile::TempDir,
    ledger: Ledger,
    requests: u64,
}

impl House {
    async fn new() -> House {
        let home = tempfile::tempdir().unwrap();
        let ledger = open(home.path(), TimeZone::UTC);
        let house = House { home, ledger, requests: 0 };
        house.config(true).await;
        house
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("ledger.db")
    }

    async fn config(&self, charged: bool) {
        self.ledger
            .admin(move |writer| writer.config_loaded(&[card()], None, charged, std::collections::BTreeMap::new(), None).map(Ok))
            .await
            .unwrap()
            .unwrap();
    }

    async fn account(&self, parent: i64, kind: AccountKind, name: &str, budgets: &[(Period, i64)]) -> AccountId {
        let budgets = budgets.iter().map(|(period, limit)| (*period, Pico::new(*limit))).collect();
        let (parent, name, limits) = (AccountId::new(parent), name.to_owned(), Limits { rpm: Some(60), ..Limits::default() });
        let new = NewAccount { parent, kind, name, limits, policy: Fields::default(), budgets, reason: None };
        self.ledger.admin(move |writer| writer.create_account(&new, None)).await.unwrap().unwrap()
    }

    async fn token(&self, account: AccountId, number: u8) {
        let hash = TokenHash::of(token_text(&[number; 32]).expose()).unwrap();
        let row = NewTokenRow { hash, read_only: false, lasts_us: None, label: String::new(), reason: None };
        self.ledger.admin(move |writer| writer.create_token(account, &row, None).map(Ok)).await.unwrap().unwrap();
    }

    async fn revoke(&self, account: AccountId, later_us: i64) {
        let act = move |writer: &mut Writer<'_>| writer.revoke_tokens(account, writer.now().offset(later_us), "rotated", None).map(Ok);
        self.ledger.admin(act).await.unwrap().unwrap();
    }

    /// Asks for a call of so many tokens of output. `None`: it was refused, and that is recorded as the gate does.
    async fn call(&mut self, account: AccountId, output: u64, sent: bool) -> Option<HoldKey> {
        self.requests += 1;
        let key = HoldKey { request: RequestId::new(self.ledger.epoch(), self.requests), attempt: 0 };
        let call = hold_call(key, account, output, sent);
        let Err(denial) = self.ledger.hold(Box::new(call.clone())).await.unwrap() else { return Some(key) };
        let (kept, rule, request) = (call.policy, denial.rule().into_owned(), key.request);
        let (ask, card) = (Some(call.ask), Some(call.card));
        let denied = CallDenied { tool: None, account, ask, card, denial, facts: None, input: None, policy: kept.digest, request, rule };
        self.ledger.record(denied.into(), [Some(kept), None]).unwrap();
        None
    }

    /// Sets a budget, given what its window was summed up to.
    async fn set_to(&self, account: AccountId, period: Period, limit: Option<i64>, past: Option<Past>) -> Pico {
        let change = BudgetChange { account, period, limit: limit.map(Pico::new), reason: None };
        let act = move |writer: &mut Writer<'_>| {
            assert!(writer.is_past(account, period, past.as_ref())?);
            writer.set_budget(&change, past.as_ref(), None).map(Ok)
        };
        self.ledger.admin(act).await.unwrap().unwrap()
    }

    /// Sets a budget as the control socket does.
    async fn set_budget(&self, account: AccountId, period: Period, limit: i64) -> Pico {
        let past = self.ledger.past(account, period).await.unwrap();
        self.set_to(account, period, Some(limit), past).await
    }

    /// What is broken, with the daemon's own epoch alive.
    async fn broken(&self) -> Vec<String> {
        self.ledger.settled().await.unwrap();
        let epoch = self.ledger.epoch();
        let report = self.ledger.read(move |reader| reader.audit(now(), Some(epoch))).await.unwrap();
        words(&report)
    }
}

/// A hold of so many tokens of output, as the gate asks for it.
fn hold_call(key: HoldKey, account: AccountId, output: u64, sent: bool) -> HoldCall {
    let ask = Ask { body_bytes: 100, choices: 1, messages: 1, model: "m".to_owned(), max_tokens: Some(output), ..Ask::default() };
    let (card, policy) = (card(), Effective::of(Fields::default(), None));
    let max_tokens = policy::decide(&ask, &card, &policy, None).unwrap().max_tokens;
    let bound = price::bound(&ask, &card, max_tokens).unwrap();
    HoldCall {
        tool: None,
        tool_card: None,
        key,
        account,
        ask,
        card: card.snapshot().1,
        policy: seed(),
        facts: None,
        changes: Vec::new(),
        rule: None,
        amount: bound.amount,
        input: Digest::ZERO,
        input_tokens: bound.input_tokens,
        output_tokens: bound.output_tokens,
        max_tokens,
        lasts_us: 3_600_000_000,
        sent,
        idempotency: None,
        skipped: Vec::new(),
    }
}

fn now() -> Stamp {
    clock::wall()
}

fn open(home: &Path, zone: TimeZone) -> Ledger {
    Ledger::open(&Options { path: home.join("ledger.db"), durability: Durability::Normal, zone, wal_limit: 1 << 20 }).unwrap()
}

fn words(report: &AuditReport) -> Vec<String> {
    report.findings.iter().flat_map(|found| found.broken.iter().map(|what| format!("{}: {what}", found.name))).collect()
}

#[tokio::test]
async fn a_hold_is_overdue_once_it_has_lasted_as_long_as_it_may_and_stays_known_when_the_tables_are_read_anew() {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "bot", &[]).await;
    let hold = house.call(agent, 5, true).await.unwrap();
    for reads_anew in [false, true] {
        if reads_anew {
            let read = house.ledger.look(|writer| writer.reload().map(|()| writer.state.rows.len())).await.unwrap();
            assert_eq!(read.unwrap(), 1);
        }
        // It was held for an hour, a moment ago.
        for (seconds, wanted) in [(0, vec![]), (3_000, vec![]), (3_600, vec![hold])] {
            let at = clock::mono() + std::time::Duration::from_secs(seconds);
            assert_eq!(house.ledger.look(move |writer| writer.overdue(at)).await.unwrap(), wanted, "after {seconds} s");
        }
    }
}
