//! Embeddings and legacy completions.

use super::answer::{Checked, Finding, body, counts, ends_with_done, events, is, same, served};
use super::{MAX_TOKENS, Target};
use crate::http::Answer;
use serde_json::{Value, json};

pub(super) fn embeddings(target: &Target) -> Checked {
    let answer = body(&served(target.call("/v1/embeddings", json!({"input": ["one", "two"]}), json!({}))?)?)?;
    same("object", "list", &answer["object"])?;
    for index in 0..2 {
        let vector = &answer["data"][index]["embedding"];
        let numbers = vector.as_array().is_some_and(|vector| !vector.is_empty() && vector.iter().all(Value::is_number));
        is(numbers, || format!("data[{index}].embedding: expected a list of numbers, found {vector}"))?;
    }
    counts(&answer, "usage", &["prompt_tokens", "total_tokens"])
}

fn complete(target: &Target, more: Value) -> Result<Answer, Finding> {
    target.call("/v1/completions", json!({"prompt": "Say hello.", "max_tokens": MAX_TOKENS}), more).and_then(served)
}

pub(super) fn plain(target: &Target) -> Checked {
    let answer = body(&complete(target, json!({}))?)?;
    same("object", "text_completion", &answer["object"])?;
    is(answer["choices"][0]["text"].is_string(), || format!("choices[0].text: expected a text, found {}", answer["choices"][0]["text"]))?;
    counts(&answer, "usage", &["prompt_tokens", "completion_tokens", "total_tokens"])
}

pub(super) fn streaming(target: &Target) -> Checked {
    let answer = complete(target, json!({"stream": true}))?;
    let (chunks, last) = events(&answer)?;
    ends_with_done(last)?;
    for chunk in &chunks {
        same("chunk.object", "text_completion", &chunk["object"])?;
        is(chunk["choices"][0]["text"].is_string(), || format!("a chunk without choices[0].text: {chunk}"))?;
    }
    is(!chunks.is_empty(), || "expected chunks, found none".to_owned())
}
