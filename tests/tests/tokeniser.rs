//! The tokeniser: calls that their bytes would deny pass by their tokens, and a call that cannot fit is denied without a count. Streams that
//! break off are charged by the tokens of what was relayed.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::thread;

use aex_core::event::Relayed;
use aex_core::usage::Bucket;
use aex_tests::client::{self, Answer, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::house::{House, last_error, last_error_of};
use aex_tests::ledger::{Call, End, denials, last, quiet, settled_and_audited};
use aex_tests::provider::{At, How, Provider, Script};
use nix::sys::signal::Signal;
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

/// Ten tokens in either vocabulary, as OpenAI's tokeniser shows.
const SENTENCE: &str = "The quick brown fox jumps over the lazy dog.";
/// Five of them, with a space before each further one that belongs to its first token.
const BYTES: u64 = 5 * 44 + 4;
/// Their tokens, and one for the end of a text that was cut.
const TOKENS: u64 = 5 * 10 + 1;
/// Chunks of four characters that hold them.
const CHUNKS: usize = 56;

fn five_and_more() -> String {
    [SENTENCE; 9].join(" ")
}

/// Sends five sentences and then nothing more.
fn stalls() -> Script {
    Script { hold_after: Some(CHUNKS), ..Script::answer(&five_and_more()) }
}

/// A request for a stream, in the dialect of a path.
fn asks(path: &str, model: &str) -> Value {
    match path {
        "/v1/completions" => json!({"model": model, "stream": true, "max_tokens": 500, "prompt": "Say it."}),
        "/v1/responses" => json!({"model": model, "stream": true, "max_output_tokens": 500, "store": false, "input": "Say it."}),
        _ => json!({"model": model, "stream": true, "max_tokens": 500, "messages": [{"role": "user", "content": "Say it."}]}),
    }
}

/// What a chunk of any dialect says.
fn content(data: &str) -> String {
    let event: Value = serde_json::from_str(data).expect("JSON");
    let said = [&event["choices"][0]["delta"]["content"], &event["choices"][0]["text"], &event["delta"]["text"], &event["delta"]];
    said.iter().find_map(|said| said.as_str()).unwrap_or_default().to_owned()
}

/// A stream whose client has read all five sentences.
#[track_caller]
fn begin(daemon: &Daemon, token: &str, path: &str, model: &str) -> Connection {
    let mut connection = Connection::open(&daemon.url());
    connection.post_json(path, token, &asks(path, model));
    assert_eq!(connection.head().expect("a head").status, 200);
    let mut said = String::new();
    while said.len() < [SENTENCE; 5].join(" ").len() {
        said.push_str(&content(&connection.next_data().expect("a stream").expect("a chunk")));
    }
    assert_eq!(said, [SENTENCE; 5].join(" "));
    connection
}

/// How a stream ended, and what its output was charged as.
#[track_caller]
fn charged(call: &Call) -> (String, u64, Option<Relayed>) {
    let End::Charged { relayed, .. } = call.end() else { panic!("{call:?}") };
    (call.story(), call.quantity(Bucket::Output), *relayed)
}

fn by_tokens(story: &str) -> (String, u64, Option<Relayed>) {
    (story.to_owned(), TOKENS, Some(Relayed { bytes: BYTES, tokens: Some(TOKENS) }))
}

fn by_bytes(story: &str) -> (String, u64, Option<Relayed>) {
    (story.to_owned(), BYTES, Some(Relayed { bytes: BYTES, tokens: None }))
}

#[test]
fn a_stream_that_its_client_leaves_is_charged_by_the_tokens_of_what_was_relayed() {
    let (house, _) = house("");
    house.provider.always(stalls());
    for (path, model) in [
        ("/v1/chat/completions", "known"),
        ("/v1/chat/completions", "stated"),
        ("/v1/completions", "stated"),
        ("/v1/responses", "known"),
        ("/v1/responses", "stated"),
    ] {
        begin(&house.daemon, &house.token, path, model).close();
        let call = last(&house.daemon);
        assert_eq!(charged(&call), by_tokens("estimated client_left"), "{path} {model}");
        let told = house.daemon.ctl(["explain", &call.held.request.to_string()]).ok().stdout;
        assert!(told.contains("by tokens: 224 bytes, 51 tokens at most"), "{told}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_message_that_its_client_leaves_is_charged_so_too_where_a_vocabulary_is_stated() {
    let provider = Provider::start();
    let claude = model("claude", "claude-9", "tokenizer: cl100k").replace("provider: mock", "provider: anthropic");
    let models = Config::new(&provider).model(&claude).models_text();
    let entry = format!("providers:\n  anthropic:\n    type: anthropic\n    base_url: {}\n", provider.origin());
    let text = models.replacen("providers:\n", &entry, 1);
    let key = format!("MOCK_API_KEY={0}\nANTHROPIC_API_KEY={0}\n", provider.key());
    let daemon = Daemon::start_with(Config::new(&provider).models_yaml(&text).dotenv(&key));
    let token = daemon.agent("bot", &[]);
    provider.always(stalls());
    begin(&daemon, &token, "/v1/messages", "claude").close();
    assert_eq!(charged(&last(&daemon)), by_tokens("estimated client_left"));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn bytes_stay_the_charge_where_the_tokeniser_is_off_or_the_vocabulary_unknown() {
    let check = |aexd_yaml: &str, models: &[&str]| {
        let (house, _) = house(aexd_yaml);
        house.provider.always(stalls());
        for model in models {
            begin(&house.daemon, &house.token, "/v1/chat/completions", model).close();
            let call = last(&house.daemon);
            assert_eq!(charged(&call), by_bytes("estimated client_left"), "{model}");
            let told = house.daemon.ctl(["explain", &call.held.request.to_string()]).ok().stdout;
            assert!(told.contains("by bytes: 224, each counted as a token"), "{told}");
        }
        assert!(!has_counted(&house.daemon));
        settled_and_audited(&house.daemon, &house.provider);
    };
    check("", &["off", "unknown"]);
    check("tokenizer: off\n", &["known", "stated"]);
}

#[test]
fn whoever_ends_a_stream_its_tokens_are_counted_once() {
    let (house, _) = house("");
    let chat = "/v1/chat/completions";
    for how in [How::Close, How::Finish] {
        house.provider.script(Script { answer: Some(five_and_more()), ..Script::cut(At::Chunk(CHUNKS), how) });
        let mut connection = begin(&house.daemon, &house.token, chat, "known");
        last_error(&mut connection);
        assert_eq!(charged(&last(&house.daemon)), by_tokens("estimated provider_left"), "{how:?}");
    }
    house.provider.always(stalls());
    let mut connection = begin(&house.daemon, &house.token, chat, "known");
    house.daemon.ctl(["kill", "agent:bot", "--reason", "runaway"]).ok();
    last_error_of(&mut connection, "account_killed");
    assert_eq!(charged(&last(&house.daemon)), by_tokens("estimated stopped"));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn many_clients_that_leave_at_once_are_charged_each_for_its_own() {
    let (house, _) = house("");
    house.provider.always(stalls());
    let open: Vec<Connection> = (0..24).map(|_| begin(&house.daemon, &house.token, "/v1/chat/completions", "stated")).collect();
    thread::scope(|scope| open.into_iter().for_each(|connection| drop(scope.spawn(move || connection.reset()))));
    let calls = quiet(&house.daemon);
    assert_eq!(calls.len(), 24);
    assert!(calls.iter().all(|call| charged(call) == by_tokens("estimated client_left")), "{calls:?}");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_daemon_that_stops_right_behind_the_client_counts_first_or_charges_by_bytes() {
    let leave_and_stop = |aexd_yaml: &str| {
        let (mut house, _) = house(aexd_yaml);
        house.provider.always(stalls());
        let open: Vec<Connection> = (0..6).map(|_| begin(&house.daemon, &house.token, "/v1/chat/completions", "known")).collect();
        open.into_iter().for_each(Connection::close);
        house.daemon.signal(Signal::SIGTERM);
        assert_eq!(house.daemon.wait(), 0);
        house.daemon.run();
        let calls = quiet(&house.daemon);
        assert_eq!(calls.len(), 6);
        let ends = calls.iter().map(charged).collect::<Vec<_>>();
        settled_and_audited(&house.daemon, &house.provider);
        ends
    };
    // A drain waits for the count.
    assert!(leave_and_stop("").iter().all(|end| *end == by_tokens("estimated client_left")));
    // One that waits for nothing leaves none to the next start, which would charge all that was held.
    for end in leave_and_stop("drain_timeout_ms: 0\n") {
        assert!([by_tokens("estimated client_left"), by_bytes("estimated client_left")].contains(&end), "{end:?}");
    }
}
