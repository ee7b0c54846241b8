//! Settlement: hands the ending of a call to the rates and the ledger. What an ending is charged is decided in core.

use super::{Entered, Gate, Hold};
use crate::ledger::Ending;
use crate::os::failpoint;
use aex_core::books::HoldKey;
use aex_core::event::Outcome;
use aex_proto::value::RequestId;

pub use aex_core::ended::{Ended, Passed};

/// Ends a hold. Does not wait: the end is in line before every later hold.
pub fn settle(gate: &Gate, hold: Hold, ended: Ended) {
    drop(settle_and_go_on(gate, hold, ended));
}

/// The same for a call that may be tried again: its caller.
#[must_use]
pub fn settle_and_go_on(gate: &Gate, hold: Hold, ended: Ended) -> Entered {
    let ending = ended.ending(&hold.bound, &hold.card.card, &hold.terms, hold.gateway_errors_charged);
    warn_of_unpriced(&hold, &ended, &ending);
    failpoint::reached("settle.before");
    hold.tokens.end(&ending);
    if let (Some(ticket), Ending::Release { .. }) = (&hold.entered.ticket, &ending) {
        ticket.free();
    }
    gate.end(hold.key, ending);
    failpoint::reached("settle.after");
    hold.entered
}

/// What was charged at the dearest price for want of its own, or could not be charged at all.
fn warn_of_unpriced(hold: &Hold, ended: &Ended, ending: &Ending) {
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
