//! A thousand clients on fifty agents below five groups, with budgets that run out at every level: nobody exceeds anything, and
//! nobody is denied while money is free.
//!
//! The first wave is held at the provider, so that what fits is known to the call. Then all go on until they are refused. The
//! events are replayed here by rules of their own: each admission against every level, each denial against what its account had
//! at an instant between the client's call before and the denial.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use aex_core::decision::Denial;
use aex_core::event::{CallDenied, Event};
use aex_proto::account::Period;
use aex_proto::value::{AccountId, BalanceId, Pico, RequestId};
use aex_tests::ask::chat;
use aex_tests::client::{self, Connection};
use aex_tests::daemon::Daemon;
use aex_tests::ledger::{self, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

const GROUPS: usize = 5;
/// Agents of a group.
const AGENTS: usize = 10;
/// Clients of an agent.
const CLIENTS: usize = 20;
/// Calls of one client, at most: more than all the money admits.
const CALLS: usize = 1000;
/// A client needs no more.
const STACK: usize = 256 << 10;

/// Holds that fit: of an agent of the first two groups, of the third and fourth group, of the machine.
const AGENT_FITS: i64 = 3;
const GROUP_FITS: i64 = 40;
const ROOT_FITS: i64 = 400;

/// One answer: the request, and the account that was out of money when it was refused.
struct Answered {
    request: RequestId,
    refused: Option<String>,
}

fn usd(pico: i64) -> String {
    Pico::new(pico).usd()
}

/// Makes a call; what is neither an answer nor a refusal for want of money fails the test.
#[track_caller]
fn call(connection: &mut Connection, token: &str) -> Answered {
    connection.post_json("/v1/chat/completions", token, &chat());
    let answer = connection.answer().expect("an answer");
    let request = answer.header("x-aex-request-id").and_then(|id| id.parse().ok()).expect("a request id");
    if answer.status == 200 {
        return Answered { request, refused: None };
    }
    assert_eq!(answer.status, 402, "{answer}");
    let whose = answer.json()["error"]["account"].as_str().expect("whose budget").to_owned();
    Answered { request, refused: Some(whose) }
}

struct Crowd {
    provider: Provider,
    daemon: Daemon,
    /// The tokens of all agents, group by group.
    tokens: Vec<String>,
    /// The bound of a call.
    bound: i64,
}

impl Crowd {
    fn gather() -> Self {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        // The bound of a call is asked of the ledger, not computed here.
        let probe = daemon.agent("probe", &[]);
        assert_eq!(client::post_json(&daemon.chat_url(), &probe, &chat()).status, 200);
        let bound = ledger::last(&daemon).bound();
        daemon.ctl(["agent", "delete", "probe"]).ok();
        let mut tokens = Vec::new();
        for group in 0..GROUPS {
            let name = format!("g{group}");
            daemon.ctl(["group", "create", &name]).ok();
            if (2..4).contains(&group) {
                daemon.ctl(["budget", "set", &name, &usd(GROUP_FITS * bound), "--per", "week"]).ok();
            }
            let budget = if group < 2 { usd(AGENT_FITS * bound) } else { "50".to_owned() };
            for agent in 0..AGENTS {
                tokens.push(daemon.agent_with(&format!("a{group}-{agent}"), &budget, 100_000, &["--group", &name]));
            }
        }
        // What the probe spent counts on the root.
        let spent = ledger::last(&daemon).charge();
        daemon.ctl(["budget", "set", "root", &usd(ROOT_FITS * bound + spent), "--per", "month"]).ok();
        Self { provider, daemon, tokens, bound }
    }

    /// All clients at once: their answers, client by client.
    fn call_until_refused(&self, first_wave: usize) -> Vec<Vec<Answered>> {
        let answered = AtomicUsize::new(0);
        let seen = self.provider.requests().len();
        // Doors that open when their guard goes, also when the test fails: nobody is left to wait behind them.
        let (start, second_wave) = (RwLock::new(()), RwLock::new(()));
        let pass = |door: &RwLock<()>| drop(door.read());
        let client = |token: &'_ str| {
            let mut connection = Connection::open(&self.daemon.url());
            pass(&start);
            let mut answers = vec![call(&mut connection, token)];
            answered.fetch_add(1, Ordering::Relaxed);
            // Nobody calls again before the first wave is over.
            pass(&second_wave);
            while answers.len() < CALLS && (answers.len() == 1 || answers.last().is_some_and(|last| last.refused.is_none())) {
                answers.push(call(&mut connection, token));
            }
            answers
        };
        let client = &client;
        thread::scope(|scope| {
            let (begin, go_on) = (start.write(), second_wave.write());
            let threads: Vec<_> = (self.tokens.iter().flat_map(|token| [token; CLIENTS]))
                .map(|token| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || client(token)).expect("a thread"))
                .collect();
            let all = threads.len();
            drop(begin);
            // All that fits is held at the provider, and all else has its refusal.
            until("the first wave", || {
                self.daemon.rpc("daemon.hello", &serde_json::json!({}));
                (answered.load(Ordering::Relaxed) + first_wave == all).then_some(())
            });
            self.provider.wait_for_requests(u64::try_from(seen + first_wave).expect("few calls"));
            self.provider.always(Script::tokens(50));
            drop(go_on);
            self.provider.release();
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        })
    }
}

/// A balance as the events make it.
#[derive(Clone, Debug)]
struct Balance {
    account: AccountId,
    limit: Option<i64>,
    used: i64,
    /// What was used after each event that changed it.
    was: Vec<(u64, i64)>,
}

impl Balance {
    fn new(account: AccountId) -> Self {
        Self { account, limit: None, used: 0, was: Vec::new() }
    }
}

/// The replay: nothing of the daemon's books is in it.
#[derive(Default)]
struct Replay {
    parents: BTreeMap<AccountId, Option<AccountId>>,
    balances: BTreeMap<BalanceId, Balance>,
    of: BTreeMap<(AccountId, Period), BalanceId>,
    holds: BTreeMap<RequestId, (i64, Vec<BalanceId>)>,
    ends: BTreeMap<RequestId, u64>,
    denials: Vec<(u64, CallDenied)>,
    admissions: usize,
}

impl Replay {
    fn of(events: &[Value]) -> Self {
        let mut replay = Self::default();
        for event in events {
            let seq = event["seq"].as_u64().expect("a number");
            let kind = event["kind"].as_str().unwrap_or_default();
            let parsed = Event::parse(kind, &event["body"].to_string()).unwrap_or_else(|fault| panic!("{fault}"));
            replay.take(seq, parsed);
        }
        replay
    }

    fn take(&mut self, seq: u64, event: Event) {
        match event {
            Event::AccountCreated(created) => drop(self.parents.insert(created.account, created.parent)),
            Event::WindowOpened(opened) => {
                self.of.insert((opened.account, opened.period), opened.balance);
                let balance = Balance { limit: opened.limit.map(Pico::get), ..Balance::new(opened.account) };
                assert!(self.balances.insert(opened.balance, balance).is_none(), "event {seq}");
            }
            Event::BudgetSet(set) => {
                self.of.insert((set.account, set.period), set.balance);
                let balance = self.balances.entry(set.balance).or_insert_with(|| Balance::new(set.account));
                balance.limit = set.limit.map(Pico::get);
                balance.used += set.spent.map_or(0, Pico::get);
                balance.was.push((seq, balance.used));
                assert!(set.holds.is_empty(), "no budget is set while calls are in flight");
            }
            Event::CallHeld(held) => {
                self.admissions += 1;
                // Held on every level: of each account on the path, and of no other.
                let on: BTreeSet<AccountId> = held.balances.iter().map(|id| self.balances[id].account).collect();
                assert_eq!(on, self.path(held.account), "{held:?}");
                for id in &held.balances {
                    self.change(seq, *id, held.amount.get());
                    let balance = &self.balances[id];
                    assert!(balance.limit.is_none_or(|limit| balance.used <= limit), "event {seq}: {balance:?} after {held:?}");
                }
                self.holds.insert(held.request, (held.amount.get(), held.balances));
            }
            Event::CallSettled(settled) => self.end(seq, settled.request, settled.charge.get()),
            Event::CallReleased(released) => self.end(seq, released.request, 0),
            Event::CallDenied(denied) => self.denials.push((seq, *denied)),
            _ => {}
        }
    }

    /// An account and all above it.
    fn path(&self, account: AccountId) -> BTreeSet<AccountId> {
        std::iter::successors(Some(account), |account| self.parents[account]).collect()
    }

    fn end(&mut self, seq: u64, request: RequestId, charge: i64) {
        let (amount, balances) = self.holds.remove(&request).unwrap_or_else(|| panic!("{request} ends and is not held"));
        for id in balances {
            self.change(seq, id, charge - amount);
        }
        self.ends.insert(request, seq);
    }

    fn change(&mut self, seq: u64, id: BalanceId, by: i64) {
        let balance = self.balances.get_mut(&id).unwrap_or_else(|| panic!("balance {id} is not open"));
        balance.used += by;
        balance.was.push((seq, balance.used));
    }

    /// A denial is true when its account had exactly what it says at some event behind `after` and before its own, and the call
    /// did not fit that.
    #[track_caller]
    fn was_true(&self, seq: u64, denied: &CallDenied, after: u64) {
        let Denial::Budget { account, asked, left, limit, period, .. } = &denied.denial else { panic!("{denied:?}") };
        let balance = &self.balances[&self.of[&(account.id, *period)]];
        assert!(left < asked && balance.limit == Some(limit.get()), "{denied:?}");
        let before = balance.was.iter().rev().find(|(at, _)| *at <= after).map_or(0, |(_, used)| *used);
        let since = balance.was.iter().filter(|(at, _)| (after..seq).contains(at)).map(|(_, used)| *used);
        let had = std::iter::once(before).chain(since).any(|used| limit.get() - used == left.get());
        assert!(had, "event {seq}: {account:?} never had {left} left behind event {after}: {denied:?}");
    }
}

#[test]
fn a_thousand_clients_exceed_no_budget_and_are_refused_only_where_money_is_out() {
    let crowd = Crowd::gather();
    let (groups, clients) = (i64::try_from(AGENTS).expect("few"), AGENTS * CLIENTS);
    let fits = 2 * groups * AGENT_FITS + 2 * GROUP_FITS;
    let first_wave = usize::try_from(fits).expect("few") + clients;
    assert!(fits + i64::try_from(clients).expect("few") < ROOT_FITS, "the machine has room for the first wave");
    crowd.provider.always(Script::hold());
    let answers = crowd.call_until_refused(first_wave);
    assert_eq!(answers.len(), 1000);
    let books = settled_and_audited(&crowd.daemon, &crowd.provider);
    assert_eq!((books.estimated, books.worst_case, books.released), (0, 0, 0), "{books:?}");

    // The first wave, to the call: what fits is admitted, and each other one is told who is out of money.
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for first in answers.iter().filter_map(|answers| answers[0].refused.as_ref()) {
        *refused.entry(first.clone()).or_default() += 1;
    }
    let agent_fits = usize::try_from(AGENT_FITS).expect("few");
    for group in 0..2 {
        for agent in 0..AGENTS {
            assert_eq!(refused.remove(&format!("agent:a{group}-{agent}")), Some(CLIENTS - agent_fits));
        }
    }
    for group in 2..4 {
        assert_eq!(refused.remove(&format!("group:g{group}")), Some(clients - usize::try_from(GROUP_FITS).expect("few")));
    }
    assert_eq!(refused, BTreeMap::new(), "nobody else is refused");
    // In the end the machine's own budget is out.
    let last = |answers: &Vec<Answered>| answers.last().and_then(|last| last.refused.clone());
    let rich = answers.iter().skip(4 * clients);
    assert!(rich.map(last).all(|whose| whose.as_deref() == Some("root")));
    assert!(answers.iter().all(|answers| answers.len() < CALLS), "the money is out before the calls are");

    // The events, replayed.
    let events = ledger::events(&crowd.daemon);
    let replay = Replay::of(&events);
    assert!(replay.holds.is_empty(), "{:?}", replay.holds);
    let passed: usize = answers.iter().flatten().filter(|answer| answer.refused.is_none()).count();
    assert_eq!(replay.admissions, passed + 1);
    let mut before: BTreeMap<RequestId, u64> = BTreeMap::new();
    for answers in &answers {
        let mut after = 0;
        for answer in answers {
            before.insert(answer.request, after);
            after = replay.ends.get(&answer.request).copied().unwrap_or(after);
        }
    }
    for (seq, denied) in &replay.denials {
        replay.was_true(*seq, denied, before[&denied.request]);
    }
    let levels = |kind: &str| {
        let of = |denied: &CallDenied| serde_json::json!(denied.denial)["budget"]["account"]["kind"] == kind;
        replay.denials.iter().filter(|(_, denied)| of(denied)).count()
    };
    assert!(levels("agent") >= 20 && levels("group") > 0 && levels("root") > 0, "{} denials", replay.denials.len());
    // No level has room for one more call that its own budget refused.
    let root = &replay.balances[&replay.of[&(AccountId::ROOT, Period::Month)]];
    assert!(root.limit.expect("a limit") - root.used < crowd.bound, "{root:?}");

    // Money that comes is money that can be used: by whoever has some of its own.
    let daemon = &crowd.daemon;
    daemon.ctl(["budget", "add", "root", &usd(2 * crowd.bound), "--per", "month"]).ok();
    assert_eq!(client::post_json(&daemon.chat_url(), crowd.tokens.last().expect("a token"), &chat()).status, 200);
    settled_and_audited(daemon, &crowd.provider);
}
