//! The tally of a small tree, and the tally that is kept against the one that is replayed from the tables.

use super::*;
use crate::config::Durability;
use crate::ledger::{Ending, HoldCall, Ledger, NewAccount, Options};
use aex_core::ask::Ask;
use aex_core::books::{Account, AccountKind, HoldKey, Limits};
use aex_core::decision::{AccountState, Denial};
use aex_core::event::{AuthFailed, CallDenied, CallDeniedAgain, Outcome, Released, Settled};
use aex_core::policy::{Effective, Fields};
use aex_core::price::Line;
use aex_core::usage::Bucket;
use aex_proto::value::Digest;

const ROOT: AccountId = AccountId::ROOT;
const AGENT: AccountId = AccountId::new(2);
const RUN: AccountId = AccountId::new(3);

fn books(accounts: &[(AccountId, Option<AccountId>)]) -> Books {
    let mut books = Books::new(jiff::tz::TimeZone::UTC, 1);
    for (id, parent) in accounts {
        books.put_account(Account {
            id: *id,
            parent: *parent,
            kind: if parent.is_none() { AccountKind::Root } else { AccountKind::Agent },
            name: id.to_string(),
            state: AccountState::Active,
            reason: String::new(),
            limits: Limits::default(),
            budgets: BTreeMap::new(),
        });
    }
    books
}

fn ended(account: AccountId, call: u64, state: &'static str, pico: i64) -> Change {
    let sums = Sums { calls: 1, tokens: 7, charged: Pico::new(pico) };
    Change::Ended { account, request: RequestId::new(1, call), model: "m".to_owned(), state, sums }
}

fn seconds(seconds: i64) -> Stamp {
    Stamp::new(seconds * 1_000_000)
}

#[test]
fn a_call_counts_on_its_account_and_all_above_and_a_released_one_costs_nothing() {
    let tree = books(&[(ROOT, None), (AGENT, Some(ROOT)), (RUN, Some(AGENT))]);
    let mut tally = Tally::new(0);
    tally.stage(seconds(1), ended(RUN, 2, "exact", 5));
    tally.stage(seconds(2), ended(AGENT, 1, "worst_case", 8));
    tally.stage(seconds(3), ended(RUN, 3, "released", 0));
    tally.stage(seconds(4), Change::Denied { account: RUN, rule: "budget".to_owned(), count: 4 });
    assert_eq!(tally.snapshot(&tree).sum(), Tallied::default(), "what is not committed does not count");
    tally.commit(&tree, 4);
    let tallied = tally.snapshot(&tree).sum();
    let run = tallied.of(RUN);
    assert_eq!((run.ends.exact, run.ends.released, run.sums().charged, run.denied()), (1, 1, Pico::new(5), 4));
    assert_eq!((run.first_call, run.last_activity), (Some(RequestId::new(1, 2)), Some(seconds(4))));
    let agent = tallied.of(AGENT);
    assert_eq!((agent.ends.charged(), agent.sums()), (2, Sums { calls: 2, tokens: 14, charged: Pico::new(13) }));
    assert_eq!(agent, tallied.of(ROOT));
    assert_eq!(agent.first_call, Some(RequestId::new(1, 1)));
}

#[test]
fn what_a_closed_account_did_stays_on_the_one_above_however_many_are_closed() {
    let (tree, gone) = (books(&[(ROOT, None), (AGENT, Some(ROOT))]), books(&[(ROOT, None)]));
    let mut tally = Tally::new(0);
    let runs = i64::try_from(MAX_CLOSED).unwrap() + 10;
    for run in (0..runs).map(|run| AccountId::new(run + 3)) {
        let open = books(&[(ROOT, None), (AGENT, Some(ROOT)), (run, Some(AGENT))]);
        tally.stage(seconds(1), ended(run, 1, "exact", 1));
        tally.commit(&open, 0);
        tally.forgotten(&tree, run, AGENT);
    }
    assert_eq!(tally.counts.len(), MAX_CLOSED + 1);
    let tallied = tally.snapshot(&tree).sum();
    assert_eq!((tallied.of(AGENT).sums().calls, tallied.of(ROOT).sums().calls), (4106, 4106));
    assert_eq!((tallied.of(AccountId::new(runs)).sums().calls, tallied.of(RUN).sums().calls), (1, 0));
    tally.forgotten(&gone, AGENT, ROOT);
    tally.stage(seconds(1), Change::Denied { account: RUN, rule: "rpm".to_owned(), count: 1 });
    tally.commit(&gone, 0);
    let root = tally.snapshot(&gone).sum().of(ROOT);
    assert_eq!((root.sums().calls, root.denied()), (4106, 1));
}

#[test]
fn a_group_that_a_fault_undid_does_not_count_and_one_that_it_did_not_undo_does() {
    let tree = books(&[(ROOT, None)]);
    let mut tally = Tally::new(7);
    tally.stage(seconds(1), ended(ROOT, 1, "exact", 1));
    tally.recover(&tree, 7);
    assert_eq!(tally.snapshot(&tree).sum().of(ROOT).sums().calls, 0);
    tally.stage(seconds(1), ended(ROOT, 1, "exact", 1));
    tally.recover(&tree, 8);
    assert_eq!(tally.snapshot(&tree).sum().of(ROOT).sums().calls, 1);
}

#[test]
fn spans_slide_and_hours_stand_on_the_clock() {
    let mut counts = Counts::default();
    let now = seconds(100 * 3_600 + 1_800);
    for (ago, pico) in [(0, 1), (59, 2), (899, 4), (3_599, 8), (3_700, 16), (24 * 3_600, 32)] {
        let at = now.offset(-ago * 1_000_000);
        counts.ended(RequestId::new(1, 1), "m", "exact", Sums { calls: 1, tokens: 1, charged: Pico::new(pico) }, at);
    }
    counts.refused("rpm", 3, now.offset(-30_000_000));
    let span = |seconds| counts.last_seconds(now, seconds);
    assert_eq!(span(60), Span { calls: 2, denied: 3, charged: Pico::new(3) });
    assert_eq!((span(900).charged, span(3_600).charged), (Pico::new(7), Pico::new(15)));
    let hours = counts.last_hours(now);
    assert_eq!((hours.len(), hours[23], hours[0]), (24, (seconds(100 * 3_600), 3), (seconds(77 * 3_600), 0)));
    assert_eq!(hours.iter().map(|(_, calls)| calls).sum::<u64>(), 5);
    let later = now.offset(3_600_000_000 * 30);
    assert_eq!((counts.last_seconds(later, 3_600), counts.last_hours(later)[23].1), (Span::default(), 0));
}

#[test]
fn denials_are_counted_by_what_denied() {
    let mut counts = Counts::default();
    let rows = [
        ("budget", 1),
        ("rpm", 2),
        ("concurrency", 4),
        ("allowed_models", 8),
        ("known_model", 16),
        ("account_state", 32),
        ("request_form", 64),
    ];
    for (rule, count) in rows {
        counts.refused(rule, count, seconds(0));
    }
    assert_eq!((counts.denied_by_kind(), counts.denied()), (Denied { budget: 1, rate: 6, policy: 56 }, 127));
}

fn open(home: &std::path::Path) -> Ledger {
    let path = home.join("ledger.db");
    Ledger::open(&Options { path, durability: Durability::Normal, zone: jiff::tz::TimeZone::UTC, wal_limit: 1 << 20 }).unwrap()
}

async fn account(ledger: &Ledger, parent: AccountId, kind: AccountKind, name: &str) -> AccountId {
    let new = NewAccount {
        parent,
        kind,
        name: name.to_owned(),
        limits: Limits::default(),
        policy: Fields::default(),
        budgets: Vec::new(),
        reason: None,
    };
    ledger.admin(move |writer| writer.create_account(&new, None)).await.unwrap().unwrap()
}

async fn call(ledger: &Ledger, account: AccountId, number: u64, ending: Ending) {
    let key = HoldKey { request: RequestId::new(ledger.epoch(), number), attempt: 0 };
    let (text, digest) = Effective::of(Fields::default(), None).snapshot();
    let hold = HoldCall {
        tool: None,
        tool_card: None,
        key,
        account,
        ask: Ask { model: "m".to_owned(), ..Ask::default() },
        card: Digest::ZERO,
        policy: Arc::new(crate::ledger::Snapshot { kind: "policy", digest, text }),
        facts: None,
        changes: Vec::new(),
        rule: None,
        amount: Pico::new(100),
        input: Digest::ZERO,
        input_tokens: 5,
        output_tokens: 5,
        max_tokens: 5,
        lasts_us: 1_000_000,
        sent: true,
        idempotency: None,
        skipped: Vec::new(),
    };
    ledger.hold(Box::new(hold)).await.unwrap().unwrap();
    ledger.end(key, ending).unwrap();
}

fn settled(state: Settled) -> Ending {
    let lines = vec![Line(Bucket::Input, 3, Pico::new(2))];
    Ending::Settle { state, lines, outcome: Outcome::Answered, relayed: None, status: None, tier: None, unknown_usage: Vec::new() }
}

#[tokio::test]
async fn the_tally_that_is_kept_is_the_one_that_the_tables_hold() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let agent = account(&ledger, ROOT, AccountKind::Agent, "a").await;
    let other = account(&ledger, ROOT, AccountKind::Agent, "b").await;
    let run = account(&ledger, agent, AccountKind::Run, "run-1").await;
    call(&ledger, agent, 1, settled(Settled::Exact)).await;
    call(&ledger, run, 2, settled(Settled::Estimated)).await;
    call(&ledger, other, 3, settled(Settled::WorstCase)).await;
    call(&ledger, run, 4, Ending::Release { reason: Released::Refused, status: Some(400) }).await;
    let id = RequestId::new(1, 5);
    let denied = CallDenied {
        tool: None,
        facts: None,
        input: None,
        account: run,
        ask: None,
        card: None,
        denial: Denial::ReadOnlyToken,
        policy: Digest::ZERO,
        request: id,
        rule: "token_scope".to_owned(),
    };
    ledger.record(denied.into(), [None, None]).unwrap();
    ledger
        .record(CallDeniedAgain { account: run, count: 9, first: id, last: id, rule: "token_scope".to_owned() }.into(), [None, None])
        .unwrap();
    ledger.record(AuthFailed { cause: AuthCause::Expired, count: 2, first: id, last: id }.into(), [None, None]).unwrap();
    ledger.admin(move |writer| writer.close_account(run, "over", None).map(Ok)).await.unwrap().unwrap();
    let kept = ledger.tally().await.unwrap();
    assert_eq!(kept.of(agent).sums(), Sums { calls: 2, tokens: 6, charged: Pico::new(12) });
    assert_eq!((kept.of(agent).denied(), kept.of(run).ends.released, kept.of(other).sums().charged), (10, 1, Pico::new(100)));
    assert_eq!((kept.of(ROOT).sums().calls, kept.auth_failed.get(&AuthCause::Expired)), (3, Some(&2)));
    ledger.close();
    drop(ledger);
    let ledger = open(home.path());
    call(&ledger, agent, 1, settled(Settled::Exact)).await;
    let replayed = ledger.tally().await.unwrap();
    assert_eq!(replayed.of(agent).sums().calls, 3);
    ledger.close();
    drop(ledger);
    let ledger = open(home.path());
    let again = ledger.tally().await.unwrap();
    assert_eq!(again, replayed);
    assert_eq!((again.of(other), again.of(run)), (kept.of(other), kept.of(run)));
    ledger.close();
}
