//! A state that is written down: an audit that goes on from it ends as one that never stopped.

use super::history::{step, take};
use super::*;
use proptest::prelude::*;

/// The audit of a chain up to an event, and its state there.
fn until(scribe: &Scribe, records: &[Record]) -> Audit {
    let mut audit = Audit::new(zones);
    go_on(scribe, &mut audit, records);
    audit
}

fn go_on(scribe: &Scribe, audit: &mut Audit, records: &[Record]) {
    for (kind, text, digest) in snapshots() {
        audit.snapshot(digest, kind, &text);
    }
    records.iter().for_each(|record| scribe.take(audit, record));
}

/// What is left when what was looked at once is counted once.
fn told(findings: Vec<Finding>) -> Vec<(&'static str, Vec<String>, u64)> {
    findings.into_iter().map(|found| (found.name, found.broken, found.broken_count)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_audit_that_goes_on_from_a_state_ends_as_one_that_never_stopped(
        steps in prop::collection::vec(step(), 1..100),
        at in any::<prop::sample::Index>(),
    ) {
        let mut scribe = Scribe::new("UTC");
        let group = scribe.account(Some(1), AccountKind::Group, &[(Period::Day, 5_000)]);
        scribe.account(Some(group), AccountKind::Agent, &[(Period::Total, 20_000)]);
        steps.into_iter().for_each(|step| take(&mut scribe, step));
        let records = Scribe::chained(&scribe.events);
        let (first, rest) = records.split_at(at.index(records.len() + 1));

        let mut whole = until(&scribe, &records);
        let before = until(&scribe, first);
        let text = before.checkpoint().text();
        for line in text.lines() {
            prop_assert!(crate::canon::is_canonical(line), "{line}");
        }
        let read = Checkpoint::parse(&text);
        prop_assert_eq!(read.as_ref(), Ok(&before.checkpoint()));
        let mut resumed = Audit::resume(zones, read.unwrap());
        go_on(&scribe, &mut resumed, rest);

        prop_assert_eq!(resumed.checkpoint(), whole.checkpoint());
        prop_assert_eq!((resumed.head(), resumed.counts()), (whole.head(), whole.counts()));
        scribe.rows(&mut whole);
        scribe.rows(&mut resumed);
        // A window that only a budget can open waits for that budget, a bill beyond a limit for the suspension.
        let waits = ["which is no budget of its account", "is not suspended by the next event"];
        let broken = before.finish_without_rows().into_iter().flat_map(|found| found.broken);
        prop_assert_eq!(broken.filter(|what| !waits.iter().any(|wait| what.contains(wait))).count(), 0);
        prop_assert_eq!(told(resumed.finish()), told(whole.finish()));
    }
}

#[test]
fn a_state_is_read_from_its_own_text_only() {
    let mut scribe = Scribe::new("UTC");
    scribe.account(Some(1), AccountKind::Agent, &[(Period::Total, 20_000)]);
    scribe.token(2, 1);
    scribe.call(2, 50, true).unwrap();
    let text = until(&scribe, &Scribe::chained(&scribe.events)).checkpoint().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(Checkpoint::parse(&text).map(|read| read.text()), Ok(text.clone()));
    let without_last = format!("{}\n", lines[..lines.len() - 1].join("\n"));
    assert!(Checkpoint::parse(&without_last).is_ok_and(|read| read.text() != text));
    for (from, to) in [("{\"was_account\"", " {\"was_account\""), ("\"epoch\":1", "\"epoch\":01"), ("\"counts\"", "\"count\"")] {
        assert!(text.contains(from) && Checkpoint::parse(&text.replace(from, to)).is_err(), "{from}");
    }
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    assert!(Checkpoint::parse(&format!("{}\n", swapped.join("\n"))).is_err());
    assert!(Checkpoint::parse("").is_err() && Checkpoint::parse(&format!("{}\n", lines[1])).is_err());
}

#[test]
fn a_state_without_its_history_still_tells_a_forged_call() {
    let mut scribe = Scribe::new("UTC");
    scribe.account(Some(1), AccountKind::Agent, &[(Period::Total, 20_000)]);
    scribe.state(2, AccountState::Paused);
    scribe.state(2, AccountState::Active);
    let held = scribe.call(2, 50, true).unwrap();
    let at = scribe.events.len();
    scribe.settle(held, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    let mut events = scribe.events.clone();
    if let Some((_, Event::CallSettled(settled))) = events.last_mut() {
        settled.charge = Pico::new(1);
    }
    let records = Scribe::chained(&events);
    let state = until(&scribe, &records[..at]).checkpoint();
    let mut resumed = Audit::resume(zones, state);
    go_on(&scribe, &mut resumed, &records[at..]);
    let broken: Vec<String> = resumed.finish_without_rows().into_iter().flat_map(|found| found.broken).collect();
    assert!(
        broken.iter().any(|what| what.contains("the charge of req_0000010000000001: is $0.000000000001, its lines come to")),
        "{broken:#?}"
    );
}
