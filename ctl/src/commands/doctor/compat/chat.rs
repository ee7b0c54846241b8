//! Chat completions: the earlier program's five tests.

use super::answer::{Checked, Differs, Finding, body, counts, ends_with_done, events, is, is_object, same, shown};
use super::{MAX_TOKENS, Target};
use crate::http::Answer;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn ask(target: &Target, question: &str, more: Value) -> Result<Answer, Finding> {
    target.call(PATH, json!({"max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": question}]}), more)
}

pub(super) fn basic(target: &Target) -> Checked {
    let answer = body(&ask(target, "Say hello.", json!({}))?)?;
    same("object", "chat.completion", &answer["object"])?;
    same("choices[0].message.role", "assistant", &answer["choices"][0]["message"]["role"])?;
    counts(&answer, "usage", &["prompt_tokens", "completion_tokens", "total_tokens"])
}

pub(super) fn streaming(target: &Target) -> Checked {
    let answer = ask(target, "Say hello.", json!({"stream": true}))?;
    let (chunks, last) = events(&answer)?;
    ends_with_done(last)?;
    for chunk in &chunks {
        same("chunk.object", "chat.completion.chunk", &chunk["object"])?;
    }
    let deltas = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"].is_object()).count();
    is(deltas > 0, || "expected chunks with choices[0].delta, found none".to_owned())
}

pub(super) fn tool_calling(target: &Target) -> Checked {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function = json!({"name": "get_weather", "description": "The weather of a city.", "parameters": parameters});
    let tools = json!({
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    });
    // The daemon's built-in provider takes it literally.
    let answer = body(&ask(target, "call get_weather {\"city\": \"Paris\"}", tools)?)?;
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    same("message.tool_calls[0].function.name", "get_weather", &call["name"])?;
    let arguments = call["arguments"].as_str().unwrap_or_default();
    is(is_object(arguments), || format!("function.arguments: expected a JSON object as text, found {}", shown(arguments)))
}

pub(super) fn structured_output(target: &Target) -> Checked {
    let format = json!({"response_format": {"type": "json_object"}});
    let answer = body(&ask(target, "Answer with a JSON object that has one key, \"answer\".", format)?)?;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    if is_object(content) { Ok(()) } else { Err(Differs(format!("message.content: expected a JSON object, found {}", shown(content)))) }
}

pub(super) fn errors(target: &Target) -> Checked {
    let valid = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    target.refusals(PATH, &valid, [403, 401, 400], &["message", "type", "param", "code"])?;
    Ok(())
}
