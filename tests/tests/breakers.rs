//! Breakers: a provider that fails again and again is given a rest, and its calls a fallback.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::event::Skipped;
use aex_tests::client;
use aex_tests::ledger::{self, quiet, until};
use aex_tests::provider::{At, How, Script};
use aex_tests::refusal::{self, Refusal, Retry};
use aex_tests::street::{Street, Written};
use serde_json::json;

/// 503: the provider has a rest.
const DOWN: Refusal<'_> = Refusal {
    status: 503,
    kind: "upstream_error",
    code: "upstream_unavailable",
    param: "",
    retry: Retry::After,
    says: &["`first` has failed again and again"],
    rule: "provider_down",
};

#[test]
fn a_provider_that_fails_again_and_again_gets_a_rest_and_nothing_is_held_for_it() {
    let mut street = Street::new(Written { provider: "breaker: {failures: 3, pause_ms: 3600000}", ..Written::default() });
    street.first.script(Script::error(502));
    street.first.script(Script::cut(At::Head, How::Reset));
    for _ in 0..2 {
        assert_eq!(street.post(false).status, 502);
    }
    street.first.stop();
    assert_eq!(street.post(false).status, 502);
    street.first.restart();
    let seen = street.first.requests().len();
    let answer = street.post(false);
    refusal::denied(&street.daemon, &street.first, seen, &answer, &DOWN);
    assert_eq!(ledger::calls(&street.daemon).len(), 3);
    let models = street.daemon.rpc("model.list", &json!({}));
    let down: Vec<bool> = models["models"].as_array().expect("models").iter().map(|model| model["down_ms"].is_u64()).collect();
    assert_eq!(down, [true, false, false]);
    assert!(street.daemon.ctl(["models", "list"]).ok().stdout.contains("fails; refused for"));
    let root = street.daemon.ctl(["token", "create", "--root", "--scope", "read-only", "--json"]).json();
    let metrics = client::get(&format!("{}/metrics", street.daemon.url()), root["token"].as_str().expect("a token")).text();
    assert!(metrics.contains("aexd_provider_down{provider=\"first\"} 1") && metrics.contains("{provider=\"second\"} 0"), "{metrics}");
    // Whoever mended it says so.
    street.daemon.ctl(["models", "reload"]).ok();
    assert_eq!(street.post(false).status, 200);
    street.audited();
}

#[test]
fn refusals_of_requests_and_rates_are_no_failures_and_any_success_begins_anew() {
    let street = Street::new(Written { provider: "breaker: {failures: 2, pause_ms: 3600000}", ..Written::default() });
    for status in [500, 429, 500, 400, 502, 200, 502] {
        street.first.script(if status == 200 { Script::default() } else { Script::error(status) });
        assert_eq!(street.post(false).status, status);
    }
    street.first.script(Script::error(503));
    assert_eq!(street.post(true).status, 503);
    refusal::check(&street.post(true), &DOWN);
    street.audited();
}

#[test]
fn calls_to_a_provider_that_rests_go_to_the_fallback_at_once() {
    let street =
        Street::new(Written { provider: "breaker: {failures: 1, pause_ms: 3600000}", m1: "fallbacks: [m2]", ..Written::default() });
    street.first.script(Script::error(503));
    for stream in [false, true, false] {
        let answer = street.post(stream);
        assert_eq!((answer.status, answer.header("x-aex-model")), (200, Some("m2")), "{answer}");
    }
    assert_eq!(street.asked(), [1, 3]);
    let served = quiet(&street.daemon).pop().expect("a call");
    assert_eq!((served.held.attempt, served.held.ask.model.as_str()), (0, "m2"));
    assert_eq!(served.held.skipped, [Skipped { model: "m1".to_owned(), rule: "provider_down".to_owned() }]);
    assert_eq!(ledger::denials(&street.daemon), []);
    let text = street.daemon.ctl(["explain", &served.held.request.to_string()]).ok().stdout;
    assert!(text.contains("passed over") && text.contains("m1: its provider had failed"), "{text}");
    // Where the fallback is of no use either, the client is told of what it asked for.
    let only = street.daemon.agent("only", &["--allowed-models", "m1"]);
    refusal::check(&street.post_as(&only, false), &DOWN);
    street.audited();
}

#[test]
fn after_its_rest_a_provider_is_asked_by_one_call_and_all_others_follow_its_success() {
    let street = Street::new(Written { provider: "breaker: {failures: 1, pause_ms: 300}", ..Written::default() });
    street.first.script(Script::error(503));
    assert_eq!(street.post(false).status, 503);
    // Asked by the admin: calls that are refused meanwhile would count in the agent's rate.
    let is_down = || street.daemon.rpc("model.list", &json!({}))["models"][0]["down_ms"].as_u64().is_some_and(|left| left > 0);
    until("the end of the rest", || (!is_down()).then_some(()));
    for _ in 0..2 {
        assert_eq!(street.post(false).status, 200);
    }
    assert_eq!(street.asked(), [3, 0]);
    street.audited();
}
