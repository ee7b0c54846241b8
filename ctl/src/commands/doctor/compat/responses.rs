//! OpenAI's responses.

use super::answer::{Checked, Finding, body, counts, events, is, same, served};
use super::{MAX_TOKENS, Target};
use crate::http::Answer;
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";
const USAGE: [&str; 3] = ["input_tokens", "output_tokens", "total_tokens"];

fn ask(target: &Target, more: Value) -> Result<Answer, Finding> {
    // What nobody will ask for again need not be kept.
    target.call(PATH, json!({"input": "Say hello.", "max_output_tokens": MAX_TOKENS, "store": false}), more).and_then(served)
}

fn whole(response: &Value) -> Checked {
    same("object", "response", &response["object"])?;
    let ended = matches!(response["status"].as_str(), Some("completed" | "incomplete"));
    is(ended, || format!("status: expected completed or incomplete, found {}", response["status"]))?;
    is(response["output"].is_array(), || format!("output: expected a list, found {}", response["output"]))?;
    counts(response, "usage", &USAGE)
}

pub(super) fn plain(target: &Target) -> Checked {
    whole(&body(&ask(target, json!({}))?)?)
}

pub(super) fn streaming(target: &Target) -> Checked {
    let answer = ask(target, json!({"stream": true}))?;
    let (events, _) = events(&answer)?;
    let first = events.first().unwrap_or(&Value::Null);
    same("the first event's type", "response.created", &first["type"])?;
    let last = events.last().unwrap_or(&Value::Null);
    let ended = matches!(last["type"].as_str(), Some("response.completed" | "response.incomplete"));
    is(ended, || format!("the last event's type: expected response.completed or response.incomplete, found {}", last["type"]))?;
    whole(&last["response"])
}

pub(super) fn errors(target: &Target) -> Checked {
    let valid = json!({"max_output_tokens": 16, "input": "x"});
    target.refusals(PATH, &valid, [403, 401, 400], &["message", "type", "param", "code"])?;
    Ok(())
}
