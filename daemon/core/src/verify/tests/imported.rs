//! An account that brings spending along from an earlier program begins with exactly that.

use super::*;
use crate::event::Imported;

const SPENT: Pico = Pico::new(700);

/// root 1, and agent 2 with 20,000 in all, of which it brought 700 along; one call.
fn story() -> Scribe {
    let mut scribe = Scribe::new("UTC");
    let agent = AccountId::new(scribe.account(Some(1), AccountKind::Agent, &[]));
    let created_at = NOON.offset(-48 * HOUR);
    if let Some((_, Event::AccountCreated(created))) = scribe.events.last_mut() {
        created.imported = Some(Imported { created_at, database: Digest::ZERO, spent: SPENT });
    }
    scribe.accounts.last_mut().unwrap().created_at = created_at;
    let limit = Some(Pico::new(20_000));
    let (balance, _) = scribe.books.set_budget(agent, Period::Total, limit, NOON, SPENT).unwrap();
    let (by, holds, period) = (None, Vec::new(), Period::Total);
    scribe.write(BudgetSet { account: agent, balance, by, holds, limit, period, reason: None, spent: Some(SPENT) });
    let call = scribe.call(2, 50, true).unwrap();
    scribe.settle(call, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    scribe
}

/// Forges events, and demands that the audit says these words of them; without words, that it passes.
#[track_caller]
fn check(words: Option<&str>, forge: impl FnOnce(&mut Vec<(Stamp, Event)>)) {
    let scribe = story();
    let mut events = scribe.events.clone();
    forge(&mut events);
    let broken: Vec<String> = scribe.audit(&events).into_iter().flat_map(|found| found.broken).collect();
    match words {
        None => assert_eq!(broken, Vec::<String>::new()),
        Some(words) => assert!(broken.iter().any(|what| what.contains(words)), "{words}: {broken:#?}"),
    }
}

fn budget(events: &mut [(Stamp, Event)]) -> &mut Event {
    events.iter_mut().map(|(_, event)| event).find(|event| matches!(event, Event::BudgetSet(_))).unwrap()
}

fn begin_with(events: &mut [(Stamp, Event)], spent: i64) {
    if let Event::BudgetSet(set) = budget(events) {
        set.spent = Some(Pico::new(spent));
    }
}

#[test]
fn what_was_spent_before_is_counted_neither_less_nor_more() {
    check(None, |_| {});
    check(Some("has spent"), |events| begin_with(events, 0));
    check(Some("has spent"), |events| begin_with(events, 699));
    check(Some("has spent"), |events| begin_with(events, 701));
    check(Some("has spent"), |events| {
        for (_, event) in events {
            if let Event::AccountCreated(created) = event {
                created.imported = None;
            }
        }
    });
    check(Some("leaves out what account 2 had spent before"), |events| {
        let Event::BudgetSet(set) = budget(events).clone() else { return };
        let Window { start, end } = Window::TOTAL;
        *budget(events) =
            WindowOpened { account: set.account, balance: set.balance, end, limit: set.limit, period: set.period, start }.into();
    });
}
