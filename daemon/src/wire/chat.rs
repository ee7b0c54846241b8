//! A chat request: `POST /v1/chat/completions`. What is read of its answers stands in `chat/answer.rs`.

pub(super) mod answer;
mod known;

use super::content::{self, Contents};
use super::json::{Kind, Scanner};
use super::member::{Member, members};
use super::request::{self, Malformed, Reader, Request, keep, stated};
use super::text::Text;
use known::KNOWN;

/// Reads the body of a chat request.
///
/// # Errors
/// When it is not JSON, or no chat request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    request::read::<Field>(body)
}

members! {
    "model" => Model,
    "messages" => Messages,
    "stream" => Stream,
    "stream_options" => StreamOptions,
    "max_tokens" => MaxTokens,
    "max_completion_tokens" => MaxCompletionTokens,
    "n" => N,
    "best_of" => BestOf,
    "tools" => Tools,
    "functions" => Functions,
    "tool_choice" => ToolChoice,
    "function_call" => FunctionCall,
    "service_tier" => ServiceTier,
    "prediction" => Prediction,
    "modalities" => Modalities,
    "audio" => Audio,
    "temperature" => Temperature,
    "extra_body" => ExtraBody,
    "reasoning_effort" => ReasoningEffort,
}

impl Member for Field {
    const KNOWN: &'static [&'static str] = KNOWN;

    fn read(self, reader: &mut Reader, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        match self {
            Field::Model => reader.model(scanner)?,
            Field::Messages => messages(reader, scanner)?,
            Field::Stream => reader.stream(scanner)?,
            Field::StreamOptions => reader.stream_options(scanner)?,
            Field::MaxTokens => reader.places.max_tokens = Some(reader.limit(scanner, key, "max_tokens", 1)?),
            Field::MaxCompletionTokens => {
                reader.places.max_completion_tokens = Some(reader.limit(scanner, key, "max_completion_tokens", 1)?);
            }
            Field::N => reader.choices(scanner, "n")?,
            // Of vLLM and others.
            Field::BestOf => reader.choices(scanner, "best_of")?,
            Field::Tools => {
                content::tools(scanner, &mut reader.ask, &mut reader.places.hosted)?;
                reader.places.hosted.list(key, scanner.at());
            }
            Field::Functions => content::functions(scanner, &mut reader.ask)?,
            Field::ToolChoice => reader.ask.function_calling |= reader.places.hosted.choice(key, scanner)?,
            Field::FunctionCall => reader.ask.function_calling |= stated(scanner)?,
            Field::ServiceTier => reader.service_tier(scanner)?,
            Field::Prediction => reader.ask.prediction_bytes = content::prediction(scanner)?,
            Field::Modalities => content::modalities(scanner, &mut reader.ask)?,
            Field::Audio => reader.ask.audio_out |= stated(scanner)?,
            Field::Temperature => reader.temperature(scanner)?,
            Field::ExtraBody => extra_body(reader, scanner)?,
            Field::ReasoningEffort => reader.effort(scanner)?,
        }
        Ok(())
    }

    fn finish(reader: &mut Reader) -> Result<(), Malformed> {
        if !reader.has(Field::Messages) {
            return Err(Malformed::field("messages", "is missing"));
        }
        reader.doubt_effort();
        reader.no_options_without_stream()
    }
}

fn messages(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    let Contents { messages, chars, images, audio, attachments, lifetimes } = content::messages(scanner)?;
    let ask = &mut reader.ask;
    lifetimes.iter().for_each(|lifetime| ask.write_cache(lifetime));
    (ask.messages, ask.text_chars, ask.images, ask.audio_in) = (messages, chars, images, audio);
    ask.attachments += attachments;
    Ok(())
}

/// Gemini's own fields, as its API for OpenAI's clients takes them: a cached content stands before the messages, and bytes do not show
/// how long it is (ai.google.dev, "OpenAI compatibility"). The rest of it is as unknown as any other field.
fn extra_body(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    keep(&mut reader.ask.unknown_fields, "extra_body");
    members(scanner, |scanner, key| {
        if !key.is("google") {
            return Ok(scanner.pass()?);
        }
        members(scanner, |scanner, key| {
            let is_named = key.is("cached_content") || key.is("cachedContent");
            reader.ask.attachments += u64::from(stated(scanner)? && is_named);
            Ok(())
        })
    })
}

/// Calls `read` at each member of an object; anything else is passed.
fn members<'a>(
    scanner: &mut Scanner<'a>,
    mut read: impl FnMut(&mut Scanner<'a>, &Text<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if scanner.kind()? != Kind::Object {
        return Ok(scanner.pass()?);
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        read(scanner, &key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
