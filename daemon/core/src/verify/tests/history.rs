//! No false alarm: whatever the books do over weeks, in whatever zone, the audit passes.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(i64),
    Start(&'static str),
    Config(bool),
    Account(usize, AccountKind, Vec<(Period, i64)>),
    Budget(usize, Period, Option<i64>),
    State(usize, AccountState),
    Call(usize, u64, bool),
    Exact(usize, u64),
    Estimated(usize),
    Full(usize),
    Send(usize),
    Release(usize, Released, Option<u16>),
    Token(usize),
    Revoke(usize, i64),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let period = || prop::sample::select(Period::ALL.to_vec());
    let budgets = || prop::collection::btree_map(period(), 0..9_000i64, 0..3).prop_map(|budgets| budgets.into_iter().collect());
    let state = prop::sample::select(vec![
        AccountState::Active,
        AccountState::Active,
        AccountState::Active,
        AccountState::Paused,
        AccountState::Killed,
        AccountState::Closed,
    ]);
    let released = prop::sample::select(vec![(Released::NeverSent, None), (Released::Refused, Some(401)), (Released::Refused, Some(503))]);
    prop_oneof![
        2 => prop::sample::select(vec![1, HOUR, 9 * HOUR, 26 * HOUR, 200 * HOUR, -HOUR]).prop_map(Step::Wait),
        1 => prop::sample::select(vec!["UTC", "east", "west"]).prop_map(Step::Start),
        1 => any::<bool>().prop_map(Step::Config),
        2 => (any::<usize>(), prop::sample::select(vec![AccountKind::Group, AccountKind::Agent, AccountKind::Run]), budgets())
            .prop_map(|(parent, kind, budgets)| Step::Account(parent, kind, budgets)),
        2 => (any::<usize>(), period(), prop::option::of(0..9_000i64)).prop_map(|(account, period, limit)| Step::Budget(account, period, limit)),
        1 => (any::<usize>(), state).prop_map(|(account, state)| Step::State(account, state)),
        8 => (any::<usize>(), prop::sample::select(vec![1, 50, 400, 2_000]), any::<bool>()).prop_map(|(account, output, sent)| Step::Call(account, output, sent)),
        3 => (any::<usize>(), 0..900u64).prop_map(|(hold, output)| Step::Exact(hold, output)),
        1 => any::<usize>().prop_map(Step::Estimated),
        1 => any::<usize>().prop_map(Step::Full),
        1 => any::<usize>().prop_map(Step::Send),
        1 => (any::<usize>(), released).prop_map(|(hold, (reason, status))| Step::Release(hold, reason, status)),
        1 => any::<usize>().prop_map(Step::Token),
        1 => (any::<usize>(), 0..9i64).prop_map(|(token, later)| Step::Revoke(token, later)),
    ]
}

fn pick<T: Clone>(from: &[T], at: usize) -> Option<T> {
    from.get(at.checked_rem(from.len())?).cloned()
}

pub(super) fn take(scribe: &mut Scribe, step: Step) {
    let accounts: Vec<i64> = scribe.accounts.iter().filter(|row| row.state != AccountState::Closed).map(|row| row.id.get()).collect();
    let holds: Vec<HoldKey> = scribe.holds.keys().copied().collect();
    let account = |at| pick(&accounts, at).unwrap_or(1);
    match step {
        Step::Wait(micros) => scribe.now = scribe.now.offset(micros),
        Step::Start(zone) => scribe.start(zone),
        Step::Config(charged) => scribe.config(charged),
        Step::Account(parent, kind, budgets) if !accounts.is_empty() => drop(scribe.account(Some(account(parent)), kind, &budgets)),
        Step::Account(..) => {}
        Step::Budget(at, period, limit) => scribe.budget(account(at), period, limit),
        // The root is never closed.
        Step::State(at, state) if account(at) != 1 || state != AccountState::Closed => scribe.state(account(at), state),
        Step::State(..) => {}
        Step::Call(at, output, sent) => drop(scribe.call(account(at), output, sent)),
        Step::Token(at) => {
            let number = u8::try_from(scribe.tokens.len()).unwrap();
            scribe.token(account(at), number);
        }
        Step::Revoke(at, later) => {
            let until = scribe.now.offset(later);
            let living = scribe.tokens.iter().enumerate().filter(|(_, token)| token.revoked_at.is_none_or(|before| before > until));
            let living: Vec<usize> = living.map(|(number, _)| number).collect();
            if let Some(number) = pick(&living, at) {
                scribe.revoke(u8::try_from(number).unwrap(), until);
            }
        }
        Step::Exact(at, output) => {
            if let Some(key) = pick(&holds, at) {
                scribe.settle(key, Settled::Exact, Outcome::Answered, &Usage::text(9, output));
            }
        }
        Step::Estimated(at) => {
            let mut heard = Usage::text(9, 3);
            heard.add(Bucket::AudioInput, 5);
            if let Some(key) = pick(&holds, at) {
                scribe.settle(key, Settled::Estimated, Outcome::Answered, &heard);
            }
        }
        Step::Full(at) => {
            if let Some(key) = pick(&holds, at) {
                scribe.settle(key, Settled::WorstCase, Outcome::Panic, &Usage::default());
            }
        }
        Step::Send(at) => {
            let waiting: Vec<HoldKey> = holds.iter().filter(|key| !scribe.holds[*key].sent).copied().collect();
            if let Some(key) = pick(&waiting, at) {
                scribe.send(key);
            }
        }
        Step::Release(at, reason, status) => {
            if let Some(key) = pick(&holds, at) {
                scribe.release(key, reason, status);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_books_do_the_audit_passes(steps in prop::collection::vec(step(), 1..120)) {
        let mut scribe = Scribe::new("UTC");
        let group = scribe.account(Some(1), AccountKind::Group, &[(Period::Day, 5_000)]);
        scribe.account(Some(group), AccountKind::Agent, &[(Period::Total, 20_000)]);
        for step in steps {
            take(&mut scribe, step);
        }
        prop_assert_eq!(scribe.broken(), Vec::<String>::new());
    }
}

#[test]
fn attempts_of_a_call_follow_one_another_and_are_never_held_at_once() {
    let mut scribe = Scribe::new("UTC");
    scribe.account(Some(1), AccountKind::Agent, &[(Period::Total, 50_000)]);
    let first = scribe.call(2, 50, true).unwrap();
    scribe.release(first, Released::Refused, Some(429));
    let second = scribe.attempt(HoldKey { attempt: 1, ..first }, 2, 50, true).unwrap();
    scribe.settle(second, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    assert_eq!(scribe.broken(), Vec::<String>::new());
    let third = scribe.call(2, 50, true).unwrap();
    let fourth = scribe.attempt(HoldKey { attempt: 1, ..third }, 2, 50, true).unwrap();
    scribe.release(third, Released::NeverSent, None);
    scribe.settle(fourth, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    let broken = scribe.broken();
    assert!(broken.len() == 1 && broken[0].contains("is tried again while an attempt of it is held"), "{broken:?}");
}
