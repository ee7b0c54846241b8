//! Settlement: hands the ending of a call to the rates and the ledger. What an ending is charged is decided in core.

use super::tokens::TakenTokens;
use super::{Call, Card, Entered, Gate, Hold};
use crate::ledger::Ending;
use crate::os::failpoint;
use aex_core::books::HoldKey;
use aex_core::event::Outcome;
use aex_core::price::{Bound, Terms};
use aex_proto::value::RequestId;
use std::sync::Arc;

pub use aex_core::ended::{Ended, Passed};

/// Ends a hold. Does not wait: the end is in line before every later hold.
pub fn settle(gate: &Gate, hold: Hold, ended: Ended) {
    drop(settle_and_go_on(gate, hold, ended));
}

/// The same for a call that may be tried again: its caller.
#[must_use]
pub fn settle_and_go_on(gate: &Gate, hold: Hold, ended: Ended) -> Entered {
    let (open, entered) = hold.over();
    let ending = open.ending(&ended);
    if let (Some(ticket), Ending::Release { .. }) = (&entered.ticket, &ending) {
        ticket.free();
    }
    open.end(gate, &ended, ending);
    entered
}

/// A stream that broke off and may be charged by the tokens of what it said, once they are counted: its caller is in no rate any more,
/// its money is still held. Dropped before that, whatever the reason, it is charged by its bytes.
#[derive(Debug)]
#[must_use = "without a count it is charged by its bytes"]
pub struct Uncounted {
    gate: Gate,
    /// `None` once it is settled.
    open: Option<Open>,
    ended: Ended,
    /// The drain waits for it, and no sweep takes it for lost.
    _call: Call,
}

impl Uncounted {
    /// The end of a stream whose caller goes.
    pub fn new(gate: &Gate, hold: Hold, ended: Ended) -> Uncounted {
        let call = gate.track(hold.key.request);
        let (open, _) = hold.over();
        failpoint::reached("count.before");
        Uncounted { gate: gate.clone(), open: Some(open), ended, _call: call }
    }

    /// Settles it by so many tokens at most.
    pub fn counted(mut self, tokens: u64) {
        self.ended = self.ended.clone().counted(tokens);
    }
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let ending = open.ending(&self.ended);
            open.end(&self.gate, &self.ended, ending);
        }
    }
}

/// What of a hold its settlement needs. The caller may have gone.
#[derive(Debug)]
pub(super) struct Open {
    key: HoldKey,
    card: Arc<Card>,
    bound: Bound,
    terms: Terms,
    gateway_errors_charged: bool,
    tokens: TakenTokens,
}

impl Hold {
    /// Nothing more is sent or heard for it.
    fn over(self) -> (Open, Entered) {
        let Hold { key, card, bound, terms, gateway_errors_charged, tokens, entered, .. } = self;
        (Open { key, card, bound, terms, gateway_errors_charged, tokens }, entered)
    }
}

impl Open {
    fn ending(&self, ended: &Ended) -> Ending {
        ended.ending(&self.bound, &self.card.card, &self.terms, self.gateway_errors_charged)
    }

    fn end(self, gate: &Gate, ended: &Ended, ending: Ending) {
        warn_of_unpriced(&self, ended, &ending);
        failpoint::reached("settle.before");
        self.tokens.end(&ending);
        gate.end(self.key, ending);
        failpoint::reached("settle.after");
    }
}

/// What was charged at the dearest price for want of its own, or could not be charged at all.
fn warn_of_unpriced(hold: &Open, ended: &Ended, ending: &Ending) {
    let request = hold.key.request;
    if let Ending::Settle { unknown_usage, .. } = ending
        && !unknown_usage.is_empty()
    {
        tracing::warn!(%request, fields = ?unknown_usage, "the provider reports usage that this version does not know or models.yaml does not price");
    }
    let (Ended::Answered { usage, .. } | Ended::Relayed { usage: Some(usage), .. }) = ended else { return };
    let Some(price) = &hold.card.card.price else { return };
    let unpriced = usage.quantities.iter().filter(|(bucket, _)| price.unit(*bucket).is_none());
    let unpriced: Vec<String> = unpriced.map(|(bucket, quantity)| format!("{quantity} {}", bucket.name())).collect();
    if !unpriced.is_empty() {
        tracing::warn!(%request, ?unpriced, "models.yaml has no price for what the provider reports; it is charged at the dearest one");
    }
}

impl Gate {
    /// Ends what a request holds: the last resort of a call whose task is gone.
    pub fn end_lost(&self, request: RequestId, outcome: Outcome) {
        self.end_unknown(HoldKey { request, attempt: self.attempt_of(request) }, outcome);
    }

    /// The same by the hold's key.
    pub fn end_unknown(&self, key: HoldKey, outcome: Outcome) {
        self.end(key, Ending::worst_case(outcome, None));
    }

    fn end(&self, key: HoldKey, ending: Ending) {
        if let Err(fault) = self.ledger().end(key, ending) {
            tracing::error!(request = %key.request, %fault, "a call could not be settled; the next start charges it in full");
        }
    }
}
