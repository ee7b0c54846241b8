//! Tools of Anthropic's API: those of the client, those that the model knows by their type and the client runs, and those that
//! the provider runs and bills.

use crate::wire::content::{each, offer, offer_hosted};
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, shortened};
use aex_core::ask::Ask;

/// Types that the client runs and whose definition the provider adds: their beginnings, before the date, and tokens at most.
/// platform.claude.com counts 245 for bash, 700 for the text editor, and 735 and 499 more in the system prompt for computer use,
/// with Claude 4; the tokeniser since Opus 4.7 makes up to 1.35 times as many.
const KNOWN_TO_THE_MODEL: [(&str, u64); 4] = [("bash_", 1_024), ("computer_", 2_048), ("memory_", 2_048), ("text_editor_", 1_536)];
/// Types that stand for some thirty tools, of no documented size.
const TOOLSETS: [&str; 2] = ["browser_toolset_", "computer_toolset_"];

/// Reads `tools`.
pub(super) fn tools(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    each(scanner, "tools", |scanner, place| tool(scanner, ask, place))
}

/// Reads one definition.
pub(super) fn tool(scanner: &mut Scanner<'_>, ask: &mut Ask, place: &str) -> Result<(), Malformed> {
    let mut kind: Option<String> = None;
    let mut name: Option<String> = None;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let (slot, member, may_be_null) = if key.is("type") {
            (&mut kind, "type", true)
        } else if key.is("name") {
            (&mut name, "name", false)
        } else {
            scanner.pass()?;
            continue;
        };
        if slot.is_some() {
            return Err(Malformed::field(format!("{place}.{member}"), "stands twice"));
        }
        match scanner.kind()? {
            Kind::Text => *slot = Some(shortened(&scanner.text()?.unescape())),
            Kind::Null if may_be_null => scanner.pass()?,
            _ => return Err(Malformed::field(format!("{place}.{member}"), "must be a string")),
        }
    }
    let Some(kind) = kind.filter(|kind| kind != "custom") else {
        offer(ask, name.as_deref());
        return Ok(());
    };
    if TOOLSETS.iter().any(|set| kind.starts_with(set)) {
        // It has no name of its own.
        offer(ask, Some(&kind));
        ask.attachments += 1;
    } else if let Some((_, tokens)) = KNOWN_TO_THE_MODEL.iter().find(|(begins, _)| kind.starts_with(begins)) {
        offer(ask, name.as_deref());
        ask.known_tool_tokens = ask.known_tool_tokens.saturating_add(*tokens);
    } else {
        offer_hosted(ask, &kind);
    }
    Ok(())
}
