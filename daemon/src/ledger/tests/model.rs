//! The store against a naive ledger: random histories of thousands of operations, the same verdicts and the same balances.

mod naive;

use super::*;
use aex_core::books::Balance;
use aex_core::decision::AccountState;
use aex_core::event::{Outcome, Released, Settled};
use aex_core::price::Charge;
use aex_core::usage::Usage;
use naive::{Naive, Verdict};
use proptest::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// A Wednesday, so that weeks and months do not begin with it.
const BEGUN: i64 = 1_794_000_000_000_000;

/// Picks are taken by the number of what there is.
#[derive(Clone, Debug)]
enum Op {
    Account { parent: usize, kind: AccountKind, budgets: Vec<(Period, i64)> },
    Hold { account: usize, output: u64, sent: bool },
    Rush { account: usize, output: u64 },
    MarkSent(usize),
    End(usize, End),
    Budget { account: usize, period: Period, limit: i64 },
    State(usize, AccountState),
    Close(usize),
    Rotate { account: usize, grace: i64 },
    Clock(i64),
    Fail { account: usize, limit: i64, end: Option<usize> },
    Sweep,
    Restart,
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Exact(u64),
    Left(u64),
    Full,
    Refused,
    NeverSent,
}

fn op() -> impl Strategy<Value = Op> {
    let period = || prop::sample::select(Period::ALL.to_vec());
    let budgets = prop::collection::btree_map(period(), 0..9_000i64, 0..3);
    let kind = prop::sample::select(vec![AccountKind::Group, AccountKind::Agent, AccountKind::Run]);
    let state = prop::sample::select(vec![AccountState::Active, AccountState::Active, AccountState::Paused, AccountState::Killed]);
    let output = || prop::sample::select(vec![1, 50, 400, 900]);
    let end = prop_oneof![
        6 => (0..900u64).prop_map(End::Exact),
        2 => (0..900u64).prop_map(End::Left),
        2 => Just(End::Full),
        2 => Just(End::Refused),
        2 => Just(End::NeverSent),
        // Far beyond any bound.
        1 => Just(End::Exact(100_000_000_000_000_000)),
    ];
    let clock = prop_oneof![1..3 * HOUR, Just(DAY), Just(7 * DAY), Just(31 * DAY), Just(-DAY), Just(-9 * DAY)];
    let pick = any::<usize>;
    prop_oneof![
        3 => (pick(), kind, budgets).prop_map(|(parent, kind, budgets)| Op::Account { parent, kind, budgets: budgets.into_iter().collect() }),
        12 => (pick(), output(), any::<bool>()).prop_map(|(account, output, sent)| Op::Hold { account, output, sent }),
        1 => (pick(), output()).prop_map(|(account, output)| Op::Rush { account, output }),
        2 => pick().prop_map(Op::MarkSent),
        9 => (pick(), end).prop_map(|(hold, end)| Op::End(hold, end)),
        3 => (pick(), period(), 0..20_000i64).prop_map(|(account, period, limit)| Op::Budget { account, period, limit }),
        2 => (pick(), state).prop_map(|(account, state)| Op::State(account, state)),
        1 => pick().prop_map(Op::Close),
        1 => (pick(), prop::sample::select(vec![0, HOUR])).prop_map(|(account, grace)| Op::Rotate { account, grace }),
        2 => clock.prop_map(Op::Clock),
        1 => (pick(), 0..9_000i64, prop::option::of(pick())).prop_map(|(account, limit, end)| Op::Fail { account, limit, end }),
        1 => Just(Op::Sweep),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
    ]
}

/// The store, the naive ledger, and the clock of both.
struct Pair {
    house: House,
    naive: Naive,
    clock: Arc<AtomicI64>,
}

impl Pair {
    async fn new() -> Pair {
        let clock = Arc::new(AtomicI64::new(BEGUN));
        let home = home();
        let ledger = open_by(home.path(), &clock);
        let house = House { home, ledger, requests: 0 };
        house.config(true).await;
        Pair { house, naive: Naive::new(), clock }
    }

    fn now(&self) -> Stamp {
        Stamp::new(self.clock.load(Ordering::Relaxed))
    }

    async fn take(&mut self, op: Op) {
        let now = self.now();
        self.naive.now = now;
        match op {
            Op::Account { parent, kind, budgets } => {
                let parent = self.naive.account(parent);
                let (name, parent_id) = (format!("n{}", self.naive.next_account()), parent.get());
                let made = self.house.account(parent_id, kind, &name, &budgets).await;
                assert_eq!(made, self.naive.create(parent, kind, &budgets));
            }
            Op::Hold { account, output, sent } => self.hold(account, output, sent).await,
            Op::Rush { account, output } => {
                for _ in 0..5 {
                    self.hold(account, output, true).await;
                }
            }
            Op::MarkSent(at) => {
                if let Some(key) = self.naive.open(at) {
                    let marked = self.house.ledger.admin(move |writer| writer.mark_sent(key).map(Ok)).await.unwrap().unwrap();
                    assert_eq!(marked, self.naive.mark_sent(key));
                }
            }
            Op::End(at, end) => {
                if let Some(key) = self.naive.open(at) {
                    self.end(key, end);
                    // A second end, as a tracker may bring it, changes nothing.
                    self.house.ledger.end(key, Ending::worst_case(Outcome::Panic, None)).unwrap();
                }
            }
            Op::Budget { account, period, limit } => {
                let account = self.naive.account(account);
                let used = self.house.set_budget(account, period, limit).await;
                assert_eq!(used.get(), self.naive.set_budget(account, period, limit));
            }
            Op::State(at, state) => {
                let account = self.naive.account(at);
                let act = move |writer: &mut Writer<'_>| {
                    let account = writer.state.books.account(account).cloned().ok_or(aex_core::books::BooksFault::NoAccount(account))?;
                    writer.set_state(&account, state, "a test", None).map(Ok)
                };
                self.house.ledger.admin(act).await.unwrap().unwrap();
                self.naive.set_state(account, state);
            }
            Op::Close(at) => {
                let account = self.naive.account(at);
                if account != AccountId::ROOT {
                    let act = move |writer: &mut Writer<'_>| writer.close_account(account, "deleted", None).map(Ok);
                    let mut closed = self.house.ledger.admin(act).await.unwrap().unwrap();
                    closed.sort_unstable();
                    assert_eq!(closed, self.naive.close(account));
                }
            }
            Op::Rotate { account, grace } => {
                let account = self.naive.account(account);
                self.house.revoke(account, grace).await;
                let number = self.naive.rotate(account, now.offset(grace));
                self.house.token(account, number).await;
            }
            Op::Clock(micros) => {
                self.clock.fetch_add(micros, Ordering::Relaxed);
            }
            Op::Fail { account, limit, end } => self.fail(account, limit, end).await,
            Op::Sweep => self.sweep().await,
            Op::Restart => {
                self.house.ledger.close();
                self.restart().await;
            }
            Op::Kill => {
                self.house.ledger.settled().await.unwrap();
                let killed = copy(self.house.home.path());
                self.house.ledger.close();
                self.house.home = killed;
                self.restart().await;
            }
        }
        self.compare().await;
    }

    async fn hold(&mut self, at: usize, output: u64, sent: bool) {
        let account = self.naive.account(at);
        self.house.requests += 1;
        let key = HoldKey { request: RequestId::new(self.house.ledger.epoch(), self.house.requests), attempt: 0 };
        let call = hold_call(key, account, output, sent);
        let amount = call.amount.get();
        let verdict = match self.house.ledger.hold(Box::new(call)).await.unwrap() {
            Ok(_) => Verdict::Held,
            Err(Denial::Account { account, state, .. }) => Verdict::Stopped(account.id, state),
            Err(Denial::Budget { account, period, left, .. }) => Verdict::Short(account.id, period, left.get()),
            Err(denial) => panic!("{denial:?}"),
        };
        assert_eq!(verdict, self.naive.hold(key, account, amount, sent));
    }

    /// What the daemon does each minute, a day later by the clock that nobody sets: holds past their deadline, which nobody drives,
    /// are charged in full.
    async fn sweep(&mut self) {
        let later = clock::mono() + Duration::from_secs(86_400);
        let mut overdue = self.house.ledger.look(move |writer| writer.overdue(later)).await.unwrap();
        overdue.sort_unstable();
        assert_eq!(overdue, self.naive.unended());
        overdue.into_iter().for_each(|key| self.end(key, End::Full));
    }

    fn end(&mut self, key: HoldKey, end: End) {
        let ending = ending(end);
        self.naive.end(key, |held| ending.charge(Pico::new(held)).get());
        self.house.ledger.end(key, ending).unwrap();
    }

    /// An action that changes much and then breaks a constraint: nothing of it stays, and ends of its group do.
    async fn fail(&mut self, account: usize, limit: i64, end: Option<usize>) {
        let account = self.naive.account(account);
        if let Some(key) = end.and_then(|at| self.naive.open(at)) {
            self.end(key, End::Full);
        }
        let past = self.house.ledger.past(account, Period::Week).await.unwrap();
        let change = BudgetChange { account, period: Period::Week, limit: Some(Pico::new(limit)), reason: None };
        let act = move |writer: &mut Writer<'_>| -> Result<Result<(), Refused>, LedgerFault> {
            writer.set_budget(&change, past.as_ref(), None)?;
            writer.revoke_tokens(account, writer.now(), "never", None)?;
            writer.close_account(account, "never", None)?;
            writer.conn.execute("UPDATE chain SET next_account = 0", [])?;
            Ok(Ok(()))
        };
        assert!(self.house.ledger.admin(act).await.is_err());
        self.naive.read_anew();
    }

    async fn restart(&mut self) {
        // The lock is on the old files as long as somebody has the ledger, so that the next one opens a copy of them.
        let home = copy(self.house.home.path());
        self.house.ledger = open_by(home.path(), &self.clock);
        self.house.home = home;
        self.house.requests = 0;
        self.naive.recover();
        self.house.config(true).await;
    }

    /// The books in memory, the tables and the directory say what the naive ledger says.
    async fn compare(&self) {
        self.house.ledger.settled().await.unwrap();
        let expected = self.naive.balances();
        let rows = self.house.ledger.look(|writer| writer.state.books.balances().cloned().collect::<Vec<_>>()).await.unwrap();
        for row in rows {
            assert_eq!(expected.get(&place(&row)).copied(), Some(sums(&row)), "in memory: {:?}", place(&row));
        }
        let read = |reader: &Reader<'_>| {
            let mut statement = reader.conn.prepare(
                "SELECT id, account, period, start_us, end_us, limit_pico, spent_pico, reserved_pico, overdraft_pico FROM balances",
            )?;
            let mut rows = statement.query([])?;
            let mut found = std::collections::BTreeMap::new();
            while let Some(row) = rows.next()? {
                let row = load::balance(row)?;
                found.insert(place(&row), sums(&row));
            }
            Ok(found)
        };
        assert_eq!(self.house.ledger.read(read).await.unwrap(), expected, "in the tables");
        let holds = self
            .house
            .ledger
            .look(|writer| writer.state.books.holds().map(|(key, hold)| (*key, hold.sent)).collect::<Vec<_>>())
            .await
            .unwrap();
        assert_eq!(holds, self.naive.holds());
        let directory = self.house.ledger.directory();
        let active: Vec<AccountId> = directory.accounts.values().filter(|view| view.stopped.is_none()).map(|view| view.named.id).collect();
        assert_eq!(active.into_iter().collect::<std::collections::BTreeSet<_>>(), self.naive.active());
        let tokens = directory.tokens.iter().map(|(hash, token)| (*hash, (token.account, token.revoked_at)));
        assert_eq!(tokens.collect::<std::collections::BTreeMap<_, _>>(), self.naive.tokens());
    }
}

fn place(row: &Balance) -> naive::Place {
    (row.account, row.period, row.window.start)
}

fn sums(row: &Balance) -> naive::Sums {
    naive::Sums { limit: row.limit.map(Pico::get), spent: row.spent.get(), reserved: row.reserved.get(), overdraft: row.overdraft.get() }
}

fn ending(end: End) -> Ending {
    let lines = |output| Charge::of(&Usage::text(9, output), &card().price.unwrap()).unwrap().lines;
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
        End::Exact(output) => settle(Settled::Exact, Outcome::Answered, lines(output)),
        End::Left(output) => settle(Settled::Estimated, Outcome::ClientLeft, lines(output)),
        End::Full => Ending::worst_case(Outcome::Panic, None),
        End::Refused => Ending::Release { reason: Released::Refused, status: Some(429) },
        End::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
    }
}

fn open_by(home: &Path, clock: &Arc<AtomicI64>) -> Ledger {
    let clock = Arc::clone(clock);
    let options = Options { path: home.join("ledger.db"), durability: Durability::Normal, zone: TimeZone::UTC, wal_limit: 1 << 20 };
    Ledger::open_at(&options, Arc::new(move || Stamp::new(clock.load(Ordering::Relaxed)))).unwrap()
}

/// In memory, where there is such a folder: each admin action waits for a flush, and no disk is tested here.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a daemon finds that starts after this one was killed.
fn copy(from: &Path) -> tempfile::TempDir {
    let home = home();
    for name in ["ledger.db", "ledger.db-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), home.path().join(name)).unwrap();
        }
    }
    home
}

async fn live(ops: Vec<Op>) {
    let mut pair = Pair::new().await;
    pair.take(Op::Account { parent: 0, kind: AccountKind::Group, budgets: vec![(Period::Day, 9_000)] }).await;
    let own = Period::ALL.map(|period| (period, 12_000)).to_vec();
    pair.take(Op::Account { parent: 1, kind: AccountKind::Agent, budgets: own }).await;
    pair.take(Op::Account { parent: 2, kind: AccountKind::Run, budgets: vec![(Period::Total, 5_000)] }).await;
    for op in ops {
        pair.take(op).await;
    }
    pair.take(Op::Sweep).await;
    let (epoch, now) = (pair.house.ledger.epoch(), pair.now());
    let report = pair.house.ledger.read(move |reader| reader.audit(now, Some(epoch))).await.unwrap();
    assert_eq!(words(&report), Vec::<String>::new());
    pair.house.ledger.close();
}

/// `PROPTEST_CASES` says how many histories; each has up to 160 operations.
fn histories() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_store_and_a_naive_ledger_have_the_same_balances(ops in prop::collection::vec(op(), 40..160)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(ops));
    }
}
