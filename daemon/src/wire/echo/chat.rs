//! Chat completions of `echo`.

use super::{EchoAnswer, Frame, Invalid, Reply, TOKENS_PER_MESSAGE, choices, flag, limit, list, model, names, text_of, words};
use bytes::Bytes;
use serde_json::{Value, json};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

pub(super) fn respond(request: &Value, frame: &Frame) -> Result<EchoAnswer, Invalid> {
    let chat = Chat::read(request, frame)?;
    Ok(if flag(request, "stream") { EchoAnswer::Stream(chat.events()) } else { EchoAnswer::Plain(chat.answer()) })
}

/// An answer and what it answers.
struct Chat<'a> {
    frame: &'a Frame,
    model: String,
    tokens: u64,
    choices: u64,
    usage_asked: bool,
    reply: Reply,
}

fn read_message(at: usize, message: &Value) -> Result<(&str, String), Invalid> {
    let place = |member: &str| format!("messages[{at}]{member}");
    if !message.is_object() {
        return Err(Invalid::new(place(""), "invalid_type", "expected an object."));
    }
    let role = message["role"].as_str().ok_or_else(|| Invalid::missing(place(".role"), "a role is required."))?;
    if !ROLES.contains(&role) {
        return Err(Invalid::new(place(".role"), "invalid_value", &format!("'{role}' is none of {}.", ROLES.join(", "))));
    }
    if role == "tool" && !message["tool_call_id"].is_string() {
        return Err(Invalid::missing(place(".tool_call_id"), "a tool's answer names its call."));
    }
    let calls = role == "assistant" && (message["tool_calls"].is_array() || message["function_call"].is_object());
    match text_of(&message["content"]) {
        Some(text) => Ok((role, text)),
        None if calls && message["content"].is_null() => Ok((role, String::new())),
        None => Err(Invalid::new(place(".content"), "invalid_type", "expected a string or a list of parts.")),
    }
}

impl<'a> Chat<'a> {
    fn read(request: &Value, frame: &'a Frame) -> Result<Chat<'a>, Invalid> {
        let model = model(request)?;
        let (mut tokens, mut said) = (0, String::new());
        for (at, message) in list(request, "messages")?.iter().enumerate() {
            let (role, text) = read_message(at, message)?;
            tokens += words(&text) + TOKENS_PER_MESSAGE;
            // A tool's answer is answered in its turn: what asked for the call would ask for it again.
            if matches!(role, "user" | "tool" | "function") {
                said = text;
            }
        }
        let tools = [names(&request["tools"], "/function/name"), names(&request["functions"], "/name")].concat();
        let reply = Reply::to(&said, &tools, &request["response_format"], limit(request, &["max_tokens", "max_completion_tokens"])?);
        let usage_asked = flag(&request["stream_options"], "include_usage");
        Ok(Chat { frame, model, tokens, choices: choices(request)?, usage_asked, reply })
    }

    fn id(&self) -> String {
        format!("chatcmpl-{}", self.frame.id)
    }

    fn call_id(&self, index: u64) -> String {
        format!("call_{index}{}", self.frame.id)
    }

    fn usage(&self) -> Value {
        let (prompt, completion) = (self.tokens, self.reply.tokens() * self.choices);
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    fn answer(&self) -> Bytes {
        let message = |index| match &self.reply {
            Reply::Words(pieces, _) => json!({"role": "assistant", "content": pieces.concat(), "refusal": null}),
            Reply::Call { name, arguments } => json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": arguments}},
            ]}),
        };
        let finish = self.reply.finish_reason();
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({"index": index, "message": message(index), "logprobs": null, "finish_reason": finish}))
            .collect();
        let answer = json!({
            "id": self.id(), "object": "chat.completion", "created": self.frame.created, "model": self.model, "choices": choices, "usage": self.usage(),
        });
        Bytes::from(answer.to_string())
    }

    fn events(&self) -> Vec<Bytes> {
        let mut events = Vec::new();
        for index in 0..self.choices {
            events.push(self.delta(index, &json!({"role": "assistant", "content": ""}), None));
            match &self.reply {
                Reply::Words(pieces, _) => events.extend(pieces.iter().map(|piece| self.delta(index, &json!({"content": piece}), None))),
                Reply::Call { name, arguments } => {
                    let head = json!({"tool_calls": [{"index": 0, "id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": ""}}]});
                    events.push(self.delta(index, &head, None));
                    events.push(self.delta(index, &json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}), None));
                }
            }
            events.push(self.delta(index, &json!({}), Some(self.reply.finish_reason())));
        }
        if self.usage_asked {
            events.push(self.event(&json!([]), self.usage()));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    fn delta(&self, index: u64, delta: &Value, finish: Option<&str>) -> Bytes {
        self.event(&json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]), Value::Null)
    }

    fn event(&self, choices: &Value, usage: Value) -> Bytes {
        let mut chunk = json!({
            "id": self.id(), "object": "chat.completion.chunk", "created": self.frame.created, "model": self.model, "choices": choices,
        });
        if self.usage_asked {
            chunk["usage"] = usage;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    }
}
