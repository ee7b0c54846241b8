//! How a call ended, as it is seen, and what it is charged for that. Never zero for want of knowledge.

use crate::event::{Outcome, Released, Settled};
use crate::hold::Ending;
use crate::price::{Bound, Charge, ModelCard};
use crate::usage::{Bucket, Usage};

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

/// What of a stream has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of output that were relayed.
    pub bytes: u64,
    /// The provider sent an error in the stream.
    pub provider_error: bool,
    /// The usage that the provider reported last.
    pub usage: Option<Usage>,
}

impl Ended {
    /// A plain answer that was read to its end. `bytes` counts its output.
    #[must_use]
    pub fn plain(status: u16, usage: Option<Usage>, bytes: u64) -> Ended {
        match usage {
            Some(usage) => Ended::Answered { status, usage },
            None => Ended::Relayed { outcome: Outcome::NoUsage, status: Some(status), bytes, usage: None },
        }
    }

    /// An error of the provider. `in_dialect`: its body is an error in the provider's dialect.
    #[must_use]
    pub fn declined(status: u16, in_dialect: impl Fn() -> bool) -> Ended {
        match status {
            408 => Ended::Failed { status: Some(status) },
            400..=499 => Ended::Refused { status },
            500 | 503 | 529 if in_dialect() => Ended::Refused { status },
            _ => Ended::Failed { status: Some(status) },
        }
    }

    /// A plain answer that broke off. A success that nobody could read may have cost all of it.
    #[must_use]
    pub const fn unread(status: u16) -> Ended {
        let known = Some(status);
        match status {
            200..=299 => Ended::Unknown { outcome: Outcome::ProviderLeft, status: known },
            _ => Ended::Failed { status: known },
        }
    }

    /// A stream that has passed whole.
    #[must_use]
    pub fn streamed(status: u16, passed: Passed) -> Ended {
        match passed.usage {
            Some(usage) => Ended::Answered { status, usage },
            // An error in a stream, before any output, is no proof that nothing was billed.
            None if passed.provider_error && passed.bytes == 0 => Ended::Failed { status: Some(status) },
            None => Ended::Relayed { outcome: Outcome::NoUsage, status: Some(status), bytes: passed.bytes, usage: None },
        }
    }

    /// A stream that ended before its end.
    #[must_use]
    pub fn cut(status: u16, passed: Passed, outcome: Outcome) -> Ended {
        if passed.provider_error && passed.bytes == 0 && passed.usage.is_none() {
            return Ended::Failed { status: Some(status) };
        }
        Ended::Relayed { outcome, status: Some(status), bytes: passed.bytes, usage: passed.usage }
    }

    /// What a call of a bound is charged.
    #[must_use]
    pub fn ending(&self, bound: &Bound, card: &ModelCard, gateway_errors_charged: bool) -> Ending {
        match self {
            Ended::Answered { status, usage } => match card.price.as_ref().and_then(|price| Charge::of(usage, price)) {
                Some(charge) => Ending::Settle {
                    state: if charge.priced { Settled::Exact } else { Settled::Estimated },
                    lines: charge.lines,
                    outcome: Outcome::Answered,
                    status: Some(*status),
                    unknown_usage: usage.unknown.clone(),
                },
                None => Ending::worst_case(Outcome::NoUsage, Some(*status)),
            },
            Ended::Relayed { outcome, status, bytes, usage } => estimate(*outcome, *status, *bytes, usage.as_ref(), bound, card),
            Ended::Refused { status } => Ending::Release { reason: Released::Refused, status: Some(*status) },
            Ended::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
            Ended::Failed { status } if gateway_errors_charged => {
                let usage = Usage::text(bound.input_tokens, 0);
                estimated(Outcome::ProviderFailed, *status, &usage, card)
            }
            Ended::Failed { status } => Ending::Release { reason: Released::GatewayError, status: *status },
            Ended::Unknown { outcome, status } => Ending::worst_case(*outcome, *status),
        }
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
    estimated(outcome, status, &usage, card)
}

fn estimated(outcome: Outcome, status: Option<u16>, usage: &Usage, card: &ModelCard) -> Ending {
    match card.price.as_ref().and_then(|price| Charge::of(usage, price)) {
        Some(charge) => {
            Ending::Settle { state: Settled::Estimated, lines: charge.lines, outcome, status, unknown_usage: usage.unknown.clone() }
        }
        None => Ending::worst_case(outcome, status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{Line, MaxTokensField, Overhead, Price};
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
        match ended.ending(&BOUND, &card(reasoning), true) {
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
        let ending = Ended::Failed { status: None }.ending(&BOUND, &card(false), false);
        assert_eq!(ending, Ending::Release { reason: Released::GatewayError, status: None });
    }

    #[test]
    fn a_bill_that_no_amount_can_hold_is_charged_in_full_never_dropped() {
        check(&answered(Usage::text(u64::MAX, 0)), false, Some(Settled::WorstCase), &[]);
    }

    #[test]
    fn only_an_answer_that_proves_that_nothing_was_billed_counts_as_a_refusal() {
        let (spoken, silent) = (|| true, || false);
        for status in [400, 401, 404, 429, 499] {
            assert_eq!(Ended::declined(status, silent), Ended::Refused { status });
        }
        for status in [500, 503, 529] {
            assert_eq!(Ended::declined(status, spoken), Ended::Refused { status });
            assert_eq!(Ended::declined(status, silent), Ended::Failed { status: Some(status) });
        }
        for status in [302, 408, 502, 504, 599] {
            assert_eq!(Ended::declined(status, spoken), Ended::Failed { status: Some(status) });
        }
        assert_eq!(Ended::unread(502), Ended::Failed { status: Some(502) });
        assert_eq!(Ended::unread(200), Ended::Unknown { outcome: Outcome::ProviderLeft, status: Some(200) });
    }

    #[test]
    fn an_error_in_a_stream_before_any_output_costs_the_input_and_after_some_what_was_relayed() {
        let passed = |bytes, usage| Passed { bytes, provider_error: true, usage };
        let failed = Ended::Failed { status: Some(200) };
        assert_eq!(Ended::streamed(200, passed(0, None)), failed);
        assert_eq!(Ended::cut(200, passed(0, None), Outcome::ProviderLeft), failed);
        let relayed = |outcome, bytes, usage| Ended::Relayed { outcome, status: Some(200), bytes, usage };
        assert_eq!(Ended::streamed(200, passed(5, None)), relayed(Outcome::NoUsage, 5, None));
        assert_eq!(Ended::cut(200, passed(5, None), Outcome::ProviderLeft), relayed(Outcome::ProviderLeft, 5, None));
        let usage = Some(Usage::text(1, 1));
        assert_eq!(Ended::cut(200, passed(0, usage.clone()), Outcome::Cut), relayed(Outcome::Cut, 0, usage));
    }
}
