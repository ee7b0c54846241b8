//! The attempts of one call, in order: where each went, and why it ended.

use super::{name, seen};
use crate::event::{CallDenied, CallHeld, Event, Skipped};
use crate::verify::{Audit, Record};
use aex_proto::explain::AttemptTold;
use aex_proto::value::Pico;

/// An attempt: `call.held`, and how it ended.
pub type Attempt = (Record, Option<Record>);

/// Tells them. Empty for a call that was tried once, and went where it was to go.
pub(super) fn attempts(chain: &[Attempt], unmet: Option<&Record>, audit: &Audit) -> Vec<AttemptTold> {
    let held = |record: &Record| serde_json::from_str::<CallHeld>(&record.body).ok();
    let is_plain = chain.len() < 2 && chain.iter().all(|(first, _)| held(first).is_none_or(|held| held.skipped.is_empty()));
    if is_plain && unmet.is_none() {
        return Vec::new();
    }
    let mut told = Vec::new();
    for (record, end) in chain {
        let Some(held) = held(record) else { continue };
        told.extend(held.skipped.iter().map(|skipped| passed_over(skipped, Vec::new())));
        told.push(attempt(&held, record, end.as_ref(), audit));
    }
    if let Some(record) = unmet
        && let Ok(denied) = serde_json::from_str::<CallDenied>(&record.body)
    {
        let model = denied.ask.map(|ask| ask.model).unwrap_or_default();
        told.push(passed_over(&Skipped { model, rule: denied.rule }, vec![seen(record)]));
    }
    told
}

fn attempt(held: &CallHeld, record: &Record, end: Option<&Record>, audit: &Audit) -> AttemptTold {
    let (mut state, mut outcome, mut status, mut charge) = ("in_flight".to_owned(), None, None, Pico::ZERO);
    match end.and_then(|end| Event::parse(&end.kind, &end.body).ok()) {
        Some(Event::CallReleased(released)) => {
            (state, outcome, status) = ("released".to_owned(), Some(name(&released.reason)), released.status);
        }
        Some(Event::CallSettled(settled)) => {
            (state, outcome, status) = (settled.state.name().to_owned(), Some(name(&settled.outcome)), settled.status);
            charge = settled.charge;
        }
        _ => {}
    }
    AttemptTold {
        attempt: Some(held.attempt),
        charge_pico: charge,
        charge_usd: charge.usd(),
        events: [Some(record), end].into_iter().flatten().map(seen).collect(),
        held_pico: held.amount,
        held_usd: held.amount.usd(),
        model: held.ask.model.clone(),
        outcome,
        provider: audit.card(&held.card).map(|card| card.provider.clone()),
        state,
        status,
    }
}

fn passed_over(skipped: &Skipped, events: Vec<aex_proto::explain::EventSeen>) -> AttemptTold {
    AttemptTold {
        attempt: None,
        charge_pico: Pico::ZERO,
        charge_usd: Pico::ZERO.usd(),
        events,
        held_pico: Pico::ZERO,
        held_usd: Pico::ZERO.usd(),
        model: skipped.model.clone(),
        outcome: Some(skipped.rule.clone()),
        provider: None,
        state: "passed_over".to_owned(),
        status: None,
    }
}
