//! Anthropic's messages of `echo`, and the count of their tokens.

use super::{EchoAnswer, Frame, Invalid, Reply, TOKENS_PER_MESSAGE, flag, limit, list, model, names, text_of, words};
use bytes::Bytes;
use serde_json::{Value, json};

/// An error as Anthropic's clients read it.
pub(super) fn error(invalid: &Invalid, frame: &Frame) -> Value {
    let error = json!({"type": "invalid_request_error", "message": invalid.message});
    json!({"type": "error", "error": error, "request_id": format!("req_{}", frame.id)})
}

/// Answers a request for the count of its tokens.
pub(super) fn count(request: &Value) -> Result<EchoAnswer, Invalid> {
    let (tokens, _) = read(request)?;
    Ok(EchoAnswer::Plain(Bytes::from(json!({"input_tokens": tokens}).to_string())))
}

/// Answers a message.
pub(super) fn respond(request: &Value, frame: &Frame) -> Result<EchoAnswer, Invalid> {
    let (tokens, said) = read(request)?;
    if request["max_tokens"].is_null() {
        return Err(Invalid::missing("max_tokens", "a limit is required."));
    }
    let reply = Reply::to(&said, &names(&request["tools"], "/name"), &Value::Null, limit(request, &["max_tokens"])?);
    let message = Message { frame, model: model(request)?, tokens, reply };
    Ok(if flag(request, "stream") { EchoAnswer::Stream(message.events()) } else { EchoAnswer::Plain(message.answer()) })
}

/// The tokens of a request, and what was said last.
fn read(request: &Value) -> Result<(u64, String), Invalid> {
    model(request)?;
    let mut tokens = text_of(&request["system"]).map_or(0, |text| words(&text) + TOKENS_PER_MESSAGE);
    let mut said = String::new();
    for (at, message) in list(request, "messages")?.iter().enumerate() {
        let place = |member: &str| format!("messages.{at}{member}");
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "user" | "assistant") {
            return Err(Invalid::new(place(".role"), "invalid_value", "expected user or assistant."));
        }
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Array(blocks) => blocks.iter().filter_map(block).collect::<Vec<_>>().join(" "),
            _ => return Err(Invalid::new(place(".content"), "invalid_type", "expected a string or a list of blocks.")),
        };
        tokens += words(&text) + TOKENS_PER_MESSAGE;
        if role == "user" {
            said = text;
        }
    }
    Ok((tokens, said))
}

/// The text of a block, also of what a tool answered.
fn block(block: &Value) -> Option<String> {
    block["text"].as_str().map(str::to_owned).or_else(|| text_of(&block["content"]))
}

/// An answer and what it answers.
struct Message<'a> {
    frame: &'a Frame,
    model: String,
    tokens: u64,
    reply: Reply,
}

impl Message<'_> {
    fn stop_reason(&self) -> &'static str {
        match &self.reply {
            Reply::Words(_, false) => "end_turn",
            Reply::Words(_, true) => "max_tokens",
            Reply::Call { .. } => "tool_use",
        }
    }

    fn usage(&self, output: u64) -> Value {
        json!({"input_tokens": self.tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": output})
    }

    fn call(&self, name: &str, input: &Value) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_{}", self.frame.id), "name": name, "input": input})
    }

    fn message(&self, content: &Value, stop_reason: Option<&str>, output: u64) -> Value {
        json!({
            "id": format!("msg_{}", self.frame.id), "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": self.usage(output),
        })
    }

    fn answer(&self) -> Bytes {
        let block = match &self.reply {
            Reply::Words(pieces, _) => json!({"type": "text", "text": pieces.concat()}),
            // Arguments are an object: that was asked for.
            Reply::Call { name, arguments } => self.call(name, &serde_json::from_str(arguments).unwrap_or_default()),
        };
        Bytes::from(self.message(&json!([block]), Some(self.stop_reason()), self.reply.tokens()).to_string())
    }

    fn events(&self) -> Vec<Bytes> {
        let (start, deltas): (Value, Vec<Value>) = match &self.reply {
            Reply::Words(pieces, _) => {
                (json!({"type": "text", "text": ""}), pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect())
            }
            Reply::Call { name, arguments } => {
                (self.call(name, &json!({})), vec![json!({"type": "input_json_delta", "partial_json": arguments})])
            }
        };
        let mut events = vec![
            event("message_start", json!({"message": self.message(&json!([]), None, 0)})),
            event("content_block_start", json!({"index": 0, "content_block": start})),
        ];
        events.extend(deltas.into_iter().map(|delta| event("content_block_delta", json!({"index": 0, "delta": delta}))));
        let ending = json!({"stop_reason": self.stop_reason(), "stop_sequence": null});
        events.extend([
            event("content_block_stop", json!({"index": 0})),
            event("message_delta", json!({"delta": ending, "usage": self.usage(self.reply.tokens())})),
            event("message_stop", json!({})),
        ]);
        events
    }
}

fn event(kind: &str, mut payload: Value) -> Bytes {
    payload["type"] = json!(kind);
    Bytes::from(format!("event: {kind}\ndata: {payload}\n\n"))
}
