//! Completions and embeddings: texts without roles. Pure.

use serde_json::{Value, json};

use super::api::{Api, Voice};
use super::book::Bill;
use super::chat::{Answer, Call, Refusal, Shape, characters, count, flag, named, number};
use super::render::{CREATED, Frame, bill};
use super::script::{Script, Usage};

const MAX_CHOICES: u64 = 128;
const DIMENSIONS: usize = 3;
/// What the API takes when a completion states no limit.
const DEFAULT_LIMIT: u64 = 16;

/// The texts of a `prompt` or an `input`, each with its tokens.
fn texts(value: &Value, field: &str) -> Result<Vec<(String, u64)>, Refusal> {
    let wrong = || Refusal::new(400, &format!("'$.{field}' is invalid. Please check the API reference."), Some(field), None);
    let tokens = |list: &[Value]| -> Result<(String, u64), Refusal> {
        if list.is_empty() || !list.iter().all(Value::is_u64) {
            return Err(wrong());
        }
        Ok((String::new(), count(list.len())))
    };
    match value {
        Value::String(text) => Ok(vec![(text.clone(), characters(text))]),
        Value::Array(list) if list.first().is_some_and(Value::is_u64) => Ok(vec![tokens(list)?]),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok((text.clone(), characters(text))),
                Value::Array(list) => tokens(list),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// Checks a request for completions.
pub(super) fn completions(body: Value) -> Result<Call, Refusal> {
    let model = named(&body)?;
    let prompts = if body["prompt"].is_null() { vec![("<|endoftext|>".to_owned(), 1)] } else { texts(&body["prompt"], "prompt")? };
    let n = number(&body, "n", MAX_CHOICES)?.unwrap_or(1);
    let best_of = number(&body, "best_of", MAX_CHOICES)?.unwrap_or(n);
    let stream = flag(&body, "stream")?;
    if best_of < n || (stream && best_of > n) {
        return Err(Refusal::new(400, "You requested a best_of that does not fit.", Some("best_of"), None));
    }
    if !stream && !body["stream_options"].is_null() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::new(400, message, Some("stream_options"), None));
    }
    let limit = match &body["max_tokens"] {
        Value::Null => DEFAULT_LIMIT,
        value => value.as_u64().ok_or_else(|| Refusal::new(400, "Invalid max_tokens.", Some("max_tokens"), None))?,
    };
    let count = count(prompts.len());
    Ok(Call {
        api: Api::Completions,
        model,
        stream,
        include_usage: flag(&body["stream_options"], "include_usage")?,
        choices: n * count,
        drawn: best_of * count,
        prompt_tokens: prompts.iter().map(|(_, tokens)| tokens).sum(),
        limit: Some(limit),
        shape: Shape::Text,
        body,
    })
}

/// Checks a request for embeddings.
pub(super) fn embeddings(body: Value) -> Result<Call, Refusal> {
    let model = named(&body)?;
    if body.as_object().is_some_and(|members| members.contains_key("max_tokens") || members.contains_key("temperature")) {
        return Err(Refusal::new(400, "Unrecognized request argument supplied.", None, None));
    }
    let inputs = texts(&body["input"], "input")?;
    Ok(Call {
        api: Api::Embeddings,
        model,
        stream: false,
        include_usage: false,
        choices: 1,
        drawn: 0,
        prompt_tokens: inputs.iter().map(|(_, tokens)| tokens).sum(),
        limit: Some(0),
        shape: Shape::Text,
        body,
    })
}

/// Writes completions.
pub(super) struct Completion<'a> {
    call: &'a Call,
    answer: &'a Answer,
    frame: Frame<'a>,
    /// What each choice begins with.
    echo: Vec<String>,
}

impl<'a> Completion<'a> {
    pub(super) fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        let prompts = texts(&call.body["prompt"], "prompt").unwrap_or_default();
        let each = usize::try_from(call.choices).expect("few choices") / prompts.len().max(1);
        let echoed = call.body["echo"] == true;
        let echo = prompts.into_iter().flat_map(|(text, _)| std::iter::repeat_n(if echoed { text } else { String::new() }, each));
        Self { call, answer, frame: Frame { call, answer, script, seq, id: "cmpl" }, echo: echo.collect() }
    }

    fn echoed(&self, choice: u64) -> &str {
        self.echo.get(usize::try_from(choice).expect("few choices")).map_or("", String::as_str)
    }

    fn chunk(&self, choice: u64, text: &str, finish: Option<&str>) -> Vec<u8> {
        let mut chunk = self.frame.object("text_completion");
        chunk.insert("choices".to_owned(), json!([{"text": text, "index": choice, "logprobs": null, "finish_reason": finish}]));
        if self.call.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        if finish.is_some() {
            self.frame.pad(&mut chunk);
        }
        self.frame.event(&Value::Object(chunk).to_string())
    }
}

impl Voice for Completion<'_> {
    fn plain(&self) -> Vec<u8> {
        let mut object = self.frame.object("text_completion");
        let choice = |index| {
            let text = format!("{}{}", self.echoed(index), self.answer.text());
            json!({"text": text, "index": index, "logprobs": null, "finish_reason": self.answer.finish})
        };
        object.insert("choices".to_owned(), (0..self.call.choices).map(choice).collect());
        if let Some(usage) = self.frame.usage() {
            object.insert("usage".to_owned(), usage);
        }
        self.frame.pad(&mut object);
        Value::Object(object).to_string().into_bytes()
    }

    fn role(&self, choice: u64) -> Vec<u8> {
        let echo = self.echoed(choice);
        if echo.is_empty() { Vec::new() } else { self.chunk(choice, echo, None) }
    }

    fn piece(&self, choice: u64, index: usize) -> Vec<u8> {
        self.chunk(choice, &self.answer.pieces[index], None)
    }

    fn finish(&self, choice: u64) -> Vec<u8> {
        self.chunk(choice, "", Some(self.answer.finish))
    }

    fn usage_chunk(&self) -> Vec<u8> {
        self.frame.usage_chunk("text_completion")
    }

    fn done(&self) -> Vec<u8> {
        self.frame.event("[DONE]")
    }

    fn error(&self) -> Vec<u8> {
        self.frame.error()
    }
}

/// Writes embeddings. Nothing of them is streamed.
pub(super) struct Vectors<'a> {
    call: &'a Call,
    script: &'a Script,
    frame: Frame<'a>,
    bill: Bill,
}

impl<'a> Vectors<'a> {
    pub(super) fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        let bill = bill(call, answer, script, seq);
        Self { call, script, frame: Frame { call, answer, script, seq, id: "embd" }, bill }
    }
}

impl Voice for Vectors<'_> {
    fn plain(&self) -> Vec<u8> {
        let inputs = texts(&self.call.body["input"], "input").map_or(0, |inputs| inputs.len());
        let base64 = self.call.body["encoding_format"] == "base64";
        // Little-endian floats, all of them zero, in base64.
        let vector = if base64 { json!("AAAA".repeat(DIMENSIONS * 4 / 3)) } else { json!(vec![0.5; DIMENSIONS]) };
        let data: Vec<Value> = (0..inputs).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
        let mut object = json!({"object": "list", "data": data, "model": self.frame.model(), "created": CREATED});
        let tokens = self.bill.prompt_tokens;
        let usage = match &self.script.usage {
            Usage::Missing => None,
            Usage::Zero => Some(json!({"prompt_tokens": 0, "total_tokens": 0})),
            Usage::Raw(value) => Some(value.clone()),
            Usage::Truth | Usage::Groq => Some(json!({"prompt_tokens": tokens, "total_tokens": tokens})),
        };
        if let (Some(usage), Some(members)) = (usage, object.as_object_mut()) {
            members.insert("usage".to_owned(), usage);
        }
        object.to_string().into_bytes()
    }

    fn role(&self, _: u64) -> Vec<u8> {
        Vec::new()
    }

    fn piece(&self, _: u64, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn finish(&self, _: u64) -> Vec<u8> {
        Vec::new()
    }

    fn usage_chunk(&self) -> Vec<u8> {
        Vec::new()
    }

    fn done(&self) -> Vec<u8> {
        Vec::new()
    }

    fn error(&self) -> Vec<u8> {
        Vec::new()
    }
}
