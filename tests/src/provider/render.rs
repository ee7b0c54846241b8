//! Chat answers and chunks as the bytes that OpenAI sends, and what other endpoints share of them. Pure.

use serde_json::{Map, Value, json};

use super::api::Voice;
use super::book::Bill;
use super::chat::{Answer, Call, Shape};
use super::script::{Script, Usage};

// A fixed date: equal calls get equal bytes.
pub(super) const CREATED: u64 = 1_760_000_000;
const MARK: &str = "@piece@";

/// What all answers of OpenAI's older endpoints have in common.
pub(super) struct Frame<'a> {
    pub(super) call: &'a Call,
    pub(super) answer: &'a Answer,
    pub(super) script: &'a Script,
    pub(super) seq: u64,
    /// What ids begin with.
    pub(super) id: &'static str,
}

impl Frame<'_> {
    pub(super) fn model(&self) -> &str {
        self.script.model.as_deref().unwrap_or(&self.call.model)
    }

    pub(super) fn object(&self, kind: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".to_owned(), json!(format!("{}-{}", self.id, self.seq)));
        object.insert("object".to_owned(), json!(kind));
        object.insert("created".to_owned(), json!(CREATED));
        object.insert("model".to_owned(), json!(self.model()));
        object.insert("system_fingerprint".to_owned(), json!("fp_scripted"));
        object.extend(self.script.extra.clone());
        object
    }

    /// What the answer says about tokens, if anything.
    pub(super) fn usage(&self) -> Option<Value> {
        match &self.script.usage {
            Usage::Missing => None,
            Usage::Zero => Some(usage(0, 0, 0, 0)),
            Usage::Raw(value) => Some(value.clone()),
            Usage::Truth | Usage::Groq => {
                let bill = bill(self.call, self.answer, self.script, self.seq);
                let reasoning = self.script.reasoning_tokens * self.call.drawn;
                Some(usage(bill.prompt_tokens, bill.cached_tokens, bill.completion_tokens, reasoning))
            }
        }
    }

    pub(super) fn usage_chunk(&self, kind: &str) -> Vec<u8> {
        if !self.call.include_usage || self.script.usage == Usage::Groq {
            return Vec::new();
        }
        let Some(usage) = self.usage() else { return Vec::new() };
        let mut chunk = self.object(kind);
        chunk.insert("choices".to_owned(), json!([]));
        chunk.insert("usage".to_owned(), usage);
        self.event(&Value::Object(chunk).to_string())
    }

    pub(super) fn error(&self) -> Vec<u8> {
        let text = "The server had an error while processing your request. Sorry about that!";
        self.event(&json!({"error": {"message": text, "type": "server_error", "param": null, "code": null}}).to_string())
    }

    pub(super) fn pad(&self, object: &mut Map<String, Value>) {
        if self.script.padding > 0 {
            object.insert("padding".to_owned(), json!("x".repeat(self.script.padding)));
        }
    }

    pub(super) fn event(&self, line: &str) -> Vec<u8> {
        let end = if self.script.crlf { "\r\n" } else { "\n" };
        let comment = if self.script.comments { format!(": keep-alive{end}{end}") } else { String::new() };
        format!("{comment}data: {line}{end}{end}").into_bytes()
    }
}

/// Renders one call's answer.
pub(super) struct Renderer<'a> {
    call: &'a Call,
    answer: &'a Answer,
    script: &'a Script,
    seq: u64,
    frame: Frame<'a>,
    /// The bytes before and after a piece, for each choice.
    templates: Vec<(String, String)>,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Self {
        let frame = Frame { call, answer, script, seq, id: "chatcmpl" };
        let mut renderer = Self { call, answer, script, seq, frame, templates: Vec::new() };
        if call.stream {
            let templates = (0..call.choices).map(|choice| renderer.template(choice));
            renderer.templates = templates.collect();
        }
        renderer
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

    fn chunk(&self, choice: u64, delta: &Value, finish: Option<&str>) -> Map<String, Value> {
        let mut chunk = self.frame.object("chat.completion.chunk");
        let choice = json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk.insert("choices".to_owned(), json!([choice]));
        if self.call.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk
    }
}

impl Voice for Renderer<'_> {
    fn plain(&self) -> Vec<u8> {
        let message = self.message();
        let choice = |index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.answer.finish});
        let mut object = self.frame.object("chat.completion");
        object.insert("choices".to_owned(), (0..self.call.choices).map(choice).collect());
        if let Some(usage) = self.frame.usage() {
            if self.script.usage == Usage::Groq {
                object.insert("x_groq".to_owned(), json!({"id": format!("req_{}", self.seq), "usage": usage}));
            }
            object.insert("usage".to_owned(), usage);
        }
        self.frame.pad(&mut object);
        Value::Object(object).to_string().into_bytes()
    }

    fn role(&self, choice: u64) -> Vec<u8> {
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
        self.frame.event(&Value::Object(self.chunk(choice, &delta, None)).to_string())
    }

    fn piece(&self, choice: u64, index: usize) -> Vec<u8> {
        let (before, after) = &self.templates[usize::try_from(choice).expect("few choices")];
        self.frame.event(&format!("{before}{}{after}", Value::from(self.answer.pieces[index].as_str())))
    }

    fn finish(&self, choice: u64) -> Vec<u8> {
        let mut chunk = self.chunk(choice, &json!({}), Some(self.answer.finish));
        if self.script.usage == Usage::Groq {
            let id = format!("req_{}", self.seq);
            chunk.insert("x_groq".to_owned(), json!({"id": id, "usage": self.frame.usage()}));
        }
        self.frame.pad(&mut chunk);
        self.frame.event(&Value::Object(chunk).to_string())
    }

    fn usage_chunk(&self) -> Vec<u8> {
        self.frame.usage_chunk("chat.completion.chunk")
    }

    fn done(&self) -> Vec<u8> {
        self.frame.event("[DONE]")
    }

    fn error(&self) -> Vec<u8> {
        self.frame.error()
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
        completion_tokens: answer.tokens() * call.drawn,
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
