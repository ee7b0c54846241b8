//! Chat requests as clients write them.

use serde_json::{Value, json};

/// `m1` is asked to say hello, with a limit of 50 tokens.
#[must_use]
pub fn chat() -> Value {
    of_length(5)
}

/// The same with a prompt of so many characters.
#[must_use]
pub fn of_length(chars: usize) -> Value {
    json!({"model": "m1", "max_tokens": 50, "messages": [{"role": "user", "content": "hello".chars().cycle().take(chars).collect::<String>()}]})
}

/// A request with some members replaced; `null` takes one away.
#[must_use]
pub fn with(mut body: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("changes are an object") {
        let members = body.as_object_mut().expect("a request is an object");
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    body
}

/// `chat` with some members replaced.
#[must_use]
pub fn chat_with(changes: &Value) -> Value {
    with(chat(), changes)
}

/// One message of a user with these parts.
#[must_use]
pub fn parts(parts: &Value) -> Value {
    chat_with(&json!({"messages": [{"role": "user", "content": parts}]}))
}

/// A function tool of that name.
#[must_use]
pub fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}
