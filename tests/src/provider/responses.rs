//! Responses: requests checked as OpenAI does, answers whole and as events, and what is stored of them. Pure.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::api::{Api, Voice};
use super::chat::{Answer, Call, Refusal, Shape, characters, fit, flag, named, number};
use super::render::{CREATED, bill};
use super::script::{Script, Usage};

/// Stored answers by name, each with the body that asked for it.
#[derive(Default)]
pub(super) struct Store(Mutex<BTreeMap<String, (Value, Value)>>);

impl Store {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Value, Value)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, unless it was asked not to.
    pub(super) fn keep(&self, call: &Call, answer: Vec<u8>) {
        if call.body["store"] != false
            && let Ok(answer) = serde_json::from_slice::<Value>(&answer)
        {
            let id = answer["id"].as_str().unwrap_or_default().to_owned();
            self.held().insert(id, (answer, call.body.clone()));
        }
    }

    /// Tokens of a stored answer's whole conversation; its absence as an error.
    pub(super) fn before(&self, body: &Value) -> Result<u64, Refusal> {
        let Some(id) = body["previous_response_id"].as_str() else { return Ok(0) };
        let found = self.held().get(id).map(|(answer, _)| answer["usage"]["total_tokens"].as_u64().unwrap_or(0));
        let message = format!("Previous response with id '{id}' not found.");
        found.ok_or_else(|| Refusal::new(400, &message, Some("previous_response_id"), Some("previous_response_not_found")))
    }

    /// What a request for a stored answer gets: a status and a body.
    pub(super) fn serve(&self, method: &str, path: &str) -> (u16, Value) {
        let rest = path.split_once("/responses/").map_or("", |(_, rest)| rest);
        let (id, part) = rest.split_once('/').unwrap_or((rest, ""));
        let mut held = self.held();
        let Some((answer, body)) = held.get(id) else {
            let message = format!("Response with id '{id}' not found.");
            return (404, Refusal::new(404, &message, Some("id"), None).body);
        };
        match (method, part) {
            ("GET", "") => (200, answer.clone()),
            ("GET", "input_items") => (200, json!({"object": "list", "data": [body["input"]], "has_more": false})),
            ("POST", "cancel") => (400, Refusal::new(400, "Only background responses can be cancelled.", None, None).body),
            ("DELETE", "") => {
                let deleted = json!({"id": id, "object": "response", "deleted": true});
                held.remove(id);
                (200, deleted)
            }
            _ => (405, Refusal::new(405, "Not allowed.", None, None).body),
        }
    }
}

/// Checks a request.
pub(super) fn check(body: Value) -> Result<Call, Refusal> {
    let model = named(&body)?;
    let bad = |param: &str| Refusal::new(400, &format!("Invalid value for '{param}'."), Some(param), None);
    for foreign in ["messages", "max_tokens", "n"] {
        if !body[foreign].is_null() {
            return Err(Refusal::new(400, &format!("Unknown parameter: '{foreign}'."), Some(foreign), Some("unknown_parameter")));
        }
    }
    if !body["stream_options"]["include_usage"].is_null() {
        return Err(Refusal::new(400, "Unknown parameter: 'stream_options.include_usage'.", Some("stream_options.include_usage"), None));
    }
    let input = match &body["input"] {
        Value::String(text) => 3 + characters(text),
        Value::Array(items) => items.iter().map(item_tokens).sum(),
        Value::Null if !body["previous_response_id"].is_null() => 0,
        _ => return Err(bad("input")),
    };
    let tools = match &body["tools"] {
        Value::Null => &[],
        Value::Array(tools) => tools.as_slice(),
        _ => return Err(bad("tools")),
    };
    let listed = if tools.is_empty() { 0 } else { characters(&body["tools"].to_string()) };
    let asked_by_user = match &body["input"] {
        Value::Array(items) => items.last().is_some_and(|item| item["role"] == "user"),
        _ => true,
    };
    let function = tools
        .iter()
        .flat_map(|tool| if tool["type"] == "namespace" { tool["tools"].as_array().into_iter().flatten().collect() } else { vec![tool] });
    let function = function.into_iter().find(|tool| tool["type"] == "function").filter(|_| asked_by_user && body["tool_choice"] != "none");
    let shape = function.map_or(Shape::Text, |tool| Shape::Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        arguments: if tool["parameters"].is_null() { "{}".to_owned() } else { fit(&tool["parameters"], &tool["parameters"]).to_string() },
    });
    Ok(Call {
        api: Api::Responses,
        model,
        stream: flag(&body, "stream")?,
        include_usage: false,
        choices: 1,
        drawn: 1,
        prompt_tokens: input + listed + body["instructions"].as_str().map_or(0, characters),
        limit: number(&body, "max_output_tokens", u64::MAX)?,
        shape,
        body,
    })
}

fn item_tokens(item: &Value) -> u64 {
    let content = match &item["content"] {
        Value::String(text) => characters(text),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().map_or(0, characters)).sum(),
        _ => 0,
    };
    3 + content + ["arguments", "output", "encrypted_content"].iter().filter_map(|name| item[*name].as_str()).map(characters).sum::<u64>()
}

/// Writes responses.
pub(super) struct Response<'a> {
    call: &'a Call,
    answer: &'a Answer,
    script: &'a Script,
    seq: u64,
}

/// Events before the first piece.
const BEFORE: usize = 4;

impl<'a> Response<'a> {
    pub(super) const fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        Self { call, answer, script, seq }
    }

    fn is_cropped(&self) -> bool {
        self.answer.finish == "length"
    }

    fn item(&self, text: &str, status: &str) -> Value {
        match &self.answer.shape {
            Shape::Tool { name, .. } => {
                json!({"id": format!("fc_{}", self.seq), "type": "function_call", "call_id": format!("call_{}", self.seq), "name": name, "arguments": text, "status": status})
            }
            _ => {
                let content = if status == "in_progress" { json!([]) } else { json!([self.part(text)]) };
                json!({"id": format!("msg_{}", self.seq), "type": "message", "role": "assistant", "content": content, "status": status})
            }
        }
    }

    fn part(&self, text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }

    fn usage(&self) -> Value {
        let told = |input: u64, cached: u64, output: u64, reasoning: u64| {
            json!({
                "input_tokens": input, "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning.min(output)}, "total_tokens": input + output,
            })
        };
        match &self.script.usage {
            Usage::Missing => Value::Null,
            Usage::Zero => told(0, 0, 0, 0),
            Usage::Raw(value) => value.clone(),
            Usage::Truth | Usage::Groq => {
                let bill = bill(self.call, self.answer, self.script, self.seq);
                told(bill.prompt_tokens, bill.cached_tokens, bill.completion_tokens, self.script.reasoning_tokens)
            }
        }
    }

    fn response(&self, status: &str) -> Value {
        let is_done = status != "in_progress";
        let output = if is_done { json!([self.item(&self.answer.text(), "completed")]) } else { json!([]) };
        let mut response = json!({
            "id": format!("resp_{}", self.seq), "object": "response", "created_at": CREATED, "status": status, "error": null,
            "incomplete_details": if self.is_cropped() && is_done { json!({"reason": "max_output_tokens"}) } else { Value::Null },
            "instructions": self.call.body["instructions"], "max_output_tokens": self.call.body["max_output_tokens"],
            "model": self.script.model.as_deref().unwrap_or(&self.call.model), "output": output, "parallel_tool_calls": true,
            "previous_response_id": self.call.body["previous_response_id"], "store": self.call.body["store"] != false, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": if is_done { self.usage() } else { Value::Null }, "metadata": {},
        });
        for (name, value) in &self.script.extra {
            response[name] = value.clone();
        }
        response
    }

    fn status(&self) -> &'static str {
        if self.is_cropped() { "incomplete" } else { "completed" }
    }

    fn event(&self, number: usize, kind: &str, mut event: Value) -> Vec<u8> {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(number);
        let end = if self.script.crlf { "\r\n" } else { "\n" };
        let comment = if self.script.comments { format!(": keep-alive{end}{end}") } else { String::new() };
        format!("{comment}event: {kind}{end}data: {event}{end}{end}").into_bytes()
    }

    fn is_call(&self) -> bool {
        matches!(self.answer.shape, Shape::Tool { .. })
    }

    fn place(&self) -> Value {
        let id = self.item("", "in_progress")["id"].clone();
        if self.is_call() {
            json!({"item_id": id, "output_index": 0})
        } else {
            json!({"item_id": id, "output_index": 0, "content_index": 0})
        }
    }
}

impl Voice for Response<'_> {
    fn plain(&self) -> Vec<u8> {
        self.response(self.status()).to_string().into_bytes()
    }

    fn role(&self, _: u64) -> Vec<u8> {
        let begun = self.response("in_progress");
        let mut events = self.event(0, "response.created", json!({"response": begun}));
        events.extend(self.event(1, "response.in_progress", json!({"response": begun})));
        events.extend(self.event(2, "response.output_item.added", json!({"output_index": 0, "item": self.item("", "in_progress")})));
        if !self.is_call() {
            let mut place = self.place();
            place["part"] = self.part("");
            events.extend(self.event(3, "response.content_part.added", place));
        }
        events
    }

    fn piece(&self, _: u64, index: usize) -> Vec<u8> {
        let kind = if self.is_call() { "response.function_call_arguments.delta" } else { "response.output_text.delta" };
        let mut place = self.place();
        place["delta"] = json!(self.answer.pieces[index]);
        self.event(BEFORE + index, kind, place)
    }

    fn finish(&self, _: u64) -> Vec<u8> {
        let next = BEFORE + self.answer.pieces.len();
        let text = self.answer.text();
        let mut place = self.place();
        let mut events = if self.is_call() {
            place["arguments"] = json!(text);
            self.event(next, "response.function_call_arguments.done", place)
        } else {
            place["text"] = json!(text);
            self.event(next, "response.output_text.done", place)
        };
        events.extend(self.event(next + 1, "response.output_item.done", json!({"output_index": 0, "item": self.item(&text, "completed")})));
        events
    }

    fn usage_chunk(&self) -> Vec<u8> {
        Vec::new()
    }

    fn done(&self) -> Vec<u8> {
        let status = self.status();
        self.event(BEFORE + self.answer.pieces.len() + 2, &format!("response.{status}"), json!({"response": self.response(status)}))
    }

    fn error(&self) -> Vec<u8> {
        let event = json!({"code": "server_error", "message": "The server had an error while processing your request.", "param": null});
        self.event(BEFORE + self.answer.pieces.len(), "error", event)
    }
}
