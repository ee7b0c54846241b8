//! Responses of `echo`. Nothing is stored: an answer says so, and none can be continued by its name.

use super::{EchoAnswer, Frame, Invalid, Reply, TOKENS_PER_MESSAGE, flag, limit, model, text_of, words};
use bytes::Bytes;
use serde_json::{Value, json};

/// Answers a request.
pub(super) fn respond(request: &Value, frame: &Frame) -> Result<EchoAnswer, Invalid> {
    let model = model(request)?;
    if !request["previous_response_id"].is_null() {
        return Err(Invalid::new("previous_response_id", "previous_response_not_found", "echo stores no responses."));
    }
    let (mut tokens, said) = read(&request["input"])?;
    tokens += text_of(&request["instructions"]).map_or(0, |text| words(&text) + TOKENS_PER_MESSAGE);
    let reply = Reply::to(&said, &functions(&request["tools"]), &request["text"]["format"], limit(request, &["max_output_tokens"])?);
    let response = Response { frame, model, tokens, request, reply };
    Ok(if flag(request, "stream") { EchoAnswer::Stream(response.events()) } else { EchoAnswer::Plain(response.answer()) })
}

/// The tokens of what was put in, and what was said last.
fn read(input: &Value) -> Result<(u64, String), Invalid> {
    let items = match input {
        Value::String(text) => return Ok((words(text) + TOKENS_PER_MESSAGE, text.clone())),
        Value::Array(items) if !items.is_empty() => items,
        _ => return Err(Invalid::missing("input", "a text or a list of items is required.")),
    };
    let (mut tokens, mut said) = (0, String::new());
    for (at, item) in items.iter().enumerate() {
        let place = |member: &str| format!("input[{at}]{member}");
        let answers = |text: &Option<String>| (text.clone().unwrap_or_default(), true);
        let (text, is_said) = match (item["type"].as_str(), item["role"].as_str()) {
            (Some("message") | None, Some(role @ ("user" | "assistant" | "system" | "developer"))) => {
                let what = "expected a string or a list of parts.";
                let text = text_of(&item["content"]).ok_or_else(|| Invalid::new(place(".content"), "invalid_type", what))?;
                (text, role == "user")
            }
            (Some("message") | None, _) => return Err(Invalid::new(place(".role"), "invalid_value", "expected a role.")),
            (Some("function_call_output" | "custom_tool_call_output"), _) => answers(&text_of(&item["output"])),
            (Some("function_call"), _) => (item["arguments"].as_str().unwrap_or_default().to_owned(), false),
            (Some(_), _) => (String::new(), false),
        };
        tokens += words(&text) + TOKENS_PER_MESSAGE;
        if is_said {
            said = text;
        }
    }
    Ok((tokens, said))
}

/// The functions that are offered. Those of a namespace stand within it.
fn functions(tools: &Value) -> Vec<String> {
    let tools = tools.as_array().into_iter().flatten();
    let each = tools
        .flat_map(|tool| if tool["type"] == "namespace" { tool["tools"].as_array().into_iter().flatten().collect() } else { vec![tool] });
    each.filter(|tool| tool["type"] == "function").filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

/// An answer and what it answers.
struct Response<'a> {
    frame: &'a Frame,
    model: String,
    tokens: u64,
    request: &'a Value,
    reply: Reply,
}

impl Response<'_> {
    fn id(&self, of: &str) -> String {
        format!("{of}_{}", self.frame.id)
    }

    fn is_cut(&self) -> bool {
        matches!(self.reply, Reply::Words(_, true))
    }

    fn status(&self) -> &'static str {
        if self.is_cut() { "incomplete" } else { "completed" }
    }

    /// The response with some output; usage is told at its end.
    fn response(&self, status: &str, output: &[Value], is_ended: bool) -> Value {
        let (input, out) = (self.tokens, self.reply.tokens());
        let usage = json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + out,
        });
        let why = json!({"reason": "max_output_tokens"});
        json!({
            "id": self.id("resp"), "object": "response", "created_at": self.frame.created, "status": status, "background": false, "error": null,
            "incomplete_details": if is_ended && self.is_cut() { why } else { Value::Null }, "instructions": self.request["instructions"],
            "max_output_tokens": self.request["max_output_tokens"], "model": self.model, "output": output, "parallel_tool_calls": true,
            "previous_response_id": null, "store": false, "temperature": null, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
            "tools": [], "top_p": null, "truncation": "disabled", "usage": if is_ended { usage } else { Value::Null },
        })
    }

    fn part(text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": []})
    }

    fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({"type": "message", "id": self.id("msg"), "status": status, "role": "assistant", "content": content})
    }

    fn call(&self, status: &str, name: &str, arguments: &str) -> Value {
        json!({"type": "function_call", "id": self.id("fc"), "status": status, "call_id": self.id("call"), "name": name, "arguments": arguments})
    }

    /// The one item of the output, whole.
    fn item(&self) -> Value {
        match &self.reply {
            Reply::Words(pieces, _) => self.message(self.status(), &[Response::part(&pieces.concat())]),
            Reply::Call { name, arguments } => self.call("completed", name, arguments),
        }
    }

    fn answer(&self) -> Bytes {
        Bytes::from(self.response(self.status(), &[self.item()], true).to_string())
    }

    fn events(&self) -> Vec<Bytes> {
        let mut events = Events(Vec::new());
        let begun = self.response("in_progress", &[], false);
        events.push("response.created", json!({"response": begun}));
        events.push("response.in_progress", json!({"response": begun}));
        match &self.reply {
            Reply::Words(pieces, _) => {
                let id = self.id("msg");
                let at = |more: &[(&str, Value)]| {
                    let mut payload = json!({"item_id": id, "output_index": 0, "content_index": 0});
                    for (name, value) in more {
                        payload[*name] = value.clone();
                    }
                    payload
                };
                events.push("response.output_item.added", json!({"output_index": 0, "item": self.message("in_progress", &[])}));
                events.push("response.content_part.added", at(&[("part", Response::part(""))]));
                for piece in pieces {
                    events.push("response.output_text.delta", at(&[("delta", json!(piece)), ("logprobs", json!([]))]));
                }
                let text = pieces.concat();
                events.push("response.output_text.done", at(&[("text", json!(text)), ("logprobs", json!([]))]));
                events.push("response.content_part.done", at(&[("part", Response::part(&text))]));
            }
            Reply::Call { name, arguments } => {
                let at = |what: &str| json!({"item_id": self.id("fc"), "output_index": 0, what: arguments});
                events.push("response.output_item.added", json!({"output_index": 0, "item": self.call("in_progress", name, "")}));
                events.push("response.function_call_arguments.delta", at("delta"));
                events.push("response.function_call_arguments.done", at("arguments"));
            }
        }
        events.push("response.output_item.done", json!({"output_index": 0, "item": self.item()}));
        let ended = self.response(self.status(), &[self.item()], true);
        events.push(&format!("response.{}", self.status()), json!({"response": ended}));
        events.0
    }
}

/// Events, numbered.
struct Events(Vec<Bytes>);

impl Events {
    fn push(&mut self, kind: &str, mut payload: Value) {
        payload["type"] = json!(kind);
        payload["sequence_number"] = json!(self.0.len());
        self.0.push(Bytes::from(format!("event: {kind}\ndata: {payload}\n\n")));
    }
}
