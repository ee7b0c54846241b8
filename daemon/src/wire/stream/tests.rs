//! Tests of `stream`.

use super::*;
use proptest::prelude::*;

/// What comes out of a stream, whole.
#[derive(Debug, PartialEq)]
struct Outcome {
    bytes: String,
    complete: bool,
    fault: Option<StreamFault>,
    meter: Meter,
}

fn run(choices: u64, chunk: UsageChunk, frames: &[&[u8]]) -> Outcome {
    let mut editor = StreamEditor::new(Dialect::Chat, "mine", choices, chunk);
    let mut bytes = Vec::new();
    for frame in frames {
        let relay = editor.push(Bytes::copy_from_slice(frame));
        bytes.extend_from_slice(&relay.bytes);
    }
    let Ending { tail, complete, fault, meter, .. } = editor.finish();
    bytes.extend_from_slice(&tail);
    Outcome { bytes: String::from_utf8(bytes).unwrap(), complete, fault, meter }
}

const TEXT: &str =
    r#"data: {"model":"mine","choices":[{"index":0,"delta":{"role":"assistant","content":"four"},"finish_reason":null}],"usage":null}"#;
const STOP: &str = r#"data: {"model":"mine","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"data: {"model":"mine","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
const DONE: &str = "data: [DONE]";

fn stream(events: &[&str]) -> String {
    events.iter().map(|event| format!("{event}\n\n")).collect()
}

#[test]
fn a_frame_without_an_edit_passes_without_a_copy() {
    let mut editor = StreamEditor::new(Dialect::Chat, "mine", 1, UsageChunk::Strip);
    let frame = Bytes::from(stream(&[": ping", TEXT, STOP, DONE]));
    let begin = frame.slice(..frame.len() - DONE.len() - 2);
    assert_eq!(editor.push(begin.clone()).bytes.as_ptr(), begin.as_ptr());
    let split = frame.slice(..frame.len() - 5);
    let relay = editor.push(split.clone());
    assert_eq!((relay.bytes.as_ptr(), relay.bytes.len()), (split.as_ptr(), frame.len() - DONE.len() - 2));
}

#[test]
fn the_usage_chunk_is_metered_and_taken_out_unless_it_was_asked_for() {
    let all = stream(&[TEXT, STOP, USAGE, DONE]);
    let passed = run(1, UsageChunk::Pass, &[all.as_bytes()]);
    assert_eq!(passed.bytes, all);
    let stripped = run(1, UsageChunk::Strip, &[all.as_bytes()]);
    assert_eq!(stripped.bytes, stream(&[TEXT, STOP, DONE]));
    let meter = Meter { usage: Some(Usage::text(7, 2)), relayed_output_bytes: 4, done: true, events: 3, ..Meter::default() };
    assert_eq!((passed.meter, stripped.meter.clone(), stripped.complete), (meter.clone(), meter, true));
}

#[test]
fn a_report_that_takes_back_what_an_earlier_one_told_takes_nothing_off_the_charge() {
    let report = |input: u64, output: u64| {
        format!(r#"data: {{"model":"mine","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#)
    };
    let usage = |events: &[&str]| run(1, UsageChunk::Pass, &[stream(events).as_bytes()]).meter.usage.unwrap();
    let fallen = usage(&[TEXT, &report(300, 200), STOP, &report(0, 0), DONE]);
    assert_eq!(fallen.quantities, Usage::text(300, 200).quantities);
    assert!(!fallen.unknown.is_empty(), "an exact charge would rest on it");
    assert_eq!(usage(&[TEXT, &report(300, 1), STOP, &report(300, 200), DONE]), Usage::text(300, 200));
}

#[test]
fn usage_is_read_wherever_a_provider_puts_it() {
    let groq =
        r#"data: {"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":1}},"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    assert_eq!(run(1, UsageChunk::Strip, &[stream(&[groq]).as_bytes()]).meter.usage, Some(Usage::text(3, 1)));
    let last = r#"data: {"usage":{"prompt_tokens":4,"completion_tokens":2},"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let outcome = run(1, UsageChunk::Strip, &[stream(&[groq, last]).as_bytes()]);
    assert_eq!(outcome.meter.usage, Some(Usage::text(4, 2)));
    assert_eq!(outcome.bytes, stream(&[groq, last]));
}

#[test]
fn a_tier_of_another_price_is_told_with_the_usage_wherever_it_stands() {
    let tiered = |event: &str, tier: &str| event.replacen('{', &format!("{{\"service_tier\":\"{tier}\","), 1);
    let told = |events: &[&str]| run(1, UsageChunk::Strip, &[stream(events).as_bytes()]).meter.usage.unwrap().tier;
    let priority = Some("priority".to_owned());
    assert_eq!(told(&[&tiered(TEXT, "priority"), STOP, USAGE, DONE]), priority);
    assert_eq!(told(&[TEXT, &tiered(USAGE, "priority"), DONE]), priority);
    assert_eq!(told(&[TEXT, USAGE, &tiered(STOP, "priority"), DONE]), priority);
    assert_eq!(told(&[&tiered(TEXT, "priority"), STOP, &tiered(USAGE, "default"), DONE]), priority);
    assert_eq!(told(&[&tiered(TEXT, "default"), STOP, USAGE, DONE]), Some("default".to_owned()));
    assert_eq!(told(&[TEXT, STOP, USAGE, DONE]), None);
}

#[test]
fn the_model_is_the_one_that_the_client_named() {
    let foreign = TEXT.replace("\"mine\"", "\"real-\\u0041\"");
    assert_eq!(run(1, UsageChunk::Strip, &[stream(&[&foreign, DONE]).as_bytes()]).bytes, stream(&[TEXT, DONE]));
    let lines = "id: 1\r\ndata:{\"choices\":[],\r\ndata: \"model\": \"real\"\r\ndata: }\r\n\r\n";
    assert_eq!(run(1, UsageChunk::Strip, &[lines.as_bytes()]).bytes, lines.replace("real", "mine"));
}

#[test]
fn output_is_counted_where_it_stands() {
    let delta = |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}");
    let bytes = |text: &str| run(1, UsageChunk::Strip, &[stream(&[&delta(text)]).as_bytes()]).meter.relayed_output_bytes;
    assert_eq!(bytes(r#"{"role":"assistant","content":null}"#), 0);
    assert_eq!(bytes(r#"{"content":"ab","refusal":"c","reasoning":"de","reasoning_content":"f"}"#), 6);
    assert_eq!(bytes(r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"fn","arguments":"{}"}}]}"#), 4);
    assert_eq!(bytes(r#"{"function_call":{"name":"fn","arguments":"{}"}}"#), 4);
}

#[test]
fn an_end_is_complete_after_done_or_when_all_choices_are_finished() {
    let complete = |choices, text: &str| run(choices, UsageChunk::Strip, &[text.as_bytes()]).complete;
    assert!(complete(1, &stream(&[TEXT, DONE])));
    assert!(complete(1, &stream(&[TEXT, STOP])));
    assert!(!complete(2, &stream(&[TEXT, STOP])));
    assert!(!complete(1, &stream(&[TEXT])));
    assert!(complete(1, &(stream(&[TEXT, STOP]) + DONE)));
}

#[test]
fn a_tail_without_its_blank_line_is_relayed_and_half_an_event_is_not() {
    let outcome = run(1, UsageChunk::Strip, &[(stream(&[TEXT]) + DONE).as_bytes()]);
    assert_eq!((outcome.bytes, outcome.complete), (stream(&[TEXT]) + DONE, true));
    let outcome = run(1, UsageChunk::Strip, &[(stream(&[TEXT]) + STOP).as_bytes()]);
    assert_eq!((outcome.bytes, outcome.complete), (stream(&[TEXT]) + STOP, true));
    let cut = run(1, UsageChunk::Strip, &[(stream(&[TEXT]) + "data: {\"choi").as_bytes()]);
    assert_eq!((cut.bytes, cut.complete, cut.fault), (stream(&[TEXT]), false, Some(StreamFault::Garbage)));
    let unterminated = run(1, UsageChunk::Strip, &[TEXT.as_bytes()]);
    assert_eq!((unterminated.bytes, unterminated.complete), (stream(&[TEXT]), false));
}

#[test]
fn garbage_ends_the_relay_behind_what_was_good() {
    let outcome = run(1, UsageChunk::Strip, &[stream(&[TEXT, "data: {oops", DONE]).as_bytes(), stream(&[TEXT]).as_bytes()]);
    assert_eq!((outcome.bytes, outcome.complete, outcome.fault), (stream(&[TEXT]), false, Some(StreamFault::Garbage)));
    for text in ["", "<html>\n\n<body>", "data: [DONE]\n\n", ": ping\n\n"] {
        assert_eq!(run(1, UsageChunk::Strip, &[text.as_bytes()]).fault, Some(StreamFault::Garbage), "{text}");
    }
}

#[test]
fn an_error_in_the_stream_passes_and_is_told() {
    let text = stream(&[TEXT, "event: error\ndata: {\"error\":{\"message\":\"over\"}}"]);
    let outcome = run(1, UsageChunk::Strip, &[text.as_bytes()]);
    assert_eq!(outcome.bytes, text);
    assert!(outcome.meter.provider_error && !outcome.complete);
}

#[test]
fn an_event_that_never_ends_is_cut_at_the_cap() {
    let mut editor = StreamEditor::new(Dialect::Chat, "mine", 1, UsageChunk::Strip);
    let frame = Bytes::from("data: ".to_owned() + &"x".repeat(1 << 20));
    let faults = (0..5).map(|_| editor.push(frame.clone())).filter(|relay| relay.fault == Some(StreamFault::EventTooLarge)).count();
    assert_eq!(faults, 2);
    assert_eq!(editor.pending.capacity(), 0);
}

#[test]
fn a_comment_does_not_wait_for_the_next_event() {
    let mut editor = StreamEditor::new(Dialect::Chat, "mine", 1, UsageChunk::Strip);
    assert_eq!(editor.push(Bytes::from_static(b": ping\n")).bytes, ": ping\n");
    assert_eq!(editor.push(Bytes::from_static(b"\n: p")).bytes, "\n");
    assert_eq!(editor.push(Bytes::from_static(b"ong\r")).bytes, ": pong\r");
    assert_eq!(editor.push(Bytes::from_static(b"\n\r")).bytes, "\n\r");
}

fn events() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let foreign = TEXT.replace("mine", "real-ünïcödé").replace("four", "漢字");
    let event = prop::sample::select(vec![
        (TEXT.to_owned(), Some(TEXT.to_owned())),
        (foreign.clone(), Some(foreign.replace("real-ünïcödé", "mine"))),
        (USAGE.to_owned(), None),
        (STOP.to_owned(), Some(STOP.to_owned())),
        (DONE.to_owned(), Some(DONE.to_owned())),
        (": ping".to_owned(), Some(": ping".to_owned())),
        ("event: x\ndata:\nretry: 3".to_owned(), Some("event: x\ndata:\nretry: 3".to_owned())),
        ("data: {\"model\":\ndata: \"r\"}".to_owned(), Some("data: {\"model\":\ndata: \"mine\"}".to_owned())),
    ]);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    prop::collection::vec((event, end), 0..8).prop_map(|events| {
        let mut written = String::new();
        let mut expected = String::new();
        let mut done = false;
        for ((event, after), end) in events {
            // Nothing follows the last event.
            if !done {
                expected += &after.map(|event| event + "\n\n").unwrap_or_default().replace('\n', end);
            }
            done |= event == DONE;
            written += &(event + "\n\n").replace('\n', end);
        }
        (written.into_bytes(), expected.into_bytes())
    })
}

proptest! {
    #[test]
    fn however_it_is_split_a_stream_comes_out_the_same((written, expected) in events(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let whole = run(1, UsageChunk::Strip, &[&written]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(written.len() + 1)).collect();
        cuts.extend([0, written.len()]);
        cuts.sort_unstable();
        let frames: Vec<&[u8]> = cuts.windows(2).map(|pair| &written[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&run(1, UsageChunk::Strip, &frames), &whole);
        let bytes: Vec<&[u8]> = written.chunks(1).collect();
        prop_assert_eq!(&run(1, UsageChunk::Strip, &bytes), &whole);
        prop_assert_eq!(whole.bytes.as_bytes(), expected);
    }

    #[test]
    fn no_bytes_break_it(frames in prop::collection::vec(prop::collection::vec(prop::sample::select(b"data: {}[]\"\r\n\n:x\xff".to_vec()), 0..20), 0..8)) {
        let mut editor = StreamEditor::new(Dialect::Chat, "mine", 1, UsageChunk::Strip);
        for frame in frames {
            let _relay = editor.push(Bytes::from(frame));
        }
        let _ending = editor.finish();
    }
}
