//! What an agent's policy and a model's card let through, field by field.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask::{self, chat_with, parts, tool};
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::settled_and_audited;
use aex_tests::provider::{KEY, Provider};
use aex_tests::refusal::{self, Refusal, Retry, forbidden, incapable};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const MODELS: &str = "  seeing:
    provider: mock
    provider_model: seeing-upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 1000, context_tokens: 4000}
    capabilities: {tools: false, vision: true}
  short:
    provider: mock
    provider_model: short-upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 20, max_tokens_field: max_completion_tokens}
    capabilities: {tools: true}
  nameless-price:
    provider: mock
    provider_model: unpriced-upstream
    limits: {max_tokens: 20}
    capabilities: {tools: true}
";

struct House {
    provider: Provider,
    daemon: Daemon,
    agents: usize,
}

impl House {
    fn new() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(Config::new(&provider).model(MODELS));
        Self { provider, daemon, agents: 0 }
    }

    /// A call of a new agent with these flags.
    #[track_caller]
    fn call(&mut self, flags: &[&str], body: &Value) -> client::Answer {
        self.agents += 1;
        let token = self.daemon.agent(&format!("bot{}", self.agents), flags);
        client::post_json(&self.daemon.chat_url(), &token, body)
    }

    #[track_caller]
    fn passes(&mut self, flags: &[&str], body: &Value) {
        let answer = self.call(flags, body);
        assert_eq!(answer.status, 200, "{flags:?} {body}: {answer}");
    }

    #[track_caller]
    fn denies(&mut self, flags: &[&str], body: &Value, wanted: &Refusal<'_>) {
        let seen = self.provider.requests().len();
        let answer = self.call(flags, body);
        refusal::denied(&self.daemon, &self.provider, seen, &answer, wanted);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            settled_and_audited(&self.daemon, &self.provider);
        }
    }
}

const fn other_model<'a>(rule: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 403, kind: "permission_error", code: "model_not_allowed", param: "model", retry: Retry::Never, says, rule }
}

#[test]
fn models_are_those_of_the_configuration_and_of_the_agents_list() {
    let mut house = House::new();
    let model = |name: &str| chat_with(&json!({"model": name}));
    house.passes(&[], &model("m2"));
    house.passes(&["--allowed-models", "m2, m1"], &model("m1"));
    house.denies(&["--allowed-models", "m2"], &model("m1"), &other_model("allowed_models", &["m1", "m2", "allowed_models"]));
    house.denies(&["--allowed-models", "m2"], &chat_with(&json!({"model": null})), &other_model("allowed_models", &["m1"]));
    house.denies(&[], &model("gpt-9"), &other_model("known_model", &["`gpt-9`", "models.yaml"]));
    house.denies(&[], &model("M1"), &other_model("known_model", &["`M1`"]));
    house.denies(
        &[],
        &chat_with(&json!({"model": "nameless-price", "max_tokens": null})),
        &Refusal { param: "", code: "policy_violation", ..other_model("price", &["no price"]) },
    );
}

#[test]
fn input_is_limited_in_estimated_tokens() {
    let mut house = House::new();
    let limit = ["--max-input-tokens", "10"];
    house.passes(&limit, &ask::of_length(40));
    house.denies(&limit, &ask::of_length(41), &forbidden("messages", "max_input_tokens", &["asked 11", "max_input_tokens is 10"]));
    let text = |length: usize| json!({"type": "text", "text": "é".repeat(length)});
    house.passes(&limit, &parts(&json!([text(20), text(20)])));
    house.denies(&limit, &parts(&json!([text(20), text(21)])), &forbidden("messages", "max_input_tokens", &["asked 11"]));
}

#[test]
fn output_beyond_the_agents_limit_is_403_and_beyond_the_models_400() {
    let mut house = House::new();
    let limit = ["--max-output-tokens", "30"];
    let asks = |model: &str, tokens: u64| chat_with(&json!({"model": model, "max_tokens": tokens}));
    house.passes(&limit, &asks("m1", 30));
    house.denies(&limit, &asks("m1", 31), &forbidden("max_tokens", "max_output_tokens", &["asked 31", "max_output_tokens is 30"]));
    house.passes(&[], &asks("m1", 1000));
    house.denies(&[], &asks("m1", 1001), &incapable("max_tokens", "limits.max_tokens", &["asked 1001", "limits.max_tokens is 1000"]));
    let newer = chat_with(&json!({"max_tokens": null, "max_completion_tokens": 31}));
    house.denies(&limit, &newer, &forbidden("max_tokens", "max_output_tokens", &["asked 31"]));
    // The agent's limit is told first, the model's beside it.
    house.denies(&limit, &asks("short", 31), &forbidden("max_tokens", "max_output_tokens", &["also breaks limits.max_tokens"]));
}

#[test]
fn an_absent_output_limit_becomes_the_smaller_of_the_agents_and_the_models() {
    let mut house = House::new();
    let silent = |model: &str| chat_with(&json!({"model": model, "max_tokens": null}));
    let rows = [
        (vec![], "m1", "max_tokens", 1000),
        (vec!["--max-output-tokens", "30"], "m1", "max_tokens", 30),
        (vec!["--max-output-tokens", "3000"], "m1", "max_tokens", 1000),
        (vec![], "short", "max_completion_tokens", 20),
        (vec!["--max-output-tokens", "5"], "short", "max_completion_tokens", 5),
    ];
    for (flags, model, field, wanted) in rows {
        house.passes(&flags, &silent(model));
        let sent = house.provider.last_request().json();
        let both = ["max_tokens", "max_completion_tokens"].map(|name| sent[name].clone());
        assert_eq!(sent[field], wanted, "{sent}");
        assert_eq!(both.iter().filter(|value| !value.is_null()).count(), 1, "{sent}");
    }
}

#[test]
fn streams_are_denied_where_the_agent_may_not() {
    let mut house = House::new();
    let stream = chat_with(&json!({"stream": true}));
    house.passes(&[], &stream);
    house.passes(&["--no-streaming"], &chat_with(&json!({"stream": false})));
    house.denies(&["--no-streaming"], &stream, &forbidden("stream", "allow_streaming", &["allow_streaming"]));
}

#[test]
fn tools_are_denied_by_the_agent_by_name_and_by_the_model() {
    let mut house = House::new();
    let tools = |names: &[&str]| chat_with(&json!({"tools": names.iter().map(|name| tool(name)).collect::<Vec<_>>()}));
    let functions = |name: &str| chat_with(&json!({"functions": [{"name": name}]}));
    house.passes(&[], &tools(&["a"]));
    house.passes(&["--no-tools"], &chat_with(&json!({"tools": []})));
    house.denies(&["--no-tools"], &tools(&["a"]), &forbidden("tools", "allow_tools", &["1 tools", "allow_tools"]));
    house.denies(&["--no-tools"], &functions("a"), &forbidden("tools", "allow_tools", &[]));
    let listed = ["--allowed-tool-names", "a,b"];
    house.passes(&listed, &tools(&["a", "b"]));
    house.passes(&listed, &functions("b"));
    house.denies(&listed, &tools(&["a", "c"]), &forbidden("tools", "allowed_tool_names", &["asked c", "a, b"]));
    house.denies(&listed, &functions("c"), &forbidden("tools", "allowed_tool_names", &["asked c"]));
    let nameless = chat_with(&json!({"tools": [{"type": "function", "function": {}}]}));
    house.denies(&listed, &nameless, &forbidden("tools", "allowed_tool_names", &["without a name"]));
    let on_seeing = ask::with(tools(&["a"]), &json!({"model": "seeing"}));
    house.denies(&[], &on_seeing, &incapable("tools", "capabilities.tools", &["takes no tools"]));
}

#[test]
fn a_choice_of_tools_is_denied_where_the_agent_may_not_choose() {
    let mut house = House::new();
    let flag = ["--no-function-calling"];
    let tools = json!([tool("a")]);
    house.passes(&flag, &chat_with(&json!({"tools": tools})));
    let body = chat_with(&json!({"tools": tools})).to_string().replacen('{', r#"{"tool_choice":null,"#, 1);
    house.passes(&flag, &serde_json::from_str(&body).expect("JSON"));
    for choice in [json!("auto"), json!("none"), json!({"type": "function", "function": {"name": "a"}})] {
        let body = chat_with(&json!({"tools": tools, "tool_choice": choice}));
        house.passes(&[], &body);
        house.denies(&flag, &body, &forbidden("tool_choice", "allow_function_calling", &["allow_function_calling"]));
    }
    let legacy = chat_with(&json!({"functions": [{"name": "a"}], "function_call": "auto"}));
    house.denies(&flag, &legacy, &forbidden("tool_choice", "allow_function_calling", &[]));
}

#[test]
fn images_need_a_seeing_model_and_a_permission_that_nobody_has_by_default() {
    let mut house = House::new();
    let image = parts(&json!([{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:,"}}]));
    let seeing = ask::with(image.clone(), &json!({"model": "seeing"}));
    house.passes(&["--allow-vision"], &seeing);
    house.denies(&[], &seeing, &forbidden("messages", "allow_vision", &["1 images", "allow_vision"]));
    house.denies(&["--allow-vision"], &image, &incapable("messages", "capabilities.vision", &["takes no images"]));
    // What carries an image under another type is an image all the same.
    let disguised = parts(&json!([{"type": "text", "text": "x", "image_url": {"url": "data:,"}}]));
    house.denies(&[], &ask::with(disguised, &json!({"model": "seeing"})), &forbidden("messages", "allow_vision", &[]));
}

#[test]
fn strict_refuses_unknown_fields_and_tools_that_the_provider_runs() {
    let mut house = House::new();
    let strict = ["--strict"];
    house.passes(&strict, &chat_with(&json!({"temperature": 0.5, "seed": 1, "user": "u", "tools": [tool("a")]})));
    house.passes(&[], &chat_with(&json!({"brand_new": {"a": 1}})));
    assert_eq!(house.provider.last_request().json()["brand_new"], json!({"a": 1}));
    let unknown = chat_with(&json!({"brand_new": 1}));
    house.denies(&strict, &unknown, &forbidden("", "strict", &["asked brand_new", "strict"]));
    let hosted = chat_with(&json!({"tools": [{"type": "web_search"}]}));
    house.denies(&strict, &hosted, &forbidden("", "strict", &["asked web_search"]));
    // Without strict such a tool has no bound, and is denied for that.
    house.denies(&[], &hosted, &forbidden("", "price", &["`web_search`", "no price"]));
    house.denies(&[], &chat_with(&json!({"web_search_options": {}})), &forbidden("", "price", &["web_search"]));
    house.denies(&[], &chat_with(&json!({"service_tier": "priority"})), &forbidden("", "price", &["`priority`"]));
    let audio = parts(&json!([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]));
    house.denies(&[], &audio, &forbidden("", "price", &["audio", "no price"]));
}

#[test]
fn a_read_only_token_makes_no_call() {
    let mut house = House::new();
    house.denies(&["--scope", "read-only"], &ask::chat(), &forbidden("", "token_scope", &["read-only"]));
    // Its scope comes before all that a body could say.
    house.denies(&["--scope", "read-only"], &json!("no request"), &forbidden("", "token_scope", &[]));
}

#[test]
fn a_provider_key_of_the_agents_own_needs_a_permission_and_replaces_the_daemons() {
    let mut house = House::new();
    let url = house.daemon.chat_url();
    let with_key = |token: &str, key: &str| {
        let bearer = format!("Bearer {token}");
        client::post_bytes(&url, &[("authorization", &bearer), ("x-aex-provider-key", key)], ask::chat().to_string().as_bytes())
    };
    let without = house.daemon.agent("without", &[]);
    let wanted = forbidden("", "allow_passthrough", &["x-aex-provider-key", "--allow-passthrough"]);
    refusal::denied(&house.daemon, &house.provider, 0, &with_key(&without, KEY), &wanted);
    let with = house.daemon.agent("with", &["--allow-passthrough"]);
    assert_eq!(with_key(&with, KEY).status, 200);
    // The provider decides about the key; the daemon's own is not used instead.
    let refused = with_key(&with, "sk-of-the-agent");
    assert_eq!((refused.status, refused.code().as_str()), (401, "invalid_api_key"), "{refused}");
    let seen = house.provider.last_request();
    assert_eq!((seen.header("authorization"), seen.header("x-aex-provider-key")), (Some("Bearer sk-of-the-agent"), None));
    house.passes(&["--allow-passthrough"], &ask::chat());
    assert_eq!(files_with(&house.daemon.home(), b"sk-of-the-agent"), Vec::<PathBuf>::new());
}

/// Files below a folder in which some bytes stand.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if path.is_file() && memchr::memmem::find(&fs::read(&path).expect("read a file"), bytes).is_some() {
            found.push(path);
        }
    }
    found
}
