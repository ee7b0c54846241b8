//! A whole answer as the stream that the client asked for: a policy may take streams away from the provider's side only.
//!
//! Reads the answer into a document: few calls come here, and each is in memory whole already.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The events of a stream that says what a chat answer says; `None` when it is none.
#[must_use]
pub fn chat(body: &[u8], with_usage: bool) -> Option<Bytes> {
    chunks(body, with_usage, "chat.completion.chunk", |events, choice| {
        let index = choice.get("index").cloned().unwrap_or(json!(0));
        events.push(&json!([chunk_choice(&index, delta(choice), choice.get("logprobs"), Value::Null)]), Value::Null);
        let finish = choice.get("finish_reason").cloned().unwrap_or(json!("stop"));
        events.push(&json!([chunk_choice(&index, json!({}), None, finish)]), Value::Null);
    })
}

/// The same for a completion: a chunk has the form of a whole answer.
#[must_use]
pub fn completions(body: &[u8], with_usage: bool) -> Option<Bytes> {
    chunks(body, with_usage, "text_completion", |events, choice| events.push(&json!([choice]), Value::Null))
}

fn chunks(body: &[u8], with_usage: bool, object: &str, say: impl Fn(&mut Events, &Value)) -> Option<Bytes> {
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let choices = answer.get("choices")?.as_array()?;
    let mut events = Events { head: head(&answer, object), with_usage, text: String::new() };
    for choice in choices {
        say(&mut events, choice);
    }
    if with_usage {
        events.push(&json!([]), answer.get("usage").cloned().unwrap_or(Value::Null));
    }
    events.text.push_str("data: [DONE]\n\n");
    Some(Bytes::from(events.text))
}

/// What each chunk repeats of the answer.
fn head(answer: &Map<String, Value>, object: &str) -> Map<String, Value> {
    let not_repeated = ["choices", "usage", "object"];
    let mut head: Map<String, Value> = answer
        .iter()
        .filter(|(name, _)| !not_repeated.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    head.insert("object".to_owned(), json!(object));
    head
}

/// A message as the one delta that says it; its tool calls are numbered as in a stream.
fn delta(choice: &Value) -> Value {
    let mut message = choice.get("message").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
        for (index, call) in calls.iter_mut().enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.insert("index".to_owned(), json!(index));
            }
        }
    }
    message.entry("role").or_insert(json!("assistant"));
    Value::Object(message)
}

fn chunk_choice(index: &Value, delta: Value, logprobs: Option<&Value>, finish: Value) -> Value {
    json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})
}

struct Events {
    head: Map<String, Value>,
    with_usage: bool,
    text: String,
}

impl Events {
    fn push(&mut self, choices: &Value, usage: Value) {
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), choices.clone());
        if self.with_usage {
            chunk.insert("usage".to_owned(), usage);
        }
        self.text.extend(["data: ", &Value::Object(chunk).to_string(), "\n\n"]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::super::stream::{Ending, StreamEditor, UsageChunk};
    use super::*;
    use aex_core::usage::Usage;

    const ANSWER: &str = r#"{"id":"x","object":"chat.completion","created":5,"model":"m","system_fingerprint":"f","choices":[
        {"index":0,"message":{"role":"assistant","content":"four\nlines","refusal":null},"logprobs":null,"finish_reason":"stop"},
        {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
        {"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}],
        "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

    fn chunks(with_usage: bool) -> Vec<Value> {
        let text = chat(ANSWER.as_bytes(), with_usage).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"));
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        events.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn a_whole_answer_becomes_chunks_that_say_the_same() {
        let chunks = chunks(false);
        assert_eq!(chunks.len(), 4);
        assert!(
            chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == "x" && chunk.get("usage").is_none())
        );
        let delta = &chunks[0]["choices"][0]["delta"];
        assert_eq!((&delta["role"], &delta["content"]), (&json!("assistant"), &json!("four\nlines")));
        assert_eq!(chunks[1]["choices"][0], json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}));
        let calls = &chunks[2]["choices"][0]["delta"]["tool_calls"];
        assert_eq!((&calls[0]["index"], &calls[1]["index"], &calls[1]["function"]["name"]), (&json!(0), &json!(1), &json!("g")));
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn its_usage_chunk_is_there_for_a_client_that_asked_and_a_stream_editor_reads_it() {
        let all = chunks(true);
        assert_eq!((&all[4]["choices"], &all[4]["usage"]["total_tokens"]), (&json!([]), &json!(3)));
        assert!(all.iter().take(4).all(|chunk| chunk["usage"].is_null()));
        let mut editor = StreamEditor::new(Dialect::Chat, "m", 2, UsageChunk::Pass);
        assert!(editor.push(chat(ANSWER.as_bytes(), true).unwrap()).fault.is_none());
        let ending = editor.finish();
        assert!(ending.complete);
        assert_eq!(ending.meter.usage, Some(Usage::text(1, 2)));
    }

    #[test]
    fn what_is_no_chat_answer_stays_as_it_is() {
        for body in ["[]", "{}", r#"{"error":{}}"#, "<html>"] {
            assert_eq!(chat(body.as_bytes(), true), None);
        }
    }

    #[test]
    fn a_whole_completion_becomes_chunks_that_say_the_same() {
        let answer = r#"{"id":"x","object":"text_completion","model":"m","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":"stop"},
            {"text":"b","index":1,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
        let stream = completions(answer.as_bytes(), true).unwrap();
        assert_eq!(std::str::from_utf8(&stream).unwrap().matches("\"object\":\"text_completion\"").count(), 3);
        let mut editor = StreamEditor::new(Dialect::Completions, "m", 2, UsageChunk::Pass);
        assert!(editor.push(stream).fault.is_none());
        let Ending { complete, meter, .. } = editor.finish();
        assert!(complete);
        assert_eq!((meter.usage, meter.relayed_output_bytes), (Some(Usage::text(1, 2)), 2));
    }
}
