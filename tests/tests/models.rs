//! The list of models in both shapes, and what a WebSocket gets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::client::{self, Answer};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::provider::Provider;
use serde_json::{Value, json};

const SLASHED: &str = "  openai/gpt-oss-20b:
    provider: mock
    provider_model: upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 1000}
    capabilities: {reasoning: false, tools: true, vision: false}
";

struct House {
    _provider: Provider,
    daemon: Daemon,
    token: String,
    narrow: String,
}

impl House {
    fn new() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(Config::new(&provider).model(SLASHED));
        let token = daemon.agent("bot", &[]);
        let narrow = daemon.agent("narrow", &["--allowed-models", "m2"]);
        Self { _provider: provider, daemon, token, narrow }
    }

    fn get(&self, token: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers: Vec<(&str, &str)> = [("authorization", bearer.as_str())].into_iter().chain(headers.iter().copied()).collect();
        client::fetch("GET", &format!("{}{path}", self.daemon.url()), &headers)
    }
}

const ANTHROPIC: [(&str, &str); 1] = [("anthropic-version", "2023-06-01")];

#[test]
fn a_caller_sees_the_models_that_it_may_use_in_the_shape_that_it_reads() {
    let house = House::new();
    let ids =
        |answer: &Answer| answer.json()["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect::<Vec<Value>>();
    for path in ["/v1/models", "/openai/v1/models"] {
        let list = house.get(&house.token, path, &[]);
        assert_eq!((list.status, &list.json()["object"]), (200, &json!("list")), "{list}");
        assert_eq!(ids(&list), ["m1", "m2", "openai/gpt-oss-20b"]);
        let first = &list.json()["data"][0];
        assert_eq!((&first["object"], &first["owned_by"], first["created"].is_u64()), (&json!("model"), &json!("mock"), true));
        assert_eq!(ids(&house.get(&house.narrow, path, &[])), ["m2"]);
    }
    let list = house.get(&house.token, "/v1/models?limit=2", &ANTHROPIC).json();
    assert_eq!((&list["has_more"], &list["first_id"], &list["last_id"]), (&json!(true), &json!("m1"), &json!("m2")));
    let model = &list["data"][0];
    assert_eq!((&model["type"], &model["id"], &model["display_name"]), (&json!("model"), &json!("m1"), &json!("m1")));
    assert!(model["created_at"].as_str().is_some_and(|at| at.ends_with('Z') && at.contains('T')), "{model}");
    let rest = house.get(&house.token, "/v1/models?limit=2&after_id=m2", &ANTHROPIC).json();
    assert_eq!(
        (&rest["has_more"], &rest["data"][0]["id"], rest["data"].as_array().map(Vec::len)),
        (&json!(false), &json!("openai/gpt-oss-20b"), Some(1))
    );
    let wrong = house.get(&house.token, "/v1/models?limit=0", &ANTHROPIC);
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (400, &json!("invalid_request_error")), "{wrong}");
}

#[test]
fn one_model_is_found_by_its_name_however_it_is_written() {
    let house = House::new();
    for path in ["/v1/models/openai%2Fgpt-oss-20b", "/v1/models/openai/gpt-oss-20b", "/openai/v1/models/openai%2fgpt-oss-20b"] {
        assert_eq!(house.get(&house.token, path, &[]).json()["id"], "openai/gpt-oss-20b", "{path}");
        assert_eq!(house.get(&house.token, path, &ANTHROPIC).json()["display_name"], "openai/gpt-oss-20b", "{path}");
        let denied = house.get(&house.narrow, path, &[]);
        assert_eq!((denied.status, denied.code().as_str()), (403, "model_not_allowed"), "{denied}");
        let denied = house.get(&house.narrow, path, &ANTHROPIC);
        assert_eq!(
            (denied.status, &denied.json()["type"], &denied.json()["error"]["type"]),
            (404, &json!("error"), &json!("not_found_error")),
            "{denied}"
        );
        assert_eq!(denied.header("request-id"), denied.header("x-aex-request-id"));
        assert_eq!(denied.json()["request_id"], denied.header("x-aex-request-id").expect("an id"));
    }
    let unknown = client::fetch("GET", &format!("{}/v1/models", house.daemon.url()), &ANTHROPIC);
    assert_eq!((unknown.status, &unknown.json()["error"]["type"]), (401, &json!("authentication_error")), "{unknown}");
    let wrong = client::fetch("DELETE", &format!("{}/v1/models", house.daemon.url()), &ANTHROPIC);
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (405, &json!("invalid_request_error")), "{wrong}");
}

#[test]
fn a_websocket_is_told_to_come_over_http() {
    let house = House::new();
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for path in ["/v1/responses", "/openai/v1/responses", "/v1/realtime?model=m1"] {
        let answer = house.get(&house.token, path, &upgrade);
        assert_eq!((answer.status, answer.code().as_str()), (426, "upgrade_required"), "{answer}");
        assert_eq!((answer.header("upgrade"), answer.header("x-should-retry")), (Some("HTTP/1.1"), Some("false")), "{answer}");
    }
}
