//! A messages request of Anthropic's API: `POST /v1/messages`, and `/v1/messages/count_tokens`, which takes the same but a limit.
//!
//! Fields and their meaning are those of platform.claude.com, "Messages", and of Anthropic's Python SDK 2.12, betas included. What
//! makes the provider sample more often than once, ask another model, or run something, is told as a tool that it hosts: nothing
//! in the request bounds what that costs. What is read of answers stands in `messages/answer.rs`.

pub(super) mod answer;
mod blocks;
mod known;
mod tools;
pub(super) mod unstream;

use super::content::each;
use super::costly::asked_for;
use super::json::{Kind, Number, Scanner};
use super::member::{Member, members};
use super::request::{self, Malformed, Reader, Request, shortened, stated};
use super::text::Text;
use aex_core::price;
use known::KNOWN;

/// Reads the body of a messages request.
///
/// # Errors
/// When it is not JSON, or no messages request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    let request = read_countable(body)?;
    if request.ask.max_tokens.is_none() {
        return Err(Malformed::field("max_tokens", "is missing"));
    }
    Ok(request)
}

/// Reads the body of a request to count tokens.
///
/// # Errors
/// When it is not JSON, or none whose size can be told.
pub fn read_countable(body: &[u8]) -> Result<Request, Malformed> {
    request::read::<Field>(body)
}

members! {
    "model" => Model,
    "messages" => Messages,
    "system" => System,
    "stream" => Stream,
    "max_tokens" => MaxTokens,
    "tools" => Tools,
    "tool_choice" => ToolChoice,
    "service_tier" => ServiceTier,
    "speed" => Speed,
    "inference_geo" => InferenceGeo,
    "temperature" => Temperature,
    "mcp_servers" => McpServers,
    "container" => Container,
    "context_management" => ContextManagement,
    "compaction" => Compaction,
    "thread" => Thread,
    "cache_control" => CacheControl,
    "thinking" => Thinking,
}

impl Member for Field {
    const KNOWN: &'static [&'static str] = KNOWN;

    fn read(self, reader: &mut Reader, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        match self {
            Field::Model => reader.model(scanner)?,
            Field::Messages => blocks::messages(scanner, &mut reader.ask)?,
            Field::System => blocks::system(scanner, &mut reader.ask)?,
            Field::Stream => reader.stream(scanner)?,
            // 0 fills the cache and answers nothing.
            Field::MaxTokens => reader.places.max_tokens = Some(reader.limit(scanner, key, "max_tokens", 0)?),
            Field::Tools => {
                tools::tools(scanner, &mut reader.ask, &mut reader.places.hosted)?;
                reader.places.hosted.list(key, scanner.at());
            }
            Field::ToolChoice => reader.ask.function_calling |= reader.places.hosted.choice(key, scanner)?,
            Field::ServiceTier => reader.tiers[0] = word(scanner, "service_tier")?,
            Field::Speed => reader.tiers[1] = word(scanner, "speed")?,
            Field::InferenceGeo => reader.tiers[2] = word(scanner, "inference_geo")?,
            Field::Temperature => reader.temperature(scanner)?,
            Field::McpServers => {
                if asked_for(scanner, "mcp_servers")? {
                    reader.tool_by_member("mcp_servers", key, scanner);
                }
            }
            Field::Container => container(reader, scanner)?,
            Field::ContextManagement => context_management(reader, scanner)?,
            Field::Compaction => {
                // One more sampling over the whole conversation, whose output nothing in the request limits.
                if stated(scanner)? {
                    reader.costly_field("compaction");
                }
            }
            Field::Thread => {
                // It may go on from what the provider keeps.
                reader.ask.attachments += u64::from(stated(scanner)?);
            }
            Field::CacheControl => blocks::cache_control(scanner, &mut reader.ask)?,
            Field::Thinking => reader.ask.hidden_tokens = thinking(scanner)?,
        }
        Ok(())
    }

    fn finish(reader: &mut Reader) -> Result<(), Malformed> {
        if !reader.has(Field::Messages) {
            return Err(Malformed::field("messages", "is missing"));
        }
        // Without the member nothing is thought.
        if !reader.has(Field::Thinking) {
            reader.ask.hidden_tokens = Some(0);
        }
        reader.ask.service_tier = price::tier(reader.tiers.iter().map(Option::as_deref));
        Ok(())
    }
}

/// A word by which the whole call is priced.
fn word(scanner: &mut Scanner<'_>, name: &str) -> Result<Option<String>, Malformed> {
    match scanner.kind()? {
        Kind::Null => {
            scanner.pass()?;
            Ok(None)
        }
        Kind::Text => Ok(Some(shortened(&scanner.text()?.unescape()))),
        _ => Err(Malformed::field(name, "must be a string")),
    }
}

/// `thinking`: how much of it there may be at most; `None` where the model decides.
fn thinking(scanner: &mut Scanner<'_>) -> Result<Option<u64>, Malformed> {
    match scanner.kind()? {
        Kind::Null => {
            scanner.pass()?;
            return Ok(Some(0));
        }
        Kind::Object => {}
        _ => return Err(Malformed::field("thinking", "must be an object")),
    }
    let (mut kind, mut budget) = (None, None);
    let mut open = scanner.object()?;
    while let Some(member) = scanner.key(&mut open)? {
        if member.is("type") && scanner.kind()? == Kind::Text {
            if kind.replace(shortened(&scanner.text()?.unescape())).is_some() {
                return Err(Malformed::field("thinking.type", "stands twice"));
            }
        } else if member.is("budget_tokens") && scanner.kind()? == Kind::Number {
            let Number::Natural(tokens) = scanner.number()? else {
                return Err(Malformed::field("thinking.budget_tokens", "must be a whole number"));
            };
            if budget.replace(tokens).is_some() {
                return Err(Malformed::field("thinking.budget_tokens", "stands twice"));
            }
        } else {
            scanner.pass()?;
        }
    }
    Ok(match kind.as_deref() {
        Some("disabled") => Some(0),
        Some("enabled") => budget,
        _ => None,
    })
}

/// `container`: the id of one that is there, or skills that the provider shall load into one.
fn container(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    if scanner.kind()? != Kind::Object {
        return Ok(scanner.pass()?);
    }
    let mut skilled = false;
    let mut open = scanner.object()?;
    while let Some(member) = scanner.key(&mut open)? {
        if member.is("skills") {
            skilled |= asked_for(scanner, "skills")?;
        } else {
            scanner.pass()?;
        }
    }
    if skilled {
        reader.costly_field("container.skills");
    }
    Ok(())
}

/// `context_management`: edits that take something away cost nothing; one that summarises is a sampling of its own.
fn context_management(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Null => return Ok(scanner.pass()?),
        Kind::Object => {}
        _ => return Err(Malformed::field("context_management", "must be an object")),
    }
    let mut costly = false;
    let mut open = scanner.object()?;
    while let Some(member) = scanner.key(&mut open)? {
        if !member.is("edits") {
            scanner.pass()?;
            continue;
        }
        each(scanner, "context_management.edits", |scanner, place| {
            let mut kind = None;
            let mut open = scanner.object()?;
            while let Some(member) = scanner.key(&mut open)? {
                if !member.is("type") || scanner.kind()? != Kind::Text {
                    scanner.pass()?;
                } else if kind.replace(shortened(&scanner.text()?.unescape())).is_some() {
                    return Err(Malformed::field(format!("{place}.type"), "stands twice"));
                }
            }
            costly |= !kind.is_some_and(|kind| kind.starts_with("clear_"));
            Ok(())
        })?;
    }
    if costly {
        reader.costly_field("context_management");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
