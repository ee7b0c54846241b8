//! The tokeniser: calls that their bytes would deny pass by their tokens, and a call that cannot fit is denied without a count.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::thread;

use aex_tests::client::{self, Answer};
use aex_tests::daemon::Daemon;
use aex_tests::house::House;
use aex_tests::ledger::{denials, last, settled_and_audited};
use aex_tests::provider::Script;
use serde_json::{Value, json};

/// Logged when a vocabulary is loaded: by the first count in it, so its absence shows that nothing was counted.
const LOADED: &str = "loaded a vocabulary";

/// Prose of 9,000 bytes: some 2,000 tokens in any vocabulary. At 1 µUSD a token its bytes cost $0.009, its tokens $0.002.
fn prose() -> String {
    "The quick brown fox jumps over the lazy dog, then \"rests\".\n".repeat(150)
}

fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]})
}

fn model(name: &str, upstream: &str, more: &str) -> String {
    format!(
        "  {name}:
    provider: mock
    provider_model: {upstream}
    pricing: {{input_micro: 1, output_micro: 2}}
    limits: {{max_tokens: 1000}}
    capabilities: {{reasoning: false, tools: true, vision: false}}
    {more}
"
    )
}

/// Models of which a vocabulary is known by name, stated, taken away, and not known; an agent with half a cent.
fn house(aexd_yaml: &str) -> (House, String) {
    let house = House::new(|config| {
        let config = config
            .model(&model("known", "gpt-4o-mini", ""))
            .model(&model("stated", "deployment-7", "tokenizer: cl100k"))
            .model(&model("off", "gpt-4o", "tokenizer: \"off\""))
            .model(&model("falls-back", "gpt-4o", "fallbacks: [unknown]"))
            .model(&model("unknown", "claude-9", ""));
        if aexd_yaml.is_empty() { config } else { config.aexd_yaml(aexd_yaml) }
    });
    let poor = house.daemon.agent_with("poor", "0.005", 1_000, &[]);
    (house, poor)
}

fn post(daemon: &Daemon, token: &str, path: &str, body: &Value) -> Answer {
    client::post_json(&(daemon.url() + path), token, body)
}

/// Whether anything was counted up to now.
#[track_caller]
fn has_counted(daemon: &Daemon) -> bool {
    let log = std::fs::read_to_string(daemon.home().join("logs/aex.log")).expect("the log");
    assert!(log.contains("\"level\":\"INFO\""), "a log in which it would stand: {log}");
    log.contains(LOADED)
}

fn told(daemon: &Daemon, answer: &Answer) -> String {
    let id = answer.header("x-aex-request-id").expect("an id");
    daemon.ctl(["explain", id]).ok().stdout
}

#[test]
fn a_budget_that_fits_the_tokens_alone_lets_the_call_pass() {
    let (house, poor) = house("");
    let answer = post(&house.daemon, &poor, "/v1/chat/completions", &chat("known", &prose()));
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = last(&house.daemon);
    let ask = &call.held.ask;
    assert!(ask.tokenized_bytes > 9_000 && ask.text_tokens * 3 < ask.tokenized_bytes, "{ask:?}");
    assert!(call.bound() < 5_000_000_000, "{}", call.bound());
    assert!(has_counted(&house.daemon));
    let told = told(&house.daemon, &answer);
    assert!(told.contains("for texts that were tokenised: their bytes did not fit the budget"), "{told}");
    // The denial of the first look is no denial of the call.
    assert!(denials(&house.daemon).is_empty());
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn every_dialect_of_openai_has_its_texts_counted() {
    let (house, _) = house("");
    let chat_list =
        json!({"model": "known", "max_tokens": 50, "messages": [{"role": "user", "content": [{"type": "text", "text": prose()}]}]});
    for (agent, path, body) in [
        ("a", "/v1/chat/completions", chat("stated", &prose())),
        ("b", "/v1/chat/completions", chat_list),
        ("c", "/v1/completions", json!({"model": "stated", "max_tokens": 50, "prompt": prose()})),
        ("d", "/v1/embeddings", json!({"model": "stated", "input": [prose()]})),
        ("e", "/v1/responses", json!({"model": "known", "max_output_tokens": 50, "store": false, "input": prose()})),
    ] {
        let token = house.daemon.agent_with(agent, "0.005", 1_000, &[]);
        let answer = post(&house.daemon, &token, path, &body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(last(&house.daemon).held.ask.text_tokens > 1_000, "{path}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn bytes_stay_the_bound_where_the_tokeniser_is_off_or_the_vocabulary_unknown() {
    let check = |aexd_yaml: &str, models: &[&str]| {
        let (house, poor) = house(aexd_yaml);
        for name in models {
            let answer = post(&house.daemon, &poor, "/v1/chat/completions", &chat(name, &prose()));
            assert_eq!(answer.status, 402, "{name}: {answer:?}");
        }
        assert!(!has_counted(&house.daemon));
        assert!(!denials(&house.daemon).is_empty());
        settled_and_audited(&house.daemon, &house.provider);
    };
    check("", &["off", "unknown"]);
    check("tokenizer: off\n", &["known", "stated"]);
}

#[test]
fn a_prompt_that_cannot_fit_is_denied_without_a_count_however_often_it_is_posted() {
    let (house, poor) = house("");
    // By the fewest tokens that a text of this length can have; then by the answer alone.
    let huge = "x ".repeat(1 << 19);
    for body in
        [chat("known", &huge), json!({"model": "known", "max_tokens": 1000, "n": 100, "messages": [{"role": "user", "content": "hello"}]})]
    {
        for _ in 0..6 {
            assert_eq!(post(&house.daemon, &poor, "/v1/chat/completions", &body).status, 402);
        }
    }
    assert!(!has_counted(&house.daemon));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_count_in_one_vocabulary_bounds_no_model_of_another() {
    let (house, poor) = house("");
    house.provider.script(Script::error(503));
    let answer = post(&house.daemon, &poor, "/v1/chat/completions", &chat("falls-back", &prose()));
    assert_eq!(answer.status, 503, "{answer:?}");
    // The model fitted by its tokens; its fallback would have to by its bytes, and was left out.
    assert_eq!(house.provider.requests().len(), 1);
    let call = last(&house.daemon);
    assert!(call.held.ask.text_tokens > 0, "{:?}", call.held);
    let denied = denials(&house.daemon).pop().expect("a denial");
    assert_eq!((&*denied.denial.rule(), denied.ask.map(|ask| ask.text_tokens)), ("budget", Some(0)));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_call_that_passed_by_its_tokens_is_replayed_for_its_idempotency_key() {
    let (house, poor) = house("");
    let body = chat("known", &prose()).to_string();
    let bearer = format!("Bearer {poor}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "one")];
    let answers = [(); 2].map(|()| client::post_bytes(&house.daemon.chat_url(), &headers, body.as_bytes()));
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200]);
    assert_eq!(answers[0].body, answers[1].body);
    assert_eq!(house.provider.requests().len(), 1);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_budget_that_is_tight_for_many_at_once_is_never_passed() {
    let (house, poor) = house("");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let calls: Vec<_> =
            (0..6).map(|_| scope.spawn(|| post(&house.daemon, &poor, "/v1/chat/completions", &chat("known", &prose())).status)).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    assert!(statuses.iter().all(|status| [200, 402].contains(status)) && statuses.contains(&200), "{statuses:?}");
    settled_and_audited(&house.daemon, &house.provider);
}
