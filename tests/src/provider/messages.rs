//! Anthropic's messages, pure: checks a request as Anthropic does, and writes the answer as it does. Tokens are counted as for chat.
//!
//! `usage` says what is in the bill, in Anthropic's terms: `input_tokens` without what the cache read or took.

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::api::{Api, Voice};
use super::book::Bill;
use super::chat::{Answer, Call, Refusal, Shape, characters, fit, flag, number};
use super::render::bill;
use super::script::{Script, Usage};

const IMAGE_TOKENS: u64 = 85;

/// Checks headers and body.
pub(super) fn check(body: Value, headers: &HeaderMap) -> Result<Call, Refusal> {
    let bad = |message: &str| Refusal::new(400, message, None, None);
    if !headers.contains_key("anthropic-version") {
        return Err(bad("anthropic-version: header is required"));
    }
    let Some(model) = body["model"].as_str().map(str::to_owned) else { return Err(bad("model: Field required")) };
    let Some(messages) = body["messages"].as_array() else { return Err(bad("messages: Field required")) };
    for message in messages {
        if !matches!(message["role"].as_str(), Some("user" | "assistant" | "system")) {
            return Err(bad("messages.0.role: Input should be 'user' or 'assistant'"));
        }
    }
    let asked: u64 = messages.iter().map(|message| 3 + content(&message["content"])).sum();
    let tools = if body["tools"].is_null() { 0 } else { characters(&body["tools"].to_string()) };
    Ok(Call {
        api: Api::Messages,
        model,
        stream: flag(&body, "stream")?,
        include_usage: true,
        choices: 1,
        drawn: 1,
        prompt_tokens: asked + content(&body["system"]) + tools,
        // 0 fills the cache and answers nothing.
        limit: if body["max_tokens"] == 0 { Some(0) } else { number(&body, "max_tokens", u64::MAX)? },
        shape: shape(&body, messages),
        body,
    })
}

/// The limit that a call has to state, and a count of tokens does not.
pub(super) fn limited(call: Call) -> Result<Call, Refusal> {
    match call.limit {
        Some(_) => Ok(call),
        None => Err(Refusal::new(400, "max_tokens: Field required", None, None)),
    }
}

fn content(content: &Value) -> u64 {
    let block = |block: &Value| match (&block["text"], &block["content"]) {
        (Value::String(text), _) => characters(text),
        (_, nested @ (Value::String(_) | Value::Array(_))) => self::content(nested),
        _ => IMAGE_TOKENS,
    };
    match content {
        Value::String(text) => characters(text),
        Value::Array(blocks) => blocks.iter().map(block).sum(),
        _ => 0,
    }
}

/// A call of the first tool, unless the last message brings a result.
fn shape(body: &Value, messages: &[Value]) -> Shape {
    let brings_result = messages
        .last()
        .and_then(|last| last["content"].as_array())
        .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"));
    let forbidden = body["tool_choice"]["type"] == "none" || brings_result;
    match body["tools"].as_array().and_then(|tools| tools.first()).filter(|_| !forbidden) {
        Some(tool) => {
            let schema = &tool["input_schema"];
            let input = if schema.is_object() { fit(schema, schema) } else { json!({}) };
            Shape::Tool { name: tool["name"].as_str().unwrap_or_default().to_owned(), arguments: input.to_string() }
        }
        None => Shape::Text,
    }
}

/// One call's answer.
pub(super) struct Message<'a> {
    call: &'a Call,
    answer: &'a Answer,
    script: &'a Script,
    bill: Bill,
}

impl Voice for Message<'_> {
    fn plain(&self) -> Vec<u8> {
        let block = match &self.answer.shape {
            Shape::Tool { name, .. } => {
                let input: Value = serde_json::from_str(&self.answer.text()).unwrap_or_default();
                json!({"type": "tool_use", "id": self.tool_id(), "name": name, "input": input})
            }
            _ => json!({"type": "text", "text": self.answer.text()}),
        };
        let mut message = self.message(&[block], Some(self.stop_reason()), self.usage(self.bill.completion_tokens));
        if self.script.padding > 0 {
            message.insert("padding".to_owned(), json!("x".repeat(self.script.padding)));
        }
        Value::Object(message).to_string().into_bytes()
    }

    /// `message_start`, and the start of the one block.
    fn role(&self, _choice: u64) -> Vec<u8> {
        let message = self.message(&[], None, self.usage(1));
        let block = match &self.answer.shape {
            Shape::Tool { name, .. } => json!({"type": "tool_use", "id": self.tool_id(), "name": name, "input": {}}),
            _ => json!({"type": "text", "text": ""}),
        };
        let start = self.event("message_start", json!({"message": message}));
        let block = self.event("content_block_start", json!({"index": 0, "content_block": block}));
        [start, self.event("ping", json!({})), block].concat()
    }

    fn piece(&self, _choice: u64, index: usize) -> Vec<u8> {
        let piece = &self.answer.pieces[index];
        let delta = match &self.answer.shape {
            Shape::Tool { .. } => json!({"type": "input_json_delta", "partial_json": piece}),
            _ => json!({"type": "text_delta", "text": piece}),
        };
        self.event("content_block_delta", json!({"index": 0, "delta": delta}))
    }

    /// The end of the block, and what the call used.
    fn finish(&self, _choice: u64) -> Vec<u8> {
        let mut delta = Map::new();
        delta.insert("delta".to_owned(), json!({"stop_reason": self.stop_reason(), "stop_sequence": null}));
        if let Some(usage) = self.usage(self.bill.completion_tokens) {
            delta.insert("usage".to_owned(), usage);
        }
        let stop = self.event("content_block_stop", json!({"index": 0}));
        [stop, self.event("message_delta", Value::Object(delta))].concat()
    }

    fn usage_chunk(&self) -> Vec<u8> {
        Vec::new()
    }

    fn done(&self) -> Vec<u8> {
        self.event("message_stop", json!({}))
    }

    fn error(&self) -> Vec<u8> {
        self.event("error", json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}))
    }
}

impl<'a> Message<'a> {
    pub(super) fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        Self { call, answer, script, bill: bill(call, answer, script, seq) }
    }

    fn message(&self, content: &[Value], stop_reason: Option<&str>, usage: Option<Value>) -> Map<String, Value> {
        let mut message = Map::new();
        let mut set = |name: &str, value: Value| drop(message.insert(name.to_owned(), value));
        set("id", json!(format!("msg_{}", self.bill.seq)));
        set("type", json!("message"));
        set("role", json!("assistant"));
        set("model", json!(self.script.model.as_deref().unwrap_or(&self.call.model)));
        set("content", json!(content));
        set("stop_reason", json!(stop_reason));
        set("stop_sequence", Value::Null);
        if let Some(usage) = usage {
            set("usage", usage);
        }
        message.extend(self.script.extra.clone());
        message
    }

    fn stop_reason(&self) -> &'static str {
        match self.answer.finish {
            "length" => "max_tokens",
            "tool_calls" => "tool_use",
            _ => "end_turn",
        }
    }

    fn tool_id(&self) -> String {
        format!("toolu_{}", self.bill.seq)
    }

    fn usage(&self, output: u64) -> Option<Value> {
        let Bill { prompt_tokens, cached_tokens, written_tokens, .. } = self.bill;
        let input = prompt_tokens - cached_tokens - written_tokens;
        let told = |input: u64, read: u64, written: u64, output: u64| {
            json!({
                "input_tokens": input,
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": read,
                "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
                "output_tokens": output,
                "service_tier": "standard",
            })
        };
        match &self.script.usage {
            Usage::Missing => None,
            Usage::Zero => Some(told(0, 0, 0, 0)),
            Usage::Raw(value) => Some(value.clone()),
            Usage::Truth | Usage::Groq => Some(told(input, cached_tokens, written_tokens, output)),
        }
    }

    fn event(&self, kind: &str, mut payload: Value) -> Vec<u8> {
        payload["type"] = json!(kind);
        let end = if self.script.crlf { "\r\n" } else { "\n" };
        let comment = if self.script.comments { format!(": keep-alive{end}{end}") } else { String::new() };
        format!("{comment}event: {kind}{end}data: {payload}{end}{end}").into_bytes()
    }
}
