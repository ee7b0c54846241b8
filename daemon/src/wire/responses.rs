//! OpenAI's Responses: `POST /v1/responses`. Fields, items and events are those of the openai Python SDK 3.52.
//!
//! Refuses what would be billed or read behind the daemon's back: answers that go on in the background, and conversations,
//! which belong to nobody that the daemon knows.

pub(super) mod answer;
mod items;
mod tools;
pub(super) mod unstream;

use super::json::{Kind, Scanner};
use super::member::{Member, members};
use super::request::{self, Malformed, Reader, Request, count, flag, natural, stated};
use super::text::Text;
use aex_core::ask::Reference;

/// The most calls of tools that a request may allow.
const MAX_TOOL_CALLS: u64 = 1 << 16;
/// Fields that are documented by OpenAI or sent by Codex, and that cost nothing extra. Sorted.
const KNOWN: &[&str] = &[
    "access_programs",
    "client_metadata",
    "image",
    "include",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "text",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Reads the body of a request for a response.
///
/// # Errors
/// When it is not JSON, or no request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    request::read::<Field>(body)
}

members! {
    "model" => Model,
    "input" => Input,
    "instructions" => Instructions,
    "stream" => Stream,
    "stream_options" => StreamOptions,
    "max_output_tokens" => MaxOutputTokens,
    "tools" => Tools,
    "tool_choice" => ToolChoice,
    "max_tool_calls" => MaxToolCalls,
    "service_tier" => ServiceTier,
    "temperature" => Temperature,
    "previous_response_id" => PreviousResponseId,
    "conversation" => Conversation,
    "prompt" => Prompt,
    "background" => Background,
    "store" => Store,
    "moderation" => Moderation,
    "context_management" => ContextManagement,
    "reasoning" => Reasoning,
}

impl Member for Field {
    const KNOWN: &'static [&'static str] = KNOWN;

    fn read(self, reader: &mut Reader, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        match self {
            Field::Model => reader.model(scanner)?,
            Field::Input => items::input(reader, scanner)?,
            Field::Instructions => instructions(reader, scanner)?,
            Field::Stream => reader.stream(scanner)?,
            Field::StreamOptions => reader.stream_options(scanner)?,
            Field::MaxOutputTokens => reader.places.max_tokens = Some(reader.limit(scanner, key, "max_output_tokens", 1)?),
            Field::Tools => {
                tools::tools(scanner, &mut reader.ask, &mut reader.places.hosted)?;
                reader.places.hosted.list(key, scanner.at());
            }
            Field::ToolChoice => reader.ask.function_calling |= reader.places.hosted.choice(key, scanner)?,
            Field::MaxToolCalls => reader.ask.max_tool_calls = natural(scanner, "max_tool_calls", 0..=MAX_TOOL_CALLS)?.0,
            Field::ServiceTier => reader.service_tier(scanner)?,
            Field::Temperature => reader.temperature(scanner)?,
            Field::PreviousResponseId => previous(reader, scanner)?,
            Field::Conversation => conversation(scanner)?,
            // A stored prompt may bring tools of the provider along. What a moderation or a compaction costs is not known either.
            // Without any of them the request is another one, so no list takes them out.
            Field::Prompt => {
                if stated(scanner)? {
                    reader.ask.offer_hosted("stored/prompt".to_owned(), None);
                }
            }
            Field::Moderation => costly(reader, scanner, "moderation")?,
            Field::ContextManagement => costly(reader, scanner, "context_management")?,
            Field::Background => background(scanner)?,
            Field::Reasoning => reasoning(reader, scanner)?,
            Field::Store => reader.stores = flag(scanner, "store")?.unwrap_or(true),
        }
        Ok(())
    }

    fn finish(reader: &mut Reader) -> Result<(), Malformed> {
        // Stored unless the request says otherwise.
        reader.stores |= !reader.has(Field::Store);
        reader.doubt_effort();
        reader.no_options_without_stream()
    }
}

fn instructions(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => {
            reader.ask.text_chars += count(scanner.text()?.chars());
            reader.ask.messages += 1;
            Ok(())
        }
        Kind::Null => Ok(scanner.pass()?),
        _ => Err(Malformed::field("instructions", "must be a string")),
    }
}

/// What came before does not show in the bytes: the model's context bounds it.
fn previous(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => {
            reader.ask.attachments += 1;
            let id = scanner.text()?.unescape().into_owned();
            reader.refer(Reference::Response(id))
        }
        Kind::Null => Ok(scanner.pass()?),
        _ => Err(Malformed::field("previous_response_id", "must be a string")),
    }
}

fn conversation(scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    if stated(scanner)? {
        return Err(Malformed::field("conversation", "is not served: a conversation has no owner here; use `previous_response_id`"));
    }
    Ok(())
}

fn background(scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    if flag(scanner, "background")? == Some(true) {
        return Err(Malformed::field("background", "must be false: an answer that is made later would be billed when nobody meters it"));
    }
    Ok(())
}

/// How hard the model is to think.
fn reasoning(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    if scanner.kind()? != Kind::Object {
        return Ok(scanner.pass()?);
    }
    let mut met = false;
    let mut open = scanner.object()?;
    while let Some(member) = scanner.key(&mut open)? {
        if !member.is("effort") {
            scanner.pass()?;
        } else if std::mem::replace(&mut met, true) {
            return Err(Malformed::field("reasoning.effort", "stands twice"));
        } else {
            reader.effort(scanner)?;
        }
    }
    Ok(())
}

fn costly(reader: &mut Reader, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Malformed> {
    if stated(scanner)? {
        reader.costly_field(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
