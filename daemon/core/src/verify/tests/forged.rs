//! Whoever can write events and chain them anew still has to make each follow from those before it.

use super::*;

/// root 1, group 2 with 5,000 a day, agent 3 with 20,000 in all, a budget of a week from mid-week on; one call of each end, one
/// in flight, one refused by its budget, by its policy and by its state each; a token; two starts.
pub(super) fn story() -> Scribe {
    let mut scribe = Scribe::new("UTC");
    scribe.config(false);
    scribe.account(Some(1), AccountKind::Group, &[(Period::Day, 5_000)]);
    scribe.account(Some(2), AccountKind::Agent, &[(Period::Total, 20_000)]);
    scribe.token(3, 1);
    scribe.revoke(1, NOON.offset(HOUR));
    let exact = scribe.call(3, 50, true).unwrap();
    scribe.settle(exact, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    let heard = scribe.call(3, 50, true).unwrap();
    let mut usage = Usage::text(9, 20);
    usage.add(Bucket::AudioInput, 4);
    scribe.settle(heard, Settled::Estimated, Outcome::Answered, &usage);
    let refused = scribe.call(3, 50, true).unwrap();
    scribe.release(refused, Released::Refused, Some(400));
    let gateway = scribe.call(3, 50, true).unwrap();
    scribe.release(gateway, Released::GatewayError, Some(502));
    let open = scribe.call(3, 50, false).unwrap();
    scribe.budget(3, Period::Week, Some(19_000));
    scribe.call(3, 800, true).unwrap();
    assert_eq!(scribe.call(3, 900, true), None);
    assert_eq!(scribe.call(3, 950, true), None);
    scribe.send(open);
    assert_eq!(scribe.call(3, 2_000, true), None);
    scribe.state(3, AccountState::Paused);
    assert_eq!(scribe.call(3, 50, true), None);
    scribe.state(3, AccountState::Active);
    scribe.start("UTC");
    let fresh = scribe.call(3, 50, false).unwrap();
    scribe.release(fresh, Released::NeverSent, None);
    let last = scribe.call(3, 50, false);
    assert!(last.is_some());
    scribe
}

/// The event of a kind, counted from 0.
macro_rules! nth {
    ($events:expr, $kind:ident, $nth:expr) => {{
        let mut found = $events.iter_mut().filter_map(|(_, event)| if let Event::$kind(event) = event { Some(event) } else { None });
        found.nth($nth).unwrap_or_else(|| panic!("there is no such {}", stringify!($kind)))
    }};
}

/// Forges events, and demands that the finding says these words of them.
#[track_caller]
fn check(finding: &str, words: &str, forge: impl FnOnce(&mut Vec<(Stamp, Event)>)) {
    check_in(&story(), finding, words, forge);
}

#[track_caller]
fn check_in(scribe: &Scribe, finding: &str, words: &str, forge: impl FnOnce(&mut Vec<(Stamp, Event)>)) {
    let mut events = scribe.events.clone();
    forge(&mut events);
    assert!(events != scribe.events, "nothing was forged");
    let findings = scribe.audit(&events);
    let found = findings.iter().find(|found| found.name == finding).unwrap();
    let code = ["Some(", "None", "Pico(", "Ok(", "Err(", "Id(", " { ", " }"];
    let is_code = |what: &&String| code.iter().any(|form| what.contains(form));
    assert_eq!(findings.iter().flat_map(|found| &found.broken).find(is_code), None, "a finding in a form of the code");
    assert!(found.broken.iter().any(|what| what.starts_with("event ") && what.contains(words)), "{words}: {findings:#?}");
}

fn insert_after(events: &mut Vec<(Stamp, Event)>, is: impl Fn(&Event) -> bool, event: impl Into<Event>) {
    let at = events.iter().position(|(_, event)| is(event)).unwrap();
    let time = events[at].0;
    events.insert(at + 1, (time, event.into()));
}

#[test]
fn an_honest_story_passes() {
    assert_eq!(story().broken(), Vec::<String>::new());
}

#[test]
fn a_hold_is_on_the_balances_that_its_account_and_time_say() {
    let budget = "spent_within_budget";
    check(budget, "has to be on", |events| nth!(events, CallHeld, 0).balances.truncate(3));
    check(budget, "has to be on", |events| nth!(events, CallHeld, 1).balances[0] = BalanceId::new(1));
    check(budget, "has to be on", |events| nth!(events, CallHeld, 0).balances.push(BalanceId::new(1)));
    check(budget, "has to be on", |events| nth!(events, CallHeld, 0).account = AccountId::new(2));
    check(budget, "has to be on", |events| nth!(events, CallHeld, 0).balances.clear());
    // The group's day would have ended: the hold belongs into the next one.
    check(budget, "is open", |events| {
        events.iter_mut().rev().find(|(_, event)| matches!(event, Event::CallHeld(_))).unwrap().0 = NOON.offset(48 * HOUR);
    });
    check(budget, "used on balance", |events| nth!(events, CallHeld, 0).amount = Pico::new(5_001));
    check(budget, "holds of the", |events| nth!(events, BudgetSet, 2).holds.clear());
    check(budget, "has spent", |events| nth!(events, BudgetSet, 2).spent = Some(Pico::new(1_000_000)));
}

#[test]
fn a_window_is_one_of_the_calendar_with_the_budget_of_its_account() {
    let budget = "spent_within_budget";
    check(budget, "not the day", |events| nth!(events, WindowOpened, 0).start = NOON);
    check(budget, "not the day", |events| nth!(events, WindowOpened, 0).end = None);
    check(budget, "no budget of its account", |events| nth!(events, WindowOpened, 0).limit = Some(Pico::new(5_000_000)));
    check(budget, "no budget of its account", |events| nth!(events, WindowOpened, 0).limit = None);
    check(budget, "no budget of its account", |events| {
        nth!(events, WindowOpened, 2).limit = Some(Pico::new(9));
    });
    check(budget, "no budget of its account", |events| {
        events.retain(|(_, event)| !matches!(event, Event::BudgetSet(set) if set.account == AccountId::new(2)));
    });
    check(budget, "the running window's is", |events| nth!(events, BudgetSet, 0).balance = BalanceId::new(2));
    check("event_log_integrity", "is opened again", |events| nth!(events, WindowOpened, 1).balance = BalanceId::new(1));
    check("event_log_integrity", "is not known here", |events| nth!(events, EpochOpened, 0).zone = "Mars/Base".to_owned());
    check(budget, "not the day", |events| nth!(events, EpochOpened, 0).zone = "east".to_owned());
}

#[test]
fn a_call_is_admitted_only_while_its_accounts_are_active_and_by_what_holds_for_it() {
    let decisions = "decisions_recomputed";
    let paused = |events: &mut Vec<(Stamp, Event)>, to| {
        let changed = AccountStateChanged { account: AccountId::new(2), by: None, from: AccountState::Active, reason: String::new(), to };
        insert_after(events, |event| matches!(event, Event::TokenRevoked(_)), changed);
    };
    check(decisions, "while account 2 was paused", |events| paused(events, AccountState::Paused));
    check(decisions, "while account 2 was closed", |events| paused(events, AccountState::Closed));
    check(decisions, "which is not below the root", |events| nth!(events, CallHeld, 0).account = AccountId::new(9));
    check(decisions, "which had passed", |events| nth!(events, CallHeld, 0).deadline = NOON);
    check(decisions, "which is not its agent's", |events| nth!(events, CallHeld, 0).policy = card().snapshot().1);
    check(decisions, "which no configuration", |events| nth!(events, CallHeld, 0).card = Digest::ZERO);
    check(decisions, "by its inputs with", |events| nth!(events, CallHeld, 0).amount = Pico::new(1));
    check(decisions, "by its inputs with", |events| nth!(events, CallHeld, 0).ask.body_bytes = 99);
    check("event_log_integrity", "it was active", |events| nth!(events, AccountStateChanged, 0).from = AccountState::Killed);
    check("event_log_integrity", "that it names is missing", |events| nth!(events, CallHeld, 0).card = Digest::ZERO);
    check("event_log_integrity", "by epoch 7", |events| nth!(events, CallHeld, 0).epoch = 7);
}

#[test]
fn a_call_ends_once_and_only_while_it_is_held() {
    let integrity = "event_log_integrity";
    let again = |is: fn(&Event) -> bool| {
        move |events: &mut Vec<(Stamp, Event)>| {
            let event = events.iter().find(|(_, event)| is(event)).unwrap().clone();
            events.push(event);
        }
    };
    check(integrity, "which is not held", again(|event| matches!(event, Event::CallSettled(_))));
    check(integrity, "which is not held", again(|event| matches!(event, Event::CallReleased(_))));
    check(integrity, "does not wait to be", again(|event| matches!(event, Event::CallSent(_))));
    check(integrity, "is held again", |events| {
        let held = events.iter().rfind(|(_, event)| matches!(event, Event::CallHeld(_))).unwrap().clone();
        events.push(held);
    });
}

#[test]
fn a_charge_is_what_the_card_says_of_the_quantities() {
    let charges = "charges_repriced";
    check(charges, "by its card they are", |events| nth!(events, CallSettled, 0).lines.truncate(2));
    check(charges, "by its card they are", |events| nth!(events, CallSettled, 0).lines[0].2 = Pico::new(1));
    check(charges, "by its card they are", |events| {
        let first = nth!(events, CallSettled, 0).lines[0];
        nth!(events, CallSettled, 0).lines.insert(0, first);
    });
    check(charges, "by its card they are", |events| nth!(events, CallSettled, 0).lines.push(Line(Bucket::Call, 1, Pico::new(7))));
    // The bucket without a price: at the dearest, and never exact.
    check(charges, "by its card they are", |events| nth!(events, CallSettled, 1).lines[2].2 = Pico::new(2));
    check(charges, "is called exact", |events| nth!(events, CallSettled, 1).state = Settled::Exact);
    check(charges, "is called exact", |events| nth!(events, CallSettled, 0).unknown_usage.push(("x".to_owned(), "1".to_owned())));
    check(charges, "is called exact", |events| nth!(events, CallSettled, 0).outcome = Outcome::ClientLeft);
    check(charges, "its lines come to", |events| nth!(events, CallSettled, 0).charge = Pico::new(1));
    check(charges, "in the worst case", |events| nth!(events, CallSettled, 0).state = Settled::WorstCase);
    let rests_on = |bytes, tokens| Some(Relayed { bytes, tokens });
    check(charges, "rests on relayed output, and is called exact", |events| {
        nth!(events, CallSettled, 0).relayed = rests_on(20, None);
    });
    check(charges, "counts more tokens than there are in 20 bytes", |events| {
        nth!(events, CallSettled, 1).relayed = rests_on(20, Some(21));
    });
    check(charges, "is ended by a crash", |events| nth!(events, CallSettled, 0).outcome = Outcome::Crash);
}

#[test]
fn a_release_needs_its_proof() {
    let rows = [
        (0, Released::Refused, None),
        (0, Released::Refused, Some(200)),
        (0, Released::Refused, Some(408)),
        (0, Released::Refused, Some(502)),
        (0, Released::NeverSent, Some(400)),
        (0, Released::Crash, None),
        // In the second epoch, gateway errors are charged.
        (2, Released::GatewayError, Some(502)),
        // Never sent, but its daemon lives.
        (2, Released::Crash, None),
    ];
    for (nth, reason, status) in rows {
        check("charges_repriced", "which proves nothing", |events| {
            let released = nth!(events, CallReleased, nth);
            (released.reason, released.status) = (reason, status);
        });
    }
    // It was sent, so its crash charges it.
    check("charges_repriced", "which proves nothing", |events| {
        let at = events.iter().position(|(_, event)| matches!(event, Event::CallSettled(end) if end.outcome == Outcome::Crash)).unwrap();
        let Event::CallSettled(settled) = events[at].1.clone() else { panic!("it is settled") };
        events[at].1 = CallReleased { attempt: 0, reason: Released::Crash, request: settled.request, status: None }.into();
    });
}

#[test]
fn a_refusal_is_what_its_account_and_inputs_say() {
    let decisions = "decisions_recomputed";
    let budget = |forge: fn(&mut Denial)| move |events: &mut Vec<(Stamp, Event)>| forge(&mut nth!(events, CallDenied, 0).denial);
    macro_rules! money {
        ($field:ident, $value:expr) => {
            budget(|denial| if let Denial::Budget { $field, .. } = denial { *$field = $value } else { panic!("{denial:?}") })
        };
    }
    check(decisions, "by its inputs it is", money!(asked, Pico::new(1)));
    check(decisions, "never had", money!(limit, Pico::new(1)));
    check(decisions, "never had", money!(period, Period::Month));
    check(decisions, "asked and a reset", money!(left, Pico::new(4_999)));
    check(decisions, "asked and a reset", money!(resets_at, None));
    check(
        decisions,
        "which is not above it",
        money!(account, crate::decision::Named { id: AccountId::new(9), kind: None, name: "a9".to_owned() }),
    );
    check(decisions, "its name is", money!(account, crate::decision::Named { id: AccountId::new(2), kind: None, name: "x".to_owned() }));
    check(
        decisions,
        "it is group",
        budget(|denial| {
            if let Denial::Budget { account, .. } = denial {
                account.kind = Some(AccountKind::Run);
            }
        }),
    );
    check(decisions, "its inputs are not told", |events| nth!(events, CallDenied, 0).ask = None);
    check(decisions, "the refusal is one by", |events| nth!(events, CallDenied, 0).rule = "rpm".to_owned());
    check(decisions, "by its inputs it is", |events| nth!(events, CallDenied, 2).ask = Some(ask(1)));
    check(decisions, "which it never was", |events| {
        let Denial::Account { state, .. } = &mut nth!(events, CallDenied, 3).denial else { panic!("not refused by its state") };
        *state = AccountState::Killed;
    });
}

#[test]
fn a_bill_beyond_the_budget_suspends_its_agent_at_once() {
    let mut scribe = story();
    // A run's bill: its agent is suspended, not the run and not the group.
    let run = scribe.account(Some(3), AccountKind::Run, &[]);
    let beyond = scribe.call(run, 50, true).unwrap();
    scribe.settle(beyond, Settled::Exact, Outcome::Answered, &Usage::text(9, 9_000));
    assert_eq!(scribe.broken(), Vec::<String>::new());
    let at = scribe.events.len() - 1;
    let Event::AccountStateChanged(suspended) = scribe.events[at].1.clone() else { panic!("the agent is suspended") };
    assert_eq!((suspended.account, suspended.to), (AccountId::new(3), AccountState::Suspended));
    let told = |events: &[(Stamp, Event)]| {
        let findings = scribe.audit(events);
        let budget = findings.iter().find(|found| found.name == "spent_within_budget").unwrap();
        budget.broken.iter().any(|what| what.contains("agent 3 is not suspended by the next event"))
    };
    assert!(!told(&scribe.events) && told(&scribe.events[..at]), "left out");
    let mut other = scribe.events.clone();
    other[at].1 = AccountStateChanged { account: AccountId::new(2), ..(*suspended).clone() }.into();
    assert!(told(&other), "another account");
    other[at].1 = AccountStateChanged { to: AccountState::Paused, ..(*suspended).clone() }.into();
    assert!(told(&other), "another state");
    let mut late = scribe.events.clone();
    late.insert(at, late[0].clone());
    assert!(told(&late), "too late");
}

#[test]
fn accounts_and_tokens_follow_from_each_other() {
    let integrity = "event_log_integrity";
    check(integrity, "was to be next", |events| nth!(events, AccountCreated, 1).account = AccountId::new(7));
    check(integrity, "which is not open", |events| nth!(events, AccountCreated, 1).parent = Some(AccountId::new(5)));
    check(integrity, "is brought back", |events| {
        let mut later = nth!(events, TokenRevoked, 0).clone();
        later.at = NOON.offset(9 * HOUR);
        insert_after(events, |event| matches!(event, Event::TokenRevoked(_)), *later);
    });
    check(integrity, "which account 2 has not", |events| nth!(events, TokenRevoked, 0).account = AccountId::new(2));
    check(integrity, "was to be next", |events| nth!(events, EpochOpened, 1).epoch = 5);
    check(integrity, "another ledger", |events| nth!(events, EpochOpened, 1).ledger = "1".repeat(32));
}

#[test]
fn a_jump_of_the_clock_leads_to_the_time_at_which_it_was_seen() {
    let jump = |to: Stamp| Event::from(crate::event::ClockJumped { boot_us: 5, from: to.offset(-86_400_000_000), to });
    let mut scribe = story();
    let at = scribe.events.last().unwrap().0.offset(86_400_000_000);
    scribe.events.push((at, jump(at)));
    assert!(scribe.audit(&scribe.events).iter().all(|found| found.broken.is_empty()), "{:#?}", scribe.audit(&scribe.events));
    check("event_log_integrity", "the clock went to", |events| events.push((at, jump(at.offset(1)))));
}

#[test]
fn a_restore_lets_starts_be_left_out_and_nothing_else_does() {
    let mut scribe = story();
    scribe.restore(7);
    scribe.start("UTC");
    assert_eq!(scribe.broken(), Vec::<String>::new());
    let check = |words: &str, forge: fn(&mut Vec<(Stamp, Event)>)| check_in(&scribe, "event_log_integrity", words, forge);
    check("epoch 4 begins, 8 was to be next", |events| nth!(events, EpochOpened, 2).epoch = 4);
    check("epoch 15 begins, 9 was to be next", |events| nth!(events, EpochOpened, 3).epoch = 15);
    check("there were 2 already", |events| nth!(events, LedgerRestored, 0).epoch = 1);
    check("is said to end at event 2 ", |events| nth!(events, LedgerRestored, 0).head.seq = 2);
    check("is said to end at event ", |events| nth!(events, LedgerRestored, 0).head.hash = Digest::ZERO);
    check("is not followed by a start", |events| {
        let at = events.iter().position(|(_, event)| matches!(event, Event::LedgerRestored(_))).unwrap();
        events.remove(at + 1);
    });
}
