//! Tools of Anthropic's API: those of the client, those that the model knows by their type and the client runs, and those that
//! the provider runs and bills.

use crate::wire::content::{each, offer};
use crate::wire::hosted::HostedPlaces;
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, natural, shortened};
use aex_core::ask::Ask;

/// Types that the client runs and whose definition the provider adds: their beginnings, before the date, and tokens at most.
/// platform.claude.com counts 245 for bash, 700 for the text editor, and 735 and 499 more in the system prompt for computer use,
/// with Claude 4; the tokeniser since Opus 4.7 makes up to 1.35 times as many.
const KNOWN_TO_THE_MODEL: [(&str, u64); 4] = [("bash_", 1_024), ("computer_", 2_048), ("memory_", 2_048), ("text_editor_", 1_536)];
/// Types that stand for some thirty tools, of no documented size.
const TOOLSETS: [&str; 2] = ["browser_toolset_", "computer_toolset_"];

/// More calls of a tool than any request may state.
const MOST_USES: u64 = 1 << 31;

/// Reads `tools`.
pub(super) fn tools(scanner: &mut Scanner<'_>, ask: &mut Ask, places: &mut HostedPlaces) -> Result<(), Malformed> {
    each(scanner, "tools", |scanner, place| {
        scanner.kind()?;
        let start = scanner.at();
        let hosted = tool(scanner, ask, place)?;
        if let Some(Hosted { kind, uses, .. }) = &hosted {
            ask.offer_hosted(kind.clone(), *uses);
        }
        let (kind, name) = hosted.as_ref().map(|hosted| (hosted.kind.as_str(), hosted.name.as_deref())).unzip();
        places.element(kind, name.flatten(), start..scanner.at());
        Ok(())
    })
}

/// Reads a definition that stands in a message. It cannot be taken out of it, so a tool that the provider runs has a name that no price
/// and no list has.
pub(super) fn added(scanner: &mut Scanner<'_>, ask: &mut Ask, place: &str) -> Result<(), Malformed> {
    if let Some(Hosted { kind, .. }) = tool(scanner, ask, place)? {
        ask.offer_hosted(shortened(&format!("tool_addition/{kind}")), None);
    }
    Ok(())
}

/// A tool that the provider runs.
struct Hosted {
    kind: String,
    name: Option<String>,
    /// How often at most, when the request says so.
    uses: Option<u64>,
}

/// Reads one definition, and counts it when the client runs it.
fn tool(scanner: &mut Scanner<'_>, ask: &mut Ask, place: &str) -> Result<Option<Hosted>, Malformed> {
    let (mut kind, mut name, mut uses) = (None, None, None);
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let place = |member: &str| format!("{place}.{member}");
        let twice = if key.is("type") {
            let stated = scanner.kind()? != Kind::Null;
            if stated { kind.replace(text(scanner, || place("type"))?).is_some() } else { scanner.pass().map(|()| false)? }
        } else if key.is("name") {
            name.replace(text(scanner, || place("name"))?).is_some()
        } else if key.is("max_uses") {
            uses.replace(natural(scanner, &place("max_uses"), 0..=MOST_USES)?.0).is_some()
        } else if key.is("cache_control") {
            super::blocks::cache_control(scanner, ask)?;
            false
        } else {
            scanner.pass()?;
            false
        };
        if twice {
            return Err(Malformed::field(place(&key.unescape()), "stands twice"));
        }
    }
    let Some(kind) = kind.filter(|kind| kind != "custom") else {
        offer(ask, name.as_deref());
        return Ok(None);
    };
    if TOOLSETS.iter().any(|set| kind.starts_with(set)) {
        // It has no name of its own.
        offer(ask, Some(&kind));
        ask.attachments += 1;
    } else if let Some((_, tokens)) = KNOWN_TO_THE_MODEL.iter().find(|(begins, _)| kind.starts_with(begins)) {
        offer(ask, name.as_deref());
        ask.known_tool_tokens = ask.known_tool_tokens.saturating_add(*tokens);
    } else {
        return Ok(Some(Hosted { kind, name, uses: uses.flatten() }));
    }
    Ok(None)
}

fn text(scanner: &mut Scanner<'_>, place: impl Fn() -> String) -> Result<String, Malformed> {
    if scanner.kind()? != Kind::Text {
        return Err(Malformed::field(place(), "must be a string"));
    }
    Ok(shortened(&scanner.text()?.unescape()))
}
