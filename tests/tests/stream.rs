//! A governed stream on real sockets: bytes as they arrive, the usage chunk, the model's name, and what a slow client does.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::usage::Bucket;
use aex_tests::ask;
use aex_tests::client::{self, Connection, End};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{last, settled_and_audited};
use aex_tests::provider::{KEY, Provider, Script, Usage};
use serde_json::{Value, json};

const USAGE: &str = r#""usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#;

/// A stream of the provider, and what the client gets of it.
struct Row {
    sent: &'static str,
    /// Other than `sent` only here: what of it the client does not get.
    without: &'static str,
    asked_for_usage: bool,
}

#[test]
fn a_stream_is_the_providers_bytes_but_for_the_model_and_the_usage_chunk_that_nobody_asked_for() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let text = "data: {\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"model\":\"m1-upstream\",USAGE}\n\n";
    let rows = [
        Row { sent: "TEXTCHUNKdata: [DONE]\n\n", without: "CHUNK", asked_for_usage: false },
        Row { sent: "TEXTCHUNKdata: [DONE]\n\n", without: "", asked_for_usage: true },
        Row { sent: ": keep-alive\n\nTEXT: ping\n\nCHUNK: bye\n\ndata: [DONE]\n\n", without: "CHUNK", asked_for_usage: false },
        Row { sent: "id: 7\nevent: message\nretry: 5\nTEXTCHUNKdata:[DONE]\n\n", without: "CHUNK", asked_for_usage: false },
        Row {
            sent: "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u00e9 x\"},\"finish_reason\":\"stop\"}],\ndata:  \"model\" : \"m1-upstream\",USAGE}\n\ndata: [DONE]\n\n",
            without: "",
            asked_for_usage: false,
        },
    ];
    for row in &rows {
        let filled = |body: &str| body.replace("TEXT", text).replace("CHUNK", usage).replace("USAGE", USAGE);
        for (crlf, split) in [(false, None), (false, Some(1)), (true, None), (true, Some(7))] {
            let lines = |body: &str| if crlf { filled(body).replace('\n', "\r\n") } else { filled(body) };
            let wanted = lines(&row.sent.replace(row.without, "")).replace("m1-upstream", "m1");
            let wanted = if row.without.is_empty() { lines(row.sent).replace("m1-upstream", "m1") } else { wanted };
            provider.script(Script { garbage: Some(lines(row.sent)), split, answer: Some("x".to_owned()), ..Script::default() });
            let options = if row.asked_for_usage { json!({"include_usage": true}) } else { Value::Null };
            let body = ask::chat_with(&json!({"stream": true, "stream_options": options}));
            let answer = client::post_json(&daemon.chat_url(), &token, &body);
            assert_eq!((answer.status, answer.end, answer.text()), (200, End::Complete, wanted), "{:?} {split:?}", row.sent);
            assert_eq!(last(&daemon).story(), "exact answered");
        }
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, rows.len() * 4);
}

#[test]
fn a_true_stream_differs_from_the_providers_own_only_in_the_model_and_the_usage_chunk() {
    let (provider, twin) = (Provider::start(), Provider::start());
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    for changes in [json!({}), json!({"n": 3}), json!({"tools": [ask::tool("add")]}), json!({"stream_options": {"include_usage": true}})] {
        let relayed = client::post_json(&daemon.chat_url(), &token, &ask::with(ask::chat_with(&json!({"stream": true})), &changes));
        assert_eq!((relayed.status, relayed.header("content-type")), (200, Some("text/event-stream; charset=utf-8")), "{relayed}");
        let sent = provider.last_request().json();
        assert_eq!(sent["stream_options"], json!({"include_usage": true}));
        // The same request without the daemon, as the same provider's equally numbered call.
        let direct = client::post_json(&format!("{}/chat/completions", twin.base_url()), KEY, &sent).text();
        let asked = changes["stream_options"]["include_usage"] == true;
        let wanted: Vec<&str> = direct.split_inclusive("\n\n").filter(|event| asked || !event.contains("\"choices\":[],")).collect();
        assert_eq!(relayed.text(), wanted.concat().replace("m1-upstream", "m1"));
    }
    settled_and_audited(&daemon, &provider);
}

#[test]
fn usage_is_asked_for_whatever_the_client_wrote() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let rows = [
        (Value::Null, json!({"include_usage": true}), false),
        (json!({}), json!({"include_usage": true}), false),
        (json!({"include_usage": false}), json!({"include_usage": true}), false),
        (json!({"include_obfuscation": false}), json!({"include_usage": true, "include_obfuscation": false}), false),
        (json!({"include_usage": true, "x": 1}), json!({"include_usage": true, "x": 1}), true),
    ];
    for (options, wanted, passes) in rows {
        let body = ask::chat_with(&json!({"stream": true, "stream_options": options}));
        let answer = client::post_json(&daemon.chat_url(), &token, &body);
        assert_eq!(provider.last_request().json()["stream_options"], wanted, "{options}");
        let chunks = answer.chunks();
        let usage = chunks.iter().filter(|chunk| chunk["choices"] == json!([])).count();
        assert_eq!(usage, usize::from(passes), "{options}: {answer}");
        assert!(chunks.iter().all(|chunk| chunk["model"] == "m1"), "{answer}");
        assert_eq!(answer.data().last().map(String::as_str), Some("[DONE]"));
    }
    // An explicit null is the same as nothing.
    let body = ask::chat().to_string().replacen('{', r#"{"stream":true,"stream_options":null,"#, 1);
    let bearer = format!("Bearer {token}");
    assert_eq!(client::post_bytes(&daemon.chat_url(), &[("authorization", &bearer)], body.as_bytes()).status, 200);
    assert_eq!(provider.last_request().json()["stream_options"], json!({"include_usage": true}));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn usage_is_found_where_groq_puts_it() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    for stream in [true, false] {
        provider.script(Script { usage: Usage::Groq, ..Script::default() });
        let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat_with(&json!({"stream": stream})));
        assert!(answer.text().contains("x_groq"), "{answer}");
        assert_eq!(last(&daemon).story(), "exact answered");
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 2);
}

#[test]
fn chunks_leave_as_they_arrive() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    provider.script(Script::hold_after(2));
    let mut connection = Connection::open(&daemon.url());
    connection.post_json("/v1/chat/completions", &token, &ask::chat_with(&json!({"stream": true})));
    assert_eq!(connection.head().expect("a head").status, 200);
    let mut text = String::new();
    // The provider holds the rest: what has come so far is here without it.
    while text.len() < 8 {
        let chunk: Value = serde_json::from_str(&connection.next_data().expect("a stream").expect("a chunk")).expect("JSON");
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(text, "The scri");
    provider.release();
    while let Some(data) = connection.next_data().expect("a clean end") {
        if data != "[DONE]" {
            let chunk: Value = serde_json::from_str(&data).expect("JSON");
            text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
    }
    assert_eq!(text, "The scripted provider answers one small piece at a time.");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_client_that_has_seen_the_end_finds_its_call_settled() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    // Room for one bound at a time.
    let token = daemon.agent_with("bot", "0.0005", 1000, &[]);
    let mut connection = Connection::open(&daemon.url());
    for call in 0..5 {
        connection.post_json("/v1/chat/completions", &token, &ask::chat_with(&json!({"stream": true})));
        let answer = connection.answer().expect("an answer");
        assert_eq!(answer.status, 200, "call {call}: {answer}");
    }
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 5);
}

#[test]
fn a_slow_reader_slows_the_provider_down_and_gets_all() {
    let provider = Provider::start();
    let big = "  big:
    provider: mock
    provider_model: big-upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 200000}
    capabilities: {tools: true}
";
    let daemon = Daemon::start_with(Config::new(&provider).model(big));
    let token = daemon.agent("bot", &[]);
    // Some 30 MB: more than the buffers between the two ends hold.
    provider.script(Script::tokens(150_000));
    let mut connection = Connection::open(&daemon.url());
    connection.post_json("/v1/chat/completions", &token, &ask::chat_with(&json!({"model": "big", "stream": true, "max_tokens": 150_000})));
    assert_eq!(connection.head().expect("a head").status, 200);
    // Whole events, one or more.
    let first = connection.next_bytes().expect("a stream").expect("a first piece");
    let first = String::from_utf8(first).expect("text");
    // Another client is served while this one doesn't read, and the provider has not got rid of all.
    assert_eq!(client::stream(&daemon.chat_url(), &token, &ask::chat()).status, 200);
    assert!(provider.bills()[0].completion_tokens < 150_000, "{:?}", provider.bills()[0]);
    let memory = daemon.resident();
    assert!(memory < 200 << 20, "{memory} bytes");
    let says = |data: &str| usize::from(data.contains("\"content\":\"") && !data.contains("\"content\":\"\""));
    let mut seen: usize = first.lines().map(says).sum();
    while let Some(data) = connection.next_data().expect("a clean end") {
        seen += says(&data);
    }
    assert_eq!(seen, 150_000);
    assert_eq!(last(&daemon).quantity(Bucket::Output), 14);
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 2);
}

#[test]
fn a_stream_beyond_its_bound_is_cut() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let chunk = |tokens: u64| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    provider.script(Script {
        garbage: Some(chunk(49) + &chunk(51) + &chunk(52)),
        split: Some(chunk(49).len()),
        answer: Some("x".to_owned()),
        ..Script::default()
    });
    let answer = client::stream(&daemon.chat_url(), &token, &ask::chat());
    assert_eq!((answer.status, answer.end), (200, End::Broken), "{answer}");
    assert!(answer.text().contains("passed the bound"), "{answer}");
    assert_eq!(last(&daemon).story(), "estimated cut");
    settled_and_audited(&daemon, &provider);
}
