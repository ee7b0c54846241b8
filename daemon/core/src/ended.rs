//! How a call ended, as it is seen, and what it is charged for that. Never zero for want of knowledge.

use crate::canon;
use crate::event::{Outcome, Relayed, Released, Settled};
use crate::hold::Ending;
use crate::price::{Bound, Charge, HostedCalls, ModelCard, Price, Step, Terms};
use crate::usage::{Bucket, Usage};
use aex_proto::value::Pico;

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
        /// The output that was relayed.
        relayed: Relayed,
        /// The provider's dialect tells that nothing was written unseen by then.
        shows_all: bool,
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
    /// The provider's dialect tells that all which was written by then has passed: nothing was thought unseen.
    pub shows_all: bool,
    /// The usage that the provider reported last.
    pub usage: Option<Usage>,
}

impl Ended {
    /// A plain answer that was read to its end. `bytes` counts its output.
    #[must_use]
    pub fn plain(status: u16, usage: Option<Usage>, bytes: u64) -> Ended {
        match usage {
            Some(usage) => Ended::Answered { status, usage },
            None => Ended::relayed(Outcome::NoUsage, Some(status), bytes, None),
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
            None => Ended::relayed(Outcome::NoUsage, Some(status), passed.bytes, None),
        }
    }

    /// A stream that ended before its end.
    #[must_use]
    pub fn cut(status: u16, passed: Passed, outcome: Outcome) -> Ended {
        if passed.provider_error && passed.bytes == 0 && passed.usage.is_none() {
            return Ended::Failed { status: Some(status) };
        }
        match Ended::relayed(outcome, Some(status), passed.bytes, passed.usage) {
            Ended::Relayed { outcome, status, relayed, usage, .. } => {
                Ended::Relayed { outcome, status, relayed, shows_all: passed.shows_all, usage }
            }
            other => other,
        }
    }

    /// Output by its bytes, and what was reported by then.
    #[must_use]
    pub const fn relayed(outcome: Outcome, status: Option<u16>, bytes: u64, usage: Option<Usage>) -> Ended {
        Ended::Relayed { outcome, status, relayed: Relayed::bytes(bytes), shows_all: false, usage }
    }

    /// The same with the tokens of the output, at most, where they matter.
    #[must_use]
    pub fn counted(self, tokens: u64) -> Ended {
        match self {
            Ended::Relayed { outcome, status, relayed: Relayed { bytes, .. }, shows_all, usage } => {
                Ended::Relayed { outcome, status, relayed: Relayed { bytes, tokens: Some(tokens.min(bytes)) }, shows_all, usage }
            }
            other => other,
        }
    }

    /// What a call of a bound is charged.
    #[must_use]
    pub fn ending(&self, bound: &Bound, card: &ModelCard, terms: &Terms, gateway_errors_charged: bool) -> Ending {
        match self {
            Ended::Answered { status, usage } => match charge(usage, card, terms) {
                Some(Priced { charge, is_told, price }) => {
                    let state = if charge.priced && is_told { Settled::Exact } else { Settled::Estimated };
                    let why = Why { outcome: Outcome::Answered, relayed: None, status: Some(*status) };
                    settle(state, charge, why, usage, price)
                }
                None => Ending::worst_case(Outcome::NoUsage, Some(*status)),
            },
            Ended::Relayed { outcome, status, relayed, shows_all, usage } => {
                let hidden = if *shows_all { Some(0) } else { terms.hidden };
                let used = seen(*relayed, usage.as_ref(), bound, terms.step, hidden);
                // Where it may have written anything unseen, the charge does not rest on what was relayed.
                let relayed = hidden.map(|_| *relayed);
                estimated(Why { outcome: *outcome, relayed, status: *status }, &used, card, terms)
            }
            Ended::Refused { status } => Ending::Release { reason: Released::Refused, status: Some(*status) },
            Ended::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
            Ended::Failed { status } if gateway_errors_charged => {
                // No tool is known to have run, so no step behind the first was made.
                let usage = Usage::text(terms.step.map_or(bound.input_tokens, |step| step.first.min(bound.input_tokens)), 0);
                let terms = Terms { tools: Vec::new(), ..terms.clone() };
                estimated(Why { outcome: Outcome::ProviderFailed, relayed: None, status: *status }, &usage, card, &terms)
            }
            Ended::Failed { status } => Ending::Release { reason: Released::GatewayError, status: *status },
            Ended::Unknown { outcome, status } => Ending::worst_case(*outcome, *status),
        }
    }
}

/// What a call used that has no full report. By tokens where they were counted, else by bytes: no token is shorter. The bound is the ceiling. What the provider has reported
/// counts in full, whatever the bound. Of input that nobody reported one step counts: that the tools of the provider made the model
/// read it again is not known, and before any output the request is all that it had read.
///
/// A model that thinks before it answers may have used what nobody saw: that is charged as far as the request lets it.
fn seen(relayed: Relayed, reported: Option<&Usage>, bound: &Bound, step: Option<Step>, hidden: Option<u64>) -> Usage {
    let mut usage = reported.cloned().unwrap_or_default();
    if usage.input_tokens() == 0 {
        let begun = relayed.bytes > 0 || reported.is_some();
        let step = step.map_or(bound.input_tokens, |step| if begun { step.any } else { step.first });
        usage.add(Bucket::Input, step.min(bound.input_tokens));
    }
    let hidden = hidden.unwrap_or(bound.output_tokens);
    let written = relayed.counts().saturating_add(hidden).min(bound.output_tokens);
    usage.add(Bucket::Output, written.saturating_sub(usage.output_tokens()));
    // Tools may have run that an earlier report does not have.
    usage.told.clear();
    usage
}

struct Priced<'a> {
    charge: Charge,
    /// All that was used was told.
    is_told: bool,
    price: &'a Price,
}

/// The price of what was used. A report that is silent on tools which cost something is taken for one of as many calls as they may make.
fn charge<'a>(usage: &Usage, card: &'a ModelCard, terms: &Terms) -> Option<Priced<'a>> {
    let price = card.price.as_ref()?;
    let silent =
        |tool: &&HostedCalls| !usage.told.contains(&tool.tool) && usage.get(Bucket::Tool(tool.tool)) < tool.calls && tool.unit > Pico::ZERO;
    let untold: Vec<&HostedCalls> = terms.tools.iter().filter(silent).collect();
    if untold.is_empty() {
        return Some(Priced { charge: Charge::asked(usage, price, terms.tier.as_deref())?, is_told: true, price });
    }
    let mut usage = usage.clone();
    for tool in untold {
        let bucket = Bucket::Tool(tool.tool);
        usage.add(bucket, tool.calls.saturating_sub(usage.get(bucket)));
    }
    Some(Priced { charge: Charge::asked(&usage, price, terms.tier.as_deref())?, is_told: false, price })
}

/// What an event says of an end beside its charge.
struct Why {
    outcome: Outcome,
    relayed: Option<Relayed>,
    status: Option<u16>,
}

fn estimated(why: Why, usage: &Usage, card: &ModelCard, terms: &Terms) -> Ending {
    match charge(usage, card, terms) {
        Some(Priced { charge, price, .. }) => settle(Settled::Estimated, charge, why, usage, price),
        None => Ending::worst_case(why.outcome, why.status),
    }
}

fn settle(state: Settled, charge: Charge, why: Why, usage: &Usage, price: &Price) -> Ending {
    let Why { outcome, relayed, status } = why;
    let Charge { lines, tier, .. } = charge;
    let mut unknown_usage = usage.unknown.clone();
    if let Some(unpriced) = tier.as_ref().filter(|tier| !price.tiers.contains_key(tier.as_str())) {
        unknown_usage.push(("service_tier".to_owned(), canon::text(unpriced)));
    }
    Ending::Settle { state, lines, outcome, relayed, status, tier, unknown_usage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Ask;
    use crate::price::{self, Line, MaxTokensField, Overhead, ToolPrice};
    use crate::usage::ToolName;

    const BOUND: Bound = Bound { amount: Pico::new(200 + 150), input_tokens: 100, output_tokens: 50 };

    fn card(reasoning: bool) -> ModelCard {
        let price = Price::of(Pico::new(2), Pico::new(3));
        ModelCard {
            context_tokens: None,
            drop_tools: Vec::new(),
            max_tokens: 50,
            max_tokens_field: MaxTokensField::MaxTokens,
            max_tokens_per_minute: None,
            name: "m".to_owned(),
            overhead: Overhead::WIDEST,
            price: Some(price),
            provider: "p".to_owned(),
            provider_model: "m".to_owned(),
            reasoning,
            tokenizer: None,
            tools: true,
            vision: false,
        }
    }

    fn terms(thinks: bool) -> Terms {
        Terms { hidden: (!thinks).then_some(0), ..Terms::default() }
    }

    fn check(ended: &Ended, reasoning: bool, state: Option<Settled>, lines: &[Line]) {
        match ended.ending(&BOUND, &card(reasoning), &terms(reasoning), true) {
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
        Ended::relayed(Outcome::ClientLeft, Some(200), bytes, usage)
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
    fn what_was_relayed_counts_by_its_tokens_where_they_are_known_and_never_beyond_its_bytes() {
        check(&left(20, None).counted(6), false, Some(Settled::Estimated), &[input(100), output(6)]);
        check(&left(20, None).counted(21), false, Some(Settled::Estimated), &[input(100), output(20)]);
        check(&left(9_999, None).counted(60), false, Some(Settled::Estimated), &[input(100), output(50)]);
        // A report of more counts, and so do thoughts.
        check(&left(20, Some(Usage::text(9, 8))).counted(6), false, Some(Settled::Estimated), &[input(9), output(8)]);
        check(&left(20, None).counted(6), true, Some(Settled::Estimated), &[input(100), output(50)]);
        // What needs no estimate stays.
        check(&answered(Usage::text(7, 5)).counted(1), false, Some(Settled::Exact), &[input(7), output(5)]);
    }

    #[test]
    fn an_estimate_tells_the_output_that_it_rests_on() {
        let told = |ended: &Ended, reasoning| match ended.ending(&BOUND, &card(reasoning), &terms(reasoning), true) {
            Ending::Settle { relayed, .. } => relayed,
            Ending::Release { .. } => panic!("{ended:?}"),
        };
        assert_eq!(told(&left(20, None), false), Some(Relayed { bytes: 20, tokens: None }));
        assert_eq!(told(&left(20, None).counted(6), false), Some(Relayed { bytes: 20, tokens: Some(6) }));
        // Its charge does not rest on that.
        assert_eq!(told(&left(20, None), true), None);
        assert_eq!(told(&answered(Usage::text(7, 5)), false), None);
        assert_eq!(told(&Ended::Failed { status: None }, false), None);
    }

    #[test]
    fn thoughts_that_nobody_saw_are_charged_as_far_as_the_request_lets_the_model_think() {
        check(&left(3, None), true, Some(Settled::Estimated), &[input(100), output(50)]);
        for (thinks, hidden, tokens) in
            [(true, Some(0), 3), (true, Some(20), 23), (true, Some(999), 50), (true, None, 50), (false, None, 3)]
        {
            let card = card(thinks);
            let ask = Ask { hidden_tokens: hidden, messages: 1, choices: 1, ..Ask::default() };
            let terms = Terms { step: None, ..Terms::of(&ask, &card) };
            let Ending::Settle { lines, relayed, .. } = left(3, None).ending(&BOUND, &card, &terms, true) else { panic!("{hidden:?}") };
            assert_eq!(lines, [input(100), output(tokens)], "{hidden:?}");
            assert_eq!(relayed.is_some(), !thinks || hidden.is_some(), "{hidden:?}");
        }
    }

    #[test]
    fn gateway_errors_are_free_only_when_the_configuration_says_so() {
        let ending = Ended::Failed { status: None }.ending(&BOUND, &card(false), &Terms::default(), false);
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
        let passed = |bytes, usage| Passed { bytes, provider_error: true, shows_all: false, usage };
        let failed = Ended::Failed { status: Some(200) };
        assert_eq!(Ended::streamed(200, passed(0, None)), failed);
        assert_eq!(Ended::cut(200, passed(0, None), Outcome::ProviderLeft), failed);
        let relayed = |outcome, bytes, usage| Ended::relayed(outcome, Some(200), bytes, usage);
        assert_eq!(Ended::streamed(200, passed(5, None)), relayed(Outcome::NoUsage, 5, None));
        assert_eq!(Ended::cut(200, passed(5, None), Outcome::ProviderLeft), relayed(Outcome::ProviderLeft, 5, None));
        let usage = Some(Usage::text(1, 1));
        assert_eq!(Ended::cut(200, passed(0, usage.clone()), Outcome::Cut), relayed(Outcome::Cut, 0, usage));
    }

    /// A search costs 100; the ask allows two.
    #[test]
    fn a_report_that_is_silent_on_tools_is_charged_for_all_calls_that_they_may_make() {
        let tool = ToolName::new("web_search").unwrap();
        let terms = Terms { step: None, tier: None, hidden: Some(0), tools: vec![HostedCalls { tool, calls: 2, unit: Pico::new(100) }] };
        let mut searching = card(false);
        let price = searching.price.as_mut().unwrap();
        price.tools.insert("web_search".to_owned(), ToolPrice { max_calls: None, per_call: Pico::new(100) });
        let settled = |ended: &Ended, terms: &Terms| match ended.ending(&BOUND, &searching, terms, true) {
            Ending::Settle { state, lines, .. } => (state, lines),
            Ending::Release { .. } => panic!("{ended:?}"),
        };
        let searches = |count| Line(Bucket::Tool(tool), count, Pico::new(100));
        let mut told = Usage::text(7, 5);
        told.add_calls(tool, 0);
        assert_eq!(settled(&answered(told.clone()), &terms), (Settled::Exact, vec![input(7), output(5)]));
        let mut one = told.clone();
        one.add(Bucket::Tool(tool), 1);
        assert_eq!(settled(&answered(one.clone()), &terms), (Settled::Exact, vec![input(7), output(5), searches(1)]));
        let silent = Usage { told: Vec::new(), ..one.clone() };
        assert_eq!(settled(&answered(silent), &terms), (Settled::Estimated, vec![input(7), output(5), searches(2)]));
        // What is told in mid-stream may not be all of it.
        assert_eq!(settled(&left(3, Some(one)), &terms), (Settled::Estimated, vec![input(7), output(5), searches(2)]));
        assert_eq!(settled(&Ended::Failed { status: None }, &terms), (Settled::Estimated, vec![input(100)]));
        // Nothing was offered.
        assert_eq!(settled(&answered(Usage::text(7, 5)), &Terms::default()), (Settled::Exact, vec![input(7), output(5)]));
    }

    /// A search, which may be called twice, has the model read its context up to three times: the bound holds all of that.
    #[test]
    fn input_that_nobody_reported_counts_for_one_step() {
        let tool = ToolName::new("web_search").unwrap();
        let mut searching =
            ModelCard { context_tokens: Some(8_000), overhead: Overhead { message: 0, request: 0, tool: 0, tools: 0 }, ..card(false) };
        searching.price.as_mut().unwrap().tools.insert("web_search".to_owned(), ToolPrice { max_calls: Some(2), per_call: Pico::new(0) });
        let plain = Ask { body_bytes: 100, ..Ask::default() };
        let mut hosted = plain.clone();
        hosted.offer_hosted("web_search".to_owned(), None);
        let seeing = Ask { images: 1, ..plain.clone() };
        let check = |ask: &Ask, bound_input: u64, ended: &Ended, tokens: u64| {
            let bound = price::bound(ask, &searching, 50).unwrap();
            assert_eq!(bound.input_tokens, bound_input);
            match ended.ending(&bound, &searching, &Terms::of(ask, &searching), true) {
                Ending::Settle { state: Settled::Estimated, lines, .. } => assert_eq!(lines.first(), Some(&input(tokens)), "{ended:?}"),
                other => panic!("{other:?}"),
            }
        };
        let failed = Ended::Failed { status: Some(502) };
        check(&plain, 100, &failed, 100);
        check(&plain, 100, &left(20, None), 100);
        check(&hosted, 24_000, &failed, 100);
        check(&hosted, 24_000, &left(0, None), 100);
        // What a search found may be in what was read before the answer.
        check(&hosted, 24_000, &left(20, None), 8_000);
        check(&seeing, 8_000, &failed, 8_000);
        check(&seeing, 8_000, &left(0, None), 8_000);
        // What was reported counts.
        check(&hosted, 24_000, &left(20, Some(Usage::text(9_000, 1))), 9_000);
        assert_eq!(Terms::of(&hosted, &searching).tools, [HostedCalls { tool, calls: 2, unit: Pico::new(0) }]);
    }
}
