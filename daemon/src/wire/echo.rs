//! The built-in provider `echo`: answers "echo: " and the last user message. Same bytes in, same bytes out.
//!
//! Speaks the chat protocol truthfully, so that a daemon without a key and without a network governs real calls: roles are
//! checked, streams are streams, usage is true by its own tokeniser: one token per word (what white space separates), and
//! [`TOKENS_PER_MESSAGE`] per message. When tools are offered and the last user message reads `call NAME {json}`, it calls
//! that tool. Must not: know accounts, prices or policy.

use super::dialect::Dialect;
use aex_proto::value::Digest;
use bytes::Bytes;
use serde_json::{Value, json};

/// Input tokens of one message beside its words.
pub const TOKENS_PER_MESSAGE: u64 = 3;
/// Roles of the chat protocol.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What `echo` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoAnswer {
    /// An error: status and body.
    Refused(u16, Bytes),
    /// A whole answer.
    Plain(Bytes),
    /// The events of a stream.
    Stream(Vec<Bytes>),
}

/// Answers the body of a request. `created` is the answer's time, in seconds since 1970.
#[must_use]
pub fn respond(dialect: Dialect, body: &[u8], created: i64) -> EchoAnswer {
    if dialect != Dialect::Chat {
        let error = json!({"error": {
            "message": "The built-in provider `echo` speaks chat completions only.", "type": "invalid_request_error", "param": "model", "code": null,
        }});
        return EchoAnswer::Refused(404, Bytes::from(error.to_string()));
    }
    match Prompt::read(body) {
        Ok(prompt) => {
            let reply = Reply::to(&prompt);
            let frame = Frame { id: id_of(body), created, prompt: &prompt, reply: &reply };
            if prompt.stream { EchoAnswer::Stream(frame.events()) } else { EchoAnswer::Plain(frame.answer()) }
        }
        Err(Invalid { message, param, code }) => {
            let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}});
            EchoAnswer::Refused(400, Bytes::from(error.to_string()))
        }
    }
}

fn id_of(body: &[u8]) -> String {
    let digest = Digest::of(body).to_string();
    format!("chatcmpl-{}", digest.get(..24).unwrap_or_default())
}

struct Invalid {
    message: String,
    param: String,
    code: &'static str,
}

impl Invalid {
    fn new(param: impl Into<String>, code: &'static str, what: &str) -> Invalid {
        let param = param.into();
        Invalid { message: format!("Invalid '{param}': {what}"), param, code }
    }
}

struct Prompt {
    model: String,
    tokens: u64,
    last_user: String,
    tools: Vec<String>,
    max_tokens: usize,
    choices: u64,
    stream: bool,
    usage_asked: bool,
}

impl Prompt {
    fn read(body: &[u8]) -> Result<Prompt, Invalid> {
        let body: Value = serde_json::from_slice(body).map_err(|fault| Invalid::new("body", "invalid_json", &fault.to_string()))?;
        let model = body["model"]
            .as_str()
            .ok_or_else(|| Invalid::new("model", "missing_required_parameter", "you must provide a model parameter."))?;
        let messages = body["messages"]
            .as_array()
            .ok_or_else(|| Invalid::new("messages", "missing_required_parameter", "a list of messages is required."))?;
        if messages.is_empty() {
            return Err(Invalid::new("messages", "empty_array", "at least one message is required."));
        }
        let mut tokens = 0;
        let mut last_user = String::new();
        for (at, message) in messages.iter().enumerate() {
            let (role, text) = read_message(at, message)?;
            tokens += words(&text) + TOKENS_PER_MESSAGE;
            if role == "user" {
                last_user = text;
            }
        }
        Ok(Prompt {
            model: model.to_owned(),
            tokens,
            last_user,
            tools: offered(&body),
            max_tokens: limit(&body)?,
            choices: choices(&body)?,
            stream: body["stream"].as_bool().unwrap_or(false),
            usage_asked: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
        })
    }
}

fn read_message(at: usize, message: &Value) -> Result<(&str, String), Invalid> {
    let place = |member: &str| format!("messages[{at}]{member}");
    if !message.is_object() {
        return Err(Invalid::new(place(""), "invalid_type", "expected an object."));
    }
    let role = message["role"].as_str().ok_or_else(|| Invalid::new(place(".role"), "missing_required_parameter", "a role is required."))?;
    if !ROLES.contains(&role) {
        return Err(Invalid::new(place(".role"), "invalid_value", &format!("'{role}' is none of {}.", ROLES.join(", "))));
    }
    if role == "tool" && !message["tool_call_id"].is_string() {
        return Err(Invalid::new(place(".tool_call_id"), "missing_required_parameter", "a tool's answer names its call."));
    }
    let calls = role == "assistant" && (message["tool_calls"].is_array() || message["function_call"].is_object());
    match &message["content"] {
        Value::String(text) => Ok((role, text.clone())),
        Value::Array(parts) => Ok((role, parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "))),
        Value::Null if calls => Ok((role, String::new())),
        _ => Err(Invalid::new(place(".content"), "invalid_type", "expected a string or a list of parts.")),
    }
}

fn offered(body: &Value) -> Vec<String> {
    let names = |list: &Value, at: &str| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|tool| tool.pointer(at)?.as_str().map(str::to_owned)).collect()
    };
    [names(&body["tools"], "/function/name"), names(&body["functions"], "/name")].concat()
}

fn limit(body: &Value) -> Result<usize, Invalid> {
    let mut smallest = usize::MAX;
    for field in ["max_tokens", "max_completion_tokens"] {
        let value = &body[field];
        if !value.is_null() {
            let limit = value
                .as_u64()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| Invalid::new(field, "invalid_value", "expected an integer of at least 1."))?;
            smallest = smallest.min(usize::try_from(limit).unwrap_or(usize::MAX));
        }
    }
    Ok(smallest)
}

fn choices(body: &Value) -> Result<u64, Invalid> {
    match &body["n"] {
        Value::Null => Ok(1),
        n => n
            .as_u64()
            .filter(|n| (1..=128).contains(n))
            .ok_or_else(|| Invalid::new("n", "invalid_value", "expected an integer from 1 to 128.")),
    }
}

/// What every choice says.
enum Reply {
    /// Words, each with the white space before it, and whether they were cut.
    Words(Vec<String>, bool),
    /// A call of a tool, with its arguments as text.
    Call { name: String, arguments: String },
}

impl Reply {
    fn to(prompt: &Prompt) -> Reply {
        if let Some((name, arguments)) = asked_call(&prompt.last_user)
            && prompt.tools.contains(&name)
            && words(&arguments) < u64::try_from(prompt.max_tokens).unwrap_or(u64::MAX)
        {
            return Reply::Call { name, arguments };
        }
        let mut pieces = pieces(&format!("echo: {}", prompt.last_user));
        let cut = pieces.len() > prompt.max_tokens;
        pieces.truncate(prompt.max_tokens);
        Reply::Words(pieces, cut)
    }

    fn tokens(&self) -> u64 {
        match self {
            Reply::Words(pieces, _) => u64::try_from(pieces.len()).unwrap_or(u64::MAX),
            Reply::Call { arguments, .. } => words(arguments) + 1,
        }
    }

    fn finish_reason(&self) -> &'static str {
        match self {
            Reply::Words(_, false) => "stop",
            Reply::Words(_, true) => "length",
            Reply::Call { .. } => "tool_calls",
        }
    }
}

/// `call NAME {json}`.
fn asked_call(text: &str) -> Option<(String, String)> {
    let (name, arguments) = text.trim().strip_prefix("call ")?.trim_start().split_once(char::is_whitespace)?;
    let arguments: Value = serde_json::from_str(arguments).ok().filter(Value::is_object)?;
    Some((name.to_owned(), arguments.to_string()))
}

fn words(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

/// Words with the white space before them; white space at the end goes.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut in_word = false;
    for letter in text.trim_end().chars() {
        if letter.is_whitespace() && in_word {
            pieces.push(String::new());
        }
        in_word = !letter.is_whitespace();
        if let Some(piece) = pieces.last_mut() {
            piece.push(letter);
        }
    }
    pieces
}

/// An answer and what it answers.
struct Frame<'a> {
    id: String,
    created: i64,
    prompt: &'a Prompt,
    reply: &'a Reply,
}

impl Frame<'_> {
    fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt.tokens, self.reply.tokens() * self.prompt.choices);
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    fn call_id(&self, index: u64) -> String {
        self.id.replace("chatcmpl-", &format!("call_{index}"))
    }

    fn answer(&self) -> Bytes {
        let message = |index| match self.reply {
            Reply::Words(pieces, _) => json!({"role": "assistant", "content": pieces.concat(), "refusal": null}),
            Reply::Call { name, arguments } => json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": arguments}},
            ]}),
        };
        let finish = self.reply.finish_reason();
        let choices: Vec<Value> = (0..self.prompt.choices)
            .map(|index| json!({"index": index, "message": message(index), "logprobs": null, "finish_reason": finish}))
            .collect();
        let answer = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.prompt.model, "choices": choices, "usage": self.usage(),
        });
        Bytes::from(answer.to_string())
    }

    fn events(&self) -> Vec<Bytes> {
        let mut events = Vec::new();
        for index in 0..self.prompt.choices {
            events.push(self.delta(index, &json!({"role": "assistant", "content": ""}), None));
            match self.reply {
                Reply::Words(pieces, _) => events.extend(pieces.iter().map(|piece| self.delta(index, &json!({"content": piece}), None))),
                Reply::Call { name, arguments } => {
                    let head = json!({"tool_calls": [{"index": 0, "id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": ""}}]});
                    events.push(self.delta(index, &head, None));
                    events.push(self.delta(index, &json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}), None));
                }
            }
            events.push(self.delta(index, &json!({}), Some(self.reply.finish_reason())));
        }
        if self.prompt.usage_asked {
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
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.prompt.model, "choices": choices,
        });
        if self.prompt.usage_asked {
            chunk["usage"] = usage;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat;
    use super::super::stream::{StreamEditor, UsageChunk};
    use super::*;
    use aex_core::usage::Usage;

    fn plain(body: &str) -> Value {
        match respond(Dialect::Chat, body.as_bytes(), 5) {
            EchoAnswer::Plain(bytes) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_says_the_last_user_message_again() {
        let body = r#"{"model":"echo","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hello  world "}]}]}"#;
        let answer = plain(body);
        assert_eq!(answer["choices"][0]["message"]["content"], "echo: hello  world");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            (&answer["created"], &answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
            (&json!(5), &json!(10), &json!(3))
        );
        assert_eq!(respond(Dialect::Chat, body.as_bytes(), 5), respond(Dialect::Chat, body.as_bytes(), 5));
        let cut = plain(r#"{"model":"echo","max_tokens":2,"n":2,"messages":[{"role":"user","content":"hello world"}]}"#);
        assert_eq!(
            (&cut["choices"][1]["message"]["content"], &cut["choices"][1]["finish_reason"]),
            (&json!("echo: hello"), &json!("length"))
        );
        assert_eq!(cut["usage"]["completion_tokens"], 4);
    }

    #[test]
    fn it_calls_a_tool_that_it_was_offered() {
        let messages = r#""messages":[{"role":"user","content":"call add {\"a\": 1}"}]"#;
        let called = plain(&format!(r#"{{"model":"echo",{messages},"tools":[{{"type":"function","function":{{"name":"add"}}}}]}}"#));
        assert_eq!(called["choices"][0]["message"]["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
        assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(plain(&format!(r#"{{"model":"echo",{messages}}}"#))["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn its_stream_is_what_a_stream_editor_reads() {
        let body = r#"{"model":"echo","stream":true,"stream_options":{"include_usage":true},"n":2,"messages":[{"role":"user","content":"one two"}]}"#;
        assert!(chat::read(body.as_bytes()).is_ok());
        let EchoAnswer::Stream(events) = respond(Dialect::Chat, body.as_bytes(), 5) else { panic!("no stream") };
        let mut editor = StreamEditor::new(Dialect::Chat, "mine", 2, UsageChunk::Strip);
        let relayed: Vec<u8> = events.iter().flat_map(|event| editor.push(event.clone()).bytes).collect();
        let ending = editor.finish();
        assert!(ending.complete && !relayed.windows(6).any(|window| window == b"prompt"));
        assert_eq!(ending.meter.usage, Some(Usage::text(5, 6)));
        assert_eq!(ending.meter.relayed_output_bytes, 2 * 13);
        let without = body.replace("true}", "false}");
        assert!(
            matches!(respond(Dialect::Chat, without.as_bytes(), 5), EchoAnswer::Stream(events) if events.iter().all(|event| !event.windows(5).any(|window| window == b"usage")))
        );
    }

    #[test]
    fn it_speaks_chat_only() {
        let answer = respond(Dialect::Embeddings, br#"{"model":"echo","input":"a"}"#, 5);
        let EchoAnswer::Refused(404, error) = answer else { panic!("{answer:?}") };
        assert!(Dialect::Embeddings.answer(&error).unwrap().is_error);
    }

    #[test]
    fn it_refuses_what_the_protocol_refuses() {
        for (body, param) in [
            ("{", "body"),
            (r#"{"messages":[]}"#, "model"),
            (r#"{"model":"echo"}"#, "messages"),
            (r#"{"model":"echo","messages":[]}"#, "messages"),
            (r#"{"model":"echo","messages":[{"role":"robot","content":""}]}"#, "messages[0].role"),
            (r#"{"model":"echo","messages":[{"role":"user"}]}"#, "messages[0].content"),
            (r#"{"model":"echo","messages":[{"role":"tool","content":""}]}"#, "messages[0].tool_call_id"),
            (r#"{"model":"echo","n":0,"messages":[{"role":"user","content":""}]}"#, "n"),
            (r#"{"model":"echo","max_tokens":0,"messages":[{"role":"user","content":""}]}"#, "max_tokens"),
        ] {
            let EchoAnswer::Refused(400, error) = respond(Dialect::Chat, body.as_bytes(), 5) else { panic!("{body}") };
            let answer = serde_json::from_slice::<Value>(&error).unwrap();
            assert_eq!(answer["error"]["param"], param);
            assert!(Dialect::Chat.answer(&error).unwrap().is_error);
        }
    }
}
