//! Settlement: how a call ended, and what it is charged for that. Never zero for want of knowledge.

use super::{Gate, Hold};
use crate::ledger::Ending;
use crate::os::failpoint;
use aex_core::books::HoldKey;
use aex_core::event::{Outcome, Released, Settled};
use aex_core::price::{Bound, Charge, ModelCard};
use aex_core::usage::{Bucket, Usage};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The provider answered in full and reported what it used.
    Answered {
        /// Its status.
        status: u16,
        /// Its report. Zero usage is not missing usage: it is charged as it is.
        usage: Usage,
    },
    /// It ended with an answer that reports nothing, or not in full: charged by what was relayed and what was reported by then.
    Relayed {
        /// Why there is no full report.
        outcome: Outcome,
        /// The provider's status, when there was an answer.
        status: Option<u16>,
        /// Bytes of output that were relayed: no fewer than its visible tokens.
        bytes: u64,
        /// What the provider had reported.
        usage: Option<Usage>,
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
    if let Ended::Answered { usage, .. } = &ended
        && !usage.unknown.is_empty()
    {
        tracing::warn!(request = %hold.key.request, fields = ?usage.unknown, "the provider reports usage that this version does not know");
    }
    let ending = ending(&ended, &hold.bound, &hold.card.card, hold.gateway_errors_charged);
    failpoint::reached("settle.before");
    hold.tokens.end(&ending);
    gate.end(hold.key, ending);
    failpoint::reached("settle.after");
}

impl Gate {
    /// Ends a hold by its key: the last resort of a call whose task is gone.
    pub fn end_unknown(&self, key: HoldKey, outcome: Outcome) {
        self.end(key, worst(outcome, None));
    }

    fn end(&self, key: HoldKey, ending: Ending) {
        if let Err(fault) = self.ledger().end(key, ending) {
            tracing::error!(request = %key.request, %fault, "a call could not be settled; the next start charges it in full");
        }
    }
}

/// What a call is charged. Pure.
fn ending(ended: &Ended, bound: &Bound, card: &ModelCard, gateway_errors_charged: bool) -> Ending {
    match ended {
        Ended::Answered { status, usage } => match card.price.as_ref().and_then(|price| Charge::of(usage, price)) {
            Some(charge) => Ending::Settle {
                state: if charge.priced { Settled::Exact } else { Settled::Estimated },
                lines: charge.lines,
                outcome: Outcome::Answered,
                status: Some(*status),
                unknown_usage: usage.unknown.clone(),
            },
            None => worst(Outcome::NoUsage, Some(*status)),
        },
        Ended::Relayed { outcome, status, bytes, usage } => estimate(*outcome, *status, *bytes, usage.as_ref(), bound, card),
        Ended::Refused { status } => Ending::Release { reason: Released::Refused, status: Some(*status) },
        Ended::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
        Ended::Failed { status } if gateway_errors_charged => {
            let usage = Usage::text(bound.input_tokens, 0);
            charged(Settled::Estimated, Outcome::ProviderFailed, *status, &usage, card)
        }
        Ended::Failed { status } => Ending::Release { reason: Released::GatewayError, status: *status },
        Ended::Unknown { outcome, status } => worst(*outcome, *status),
    }
}

/// By bytes: no token is shorter, so the bound is the ceiling. What the provider has reported counts in full, whatever the bound.
/// A model that thinks before it answers may have used what nobody saw: it is charged in full.
fn estimate(outcome: Outcome, status: Option<u16>, bytes: u64, reported: Option<&Usage>, bound: &Bound, card: &ModelCard) -> Ending {
    let mut usage = reported.cloned().unwrap_or_default();
    let input: u64 =
        usage.quantities.iter().filter(|(bucket, _)| bucket.is_input()).map(|(_, quantity)| *quantity).fold(0, u64::saturating_add);
    if input == 0 {
        usage.add(Bucket::Input, bound.input_tokens);
    }
    let unseen = if card.reasoning { bound.output_tokens } else { bytes.min(bound.output_tokens) };
    let reported_output = usage.get(Bucket::Output).saturating_add(usage.get(Bucket::AudioOutput));
    usage.add(Bucket::Output, unseen.saturating_sub(reported_output));
    charged(Settled::Estimated, outcome, status, &usage, card)
}

fn charged(state: Settled, outcome: Outcome, status: Option<u16>, usage: &Usage, card: &ModelCard) -> Ending {
    match card.price.as_ref().and_then(|price| Charge::of(usage, price)) {
        Some(charge) => Ending::Settle { state, lines: charge.lines, outcome, status, unknown_usage: usage.unknown.clone() },
        None => worst(outcome, status),
    }
}

fn worst(outcome: Outcome, status: Option<u16>) -> Ending {
    Ending::Settle { state: Settled::WorstCase, lines: Vec::new(), outcome, status, unknown_usage: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::price::{Line, MaxTokensField, Overhead, Price};
    use aex_proto::value::Pico;

    const BOUND: Bound = Bound { amount: Pico::new(200 + 150), input_tokens: 100, output_tokens: 50 };

    fn card(reasoning: bool) -> ModelCard {
        let price = Price {
            audio_input: None,
            audio_output: None,
            cache_write: None,
            cached_input: None,
            call: None,
            input: Pico::new(2),
            output: Pico::new(3),
        };
        ModelCard {
            context_tokens: None,
            max_tokens: 50,
            max_tokens_field: MaxTokensField::MaxTokens,
            max_tokens_per_minute: None,
            name: "m".to_owned(),
            overhead: Overhead::WIDEST,
            price: Some(price),
            provider: "p".to_owned(),
            provider_model: "m".to_owned(),
            reasoning,
            tools: true,
            vision: false,
        }
    }

    fn check(ended: &Ended, reasoning: bool, state: Option<Settled>, lines: &[Line]) {
        match ending(ended, &BOUND, &card(reasoning), true) {
            Ending::Settle { state: got, lines: charged, .. } => assert_eq!((Some(got), charged.as_slice()), (state, lines), "{ended:?}"),
            Ending::Release { .. } => assert_eq!(state, None, "{ended:?}"),
        }
    }

    fn input(tokens: u64) -> Line {
        Line(Bucket::Input, tokens, Pico::new(2))
    }

    fn output(tokens: u64) -> Line {
        Line(Bucket::Output, tokens, Pico::new(3))
    }

    fn left(bytes: u64, usage: Option<Usage>) -> Ended {
        Ended::Relayed { outcome: Outcome::ClientLeft, status: Some(200), bytes, usage }
    }

    fn answered(usage: Usage) -> Ended {
        Ended::Answered { status: 200, usage }
    }

    #[test]
    fn each_end_has_its_charge_and_only_proof_releases() {
        check(&answered(Usage::text(7, 5)), false, Some(Settled::Exact), &[input(7), output(5)]);
        check(&answered(Usage::default()), false, Some(Settled::Exact), &[]);
        check(&left(20, None), false, Some(Settled::Estimated), &[input(100), output(20)]);
        check(&left(9_999, None), false, Some(Settled::Estimated), &[input(100), output(50)]);
        check(&Ended::Failed { status: Some(502) }, false, Some(Settled::Estimated), &[input(100)]);
        check(&Ended::Unknown { outcome: Outcome::Panic, status: None }, false, Some(Settled::WorstCase), &[]);
        check(&Ended::Refused { status: 400 }, false, None, &[]);
        check(&Ended::NeverSent, false, None, &[]);
    }

    #[test]
    fn what_was_reported_before_a_stream_broke_off_counts_even_beyond_the_bound() {
        check(&left(3, Some(Usage::text(9, 5_000))), false, Some(Settled::Estimated), &[input(9), output(5_000)]);
        check(&left(40, Some(Usage::text(9, 2))), false, Some(Settled::Estimated), &[input(9), output(40)]);
    }

    #[test]
    fn thoughts_that_nobody_saw_are_charged_in_full() {
        check(&left(3, None), true, Some(Settled::Estimated), &[input(100), output(50)]);
    }

    #[test]
    fn gateway_errors_are_free_only_when_the_configuration_says_so() {
        let ending = ending(&Ended::Failed { status: None }, &BOUND, &card(false), false);
        assert_eq!(ending, Ending::Release { reason: Released::GatewayError, status: None });
    }

    #[test]
    fn a_bill_that_no_amount_can_hold_is_charged_in_full_never_dropped() {
        check(&answered(Usage::text(u64::MAX, 0)), false, Some(Settled::WorstCase), &[]);
    }
}
