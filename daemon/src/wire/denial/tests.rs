//! Tests of `denial`.

use super::*;
use crate::wire::answer::Kept;
use crate::wire::dialect::{Dialect, Shape};
use crate::wire::stream::Meter;
use aex_core::books::AccountKind;
use aex_core::decision::Protocol;
use aex_core::policy::{Breach, Effect, NearMiss, Rule, Ruled};
use aex_proto::value::{AccountId, Pico, RequestId, Stamp};

const TO: Addressee = Addressee::of_page(RequestId::from_bits(0x0100_0000_0001), Shape::OpenAi);

fn bot() -> Named {
    Named { id: AccountId::new(7), kind: None, name: "bot".to_owned() }
}

/// `status retry-after-ms no_retry body`, as a client gets it.
#[track_caller]
fn check(denial: &Denial, expected: &str) {
    let refusal = worded(denial, TO);
    let body = String::from_utf8(refusal.body(TO).to_vec()).unwrap();
    let wait = refusal.retry_after_ms.map_or("-".to_owned(), |wait| wait.to_string());
    let retry = if refusal.no_retry { "final" } else { "retry" };
    let told = body.replace(" (request req_0000010000000001)", "#").replace("\"type\":", "").replace("\"message\":", "");
    assert_eq!(format!("{} {wait} {retry} {told}", refusal.status), expected);
}

#[test]
fn callers_that_are_not_let_in() {
    check(
        &Denial::Unauthenticated { cause: AuthCause::Expired },
        r##"401 - final {"error":{"This token has expired: `aexctl agent rotate-token NAME` makes a new one.#","invalid_request_error","param":null,"code":"invalid_api_key"}}"##,
    );
    for cause in [AuthCause::Missing, AuthCause::Malformed, AuthCause::Unknown, AuthCause::Revoked] {
        let refusal = worded(&Denial::Unauthenticated { cause }, TO);
        assert_eq!((refusal.status, refusal.code, refusal.no_retry), (401, "invalid_api_key", true));
    }
    check(
        &Denial::AuthThrottled { retry_after_ms: 120_000 },
        r##"429 60000 retry {"error":{"Too many failed authentications from this address: use a valid token, or wait.#","requests","param":null,"code":"rate_limit_exceeded"}}"##,
    );
    check(
        &Denial::ReadOnlyToken,
        r##"403 - final {"error":{"This token is read-only and may make no calls: use the agent's execution token; `aexctl agent rotate-token NAME` makes a new one.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
}

#[test]
fn accounts_that_are_not_active() {
    check(
        &Denial::Account { account: bot(), reason: "by hand".to_owned(), state: AccountState::Paused },
        r##"403 - final {"error":{"Account `bot` is paused (by hand): `aexctl agent resume bot` lifts it.#","permission_error","param":null,"code":"account_paused"}}"##,
    );
    for (state, code) in
        [(AccountState::Suspended, "account_suspended"), (AccountState::Killed, "account_killed"), (AccountState::Closed, "account_closed")]
    {
        let refusal = worded(&Denial::Account { account: bot(), reason: String::new(), state }, TO);
        assert_eq!((refusal.status, refusal.code, refusal.no_retry), (403, code, true));
    }
}

#[test]
fn rates_tell_when_to_come_back() {
    let rate = |kind, limit, retry_after_ms| Denial::Rate { account: bot(), kind, limit, retry_after_ms };
    check(
        &rate(RateKind::RequestsPerMinute, 60, 1500),
        r##"429 1500 retry {"error":{"`bot` has used up its limit of 60 requests per minute: wait 1.500 s.#","requests","param":null,"code":"rate_limit_exceeded"}}"##,
    );
    check(
        &rate(RateKind::Concurrent, 0, 1000),
        r##"429 - final {"error":{"`bot` may make no calls: its limit is 0 concurrent requests. `aexctl agent inspect bot` shows it.#","requests","param":null,"code":"rate_limit_exceeded"}}"##,
    );
    assert_eq!(worded(&rate(RateKind::Concurrent, 1, 1500), TO).retry_after_seconds(), Some(2));
}

#[test]
fn requests_that_are_wrong() {
    check(
        &Denial::Malformed { message: "`n` must be \"1\"".to_owned(), param: Some("n".to_owned()) },
        r##"400 - final {"error":{"Malformed request: `n` must be \"1\".#","invalid_request_error","param":"n","code":"invalid_request_error"}}"##,
    );
    check(
        &Denial::TooLarge { limit: 9 },
        r##"413 - final {"error":{"The request's body is larger than 9 bytes: send less, or raise `max_body` in aexd.yaml.#","invalid_request_error","param":null,"code":"request_too_large"}}"##,
    );
    check(
        &Denial::UnknownModel { model: "gpt-9".to_owned() },
        r##"403 - final {"error":{"Model `gpt-9` is not configured: `aexctl models list` shows the names; models.yaml defines them.#","permission_error","param":"model","code":"model_not_allowed"}}"##,
    );
}

#[test]
fn rules_of_policy_and_of_models() {
    let broken = |rule, asked: &str, limit: &str, also: &[Rule]| Denial::Policy {
        also: also.to_vec(),
        breach: Breach { asked: asked.to_owned(), limit: limit.to_owned(), rule },
    };
    check(
        &broken(Rule::AllowedModels, "gpt-9", "a, b", &[]),
        r##"403 - final {"error":{"This agent may not use this model: asked gpt-9, allowed_models is a, b; the agent's policy decides that: `aexctl agent inspect NAME` shows it.#","permission_error","param":"model","code":"model_not_allowed"}}"##,
    );
    check(
        &broken(Rule::ModelMaxTokens, "99", "10", &[Rule::AllowVision, Rule::Strict]),
        r##"400 - final {"error":{"More output is asked for than this model gives: asked 99, limits.max_tokens is 10; it also breaks allow_vision, strict; models.yaml says what the model takes.#","invalid_request_error","param":"max_tokens","code":"invalid_request_error"}}"##,
    );
    for rule in [Rule::ModelTools, Rule::ModelVision] {
        assert_eq!(worded(&broken(rule, "1", "false", &[]), TO).status, 400);
    }
    for rule in [
        Rule::AllowStreaming,
        Rule::AllowTools,
        Rule::AllowedToolNames,
        Rule::AllowFunctionCalling,
        Rule::AllowVision,
        Rule::Strict,
        Rule::MaxInputTokens,
        Rule::MaxOutputTokens,
    ] {
        let refusal = worded(&broken(rule, "1", "false", &[]), TO);
        assert_eq!((refusal.status, refusal.code, refusal.no_retry), (403, POLICY_VIOLATION, true));
    }
    check(
        &Denial::Unbounded { model: "m".to_owned(), why: Unbounded::HostedTool("web_search".to_owned()) },
        r##"403 - final {"error":{"Nothing bounds what this call to model `m` may cost: it asks for `web_search`, which the provider runs or chooses by itself and which has no price here.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
    check(
        &Denial::Unbounded { model: "m".to_owned(), why: Unbounded::HostedTool("request/moderation".to_owned()) },
        r##"403 - final {"error":{"Nothing bounds what this call to model `m` may cost: its field `moderation` lets the provider choose or run what has no price here.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
    assert_eq!(worded(&Denial::Passthrough, TO).status, 403);
}

fn budget(period: Period, resets_at: Option<Stamp>) -> Denial {
    let (asked, left, limit) = (Pico::new(2_000_000_000_000), Pico::new(500_000_000_000), Pico::new(5_000_000_000_000));
    Denial::Budget { account: bot(), asked, left, limit, period, resets_at }
}

#[test]
fn budgets_tell_what_is_left_and_when_they_reset() {
    check(
        &budget(Period::Day, Some(Stamp::new(0))),
        r##"402 - final {"error":{"The daily budget of `bot` does not suffice: this call may cost up to $2.00, $0.50 of $5.00 are left. It resets at 1970-01-01T00:00:00.000000Z: make a smaller call (lower max_tokens), or ask for a larger budget; `aexctl agent inspect bot` shows it.#","insufficient_quota","param":null,"code":"insufficient_quota","account":"bot","period":"day","resets_at":"1970-01-01T00:00:00.000000Z"}}"##,
    );
    assert!(worded(&budget(Period::Total, None), TO).message.contains("It does not reset"));
}

#[test]
fn a_run_is_not_called_an_agent() {
    let run = || Named { id: AccountId::new(9), kind: None, name: "run-9".to_owned() };
    let (asked, left, limit) = (Pico::new(2_000_000_000_000), Pico::ZERO, Pico::new(1_000_000_000_000));
    check(
        &Denial::Budget { account: run(), asked, left, limit, period: Period::Total, resets_at: None },
        r##"402 - final {"error":{"The total budget of this run (run-9), $1.00, is used up or reserved. It does not reset: no smaller call passes; start a new run with a larger --budget.#","insufficient_quota","param":null,"code":"insufficient_quota","account":"run_9","period":"total"}}"##,
    );
    for state in [AccountState::Paused, AccountState::Suspended, AccountState::Killed, AccountState::Closed] {
        let message = worded(&Denial::Account { account: run(), reason: String::new(), state }, TO).message;
        assert!(message.contains("This run (run-9)") && !message.contains("aexctl agent"), "{message}");
    }
}

#[test]
fn each_level_of_the_tree_is_called_by_what_it_is() {
    let named = |id, kind, name: &str| Named { id: AccountId::new(id), kind: Some(kind), name: name.to_owned() };
    let rows = [
        (named(1, AccountKind::Root, "root"), "This machine (account `root`)", "aexctl budget show root", "aexctl resume --all"),
        (named(2, AccountKind::Group, "lab"), "Group `lab`", "aexctl budget show group:lab", "aexctl resume group:lab"),
        (named(3, AccountKind::Agent, "bot"), "Agent `bot`", "aexctl agent inspect bot", "aexctl agent resume bot"),
    ];
    for (account, called, shown, resumed) in rows {
        let message = |denial| worded(&denial, TO).message;
        for (state, is) in
            [(AccountState::Paused, "is paused"), (AccountState::Killed, "was killed"), (AccountState::Suspended, "is suspended")]
        {
            let said = message(Denial::Account { account: account.clone(), reason: "why".to_owned(), state });
            assert!(said.starts_with(&format!("{called} {is} (why): ")) && said.contains(&format!("`{resumed}` lifts it")), "{said}");
        }
        let rate = Denial::Rate { account: account.clone(), kind: RateKind::RequestsPerMinute, limit: 0, retry_after_ms: 1 };
        assert!(message(rate).starts_with(&format!("{called} may make no calls")));
        let (asked, left, limit) = (Pico::new(2), Pico::new(1), Pico::new(1));
        let money = message(Denial::Budget { account, asked, left, limit, period: Period::Week, resets_at: Some(Stamp::new(0)) });
        let whose = called.split_once(' ').map(|(first, rest)| format!("{} {rest}", first.to_lowercase())).unwrap();
        assert!(money.starts_with(&format!("The weekly budget of {whose} does not suffice")) && money.contains(shown), "{money}");
        assert!(money.contains("It resets at 1970-01-01T00:00:00.000000Z"), "{money}");
    }
}

#[test]
fn what_the_daemon_lacks() {
    check(
        &Denial::KeyMissing { provider: "groq".to_owned(), variable: "GROQ_API_KEY".to_owned() },
        r##"500 - final {"error":{"aexd has no key for provider `groq`: set GROQ_API_KEY in its .env or environment, then run `aexctl models reload`.#","api_error","param":null,"code":"provider_key_missing"}}"##,
    );
    check(
        &Denial::LedgerUnavailable,
        r##"503 1000 retry {"error":{"aexd cannot write its ledger and admits no call: `aexctl status` and its log say why.#","api_error","param":null,"code":"ledger_unavailable"}}"##,
    );
    check(
        &Denial::Draining,
        r##"503 1000 retry {"error":{"aexd is shutting down and admits no new call: try again when it is back.#","api_error","param":null,"code":"shutting_down"}}"##,
    );
}

#[test]
fn faults_of_providers_and_of_streams() {
    let refusal = upstream(UpstreamFault::FirstByteTimeout, "groq", TO);
    assert_eq!((refusal.status, refusal.code, refusal.no_retry), (504, "upstream_error", false));
    assert_eq!(refusal.message, "Provider `groq` began no answer in time. (request req_0000010000000001)");
    assert_eq!(upstream(UpstreamFault::Tls, "groq", TO).status, 502);
    let streamed = |fault| String::from_utf8(stream_fault(fault, Dialect::Chat, TO, &Meter::default()).to_vec()).unwrap();
    for (fault, says) in [
        (UpstreamFault::IdleTimeout, "The provider went silent within its answer."),
        (UpstreamFault::BoundPassed, "The answer passed the bound that was held for it and was cut."),
    ] {
        let event = streamed(fault);
        assert!(
            event.starts_with(&format!("data: {{\"error\":{{\"message\":\"{says} (request req_0000010000000001)\","))
                && event.ends_with("}}\n\n"),
            "{event}"
        );
    }
    let killed = Denial::Account { account: bot(), reason: "fire".to_owned(), state: AccountState::Killed };
    let event = String::from_utf8(stream_denial(&killed, Dialect::Chat, TO, &Meter::default()).to_vec()).unwrap();
    let says = "Account `bot` was killed (fire): `aexctl agent resume bot` lifts it. (request req_0000010000000001)";
    let object = format!("{{\"message\":\"{says}\",\"type\":\"permission_error\",\"param\":null,\"code\":\"account_killed\"}}");
    assert_eq!(event, format!("data: {{\"error\":{object}}}\n\n"));
    assert_eq!((misdirected(Misdirected::WrongMethod, TO).status, misdirected(Misdirected::WebSocket, TO).status), (405, 426));
}

#[test]
fn rules_of_a_profile_and_tokens_of_a_minute() {
    let ruled = Ruled {
        effect: Effect::Deny,
        error: None,
        file: Some("policy.yaml".to_owned()),
        line: Some(7),
        matched: vec!["day".to_owned(), "no m".to_owned()],
        near: vec![NearMiss { condition: "hour: 3 is not within 9-17".to_owned(), rule: "work".to_owned() }],
        reason: Some("too dear".to_owned()),
        rule: "no m".to_owned(),
    };
    let by = |ruled: Ruled| Denial::Rule(Box::new(ruled));
    check(
        &by(ruled.clone()),
        r##"403 - final {"error":{"Rule `no m` (policy.yaml:7) denies this call: too dear; it also matches day; `aexctl policy show NAME` shows the rules.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
    check(
        &by(Ruled { effect: Effect::Ask, matched: vec![], reason: None, ..ruled.clone() }),
        r##"403 - final {"error":{"Rule `no m` (policy.yaml:7) asks for an approval, and approvals do not exist yet, so it denies; `aexctl policy show NAME` shows the rules.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
    check(
        &by(Ruled { rule: "default".to_owned(), matched: vec![], reason: None, ..ruled.clone() }),
        r##"403 - final {"error":{"No rule of the agent's profile (policy.yaml:7) lets this call pass; nearest is `work`, but for hour: 3 is not within 9-17; `aexctl policy show NAME` shows the rules.#","permission_error","param":null,"code":"policy_violation"}}"##,
    );
    let tokens = |account: Option<&str>, retry_after_ms| Denial::TokenRate {
        account: account.map(|name| Named { id: AccountId::new(3), kind: None, name: name.to_owned() }),
        asked: 52,
        limit: 50,
        model: "m".to_owned(),
        retry_after_ms,
    };
    check(
        &tokens(Some("bot"), Some(1500)),
        r##"429 1500 retry {"error":{"The limit of `bot`, 50 tokens per minute, has no room for a call of about 52 tokens: wait 1.500 s.#","requests","param":null,"code":"rate_limit_exceeded"}}"##,
    );
    check(
        &tokens(None, None),
        r##"429 - final {"error":{"This call of about 52 tokens is larger than the limit of model `m`, 50 tokens per minute: lower max_tokens or send less.#","requests","param":null,"code":"rate_limit_exceeded"}}"##,
    );
}

/// What clients of `/v1/messages` read of each kind of denial.
#[test]
fn a_denial_has_the_status_type_and_envelope_of_anthropic() {
    let to = Addressee { shape: Shape::Anthropic, ..TO };
    let account = Denial::Account { account: bot(), reason: String::new(), state: AccountState::Paused };
    let breach = |rule| Denial::Policy { also: vec![], breach: Breach { asked: "2".to_owned(), limit: "1".to_owned(), rule } };
    let rate = Denial::Rate { account: bot(), kind: RateKind::RequestsPerMinute, limit: 6, retry_after_ms: 1_500 };
    for (denial, status, kind) in [
        (Denial::Unauthenticated { cause: AuthCause::Missing }, 401, "authentication_error"),
        (Denial::ReadOnlyToken, 403, "permission_error"),
        (account, 403, "permission_error"),
        (Denial::Passthrough, 403, "permission_error"),
        (Denial::PassthroughElsewhere { provider: "p".to_owned() }, 403, "permission_error"),
        (Denial::UnknownModel { model: "m".to_owned() }, 404, "not_found_error"),
        (breach(Rule::AllowedModels), 404, "not_found_error"),
        (breach(Rule::AllowTools), 403, "permission_error"),
        (breach(Rule::ModelTools), 400, "invalid_request_error"),
        (breach(Rule::ModelMaxTokens), 400, "invalid_request_error"),
        (Denial::Malformed { message: "no".to_owned(), param: None }, 400, "invalid_request_error"),
        (Denial::TooLarge { limit: 1 }, 413, "request_too_large"),
        (rate.clone(), 429, "rate_limit_error"),
        (budget(Period::Day, None), 402, "billing_error"),
        (Denial::KeyMissing { provider: "p".to_owned(), variable: "K".to_owned() }, 500, "api_error"),
        (
            Denial::Protocol { model: "m".to_owned(), protocol: Protocol::Anthropic, provider: "p".to_owned(), setting: None },
            400,
            "invalid_request_error",
        ),
        (Denial::LedgerUnavailable, 529, "overloaded_error"),
        (Denial::Draining, 529, "overloaded_error"),
    ] {
        let refusal = worded(&denial, to);
        let body: serde_json::Value = serde_json::from_slice(&refusal.body(to)).unwrap();
        let expected = serde_json::json!({
            "type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": "req_0000010000000001",
        });
        assert_eq!((refusal.status, body), (status, expected), "{denial:?}");
        let openai = worded(&denial, TO);
        assert_eq!((refusal.no_retry, refusal.retry_after_ms), (openai.no_retry, openai.retry_after_ms), "{denial:?}");
    }
    for (fault, status) in [(UpstreamFault::Unreachable, 502), (UpstreamFault::FirstByteTimeout, 504)] {
        let refusal = upstream(fault, "p", to);
        assert_eq!((refusal.status, refusal.kind, refusal.no_retry), (status, "api_error", false));
    }
    for (cause, status, kind) in [
        (Misdirected::UnknownPath, 404, "not_found_error"),
        (Misdirected::WrongMethod, 405, "invalid_request_error"),
        (Misdirected::ForeignHost, 403, "permission_error"),
        (Misdirected::LongTarget, 414, "invalid_request_error"),
        (Misdirected::BadHead, 400, "invalid_request_error"),
        (Misdirected::LongHead, 431, "invalid_request_error"),
        (Misdirected::SlowHead, 408, "invalid_request_error"),
    ] {
        assert_eq!((misdirected(cause, to).status, misdirected(cause, to).kind), (status, kind));
    }
}

#[test]
fn codex_alone_is_told_an_empty_budget_as_a_rate() {
    let to = Addressee { shape: Shape::Codex, ..TO };
    let told = worded(&budget(Period::Day, None), to);
    assert_eq!((told.status, told.kind, told.code, told.no_retry), (429, "insufficient_quota", "insufficient_quota", true));
    assert_eq!(told.body(to), worded(&budget(Period::Day, None), TO).body(TO));
    let paused = Denial::Account { account: bot(), reason: String::new(), state: AccountState::Paused };
    // It would repeat another status, and shows the message of this one.
    assert_eq!(worded(&paused, to), Refusal { status: 400, ..worded(&paused, TO) });
    let rate = Denial::AuthThrottled { retry_after_ms: 1_000 };
    assert_eq!(worded(&rate, to).status, worded(&rate, TO).status);
}

#[test]
fn a_provider_that_fails_is_told_with_the_wait() {
    check(
        &Denial::ProviderDown { provider: "mock".to_owned(), retry_after_ms: 9_500 },
        r##"503 9500 retry {"error":{"Provider `mock` has failed again and again and is not called for now: wait 9.500 s.#","upstream_error","param":null,"code":"upstream_unavailable"}}"##,
    );
}

#[test]
fn a_key_that_was_used_names_the_first_call_and_only_a_running_one_is_worth_a_retry() {
    let used = |cause| Denial::Idempotency { cause, first: RequestId::from_bits(0x0100_0000_0007) };
    check(
        &used(KeyUse::Running),
        r##"409 1000 retry {"error":{"The first call with this `idempotency-key`, req_0000010000000007, is still under way: ask again for its answer.#","invalid_request_error","param":null,"code":"idempotency_key_in_use"}}"##,
    );
    for (cause, code) in [(KeyUse::OtherRequest, "idempotency_key_reused"), (KeyUse::AnswerGone, "idempotency_answer_gone")] {
        let refusal = worded(&used(cause), TO);
        assert_eq!((refusal.status, refusal.code, refusal.no_retry, refusal.retry_after_ms), (409, code, true, None));
        assert!(refusal.message.contains("req_0000010000000007"), "{}", refusal.message);
    }
    let full = worded(&Denial::IdempotencyFull { limit: 5 }, TO);
    assert_eq!((full.status, full.code, full.retry_after_ms), (503, "idempotency_keys_full", Some(60_000)));
}

#[test]
fn the_field_at_fault_is_named_as_the_dialect_names_it() {
    let breach = |rule| Denial::Policy { also: vec![], breach: Breach { asked: "2".to_owned(), limit: "1".to_owned(), rule } };
    let param = |dialect, rule| worded(&breach(rule), Addressee { dialect: Some(dialect), ..TO }).param;
    for (dialect, input, output) in [
        (Dialect::Chat, "messages", "max_tokens"),
        (Dialect::Completions, "prompt", "max_tokens"),
        (Dialect::Embeddings, "input", "max_tokens"),
    ] {
        assert_eq!(param(dialect, Rule::MaxInputTokens).as_deref(), Some(input));
        assert_eq!(param(dialect, Rule::ModelMaxTokens).as_deref(), Some(output));
        assert_eq!(param(dialect, Rule::AllowStreaming).as_deref(), Some("stream"));
    }
}

#[test]
fn a_response_that_cannot_go_on_fails_as_an_event_of_its_own_stream() {
    let kept = Kept { id: "resp_1".to_owned(), items: vec![], created_at: 7 };
    for (meter, id, number) in [
        (Meter::default(), "resp_req_0000010000000001", 0),
        (Meter { next_sequence: 5, kept: Some(Box::new(kept)), ..Meter::default() }, "resp_1", 5),
    ] {
        let event = String::from_utf8(stream_fault(UpstreamFault::Cut, Dialect::Responses, TO, &meter).to_vec()).unwrap();
        let data = event.strip_prefix("event: response.failed\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["sequence_number"]), (&"response.failed".into(), &number.into()));
        assert_eq!((&data["response"]["id"], &data["response"]["status"]), (&id.into(), &"failed".into()));
        assert_eq!(data["response"]["error"]["code"], "upstream_error");
    }
}
