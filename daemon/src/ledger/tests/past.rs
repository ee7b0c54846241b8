//! Budgets that are set in mid-period while calls go on.

use super::*;
use aex_core::event::{Outcome, Settled};
use aex_core::price::Line;
use aex_core::usage::Bucket;

const DAY: i64 = 1_000_000;

impl House {
    /// Ends a call with a charge of 3 for each token of output.
    fn settle(&self, key: HoldKey, output: u64) {
        let lines = vec![Line(Bucket::Output, output, Pico::new(3)), Line(Bucket::Call, 1, Pico::new(7))];
        let ending = Ending::Settle {
            state: Settled::Exact,
            lines,
            outcome: Outcome::Answered,
            relayed: None,
            status: Some(200),
            tier: None,
            unknown_usage: Vec::new(),
        };
        self.ledger.end(key, ending).unwrap();
    }
}

#[tokio::test]
async fn a_budget_counts_calls_that_end_while_the_past_is_read_once_each() {
    let mut house = House::new().await;
    let group = house.account(1, AccountKind::Group, "lab", &[]).await;
    let agent = house.account(group.get(), AccountKind::Agent, "bot", &[]).await;
    let run = house.account(agent.get(), AccountKind::Run, "run-4", &[]).await;
    let other = house.account(1, AccountKind::Agent, "other", &[]).await;
    let mut keys = Vec::new();
    for account in [agent, run, other, agent, run, other, agent] {
        keys.push(house.call(account, 50, true).await.unwrap());
    }
    // Before the scan: one of the agent's, one of a run's that is closed by then, one of another's.
    (0..3).for_each(|at| house.settle(keys[at], 10));
    house.ledger.admin(move |writer| writer.close_account(run, "closed", None).map(Ok)).await.unwrap().unwrap();
    let past = house.ledger.past(group, Period::Day).await.unwrap();
    assert!(past.is_some());
    // Behind it: the same three again, the run's while its account is already closed. One is still in flight.
    (3..6).for_each(|at| house.settle(keys[at], 20));
    let used = house.set_to(group, Period::Day, Some(DAY), past).await;
    let spent = 2 * (10 * 3 + 7) + 2 * (20 * 3 + 7);
    let row = house.ledger.read(move |reader| reader.account(group, now())).await.unwrap().unwrap();
    let day = row.balances.iter().find(|balance| balance.period == Period::Day).unwrap();
    assert_eq!((day.spent, day.reserved), (Pico::new(spent), row.balances[0].reserved));
    assert!(day.reserved > Pico::ZERO);
    assert_eq!(used, day.spent.plus(day.reserved).unwrap());
    house.settle(keys[6], 1);
    assert_eq!(house.broken().await, Vec::<String>::new());
    // The balance is there now: nothing is to be read for another change.
    assert_eq!(house.ledger.past(group, Period::Day).await.unwrap(), None);
    house.set_to(group, Period::Day, None, None).await;
    let more = house.call(agent, 50, true).await.unwrap();
    house.settle(more, 5);
    house.set_to(group, Period::Day, Some(DAY), None).await;
    let row = house.ledger.read(move |reader| reader.account(group, now())).await.unwrap().unwrap();
    let day = row.balances.iter().find(|balance| balance.period == Period::Day).unwrap();
    assert_eq!(day.spent, Pico::new(spent + (3 + 7) + (5 * 3 + 7)));
    assert_eq!(house.broken().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_another_account_or_window_spent_is_no_past_of_this_one() {
    let house = House::new().await;
    let [one, two] = [house.account(1, AccountKind::Agent, "one", &[]).await, house.account(1, AccountKind::Agent, "two", &[]).await];
    let past = house.ledger.past(one, Period::Day).await.unwrap();
    let fits = |account, period, past: Option<Past>| {
        let ledger = house.ledger.clone();
        async move { ledger.admin(move |writer| writer.is_past(account, period, past.as_ref()).map(Ok)).await.unwrap().unwrap() }
    };
    assert!(fits(one, Period::Day, past).await);
    assert!(!fits(two, Period::Day, past).await);
    assert!(!fits(one, Period::Month, past).await);
    assert!(!fits(one, Period::Day, None).await);
    // Whoever does not ask first changes nothing.
    let change = BudgetChange { account: two, period: Period::Day, limit: Some(Pico::new(5)), reason: None };
    let done = house.ledger.admin(move |writer| writer.set_budget(&change, past.as_ref(), None).map(Ok)).await;
    assert!(done.is_err());
    assert!(house.ledger.past(two, Period::Day).await.unwrap().is_some());
    assert_eq!(house.broken().await, Vec::<String>::new());
}

#[tokio::test]
async fn reports_that_take_all_readers_do_not_hold_up_the_end_of_a_run() {
    let house = House::new().await;
    let (begun, ready) = std::sync::mpsc::channel();
    let mut ends = Vec::new();
    let mut reports = Vec::new();
    for _ in 0..read::READERS {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let (ledger, begun) = (house.ledger.clone(), begun.clone());
        ends.push(end);
        reports.push(tokio::spawn(async move {
            let report = ledger.read(move |reader| {
                begun.send(()).unwrap();
                // Until the test lets it go.
                wait.recv().unwrap_err();
                reader.head()
            });
            report.await.unwrap()
        }));
    }
    let all = tokio::task::spawn_blocking(move || (0..read::READERS).for_each(|_| ready.recv().unwrap()));
    all.await.unwrap();
    let root = house.ledger.read_at_once(|reader| reader.reason_of(AccountId::ROOT)).await.unwrap();
    assert!(root.is_some());
    drop(ends);
    for report in reports {
        report.await.unwrap();
    }
}
