//! A legacy completion: `POST /v1/completions`. Its answers and chunks are read as chat's are, whose choices may hold a `text`.

use super::inputs::inputs;
use super::json::{Kind, Scanner};
use super::member::{Member, members};
use super::request::{self, Malformed, Reader, Request, count, flag, stated};
use super::text::Text;

/// Fields that are documented by OpenAI or the common servers of open models, and that cost nothing extra. Sorted.
const KNOWN: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "metadata",
    "presence_penalty",
    "prompt_cache_key",
    "safety_identifier",
    "seed",
    "stop",
    "suffix",
    "top_p",
    "user",
];

/// Reads the body of a completion request.
///
/// # Errors
/// When it is not JSON, or no completion request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    request::read::<Field>(body)
}

members! {
    "model" => Model,
    "prompt" => Prompt,
    "stream" => Stream,
    "stream_options" => StreamOptions,
    "max_tokens" => MaxTokens,
    "n" => N,
    "best_of" => BestOf,
    "echo" => Echo,
    "service_tier" => ServiceTier,
    "temperature" => Temperature,
    "messages" => Messages,
    "tools" => Tools,
    "functions" => Functions,
    "modalities" => Modalities,
    "max_completion_tokens" => MaxCompletionTokens,
}

impl Member for Field {
    const KNOWN: &'static [&'static str] = KNOWN;

    fn read(self, reader: &mut Reader, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        match self {
            Field::Model => reader.model(scanner)?,
            Field::Prompt => prompt(reader, scanner)?,
            Field::Stream => reader.stream(scanner)?,
            Field::StreamOptions => reader.stream_options(scanner)?,
            // None at all is allowed here: with `echo` it asks for the logprobs of the prompt alone.
            Field::MaxTokens => reader.places.max_tokens = Some(reader.limit(scanner, key, "max_tokens", 0)?),
            Field::N => reader.choices(scanner, "n")?,
            Field::BestOf => reader.choices(scanner, "best_of")?,
            Field::Echo => reader.echo = flag(scanner, "echo")?.unwrap_or(false),
            Field::ServiceTier => reader.service_tier(scanner)?,
            Field::Temperature => reader.temperature(scanner)?,
            // A server that read them here would get what no rule and no bound has seen.
            Field::Messages | Field::Tools | Field::Functions | Field::Modalities | Field::MaxCompletionTokens if stated(scanner)? => {
                return Err(Malformed::field(key.unescape().into_owned(), "is a field of /v1/chat/completions"));
            }
            Field::Messages | Field::Tools | Field::Functions | Field::Modalities | Field::MaxCompletionTokens => {}
        }
        Ok(())
    }

    /// Each prompt gets choices of its own, and with `echo` each choice says its prompt again.
    fn finish(reader: &mut Reader) -> Result<(), Malformed> {
        let prompts = reader.ask.messages.max(1);
        if reader.echo {
            reader.ask.prediction_bytes = reader.input_bytes.saturating_mul(reader.ask.choices);
        }
        reader.ask.choices = reader.ask.choices.saturating_mul(prompts);
        reader.no_options_without_stream()
    }
}

/// Without a prompt, or with null, a model completes the beginning of a document.
fn prompt(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    if scanner.kind()? == Kind::Null {
        return Ok(scanner.pass()?);
    }
    let prompt = inputs(scanner, "prompt")?;
    (reader.ask.messages, reader.ask.text_chars, reader.input_bytes) = (prompt.inputs, prompt.chars, count(prompt.span.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::super::stream::{StreamEditor, UsageChunk};
    use super::*;
    use aex_core::ask::Ask;
    use aex_core::usage::Usage;
    use bytes::Bytes;

    fn ask(body: &str) -> Ask {
        read(body.as_bytes()).unwrap().ask
    }

    #[test]
    fn the_known_fields_are_sorted() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn a_request_is_read_for_what_a_decision_needs() {
        let body = r#"{"model":"m","prompt":["one","three"],"n":2,"best_of":3,"echo":true,"max_tokens":7,"stream":true,"temperature":0.5,"suffix":"x",
            "service_tier":"flex","foo":1}"#;
        let expected = Ask {
            body_bytes: count(body.len()),
            choices: 6,
            max_tokens: Some(7),
            messages: 2,
            model: "m".to_owned(),
            prediction_bytes: 3 * count(r#"["one","three"]"#.len()),
            service_tier: Some("flex".to_owned()),
            stream: true,
            temperature: Some("0.5".to_owned()),
            text_chars: 8,
            unknown_fields: vec!["foo".to_owned()],
            ..Ask::default()
        };
        assert_eq!(ask(body), expected);
    }

    #[test]
    fn choices_are_the_larger_of_n_and_best_of_for_each_prompt() {
        for (body, choices) in [
            (r#"{"prompt":"a"}"#, 1),
            ("{}", 1),
            (r#"{"prompt":null,"best_of":null,"n":4}"#, 4),
            (r#"{"n":4,"best_of":2,"prompt":[[1,2],[3]]}"#, 8),
            (r#"{"best_of":5,"prompt":[1,2,3]}"#, 5),
        ] {
            assert_eq!(ask(body).choices, choices, "{body}");
        }
    }

    #[test]
    fn what_no_bound_can_be_told_of_is_refused() {
        for (body, param) in [
            (r#"{"prompt":"a","prompt":"b"}"#, Some("prompt")),
            (r#"{"prompt":{}}"#, Some("prompt")),
            (r#"{"prompt":["a",[1]]}"#, Some("prompt")),
            (r#"{"Prompt":"a"}"#, Some("Prompt")),
            (r#"{"best_of":0}"#, Some("best_of")),
            (r#"{"best_of":1e3}"#, Some("best_of")),
            (r#"{"n":129}"#, Some("n")),
            (r#"{"max_tokens":-1}"#, Some("max_tokens")),
            (r#"{"max_tokens":"5"}"#, Some("max_tokens")),
            (r#"{"echo":1}"#, Some("echo")),
            (r#"{"messages":[]}"#, Some("messages")),
            (r#"{"tools":[{"type":"web_search"}]}"#, Some("tools")),
            (r#"{"max_completion_tokens":900}"#, Some("max_completion_tokens")),
            (r#"{"stream_options":{"include_usage":true}}"#, Some("stream_options")),
            ("[]", None),
            (r#"{"n":NaN}"#, None),
        ] {
            assert_eq!(read(body.as_bytes()).map_err(|fault| fault.param), Err(param.map(str::to_owned)), "{body}");
        }
        assert_eq!(ask(r#"{"max_tokens":0}"#).max_tokens, Some(0));
        assert_eq!(ask(r#"{"tools":null,"functions":null}"#).tools, 0);
    }

    #[test]
    fn answers_and_chunks_are_metered_by_their_texts() {
        let plain = br#"{"object":"text_completion","model":"real","choices":[{"text":"four","index":0,"logprobs":{"tokens":["long"]},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
        let answer = Dialect::Completions.answer(plain).unwrap();
        assert_eq!((answer.usage, answer.relayed_output_bytes, answer.finished), (Some(Usage::text(1, 2)), 4, 1));
        let mut editor = StreamEditor::new(Dialect::Completions, "mine", 1, UsageChunk::Strip);
        let stream = concat!(
            "data: {\"model\":\"real\",\"choices\":[{\"text\":\"four\",\"index\":0,\"finish_reason\":null}],\"usage\":null}\n\n",
            "data: {\"model\":\"real\",\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"model\":\"real\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n",
            "data: [DONE]\n\n",
        );
        let relayed = editor.push(Bytes::from_static(stream.as_bytes())).bytes;
        let relayed = std::str::from_utf8(&relayed).unwrap();
        assert_eq!(relayed.matches("\"model\":\"mine\"").count(), 2);
        assert!(!relayed.contains("prompt_tokens") && relayed.ends_with("data: [DONE]\n\n"));
        let ending = editor.finish();
        assert!(ending.complete);
        assert_eq!((ending.meter.usage, ending.meter.relayed_output_bytes), (Some(Usage::text(1, 2)), 4));
    }
}
