//! A whole message as the stream that the client asked for: a policy may take streams away from the provider's side only.
//!
//! Reads the answer into a document: few calls come here, and each is in memory whole already.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The events of a stream that says what the message says; `None` when it is no message.
pub(in crate::wire) fn as_stream(body: &[u8]) -> Option<Bytes> {
    let mut message: Map<String, Value> = serde_json::from_slice(body).ok()?;
    if message.get("type")? != "message" {
        return None;
    }
    let blocks = message.insert("content".to_owned(), json!([]))?;
    let usage = message.get("usage").cloned().unwrap_or_else(|| json!({}));
    let mut ending = Map::new();
    for name in ["stop_reason", "stop_sequence", "stop_details", "container"] {
        if let Some(value) = message.get(name).cloned() {
            // Known at the end only.
            message.insert(name.to_owned(), Value::Null);
            ending.insert(name.to_owned(), value);
        }
    }
    if let Some(output) = message.get_mut("usage").and_then(|usage| usage.get_mut("output_tokens")) {
        *output = json!(0);
    }
    let mut events = Events(String::new());
    events.push("message_start", json!({"message": message}));
    for (index, block) in blocks.as_array()?.iter().enumerate() {
        let (start, deltas) = parts(block)?;
        events.push("content_block_start", json!({"index": index, "content_block": start}));
        for delta in deltas {
            events.push("content_block_delta", json!({"index": index, "delta": delta}));
        }
        events.push("content_block_stop", json!({"index": index}));
    }
    events.push("message_delta", json!({"delta": ending, "usage": usage}));
    events.push("message_stop", json!({}));
    Some(Bytes::from(events.0))
}

/// A block as it begins, and the deltas that make it whole. Blocks that have none come at once, as they do from Anthropic.
fn parts(block: &Value) -> Option<(Value, Vec<Value>)> {
    let mut start = block.as_object()?.clone();
    let mut deltas = Vec::new();
    let mut emptied = |name: &str, kind: &str, member: &str| {
        if let Some(Value::String(text)) = start.get_mut(name) {
            deltas.push(json!({"type": kind, member: std::mem::take(text)}));
        }
    };
    match block.get("type")?.as_str()? {
        "text" => {
            emptied("text", "text_delta", "text");
            let citations = start.insert("citations".to_owned(), Value::Null).filter(Value::is_array);
            if citations.is_none() {
                start.remove("citations");
            }
            for citation in citations.iter().filter_map(Value::as_array).flatten() {
                deltas.push(json!({"type": "citations_delta", "citation": citation}));
            }
        }
        "thinking" => {
            emptied("thinking", "thinking_delta", "thinking");
            emptied("signature", "signature_delta", "signature");
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            if let Some(input) = start.insert("input".to_owned(), json!({})) {
                deltas.push(json!({"type": "input_json_delta", "partial_json": input.to_string()}));
            }
        }
        _ => {}
    }
    Some((Value::Object(start), deltas))
}

struct Events(String);

impl Events {
    fn push(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        self.0.extend(["event: ", kind, "\ndata: ", &event.to_string(), "\n\n"]);
    }
}
