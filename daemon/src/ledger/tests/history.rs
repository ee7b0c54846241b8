//! No false alarm: random histories through a real ledger, with restarts, crashes and changes of zone; the audit passes after each.

use super::*;
use aex_core::books::Account;
use aex_core::decision::AccountState;
use aex_core::event::{Outcome, Released, Settled};
use aex_core::price::Charge;
use aex_core::usage::{Bucket, Usage};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Account(usize, AccountKind, Vec<(Period, i64)>),
    Call(usize, u64, bool),
    /// Several at once, in one transaction maybe.
    Rush(usize, u64),
    End(usize, End),
    State(usize, AccountState),
    Close(usize),
    Token(usize),
    Revoke(usize, i64),
    Config(bool),
    Restart(&'static str),
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Exact(u64),
    Unpriced,
    Left,
    Full,
    Refused(u16),
    NeverSent,
}

fn step() -> impl Strategy<Value = Step> {
    let budgets = prop::collection::btree_map(prop::sample::select(Period::ALL.to_vec()), 0..9_000i64, 0..3);
    let account = (any::<usize>(), prop::sample::select(vec![AccountKind::Group, AccountKind::Agent, AccountKind::Run]), budgets);
    let end = prop_oneof![
        (0..900u64).prop_map(End::Exact),
        Just(End::Unpriced),
        Just(End::Left),
        Just(End::Full),
        prop::sample::select(vec![400, 429, 500, 529]).prop_map(End::Refused),
        Just(End::NeverSent),
    ];
    let state = prop::sample::select(vec![AccountState::Active, AccountState::Active, AccountState::Paused, AccountState::Killed]);
    let output = || prop::sample::select(vec![1, 50, 400, 900]);
    prop_oneof![
        3 => account.prop_map(|(parent, kind, budgets)| Step::Account(parent, kind, budgets.into_iter().collect())),
        8 => (any::<usize>(), output(), any::<bool>()).prop_map(|(account, output, sent)| Step::Call(account, output, sent)),
        1 => (any::<usize>(), output()).prop_map(|(account, output)| Step::Rush(account, output)),
        5 => (any::<usize>(), end).prop_map(|(hold, end)| Step::End(hold, end)),
        2 => (any::<usize>(), state).prop_map(|(account, state)| Step::State(account, state)),
        1 => any::<usize>().prop_map(Step::Close),
        1 => any::<usize>().prop_map(Step::Token),
        1 => (any::<usize>(), prop::sample::select(vec![0, 3_600_000_000i64])).prop_map(|(account, later)| Step::Revoke(account, later)),
        1 => any::<bool>().prop_map(Step::Config),
        1 => prop::sample::select(vec!["UTC", "Pacific/Kiritimati", "America/New_York"]).prop_map(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

/// A house, and what of it a step may pick.
struct Life {
    house: House,
    accounts: Vec<AccountId>,
    holds: Vec<HoldKey>,
    tokens: u8,
    made: i64,
}

impl Life {
    fn account(&self, at: usize) -> AccountId {
        self.accounts[at % self.accounts.len()]
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Account(parent, kind, budgets) => {
                self.made += 1;
                let name = format!("n{}", self.made);
                let made = self.house.account(self.account(parent).get(), kind, &name, &budgets).await;
                self.accounts.push(made);
            }
            Step::Call(account, output, sent) => {
                let account = self.account(account);
                self.holds.extend(self.house.call(account, output, sent).await);
            }
            Step::Rush(account, output) => {
                for _ in 0..5 {
                    let account = self.account(account);
                    self.holds.extend(self.house.call(account, output, true).await);
                }
            }
            Step::End(at, end) => {
                if !self.holds.is_empty() {
                    let key = self.holds.swap_remove(at % self.holds.len());
                    self.house.ledger.end(key, ending(end)).unwrap();
                    // A second end, as a tracker may bring it, changes nothing.
                    self.house.ledger.end(key, ending(End::Full)).unwrap();
                }
            }
            Step::State(at, state) => self.state(self.account(at), state).await,
            Step::Close(at) => self.close(self.account(at)).await,
            Step::Token(at) => {
                self.tokens += 1;
                self.house.token(self.account(at), self.tokens).await;
            }
            Step::Revoke(at, later) => self.house.revoke(self.account(at), later).await,
            Step::Config(charged) => self.house.config(charged).await,
            Step::Restart(zone) => {
                self.house.ledger.close();
                let files = self.files();
                self.start(files, zone).await;
            }
            Step::Crash => self.crash().await,
        }
    }

    async fn state(&self, id: AccountId, to: AccountState) {
        let found = move |writer: &mut Writer<'_>| -> Option<Account> {
            let kinds = [AccountKind::Root, AccountKind::Group, AccountKind::Agent, AccountKind::Run];
            let name = if id == AccountId::ROOT { "root".to_owned() } else { format!("n{}", id.get() - 1) };
            kinds.iter().find_map(|kind| writer.find(*kind, &name).ok())
        };
        let act = move |writer: &mut Writer<'_>| match found(writer) {
            Some(account) => writer.set_state(&account, to, "a test", None).map(Ok),
            None => Ok(Ok(())),
        };
        self.house.ledger.admin(act).await.unwrap().unwrap();
    }

    async fn close(&mut self, id: AccountId) {
        if id == AccountId::ROOT {
            return;
        }
        let closed = self.house.ledger.admin(move |writer| writer.close_account(id, "deleted", None).map(Ok)).await.unwrap().unwrap();
        // Calls of one that is gone are refused; some come in still.
        let open = self.accounts.iter().filter(|account| !closed.contains(account)).copied().collect();
        self.house.call(id, 50, true).await;
        self.accounts = open;
    }

    /// The files as they are now are all that a daemon finds that starts after a kill.
    async fn crash(&mut self) {
        self.house.ledger.settled().await.unwrap();
        let files = self.files();
        self.house.ledger.close();
        self.start(files, "UTC").await;
    }

    /// A copy: the lock on the old files is held as long as somebody has the ledger.
    fn files(&self) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            let from = self.house.home.path().join(name);
            if from.exists() {
                std::fs::copy(from, home.path().join(name)).unwrap();
            }
        }
        home
    }

    async fn start(&mut self, files: tempfile::TempDir, zone: &str) {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        self.house.ledger = open(files.path(), zone);
        self.house.home = files;
        self.holds.clear();
        self.house.config(true).await;
    }
}

fn ending(end: End) -> Ending {
    let mut usage = Usage::text(9, if let End::Exact(output) = end { output } else { 3 });
    if matches!(end, End::Unpriced) {
        usage.add(Bucket::AudioInput, 4);
    }
    let lines = Charge::of(&usage, &card().price.unwrap()).unwrap().lines;
    let settle = |state, outcome, lines| Ending::Settle {
        state,
        lines,
        outcome,
        relayed: None,
        status: Some(200),
        tier: None,
        unknown_usage: Vec::new(),
    };
    match end {
        End::Exact(_) => settle(Settled::Exact, Outcome::Answered, lines),
        End::Unpriced => settle(Settled::Estimated, Outcome::Answered, lines),
        End::Left => settle(Settled::Estimated, Outcome::ClientLeft, lines),
        End::Full => settle(Settled::WorstCase, Outcome::Panic, lines),
        End::Refused(status) => Ending::Release { reason: Released::Refused, status: Some(status) },
        End::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
    }
}

async fn live(steps: Vec<Step>) -> Vec<String> {
    let house = House::new().await;
    let mut life = Life { house, accounts: vec![AccountId::ROOT], holds: Vec::new(), tokens: 0, made: 0 };
    life.take(Step::Account(0, AccountKind::Group, vec![(Period::Day, 9_000)])).await;
    life.take(Step::Account(1, AccountKind::Agent, vec![(Period::Total, 30_000)])).await;
    for step in steps {
        life.take(step).await;
    }
    let broken = life.house.broken().await;
    life.house.ledger.close();
    broken
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_a_daemon_does_the_audit_passes(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        prop_assert_eq!(runtime.block_on(live(steps)), Vec::<String>::new());
    }
}
