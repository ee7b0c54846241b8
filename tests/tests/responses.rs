//! Responses on real sockets: what passes, what is edited, how streams end, whose stored answers are, and what Codex meets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::usage::Bucket;
use aex_tests::client::{self, Answer, Connection, End};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, last, settled_and_audited};
use aex_tests::provider::{At, Cut, How, Provider, Script, Usage};
use aex_tests::refusal::{self, Refusal, Retry, forbidden, incapable, malformed};
use serde_json::{Value, json};

/// A model whose context is known, so that what is stored can be bounded.
const WIDE: &str = "  wide:
    provider: mock
    provider_model: wide-upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 1000, context_tokens: 2000}
    capabilities: {reasoning: false, tools: true, vision: true}
";

struct House {
    provider: Provider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new(config: impl FnOnce(Config) -> Config, flags: &[&str]) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider).model(WIDE)));
        let token = daemon.agent("bot", flags);
        Self { provider, daemon, token }
    }

    #[track_caller]
    fn post(&self, body: &Value) -> Answer {
        self.post_as(&self.token, &[], body)
    }

    #[track_caller]
    fn post_as(&self, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let own = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let headers: Vec<(&str, &str)> = own.into_iter().chain(headers.iter().copied()).collect();
        client::post_bytes(&format!("{}/v1/responses", self.daemon.url()), &headers, body.to_string().as_bytes())
    }

    #[track_caller]
    fn ask(&self, token: &str, method: &str, path: &str) -> Answer {
        client::fetch(method, &format!("{}{path}", self.daemon.url()), &[("authorization", &format!("Bearer {token}"))])
    }

    /// Makes a call that is stored: its name.
    #[track_caller]
    fn stored(&self, token: &str, body: &Value) -> String {
        let answer = self.post_as(token, &[], body);
        assert_eq!(answer.status, 200, "{answer}");
        if body["stream"] == true {
            let events = answer.chunks();
            return events.last().and_then(|event| event["response"]["id"].as_str()).expect("a last event").to_owned();
        }
        answer.json()["id"].as_str().expect("a name").to_owned()
    }
}

/// 404: nothing that the agent owns.
const fn not_stored<'a>(code: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 404, kind: "invalid_request_error", code, param: "", retry: Retry::Never, says, rule: "stored_response" }
}

#[test]
fn a_response_passes_but_for_model_and_output_limit_and_is_billed_exactly() {
    let house = House::new(|config| config, &[]);
    let tool = json!({"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}});
    let rows = [
        json!({"input": "say hello"}),
        json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "say it in items"}]}], "instructions": "be kind"}),
        json!({"input": "use a tool", "tools": [tool], "tool_choice": "auto"}),
        json!({"input": "crop this", "max_output_tokens": 3}),
        json!({"input": "unknown fields", "metadata": {"a": "b"}, "text": {"format": {"type": "text"}}, "reasoning": {"summary": "auto"}, "include": []}),
    ];
    for changes in &rows {
        for stream in [false, true] {
            let mut body = json!({"model": "m1", "stream": stream});
            body.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            let answer = house.post(&body);
            assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
            let sent = house.provider.last_request();
            assert_eq!(sent.path, "/v1/responses");
            let mut wanted = body.clone();
            wanted["model"] = json!("m1-upstream");
            wanted["max_output_tokens"] = json!(changes["max_output_tokens"].as_u64().unwrap_or(1000));
            assert_eq!(sent.json(), wanted);
            let response = if stream {
                let events = answer.chunks();
                let numbers: Vec<u64> = events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
                assert!(numbers.is_sorted() && numbers.len() == events.len(), "{answer}");
                assert!(
                    events.iter().filter(|event| event["response"].is_object()).all(|event| event["response"]["model"] == "m1"),
                    "{answer}"
                );
                let end = if changes["max_output_tokens"] == 3 { "response.incomplete" } else { "response.completed" };
                assert_eq!(events.last().expect("events")["type"], end);
                assert!(answer.text().contains("event: response.created\n"));
                events.last().expect("events")["response"].clone()
            } else {
                answer.json()
            };
            assert_eq!(response["model"], "m1");
            let call = last(&house.daemon);
            assert_eq!(call.story(), "exact answered");
            assert_eq!(response["usage"]["input_tokens"], call.quantity(Bucket::Input));
            assert_eq!(response["usage"]["output_tokens"], call.quantity(Bucket::Output));
            assert!(call.charge() <= call.bound());
        }
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_that_cannot_go_on_ends_with_response_failed_and_a_broken_connection() {
    let house = House::new(|config| config, &[]);
    let body = |text: &str| json!({"model": "m1", "input": text, "stream": true, "max_output_tokens": 50});
    for (text, how) in [("closed", How::Close), ("reset!", How::Reset), ("finished", How::Finish)] {
        house.provider.script(Script { cut: Some(Cut { at: At::Chunk(2), how }), ..Script::default() });
        let answer = house.post(&body(text));
        assert_ne!(answer.end, End::Complete, "{answer}");
        let events = answer.chunks();
        let failed = events.last().expect("events");
        assert_eq!((&failed["type"], &failed["response"]["status"]), (&json!("response.failed"), &json!("failed")), "{answer}");
        assert_eq!(failed["response"]["error"]["code"], "upstream_error");
        assert_eq!(failed["response"]["id"], events[0]["response"]["id"]);
        // The next number of the stream: four events and two pieces went before.
        assert_eq!(failed["sequence_number"], 6);
        assert_eq!(last(&house.daemon).story(), "estimated provider_left");
    }
    // The provider's own error passes, and nothing is added.
    house.provider.script(Script { error_after: Some(2), ..Script::default() });
    let answer = house.post(&body("an error"));
    assert_ne!(answer.end, End::Complete, "{answer}");
    assert_eq!(answer.chunks().last().expect("events")["type"], "error");
    // A stream without usage is estimated, whole as it is.
    house.provider.script(Script { usage: Usage::Missing, ..Script::default() });
    assert_eq!(house.post(&body("no usage at all")).end, End::Complete);
    assert_eq!(last(&house.daemon).story(), "estimated no_usage");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_client_that_leaves_a_stream_is_charged_from_what_was_relayed() {
    let house = House::new(|config| config, &[]);
    house.provider.script(Script::hold_after(2));
    let mut connection = Connection::open(&house.daemon.url());
    connection.post_json("/v1/responses", &house.token, &json!({"model": "m1", "input": "leave", "stream": true, "max_output_tokens": 50}));
    assert_eq!(connection.head().expect("a head").status, 200);
    while !connection.next_data().expect("a stream").expect("an event").contains("output_text.delta") {}
    connection.close();
    assert_eq!(last(&house.daemon).story(), "estimated client_left");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stored_response_is_its_agents_alone_and_stays_so_after_a_restart() {
    let mut house = House::new(|config| config, &[]);
    let other = house.daemon.agent("other", &[]);
    let plain = house.stored(&house.token, &json!({"model": "wide", "input": "keep this"}));
    let streamed = house.stored(&house.token, &json!({"model": "wide", "input": "keep this stream", "stream": true}));
    let unkept = house.stored(&house.token, &json!({"model": "wide", "input": "keep it not", "store": false}));
    for restarted in [false, true] {
        if restarted {
            house.daemon.restart();
        }
        for id in [&plain, &streamed] {
            let path = format!("/v1/responses/{id}");
            let own = house.ask(&house.token, "GET", &path);
            assert_eq!((own.status, &own.json()["id"], &own.json()["model"]), (200, &json!(id), &json!("wide")), "{own}");
            let seen = house.provider.requests().len();
            refusal::check(&house.ask(&other, "GET", &path), &not_stored("previous_response_not_found", &[id]));
            refusal::check(&house.ask(&other, "DELETE", &path), &not_stored("previous_response_not_found", &[id]));
            assert_eq!(house.provider.requests().len(), seen);
        }
        for id in [&unkept, "resp_999", "msg_1"] {
            let answer = house.ask(&house.token, "GET", &format!("/openai/v1/responses/{id}"));
            refusal::check(&answer, &not_stored("previous_response_not_found", &[]));
        }
        let items = house.ask(&house.token, "GET", &format!("/v1/responses/{plain}/input_items?limit=5"));
        assert_eq!((items.status, &items.json()["data"][0]), (200, &json!("keep this")), "{items}");
        let seen = house.ask(&house.token, "POST", &format!("/v1/responses/{plain}/cancel"));
        assert_eq!((seen.status, seen.header("x-should-retry")), (400, None), "the provider's own refusal passes: {seen}");
    }
    let denied = ledger::denials(&house.daemon);
    assert!(denied.iter().any(|denial| denial.rule == "stored_response"), "{denied:?}");
    let path = format!("/v1/responses/{plain}");
    assert_eq!(house.ask(&house.token, "DELETE", &path).json()["deleted"], true);
    let gone = house.ask(&house.token, "GET", &path);
    assert_eq!((gone.status, gone.header("x-should-retry")), (404, None), "{gone}");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn what_is_done_to_a_stored_response_is_recorded_before_it_is_done_and_reads_are_not() {
    let house = House::new(|config| config, &[]);
    let kept = house.stored(&house.token, &json!({"model": "wide", "input": "keep this"}));
    let path = format!("/v1/responses/{kept}");
    let read = house.ask(&house.token, "GET", &path);
    let story = house.daemon.ctl(["explain", read.header("x-aex-request-id").expect("an id")]);
    assert_eq!((read.status, story.code), (200, 4), "{story:?}");
    assert!(story.stderr.contains("free and only reads"), "{story:?}");
    // What the provider refuses or never answers was asked all the same.
    house.provider.script(Script::cut(At::Head, How::Reset));
    let rows = [("POST", format!("{path}/cancel"), "response.cancelled"), ("DELETE", path, "response.deleted")];
    for (method, path, kind) in rows {
        let answer = house.ask(&house.token, method, &path);
        let id = answer.header("x-aex-request-id").expect("an id");
        let told: Vec<Value> = ledger::events(&house.daemon).into_iter().filter(|event| event["kind"] == kind).collect();
        let agent = &house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["id"];
        let body = json!({"account": agent, "provider": "mock", "request": id, "response": kept});
        assert_eq!(told.iter().map(|event| &event["body"]).collect::<Vec<_>>(), [&body], "{answer}");
        let story = house.daemon.ctl(["explain", id]).ok();
        for piece in ["agent bot", "a request with the account's token", &kept, kind.trim_start_matches("response.")] {
            assert!(story.stdout.contains(piece), "{piece}: {story:?}");
        }
        let listed = house.daemon.ctl(["events"]).ok();
        assert!(listed.stdout.contains(kind) && listed.stdout.contains(&format!("{kept} at mock")), "{listed:?}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn only_its_agent_goes_on_from_a_stored_response_or_names_one_of_its_items() {
    let house = House::new(|config| config, &[]);
    let other = house.daemon.agent("other", &[]);
    let first = house.stored(&house.token, &json!({"model": "wide", "input": "begin"}));
    let item = first.replace("resp_", "msg_");
    let going_on = json!({"model": "wide", "input": "go on", "previous_response_id": first});
    let naming = json!({"model": "wide", "input": [{"type": "item_reference", "id": item}, {"role": "user", "content": "well?"}]});
    for (body, code, name) in [(&going_on, "previous_response_not_found", &first), (&naming, "item_not_found", &item)] {
        let seen = house.provider.requests().len();
        let denied = house.post_as(&other, &[], body);
        refusal::check(&denied, &not_stored(code, &[name]));
        assert_eq!(house.provider.requests().len(), seen);
        if code == "previous_response_not_found" {
            // Its story names the check.
            let story = house.daemon.ctl(["explain", denied.header("x-aex-request-id").expect("an id")]).ok();
            assert!(story.stdout.contains("stored_response") && story.stdout.contains(name), "{story:?}");
        }
        let answer = house.post(body);
        assert_eq!(answer.status, 200, "{answer}");
        let call = last(&house.daemon);
        assert_eq!((call.story().as_str(), call.held.input_tokens), ("exact answered", 2000), "bounded by the context");
    }
    // An item is no response to go on from.
    let wrong = json!({"model": "wide", "input": "go on", "previous_response_id": item});
    refusal::check(&house.post(&wrong), &not_stored("previous_response_not_found", &[]));
    // Where the context is not known nothing bounds it.
    let unbounded = json!({"model": "m1", "input": "go on", "previous_response_id": first});
    refusal::check(&house.post(&unbounded), &forbidden("", "price", &["limits.context_tokens"]));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_agent_that_stores_nothing_sends_its_items_back_and_an_empty_one_is_nobodys() {
    let house = House::new(|config| config, &[]);
    let own = json!([
        {"role": "user", "content": "search"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [{"name": "a", "input_schema": {}}]},
    ]);
    let answer = house.post(&json!({"model": "m1", "store": false, "input": own}));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(house.provider.last_request().json()["input"], own);
    for item in [
        json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""}),
        json!({"type": "message", "role": "user", "id": "rs_1"}),
    ] {
        let seen = house.provider.requests().len();
        let denied = house.post(&json!({"model": "wide", "store": false, "input": [item, {"role": "user", "content": "well?"}]}));
        refusal::check(&denied, &not_stored("item_not_found", &["rs_1"]));
        assert_eq!(house.provider.requests().len(), seen);
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stored_response_is_reached_by_a_callers_token_and_key_as_a_call_is() {
    let house = House::new(|config| config, &["--allow-passthrough"]);
    let id = house.stored(&house.token, &json!({"model": "wide", "input": "keep"}));
    let path = format!("/v1/responses/{id}");
    refusal::check(&client::fetch("GET", &format!("{}{path}", house.daemon.url()), &[]), &refusal::unauthenticated(&[]));
    for (method, path, allow) in
        [("PUT", path.clone(), "GET, DELETE"), ("GET", format!("{path}/cancel"), "POST"), ("GET", "/v1/responses".to_owned(), "POST")]
    {
        let answer = house.ask(&house.token, method, &path);
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{answer}");
    }
    assert_eq!(house.ask(&house.token, "GET", "/v1/responses/compact").code(), "unknown_url");
    let seen = house.provider.requests().len();
    let bearer = format!("Bearer {}", house.token);
    let own = client::fetch(
        "GET",
        &format!("{}{path}", house.daemon.url()),
        &[("authorization", &bearer), ("x-aex-provider-key", "sk-of-the-client")],
    );
    assert_eq!(own.status, 401, "the provider refuses the client's key: {own}");
    assert_eq!(house.provider.requests().len(), seen + 1);
    assert_eq!(house.provider.last_request().header("authorization"), Some("Bearer sk-of-the-client"));
    house.daemon.ctl(["agent", "pause", "bot"]).ok();
    assert_eq!(house.ask(&house.token, "GET", &path).code(), "account_paused");
    settled_and_audited(&house.daemon, &house.provider);
}

/// What Codex 0.169 sends, in short.
fn codex(input: &str, tools: &Value) -> Value {
    json!({
        "model": "m1", "stream": true, "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"}, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199", "client_metadata": {"x": "y"}, "tools": tools,
        "input": [
            {"type": "message", "id": "msg_a", "role": "developer", "content": [{"type": "input_text", "text": "You are Codex."}]},
            {"type": "message", "id": "msg_b", "role": "user", "content": [{"type": "input_text", "text": input}]},
            {"type": "reasoning", "id": "rs_c", "summary": [], "encrypted_content": "gAAA"},
            {"type": "function_call", "id": "fc_d", "name": "shell", "arguments": "{}", "call_id": "call_d"},
            {"type": "function_call_output", "call_id": "call_d", "output": "done"},
            {"type": "message", "id": "msg_e", "role": "user", "content": [{"type": "input_text", "text": "go on"}]},
        ],
    })
}

const CODEX: [(&str, &str); 3] = [("originator", "codex_exec"), ("x-codex-turn-metadata", "{}"), ("accept", "text/event-stream")];

#[test]
fn codex_works_and_is_told_an_empty_budget_so_that_it_stops() {
    let house = House::new(|config| config, &[]);
    let tools = json!([
        {"type": "function", "name": "exec_command", "parameters": {"type": "object", "properties": {}}},
        {"type": "namespace", "name": "mcp", "description": "d", "tools": [{"type": "function", "name": "list", "parameters": {}}]},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    ]);
    let answer = house.post_as(&house.token, &CODEX, &codex("fix it", &tools));
    assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
    assert_eq!(answer.chunks().last().expect("events")["type"], "response.completed");
    let call = last(&house.daemon);
    assert_eq!((call.story().as_str(), call.held.ask.tools), ("exact answered", 3));
    assert_eq!(call.held.ask.tool_names, ["exec_command", "list", "apply_patch"]);
    // A tool of the provider has no price here.
    let mut searching = tools.clone();
    searching.as_array_mut().expect("tools").push(json!({"type": "web_search", "external_web_access": true}));
    // It would repeat a 403 five times, and shows the message of this status.
    let told = Refusal { status: 400, ..forbidden("", "price", &["web_search"]) };
    refusal::check(&house.post_as(&house.token, &CODEX, &codex("search it", &searching)), &told);
    let poor = house.daemon.agent_with("poor", "0.000001", 100, &[]);
    let broke = |status| Refusal {
        status,
        kind: "insufficient_quota",
        code: "insufficient_quota",
        param: "",
        retry: Retry::Never,
        says: &["does not suffice"],
        rule: "budget",
    };
    refusal::check(&house.post_as(&poor, &CODEX, &codex("pay", &tools)), &broke(429));
    refusal::check(&house.post_as(&poor, &[], &codex("pay", &tools)), &broke(402));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_anything_is_sent() {
    let house = House::new(|config| config, &["--max-input-tokens", "5"]);
    let rows: [(Value, &str); 9] = [
        (json!({"background": true, "input": "a"}), "background"),
        (json!({"conversation": {"id": "conv_1"}, "input": "a"}), "conversation"),
        (json!({"input": 5}), "input"),
        (json!({"input": [{"type": "item_reference"}]}), "input[0]"),
        (json!({"input": "a", "max_output_tokens": 0}), "max_output_tokens"),
        (json!({"input": "a", "max_output_tokens": 1.5}), "max_output_tokens"),
        (json!({"input": "a", "tools": [{"name": "f"}]}), "tools[0].type"),
        (json!({"input": "a", "stream_options": {"include_obfuscation": false}}), "stream_options"),
        (json!({"input": "a", "Background": true}), "Background"),
    ];
    for (body, param) in rows {
        refusal::check(&house.post(&body), &malformed(param, &[]));
    }
    let large = incapable("max_output_tokens", "limits.max_tokens", &["1001"]);
    refusal::check(&house.post(&json!({"model": "m1", "input": "a", "max_output_tokens": 1001})), &large);
    let long = json!({"model": "m1", "input": "x".repeat(24)});
    refusal::check(&house.post(&long), &forbidden("input", "max_input_tokens", &["asked 6"]));
    assert_eq!(house.provider.requests().len(), 0);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_rule_takes_the_stream_away_and_the_client_still_gets_events() {
    let policy = "profiles: {plain: {agents: bot, rules: [{name: whole, effect: limit, limit: {stream: false, max_tokens: 20}}]}}\n";
    let house = House::new(|config| config.policy_yaml(policy), &[]);
    let answer = house.post(&json!({"model": "m1", "input": "hello", "stream": true, "stream_options": {"include_obfuscation": false}}));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")), "{answer}");
    let sent = house.provider.last_request().json();
    assert_eq!((&sent["stream"], &sent["max_output_tokens"], &sent["stream_options"]), (&json!(false), &json!(20), &Value::Null));
    let events = answer.chunks();
    assert_eq!((&events[0]["type"], &events[0]["response"]["model"]), (&json!("response.created"), &json!("m1")), "{answer}");
    let text: String =
        events.iter().filter(|event| event["type"] == "response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    assert!(text.starts_with("The scripted provider"), "{text}");
    assert_eq!(events.last().expect("events")["type"], "response.completed");
    assert_eq!(last(&house.daemon).story(), "exact answered");
    settled_and_audited(&house.daemon, &house.provider);
}
