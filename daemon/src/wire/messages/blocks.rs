//! Content blocks of Anthropic's API: what the system prompt and the messages of a request hold.
//!
//! Counts for the decision and keeps nothing of the texts. A block whose type is not known may stand for more than its bytes
//! show, and counts as an attachment.

use super::tools;
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, count, shortened};
use crate::wire::text::Text;
use aex_core::ask::Ask;

/// Types of blocks, and of what stands inside them, whose bytes are no fewer than their tokens. Encrypted ones hold what they
/// stand for. From the types of Anthropic's Python SDK 2.12. Sorted.
const SHOWN: &[&str] = &[
    "advisor_redacted_result",
    "advisor_result",
    "advisor_tool_result",
    "advisor_tool_result_error",
    "bash_code_execution_output",
    "bash_code_execution_result",
    "bash_code_execution_tool_result",
    "bash_code_execution_tool_result_error",
    "browser_state",
    "code_execution_output",
    "code_execution_result",
    "code_execution_tool_result",
    "code_execution_tool_result_error",
    "compaction",
    "connector_text",
    "encrypted_code_execution_result",
    "fallback",
    "mcp_tool_listing",
    "mcp_tool_result",
    "mcp_tool_use",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "text",
    "text_editor_code_execution_create_result",
    "text_editor_code_execution_str_replace_result",
    "text_editor_code_execution_tool_result",
    "text_editor_code_execution_tool_result_error",
    "text_editor_code_execution_view_result",
    "thinking",
    "tool_addition",
    "tool_reference",
    "tool_removal",
    "tool_result",
    "tool_search_tool_result",
    "tool_search_tool_result_error",
    "tool_search_tool_search_result",
    "tool_use",
    "web_fetch_result",
    "web_fetch_tool_result",
    "web_fetch_tool_result_error",
    "web_search_result",
    "web_search_tool_result",
    "web_search_tool_result_error",
];

/// Reads `system`: a text, or a list of blocks.
pub(super) fn system(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    content(scanner, &mut Blocks { ask, place: Place::System })
}

/// Reads `messages`: a list of objects.
pub(super) fn messages(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    if scanner.kind()? != Kind::List {
        return Err(Malformed::field("messages", "must be a list"));
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        let mut blocks = Blocks { place: Place::Message(ask.messages), ask };
        if scanner.kind()? != Kind::Object {
            return Err(blocks.fault("", "must be an object"));
        }
        let mut seen = false;
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            if !key.is("content") {
                scanner.pass()?;
                continue;
            }
            if seen {
                return Err(blocks.fault(".content", "stands twice"));
            }
            seen = true;
            content(scanner, &mut blocks)?;
        }
        ask.messages += 1;
    }
    Ok(())
}

/// Reads a `cache_control`: what stands before it is written to the provider's cache, for 5 minutes when it says nothing else.
pub(super) fn cache_control(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    if scanner.kind()? != Kind::Object {
        return Ok(scanner.pass()?);
    }
    let mut lifetime = None;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if !key.is("ttl") {
            scanner.pass()?;
            continue;
        }
        let stated = scanner.kind()? != Kind::Null;
        let span = scanner.skip()?;
        let written = scanner.whole().get(span).unwrap_or_default();
        if stated && lifetime.replace(written.trim_matches('"')).is_some() {
            return Err(Malformed::field("cache_control.ttl", "stands twice"));
        }
    }
    ask.write_cache(&shortened(lifetime.unwrap_or("5m")));
    Ok(())
}

/// Where blocks stand, for the words of a fault.
#[derive(Clone, Copy)]
enum Place {
    System,
    Message(u64),
}

struct Blocks<'r> {
    ask: &'r mut Ask,
    place: Place,
}

impl Blocks<'_> {
    fn fault(&self, member: &str, what: &str) -> Malformed {
        match self.place {
            Place::System => Malformed::field(format!("system{}", member.strip_prefix(".content").unwrap_or(member)), what),
            Place::Message(at) => Malformed::field(format!("messages[{at}]{member}"), what),
        }
    }

    fn chars(&mut self, text: &Text<'_>) {
        self.ask.text_chars = self.ask.text_chars.saturating_add(count(text.chars()));
    }
}

/// A text, a list of blocks, one block, or null.
fn content(scanner: &mut Scanner<'_>, blocks: &mut Blocks<'_>) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => blocks.chars(&scanner.text()?),
        Kind::Null => scanner.pass()?,
        // The result of a tool that the provider ran is one object, or its error.
        Kind::Object => block(scanner, blocks)?,
        Kind::List => {
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                if scanner.kind()? != Kind::Object {
                    return Err(blocks.fault(".content", "must hold objects"));
                }
                block(scanner, blocks)?;
            }
        }
        _ => return Err(blocks.fault(".content", "must be a string or a list of blocks")),
    }
    Ok(())
}

/// Members of a block that are looked at; each may stand once. Numbers are bits.
#[derive(Clone, Copy)]
enum Looked {
    Type,
    Text,
    Thinking,
    Content,
    Source,
    Tool,
    ToolChanges,
    CacheControl,
}

impl Looked {
    fn of(key: &Text<'_>) -> Option<Looked> {
        Some(match &*key.unescape() {
            "type" => Looked::Type,
            "text" => Looked::Text,
            "thinking" => Looked::Thinking,
            "content" => Looked::Content,
            "source" => Looked::Source,
            "tool" => Looked::Tool,
            "tool_changes" => Looked::ToolChanges,
            "cache_control" => Looked::CacheControl,
            _ => return None,
        })
    }
}

fn block(scanner: &mut Scanner<'_>, blocks: &mut Blocks<'_>) -> Result<(), Malformed> {
    let mut kind: Option<Text<'_>> = None;
    let mut source = None;
    let mut seen = 0_u32;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let Some(looked) = Looked::of(&key) else {
            scanner.pass()?;
            continue;
        };
        if seen & (1 << looked as u32) != 0 {
            return Err(blocks.fault(&format!(".content[].{}", key.unescape()), "stands twice"));
        }
        seen |= 1 << looked as u32;
        match (looked, scanner.kind()?) {
            (Looked::Type, Kind::Text) => kind = Some(scanner.text()?),
            (Looked::Type, _) => return Err(blocks.fault(".content[].type", "must be a string")),
            (Looked::Text | Looked::Thinking, Kind::Text) => blocks.chars(&scanner.text()?),
            (Looked::Content, _) => content(scanner, blocks)?,
            (Looked::Source, Kind::Object) => source = Some(read_source(scanner, blocks)?),
            (Looked::Tool, Kind::Object) => added_tool(scanner, blocks)?,
            (Looked::ToolChanges, Kind::List) => content(scanner, blocks)?,
            (Looked::CacheControl, _) => cache_control(scanner, blocks.ask)?,
            // The source of a search result is its address.
            _ => scanner.pass()?,
        }
    }
    let Some(kind) = kind else { return Err(blocks.fault(".content[].type", "is missing")) };
    let kind = kind.unescape();
    if &*kind == "image" {
        blocks.ask.images += 1;
    } else if source == Some(Source::Hidden) || !(&*kind == "document" && source.is_some() || SHOWN.binary_search(&&*kind).is_ok()) {
        blocks.ask.attachments += 1;
    }
    Ok(())
}

/// Where a document's content is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Here, as text or as blocks.
    Shown,
    /// In a file, at an address, or encoded.
    Hidden,
}

fn read_source(scanner: &mut Scanner<'_>, blocks: &mut Blocks<'_>) -> Result<Source, Malformed> {
    let mut kind: Option<Text<'_>> = None;
    let mut data = None;
    let mut has_content = false;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let at = scanner.kind()?;
        let twice = if key.is("type") && at == Kind::Text {
            kind.replace(scanner.text()?).is_some()
        } else if key.is("data") && at == Kind::Text {
            data.replace(scanner.text()?).is_some()
        } else if key.is("content") {
            content(scanner, blocks)?;
            std::mem::replace(&mut has_content, true)
        } else {
            scanner.pass()?;
            false
        };
        if twice {
            return Err(blocks.fault(&format!(".content[].source.{}", key.unescape()), "stands twice"));
        }
    }
    match kind {
        Some(kind) if kind.is("content") => Ok(Source::Shown),
        Some(kind) if kind.is("text") => {
            if let Some(text) = data {
                blocks.chars(&text);
            }
            Ok(Source::Shown)
        }
        _ => Ok(Source::Hidden),
    }
}

/// A tool that joins the conversation: named, or defined here.
fn added_tool(scanner: &mut Scanner<'_>, blocks: &mut Blocks<'_>) -> Result<(), Malformed> {
    let mut seen = false;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if !key.is("definition") || scanner.kind()? != Kind::Object {
            scanner.pass()?;
            continue;
        }
        if seen {
            return Err(blocks.fault(".content[].tool.definition", "stands twice"));
        }
        seen = true;
        let place = blocks.fault(".content[].tool.definition", "").param.unwrap_or_default();
        tools::added(scanner, blocks.ask, &place)?;
    }
    Ok(())
}
