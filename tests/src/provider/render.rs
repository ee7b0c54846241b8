//! Answers and chunks as the bytes that OpenAI sends. Pure.

use serde_json::{Map, Value, json};

use super::book::Bill;
use super::chat::{Answer, Call, Shape, Speaks};
use super::messages::Writer;
use super::script::{Script, Usage};

// A fixed date: equal calls get equal bytes.
const CREATED: u64 = 1_760_000_000;
const MARK: &str = "@piece@";

/// Renders one call's answer.
pub(super) struct Renderer<'a> {
    call: &'a Call,
    answer: &'a Answer,
    script: &'a Script,
    seq: u64,
    /// The bytes before and after a piece, for each choice.
    templates: Vec<(String, String)>,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        let mut renderer = Self { call, answer, script, seq, templates: Vec::new() };
        if call.stream && call.speaks == Speaks::Chat {
            let templates = (0..call.choices).map(|choice| renderer.template(choice));
            renderer.templates = templates.collect();
        }
        renderer
    }

    /// Who writes the answer, when it is Anthropic's protocol.
    fn messages(&self) -> Option<Writer<'_>> {
        let bill = bill(self.call, self.answer, self.script, self.seq);
        (self.call.speaks == Speaks::Messages).then_some(Writer { call: self.call, answer: self.answer, script: self.script, bill })
    }

    fn model(&self) -> &str {
        self.script.model.as_deref().unwrap_or(&self.call.model)
    }

    fn object(&self, kind: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".to_owned(), json!(format!("chatcmpl-{}", self.seq)));
        object.insert("object".to_owned(), json!(kind));
        object.insert("created".to_owned(), json!(CREATED));
        object.insert("model".to_owned(), json!(self.model()));
        object.insert("system_fingerprint".to_owned(), json!("fp_scripted"));
        object.extend(self.script.extra.clone());
        object
    }

    /// What the answer says about tokens, if anything.
    fn usage(&self) -> Option<Value> {
        match &self.script.usage {
            Usage::Missing => None,
            Usage::Zero => Some(usage(0, 0, 0, 0)),
            Usage::Raw(value) => Some(value.clone()),
            Usage::Truth | Usage::Groq => {
                let bill = bill(self.call, self.answer, self.script, self.seq);
                let reasoning = self.script.reasoning_tokens * self.call.choices;
                Some(usage(bill.prompt_tokens, bill.cached_tokens, bill.completion_tokens, reasoning))
            }
        }
    }

    /// The answer to a call without `stream`.
    pub(super) fn plain(&self) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.plain();
        }
        let message = self.message();
        let choice = |index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.answer.finish});
        let mut object = self.object("chat.completion");
        object.insert("choices".to_owned(), (0..self.call.choices).map(choice).collect());
        if let Some(usage) = self.usage() {
            if self.script.usage == Usage::Groq {
                object.insert("x_groq".to_owned(), json!({"id": format!("req_{}", self.seq), "usage": usage}));
            }
            object.insert("usage".to_owned(), usage);
        }
        self.pad(&mut object);
        Value::Object(object).to_string().into_bytes()
    }

    fn message(&self) -> Value {
        let text = self.answer.text();
        match &self.answer.shape {
            Shape::Text | Shape::Json(_) => {
                json!({"role": "assistant", "content": text, "refusal": null})
            }
            Shape::Tool { name, .. } => {
                let function = json!({"name": name, "arguments": text});
                let call = json!({"id": format!("call_{}", self.seq), "type": "function", "function": function});
                json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]})
            }
            Shape::Function { name, .. } => {
                json!({"role": "assistant", "content": null, "refusal": null, "function_call": {"name": name, "arguments": text}})
            }
        }
    }

    /// The first chunk of a choice.
    pub(super) fn role(&self, choice: u64) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.start();
        }
        let delta = match &self.answer.shape {
            Shape::Text | Shape::Json(_) => {
                json!({"role": "assistant", "content": "", "refusal": null})
            }
            Shape::Tool { name, .. } => {
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": 0, "id": format!("call_{}", self.seq), "type": "function", "function": function});
                json!({"role": "assistant", "content": null, "tool_calls": [call]})
            }
            Shape::Function { name, .. } => {
                json!({"role": "assistant", "content": null, "function_call": {"name": name, "arguments": ""}})
            }
        };
        self.event(&Value::Object(self.chunk(choice, &delta, None)).to_string())
    }

    fn template(&self, choice: u64) -> (String, String) {
        let delta = match &self.answer.shape {
            Shape::Text | Shape::Json(_) => json!({"content": MARK}),
            Shape::Tool { .. } => {
                json!({"tool_calls": [{"index": 0, "function": {"arguments": MARK}}]})
            }
            Shape::Function { .. } => json!({"function_call": {"arguments": MARK}}),
        };
        let chunk = Value::Object(self.chunk(choice, &delta, None)).to_string();
        let mark = format!("\"{MARK}\"");
        let (before, after) = chunk.split_once(&mark).expect("the chunk holds the mark");
        (before.to_owned(), after.to_owned())
    }

    /// The chunk that carries one piece.
    pub(super) fn piece(&self, choice: u64, piece: &str) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.piece(piece);
        }
        let index = usize::try_from(choice).expect("few choices");
        let (before, after) = &self.templates[index];
        self.event(&format!("{before}{}{after}", Value::from(piece)))
    }

    /// The last chunk of a choice.
    pub(super) fn finish(&self, choice: u64) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.finish();
        }
        let mut chunk = self.chunk(choice, &json!({}), Some(self.answer.finish));
        if self.script.usage == Usage::Groq {
            let id = format!("req_{}", self.seq);
            chunk.insert("x_groq".to_owned(), json!({"id": id, "usage": self.usage()}));
        }
        self.pad(&mut chunk);
        self.event(&Value::Object(chunk).to_string())
    }

    /// The usage chunk, when it was asked for and the script doesn't keep it back.
    pub(super) fn usage_chunk(&self) -> Option<Vec<u8>> {
        if self.call.speaks == Speaks::Messages || !self.call.include_usage || self.script.usage == Usage::Groq {
            return None;
        }
        let usage = self.usage()?;
        let mut chunk = self.object("chat.completion.chunk");
        chunk.insert("choices".to_owned(), json!([]));
        chunk.insert("usage".to_owned(), usage);
        Some(self.event(&Value::Object(chunk).to_string()))
    }

    /// The line that ends a stream.
    pub(super) fn done(&self) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.stop();
        }
        self.event("[DONE]")
    }

    /// An error in mid-stream.
    pub(super) fn error(&self) -> Vec<u8> {
        if let Some(writer) = self.messages() {
            return writer.error();
        }
        let text = "The server had an error while processing your request. Sorry about that!";
        self.event(&json!({"error": {"message": text, "type": "server_error", "param": null, "code": null}}).to_string())
    }

    fn chunk(&self, choice: u64, delta: &Value, finish: Option<&str>) -> Map<String, Value> {
        let mut chunk = self.object("chat.completion.chunk");
        let choice = json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk.insert("choices".to_owned(), json!([choice]));
        if self.call.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk
    }

    fn pad(&self, object: &mut Map<String, Value>) {
        if self.script.padding > 0 {
            object.insert("padding".to_owned(), json!("x".repeat(self.script.padding)));
        }
    }

    fn event(&self, line: &str) -> Vec<u8> {
        let end = if self.script.crlf { "\r\n" } else { "\n" };
        let comment = if self.script.comments { format!(": keep-alive{end}{end}") } else { String::new() };
        format!("{comment}data: {line}{end}{end}").into_bytes()
    }
}

/// The bill of a call whose answer was produced whole.
pub(super) fn bill(call: &Call, answer: &Answer, script: &Script, seq: u64) -> Bill {
    Bill {
        seq,
        model: call.model.clone(),
        prompt_tokens: call.prompt_tokens,
        cached_tokens: script.cached_tokens.min(call.prompt_tokens),
        written_tokens: script.written_tokens.min(call.prompt_tokens.saturating_sub(script.cached_tokens)),
        completion_tokens: answer.tokens() * call.choices,
        ended: super::book::Ended::Open,
    }
}

fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning.min(completion),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
