//! Texts of streams of each dialect, however they are cut up and mixed, and what is left to its bytes.

use super::super::dialect::Dialect;
use super::super::stream::{Ending, StreamEditor, UsageChunk};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fmt::Display;

fn read(dialect: Dialect, events: &[impl Display]) -> Ending {
    let mut editor = StreamEditor::new(dialect, "m", 4, UsageChunk::Pass).keeping_texts();
    for event in events {
        assert_eq!(editor.push(Bytes::from(format!("data: {event}\n\n"))).fault, None, "{event}");
    }
    editor.finish()
}

/// The texts of a stream in the order of their beginnings, and the bytes of output that are none of them.
#[track_caller]
fn check(dialect: Dialect, events: &[impl Display], texts: &[(Field, &str)], rest: u64) {
    let ending = read(dialect, events);
    let said = ending.said.texts();
    assert_eq!(said.iter().map(|text| (text.field(), text.text.as_str())).collect::<Vec<_>>(), texts);
    assert_eq!(ending.meter.relayed_output_bytes - said.iter().map(|text| text.bytes).sum::<u64>(), rest);
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({"choices": [{"index": index, "delta": delta, "finish_reason": null}]})
}

#[test]
fn pieces_of_a_choice_are_one_text_whatever_stands_between_them() {
    let events = [
        delta(0, &json!({"role": "assistant", "content": ""})),
        delta(0, &json!({"content": "Hel"})),
        delta(1, &json!({"content": "Bon"})),
        delta(0, &json!({"content": "lo"})),
        json!({"choices": [{"delta": {"content": "jour"}, "index": 1}, {"index": 0, "delta": {"content": "!"}}]}),
        delta(0, &json!({"refusal": "No"})),
        delta(0, &json!({"reasoning_content": "why"})),
        delta(0, &json!({"reasoning": " not"})),
        json!({"choices": [], "usage": null, "obfuscation": "xxxx"}),
    ];
    let texts = [(Field::Text, "Hello!"), (Field::Text, "Bonjour"), (Field::Refusal, "No"), (Field::Reasoning, "why not")];
    check(Dialect::Chat, &events, &texts, 0);
}

#[test]
fn names_and_arguments_of_each_call_are_texts_of_their_own() {
    let call = |call: Value| delta(0, &json!({"tool_calls": [call]}));
    let events = [
        call(json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"a\""}})),
        call(json!({"function": {"arguments": "{}", "name": "now"}, "index": 1})),
        call(json!({"index": 0, "function": {"arguments": ":1}"}})),
        call(json!({"index": 2, "custom": {"name": "sh", "input": "ls"}})),
    ];
    let texts = [
        (Field::Name, "add"),
        (Field::Arguments, "{\"a\":1}"),
        (Field::Arguments, "{}"),
        (Field::Name, "now"),
        (Field::Arguments, "ls"),
        (Field::Name, "sh"),
    ];
    check(Dialect::Chat, &events, &texts, 0);
    check(
        Dialect::Chat,
        &[delta(0, &json!({"function_call": {"name": "f", "arguments": "{}"}}))],
        &[(Field::Arguments, "{}"), (Field::Name, "f")],
        0,
    );
}

#[test]
fn what_names_the_place_of_a_text_stands_before_or_behind_it() {
    let chat = [
        r#"{"choices":[{"index":1,"delta":{"content":"a"}},{"delta":{"content":"x"},"index":0}]}"#,
        r#"{"choices":[{"delta":{"content":"b"},"index":1},{"index":0,"delta":{"content":"y"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"1"},"index":7},{"index":8,"function":{"arguments":"2"}}]},"index":3}]}"#,
        r#"{"choices":[{"index":3,"delta":{"tool_calls":[{"index":7,"function":{"arguments":"3"}},{"function":{"arguments":"4"},"index":8}]}}]}"#,
    ];
    check(Dialect::Chat, &chat, &[(Field::Text, "ab"), (Field::Text, "xy"), (Field::Arguments, "13"), (Field::Arguments, "24")], 0);
    let messages = [
        r#"{"delta":{"text":"a","type":"text_delta"},"index":1,"type":"content_block_delta"}"#,
        r#"{"delta":{"text":"x","type":"text_delta"},"index":2,"type":"content_block_delta"}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"b"}}"#,
    ];
    check(Dialect::Messages, &messages, &[(Field::Text, "ab"), (Field::Text, "x")], 0);
    let responses = [
        r#"{"delta":"a","output_index":1,"type":"response.output_text.delta"}"#,
        r#"{"delta":"x","output_index":2,"type":"response.output_text.delta"}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"delta":"b"}"#,
    ];
    check(Dialect::Responses, &responses, &[(Field::Text, "ab"), (Field::Text, "x")], 0);
}

#[test]
fn what_is_no_text_is_left_to_its_bytes() {
    let events = [
        delta(0, &json!({"content": "a", "audio": {"data": "AAAA"}, "new_field": "four"})),
        delta(
            0,
            &json!({"content": [{"type": "text", "text": "b"}], "tool_calls": [{"index": 0, "function": {"name": 5, "strict": "x"}}]}),
        ),
    ];
    let rest = r#"{"data":"AAAA"}"#.len() + "four".len() + r#"[{"text":"b","type":"text"}]"#.len() + "5x".len();
    check(Dialect::Chat, &events, &[(Field::Text, "a")], count(rest));
}

#[test]
fn escapes_are_undone_and_their_bytes_kept() {
    let ending = read(
        Dialect::Chat,
        &[serde_json::from_str(r#"{"choices":[{"delta":{"content":"x"}}]}"#).unwrap(), delta(0, &json!({"content": "\"\n\u{1F600}"}))],
    );
    let [text] = ending.said.texts() else { panic!("{ending:?}") };
    assert_eq!((text.text.as_str(), text.bytes), ("x\"\n\u{1F600}", 1 + 2 + 2 + 4));
    let mut editor = StreamEditor::new(Dialect::Chat, "m", 1, UsageChunk::Pass).keeping_texts();
    let escaped = r#"data: {"choices":[{"delta":{"content":"\ud83d\ude00\u00e9"}}]}"#;
    assert_eq!(editor.push(Bytes::from(format!("{escaped}\n\n"))).fault, None);
    let ending = editor.finish();
    assert_eq!((ending.said.texts()[0].text.as_str(), ending.meter.relayed_output_bytes), ("\u{1F600}é", 18));
}

#[test]
fn choices_of_a_completion_are_texts() {
    let event = |index: u64, text: &str| json!({"choices": [{"text": text, "index": index, "logprobs": null, "finish_reason": null}]});
    check(Dialect::Completions, &[event(0, "on"), event(1, "two"), event(0, "ce")], &[(Field::Text, "once"), (Field::Text, "two")], 0);
}

#[test]
fn blocks_of_a_message_are_texts_but_for_what_is_encrypted_or_was_found() {
    let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let signature = "s".repeat(20);
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
        delta(0, json!({"type": "signature_delta", "signature": signature})),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Hel"})),
        start(2, json!({"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"a\""})),
        delta(1, json!({"type": "text_delta", "text": "lo"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ":1}"})),
        start(3, json!({"type": "web_search_tool_result", "tool_use_id": "t", "text": "found", "content": []})),
        start(4, json!({"type": "redacted_thinking", "data": "EmwK"})),
    ];
    let texts = [(Field::Reasoning, "hmm"), (Field::Text, "Hello"), (Field::Name, "add"), (Field::Arguments, "{\"a\":1}")];
    check(Dialect::Messages, &events, &texts, count(signature.len() - "hmm".len() + "EmwK".len()));
}

#[test]
fn deltas_of_a_response_are_texts_but_for_sound() {
    let delta = |kind: &str, output: u64, part: u64, delta: &str| json!({"type": format!("response.{kind}.delta"), "output_index": output, "content_index": part, "delta": delta, "obfuscation": "xx"});
    let added = |output: u64, item: Value| json!({"type": "response.output_item.added", "output_index": output, "item": item});
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "output": []}}),
        added(0, json!({"type": "reasoning", "id": "rs_1", "summary": []})),
        json!({"delta": "sh", "summary_index": 0, "output_index": 0, "type": "response.reasoning_summary_text.delta"}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "second"}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "ort"}),
        delta("reasoning_text", 0, 0, "long"),
        delta("output_text", 1, 0, "Hel"),
        delta("output_text", 1, 1, "part"),
        delta("output_text", 1, 0, "lo"),
        json!({"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "Hello"}),
        delta("refusal", 1, 2, "No"),
        added(2, json!({"type": "function_call", "id": "fc_1", "name": "add", "arguments": ""})),
        delta("function_call_arguments", 2, 0, "{}"),
        json!({"type": "response.output_item.done", "output_index": 2, "item": {"type": "function_call", "name": "add", "arguments": "{}"}}),
        delta("audio", 3, 0, "AAAA"),
        delta("new_kind", 3, 0, "new"),
    ];
    let texts = [
        (Field::Summary, "short"),
        (Field::Summary, "second"),
        (Field::Reasoning, "long"),
        (Field::Text, "Hello"),
        (Field::Text, "part"),
        (Field::Refusal, "No"),
        (Field::Name, "add"),
        (Field::Arguments, "{}"),
    ];
    check(Dialect::Responses, &events, &texts, count("AAAAnew".len()));
}

#[test]
fn a_text_is_kept_up_to_the_room_and_without_a_gap() {
    let piece = "x".repeat(1 << 10);
    let mut events = vec![delta(0, &json!({"content": piece})); MOST_BYTES >> 10];
    check(Dialect::Chat, &events, &[(Field::Text, &"x".repeat(MOST_BYTES))], 0);
    events.insert(0, delta(0, &json!({"content": "y"})));
    // One byte too many: the last piece counts by its bytes, and so does what would fit behind it.
    events.push(delta(0, &json!({"content": "z"})));
    let text = format!("y{}", "x".repeat(MOST_BYTES - (1 << 10)));
    check(Dialect::Chat, &events, &[(Field::Text, &text)], (1 << 10) + 1);
    // A piece that alone is too large is not copied.
    let large = [delta(0, &json!({"content": "x".repeat(MOST_BYTES + 1)})), delta(0, &json!({"content": "x"}))];
    check(Dialect::Chat, &large, &[], count(MOST_BYTES) + 2);
}

#[test]
fn more_texts_than_can_be_kept_are_left_to_their_bytes() {
    let call = |index: usize| json!({"index": index, "function": {"arguments": "{}"}});
    let many: Vec<Value> = (0..=MOST_TEXTS).map(|index| delta(0, &json!({"tool_calls": [call(index)]}))).collect();
    let ending = read(Dialect::Chat, &many);
    assert_eq!((ending.said.texts().len(), ending.meter.relayed_output_bytes), (MOST_TEXTS, count(2 * many.len())));
    let at_once = [delta(0, &json!({"tool_calls": (0..=MOST_TEXTS).map(call).collect::<Vec<_>>()})), delta(0, &json!({"content": "x"}))];
    let ending = read(Dialect::Chat, &at_once);
    assert_eq!((ending.said.texts().len(), ending.meter.relayed_output_bytes), (MOST_TEXTS, count(2 * many.len() + 1)));
}

#[test]
fn an_event_that_is_none_leaves_no_text_and_none_is_kept_unless_told_to() {
    let good = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".as_slice();
    let bad = b"data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]\n\n".as_slice();
    let mut editor = StreamEditor::new(Dialect::Chat, "m", 1, UsageChunk::Pass).keeping_texts();
    let relay = editor.push(Bytes::from([good, bad].concat()));
    assert!(relay.fault.is_some());
    let ending = editor.finish();
    assert_eq!((ending.said.texts()[0].text.as_str(), ending.meter.relayed_output_bytes), ("a", 1));
    let mut editor = StreamEditor::new(Dialect::Chat, "m", 1, UsageChunk::Pass);
    assert_eq!(editor.push(Bytes::from_static(good)).fault, None);
    let ending = editor.finish();
    assert!(ending.said.is_empty() && ending.meter.relayed_output_bytes == 1);
}

#[test]
fn no_text_is_shown_by_a_debug_print() {
    let ending = read(Dialect::Chat, &[delta(0, &json!({"content": "secret words"}))]);
    let printed = format!("{ending:?}");
    assert!(printed.contains("bytes: 12") && !printed.contains("secret"), "{printed}");
}

proptest! {
    /// However choices and fields are mixed and wherever they are cut, the texts are those that were said.
    #[test]
    fn cuts_and_mixtures_change_no_text(
        texts in prop::collection::vec("[ -~é日\\n\u{1F600}]{1,40}", 1..5),
        turns in prop::collection::vec((0_usize..5, 1_usize..6), 0..60),
    ) {
        let mut rest: Vec<Vec<char>> = texts.iter().map(|text| text.chars().collect()).collect();
        let mut events = Vec::new();
        let whole = (0..texts.len()).map(|choice| (choice, usize::MAX));
        for (choice, chars) in turns.into_iter().map(|(turn, chars)| (turn % texts.len(), chars)).chain(whole) {
            let end = chars.min(rest[choice].len());
            let piece: String = rest[choice].drain(..end).collect();
            events.push(delta(count(choice), &json!({"content": piece})));
        }
        let ending = read(Dialect::Chat, &events);
        let mut said: Vec<(u64, &str)> = ending.said.texts().iter().map(|text| (text.place.choice, text.text.as_str())).collect();
        said.sort_unstable();
        let wanted: Vec<(u64, &str)> = texts.iter().enumerate().map(|(choice, text)| (count(choice), text.as_str())).collect();
        prop_assert_eq!(said, wanted);
        prop_assert_eq!(ending.said.texts().iter().map(|text| text.bytes).sum::<u64>(), ending.meter.relayed_output_bytes);
        prop_assert!(ending.said.texts().iter().all(|text| count(text.text.len()) <= text.bytes));
    }
}
