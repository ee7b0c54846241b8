//! The books against a naive model: a list of holds and charges, summed anew for every question.

use super::*;
use proptest::prelude::*;

const DAY: i64 = 86_400_000_000;

fn account(id: i64, parent: Option<i64>, kind: AccountKind) -> Account {
    Account {
        id: AccountId::new(id),
        parent: parent.map(AccountId::new),
        kind,
        name: format!("a{id}"),
        state: AccountState::Active,
        reason: String::new(),
        limits: Limits::default(),
        budgets: BTreeMap::new(),
    }
}

/// root 1, group 2, agents 3 and 4 in it, run 5 below agent 3.
fn books() -> Books {
    let mut books = Books::new(TimeZone::UTC, 1);
    books.put_account(account(1, None, AccountKind::Root));
    books.put_account(account(2, Some(1), AccountKind::Group));
    books.put_account(account(3, Some(2), AccountKind::Agent));
    books.put_account(account(4, Some(2), AccountKind::Agent));
    books.put_account(account(5, Some(3), AccountKind::Run));
    books
}

fn key(n: u64) -> HoldKey {
    HoldKey { request: RequestId::new(1, n), attempt: 0 }
}

fn wanted(account: i64, amount: i64, at: i64) -> Wanted {
    Wanted {
        account: AccountId::new(account),
        amount: Pico::new(amount),
        at: Stamp::new(at),
        deadline: Stamp::new(at),
        epoch: 1,
        sent: true,
    }
}

fn limit(books: &mut Books, account: i64, period: Period, limit: i64) {
    books.set_budget(AccountId::new(account), period, Some(Pico::new(limit)), Stamp::new(0), Pico::ZERO).unwrap();
}

#[test]
fn a_hold_is_on_every_account_of_its_path_or_on_none() {
    let mut books = books();
    limit(&mut books, 2, Period::Total, 10);
    assert!(books.hold(key(1), wanted(5, 7, 0)).unwrap().is_ok());
    let denial = books.hold(key(2), wanted(4, 4, 0)).unwrap();
    assert!(matches!(&denial, Err(Denial::Budget { account, left, .. }) if account.name == "a2" && *left == Pico::new(3)), "{denial:?}");
    let reserved = |id: i64| books.balance_at(AccountId::new(id), Period::Total, Stamp::new(0)).map_or(0, |b| b.reserved.get());
    assert_eq!([1, 2, 3, 4, 5].map(reserved), [7, 7, 7, 0, 7]);
}

#[test]
fn a_budget_of_a_day_is_whole_again_the_next_day_and_a_clock_set_back_finds_the_old_one() {
    let mut books = books();
    limit(&mut books, 3, Period::Day, 10);
    assert!(books.hold(key(1), wanted(3, 10, 0)).unwrap().is_ok());
    let Err(Denial::Budget { period, resets_at, .. }) = books.hold(key(2), wanted(3, 1, 5)).unwrap() else { panic!("not denied") };
    assert_eq!((period, resets_at), (Period::Day, Some(Stamp::new(DAY))));
    assert!(books.hold(key(3), wanted(3, 10, DAY)).unwrap().is_ok());
    assert!(books.hold(key(4), wanted(3, 1, 7)).unwrap().is_err());
}

#[test]
fn a_budget_set_in_mid_period_counts_what_is_held_and_spent() {
    let mut books = books();
    assert!(books.hold(key(1), wanted(5, 6, 0)).unwrap().is_ok());
    let (id, opened) = books.set_budget(AccountId::new(3), Period::Day, Some(Pico::new(10)), Stamp::new(1), Pico::new(3)).unwrap();
    assert!(opened);
    assert!(books.hold(key(2), wanted(3, 2, 1)).unwrap().is_err());
    books.end(key(1), Pico::new(1)).unwrap();
    assert_eq!(books.balance(id).map(|b| (b.spent, b.reserved)), Some((Pico::new(4), Pico::ZERO)));
}

#[test]
fn a_bill_beyond_the_bound_is_recorded_in_full_as_overdraft() {
    let mut books = books();
    limit(&mut books, 3, Period::Total, 10);
    assert!(books.hold(key(1), wanted(3, 10, 0)).unwrap().is_ok());
    assert!(books.end(key(1), Pico::new(14)).unwrap().unwrap().overdrawn);
    let balance = books.balance_at(AccountId::new(3), Period::Total, Stamp::new(0)).unwrap();
    assert_eq!((balance.spent, balance.overdraft), (Pico::new(14), Pico::new(4)));
}

#[test]
fn a_limit_below_what_is_spent_denies_every_call_and_is_no_overdraft_by_bill() {
    let mut books = books();
    assert!(books.hold(key(1), wanted(3, 8, 0)).unwrap().is_ok());
    books.end(key(1), Pico::new(8)).unwrap();
    limit(&mut books, 3, Period::Total, 5);
    assert!(books.hold(key(2), wanted(3, 0, 0)).unwrap().is_err());
    assert_eq!(books.balance_at(AccountId::new(3), Period::Total, Stamp::new(0)).unwrap().overdraft, Pico::new(3));
}

#[test]
fn a_hold_ends_once() {
    let mut books = books();
    assert!(books.hold(key(1), wanted(3, 8, 0)).unwrap().is_ok());
    assert!(books.end(key(1), Pico::new(1)).unwrap().is_some());
    assert!(books.end(key(1), Pico::new(1)).unwrap().is_none());
}

#[derive(Clone, Debug)]
enum Op {
    Hold(i64, i64),
    End(usize, i64),
    Limit(i64, Period, i64),
    Wait(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let period = prop_oneof![Just(Period::Total), Just(Period::Day), Just(Period::Week)];
    prop_oneof![
        4 => (2..6i64, 0..40i64).prop_map(|(account, amount)| Op::Hold(account, amount)),
        4 => (0..8usize, 0..50i64).prop_map(|(which, charge)| Op::End(which, charge)),
        1 => (1..6i64, period, 0..200i64).prop_map(|(account, period, limit)| Op::Limit(account, period, limit)),
        1 => (0..DAY).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn no_hold_is_admitted_beyond_a_limit_and_every_balance_is_the_sum_of_its_holds(ops in prop::collection::vec(op(), 1..120)) {
        let mut books = books();
        let mut open: Vec<HoldKey> = Vec::new();
        let mut now = 0;
        for (n, op) in ops.into_iter().enumerate() {
            match op {
                Op::Hold(account, amount) => {
                    let key = key(n as u64);
                    if let Ok(placed) = books.hold(key, wanted(account, amount, now)).unwrap() {
                        open.push(key);
                        for id in placed.balances {
                            let balance = books.balance(id).unwrap();
                            prop_assert!(balance.limit.is_none_or(|limit| balance.spent.get() + balance.reserved.get() <= limit.get()));
                        }
                    }
                }
                Op::End(which, charge) if !open.is_empty() => {
                    let key = open.remove(which % open.len());
                    prop_assert!(books.end(key, Pico::new(charge)).unwrap().is_some());
                }
                Op::End(..) => {}
                Op::Limit(account, period, limit) => {
                    books.set_budget(AccountId::new(account), period, Some(Pico::new(limit)), Stamp::new(now), Pico::ZERO).unwrap();
                }
                Op::Wait(micros) => now += micros,
            }
            for balance in books.balances() {
                let held: i64 = books.holds().filter(|(_, hold)| hold.balances.contains(&balance.id)).map(|(_, hold)| hold.amount.get()).sum();
                prop_assert_eq!(balance.reserved.get(), held);
                prop_assert!(!balance.spent.is_negative() && !balance.overdraft.is_negative());
                let over = balance.limit.map_or(0, |limit| (balance.spent.get() + held - limit.get()).max(0));
                prop_assert_eq!(balance.overdraft.get(), over);
            }
        }
    }
}

#[test]
fn a_closed_account_is_forgotten_only_when_nothing_is_held_on_it() {
    let mut books = books();
    assert!(books.hold(key(1), wanted(5, 6, 0)).unwrap().is_ok());
    let closed = Account { state: AccountState::Closed, ..books.account(AccountId::new(5)).unwrap().clone() };
    books.put_account(closed);
    assert!(!books.forget_closed(AccountId::new(5)));
    assert!(books.end(key(1), Pico::new(2)).unwrap().is_some());
    assert!(books.forget_closed(AccountId::new(5)));
    assert!(books.account(AccountId::new(5)).is_none());
    assert_eq!(books.balance_at(AccountId::new(3), Period::Total, Stamp::new(0)).unwrap().spent, Pico::new(2));
    assert!(!books.forget_closed(AccountId::new(3)));
}

#[test]
fn the_fullest_budget_of_a_path_counts_what_is_spent_and_held_rounded_up() {
    let mut books = books();
    let share = |books: &Books, id: i64| books.fullest_share(AccountId::new(id), Stamp::new(0)).unwrap();
    assert_eq!(share(&books, 5), 0);
    limit(&mut books, 2, Period::Total, 1_000);
    limit(&mut books, 3, Period::Day, 300);
    assert!(books.hold(key(1), wanted(5, 100, 0)).unwrap().is_ok());
    assert_eq!((share(&books, 5), share(&books, 4)), (34, 10));
    books.end(key(1), Pico::new(301)).unwrap();
    assert_eq!((share(&books, 3), share(&books, 4)), (101, 31));
    limit(&mut books, 4, Period::Total, 0);
    assert_eq!(share(&books, 4), 100);
}
