//! Governed calls of Anthropic's API on real sockets: what passes untouched, what is edited, and what each costs.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::policy::Changed;
use aex_core::usage::Bucket;
use aex_tests::anthropic::{Scene, message, message_with, post};
use aex_tests::client::{self, Connection, End};
use aex_tests::ledger::{audited, last, settled_and_audited};
use aex_tests::provider::{At, Ended, How, KEY, Script, Usage};
use serde_json::{Value, json};

const MICRO: i64 = 1_000_000;

#[test]
fn a_plain_message_is_the_providers_bytes_but_for_the_model() {
    let scene = Scene::new();
    let usage = r#""usage":{"input_tokens":5,"output_tokens":1}"#;
    let rows = [
        r#"{"id":"msg","type":"message","role":"assistant","model":"m1-upstream","content":[{"type":"text","text":"m1-upstream é"}],USAGE}"#,
        "{ \"content\" : [ ],\r\n\t\"unknown\": {\"deep\": [1.0e0, -0, \"\\u00e9\\ud83d\\ude00é\"]} , USAGE, \"type\":\"message\", \"model\"  :  \"m1-upstream\"\n}\n",
        r#"{"type":"message","content":[],USAGE}"#,
    ];
    for row in rows {
        let body = row.replace("USAGE", usage);
        provider_says(&scene, &body);
        let answer = scene.post(&message());
        assert_eq!((answer.status, answer.end, answer.text()), (200, End::Complete, body.replace("\"m1-upstream\"", "\"m1\"")));
        assert_eq!((last(&scene.daemon).story().as_str(), last(&scene.daemon).charge()), ("exact answered", 30 * MICRO));
    }
    audited(&scene.daemon);
}

fn provider_says(scene: &Scene, body: &str) {
    scene.provider.script(Script { status: Some(200), body: Some(body.to_owned()), ..Script::default() });
}

#[test]
fn a_true_stream_differs_from_the_providers_own_only_in_the_model() {
    let scene = Scene::new();
    for (crlf, comments, split) in [(false, false, None), (true, false, Some(7)), (false, true, Some(1))] {
        let script = Script { crlf, comments, split, ..Script::default() };
        scene.provider.script(script.clone());
        let relayed = scene.post(&message_with(&json!({"stream": true})));
        assert_eq!(
            (relayed.status, relayed.end, relayed.header("content-type")),
            (200, End::Complete, Some("text/event-stream; charset=utf-8"))
        );
        let sent = scene.provider.last_request();
        assert!(sent.json().get("stream_options").is_none());
        // The same request without the daemon: only the number of the call differs.
        let twin = aex_tests::provider::Provider::start();
        twin.script(script);
        let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
        let direct = client::post_bytes(&format!("{}/messages", twin.base_url()), &headers, &sent.body).text();
        let direct = direct.replace("msg_1\"", &format!("msg_{}\"", sent.seq)).replace("m1-upstream", "m1");
        assert_eq!(relayed.text(), direct);
        assert_eq!(last(&scene.daemon).story(), "exact answered");
    }
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).exact, 3);
}

#[test]
fn the_provider_gets_the_clients_bytes_headers_and_query_and_the_daemons_key() {
    let scene = Scene::new();
    let body = br#"{ "model":"m1","max_tokens":7 ,"messages" : [ {"role":"user","content":"h\u00e9llo \"m1\""} ],"unknown":{"model":"m1","n":[1.50,-0]}}"#;
    let url = format!("{}/v1/messages?beta=true", scene.daemon.url());
    let kept = [
        ("anthropic-version", "2026-10-21"),
        ("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14"),
        ("anthropic-dangerous-direct-browser-access", "true"),
        ("x-claude-code-session-id", "s"),
        ("x-app", "cli"),
        ("user-agent", "claude-cli/2.1.329"),
    ];
    let back = Script::default()
        .header("request-id", "req_of_the_provider")
        .header("anthropic-ratelimit-tokens-remaining", "9")
        .header("anthropic-organization-id", "org")
        .header("set-cookie", "session=1");
    for token_in in ["x-api-key", "authorization"] {
        scene.provider.script(back.clone());
        let value = if token_in == "authorization" { format!("Bearer {}", scene.token) } else { scene.token.clone() };
        let headers: Vec<(&str, &str)> = [(token_in, value.as_str())].into_iter().chain(kept).collect();
        let answer = client::post_bytes(&url, &headers, body);
        assert_eq!(answer.status, 200, "{answer}");
        let seen = scene.provider.last_request();
        assert_eq!(seen.path, "/v1/messages?beta=true");
        assert_eq!(String::from_utf8_lossy(&seen.body), String::from_utf8_lossy(body).replacen("\"m1\"", "\"m1-upstream\"", 1));
        for (name, value) in kept {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
        assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some(KEY), None));
        assert!(seen.headers.iter().all(|(_, value)| !value.contains(&scene.token)), "{:?}", seen.headers);
        assert_eq!(answer.header("request-id"), Some("req_of_the_provider"));
        assert_eq!(answer.header("anthropic-ratelimit-tokens-remaining"), Some("9"));
        assert_eq!((answer.header("anthropic-organization-id"), answer.header("set-cookie")), (Some("org"), None));
        assert!(answer.header("x-aex-request-id").is_some_and(|id| id.starts_with("req_")) && !answer.to_string().contains(KEY));
    }
    // A client that says no version speaks the first one.
    assert_eq!(scene.post(&message()).status, 200);
    let seen = scene.provider.last_request();
    assert_eq!((seen.header("anthropic-version"), seen.path.as_str()), (Some("2023-06-01"), "/v1/messages"));
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn tools_make_the_round_trip() {
    let scene = Scene::new();
    let tools = json!([{"name": "add", "input_schema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}}]);
    for stream in [false, true] {
        let asked = message_with(&json!({"tools": tools, "stream": stream}));
        let answer = scene.post(&asked);
        let called = if stream {
            let chunks = answer.chunks();
            let start = chunks.iter().find(|event| event["type"] == "content_block_start").expect("a block")["content_block"].clone();
            let input: String = chunks.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
            json!({"type": "tool_use", "id": start["id"], "name": start["name"], "input": serde_json::from_str::<Value>(&input).expect("JSON")})
        } else {
            answer.json()["content"][0].clone()
        };
        assert_eq!((&called["name"], &called["input"]), (&json!("add"), &json!({"n": 3})), "{answer}");
        let result = json!([{"type": "tool_result", "tool_use_id": called["id"], "content": [{"type": "text", "text": "seven"}]}]);
        let messages =
            json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": [called]}, {"role": "user", "content": result}]);
        let answer = scene.post(&message_with(&json!({"tools": tools, "messages": messages, "max_tokens": 60})));
        assert_eq!((answer.status, &answer.json()["content"][0]["type"]), (200, &json!("text")), "{answer}");
        let held = last(&scene.daemon).held;
        assert_eq!((held.ask.tool_names, held.ask.text_chars, held.ask.messages), (vec!["add".to_owned()], 10, 3));
    }
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).exact, 4);
}

#[test]
fn what_the_cache_read_and_took_is_charged_at_its_own_price() {
    let scene = Scene::new();
    for (stream, cached, written) in [(false, 60, 30), (true, 60, 30), (false, 0, 100), (true, 103, 0)] {
        scene.provider.script(Script { cached_tokens: cached, written_tokens: written, ..Script::default() });
        let text = "x".repeat(usize::from(stream) + 400 - usize::try_from(written).expect("few"));
        let answer = scene.post(&message_with(&json!({"stream": stream, "messages": [{"role": "user", "content": text}]})));
        assert_eq!(answer.status, 200, "{answer}");
    }
    let charges: Vec<i64> = aex_tests::ledger::quiet(&scene.daemon).iter().map(aex_tests::ledger::Call::charge).collect();
    let micro = |input: i64, read: i64, written: i64| input * 3 * MICRO + read * 300_000 + written * 3_750_000 + 14 * 15 * MICRO;
    // Four characters are a token, and a message is three.
    assert_eq!(charges, [micro(6, 60, 30), micro(6, 60, 30), micro(0, 0, 78), micro(1, 103, 0)]);
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).exact, 4);
}

#[test]
fn an_hours_write_without_a_price_of_its_own_is_charged_as_the_dearest_and_as_an_estimate() {
    let scene = Scene::new();
    let usage = json!({"input_tokens": 5, "output_tokens": 14, "cache_creation_input_tokens": 0, "cache_creation": {"ephemeral_1h_input_tokens": 7}});
    scene.provider.script(Script { usage: Usage::Raw(usage), ..Script::default() });
    assert_eq!(scene.post(&message()).status, 200);
    let call = last(&scene.daemon);
    assert_eq!((call.story().as_str(), call.quantity(Bucket::CacheWrite1h)), ("estimated answered", 7));
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_client_that_leaves_a_stream_pays_for_its_input_and_what_was_relayed() {
    for reset in [false, true] {
        let scene = Scene::new();
        scene.provider.script(Script::hold_after(3));
        let connection = scene.begin_stream(12);
        if reset {
            connection.reset();
        } else {
            connection.close();
        }
        assert_eq!(scene.provider.wait_for_bills(1)[0].ended, Ended::CutByClient);
        let call = last(&scene.daemon);
        // The input is known from the first event: two tokens of text and three of a message.
        let counted = (call.quantity(Bucket::Input), call.quantity(Bucket::Output));
        assert_eq!((call.story().as_str(), counted), ("estimated client_left", (5, 12)));
        settled_and_audited(&scene.daemon, &scene.provider);
    }
}

#[test]
fn a_broken_stream_of_a_model_that_thinks_costs_what_it_may_have_thought_unseen() {
    let scene = Scene::new();
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#;
    let thinks = r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#;
    let shown = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"abcd"}}"#;
    let signed = r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"0123456789"}}"#;
    let speaks = r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"hello"}}"#;
    let (off, some, open) = (json!(null), json!({"type": "enabled", "budget_tokens": 30}), json!({"type": "adaptive"}));
    let rows: [(&Value, &[&str], u64); 10] = [
        (&off, &[], 1),
        (&off, &[thinks, shown], 4),
        (&some, &[], 30),
        (&some, &[thinks, shown], 34),
        (&some, &[thinks, shown, signed], 10),
        (&some, &[thinks, signed, speaks], 15),
        (&some, &[speaks], 5),
        (&open, &[], 50),
        (&open, &[thinks, shown], 50),
        (&open, &[speaks], 5),
    ];
    for (thinking, events, output) in rows {
        let events: String = [start].iter().chain(events).map(|event| format!("data: {event}\n\n")).collect();
        scene.provider.script(Script { garbage: Some(events.clone()), ..Script::default() });
        drop(scene.post(&message_with(&json!({"model": "thinker", "stream": true, "thinking": thinking}))));
        let call = last(&scene.daemon);
        assert_eq!((call.story().as_str(), call.quantity(Bucket::Output)), ("estimated provider_left", output), "{thinking} {events}");
    }
    audited(&scene.daemon);
}

#[test]
fn a_stream_that_breaks_off_ends_in_an_error_event_and_a_broken_connection() {
    let scene = Scene::new();
    for (number, how) in [How::Finish, How::Close, How::Reset].into_iter().enumerate() {
        scene.provider.script(Script::cut(At::Chunk(2), how));
        let text = "y".repeat(number + 1);
        let answer = scene.post(&message_with(&json!({"stream": true, "messages": [{"role": "user", "content": text}]})));
        assert_eq!((answer.status, answer.end), (200, End::Broken), "{answer}");
        let (before, event) = answer.text().rsplit_once("event: ").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("an event");
        assert!(before.ends_with("\n\n") && event.starts_with("error\ndata: "), "{answer}");
        let error: Value = serde_json::from_str(event.trim_start_matches("error\ndata: ")).expect("JSON");
        let id = answer.header("x-aex-request-id").expect("an id");
        assert_eq!((&error["type"], &error["error"]["type"], &error["request_id"]), (&json!("error"), &json!("api_error"), &json!(id)));
        assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains("ended the connection within its answer")));
        let call = last(&scene.daemon);
        assert_eq!((call.story().as_str(), call.quantity(Bucket::Output)), ("estimated provider_left", 8));
    }
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_stream_that_ends_without_its_last_event_is_broken_too_and_charged_by_its_last_counts() {
    let scene = Scene::new();
    let event = |payload: Value| format!("event: {}\ndata: {payload}\n\n", payload["type"].as_str().unwrap_or_default());
    let start =
        event(json!({"type": "message_start", "message": {"model": "m1-upstream", "usage": {"input_tokens": 5, "output_tokens": 1}}}));
    let text = event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "four"}}));
    let counts = event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}));
    let stop = event(json!({"type": "message_stop"}));
    let rows = [
        ([&start, &text, &counts].map(String::as_str).concat(), End::Broken, "exact answered", 9),
        // No last counts: what was relayed stands for them.
        ([&start, &text, &stop].map(String::as_str).concat(), End::Complete, "estimated no_usage", 4),
        ([&start, &text].map(String::as_str).concat(), End::Broken, "estimated provider_left", 4),
    ];
    for (sent, end, story, output) in rows {
        scene.provider.script(Script { garbage: Some(sent), ..Script::default() });
        let answer = scene.post(&message_with(&json!({"stream": true})));
        assert_eq!((answer.status, answer.end), (200, end), "{answer}");
        let call = last(&scene.daemon);
        let counted = (call.quantity(Bucket::Input), call.quantity(Bucket::Output));
        assert_eq!((call.story().as_str(), counted), (story, (5, output)), "{answer}");
    }
    audited(&scene.daemon);
}

#[test]
fn an_error_in_a_stream_passes_and_the_connection_breaks() {
    let scene = Scene::new();
    for (after, output) in [(0, 1), (2, 8)] {
        scene.provider.script(Script { error_after: Some(after), ..Script::default() });
        let answer = scene.post(&message_with(&json!({"stream": true, "max_tokens": 50 + after})));
        assert_eq!((answer.status, answer.end), (200, End::Broken), "{answer}");
        let events = answer.chunks();
        let errors: Vec<&Value> = events.iter().filter(|event| event["type"] == "error").collect();
        assert_eq!(errors, [&json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})]);
        let call = last(&scene.daemon);
        let counted = (call.quantity(Bucket::Input), call.quantity(Bucket::Output));
        assert_eq!((call.story().as_str(), counted), ("estimated provider_left", (5, output)), "{answer}");
    }
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn an_error_of_the_provider_passes_as_it_is_and_costs_nothing() {
    let scene = Scene::new();
    for status in [400, 401, 404, 429, 500, 529] {
        scene.provider.script(Script::error(status).header("retry-after", "7"));
        let answer = scene.post(&message());
        assert_eq!((answer.status, answer.header("retry-after"), answer.header("x-should-retry")), (status, Some("7"), None));
        assert_eq!((&answer.json()["type"], &answer.json()["request_id"]), (&json!("error"), &json!("req_scripted")), "{answer}");
        assert_eq!(last(&scene.daemon).story(), "released refused");
    }
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_bill_beyond_the_bound_is_charged_in_full_and_suspends_the_agent() {
    let scene = Scene::new();
    let token = scene.daemon.agent_with("poor", "0.01", 1000, &[]);
    scene.provider.script(Script { usage: Usage::Raw(json!({"input_tokens": 5000, "output_tokens": 1})), ..Script::default() });
    assert_eq!(post(&scene.daemon, &token, &message()).status, 200);
    let call = last(&scene.daemon);
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 15_015 * MICRO));
    assert_eq!(post(&scene.daemon, &token, &message()).json()["error"]["type"], "permission_error");
    let budget = &scene.daemon.rpc("agent.inspect", &json!({"name": "poor"}))["budgets"][0];
    assert_eq!((&budget["spent_pico"], &budget["overdraft_pico"]), (&json!("15015000000"), &json!("5015000000")), "{budget}");
    audited(&scene.daemon);
}

#[test]
fn a_kill_in_mid_call_is_charged_in_full_by_the_next_start() {
    let mut scene = Scene::new();
    scene.provider.script(Script::hold());
    let mut connection = Connection::open(&scene.daemon.url());
    connection.post_json("/v1/messages", &scene.token, &message());
    scene.provider.wait_for_requests(1);
    scene.daemon.kill9();
    scene.daemon.run();
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).worst_case, 1);
    assert_eq!(scene.post(&message_with(&json!({"max_tokens": 40}))).status, 200);
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_stream_that_the_policy_takes_away_still_comes_as_a_stream() {
    let rules = "profiles: {plain: {agents: bot, rules: [{name: whole, effect: limit, limit: {stream: false, max_tokens: 20}}]}}\n";
    let scene = Scene::with(|config| config.policy_yaml(rules));
    let tools = json!([{"name": "add", "input_schema": {"type": "object"}}]);
    for tools in [Value::Null, tools] {
        let answer = scene.post(&message_with(&json!({"stream": true, "tools": tools})));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")), "{answer}");
        let sent = scene.provider.last_request().json();
        assert_eq!((&sent["stream"], &sent["max_tokens"]), (&json!(false), &json!(20)));
        let events = answer.chunks();
        assert_eq!((&events[0]["type"], &events[0]["message"]["model"]), (&json!("message_start"), &json!("m1")), "{answer}");
        assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("message_stop")));
        let call = last(&scene.daemon);
        assert_eq!(
            (call.story().as_str(), call.held.changes.iter().any(|change| change.field == Changed::Stream)),
            ("exact answered", true)
        );
    }
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).exact, 2);
}

#[test]
fn a_request_for_no_output_fills_the_cache() {
    let scene = Scene::new();
    scene.provider.script(Script {
        status: Some(200),
        body: Some(
            r#"{"type":"message","content":[],"usage":{"input_tokens":0,"cache_creation_input_tokens":5,"output_tokens":0}}"#.to_owned(),
        ),
        ..Script::default()
    });
    let answer = scene.post(&message_with(&json!({"max_tokens": 0})));
    assert_eq!((answer.status, &scene.provider.last_request().json()["max_tokens"]), (200, &json!(0)), "{answer}");
    assert_eq!((last(&scene.daemon).held.output_tokens, last(&scene.daemon).charge()), (0, 18_750_000));
    audited(&scene.daemon);
}
