//! The built-in provider `echo`: answers "echo: " and the last thing that the user, or a tool, said. Same bytes in, same bytes out.
//!
//! Speaks every dialect truthfully, so that a daemon without a key and without a network governs real calls: roles are
//! checked, streams are streams, usage is true by its own tokeniser: one token per word (what white space separates), and
//! [`TOKENS_PER_MESSAGE`] per message. When tools are offered and that last thing reads `call NAME {json}`, it calls that tool. A
//! `json_object` that is asked for has one key, `echo`; schemas are not followed. It stores nothing. Must not: know accounts, prices or policy.

mod chat;
mod messages;
mod responses;
#[cfg(test)]
mod tests;
mod texts;

use super::dialect::Dialect;
use aex_proto::value::Digest;
use bytes::Bytes;
use serde_json::{Value, json};

/// Input tokens of one message beside its words.
pub const TOKENS_PER_MESSAGE: u64 = 3;

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
    let frame = Frame { id: id_of(body), created };
    let answer = read(body).and_then(|request| match dialect {
        Dialect::Chat => chat::respond(&request, &frame),
        Dialect::Completions => texts::complete(&request, &frame),
        Dialect::CountTokens => messages::count(&request),
        Dialect::Embeddings => texts::embed(&request),
        Dialect::Messages => messages::respond(&request, &frame),
        Dialect::Responses => responses::respond(&request, &frame),
    });
    answer.unwrap_or_else(|invalid| match dialect {
        Dialect::CountTokens | Dialect::Messages => refused(&messages::error(&invalid, &frame)),
        Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Responses => {
            let Invalid { message, param, code } = invalid;
            refused(&json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}))
        }
    })
}

fn refused(error: &Value) -> EchoAnswer {
    EchoAnswer::Refused(400, Bytes::from(error.to_string()))
}

fn read(body: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(body).map_err(|fault| Invalid::new("body", "invalid_json", &fault.to_string()))
}

fn id_of(body: &[u8]) -> String {
    let digest = Digest::of(body).to_string();
    digest.get(..24).unwrap_or_default().to_owned()
}

/// What the answers of a request have in common.
struct Frame {
    /// 24 hex digits; each dialect puts its own word before them.
    id: String,
    created: i64,
}

/// A request that the API would refuse.
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

    fn missing(param: impl Into<String>, what: &str) -> Invalid {
        Invalid::new(param, "missing_required_parameter", what)
    }
}

fn model(request: &Value) -> Result<String, Invalid> {
    let model = request["model"].as_str().ok_or_else(|| Invalid::missing("model", "you must provide a model parameter."))?;
    Ok(model.to_owned())
}

fn list<'a>(request: &'a Value, name: &str) -> Result<&'a [Value], Invalid> {
    match request[name].as_array().map(Vec::as_slice) {
        None => Err(Invalid::missing(name, "a list is required.")),
        Some([]) => Err(Invalid::new(name, "empty_array", "at least one element is required.")),
        Some(items) => Ok(items),
    }
}

fn flag(request: &Value, name: &str) -> bool {
    request[name].as_bool().unwrap_or(false)
}

/// The smallest of the limits on its output that a request states.
fn limit(request: &Value, fields: &[&str]) -> Result<usize, Invalid> {
    let mut smallest = usize::MAX;
    for field in fields {
        if !request[*field].is_null() {
            let limit = request[*field]
                .as_u64()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| Invalid::new(*field, "invalid_value", "expected an integer of at least 1."))?;
            smallest = smallest.min(usize::try_from(limit).unwrap_or(usize::MAX));
        }
    }
    Ok(smallest)
}

fn choices(request: &Value) -> Result<u64, Invalid> {
    match &request["n"] {
        Value::Null => Ok(1),
        n => n
            .as_u64()
            .filter(|n| (1..=128).contains(n))
            .ok_or_else(|| Invalid::new("n", "invalid_value", "expected an integer from 1 to 128.")),
    }
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// The names that stand in each of a list.
fn names(list: &Value, at: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|tool| tool.pointer(at)?.as_str().map(str::to_owned)).collect()
}

/// What every choice says.
enum Reply {
    /// Words, each with the white space before it, and whether they were cut.
    Words(Vec<String>, bool),
    /// A call of a tool, with its arguments as text.
    Call { name: String, arguments: String },
}

impl Reply {
    /// The reply to what was said last. `format` is what the request says of the text's format.
    fn to(said: &str, tools: &[String], format: &Value, max_tokens: usize) -> Reply {
        if let Some((name, arguments)) = asked_call(said)
            && tools.contains(&name)
            && words(&arguments) < u64::try_from(max_tokens).unwrap_or(u64::MAX)
        {
            return Reply::Call { name, arguments };
        }
        let text = if format["type"] == "json_object" { json!({"echo": said}).to_string() } else { format!("echo: {said}") };
        let mut pieces = pieces(&text);
        let cut = pieces.len() > max_tokens;
        pieces.truncate(max_tokens);
        Reply::Words(pieces, cut)
    }

    fn tokens(&self) -> u64 {
        match self {
            Reply::Words(pieces, _) => u64::try_from(pieces.len()).unwrap_or(u64::MAX),
            Reply::Call { arguments, .. } => words(arguments) + 1,
        }
    }

    /// What OpenAI calls its end.
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
