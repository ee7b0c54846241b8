//! Settlement: how a call ended, and what it is charged for that. Never zero for want of knowledge.

use super::{Gate, Hold};
use crate::ledger::Ending;
use aex_core::books::HoldKey;
use aex_core::event::{Outcome, Released, Settled};
use aex_core::price::{Bound, Charge, Price};
use aex_core::usage::Usage;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The provider answered and reported what it used.
    Answered {
        /// Its status.
        status: u16,
        /// Its report.
        usage: Usage,
    },
    /// It ended with an answer that reports nothing, or not in full: charged by what was relayed.
    Relayed {
        /// Why there is no report.
        outcome: Outcome,
        /// The provider's status, when there was an answer.
        status: Option<u16>,
        /// Bytes of output that were relayed: no fewer than its visible tokens.
        bytes: u64,
    },
    /// The provider refused it: nothing is billed.
    Refused {
        /// Its status.
        status: u16,
    },
    /// It never left the daemon.
    NeverSent,
    /// It failed on the way, without proof that nothing was billed: charged for its input.
    Failed {
        /// The status of the answer, when there was one.
        status: Option<u16>,
    },
    /// Nobody knows what it used: charged in full.
    Unknown {
        /// Why.
        outcome: Outcome,
        /// The provider's status, when there was an answer.
        status: Option<u16>,
    },
}

/// Ends a hold. Does not wait: the end is in line before every later hold.
pub fn settle(gate: &Gate, hold: Hold, ended: Ended) {
    let charged = gate.active().config.settings.charge_on_gateway_error.value;
    let ending = ending(&ended, &hold.bound, hold.card.card.price.as_ref(), charged);
    if let Ended::Answered { usage, .. } = &ended
        && !usage.unknown.is_empty()
    {
        tracing::warn!(request = %hold.key.request, fields = ?usage.unknown, "the provider reports usage that this version does not know");
    }
    gate.end(hold.key, ending);
}

impl Gate {
    /// Ends a hold by its key: the last resort of a call whose task is gone.
    pub fn end_unknown(&self, key: HoldKey, outcome: Outcome) {
        self.end(key, Ending::Settle { state: Settled::WorstCase, lines: Vec::new(), outcome, status: None, unknown_usage: Vec::new() });
    }

    fn end(&self, key: HoldKey, ending: Ending) {
        if let Err(fault) = self.ledger().end(key, ending) {
            tracing::error!(request = %key.request, %fault, "a call could not be settled; the next start charges it in full");
        }
    }
}

/// What a call is charged. Pure.
fn ending(ended: &Ended, bound: &Bound, price: Option<&Price>, gateway_errors_charged: bool) -> Ending {
    let worst =
        |outcome, status| Ending::Settle { state: Settled::WorstCase, lines: Vec::new(), outcome, status, unknown_usage: Vec::new() };
    let estimate = |outcome, status, bytes: u64| {
        // By bytes: no token is shorter. The bound is the ceiling of both.
        let usage = Usage::text(bound.input_tokens, bytes.min(bound.output_tokens));
        match price.and_then(|price| Charge::of(&usage, price)) {
            Some(charge) => Ending::Settle { state: Settled::Estimated, lines: charge.lines, outcome, status, unknown_usage: Vec::new() },
            None => worst(outcome, status),
        }
    };
    match ended {
        Ended::Answered { status, usage } => match price.and_then(|price| Charge::of(usage, price)) {
            Some(charge) => Ending::Settle {
                state: Settled::Exact,
                lines: charge.lines,
                outcome: Outcome::Answered,
                status: Some(*status),
                unknown_usage: usage.unknown.clone(),
            },
            None => worst(Outcome::NoUsage, Some(*status)),
        },
        Ended::Relayed { outcome, status, bytes } => estimate(*outcome, *status, *bytes),
        Ended::Refused { status } => Ending::Release { reason: Released::Refused, status: Some(*status) },
        Ended::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
        Ended::Failed { status } if gateway_errors_charged => estimate(Outcome::ProviderFailed, *status, 0),
        Ended::Failed { status } => Ending::Release { reason: Released::GatewayError, status: *status },
        Ended::Unknown { outcome, status } => worst(*outcome, *status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::price::Line;
    use aex_core::usage::Bucket;
    use aex_proto::value::Pico;

    const PRICE: Price = Price {
        audio_input: None,
        audio_output: None,
        cache_write: None,
        cached_input: None,
        call: None,
        input: Pico::new(2),
        output: Pico::new(3),
    };
    const BOUND: Bound = Bound { amount: Pico::new(200 + 150), input_tokens: 100, output_tokens: 50 };

    fn check(ended: &Ended, state: Option<Settled>, lines: &[Line]) {
        match ending(ended, &BOUND, Some(&PRICE), true) {
            Ending::Settle { state: got, lines: charged, .. } => assert_eq!((Some(got), charged.as_slice()), (state, lines), "{ended:?}"),
            Ending::Release { .. } => assert_eq!(state, None, "{ended:?}"),
        }
    }

    #[test]
    fn each_end_has_its_charge_and_only_proof_releases() {
        let input = |n| Line(Bucket::Input, n, Pico::new(2));
        let output = |n| Line(Bucket::Output, n, Pico::new(3));
        check(&Ended::Answered { status: 200, usage: Usage::text(7, 5) }, Some(Settled::Exact), &[input(7), output(5)]);
        check(&Ended::Answered { status: 200, usage: Usage::default() }, Some(Settled::Exact), &[]);
        let left = |bytes| Ended::Relayed { outcome: Outcome::ClientLeft, status: Some(200), bytes };
        check(&left(20), Some(Settled::Estimated), &[input(100), output(20)]);
        check(&left(9_999), Some(Settled::Estimated), &[input(100), output(50)]);
        check(&Ended::Failed { status: Some(502) }, Some(Settled::Estimated), &[input(100)]);
        check(&Ended::Unknown { outcome: Outcome::Panic, status: None }, Some(Settled::WorstCase), &[]);
        check(&Ended::Refused { status: 400 }, None, &[]);
        check(&Ended::NeverSent, None, &[]);
    }

    #[test]
    fn gateway_errors_are_free_only_when_the_configuration_says_so() {
        let ending = ending(&Ended::Failed { status: None }, &BOUND, Some(&PRICE), false);
        assert_eq!(ending, Ending::Release { reason: Released::GatewayError, status: None });
    }

    #[test]
    fn a_bill_that_no_amount_can_hold_is_charged_in_full_never_dropped() {
        check(&Ended::Answered { status: 200, usage: Usage::text(u64::MAX, 0) }, Some(Settled::WorstCase), &[]);
    }
}
