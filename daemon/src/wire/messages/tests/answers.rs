//! Answers, whole and as a stream, and the one made of the other.

use super::super::unstream::as_stream;
use super::*;
use crate::wire::said::Said;
use crate::wire::stream::{Ending, StreamEditor, UsageChunk};
use aex_core::usage::{Bucket, Usage};
use bytes::Bytes;

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-real","content":[
    {"type":"thinking","thinking":"hmm","signature":"c2lnbmF0dXJl"},{"type":"text","text":"four","citations":[{"type":"char_location","cited_text":"long"}]},
    {"type":"tool_use","id":"toolu_1","name":"add","input":{"a":1}}],
    "stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":20}}"#;

/// What was counted, whatever else is told.
fn counted(usage: Option<Usage>) -> Option<Vec<(Bucket, u64)>> {
    usage.map(|usage| usage.quantities)
}

fn plain(input: u64, output: u64) -> Option<Vec<(Bucket, u64)>> {
    counted(Some(Usage::text(input, output)))
}

fn editor() -> StreamEditor {
    StreamEditor::new(Dialect::Messages, "mine", 1, UsageChunk::Pass)
}

/// What a stream came to, and the bytes for its client.
fn relayed(stream: &str) -> (String, Ending) {
    let mut editor = editor();
    let relay = editor.push(Bytes::from(stream.to_owned()));
    assert_eq!(relay.fault, None, "{stream}");
    (String::from_utf8(relay.bytes.to_vec()).unwrap(), editor.finish())
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-real\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const TEXT: &str = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello!\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[test]
fn a_message_is_read_in_one_pass() {
    let read = |text: &str| message(&mut Scanner::new(text.as_bytes()).unwrap()).unwrap();
    let answer = read(MESSAGE);
    assert_eq!(counted(answer.usage), plain(10, 20));
    assert_eq!(answer.model_span.and_then(|span| MESSAGE.get(span)), Some("\"claude-real\""));
    // A signature beyond its thinking is thinking that is not shown: 3 + 9 + 4 + 3 for the name + 7.
    assert_eq!((answer.relayed_output_bytes, answer.is_error), (26, false));
    let error = read(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#);
    assert!(error.is_error && error.usage.is_none());
    assert_eq!(counted(read(r#"{"type":"message","content":[]}"#).usage), None);
}

#[test]
fn a_stream_is_the_providers_bytes_but_for_the_model() {
    let stream = [START, TEXT, DELTA, STOP].concat();
    let (bytes, ending) = relayed(&stream);
    assert_eq!(bytes, stream.replace("claude-real", "mine"));
    assert!(ending.complete && ending.meter.done && !ending.meter.usage_goes_on);
    assert_eq!((counted(ending.meter.usage), ending.meter.relayed_output_bytes), (plain(25, 15), 6));
}

#[test]
fn what_has_come_of_a_stream_is_known_at_each_place() {
    let (_, ending) = relayed(START);
    assert_eq!((ending.complete, ending.meter.usage_goes_on, counted(ending.meter.usage)), (false, true, plain(25, 1)));
    let (_, ending) = relayed(&[START, TEXT].concat());
    assert_eq!((ending.complete, ending.meter.relayed_output_bytes), (false, 6));
    // The last counts are there, the end is not.
    let (_, ending) = relayed(&[START, TEXT, DELTA].concat());
    assert_eq!((ending.complete, ending.meter.usage_goes_on, counted(ending.meter.usage)), (false, false, plain(25, 15)));
    // The end is there, the last counts are not.
    let (_, ending) = relayed(&[START, TEXT, STOP].concat());
    assert_eq!((ending.complete, ending.meter.usage_goes_on), (true, true));
}

#[test]
fn an_error_in_a_stream_is_told() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let (bytes, ending) = relayed(&[START, error].concat());
    assert!(bytes.ends_with(error) && ending.meter.provider_error && !ending.complete);
    let (_, ending) = relayed(error);
    assert!(ending.meter.provider_error && ending.meter.usage.is_none());
}

#[test]
fn all_that_a_model_writes_counts_as_output_and_what_it_is_told_does_not() {
    let row = |payload: Value, bytes: u64| {
        let text = payload.to_string();
        let answer = event(&mut Told::default(), &mut Said::default(), &mut Scanner::new(text.as_bytes()).unwrap(), "mine").unwrap();
        assert_eq!(answer.relayed_output_bytes, bytes, "{text}");
    };
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
    let start = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
    row(delta(json!({"type": "text_delta", "text": "four"})), 4);
    row(delta(json!({"type": "thinking_delta", "thinking": "hm"})), 2);
    row(delta(json!({"type": "input_json_delta", "partial_json": "{\"a\":"})), 7);
    row(delta(json!({"type": "signature_delta", "signature": "abc"})), 3);
    row(delta(json!({"type": "compaction_delta", "content": "short"})), 5);
    row(delta(json!({"type": "of_tomorrow", "said": "x"})), 1);
    row(delta(json!({"type": "citations_delta", "citation": {"cited_text": "long"}})), 0);
    row(start(json!({"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}})), 3);
    row(start(json!({"type": "redacted_thinking", "data": "secret"})), 6);
    row(start(json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]})), 0);
    row(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}}), 0);
    row(json!({"type": "ping"}), 0);
}

#[test]
fn a_signature_counts_as_far_as_it_is_longer_than_the_thinking_that_was_shown() {
    let mut told = Told::default();
    let mut said = |payload: &str| {
        event(&mut told, &mut Said::default(), &mut Scanner::new(payload.as_bytes()).unwrap(), "mine").unwrap().relayed_output_bytes
    };
    assert_eq!(said(r#"{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}"#), 0);
    assert_eq!(said(r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"1234"}}"#), 4);
    assert_eq!(said(r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"123456"}}"#), 2);
    assert_eq!(said(r#"{"type":"content_block_start","content_block":{"type":"thinking","thinking":""}}"#), 0);
    assert_eq!(said(r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"123456"}}"#), 6);
}

#[test]
fn a_whole_message_becomes_a_stream_that_says_the_same() {
    let stream = as_stream(MESSAGE.as_bytes()).unwrap();
    let said = std::str::from_utf8(&stream).unwrap();
    let events: Vec<Value> = said
        .split("\n\n")
        .filter_map(|event| event.split_once("\ndata: "))
        .map(|(name, data)| {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
            event
        })
        .collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let (start, delta, stop) = ("content_block_start", "content_block_delta", "content_block_stop");
    assert_eq!(
        kinds,
        ["message_start", start, delta, delta, stop, start, delta, delta, stop, start, delta, stop, "message_delta", "message_stop"]
    );
    assert_eq!((&events[0]["message"]["content"], &events[0]["message"]["stop_reason"]), (&json!([]), &Value::Null));
    assert_eq!(events[0]["message"]["usage"], json!({"input_tokens": 10, "output_tokens": 0}));
    assert_eq!(events[6]["delta"], json!({"type": "text_delta", "text": "four"}));
    assert_eq!(events[10]["delta"], json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"}));
    assert_eq!(events[9]["content_block"]["input"], json!({}));
    assert_eq!((&events[12]["delta"]["stop_reason"], &events[12]["usage"]["output_tokens"]), (&json!("tool_use"), &json!(20)));
    let (_, ending) = relayed(said);
    assert!(ending.complete && !ending.meter.usage_goes_on);
    // As many as in the whole message, and two that escape the quotes of the tool's input.
    assert_eq!((counted(ending.meter.usage), ending.meter.relayed_output_bytes), (plain(10, 20), 28));
    for none in ["[]", "{}", r#"{"type":"error","error":{}}"#, "<html>"] {
        assert_eq!(as_stream(none.as_bytes()), None);
    }
}
