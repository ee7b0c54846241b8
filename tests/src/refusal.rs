//! A refusal as the contract describes it, and the comparison of an answer with it.

use serde_json::Value;

use crate::client::{Answer, End};
use crate::daemon::Daemon;
use crate::ledger;
use crate::provider::Provider;

/// What a client is told about a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// `x-should-retry: false`: no wait lifts it.
    Never,
    /// `retry-after` and `retry-after-ms`, at most a minute.
    After,
    /// Nothing: the client decides.
    Open,
}

/// What an answer must be.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'a str,
    /// `error.code`.
    pub code: &'a str,
    /// `error.param`; empty for null.
    pub param: &'a str,
    /// About a retry.
    pub retry: Retry,
    /// Pieces of `error.message`.
    pub says: &'a [&'a str],
    /// The rule in the ledger's event; empty where no agent's call was denied.
    pub rule: &'a str,
}

/// 400: the request is wrong.
#[must_use]
pub const fn malformed<'a>(param: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal {
        status: 400,
        kind: "invalid_request_error",
        code: "invalid_request_error",
        param,
        retry: Retry::Never,
        says,
        rule: "request_form",
    }
}

/// 403: the agent's policy.
#[must_use]
pub const fn forbidden<'a>(param: &'a str, rule: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 403, kind: "permission_error", code: "policy_violation", param, retry: Retry::Never, says, rule }
}

/// 400: the model.
#[must_use]
pub const fn incapable<'a>(param: &'a str, rule: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 400, kind: "invalid_request_error", code: "invalid_request_error", param, retry: Retry::Never, says, rule }
}

/// 401: the token.
#[must_use]
pub const fn unauthenticated<'a>(says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 401, kind: "invalid_request_error", code: "invalid_api_key", param: "", retry: Retry::Never, says, rule: "" }
}

/// 429: a rate.
#[must_use]
pub const fn limited<'a>(rule: &'a str, retry: Retry, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 429, kind: "requests", code: "rate_limit_exceeded", param: "", retry, says, rule }
}

/// 402: the money.
#[must_use]
pub const fn unaffordable<'a>(says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 402, kind: "insufficient_quota", code: "insufficient_quota", param: "", retry: Retry::Never, says, rule: "budget" }
}

/// 502 or 504: the provider.
#[must_use]
pub const fn upstream<'a>(status: u16, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status, kind: "upstream_error", code: "upstream_error", param: "", retry: Retry::Open, says, rule: "" }
}

/// Compares an answer's status, error object and headers.
#[track_caller]
pub fn check(answer: &Answer, wanted: &Refusal<'_>) {
    assert_eq!((answer.status, answer.end), (wanted.status, End::Complete), "{answer}");
    let error = &answer.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&Value::from(wanted.kind), &Value::from(wanted.code)), "{answer}");
    let param = if wanted.param.is_empty() { Value::Null } else { Value::from(wanted.param) };
    assert_eq!(error["param"], param, "{answer}");
    let message = error["message"].as_str().unwrap_or_default();
    for piece in wanted.says {
        assert!(message.contains(piece), "{piece:?} is not in {answer}");
    }
    let id = answer.header("x-aex-request-id").unwrap_or_else(|| panic!("no request id in {answer}"));
    assert!(message.contains(id), "{answer}");
    assert!(!message.contains("aex_") || message.contains("aex_…"), "a token is told: {answer}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
    check_retry(answer, wanted.retry);
}

#[track_caller]
fn check_retry(answer: &Answer, retry: Retry) {
    let number = |name: &str| answer.header(name).map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} in {answer}")));
    let (seconds, millis) = (number("retry-after"), number("retry-after-ms"));
    let told = answer.header("x-should-retry");
    match retry {
        Retry::Never => assert_eq!((told, seconds, millis), (Some("false"), None, None), "{answer}"),
        Retry::Open => assert_eq!((told, seconds, millis), (None, None, None), "{answer}"),
        Retry::After => {
            let (seconds, millis) = (seconds.expect("retry-after"), millis.expect("retry-after-ms"));
            assert!(told.is_none() && (1..=60_000).contains(&millis) && seconds == millis.div_ceil(1000), "{answer}");
        }
    }
}

/// The same, and: the provider saw nothing of the call, and the ledger has its denial with the rule.
#[track_caller]
pub fn denied(daemon: &Daemon, provider: &Provider, seen_before: usize, answer: &Answer, wanted: &Refusal<'_>) {
    check(answer, wanted);
    assert_eq!(provider.requests().len(), seen_before, "the provider saw a call that was denied: {answer}");
    if wanted.rule.is_empty() {
        return;
    }
    let id = answer.header("x-aex-request-id").unwrap_or_default();
    let events = ledger::denials(daemon);
    let event = events.iter().find(|event| event.request.to_string() == id);
    let event = event.unwrap_or_else(|| panic!("no event of {id} among {events:?}"));
    assert_eq!(event.rule, wanted.rule, "{event:?}");
}
