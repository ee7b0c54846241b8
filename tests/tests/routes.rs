//! Retries, fallbacks and breakers, with two scripted providers behind one daemon: what is tried after a provider that certainly did
//! not process a call, what is not, and that every attempt has one hold and one end.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::event::Skipped;
use aex_tests::ask;
use aex_tests::client::{self, End};
use aex_tests::ledger::{self, quiet, until};
use aex_tests::provider::{At, How, KEY, Script};
use aex_tests::street::{Street, Written};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const BOTH: &str = "fallbacks: [m2, m3]";

fn busy(retry_after: &str) -> Script {
    Script::error(429).header("retry-after", retry_after)
}

fn soon() -> Script {
    Script::error(429).header("retry-after-ms", "5")
}

#[test]
fn a_provider_that_asks_for_a_moment_gets_it_and_each_attempt_ends_once() {
    for stream in [false, true] {
        let street = Street::new(Written { m1: "retries: {attempts: 3, max_wait_ms: 5000}", ..Written::default() });
        street.first.script(soon());
        street.first.script(Script::error(503).header("retry-after-ms", "1"));
        let answer = street.post(stream);
        assert_eq!((answer.status, answer.header("x-aex-model")), (200, Some("m1")), "{answer}");
        assert_eq!(street.stories(), ["m1 released refused", "m1 released refused", "m1 exact answered"]);
        let calls = ledger::calls(&street.daemon);
        let keys: Vec<_> = calls.iter().map(|call| (call.held.request, call.held.attempt)).collect();
        assert_eq!(keys, [0, 1, 2].map(|attempt| (calls[0].held.request, attempt)));
        assert_eq!(street.asked(), [3, 0]);
        street.audited();
    }
}

#[test]
fn a_provider_that_cannot_be_reached_is_tried_again_until_it_is_back() {
    let mut street = Street::new(Written { provider: "retries: {attempts: 8, max_wait_ms: 60000}", ..Written::default() });
    street.first.stop();
    let mut connection = street.begin();
    street.waits();
    street.first.restart();
    let answer = connection.answer().expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    let stories = street.stories();
    let (last, before) = stories.split_last().expect("attempts");
    assert_eq!(last, "m1 exact answered");
    assert!(!before.is_empty() && before.iter().all(|story| story == "m1 released never_sent"), "{stories:?}");
    street.audited();
}

#[test]
fn what_may_have_been_processed_or_would_be_refused_again_is_sent_once() {
    let retries = "retries: {attempts: 3, max_wait_ms: 2000}\n    fallbacks: [m2]";
    let status = |status, body: &str| Script { body: Some(body.to_owned()), ..Script::error(status).header("retry-after-ms", "1") };
    let rows = [
        (Script::error(400), 400, "m1 released refused"),
        (Script::error(401), 401, "m1 released refused"),
        (Script::error(404), 404, "m1 released refused"),
        (Script::error(408), 408, "m1 estimated provider_failed"),
        (Script::error(502), 502, "m1 estimated provider_failed"),
        (Script::error(504), 504, "m1 estimated provider_failed"),
        // Who answers without an error object may be a gateway before a provider that did the work.
        (status(503, ""), 503, "m1 estimated provider_failed"),
        (status(500, "<html>"), 500, "m1 estimated provider_failed"),
        (Script::cut(At::Head, How::Reset), 502, "m1 estimated provider_failed"),
        (Script::cut(At::Chunk(2), How::Reset), 502, "m1 worst_case provider_left"),
    ];
    let street = Street::new(Written { m1: retries, ..Written::default() });
    for (number, (script, status, story)) in rows.into_iter().enumerate() {
        street.first.script(script.clone());
        let answer = street.post(false);
        assert_eq!(answer.status, status, "{script:?}: {answer}");
        assert_eq!((street.asked(), street.stories().pop().as_deref()), ([number + 1, 0], Some(story)), "{script:?}");
    }
    street.audited();
}

#[test]
fn without_a_word_in_the_configuration_nothing_is_tried_again() {
    let street = Street::new(Written::default());
    street.first.script(soon());
    assert_eq!(street.post(false).status, 429);
    assert_eq!((street.asked(), street.stories()), ([1, 0], vec!["m1 released refused".to_owned()]));
    street.audited();
}

#[test]
fn attempts_and_waits_are_bounded_and_the_last_answer_passes_as_it_is() {
    let street = Street::new(Written { m1: "retries: {attempts: 2, max_wait_ms: 2000}", ..Written::default() });
    let check = |script: Script, requests: usize| {
        street.first.forget();
        street.first.always(script.clone());
        let answer = street.post(false);
        assert_eq!((answer.status, answer.end), (429, End::Complete), "{answer}");
        assert_eq!((answer.header("x-aex-model"), street.asked()), (Some("m1"), [requests, 0]), "{script:?}");
        assert!(answer.text().contains("\"error\""), "{answer}");
    };
    check(soon(), 3);
    // Longer than the configuration waits in all; nothing said about the time; a date.
    check(busy("3"), 1);
    check(Script::error(429), 1);
    check(busy("Wed, 21 Oct 2026 07:28:00 GMT"), 1);
    street.audited();
}

#[test]
fn a_fallback_serves_what_the_first_provider_did_not_under_the_clients_name_of_the_model() {
    for stream in [false, true] {
        for name in [true, false] {
            let mut street = Street::new(Written { m1: BOTH, ..Written::default() });
            let body = ask::chat_with(&json!({"stream": stream, "model": name.then_some("m1")}));
            let mut stories = Vec::new();
            for script in [Some(Script::error(429)), Some(Script::error(500)), Some(Script::error(503)), Some(Script::error(529)), None] {
                match script {
                    Some(script) => street.first.script(script),
                    None => {
                        street.first.stop();
                        // A call on a connection that is kept might be sent before its end is seen.
                        street.daemon.ctl(["models", "reload"]).ok();
                    }
                }
                let answer = client::post_json(&street.daemon.chat_url(), &street.token, &body);
                assert_eq!((answer.status, answer.end, answer.header("x-aex-model")), (200, End::Complete, Some("m2")), "{answer}");
                let model = if stream { answer.chunks()[0]["model"].clone() } else { answer.json()["model"].clone() };
                assert_eq!((model, street.second.last_request().json()["model"].clone()), (json!("m1"), json!("m2-upstream")));
                stories.extend(["m1 released refused", "m2 exact answered"]);
            }
            let before_last = stories.len() - 2;
            stories[before_last] = "m1 released never_sent";
            assert_eq!(street.stories(), stories);
            assert_eq!(street.audited().exact, 5);
        }
    }
}

#[test]
fn a_fallback_is_decided_for_itself() {
    let street = Street::new(Written { m1: BOTH, ..Written::default() });
    street.first.always(Script::error(429));
    // The policy has no m2 for it.
    let narrow = street.daemon.agent("narrow", &["--allowed-models", "m1,m3"]);
    let answer = street.post_as(&narrow, false);
    assert_eq!((answer.status, answer.header("x-aex-model")), (200, Some("m3")), "{answer}");
    let served = quiet(&street.daemon).pop().expect("a call");
    assert_eq!(served.held.skipped, [Skipped { model: "m2".to_owned(), rule: "allowed_models".to_owned() }]);
    assert_eq!(ledger::denials(&street.daemon), []);
    // It has neither: the provider's own answer passes, and what kept the call from the last fallback is recorded.
    let only = street.daemon.agent("only", &["--allowed-models", "m1"]);
    let answer = street.post_as(&only, false);
    assert_eq!((answer.status, answer.header("x-aex-model")), (429, Some("m1")), "{answer}");
    let denied = until("the denial", || ledger::denials(&street.daemon).pop());
    assert_eq!((denied.rule.as_str(), denied.ask.expect("an ask").model.as_str()), ("allowed_models", "m3"));
    assert_eq!(denied.request, quiet(&street.daemon).pop().expect("a call").held.request);
    street.audited();
}

#[test]
fn a_fallback_never_goes_beyond_the_budget() {
    let street = Street::new(Written { m1: "fallbacks: [m2]", ..Written::default() });
    assert_eq!(street.post(false).status, 200);
    let bound = quiet(&street.daemon).pop().expect("a call").bound();
    let limit = json!({"name": "poor", "budget_pico": (bound * 2).to_string(), "rpm": 1000});
    let token = street.daemon.rpc("agent.create", &limit)["token"].as_str().expect("a token").to_owned();
    street.first.script(Script::error(503));
    let answer = street.post_as(&token, false);
    assert_eq!((answer.status, answer.header("x-aex-model")), (503, Some("m1")), "{answer}");
    let denied = until("the denial", || ledger::denials(&street.daemon).pop());
    assert_eq!((denied.rule.as_str(), street.asked()), ("budget", [2, 0]));
    let budget = &street.daemon.rpc("agent.inspect", &json!({"name": "poor"}))["budgets"][0];
    assert_eq!((&budget["spent_pico"], &budget["reserved_pico"]), (&json!("0"), &json!("0")));
    // And what a denial refused at first is no case for a fallback.
    let broke = json!({"name": "broke", "budget_pico": (bound - 1).to_string(), "rpm": 1000});
    let token = street.daemon.rpc("agent.create", &broke)["token"].as_str().expect("a token").to_owned();
    assert_eq!((street.post_as(&token, false).status, street.asked()), (402, [2, 0]));
    street.audited();
}

#[test]
fn a_clients_own_provider_key_goes_to_its_own_provider_only() {
    let street = Street::new(Written { m1: BOTH, ..Written::default() });
    street.first.script(Script::error(429));
    let bearer = format!("Bearer {}", street.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-aex-provider-key", KEY)];
    let answer = client::post_bytes(&street.daemon.chat_url(), &headers, ask::chat().to_string().as_bytes());
    assert_eq!((answer.status, street.asked()), (429, [1, 0]), "{answer}");
    street.audited();
}

#[test]
fn retries_come_before_fallbacks_and_fallbacks_of_a_fallback_are_not_followed() {
    let written =
        Written { m1: "retries: {attempts: 1, max_wait_ms: 1000}\n    fallbacks: [m2]", m2: "fallbacks: [m1, m3]", ..Written::default() };
    let street = Street::new(written);
    street.first.always(soon());
    street.second.always(Script::error(503));
    let answer = street.post(false);
    assert_eq!((answer.status, answer.header("x-aex-model")), (503, Some("m2")), "{answer}");
    assert_eq!(street.stories(), ["m1 released refused", "m1 released refused", "m2 released refused"]);
    street.audited();
}

#[test]
fn several_attempts_are_one_request_to_a_rate_and_one_story() {
    let street = Street::new(Written { m1: "retries: {attempts: 1, max_wait_ms: 1000}\n    fallbacks: [m2]", ..Written::default() });
    street.first.always(soon());
    let token = street.daemon.agent_with("slow", "5", 1, &[]);
    let answer = street.post_as(&token, false);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(street.post_as(&token, false).code(), "rate_limit_exceeded");
    let id = answer.header("x-aex-request-id").expect("an id").to_owned();
    quiet(&street.daemon);
    let text = street.daemon.ctl(["explain", &id]).ok().stdout;
    for line in [
        "attempt 1",
        "m1 at first: the provider refused it",
        "(status 429); charged $0",
        "attempt 3",
        "m2 at second: the provider answered",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let story = street.daemon.ctl(["explain", &id, "--json"]).json();
    let attempts = story["call"]["attempts"].as_array().or_else(|| story["attempts"].as_array()).expect("attempts").clone();
    let told: Vec<_> = attempts.iter().map(|told| (told["attempt"].as_u64(), told["state"].as_str().unwrap_or_default())).collect();
    assert_eq!(told, [(Some(0), "released"), (Some(1), "released"), (Some(2), "exact")]);
    street.audited();
}

#[test]
fn a_wait_ends_with_its_client_its_account_or_the_daemon() {
    let street = || {
        let street = Street::new(Written { m1: "retries: {attempts: 1, max_wait_ms: 60000}\n    fallbacks: [m2]", ..Written::default() });
        street.first.always(busy("60"));
        street
    };
    let idle = |street: &Street| {
        assert_eq!(street.stories(), ["m1 released refused"]);
        assert_eq!(street.asked(), [1, 0]);
        street.audited();
    };
    let left = street();
    let connection = left.begin();
    left.waits();
    connection.close();
    idle(&left);
    for (verb, code) in [("pause", "account_paused"), ("kill", "account_killed")] {
        let street = street();
        let mut connection = street.begin();
        street.waits();
        street.daemon.ctl(["agent", verb, "bot", "--reason", "test"]).ok();
        let answer = connection.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (403, code), "{answer}");
        idle(&street);
    }
    let mut drained = street();
    let mut connection = drained.begin();
    drained.waits();
    drained.daemon.signal(Signal::SIGTERM);
    let answer = connection.answer().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (503, "shutting_down"), "{answer}");
    assert_eq!(drained.daemon.wait(), 0);
    drained.daemon.run();
    idle(&drained);
}

#[test]
fn a_daemon_that_is_killed_while_a_call_waits_leaves_nothing_held_and_nothing_charged() {
    let mut street = Street::new(Written { m1: "retries: {attempts: 1, max_wait_ms: 60000}", ..Written::default() });
    street.first.script(busy("60"));
    let mut connection = street.begin();
    street.waits();
    street.daemon.kill9();
    assert!(connection.answer().is_err());
    street.daemon.run();
    assert_eq!(street.stories(), ["m1 released refused"]);
    // And one that dies in its second attempt is charged for that alone.
    street.first.script(soon());
    street.first.script(Script::hold());
    let mut connection = street.begin();
    street.first.wait_for_requests(3);
    street.daemon.kill9();
    assert!(connection.answer().is_err());
    street.daemon.run();
    assert_eq!(street.stories(), ["m1 released refused", "m1 released refused", "m1 worst_case crash"]);
    street.first.release();
    assert_eq!(street.audited().worst_case, 1);
}

#[test]
fn an_idempotency_key_covers_all_attempts_of_its_call() {
    let street = Street::new(Written { m1: "fallbacks: [m2]", ..Written::default() });
    street.first.always(Script::error(429));
    let bearer = format!("Bearer {}", street.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "k")];
    let post = |body: &Value| client::post_bytes(&street.daemon.chat_url(), &headers, body.to_string().as_bytes());
    let first = post(&ask::chat());
    let again = post(&ask::chat());
    assert_eq!((first.status, first.header("x-aex-model")), (200, Some("m2")), "{first}");
    assert_eq!((again.text(), again.header("idempotent-replayed"), again.header("x-aex-model")), (first.text(), Some("true"), Some("m2")));
    assert_eq!((street.asked(), street.audited().exact), ([1, 1], 1));
}

#[test]
fn every_endpoint_falls_back() {
    let street = Street::new(Written { m1: BOTH, ..Written::default() });
    for (path, body) in [
        ("/v1/completions", json!({"model": "m1", "prompt": "say hello", "max_tokens": 5})),
        ("/v1/embeddings", json!({"model": "m1", "input": "say hello"})),
    ] {
        street.first.script(Script::error(503));
        let answer = client::post_json(&format!("{}{path}", street.daemon.url()), &street.token, &body);
        assert_eq!((answer.status, answer.header("x-aex-model"), &answer.json()["model"]), (200, Some("m2"), &json!("m1")), "{answer}");
        assert_eq!(street.second.last_request().path, path);
    }
    assert_eq!(street.audited().exact, 2);
}
