//! Legacy completions and embeddings of `echo`: texts without roles.

use super::{EchoAnswer, Frame, Invalid, Reply, choices, flag, limit, model, words};
use aex_proto::value::Digest;
use bytes::Bytes;
use serde_json::{Value, json};

/// Numbers in a vector, unless the request says how many.
const DIMENSIONS: u64 = 16;
const MOST_DIMENSIONS: u64 = 3_072;

/// The texts of a field, each with its tokens. A list of tokens has no text.
fn texts(request: &Value, field: &str) -> Result<Vec<(String, u64)>, Invalid> {
    let wrong = || Invalid::new(field, "invalid_type", "expected a text, a list of texts, or tokens.");
    let one = |value: &Value| match value {
        Value::String(text) => Ok((text.clone(), words(text))),
        Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => {
            Ok((String::new(), u64::try_from(tokens.len()).unwrap_or(u64::MAX)))
        }
        _ => Err(wrong()),
    };
    match &request[field] {
        Value::Array(list) if list.first().is_some_and(|item| !item.is_u64()) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Answers a request for completions.
pub(super) fn complete(request: &Value, frame: &Frame) -> Result<EchoAnswer, Invalid> {
    let model = model(request)?;
    let prompts = texts(request, "prompt")?;
    let (each, most) = (choices(request)?, limit(request, &["max_tokens"])?);
    let repeated = flag(request, "echo");
    let mut replies = Vec::new();
    for (prompt, _) in &prompts {
        for _ in 0..each {
            replies.push((if repeated { prompt.as_str() } else { "" }, Reply::to(prompt, &[], &Value::Null, most)));
        }
    }
    let prompt_tokens: u64 = prompts.iter().map(|(_, tokens)| tokens).sum();
    let completion_tokens: u64 = replies.iter().map(|(_, reply)| reply.tokens()).sum();
    let usage =
        json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens});
    let choice =
        |index: usize, text: &str, finish: Option<&str>| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish});
    let object = |choices: Vec<Value>| json!({"id": format!("cmpl-{}", frame.id), "object": "text_completion", "created": frame.created, "model": model, "choices": choices});
    if !flag(request, "stream") {
        let whole = |(index, (before, reply)): (usize, &(&str, Reply))| {
            choice(index, &format!("{before}{}", pieces_of(reply).concat()), Some(reply.finish_reason()))
        };
        let mut answer = object(replies.iter().enumerate().map(whole).collect());
        answer["usage"] = usage;
        return Ok(EchoAnswer::Plain(Bytes::from(answer.to_string())));
    }
    let usage_asked = flag(&request["stream_options"], "include_usage");
    let event = |choices: Vec<Value>, usage: Value| {
        let mut chunk = object(choices);
        if usage_asked {
            chunk["usage"] = usage;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let mut events = Vec::new();
    for (index, (before, reply)) in replies.iter().enumerate() {
        let pieces = pieces_of(reply).iter().map(String::as_str);
        for piece in std::iter::once(*before).filter(|before| !before.is_empty()).chain(pieces) {
            events.push(event(vec![choice(index, piece, None)], Value::Null));
        }
        events.push(event(vec![choice(index, "", Some(reply.finish_reason()))], Value::Null));
    }
    if usage_asked {
        events.push(event(Vec::new(), usage));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Ok(EchoAnswer::Stream(events))
}

/// Nothing is called where no tool is offered.
fn pieces_of(reply: &Reply) -> &[String] {
    match reply {
        Reply::Words(pieces, _) => pieces,
        Reply::Call { .. } => &[],
    }
}

/// Answers a request for embeddings: vectors of length 1, the same for the same text.
pub(super) fn embed(request: &Value) -> Result<EchoAnswer, Invalid> {
    let model = model(request)?;
    let inputs = texts(request, "input")?;
    let dimensions = match &request["dimensions"] {
        Value::Null => DIMENSIONS,
        value => value
            .as_u64()
            .filter(|dimensions| (1..=MOST_DIMENSIONS).contains(dimensions))
            .ok_or_else(|| Invalid::new("dimensions", "invalid_value", "expected an integer from 1 to 3072."))?,
    };
    let format = match &request["encoding_format"] {
        Value::Null => "float",
        Value::String(format) if matches!(format.as_str(), "float" | "base64") => format,
        _ => return Err(Invalid::new("encoding_format", "invalid_value", "expected float or base64.")),
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, (text, _))| {
            let vector = vector(text, dimensions);
            let written = if format == "float" {
                json!(vector)
            } else {
                json!(base64(&vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
            };
            json!({"object": "embedding", "index": index, "embedding": written})
        })
        .collect();
    let tokens: u64 = inputs.iter().map(|(_, tokens)| tokens).sum();
    let answer = json!({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
    Ok(EchoAnswer::Plain(Bytes::from(answer.to_string())))
}

fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(dimensions).unwrap_or_default();
    let mut digest = Digest::of(text.as_bytes());
    while bytes.len() < wanted {
        bytes.extend_from_slice(digest.bytes());
        digest = Digest::of(digest.bytes());
    }
    let raw: Vec<f32> = bytes.into_iter().take(wanted).map(|byte| f32::from(byte) - 127.5).collect();
    // Never zero: no byte is 127.5.
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt();
    raw.into_iter().map(|number| number / length).collect()
}

/// As RFC 4648 §4 writes bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
