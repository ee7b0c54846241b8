//! Providers that fail, at every point of a call: what the client sees, and how the call is charged.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::usage::Bucket;
use aex_tests::client::{Answer, End};
use aex_tests::house::House;
use aex_tests::ledger::{self, Call, settled_and_audited};
use aex_tests::provider::{At, Cut, How, Script, Usage};
use aex_tests::refusal::{self, upstream};
use serde_json::{Value, json};

/// One way to fail.
struct Row<'a> {
    name: &'a str,
    script: Script,
    status: u16,
    end: End,
    /// A piece of the body.
    says: &'a str,
    /// How the ledger tells the call's end.
    story: &'a str,
}

#[track_caller]
fn check(house: &mut House, stream: bool, row: &Row<'_>) -> (Answer, Call) {
    let (answer, call) = house.call(stream, row.script.clone());
    assert_eq!((answer.status, answer.end), (row.status, row.end), "{}: {answer}", row.name);
    assert!(answer.text().contains(row.says), "{}: {answer}", row.name);
    assert_eq!(call.story(), row.story, "{}: {call:?}", row.name);
    (answer, call)
}

const ERROR: &str = r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#;

fn cut(at: At, how: How) -> Script {
    Script { cut: Some(Cut { at, how }), ..Script::default() }
}

#[test]
fn a_provider_that_fails_before_its_answer_is_charged_by_what_its_status_proves() {
    let mut house = House::new(|config| config);
    let status = |status, body: &str| Script { body: Some(body.to_owned()), ..Script::error(status) };
    let rows = [
        (400, ERROR, "released refused"),
        (401, ERROR, "released refused"),
        (404, "<html>", "released refused"),
        (408, ERROR, "estimated provider_failed"),
        (413, "", "released refused"),
        (429, ERROR, "released refused"),
        (429, "slow down", "released refused"),
        (500, ERROR, "released refused"),
        (500, "<html>oops</html>", "estimated provider_failed"),
        (501, ERROR, "estimated provider_failed"),
        (502, ERROR, "estimated provider_failed"),
        (503, ERROR, "released refused"),
        (503, "", "estimated provider_failed"),
        (504, ERROR, "estimated provider_failed"),
        (529, ERROR, "released refused"),
        (529, "overloaded", "estimated provider_failed"),
    ];
    for (code, body, story) in rows {
        for stream in [false, true] {
            let row = Row { name: body, script: status(code, body), status: code, end: End::Complete, says: body, story };
            let (_, call) = check(&mut house, stream, &row);
            if story.starts_with("estimated") {
                assert_eq!((call.quantity(Bucket::Input), call.quantity(Bucket::Output)), (call.held.input_tokens, 0));
            }
        }
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn gateway_errors_are_free_where_the_configuration_says_so() {
    let mut house = House::new(|config| config.aexd_yaml("charge_on_gateway_error: false\n"));
    let story = "released gateway_error";
    for status in [408, 502, 504] {
        let row = Row { name: "status", script: Script::error(status), status, end: End::Complete, says: "error", story };
        check(&mut house, false, &row);
    }
    for how in [How::Reset, How::Close] {
        check(
            &mut house,
            false,
            &Row { name: "cut", script: cut(At::Head, how), status: 502, end: End::Complete, says: "upstream_error", story },
        );
    }
    // What is proven stays what it is, and a stream that began is charged.
    let refused =
        Row { name: "refused", script: Script::error(500), status: 500, end: End::Complete, says: "error", story: "released refused" };
    check(&mut house, false, &refused);
    let began = Row {
        name: "began",
        script: cut(At::Chunk(2), How::Reset),
        status: 200,
        end: End::Broken,
        says: "error",
        story: "estimated provider_left",
    };
    check(&mut house, true, &began);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_provider_that_is_gone_before_its_first_byte_is_charged_for_the_input() {
    let mut house = House::new(|config| config);
    for how in [How::Reset, How::Close] {
        for stream in [false, true] {
            let row = Row {
                name: "gone",
                script: cut(At::Head, how),
                status: 502,
                end: End::Complete,
                says: "mock",
                story: "estimated provider_failed",
            };
            let (answer, call) = check(&mut house, stream, &row);
            refusal::check(&answer, &upstream(502, &["`mock`"]));
            assert_eq!((call.quantity(Bucket::Input), call.quantity(Bucket::Output)), (call.held.input_tokens, 0));
        }
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_plain_answer_that_breaks_off_or_is_none_is_a_gateway_error() {
    let mut house = House::new(|config| config.provider_line("idle_timeout_ms: 300"));
    let garbage = |text: &str| Script { garbage: Some(text.to_owned()), ..Script::default() };
    let rows = [
        Row {
            name: "reset",
            script: cut(At::Chunk(3), How::Reset),
            status: 502,
            end: End::Complete,
            says: "ended the connection",
            story: "worst_case provider_left",
        },
        Row {
            name: "close",
            script: cut(At::Chunk(3), How::Close),
            status: 502,
            end: End::Complete,
            says: "ended the connection",
            story: "worst_case provider_left",
        },
        Row {
            name: "silence",
            script: Script::hold_after(3),
            status: 504,
            end: End::Complete,
            says: "went silent",
            story: "worst_case provider_left",
        },
        Row {
            name: "html",
            script: garbage("<html>"),
            status: 502,
            end: End::Complete,
            says: "none of its protocol",
            story: "worst_case no_usage",
        },
        Row {
            name: "half",
            script: garbage("{\"choices\":["),
            status: 502,
            end: End::Complete,
            says: "none of its protocol",
            story: "worst_case no_usage",
        },
        Row {
            name: "empty",
            script: garbage(""),
            status: 502,
            end: End::Complete,
            says: "none of its protocol",
            story: "worst_case no_usage",
        },
    ];
    for row in &rows {
        check(&mut house, false, row);
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_event_and_a_broken_connection() {
    let mut house = House::new(|config| config.provider_line("idle_timeout_ms: 300"));
    let garbage = |text: &str| Script { garbage: Some(text.to_owned()), ..Script::default() };
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good\"}}]}\n\n";
    let mut row = |name: &str, script: Script, says: &str, story: &str| {
        let row = Row { name, script, status: 200, end: End::Broken, says, story };
        let (answer, call) = check(&mut house, true, &row);
        let last: Value = serde_json::from_str(answer.data().last().expect("an event")).expect("JSON");
        assert!(last["error"]["message"].is_string(), "{name}: {answer}");
        assert!(!answer.text().contains("[DONE]"), "{name}: {answer}");
        (answer, call)
    };
    for how in [How::Reset, How::Close, How::Finish] {
        let (answer, call) = row("cut", cut(At::Chunk(3), how), "ended the connection", "estimated provider_left");
        assert_eq!(answer.content(), "The scripted", "{answer}");
        assert_eq!(call.quantity(Bucket::Output), 12);
        row("cut at once", cut(At::Chunk(0), how), "ended the connection", "estimated provider_left");
    }
    row("silence", Script::hold_after(2), "went silent", "estimated provider_left");
    for text in ["<html>\n\n", "data: <html>\n\n", "data: {\"choices\":[\n\n", "{\"choices\":[]}", "event: x\n\n", ""] {
        row(text, garbage(text), "none of its protocol", "estimated provider_left");
    }
    let (answer, _) = row("late garbage", garbage(&format!("{good}data: <html>\n\n")), "none of its protocol", "estimated provider_left");
    assert!(answer.text().contains("\"good\"") && !answer.text().contains("<html>"), "{answer}");
    let (answer, _) = row("half an event", garbage(&format!("{good}data: {{\"choi")), "none of its protocol", "estimated provider_left");
    assert!(!answer.text().contains("choi\n"), "{answer}");
    row("an error at once", Script { error_after: Some(0), ..Script::default() }, "The server had an error", "estimated provider_failed");
    let (answer, _) =
        row("an error later", Script { error_after: Some(3), ..Script::default() }, "The server had an error", "estimated provider_left");
    assert_eq!(answer.text().matches("\"error\"").count(), 1, "{answer}");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_answer_without_usage_is_charged_by_what_was_relayed() {
    let mut house = House::new(|config| config);
    let raw = |value: Value| Usage::Raw(value);
    let row = |usage: &Usage, story| {
        let script = Script { usage: usage.clone(), ..Script::default() };
        Row { name: "no usage", script, status: 200, end: End::Complete, says: "choices", story }
    };
    for usage in [Usage::Missing, raw(Value::Null), raw(json!({})), raw(json!({"prompt_tokens": null, "completion_tokens": 0}))] {
        for stream in [false, true] {
            let (_, call) = check(&mut house, stream, &row(&usage, "estimated no_usage"));
            assert_eq!((call.quantity(Bucket::Input), call.quantity(Bucket::Output)), (call.held.input_tokens, 50), "{call:?}");
            assert!(call.charge() <= call.bound());
        }
    }
    // Counts that say less than is needed, or what cannot be: nobody knows what they leave out.
    for usage in [raw(json!({"prompt_tokens": 5})), raw(json!({"prompt_tokens": -5, "completion_tokens": 1}))] {
        for stream in [false, true] {
            let (_, call) = check(&mut house, stream, &row(&usage, "worst_case no_usage"));
            assert_eq!(call.charge(), call.bound());
        }
    }
    let books = settled_and_audited(&house.daemon, &house.provider);
    // By bytes: never below the bill.
    assert!((books.estimated, books.worst_case) == (8, 4) && books.differences.iter().all(|(_, difference)| *difference >= 0), "{books:?}");
}

#[test]
fn zero_usage_is_not_missing_usage() {
    let mut house = House::new(|config| config);
    for stream in [false, true] {
        let script = Script { usage: Usage::Zero, ..Script::default() };
        let row = Row { name: "zero", script, status: 200, end: End::Complete, says: "choices", story: "exact answered" };
        assert_eq!(check(&mut house, stream, &row).1.charge(), 0);
    }
    ledger::audited(&house.daemon);
}

#[test]
fn zero_usage_of_an_answer_that_says_nothing_is_exact() {
    let mut house = House::new(|config| config);
    for stream in [false, true] {
        let script = Script { usage: Usage::Zero, answer: Some(String::new()), ..Script::default() };
        let row = Row { name: "zero", script, status: 200, end: End::Complete, says: "choices", story: "exact answered" };
        assert_eq!(check(&mut house, stream, &row).1.charge(), 0);
    }
    ledger::audited(&house.daemon);
}

#[test]
fn usage_that_this_version_does_not_know_is_kept_and_makes_the_charge_an_estimate() {
    let mut house = House::new(|config| config);
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 14, "total_tokens": 19, "moon_tokens": 3});
    let row = Row {
        name: "moon",
        script: Script { usage: Usage::Raw(usage), ..Script::default() },
        status: 200,
        end: End::Complete,
        says: "moon",
        story: "estimated answered",
    };
    check(&mut house, false, &row);
    let settled = ledger::events(&house.daemon).into_iter().find(|event| event["kind"] == "call.settled").expect("a charge");
    assert_eq!(settled["body"]["unknown_usage"], json!([["moon_tokens", "3"]]));
    ledger::audited(&house.daemon);
}

#[test]
fn a_redirect_of_the_provider_leads_no_prompt_past_the_daemon() {
    let mut house = House::new(|config| config);
    let script = Script::error(307).header("location", "http://127.0.0.1:9/v1/chat/completions");
    let row = Row { name: "redirect", script, status: 502, end: End::Complete, says: "upstream_error", story: "estimated provider_failed" };
    let (answer, _) = check(&mut house, false, &row);
    assert_eq!(answer.header("location"), None);
    settled_and_audited(&house.daemon, &house.provider);
}
