//! A governed plain call on real sockets: what passes untouched, what is edited, how the provider is reached.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask;
use aex_tests::client::{self, Connection, End};
use aex_tests::connect::Tunnel;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{last, settled_and_audited};
use aex_tests::provider::{KEY, Provider, Script, Setup};
use aex_tests::refusal::{self, upstream};
use serde_json::{Value, json};

/// Sends these bytes as a chat call.
#[track_caller]
fn post(daemon: &Daemon, token: &str, body: &str) -> client::Answer {
    let bearer = format!("Bearer {token}");
    client::post_bytes(&daemon.chat_url(), &[("authorization", &bearer), ("content-type", "application/json")], body.as_bytes())
}

#[test]
fn a_plain_answer_is_the_providers_bytes_but_for_the_model() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#;
    let rows = [
        r#"{"id":"x","model":"m1-upstream","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],USAGE}"#,
        "{ \"choices\" : [ ],\r\n\t\"unknown\": {\"deep\": [1.0e0, -0, \"\\u00e9\\ud83d\\ude00é\"]} , USAGE, \"model\"  :  \"m1-upstream\"\n}\n",
        r#"{"choices":[{"message":{"content":"the model is m1-upstream","model":"m1-upstream"}}],USAGE,"nested":{"model":"m1-upstream"},"model":"m1-upstream"}"#,
        r#"{"choices":[],USAGE}"#,
        r#"{"choices":[],USAGE,"model":null}"#,
    ];
    for row in rows {
        let body = row.replace("USAGE", usage);
        provider.script(Script { status: Some(200), body: Some(body.clone()), answer: Some("x".to_owned()), ..Script::default() });
        let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat());
        // Only the member of the answer itself is the model's name, and it stands last.
        let wanted = match body.rfind("\"m1-upstream\"") {
            Some(at) => format!("{}\"m1\"{}", body.split_at(at).0, body.split_at(at + "\"m1-upstream\"".len()).1),
            None => body,
        };
        assert_eq!((answer.status, answer.end, answer.text()), (200, End::Complete, wanted));
    }
    let books = settled_and_audited(&daemon, &provider);
    assert_eq!(books.exact, rows.len());
}

#[test]
fn the_provider_gets_the_clients_bytes_but_for_model_and_output_limit() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let tail = r#" ,"messages" : [ {"role":"user","content":"h\u00e9llo \"m1\""} ],"unknown":{"model":"m1","n":[1.50,-0]}, "metadata":{"a":"b"} }"#;
    let rows = [
        (r#"{ "model":"m1","max_tokens":7"#, r#"{ "model":"m1-upstream","max_tokens":7"#),
        (r#"{"max_completion_tokens":7 , "model" : "\u006d1""#, r#"{"max_tokens":7 , "model" : "m1-upstream""#),
        (r#"{ "model":"m1","temperature":1.0"#, r#"{"max_tokens":1000, "model":"m1-upstream","temperature":1.0"#),
        (r#"{"max_tokens":null,"model":"m2""#, r#"{"max_tokens":1000,"model":"m2""#),
        (r#"{"model":"m2","max_tokens":9"#, r#"{"model":"m2","max_tokens":9"#),
        (r#"{"seed":1"#, r#"{"model":"m1-upstream","max_tokens":1000,"seed":1"#),
    ];
    for (sent, wanted) in rows {
        let answer = post(&daemon, &token, &format!("{sent}{tail}"));
        assert_eq!(answer.status, 200, "{answer}");
        let got = String::from_utf8_lossy(&provider.last_request().body).into_owned();
        assert_eq!(got, format!("{wanted}{tail}"));
    }
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_request_without_a_model_gets_the_default_one_and_its_name() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat_with(&json!({"model": null})));
    assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("m1")));
    assert_eq!(provider.last_request().json()["model"], "m1-upstream");
    assert_eq!(last(&daemon).held.ask.model, "m1");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn headers_pass_in_both_directions_but_for_the_connections_and_the_agents_key() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let kept =
        [("openai-organization", "org"), ("x-codex-turn-metadata", "{}"), ("x-request-tag", "a, b"), ("user-agent", "OpenAI/Python 2")];
    let dropped = [
        ("x-api-key", token.as_str()),
        ("x-aex-token", &token),
        ("cookie", "session=1"),
        ("connection", "keep-alive, x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic eA=="),
    ];
    let back = Script::default()
        .header("x-request-id", "req_of_the_provider")
        .header("openai-processing-ms", "17")
        .header("x-ratelimit-remaining-requests", "9")
        .header("retry-after-ms", "5")
        .header("set-cookie", "session=1")
        .header("keep-alive", "timeout=5");
    provider.script(back);
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("accept-encoding", "gzip, br")];
    let headers: Vec<(&str, &str)> = own.into_iter().chain(kept).chain(dropped).collect();
    let answer = client::post_bytes(&daemon.chat_url(), &headers, ask::chat().to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer}");

    let seen = provider.last_request();
    for (name, value) in kept {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    for (name, _) in dropped {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert!(seen.headers.iter().all(|(_, value)| !value.contains(&token)), "{:?}", seen.headers);
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!((seen.header("accept-encoding"), seen.header("content-type")), (Some("identity"), Some("application/json")));
    assert_eq!(seen.header("host"), Some(provider.address().to_string().as_str()));

    for (name, value) in [("x-request-id", "req_of_the_provider"), ("openai-processing-ms", "17"), ("x-ratelimit-remaining-requests", "9")]
    {
        assert_eq!(answer.header(name), Some(value), "{answer}");
    }
    assert_eq!((answer.header("retry-after-ms"), answer.header("set-cookie"), answer.header("keep-alive")), (Some("5"), None, None));
    assert!(answer.header("x-aex-request-id").is_some_and(|id| id.starts_with("req_")), "{answer}");
    assert!(!answer.to_string().contains(KEY), "{answer}");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn an_error_of_the_provider_passes_as_it_is() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    for (status, body) in [(400, r#"{"error":{"message":"é no","type":"x","param":null,"code":null} }"#), (418, "short and stout")] {
        provider.script(Script { body: Some(body.to_owned()), ..Script::error(status).header("retry-after", "7") });
        let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat());
        assert_eq!((answer.status, answer.text(), answer.header("retry-after")), (status, body.to_owned(), Some("7")));
        assert_eq!((last(&daemon).story(), answer.header("x-should-retry")), ("released refused".to_owned(), None));
    }
    settled_and_audited(&daemon, &provider);
}

#[test]
fn both_paths_serve_the_call_and_the_models() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    for base in ["/v1", "/openai/v1"] {
        let answer = client::post_json(&format!("{}{base}/chat/completions", daemon.url()), &token, &ask::chat());
        assert_eq!((answer.status, answer.json()["object"].as_str()), (200, Some("chat.completion")), "{answer}");
        assert_eq!(provider.last_request().path, "/v1/chat/completions");
        let models = client::get(&format!("{}{base}/models", daemon.url()), &token);
        assert_eq!((models.status, models.json()["data"].as_array().map(Vec::len)), (200, Some(2)), "{models}");
    }
    settled_and_audited(&daemon, &provider);
}

#[test]
fn calls_of_one_client_share_one_connection_to_the_provider() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let mut connection = Connection::open(&daemon.url());
    for stream in [false, true, true, false, false] {
        connection.post_json("/v1/chat/completions", &token, &ask::chat_with(&json!({"stream": stream})));
        let answer = connection.answer().expect("an answer");
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
    }
    assert_eq!(provider.connections(), 1);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_connection_that_the_provider_closed_is_replaced_unnoticed() {
    let mut provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let mut connection = Connection::open(&daemon.url());
    for _ in 0..3 {
        connection.post_json("/v1/chat/completions", &token, &ask::chat());
        assert_eq!(connection.answer().expect("an answer").status, 200);
        provider.restart();
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 3);
}

#[test]
fn https_is_trusted_by_the_providers_own_authority_only() {
    let provider = Provider::start_tls();
    let daemon = Daemon::start_with(Config::new(&provider).provider_line("headers: {x-team: \"blue\", x-two: '2'}"));
    let token = daemon.agent("bot", &[]);
    for stream in [false, true] {
        let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat_with(&json!({"stream": stream})));
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
        let seen = provider.last_request();
        assert_eq!((seen.header("x-team"), seen.header("x-two")), (Some("blue"), Some("2")));
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 2);

    let stranger = Daemon::start_with(Config::with_base_url(&provider.base_url(), KEY));
    let token = stranger.agent("bot", &[]);
    let answer = client::post_json(&stranger.chat_url(), &token, &ask::chat());
    refusal::check(&answer, &upstream(502, &["`mock`", "trusted TLS"]));
    assert_eq!(last(&stranger).story(), "released never_sent");
}

#[test]
fn https_goes_through_the_proxy_of_the_environment_and_http_does_not() {
    let tunnel = Tunnel::start();
    let provider = Provider::start_tls();
    let daemon = Daemon::start_with(Config::new(&provider).env("HTTPS_PROXY", &tunnel.url()));
    let token = daemon.agent("bot", &[]);
    let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat());
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(tunnel.next_line(), format!("CONNECT {} HTTP/1.1", provider.address()));
    settled_and_audited(&daemon, &provider);

    let excepted = Daemon::start_with(Config::new(&provider).env("HTTPS_PROXY", &tunnel.url()).env("NO_PROXY", "127.0.0.1"));
    let token = excepted.agent("bot", &[]);
    assert_eq!(client::post_json(&excepted.chat_url(), &token, &ask::chat()).status, 200);
    let plain = Provider::start();
    let local = Daemon::start_with(Config::new(&plain).env("HTTPS_PROXY", &tunnel.url()).env("HTTP_PROXY", &tunnel.url()));
    let token = local.agent("bot", &[]);
    assert_eq!(client::post_json(&local.chat_url(), &token, &ask::chat()).status, 200);
    assert!(tunnel.is_unused());
}

#[test]
fn a_local_provider_without_authentication_gets_no_key() {
    let provider = Provider::with(Setup { key: String::new(), ..Setup::default() });
    let daemon = Daemon::start_with(Config::new(&provider).provider_line("auth: none").dotenv(""));
    let token = daemon.agent("bot", &[]);
    let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat());
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(provider.last_request().header("authorization"), None);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn cached_tokens_are_charged_at_their_own_price() {
    let provider = Provider::start();
    let cheap = "  cached:
    provider: mock
    provider_model: cached-upstream
    pricing: {input_per_mtok: \"0.15\", output_per_mtok: \"0.6\", cached_input_per_mtok: \"0.075\"}
    limits: {max_tokens: 100}
    capabilities: {tools: true}
";
    let daemon = Daemon::start_with(Config::new(&provider).model(cheap));
    let token = daemon.agent("bot", &[]);
    for (chars, cached, reasoning) in [(400, 0, 0), (401, 64, 0), (402, 1000, 8)] {
        provider.script(Script { cached_tokens: cached, reasoning_tokens: reasoning, ..Script::default() });
        let body = ask::with(ask::of_length(chars), &json!({"model": "cached"}));
        assert_eq!(client::post_json(&daemon.chat_url(), &token, &body).status, 200);
    }
    let charges: Vec<i64> = aex_tests::ledger::quiet(&daemon).iter().map(aex_tests::ledger::Call::charge).collect();
    // 103 or 104 tokens of prompt at 150,000 or, cached, 75,000 pico-USD; 14 of output, and the hidden ones, at 600,000.
    assert_eq!(charges, [103 * 150_000 + 14 * 600_000, 40 * 150_000 + 64 * 75_000 + 14 * 600_000, 104 * 75_000 + 22 * 600_000]);
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 3);
}

#[test]
fn tools_structured_output_and_several_choices_make_the_round_trip() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}});
    let rows = [
        (json!({"tools": [ask::tool("add")], "tool_choice": "auto"}), "/choices/0/message/tool_calls/0/function/name", json!("add")),
        (json!({"functions": [{"name": "old"}]}), "/choices/0/message/function_call/name", json!("old")),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
            "/choices/0/message/content",
            json!(r#"{"n":3}"#),
        ),
        (json!({"n": 3}), "/choices/2/index", json!(2)),
        (json!({"max_tokens": 2}), "/choices/0/finish_reason", json!("length")),
    ];
    for (length, (changes, pointer, wanted)) in rows.iter().enumerate() {
        let answer = client::post_json(&daemon.chat_url(), &token, &ask::with(ask::of_length(20 + length), changes));
        assert_eq!((answer.status, answer.json().pointer(pointer)), (200, Some(wanted)), "{answer}");
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, rows.len());
}

#[test]
fn pages_answer_by_path_method_and_host() {
    let provider = Provider::start();
    let daemon = Daemon::start_with(Config::new(&provider).aexd_yaml("allowed_hosts: [aex.example]\n"));
    let token = daemon.agent("bot", &[]);
    let own = daemon.url().replace("http://", "");
    let bearer = format!("Bearer {token}");
    let rows = [
        ("HEAD", "/", own.as_str(), 200, ""),
        ("GET", "/health", &own, 200, ""),
        ("GET", "/ready", &own, 200, ""),
        ("GET", "/health", "localhost:1", 200, ""),
        ("GET", "/health", "app.localhost", 200, ""),
        ("GET", "/health", "[::1]:9000", 200, ""),
        ("GET", "/health", "AEX.example:80", 200, ""),
        ("GET", "/health", "evil.example", 403, "host_not_allowed"),
        ("POST", "/v1/chat/completions", "evil.example", 403, "host_not_allowed"),
        ("GET", "/health", "127.0.0.1.evil.example", 403, "host_not_allowed"),
        ("GET", "/v1/nothing", &own, 404, "unknown_url"),
        ("POST", "/chat/completions", &own, 404, "unknown_url"),
        ("GET", "/v1/chat/completions", &own, 405, "method_not_supported"),
        ("DELETE", "/openai/v1/chat/completions", &own, 405, "method_not_supported"),
        ("POST", "/v1/models", &own, 405, "method_not_supported"),
    ];
    for (method, path, host, status, code) in rows {
        let mut connection = Connection::open(&daemon.url());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {bearer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        connection.send(request.as_bytes()).expect("send the request");
        if method == "HEAD" {
            assert_eq!(connection.head().expect("a head").status, status, "{method} {path}");
            continue;
        }
        let answer = connection.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path} {host}: {answer}");
    }
    let health = client::get(&format!("{}/health", daemon.url()), "");
    assert_eq!((&health.json()["status"], health.json()["version"].is_string()), (&json!("ok"), true));
    let ready = client::get(&format!("{}/ready", daemon.url()), "");
    assert_eq!((&ready.json()["ready"], &ready.json()["checks"]["ledger"]), (&json!(true), &json!(true)));
    assert_eq!(provider.requests().len(), 0);
}

#[test]
fn the_models_are_those_that_the_caller_may_use() {
    let provider = Provider::start();
    let slashed = "  org/big m:
    provider: mock
    provider_model: big
    pricing: free
    limits: {max_tokens: 10}
    capabilities: {tools: false}
";
    let daemon = Daemon::start_with(Config::new(&provider).model(slashed));
    let all = daemon.agent("all", &[]);
    let few = daemon.agent("few", &["--allowed-models", "m2,org/big m"]);
    let reader = daemon.agent("reader", &["--scope", "read-only"]);
    let names = |token: &str| -> Vec<String> {
        let answer = client::get(&format!("{}/v1/models", daemon.url()), token);
        assert_eq!((answer.status, &answer.json()["object"]), (200, &json!("list")), "{answer}");
        let data = answer.json()["data"].as_array().cloned().unwrap_or_default();
        assert!(
            data.iter().all(|model| model["object"] == "model" && model["created"].is_u64() && model["owned_by"] == "mock"),
            "{answer}"
        );
        data.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(names(&all), ["m1", "m2", "org/big m"]);
    assert_eq!(names(&few), ["m2", "org/big m"]);
    assert_eq!(names(&reader), ["m1", "m2", "org/big m"]);
    let rows = [
        (&all, "m1", 200, json!("m1")),
        (&few, "m1", 403, Value::Null),
        (&few, "m2", 200, json!("m2")),
        (&few, "org%2Fbig%20m", 200, json!("org/big m")),
        (&few, "org/big%20m", 200, json!("org/big m")),
        (&all, "m3", 403, Value::Null),
    ];
    for (token, id, status, wanted) in rows {
        let answer = client::get(&format!("{}/v1/models/{id}", daemon.url()), token);
        assert_eq!((answer.status, &answer.json()["id"]), (status, &wanted), "{id}: {answer}");
        assert!(status == 200 || answer.code() == "model_not_allowed", "{answer}");
    }
    for token in ["", "aex_no", "sk-x"] {
        let answer = client::get(&format!("{}/v1/models", daemon.url()), token);
        refusal::check(&answer, &refusal::unauthenticated(&[]));
    }
    assert_eq!(provider.requests().len(), 0);
}
