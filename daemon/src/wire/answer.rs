//! An answer in whatever dialect, whole or one event of a stream: what it says about itself, and what the dialects' readers share.

use super::edit;
use super::edit::spliced;
use super::json::{Fault, Kind, Scanner};
use super::request::{count, shortened};
use super::said::{Field, Said};
use super::usage::{self, HostedTools};
use aex_core::usage::Usage;
use bytes::Bytes;
use std::ops::Range;

/// What an answer, or an event of a stream, says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The value of `model` with its quotes.
    pub model_span: Option<Range<usize>>,
    /// Usage, when the provider reports one that can be understood.
    pub usage: Option<Usage>,
    /// What `usage` says is not the last of it: a later event says more.
    pub usage_goes_on: bool,
    /// Whether a usage object stands there, understood or not.
    pub has_usage: bool,
    /// Whether counts stand there that cannot be understood: what they mean may be more than all that is known.
    pub has_unread_usage: bool,
    /// Whether it is an error.
    pub is_error: bool,
    /// Whether `choices` is an empty list, as in a stream's usage chunk.
    pub no_choices: bool,
    /// Bytes of output in it: texts, refusals, reasoning, calls. An output token is at least one byte, unless it is hidden.
    pub relayed_output_bytes: u64,
    /// Choices that end in it, as bits by their index.
    pub finished: u128,
    /// The service tier that it names.
    pub service_tier: Option<String>,
    /// Whether it is the last event of its stream.
    pub ends: bool,
    /// The number of an event in its stream, where the dialect counts them.
    pub sequence: Option<u64>,
    /// What the provider keeps, where the dialect has it store answers.
    pub kept: Option<Box<Kept>>,
    /// Calls of tools that the provider ran, where they are told beside the usage object.
    pub tools: HostedTools,
    /// Whether the model may be writing what no event has shown yet, where the dialect tells that.
    pub is_hiding: Option<bool>,
    /// Whether the model's name differs from the one that the reader was given.
    pub foreign_model: bool,
}

/// The answer under the name of the model that the client used.
#[must_use]
pub fn splice_model(body: &Bytes, span: &Range<usize>, client_name: &str) -> Bytes {
    let name = edit::quoted(client_name);
    if body.get(span.clone()) == Some(name.as_bytes()) { body.clone() } else { spliced(body, &[(span.clone(), name)]) }
}

/// Reads the object at the scanner's place, which is the whole text, member by member: `member` reads or passes each value.
///
/// # Errors
/// When the text is not JSON.
pub(super) fn object(
    scanner: &mut Scanner<'_>,
    mut member: impl FnMut(&mut Answer, &str, &mut Scanner<'_>) -> Result<(), Fault>,
) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        member(&mut answer, &key.unescape(), scanner)?;
    }
    scanner.finish()?;
    if let Some(usage) = &mut answer.usage {
        std::mem::take(&mut answer.tools).add_to(usage);
    }
    if let (Some(usage), Some(tier)) = (&mut answer.usage, &answer.service_tier) {
        usage::tiered(usage, tier);
    }
    Ok(answer)
}

/// A response that a provider may have stored, by the names that it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The response; empty when it has no name.
    pub id: String,
    /// Items of its output, at most [`Kept::MOST_ITEMS`].
    pub items: Vec<String>,
    /// When the provider made it, in seconds since 1970.
    pub created_at: u64,
}

impl Kept {
    /// Items of one response that are kept by name.
    pub const MOST_ITEMS: usize = 1_024;

    /// Adds an item, once.
    pub(super) fn add_item(&mut self, item: String) {
        if self.items.len() < Kept::MOST_ITEMS && !self.items.contains(&item) {
            self.items.push(item);
        }
    }

    /// Adds what a later event tells.
    pub(super) fn add(&mut self, later: Kept) {
        if !later.id.is_empty() {
            self.id = later.id;
        }
        if later.created_at > 0 {
            self.created_at = later.created_at;
        }
        later.items.into_iter().for_each(|item| self.add_item(item));
    }
}

impl Answer {
    /// Reads `model`. `client_model` is what it should say.
    pub(super) fn model(&mut self, scanner: &mut Scanner<'_>, client_model: Option<&str>) -> Result<(), Fault> {
        if scanner.kind()? == Kind::Text {
            let model = scanner.text()?;
            self.foreign_model = client_model.is_some_and(|client| !model.is(client));
            self.model_span = Some(model.span());
        } else {
            scanner.skip()?;
        }
        Ok(())
    }

    /// Reads `error`: an error is anything but null.
    pub(super) fn error(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        self.is_error |= scanner.kind()? != Kind::Null;
        scanner.pass()
    }

    /// Reads `service_tier`.
    pub(super) fn service_tier(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        self.service_tier = service_tier(scanner)?;
        Ok(())
    }

    /// Reads `usage`.
    pub(super) fn usage(
        &mut self,
        scanner: &mut Scanner<'_>,
        read: impl FnOnce(&mut Scanner<'_>) -> Result<Option<Usage>, Fault>,
    ) -> Result<(), Fault> {
        let (read, tells) = self.usage_object(scanner, read)?;
        match read {
            // The same usage may stand in two places.
            Some(usage) => self.usage = Some(self.usage.as_ref().map_or_else(|| usage.clone(), |before| usage::later(before, &usage))),
            None => self.has_unread_usage |= tells,
        }
        Ok(())
    }

    /// Reads the value of `usage` by `read`; and whether it is an object that tells any count.
    pub(super) fn usage_object<T>(
        &mut self,
        scanner: &mut Scanner<'_>,
        read: impl FnOnce(&mut Scanner<'_>) -> Result<T, Fault>,
    ) -> Result<(T, bool), Fault> {
        let is_object = scanner.kind()? == Kind::Object;
        let start = scanner.at();
        self.has_usage |= is_object;
        let read = read(scanner)?;
        let tells = is_object && tells_counts(scanner.whole().get(start..scanner.at()).unwrap_or_default());
        Ok((read, tells))
    }

    /// Counts a value as output, and keeps it when it is a text.
    pub(super) fn say(&mut self, said: &mut Said, field: Field, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let bytes = said_bytes(said, field, scanner)?;
        self.add(bytes);
        Ok(())
    }

    /// Counts output.
    pub(super) fn add(&mut self, bytes: usize) {
        self.relayed_output_bytes = self.relayed_output_bytes.saturating_add(count(bytes));
    }
}

/// Whether any number but zero, or a text that may hold one, is a value in a JSON object.
fn tells_counts(object: &str) -> bool {
    let is_count = |byte: u8| (b'1'..=b'9').contains(&byte);
    let (mut bytes, mut is_key) = (object.bytes(), true);
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let mut counts = false;
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    counts |= is_count(byte);
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
                if counts && !is_key {
                    return true;
                }
            }
            b':' => is_key = false,
            b',' | b'{' => is_key = true,
            byte if is_count(byte) => return true,
            _ => {}
        }
    }
    false
}

/// A name; of what is none, its text, which no tier is called.
fn service_tier(scanner: &mut Scanner<'_>) -> Result<Option<String>, Fault> {
    let name = match scanner.kind()? {
        Kind::Text => scanner.text()?.unescape().into_owned(),
        Kind::Null => {
            scanner.skip()?;
            return Ok(None);
        }
        _ => {
            let span = scanner.skip()?;
            scanner.whole().get(span).unwrap_or_default().to_owned()
        }
    };
    Ok(Some(shortened(&name)).filter(|name| !name.is_empty()))
}

/// The same as [`value_bytes`]; a text is kept, too.
pub(super) fn said_bytes(said: &mut Said, field: Field, scanner: &mut Scanner<'_>) -> Result<usize, Fault> {
    if scanner.kind()? != Kind::Text {
        return value_bytes(scanner);
    }
    let text = scanner.text()?;
    said.piece(field, &text);
    Ok(text.raw.len())
}

/// Bytes of a value as it is written: a string without its quotes, nothing for null, all of anything else.
pub(super) fn value_bytes(scanner: &mut Scanner<'_>) -> Result<usize, Fault> {
    match scanner.kind()? {
        Kind::Text => Ok(scanner.text()?.raw.len()),
        Kind::Null => scanner.skip().map(|_| 0),
        _ => Ok(scanner.skip()?.len()),
    }
}
