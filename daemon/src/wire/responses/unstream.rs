//! A whole response as the events of the stream that the client asked for.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The events; `None` when it is no response.
#[must_use]
pub(in crate::wire) fn as_stream(body: &[u8]) -> Option<Bytes> {
    let response: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let output = response.get("output")?.as_array()?;
    let mut begun = response.clone();
    for (name, value) in [("status", json!("in_progress")), ("output", json!([])), ("usage", Value::Null)] {
        begun.insert(name.to_owned(), value);
    }
    let mut events = Events::default();
    events.push("response.created", json!({"response": begun}));
    events.push("response.in_progress", json!({"response": begun}));
    for (index, item) in output.iter().enumerate() {
        events.item(index, item);
    }
    let last = match response.get("status").and_then(Value::as_str) {
        Some("incomplete") => "response.incomplete",
        Some("failed") => "response.failed",
        _ => "response.completed",
    };
    events.push(last, json!({"response": response}));
    Some(Bytes::from(events.text))
}

#[derive(Default)]
struct Events {
    text: String,
    number: u64,
}

impl Events {
    fn push(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.number);
        self.number += 1;
        self.text.extend(["event: ", kind, "\ndata: ", &event.to_string(), "\n\n"]);
    }

    fn item(&mut self, index: usize, item: &Value) {
        let mut added = item.clone();
        for (growing, empty) in [("content", json!([])), ("arguments", json!("")), ("input", json!(""))] {
            if !added[growing].is_null() {
                added[growing] = empty;
            }
        }
        added["status"] = json!("in_progress");
        self.push("response.output_item.added", json!({"output_index": index, "item": added}));
        let place = json!({"output_index": index, "item_id": item["id"]});
        for (at, part) in item["content"].as_array().into_iter().flatten().enumerate() {
            let place = with(&place, "content_index", json!(at));
            self.part(&place, part);
        }
        for (field, kind) in [("arguments", "response.function_call_arguments"), ("input", "response.custom_tool_call_input")] {
            if let Some(text) = item[field].as_str() {
                self.push(&format!("{kind}.delta"), with(&place, "delta", json!(text)));
                self.push(&format!("{kind}.done"), with(&place, field, json!(text)));
            }
        }
        self.push("response.output_item.done", json!({"output_index": index, "item": item}));
    }

    fn part(&mut self, place: &Value, part: &Value) {
        let (field, kind) = match part["type"].as_str() {
            Some("output_text") => ("text", "response.output_text"),
            Some("refusal") => ("refusal", "response.refusal"),
            Some("reasoning_text") => ("text", "response.reasoning_text"),
            _ => return,
        };
        let mut empty = part.clone();
        empty[field] = json!("");
        self.push("response.content_part.added", with(place, "part", empty));
        self.push(&format!("{kind}.delta"), with(&with(place, "delta", part[field].clone()), "logprobs", json!([])));
        self.push(&format!("{kind}.done"), with(&with(place, field, part[field].clone()), "logprobs", json!([])));
        self.push("response.content_part.done", with(place, "part", part.clone()));
    }
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut event = place.clone();
    event[name] = value;
    event
}
