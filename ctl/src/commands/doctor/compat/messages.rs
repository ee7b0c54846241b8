//! Anthropic's messages, and the count of their tokens.

use super::answer::{Checked, Finding, body, counts, events, is, same, served};
use super::{MAX_TOKENS, Target};
use crate::http::Answer;
use serde_json::{Value, json};

const PATH: &str = "/v1/messages";
const USAGE: [&str; 2] = ["input_tokens", "output_tokens"];

fn ask(target: &Target, more: Value) -> Result<Answer, Finding> {
    let asked = json!({"max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Say hello."}]});
    target.call(PATH, asked, more).and_then(served)
}

pub(super) fn plain(target: &Target) -> Checked {
    let message = body(&ask(target, json!({}))?)?;
    same("type", "message", &message["type"])?;
    same("role", "assistant", &message["role"])?;
    is(message["content"].is_array(), || format!("content: expected a list, found {}", message["content"]))?;
    counts(&message, "usage", &USAGE)
}

pub(super) fn streaming(target: &Target) -> Checked {
    let answer = ask(target, json!({"stream": true}))?;
    let (events, _) = events(&answer)?;
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap_or(&Value::Null);
    counts(&of("message_start")["message"], "usage", &USAGE)?;
    same("content_block_start", "content_block_start", &of("content_block_start")["type"])?;
    counts(of("message_delta"), "usage", &["output_tokens"])?;
    same("the last event's type", "message_stop", &events.last().unwrap_or(&Value::Null)["type"])?;
    // Anthropic's SDKs pass over an event that has no name of its own.
    let names = answer.body.lines().filter(|line| line.starts_with("event: ")).count();
    is(names == events.len(), || format!("expected an `event:` line for each of {} events, found {names}", events.len()))
}

pub(super) fn errors(target: &Target) -> Checked {
    let valid = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    let told = target.refusals(PATH, &valid, [404, 401, 400], &["message", "type"])?;
    for (error, kind) in told.iter().zip(["not_found_error", "authentication_error", "invalid_request_error"]) {
        same("type", "error", &error["type"])?;
        same("error.type", kind, &error["error"]["type"])?;
        is(error["request_id"].is_string(), || format!("request_id: expected a text, found {}", error["request_id"]))?;
    }
    Ok(())
}

pub(super) fn count(target: &Target) -> Checked {
    let asked = json!({"messages": [{"role": "user", "content": "Say hello."}]});
    let counted = body(&served(target.call("/v1/messages/count_tokens", asked, json!({}))?)?)?;
    is(counted["input_tokens"].is_u64(), || format!("input_tokens: expected a count, found {}", counted["input_tokens"]))
}
