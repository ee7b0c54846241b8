//! Each end has its charge.

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
    for (thinks, hidden, tokens) in [(true, Some(0), 3), (true, Some(20), 23), (true, Some(999), 50), (true, None, 50), (false, None, 3)] {
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
