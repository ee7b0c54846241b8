//! The ledger as it is, on a disk: what the audit says of it, whatever was done through the daemon and by hand.

mod history;
mod refusing;
mod sealing;
mod tampered;

use super::*;
use aex_core::ask::Ask;
use aex_core::books::{AccountKind, Limits};
use aex_core::event::CallDenied;
use aex_core::policy::{self, Effective, Fields};
use aex_core::price::{self, MaxTokensField, ModelCard, Overhead, Price};
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, RequestId, TokenHash, token_text};
use jiff::tz::TimeZone;

fn card() -> ModelCard {
    let price = Price {
        audio_input: None,
        audio_output: None,
        cache_write: None,
        cached_input: None,
        call: Some(Pico::new(7)),
        input: Pico::new(2),
        output: Pico::new(3),
    };
    ModelCard {
        context_tokens: None,
        max_tokens: 1_000,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(price),
        provider: "p".to_owned(),
        provider_model: "m".to_owned(),
        reasoning: false,
        tools: true,
        vision: false,
    }
}

/// What holds for an agent that states nothing and has no profile.
fn seed() -> Arc<Snapshot> {
    let (text, digest) = Effective::of(Fields::default(), None).snapshot();
    Arc::new(Snapshot { digest, text })
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
        self.ledger.admin(move |writer| writer.config_loaded(&[card()], None, charged, None).map(Ok)).await.unwrap().unwrap();
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
        let ask = Ask { body_bytes: 100, choices: 1, messages: 1, model: "m".to_owned(), max_tokens: Some(output), ..Ask::default() };
        let (card, policy) = (card(), Effective::of(Fields::default(), None));
        let (card_digest, kept) = (card.snapshot().1, seed());
        let max_tokens = policy::decide(&ask, &card, &policy, None).unwrap().max_tokens;
        let bound = price::bound(&ask, &card, max_tokens).unwrap();
        let call = HoldCall {
            key,
            account,
            ask: ask.clone(),
            card: card_digest,
            policy: Arc::clone(&kept),
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
        };
        let Err(denial) = self.ledger.hold(call).await.unwrap() else { return Some(key) };
        let (card, rule, request) = (Some(card_digest), denial.rule().into_owned(), key.request);
        let denied = CallDenied { account, ask: Some(ask), card, denial, facts: None, policy: kept.digest, request, rule };
        self.ledger.record(denied.into(), Some(kept)).unwrap();
        None
    }

    /// What is broken, with the daemon's own epoch alive.
    async fn broken(&self) -> Vec<String> {
        self.ledger.settled().await.unwrap();
        let epoch = self.ledger.epoch();
        let report = self.ledger.read(move |reader| reader.audit(now(), Some(epoch))).await.unwrap();
        words(&report)
    }
}

fn open(home: &Path, zone: TimeZone) -> Ledger {
    Ledger::open(&Options { path: home.join("ledger.db"), durability: Durability::Normal, zone, wal_limit: 1 << 20 }).unwrap()
}

fn words(report: &AuditReport) -> Vec<String> {
    report.findings.iter().flat_map(|found| found.broken.iter().map(|what| format!("{}: {what}", found.name))).collect()
}
