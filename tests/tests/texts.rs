//! Completions and embeddings on real sockets: what passes, what is edited, what is held and billed, what a policy says to them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::usage::Bucket;
use aex_tests::client::{self, Answer, Connection, End};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{last, settled_and_audited};
use aex_tests::provider::{Provider, Script, Usage};
use aex_tests::refusal::{self, forbidden, incapable, malformed};
use serde_json::{Value, json};

struct House {
    provider: Provider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new(config: impl FnOnce(Config) -> Config, flags: &[&str]) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider)));
        let token = daemon.agent("bot", flags);
        Self { provider, daemon, token }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Answer {
        client::post_json(&format!("{}{path}", self.daemon.url()), &self.token, body)
    }

    /// Makes a call that must pass, and gives what the provider got of it and the answer.
    #[track_caller]
    fn passes(&self, path: &str, body: &Value) -> (Value, Answer) {
        let answer = self.post(path, body);
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{body}: {answer}");
        let request = self.provider.last_request();
        assert_eq!(request.path, path.trim_start_matches("/openai"));
        assert_eq!(last(&self.daemon).story(), "exact answered");
        (request.json(), answer)
    }
}

#[test]
fn a_completion_is_relayed_bounded_and_billed_for_all_its_choices() {
    let house = House::new(|config| config, &[]);
    // What was asked, choices in the answer, choices in the bound, tokens of the prompts.
    let rows = [
        (json!({"prompt": "say hello"}), 1, 1, 3),
        (json!({"prompt": ["one", "three"], "n": 2}), 4, 4, 3),
        (json!({"prompt": "a", "n": 2, "best_of": 3}), 2, 3, 1),
        (json!({"prompt": [15339, 1917]}), 1, 1, 2),
        (json!({"prompt": [[15339], [1917, 0]], "best_of": 2}), 2, 4, 3),
        (json!({"prompt": null}), 1, 1, 1),
        (json!({"prompt": "say hello", "echo": true, "max_tokens": 0}), 1, 1, 3),
        (json!({"prompt": "say hello", "suffix": "the end", "max_tokens": 4}), 1, 1, 3),
    ];
    for (changes, sent, drawn, prompt) in rows {
        let mut body = json!({"model": "m1"});
        body.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        let (got, answer) = house.passes("/v1/completions", &body);
        let limit = changes["max_tokens"].as_u64().unwrap_or(1000);
        assert_eq!((&got["model"], &got["max_tokens"]), (&json!("m1-upstream"), &json!(limit)), "{got}");
        assert_eq!(got["prompt"], changes["prompt"]);
        let said = answer.json();
        assert_eq!((&said["model"], &said["object"]), (&json!("m1"), &json!("text_completion")), "{answer}");
        let choices = said["choices"].as_array().expect("choices");
        assert_eq!(choices.len(), sent, "{answer}");
        if changes["echo"] == true {
            assert_eq!(choices[0]["text"], "say hello");
        }
        let call = last(&house.daemon);
        assert_eq!(call.quantity(Bucket::Input), prompt, "{changes}");
        let echoed = if changes["echo"] == true { r#""say hello""#.len() } else { 0 };
        assert_eq!(call.held.output_tokens, drawn * limit + u64::try_from(echoed).expect("small"), "{changes}");
        assert!(call.charge() <= call.bound(), "{changes}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_of_a_completion_loses_its_usage_chunk_unless_it_was_asked_for() {
    let house = House::new(|config| config, &[]);
    for (options, usage) in [(Value::Null, false), (json!({"include_usage": true}), true)] {
        let body = json!({"model": "m1", "prompt": ["one", "two"], "echo": true, "stream": true, "stream_options": options});
        let (got, answer) = house.passes("/openai/v1/completions", &body);
        assert_eq!(got["stream_options"]["include_usage"], true);
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let chunks = answer.chunks();
        assert!(chunks.iter().all(|chunk| chunk["model"] == "m1"), "{answer}");
        assert_eq!(chunks.iter().any(|chunk| chunk["choices"].as_array().is_some_and(Vec::is_empty)), usage, "{answer}");
        let text: String = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == 1)
            .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
            .collect();
        assert!(text.starts_with("twoThe scripted"), "{text}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_of_a_completion_that_its_client_leaves_is_estimated_and_one_that_breaks_says_so() {
    let house = House::new(|config| config, &[]);
    house.provider.script(Script::hold_after(2));
    let mut connection = Connection::open(&house.daemon.url());
    let body = json!({"model": "m1", "prompt": "left", "stream": true, "max_tokens": 50});
    connection.post_json("/v1/completions", &house.token, &body);
    assert_eq!(connection.head().expect("a head").status, 200);
    let first = connection.next_data().expect("a stream").expect("a chunk");
    assert!(first.contains("\"text\":"), "{first}");
    connection.close();
    assert_eq!(last(&house.daemon).story(), "estimated client_left");
    let cut = aex_tests::provider::Cut { at: aex_tests::provider::At::Chunk(2), how: aex_tests::provider::How::Close };
    house.provider.script(Script { cut: Some(cut), ..Script::default() });
    let body = json!({"model": "m1", "prompt": "broken", "stream": true, "max_tokens": 50});
    let answer = house.post("/v1/completions", &body);
    assert_ne!(answer.end, End::Complete, "{answer}");
    let event: Value = serde_json::from_str(answer.data().last().expect("an event")).expect("JSON");
    assert_eq!(event["error"]["code"], "upstream_error");
    assert_eq!(last(&house.daemon).story(), "estimated provider_left");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn embeddings_pass_in_every_form_and_cost_their_input_alone() {
    let house = House::new(|config| config, &[]);
    // What was asked, how many vectors, tokens.
    let rows = [
        (json!("say hello"), "base64", 1, 3),
        (json!(["one", "three", "five5"]), "float", 3, 5),
        (json!([15339, 1917, 7]), "float", 1, 3),
        (json!([[15339], [1917, 0]]), "base64", 2, 3),
    ];
    for (input, format, vectors, tokens) in rows {
        let body = json!({"model": "m1", "input": input, "encoding_format": format, "dimensions": 3, "user": "me"});
        let (got, answer) = house.passes("/v1/embeddings", &body);
        let mut wanted = body.clone();
        wanted["model"] = json!("m1-upstream");
        assert_eq!(got, wanted, "nothing but the model's name is edited");
        let said = answer.json();
        assert_eq!(said["model"], "m1");
        let data = said["data"].as_array().expect("vectors");
        assert_eq!((data.len(), data[0]["embedding"].is_string()), (vectors, format == "base64"), "{answer}");
        let call = last(&house.daemon);
        assert_eq!((call.quantity(Bucket::Input), call.quantity(Bucket::Output), call.held.output_tokens), (tokens, 0, 0), "{input}");
        // One micro-USD a token.
        assert_eq!(call.charge(), i64::try_from(tokens).expect("small") * 1_000_000);
    }
    // Without a report the bound is charged.
    house.provider.script(Script { usage: Usage::Missing, ..Script::default() });
    assert_eq!(house.post("/openai/v1/embeddings", &json!({"model": "m1", "input": "untold"})).status, 200);
    let call = last(&house.daemon);
    assert_eq!((call.story().as_str(), call.charge()), ("estimated no_usage", call.bound()));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn what_is_wrong_with_a_request_is_told_in_openais_shape_and_costs_nothing() {
    let house = House::new(|config| config, &[]);
    let rows: [(&str, Value, &str); 10] = [
        ("/v1/completions", json!({"model": "m1", "prompt": {"a": 1}}), "prompt"),
        ("/v1/completions", json!({"model": "m1", "prompt": ["a", 1]}), "prompt"),
        ("/v1/completions", json!({"model": "m1", "prompt": "a", "best_of": 0}), "best_of"),
        ("/v1/completions", json!({"model": "m1", "prompt": "a", "stream_options": {}}), "stream_options"),
        ("/v1/completions", json!([]), ""),
        ("/openai/v1/embeddings", json!({"model": "m1"}), "input"),
        ("/v1/embeddings", json!({"model": "m1", "input": [[1], "a"]}), "input"),
        ("/v1/embeddings", json!({"model": "m1", "input": [1.5]}), "input"),
        ("/v1/embeddings", json!({"model": "m1", "Input": "a"}), "Input"),
        ("/v1/embeddings", json!({"model": ["m1"], "input": "a"}), "model"),
    ];
    for (path, body, param) in rows {
        refusal::check(&house.post(path, &body), &malformed(param, &[]));
    }
    let incapable = incapable("max_tokens", "limits.max_tokens", &["1001", "limits.max_tokens is 1000"]);
    refusal::denied(
        &house.daemon,
        &house.provider,
        0,
        &house.post("/v1/completions", &json!({"model": "m1", "prompt": "a", "max_tokens": 1001})),
        &incapable,
    );
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_policy_holds_for_texts_and_names_their_fields() {
    let house = House::new(|config| config, &["--max-input-tokens", "5", "--no-streaming"]);
    for (path, field) in [("/v1/completions", "prompt"), ("/v1/embeddings", "input")] {
        let mut body = json!({"model": "m1"});
        body[field] = json!("x".repeat(24));
        refusal::check(&house.post(path, &body), &forbidden(field, "max_input_tokens", &["asked 6"]));
        body[field] = json!([1, 2, 3, 4, 5, 6]);
        refusal::check(&house.post(path, &body), &forbidden(field, "max_input_tokens", &["asked 6"]));
        body[field] = json!([1, 2, 3, 4, 5]);
        assert_eq!(house.post(path, &body).status, 200);
    }
    let streamed = json!({"model": "m1", "prompt": "a", "stream": true});
    refusal::check(&house.post("/v1/completions", &streamed), &forbidden("stream", "allow_streaming", &[]));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_limit_of_a_rule_gives_embeddings_no_output_and_no_temperature_and_takes_streams_from_completions() {
    let policy = "version: 1
profiles:
  calm:
    agents: [bot]
    default: allow
    rules:
      - name: calm
        effect: limit
        limit: {max_tokens: 20, temperature: 0.2, stream: false}
";
    let house = House::new(|config| config.policy_yaml(policy), &[]);
    let body = json!({"model": "m1", "input": "hello"});
    let (got, _) = house.passes("/v1/embeddings", &body);
    assert_eq!(got, json!({"model": "m1-upstream", "input": "hello"}));
    let body = json!({"model": "m1", "prompt": "hello", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50});
    let (got, answer) = house.passes("/v1/completions", &body);
    assert_eq!((&got["stream"], &got["max_tokens"], &got["temperature"]), (&json!(false), &json!(20), &json!(0.2)));
    let chunks = answer.chunks();
    assert_eq!((chunks.len(), &chunks[0]["object"], &chunks[0]["model"]), (2, &json!("text_completion"), &json!("m1")), "{answer}");
    assert_eq!(chunks[1]["usage"]["prompt_tokens"], 2);
    settled_and_audited(&house.daemon, &house.provider);
}
