//! The chat protocol, pure: checks a request as OpenAI does, makes the answer, counts its tokens. No I/O, no scripts' timing.
//!
//! A token is four characters. A prompt costs its contents and tools so counted, and 3 for each message.

use serde_json::{Map, Value, json};

use super::api::Api;
use super::script::Script;

const SENTENCE: &str = "The scripted provider answers one small piece at a time.";
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
const MAX_CHOICES: u64 = 128;
const IMAGE_TOKENS: u64 = 85;

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Refusal {
    pub(super) fn new(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> Self {
        let kind = match status {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        Self { status, body }
    }

    fn bad(param: &str, message: &str) -> Self {
        Self::new(400, message, Some(param), None)
    }

    /// The same error as Anthropic writes it.
    pub(super) fn in_anthropics_shape(self) -> Self {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        let error = json!({"type": kind, "message": self.body["error"]["message"]});
        Self { status: self.status, body: json!({"type": "error", "error": error, "request_id": "req_scripted"}) }
    }
}

/// A request that passed the checks.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Choices that are sent.
    pub(super) choices: u64,
    /// Choices that are produced and billed.
    pub(super) drawn: u64,
    pub(super) prompt_tokens: u64,
    pub(super) limit: Option<u64>,
    pub(super) shape: Shape,
    /// All that was asked.
    pub(super) body: Value,
}

/// What kind of answer a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Text,
    Json(String),
    Tool { name: String, arguments: String },
    Function { name: String, arguments: String },
}

/// What will be produced for each choice.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) shape: Shape,
    pub(super) pieces: Vec<String>,
    pub(super) finish: &'static str,
    /// Tokens of each choice that no piece carries: a tool's name, the hidden ones.
    pub(super) silent: u64,
}

impl Answer {
    pub(super) fn tokens(&self) -> u64 {
        self.silent + count(self.pieces.len())
    }

    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// Checks a body.
pub(super) fn check(body: Value) -> Result<Call, Refusal> {
    let model = named(&body)?;
    let messages = match &body["messages"] {
        Value::Array(list) if !list.is_empty() => list,
        Value::Array(_) => {
            return Err(Refusal::bad("messages", "Invalid 'messages': empty array."));
        }
        Value::Null => {
            return Err(Refusal::bad("messages", "Missing required parameter: 'messages'."));
        }
        _ => {
            return Err(Refusal::bad("messages", "Invalid type for 'messages': expected an array of objects."));
        }
    };
    let mut prompt_tokens = 0;
    for (index, message) in messages.iter().enumerate() {
        prompt_tokens += check_message(index, message)?;
    }
    let listed = |name: &str| {
        if body[name].is_null() { 0 } else { characters(&body[name].to_string()) }
    };
    prompt_tokens += listed("tools") + listed("functions");
    let stream = flag(&body, "stream")?;
    if !stream && !body["stream_options"].is_null() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::bad("stream_options", message));
    }
    let choices = number(&body, "n", MAX_CHOICES)?.unwrap_or(1);
    Ok(Call {
        api: Api::Chat,
        model,
        stream,
        include_usage: flag(&body["stream_options"], "include_usage")?,
        choices,
        drawn: choices,
        prompt_tokens,
        limit: limit(&body)?,
        shape: shape(&body, messages)?,
        body,
    })
}

/// The model of a request.
pub(super) fn named(body: &Value) -> Result<String, Refusal> {
    let model = body["model"].as_str().filter(|name| !name.is_empty());
    model.map(str::to_owned).ok_or_else(|| Refusal::new(400, "you must provide a model parameter", None, None))
}

fn check_message(index: usize, message: &Value) -> Result<u64, Refusal> {
    let param = format!("messages[{index}]");
    let bad = |field: &str, what: &str| Refusal::bad(&format!("{param}.{field}"), what);
    let Some(role) = message["role"].as_str() else {
        return Err(bad("role", &format!("Missing required parameter: '{param}.role'.")));
    };
    if !ROLES.contains(&role) {
        let known = ROLES.join("', '");
        return Err(bad("role", &format!("Invalid value: '{role}'. Supported values are: '{known}'.")));
    }
    if role == "tool" && !message["tool_call_id"].is_string() {
        return Err(bad("tool_call_id", &format!("Missing required parameter: '{param}.tool_call_id'.")));
    }
    let content = match &message["content"] {
        Value::String(text) => characters(text),
        Value::Array(parts) => parts.iter().map(part_tokens).sum(),
        Value::Null if role == "assistant" || role == "function" => 0,
        _ => {
            return Err(bad("content", &format!("Invalid type for '{param}.content': expected a string or an array.")));
        }
    };
    let called = if message["tool_calls"].is_null() { 0 } else { characters(&message["tool_calls"].to_string()) };
    Ok(3 + content + called)
}

fn part_tokens(part: &Value) -> u64 {
    match part["text"].as_str() {
        Some(text) => characters(text),
        None => IMAGE_TOKENS,
    }
}

fn limit(body: &Value) -> Result<Option<u64>, Refusal> {
    let old = number(body, "max_tokens", u64::MAX)?;
    let new = number(body, "max_completion_tokens", u64::MAX)?;
    if old.is_some() && new.is_some() {
        let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return Err(Refusal::bad("max_tokens", message));
    }
    Ok(new.or(old))
}

pub(super) fn number(body: &Value, name: &str, most: u64) -> Result<Option<u64>, Refusal> {
    let value = &body[name];
    match value.as_u64() {
        Some(held) if held >= 1 && held <= most => Ok(Some(held)),
        None if value.is_null() => Ok(None),
        _ => Err(Refusal::bad(name, &format!("Invalid value for '{name}': {value}."))),
    }
}

pub(super) fn flag(body: &Value, name: &str) -> Result<bool, Refusal> {
    match &body[name] {
        Value::Null => Ok(false),
        Value::Bool(held) => Ok(*held),
        _ => Err(Refusal::bad(name, &format!("Invalid type for '{name}': expected a boolean."))),
    }
}

fn shape(body: &Value, messages: &[Value]) -> Result<Shape, Refusal> {
    let asked_by_user = messages.last().is_some_and(|message| message["role"] == "user");
    let tools = list(body, "tools")?;
    if let Some(tool) = tools.iter().find(|tool| tool["type"] != "function" || !tool["function"]["name"].is_string()) {
        return Err(Refusal::bad("tools", &format!("Invalid value for 'tools': {tool}.")));
    }
    if tools.is_empty() && !body["tool_choice"].is_null() {
        return Err(Refusal::bad("tool_choice", "'tool_choice' is only allowed when 'tools' are specified."));
    }
    let functions = list(body, "functions")?;
    if asked_by_user && !tools.is_empty() && body["tool_choice"] != "none" {
        let wanted = body["tool_choice"]["function"]["name"].as_str();
        let declared: Vec<Value> = tools.iter().map(|tool| tool["function"].clone()).collect();
        let (name, arguments) = invoke(&declared, wanted);
        return Ok(Shape::Tool { name, arguments });
    }
    if asked_by_user && !functions.is_empty() && body["function_call"] != "none" {
        let (name, arguments) = invoke(functions, body["function_call"]["name"].as_str());
        return Ok(Shape::Function { name, arguments });
    }
    let format = &body["response_format"];
    match format["type"].as_str() {
        Some("json_object") => Ok(Shape::Json(json!({"answer": "text"}).to_string())),
        Some("json_schema") => {
            let schema = &format["json_schema"]["schema"];
            Ok(Shape::Json(fit(schema, schema).to_string()))
        }
        _ => Ok(Shape::Text),
    }
}

fn list<'a>(body: &'a Value, name: &str) -> Result<&'a [Value], Refusal> {
    match &body[name] {
        Value::Null => Ok(&[]),
        Value::Array(held) => Ok(held),
        _ => Err(Refusal::bad(name, &format!("Invalid type for '{name}': expected an array."))),
    }
}

fn invoke(declared: &[Value], wanted: Option<&str>) -> (String, String) {
    let named = declared.iter().find(|function| wanted.is_some() && function["name"].as_str() == wanted);
    let function = named.unwrap_or(&declared[0]);
    let parameters = &function["parameters"];
    let arguments = if parameters.is_null() { json!({}) } else { fit(parameters, parameters) };
    (function["name"].as_str().unwrap_or_default().to_owned(), arguments.to_string())
}

/// A value that a simple JSON schema accepts.
pub(super) fn fit(schema: &Value, root: &Value) -> Value {
    if let Some(path) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        return root.pointer(path).map_or(Value::Null, |target| fit(target, root));
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(first) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)).or_else(|| schema["allOf"].get(0)) {
        return fit(first, root);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("string") => json!("text"),
        Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1.5)),
        Some("boolean") => json!(true),
        Some("array") => json!([fit(&schema["items"], root)]),
        Some("null") => Value::Null,
        _ => {
            let empty = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            properties.iter().map(|(name, held)| (name.clone(), fit(held, root))).collect()
        }
    }
}

/// What will be produced for a call.
pub(super) fn answer(call: &Call, script: &Script) -> Answer {
    let (text, name) = match &call.shape {
        Shape::Text => (script.answer.as_deref().unwrap_or(SENTENCE), ""),
        Shape::Json(text) => (text.as_str(), ""),
        Shape::Tool { name, arguments } | Shape::Function { name, arguments } => (arguments.as_str(), name.as_str()),
    };
    let mut pieces = match (script.output_tokens, &call.shape) {
        (Some(tokens), Shape::Text) => (0..tokens).map(|index| format!("{:>3} ", index % 1000)).collect(),
        _ => cut(text),
    };
    let silent = characters(name) + script.reasoning_tokens;
    let limit = call.limit.unwrap_or(u64::MAX);
    let room = usize::try_from(limit.saturating_sub(silent)).unwrap_or(usize::MAX);
    let cropped = pieces.len() > room;
    pieces.truncate(room);
    let finish = match &call.shape {
        _ if cropped => "length",
        Shape::Tool { .. } => "tool_calls",
        Shape::Function { .. } => "function_call",
        Shape::Text | Shape::Json(_) => "stop",
    };
    Answer { shape: call.shape.clone(), pieces, finish, silent: silent.min(limit) }
}

/// Pieces of four characters, the last one shorter.
fn cut(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(4).map(|piece| piece.iter().collect()).collect()
}

pub(super) fn characters(text: &str) -> u64 {
    count(text.chars().count()).div_ceil(4)
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a count fits 64 bits")
}
