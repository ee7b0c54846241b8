//! What `echo` says is read by the daemon's own readers of each dialect.

use super::super::stream::{StreamEditor, UsageChunk};
use super::*;
use aex_core::usage::Bucket;
use aex_core::usage::Usage;

const TALK: [Dialect; 4] = [Dialect::Chat, Dialect::Completions, Dialect::Messages, Dialect::Responses];

/// A request in a dialect that says a text, with more members.
fn request(dialect: Dialect, said: &str, more: &Value) -> String {
    let mut body = match dialect {
        Dialect::Chat => json!({"messages": [{"role": "user", "content": said}]}),
        Dialect::Messages | Dialect::CountTokens => json!({"messages": [{"role": "user", "content": said}], "max_tokens": 99}),
        Dialect::Completions => json!({"prompt": said}),
        Dialect::Embeddings | Dialect::Responses => json!({"input": said}),
    };
    body["model"] = json!("echo");
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn whole(dialect: Dialect, body: &str) -> Value {
    assert!(dialect.read(body.as_bytes()).is_ok(), "the daemon refuses {body}");
    match respond(dialect, body.as_bytes(), 5) {
        EchoAnswer::Plain(bytes) => serde_json::from_slice(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn plain(body: &str) -> Value {
    whole(Dialect::Chat, body)
}

fn stream(dialect: Dialect, body: &str) -> Vec<Bytes> {
    match respond(dialect, body.as_bytes(), 5) {
        EchoAnswer::Stream(events) => events,
        other => panic!("{other:?}"),
    }
}

/// What a usage is priced by.
fn counts(usage: Usage) -> Vec<(Bucket, u64)> {
    usage.quantities
}

/// The payloads of events.
fn payloads(events: &[Bytes]) -> Vec<Value> {
    let text = String::from_utf8(events.concat()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[test]
fn it_says_the_last_user_message_again() {
    let body = r#"{"model":"echo","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hello  world "}]}]}"#;
    let answer = plain(body);
    assert_eq!(answer["choices"][0]["message"]["content"], "echo: hello  world");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&answer["created"], &answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(5), &json!(10), &json!(3))
    );
    let cut = plain(r#"{"model":"echo","max_tokens":2,"n":2,"messages":[{"role":"user","content":"hello world"}]}"#);
    assert_eq!((&cut["choices"][1]["message"]["content"], &cut["choices"][1]["finish_reason"]), (&json!("echo: hello"), &json!("length")));
    assert_eq!(cut["usage"]["completion_tokens"], 4);
}

#[test]
fn every_dialect_says_it_again_and_counts_the_same() {
    for (dialect, at, input) in [
        (Dialect::Chat, "/choices/0/message/content", 5),
        (Dialect::Completions, "/choices/0/text", 2),
        (Dialect::Messages, "/content/0/text", 5),
        (Dialect::Responses, "/output/0/content/0/text", 5),
    ] {
        let body = request(dialect, "one two", &json!({}));
        let answer = whole(dialect, &body);
        assert_eq!(answer.pointer(at), Some(&json!("echo: one two")), "{dialect:?}: {answer}");
        let read = dialect.answer(answer.to_string().as_bytes()).unwrap();
        assert_eq!((read.usage.map(counts), read.is_error), (Some(counts(Usage::text(input, 3))), false), "{dialect:?}: {answer}");
        assert_eq!(respond(dialect, body.as_bytes(), 5), respond(dialect, body.as_bytes(), 5), "the same bytes again");
    }
}

#[test]
fn an_answer_that_is_cut_says_so() {
    for (dialect, field, at, why) in [
        (Dialect::Chat, "max_completion_tokens", "/choices/0/finish_reason", "length"),
        (Dialect::Completions, "max_tokens", "/choices/0/finish_reason", "length"),
        (Dialect::Messages, "max_tokens", "/stop_reason", "max_tokens"),
        (Dialect::Responses, "max_output_tokens", "/incomplete_details/reason", "max_output_tokens"),
    ] {
        let answer = whole(dialect, &request(dialect, "one two", &json!({field: 2})));
        assert_eq!(answer.pointer(at), Some(&json!(why)), "{dialect:?}: {answer}");
        assert!(answer.to_string().contains("\"echo: one\""), "{dialect:?}: {answer}");
    }
}

#[test]
fn a_json_object_that_is_asked_for_is_one() {
    let format = json!({"type": "json_object"});
    for (dialect, more, at) in [
        (Dialect::Chat, json!({"response_format": format}), "/choices/0/message/content"),
        (Dialect::Responses, json!({"text": {"format": format}}), "/output/0/content/0/text"),
    ] {
        let answer = whole(dialect, &request(dialect, "say \"json\"", &more));
        let text = answer.pointer(at).and_then(Value::as_str).unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"echo": "say \"json\""}), "{dialect:?}");
    }
}

#[test]
fn it_calls_a_tool_that_it_was_offered() {
    let said = "call add {\"a\": 1}";
    for (dialect, tool, at, called) in [
        (
            Dialect::Chat,
            json!({"type": "function", "function": {"name": "add"}}),
            "/choices/0/message/tool_calls/0/function",
            json!({"name": "add", "arguments": "{\"a\":1}"}),
        ),
        (Dialect::Messages, json!({"name": "add", "input_schema": {"type": "object"}}), "/content/0/input", json!({"a": 1})),
        (Dialect::Responses, json!({"type": "function", "name": "add"}), "/output/0/arguments", json!("{\"a\":1}")),
    ] {
        let offered = request(dialect, said, &json!({"tools": [tool]}));
        assert_eq!(whole(dialect, &offered).pointer(at), Some(&called), "{dialect:?}");
        assert_eq!(whole(dialect, &request(dialect, said, &json!({}))).pointer(at), None, "{dialect:?}: nothing was offered");
        let streamed = payloads(&stream(dialect, &request(dialect, said, &json!({"tools": [tool], "stream": true}))));
        assert!(streamed.iter().any(|event| event.to_string().contains(r#"{\"a\":1}"#)), "{dialect:?}: {streamed:?}");
    }
}

#[test]
fn what_a_tool_answered_is_answered_in_its_turn() {
    let said = "call add {\"a\": 1}";
    let chat = json!({"tools": [{"type": "function", "function": {"name": "add"}}], "messages": [
        {"role": "user", "content": said}, {"role": "assistant", "content": null, "tool_calls": []},
        {"role": "tool", "tool_call_id": "c", "content": "two"},
    ]});
    let messages = json!({"tools": [{"name": "add", "input_schema": {}}], "messages": [
        {"role": "user", "content": said}, {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "add", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "two"}]}]},
    ]});
    let responses = json!({"tools": [{"type": "function", "name": "add"}], "input": [
        {"role": "user", "content": [{"type": "input_text", "text": said}]}, {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "two"},
    ]});
    for (dialect, more) in [(Dialect::Chat, chat), (Dialect::Messages, messages), (Dialect::Responses, responses)] {
        let answer = whole(dialect, &request(dialect, "", &more));
        assert!(answer.to_string().contains("\"echo: two\""), "{dialect:?}: {answer}");
    }
}

#[test]
fn its_streams_are_what_a_stream_editor_reads() {
    for dialect in TALK {
        let body = request(dialect, "one two", &json!({"stream": true}));
        let events = stream(dialect, &body);
        assert!(events.iter().all(|event| !event.windows(13).any(|window| window == b"prompt_tokens")), "{dialect:?}: nobody asked");
        let asked = if dialect.has_usage_option() {
            json!({"stream": true, "stream_options": {"include_usage": true}})
        } else {
            json!({"stream": true})
        };
        let events = stream(dialect, &request(dialect, "one two", &asked));
        let mut editor = StreamEditor::new(dialect, "mine", 1, UsageChunk::Strip);
        let relayed: Vec<u8> = events.iter().flat_map(|event| editor.push(event.clone()).bytes).collect();
        let ending = editor.finish();
        assert!(ending.complete, "{dialect:?}");
        assert!(!relayed.windows(13).any(|window| window == b"prompt_tokens"), "{dialect:?}");
        let input = if dialect == Dialect::Completions { 2 } else { 5 };
        assert_eq!(ending.meter.usage.map(counts), Some(counts(Usage::text(input, 3))), "{dialect:?}");
        assert!(ending.meter.relayed_output_bytes >= 13, "{dialect:?}: {}", ending.meter.relayed_output_bytes);
    }
}

#[test]
fn each_choice_of_a_stream_is_counted() {
    let body =
        r#"{"model":"echo","stream":true,"stream_options":{"include_usage":true},"n":2,"messages":[{"role":"user","content":"one two"}]}"#;
    let mut editor = StreamEditor::new(Dialect::Chat, "mine", 2, UsageChunk::Strip);
    for event in stream(Dialect::Chat, body) {
        assert_eq!(editor.push(event).fault, None);
    }
    let ending = editor.finish();
    assert_eq!((ending.complete, ending.meter.usage, ending.meter.relayed_output_bytes), (true, Some(Usage::text(5, 6)), 2 * 13));
}

#[test]
fn embeddings_are_vectors_of_length_one_in_both_forms() {
    let texts = json!({"input": ["one two", "one two", "three"], "dimensions": 40});
    let answer = whole(Dialect::Embeddings, &request(Dialect::Embeddings, "", &texts));
    let vectors: Vec<Vec<f64>> =
        answer["data"].as_array().unwrap().iter().map(|row| serde_json::from_value(row["embedding"].clone()).unwrap()).collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 40));
    assert!(vectors[0] == vectors[1] && vectors[1] != vectors[2]);
    for vector in &vectors {
        assert!((vector.iter().map(|number| number * number).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(Dialect::Embeddings.answer(answer.to_string().as_bytes()).unwrap().usage, Some(Usage::text(5, 0)));
    let tokens = json!({"input": [[1, 2, 3]], "encoding_format": "base64"});
    let answer = whole(Dialect::Embeddings, &request(Dialect::Embeddings, "", &tokens));
    // 16 numbers of 4 bytes.
    assert_eq!((answer["data"][0]["embedding"].as_str().unwrap().len(), &answer["usage"]["prompt_tokens"]), (88, &json!(3)));
}

#[test]
fn a_count_of_tokens_is_that_of_the_answer() {
    let system = json!({"system": [{"type": "text", "text": "be brief"}]});
    let counted = whole(Dialect::CountTokens, &request(Dialect::CountTokens, "one two", &system));
    assert_eq!(counted, json!({"input_tokens": 10}));
    assert_eq!(whole(Dialect::Messages, &request(Dialect::Messages, "one two", &system))["usage"]["input_tokens"], 10);
}

#[test]
fn it_refuses_what_the_protocol_refuses() {
    for (body, param) in [
        ("{", "body"),
        (r#"{"messages":[]}"#, "model"),
        (r#"{"model":"echo"}"#, "messages"),
        (r#"{"model":"echo","messages":[]}"#, "messages"),
        (r#"{"model":"echo","messages":[{"role":"robot","content":""}]}"#, "messages[0].role"),
        (r#"{"model":"echo","messages":[{"role":"user"}]}"#, "messages[0].content"),
        (r#"{"model":"echo","messages":[{"role":"tool","content":""}]}"#, "messages[0].tool_call_id"),
        (r#"{"model":"echo","n":0,"messages":[{"role":"user","content":""}]}"#, "n"),
        (r#"{"model":"echo","max_tokens":0,"messages":[{"role":"user","content":""}]}"#, "max_tokens"),
    ] {
        assert_eq!(refusal(Dialect::Chat, body)["error"]["param"], param, "{body}");
    }
    for (dialect, body, param) in [
        (Dialect::Completions, r#"{"model":"echo","prompt":7}"#, "prompt"),
        (Dialect::Embeddings, r#"{"model":"echo","input":[]}"#, "input"),
        (Dialect::Embeddings, r#"{"model":"echo","input":"a","dimensions":0}"#, "dimensions"),
        (Dialect::Embeddings, r#"{"model":"echo","input":"a","encoding_format":"hex"}"#, "encoding_format"),
        (Dialect::Responses, r#"{"model":"echo"}"#, "input"),
        (Dialect::Responses, r#"{"model":"echo","input":[{"role":"robot","content":"a"}]}"#, "input[0].role"),
        (Dialect::Responses, r#"{"model":"echo","input":"a","previous_response_id":"resp_1"}"#, "previous_response_id"),
    ] {
        assert_eq!(refusal(dialect, body)["error"]["param"], param, "{body}");
    }
    for (body, words) in [
        (r#"{"model":"echo","messages":[{"role":"user","content":"a"}]}"#, "max_tokens"),
        (r#"{"model":"echo","max_tokens":1,"messages":[{"role":"system","content":"a"}]}"#, "messages.0.role"),
        (r#"{"model":"echo","max_tokens":1,"messages":[{"role":"user"}]}"#, "messages.0.content"),
    ] {
        let error = refusal(Dialect::Messages, body);
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{error}");
    }
}

#[track_caller]
fn refusal(dialect: Dialect, body: &str) -> Value {
    let EchoAnswer::Refused(400, error) = respond(dialect, body.as_bytes(), 5) else { panic!("{body}") };
    assert!(dialect.answer(&error).unwrap().is_error);
    serde_json::from_slice(&error).unwrap()
}
