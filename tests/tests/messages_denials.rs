//! Every denial that a call of Anthropic's API can meet, as the contract has it; what is free; and which provider speaks what.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::anthropic::{self, Refusal, Scene, check, denied, message, message_with, post};
use aex_tests::ask;
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, settled_and_audited, until};
use aex_tests::lock::Lock;
use aex_tests::provider::{KEY, Provider, Script};
use serde_json::{Value, json};

const fn lasting<'a>(status: u16, kind: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status, kind, retries: Some(false), says }
}

const fn passing<'a>(status: u16, kind: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status, kind, retries: Some(true), says }
}

const fn forbidden<'a>(says: &'a [&'a str]) -> Refusal<'a> {
    lasting(403, "permission_error", says)
}

const fn wrong<'a>(says: &'a [&'a str]) -> Refusal<'a> {
    lasting(400, "invalid_request_error", says)
}

/// Posts a message, which must be denied by this rule.
#[track_caller]
fn denies(scene: &Scene, token: &str, body: &Value, wanted: &Refusal<'_>, rule: &str) {
    let seen = scene.provider.requests().len();
    let answer = post(&scene.daemon, token, body);
    denied(scene, seen, &answer, wanted, rule);
}

#[test]
fn callers_that_are_not_let_in() {
    let scene = Scene::new();
    let unknown = |says| lasting(401, "authentication_error", says);
    denies(&scene, "", &message(), &unknown(&["No token was sent"]), "");
    denies(&scene, "sk-ant-api03-x", &message(), &unknown(&["no token of aexd"]), "");
    denies(&scene, &format!("{}x", scene.token), &message(), &unknown(&["no token of aexd"]), "");
    let reader = scene.daemon.agent("reader", &["--scope", "read-only"]);
    denies(&scene, &reader, &message(), &forbidden(&["read-only"]), "token_scope");
    scene.daemon.ctl(["agent", "pause", "bot", "--reason", "too loud"]).ok();
    denies(&scene, &scene.token, &message(), &forbidden(&["`bot` is paused", "too loud"]), "account_state");
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn calls_that_a_policy_or_a_model_does_not_let_pass() {
    let scene = Scene::new();
    let agent = |name: &str, flags: &[&str]| scene.daemon.agent(name, flags);
    let tools = message_with(&json!({"tools": [{"name": "a", "input_schema": {}}]}));
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
    let image = |model: &str| message_with(&json!({"model": model, "messages": [{"role": "user", "content": [image]}]}));
    denies(&scene, &agent("toolless", &["--no-tools"]), &tools, &forbidden(&["1 tools"]), "allow_tools");
    denies(&scene, &agent("listed", &["--allowed-tool-names", "b"]), &tools, &forbidden(&["a"]), "allowed_tool_names");
    denies(&scene, &agent("short", &["--max-output-tokens", "9"]), &message(), &forbidden(&["50"]), "max_output_tokens");
    denies(&scene, &scene.token, &image("m1"), &forbidden(&["allow_vision"]), "allow_vision");
    denies(&scene, &agent("plain", &["--no-streaming"]), &message_with(&json!({"stream": true})), &forbidden(&[]), "allow_streaming");
    let strict = agent("strict", &["--strict"]);
    denies(&scene, &strict, &message_with(&json!({"surprise": 1})), &forbidden(&["surprise"]), "strict");
    assert_eq!(post(&scene.daemon, &strict, &message_with(&json!({"thinking": {"type": "disabled"}, "metadata": {}}))).status, 200);
    // What costs beyond the model's prices.
    for (number, (changes, says)) in [
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "web_search_20250305"),
        (json!({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}), "mcp_servers"),
        (json!({"fallbacks": "default"}), "its field `fallbacks`"),
        (json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}), "its field `context_management`"),
        (json!({"speed": "fast"}), "fast"),
    ]
    .into_iter()
    .enumerate()
    {
        // One each: what repeats within a second shares an event.
        let agent = agent(&format!("costly-{number}"), &[]);
        denies(&scene, &agent, &message_with(&changes), &forbidden(&[says]), "price");
    }

    let no_model = |says| lasting(404, "not_found_error", says);
    denies(&scene, &scene.token, &message_with(&json!({"model": "claude-9"})), &no_model(&["claude-9"]), "known_model");
    denies(&scene, &agent("narrow", &["--allowed-models", "m2"]), &message(), &no_model(&["m1"]), "allowed_models");

    denies(&scene, &scene.token, &message_with(&json!({"max_tokens": null})), &wrong(&["max_tokens", "missing"]), "request_form");
    denies(&scene, &agent("wordy", &[]), &message_with(&json!({"messages": "hello"})), &wrong(&["messages"]), "request_form");
    denies(&scene, &scene.token, &message_with(&json!({"max_tokens": 1001})), &wrong(&["1001", "1000"]), "limits.max_tokens");
    let seeing = agent("seeing", &["--allow-vision"]);
    denies(&scene, &seeing, &image("m2"), &wrong(&["takes no images"]), "capabilities.vision");
    let answer = post(&scene.daemon, &seeing, &image("m1"));
    assert_eq!((answer.status, ledger::last(&scene.daemon).held.input_tokens), (200, 10_000), "{answer}");
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn rates_money_and_keys() {
    let scene = Scene::new();
    let slow = scene.daemon.agent_with("slow", "1", 1, &[]);
    assert_eq!(post(&scene.daemon, &slow, &message()).status, 200);
    denies(&scene, &slow, &message(), &passing(429, "rate_limit_error", &["`slow`", "1 request per minute"]), "rpm");
    let poor = scene.daemon.agent_with("poor", "0.000001", 1000, &[]);
    denies(&scene, &poor, &message(), &lasting(402, "billing_error", &["`poor`", "does not suffice"]), "budget");
    let seen = scene.provider.requests().len();
    let headers = [("x-api-key", scene.token.as_str()), ("x-aex-provider-key", "sk-ant-own")];
    let url = format!("{}/v1/messages", scene.daemon.url());
    let answer = client::post_bytes(&url, &headers, message().to_string().as_bytes());
    denied(&scene, seen, &answer, &lasting(403, "permission_error", &["x-aex-provider-key"]), "allow_passthrough");
    settled_and_audited(&scene.daemon, &scene.provider);

    let keyless = Scene::with(|config| config.dotenv("CLAUDE_API_KEY=\n"));
    denies(&keyless, &keyless.token, &message(), &lasting(500, "api_error", &["`claude`", "CLAUDE_API_KEY"]), "provider_key");
    assert!(ledger::calls(&keyless.daemon).is_empty());
}

#[test]
fn a_provider_or_a_ledger_that_is_away() {
    let mut scene = Scene::new();
    let lock = Lock::take(&scene.daemon.home());
    let away = passing(529, "overloaded_error", &["cannot write its ledger"]);
    check(&post(&scene.daemon, &scene.token, &message()), &away);
    lock.release();
    until("the ledger's return", || (post(&scene.daemon, &scene.token, &message()).status == 200).then_some(()));
    scene.provider.stop();
    let gone = Refusal { retries: None, ..lasting(502, "api_error", &["`claude`", "cannot be reached"]) };
    for path in ["messages", "messages/count_tokens"] {
        check(&client::post_json(&format!("{}/v1/{path}", scene.daemon.url()), &scene.token, &message()), &gone);
    }
    assert_eq!(ledger::last(&scene.daemon).story(), "released never_sent");
    scene.provider.restart();
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_daemon_that_drains_refuses_new_calls() {
    let mut scene = Scene::new();
    scene.provider.script(Script::hold_after(1));
    // The late connection is accepted before the busy one is, and so before the drain; the busy one keeps the daemon from its end.
    let mut late = Connection::open(&scene.daemon.url());
    let mut busy = scene.begin_stream(4);
    let body = message().to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        scene.token,
        body.len()
    );
    late.send(head.as_bytes()).expect("send half a head");
    let mut control = scene.daemon.control();
    control.call("daemon.stop", &json!({})).expect("daemon.stop");
    until("the drain", || (control.call("daemon.status", &json!({})).ok()?["state"] == "draining").then_some(()));
    late.send(format!("\r\n{body}").as_bytes()).expect("send the rest");
    check(&late.answer().expect("an answer"), &passing(529, "overloaded_error", &["shutting down"]));
    scene.provider.release();
    while busy.next_data().expect("a clean end").is_some() {}
    assert_eq!(scene.daemon.wait(), 0);
    scene.daemon.run();
    assert_eq!(settled_and_audited(&scene.daemon, &scene.provider).exact, 1);
}

#[test]
fn an_agent_that_is_deleted_in_mid_stream_is_told_so_in_an_error_event() {
    let scene = Scene::new();
    scene.provider.script(Script::hold_after(3));
    let mut connection = scene.begin_stream(12);
    scene.daemon.ctl(["agent", "delete", "bot"]).ok();
    let mut last = String::new();
    while let Ok(next) = connection.next_data() {
        last = next.expect("a broken end, not a clean one");
    }
    let event: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&event["type"], &event["error"]["type"]), (&json!("error"), &json!("permission_error")), "{last}");
    assert!(event["error"]["message"].as_str().is_some_and(|message| message.contains("Agent `bot` is closed")), "{last}");
    assert_eq!(ledger::last(&scene.daemon).story(), "estimated stopped");
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn other_methods_and_paths_are_answered_as_anthropic_does() {
    let scene = Scene::new();
    let kind = |answer: &client::Answer| answer.json()["error"]["type"].as_str().unwrap_or_default().to_owned();
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let answer = client::get(&format!("{}{path}", scene.daemon.url()), &scene.token);
        assert_eq!(
            (answer.status, kind(&answer), answer.header("allow")),
            (405, "invalid_request_error".to_owned(), Some("POST")),
            "{answer}"
        );
    }
    let answer = client::post_json(&format!("{}/v1/messages/batches", scene.daemon.url()), &scene.token, &json!({}));
    assert_eq!((answer.status, kind(&answer), &answer.json()["type"]), (404, "not_found_error".to_owned(), &json!("error")), "{answer}");
}

#[test]
fn tokens_are_counted_for_nothing_but_not_for_everybody() {
    let scene = Scene::new();
    let url = format!("{}/v1/messages/count_tokens?beta=true", scene.daemon.url());
    let count = |token: &str, body: &Value| client::post_json(&url, token, body);
    let body = json!({"model": "m1", "messages": [{"role": "user", "content": "hello"}], "system": "1234"});
    // Neither money nor a limit of tokens is needed.
    let poor = scene.daemon.agent_with("poor", "0", 2, &["--tpm", "1"]);
    let answer = count(&poor, &body);
    assert_eq!((answer.status, answer.json()), (200, json!({"input_tokens": 6})), "{answer}");
    let seen = scene.provider.last_request();
    assert_eq!((seen.path.as_str(), seen.header("x-api-key")), ("/v1/messages/count_tokens?beta=true", Some(KEY)));
    assert_eq!((seen.json()["model"].as_str(), seen.json().get("max_tokens")), (Some("m1-upstream"), None));
    assert!(ledger::calls(&scene.daemon).is_empty(), "nothing is held for a count");
    // The rate counts it.
    assert_eq!(count(&poor, &body).status, 200);
    check(&count(&poor, &body), &passing(429, "rate_limit_error", &["`poor`"]));
    check(&count("", &body), &lasting(401, "authentication_error", &[]));
    let narrow = scene.daemon.agent("narrow", &["--allowed-models", "m2"]);
    check(&count(&narrow, &body), &lasting(404, "not_found_error", &["m1"]));
    check(&count(&scene.token, &json!({"model": "m1"})), &lasting(400, "invalid_request_error", &["messages"]));
    scene.daemon.ctl(["agent", "pause", "bot"]).ok();
    check(&count(&scene.token, &body), &lasting(403, "permission_error", &["paused"]));
    settled_and_audited(&scene.daemon, &scene.provider);
}

#[test]
fn a_client_may_bring_its_own_credentials_beside_the_token() {
    let scene = Scene::new();
    let with = scene.daemon.agent("with", &["--allow-passthrough"]);
    let send = |headers: &[(&str, &str)]| {
        scene.provider.script(Script {
            status: Some(200),
            body: Some("{\"type\":\"message\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}".to_owned()),
            ..Script::default()
        });
        client::post_bytes(&format!("{}/v1/messages", scene.daemon.url()), headers, message().to_string().as_bytes())
    };
    let key = format!("Bearer {KEY}");
    let bearer = format!("Bearer {with}");
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>);
    let rows: [Row<'_>; 5] = [
        // A subscriber's token, as it came; the daemon's key stays out.
        (&[("x-aex-token", &with), ("authorization", &key)], Some(&key), None),
        (&[("x-aex-token", &with), ("x-api-key", KEY)], None, Some(KEY)),
        // Where nothing of the client's own stands beside it, the daemon's key is used; the agent's token never leaves.
        (&[("x-aex-token", &with)], None, Some(KEY)),
        (&[("x-aex-token", &with), ("authorization", &bearer), ("x-api-key", &with)], None, Some(KEY)),
        (&[("authorization", &bearer), ("x-aex-provider-key", KEY)], None, Some(KEY)),
    ];
    for (headers, authorization, api_key) in rows {
        let answer = send(headers);
        assert_eq!(answer.status, 200, "{headers:?}: {answer}");
        let seen = scene.provider.last_request();
        assert_eq!((seen.header("authorization"), seen.header("x-api-key"), seen.header("x-aex-token")), (authorization, api_key, None));
    }
    let seen = scene.provider.requests().len();
    // Another token of ours is no provider's, and the daemon's key no substitute for it.
    let other = format!("Bearer {}", scene.token);
    let answer = send(&[("x-aex-token", &with), ("authorization", &other)]);
    denied(&scene, seen, &answer, &wrong(&["the provider key that the call brings is none"]), "request_form");
    let answer = send(&[("x-aex-token", &scene.token), ("authorization", &key)]);
    denied(&scene, seen, &answer, &lasting(403, "permission_error", &["x-aex-token"]), "allow_passthrough");
    ledger::audited(&scene.daemon);
}

#[test]
fn a_clients_own_credentials_go_to_anthropic_alone() {
    let (provider, other) = (Provider::start(), Provider::start());
    let daemon = Daemon::start_with(Config::new(&provider).provider_line(&format!("anthropic_base_url: {}/anthropic", other.origin())));
    let token = daemon.agent("bot", &["--allow-passthrough"]);
    let send = |path: &str, name: &str, value: &str| {
        let headers = [("x-aex-token", token.as_str()), (name, value)];
        client::post_bytes(&format!("{}{path}", daemon.url()), &headers, message().to_string().as_bytes())
    };
    let wanted = lasting(403, "permission_error", &["`mock`", "`type: anthropic`", "`x-aex-provider-key`"]);
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        for (name, value) in [("authorization", "Bearer sk-ant-oat01-secret"), ("x-api-key", "sk-ant-api03-secret")] {
            let answer = send(path, name, value);
            check(&answer, &wanted);
            let story = daemon.ctl(["explain", answer.header("x-aex-request-id").expect("an id")]).ok();
            assert!(story.stdout.contains("allow_passthrough") && story.stdout.contains("type: anthropic"), "{story:?}");
        }
    }
    assert_eq!((provider.requests().len(), other.requests().len()), (0, 0));
    // A key that is named as the provider's goes there on purpose.
    assert_eq!(send("/v1/messages", "x-aex-provider-key", KEY).status, 200);
    let bearer = format!("Bearer {KEY}");
    assert_eq!(other.last_request().header("authorization"), Some(bearer.as_str()));
    ledger::audited(&daemon);
}

#[test]
fn no_token_reaches_a_provider_under_another_name() {
    let scene = Scene::new();
    let with = scene.daemon.agent("with", &["--allow-passthrough"]);
    let send = |query: &str, headers: &[(&str, &str)]| {
        client::post_bytes(&format!("{}/v1/messages{query}", scene.daemon.url()), headers, message().to_string().as_bytes())
    };
    let referer = format!("http://localhost/?k={}", scene.token);
    let named =
        [("x-api-key", with.as_str()), ("api-key", &with), ("x-goog-api-key", &scene.token), ("x-foo", &with), ("referer", &referer)];
    assert_eq!(send("?beta=true", &named).status, 200);
    let seen = scene.provider.last_request();
    let told = format!("{} {:?}", seen.path, seen.headers);
    assert!(!told.contains(&with) && !told.contains(&scene.token), "{told}");
    let seen = scene.provider.requests().len();
    for query in [format!("?k={with}"), format!("?beta=true&k={}", scene.token.replace('_', "%5f"))] {
        denied(&scene, seen, &send(&query, &named[..1]), &wrong(&["the query holds a token"]), "");
    }
    for key in [scene.token.clone(), format!("Bearer {}", scene.token)] {
        let answer = send("", &[("x-api-key", &with), ("x-aex-provider-key", &key)]);
        denied(&scene, seen, &answer, &wrong(&["the provider key that the call brings is none"]), "");
    }
    ledger::audited(&scene.daemon);
}

#[test]
fn each_protocol_goes_where_the_provider_speaks_it() {
    let chat = |daemon: &Daemon, token: &str| client::post_json(&daemon.chat_url(), token, &ask::chat());
    // Anthropic's alone.
    let scene = Scene::new();
    let answer = chat(&scene.daemon, &scene.token);
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["type"], &error["param"]), (400, &json!("invalid_request_error"), &json!("model")), "{answer}");
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("`openai_base_url`") && message.contains("`claude`")),
        "{answer}"
    );
    assert_eq!(scene.provider.requests().len(), 0);
    // OpenAI's alone.
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let count = format!("{}/v1/messages/count_tokens", daemon.url());
    for answer in [post(&daemon, &token, &message()), client::post_json(&count, &token, &message())] {
        check(&answer, &lasting(400, "invalid_request_error", &["`mock`", "Anthropic's API", "`anthropic_base_url`"]));
    }
    assert_eq!(provider.requests().len(), 0);

    // Both, at two places: each call reaches its own, with the provider's one key as that place takes it.
    let (provider, other) = (Provider::start(), Provider::start());
    let lines = format!("type: anthropic\n    base_url: {}\n    openai_base_url: {}", provider.base_url(), other.base_url());
    let daemon = Daemon::start_with(anthropic::with_provider_lines(&provider, &lines));
    let token = daemon.agent("bot", &[]);
    assert_eq!((post(&daemon, &token, &message()).status, chat(&daemon, &token).status), (200, 200));
    let (messages, chats) = (provider.last_request(), other.last_request());
    assert_eq!((messages.path.as_str(), messages.header("x-api-key"), messages.header("authorization")), ("/v1/messages", Some(KEY), None));
    let bearer = format!("Bearer {KEY}");
    assert_eq!((chats.path.as_str(), chats.header("authorization")), ("/v1/chat/completions", Some(bearer.as_str())));
    assert_eq!((chats.header("x-api-key"), chats.header("anthropic-version")), (None, None));
    let loaded = ledger::events(&daemon).into_iter().find(|event| event["kind"] == "config.loaded").expect("an event");
    let places = json!({"claude": provider.base_url(), "claude.openai_base_url": other.base_url()});
    assert_eq!(loaded["body"]["providers"], places);
    ledger::audited(&daemon);

    let (provider, other) = (Provider::start(), Provider::start());
    let daemon = Daemon::start_with(Config::new(&provider).provider_line(&format!("anthropic_base_url: {}/anthropic", other.origin())));
    let token = daemon.agent("bot", &[]);
    assert_eq!((post(&daemon, &token, &message()).status, chat(&daemon, &token).status), (200, 200));
    let messages = other.last_request();
    assert_eq!((messages.path.as_str(), messages.header("authorization")), ("/anthropic/v1/messages", Some(bearer.as_str())));
    assert_eq!(messages.header("anthropic-version"), Some("2023-06-01"));
    ledger::audited(&daemon);
}
